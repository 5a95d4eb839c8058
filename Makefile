# One place for every command of the project. `make help` lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What a service and an agent need, which is a fifth of it all: `make run` waits for no more.
RUNNING := $(VENV)/.running
# What tests start and no program of ours imports: it wants other versions than these do.
S3 := $(VENV)/s3/.installed
# Bytecode is made of what is imported, when it is, and kept whatever the environment says: without it each program that
# starts, of the hundreds that tests start, compiles all that it imports, which is half of its work.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps

# The first of these that is new enough and can make environments; `make setup PYTHON=...` overrides it.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; \
	done)

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything in it (the other targets do it by themselves)
	@:

$(RUNNING): pyproject.toml requirements/build.txt requirements/agent.txt requirements/service.txt
	@test -n "$(PYTHON)" || { \
		echo "error: Python 3.11 or newer with venv is needed (on Debian: apt-get install python3 python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV); the first time this takes a minute or two ..."
	@"$(PYTHON)" -m venv $(VENV)
	@$(INSTALL) --require-hashes -r requirements/build.txt
	@$(INSTALL) --require-hashes -r requirements/agent.txt
	@$(INSTALL) --require-hashes -r requirements/service.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $(RUNNING)

$(STAMP): $(RUNNING) requirements/all.txt
	@echo "Adding what notebooks, tests and checks need ..."
	@$(INSTALL) --require-hashes -r requirements/all.txt
	@touch $(STAMP)

$(S3): $(RUNNING) requirements/s3.txt
	@"$(PYTHON)" -m venv $(VENV)/s3
	@$(VENV)/s3/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements/s3.txt
	@touch $(S3)

.PHONY: run
run: $(RUNNING) ## Run the service on http://localhost:8888 and an agent for this machine
	@exec $(BIN)/loadlens-service up

.PHONY: run-cluster
run-cluster: $(RUNNING) ## Run two services on one NATS and one InfluxDB of this machine (docs/scaling.md)
	@PYTHON=$(BIN)/python exec deploy/run-cluster.sh

.PHONY: demo
demo: $(RUNNING) ## The same, with a fleet to look at
	@exec $(BIN)/loadlens-service up --demo

# A test that leans on a fixture of its module stays with it, so that each server is started once a worker.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist loadfile

.PHONY: test
test: setup ## Run the tests that need no server, no browser and no patience (ARGS='-k history' passes arguments to pytest)
	$(PYTEST) --hypothesis-profile=quick -m "not server and not slow" $(ARGS)

.PHONY: test-all
test-all: setup $(S3) ## Run all tests: also those of many draws, and with real services, InfluxDB and Chromium
	$(PYTEST) $(ARGS)

.PHONY: faults
faults: setup ## Run campaigns of faults on real services and agents (SEEDS=1000 for hours, FIRST=7 SEEDS=1 for one)
	$(BIN)/python -m tests.faults.campaign --seeds $(or $(SEEDS),10) --first $(or $(FIRST),1)

.PHONY: faults-cluster
faults-cluster: setup ## The same for a cluster: three nodes of NATS, InfluxDB, five processes (ROUNDS=10 FAULT="kill -9")
	$(BIN)/python -m tests.support.cluster_campaign --rounds $(or $(ROUNDS),10) $(if $(FAULT),"$(FAULT)")

.PHONY: coverage
coverage: setup $(S3) ## Run all tests and show which branches of contract, agent and the stores they miss
	$(PYTEST) --cov=contract --cov=agent --cov=service.stores --cov-branch --cov-report=term:skip-covered $(ARGS)

.PHONY: lint
lint: setup ## Check format, style, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: setup ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: setup ## Measure beside peers, one after the other (BENCH='ingest load' for some)
	@$(BIN)/python -m bench $(BENCH)

.PHONY: notebooks
notebooks: setup ## Open the notebooks in JupyterLab, on the service that runs or on demo data
	@exec $(BIN)/python notebooks/lab.py $(ARGS)

.PHONY: docs
docs: setup ## Make the documentation as a site in build/docs, which opens without a server
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "build/docs/index.html"

.PHONY: pictures
pictures: setup ## Make the dashboard's pictures in docs/pictures anew
	PICTURES=docs/pictures $(BIN)/python -m pytest --quiet tests/service/dashboard/test_pictures.py

# Files of others that the dashboard loads. Where npm gives others than those that are listed, nothing is taken.
VENDOR := service/http/pages/static/vendor
.PHONY: vendor
vendor: ## Fetch the dashboard's files of others anew from npm, and compare them with what is listed
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && npm pack --silent uplot@$$(sed -n 's/^| uplot | \([^ ]*\) .*/\1/p' ../../$(VENDOR)/README.md) && tar xzf uplot-*.tgz
	cp build/vendor/package/dist/uPlot.iife.min.js build/vendor/package/dist/uPlot.min.css build/vendor/
	cp build/vendor/package/LICENSE build/vendor/uPlot.LICENSE
	cd build/vendor && sha256sum --check ../../$(VENDOR)/SHA256SUMS
	cp build/vendor/uPlot.* $(VENDOR)/
	rm -rf build

# Resolves from nothing, in an environment of its own, so that the lock holds what pyproject.toml asks for and no more.
.PHONY: lock
lock: ## Choose the newest versions anew: requirements.lock, and requirements/ with the hashes of their files
	rm -rf build/lock && "$(PYTHON)" -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[service,analytics,cluster,dask,mcp,notebooks,dev]'
	{ echo "# Every version that is tested, chosen by 'make lock'. Used as constraints: what is installed, pyproject.toml says."; \
	  build/lock/bin/python -m pip freeze --exclude loadlens; } > requirements.lock
	rm -rf build
	$(MAKE) hashes

# For every system and Python that pyproject.toml allows: a line says where its package is needed.
COMPILE := build/hashes/bin/uv pip compile --universal --python-version 3.11.7 --generate-hashes --no-header --no-annotate --quiet
.PHONY: hashes
hashes: ## Write requirements/ anew, with the versions of requirements.lock
	rm -rf build/hashes && "$(PYTHON)" -m venv build/hashes
	build/hashes/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml --constraint requirements.lock --output-file requirements/agent.txt
	$(COMPILE) pyproject.toml --extra service --extra cluster --constraint requirements.lock --output-file requirements/service.txt
	$(COMPILE) pyproject.toml --all-extras --constraint requirements.lock --output-file requirements/all.txt
	printf 'hatchling>=1.27\neditables>=0.5\n' | $(COMPILE) - --constraint requirements.lock --output-file requirements/build.txt
	printf 'flask>=3\nflask-cors>=5\nmoto[s3]>=5\n' | $(COMPILE) - --output-file requirements/s3.txt
	printf 'cyclonedx-bom>=7\npip-audit>=2.9\n' | $(COMPILE) - --output-file requirements/tools.txt
	rm -rf build

# For the Python of the system that it is installed on: 3.11 is Debian 12's, 3.12 Ubuntu 24.04's, 3.13 Debian 13's.
DEB_PYTHON ?= 3.11
DEB_PLATFORMS := $(foreach libc,manylinux2014 manylinux_2_17 manylinux_2_28,--platform $(libc)_$(shell uname -m))
.PHONY: deb
deb: setup ## Make the agent's package for Debian and Ubuntu in dist (DEB_PYTHON=3.13 for another Python)
	rm -rf build/deb
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes --only-binary :all: \
		--implementation cp --python-version $(DEB_PYTHON) $(DEB_PLATFORMS) --target build/deb -r requirements/agent.txt
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python deploy/deb/build.py --libraries build/deb --out dist

build/tools/.installed: requirements/tools.txt
	rm -rf build/tools && "$(PYTHON)" -m venv build/tools
	build/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

.PHONY: sbom
sbom: build/tools/.installed ## Write what a service consists of to build/sbom.json (CycloneDX), and check it
	build/tools/bin/cyclonedx-py requirements requirements/service.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --validate --output-format JSON --output-file build/sbom.json
	@build/tools/bin/python -c "import json; print(len(json.load(open('build/sbom.json'))['components']), 'components in build/sbom.json')"

.PHONY: audit
audit: build/tools/.installed ## Ask whether weaknesses of what is locked are known (needs the vulnerability service)
	build/tools/bin/pip-audit --disable-pip --require-hashes --strict -r requirements/all.txt -r requirements/build.txt

.PHONY: clean
clean: ## Remove what was made (not the data in var/)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
