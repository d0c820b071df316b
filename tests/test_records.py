"""Records as canonical JSON: exact both ways, strict when read, hashed as the specification says."""

from __future__ import annotations

import hashlib
import json
import time
import timeit
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import SAMPLE, TEXT, record, records

from portabl.errors import ManifestError
from portabl.model import Loss, Metadata, Record, Seen
from portabl.records import (
    INT_MAX,
    LINE_BYTES_MAX,
    at_target,
    canonical,
    decode,
    decode_own,
    encode,
    key_of,
    leaf,
    leaf_of_line,
    seen_later,
    sort_key,
    target_leaf,
)

LINE = encode(record(b"k", b"x", metadata=Metadata({"content-type": "a/b"}, {"m": "v"})))


@given(records())
def test_every_record_survives_exactly(one: Record) -> None:
    line = encode(one)
    assert decode(line) == one
    assert encode(decode(line)) == line
    assert b"\n" not in line


@given(records())
def test_the_leaf_is_the_hash_of_the_object_member(one: Record) -> None:
    part = json.loads(encode(one))["object"]
    assert leaf(one) == hashlib.sha256(b"\0" + canonical(part).encode()).digest()


@given(records())
def test_the_line_is_what_the_general_canonical_form_gives(one: Record) -> None:
    assert canonical(json.loads(encode(one))).encode() == encode(one)


@given(records(), st.data())
def test_a_changed_line_is_refused_or_is_another_record(one: Record, data: st.DataObject) -> None:
    line = encode(one)
    at = data.draw(st.integers(0, len(line) - 1))
    changed = line[:at] + bytes([data.draw(st.integers(0, 255))]) + line[at + 1 :]
    try:
        other = decode(changed)
    except ManifestError:
        return
    assert encode(other) == changed
    assert (other == one) == (changed == line)


# Text and names that look like the places a line is cut at; the last ones are written as base64, which is an object.
MARKS = ["source", "target", "object", "losses", ',"source":{', ',"target":{"', '],"object":{', "}", '\\"', "\udcff"]
_MARKED = st.lists(st.sampled_from(MARKS), max_size=3).map("".join)
_MARKED_GROUPS = st.dictionaries(_MARKED, _MARKED, max_size=4)
_MARKED_SEEN = st.builds(Seen, _MARKED, _MARKED, _MARKED)


@st.composite
def marked(draw: st.DrawFn) -> Record:
    """A record full of text that could be taken for the places its line is cut at."""
    metadata = Metadata({"content-type": draw(_MARKED)}, draw(_MARKED_GROUPS), draw(_MARKED_GROUPS), draw(_MARKED))
    said = st.one_of(st.none(), _MARKED)
    losses = draw(st.lists(st.builds(Loss, _MARKED, _MARKED, said, said), max_size=2))
    key = draw(_MARKED).encode("utf-8", "surrogateescape")
    source, target = draw(_MARKED_SEEN), draw(st.one_of(st.none(), _MARKED_SEEN))
    return Record(key, 1, "0" * 64, metadata, source=source, target=target, losses=tuple(losses))


@given(st.one_of(records(), marked()))
def test_what_is_cut_from_a_line_is_what_would_be_written_anew(one: Record) -> None:
    line = encode(one)
    assert decode_own(line) == one
    assert leaf_of_line(line, one) == leaf(one)
    if one.target is not None:
        later = replace(one, target=replace(one.target, modified="2026-11-30T10:00:00Z"))
        assert seen_later(line, one, "2026-11-30T10:00:00Z") == (encode(later), later)


@pytest.mark.parametrize("other", [one for one in SAMPLE if one.losses])
def test_nothing_is_cut_from_the_line_of_a_record_without_the_losses(other: Record) -> None:
    with pytest.raises(ManifestError, match="another record"):
        leaf_of_line(LINE, other)


def test_a_line_without_a_target_is_given_none() -> None:
    with pytest.raises(ManifestError, match="another record"):
        seen_later(encode(record(b"k", target=None)), record(b"k"), "now")


