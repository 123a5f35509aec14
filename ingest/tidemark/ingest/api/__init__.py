"""The HTTP API: JSON records in, judged by the domain's rules, acknowledged by Kafka before they are answered."""
