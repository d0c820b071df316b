"""Writing a package as one archive: objects of a source in order, their records, and what describes them at the end."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO, cast

from portabl import checksum, policy, records
from portabl.archive import Archive, kind_of, opened, top_of
from portabl.budget import Budget
from portabl.errors import Changed, Corrupt, Interrupted, StorageError
from portabl.files import Files
from portabl.guise import Guise
from portabl.journal import utc_now
from portabl.manifest import TOOL, Manifest, ManifestWriter
from portabl.model import Content, Entry, Proof, Record, Seen, Written
from portabl.package_format import MANIFEST, Document, finish
from portabl.package_format import NAME as PACKAGE
from portabl.package_names import Names
from portabl.package_writing import Describer
from portabl.payload import Watched
from portabl.policy import Decision
from portabl.progress import Progress
from portabl.report import Report
from portabl.storage import Storage
from portabl.tally import Losses, Tally
from portabl.transfer import lost, record

PIECE = 8 * 2**20
PIECES_AHEAD = 64
ATTEMPTS = 3


# --- reading a source in order ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of one object under way: its first piece comes with its metadata."""

    entry: Entry
    start: int
    length: int
    content: Future[Content] | None


class Pump:
    """Objects of a source one after the other, their bytes read ahead by many threads within the budget."""

    def __init__(self, source: Storage, threads: int) -> None:
        self._source = source
        self._budget = Budget()
        self._most = max(2, min(threads, PIECES_AHEAD))
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="portabl-read")
        self._ahead: deque[_Piece] = deque()
        self._cuts = self._cut()

    def __enter__(self) -> Pump:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _cut(self) -> Iterator[tuple[Entry, int, int]]:
        for entry in self._source.entries():
            for start in range(0, max(entry.size, 1), PIECE):
                yield entry, start, min(PIECE, entry.size - start)

    def pieces(self) -> Iterator[_Piece]:
        """Every piece in order; its bytes are counted against the budget until the next one is asked for."""
        waiting = next(self._cuts, None)
        while waiting is not None or self._ahead:
            while waiting is not None and len(self._ahead) < self._most:
                if not self._budget.take(waiting[2], wait=not self._ahead):
                    break
                self._ahead.append(self._begun(*waiting))
                waiting = next(self._cuts, None)
            piece = self._ahead.popleft()
            yield piece
            self._budget.give(piece.length)

    def _begun(self, entry: Entry, start: int, length: int) -> _Piece:
        if entry.problem:
            return _Piece(entry, start, length, None)
        whole = start == 0 and length == entry.size
        wanted = None if whole else length
        return _Piece(entry, start, length, self._pool.submit(self._source.read, entry, start, wanted))


# --- the payload ------------------------------------------------------------------------------------------------------


