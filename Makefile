# Everything runs in a virtual environment of its own; `make serve` and `make test` need Python 3.11 or later, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Processes that share the tests, a file at a time: one more than processors, since tests of servers wait for a part of
# their time, or as many as named; 0 runs all in one.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CORE := not e2e and not torch
TESTS = $(BIN)/python -m pytest --numprocesses $(WORKERS) --ignore tests/e2e/test_image.py
# Exactly what a lock names, in whatever index pip finds it: a file with another hash is refused.
LOCKED := --no-deps --require-hashes --requirement

# Where the shell says so, each of the tests' processes would compile all code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve dev check test image coverage mutants lint types bench bench-access pictures lock clean

serve: $(VENV)/.runtime
	@exec $(BIN)/python manage.py serve

# What a change needs in most cases: no torch, browser, Redis, PostgreSQL or apt.
dev: $(VENV)/.dev

# The core suite: all tests but those that need these.
check: $(VENV)/.dev
	$(BIN)/python -m pytest -m "$(CORE)" --numprocesses $(WORKERS) $(ARGS)

# The core suite, and which lines and branches of the product it runs.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -m "$(CORE)" --numprocesses $(WORKERS) --cov --cov-report term:skip-covered --cov-report html $(ARGS)

# All tests in three runs: on SQLite; with database servers of their own; and on PostgreSQL and Redis those that a database
# or a cache can make a difference to. DATABASE=sqlite is the first two in one, DATABASE=postgres the last alone.
test: $(VENV)/.ci
	@.ci/tools
ifeq ($(DATABASE)$(ARGS),)
	TEST_DATABASE=sqlite $(TESTS) -m "not servers"
	TEST_DATABASE=sqlite $(TESTS) -m servers
	TEST_DATABASE=postgres $(TESTS)
else
	TEST_DATABASE=$(or $(DATABASE),sqlite) $(TESTS) $(ARGS)
endif

# Build the Dockerfile's image step by step, without Docker, and run it: needs root, or sudo that does not ask.
image: $(VENV)/.dev
	$(BIN)/python -m pytest tests/e2e/test_image.py $(ARGS)

# Break the product in each of the ways that tests/mutants.toml lists; ARGS="embed cache" are those of these names.
mutants: $(VENV)/.ci
	$(BIN)/python -m tests.mutants $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --fail-level WARNING

types: $(VENV)/.ci
	$(BIN)/mypy

# This server against its peers and the processor's limits; ARGS=--quick is one short round.
bench: $(VENV)/.ci
	@benchmarks/install_peers.sh
	$(BIN)/python -m benchmarks $(ARGS)

# What authentication, limits and usage cost on a cache-hot request, by each kind of credential.
bench-access: $(VENV)/.ci
	for credential in single key token; do $(BIN)/python benchmarks/access_overhead.py --credential $$credential; done

# The console's pictures in docs/pictures, of a real server with real traffic.
pictures: $(VENV)/.ci
	@.ci/tools
	$(BIN)/python -m tests.pictures

# Resolve pyproject.toml and write down the exact sets, with hashes.
lock:
	.ci/lock

clean:
	rm -rf $(VENV) .tools .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=/path/to/python")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python pyproject.toml setup.py .ci/lock.txt
	@echo "Installing the server (a minute on first use) ..."
	@$(PIP_INSTALL) $(LOCKED) .ci/lock.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime .ci/lock-dev.txt
	@echo "Installing the development tools ..."
	@$(PIP_INSTALL) --no-compile $(LOCKED) .ci/lock-dev.txt
	@touch $@

# torch is not in the lock, since each machine has another build of it; its version is in pyproject.toml.
$(VENV)/.ci: $(VENV)/.dev .ci/lock-ci.txt
	@echo "Installing what CI needs beyond these ..."
	@$(PIP_INSTALL) --no-compile $(LOCKED) .ci/lock-ci.txt
	@$(PIP_INSTALL) --no-compile --no-build-isolation --editable '.[torch,dev,ci]'
	@touch $@
