# Two commands matter: `make demo` and `make test`. Both install what they need into .venv.
#   PIP_ARGS   more arguments for pip, e.g. an index with PyTorch's CPU build
#   BENCH      what `make bench` measures, e.g. --rows 20000 --peer faiss
#   PYTHON     the interpreter to make .venv with (3.11 or newer)

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types imports tests slow console bench album-full clean

demo: $(VENV)/.runtime
	$(BIN)/python examples/demo.py

test: check

check: lint types imports tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

tests: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

console: $(VENV)/.runtime
	$(BIN)/hybridq

bench: $(VENV)/.dev
	$(BIN)/python -m bench run $(BENCH)
	$(BIN)/python -m bench report

album-full: $(VENV)/.runtime
	$(BIN)/python tools/album_full.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# --group needs a recent pip, so pip comes first.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade $(PIP_ARGS) pip
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[image,console]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[all,console,bench]' --group dev
	touch $@

clean:
	rm -rf $(VENV) demo.duckdb* demo-results.png .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
