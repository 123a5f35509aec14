# Everything but Superset: ingestion, the stream, the batch layer, Airflow, Kafka's broker, Spark's master and workers.
# Installed by the same script and hashed lock files as `make run`. Build it from the root of the checkout.
FROM python:3.11-slim-bookworm AS base
# Spark's scripts and the batch jobs use ps.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tidemark

FROM base AS build
COPY requirements-setup.lock requirements.lock ./
COPY setup.sh ./
# MongoDB has an image of its own.
RUN sh setup.sh packages
COPY . .
RUN sh setup.sh project && sh setup.sh jars && sh setup.sh classes

FROM base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/tidemark tidemark \
    && mkdir -p /var/lib/tidemark/airflow /var/lib/tidemark/certificate /var/lib/tidemark/kafka /var/lib/tidemark/lake \
    && chown -R tidemark:tidemark /var/lib/tidemark
COPY --from=build /opt/tidemark /opt/tidemark
ENV PATH=/opt/tidemark/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TIDEMARK_HOME=/var/lib/tidemark
USER 10001
CMD ["python", "-m", "tidemark.local.launch", "speed"]
