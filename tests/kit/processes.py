"""Child processes of a test run: each in a group of its own, none left behind, each with free ports."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FIRST_PORT, LAST_PORT = 11_000, 32_000  # below the range the kernel hands out to outgoing connections


class NotReady(RuntimeError):
    """A server did not start, or does not answer as it should."""


def free_ports(count: int) -> int:
    """First of ``count`` consecutive ports nobody listens on."""
    for _ in range(200):
        first = random.randrange(FIRST_PORT, LAST_PORT - count)
        if _all_free(range(first, first + count)):
            return first
    raise NotReady(f"no {count} free ports in a row")


def _all_free(ports: range) -> bool:
    with contextlib.ExitStack() as stack:
        for port in ports:
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class Family:
    """A server's processes and its temporary directory; `stop` ends all of them, and so does the end of the test run.

    A test run that is itself killed takes them along: `setpriv --pdeathsig` asks the kernel for that.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f"portabl-{name}-"))
        self._children: list[subprocess.Popen[bytes]] = []
        atexit.register(self.stop)

    def start(self, label: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a daemon in the foreground of its own process group; its output goes to LABEL.out."""
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.directory / f"{label}.out").open("wb") as output:
            child = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
            )
        self._children.append(child)

    def run(self, *command: str, timeout: float = 60, environment: Mapping[str, str] | None = None) -> str:
        """Run a command to its end; its standard output. Raises NotReady with what it said when it fails."""
        done = subprocess.run(
            command, cwd=self.directory, env={**os.environ, **(environment or {})}, timeout=timeout, capture_output=True
        )
        if done.returncode:
            raise NotReady(
                f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
            )
        return done.stdout.decode()

    def wait(self, ready: Callable[[], object], seconds: float) -> None:
        """Call ``ready`` until it stops raising; NotReady with the logs when a process ends or time is up."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                ready()
                return
            except Exception as error:
                ended = [child.args for child in self._children if child.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise NotReady(f"{self.name}: {error}; ended: {ended}\n{self.logs()}") from error
            time.sleep(0.1)

    def logs(self) -> str:
        """The end of every daemon's output."""
        outputs = sorted(self.directory.glob("*.out"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in outputs)

    @property
    def pids(self) -> Sequence[int]:
        """Process ids of the daemons, which are also their process groups."""
        return [child.pid for child in self._children]

    def stop(self) -> None:
        """Kill every process group and remove the directory; calling it again does nothing."""
        atexit.unregister(self.stop)
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self._children:
            child.wait(timeout=30)
        self._children.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
