"""portabl.slots: the same class, made more quickly."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field

import pytest

from portabl.model import Entry, Record
from portabl.slots import filled_directly


@dataclass(frozen=True, slots=True)
class Slow:
    """As dataclasses make it."""

    key: bytes
    size: int
    etag: str = ""
    ordinal: int = 3


@filled_directly
@dataclass(frozen=True, slots=True)
class Quick:
    """The same."""

    key: bytes
    size: int
    etag: str = ""
    ordinal: int = 3


@pytest.mark.parametrize("arguments", [(b"a", 1), (b"a", 1, "e"), (b"a", 1, "e", 9)])
def test_fields_and_defaults_are_those_of_the_class_that_dataclasses_make(arguments: tuple[object, ...]) -> None:
    quick, slow = Quick(*arguments), Slow(*arguments)  # type: ignore[arg-type]
    assert dataclasses.astuple(quick) == dataclasses.astuple(slow)
    assert inspect.signature(Quick) == inspect.signature(Slow)
    assert quick == Quick(*arguments)
    assert hash(quick) == hash(Quick(*arguments))


def test_it_stays_frozen_and_can_be_copied_and_pickled() -> None:
    entry = Entry(key=b"k", size=2, etag="e")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.size = 3  # type: ignore[misc]
    assert dataclasses.replace(entry, size=3) == Entry(b"k", 3, "e")
    assert pickle.loads(pickle.dumps(entry)) == entry
    record = Record(b"k", 2, None)
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize("arguments", [(), (b"a",), (b"a", 1, "e", 9, "too many")])
def test_wrong_arguments_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        Quick(*arguments)  # type: ignore[arg-type]


def test_a_default_that_is_made_anew_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Made:
        names: list[str] = field(default_factory=list)

    with pytest.raises(TypeError, match="made anew"):
        filled_directly(Made)
