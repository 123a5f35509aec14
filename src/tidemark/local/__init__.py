"""The local stack: Kafka, MongoDB, the speed layer, the API, Airflow and Superset on one machine."""
