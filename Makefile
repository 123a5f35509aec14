.DEFAULT_GOAL := help
.PHONY: help run dry-run peek start status stop pause resume restart superset-import superset-export logs clean test soak connector check wording format bench lock

VENV ?= .venv
export VENV
PY := $(VENV)/bin/python
# The connector's own targets, with the stack's Superset and MongoDB.
CONNECTOR = $(MAKE) --no-print-directory -C superset/connector PY=$(abspath $(VENV))/superset/bin/python \
	MONGOPIPE_MONGOD=$$($(PY) -c 'from tidemark.local.programs import mongod; print(mongod())')
ROWS ?= 20000
DAYS ?= 3

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nSettings are environment variables (TIDEMARK_...): see README.md.\n'

CATALOG = --products "$(PRODUCTS)" --categories "$(CATEGORIES)" --observed-at "$(OBSERVED_AT)" --columns "$(COLUMNS)" --rows $(ROWS) --days $(DAYS)

run: $(VENV)/.run-ready ## Start everything, ingest a catalog, show the reports (PRODUCTS= CATEGORIES= OBSERVED_AT= COLUMNS=, or ROWS= DAYS=; BATCH=no: no nightly run)
	@$(PY) -m tidemark.local run $(CATALOG) --batch $(or $(BATCH),yes)

dry-run: $(VENV)/.run-ready ## Show what make run of the same would change, and send nothing
	@$(PY) -m tidemark.local dry-run $(CATALOG)

start: $(VENV)/.run-ready ## Start everything
	@$(PY) -m tidemark.local start

status: $(VENV)/.run-ready ## Show health, lag and rows
	@$(PY) -m tidemark.local status

stop: $(VENV)/.run-ready ## Stop everything that make run started
	@$(PY) -m tidemark.local stop

peek: $(VENV)/.run-ready ## Show the last events in Kafka and what validation says of each (KIND=product|category COUNT=5)
	@$(PY) -m tidemark.ingest.peek $(or $(KIND),product) --count $(or $(COUNT),5)

pause: $(VENV)/.run-ready ## Stop the stream until make resume, when it has served what is there (REASON=)
	@$(PY) -m tidemark.serving.control pause --reason "$(REASON)"

resume: $(VENV)/.run-ready ## Let the paused stream go on where it was
	@$(PY) -m tidemark.serving.control resume

restart: $(VENV)/.run-ready ## Start the stream anew, with the code as it is
	@$(PY) -m tidemark.serving.control restart

superset-import: $(VENV)/.run-ready ## Bring the files of superset/assets to Superset again, over what has been changed there
	@$(PY) -m tidemark.local dashboards import --overwrite

superset-export: $(VENV)/.run-ready ## Write the dashboards as they are in Superset to the files of superset/assets
	@$(PY) -m tidemark.local dashboards export

logs: $(VENV)/.run-ready ## Follow the logs (PROGRAM=speed for one)
	@$(PY) -m tidemark.local logs --follow $(PROGRAM)

clean: $(VENV)/.run-ready ## Stop everything and delete all state: topics, database, logs
	@$(PY) -m tidemark.local stop
	@$(PY) -m tidemark.local clean

test: check ## Test what a change can break, on real servers (about twenty minutes)
	@$(PY) tests/run_all.py

soak: $(VENV)/.dev-ready ## The long forms of the proofs (three hours; ONLY="containers kills" for some, LIST=yes says which there are)
	@$(PY) tests/soak.py $(ONLY) $(if $(LIST),--list)

connector: $(VENV)/.dev-ready ## The connector's own targets (TARGETS="test fuzz")
	@$(CONNECTOR) $(TARGETS)

check: $(VENV)/.dev-ready ## Format, lint, types, import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --config pyproject.toml --no-logo

wording: $(VENV)/.dev-ready ## Write what people read to tests/wording, as it is now (TESTS=tests/ingest for a part); look at the difference
	$(PY) -m pytest --update-wording -m "not soak" -q $(or $(TESTS),tests)

format: $(VENV)/.dev-ready ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.dev-ready ## Measure everything side by side with others (ONLY="freshness" for one)
	@$(PY) -m bench $(ONLY)
	@[ -n "$(ONLY)" ] || $(CONNECTOR) bench

lock: $(VENV)/.dev-ready ## Resolve requirements*.txt and the jars anew
	@for of in requirements requirements-dev requirements-setup superset/requirements superset/requirements-dev; do \
		$(VENV)/bin/uv pip compile $$of.txt --quiet --python-version 3.11 --generate-hashes -o $$of.lock || exit; \
	done
	$(PY) -m tidemark.local.jars --lock

$(VENV)/.run-ready: requirements.lock requirements-setup.lock src/tidemark/local/jars.lock setup.sh superset/requirements.lock superset/connector/pyproject.toml pyproject.toml
	@sh setup.sh run
	@touch $@

$(VENV)/.dev-ready: requirements-dev.lock superset/requirements-dev.lock $(VENV)/.run-ready
	@sh setup.sh dev
	@touch $@
