"""A job's memory: which passes there were, what they recorded, which uploads are open; and the lock.

Layout below the state location, ``jobs/<id>/``::

    job.json                     what the job is, for people and for `portabl status`
    journal.sqlite3              passes, shards, uploads (see `Journal`)
    passes/0001/000000.log       records of one shard, appended as they come; .seg once the shard is complete
    manifests/0001/              the published manifest of a pass

A pass that was interrupted is never continued in place. The next run lists both sides again and takes every record
of the interrupted pass as knowledge, exactly as it takes the last manifest: an object is skipped only when source and
target still show what its record says. So resuming and delta passes are one mechanism.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portabl import joblock, worklog
from portabl.errors import JobLocked, ManifestError, PortablError, StateFull, UsageError
from portabl.folder import Folder
from portabl.journal import Journal
from portabl.plan import Line
from portabl.records import sort_key
from portabl.remote_state import RemoteState

if TYPE_CHECKING:
    from portabl.files import Files
    from portabl.fleet import Done, Held
    from portabl.manifest import Manifest


_Ranked = tuple[tuple[bytes, int], int, Line]
"""Key and ordinal, how old the pass is, and the line."""

UNFINISHED_MAX = 4
COMPACT_LINES = 5_000


def default_root() -> Path:
    """The user's state directory for portabl (`XDG_STATE_HOME`, else the platform's habit)."""
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "portabl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "portabl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "portabl"
    return Path.home() / ".local" / "state" / "portabl"


def job_id(identity: Mapping[str, object]) -> str:
    """16 hex digits from what makes a job the same job: source, target, filters, options."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as `portabl status` shows it. Times are UTC, RFC 3339; ``manifest`` is a path, "" when there is none."""

    id: str
    source: str
    target: str
    state: str
    started: str
    finished: str
    objects: int
    bytes: int
    manifest: str


