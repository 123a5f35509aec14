# Superset with the connector, in its own environment, because it needs another version of SQLAlchemy than Airflow.
# Installed by the same script and hashed lock file as `make run`. Build it from the root of the checkout.
FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/tidemark
COPY requirements-setup.lock ./
COPY setup.sh ./
COPY superset/requirements.lock superset/
COPY superset/connector superset/connector
RUN sh setup.sh superset

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/superset superset \
    && mkdir -p /var/lib/superset \
    && chown superset:superset /var/lib/superset
COPY --from=build /opt/tidemark/.venv/superset /opt/tidemark/.venv/superset
COPY superset /opt/tidemark/superset
WORKDIR /opt/tidemark/superset
ENV PATH=/opt/tidemark/.venv/superset/bin:$PATH \
    PYTHONPATH=/opt/tidemark/superset \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLASK_APP=superset.app:create_app() \
    SCARF_ANALYTICS=false \
    SUPERSET_CONFIG_PATH=/opt/tidemark/superset/tidemark/superset/superset_config.py \
    SUPERSET_HOME=/var/lib/superset
USER 10001
CMD ["gunicorn", "--config", "python:tidemark.superset.web_server", "superset.app:create_app()"]
