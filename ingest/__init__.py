"""CSV files to chunks to Kafka, and the generator of synthetic catalogs."""
