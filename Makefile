PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

.PHONY: demo test peers check benchmark clean

# Trains the date model, exports it to three formats and proves them equal.
demo: $(VENV)/.demo
	$(BIN)/python examples/normalize_dates.py --out build/dates

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Comparisons with libraries that are too heavy for the plain test run.
peers: $(VENV)/.test
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pytest tests/peers

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: $(VENV)/.test
	$(BIN)/python -m benchmarks.attention $(ARGS)

$(VENV)/.demo: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf build dist $(VENV) *.egg-info
