"""What S3 says in XML, read without trust.

Only UTF-8, no document type, no entities of its own, bounded size, the expected root element: anything else is no
answer. https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

from portabl.model import Entry
from portabl_adapters.s3 import quickpage

XML_BYTES_MAX = 16 * 2**20
XML_TAGS_MAX = 100_000
"""A page of 1000 keys has about 20,000; each may cost 1 kB of memory, wherever it is nested."""


class Unreadable(Exception):
    """An XML answer that cannot be believed."""


_LISTING_ECHO = rb"Prefix|StartAfter|Marker|NextMarker|ContinuationToken|NextContinuationToken|KeyMarker|NextKeyMarker"
_ECHO = re.compile(rb"<(" + _LISTING_ECHO + rb"|Key|Location)>[^<]*</\1>")
ECHO_BUT_KEYS = re.compile(rb"<(" + _LISTING_ECHO + rb")>[^<]*</\1>")


def parse(body: bytes | memoryview, *roots: str, echo: re.Pattern[bytes] = _ECHO) -> tuple[ET.Element, str]:
    """The root element, which must be one of ``roots``, and its namespace as ``{...}`` or "". Raises Unreadable.

    Ceph repeats what was asked for (keys, prefixes) unencoded, control characters and all, which is no XML. A document
    that cannot be read is tried once more without these elements: ``echo`` are those nobody looks at.
    """
    try:
        return _parse(body, roots)
    except Unreadable:
        return _parse(echo.sub(rb"<\1>-</\1>", bytes(body)), roots)


def _parse(body: bytes | memoryview, roots: tuple[str, ...]) -> tuple[ET.Element, str]:
    data = bytes(body)
    if len(data) > XML_BYTES_MAX or data.count(b"<") > XML_TAGS_MAX or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise Unreadable("the XML is too large, or declares a document type or entities")
    if b"\0" in data:  # UTF-16, in which the words above look different
        raise Unreadable("the answer is not UTF-8")
    try:
        parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - no document type, hence no entities; the size is bounded
        parser.feed(data)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise Unreadable(f"not well-formed XML: {error}") from None
    namespace, brace, name = root.tag.rpartition("}")
    if name not in roots:
        raise Unreadable(f"the answer is <{name[:60]}>, expected <{roots[0]}>")
    return root, namespace + brace


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: entries with full keys, and the token of the next page ("" at the end).

    ``encoded``: the page says that its keys are percent-encoded. ``counted``: how many keys it says to have, 0 when it
    does not say.
    """

    entries: list[Entry]
    truncated: bool
    token: str
    encoded: bool = False
    counted: int = 0


def listing(body: bytes | memoryview, version: int = 2) -> Page:
    """A page of ListObjectsV2 or ListObjects (v1). Raises Unreadable.

    The request asked for ``encoding-type=url``. Every server tried writes a plus sign as %2B, and AWS and SeaweedFS
    write a space as ``+``: so a plus sign is a space. Keys are decoded only when the page says that it encoded them.
    """
    page = _page(bytes(body), version)
    if page.counted > len(page.entries):
        hint = "if the store always counts so, set list_objects_version = 1"
        raise Unreadable(f"the listing counts {page.counted} keys and shows {len(page.entries)}; {hint}")
    return page


def _page(data: bytes, version: int) -> Page:
    parts = quickpage.cut(data) if len(data) <= XML_BYTES_MAX and data.count(b"<") <= XML_TAGS_MAX else None
    found = quickpage.entries(parts[1]) if parts else None
    if parts is not None and found is not None:
        rest = listed(parts[0], version)
        if rest.encoded:
            return replace(rest, entries=found)
    return listed(data, version)


def listed(data: bytes, version: int) -> Page:
    """The same, all of it read by the XML parser."""
    root, ns = parse(data, "ListBucketResult", echo=ECHO_BUT_KEYS)
    if version == 2 and root.find(ns + "KeyCount") is None and root.find(ns + "Marker") is not None:
        raise Unreadable("the server answers with version 1 of the listing; set list_objects_version = 1")
    encoded = root.findtext(ns + "EncodingType") == "url"
    entries = [_entry(node, ns, encoded) for node in root.iterfind(ns + "Contents")]
    flag = root.findtext(ns + "IsTruncated")
    if flag not in ("true", "false"):
        raise Unreadable("the listing does not say whether it is complete")
    token = root.findtext(ns + "NextContinuationToken") or ""
    said = root.findtext(ns + "KeyCount") or ""
    counted = int(said[:18]) if said.isascii() and said.isdigit() else 0
    return Page(entries, flag == "true", token, encoded, counted)


