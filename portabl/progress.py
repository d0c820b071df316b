"""How far a run is, for whoever watches. The engine counts; a timer thread looks a few times a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

from portabl.keys import plain
from portabl.report import duration_text, size_text


class Progress(Protocol):
    """What the engine tells. Every method may be called from any thread; `advance` costs well under a microsecond."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins (the one before is over): its name, and how many objects it has if that is known."""

    def expect(self, total: int) -> None:
        """The running stage turns out to have so many objects."""

    def advance(self, objects: int, size: int) -> None:
        """So many objects, of so many bytes, are done since the last call."""

    def note(self, message: str) -> None:
        """Something worth a line, such as a retry that takes long."""

    def close(self) -> None:
        """The run is over, well or not. May be called twice."""


class NoProgress:
    """Tells nothing."""

    def stage(self, name: str, total: int | None) -> None:
        """Nothing."""

    def expect(self, total: int) -> None:
        """Nothing."""

    def advance(self, objects: int, size: int) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Stage:
    """Plain counters of one stage. The lock makes the sums exact on every interpreter, free-threaded ones included."""

    def __init__(self, name: str, total: int | None, now: float) -> None:
        self.name = plain(name)
        self.total = total
        self.began = now
        self.objects = 0
        self.bytes = 0
        self.lock = threading.Lock()

    def add(self, objects: int, size: int) -> None:
        with self.lock:
            self.objects += objects
            self.bytes += size


class Polled:
    """Counts; a timer thread draws every ``interval_seconds``. A stream that breaks ends the drawing, not the run."""

    def __init__(self, stream: IO[str], interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._interval = interval_seconds
        self._clock = clock
        self._stage: _Stage | None = None
        self._drawing = threading.Lock()
        self._over = threading.Event()
        self._broken = False
        self._timer: threading.Thread | None = None

    def stage(self, name: str, total: int | None) -> None:
        """End the stage before and begin another."""
        self._safely(self._end)
        self._stage = _Stage(name, total, self._clock())
        self._safely(self._begin)
        if self._timer is None and not self._over.is_set():
            self._timer = threading.Thread(target=self._run, name="portabl-progress", daemon=True)
            self._timer.start()

    def expect(self, total: int) -> None:
        """Set the running stage's total."""
        if self._stage is not None:
            self._stage.total = total

    def advance(self, objects: int, size: int) -> None:
        """Add to the stage's counters."""
        if self._stage is not None:
            self._stage.add(objects, size)

    def note(self, message: str) -> None:
        """One line between the drawings."""
        self._safely(lambda: self._line(plain(message)))

    def close(self) -> None:
        """Draw a last time and stop the timer."""
        if self._over.is_set():
            return
        self._over.set()
        if self._timer is not None:
            self._timer.join()
        self._safely(self._end)

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self._safely(self._draw)

    def _safely(self, action: Callable[[], None]) -> None:
        with self._drawing:
            if self._broken:
                return
            try:
                action()
            except (OSError, ValueError):  # the stream was closed under us, which is the watcher's right
                self._broken = True

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _begin(self) -> None:
        """A stage began."""

    def _draw(self) -> None:
        """Show the present state."""

    def _end(self) -> None:
        """A stage ended; also called when there was none."""


class LineProgress(Polled):
    """One plain line every few seconds: for logs, pipes and screen readers."""

    def __init__(
        self, stream: IO[str], interval_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream, interval_seconds, clock)
        self._drawn = False

    def _begin(self) -> None:
        self._drawn = False

    def _draw(self) -> None:
        if self._stage is not None:
            self._drawn = True
            self._line(describe(self._stage, self._clock()))

    def _end(self) -> None:
        if self._drawn:  # a stage that was over before the first line needs none at its end
            self._draw()


def describe(stage: _Stage, now: float) -> str:
    """``copy: 420 of 1,000 objects, 12.3 MiB, 4.1 MiB/s, 4.0 s left``."""
    seconds = max(now - stage.began, 1e-9)
    of = f" of {stage.total:,}" if stage.total is not None else ""
    parts = [f"{stage.objects:,}{of} objects", size_text(stage.bytes), f"{size_text(stage.bytes / seconds)}/s"]
    if stage.total is not None and 0 < stage.objects < stage.total:
        parts.append(f"{duration_text((stage.total - stage.objects) * seconds / stage.objects)} left")
    return f"{stage.name}: {', '.join(parts)}"


class BarProgress(Polled):
    """A tqdm bar with objects, bytes, rate and the time that is left: for terminals."""

    def __init__(
        self, stream: IO[str], interval_seconds: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream, interval_seconds, clock)
        self._bar: Any = None

    def _begin(self) -> None:
        from tqdm import tqdm

        stage = self._stage
        if stage is not None:
            width, height = (80, 24) if _is_without_size(self._stream) else (None, None)
            self._bar = tqdm(
                total=stage.total,
                desc=stage.name,
                unit=" objects",
                file=self._stream,
                ncols=width,
                nrows=height,
                dynamic_ncols=width is None,
            )

    def _line(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=self._stream)

    def _draw(self) -> None:
        stage = self._stage
        if stage is None or self._bar is None:
            return
        seconds = max(self._clock() - stage.began, 1e-9)
        self._bar.set_postfix_str(f"{size_text(stage.bytes)}, {size_text(stage.bytes / seconds)}/s", refresh=False)
        self._bar.total = stage.total
        self._bar.n = stage.objects
        self._bar.refresh()

    def _end(self) -> None:
        if self._bar is not None:
            self._draw()
            self._bar.close()
            self._bar = None


def _is_without_size(stream: IO[str]) -> bool:
    """Whether this is a terminal that does not know its size, as in some containers: tqdm would draw nothing."""
    try:
        return os.get_terminal_size(stream.fileno()).columns == 0
    except (OSError, ValueError):  # no terminal at all
        return False
