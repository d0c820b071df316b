"""Names in a package: exact in both directions, harmless to everybody, files and directories apart."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kit.hazards import TORTURE

from portabl.package_names import NAME_MAX, Names, canonical, decode

PARTS = st.sampled_from(
    [
        *(b"a", b"/", b".", b"!", b"!+", b"!-", b"!~", b"!2e", b"%", b" ", b"\n", b"\xff", b"\x00", b"con", b"$HOME"),
        *(b"\\", b"~", b"x" * 239, b"NUL.txt", b"*"),
        *(
            c.encode()
            for c in ("\u00e9", "e\u0301", "\u0301", "\u2028", "\u202e", "\uac00", "\u11a8", "\uff0f", "\u240a")
        ),
    ]
)
KEYS = st.lists(PARTS, max_size=8).map(b"".join)


def _names(keys: set[bytes]) -> dict[bytes, bytes]:
    names = Names()
    for key in sorted(keys):
        names.see(key)
    return {key: names.of(key) for key in keys}


def _harmless(path: bytes) -> None:
    text = path.decode("utf-8")
    assert unicodedata.normalize("NFC", text) == text
    assert not re.search(r'[\x00-\x1f\x7f%$\\:*?"<>|`]', text), text
    for name in text.split("/"):
        assert 0 < len(name.encode()) <= NAME_MAX
        assert name not in (".", "..")
        assert name.strip() == name
        assert not name.endswith(".")
        assert name.isprintable()
        assert not re.search("[\u201b\u2400-\u2426\uff01-\uff5e]", name), "rclone would read another name"
        assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name)


@given(st.sets(KEYS, max_size=40))
@example({b"a", b"a/b", b"a-b", b"a/b/c", b"", b"/", b"//", b"a/"})
@example({b"x" * 238, b"x" * 238 + b"/y", b"x" * 239, b"x" * 239 + b"/y", b"x" * 241 + b"/y", b"x" * 241})
def test_there_and_back(keys: set[bytes]) -> None:
    found = _names(keys)
    assert len(set(found.values())) == len(keys)
    folders = {path[: cut.start()] for path in found.values() for cut in re.finditer(b"/", path)}
    assert not folders & set(found.values()), "a file where a directory is needed"
    for key, path in found.items():
        _harmless(path)
        assert decode(path) == key
        assert canonical(path)
        learned = Names()
        assert learned.learn(path) == key
        assert learned.of(key) == path


def test_torture() -> None:
    found = _names(set(TORTURE))
    for key, path in found.items():
        _harmless(path)
        assert decode(path) == key


@pytest.mark.parametrize(
    "key", [b"a/b.txt", "K\u00f6ln/\u7530.tar.gz".encode(), b"year=2026/part-0 (1).csv", b"-rf", b"~x"]
)
def test_ordinary_keys_are_their_own_names(key: bytes) -> None:
    assert _names({key}) == {key: key}


@pytest.mark.parametrize(
    "path", [b"!", b"a!", b"!zz", b"!2E", b"!61", b"a//b", b"", b"a/", b"100%", b"a!-", b"con", b".", b"x\n"]
)
def test_what_is_no_name_is_a_stranger(path: bytes) -> None:
    assert not canonical(path)
