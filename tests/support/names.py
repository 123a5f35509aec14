"""The names that tests' DAGs, pools and connections have in Airflow: those of the default settings."""

from __future__ import annotations

from tidemark.settings.airflow_names import AirflowNames

NAMES = AirflowNames("tidemark")
