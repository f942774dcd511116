"""All cameras of a configuration on one network, and their page; the configuration can be replaced while they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...bundle.errors import OvsError
from ..events.delivery.dispatcher import Cameras, EventDispatcher
from ..sinks.video_files.recorder import Recorder
from ..threads.channel import Ended
from ..viewer.access import Guard, parse_address
from ..viewer.sink import ViewSink
from .allocator import give_back
from .camera import Camera, Turn
from .config import CameraConfig, CamerasConfig, WebConfig
from .metrics import exposition
from .opening import class_digest
from .outputs import Tell, WrittenFiles
from .shared_model import SharedModel
from .turns import Turns

if TYPE_CHECKING:
    from typing_extensions import Self

_PATIENCE = 5.0  # seconds for the threads of the network to end


class CameraService:
    """Runs from `start` to `close`. `failed` is set when the network itself fails."""

    def __init__(self, config: CamerasConfig, tell: Tell) -> None:
        """Loads the network and encodes all classes, so that what is wrong shows now.

        `tell` is told of losses, failures and changes. Raises `OvsError`.
        """
        self._config = config
        self._tell = tell
        self._begun = time.time()
        self._cameras: dict[str, Camera] = {}
        self._turns: Turns[Turn] = Turns()
        self._changing = threading.Lock()
        self._written = WrittenFiles()
        self._failures = 0  # of the network, since it last worked
        self.failed = threading.Event()
        self.error: BaseException | None = None
        self.url: str | None = None  # of the page
        with ExitStack() as undo:
            with self._located("model"):
                self._model = SharedModel(config.model)
            undo.callback(self._model.close)
            with self._located():
                self._events = EventDispatcher(config.delivery, _rules(config))
            undo.callback(self._events.close)
            for name, camera in config.cameras.items():
                self._cameras[name] = self._made(name, camera)
            with self._located("web"):
                self._server = None if config.web is None else self._serve(config.web)
            undo.pop_all()
        # While one frame is in the network another one is prepared; where several are, that happens anyway.
        workers = max(2, self._model.at_once)
        self._workers = [threading.Thread(target=self._work, name="network", daemon=True) for _ in range(workers)]

    @property
    def cameras(self) -> list[Camera]:
        """The cameras in the order of the configuration."""
        return list(self._cameras.values())

    @property
    def at_once(self) -> int:
        """How many frames the network takes at the same time."""
        return self._model.at_once

    def start(self) -> None:
        """Start all cameras; returns at once."""
        for camera in self.cameras:
            self._note_waiting(camera)
            self._show(camera)
            camera.start()
        for worker in self._workers:
            worker.start()

    def reload(self, config: CamerasConfig) -> list[str]:
        """Take over `config`: what it changes, line by line for people. Cameras that it leaves as they are go on.

        A camera whose classes and settings of labels and pictures alone are others goes on, too, with them from its
        next frame on; what was set on its page and is the same in `config` as before stays. Files of classes are read
        again. The model and the page stay as they are. Raises `OvsError` for what is impossible; then nothing has
        changed.
        """
        with self._changing:
            before = self._config
            config = replace(config, model=before.model, web=before.web, path=before.path)
            changed = {name: camera for name, camera in config.cameras.items() if camera != before.cameras.get(name)}
            live = [name for name in changed if _goes_on(before.cameras.get(name), changed[name])]
            reads = [name for name in config.cameras if name not in changed and config.cameras[name].class_files]
            digests = {name: self._cameras[name].class_digest for name in reads}
            with ExitStack() as undo:
                fresh = {}
                for name in [name for name in changed if name not in live]:
                    fresh[name] = self._made(name, changed[name])
                    undo.callback(fresh[name].stop)
                for name in (*live, *reads):
                    with self._located(f"cameras.{name}"):
                        undo.callback(self._cameras[name].change(config.cameras[name]))
                with self._located():
                    moved = self._events.change(config.delivery, _rules(config))
                undo.pop_all()
            gone = [name for name in before.cameras if name not in config.cameras or name in fresh]
            self._remove({name: fresh.get(name) for name in gone})
            for name in fresh.keys() - before.cameras.keys():
                self._begin(fresh[name])
            self._cameras = {name: self._cameras[name] for name in config.cameras}
            self._config = config
        if before.cameras.keys() - config.cameras.keys() or fresh:
            give_back()
        said = [f"{name}: removed" for name in before.cameras if name not in config.cameras]
        for name in changed:
            what = "changed" if name in live else "opened again" if name in before.cameras else "added"
            said.append(f"{name}: {what}")
            self._note_waiting(self._cameras[name])
        for name in (name for name in reads if self._cameras[name].class_digest != digests[name]):
            files = ", ".join(path.name for path in config.cameras[name].class_files)
            said.append(f"{name}: the classes in {files} have changed")
        return [*said, *(["events: their ways have changed"] if moved else [])]

    def overview(self) -> list[dict[str, Any]]:
        """What the grid shows of each camera."""
        entries = []
        for camera in self.cameras:
            state, reason = camera.state
            entries.append(
                {
                    "name": camera.name,
                    "state": state.value,
                    "reason": reason,
                    "fps": camera.counts.fps,
                    "age_ms": camera.counts.age_ms,
                    "model_ms": camera.counts.model_ms,
                    "frames": camera.counts.frames,
                    "dropped": camera.dropped,
                    "events": camera.counts.events,
                    "classes": list(camera.segmenter.active.labels),
                }
            )
        return entries

    def close(self) -> None:
        """Stop all cameras, complete their outputs, free the network; may be called more than once."""
        with self._changing:
            self._remove(dict.fromkeys(self._cameras))
            if self._server is not None:
                self._server.close()
            self._turns.end()
            for worker in self._workers:
                if worker.ident is not None:
                    worker.join(_PATIENCE)
            self._events.close()
            self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- parts -------------------------------------------------------------------------------------------------------

    def _made(self, name: str, config: CameraConfig) -> Camera:
        with self._located(f"cameras.{name}"):
            digest = class_digest(config)  # before they are read: what changes meanwhile is found out later
            segmenter = self._model.segmenter(config)
            camera = Camera(name, config, segmenter, self._turns, self._events, self._tell, digest, self._written)
            try:
                # Told now, not whenever the camera is there.
                before = self._cameras.get(name)
                allow = "--overwrite" if self._config.path is None else "overwrite = true"
                camera.outputs.check(None if before is None else before.outputs, allow)
            except BaseException:
                camera.stop()
                raise
            return camera

    @contextmanager
    def _located(self, table: str = "") -> Iterator[None]:
        """What is wrong is told with the file, and the `table` in it, that it comes from; else with the camera."""
        try:
            yield
        except OvsError as error:
            path, (kind, _, camera) = self._config.path, table.partition(".")
            if path is not None:
                place = f"{path}: [{table}] " if table else f"{path}: "
            else:
                place = f"camera {camera}: " if kind == "cameras" else ""
            raise type(error)(f"{place}{error}") from error

    def _serve(self, config: WebConfig) -> Any:
        from ..viewer.server import Overview, WebServer

        address = parse_address(config.address)
        guard = Guard(address, config.token)
        overview = Overview(self.overview, lambda: exposition(self.cameras, self._events.states, self._begun))
        option = "--web {}" if self._config.path is None else 'address = "{}"'
        server = WebServer(address, guard, overview, option)
        self.url = address.url(server.port, guard.token)
        return server

    def _show(self, camera: Camera) -> None:
        """Give `camera` its page."""
        web = self._config.web
        if self._server is None or web is None:
            return
        from ..viewer.view import View

        recorder = Recorder(web.recordings / camera.name)
        view = View(camera.interaction, recorder, camera.name)
        self._server.add(view, camera.name)
        camera.outputs.add(ViewSink(view, recorder, web.recordings / camera.name))

    def _note_waiting(self, camera: Camera) -> None:
        for line in camera.waiting_rules:
            self._tell(f"{camera.name}: {line}")

    def _remove(self, successors: Mapping[str, Camera | None]) -> None:
        """Stop cameras, all at the same time: each may hang. What takes a camera's place begins as soon as it has ended."""

        def stop(name: str, successor: Camera | None) -> None:
            if self._server is not None:
                self._server.remove(name)
            self._cameras[name].stop(successor)
            if successor is not None:
                self._begin(successor)

        stopping = [threading.Thread(target=stop, args=of) for of in successors.items()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def _begin(self, camera: Camera) -> None:
        self._cameras[camera.name] = camera
        self._show(camera)
        camera.start()

    # -- the threads of the network ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                slot, (camera, frame) = self._turns.take()
            except Ended:
                return
            try:
                camera.infer(frame)
            except Exception as error:  # noqa: BLE001 - a frame that fails ends its camera; the network itself, all
                camera.fail(error)
                self._failures += 1
                if self._failures > 2 * len(self._cameras) + 2:
                    self.error = error
                    self.failed.set()
            else:
                self._failures = 0
            finally:
                slot.done()


def _rules(config: CamerasConfig) -> Cameras:
    return {name: camera.watch.rules for name, camera in config.cameras.items()}


def _goes_on(before: CameraConfig | None, after: CameraConfig) -> bool:
    """Whether a running camera can take over `after`."""
    return before is not None and (before.kept, before.watches) == (after.kept, after.watches)