class Job:
    """One job's directory, locked for this process. Context manager; leaving it releases the lock.

    ``remote``: where the state really lives, when that is not ``root`` itself.
    """

    def __init__(self, root: Path, identity: Mapping[str, object], remote: Files | None = None) -> None:
        self.id = job_id(identity)
        self.root = root / "jobs" / self.id
        self._dissolved = False
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._unlock = _locked(self.root / "lock", self.id)
            try:
                self._remote = RemoteState(remote, self.id, self.root) if remote else None
                if self._remote:
                    self._remote.fetch()
                self._describe(identity)
                self.journal = Journal(self.root / "journal.sqlite3")
            except BaseException:
                self._unlock()
                raise

    def _describe(self, identity: Mapping[str, object]) -> None:
        text = json.dumps({"id": self.id, **identity}, indent=1, sort_keys=True, ensure_ascii=False)
        temporary = self.root / "job.json.tmp"
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(self.root / "job.json")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """A directory for spilled listings and oversized parts, emptied before and after."""
        path = self.root / "scratch"
        with disk_errors(path):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        try:
            yield str(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def begin(self) -> Pass:
        """Start a pass of its own; records of unfinished ones stay readable through `known`."""
        number = self.journal.begin_pass(above=max(self._manifests(), default=0))
        path = self.root / "passes" / f"{number:04d}"
        with disk_errors(path):
            if path.exists():  # a crash between the directory and the journal's commit
                shutil.rmtree(path)
            path.mkdir(parents=True)
        return Pass(number, path)

    def _manifests(self) -> dict[int, Path]:
        """Directories of manifests by pass, those a journal that was lost knew of included."""
        found = (self.root / "manifests").glob("[0-9]*")
        return {int(path.name): path for path in found if path.name.isdigit()}

    def manifest_path(self, number: int) -> Path:
        """Where the manifest of a pass is written."""
        return self.root / "manifests" / f"{number:04d}"

    def tidy(self) -> None:
        """Remove what interrupted runs left half-written; a finished manifest is evidence and always stays."""
        with disk_errors(self.root):
            published = self.journal.published()
            for number, path in self._manifests().items():
                if number not in published and not (path / "manifest.json").exists():
                    shutil.rmtree(path)

    def known(self, before: int) -> Iterator[Line]:
        """What earlier passes recorded, newest first per key, sorted: every unfinished pass over the last manifest."""
        published, unfinished = self.journal.history(before)
        streams = self._streams(unfinished)
        if published is not None:
            streams.append(self._tagged(len(unfinished), self._published(published)))
        return self._newest(streams)

    def compact(self) -> None:
        """Merge the records of unfinished passes once there are many, so that reading them stays cheap.

        A crash on the way leaves records twice, which does no harm: the newest of a key counts.
        """
        _, unfinished = self.journal.history(sys.maxsize)
        if len(unfinished) <= UNFINISHED_MAX:
            return
        run = self.begin()
        with disk_errors(run.path):
            merged = self._newest(self._streams(unfinished))
            for number in itertools.count():
                lines = list(itertools.islice(merged, COMPACT_LINES))
                if not lines:
                    break
                write_synced(run.path / f"{number:06d}.seg", b"".join(worklog.sealed(raw) for raw, _ in lines))
            self.journal.merge_passes(run.number, unfinished)
            for number in unfinished:
                shutil.rmtree(self.root / "passes" / f"{number:04d}", ignore_errors=True)

    def _streams(self, passes: Sequence[int]) -> list[Iterator[_Ranked]]:
        return [self._tagged(rank, _pass_lines(self.root, number)) for rank, number in enumerate(passes)]

    @staticmethod
    def _newest(streams: Iterable[Iterator[_Ranked]]) -> Iterator[Line]:
        last: tuple[bytes, int] | None = None
        for key, _, line in heapq.merge(*streams, key=lambda item: (item[0], item[1])):
            if key != last:
                last = key
                yield line

    @staticmethod
    def _tagged(rank: int, lines: Iterator[Line]) -> Iterator[_Ranked]:
        return ((sort_key(line[1]), rank, line) for line in lines)

    def _published(self, number: int) -> Iterator[Line]:
        from portabl import manifest
        from portabl.files import Files

        path = self.manifest_path(number)
        if not path.exists():  # moved away, as the hint below says
            return
        try:
            last = manifest.load(Files.at(str(path)))
            if last.own:
                yield from last.own_records()
                return
            last.check_segments()  # before the first record is believed: what is kept is not looked at again
            yield from last.records()
        except ManifestError as damaged:
            # Knowledge only saves work; damaged knowledge is dropped loudly instead of believed.
            raise ManifestError(
                f"the last manifest of this job cannot be trusted: {damaged.message}",
                hint=f"move {path} away; the next run then proves everything anew",
            ) from damaged

    def settled(self) -> Manifest | None:
        """The last manifest, when all that is known stands there and this release wrote it; its segments are unproven.

        None otherwise, also when it is damaged: `known` tells what to do then.
        """
        from portabl import manifest
        from portabl.files import Files

        published, unfinished = self.journal.history(sys.maxsize)
        if published is None or unfinished or not (path := self.manifest_path(published)).exists():
            return None
        try:
            last = manifest.load(Files.at(str(path)))
        except ManifestError:
            return None
        return last if last.own else None

    def forget(self, published: int) -> None:
        """After a manifest is published the working records up to it are no longer needed."""
        for path in sorted((self.root / "passes").iterdir()):
            if path.name.isdigit() and int(path.name) <= published:
                shutil.rmtree(path)

    def __enter__(self) -> Job:
        return self

    @property
    def remote(self) -> bool:
        """Whether the state lives elsewhere and this directory is only where it is worked on."""
        return self._remote is not None

    @property
    def folder(self) -> Folder:
        """Where the state lives, for workers on other machines to write into."""
        return self._remote.folder if self._remote else Folder.at(self.root)

    def begun(self, run: Pass) -> Folder:
        """Where in a remote state workers write. The pass is known there before they do: no other takes its number."""
        if self._remote:
            self._remote.push(self.journal, running=True, force=True)
        return self.folder.below(f"passes/{run.number:04d}").below(worklog.BEGUN)

    def shard_done(self, run: Pass, done: Done) -> None:
        """A worker has written a segment: have it here, and note it. Raises StorageError unless it is there, whole."""
        held = getattr(done, "held", None)  # a worker of an earlier release says nothing of it
        if held:
            self._take(run, done.number, held)
        self.journal.add_shard(run.number, done.number, done.first, done.last, done.objects)
        self.shard_closed()

    def _take(self, run: Pass, number: int, held: Held) -> None:
        assert self._remote is not None, "only workers of a remote state send segments there"
        name = f"{run.number:04d}"
        data = self._remote.segment(name, held.name, held.size, held.sha256)
        path = run.path / f"{number:06d}.seg"
        with disk_errors(path):
            write_synced(path.with_suffix(".tmp"), data)
            path.with_suffix(".tmp").replace(path)
        self._remote.holds(name, number, held.size)

    def dissolve(self) -> None:
        """Remove this state on leaving: the run is finished, and its manifest is kept elsewhere. Remote state stays."""
        self._dissolved = self._remote is None

    def shard_closed(self) -> None:
        """A shard's records are safe here; keep a remote state near."""
        if self._remote:
            self._remote.push(self.journal, running=True)

    def __exit__(self, *_: object) -> None:
        try:
            if self._remote:
                self._remote.push(self.journal, running=False, force=True)
        finally:
            self.journal.close()
            if self._dissolved:
                shutil.rmtree(self.root, ignore_errors=True)  # the lock file too, while the lock is held
            self._unlock()


@dataclass(frozen=True, slots=True)
class Pass:
    """One run over the source: its number, where its records are written, and how many there must be in the end."""

    number: int
    path: Path
    objects: int = 0

    def lines(self, *, own: bool = False) -> Iterator[Line]:
        """Every record of this pass, sorted by key. Raises ManifestError when one is missing or damaged. ``own``: as in
        `worklog.complete_lines`.
        """
        return worklog.complete_lines(self.path, self.objects, own=own)


def _pass_lines(root: Path, number: int) -> Iterator[Line]:
    path = root / "passes" / f"{number:04d}"
    return worklog.lines(path) if path.is_dir() else iter(())


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whose bytes are on the disk afterwards."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _locked(path: Path, job: str) -> Callable[[], None]:
    release = joblock.lock(path)
    if release is None:
        raise JobLocked(
            f"another run of this job ({job}) is going on",
            hint="wait for it to end, or see `portabl status`",
        )
    return release


class disk_errors:  # noqa: N801 - reads as a statement
    """Translate what a disk says about a state path into an error a person can act on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, PortablError):
            raise state_error(error, self._path) from error


def state_error(error: OSError, path: Path) -> PortablError:
    """The portabl error for an OSError at a state path: StateFull for no space, else UsageError."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StateFull(f"no space left for the state in {path}", hint="free space and run the same command again")
    return UsageError(
        f"cannot use the state directory {path}: {error.strerror or error}",
        hint="name another one with `--state`",
    )


def jobs(root: Path) -> list[JobStatus]:
    """Every job known below a state root, newest first."""
    found = [status for path in sorted((root / "jobs").glob("*/job.json")) if (status := _status(path.parent))]
    return sorted(found, key=lambda job: job.started, reverse=True)


def _status(path: Path) -> JobStatus | None:
    try:
        about = json.loads((path / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    row = Journal.peek(path / "journal.sqlite3")
    return JobStatus(
        id=path.name,
        source=str(about.get("source", "")),
        target=str(about.get("target", "")),
        state=row.state,
        started=row.started,
        finished=row.finished,
        objects=row.objects,
        bytes=row.bytes,
        manifest=row.manifest,
    )
