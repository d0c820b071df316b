"""When failing objects mean a failing place."""

from __future__ import annotations

import pytest

from portabl.copying import FAILURES_IN_A_ROW, Breaker
from portabl.errors import AccessDenied, Corrupt, StorageError, Unreachable


def failed(breaker: Breaker, cause: StorageError, times: int) -> None:
    for _ in range(times):
        breaker.failed(cause)


def test_a_first_write_that_is_refused_ends_the_run() -> None:
    with pytest.raises(AccessDenied):
        Breaker("new:b").failed(AccessDenied("no", storage="new:b"))


def test_objects_that_may_not_be_read_are_passed_over_once_others_were() -> None:
    breaker = Breaker("new:b")
    breaker.worked()
    failed(breaker, AccessDenied("no", storage="old:b"), 10 * FAILURES_IN_A_ROW)


@pytest.mark.parametrize("cause", [Unreachable("gone"), AccessDenied("no", storage="old:b")])
def test_many_in_a_row_are_no_accident(cause: StorageError) -> None:
    breaker = Breaker("new:b")
    failed(breaker, cause, FAILURES_IN_A_ROW - 1)
    with pytest.raises(type(cause)):
        breaker.failed(cause)


def test_what_works_in_between_starts_the_count_again() -> None:
    breaker = Breaker("new:b")
    for _ in range(5):
        failed(breaker, Unreachable("gone"), FAILURES_IN_A_ROW - 1)
        breaker.worked()


def test_damaged_objects_never_end_a_run() -> None:
    failed(Breaker("new:b"), Corrupt("bits", key=b"k"), 10 * FAILURES_IN_A_ROW)
