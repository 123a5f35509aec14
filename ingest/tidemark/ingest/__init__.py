"""CSV files to chunks to Kafka, the HTTP API with its client, and the generator of synthetic catalogs."""
