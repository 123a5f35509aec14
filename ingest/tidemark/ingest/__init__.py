"""Ingestion of CSV files in chunks into Kafka, the HTTP API with its client, and the generator of synthetic catalogs."""
