# `make play` and `make test` make .venv on the first call; PYTHON chooses the interpreter.
PYTHON ?= python3
WORLD ?= breakout
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help play test lint bench
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

play: .venv/installed ## play a learned world: make play WORLD=bounce
	$(BIN)/worldflow play $(WORLD)

bench: .venv/installed ## measure the speed of a learned world
	$(BIN)/worldflow bench $(WORLD)

# In order: by size, the slow files, which have few tests, would come last, one core idle.
test: .venv/installed-dev ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/installed-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "worldflow needs Python 3.11 or newer, this is %d.%d: make PYTHON=/path/to/python3.11 ..." \
	  % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[atari]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[atari,dev]'
	@touch $@ .venv/installed
