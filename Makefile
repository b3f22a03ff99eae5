# make demo: install into .venv and run the demonstration, 15 to 20 minutes on two CPU cores.
# make test: install into .venv and run every check.
# make docs: install into .venv, run the examples and build docs/_build/html.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
THREADS := OMP_NUM_THREADS=1

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/mrigen run demo/brain-l1

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint
	$(THREADS) $(BIN)/python -m pytest -n 2

$(VENV)/.docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.demo

docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m benchmarks.result_tables
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist runs docs/_build docs/auto_examples *.egg-info
