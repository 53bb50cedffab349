# One list of verbs for people and for CI. `make test` and `make demo` need nothing but Python 3.11, git and the network.
.DEFAULT_GOAL := help
.PHONY: help setup lock check test demo crash detect matrix stress holes races damage stores lakes duckdb realfiles container recipes integrations executors bench reference docs pages clean
.DELETE_ON_ERROR:
SHELL := /bin/bash
# An interpreter that compiles all modules again takes twice as long to start, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

READY := .venv/.ready
RUN := .venv/bin
# Further arguments for pytest: make test ARGS="-k sqlite"
ARGS ?=
# make races: how many saves. make stress: how long each cell is written to; make stress and crash: what is done. Without a seed, something new each time.
SECONDS ?= 60
SAVES ?= 1000
SEED ?=
# One process more than there are processors, because some tests wait; but few enough that their memory does not add up. One that
# has nothing left to do takes tests from another: the slow ones of a file would else be the last of one process alone.
PYTEST := $(RUN)/pytest --dist worksteal -n $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4))) $(ARGS)

help: ## show the verbs
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(READY): pyproject.toml uv.lock .ci/setup
	.ci/setup
	@touch $@

setup: $(READY) ## make .venv as uv.lock says

lock: $(READY) ## resolve the dependencies again, after a change in pyproject.toml
	$(RUN)/uv lock --default-index https://pypi.org/simple

check: $(READY) ## lint, formatting, types, layers, limits
	@status=0; \
	for one in "ruff check" "ruff format --check" mypy lint-imports "pytest -q tests/test_tidy.py tests/test_public.py"; do \
		echo "$$one"; $(RUN)/$$one || status=1; \
	done; exit $$status

test: $(READY) ## the whole test suite
	$(PYTEST)

crash: $(READY) ## the whole matrix of kills and other faults, SEED repeats one (a sample: make test ARGS="-m crash")
	PYTHONPATH=tests:tests/crash $(RUN)/python -m campaign --seed "$(SEED)" $(ARGS)

detect: $(READY) ## break the engine and connectors on purpose: which test notices what
	$(PYTEST) -q tests/detect

matrix: $(READY) ## the hole table in every mode of every pair, and kills at every call, where `make test` takes turns
	STRANDLINE_MATRIX=1 $(PYTEST) tests/holes
	STRANDLINE_MATRIX=1 $(PYTEST) tests/crash tests/connectors -k "killed_anywhere or every_pair or test_kills"

stress: $(READY) ## concurrent writers against PostgreSQL, SECONDS for each cell of hazard and settle mode
	PYTHONPATH=tests $(RUN)/python tests/holes/postgresql_stress.py --seconds "$(SECONDS)" --seed "$(SEED)" $(ARGS)

holes: $(READY) ## the same faults against Strandline and against dlt, which is installed for it
	PYTHONPATH=bench:tests:tests/holes $(RUN)/python -m holes $(ARGS)

races: $(READY) ## two processes that save over each other, SAVES times, on every state backend
	STRANDLINE_SAVES="$(SAVES)" $(RUN)/pytest -q tests/crash/test_races.py $(ARGS)

damage: $(READY) ## each bit of a stored state flipped, and its end cut off at each byte, on every backend and in every destination
	STRANDLINE_DAMAGES=0 $(PYTEST) -k "a_bit_that_flips_is_noticed or an_end_that_is_missing_is_noticed" tests/connectors

stores: $(READY) ## object stores of other people (versitygw, azurite, fake-gcs-server, s3rver), built once with go and npm: the suites of state backends and destinations, and files there
	$(RUN)/pytest -q tests/connectors/objects/foreign_stores.py tests/connectors/files/foreign_store_objects.py tests/connectors/files/foreign_destination_objects.py $(ARGS)

lakes: $(READY) ## the suite of destinations with Iceberg's own REST catalog, whose jars are fetched once; needs Java 17, and root for a network namespace
	PYTHONPATH=tests/connectors $(RUN)/python tests/connectors/iceberg/foreign_catalog.py
	unshare --net sh -c 'ip link set lo up && exec $(RUN)/pytest -q tests/connectors/iceberg/foreign_catalog.py $(ARGS)'

duckdb: $(READY) ## the tests of the destination duckdb with the oldest DuckDB that the extra accepts, installed into .cache
	PYTHONPATH=tests/docs $(RUN)/python tests/connectors/duckdb/older.py $(ARGS)

realfiles: $(READY) ## 600 files of other people's packages, fetched once: what is stored of each against its text and other readers
	PYTHONPATH=tests/realfiles $(RUN)/python -m realfiles $(ARGS)

container: $(READY) ## the Dockerfile, executed in a root of Debian without a container engine, and two syncs in it; needs root and debootstrap
	$(RUN)/python tests/deploy/container.py

recipes: $(READY) ## the recipes for Airflow, Prefect and dbt, which are installed for it
	PYTHONPATH=tests/docs $(RUN)/python tests/docs/orchestrators.py $(ARGS)

integrations: $(READY) ## the packages for Airflow and Dagster, against those, which are installed for it into .cache
	PYTHONPATH=tests/docs $(RUN)/python tests/docs/integrations.py $(ARGS)

executors: $(READY) ## the suites of the executors dask and ray, and many tables by the workers of each executor, of which one is killed every few seconds
	PYTHONPATH=tests $(RUN)/uv run --quiet --isolated --frozen --all-extras --group dev pytest -q tests/executors/dask_suite.py tests/executors/ray_suite.py
	PYTHONPATH=tests $(RUN)/uv run --quiet --isolated --frozen --all-extras --group dev python tests/executors/heavy.py $(ARGS)

demo: $(READY) ## two syncs of real data into a DuckDB file, explained
	$(RUN)/python examples/demo/demo.py .demo

reference: $(READY) ## write docs/reference.md again
	$(RUN)/python docs/generate.py

docs: $(READY) ## the documentation as a site, in .cache/site/html; without the network, and strict about links
	$(RUN)/python docs/site.py

pages: $(READY) ## only the tests of examples and documentation
	$(PYTEST) tests/docs

bench: $(READY) ## the benchmarks, one after the other
	set -e; for script in bench/*.py; do echo "$$script"; $(RUN)/python "$$script"; done

clean: ## remove what the other verbs made
	rm -rf .venv .cache .demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find src tests examples bench integrations -name __pycache__ -type d -prune -exec rm -rf {} +
