"""The peer of csv_to_kafka: an endpoint that sends each posted row to Kafka and waits for it (FastAPI, one kafka-python producer)."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from kafka import KafkaProducer

from tidemark.settings import settings
from tidemark.settings.kafka_clients import kafka_python_options

app = FastAPI()
of = settings()
producer = KafkaProducer(**kafka_python_options(of), acks="all", compression_type="lz4")


@app.get("/")
def ready() -> str:
    return "ready"


@app.post("/row", status_code=201)
def row(record: dict[str, Any]) -> dict[str, Any]:
    producer.send(of.product_topic, json.dumps(record).encode(), str(record["asin"]).encode())
    producer.flush()
    return record
