# Two commands do everything on a machine with Python 3.11 or newer: `make demo` and `make test`.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
OUTPUT ?= demo-output

.DEFAULT_GOAL := help
.PHONY: help demo test check fix clean

help: ## List the targets, one sentence each.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-7s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Install, fetch the encoders' weights and separate the included recording into demo-output/.
	$(BIN)/marssep models fetch open
	$(BIN)/marssep demo -o $(OUTPUT)

test: $(VENV)/.installed-dev check ## Install with the development tools and run every check and test.

check: $(VENV)/.installed-dev ## Run format check, lint, types, import contracts and tests.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

fix: $(VENV)/.installed-dev ## Format the code and mend what the linter can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment, caches and the demo's output.
	rm -rf $(VENV) $(OUTPUT) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "marssep needs Python 3.11 or newer; say where it is with 'make PYTHON=/path/to/python3.11'."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run start at once; a change of the dependencies installs again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.installed
