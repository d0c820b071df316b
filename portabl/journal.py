"""The journal: a tiny SQLite file with a row per pass, per shard and per open upload, none per object."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from portabl.errors import StateFull, UsageError

VERSION = 1
BUSY_SECONDS = 60
"""How long one process of a run waits for another's commit."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pass (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, started TEXT NOT NULL, finished TEXT NOT NULL DEFAULT '',
    objects INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, manifest TEXT NOT NULL DEFAULT '',
    complete INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS shard (
    pass INTEGER NOT NULL, number INTEGER NOT NULL, first BLOB NOT NULL, last BLOB NOT NULL, objects INTEGER NOT NULL,
    PRIMARY KEY (pass, number));
CREATE TABLE IF NOT EXISTS upload (
    key BLOB PRIMARY KEY, token TEXT NOT NULL, source TEXT NOT NULL, part_size INTEGER NOT NULL,
    foreign_tokens TEXT NOT NULL, started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS part (
    key BLOB NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (key, number));
"""
_COLUMNS = "state, started, finished, objects, bytes, manifest"


@dataclass(frozen=True, slots=True)
class PassRow:
    """The latest pass of a job. Times are UTC, RFC 3339; "" when it has not happened."""

    state: str = "never run"
    started: str = ""
    finished: str = ""
    objects: int = 0
    bytes: int = 0
    manifest: str = ""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A large object under way. ``token`` is "" between the intention and the store's answer; ``foreign`` are
    uploads for the same key that were there before ours; ``parts`` maps number to (sha256, tag).
    """

    key: bytes
    token: str
    source: str
    part_size: int
    foreign: frozenset[str]
    parts: Mapping[int, tuple[str, str]]


def utc_now() -> str:
    """The time as RFC 3339 UTC with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Journal:
    """Durable facts about one job. Safe for many threads; every method is one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            # each commit is on the disk before the next step: an upload must not outlive the note of it in a power cut
            self._db.execute("PRAGMA synchronous=FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise UsageError(
                    f"{path} was written by another version of portabl (format {version})",
                    hint="use that version, or name another state directory with `--state`",
                )
            if not version:  # one transaction, for each waits for the disk
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
            ((found,),) = self._db.execute("PRAGMA quick_check(1)").fetchall()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except sqlite3.DatabaseError as damaged:
            self._db.close()
            raise _translated(damaged, path) from damaged
        except UsageError:
            self._db.close()
            raise

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._guard:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise _translated(error, self._path) from error

    def _number(self, value: object) -> int:
        """A column that holds nothing but integers. Raises UsageError: SQLite notices no damage inside a row."""
        if isinstance(value, int):
            return value
        raise _translated(sqlite3.DatabaseError("a number in it is none"), self._path)

    def begin_pass(self, above: int = 0) -> int:
        """A new pass number, greater than ``above`` too; passes still marked running were interrupted."""
        self._run("UPDATE pass SET state = 'interrupted', finished = ? WHERE state = 'running'", (utc_now(),))
        ((last,),) = self._run("SELECT coalesce(max(number), 0) FROM pass")
        number = max(self._number(last), above) + 1
        self._run("INSERT INTO pass (number, state, started) VALUES (?, 'running', ?)", (number, utc_now()))
        return number

    def end_pass(self, number: int, state: str, *, objects: int, size: int, manifest: str = "") -> None:
        """Close a pass as ``published``, ``interrupted`` or ``failed``."""
        self._run(
            "UPDATE pass SET state = ?, finished = ?, objects = ?, bytes = ?, manifest = ? WHERE number = ?",
            (state, utc_now(), objects, size, manifest, number),
        )

    def published(self) -> frozenset[int]:
        """Every pass whose manifest was published."""
        rows = self._run("SELECT number FROM pass WHERE state = 'published'")
        return frozenset(self._number(number) for (number,) in rows)

    def merge_passes(self, into: int, passes: Sequence[int]) -> None:
        """All that ``passes`` recorded is now in pass ``into``."""
        marks = ",".join("?" * len(passes))
        self._run(f"UPDATE pass SET state = 'merged' WHERE number IN ({marks}) AND number != {into:d}", passes)  # noqa: S608

    def snapshot(self, path: Path) -> None:
        """A consistent copy of the journal in a file of its own."""
        with self._guard, closing(sqlite3.connect(path)) as copy:
            self._db.backup(copy)

    def add_shard(self, number: int, shard: int, first: bytes, last: bytes, objects: int) -> None:
        """A shard is complete: its records are on disk, closed and renamed."""
        self._run("INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?)", (number, shard, first, last, objects))

    def history(self, before: int) -> tuple[int | None, list[int]]:
        """(the last published pass, the unfinished ones after it, newest first), all before pass ``before``."""
        rows = self._run("SELECT max(number) FROM pass WHERE state = 'published' AND number < ?", (before,))
        published = None if rows[0][0] is None else self._number(rows[0][0])
        after = self._run(
            "SELECT number FROM pass WHERE number > ? AND number < ? AND state != 'merged' ORDER BY number DESC",
            (published or 0, before),
        )
        return published, [self._number(number) for (number,) in after]

    def intend_upload(self, key: bytes, source: str, part_size: int, foreign: Sequence[str]) -> None:
        """Note that an upload for ``key`` is about to be created, before the store is asked."""
        self._run("DELETE FROM part WHERE key = ?", (key,))
        self._run(
            "INSERT OR REPLACE INTO upload VALUES (?, '', ?, ?, ?, ?)",
            (key, source, part_size, "\n".join(foreign), time.time()),
        )

    def name_upload(self, key: bytes, token: str) -> None:
        """The store's name for the upload that was intended."""
        self._run("UPDATE upload SET token = ? WHERE key = ?", (token, key))

    def add_part(self, key: bytes, number: int, sha256: str, tag: str) -> None:
        """The store holds this part under ``tag``."""
        self._run("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", (key, number, sha256, tag))

    def end_upload(self, key: bytes) -> None:
        """The upload is finished or aborted."""
        self._run("DELETE FROM upload WHERE key = ?", (key,))
        self._run("DELETE FROM part WHERE key = ?", (key,))

    def open_upload(self, key: bytes) -> OpenUpload | None:
        """What is known of an unfinished upload for ``key``."""
        rows = self._run("SELECT token, source, part_size, foreign_tokens FROM upload WHERE key = ?", (key,))
        if not rows:
            return None
        token, source, part_size, foreign = rows[0]
        parts = self._run("SELECT number, sha256, tag FROM part WHERE key = ?", (key,))
        return OpenUpload(
            key,
            str(token),
            str(source),
            self._number(part_size),
            frozenset(str(foreign).split("\n")) - {""},
            {self._number(n): (str(sha256), str(tag)) for n, sha256, tag in parts},
        )

    def open_keys(self) -> list[bytes]:
        """Keys with an unfinished upload."""
        return [key for (key,) in self._run("SELECT key FROM upload ORDER BY key") if isinstance(key, bytes)]

    def rivals(self, key: bytes) -> frozenset[str]:  # noqa: ARG002 - a journal is for one attempt at a time
        """Uploads that others have open for the same key: none."""
        return frozenset()

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        with self._guard:
            self._db.close()

    @staticmethod
    def peek(path: Path) -> PassRow:
        """The latest pass, read without disturbing a run that is going on."""
        if not path.exists():
            return PassRow()
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                row = db.execute(f"SELECT {_COLUMNS} FROM pass ORDER BY number DESC LIMIT 1").fetchone()  # noqa: S608
        except sqlite3.DatabaseError:
            return PassRow(state="unreadable journal")
        return PassRow(*row) if row else PassRow()


def _translated(error: sqlite3.DatabaseError, path: Path) -> Exception:
    if "full" in str(error) or "disk I/O" in str(error):
        return StateFull(f"no space left for the journal {path}", hint="free space and run the same command again")
    return UsageError(
        f"the journal {path} cannot be used: {error}",
        hint="move the job's directory away; the next run then proves everything anew",
    )
