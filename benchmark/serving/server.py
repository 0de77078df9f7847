"""The web server of ``backbones serve``: loopback unless told otherwise, no request to anywhere else.

Starlette and uvicorn (BSD, without telemetry) speak HTTP. What is sent is kept in memory and, while it is
decoded, in a temporary file; nothing of it is logged or stays.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.deployment import open_model
from benchmark.errors import ArgumentError, BenchmarkError
from benchmark.options import ServeOptions
from benchmark.records import Observer
from benchmark.serving.answers import Respondent

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_PAGE = Path(__file__).parent / "page"
_KIND = "application/octet-stream"
_MEGABYTE = 1_000_000
_SECONDS = 60  # for the sending of one photograph
_WAITING = 8  # requests that wait for the model; more are sent away
_MOST_CLIENTS = 10_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob: data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def serve(options: ServeOptions, observer: Observer) -> None:
    """Serve a model's page until Ctrl-C.

    Args:
        options: of the command.
        observer: told the page's address.

    Raises:
        ArgumentError: Starlette or uvicorn is not installed, the address cannot be had, or a threshold for
            exclusive classes.
        ManifestError: no such model.
        ExportError: its runtime is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ArgumentError.not_installed("what serves the page", "serve", got=error) from error
    predictor = open_model(options.model)
    answers = Respondent(options, predictor)
    answers.try_out()
    with _listening(options.host, options.port) as listener:
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        observer.message(f"Serving {options.model} at http://{host}:{port} (Ctrl-C ends it)")
        if not _is_loopback(options.host):
            observer.message(
                "Whoever reaches this machine can send photographs to the model: there is no password."
            )
        config = uvicorn.Config(
            make_app(answers, options),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=64,
            headers=list(_HEADERS.items()),
        )
        uvicorn.Server(config).run(sockets=[listener])


def make_app(answers: Respondent, options: ServeOptions) -> Starlette:
    """The web application.

    ``GET /`` is the page, ``GET /about`` the model's classes, ``POST /predict`` takes the bytes of one image
    file (``Content-Type: application/octet-stream``, which no other site's page can send) and answers with
    ``Respondent.answer`` as JSON; ``?tiles=1`` and ``?heatmap=1`` ask for more. Errors are JSON, too: 408 too
    slow, 413 too large, 415 another content type, 429 too many, 503 too busy.

    Args:
        answers: the model.
        options: limits, and the host by which the page may be asked for: other names are refused, so that no
            foreign name can be made to mean this machine.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    most = round(options.max_megabytes * _MEGABYTE)
    turn, rate = _Turn(), _Rate(options.per_minute)

    def refuse(status: int, why: str) -> Response:
        return JSONResponse({"error": why}, status, {"Retry-After": "5"} if status in (429, 503) else {})

    async def about(_: Request) -> Response:
        return JSONResponse(answers.about)

    async def predict(request: Request) -> Response:
        if request.headers.get("content-type") != _KIND:
            return refuse(415, f"the bytes of one image file are expected, as {_KIND}")
        if not rate.allows(request.client.host if request.client else ""):
            return refuse(429, f"more than {options.per_minute} photographs a minute")
        wishes = {name: request.query_params.get(name) == "1" for name in ("tiles", "heatmap")}
        if not turn.may_wait():
            return refuse(503, "too many photographs at once")
        try:
            async with asyncio.timeout(_SECONDS):
                photograph = await _read(request.stream(), most)
            if photograph is None:
                return refuse(413, f"larger than {options.max_megabytes:g} MB")
            return JSONResponse(await run_in_threadpool(turn.take, answers, photograph, wishes))
        except ClientDisconnect:
            return refuse(400, "not sent to the end")
        except TimeoutError:
            return refuse(408, f"not sent within {_SECONDS} s")
        except BenchmarkError as error:
            return refuse(500, error.what)
        finally:
            turn.leave()

    return Starlette(
        routes=[
            Route("/about", about),
            Route("/predict", predict, methods=["POST"]),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=_names(options.host), www_redirect=False),
        ],
    )


async def _read(chunks: AsyncIterator[bytes], most: int) -> bytes | None:
    """What is sent, or None once it is more than allowed."""
    got = bytearray()
    async for chunk in chunks:
        got += chunk
        if len(got) > most:
            return None
    return bytes(got)


class _Turn:
    """The model answers one request at a time; few may wait."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._waiting = 0  # counted on the event loop's thread alone

    def may_wait(self) -> bool:
        if self._waiting >= _WAITING:
            return False
        self._waiting += 1
        return True

    def take(self, answers: Respondent, photograph: bytes, wishes: dict[str, bool]) -> dict[str, Any]:
        with self._one:
            return answers.answer(photograph, **wishes)

    def leave(self) -> None:
        self._waiting -= 1


class _Rate:
    """At most so many requests a minute and client, in a bucket that fills again."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        now = time.monotonic()
        left, then = self._buckets.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - then) * self._per_minute / 60)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return allowed


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ArgumentError(
            "this address cannot be listened at",
            where="`port`",
            got=f"{host}:{port}: {error.strerror or error}",
            next_step="Name another one; port 0 takes any that is free.",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(host: str) -> list[str]:
    """The names by which the page may be asked for; an address of all networks has any."""
    if _is_loopback(host):
        return ["localhost", "127.0.0.1", "::1", "[::1]", host, f"[{host}]"]
    return ["*"] if host in ("0.0.0.0", "::") else [host, f"[{host}]"]
