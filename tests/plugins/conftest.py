"""The plugin as Airflow's API server has it, with a home of the tests' own."""

from __future__ import annotations

from support import airflow_home

airflow_home.claim()
