"""The API's routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tidemark.ingest.api import document, metrics
from tidemark.ingest.api.bodies import MAX_RECORDS, RETRY_AFTER, Form, InvalidBatch, Reservation, form_of, read
from tidemark.ingest.api.clients import client_of
from tidemark.ingest.api.sending import NotStored
from tidemark.ingest.api.service import Service
from tidemark.ingest.api.validation import BrokenRule, TooManyRecords, shown, validate_batch
from tidemark.ingest.files import MAX_RECORD_BYTES, FileKind
from tidemark.ingest.produce import NotAcknowledged
from tidemark.settings import Settings
from tidemark.settings.hosts import trusted_hosts

_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="TIDEMARK_API_KEY or one of TIDEMARK_API_KEYS of the server")


def application(of: Settings) -> FastAPI:
    """The API for these settings."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(of)
        metrics.BODIES.set_function(lambda: service.bodies.taken)
        metrics.WAITING.set_function(lambda: service.waiting.taken)
        tasks = [asyncio.create_task(service.single.connect()), asyncio.create_task(service.batches.listen())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(service.single.close(), service.batches.close())

    app = FastAPIOffline(title="Tidemark", summary="Product and category ingestion", description=document.DESCRIPTION, lifespan=lifespan)
    app.add_middleware(metrics.Measured)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=trusted_hosts(of, of.api_host) or ["*"], www_redirect=False)
    app.include_router(_health_routes())
    app.include_router(_posts(key=bool(of.named_api_keys)))
    return app


def _health_routes() -> APIRouter:
    """Routes without authentication."""
    router = APIRouter()
    router.get("/", response_model=document.Hello, summary="Return a greeting")(_hello)
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": document.Health, "description": "Records cannot be posted"}}
    router.get("/health", response_model=document.Health, responses=unhealthy, summary="Report whether records can be posted")(_health)
    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}, "example": "# HELP ..."}}}
    }
    router.get("/metrics", response_class=Response, responses=text, summary="Return metrics for Prometheus")(_metrics)
    return router


def _posts(*, key: bool) -> APIRouter:
    """Routes that require an API key, if one is set."""
    router = APIRouter(dependencies=[Depends(_with_key)] if key else [])
    for path, post, kind, stored in (
        ("/AmazonProduct", _post_product, FileKind.PRODUCT, document.StoredProduct),
        ("/Category", _post_category, FileKind.CATEGORY, document.StoredCategory),
    ):
        router.post(
            path,
            status_code=201,
            responses=document.answers(stored, key=key),
            openapi_extra=document.one(kind),
            summary=f"Store one {kind}",
        )(post)
    for path, post, kind in (
        ("/AmazonProduct/batch", _post_products, FileKind.PRODUCT),
        ("/Category/batch", _post_categories, FileKind.CATEGORY),
    ):
        router.post(
            path,
            status_code=201,
            responses=document.answers(document.StoredBatch, key=key, unavailable=document.NotAcknowledged),
            openapi_extra=document.batch(kind),
            summary=f"Store up to {MAX_RECORDS:,} {'products' if kind is FileKind.PRODUCT else 'categories'}",
        )(post)
    return router


async def _with_key(request: Request, given: Annotated[str | None, Security(_KEY)]) -> None:
    """Notes the name of the key that the request has. Raises HTTPException: 401 no valid key, 429 too many wrong ones."""
    service: Service = request.app.state.service
    client = _client(request)
    if seconds := service.wrong_keys.refused_for(client):
        raise HTTPException(429, f"too many wrong API keys from {client}: try again later", {"Retry-After": str(seconds)})
    # Starlette decodes headers as Latin-1.
    request.state.key = service.keys.name_of(given.encode("latin-1")) if given else None
    if request.state.key is None:
        metrics.WRONG_KEYS.inc()
        if given:
            service.wrong_keys.note(client)
        raise HTTPException(401, "missing or invalid API key: send it in the header X-API-Key", {"WWW-Authenticate": "X-API-Key"})
    metrics.KEYS.labels(request.state.key).inc()


def _client(request: Request) -> str:
    """Behind a trusted proxy, the one that the proxy names."""
    return client_of(request.client.host if request.client else "")


def _name_of_key(request: Request) -> str | None:
    """None if the server has no keys."""
    return getattr(request.state, "key", None)


async def _hello() -> document.Hello:
    return document.Hello(message="Hello World")


async def _health(request: Request, response: Response) -> document.Health:
    found: document.Health = await request.app.state.service.health()
    if not found.healthy:
        response.status_code = 503
    return found