class PayloadWriter:
    """Writes every object of a source into an archive, and its record into a manifest."""

    def __init__(
        self,
        source: Storage,
        archive: Archive,
        top: str,
        guise: Guise | None,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._archive = archive
        self._top = top
        self._tell = guise.tell if guise else lambda record: record
        self._progress = progress
        self._stop = stop
        self.tally = Tally()
        self.losses = Losses()

    def write(self, names: Names, manifest: ManifestWriter, threads: int) -> None:
        """Everything, in order. Raises Interrupted, and StorageError when an object breaks off that has begun."""
        with Pump(self._source, threads) as pump:
            pieces = pump.pieces()
            for piece in pieces:
                if self._stop.is_set():
                    raise Interrupted("stopped; an archive cannot be continued, the same command begins it anew")
                made = self._tell(self._object(names.of(piece.entry.key).decode("utf-8"), piece, pieces))
                self.losses.add(made)
                manifest.add(records.encode(made), made)
                self._progress.advance(1, made.size)

    def _object(self, name: str, first: _Piece, pieces: Iterator[_Piece]) -> Record:
        entry = first.entry
        if first.content is None:
            return lost(entry, entry.problem)
        try:
            if first.length == entry.size:
                return self._small(name, entry, first.content)
            return self._large(name, first, pieces)
        except StorageError as error:
            if not error.passable:
                raise
            if first.length != entry.size:
                hint = "run the same command again, or export to a directory, which can be continued"
                raise StorageError(
                    f"an object broke off in the archive: {error.message}",
                    key=entry.key,
                    storage=error.storage,
                    hint=hint,
                ) from error
            return lost(entry, error.message)

    def _small(self, name: str, entry: Entry, coming: Future[Content]) -> Record:
        content, entry = self._whole(entry, coming)
        body = checksum.body(content.data, md5=True)
        digests = {"sha256": body.sha256, "md5": body.md5}
        checksum.confirm(content.info.digests, digests, entry.key, self._source.name)
        self._archive.begin(f"{self._top}/data/{name}", len(content.data))
        self._archive.write(content.data)
        return self._ended(entry, content, body.sha256)

    def _whole(self, entry: Entry, coming: Future[Content]) -> tuple[Content, Entry]:
        """The object as it is now, when it changed under the reading."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                content = coming.result() if attempt == 1 else self._source.read(entry)
                if len(content.data) != entry.size:
                    raise Changed(f"listed with {entry.size} bytes, read {len(content.data)}", key=entry.key)
                return content, entry
            except Changed:
                if attempt == ATTEMPTS:
                    raise
                now = self._source.look(entry)
                if now.size > 2 * PIECE:
                    raise
                entry = replace(entry, size=now.size, etag=now.etag, version=now.version, modified=now.modified)
        raise AssertionError("unreachable")

    def _large(self, name: str, first: _Piece, pieces: Iterator[_Piece]) -> Record:
        entry, piece = first.entry, first
        assert first.content is not None
        try:
            head = first.content.result()
        except StorageError as error:
            if not error.passable:
                raise
            self._skip(first, pieces)
            return lost(entry, error.message)
        whole = checksum.Whole("sha256", *(n for n in head.info.digests if n in checksum.COMPARABLE))
        self._archive.begin(f"{self._top}/data/{name}", entry.size)
        while True:
            assert piece.content is not None
            data = piece.content.result().data
            if len(data) != piece.length:
                raise Changed(f"asked for {piece.length} bytes, got {len(data)}", key=entry.key)
            whole.update(data)
            self._archive.write(data)
            if piece.start + piece.length == entry.size:
                break
            piece = next(pieces)
        digests = whole.hexdigests()
        checksum.confirm(head.info.digests, digests, entry.key, self._source.name)
        return self._ended(entry, head, digests["sha256"])

    @staticmethod
    def _skip(piece: _Piece, pieces: Iterator[_Piece]) -> None:
        """Pass over the rest of an object."""
        while piece.start + piece.length < piece.entry.size:
            piece = next(pieces)

    def _ended(self, entry: Entry, content: Content, sha256: str) -> Record:
        self._archive.end()
        self.tally.wrote(entry.size, replaced=False)
        made = record(entry, sha256, content.info, content.info.metadata, Written())
        return replace(made, target=Seen())


# --- the whole archive -----------------------------------------------------------------------------------------------


class _Hashed:
    """A stream that knows the SHA-256 and the length of what went by. It cannot go back, as a pipe cannot."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self._out.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self._out.flush()


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes one archive ``name`` among ``files`` from everything in ``source``, as ``decision`` allows."""

    decision: Decision
    source: Watched
    names: Names
    guise: Guise | None
    files: Files
    name: str
    threads: int
    progress: Progress
    stop: threading.Event

    def rehearse(self) -> Report:
        """What there is to do."""
        sizes = [0, 0]
        for entry in self.source.entries():
            sizes[0] += 1
            sizes[1] += entry.size
        report = Report(self.source.name, self._place, "ingest", objects=sizes[0], bytes=sizes[1], dry_run=True)
        return self._decided(replace(report, copied=sizes[0], bytes_copied=sizes[1], complete=True))

    def _decided(self, report: Report) -> Report:
        decision = self.decision
        warnings = (*decision.warnings, *report.warnings)
        return replace(report, policy=policy.summary(decision), policy_override=decision.override, warnings=warnings)

    @property
    def _place(self) -> str:
        return f"{self.files.url}/{self.name}"

    def make(self, document: Document, evidence: Mapping[str, bytes], proof: Proof) -> Report:
        """Write it, and read it back where nobody vouched for the bytes on arrival, or where it was asked for.

        Raises Interrupted, StorageError, Corrupt when it comes back different.
        """
        began, moment = time.monotonic(), int(time.time())
        self.progress.stage("copy", None)
        with tempfile.TemporaryDirectory(prefix="portabl-") as folder, self.files.stream(self.name) as out:
            hashed = _Hashed(out)
            with opened(cast("IO[bytes]", hashed), kind_of(self.name), moment) as made:
                report = self._members(made, Files.at(folder), document, evidence, proof)
                made.finish()
        if proof is Proof.READBACK or not self.files.local:
            self._read_back(hashed)
        return self._decided(replace(report, elapsed_seconds=time.monotonic() - began))

    def _members(
        self, made: Archive, local: Files, document: Document, evidence: Mapping[str, bytes], proof: Proof
    ) -> Report:
        top = top_of(self.name)
        writer = PayloadWriter(self.source, made, top, self.guise, self.progress, self.stop)
        with ManifestWriter(Files.at(f"{local.url}/{MANIFEST}")) as manifest:
            writer.write(self.names, manifest, self.threads)
            loaded = manifest.finish(self._document(document, writer, proof))
        report = self._report(writer, loaded, proof)
        document = finish(document, report)
        Describer(local, loaded).describe(document, evidence)
        add_files(made, top, local, loaded, PACKAGE)
        return report

    def _document(self, document: Document, writer: PayloadWriter, proof: Proof) -> dict[str, object]:
        return {
            "tool": TOOL,
            "source": self.source.name,
            "target": self._place,
            "filters": {"include": list(document.include), "exclude": list(document.exclude)},
            "proof": str(proof),
            "metadata_at_target": False,
            "complete": not writer.losses.groups(),
            "started": document.started,
            "finished": utc_now(),
            **self.decision.document(),
            **(self.guise.document if self.guise else {}),
        }

    def _report(self, writer: PayloadWriter, loaded: Manifest, proof: Proof) -> Report:
        groups = writer.losses.groups()
        objects = loaded.counts["objects"]
        nothing = f"{self.source.name} holds nothing in scope: check its name and the filters"
        return Report(
            source=self.source.name,
            target=self._place,
            proof=str(proof),
            objects=objects,
            delete_markers=loaded.counts["delete_markers"],
            bytes=loaded.counts["bytes"],
            copied=writer.tally.copied,
            bytes_copied=writer.tally.bytes_copied,
            failed=writer.losses.failed,
            losses=groups,
            source_root=loaded.root,
            target_root=loaded.target_root,
            complete=not groups and loaded.root == loaded.target_root,
            warnings=() if objects else (nothing,),
            next_command=f"portabl verify {self._place}" if not groups else "",
        )

    def _read_back(self, hashed: _Hashed) -> None:
        self.progress.stage("prove", None)
        found, size = hashlib.sha256(), 0
        for chunk in self.files.chunks(self.name, 2**20):
            if self.stop.is_set():
                raise Interrupted("stopped before the archive was read back; remove it, and export again")
            found.update(chunk)
            size += len(chunk)
        if (size, found.digest()) != (hashed.size, hashed.digest.digest()):
            hint = "if nothing else writes there, remove it and export again"  # it may be another export's by now
            raise Corrupt(f"{self.name} came back different from what was written", storage=self.files.url, hint=hint)


def add_files(archive: Archive, top: str, files: Files, manifest: Manifest, last: str) -> None:
    """The small files of a package from a scratch directory; ``last`` at the very end."""
    segments = {f"{MANIFEST}/{segment.name}" for segment in manifest.segments}
    for name in (*sorted(segments), *sorted(set(files.names()) - segments - {last}), last):
        with files.open(name) as file:
            archive.begin(f"{top}/{name}", os.fstat(file.fileno()).st_size)
            while data := file.read(2**20):
                archive.write(data)
        archive.end()
