"""State kept at any fsspec location: a job's directory is worked on locally and carried over as it grows.

The journal and the open shard need a real disk, so a job whose state is remote works in a local directory and sends
every finished shard, manifest and a snapshot of the journal to the remote one; `stamp.json` is written last and says
which generation is complete. A run on another machine fetches the newest generation first and loses at most the shard
that was open. The local lock protects one machine; between machines the stamp does, as well as a store without locks
can: a run whose sign of life is younger than `ALIVE_SECONDS` keeps others out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portabl.errors import JobLocked, NotFound, StorageError
from portabl.files import Files
from portabl.folder import Folder, state_trouble
from portabl.journal import Journal
from portabl.worklog import BEGUN, TICKET

STAMP = "stamp.json"
JOURNAL = "journal.sqlite3"
ALIVE_SECONDS = 600
PUSH_SECONDS = 30
_KEPT = ("passes/", "manifests/")
_BEGUN = re.compile(rf"(?P<run>passes/\d+)/{BEGUN}/(?:(?P<number>\d+)/(?P<attempt>[^/]+)\.(?P<end>seg|log)|.*)")
"""What workers write here themselves: see `portabl.desk`."""


class RemoteState:
    """One job's state at a remote location; ``local`` is the directory where the job really works."""

    def __init__(self, files: Files, job: str, local: Path) -> None:
        self._files = files
        self._prefix = f"jobs/{job}/"
        self._local = local
        self._sent: dict[str, int] = {}
        self._generation = 0
        self._pushed = 0.0

    def fetch(self) -> None:
        """Bring the local directory up to the remote generation. Raises JobLocked while another machine is at work."""
        stamp = self._stamp(self._files) or {}
        mine = stamp.get("host") == _host()
        if not mine and stamp.get("running") and time.time() - _number(stamp, "time") < ALIVE_SECONDS:
            raise JobLocked(
                f"a run on {stamp.get('host')} is going on",
                hint=f"wait for it; a run that gave no sign of life for {ALIVE_SECONDS} seconds no longer counts",
            )
        self._generation = int(_number(stamp, "generation"))
        if self._local_generation() < self._generation and not self._is_mine(stamp):
            self._replace_local()
        self._mark(running=True)  # the local copy counts from here on: what is added to it must survive a crash
        self._take_up()

    def _replace_local(self) -> None:
        (self._local / STAMP).unlink(missing_ok=True)
        for name in _KEPT:
            shutil.rmtree(self._local / name, ignore_errors=True)
        for file in (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
            (self._local / file).unlink(missing_ok=True)
        for name in self._files.names(self._prefix):
            relative = name[len(self._prefix) :]
            if relative.startswith((*_KEPT, "job.json", JOURNAL)) and not _BEGUN.fullmatch(relative):
                self._fetch(name, self._local / relative)

    def _take_up(self) -> None:
        """What workers of earlier runs have recorded here: knowledge. One whole segment of a shard is enough of it."""
        names = [name[len(self._prefix) :] for name in self._files.names(self._prefix + "passes/")]
        for name in names:
            if name.endswith(f"/{BEGUN}/{TICKET}"):  # workers of a run that was killed: they shall write no more
                self._files.delete(self._prefix + name)
        found = [begun for name in names if (begun := _BEGUN.fullmatch(name)) and begun["number"]]
        for begun in sorted(found, key=lambda one: (one["end"] == "log", one[0])):
            whole = self._local / begun["run"] / f"{begun['number']}.seg"
            piece = whole.parent / BEGUN / f"{begun['number']}.{begun['attempt']}.log"
            if not whole.exists():
                self._fetch(self._prefix + begun[0], whole if begun["end"] == "seg" else piece)

    def _fetch(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with state_trouble(), self._files.open(name) as remote, temporary.open("wb") as local:
            shutil.copyfileobj(remote, local, 1 << 20)
        temporary.replace(path)

    @property
    def folder(self) -> Folder:
        """The job there."""
        return Folder(self._files, self._prefix)

    def segment(self, run: str, name: str, size: int, sha256: str) -> bytes:
        """What a worker has sent as a segment of pass ``run``. Raises StorageError where it is not that, or gone."""
        where = f"{self._prefix}passes/{run}/{BEGUN}/{name}"
        with state_trouble():
            data = self._files.read(where)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise StorageError(
                f"{where} is not what a worker sent: {len(data)} bytes instead of {size}, or others",
                storage=self._files.url,
                hint="look at that store, then run the same command again",
            )
        return data

    def holds(self, run: str, number: int, size: int) -> None:
        """A segment of pass ``run`` needs no sending: it came from here."""
        self._sent[f"passes/{run}/{number:06d}.seg"] = size

    def push(self, journal: Journal, *, running: bool, force: bool = False) -> None:
        """Send what is new: closed shards and manifests, then the journal, then the stamp."""
        if not force and time.monotonic() - self._pushed < PUSH_SECONDS:
            return
        self._pushed = time.monotonic()
        present = self._finished_files()
        for relative, path in present.items():
            if self._sent.get(relative) != path.stat().st_size:
                self._send(relative, path)
                self._sent[relative] = path.stat().st_size
        snapshot = self._local / "journal.snapshot"
        snapshot.unlink(missing_ok=True)
        journal.snapshot(snapshot)
        self._send(JOURNAL, snapshot)
        snapshot.unlink()
        self._generation += 1
        self._mark(running=running)
        self._remove_gone(present)

    def _mark(self, *, running: bool) -> None:
        """Say at both ends which generation this is, and that somebody is at work."""
        stamp = {"generation": self._generation, "host": _host(), "running": running, "time": time.time()}
        stamp["by"] = by = uuid.uuid4().hex
        self._mark_here({"generation": self._local_generation(), "next": by})  # killed in between, we know our own
        self._files.write(self._prefix + STAMP, json.dumps(stamp).encode())
        self._mark_here(stamp)

    def _mark_here(self, stamp: Mapping[str, object]) -> None:
        temporary = self._local / f"{STAMP}.tmp"
        temporary.write_bytes(json.dumps(stamp).encode())
        temporary.replace(self._local / STAMP)

    def _is_mine(self, stamp: Mapping[str, object]) -> bool:
        """Whether this very directory was about to note that stamp here too."""
        try:
            here = json.loads((self._local / STAMP).read_bytes())
            return "by" in stamp and here.get("next") == stamp["by"]
        except (OSError, ValueError, AttributeError):
            return False

    def _finished_files(self) -> dict[str, Path]:
        found = {}
        for top in _KEPT:
            for path in sorted((self._local / top).rglob("*")):
                name = path.relative_to(self._local).as_posix()
                if path.suffix not in (".log", ".tmp") and not _BEGUN.fullmatch(name) and path.is_file():
                    found[name] = path
        return found | {"job.json": self._local / "job.json"}

    def _remove_gone(self, present: dict[str, Path]) -> None:
        """Working records that the job no longer needs; manifests stay."""
        for name in self._files.names(self._prefix + "passes/"):
            relative = name[len(self._prefix) :]
            begun = _BEGUN.fullmatch(relative)
            if not (begun and (self._local / begun["run"]).is_dir()) and relative not in present:
                self._files.delete(name)

    def _send(self, relative: str, path: Path) -> None:
        with path.open("rb") as local, self._files.writer(self._prefix + relative) as remote:
            shutil.copyfileobj(local, remote, 1 << 20)

    def _stamp(self, files: Files) -> dict[str, Any] | None:
        try:
            stamp = json.loads(files.read(self._prefix + STAMP))
        except NotFound:
            return None
        except (ValueError, RecursionError):
            stamp = None
        if isinstance(stamp, dict):
            return stamp
        raise StorageError(
            f"{STAMP} of the job is damaged", storage=files.url, hint="name another state with `--state`"
        )

    def _local_generation(self) -> int:
        try:
            stamp = json.loads((self._local / STAMP).read_bytes())
            return int(_number(stamp, "generation"))
        except (OSError, ValueError, AttributeError):
            return -1


def _number(stamp: Mapping[str, Any], name: str) -> float:
    value = stamp.get(name)
    return value if isinstance(value, int | float) else 0


def _host() -> str:
    import socket

    return f"{socket.gethostname()}:{os.getuid() if hasattr(os, 'getuid') else ''}"
