"""What the web viewer offers of one stream of frames: the live picture, its classes and settings, recordings.

The requests, relative to the stream's page:

  GET  live                               a WebSocket: frames and state, see broadcast.py; live?tile=1: small frames
  GET  state                              the state as JSON
  POST classes   {"classes": ["person", "bike|bicycle"]}        answers when they are in use; with {"version": 7}
                 as well, from the state, only if that list is still the current one and no other change is pending
  POST settings  {"threshold": 0.3, "sensitivity": "high", "opacity": 0.5, "outlines": true, "names": true, "legend": false,
                  "hidden": ["sky"], "colours": {"person": "#ff8800", "bike": null}}, any of them
  POST region    {"x": 0.5, "y": 0.5}, shares of width and height   the class there, and the other candidates
  POST record    {"on": true}
  POST places    {"zones": {"door": {"points": [[0.1, 0.2], …], "anchor": "foot"}}, "lines": {…}}       all of them, in
                 shares of width and height; answers with those in use then, and whether they were saved. With "base",
                 those before the change, what others changed meanwhile is kept; 409 where it is the same zone or line
  GET  snapshot.jpg, recordings/NAME      files

and those around classes that are shown, see example_requests.py.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...bundle.errors import SinkError, UsageError, require
from ..events.config import parse_places, places_table
from ..interaction import Interaction
from ..sinks.video_files.recorder import Recorder
from ..status import PLAYING, Status
from ..threads.newest_task import Superseded
from ..vocabulary.sensitivity import Sensitivity
from .broadcast import NEXT, TILE, WIDEST, Broadcast, PublishedFrame, Viewer
from .connections import ConnectionLimiter
from .error_reporter import ErrorReporter
from .example_requests import ExampleRequests
from .messages import parse_colour, parse_flag, parse_number, region_message, run_state
from .replies import error_reply, json_body, result_of

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = require("aiohttp.web", "web")

_MOST_VIEWERS = 32
_HEARTBEAT = 10.0  # seconds between two heartbeats of a viewer
_SHUTDOWN = 1.0  # seconds for viewers to disconnect
_ENDED = json.dumps({"ended": True})  # the last message of a run

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class View:
    """One stream of frames, for any number of viewers. A `WebServer` runs it, from `WebServer.add` on."""

    def __init__(self, interaction: Interaction, recorder: Recorder, title: str) -> None:
        """`title` is the source's name."""
        self._interaction = interaction
        self._recorder = recorder
        self._title = title
        self._source = PLAYING
        self._version = 0  # of the classes that the latest frame was labelled with
        self._announced: tuple[object, ...] = ()  # the state that the viewers were last sent without asking
        self._sockets: set[web.WebSocketResponse] = set()
        self._broadcast: Broadcast | None = None  # while a server runs it
        self._examples = ExampleRequests(
            interaction.segmenter, lambda: self._latest().frame.image, lambda: self._sending.state_changed()
        )
        self.requests: dict[tuple[str, str], Handler] = {
            ("GET", "live"): self._get_live,
            ("GET", "state"): self._get_state,
            ("GET", "snapshot.jpg"): self._get_snapshot,
            ("POST", "classes"): self._post_classes,
            ("POST", "settings"): self._post_settings,
            ("POST", "region"): self._post_region,
            ("POST", "record"): self._post_record,
            ("POST", "places"): self._post_places,
            **self._examples.requests,
        }  # method and path below the page -> what answers

    # -- frames, from the thread of the sinks ------------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether a viewer is connected."""
        return self._broadcast is not None and self._broadcast.watched

    @property
    def encoded(self) -> int:
        """Pictures encoded so far."""
        return 0 if self._broadcast is None else self._broadcast.encoded

    def publish(self, shown: PublishedFrame) -> None:
        """Show a frame; from any thread, returns at once."""
        if self._broadcast is not None:
            self._broadcast.publish(shown)
            self._version = shown.prediction.version
            self.publish_status(shown.status)

    def publish_status(self, status: Status) -> None:
        """Show how the run is; from any thread, returns at once."""
        self._source = status.source
        # Changes also come from a window and from programs.
        watch = self._interaction.watch
        seen = None if watch is None else watch.changes()
        changes = status.source, self._version, self._interaction.controls.settings, self._recorder.error, seen
        if changes != self._announced and self._broadcast is not None:
            self._announced = changes
            self._broadcast.state_changed()

    # -- its life, in the event loop of the server -------------------------------------------------------------------

    def begin(self, errors: ErrorReporter, limiter: ConnectionLimiter) -> None:
        """Start to send. `errors` hears of failures, `limiter` of connections that must stay open."""
        self._errors, self._limiter = errors, limiter
        broadcast = Broadcast(lambda: self._interaction.controls.style, self._state, errors)
        self._broadcast, self._running = broadcast, asyncio.ensure_future(broadcast.run())
        self._interaction.vocabulary.on_change = lambda state: broadcast.state_changed()

    async def end(self) -> None:
        """Tell the viewers that the run has ended, and disconnect them."""
        for step in (self._announce_end, self._close_viewers):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(step(), _SHUTDOWN)

    async def stop(self) -> None:
        """Send nothing more."""
        self._examples.close()
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def _announce_end(self) -> None:
        """Send the end of the run, and wait for the viewers to disconnect.

        Closing a connection here while data arrives would reset it, and the last message would be lost.
        """
        self._sending.end(_ENDED)
        while self._sockets:
            await asyncio.sleep(0.01)

    async def _close_viewers(self) -> None:
        """Close the connections of viewers that did not disconnect."""
        closing = [socket.close(code=1001, message=b"the run has ended") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _get_state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._state())

    async def _get_snapshot(self, request: web.Request) -> web.StreamResponse:
        self._latest()
        shown, jpeg = await self._sending.snapshot()
        name = re.sub(r"[^\w.-]", "_", shown.frame.name, flags=re.ASCII)
        disposition = {"Content-Disposition": f'attachment; filename="{name}.jpg"'}
        return web.Response(body=jpeg, content_type="image/jpeg", headers=disposition)

    async def get_recording(self, request: web.Request) -> web.StreamResponse:
        """The recording that the request names."""
        # Looked up among those that were made here: a name is never made into a path.
        path = self._recorder.made.get(request.match_info["name"])
        if path is None or not path.is_file():
            return error_reply(404, "there is no such recording")
        response = web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{path.name}"'})
        response.force_close()  # so that its connection counts as busy until everything is sent
        return response

    async def _get_live(self, request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= _MOST_VIEWERS:
            return error_reply(503, f"{_MOST_VIEWERS} viewers are connected, the most there can be; close one")
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, timeout=_SHUTDOWN, max_msg_size=256, compress=False)
        self._sockets.add(socket)
        viewer = Viewer(socket, TILE if request.query.get("tile") else WIDEST)
        try:
            await socket.prepare(request)
            self._limiter.exempt(request)
            self._sending.join(viewer)
            sending = asyncio.ensure_future(viewer.send())
            sending.add_done_callback(lambda done: self._hang_up(request, done))
            try:
                async for message in socket:
                    if message.type != web.WSMsgType.TEXT or message.data != NEXT:
                        break
                    self._sending.drawn(viewer)
            finally:
                sending.cancel()
            await socket.close()
        finally:
            self._sending.leave(viewer)
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
        body, state = await json_body(request), self._interaction.vocabulary.state
        classes = body.get("classes")
        if not isinstance(classes, list) or not all(isinstance(entry, str) for entry in classes):
            raise UsageError('expected {"classes": ["person", "bike|bicycle"]}')
        if "version" in body and (state.pending or body["version"] != state.version):
            raise Superseded("the classes have changed in the meantime; GET /state lists them")
        future = self._interaction.vocabulary.request(classes)
        self._sending.state_changed()
        asked = await result_of(future)
        return web.json_response({"classes": list(asked.labels), "version": asked.version})

    async def _post_settings(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        changes: dict[str, Any] = {
            name: parse_number(body[name], name) for name in ("threshold", "opacity") if name in body
        }
        changes |= {name: parse_flag(body[name], name) for name in ("outlines", "names", "legend") if name in body}
        hidden, colours = body.get("hidden"), body.get("colours")
        if hidden is not None and not (isinstance(hidden, list) and all(isinstance(label, str) for label in hidden)):
            raise UsageError('expected {"hidden": ["sky"]}')
        if colours is not None and not isinstance(colours, dict):
            raise UsageError('expected {"colours": {"person": "#ff8800"}}')
        sensitivity = body.get("sensitivity")
        if "sensitivity" in body and sensitivity not in [choice.value for choice in Sensitivity]:
            raise UsageError('expected {"sensitivity": "low"}, or "normal" or "high"')
        if unknown := body.keys() - {*changes, "hidden", "colours", "sensitivity"}:
            raise UsageError(f"unknown setting {min(unknown)[:40]!r}; GET /state lists the settings")
        chosen = None if colours is None else {label: parse_colour(colour) for label, colour in colours.items()}
        self._interaction.controls.change(**changes, hidden=hidden, colours=chosen)
        if sensitivity is not None:  # in a thread: names may have to be encoded
            change = self._interaction.vocabulary.set_sensitivity
            await asyncio.get_running_loop().run_in_executor(None, change, sensitivity)
        self._sending.state_changed()
        return web.json_response(self._state()["settings"])

    async def _post_region(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        x, y = parse_number(body.get("x"), "x"), parse_number(body.get("y"), "y")
        shown = self._latest()
        if not (0 <= x < 1 and 0 <= y < 1):
            raise UsageError("expected x and y from 0 to 1, shares of the picture's width and height")
        height, width = shown.prediction.labels.shape
        future = self._interaction.inspector.ask(shown.frame.image, shown.prediction, int(x * width), int(y * height))
        return web.json_response(region_message(await result_of(future), width, height))

    async def _post_record(self, request: web.Request) -> web.StreamResponse:
        if parse_flag((await json_body(request)).get("on"), "on"):
            self._recorder.start()
            name = None
        else:
            name = await asyncio.get_running_loop().run_in_executor(None, self._recorder.stop)
        self._sending.state_changed()
        return web.json_response({"recorded": name})

    async def _post_places(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        places, base = parse_places(body), body.get("base")
        if base is not None and not isinstance(base, dict):
            raise UsageError('expected the zones and lines before the change as "base": {"zones": {…}, "lines": {…}}')
        change = self._interaction.set_places  # in a thread: it may write a file
        made_from = None if base is None else parse_places(base)
        saved = await asyncio.get_running_loop().run_in_executor(None, change, places, made_from)
        self._sending.state_changed()
        watch = self._interaction.watch
        assert watch is not None
        return web.json_response({**places_table(watch.places), "saved": saved, "file": watch.message()["file"]})

    # -- helpers -----------------------------------------------------------------------------------------------------

    @property
    def _sending(self) -> Broadcast:
        assert self._broadcast is not None  # requests come once a server runs it
        return self._broadcast

    def _latest(self) -> PublishedFrame:
        if self._sending.latest is None:
            raise SinkError("there is no picture yet; try again in a moment")
        return self._sending.latest

    def _state(self) -> dict[str, Any]:
        return run_state(self._interaction, self._recorder, self._title, self._source)
