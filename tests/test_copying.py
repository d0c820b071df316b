"""When failing objects mean a failing place."""

from __future__ import annotations

from typing import cast

import pytest

from portabl.copying import FAILURES_IN_A_ROW, Breaker
from portabl.errors import AccessDenied, Corrupt, CredentialsRefused, StorageError, Unreachable
from portabl.storage import Storage


class Place:
    """As much of a storage as is asked for: whether it still lists anything for us."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.trouble: StorageError | None = None

    def check(self, *, write: bool) -> None:
        assert not write
        self.asked += 1
        if self.trouble:
            raise self.trouble


def breaker_of(*places: Place) -> Breaker:
    source, target = places or (Place("old:b"), Place("new:b"))
    return Breaker(cast("Storage", source), cast("Storage", target))


def failed(breaker: Breaker, cause: StorageError, times: int) -> None:
    for _ in range(times):
        breaker.failed(cause)


def test_a_first_write_that_is_refused_ends_the_run() -> None:
    with pytest.raises(AccessDenied):
        breaker_of().failed(AccessDenied("no", storage="new:b"))


def test_objects_that_may_not_be_read_are_passed_over_once_others_were() -> None:
    source, target = Place("old:b"), Place("new:b")
    for breaker in (breaker_of(source, target), breaker_of(source, target)):
        breaker.known() if source.asked else breaker.worked()
        failed(breaker, AccessDenied("no", storage="old:b"), 10 * FAILURES_IN_A_ROW)
    assert (source.asked, target.asked) == (20, 0)


def test_a_place_that_lists_nothing_for_us_any_more_ends_the_run() -> None:
    source, target = Place("old:b"), Place("new:b")
    breaker = breaker_of(source, target)
    breaker.worked()
    source.trouble = CredentialsRefused("expired")
    failed(breaker, AccessDenied("no", storage="old:b"), FAILURES_IN_A_ROW - 1)
    with pytest.raises(CredentialsRefused):
        breaker.failed(AccessDenied("no", storage="old:b"))
    assert target.asked == 0


@pytest.mark.parametrize("cause", [Unreachable("gone"), AccessDenied("no", storage="old:b")])
def test_many_in_a_row_are_no_accident(cause: StorageError) -> None:
    breaker = breaker_of()
    failed(breaker, cause, FAILURES_IN_A_ROW - 1)
    with pytest.raises(type(cause)):
        breaker.failed(cause)


def test_what_works_in_between_starts_the_count_again() -> None:
    breaker = breaker_of()
    for _ in range(5):
        failed(breaker, Unreachable("gone"), FAILURES_IN_A_ROW - 1)
        breaker.worked()


def test_damaged_objects_never_end_a_run() -> None:
    failed(breaker_of(), Corrupt("bits", key=b"k"), 10 * FAILURES_IN_A_ROW)
