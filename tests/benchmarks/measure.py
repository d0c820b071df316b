"""One run of one tool: wall time, CPU time and peak memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and CPU (user and system, of all its processes), and the largest sum of resident memory."""

    wall: float
    cpu: float
    memory: int
    status: int
    output: str


def run(
    command: tuple[str, ...], environment: Mapping[str, str], directory: Path, timeout: float = TIMEOUT_SECONDS
) -> Cost:
    """Run a command to its end, or for ``timeout`` seconds."""
    with (directory / "output").open("w+b") as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
        with _Memory(child.pid) as memory, _limit(child, timeout):
            _, waited, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(waited)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return Cost(wall, used.ru_utime + used.ru_stime, memory.peak, child.returncode, said)


@contextlib.contextmanager
def _limit(child: subprocess.Popen[bytes], timeout: float) -> Iterator[None]:
    """A run that hangs is killed, with everything it started."""
    timer = threading.Timer(timeout, os.killpg, (child.pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Memory:
    """Samples the resident memory of a process tree until the process is gone. Shared pages count once a process."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(map(_resident, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is walked
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0  # ended between two looks


def help_seconds(portabl: str, times: int = 10) -> float:
    """Median wall time of ``portabl --help``."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([portabl, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
