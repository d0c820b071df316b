"""Objects that migration tools lose, change or merge, and a way to look at a bucket that shares no code with portabl.

`HAZARDS` is one bucket with everything at once; `TORTURE` are keys only, some of which are twins of each other.
`fill` stores items, `snapshot` reads a bucket back through boto3 down to the last tag, `differences` compares two.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

from botocore.exceptions import ClientError

from kit.servers import S3Server

HEADERS = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType"),
    *("ExpiresString", "WebsiteRedirectLocation", "StorageClass"),
)
PART = 5 * 2**20


@dataclass(frozen=True)
class Item:
    """An object to store. ``headers`` are boto3 arguments of put_object; ``parts`` > 1 makes it a multipart upload."""

    key: bytes
    body: bytes = field(repr=False)
    headers: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parts: int = 1

    @property
    def name(self) -> str:
        """The key as boto3 wants it."""
        return self.key.decode("utf-8")


@dataclass(frozen=True)
class Seen:
    """Everything boto3 tells of one object."""

    size: int
    sha256: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]


def _plain(key: str) -> Item:
    raw = key.encode()
    return Item(raw, b"content of " + raw)


_LONG = "long/" + "/".join(["s" * 200] * 5) + "/"
_KEYS = (
    *("readme.txt", "a/b", "dir/one.txt", "dir/two.txt", "data/2026/01/part-0000.parquet"),
    *("a//b", "p//q//r", "end//", "/x", "//x", "with-data/"),
    *("./dot", "up/../dots", "in/./side", "..", "ends/."),
    *("caf\u00e9", "cafe\u0301", "Case", "case", "node", "node/child"),
    *("cr\rx", "tab\tx", "del\x7fx", "nel\u0085x", "soh\x01x"),
    *("100%", "%0A", "%2F", "a+b", " lead", "trail ", "q?x", "h#x", "a&b", "<x>", '"quoted"', "it's", "back\\slash"),
    *("*", "[x]", "{x}", "q?versionId=abc", "c:d", "a|b", "^`~", "=;,@$!()", "-rf", "$(id)", "%25zz"),
    *("full\uff0fwidth", "\u201blook", "\N{PARTY POPPER}/\N{SNOWMAN}", "\u202edesrever"),
    *(_LONG + "k" * (1024 - len(_LONG)), "d/" * 300 + "deep", "n" * 300),
)
_EXPIRES = datetime.datetime(2099, 10, 21, 7, 28, tzinfo=datetime.UTC)
_SPECIAL = (
    Item(b"empty-object", b""),
    Item(b"folder/", b""),
    Item(b"other/folder/", b""),
    Item(
        b"meta/headers.html",
        b"<p>hello</p>",
        {
            "CacheControl": "public, max-age=31536000",
            "ContentDisposition": 'attachment; filename="a \\"b\\", c.html"',
            "ContentLanguage": "de-DE, en",
            "ContentType": "text/html; charset=utf-8",
        },
        {"colour": "blue", "two-words": "x"},
    ),
    Item(
        b"meta/gzip.json",
        gzip.compress(b'{"a": 1}', mtime=0),
        {"ContentEncoding": "gzip", "ContentType": "application/json"},
    ),
    Item(b"meta/tagged", b"tagged", {}, {}, {"team": "blue green", "cost": "a+b=c", "e/f": "", "ort": "K\u00f6ln"}),
    Item(b"meta/no-extension", b"%PDF-1.7", {"ContentType": "application/pdf"}),
    Item(b"meta/expires", b"old soon", {"Expires": _EXPIRES}),
    Item(b"meta/redirect", b"elsewhere", {"WebsiteRedirectLocation": "/new/place"}),
    Item(b"meta/class", b"cold", {"StorageClass": "STANDARD_IA"}),
    Item(b"meta/names", b"n", {}, {"under_score": "1", "dot.ted": "2", "9": "3", "many-dashes-": "4"}),
    Item(b"meta/values", b"v", {}, {"p": "a=b, c; d", "q": '"quoted", 100% %20', "w": "=?UTF-8?B?w6k=?=", "none": ""}),
    Item(b"meta/unicode", b"u", {}, {"name": "Zo\u00eb \u6771\u4eac"}),
    Item(
        b"multi/part.bin",
        random.Random(7).randbytes(PART + 12_345),
        {"ContentType": "application/x-tar"},
        {"made-of": "parts"},
        {"parts": "2"},
        parts=2,
    ),
)

HAZARDS: tuple[Item, ...] = (*map(_plain, _KEYS), *_SPECIAL)
"""About seventy objects that can live in one bucket."""

TORTURE: tuple[bytes, ...] = tuple(
    key.encode()
    for key in (
        *("a//b", "a/b", "/lead", "trail/", "dir/", "./x", "../x", "a/./b", "a/../b", ".", "..", "x/.", "x/.."),
        *(
            "sp ace",
            "plus+plus",
            "pct%2Fenc",
            "%",
            "%zz",
            "pct%25",
            "tab\tkey",
            "nl\nkey",
            "cr\rkey",
            "\x01ctl",
            "\x7f",
        ),
        *("\u00e9", "e\u0301", "\N{GRINNING FACE}", "a\\b", "con", "A", "a", '&<>"', "trail ", "trail.", "q?x", "h#x"),
        *(
            "c:d",
            " lead",
            "d /f",
            "*",
            "|",
            "'",
            "[x]",
            "{x}",
            "^`~",
            "=;,@$!()",
            ".hidden",
            "\u00a0",
            "\u2028",
            "\uff0f",
        ),
        *("a\u240ab", "\uffff", "\ufffe", "\u00e9" * 512, "z" * 1024, _LONG + "z" * (1024 - len(_LONG)), "x", "x/"),
        *("/", "//", "x//", "\r\n"),
    )
)
"""Every key is one that some store or tool gets wrong; a faithful store holds all of them at once."""


def torture(keys: Iterable[bytes] = TORTURE) -> tuple[Item, ...]:
    """The keys as small objects, each with content and metadata of its own."""
    return tuple(Item(key, b"content of " + key, {}, {"of": str(number)}) for number, key in enumerate(keys))


def fill(server: S3Server, bucket: str, items: Sequence[Item] = HAZARDS) -> list[Item]:
    """Store items in order; those the server takes (it may refuse what its dialect does not have)."""
    stored = []
    for item in items:
        try:
            store(server, bucket, item)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 404, 409, 500, 501):
                raise
        else:
            stored.append(item)
    return stored


def store(server: S3Server, bucket: str, item: Item) -> None:
    """Store one item. Raises ClientError when the server refuses."""
    if any(not value.isascii() for value in item.metadata.values()):
        _store_raw(server, bucket, item)
        return
    s3, where = server.client(), {"Bucket": bucket, "Key": item.name}
    carried: dict[str, Any] = {**item.headers, "Metadata": dict(item.metadata)}
    if item.parts == 1:
        tagging = {"Tagging": urlencode(dict(item.tags), quote_via=quote)} if item.tags else {}
        s3.put_object(**where, Body=item.body, **carried, **tagging)
        return
    upload = {**where, "UploadId": s3.create_multipart_upload(**where, **carried)["UploadId"]}
    pieces = [item.body[start : start + PART] for start in range(0, len(item.body), PART)]
    sent = [s3.upload_part(**upload, PartNumber=n, Body=piece)["ETag"] for n, piece in enumerate(pieces, 1)]
    parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(sent, 1)]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    if item.tags:  # tags given at the beginning of an upload are lost on some servers
        tag_set = [{"Key": name, "Value": value} for name, value in item.tags.items()]
        s3.put_object_tagging(**where, Tagging={"TagSet": tag_set})


def _store_raw(server: S3Server, bucket: str, item: Item) -> None:
    """Metadata that boto3 will not send: UTF-8 in a header, added after boto3's check and before its signature."""
    s3 = server._connect(server.endpoint, attempts=1)

    def add(request: Any, **_: Any) -> None:
        for name, value in item.metadata.items():
            request.headers[f"x-amz-meta-{name}"] = value

    s3.meta.events.register("before-sign.s3.PutObject", add)
    try:
        s3.put_object(Bucket=bucket, Key=item.name, Body=item.body, **item.headers)
    finally:
        s3.close()


