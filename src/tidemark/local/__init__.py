"""The embedded stack: what starts Kafka, MongoDB, the speed layer, the API and Airflow on one machine."""
