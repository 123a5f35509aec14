"""MongoDB: collections with their validators and indexes, the ledger, publications, the report views."""
