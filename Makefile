# Roomlog: `make run` starts everything, `make test` checks everything. `make` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PY := .venv/bin/python
STACK := $(PY) docker/stack
PYTEST := $(PY) -m pytest

# So many files of tests run at once, each process with engines of its own (2 GB): most tests wait most of the time.
JOBS ?= 2

# Numbers of workers; given on the command line or in the environment they reach the stack.
export GATEWAYS SEQUENCERS ARCHIVERS PROJECTORS FORCE

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "Ports, folders, addresses of engines: docs/operations.md"

# ---------------------------------------------------------------- environment

.venv/.runtime: requirements.lock docker/bootstrap
	@docker/bootstrap requirements.lock
	@touch $@

.venv/.dev: requirements-dev.lock requirements.lock docker/bootstrap
	@docker/bootstrap requirements-dev.lock
	@touch $@ .venv/.runtime

.PHONY: lock
lock: ## resolve setup.cfg's requirements anew into the lock files
	@python3 -m venv build/lock && build/lock/bin/pip install --quiet uv
	@build/lock/bin/uv pip compile setup.cfg $(LOCK) -o requirements.lock
	@build/lock/bin/uv pip compile setup.cfg --extra dev $(LOCK) -c requirements.lock -o requirements-dev.lock
LOCK := --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate --quiet

# ---------------------------------------------------------------- the stack

.PHONY: run up down status logs reset scale page
run: .venv/.runtime ## start all in the foreground; Ctrl-C stops it
	@exec $(STACK) run

up: .venv/.runtime ## start all in the background; returns when it is ready (GATEWAYS=2 SEQUENCERS=2 ...)
	@exec $(STACK) up

down: .venv/.runtime ## stop all
	@exec $(STACK) down

status: .venv/.runtime ## what runs, and is it ready
	@exec $(STACK) status

logs: .venv/.runtime ## show logs: make logs NAME=gateway FOLLOW=1
	@exec $(STACK) logs $(if $(FOLLOW),-f) $(NAME)

reset: .venv/.runtime ## stop all and delete the data, after asking (FORCE=1: without)
	@exec $(STACK) reset

scale: .venv/.runtime ## change the numbers of workers while running: GATEWAYS=3 SEQUENCERS=3
	@exec $(STACK) scale

page: .venv/.runtime ## build the chat page if its sources changed
	@exec $(STACK) page

# ---------------------------------------------------------------- checks

.PHONY: check model model-full test bench bench-quick faults faults-long faults-clusters
check: .venv/.dev ## linter, format, types, import contracts
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

model: .venv/.runtime ## check the model of the sequencer's rules with spin (docs/model): half a minute
	@$(PY) docs/model/check.py $(ARGS)

model-full: .venv/.runtime ## the same within larger bounds: some minutes, up to 4 GB
	@$(PY) docs/model/check.py --full

test: .venv/.dev page ## all tests but the benchmarks and the long fault run, on real engines: make test ARGS="-k stomp"
	@$(PYTEST) -n $(JOBS) --dist loadfile $(ARGS)

faults: .venv/.dev page ## the fault harness for five minutes: everything is killed under load, and nothing is lost: make faults ARGS="--seed 7"
	@$(PY) -m tests.faults short $(ARGS)

faults-long: .venv/.dev page ## the same with a million messages and every kind of fault, then faults-clusters
	@$(PY) -m tests.faults long $(ARGS)
	@$(MAKE) faults-clusters

faults-clusters: .venv/.dev page ## the harness on three brokers and three nodes of Cassandra, then with full disks (as root)
	@$(PY) -m tests.faults clusters $(ARGS)
	@$(PY) -m tests.faults run --faults disk-kafka,disk-cassandra,disk-kafka,disk-cassandra --rate 60 $(ARGS)

bench: .venv/.dev ## the benchmarks, each beside a bare loop of the same work: make bench ARGS="latency --repetitions 3"
	@$(PY) -m tests.bench $(ARGS)

bench-quick: .venv/.dev ## their short form, compared with the committed ratios: what CI runs, under three minutes
	@$(PY) -m tests.bench --quick $(ARGS)

.PHONY: clean
clean: ## delete what was made, but for the data: environment, downloads, page
	@rm -rf .venv build web/ui/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find web/static -mindepth 1 ! -name .gitkeep -delete
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
