"""The lock of a job: one holder at a time, none after a kill, and never on a file that is no longer there."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from portabl.joblock import TRIES, lock

HOLDER = """
import pathlib, sys
from portabl.joblock import lock
assert lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_holds_it_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    release = lock(path)
    assert release
    assert lock(path) is None
    release()
    again = lock(path)
    assert again
    again()


def test_it_ends_with_its_process_even_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert lock(path) is None
        holder.kill()
        holder.wait()
    release = lock(path)
    assert release
    release()


def test_it_and_the_package_filelock_keep_each_other_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path):
        assert lock(path) is None
    release = lock(path)
    assert release
    with pytest.raises(Timeout):
        FileLock(path, timeout=0).acquire()
    release()


@pytest.mark.parametrize("gone", [Path.unlink, lambda path: path.rename(path.with_name("old"))])
def test_a_file_that_was_removed_before_it_was_locked_keeps_nobody_out(
    gone: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    flock = fcntl.flock

    def late(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        gone(path)  # by the run that held it and has dissolved its state
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    release = lock(path)
    assert release
    assert lock(path) is None, "the lock is on the file that others open"
    release()


def test_a_file_that_is_removed_each_time_counts_as_held_and_none_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    opened: list[int] = []

    def always(file: int, how: int) -> None:
        opened.append(file)
        path.unlink()

    monkeypatch.setattr(fcntl, "flock", always)
    assert lock(path) is None
    assert len(opened) == TRIES
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[-1])


@pytest.mark.parametrize("said", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_the_kernel_has_no_such_lock_the_package_finds_a_way(
    said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: int, how: int) -> None:
        raise OSError(said, "not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "lock"
    release = lock(path)
    assert release
    assert lock(path) is None
    release()


def test_what_cannot_be_opened_is_an_error_and_not_a_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "away" / "lock")
