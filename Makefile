PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What others wrote and we compare with; torch alone by its exact version, which has a build without CUDA.
TORCH := torch==2.13.0
PEERS := 'transformers>=5.24,<6' 'keras-hub>=0.32,<0.33' 'onnxruntime-genai>=0.18,<0.19' \
  'tensorflow-serving-api>=2.21,<2.22' 'pandas>=2.2,<4' 'polars>=1.20,<3' 'datasets>=4,<6'
JAX := 'jax>=0.10,<0.11'
# Compilation is most of the time under JAX, and its processes compile much the same.
JAX_CACHE := JAX_COMPILATION_CACHE_DIR=build/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
BENCHMARKS := $(addprefix benchmark-,attention blocks training generation export)

# Modules are compiled once, not by each of many processes.
unexport PYTHONDONTWRITEBYTECODE
# Most modules are never imported, and those that are get compiled then.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile

.PHONY: demo test peers jax layers pretrained matrix check benchmark $(BENCHMARKS) clean

# Trains the date model, exports it to three formats and proves them equal.
demo: $(VENV)/.demo
	$(BIN)/python examples/normalize_dates.py --out build/dates

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Comparisons with libraries that are too heavy for the plain test run.
peers: $(VENV)/.peers
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/peers

# The layers' outputs and gradients on another backend of Keras.
jax: $(VENV)/.test
	$(INSTALL) $(JAX)
	$(JAX_CACHE) JAX_DISABLE_MOST_OPTIMIZATIONS=1 KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist worksteal tests/layers -k "oracle or gradients"

# Writes docs/layers.md from a run of all layers' tests.
layers: $(VENV)/.peers
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/layers tests/peers --layer-docs docs/layers.md

# Writes docs/pretrained.md from a run of all checkpoints' tests.
pretrained: $(VENV)/.peers
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/pretrained tests/peers/test_pretrained.py --pretrained-docs docs/pretrained.md

# Writes the tables of docs/export.md from exports of every kind of model, about a quarter of an hour.
matrix: $(VENV)/.test
	$(BIN)/python -m benchmarks.export_matrix docs/export.md

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/static_types/public_types.py

benchmark: $(BENCHMARKS)

$(BENCHMARKS): benchmark-%: $(VENV)/.test
	$(BIN)/python -m benchmarks.$* $(ARGS)

$(VENV)/.demo: setup.cfg pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.peers: $(VENV)/.test
	$(INSTALL) $(TORCH)
	$(INSTALL) $(PEERS)
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf build dist $(VENV) *.egg-info
