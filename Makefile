# Start with `make demo` or `make test`; both set up the environment first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env repair demo test-fast test test-all test-slow test-gpu fuzz lint format types docs doctor clean clean-env print-python

# The environment. One that is given from outside (make test BMP_VENV=/path) may be shared between
# checkouts, so the project is not linked into it: PYTHONPATH below decides which checkout runs.
ifeq ($(origin BMP_VENV),undefined)
BMP_VENV := .venv
SETUP_FLAGS := --editable
endif

# The interpreter that creates the environment: the first supported one that really starts
# (version-manager shims exist for versions that are not active).
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.11 python3.12 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& { echo $$p; exit; }; done; echo python3)
endif

PY := $(BMP_VENV)/bin/python
ARGS ?=
# Two worker processes with one thread each are faster than one process with two threads.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile
export PYTHONPATH := $(CURDIR)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Variables: BMP_VENV=/path (environment), PYTHON=python3.11 (creates it), ARGS="..." (passed on)'

env: ## create or update the environment (first time: about 15 minutes; then instant)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null || { echo 'Error: no' \
		'usable $(PYTHON) found. Install Python 3.10, 3.11 or 3.12 (Debian, Ubuntu: apt-get install' \
		'python3 python3-venv python3-dev), or name one: make PYTHON=python3.11 demo' >&2; exit 1; }
	@$(PYTHON) tools/setup_env.py --venv '$(BMP_VENV)' $(SETUP_FLAGS)

repair: ## install all pinned packages again, when the doctor says so
	rm -f '$(BMP_VENV)/bmp-stamp.json'
	@$(MAKE) --no-print-directory env

demo: env ## run the whole pipeline on the demo images, results in outputs/demo
	$(PY) tools/run_bmp.py --demo --out-dir outputs/demo $(ARGS)

test-fast: env ## run the unit tests (no torch, at most 40 seconds)
	$(PYTEST) tests/unit $(ARGS)

test: env ## run the unit tests and those with small models (at most 6 minutes)
	$(PYTEST) tests/unit tests/models $(ARGS)

# The tests in tests/browser need Chromium (Debian: apt-get install chromium); without it they are
# skipped with a message, but `.ci/run` installs and requires it.
test-all: env ## run every test but the slow ones: trainings, killed runs, browser, the projects (about 9 minutes)
	$(PYTEST) tests $(wildcard projects/*/tests projects/*/*/tests) -m 'not gpu and not slow' $(ARGS)

test-slow: env ## run the slow tests, one after the other: full-size models, several processes (about 10 minutes)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests $(wildcard projects/*/tests projects/*/*/tests) -m slow $(ARGS)

test-gpu: env ## run the tests that need a CUDA device
	$(PY) -m pytest tests $(wildcard projects/*/tests) -m gpu $(ARGS)

fuzz: env ## damage files of every kind and read them, for 10 minutes; then kill and resume 100 runs
	OMP_NUM_THREADS=1 $(PY) -m tests.fuzz --minutes 10 $(ARGS)
	OMP_NUM_THREADS=1 $(PY) -m tests.fuzz.kill

lint: env ## check style and format
	$(PY) -m ruff check $(ARGS) .
	$(PY) -m ruff format --check .

format: env ## fix style and format where a tool can
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

types: env ## check types (mypy --strict)
	$(PY) -m mypy --strict pipeline tools bmp_command.py $(ARGS)

docs: env ## build the documents into outputs/site (strict); fails when the settings page is stale
	$(PY) docs/generate_settings.py --check
	$(PY) -m mkdocs build --strict --quiet $(ARGS)

doctor: ## check the environment and print a hint for each problem
	@if [ -x '$(PY)' ]; then '$(PY)' -m pipeline.doctor $(ARGS); else $(PYTHON) -m pipeline.doctor $(ARGS); fi

clean: ## remove caches and demo results (not the environment, not checkpoints)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache outputs/demo outputs/site
	find pipeline tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +

clean-env: ## remove .venv
	rm -rf .venv

print-python:
	@echo $(PYTHON)
