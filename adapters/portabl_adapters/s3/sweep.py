"""Leaving nothing behind: objects, versions, delete markers and unfinished uploads below a scratch prefix."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes
from xml.etree import ElementTree as ET

from portabl.errors import ListingBroken
from portabl_adapters.s3 import listing, replies
from portabl_adapters.s3.examine_bucket import BYPASS, LOCK_SECONDS, versioning
from portabl_adapters.s3.questions import Questions

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

THREADS = 8
ROUNDS = 6
"""Times everything is listed and removed; each round begins anew, as paging forgets versions on some servers."""


def sweep(storage: S3Storage) -> list[bytes]:
    """Remove all there is below the storage's prefix (which must be one of its own); what could not be removed.

    Raises StorageError when it cannot even be listed.
    """
    if not storage.prefix:
        raise ValueError("only a prefix of its own can be swept, never a whole bucket")
    questions = Questions(storage)
    versions = versioning(questions.bucket) in ("enabled", "suspended")
    for attempt in range(ROUNDS):
        uploads = _abort_uploads(questions)
        left = _versions(questions) if versions else _plain(questions)
        if not left:
            return uploads
        if attempt:
            time.sleep(LOCK_SECONDS / 2)  # what was locked for a moment, or a listing that lags behind
        with ThreadPoolExecutor(THREADS, thread_name_prefix="portabl-sweep") as pool:
            list(pool.map(lambda one: _remove(questions, *one), left))
    return sorted({key for key, _ in left})


def _plain(questions: Questions) -> list[tuple[bytes, str]]:
    storage = questions.storage
    found = listing.unordered(questions.calls, storage.prefix, None, storage.list_version)
    return sorted(((entry.key, "") for entry in found), reverse=True)


def _versions(questions: Questions) -> list[tuple[bytes, str]]:
    """One page of versions and delete markers; the next round sees the rest."""
    prefix = questions.storage.prefix
    answer = questions.bucket(f"?versions&encoding-type=url&prefix={quote_from_bytes(prefix, safe='')}")
    if answer.status != 200:
        raise questions.calls.error(answer)
    root, ns = _parsed(questions, answer.body, "ListVersionsResult", "ListBucketVersionsResult")
    nodes = [node for kind in ("Version", "DeleteMarker") for node in root.iterfind(ns + kind)]
    named = [(node.findtext(ns + "Key") or "", node.findtext(ns + "VersionId") or "null") for node in nodes]
    return [(key, version) for text, version in named for key in _readings(text, prefix)]


def _abort_uploads(questions: Questions) -> list[bytes]:
    """Abort what is unfinished below the prefix; keys of what cannot be aborted."""
    prefix = questions.storage.prefix
    answer = questions.bucket(f"?uploads&encoding-type=url&prefix={quote_from_bytes(prefix, safe='')}")
    if answer.status != 200:
        return []  # a store without uploads has none
    root, ns = _parsed(questions, answer.body, "ListMultipartUploadsResult")
    named = [
        (node.findtext(ns + "Key") or "", node.findtext(ns + "UploadId") or "") for node in root.iter(ns + "Upload")
    ]
    found = [(key, quote(token, safe="")) for text, token in named for key in _readings(text, prefix)]
    answers = {key: questions.ask("DELETE", key, f"?uploadId={token}").status for key, token in found}
    return [key for key, status in answers.items() if status not in (200, 204, 404)]


def _parsed(questions: Questions, body: bytes | memoryview, *roots: str) -> tuple[ET.Element, str]:
    try:
        return replies.parse(body, *roots, echo=replies.ECHO_BUT_KEYS)
    except replies.Unreadable as error:
        raise ListingBroken(f"cannot be read: {error}", storage=questions.storage.name) from None


def _readings(text: str, prefix: bytes) -> list[bytes]:
    """Keys below the prefix that a listed name may mean: servers differ in whether they encode them, and say so."""
    found = {text.encode(), unquote_to_bytes(text.replace("+", " "))}
    return [key[len(prefix) :] for key in found if key.startswith(prefix)]


def _remove(questions: Questions, key: bytes, version: str) -> None:
    query = f"?versionId={quote(version, safe='')}" if version else ""
    answer = questions.ask("DELETE", key, query)
    if answer.status == 403 and version:
        questions.ask("DELETE", key, query, [BYPASS])
