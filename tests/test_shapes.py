"""Metadata proven by shape: what a store does to one object of a kind it does to all; every difference has a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl import shapes
from portabl.model import HEADERS, Metadata, ObjectInfo
from portabl.shapes import Shapes, beyond, compare, shape, without
from portabl.storage import Capabilities
from portabl.tasks import Task, aside, finish

TEXT = st.text(max_size=12)
PAIRS = st.dictionaries(st.text("abc-", min_size=1, max_size=4), TEXT, max_size=4)
METADATA = st.builds(
    Metadata,
    headers=st.dictionaries(st.sampled_from(HEADERS), TEXT, max_size=4),
    user=PAIRS,
    tags=PAIRS,
    storage_class=st.sampled_from(["", "STANDARD", "COLD"]),
)


@given(METADATA, METADATA)
def test_every_difference_is_named_once(ours: Metadata, theirs: Metadata) -> None:
    a, b = ours.fields(), theirs.fields()
    differing = {name for name in {*a, *b} if a.get(name) != b.get(name)}
    if not ours.storage_class:
        differing.discard("storage-class")
    losses = compare(ours, theirs)
    assert sorted(loss.field for loss in losses) == sorted(differing)
    for loss in losses:
        assert (loss.value, loss.became) == (a.get(loss.field), b.get(loss.field)) or loss.field == "storage-class"
        assert ("added" in loss.reason) == (loss.field not in a)


@given(METADATA, METADATA)
def test_what_is_left_once_losses_are_accepted(ours: Metadata, theirs: Metadata) -> None:
    left = without(ours, compare(ours, theirs)).fields()
    assert left.items() <= ours.fields().items()
    assert left.items() <= theirs.fields().items()
    assert without(ours, ()) is ours


@given(METADATA)
def test_fields_and_back(metadata: Metadata) -> None:
    assert Metadata.from_fields(metadata.fields()) == metadata


def test_what_a_target_has_no_place_for_is_known_before() -> None:
    full = Metadata({"content-type": "a/b", "expires": "never"}, {"u": "1"}, {"t": "2"})
    none = Capabilities(headers=frozenset({"content-type"}), user_metadata=False, tags=False)
    losses = beyond(none, full)
    assert {loss.field for loss in losses} == {"expires", "user.u", "tag.t"}
    assert without(full, losses) == Metadata({"content-type": "a/b"})
    assert beyond(Capabilities(), full) == ()
    assert beyond(Capabilities(metadata_in_manifest=True, tags=False), full) == ()


class Target:
    """Answers for objects, and remembers for which."""

    def __init__(self) -> None:
        self.held: dict[bytes, Metadata] = {}
        self.asked: list[bytes] = []

    def stating(self, key: bytes) -> Task[ObjectInfo]:
        yield aside
        self.asked.append(key)
        return ObjectInfo(1, metadata=self.held[key])


def test_a_whole_shape_is_asked_for_once_and_a_broken_one_every_time() -> None:
    target = Target()
    seen = Shapes(target.stating)
    for number in range(5):
        key = b"k%d" % number
        whole, broken = Metadata(user={"n": str(number)}), Metadata(tags={"n": str(number)})
        target.held = {key: whole, key + b"t": Metadata()}
        assert finish(seen.losses(key, 1, whole)) == ()
        assert [loss.field for loss in finish(seen.losses(key + b"t", 1, broken))] == ["tag.n"]
    assert target.asked == [b"k0", *(b"k%dt" % number for number in range(5))]


def test_shapes_differ_where_a_store_may() -> None:
    def of(value: str, key: bytes = b"k", size: int = 1, field: str = "n") -> object:
        return shape(key, size, Metadata(user={field: value}))

    assert of("blue") == of("pink")
    assert of("7 of 9") == of("1 of 3")
    different = [
        of(value) for value in ("a", "A", "1", "a b", " a", "a ", "a  b", "é", "世", "😀", "a+", "a%", "", "a" * 300)
    ]
    raw = "\udce9"  # a byte that is no UTF-8
    different += [of(value) for value in ("caf\u4e16", f"caf{raw}", "caf\u0301", "caf\x85", "\tb", "b\t", "a\tb")]
    different += [of(value) for value in ("100% 2b", "a%2b 00", "=?B?a=?Q0", "=?a?B?0=?=", "a;& ", "&a; ")]
    different += [of("a" * 1024), of("a" * 1025), of('"a b"'), of('a "b')]
    different += [of("a", b"a//b"), of("a", size=0), of("a", field="m"), shape(b"k", 1, Metadata(tags={"n": "a"}))]
    assert len(set(different)) == len(different)
    types = [shape(b"k", 1, Metadata({"content-type": value})) for value in ("text/html", "text/htmx")]
    assert types[0] != types[1], "stores treat content types one by one"
    gmt, other, est = (
        f"Thu, {day} Dec 2033 16:00:00 {zone}" for day, zone in (("01", "GMT"), ("22", "GMT"), ("01", "EST"))
    )
    dates = [shape(b"k", 1, Metadata({"expires": date})) for date in (gmt, other, est)]
    assert dates[0] == dates[1] != dates[2], "a store that parses dates writes it anew in GMT"
    assert shape(b"k", 1, Metadata(), "parts") != shape(b"k", 1, Metadata()), "multipart is another path in a store"


def test_the_memory_of_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPES_MAX", 3)
    target = Target()
    seen = Shapes(target.stating)
    for number in range(20):
        metadata = Metadata(user={f"n{number}": "x"})
        target.held = {b"k": metadata}
        assert finish(seen.losses(b"k", 1, metadata)) == ()
        assert len(seen._whole) <= 3
