# Every command of the project. Needs a Python >= 3.11 with pip, and make; neither root nor docker.
#   make PYTHON=/path/to/python ...   another Python      make test ARGS="-k pool"   more words for the command
#   make WORKERS=4 test               more test processes, each with servers of its own

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test quick coverage lint format conformance prove matrix bench bench-quick bench-venv engines venv lock clean

ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
endif
VENV ?= .venv
VENV_DEMO ?= .venv-demo
VENV_BENCH ?= .venv-bench
WORKERS ?= 2
ARGS ?=
FETCH ?= --optional
UV ?= uv
RUN = $(VENV)/bin/python -m
SERVERLESS = not pg and not mariadb and not galera and not pgbouncer and not slow
EXTRAS = --extra postgres --extra asyncpg --extra sqlite --extra mysql --extra cli --extra demo
COMPILE = $(UV) pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --quiet

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## install what the demonstration needs, and run it: ARGS="--engine postgres --databases 3"
	@$(call need_python)
	@$(PYTHON) tools/environment.py make $(VENV_DEMO) requirements-demo.txt
	$(VENV_DEMO)/bin/polysession demo $(ARGS)

test: venv engines ## every test on every engine that is here or can be unpacked, then the linters
	$(RUN) pytest -n $(WORKERS) $(ARGS)
	@$(MAKE) --no-print-directory lint

quick: venv ## the tests that need no server
	$(RUN) pytest -n $(WORKERS) -m "$(SERVERLESS)" $(ARGS)

coverage: venv engines ## which lines and branches of the package the tests reach
	$(RUN) pytest -n $(WORKERS) --cov --cov-report=term:skip-covered $(ARGS)

lint: venv ## style, types, completeness of the public types, direction of imports
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) pyright --verifytypes polysession --ignoreexternal
	$(RUN) tests.typing.checking
	$(VENV)/bin/lint-imports

format: venv ## put the code into the house's form
	$(RUN) ruff check --fix
	$(RUN) ruff format

conformance: venv engines ## run the conformance suite and write docs/conformance.md from its outcome
	POLYSESSION_WRITE_TABLE=1 $(RUN) pytest -n $(WORKERS) tests/conformance $(ARGS)

prove: venv engines ## the long experiments, each with the control that must fail
	$(RUN) proofs $(ARGS)

matrix: engines ## the tests on every Python 3.11 to 3.13 that is found here
	@failed=; for python in $$($(PYTHON) tools/environment.py pythons); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== Python $$version ($$python)"; \
		$$python tools/environment.py make .venv-$$version requirements-dev.txt && \
		.venv-$$version/bin/python -m pytest -n $(WORKERS) $(ARGS) || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed on Python$$failed" >&2; exit 1; fi

bench: bench-venv engines ## figures: polysession beside SQLAlchemy, the drivers' own pools and frameworks; ARGS="NAME"
	$(VENV_BENCH)/bin/python -m benchmarks $(ARGS)

bench-quick: bench-venv engines ## the comparison with all of them in five minutes
	$(VENV_BENCH)/bin/python -m benchmarks peers --quick

bench-venv: # with the frameworks that polysession is compared with
	@$(call need_python)
	@$(PYTHON) tools/environment.py make $(VENV_BENCH) requirements-bench.txt

engines: venv ## unpack the database engines that are missing into .engines/, and list all
	@$(VENV)/bin/python tools/engines.py fetch $(FETCH)
	@$(VENV)/bin/python tools/engines.py list

venv: ## the environment of the developers, in .venv
	@$(call need_python)
	@$(PYTHON) tools/environment.py make $(VENV) requirements-dev.txt

lock: ## pin the newest allowed packages anew (needs uv and network)
	$(COMPILE) --upgrade --group dev $(EXTRAS) --output-file requirements-dev.txt
	$(COMPILE) --upgrade --group bench $(EXTRAS) --constraint requirements-dev.txt --output-file requirements-bench.txt
	$(COMPILE) --upgrade --group build --extra demo --constraint requirements-dev.txt --output-file requirements-demo.txt

clean: ## remove environments, engines, caches and results
	rm -rf .venv .venv-* .engines .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

need_python = [ -n "$(PYTHON)" ] || { echo "no Python >= 3.11 was found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
