# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
PEERS := tests/interop/npm/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help setup setup-postgres run test check fmt lint types floors interop peers bench fault docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Aldis needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

$(RUNTIME): requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "Installing Aldis into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	@echo "Installing the test tools ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(RUNTIME) ## Make .venv from the lock file; .venv/bin/aldis is the command

setup-postgres: $(RUNTIME) ## Add to .venv what a ledger on PostgreSQL needs: its driver
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/postgres.txt

run: setup ## Start the server with the built-in network simulator and a demo account
	@$(BIN)/aldis demo

test: $(DEV) ## Run all tests
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV) fmt lint types floors test ## Everything that CI asks for

fmt: $(DEV)
	@$(BIN)/ruff format --check src tests

lint: $(DEV)
	@$(BIN)/ruff check src tests

types: $(DEV)
	@$(BIN)/mypy

floors: $(DEV)
	@$(BIN)/lint-imports

interop: $(DEV) ## Try other implementations of SMPP against ours; tells which are missing, and how to install them
	@$(MAKE) --no-print-directory peers || echo "npm can't install its peer: tests with it are skipped"
	@$(BIN)/python -m pytest tests/interop $(ARGS)

peers: ## Install the other implementations that npm has, if npm is here
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(PEERS); fi

$(PEERS): tests/interop/npm/package-lock.json
	@cd tests/interop/npm && npm ci --silent
	@touch $@

bench: $(DEV) ## Print the benchmark table, each figure beside its floor (LEDGER=postgres)
	@$(BIN)/python -m tests.bench $(if $(LEDGER),--ledger $(LEDGER)) $(ARGS)

fault: $(DEV) ## Break the server at random moments under load, check every promise (ROUNDS=50, LEDGER=postgres: nodes)
	@$(BIN)/python -m tests.fault $(if $(LEDGER),--ledger $(LEDGER)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

docs: $(DEV) ## Write the generated blocks of the documentation again
	@$(BIN)/python -m tests.docs.generate

lock: $(DEV) ## Resolve the dependencies again and write the lock files
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml -o requirements/runtime.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements/runtime.txt --extra postgres pyproject.toml -o requirements/postgres.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements/postgres.txt --group dev -o requirements/dev.txt
	@echo 'hatchling editables' | tr " " "\n" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url - -o requirements/build.txt

clean: ## Remove .venv and caches (your data stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
