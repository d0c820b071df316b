"""What is copied in a benchmark, and whether it arrived."""

from __future__ import annotations

import hashlib
import io
import queue
import random
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pycurl
from kit.servers import S3Server

MIB = 2**20
PART = 8 * MIB
FILLERS = 8
MIXED_MAX = 16 * MIB
COUNTED_MAX = 2_000
"""Requests are counted with at most so many objects, and with a fifth of a work's."""
S3_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


Stored = dict[str, tuple[int, str]]
"""Size and MD5 by key."""


@dataclass(frozen=True)
class Work:
    """A data set: ``sizes`` in bytes, one for each object."""

    name: str
    title: str
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(self.sizes)

    def part(self) -> Work:
        """A part of it that is large enough to count requests with."""
        return replace(self, sizes=self.sizes[: max(1, min(COUNTED_MAX, len(self.sizes) // 5))])

    def objects(self) -> Iterator[tuple[str, int]]:
        """Keys and sizes."""
        for number, size in enumerate(self.sizes):
            yield f"{self.name}/{number % 100:02d}/object-{number:06d}.bin", size


def works(small_objects: int, large_mib: int) -> dict[str, Work]:
    """The data sets by name; the same sizes every time."""
    draw = random.Random(20261123)
    small = tuple(draw.randint(1, 8192) for _ in range(small_objects))
    mixed = tuple(min(MIXED_MAX, int(draw.lognormvariate(9.5, 2.0))) for _ in range(small_objects // 2))
    many = tuple(draw.randint(1, 1024) for _ in range(small_objects * 10))
    few = small[: small_objects * 2 // 5]
    large = (large_mib * MIB,) * 3
    return {
        "small": Work("small", f"{small_objects:,} objects of 1 B to 8 KiB", small),
        "few": Work("few", f"{len(few):,} objects of 1 B to 8 KiB", few),
        "many": Work("many", f"{len(many):,} objects of 1 B to 1 KiB", many),
        "mixed": Work("mixed", f"{len(mixed):,} objects of log-normal sizes, {sum(mixed) / MIB:,.0f} MiB", mixed),
        "medium": Work("medium", "300 objects of 1 MiB", (MIB,) * 300),
        "large": Work("large", f"3 objects of {large_mib} MiB", large),
        "huge": Work("huge", f"1 object of {8 * large_mib} MiB", (8 * large_mib * MIB,)),
    }


def fill_folder(folder: Path, work: Work) -> Stored:
    """The same in a directory."""
    stored = {}
    for key, size in work.objects():
        data = _content(key, size)
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        stored[key] = (size, hashlib.md5(data).hexdigest())
    return stored


def change(server: S3Server, bucket: str, stored: Stored, time: int) -> Stored:
    """Replace one object in a hundred by another of its size, another each ``time``; what the bucket holds then."""
    some = sorted(stored)[::100]
    return stored | {key: _replace(server, bucket, key, f"{key} {time}", stored[key][0]) for key in some}


def _replace(server: S3Server, bucket: str, key: str, seed: str, size: int) -> tuple[int, str]:
    body = _content(seed, size)
    server.client().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/octet-stream")
    return size, hashlib.md5(body).hexdigest()


def fill(server: S3Server, bucket: str, work: Work) -> Stored:
    """Store every object of ``work``; size and MD5 by key."""
    small = [(key, size) for key, size in work.objects() if size <= PART]
    large = [(key, size) for key, size in work.objects() if size > PART]
    stored: Stored = {}
    _fill_small(server, bucket, small, stored)
    for key, size in large:
        stored[key] = (size, _put_large(server.client(), bucket, key, size))
    return stored


def _content(key: str, size: int) -> bytes:
    draw = random.Random(key)  # of which nobody gets 256 MiB at once
    return b"".join([draw.randbytes(min(64 * MIB, size - at)) for at in range(0, size, 64 * MIB)])


def _fill_small(server: S3Server, bucket: str, objects: list[tuple[str, int]], stored: Stored) -> None:
    """Plain PUTs over libcurl: boto3 would take a minute for ten thousand."""
    todo: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    for item in objects:
        todo.put(item)
    failures: list[str] = []
    threads = [
        threading.Thread(target=_put_small, args=(server, bucket, todo, stored, failures)) for _ in range(FILLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or not todo.empty():
        raise RuntimeError(f"the source could not be filled: {failures[:3]}")


def _put_small(
    server: S3Server,
    bucket: str,
    todo: queue.SimpleQueue[tuple[str, int]],
    stored: Stored,
    failures: list[str],
) -> None:
    curl = pycurl.Curl()
    curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{server.region}:s3")
    curl.setopt(pycurl.USERPWD, f"{server.access_key}:{server.secret_key}")
    curl.setopt(pycurl.POST, 1)
    curl.setopt(pycurl.CUSTOMREQUEST, "PUT")
    curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)
    try:
        while not failures:
            key, size = todo.get_nowait()
            data = _content(key, size)
            sha256 = hashlib.sha256(data).hexdigest()
            headers = ["Expect:", "Content-Type: application/octet-stream", f"x-amz-content-sha256: {sha256}"]
            curl.setopt(pycurl.URL, f"{server.endpoint}/{bucket}/{key}")
            curl.setopt(pycurl.HTTPHEADER, headers)
            curl.setopt(pycurl.POSTFIELDS, data)
            curl.perform()
            if curl.getinfo(pycurl.RESPONSE_CODE) != 200:
                failures.append(f"{key}: status {curl.getinfo(pycurl.RESPONSE_CODE)}")
            stored[key] = (size, hashlib.md5(data).hexdigest())
    except queue.Empty:
        pass
    except pycurl.error as error:
        failures.append(str(error))
    finally:
        curl.close()


def _put_large(client: Any, bucket: str, key: str, size: int) -> str:
    """A multipart upload; the MD5 of the whole."""
    digest = hashlib.md5()
    whole = {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(**whole, ContentType="application/octet-stream")["UploadId"]
    parts = []
    for number, start in enumerate(range(0, size, PART), 1):
        data = _content(f"{key} {number}", min(PART, size - start))
        digest.update(data)
        answer = client.upload_part(**whole, UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(**whole, UploadId=upload, MultipartUpload={"Parts": parts})
    return digest.hexdigest()


def wrong(server: S3Server, bucket: str, expected: Mapping[str, tuple[int, str]]) -> str:
    """What in ``bucket`` differs from ``expected`` (size and MD5 by key), "" when nothing does.

    The MD5 is the ETag where the server shows one, else of the bytes read back.
    """
    client = server.client()
    found: Stored = {}
    for key, size, etag in _listing(server, bucket):
        found[key] = (size, etag if "-" not in etag else _md5(client, bucket, key))
    return _difference(found, expected)


def _listing(server: S3Server, bucket: str) -> Iterator[tuple[str, int, str]]:
    """Keys, sizes and ETags, over libcurl: boto3 takes 110 us a key."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{server.region}:s3")
    curl.setopt(pycurl.USERPWD, f"{server.access_key}:{server.secret_key}")
    token = ""
    while True:
        more = f"continuation-token={quote(token, safe='')}&" if token else ""
        page = io.BytesIO()
        curl.setopt(pycurl.URL, f"{server.endpoint}/{bucket}?{more}encoding-type=url&list-type=2")
        curl.setopt(pycurl.WRITEDATA, page)
        curl.perform()
        if curl.getinfo(pycurl.RESPONSE_CODE) != 200:
            raise RuntimeError(f"{bucket} cannot be listed: {page.getvalue()[:300]!r}")
        root = ET.fromstring(page.getvalue())
        for item in root.iter(f"{S3_XML}Contents"):
            key, size, etag = (item.findtext(f"{S3_XML}{name}") or "" for name in ("Key", "Size", "ETag"))
            yield unquote(key), int(size), etag.strip('"')
        token = root.findtext(f"{S3_XML}NextContinuationToken") or ""
        if not token:
            return


def wrong_folder(folder: Path, expected: Mapping[str, tuple[int, str]]) -> str:
    """The same for a directory."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            found[path.relative_to(folder).as_posix()] = (path.stat().st_size, md5)
    return _difference(found, expected)


def _difference(found: Mapping[str, tuple[int, str]], expected: Mapping[str, tuple[int, str]]) -> str:
    if found == expected:
        return ""
    missing, extra = len(expected.keys() - found.keys()), len(found.keys() - expected.keys())
    differ = sum(found[key] != expected[key] for key in found.keys() & expected.keys())
    return f"{missing} missing, {extra} added, {differ} different"


def _md5(client: Any, bucket: str, key: str) -> str:
    digest = hashlib.md5()
    for chunk in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(MIB):
        digest.update(chunk)
    return digest.hexdigest()


def remove(server: S3Server, bucket: str) -> None:
    """Delete a bucket with all it holds."""
    client = server.client()
    keys = [{"Key": key} for key, _, _ in _listing(server, bucket)]
    for start in range(0, len(keys), 1000):
        client.delete_objects(Bucket=bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True})
    client.delete_bucket(Bucket=bucket)
