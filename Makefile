# The two commands are `make run` and `make test`. Each sets up .venv by itself, once: a stamp file is written after
# each step that succeeded, so that an interrupted set-up is done again and a finished one is not.
#
#   APPROVE_AS=you@example.com   answer the approval of `make run` in this name
#   ARGS="..."                   further arguments for modelway, or for pytest
#   TORCH_INDEX=URL              an index of CPU builds of torch, where pip's own finds CUDA builds
#   PYTHON=python3.12            the interpreter to make .venv with

PYTHON ?= python3
export PYTHON TORCH_INDEX APPROVE_AS

# Chosen here and not by `make lock`: a newer torch means measuring the ONNX exporter again.
TORCH := torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# TensorRT-RTX is installed on Linux x86-64 only; elsewhere the optimise step goes on without it.
ifeq ($(shell uname -sm),Linux x86_64)
EXTRAS := sklearn,tensorrt-rtx
else
EXTRAS := sklearn
endif

.DEFAULT_GOAL := help
.PHONY: help run server worker deployments test quick faults lint format bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-19s %s\n", $$1, $$2 }'

run: $(VENV)/.run ## the whole way on real data: train, register, validate, optimise, approve, deploy, serve
	@$(BIN)/modelway run configs/digits.yaml $${APPROVE_AS:+--approve-as "$$APPROVE_AS"} $(ARGS)

server: $(VENV)/.run ## Prefect's server on this machine, with a password and its doors shut
	@$(BIN)/modelway server $(ARGS)

worker: $(VENV)/.run ## a worker that runs the flows here
	@$(BIN)/modelway worker $(ARGS)

deployments: $(VENV)/.run ## hand flows, schedules and triggers to the server that PREFECT_API_URL names
	@$(BIN)/modelway deployments apply $(ARGS)

test: lint ## every check there is: linters, types, import contracts, all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

quick: $(VENV)/.dev ## the tests that take no more than seconds
	$(BIN)/python -m pytest -m "not heavy" -n auto $(ARGS)

faults: $(VENV)/.dev ## break storage at every call, kill writers, race four clients: nothing may be lost
	$(BIN)/python -m registry.testing $(ARGS)
	$(BIN)/python -m pytest -q tests/faults/test_registry_beside_a_table.py --hypothesis-profile=faults

lint: $(VENV)/.dev ## linters, formatting, types and import contracts, without tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## write the formatting, and the fixes that are safe
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.run ## measure what starting costs, and the registry beside its peers
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python -m benchmarks.registry $(ARGS)

lock: ## choose the pinned versions again (constraints.txt), from the ranges in pyproject.toml
	@.ci/lock sklearn,tensorrt-rtx,dev $(TORCH)

clean: ## remove .venv, caches and builds; registries (.modelway) stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find registry tasks flows deployments tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.torch: Makefile .ci/environment
	@test -e $@ || echo "setting up $(VENV) (first time, 2-4 minutes): Python, then torch for the CPU ..."
	@.ci/environment $(VENV) $(TORCH)
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "setting up $(VENV): modelway[$(EXTRAS)] in the versions of constraints.txt ..."
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "setting up $(VENV): the tools of the developers (ruff, mypy, import-linter, pytest) ..."
	@$(PIP) install -c constraints.txt -e '.[$(EXTRAS),dev]'
	@touch $@
