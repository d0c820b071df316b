"""Keys are shown on one harmless line, survive JSON, and are sorted into hazards."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.hazards import TORTURE

from portabl.keys import aliases, classes, from_json, plain, show, to_json

ANY = st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda s: s.encode("utf-8", "surrogatepass")))
DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY)
def test_what_is_shown_cannot_be_obeyed(key: bytes) -> None:
    shown = show(key)
    assert not {unicodedata.category(c) for c in shown} & DANGEROUS
    assert shown.encode("utf-8")
    assert (shown[0], shown[-1]) == ('"', '"')


@given(ANY, ANY)
def test_two_keys_are_never_shown_alike(one: bytes, other: bytes) -> None:
    assert (show(one) == show(other)) == (one == other)


@given(st.text())
def test_plain_text_is_one_printable_line(text: str) -> None:
    assert plain(text).isprintable()
    assert plain("ordinary, with spaces: é") == "ordinary, with spaces: é"


@given(ANY)
def test_json_brings_every_key_back(key: bytes) -> None:
    assert from_json(json.loads(json.dumps(to_json(key)))) == key


@pytest.mark.parametrize("value", [1, None, [], {}, {"base64": "?"}, {"base64": "YQ==", "more": 1}, {"base64": 1}])
def test_json_that_is_no_key(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(value)


@given(st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,9}\.?[a-z0-9]){1,5}(/[a-z0-9][a-z0-9_-]{0,9}){0,4}", fullmatch=True))
def test_ordinary_keys_have_no_hazard(name: str) -> None:
    if len(name) <= 240:
        assert classes(name.encode()) == frozenset()


def test_every_torture_key_but_the_plain_ones_has_a_hazard() -> None:
    plain_ones = {b"a/b", b"con", b"a", b"x", b".hidden"}
    assert {key for key in TORTURE if not classes(key)} == plain_ones


@pytest.mark.parametrize(
    ("key", "hazard"),
    [
        (b"a//b", "empty segment"),
        (b"/a", "empty segment"),
        (b"a/", "trailing slash"),
        (b"", "trailing slash"),
        (b"a/../b", "dot segment"),
        (b".", "dot segment"),
        (b"a\\b", "backslash"),
        (b"a.", "trailing dot or space"),
        (b"A", "upper case"),
        (b"z" * 256, "segment over 255 bytes"),
        (b"\xff", "not UTF-8"),
        ("é".encode(), "not NFD"),
        ("e\u0301".encode(), "not NFC"),
        ("\uff0f".encode(), "compatibility form"),
        ("\uffff".encode(), "rare code point"),
        (b"a\nb", "character '\\n'"),
        (b"a b", "character ' '"),
    ],
)
def test_hazards_by_name(key: bytes, hazard: str) -> None:
    assert hazard in classes(key)


@given(ANY)
def test_a_key_is_no_alias_of_itself(key: bytes) -> None:
    assert key not in aliases(key)
    assert b"" not in aliases(key)


@pytest.mark.parametrize(
    ("key", "alias"),
    [
        (b"a//b", b"a/b"),
        (b"/lead", b"lead"),
        (b"a/../b", b"b"),
        (b"./x", b"x"),
        (b"a\\b", b"a/b"),
        (b"A", b"a"),
        (b"x. ", b"x"),
        ("é".encode(), "e\u0301".encode()),
        ("e\u0301".encode(), "é".encode()),
    ],
)
def test_names_a_careless_store_would_use(key: bytes, alias: bytes) -> None:
    assert alias in aliases(key)
