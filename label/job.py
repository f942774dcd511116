"""A job on disk: what is to be done, what is done, and by which settings. All of it lies in `.ovs-label/` of the output.

.ovs-label/
  manifest.json            settings, bundle digest, versions; at the end the counts
  inputs.jsonl             a unit of work on each line, in their order
  records/000012-0000.jsonl    the pictures of a shard, complete; the last shard of a video ends in `-end`
  records/000012-0001.part     a journal: pictures of a shard that is not complete yet, in the order they were done

A picture's own files are written before its line in the journal, a shard's file before its records. So whatever is
killed when, what the records name is there, and what they do not name is made again, to the same bytes.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..bundle.errors import UsageError, note
from ..runtime.sinks.staging import cannot_write
from .formats.label_writer import LabelWriter
from .inputs.units import Unit
from .records import PictureRecord
from .settings import LabelManifest, LabelSettings, installed_versions, refuse_other
from .store import LocalStore, RemoteStore, Store

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

FOLDER = ".ovs-label"
_MANIFEST, _INPUTS, _RECORDS = f"{FOLDER}/manifest.json", f"{FOLDER}/inputs.jsonl", f"{FOLDER}/records"
LEFT_OUT = "left_out.txt"
_SHARD = re.compile(r"([0-9]{6,})-([0-9]{4,})(-end)?\.jsonl")


@dataclass(frozen=True)
class UnitState:
    """How far a unit is."""

    shards: int = 0  # complete ones
    ended: bool = False


class LabelJob:
    """The job of an output folder."""

    def __init__(self, store: LocalStore | RemoteStore, manifest: LabelManifest, units: list[Unit]) -> None:
        self.store = store
        self.manifest = manifest
        self.units = units
        self.states = self._read_states()

    @classmethod
    def open(cls, store: LocalStore | RemoteStore) -> LabelJob | None:
        """The job that was begun in `store`; None where there is none.

        Raises `UsageError` for a folder with something else in it.
        """
        text = store.read(_MANIFEST)
        if text is None:
            if isinstance(store, LocalStore) and store.folder.exists():
                foreign = not store.folder.is_dir() or any(name != FOLDER for name in os.listdir(store.folder))
                if foreign:
                    raise UsageError(
                        f"{store.place} exists and was not written by ovs-label; choose another output or move it away"
                    )
            return None
        manifest = LabelManifest.from_json(text, store.place)
        try:
            lines = (store.read(_INPUTS) or b"").decode().splitlines()
            units = [Unit.from_json(line) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{store.place}/{_INPUTS} is damaged ({error}); choose another folder with -o") from error
        return cls(store, manifest, units)

    @classmethod
    def begin(cls, store: LocalStore | RemoteStore, settings: LabelSettings) -> LabelJob:
        """A new job without units."""
        return cls(store, LabelManifest(settings, installed_versions()), [])

    def go_on(self, settings: LabelSettings) -> None:
        """Raise `UsageError` for other settings than it was begun with; other versions are told."""
        refuse_other(self.manifest.settings, settings, self.store.place)
        now = installed_versions()
        changed = [
            f"{name} {old} -> {now[name]}" for name, old in self.manifest.versions.items() if now.get(name, old) != old
        ]
        if changed:
            note(f"{self.store.place} was begun with other versions ({', '.join(changed)}); labels may differ a little")

    def add(self, units: Sequence[Unit]) -> None:
        """Append units. What is on disk afterwards is the whole job, or the job as it was."""
        if units or not self.manifest.complete:
            self.units += units
            self.store.write(_INPUTS, "".join(f"{unit.to_json()}\n" for unit in self.units).encode())
            self.manifest = replace(self.manifest, complete=False, labelled=0, bad=0)
            self.store.write(_MANIFEST, self.manifest.to_json())

    def pending(self) -> Iterator[Unit]:
        """Units that are not complete, in their order."""
        return (unit for unit in self.units if not self.state(unit).ended)

    def done(self) -> int:
        """Pictures that are done, of videos as far as they are known."""
        size = self.manifest.settings.shard_size
        names = set(self.store.names(_RECORDS))
        count = 0
        for unit in self.units:
            state = self.state(unit)
            journal = f"{unit.number:06d}-{state.shards:04d}.part"
            begun = (self.store.read(f"{_RECORDS}/{journal}") or b"").count(b"\n") if journal in names else 0
            count += unit.expected if state.ended else min(unit.expected, state.shards * size + begun)
        return count

    def state(self, unit: Unit) -> UnitState:
        """How far a unit was when the job was opened."""
        return self.states.get(unit.number, UnitState())

    def _read_states(self) -> dict[int, UnitState]:
        states: dict[int, UnitState] = {}
        for number, shard, ended, name in self._shards():
            before = states.get(number, UnitState())
            if shard == before.shards:
                states[number] = UnitState(shard + 1, ended)
                with suppress(OSError):
                    self.store.remove(f"{_RECORDS}/{_journal_name(name)}")
        return states

    def _shards(self) -> Iterator[tuple[int, int, bool, str]]:
        names = self.store.names(_RECORDS)
        found = sorted(
            (int(match[1]), int(match[2]), match[3] is not None, match[0])
            for name in names
            if (match := _SHARD.fullmatch(name)) is not None
        )
        yield from found

    def records(self) -> Iterator[PictureRecord]:
        """All records in the order of the inputs. Raises `UsageError` for one that is damaged."""
        for _, _, _, name in self._shards():
            yield from self._read_shard(name)

    def _read_shard(self, name: str) -> list[PictureRecord]:
        data = self.store.read(f"{_RECORDS}/{name}") or b""
        try:
            return [PictureRecord.from_json(line) for line in data.splitlines()]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.store.place}/{_RECORDS}/{name} is damaged ({error}); remove it and run ovs-label again"
            ) from error

    def labelled(self) -> Iterator[PictureRecord]:
        """Records of the pictures that were labelled."""
        return (record for record in self.records() if record.error is None)

    def finish(self, writer: LabelWriter, left_out: Sequence[str]) -> None:
        """Write the files of the whole job, the list of what was left out, and that it is complete."""
        writer.finish(self.store, self.labelled)
        labelled, reasons = 0, list(left_out)
        for record in self.records():
            labelled += record.error is None
            if record.error is not None:
                reasons.append(record.error)
        if reasons:
            self.store.write(LEFT_OUT, "".join(f"{' '.join(reason.split())}\n" for reason in reasons).encode())
        else:
            self.store.remove(LEFT_OUT)
        self.manifest = replace(self.manifest, complete=True, labelled=labelled, bad=len(reasons))
        self.store.write(_MANIFEST, self.manifest.to_json())
        if isinstance(self.store, LocalStore):
            self.store.remove_partial()

    def locked(self) -> int | None:
        """The open, locked folder, so that two runs never write the same job. Raises `UsageError` where one does."""
        if fcntl is None or not isinstance(self.store, LocalStore):
            return None
        folder = self.store.path(_MANIFEST).parent
        try:
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise UsageError(f"another ovs-label is writing {self.store.place}; wait until it has ended") from error
        self.store.remove_partial()
        return handle


class Shard:
    """A shard in the works: its pictures come in any order, from any thread; it is written when all are there."""

    def __init__(self, store: Store, writer: LabelWriter, unit: int, number: int, ended: Callable[[], None]) -> None:
        """`ended` is called once it is written."""
        self._store = store
        self._writer = writer
        self._name = f"{unit:06d}-{number:04d}"
        self._ended = ended
        self._lock = threading.Lock()
        self._journal = store.path(f"{_RECORDS}/{self._name}.part") if isinstance(store, LocalStore) else None
        self._records = {} if self._journal is None else _read_journal(self._journal)
        self._handle: int | None = None
        self._under_way = 0
        self._last: bool | None = None  # whether it is its unit's last, once its pictures are known

    def begin(self, index: int) -> bool:
        """Whether picture `index` is still to be labelled; then `add` has to follow."""
        with self._lock:
            if index in self._records:
                return False
            self._under_way += 1
            return True

    def add(self, index: int, record: PictureRecord) -> None:
        """Keep the record of a picture whose files are written. Raises `SinkError`."""
        line = record.to_json()
        with self._lock:
            self._append(index, line)
            self._records[index] = record, line
            self._under_way -= 1
            complete = self._last is not None and not self._under_way
        if complete:
            self._write()

    def close(self, *, last: bool) -> None:
        """Say that no more pictures will begin. Raises `SinkError`."""
        with self._lock:
            self._last = last
            complete = not self._under_way
        if complete:
            self._write()

    def abandon(self) -> None:
        """Leave it as the journal has it."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
            self._handle = None

    def _append(self, index: int, line: str) -> None:
        if self._journal is None:
            return
        try:
            if self._handle is None:
                self._handle = os.open(self._journal, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
            rest = memoryview(f"{index} {line}\n".encode())
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            raise cannot_write(self._journal, error) from error

    def _write(self) -> None:
        records = [self._records[index] for index in sorted(self._records)]
        self._writer.write_shard(self._store, self._name, [record for record, _ in records])
        text = "".join(f"{line}\n" for _, line in records)
        self._store.write(f"{_RECORDS}/{self._name}{'-end' if self._last else ''}.jsonl", text.encode())
        self.abandon()
        self._store.remove(f"{_RECORDS}/{self._name}.part")
        self._ended()


def _journal_name(shard: str) -> str:
    return f"{shard.removesuffix('.jsonl').removesuffix('-end')}.part"


def _read_journal(path: Path) -> dict[int, tuple[PictureRecord, str]]:
    """The pictures of a journal with their lines. One that a kill cut short is cut off, so that the next begins a line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise cannot_write(path, error) from error
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    records: dict[int, tuple[PictureRecord, str]] = {}
    for line in whole.splitlines():
        index, _, text = line.partition(b" ")
        with suppress(ValueError, KeyError, TypeError):  # two writers at once, when a lost worker was not dead
            records[int(index)] = PictureRecord.from_json(text), text.decode()
    return records