def _entry(node: ET.Element, ns: str, encoded: bool) -> Entry:
    cut = len(ns)
    field = {child.tag[cut:]: child.text or "" for child in node}
    try:
        key = _key(field["Key"], encoded)
        etag = field.get("ETag", "").strip('"')
        return Entry(key, _size(field["Size"]), etag, field.get("LastModified", ""), "", field.get("StorageClass", ""))
    except (KeyError, ValueError) as error:
        raise Unreadable(f"a listed object without usable key or size: {error}") from None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One page of ListObjectVersions in the order of the document; ``latest``: which entries say that they are.

    ``marker``: key and version id after which the next page begins, as the server says.
    """

    entries: list[Entry]
    latest: list[bool]
    truncated: bool
    marker: tuple[tuple[bytes, ...], str]


def versions(body: bytes | memoryview) -> VersionPage:
    """A page of ListObjectVersions: versions and delete markers, mixed as they are. Raises Unreadable.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
    """
    root, ns = parse(body, "ListVersionsResult", echo=ECHO_BUT_KEYS)
    encoded = root.findtext(ns + "EncodingType") == "url"
    kinds = (ns + "Version", ns + "DeleteMarker")
    nodes = [node for node in root if node.tag in kinds]
    flag = root.findtext(ns + "IsTruncated")
    if flag not in ("true", "false"):
        raise Unreadable("the listing does not say whether it is complete")
    readings = _readings(root.findtext(ns + "NextKeyMarker") or "")  # Ceph encodes keys, but not this one
    return VersionPage(
        [_version(node, ns, encoded) for node in nodes],
        [node.findtext(ns + "IsLatest") == "true" for node in nodes],
        flag == "true",
        (readings, root.findtext(ns + "NextVersionIdMarker") or ""),
    )


def _version(node: ET.Element, ns: str, encoded: bool) -> Entry:
    gone = node.tag == ns + "DeleteMarker"
    version = node.findtext(ns + "VersionId")
    try:
        if not version:
            raise ValueError("no version id")
        return Entry(
            _key(node.findtext(ns + "Key") or "", encoded),
            0 if gone else _size(node.findtext(ns + "Size") or ""),
            "" if gone else (node.findtext(ns + "ETag") or "").strip('"'),
            node.findtext(ns + "LastModified") or "",
            version,
            "" if gone else node.findtext(ns + "StorageClass") or "",
            delete_marker=gone,
        )
    except ValueError as error:
        raise Unreadable(f"a listed version without usable key, id or size: {error}") from None


def versioning(body: bytes | memoryview) -> str:
    """``Enabled``, ``Suspended``, or "" for a bucket that never had versions. Raises Unreadable."""
    root, ns = parse(body, "VersioningConfiguration", "GetBucketVersioningResponse")  # the second is moto's
    return root.findtext(ns + "Status") or ""


def _size(text: str) -> int:
    """A size as S3 writes it. Raises ValueError for anything else, such as what Python's int would also take."""
    if len(text) > 18 or not (text.isascii() and text.isdigit()):
        raise ValueError("no size")
    return int(text)


def _key(text: str, encoded: bool) -> bytes:
    if not encoded:
        return text.encode()
    if "%" in text or "+" in text:
        return unquote_to_bytes(text.replace("+", " "))
    return text.encode()


def tag_set(body: bytes | memoryview) -> dict[str, str]:
    """Tags of an object. Raises Unreadable."""
    root, ns = parse(body, "Tagging", echo=ECHO_BUT_KEYS)
    found: dict[str, str] = {}
    for node in root.iter(ns + "Tag"):
        key = node.findtext(ns + "Key")
        if key is None:
            raise Unreadable("a tag without a key")
        found[key] = node.findtext(ns + "Value") or ""
    return found


def tagging_xml(tags: dict[str, str]) -> bytes:
    """Body of PutObjectTagging."""
    pairs = "".join(f"<Tag><Key>{_escape(k)}</Key><Value>{_escape(v)}</Value></Tag>" for k, v in tags.items())
    return f'<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TagSet>{pairs}</TagSet></Tagging>'.encode()


