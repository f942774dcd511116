"""The HTTP side of `ovs-serve`: routes, limits, access.

  POST /segment       a picture and the classes to look for; see openapi.py
  GET  /              a page about that, with a form to try it
  GET  /openapi.json  the same for programs
  GET  /healthz       200 while a replica can answer, else 503; needs no token
  GET  /metrics       for Prometheus

An error is {"error": "one line"}. Access is that of the web viewer (runtime/viewer/access.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.errors import OvsError, require
from ..runtime.viewer.access import Guard
from ..runtime.viewer.connections import ConnectionLimiter
from ..runtime.viewer.error_reporter import ErrorLogHandler, ErrorReporter
from ..runtime.viewer.replies import within_seconds
from .admission import Admission, Overloaded
from .messages import ReplicaLost, Replicas, SegmentAnswer
from .metrics import CONTENT_TYPE, Metrics
from .openapi import openapi
from .request_body import ReceivedTooMuch, read_request
from .worker import AT_ONCE

if TYPE_CHECKING:
    from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, http_exceptions, web
else:
    aiohttp = require("aiohttp", "ray")
    BadContentDispositionHeader = aiohttp.BadContentDispositionHeader
    BadContentDispositionParam = aiohttp.BadContentDispositionParam
    web = require("aiohttp.web", "ray")
    http_exceptions = require("aiohttp.http_exceptions", "ray")

BODIES = ("image/*", "application/octet-stream", "multipart/form-data")
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_IDLE = 20.0  # seconds that a connection may stay without a request, and that a body may take
_ANSWER = 60.0  # seconds for an answer
_SHUTDOWN = 5.0  # seconds for requests under way when the server ends
_MOST_HEADER = 4096  # bytes of the classes in a header; proxies take little more

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


@dataclass(frozen=True)
class ServerLimits:
    """What the server takes on."""

    body: int  # bytes of a request
    queue: int  # requests that wait, beside those that are worked on
    bodies: int  # bytes of all requests under way


class SegmentServer:
    """Answers requests that come to a listening socket, until `run` is told to stop."""

    def __init__(self, listener: socket.socket, guard: Guard, replicas: Replicas, limits: ServerLimits) -> None:
        self._listener = listener
        self._guard = guard
        self._replicas = replicas
        self._limits = limits
        self.admission = Admission(replicas.count, AT_ONCE, limits.queue, limits.bodies)
        self._metrics = Metrics(self.admission)
        self._errors = ErrorReporter("ovs-serve")
        folder = Path(__file__).with_name("page")
        self._page = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        self._cookie = f"ovs-serve-{listener.getsockname()[1]}"

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Answer until `stop` is set; requests under way get some seconds to end."""
        for kind in (BadContentDispositionHeader, BadContentDispositionParam):  # of clients, any number of them
            warnings.filterwarnings("ignore", category=kind)
        app = web.Application(middlewares=[self._middleware])
        app.router.add_post("/segment", self._post_segment)
        app.router.add_get("/openapi.json", self._get_openapi)
        app.router.add_get("/healthz", self._get_health)
        app.router.add_get("/metrics", self._get_metrics)
        for path in _PAGE:
            app.router.add_get(path, self._get_page)
        log = logging.getLogger(f"ovs_edge.serve.{id(self)}")  # aiohttp logs a traceback for each malformed request
        log.propagate, log.handlers = False, [ErrorLogHandler(self._errors, _of_client)]
        # A client that has gone leaves its place to another one: handlers are cancelled.
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=log,
            keepalive_timeout=_IDLE,
            shutdown_timeout=_SHUTDOWN,
            handler_cancellation=True,
        )
        await runner.setup()
        server = runner.server
        assert server is not None
        self._limiter = ConnectionLimiter(server)
        listening = await asyncio.get_running_loop().create_server(self._limiter, sock=self._listener)
        on_ready()
        try:
            await stop.wait()
        finally:
            listening.close()
            await runner.cleanup()

    # -- every request -----------------------------------------------------------------------------------------------

    @property
    def _middleware(self) -> Any:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._limiter.request_received(request)
            start = time.perf_counter()
            response = await self._answered(request, handler)
            self._limiter.request_answered(request)
            if request.path == "/segment":
                self._metrics.answered(response.status, time.perf_counter() - start)
            response.headers.update(_HEADERS)
            return response

        return guarded

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        query = request.query.get("token")
        if request.path != "/healthz":
            given = query, request.cookies.get(self._cookie)
            if (refusal := self._guard.check(request.method, request.headers, *given)) is not None:
                return _error(refusal.status, refusal.reason)
        try:
            response = await handler(request)
        except Overloaded as error:
            response = _busy(str(error), error.retry_after)
        except ReplicaLost as error:
            self._errors.report("a replica", error)
            response = _busy("the replica that worked on the picture was lost; send it again", 1)
        except asyncio.TimeoutError:
            response = _busy(f"there was no answer within {_ANSWER:g} s; try again", self.admission.retry_after)
        except ReceivedTooMuch:
            response = _too_large(self._limits.body)
        except web.HTTPException as error:
            response = _error(error.status, error.reason)
        except OvsError as error:
            response = _error(400, str(error))
        except web.RequestPayloadError:
            response = _error(400, "the body is incomplete, or not encoded as its headers say; send it again")
        except ConnectionError:
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 - one request fails, the server does not
            self._errors.report(f"the request {request.method} {request.path}", error)
            response = _error(500, f"internal error ({type(error).__name__}); see the terminal of ovs-serve")
        if query is not None and self._guard.token is not None:
            # The token is in the address once; later requests use a cookie that scripts and other sites cannot read.
            response.set_cookie(self._cookie, self._guard.token, httponly=True, samesite="Strict", path="/")
        return response

    # -- routes ------------------------------------------------------------------------------------------------------

    async def _post_segment(self, request: web.Request) -> web.StreamResponse:
        length = request.content_length
        if length is not None and length > self._limits.body:
            return _too_large(self._limits.body)
        with self.admission.body(self._limits.body if length is None else length):
            try:
                asked = await within_seconds(read_request(request, self._limits.body), _IDLE)
            except asyncio.TimeoutError as error:
                raise web.HTTPRequestTimeout from error
            with self.admission.request():
                answer = await within_seconds(self._replicas.segment(asked), _ANSWER)
        if answer.status == 200:
            self.admission.worked(sum(seconds for _, seconds in answer.steps))
            self._metrics.worked(answer)
        return web.Response(
            body=answer.body, status=answer.status, content_type=answer.content_type, headers=_class_header(answer)
        )

    async def _get_health(self, request: web.Request) -> web.StreamResponse:
        running = await self._replicas.running()
        state = {"replicas": running, "of": self._replicas.count}
        return web.json_response(state, status=200 if running else 503)

    async def _get_metrics(self, request: web.Request) -> web.StreamResponse:
        body = self._metrics.text(await self._replicas.running())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _get_openapi(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(openapi(self._limits.body, token=self._guard.token is not None))

    async def _get_page(self, request: web.Request) -> web.StreamResponse:
        body, kind = self._page[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")


def _class_header(answer: SegmentAnswer) -> dict[str, str]:
    """The labels, in the order of their numbers, as ASCII JSON; left out where they are many."""
    text = json.dumps(answer.labels)
    return {"OVS-Classes": text} if answer.labels and len(text) <= _MOST_HEADER else {}


def _of_client(error: BaseException) -> bool:
    """Whether a client caused `error`: by a malformed request or a broken connection."""
    return isinstance(error, http_exceptions.HttpProcessingError | web.RequestPayloadError | ConnectionError)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def _too_large(limit: int) -> web.Response:
    return _error(413, f"the body is larger than {limit} bytes; send a smaller picture, or raise --max-body")


def _busy(reason: str, retry_after: int) -> web.Response:
    return web.json_response({"error": reason}, status=503, headers={"Retry-After": str(retry_after)})
