"""The web viewer's HTTP side: pages, limits, and a thread with an event loop of its own.

  GET  /, /app.js, /style.css, …           the page of the only stream, or the grid of several cameras
  GET  /live, /state, POST /classes, …     the requests of the only stream, see view.py
  GET  /cameras                            several cameras: the state of each as a JSON list
  GET  /cameras/NAME/, /cameras/NAME/live, …   the page of one camera, and its requests
  GET  /metrics                            several cameras: counters for Prometheus

An error is {"error": "one line"} with a 4xx status for a bad request and 5xx for a failure of the server. access.py
decides which requests are answered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle.errors import OvsError, require
from ..threads.newest_task import Superseded
from .access import Address, Guard
from .connections import ConnectionLimiter, bound_socket
from .error_reporter import ErrorLogHandler, ErrorReporter
from .replies import ANSWER, IDLE, error_reply
from .view import View

if TYPE_CHECKING:
    from aiohttp import http_exceptions, web
else:
    web = require("aiohttp.web", "web")
    http_exceptions = require("aiohttp.http_exceptions", "web")

_FILES = {
    "/app.js": ("app.js", "text/javascript"),
    "/edits.js": ("edits.js", "text/javascript"),
    "/examples.js": ("examples.js", "text/javascript"),
    "/grid.js": ("grid.js", "text/javascript"),
    "/live.js": ("live.js", "text/javascript"),
    "/zones.js": ("zones.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PAGES = ("index.html", "grid.html", "token.html")
_OPEN = ("/style.css", "/icon.svg")  # needed by the page that asks for the token
_ONLY = ""  # the name of the only stream
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",  # a foreign page cannot embed the camera's picture
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_MOST_BYTES = 64 * 1024  # of a request's body
_SHUTDOWN = 1.0  # seconds for connections to end
_REMOVAL = 5.0  # seconds for the viewers of one camera to be sent away

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


@dataclass(frozen=True)
class Overview:
    """What a server of several cameras says of them; both are called in its thread and must return at once."""

    cameras: Callable[[], list[dict[str, Any]]]  # of each camera: its name, state, rate, …
    metrics: Callable[[], str]  # in Prometheus' text format


class WebServer:
    """Listens from the moment it is made until `close`."""

    def __init__(
        self, address: Address, guard: Guard, overview: Overview | None = None, option: str = "--web {}"
    ) -> None:
        """With an `overview` it serves several cameras, else one stream. `option` is how the address is given.

        Raises `SinkError` when nothing can listen at `address`.
        """
        self._guard = guard
        self._overview = overview
        self._errors = ErrorReporter()
        self._views: dict[str, View] = {}
        folder = Path(__file__).with_name("page")
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._pages = {name: (folder / name).read_bytes() for name in _PAGES}
        self._socket = bound_socket(address, option=option)
        self.port: int = self._socket.getsockname()[1]
        self._cookie = f"ovs-edge-{self.port}"  # cookies know no ports: two viewers on one machine need two names
        self._loop = asyncio.new_event_loop()
        self._ready: Future[None] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web viewer", daemon=True)
        self._thread.start()
        self._ready.result()

    def add(self, view: View, name: str = _ONLY) -> None:
        """Serve `view` under `/cameras/NAME/`, or as the only stream; from any thread."""

        async def begin() -> None:
            view.begin(self._errors, self._limiter)
            self._views[name] = view

        self._in_loop(begin()).result(_REMOVAL)

    def remove(self, name: str) -> None:
        """Serve a view no more and send its viewers away; from any thread."""

        async def end() -> None:
            view = self._views.pop(name, None)
            if view is not None:
                await view.end()
                await view.stop()

        with suppress(TimeoutError, asyncio.TimeoutError):
            self._in_loop(end()).result(_REMOVAL)

    def close(self) -> None:
        """Send the viewers away and free the port; may be called more than once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        if not self._thread.is_alive():
            work.close()
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self) -> None:
        self._loop.set_exception_handler(self._report_loop_error)
        app = web.Application(middlewares=[self._middleware], client_max_size=_MOST_BYTES)
        self._add_routes(app.router)
        log = logging.getLogger(f"ovs_edge.web.{self.port}")  # aiohttp logs a traceback for each malformed request
        log.propagate, log.handlers = False, [ErrorLogHandler(self._errors, _of_client)]
        runner = web.AppRunner(app, access_log=None, logger=log, keepalive_timeout=IDLE, shutdown_timeout=_SHUTDOWN)
        await runner.setup()
        server = runner.server
        assert server is not None
        self._limiter = ConnectionLimiter(server)
        listener = await self._loop.create_server(self._limiter, sock=self._socket)
        self._ready.set_result(None)
        await self._stop.wait()
        listener.close()
        await asyncio.gather(*(view.end() for view in self._views.values()))
        await runner.cleanup()
        await asyncio.gather(*(view.stop() for view in self._views.values()))

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._get_page)
        for path in _FILES:
            router.add_get(path, self._get_file)
        if self._overview is None:
            prefix = "/"
        else:
            router.add_get("/cameras", self._get_cameras)
            router.add_get("/metrics", self._get_metrics)
            router.add_get("/cameras/{camera}", self._to_page)
            router.add_get("/cameras/{camera}/", self._get_page)
            prefix = "/cameras/{camera}/"
        router.add_get(prefix + "recordings/{name}", self._get_recording)
        router.add_route("*", prefix + "{request}", self._answer_of_view)

    def _report_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.report("the event loop", context.get("exception") or RuntimeError(context["message"]))

    # -- every request -----------------------------------------------------------------------------------------------

    @property
    def _middleware(self) -> Any:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._limiter.request_received(request)
            response = await self._answered(request, handler)
            if not isinstance(response, web.FileResponse):  # which is sent only after this
                self._limiter.request_answered(request)
            if not response.prepared:  # a WebSocket has sent its headers already
                response.headers.update(_HEADERS)
            return response

        return guarded

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        query = request.query.get("token")
        refusal = self._guard.check(request.method, request.headers, query, request.cookies.get(self._cookie))
        if refusal is not None and refusal.status == 401 and request.path == "/":
            return self._html("token.html", status=401)
        if refusal is not None and not (refusal.status == 401 and request.path in _OPEN):
            return error_reply(refusal.status, refusal.reason)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = error_reply(error.status, error.reason)
        except Superseded as error:
            response = error_reply(409, str(error))
        except OvsError as error:
            response = error_reply(400, str(error))
        except asyncio.TimeoutError:
            response = error_reply(503, f"there was no answer within {ANSWER:g} s; try again")
        except web.RequestPayloadError:
            response = error_reply(400, "the body is incomplete, or not encoded as its headers say; send it again")
        except ConnectionError:
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 - one request fails, the viewer does not
            self._errors.report(f"the request {request.method} {request.path}", error)
            response = error_reply(
                500, f"internal error ({type(error).__name__}); see the terminal that ovs-run was started in"
            )
        if query is not None and self._guard.token is not None and not response.prepared:
            # The token is in the address once; later requests use a cookie that scripts and other sites cannot read.
            response.set_cookie(self._cookie, self._guard.token, httponly=True, samesite="Strict", path="/")
        return response

    # -- pages and files ---------------------------------------------------------------------------------------------

    async def _get_page(self, request: web.Request) -> web.StreamResponse:
        if "camera" in request.match_info:
            self._view(request)
            return self._html("index.html")
        return self._html("index.html" if self._overview is None else "grid.html")

    async def _to_page(self, request: web.Request) -> web.StreamResponse:
        self._view(request)
        return web.Response(status=302, headers={"Location": f"{request.rel_url.raw_path}/"})

    async def _get_file(self, request: web.Request) -> web.StreamResponse:
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    def _html(self, name: str, status: int = 200) -> web.Response:
        return web.Response(body=self._pages[name], content_type="text/html", charset="utf-8", status=status)

    # -- several cameras ---------------------------------------------------------------------------------------------

    async def _get_cameras(self, request: web.Request) -> web.StreamResponse:
        assert self._overview is not None
        return web.json_response(self._overview.cameras())

    async def _get_metrics(self, request: web.Request) -> web.StreamResponse:
        assert self._overview is not None
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._overview.metrics().encode(), headers=kind)

    # -- one stream --------------------------------------------------------------------------------------------------

    def _view(self, request: web.Request) -> View:
        view = self._views.get(request.match_info.get("camera", _ONLY))
        if view is None:
            raise web.HTTPNotFound(reason="there is no such camera")
        return view

    async def _get_recording(self, request: web.Request) -> web.StreamResponse:
        return await self._view(request).get_recording(request)

    async def _answer_of_view(self, request: web.Request) -> web.StreamResponse:
        handlers = self._view(request).requests
        name, method = request.match_info["request"], "GET" if request.method == "HEAD" else request.method
        if (handler := handlers.get((method, name))) is not None:
            return await handler(request)
        allowed = {known for known, path in handlers if path == name}
        raise web.HTTPMethodNotAllowed(request.method, allowed) if allowed else web.HTTPNotFound


def _of_client(error: BaseException) -> bool:
    """Whether a client caused `error`: by a malformed request or a broken connection."""
    return isinstance(error, http_exceptions.HttpProcessingError | web.RequestPayloadError | ConnectionError)
