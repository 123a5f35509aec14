"""MongoDB: collections with validators and indexes, the ledger, publications, the report views."""
