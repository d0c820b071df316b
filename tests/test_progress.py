"""Progress: exact sums from many threads, readable lines, and a broken terminal that does no harm."""

from __future__ import annotations

import io
import threading
import time

import pytest

from portabl.progress import BarProgress, LineProgress, NoProgress, Polled, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_sums_are_exact_from_many_threads() -> None:
    out = io.StringIO()
    progress = LineProgress(out, interval_seconds=0.01)
    progress.stage("copy", 80_000)

    def work() -> None:
        for _ in range(10_000):
            progress.advance(1, 3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress._draw()
    progress.close()
    assert "copy: 80,000 of 80,000 objects, 234.4 KiB" in out.getvalue().splitlines()[-1]


def test_lines_say_how_far_and_how_long() -> None:
    out, clock = io.StringIO(), Clock()
    progress = LineProgress(out, interval_seconds=60, clock=clock)
    progress.stage("copy\x1b[2J", 1000)
    progress.advance(250, 2**20)
    clock.now = 2.0
    progress._draw()
    progress.close()
    assert out.getvalue().splitlines()[0] == "copy\\x1b[2J: 250 of 1,000 objects, 1.0 MiB, 512.0 KiB/s, 6.0 s left"


def test_a_quick_stage_prints_nothing() -> None:
    out = io.StringIO()
    progress = LineProgress(out)
    progress.stage("list", None)
    progress.advance(5, 0)
    progress.stage("copy", 5)
    progress.close()
    progress.close()
    assert out.getvalue() == ""


def test_lines_come_by_themselves() -> None:
    out = io.StringIO()
    progress = LineProgress(out, interval_seconds=0.02)
    progress.stage("list", None)
    deadline = time.monotonic() + 5
    while "list: 0 objects" not in out.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    progress.note("waiting\nfor x")
    progress.close()
    assert "list: 0 objects" in out.getvalue()
    assert "waiting\\x0afor x\n" in out.getvalue()


def test_bar_shows_objects_bytes_and_rate() -> None:
    out = io.StringIO()
    progress = BarProgress(out, interval_seconds=60)
    progress.stage("copy", 10)
    progress.advance(5, 2**20)
    progress._draw()
    progress.note("a note")
    progress.stage("prove", None)
    progress.close()
    text = out.getvalue()
    assert "copy:" in text
    assert "5/10" in text
    assert "1.0 MiB" in text
    assert "a note\n" in text


@pytest.mark.parametrize("kind", [LineProgress, BarProgress])
def test_a_closed_stream_ends_the_drawing_not_the_run(kind: type[Polled]) -> None:
    out = io.StringIO()
    progress = kind(out, 0.01)
    progress.stage("copy", 2)
    out.close()
    progress.advance(1, 1)
    progress.note("x")
    progress.stage("prove", 2)
    progress.close()


def test_advance_is_cheap() -> None:
    progress: Progress = LineProgress(io.StringIO())
    progress.stage("copy", None)
    best = min(_seconds(progress) for _ in range(5))
    progress.close()
    assert best / 10_000 < 5e-6, "far above a microsecond, even for a slow machine"
    NoProgress().advance(1, 1)


def _seconds(progress: Progress) -> float:
    began = time.perf_counter()
    for _ in range(10_000):
        progress.advance(1, 1)
    return time.perf_counter() - began
