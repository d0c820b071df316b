"""Digests, and what counts as one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl.checksum import MD5_ETAG, Whole, body, confirm
from portabl.errors import Corrupt


@given(st.binary(), st.booleans())
def test_a_body_carries_its_digests(data: bytes, md5: bool) -> None:
    made = body(memoryview(data), md5=md5)
    assert bytes(made.data) == data
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    assert made.md5 == (hashlib.md5(data).hexdigest() if md5 else "")


@given(st.lists(st.binary()))
def test_pieces_give_the_digest_of_the_whole(pieces: list[bytes]) -> None:
    whole = Whole("sha256", "md5", "sha256")
    for piece in pieces:
        whole.update(piece)
    data = b"".join(pieces)
    assert whole.hexdigests() == {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}


def test_a_claim_is_held_against_the_bytes() -> None:
    ours = {"sha256": "aa", "md5": ""}
    confirm({}, ours, b"k", "store")
    confirm({"sha256": "aa"}, ours, b"k", "store")
    confirm({"crc64": "zz", "md5": "not computed"}, ours, b"k", "store")
    with pytest.raises(Corrupt, match=r"store: sha256 differs.*ab.*aa.*\"k\""):
        confirm({"crc64": "zz", "sha256": "ab"}, ours, b"k", "store")


@pytest.mark.parametrize(
    ("etag", "is_one"), [("0" * 32, True), ("0" * 31, False), ("A" * 32, False), ("0" * 32 + "-2", False)]
)
def test_which_etags_are_digests(etag: str, is_one: bool) -> None:
    assert (MD5_ETAG.fullmatch(etag) is not None) is is_one
