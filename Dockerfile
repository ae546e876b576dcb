# One image for the API and the workers; docker-compose.yml gives each its command and health check.
# PyTorch's default wheels carry CUDA, so the same image serves CPU and GPU; it is several GB.

ARG PYTHON_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src

# Dependencies first: this large layer is built again only when they change, not when the code does.
# Every file must have a hash that requirements.lock names.
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock

COPY pyproject.toml README.md LICENSE NOTICE ./
COPY paint_core paint_core
COPY contract contract
COPY registry registry
COPY pipeline pipeline
COPY app app
COPY docs docs
COPY worker worker
COPY paintbox_client paintbox_client
COPY paintbox_launcher paintbox_launcher
COPY paintbox_label_studio paintbox_label_studio
COPY paintbox_demo paintbox_demo
COPY paintbox_local paintbox_local
RUN pip install --no-deps --no-build-isolation .


FROM ${PYTHON_IMAGE}
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