def _escape(text: str) -> str:
    from xml.sax.saxutils import escape  # slow to load (it brings urllib.request), needed for writing only

    return escape(text, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def upload_id(body: bytes | memoryview) -> str:
    """The id of a new multipart upload. Raises Unreadable."""
    root, ns = parse(body, "InitiateMultipartUploadResult")
    token = root.findtext(ns + "UploadId")
    if not token:
        raise Unreadable("a multipart upload without an id")
    return token


def complete_xml(tags: list[str]) -> bytes:
    """Body of CompleteMultipartUpload: ETags of all parts, in order."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{_escape(tag)}&quot;</ETag></Part>"
        for number, tag in enumerate(tags, 1)
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'.encode()


def result_etag(body: bytes | memoryview, root_name: str) -> str:
    """ETag of a CompleteMultipartUploadResult or CopyObjectResult, "" where it has none. Raises Unreadable."""
    root, ns = parse(body, root_name)
    return (root.findtext(ns + "ETag") or "").strip().strip('"')


@dataclass(frozen=True, slots=True)
class Parts:
    """One page of ListParts: number -> ETag, and where the next page begins (0 at the end)."""

    tags: dict[int, str]
    sizes: dict[int, int]
    following: int


def parts(body: bytes | memoryview) -> Parts:
    """A page of ListParts. Raises Unreadable."""
    root, ns = parse(body, "ListPartsResult", "ListPartsResponse")  # the second is moto's
    tags: dict[int, str] = {}
    sizes: dict[int, int] = {}
    try:
        for node in root.iterfind(ns + "Part"):
            number = int(node.findtext(ns + "PartNumber") or "")
            tags[number] = (node.findtext(ns + "ETag") or "").strip('"')
            sizes[number] = int(node.findtext(ns + "Size") or "")
        more = root.findtext(ns + "IsTruncated") == "true"
        following = int(root.findtext(ns + "NextPartNumberMarker") or "") if more else 0
    except ValueError as error:
        raise Unreadable(f"a list of parts with a wrong number: {error}") from None
    return Parts(tags, sizes, following)


def uploads(body: bytes | memoryview, key: bytes) -> tuple[list[str], bytes, str]:
    """A page of ListMultipartUploads asked with ``key`` as the prefix: ids of exactly ``key``, and the next markers.

    Ceph encodes keys and does not say so, SeaweedFS says so and does not: both readings are tried. Below a prefix that
    is the whole key, no other key can be read as this one. Raises Unreadable.
    """
    root, ns = parse(body, "ListMultipartUploadsResult", echo=ECHO_BUT_KEYS)
    found = [
        node.findtext(ns + "UploadId") or ""
        for node in root.iterfind(ns + "Upload")
        if key in _readings(node.findtext(ns + "Key") or "")
    ]
    if root.findtext(ns + "IsTruncated") != "true":
        return found, b"", ""
    readings = _readings(root.findtext(ns + "NextKeyMarker") or "")
    marker = next((reading for reading in readings if reading.startswith(key)), b"")
    if not marker:
        raise Unreadable("the list of uploads is cut off and does not say where")
    return found, marker, root.findtext(ns + "NextUploadIdMarker") or ""


def uploads_count(body: bytes | memoryview) -> tuple[int, str, str]:
    """How many uploads a page of ListMultipartUploads has, and the next markers. Raises Unreadable."""
    root, ns = parse(body, "ListMultipartUploadsResult")
    count = len(root.findall(ns + "Upload"))
    if root.findtext(ns + "IsTruncated") != "true":
        return count, "", ""
    return count, root.findtext(ns + "NextKeyMarker") or "", root.findtext(ns + "NextUploadIdMarker") or ""


def _readings(text: str) -> tuple[bytes, bytes]:
    return text.encode(), unquote_to_bytes(text.replace("+", " "))


_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9_.]{1,80})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,300})")


def error_code(body: bytes | memoryview) -> str:
    """The <Code> of an error, "" when there is none. Never fails: errors come in every shape."""
    found = _CODE.search(bytes(body[:65536]))
    return found[1].decode("ascii") if found else ""


def error_message(body: bytes | memoryview) -> str:
    """The <Message> of an error on one printable line, "" when there is none."""
    found = _MESSAGE.search(bytes(body[:65536]))
    text = found[1].decode("utf-8", "replace") if found else ""
    return "".join(c if c.isprintable() else " " for c in text).strip()