def listed(server: S3Server, bucket: str) -> list[bytes]:
    """Every key, exactly: asked for percent-encoded and decoded here, not by boto3."""
    s3 = server._connect(server.endpoint)
    s3.meta.events.unregister("after-call.s3.ListObjectsV2")
    keys = []
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, EncodingType="url"):
            keys += [unquote_to_bytes(item["Key"].replace("+", "%20")) for item in page.get("Contents", ())]
    finally:
        s3.close()
    return keys


def snapshot(server: S3Server, bucket: str, prefix: bytes = b"") -> dict[bytes, Seen]:
    """What a bucket holds below a prefix (cut off the keys), every byte and every field read back."""
    keys = [key for key in listed(server, bucket) if key.startswith(prefix)]
    with ThreadPoolExecutor(16) as pool:
        seen = pool.map(lambda key: _look(server, bucket, key), keys)
        return {key[len(prefix) :]: value for key, value in zip(keys, seen, strict=True)}


def _look(server: S3Server, bucket: str, key: bytes) -> Seen:
    s3, where = server.client(), {"Bucket": bucket, "Key": key.decode("utf-8")}
    got = s3.get_object(**where)
    with got["Body"] as stream:
        data = stream.read()
    headers = {name: str(got[name]) for name in HEADERS if got.get(name)}
    metadata = {name: _text(value) for name, value in got["Metadata"].items()}
    return Seen(len(data), hashlib.sha256(data).hexdigest(), headers, metadata, _tags(s3, where))


def _text(value: str) -> str:
    """A header as the UTF-8 it was sent in."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _tags(s3: Any, where: Mapping[str, str]) -> dict[str, str]:
    try:
        tags = s3.get_object_tagging(**where)["TagSet"]
    except ClientError as error:
        if (
            error.response["ResponseMetadata"]["HTTPStatusCode"] != 501
            and error.response["Error"]["Code"] != "NoSuchTagSet"
        ):
            raise
        return {}
    return {tag["Key"]: tag["Value"] for tag in tags}


def differences(a: Mapping[bytes, Seen], b: Mapping[bytes, Seen]) -> dict[bytes, str]:
    """What is not the same in two snapshots, by key; empty when all is."""
    found = {}
    for key in sorted({*a, *b}):
        if key not in a or key not in b:
            found[key] = "only in the first" if key in a else "only in the second"
        elif a[key] != b[key]:
            parts = ("size", "sha256", "headers", "metadata", "tags")
            unlike = [part for part in parts if getattr(a[key], part) != getattr(b[key], part)]
            found[key] = "; ".join(f"{part}: {getattr(a[key], part)} != {getattr(b[key], part)}" for part in unlike)
    return found
