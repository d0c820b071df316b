"""Pages read by regular expressions are read as the XML parser reads them: the same entries, the same refusals."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.s3_opened import body, opened
from kit.servers import S3Server

from portabl.model import Metadata
from portabl_adapters.s3 import listing, quickpage, replies

OWNER = "<Owner><ID>75aa</ID><DisplayName>me</DisplayName></Owner>"
KINDS = {
    "SeaweedFS": "<Contents><Key>{key}</Key><ETag>&#34;{etag}&#34;</ETag><Size>{size}</Size>" + OWNER + "</Contents>",
    "AWS": "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
    "<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
    "quotes as they are": '<Contents><Size>{size}</Size><Key>{key}</Key><ETag>"{etag}"</ETag></Contents>',
    "no quotes": "<Contents><Key>{key}</Key><ETag>{etag}</ETag><Size>{size}</Size></Contents>",
}
KEYS = st.binary(min_size=1, max_size=12)


def page(kind: str, keys: list[bytes], *, encoded: bool = True) -> bytes:
    """A page as a server writes it."""
    contents = "".join(
        KINDS[kind].format(
            key=quote_from_bytes(key, safe="/").replace("%20", "+"),
            etag="d41d8cd98f00b204e9800998ecf8427e" if number % 3 else "d41d8cd98f00b204e9800998ecf8427e-12",
            size=number * 977,
            time=f"2026-11-30T15:00:{number % 60:02d}.000Z",
        )
        for number, key in enumerate(keys)
    )
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>b</Name><Prefix></Prefix><KeyCount>{len(keys)}</KeyCount>{encoding}<IsTruncated>true</IsTruncated>"
        f"{contents}<NextContinuationToken>t0/ken=</NextContinuationToken></ListBucketResult>"
    ).encode()


def read(data: bytes, *, quick: bool) -> object:
    """What comes of a page: it, or that it cannot be read."""
    try:
        return replies.listing(data) if quick else replies.listed(data, 2)
    except replies.Unreadable:
        return "unreadable"


@given(st.sampled_from(sorted(KINDS)), st.lists(KEYS, min_size=1, max_size=5), st.booleans())
def test_the_same_entries(kind: str, keys: list[bytes], encoded: bool) -> None:
    data = page(kind, keys, encoded=encoded)
    parts = quickpage.cut(data)
    assert parts is not None
    assert quickpage.entries(parts[1]) is not None, "the quick way is not taken"
    assert read(data, quick=True) == read(data, quick=False) != "unreadable"


PIECES = st.sampled_from(
    [
        *b"< > & \" ' &quot; &lt; &#x41; ]]> <!----> <![CDATA[x]]> <?pi?> <!DOCTYPE&x>".split(),
        *b"-1 + %41 % x 111111111111111111111".split(),
        *b"<Key>z</Key> </Contents> <Contents> <Contents/> <Owner> </Owner> <Size>7</Size> <X> </X> <X/>".split(),
        b"<Contents><Key>k</Key></Contents>",
        b"<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>",
        *(b"", b" ", b"\n", b"\r\n", b"\0", b"\x01", b"\xc3\xa9", b"\xff", b"\xd9\xa3"),
    ]
)
SEAMS = st.sampled_from([b"</Contents>", b"<Contents>", b"<Key>", b"</Key>", b"</Size>"])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_damaged_or_odd_page_is_read_the_same_way_or_refused_the_same_way(kind: str, data: st.DataObject) -> None:
    whole = page(kind, [b"a", b"b/c d", b"\xc3\xa9"])
    at = data.draw(st.integers(0, len(whole)), "at")
    gone = data.draw(st.integers(0, 30), "gone")
    spoiled = whole[:at] + data.draw(PIECES, "instead") + whole[at + gone :]
    assert read(spoiled, quick=True) == read(spoiled, quick=False)


@given(
    st.sampled_from(sorted(KINDS)),
    PIECES,
    st.sampled_from([b"</Contents>", b"<Contents>", b"<Key>", b"</Key>", b"</Size>"]),
)
def test_every_piece_at_every_seam(kind: str, piece: bytes, seam: bytes) -> None:
    whole = page(kind, [b"a", b"b", b"c"])
    at = -1
    while (at := whole.find(seam, at + 1)) >= 0:
        for spoiled in (whole[:at] + piece + whole[at:], whole[: at + len(seam)] + piece + whole[at + len(seam) :]):
            assert read(spoiled, quick=True) == read(spoiled, quick=False), spoiled


def test_contents_that_are_nested_are_no_contents() -> None:
    whole = page("no quotes", [b"a", b"b"])
    nested = whole.replace(b"<Contents>", b"<Wrap><Contents>", 1)
    nested = nested.replace(b"<NextCont", b"</Wrap><NextCont", 1)
    assert read(nested, quick=True) == "unreadable", "the page counts two keys and shows none"
    assert getattr(read(nested, quick=False), "entries", None) == []


@pytest.mark.parametrize("name", ["seaweed", "moto"])
def test_pages_of_real_servers(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    server: S3Server = request.getfixturevalue(name)
    with opened(server, server.bucket()) as storage:
        for number in range(5):
            storage.write(b"a b/%d+%%" % number, body(b"x" * number), Metadata())
        pages: list[bytes] = []
        original = replies.listing

        def kept(data: bytes, version: int = 2) -> replies.Page:
            pages.append(bytes(data))
            return original(data, version)

        monkeypatch.setattr(listing.replies, "listing", kept)
        found = list(storage.entries())
        assert [entry.size for entry in found] == list(range(5))
        assert read(pages[0], quick=True) == read(pages[0], quick=False)
        parts = quickpage.cut(pages[0])
        assert parts is not None
        assert quickpage.entries(parts[1]) is not None, "the quick way is not taken"
