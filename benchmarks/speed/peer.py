"""Other models in the same table: any ONNX file, or any program that answers line by line."""

from __future__ import annotations

import json
import os
import selectors
import shlex
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SourceError, UsageError
from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.inference.preprocess import to_input
from ...runtime.opencv import cv2
from .runners import STAGES, Picture, Subject

_START = 300.0  # seconds for the first answer of a program, which may have to load torch
_ANSWER = 60.0  # seconds for each later answer
_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}  # fmt: skip


class OnnxPeer:
    """An exported model, fed by the shapes and types of its inputs.

    The frame goes into the first input of four axes with three channels: resized, RGB, floats in 0..1. Other inputs are
    random, dynamic axes are 1. Its postprocessing is unknown, so its time includes no postprocessing, drawing or JPEG
    encoding: its total is a lower bound.
    """

    bundle_digest: str | None = None

    def __init__(
        self, path: Path, threads: int, size: tuple[int, int], provider: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        """`size` (height, width) is used if the file's picture axes are dynamic.

        Copies to and from a GPU are part of the network's time. Raises `UsageError`.
        """
        if not path.is_file():
            raise UsageError(f"no such file: {path}; --peer takes an exported model.onnx")
        self._session = open_graph(path, threads, provider)
        rng = np.random.default_rng(0)
        self._feeds: dict[str, npt.NDArray[Any]] = {}
        self._picture: str | None = None
        for spec in self._session.get_inputs():
            if spec.type not in _TYPES:
                raise UsageError(
                    f"{path}: input {spec.name} is {spec.type}, which cannot be filled; give another model"
                )
            shape = [axis if isinstance(axis, int) and axis > 0 else None for axis in spec.shape]
            if self._picture is None and len(shape) == 4 and 3 in (shape[1], shape[3]):
                self._picture, self._first = spec.name, shape[1] == 3
                sides = shape[2:] if self._first else shape[1:3]
                self._size = (sides[0] or size[0], sides[1] or size[1])
                self._dtype = _TYPES[spec.type]
                continue
            self._feeds[spec.name] = _filled([axis or 1 for axis in shape], _TYPES[spec.type], rng)
        used = self._size if self._picture is not None else None
        self.subject = Subject(path.name, f"peer-{provider}", input_size=used, threads=threads)

    def frame(self, picture: Picture) -> dict[str, float]:
        """See `FrameRunner.frame`."""
        marks = [time.perf_counter()]
        image = cv2.imdecode(picture.jpeg, cv2.IMREAD_COLOR)
        marks.append(time.perf_counter())
        if self._picture is not None:
            tensor = to_input(image, self._size)[0]
            self._feeds[self._picture] = self._converted(tensor)
        marks.append(time.perf_counter())
        busy = time.process_time()
        self._session.run(None, self._feeds)
        busy = time.process_time() - busy
        marks.append(time.perf_counter())
        steps = zip(("decode", "preprocess", "infer"), marks, marks[1:], strict=False)
        times = {name: (end - start) * 1e3 for name, start, end in steps}
        return {**times, "cpu": busy * 1e3, "total": (marks[-1] - marks[0]) * 1e3}

    def _converted(self, tensor: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """(1, H, W, 3) BGR converted to the layout and type of the input."""
        rgb = tensor[..., ::-1]
        if self._first:
            rgb = rgb.transpose(0, 3, 1, 2)
        if np.issubdtype(self._dtype, np.floating):
            scaled: npt.NDArray[Any] = np.ascontiguousarray(rgb, np.float32)
            scaled *= np.float32(1 / 255)
            return scaled.astype(self._dtype, copy=False)
        return np.ascontiguousarray(rgb).astype(self._dtype, copy=False)


def _filled(shape: list[int], dtype: Any, rng: np.random.Generator) -> npt.NDArray[Any]:
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape, np.float32).astype(dtype)
    return np.ones(shape, dtype)  # an index, a length or a mask: 1 is valid for all of them


class CommandPeer:
    """A program that processes frames: it reads the path of a JPEG file from a line and answers with a line.

    The time between the two is its total. The answer may be a JSON object of milliseconds by stage.
    """

    bundle_digest: str | None = None

    def __init__(self, command: str) -> None:
        words = shlex.split(command)
        if not words:
            raise UsageError('--peer-command is empty; expected a program such as "python peer.py model.onnx"')
        # Without folders: they belong to this machine only.
        self.subject = Subject(" ".join(Path(word).name for word in words), "peer")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
            )
        except OSError as error:
            self._errors.close()
            raise UsageError(f"cannot start {words[0]!r} ({error.strerror}); check --peer-command") from error
        self._rest = b""
        self._timeout = _START

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    def frame(self, picture: Picture) -> dict[str, float]:
        """See `FrameRunner.frame`."""
        assert self._process.stdin is not None
        start = time.perf_counter()
        try:
            self._process.stdin.write(f"{picture.path}\n".encode())
        except OSError:
            raise self._ended() from None
        line = self._answer()
        total = (time.perf_counter() - start) * 1e3
        self._timeout = _ANSWER
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        stages = told if isinstance(told, dict) else {}
        return {**{name: float(stages[name]) for name in STAGES if name in stages}, "total": total}

    def close(self) -> None:
        """Close the program's input, and kill it if it does not end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise SourceError(
                        f"{self.subject.model} gave no answer within {self._timeout:g} s; it must read a path from "
                        "each line and answer each with a line"
                    )
                data = os.read(self._process.stdout.fileno(), 1 << 16)
                if not data:
                    raise self._ended()
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> SourceError:
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no error message"]
        return SourceError(f"{self.subject.model} ended with {code} while it was measured: {last[0]}")