async def _metrics() -> Response:
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _post_product(request: Request) -> Response:
    return await _post_one(request, FileKind.PRODUCT)


async def _post_category(request: Request) -> Response:
    return await _post_one(request, FileKind.CATEGORY)


async def _post_products(request: Request) -> Response:
    return await _post_batch(request, FileKind.PRODUCT)


async def _post_categories(request: Request) -> Response:
    return await _post_batch(request, FileKind.CATEGORY)


async def _post_one(request: Request, kind: FileKind) -> Response:
    service: Service = request.app.state.service
    if form_of(request) is not Form.JSON:
        raise HTTPException(415, f"one record is expected: send it as {Form.JSON}, or send many to {request.url.path}/batch")
    with Reservation(service.bodies, _client(request)) as reservation:
        body = await read(request, min(service.of.api_body_bytes, MAX_RECORD_BYTES), service.of.api_body_seconds, reservation)
        validator = service.validator(kind, _name_of_key(request))
        result = validator(body)
        if isinstance(result, BrokenRule):
            metrics.RECORDS.labels(str(kind), metrics.REFUSED).inc()
            return _refused([_fault(result)])
        try:
            stored = await service.single.send(service.topic(kind), result.message)
        except NotStored as reason:
            service.log_failure(str(reason))
            metrics.RECORDS.labels(str(kind), metrics.NOT_ACKNOWLEDGED).inc()
            name = (result.message.key or b"").decode()
            await service.wait_until_registered(validator)
            return _answer(503, {"detail": f"{kind} {name}: {reason}. The record may or may not be stored: send it again"}, RETRY_AFTER)
    metrics.RECORDS.labels(str(kind), metrics.ACKNOWLEDGED).inc()
    return _answer(201, {**shown(result.observation), **stored._asdict()})


async def _post_batch(request: Request, kind: FileKind) -> Response:
    service: Service = request.app.state.service
    form = form_of(request)
    with Reservation(service.bodies, _client(request)) as reservation:
        body = await read(request, service.of.api_body_bytes, service.of.api_body_seconds, reservation)
        async with service.batches.place():
            validator = service.validator(kind, _name_of_key(request))
            try:
                batch = await service.batches.run(partial(validate_batch, validator, body, form))
            except InvalidBatch as reason:
                return _refused([{"loc": ["body"], "msg": str(reason), "type": "malformed"}])
            except TooManyRecords:
                raise HTTPException(413, f"the batch has more than {MAX_RECORDS} records: split it") from None
            if batch.faults:
                metrics.RECORDS.labels(str(kind), metrics.REFUSED).inc(len(batch.faults))
                return _refused(_fault(broken, number) for number, broken in batch.faults)
            try:
                done = await service.batches.send(service.topic(kind), batch.messages)
            except NotAcknowledged as reason:
                await service.wait_until_registered(validator)
                return _not_acknowledged(service, kind, batch.numbers, reason)
    metrics.RECORDS.labels(str(kind), metrics.ACKNOWLEDGED).inc(done.events)
    ends = [{"topic": key.topic, "partition": key.partition, "offset": end} for key, end in done.ends.items()]
    return _answer(201, {"acknowledged": done.events, "ends": ends})


def _not_acknowledged(service: Service, kind: FileKind, numbers: list[int], reason: NotAcknowledged) -> Response:
    service.log_failure(str(reason))
    left = [number for index, number in enumerate(numbers) if index not in reason.acknowledged]
    metrics.RECORDS.labels(str(kind), metrics.ACKNOWLEDGED).inc(len(numbers) - len(left))
    metrics.RECORDS.labels(str(kind), metrics.NOT_ACKNOWLEDGED).inc(len(left))
    detail = (
        f"Kafka at {service.of.kafka} did not acknowledge {len(left)} of {len(numbers)} records in time. "
        "They may or may not be stored: send the batch again"
    )
    return _answer(503, {"detail": detail, "acknowledged": len(numbers) - len(left), "not_acknowledged": left}, RETRY_AFTER)


def _fault(broken: BrokenRule, *number: int) -> dict[str, Any]:
    return {
        "loc": ["body", *number, *([broken.field] if broken.field else [])],
        "msg": f"{broken.field or 'record'}: must be {broken.rule}",
        "type": broken.field or "malformed",
    }


def _refused(faults: Iterable[dict[str, Any]]) -> Response:
    return _answer(422, {"detail": list(faults)})


def _answer(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, Form.JSON.value)
