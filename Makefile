# Two commands, each complete on a machine that has only Python 3.11 (or newer) and make:
#   make demo   upscales the sample images and writes before/after pictures into demo/
#   make test   passes the checks and the tests
PYTHON ?= python3
VENV ?= .venv
# A tested torch. Another build (a CUDA one, say): make test TORCH="torch --index-url ..."
TORCH ?= torch==2.13.0

INSTALLED = $(VENV)/.installed

.PHONY: demo test clean

demo: $(INSTALLED)
	$(VENV)/bin/geomedsr demo

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "geomedsr needs Python 3.11 or newer; choose one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(TORCH)
	$(VENV)/bin/python -m pip install --quiet -e .[test]
	touch $@

clean:
	rm -rf .venv demo
