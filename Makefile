# Everything is set up from here: `make demo`, `make test`, `make check`, `make bench`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check --quiet install
PIP    := $(BIN)/python $(INSTALL) --constraint constraints.txt

SERVICES := $(VENV)/services.stamp $(VENV)/opentelemetry-1.33.stamp $(VENV)/scoring-server.stamp $(VENV)/azureml.stamp

.PHONY: demo test test-install check bench bench-faults docs notebooks screenshots format clean

demo: $(VENV)/demo.stamp
	@$(BIN)/python examples/diabetes/demo.py

# The environments are made side by side, and the tests run three at a time on two cores: much of both is waiting.
test: $(BIN)/python
	@$(MAKE) --no-print-directory --jobs 5 $(VENV)/dev.stamp $(SERVICES)
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

# scoretrace[all] installed and used on each Python of this machine: some minutes, and 600 MB each.
test-install: $(VENV)/dev.stamp
	SCORETRACE_TEST_INSTALL=1 $(BIN)/python -m pytest tests/test_packaging.py

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.stamp $(VENV)/scoring-server.stamp
	$(BIN)/python benchmarks/run.py

bench-faults: $(VENV)/dev.stamp $(VENV)/services.stamp
	$(BIN)/python benchmarks/faults.py

# The pages that are made from the code.
docs: $(VENV)/dev.stamp
	$(BIN)/python docs/build.py

screenshots: $(VENV)/dev.stamp
	$(BIN)/python docs/screenshots.py

# The notebooks as they are read: run from top to bottom, with what each cell showed.
notebooks: $(VENV)/notebooks.stamp $(VENV)/scoring-server.stamp
	SERVER_PYTHON=$(abspath $(VENV)/scoring-server/bin/python) $(BIN)/jupytext --to notebook --set-kernel python3 --execute notebooks/*.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scoretrace needs Python 3.11 or newer to develop on: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras: it is made again when the project's dependencies change.
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[$(EXTRAS_$*)]'
	@touch $@

# What the tests run in Node.js, from npm: servers on loopback, and the parser of Kusto.
$(VENV)/services.stamp: tests/services/package.json | $(BIN)/python
	@$(BIN)/python tests/services/node.py
	@if [ -d tests/services/node_modules/azurite ]; then touch $@; fi

# An environment of its own, with the OpenTelemetry SDK of the scoring image.
$(VENV)/opentelemetry-1.33.stamp: pyproject.toml tests/environments/opentelemetry-1.33.txt | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/opentelemetry-1.33
	$(VENV)/opentelemetry-1.33/bin/python $(INSTALL) \
		--requirement tests/environments/opentelemetry-1.33.txt --editable .
	@touch $@

# The real scoring server, and scoretrace put beside it as a user would.
$(VENV)/scoring-server.stamp: pyproject.toml tests/environments/scoring-server.txt | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/scoring-server
	$(VENV)/scoring-server/bin/python $(INSTALL) \
		--requirement tests/environments/scoring-server.txt
	$(VENV)/scoring-server/bin/python $(INSTALL) --editable '.[azure,cli]'
	@touch $@

# The SDKs of Azure ML, which want older versions of what others here have; most of their modules are never imported.
$(VENV)/azureml.stamp: pyproject.toml tests/environments/azureml.txt | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/azureml
	$(VENV)/azureml/bin/python $(INSTALL) --no-compile \
		--requirement tests/environments/azureml.txt --editable .
	@touch $@

EXTRAS_demo  := demo
EXTRAS_dev   := dev
EXTRAS_notebooks := notebooks
