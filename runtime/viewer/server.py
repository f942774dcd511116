"""The web viewer's HTTP side: routes, limits, and a thread with an event loop of its own.

  GET  /, /app.js, /style.css, …           the page
  GET  /live                               a WebSocket: frames and state, see broadcast.py
  GET  /state                              the state as JSON
  POST /classes   {"classes": ["person", "bike|bicycle"]}        answers when they are in use; with {"version": 7}
                  as well, from the state, only if that list is still the current one and no other change is pending
  POST /settings  {"threshold": 0.3, "opacity": 0.5, "outlines": true, "names": true, "legend": false,
                   "hidden": ["sky"], "colours": {"person": "#ff8800", "bike": null}}, any of them
  POST /region    {"x": 0.5, "y": 0.5}, shares of width and height   the class there, and the other candidates
  POST /record    {"on": true}
  GET  /snapshot.jpg, /recordings/NAME     files

An error is {"error": "one line"} with a 4xx status for a bad request and 5xx for a failure of the server. access.py
decides which requests are answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...bundle.errors import OvsError, SinkError, UsageError, require
from ..interaction import Interaction
from ..sinks.video_files.recorder import Recorder
from ..status import PLAYING, Status
from ..threads.newest_task import Superseded
from .access import Address, Guard
from .broadcast import NEXT, Broadcast, PublishedFrame, Viewer
from .connections import ConnectionLimiter, bound_socket
from .error_reporter import ErrorLogHandler, ErrorReporter
from .messages import parse_colour, parse_flag, parse_number, region_message, run_state

if TYPE_CHECKING:
    from aiohttp import http_exceptions, web
else:
    web = require("aiohttp.web", "web")
    http_exceptions = require("aiohttp.http_exceptions", "web")

_PAGE = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/edits.js": ("edits.js", "text/javascript"),
    "/live.js": ("live.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_OPEN = ("/style.css", "/icon.svg")  # needed by the page that asks for the token
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",  # a foreign page cannot embed the camera's picture
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_MOST_VIEWERS = 32
_MOST_BYTES = 64 * 1024  # of a request's body
_IDLE = 20.0  # seconds that a connection may stay without a request
_HEARTBEAT = 10.0  # seconds between two heartbeats of a viewer
_ANSWER = 60.0  # seconds for the classes to be encoded, or a region to be looked at
_SHUTDOWN = 1.0  # seconds for viewers to disconnect
_ENDED = json.dumps({"ended": True})  # the last message of a run

Result = TypeVar("Result")
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class WebServer:
    """Listens from the moment it is made until `close`."""

    def __init__(
        self, address: Address, guard: Guard, interaction: Interaction, recorder: Recorder, title: str
    ) -> None:
        """Raises `SinkError` when nothing can listen at `address`."""
        self._guard = guard
        self._interaction = interaction
        self._recorder = recorder
        self._errors = ErrorReporter()
        self._title = title
        self._source = PLAYING
        self._version = 0  # of the classes that the latest frame was labelled with
        self._announced: tuple[object, ...] = ()  # the state that the viewers were last sent without asking
        folder = Path(__file__).with_name("page")
        self._page = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        self._token_page = (folder / "token.html").read_bytes()
        self._socket = bound_socket(address)
        self.port: int = self._socket.getsockname()[1]
        self._cookie = f"ovs-edge-{self.port}"  # cookies know no ports: two viewers on one machine need two names
        self._loop = asyncio.new_event_loop()
        self._ready: Future[Broadcast] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web viewer", daemon=True)
        self._thread.start()
        self._broadcast = self._ready.result()
        interaction.vocabulary.on_change = lambda state: self._broadcast.state_changed()

    @property
    def watched(self) -> bool:
        """Whether a viewer is connected."""
        return self._broadcast.watched

    @property
    def encoded(self) -> int:
        """Pictures encoded so far."""
        return self._broadcast.encoded

    def publish(self, shown: PublishedFrame) -> None:
        """Show a frame; from any thread, returns at once."""
        self._broadcast.publish(shown)
        self._version = shown.prediction.version
        self.publish_status(shown.status)

    def publish_status(self, status: Status) -> None:
        """Show how the run is; from any thread, returns at once."""
        self._source = status.source
        # Changes also come from a window and from programs.
        changes = status.source, self._version, self._interaction.controls.settings, self._recorder.error
        if changes != self._announced:
            self._announced = changes
            self._broadcast.state_changed()

    def close(self) -> None:
        """Send the viewers away and free the port; may be called more than once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

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
        broadcast = Broadcast(lambda: self._interaction.controls.style, self._state, self._errors)
        app = web.Application(middlewares=[self._middleware], client_max_size=_MOST_BYTES)
        for path in _PAGE:
            app.router.add_get(path, self._get_page)
        app.router.add_get("/live", self._get_live)
        app.router.add_get("/state", self._get_state)
        app.router.add_get("/snapshot.jpg", self._get_snapshot)
        app.router.add_get("/recordings/{name}", self._get_recording)
        app.router.add_post("/classes", self._post_classes)
        app.router.add_post("/settings", self._post_settings)
        app.router.add_post("/region", self._post_region)
        app.router.add_post("/record", self._post_record)
        log = logging.getLogger(f"ovs_edge.web.{self.port}")  # aiohttp logs a traceback for each malformed request
        log.propagate, log.handlers = False, [ErrorLogHandler(self._errors, _of_client)]
        runner = web.AppRunner(app, access_log=None, logger=log, keepalive_timeout=_IDLE, shutdown_timeout=_SHUTDOWN)
        await runner.setup()
        server = runner.server
        assert server is not None
        self._limiter = ConnectionLimiter(server)
        listener = await self._loop.create_server(self._limiter, sock=self._socket)
        self._sockets: set[web.WebSocketResponse] = set()
        running = asyncio.ensure_future(broadcast.run())
        self._ready.set_result(broadcast)
        await self._stop.wait()
        listener.close()
        for step in (self._announce_end, self._close_viewers):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(step(), _SHUTDOWN)
        await runner.cleanup()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    def _report_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.report("the event loop", context.get("exception") or RuntimeError(context["message"]))

    async def _announce_end(self) -> None:
        """Send the end of the run, and wait for the viewers to disconnect.

        Closing a connection here while data arrives would reset it, and the last message would be lost.
        """
        self._broadcast.end(_ENDED)
        while self._sockets:
            await asyncio.sleep(0.01)

    async def _close_viewers(self) -> None:
        """Close the connections of viewers that did not disconnect."""
        closing = [socket.close(code=1001, message=b"the run has ended") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)

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
            return web.Response(body=self._token_page, content_type="text/html", charset="utf-8", status=401)
        if refusal is not None and not (refusal.status == 401 and request.path in _OPEN):
            return _error(refusal.status, refusal.reason)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _error(error.status, error.reason)
        except Superseded as error:
            response = _error(409, str(error))
        except OvsError as error:
            response = _error(400, str(error))
        except asyncio.TimeoutError:
            response = _error(503, f"there was no answer within {_ANSWER:g} s; try again")
        except web.RequestPayloadError:
            response = _error(400, "the body is incomplete, or not encoded as its headers say; send it again")
        except ConnectionError:
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 - one request fails, the viewer does not
            self._errors.report(f"the request {request.method} {request.path}", error)
            response = _error(
                500, f"internal error ({type(error).__name__}); see the terminal that ovs-run was started in"
            )
        if query is not None and self._guard.token is not None and not response.prepared:
            # The token is in the address once; later requests use a cookie that scripts and other sites cannot read.
            response.set_cookie(self._cookie, self._guard.token, httponly=True, samesite="Strict", path="/")
        return response

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _get_page(self, request: web.Request) -> web.StreamResponse:
        body, kind = self._page[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _get_state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._state())

    async def _get_snapshot(self, request: web.Request) -> web.StreamResponse:
        self._latest()
        shown, jpeg = await self._broadcast.snapshot()
        name = re.sub(r"[^\w.-]", "_", shown.frame.name, flags=re.ASCII)
        disposition = {"Content-Disposition": f'attachment; filename="{name}.jpg"'}
        return web.Response(body=jpeg, content_type="image/jpeg", headers=disposition)

    async def _get_recording(self, request: web.Request) -> web.StreamResponse:
        # Looked up among those that were made here: a name is never made into a path.
        path = self._recorder.made.get(request.match_info["name"])
        if path is None or not path.is_file():
            return _error(404, "there is no such recording")
        response = web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{path.name}"'})
        response.force_close()  # so that its connection counts as busy until everything is sent
        return response

    async def _get_live(self, request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= _MOST_VIEWERS:
            return _error(503, f"{_MOST_VIEWERS} viewers are connected, the most there can be; close one")
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, timeout=_SHUTDOWN, max_msg_size=256, compress=False)
        self._sockets.add(socket)
        viewer = Viewer(socket)
        try:
            await socket.prepare(request)
            self._limiter.exempt(request)
            self._broadcast.join(viewer)
            sending = asyncio.ensure_future(viewer.send())
            sending.add_done_callback(lambda done: self._hang_up(request, done))
            try:
                async for message in socket:
                    if message.type != web.WSMsgType.TEXT or message.data != NEXT:
                        break
                    self._broadcast.drawn(viewer)
            finally:
                sending.cancel()
            await socket.close()
        finally:
            self._broadcast.leave(viewer)
            self._sockets.discard(socket)
        return socket

    def _hang_up(self, request: web.Request, sending: asyncio.Future[None]) -> None:
        """Disconnect a viewer that does not read what it is sent."""
        if sending.cancelled() or (error := sending.exception()) is None:
            return
        if not isinstance(error, asyncio.TimeoutError | ConnectionError):
            self._errors.report("sending to a viewer", error)
        if request.transport is not None:
            request.transport.abort()

    # -- changing ----------------------------------------------------------------------------------------------------

    async def _post_classes(self, request: web.Request) -> web.StreamResponse:
        body, state = await _body(request), self._interaction.vocabulary.state
        classes = body.get("classes")
        if not isinstance(classes, list) or not all(isinstance(entry, str) for entry in classes):
            raise UsageError('expected {"classes": ["person", "bike|bicycle"]}')
        if "version" in body and (state.pending or body["version"] != state.version):
            raise Superseded("the classes have changed in the meantime; GET /state lists them")
        future = self._interaction.vocabulary.request(classes)
        self._broadcast.state_changed()
        asked = await _result(future)
        return web.json_response({"classes": list(asked.labels), "version": asked.version})

    async def _post_settings(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        changes: dict[str, Any] = {
            name: parse_number(body[name], name) for name in ("threshold", "opacity") if name in body
        }
        changes |= {name: parse_flag(body[name], name) for name in ("outlines", "names", "legend") if name in body}
        hidden, colours = body.get("hidden"), body.get("colours")
        if hidden is not None and not (isinstance(hidden, list) and all(isinstance(label, str) for label in hidden)):
            raise UsageError('expected {"hidden": ["sky"]}')
        if colours is not None and not isinstance(colours, dict):
            raise UsageError('expected {"colours": {"person": "#ff8800"}}')
        if unknown := body.keys() - {*changes, "hidden", "colours"}:
            raise UsageError(f"unknown setting {min(unknown)[:40]!r}; GET /state lists the settings")
        chosen = None if colours is None else {label: parse_colour(colour) for label, colour in colours.items()}
        self._interaction.controls.change(**changes, hidden=hidden, colours=chosen)
        self._broadcast.state_changed()
        return web.json_response(self._state()["settings"])

    async def _post_region(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        x, y = parse_number(body.get("x"), "x"), parse_number(body.get("y"), "y")
        shown = self._latest()
        if not (0 <= x < 1 and 0 <= y < 1):
            raise UsageError("expected x and y from 0 to 1, shares of the picture's width and height")
        height, width = shown.prediction.labels.shape
        future = self._interaction.inspector.ask(shown.frame.image, shown.prediction, int(x * width), int(y * height))
        return web.json_response(region_message(await _result(future), width, height))

    async def _post_record(self, request: web.Request) -> web.StreamResponse:
        if parse_flag((await _body(request)).get("on"), "on"):
            self._recorder.start()
            name = None
        else:
            name = await self._loop.run_in_executor(None, self._recorder.stop)
        self._broadcast.state_changed()
        return web.json_response({"recorded": name})

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _latest(self) -> PublishedFrame:
        if self._broadcast.latest is None:
            raise SinkError("there is no picture yet; try again in a moment")
        return self._broadcast.latest

    def _state(self) -> dict[str, Any]:
        return run_state(self._interaction, self._recorder, self._title, self._source)


def _of_client(error: BaseException) -> bool:
    """Whether a client caused `error`: by a malformed request or a broken connection."""
    return isinstance(error, http_exceptions.HttpProcessingError | web.RequestPayloadError | ConnectionError)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await asyncio.wait_for(request.read(), _IDLE))
    except asyncio.TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON; send an object") from error
    if not isinstance(body, dict):
        raise UsageError("the body is JSON but not an object; send one")
    return body


async def _result(future: Future[Result]) -> Result:
    # Shielded: a client that disconnects or times out does not cancel the work.
    return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), _ANSWER)
