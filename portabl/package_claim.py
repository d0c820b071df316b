"""Who is making a package: the unfinished package.json names its holder, so that two exports never work on one place.

Whoever finds no package.json makes it, where the store can do that only if there is none yet (a directory, S3 with
conditional writes); elsewhere a look afterwards shows who was last. The holder renews its sign of life as long as it
works and looks whether the place is still its own, at the latest before it declares the package finished. A holder is
gone when it gave no sign of life for `ALIVE_SECONDS`, or at once when its process on this very machine has ended.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from portabl.errors import JobLocked, NotFound, PortablError
from portabl.files import Files
from portabl.package_format import NAME, UNFINISHED, Document, load

ALIVE_SECONDS = 600
BEAT_SECONDS = 60


def is_held(document: Document) -> bool:
    """Whether somebody who gave a sign of life lately works on this package."""
    holder = document.holder
    if document.state != UNFINISHED or not holder:
        return False
    if holder.get("host") == _host() and not _alive(holder.get("process")):
        return False
    return abs(time.time() - _number(holder.get("time"))) < ALIVE_SECONDS


class Claim:
    """The claim on a place. Context manager: while it is held, a thread gives signs of life.

    ``stop``: what the caller asks an end with; `stop` of the claim is set as well when the place is lost to another.
    """

    def __init__(self, files: Files, stop: threading.Event) -> None:
        self.stop = _Either(stop)
        self._files = files
        self._mine = {"host": _host(), "process": os.getpid(), "token": secrets.token_hex(16)}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="portabl-claim", daemon=True)
        self._guard = threading.Lock()

    def take(self, document: Document, same: Callable[[Document], Document]) -> bool:
        """Claim the place for ``document``; ``same`` answers the one to go on with of an export that was interrupted.

        Returns whether one is gone on with. Raises JobLocked while another holds the place, and what ``same`` raises.
        """
        created = not self._files.exists(NAME) and self._files.create(NAME, self._signed(document))
        if not created:  # it was there, or somebody was quicker
            there = load(self._files)
            if is_held(there):
                raise self._taken(there)
            self._write(same(there))
        self.confirm()
        self._thread.start()
        return not created

    def confirm(self) -> Document:
        """The package.json that is there, if it is still ours. Raises JobLocked."""
        there = load(self._files)
        if there.state != UNFINISHED or there.holder.get("token") != self._mine["token"]:
            raise self._taken(there)
        return there

    def _taken(self, there: Document) -> JobLocked:
        host = str(there.holder.get("host", "another machine")).partition(":")[0]
        message = f"another export into this place is going on, on {host}"
        if there.state != UNFINISHED:
            message = f"the package is {there.state}: somebody else has taken this place"
        hint = f"wait for it; an export that gave no sign of life for {ALIVE_SECONDS} seconds no longer counts"
        return JobLocked(message, storage=self._files.url, hint=hint)

    def _signed(self, document: Document) -> bytes:
        return replace(document, holder={**self._mine, "time": int(time.time())}).to_json()

    def _write(self, document: Document) -> None:
        self._files.write(NAME, self._signed(document))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                with self._guard:
                    if not self._over.is_set():
                        self._write(self.confirm())
            except (JobLocked, NotFound):
                self.stop.lost = True
                return
            except PortablError:
                continue  # trouble on the way to the place: the export itself meets it too

    def end(self) -> Document:
        """No more signs of life; the document to finish. Raises JobLocked when the place is another's by now."""
        self._over.set()
        with self._guard:
            return self.confirm()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go: who comes next need not wait until the sign of life is old."""
        self._over.set()
        if not self._thread.is_alive() and not self._thread.ident:
            return
        self._thread.join()
        try:
            self._files.write(NAME, replace(self.confirm(), holder={}).to_json())
        except PortablError:
            return


class _Either(threading.Event):
    """Set when the caller's event is, or when the place is lost."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other
        self.lost = False

    def is_set(self) -> bool:
        return self.lost or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._other.wait(timeout) or self.is_set()


def _alive(process: object) -> bool:
    """Whether a process of this machine is there, and not this very one: what that claimed once is left over."""
    if not isinstance(process, int) or process == os.getpid() or process <= 0:
        return False
    if os.name == "nt":
        return True  # there, signal 0 is a signal
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _number(value: object) -> float:
    return float(value) if isinstance(value, int) else 0.0


def _host() -> str:
    """This machine and its table of processes: names alone are not unique, and containers count processes anew."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return ":".join(found)
