"""Names of files for keys: exact in both directions, for any key and any name."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portabl_adapters.local_names import (
    NAME_MAX,
    alternative,
    decode,
    encode,
    natural,
    piece,
    reserved,
    spellings,
    temporary,
    understand,
)

# bytes that matter to the scheme come up often enough to meet each other
TRICKY = st.lists(
    st.sampled_from(
        [b"%~", b"=", b"!", b"+", b"%", b"%00", b"%25", b"%7e", b"%41", b"a", b"A", b".", b"/", b"\0", b"\xff"]
    )
    | st.binary(max_size=3),
    max_size=12,
).map(b"".join)
LONG = st.builds(
    lambda unit, count, tail: unit * count + tail, st.binary(min_size=1, max_size=3), st.integers(60, 400), TRICKY
)
KEYS = TRICKY | LONG | st.binary(max_size=40)
SEGMENTS = KEYS.map(lambda key: key.replace(b"/", b""))
NAMES = (
    (SEGMENTS | SEGMENTS.map(lambda s: natural(s)[-1]) | SEGMENTS.map(lambda s: alternative(s)[-1]))
    .map(lambda name: name.replace(b"\0", b""))
    .filter(lambda name: 0 < len(name) <= NAME_MAX and name not in (b".", b".."))
)


@given(key=KEYS, fold=st.booleans())
@settings(max_examples=300)
@example(key=b"", fold=False)
@example(key=b"/", fold=False)
@example(key=b"%~=%25~=", fold=False)
@example(key=b"%~+" + b"x" * 250, fold=False)
@example(key=b"%~tmp-0123456789abcdef/x", fold=False)
@example(key=b"x" * 256, fold=False)
@example(key=b"\0" * 1024, fold=True)
def test_every_key_has_a_path_and_comes_back(key: bytes, fold: bool) -> None:
    """Also where case is folded; and every name on the way is one a filesystem can hold."""
    path = encode(key, fold)
    assert decode(path) == key
    for name in path:
        assert 0 < len(name) <= NAME_MAX
        assert name not in (b".", b"..")
        assert b"/" not in name
        assert b"\0" not in name
        assert not temporary(name)
        assert not fold or (name == name.lower() and name.isascii())


@given(segment=SEGMENTS, fold=st.booleans())
@settings(max_examples=200)
def test_the_alternative_name_means_the_same(segment: bytes, fold: bool) -> None:
    """And is never the natural one, nor that of a temporary directory."""
    names = alternative(segment, fold)
    assert understand(names) == segment
    assert names != natural(segment, fold)
    assert all(0 < len(name) <= NAME_MAX and not temporary(name) for name in names)


@given(one=SEGMENTS, other=SEGMENTS, fold=st.booleans())
@settings(max_examples=200)
def test_two_segments_never_share_a_spelling(one: bytes, other: bytes, fold: bool) -> None:
    """Neither of those that are written may be mistaken for another segment's."""
    if one != other:
        assert not {natural(one, fold), alternative(one, fold)} & {natural(other, fold), alternative(other, fold)}


@given(name=NAMES)
@settings(max_examples=300)
@example(name=b"%~=abc")
@example(name=b"%~!")
@example(name=b"%~=%2F")
@example(name=b"%~=%41")
def test_a_name_that_is_there_has_one_meaning(name: bytes) -> None:
    """It is found again under the key it is listed as."""
    segment = understand((name,))
    assert segment is not None
    assert b"/" not in segment
    assert (name,) in list(spellings(segment))


@given(names=st.sets(NAMES, max_size=8))
@settings(max_examples=200)
def test_names_in_one_directory_are_told_apart(names: set[bytes]) -> None:
    """Two names mean the same segment only as the natural and a second spelling of it, which the listing reports."""
    meaning: dict[bytes, list[bytes]] = {}
    for name in names:
        segment = understand((name,))
        assert segment is not None
        meaning.setdefault(segment, []).append(name)
    for segment, several in meaning.items():
        assert {(name,) for name in several} <= set(spellings(segment))


@given(segment=SEGMENTS, fold=st.booleans())
@settings(max_examples=300)
@example(segment=b"%~=%25~=", fold=False)
def test_nothing_of_another_segment_is_looked_at(segment: bytes, fold: bool) -> None:
    """Every name under which a segment is looked for means that segment."""
    assert {understand(names) for names in spellings(segment, fold)} == {segment}


@given(name=NAMES)
@settings(max_examples=200)
def test_reserved_names_are_those_that_do_not_stand_for_themselves(name: bytes) -> None:
    """A key that equals such a name is spelled, every other is written as it is."""
    assert (natural(name) == (name,)) == (not reserved(name))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"ordinary/Name 1.txt", [b"ordinary", b"Name 1.txt"]),
        (b"dir/", [b"dir", b"%~="]),
        (b"a//b", [b"a", b"%~=", b"b"]),
        (b"/lead", [b"%~=", b"lead"]),
        (b"../x", [b"%~=..", b"x"]),
        (b"100%~", [b"100%~"]),
        (b"%~notes", [b"%~notes"]),
        (b"a\0b", [b"%~=a%00b"]),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ],
)
def test_examples_of_the_documentation(key: bytes, path: list[bytes]) -> None:
    """The scheme is a promise: a tree written today is read by every later version."""
    assert list(encode(key)) == path


def test_a_long_segment_is_pieces_that_begin_alike_for_alike_keys() -> None:
    """300 bytes: one directory of 253 to 255 bytes, then the rest."""
    first, second = encode(b"y" * 300)
    assert piece(first)
    assert (len(first), second) == (253, b"%~=" + b"y" * 50)


def test_pieces_that_do_not_add_up_are_no_key() -> None:
    """A chain that portabl would have written in one name."""
    assert understand((b"%~+" + b"y" * 250, b"%~=z")) is None
    with pytest.raises(ValueError, match="no spelling"):
        decode((b"%~+" + b"y" * 250, b"%~=z"))
