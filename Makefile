# Commands for people; CI calls the same ones. Every target sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STEPS  ?= 20000

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench mutation clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handgrad needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[plots,dev]'
	@touch $@

run: $(VENV)/.installed  ## the exercises, a short training on the built-in names with its curve, twenty names
	$(BIN)/handgrad exercises
	$(BIN)/handgrad train --steps $(STEPS) --n-hidden 64 --lock-step 1000 --plots

test: $(VENV)/.installed  ## all tests
	$(BIN)/python -m pytest --numprocesses auto

lint: $(VENV)/.installed  ## formatter, linter, strict type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: $(VENV)/.bench  ## speed, as ratios measured in one run; writes bench/results.json and docs/speed.md
	$(BIN)/python bench/steps.py --starts --write
	$(BIN)/python bench/dataset.py
	$(BIN)/python bench/check.py

mutation: $(VENV)/.installed  ## the checker against every single-edit mutant of correct backward passes
	$(BIN)/python bench/mutation.py

clean:  ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
