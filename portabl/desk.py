"""Where a worker of a fleet writes: in a directory that it shares with the conductor, or straight to a state elsewhere.

Elsewhere (any fsspec URL) a pass has, below ``passes/0001/begun/``, the ``ticket`` and, for each attempt at a shard,

    000007/ATTEMPT.seg           every record of the shard, sent at its end
    000007/ATTEMPT-0001.log      the records of `BEAT_SECONDS`, sent while it is under way

An attempt has files of its own, so two attempts at one shard never meet. The conductor takes the one whose name,
length and SHA-256 the worker told it, and believes no other. The rest is knowledge for the next attempt or run: every
line of it has a check of its own (`portabl.worklog`). What a worker that dies has not sent is copied again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from portabl import worklog
from portabl.errors import ConfigError, NotFound, PortablError
from portabl.fleet import Held
from portabl.folder import Folder, state_trouble
from portabl.plan import Line
from portabl.state import disk_errors
from portabl.worklog import BEGUN, TICKET

LOOK_SECONDS = 0.5
BEAT_SECONDS = 3.0
"""Between two times that a worker sends what it has recorded, and looks whether the run goes on."""
BLIND_SECONDS = 60.0
"""How long a ticket that cannot be looked at counts as there."""


class Ticket:
    """Says whether the run that gave a shard out still goes on: as long as its file is there.

    A file, because workers on other machines share nothing else with the conductor, and none outlives it unseen.
    """

    def __init__(self, begun: Folder, ticket: str, every: float = LOOK_SECONDS) -> None:
        self._begun = begun
        self._ticket = ticket.encode()
        self._every = every
        self._looked = 0.0
        self._blind_since: float | None = None
        self._over = False

    def issue(self) -> None:
        """The run begins."""
        self._begun.write(TICKET, self._ticket)

    def withdraw(self) -> None:
        """Workers stop after what is in flight; where they cannot be told, after the shards they have."""
        with contextlib.suppress(PortablError):
            self._begun.delete(TICKET)

    def check(self) -> None:
        """Raises ConfigError where a worker does not see what the conductor wrote."""
        self.look()
        if self._over:
            raise ConfigError(
                f"this worker does not see {self._begun.url}",
                hint="name a directory that every worker shares, or an object store, with `--state`",
            )

    def is_set(self) -> bool:
        """Whether to stop; looked up at most as often as was said at the beginning."""
        if not self._over and time.monotonic() - self._looked > self._every:
            self.look()
        return self._over

    def look(self) -> None:
        """Look it up now."""
        self._looked = time.monotonic()
        try:
            self._over = self._begun.read(TICKET) != self._ticket
            self._blind_since = None
        except NotFound:
            self._over = True
        except PortablError:
            if self._blind_since is None:  # not since the last look: between two shards nobody looks
                self._blind_since = self._looked
            self._over = self._looked - self._blind_since > BLIND_SECONDS


class Desk(Protocol):
    """What a worker writes on. ``folder``: a directory for files of attempts; ``running``: whether to go on."""

    folder: Path
    running: Ticket

    def earlier(self, number: int) -> dict[bytes, Line]:
        """What earlier attempts at a shard have recorded, whole lines only; one that is finished too."""

    def attempt(self, number: int) -> Path:
        """A name for the file of another attempt at a shard."""

    def keeping(self, path: Path) -> AbstractContextManager[object]:
        """While the block runs, what is appended to the file of an attempt is kept where a later one finds it."""

    def publish(self, segment: Path, number: int) -> Held | None:
        """The segment has all its records: it goes where the conductor finds it."""

    def close(self) -> None:
        """Nothing more is written."""


class SharedDesk:
    """A directory that all share: what is written is where it belongs. ``records``: that of the pass."""

    def __init__(self, records: Path, ticket: str) -> None:
        self._records = records
        self.folder = records / BEGUN
        self.running = Ticket(Folder.at(self.folder), ticket)

    def earlier(self, number: int) -> dict[bytes, Line]:
        """As `Desk.earlier`."""
        whole = self._records / f"{number:06d}.seg"
        found: dict[bytes, Line] = {}
        for path in (*self.folder.glob(f"{number:06d}.*"), *([whole] if whole.exists() else ())):
            with contextlib.suppress(FileNotFoundError):  # another attempt has just finished, and gave it its name
                found |= {line[1].key: line for line in worklog.of_file(path)}
        return found

    def attempt(self, number: int) -> Path:
        """As `Desk.attempt`."""
        return self.folder / f"{number:06d}.{uuid.uuid4().hex}.log"

    def keeping(self, path: Path) -> AbstractContextManager[object]:  # noqa: ARG002 - it lies where it has to
        """As `Desk.keeping`."""
        return contextlib.nullcontext()

    def publish(self, segment: Path, number: int) -> None:
        """Give the segment its name, whatever another attempt at the same shard has done meanwhile."""
        segment.replace(self._records / f"{number:06d}.seg")

    def close(self) -> None:
        """As `Desk.close`."""


class RemoteDesk:
    """A directory of this worker's own, from which all goes to a state elsewhere. ``begun``: the folder there."""

    def __init__(self, begun: Folder, ticket: str) -> None:
        self._begun = begun
        self._ticket = ticket
        self.running = Ticket(begun, ticket, every=2 * BEAT_SECONDS)  # `_Sending` looks more often
        self._own = tempfile.TemporaryDirectory(prefix="portabl-worker-")
        self.folder = Path(self._own.name)

    def earlier(self, number: int) -> dict[bytes, Line]:
        """As `Desk.earlier`, of this run: a ticket is in the name of every attempt."""
        found: dict[bytes, Line] = {}
        with state_trouble():
            for name in self._begun.names(f"{number:06d}/{self._ticket}"):
                found |= {line[1].key: line for line in worklog.whole(io.BytesIO(self._begun.read(name)))}
        return found

    def attempt(self, number: int) -> Path:
        """As `Desk.attempt`."""
        path = self.folder / f"{number:06d}" / f"{self._ticket}-{uuid.uuid4().hex}.log"
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def keeping(self, path: Path) -> AbstractContextManager[object]:
        """As `Desk.keeping`."""
        return _sending(_Sender(self._begun, path), self.running)

    def publish(self, segment: Path, number: int) -> Held:  # noqa: ARG002 - the folder it lies in tells it
        """Send the segment, and say what was sent."""
        with disk_errors(segment):
            data = segment.read_bytes()
        held = Held(f"{segment.parent.name}/{segment.name}", len(data), hashlib.sha256(data).hexdigest())
        with state_trouble():
            self._begun.write(held.name, data)
        segment.unlink()
        return held

    def close(self) -> None:
        """As `Desk.close`."""
        self._own.cleanup()


class _Sender:
    """Sends what was appended to a file since the last time, whole lines only, as a file of its own."""

    def __init__(self, begun: Folder, path: Path) -> None:
        self._begun = begun
        self._path = path
        self._sent = 0
        self._count = 0

    def send(self) -> None:
        """A failure does no harm: the same lines go with the next ones, or with the segment."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._sent)
                fresh = file.read()
        except FileNotFoundError:  # not begun yet, or whole and renamed
            return
        fresh = fresh[: fresh.rfind(b"\n") + 1]
        if not fresh:
            return
        name = f"{self._path.parent.name}/{self._path.stem}-{self._count + 1:04d}.log"
        with contextlib.suppress(PortablError):
            self._begun.write(name, fresh)
            self._sent += len(fresh)
            self._count += 1


@contextlib.contextmanager
def _sending(sender: _Sender, running: Ticket) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            running.look()
            sender.send()

    thread = threading.Thread(target=beat, name="portabl-sender", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        sender.send()  # what was recorded until now, unless it is whole
