"""The service: routes, limits and figures, as an ASGI application.

FastAPI and uvicorn, rather than a framework for serving large models: a policy answers in microseconds, so that another
process in between would cost more than what it does, and tokens, limits and the page that documents them belong in one place.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import funcrl
from funcrl.serve.access import Limits, Tokens
from funcrl.serve.batching import Batcher, BusyError
from funcrl.serve.rows import Part, Policy, RefusedError, answer, outside, read

_PATIENCE = 10.0
"""seconds in which the whole of a request has to arrive"""

_PATHS = frozenset(["/act", "/health", "/ready", "/metrics", "/policy", "/docs", "/openapi.json"])

_MOST_ACTIONS = 64
"""actions that are counted each by itself"""


@dataclass(frozen=True)
class Settings:
    """How a policy is served."""

    most_bytes: int = 1 << 20
    """of one request"""
    most_rows: int = 4096
    """observations in one request, and in one batch"""
    waiting: int = 65_536
    """observations that may wait"""
    rate: float = float("inf")
    """requests a second of each caller"""


class Figures:
    """What Prometheus is told."""

    def __init__(self) -> None:
        """Begin at zero, in a registry of its own."""
        self.registry = prometheus_client.CollectorRegistry()
        given: dict[str, Any] = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "funcrl_requests", "Requests by answer.", ["path", "status"], **given
        )
        seconds = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
        self.seconds = prometheus_client.Histogram(
            "funcrl_act_seconds", "Seconds from request to answer.", buckets=seconds, **given
        )
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
        self.batches = prometheus_client.Histogram(
            "funcrl_batch_size", "Observations that were answered together.", buckets=sizes, **given
        )
        self.observations = prometheus_client.Counter("funcrl_observations", "Observations.", **given)
        self.outside = prometheus_client.Counter(
            "funcrl_observations_outside",
            "Observations with a number outside of what the agent saw while it played.",
            **given,
        )
        self.actions = prometheus_client.Counter(
            "funcrl_actions", "Actions of numbered ones.", ["action"], **given
        )

    def count_actions(self, action: Any) -> None:
        """Count actions where they are numbers of a few."""
        for one in action if isinstance(action, list) else [action]:
            if isinstance(one, int) and 0 <= one < _MOST_ACTIONS:
                self.actions.labels(str(one)).inc()


class Counted:
    """Counts answers by path and status, around the application."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        """Wrap an application."""
        self._app, self._figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in _PATHS else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._figures.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)


def _error(status: int, text: str, **headers: str) -> JSONResponse:
    return JSONResponse(
        {"error": text}, status, headers={name.replace("_", "-"): x for name, x in headers.items()}
    )


def make_app(policy: Policy, tokens: Tokens, settings: Settings | None = None) -> FastAPI:
    """Return the service of a policy.

    Args:
        policy: From `open_policy`.
        tokens: Who may ask.
        settings: Limits.
    """
    settings = Settings() if settings is None else settings
    figures, limits = Figures(), Limits(settings.rate)
    batcher = Batcher(policy, settings.most_rows, settings.waiting, figures.batches.observe)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        yield
        app.state.ready = False
        batcher.close()

    described = policy.described
    app = FastAPI(
        title=f"{described.get('algorithm', '')} {described.get('environment', '')}".strip() or "policy",
        version=funcrl.__version__,
        description=f"Actions of an agent that has learnt in {described.get('environment')}. "
        f"{described.get('about_observations', '')}",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.ready = False

    @app.exception_handler(HTTPException)
    async def said(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {
            404: f"there is nothing at {request.url.path[:80]}: ask /act",
            405: "this is not how to ask: see /docs",
        }
        return JSONResponse(
            {"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, error.headers
        )

    app.add_middleware(Counted, figures=figures)

    def refusal(request: Request) -> JSONResponse | None:
        """Return why somebody may not ask now."""
        who = request.client.host if request.client else "nobody"
        if tokens.required:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            name = tokens.name_of(token.strip() if kind.lower() == "bearer" else None)
            if name is None:
                wait = limits.wait(f"nobody at {who}")
                if wait:
                    return _too_many(wait)
                text = (
                    "a token is needed: Authorization: Bearer TOKEN"
                    if not token
                    else "this token is nobody's"
                )
                return _error(401, text, WWW_Authenticate="Bearer")
            who = name
        wait = limits.wait(who)
        return _too_many(wait) if wait else None

    @app.post(
        "/act",
        openapi_extra=_body(policy, settings),
        responses=_answers(policy),
        summary="Actions for observations",
    )
    async def act(request: Request) -> Response:
        began = time.perf_counter()
        refused = refusal(request)
        if refused is not None:
            return refused
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return _error(415, "write Content-Type: application/json")
        try:
            body = await asyncio.wait_for(_read_body(request, settings.most_bytes), _PATIENCE)
        except TimeoutError:
            return _error(408, f"the whole of a request has to arrive within {_PATIENCE:.0f} seconds")
        if body is None:
            return _error(413, f"a request has at most {settings.most_bytes} bytes")
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return _error(400, "this is not JSON")
        try:
            rows = read(policy, asked, settings.most_rows)
            told = answer(policy, rows, await batcher(rows))
        except RefusedError as error:
            return _error(422, str(error))
        except BusyError:
            return _error(503, "too many observations are waiting", Retry_After="1")
        figures.observations.inc(rows.count)
        figures.outside.inc(outside(policy, rows))
        figures.count_actions(told["action"])
        figures.seconds.observe(time.perf_counter() - began)
        return JSONResponse(told)

    @app.get("/health", summary="Whether the process lives")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", responses={503: _SENTENCE}, summary="Whether requests are taken")
    async def ready() -> Response:
        if app.state.ready:
            return JSONResponse({"status": "ready"})
        return _error(503, "not ready")

    @app.get(
        "/policy", responses={401: _SENTENCE, 429: _SENTENCE}, summary="What the policy is, takes and returns"
    )
    async def about(request: Request) -> Response:
        return refusal(request) or JSONResponse(described)

    @app.get("/metrics", responses={401: _SENTENCE, 429: _SENTENCE}, summary="Figures for Prometheus")
    async def metrics(request: Request) -> Response:
        refused = refusal(request)
        if refused is not None:
            return refused
        text = prometheus_client.generate_latest(figures.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app


def _too_many(wait: float) -> JSONResponse:
    return _error(429, "too many requests", Retry_After=str(max(1, round(wait))))


async def _read_body(request: Request, most: int) -> bytes | None:
    """Return the content of a request; None where there is more than may be."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


