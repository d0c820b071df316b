"""A program on a terminal of its own: what it shows is read, what a person would type is typed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program ``arguments`` in ``folder``; every wait has a deadline."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float = 120):
        self.shown = ""
        self._at = 0
        self._deadline = time.monotonic() + seconds
        self._fd, inner = pty.openpty()
        self._program = subprocess.Popen(
            ["setsid", "--ctty", *arguments],  # the terminal is the one that Ctrl-C and hidden input go by
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=folder,
            env=dict(environment),
        )
        os.close(inner)

    def expect(self, words: str) -> str:
        """Wait until ``words`` are shown, behind what was expected before; returns all that was shown up to them."""
        while words not in self.shown[self._at :]:
            if not self._read():
                self._program.wait(60)
                raise AssertionError(f"ended without showing {words!r}: {self.shown}")
        before = self.shown[self._at :].partition(words)[0]
        self._at += len(before) + len(words)
        return before

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._fd, text.encode() + b"\n")

    def answer(self, question: str, text: str) -> None:
        """Wait for a question and type the answer."""
        self.expect(question)
        self.type(text)

    def press(self, key: bytes) -> None:
        """Press a key, such as b"\\x03" for Ctrl-C."""
        os.write(self._fd, key)

    def leave(self, key: bytes) -> int:
        """Press a key, again each second, until the program ends; the exit code. A signal that comes just before a
        program waits for input wakes nobody, as everybody knows who has pressed Ctrl-C twice.
        """
        while self._program.poll() is None:
            with contextlib.suppress(OSError):
                self.press(key)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._program.wait(1)
        return self.end()

    def end(self) -> int:
        """Wait for the end; the exit code."""
        while self._read():
            pass
        os.close(self._fd)
        return self._program.wait(60)

    def _read(self) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0 or not select.select([self._fd], [], [], left)[0]:
            self._program.kill()
            self._program.wait()
            raise AssertionError(f"nothing more within the deadline: {self.shown}")
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.shown += _SEQUENCES.sub("", data.decode("utf-8", "replace")).replace("\r", "")
        return bool(data)
