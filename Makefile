# SPDX-License-Identifier: Apache-2.0
# make demo   a real photograph at several rates, beside JPEG, WebP and AVIF
# make test   all tests
#
# Both make their own virtual environment first: Python 3.10 to 3.12, a network for
# pip, and (better, not needed) a C++ compiler. PYTHON=python3.12 names another Python.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/python docs/demo.py demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) demo build

$(READY): pyproject.toml $(wildcard cuda/*.h cuda/*/*.h cuda/*/*.cpp)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "polycodec needs Python 3.10 to 3.12, found $$($(PYTHON) -V);" \
	  "run make with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq -e '.[all,test]'
	touch $@
