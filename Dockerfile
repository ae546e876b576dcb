# One image for the API and the workers; docker-compose.yml gives each its command and health check.
# PyTorch's default wheels carry CUDA, so the same image serves CPU and GPU; it is several GB.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src

# Dependencies first: this large layer is built again only when they change, not when the code does.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['postgres'], *extras['s3'], sep='\n')" > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt

COPY README.md LICENSE NOTICE ./
COPY paint_core paint_core
COPY registry registry
COPY app app
COPY worker worker
COPY paintbox_client paintbox_client
COPY paintbox_demo paintbox_demo
RUN pip install --no-deps .


FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
COPY LICENSE NOTICE /usr/share/doc/paintbox/

# A new named volume on /data takes over this folder's owner. Base models that are fetched are cached there too.
RUN useradd --uid 10001 --no-create-home --home-dir /data paintbox \
    && install --directory --owner paintbox --group paintbox --mode 0700 /data
# Safe path: nothing that someone uploads can ever be imported because of where a process was started.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    PAINTBOX_DATA_DIR=/data \
    XDG_CACHE_HOME=/data/cache
USER paintbox
VOLUME /data
EXPOSE 8321
CMD ["python", "-m", "app"]
