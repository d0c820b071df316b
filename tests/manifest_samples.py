"""Records to make manifests of: a few by hand, and any by Hypothesis."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from portabl.files import Files
from portabl.manifest import Manifest, ManifestWriter
from portabl.model import HEADERS, LOCK, Loss, Metadata, Record, Seen
from portabl.records import encode, sort_key

TEXT_BYTES = st.one_of(
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"", b"caf\xc3\xa9", b"\xff", b"\xed\xa0\x80", "\U0001f600".encode(), "\uffee\ue000".encode()]),
    st.binary(max_size=6),
)
TEXT = TEXT_BYTES.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
KEYS = st.one_of(TEXT_BYTES, st.sampled_from([b"a/b", b"a//b", b"a/../b", b"dir/", b"back\\slash", b"new\nline"]))
GROUPS = st.dictionaries(TEXT, TEXT, max_size=3)
LOCKS = st.dictionaries(st.sampled_from(LOCK), TEXT.filter(bool), max_size=2)
SIZES = st.one_of(st.integers(0, 10), st.just(2**53 - 1))
SEEN = st.builds(Seen, TEXT, TEXT, TEXT)
HASHES = st.binary(max_size=2).map(lambda data: hashlib.sha256(data).hexdigest())


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record a manifest can hold."""
    marker = draw(st.booleans()) and draw(st.booleans())
    metadata = Metadata(draw(st.dictionaries(st.sampled_from(HEADERS), TEXT, max_size=3)), draw(GROUPS), draw(GROUPS))
    fields = st.one_of(
        st.sampled_from(["object", "tags", "user", "headers", "metadata", "acl", "storage-class", "lock", *HEADERS]),
        st.sampled_from([*metadata.fields(), "user.x", "tag.", "lock.mode", "lock.until", "lock.x"]),
        TEXT,
    )
    texts = st.one_of(st.none(), TEXT)
    losses = draw(st.lists(st.builds(Loss, fields, TEXT, texts, texts), max_size=3))
    return Record(
        draw(KEYS),
        0 if marker else draw(SIZES),
        None if marker else draw(st.one_of(HASHES, HASHES, st.none())),
        Metadata(metadata.headers, metadata.user, metadata.tags, draw(TEXT), draw(TEXT), draw(LOCKS)),
        draw(st.sampled_from([0, 0, 0, 1, 7])),
        marker,
        draw(SEEN),
        draw(st.one_of(SEEN, st.none())),
        tuple(losses),
    )


def record(key: bytes, data: bytes = b"", **fields: object) -> Record:
    """A plain record of some bytes that arrived."""
    digest = hashlib.sha256(data).hexdigest()
    return Record(key, len(data), digest, **{"source": Seen("e1"), "target": Seen("e2"), **fields})  # type: ignore[arg-type]


def written(files: Files, items: list[Record], segment_records: int = 100, **document: object) -> Manifest:
    """A finished manifest of these records."""
    with ManifestWriter(files, segment_records) as writer:
        for item in sorted(items, key=sort_key):
            writer.add(encode(item), item)
        return writer.finish(document)


SAMPLE = [
    record(b"a", b"first", metadata=Metadata({"content-type": "text/plain"})),
    record(b"b\xff", b"second", metadata=Metadata(user={"caf\udcc3": "x"}, tags={"team": "blue"})),
    record(b"c", b"", losses=(Loss("tag.team", "tags are not kept", "red"),), metadata=Metadata(tags={"team": "red"})),
    record(b"d", target=None, losses=(Loss("object", "refused"),)),
    Record(b"e", 0, None, delete_marker=True, ordinal=1, target=Seen()),
]
