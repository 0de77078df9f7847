# Thin calls of the `backbones` command. `make help` lists the targets.

DATA      ?= demo_data
BACKBONES ?= all
WEIGHTS   ?=
SIZE      ?= 224
WINNER    ?=
RECIPE    ?=
RESULTS   ?= results
CACHE     ?= embeddings_cache
ARGS      ?=
TEST_JOBS ?= 2

# The first interpreter that TensorFlow has wheels for and the lock is made from; PYTHON=/path/to/python overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN    := .venv/bin
STAMP  := .venv/.installed
WEIGHED = $(if $(WEIGHTS),--weights "$(WEIGHTS)")
COMMON  = --results "$(RESULTS)" --cache "$(CACHE)" $(ARGS)
CHOICE  = --backbones "$(BACKBONES)" $(WEIGHED) --size "$(SIZE)"
DEMO_BACKBONES := MobileNetV3Small_0.75,MobileNetV3Small,MobileNetV2_0.35,MobileNet_0.25,MobileNet_0.5,EfficientNetB0

PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check
CONTAINER := cloud dask export
SETUP   := cloud dask dev docs export legacy serve tensorboard
# For every platform and Python that has wheels, from PyPI, whatever this machine installs from.
LOCK    = $(BIN)/uv pip compile --quiet --no-config --default-index https://pypi.org/simple --universal --python-version 3.11.5 \
	--generate-hashes --no-annotate --constraint constraints.txt --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help setup demo embeddings rank finetune report test test-all test-timm check check-addons check-dependencies \
	bench figures simulate torture docs lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16
	@echo 'Variables: DATA BACKBONES WEIGHTS SIZE WINNER RECIPE RESULTS CACHE ARGS PYTHON'

setup: $(STAMP) ## make .venv with everything that the other targets need

$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo 'No Python 3.11.5 to 3.13 found; install one, or say make PYTHON=/path/to/python.' >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'Installing into .venv (TensorFlow is large; the first time takes a few minutes)...'
	@$(PIP) --require-hashes --no-deps --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

lock: $(STAMP) ## hashes of the versions in constraints.txt: what setup and the container install
	@$(PIP) --constraint constraints.txt uv
	@$(LOCK) $(foreach extra,$(SETUP),--extra $(extra)) --output-file requirements.lock pyproject.toml
	@$(LOCK) $(foreach extra,$(CONTAINER),--extra $(extra)) --output-file container.lock pyproject.toml

demo: $(STAMP) ## the whole job on generated photographs: data, six backbones, board, plots
	@$(BIN)/backbones demo demo_data
	@$(BIN)/backbones rank demo_data --backbones "$(DEMO_BACKBONES)" --weights imagenet --fallback-random --size "$(SIZE)" $(COMMON)

embeddings: $(STAMP) ## embed DATA into the cache
	@$(BIN)/backbones embed "$(DATA)" $(CHOICE) --cache "$(CACHE)" $(ARGS)

rank: $(STAMP) ## rank the backbones on DATA
	@$(BIN)/backbones rank "$(DATA)" $(CHOICE) $(COMMON)

finetune: $(STAMP) ## fine-tune WINNER (a name, or auto for the board's winner) on DATA with RECIPE
	@$(BIN)/backbones finetune "$(DATA)" $(if $(WINNER),--winner "$(WINNER)") $(if $(RECIPE),--recipe "$(RECIPE)") $(WEIGHED) $(COMMON)

report: $(STAMP) ## rebuild tables and plots of DATA from stored outcomes
	@$(BIN)/backbones report "$(DATA)" $(COMMON)

test: $(STAMP) ## the test suite
	@$(BIN)/python -m pytest --numprocesses $(TEST_JOBS) --dist loadfile $(ARGS)

test-all: $(STAMP) ## with the slow tests: every architecture, every kind of damage, exports on a cluster
	@$(BIN)/python -m pytest -m 'not torture' --numprocesses $(TEST_JOBS) --dist loadfile --timeout 1800 $(ARGS)

test-timm: $(STAMP) ## the tests of timm's networks, with PyTorch in an environment of its own (5 GB)
	@sh tests/timm.sh $(ARGS)

check: $(STAMP) ## lint, format, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check-dependencies: $(STAMP) ## known vulnerabilities of the pinned versions, where a database can be reached
	@$(BIN)/python -m pytest -m slow -rs tests/test_dependencies.py

check-addons: ## compare our F1 with TensorFlow Addons in an environment of its own
	@sh tests/addons/run.sh "$(PYTHON)"

docs: $(STAMP) ## the documentation site, in docs/_build
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build

bench: $(STAMP) ## measure against the straightforward way; tables go to RESULTS/bench
	@$(BIN)/python -m tests.perf --results "$(RESULTS)/bench" $(ARGS)

figures: $(STAMP) ## figures of the code: lines, exported names, circles, frames to a cached row
	@$(BIN)/python -W ignore -m tests.figures

simulate: $(STAMP) ## the tables of docs/statistics.md: backbones of known quality, drawn again and again
	@$(BIN)/python tests/statistics/print_simulations.py $(ARGS)

torture: $(STAMP) ## inject faults into real runs and print one table
	@$(BIN)/python -m pytest -m 'torture or faults' --timeout 3600 $(ARGS)

clean: ## remove build files and caches of tools; embeddings and results stay
	@rm -rf build dist docs/_build docs/commands.md *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	@find benchmark tests -name __pycache__ -type d -prune -exec rm -rf {} +
