"""The HTTP API: accepts JSON records, validates them by the domain's rules, and answers once Kafka has acknowledged them."""
