# Every target does its own set-up. Needed on the machine: make and a Python from 3.11 on.
#   make demo              a sandbox in place of Meta, a connected store, a sample catalog; ARGS=--exit ends it
#   make test              what CI runs
#   make install           .venv with everything
# Variables: PYTHON (interpreter to build .venv from), ARGS (passed on to the command), JOBS (test processes).

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?=
ARGS ?=
JOBS ?= 2
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp
CLIENTS := .venv-clients
CLIENTS_INSTALLED := $(CLIENTS)/installed.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: $(INSTALLED) ## Create .venv with everything

$(BIN)/python:
	@python=''; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3 python3.14 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "meta-sync needs Python 3.11 or newer; $(if $(PYTHON),$(PYTHON) does not run or is older,none was found). Install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	"$$python" -m venv --clear $(VENV) || { \
		rm -rf $(VENV); \
		echo "$$python cannot make a virtual environment. On Debian and Ubuntu install the package python3-venv." >&2; \
		exit 1; \
	}

# Nothing is built from source and nothing is taken without its hash.
$(INSTALLED): requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) …"
	@$(PIP) install --quiet --require-hashes --only-binary :all: --requirement requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The environment of other people's generators: Python's and npm's, with a Node.js of its own. Only tests need it.
$(CLIENTS_INSTALLED): requirements-clients.lock tests/clients/package-lock.json tests/clients/.npmrc | $(BIN)/python
	@echo "Installing into $(CLIENTS) and tests/clients/node_modules …"
	@$(BIN)/python -m venv --clear $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes --only-binary :all: --requirement requirements-clients.lock
	@cd tests/clients && PATH="$(CURDIR)/$(CLIENTS)/bin:$$PATH" npm ci --loglevel=error
	@touch $@

.PHONY: clients
clients: $(CLIENTS_INSTALLED) ## Create .venv-clients: the client generators that tests run against the API document

TESTS_SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=20

.PHONY: demo
demo: $(INSTALLED) ## Show the whole way of a catalog; ARGS=--exit ends when every item is settled
	@$(BIN)/meta-sync demo $(ARGS)

.PHONY: up
up: $(INSTALLED) ## Run everything on this machine; ARGS=--sandbox adds a local Graph API
	@$(BIN)/meta-sync up $(ARGS)

.PHONY: test
test: lint $(CLIENTS_INSTALLED) ## Everything CI runs: linters, types, layers, tests
	$(BIN)/python -m pytest $(TESTS_SIDE_BY_SIDE) $(ARGS)

.PHONY: coverage
coverage: $(INSTALLED) $(CLIENTS_INSTALLED) ## The tests again, counting the lines they reach: half as slow again
	$(BIN)/python -m pytest $(TESTS_SIDE_BY_SIDE) --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## Linters, formatting, types and the order of the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## Put the code into its format
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(INSTALLED) ## The drain against its limit, in one run
	$(BIN)/python -m bench.run $(ARGS)

# The seeds FIRST .. FIRST + SEEDS - 1; a wrong one is shown by: make simulate FIRST=77 SEEDS=1 ARGS=--trace
SEEDS ?= 1000
FIRST ?= 0

.PHONY: simulate
simulate: $(INSTALLED) ## Whole histories on virtual time, judged at their end: SEEDS=, FIRST=, ARGS=
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS) --processes $(JOBS) $(ARGS)

.PHONY: conform
conform: $(INSTALLED) ## The service against its own document, for as long as ARGS="--max-examples N --seed N" wants
	$(BIN)/python -m tests.schemathesis_long $(ARGS)

.PHONY: examples
examples: $(INSTALLED) ## Record the examples of the document again, from the answers of the service
	RECORD_EXAMPLES=1 $(BIN)/python -m pytest -q tests/api/test_examples.py

.PHONY: openapi
openapi: $(INSTALLED) ## Write openapi/meta-sync.json; a test fails when it is stale
	$(BIN)/meta-sync openapi --output openapi/meta-sync.json

.PHONY: error-codes
error-codes: $(INSTALLED) ## Write docs/errors.md from the table of codes; a test fails when it is stale
	$(BIN)/python -m meta_sync.sync.codes_document docs/errors.md

# One resolution for every Python from 3.11 and every platform, with the hashes of all files and no address in it.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: lock
lock: ## Resolve the dependencies again; needs uv. ARGS=--upgrade takes newer versions
	$(LOCK) $(ARGS) --output-file requirements.lock pyproject.toml
	$(LOCK) $(ARGS) --all-extras --group build --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(LOCK) $(ARGS) --group pyproject.toml:clients --output-file requirements-clients.lock
	cd tests/clients && npm install --package-lock-only --loglevel=error

.PHONY: clean
clean: ## Remove .venv and caches, never data
	rm -rf $(VENV) $(CLIENTS) tests/clients/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov build dist
