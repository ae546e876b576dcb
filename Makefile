# What a developer and CI run. `make` alone lists the targets; each one sets up .venv first if it has to.

EXTRAS := dev,postgres,s3,onnx,openvino,lora,transformers,otel,recipes
comma := ,

# Any Python from 3.11 on: `make setup PYTHON=/path/to/python3.12`. Tried rather than looked up, because a
# version manager's shim can be on the PATH without a Python behind it. Recursive (?=), so it runs only in a set-up.
PYTHON ?= $(shell for candidate in python3.11 python3; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$candidate && break; done)

# The stamp is named by what was installed: a changed requirement misses it, a touched file or another branch's
# clock does not.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(shell cat pyproject.toml requirements-dev.lock | cksum | tr -cd '0-9')

# The tools of the documentation have an environment of their own: what they need has nothing to do with ours.
DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/installed-$(shell cksum < requirements-docs.lock | tr -cd "0-9")
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
COMPILE := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command 'make lock' -c constraints.txt

# Compiled tests and modules are kept, whatever the environment says: many processes import the same ones.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

MINUTES ?= 150
EXAMPLES ?= 300
PROFILE ?= cpu
JOBS ?= 200
PROCESSES ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo up check check-js check-ts quick test browser-test fuzz mutate mutants attack chaos cluster-test bench client docs pictures starter studies constraints lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## Create .venv and install the pinned dependencies (again only when they change)
	@echo "$(VENV) is ready"

demo: $(STAMP) ## Start everything, patch the bundled model with real handwritten digits, show the result
	$(BIN)/paintbox demo

up: $(STAMP) ## Start the service on this machine and leave it running until Ctrl-C
	$(BIN)/paintbox up

check: $(STAMP) ## Lint with docstrings, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-js: ## Check the types of the scripts of the pages (needs Node.js's npm)
	npx --yes --package typescript@5.9.3 tsc --project app/web/jsconfig.json

check-ts: ## Generate the TypeScript client's types, check and build it (needs Node.js's npm)
	cd clients/typescript && npm ci --no-audit --no-fund && npm run generate && npm run check && npm run build

quick: $(STAMP) ## Run the tests that start no process, server or application, and fine-tune nothing
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m quick

test: $(STAMP) ## Run the tests, in three processes: make test PROCESSES=0 for one
	$(PYTEST) -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

fuzz: $(STAMP) ## Send requests drawn from the OpenAPI document to a real server: make fuzz EXAMPLES=300 SEED=0
	$(BIN)/python -m pytest tests/app/test_openapi_fuzz.py --fuzz-examples=$(EXAMPLES) --fuzz-seed=$(or $(SEED),0)

browser-test: $(STAMP) ## Drive a browser through the pages; screenshots go to .screenshots (needs chromium)
	$(PYTEST) -m browser tests/browser

cluster-test: $(STAMP) ## Two replicas and three workers over PostgreSQL, Valkey and S3, all real, on this machine
	$(BIN)/python -m pytest -s -m cluster tests/cluster

bench: $(STAMP) ## Run every program in benchmarks/
	@for program in benchmarks/[!_]*.py; do \
		[ -e "$$program" ] || { echo "benchmarks/ holds no programs yet"; continue; }; \
		echo "== $$program"; $(BIN)/python "$$program" || exit 1; \
	done

mutate: $(STAMP) ## Read 20,000 mutated images, 2,000 archives and 2,000 model folders: make mutate IMAGES=500 SEED=7
	$(BIN)/python -m tests.mutations --images $(or $(IMAGES),20000) --archives $(or $(ARCHIVES),2000) --models $(or $(MODELS),2000) --seed $(or $(SEED),0)

mutants: $(STAMP) ## Change the library's code in 100 places, one at a time, and run the nearest tests: make mutants COUNT=20 SEED=7
	$(BIN)/python -m tests.mutants --count $(or $(COUNT),100) --seed $(or $(SEED),0)

attack: $(STAMP) ## Send abusive requests to a real server with an honest client beside them: make attack SECONDS_EACH=8
	$(BIN)/python -m tests.attack --seconds $(or $(SECONDS_EACH),8)

chaos: $(STAMP) ## Run 200 quick jobs while workers, trainers, API and Valkey are killed: make chaos JOBS=200 SEED=7
	$(BIN)/python -m tests.chaos --jobs $(JOBS) $(if $(SEED),--seed $(SEED))

client: $(STAMP) ## Build the wheel of paintbox-client, the client without the server, into dist/
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist clients/python
	@rm -rf clients/python/build clients/python/*.egg-info paintbox_client.egg-info

docs: $(STAMP) $(DOCS_STAMP) ## Write what docs/ takes from the code, and build the site in build/site
	$(BIN)/python docs/generate.py
	$(DOCS_VENV)/bin/zensical build --strict

pictures: $(STAMP) ## Take the pictures of docs/pictures from a real service (needs chromium)
	$(BIN)/python -m docs.generating.pictures

starter: $(STAMP) ## Train a starter from nothing: make starter MINUTES=150 PROFILE=cpu (needs npm)
	$(BIN)/python -m recipes.starter --profile $(PROFILE) --minutes $(MINUTES)

studies: $(STAMP) ## Measure what the paper found on our own models: make studies DATA=FOLDER (hours)
	$(BIN)/python -m recipes.studies $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

constraints: $(STAMP) ## Upgrade .venv to the newest versions pyproject.toml allows, and pin them
	$(PIP) install --upgrade --upgrade-strategy eager -e '.[$(EXTRAS)]'
	{ head -n 1 constraints.txt; $(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | LC_ALL=C sort -f; } > $(VENV)/pins
	@! grep -nE '://| @ ' $(VENV)/pins || { echo "a package came from an address, not from an index: pin it by hand"; exit 1; }
	mv $(VENV)/pins constraints.txt
	$(MAKE) lock

lock: $(STAMP) ## Write the lock files: every version that constraints.txt pins, with the hashes of its files
	[ -x $(VENV)/lock/bin/uv ] || { $(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv; }
	$(COMPILE) $(addprefix --extra ,$(subst $(comma), ,$(EXTRAS))) -o requirements-dev.lock pyproject.toml
	$(COMPILE) --extra postgres --extra s3 --extra onnx --extra otel -o requirements.lock pyproject.toml
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
		--custom-compile-command "make lock" --group docs -o requirements-docs.lock

clean: ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) $(DOCS_VENV) build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP):
	@[ -n "$(PYTHON)" ] || { echo "Paintbox needs Python 3.11 or newer. Install one, or name it: make setup PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV) (the first time downloads several GB, PyTorch above all)"
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@rm -rf *.egg-info  # entry points of an older set-up; Python would find them before the installed ones
	$(PIP) check
	@rm -f $(VENV)/installed-*
	@touch $@

$(DOCS_STAMP):
	[ -x $(DOCS_VENV)/bin/python ] || $(BIN)/python -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps -r requirements-docs.lock
	@rm -f $(DOCS_VENV)/installed-*
	@touch $@