def test_a_line_that_the_time_makes_too_long_is_refused() -> None:
    room = LINE_BYTES_MAX - len(encode(record(b"k", metadata=Metadata(user={"a": ""}))))
    one = record(b"k", metadata=Metadata(user={"a": "x" * room}))
    with pytest.raises(ManifestError, match="more than"):
        seen_later(encode(one), one, "now")


def test_a_line_of_our_own_that_was_torn_or_has_more_behind_it_is_none() -> None:
    for bad in [*(LINE[:end] for end in range(len(LINE))), LINE + b" ", LINE + b"{}", LINE + LINE]:
        with pytest.raises(ManifestError):
            decode_own(bad)


def test_members_are_sorted_by_utf16_code_units() -> None:
    # U+1F600 is D83D DE00 in UTF-16, so it comes before U+FFEE although its code point is larger.
    line = encode(record(b"k", metadata=Metadata(user={"\uffee": "1", "\U0001f600": "2", "z": "3"})))
    assert '"user":{"z":"3","\U0001f600":"2","\uffee":"1"}'.encode() in line
    assert canonical({"\uffee": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\uffee":1}'


def test_escapes_are_those_of_rfc8785() -> None:
    assert canonical('\x00\b\t\n\f\r\x1f\x7f"\\/é') == r'"\u0000\b\t\n\f\r\u001f' + '\x7f\\"\\\\/é"'


def test_bytes_that_are_no_unicode_are_base64_and_only_those() -> None:
    line = encode(record(b"\xff", metadata=Metadata({"content-type": "\udcff"}, {"a": "1", "\udcfe": "2"})))
    part = json.loads(line)["object"]
    assert part["key"] == part["headers"]["content-type"] == {"base64": "/w=="}
    assert part["user"] == [["a", "1"], [{"base64": "/g=="}, "2"]]
    assert decode(line).metadata.user == {"a": "1", "\udcfe": "2"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"object":' * 50_000,
        b'{"object":{"key":"k"}}',
        b'{"object":{"size":0}}',
        b'{"object":{"key":"k","size":-1}}',
        b'{"object":{"key":"k","size":1.0}}',
        b'{"object":{"key":"k","size":"1"}}',
        b'{"object":{"key":"k","size":true}}',
        b'{"object":{"key":"k","size":NaN}}',
        b'{"object":{"key":"k","size":9007199254740992}}',
        b'{"object":{"key":"k","size":' + b"9" * 5000 + b"}}",
        b'{"object":{"key":7,"size":1}}',
        b'{"object":{"key":null,"size":1}}',
        b'{"object":{"key":"\\ud800","size":1}}',
        b'{"object":{"key":"\\udcff","size":1}}',
        b'{"object":{"key":"\\u00e9","size":1}}',
        b'{"object":{"key":{"base64":"YQ=="},"size":1}}',
        b'{"object":{"key":{"base64":"/x=="},"size":1}}',
        b'{"object":{"key":{"base64":"/w"},"size":1}}',
        b'{"object":{"key":{"base64":"/w=="},"size":1,"user":{"a":7}}}',
        b'{"object":{"key":{"base64":7},"size":1}}',
        b'{"object":{"key":{"base64":"/w==","x":1},"size":1}}',
        b'{"object":{"key":"a","key":"k","size":1}}',
        b'{"object":{"size":1,"key":"k"}}',
        b'{"object":{"key":"k","ordinal":0,"size":1}}',
        b'{"object":{"key":"k","ordinal":-1,"size":1}}',
        b'{"object":{"delete_marker":false,"key":"k","size":1}}',
        b'{"object":{"delete_marker":1,"key":"k","size":0}}',
        b'{"object":{"delete_marker":true,"key":"k","size":1}}',
        b'{"object":{"key":"k","sha256":null,"size":1}}',
        b'{"object":{"key":"k","sha256":"00","size":1}}',
        b'{"object":{"key":"k","sha256":"' + b"A" * 64 + b'","size":1}}',
        b'{"object":{"key":"k","sha256":"' + b"0" * 64 + b'\\n","size":1}}',
        b'{"object":{"key":"k","size":1,"user":{}}}',
        b'{"object":{"key":"k","size":1,"user":[]}}',
        b'{"object":{"key":"k","size":1,"user":[["a","b"]]}}',
        b'{"object":{"key":"k","size":1,"user":"ab"}}',
        b'{"object":{"key":"k","size":1,"user":{"a":null}}}',
        b'{"object":{"key":"k","size":1,"user":[["a","b"],[{"base64":"/w=="},"c"],["a","b"]]}}',
        b'{"object":{"headers":{"Content-Type":"a"},"key":"k","size":1}}',
        b'{"object":{"headers":{"user.a":"a"},"key":"k","size":1}}',
        b'{"object":{"headers":{"storage-class":"a"},"key":"k","size":1}}',
        b'{"object":{"key":"k","new":1,"size":1}}',
        b'{"new":1,"object":{"key":"k","size":1}}',
        b'{"losses":[],"object":{"key":"k","size":1}}',
        b'{"losses":{},"object":{"key":"k","size":1}}',
        b'{"losses":[{"field":"x"}],"object":{"key":"k","size":1}}',
        b'{"losses":[{"field":"x","reason":"","value":null}],"object":{"key":"k","size":1}}',
        b'{"losses":[{"field":"x","new":"","reason":""}],"object":{"key":"k","size":1}}',
        b'{"losses":["field"],"object":{"key":"k","size":1}}',
        b'{"object":{"key":"k","size":1},"source":{}}',
        b'{"object":{"key":"k","size":1},"source":{"etag":""}}',
        b'{"object":{"key":"k","size":1},"source":{"etag":1}}',
        b'{"object":{"key":"k","size":1},"source":null}',
        b'{"object":{"key":"k","size":1},"target":null}',
        b'{"object":{"key":"k","size":1},"target":{"other":"x"}}',
        LINE + b" ",
        LINE + b"\n",
        b" " + LINE,
        b"\xef\xbb\xbf" + LINE,
        LINE[:-1],
        LINE.replace(b",", b", ", 1),
        LINE.replace(b"a/b", b"a\\/b"),
    ],
)
def test_anything_but_exactly_a_record_is_refused(line: bytes) -> None:
    with pytest.raises(ManifestError) as caught:
        decode(line)
    assert caught.value.exit_code == 3
    assert len(str(caught.value)) < 500


def test_what_could_not_be_read_back_is_not_written() -> None:
    good = record(b"k")
    metadata = [Metadata({"Content-Type": "x"}), Metadata({"user.x": "x"}), Metadata(user={"a": "\ud800"})]
    metadata += [Metadata({"acl": "x"}), Metadata(lock={"other": "x"}), Metadata(lock={"mode": ""})]
    bad = [
        replace(good, size=-1),
        replace(good, size=INT_MAX + 1),
        replace(good, size=True),
        replace(good, ordinal=-1),
        replace(good, sha256="00"),
        replace(good, delete_marker=True),
        replace(good, key="text"),
        replace(good, source=Seen(etag=b"bytes")),
        replace(good, losses=(Loss("x", "y" * 2**22),)),
        *(replace(good, metadata=one) for one in metadata),
    ]
    for one in bad:
        with pytest.raises(ManifestError):
            encode(one)


def target_of(metadata: Metadata, *losses: Loss) -> bytes | None:
    return target_leaf(record(b"k", metadata=metadata, losses=losses))


FULL = Metadata(
    {"content-type": "a/b", "expires": "0"},
    {"a": "1", "b": "2"},
    {"t": "3"},
    "COLD",
    "public-read",
    {"mode": "GOVERNANCE", "until": "2099-01-01T00:00:00Z"},
)


@pytest.mark.parametrize(
    ("losses", "left"),
    [
        ([], FULL),
        ([Loss("user.a", "gone", "1")], replace(FULL, user={"b": "2"})),
        ([Loss("user.a", "changed", "1", "9")], replace(FULL, user={"a": "9", "b": "2"})),
        ([Loss("expires", "gone")], replace(FULL, headers={"content-type": "a/b"})),
        ([Loss("expires", "changed", "0", "1")], replace(FULL, headers={"content-type": "a/b", "expires": "1"})),
        ([Loss("cache-control", "added", None, "x")], replace(FULL, headers={**FULL.headers, "cache-control": "x"})),
        ([Loss("tag.new", "added", None, "x")], replace(FULL, tags={"t": "3", "new": "x"})),
        ([Loss("storage-class", "gone")], replace(FULL, storage_class="")),
        ([Loss("storage-class", "changed", None, "HOT")], replace(FULL, storage_class="HOT")),
        ([Loss("tags", "no tags")], replace(FULL, tags={})),
        ([Loss("user", "no metadata", became="x")], replace(FULL, user={})),
        ([Loss("headers", "no headers")], replace(FULL, headers={})),
        ([Loss("metadata", "bodies only")], Metadata()),
        ([Loss("metadata", "gone"), Loss("user.a", "came back", None, "1")], Metadata(user={"a": "1"})),
        ([Loss("acl", "not kept", "public-read")], replace(FULL, acl="")),
        ([Loss("acl", "changed", "public-read", "private")], replace(FULL, acl="private")),
        ([Loss("lock", "no locks")], replace(FULL, lock={})),
        ([Loss("lock.until", "gone")], replace(FULL, lock={"mode": "GOVERNANCE"})),
        ([Loss("lock.hold", "added", None, "ON")], replace(FULL, lock={**FULL.lock, "hold": "ON"})),
        ([Loss("lock.mode", "emptied", None, ""), Loss("lock.until", "gone")], replace(FULL, lock={})),
        ([Loss("lock.other", "unknown", None, "x"), Loss("history", "longer", None, "x")], FULL),
        ([Loss("tag.unknown", "gone")], FULL),
    ],
)
def test_losses_are_applied_to_what_the_target_holds(losses: list[Loss], left: Metadata) -> None:
    assert target_of(FULL, *losses) == leaf(record(b"k", metadata=left))


def test_a_lost_object_has_no_leaf_at_the_target() -> None:
    assert target_of(FULL, Loss("user.a", "gone"), Loss("object", "refused")) is None


@given(records())
def test_without_losses_both_leaves_are_one(one: Record) -> None:
    assert target_leaf(replace(one, losses=())) == leaf(one)


def test_only_what_was_written_and_read_is_at_the_target() -> None:
    assert [at_target(one) for one in SAMPLE] == [True, True, True, False, True]
    assert not at_target(record(b"k", target=None))
    assert not at_target(replace(record(b"k"), sha256=None))


@given(TEXT.map(lambda text: text.encode("utf-8", "surrogateescape")))
def test_keys_of_the_document_survive(key: bytes) -> None:
    value = json.loads(encode(record(key)))["object"]["key"]
    assert key_of(value) == key


def test_sort_key_is_bytes_then_version() -> None:
    assert sort_key(Record(b"k", 0, None, ordinal=3)) == (b"k", 3)


@pytest.mark.parametrize("value", [1.5, b"bytes", {1: 2}, {"a": object()}, INT_MAX + 1, {"a": {7: 1, "b": 2}}])
def test_the_document_holds_only_what_has_a_canonical_form(value: object) -> None:
    with pytest.raises(ManifestError):
        canonical(value)


@pytest.mark.slow
def test_the_codec_is_fast() -> None:
    """Generous bounds (several times what an idle machine needs), against a slip by an order of magnitude."""
    headers = {"content-type": "image/jpeg", "cache-control": "max-age=3600", "content-disposition": "inline"}
    one = record(b"photos/2024/07/holiday-0001.jpg", b"x", metadata=Metadata(headers))
    line = encode(one)
    for call, microseconds in ((lambda: encode(one), 36), (lambda: decode(line), 40), (lambda: leaf(one), 24)):
        best = min(timeit.repeat(call, number=2000, repeat=7, timer=time.thread_time)) / 2000
        assert best * 1e6 < microseconds
