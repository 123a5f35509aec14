"""Text for people, rendered from documents: Markdown for Airflow, lines for terminals and logs. Pure functions."""
