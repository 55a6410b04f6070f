# make demo   set everything up, run the main job, show the result
# make test   set everything up, pass the tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint types check clean setup

demo: $(STAMP)
	$(BIN)/sheafalign run experiments/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test test-slow

setup: $(STAMP)

# Installed again whenever the requirements change. The constraints keep torch at a version with a CPU build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[watch,dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