_SENTENCE: dict[str, Any] = {
    "description": "Why not, in a sentence.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}


def _array(shape: tuple[int, ...], whole: bool) -> dict[str, Any]:
    # What float32, or a whole number in JSON's readers, can hold.
    most = 2**53 - 1 if whole else float(np.finfo(np.float32).max)
    schema: dict[str, Any] = {"type": "integer" if whole else "number", "minimum": -most, "maximum": most}
    for length in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": length, "maxItems": length}
    return schema


def _either(part: Part, most: int) -> dict[str, Any]:
    one = _array(part.shape, part.dtype.kind in "iub")
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": most}]}


def _body(policy: Policy, settings: Settings) -> dict[str, Any]:
    """Return what OpenAPI says of a request to act."""
    observation: dict[str, Any] = {}
    for part in policy.observations:
        here, words = observation, part.name.split(".")[1:]
        for word in words:
            here.setdefault("type", "object")
            here.setdefault("required", []).append(word)
            here = here.setdefault("properties", {}).setdefault(word, {})
        here.update(_either(part, settings.most_rows))
    properties: dict[str, Any] = {"observation": observation}
    if policy.carries:
        carries = {part.name: _either(part, settings.most_rows) for part in policy.carries}
        properties["carry"] = {
            "description": "What the answer before said; left out where an episode begins.",
            "type": "object",
            "properties": carries,
            "required": sorted(carries),
            "additionalProperties": False,
        }
    schema = {
        "type": "object",
        "required": ["observation"],
        "properties": properties,
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _answers(policy: Policy) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the answers."""
    action = policy.described["outputs"][0]
    shape = tuple(int(n) for n in action["shape"][1:])
    one = _array(shape, str(action["dtype"]).startswith("int"))
    properties: dict[str, Any] = {"action": {"anyOf": [one, {"type": "array", "items": one}]}}
    if policy.carries:
        properties["carry"] = {"type": "object"}
    schema = {"type": "object", "required": sorted(properties), "properties": properties}
    done = {
        "description": "An action for each observation.",
        "content": {"application/json": {"schema": schema}},
    }
    return {200: done, **dict.fromkeys((400, 401, 408, 413, 415, 422, 429, 503), _SENTENCE)}
