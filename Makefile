.DEFAULT_GOAL := help
.PHONY: help run dry-run peek start status stop pause resume restart superset-import superset-export logs clean test soak connector check wording format bench lock

VENV ?= .venv
export VENV
PY := $(VENV)/bin/python
# Runs the connector's own targets with the stack's Superset and MongoDB.
CONNECTOR = $(MAKE) --no-print-directory -C superset/connector PY=$(abspath $(VENV))/superset/bin/python \
	MONGOPIPE_MONGOD=$$($(PY) -c 'from tidemark.local.programs import mongod; print(mongod())')
ROWS ?= 20000
DAYS ?= 3

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nSettings are environment variables (TIDEMARK_...): see docs/settings.md.\n'

CATALOG = --products "$(PRODUCTS)" --categories "$(CATEGORIES)" --observed-at "$(OBSERVED_AT)" --columns "$(COLUMNS)" --rows $(ROWS) --days $(DAYS)

run: $(VENV)/.run-ready ## Start everything, ingest a catalog, print the reports (PRODUCTS= CATEGORIES= OBSERVED_AT= COLUMNS=, or ROWS= DAYS=; BATCH=no: no nightly batch)
	@$(PY) -m tidemark.local run $(CATALOG) --batch $(or $(BATCH),yes)

dry-run: $(VENV)/.run-ready ## Show what make run with the same arguments would change; send nothing
	@$(PY) -m tidemark.local dry-run $(CATALOG)

start: $(VENV)/.run-ready ## Start everything
	@$(PY) -m tidemark.local start

status: $(VENV)/.run-ready ## Show health, lag and rows
	@$(PY) -m tidemark.local status

stop: $(VENV)/.run-ready ## Stop everything that make run started
	@$(PY) -m tidemark.local stop

peek: $(VENV)/.run-ready ## Show the last events in Kafka with their validation results (KIND=product|category COUNT=5)
	@$(PY) -m tidemark.ingest.peek $(or $(KIND),product) --count $(or $(COUNT),5)

pause: $(VENV)/.run-ready ## Pause the stream once it has served all current events (REASON=)
	@$(PY) -m tidemark.serving.control pause --reason "$(REASON)"

resume: $(VENV)/.run-ready ## Resume the paused stream (ACCEPT=CELLS accepts the micro-batch at which it is held)
	@$(PY) -m tidemark.serving.control resume $(if $(ACCEPT),--accept $(ACCEPT))

restart: $(VENV)/.run-ready ## Restart the stream with the current code
	@$(PY) -m tidemark.serving.control restart

superset-import: $(VENV)/.run-ready ## Import superset/assets into Superset, overwriting changes made there
	@$(PY) -m tidemark.local dashboards import --overwrite

superset-export: $(VENV)/.run-ready ## Export the dashboards from Superset to superset/assets
	@$(PY) -m tidemark.local dashboards export

logs: $(VENV)/.run-ready ## Follow the logs of all programs (PROGRAM=speed for one)
	@$(PY) -m tidemark.local logs --follow $(PROGRAM)

clean: $(VENV)/.run-ready ## Stop everything and delete all state: topics, database, logs
	@$(PY) -m tidemark.local stop
	@$(PY) -m tidemark.local clean

test: check ## Run the tests, on real servers (about twenty minutes)
	@$(PY) tests/run_all.py

soak: $(VENV)/.dev-ready ## Run the long proofs (three hours; ONLY="containers kills" for some, LIST=yes lists them)
	@$(PY) tests/soak.py $(ONLY) $(if $(LIST),--list)

connector: $(VENV)/.dev-ready ## Run targets of the connector (TARGETS="test fuzz")
	@$(CONNECTOR) $(TARGETS)

check: $(VENV)/.dev-ready ## Check format, lint, types and import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	PYTHONPATH=superset $(VENV)/bin/lint-imports --config pyproject.toml --no-logo

wording: $(VENV)/.dev-ready ## Update the golden texts in tests/wording (TESTS=tests/ingest for a part); review the diff
	$(PY) -m pytest --update-wording -m "not soak" -q $(or $(TESTS),tests)

format: $(VENV)/.dev-ready ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.dev-ready ## Run the benchmarks against alternatives (ONLY="freshness" for one)
	@$(PY) -m bench $(ONLY)
	@[ -n "$(ONLY)" ] || $(CONNECTOR) bench

lock: $(VENV)/.dev-ready ## Update the lock files of requirements*.txt and the jars
	@for of in requirements requirements-mongodb requirements-dev requirements-setup superset/requirements superset/requirements-dev tests/support/s3-server; do \
		$(VENV)/bin/uv pip compile $$of.txt --quiet --python-version 3.11 --generate-hashes -o $$of.lock || exit; \
	done
	$(PY) -m tidemark.local.jars --lock

# Whatever else pyproject.toml says, of what `make run` needs only the installation of the project itself depends on it.
$(VENV)/.run-ready: pyproject.toml $(VENV)/.environment-ready
	@sh setup.sh project
	@touch $@

$(VENV)/.environment-ready: requirements.lock requirements-mongodb.lock requirements-setup.lock src/tidemark/local/jars.lock spark/tidemark/spark/log_stores.scala setup.sh superset/requirements.lock superset/connector/pyproject.toml
	@sh setup.sh run
	@touch $@

$(VENV)/.dev-ready: requirements-dev.lock superset/requirements-dev.lock $(VENV)/.run-ready
	@sh setup.sh dev
	@touch $@
