# SPDX-License-Identifier: Apache-2.0
# make demo   a real photograph at several rates, beside JPEG, WebP and AVIF
# make test   all tests
# make lint   style and types
# make docs   the site, in build/site: all pages, and a reference of all public names
# make wheel  build, install and try wheel and sdist where no checkout is near
#
# All make their own virtual environment first: Python 3.10 to 3.13, a network for
# pip, and (better, not needed) a C++ compiler. PYTHON=python3.12 names another Python.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

ROOMS = codecs configs cuda entropy_models eval train

.PHONY: demo test lint types docs layout wheel clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/python docs/demo.py demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY) types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Readers of sources do not follow package-dir: links lay the package out as an install
# does.
layout:
	rm -rf build/types
	mkdir -p build/types/polycodec
	ln -s $(addprefix $(CURDIR)/,$(wildcard polycodec/*) $(ROOMS)) build/types/polycodec

types: $(READY) layout
	cd build/types && $(abspath $(BIN))/python -m mypy \
	  --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/build/mypy

docs: $(READY) layout
	rm -rf build/pages build/site
	mkdir -p build/pages
	ln -s $(addprefix $(CURDIR)/,$(wildcard *.md) LICENSE docs $(ROOMS)) build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

wheel: $(READY)
	docs/checks/wheel.sh $(BIN)/python

clean:
	rm -rf $(VENV) demo build dist

$(READY): pyproject.toml setup.py $(wildcard cuda/*.h cuda/*/*.h cuda/*/*.cpp)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "polycodec needs Python 3.10 to 3.13, found $$($(PYTHON) -V);" \
	  "run make with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq -e '.[all,docs,test]'
	touch $@
