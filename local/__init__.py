"""The embedded stack: what starts Kafka, MongoDB, the speed layer and Airflow on one machine."""
