"""Object tags: when to ask for them, and whether no answer means no tags.

A store that announces tags (x-amz-tagging-count on GET and HEAD) saves a request an object; only known stores are
believed when the header is absent. A store may also hide tags, and their count, from whoever may not read them: so the
first object is asked for its tags in any case, and the first of every folder, because permissions are given by prefix.
"""

from __future__ import annotations

import enum
import hashlib
import threading
from collections.abc import Mapping

from portabl.errors import Unreachable
from portabl.model import NOTHING, Loss
from portabl.tasks import Task, aside, finish
from portabl_adapters.s3 import fields, replies
from portabl_adapters.s3.calls import Calls, Request
from portabl_adapters.s3.wire import Answer

_ANNOUNCERS = (b"AmazonS3", b"SeaweedFS", b"MinIO", b"Ceph", b"Werkzeug")
FOLDERS_MAX = 10_000
"""Folders that are remembered; objects of further ones are believed without being asked for."""
_HIDDEN = Loss("tags", "no permission to read tags")
Found = tuple[Mapping[str, str], tuple[Loss, ...]]


class Manner(enum.Enum):
    """How a store deals with tags."""

    UNKNOWN = "not asked yet"
    ANNOUNCED = "no count, no tags"
    ASK = "ask for every object"
    HIDDEN = "no permission"
    NONE = "a store without tags"


class Tags:
    """Reads and writes the tags of objects in one bucket. ``announces``: True, False, or None to find out."""

    def __init__(self, calls: Calls, announces: bool | None) -> None:
        self._calls = calls
        self._announces = announces
        self._lock = threading.Lock()
        self._folders: set[bytes] = set()
        self.manner = Manner.UNKNOWN

    def of(self, key: bytes, answer: Answer, version: str = "") -> Found:
        """Tags of an object whose GET or HEAD answered ``answer``; and the loss when they cannot be read."""
        return finish(self.finding(key, answer, version))

    def none_by(self, answer: Answer, key: bytes) -> bool:
        """Whether ``answer`` itself says that the object has none, and is believed."""
        if answer.headers.get(b"x-amz-tagging-count", b"0") != b"0":
            return False
        if self.manner is Manner.ANNOUNCED:
            return key.rpartition(b"/")[0] in self._folders
        return self.manner is Manner.NONE

    def finding(self, key: bytes, answer: Answer, version: str = "") -> Task[Found]:
        """The same as a task."""
        if self.manner is Manner.UNKNOWN:
            yield aside
            with self._lock:
                if self.manner is Manner.UNKNOWN:
                    return self._learn(key, answer, version)
        if self.manner is Manner.HIDDEN:
            return NOTHING, (_HIDDEN,)
        counted = answer.headers.get(b"x-amz-tagging-count", b"0") != b"0"
        if counted or self.manner is Manner.ASK:
            return self._read((yield self._request(key, version)), key)
        if self.manner is Manner.ANNOUNCED and self._first_of_folder(key):
            found = self._read((yield self._request(key, version)), key)
            if found[0] or found[1]:
                self.manner = Manner.ASK  # here tags are hidden, or not announced: no count means nothing any more
            return found
        return NOTHING, ()

    def _first_of_folder(self, key: bytes) -> bool:
        folder = key.rpartition(b"/")[0]
        if folder in self._folders or len(self._folders) >= FOLDERS_MAX:
            return False
        self._folders.add(folder)
        return True

    def _learn(self, key: bytes, first: Answer, version: str) -> Found:
        answer = self._ask(key, version)
        found = self._read(answer, key)
        self._first_of_folder(key)
        if found[1]:
            self.manner = Manner.HIDDEN
        elif _not_implemented(answer) or b"x-openstack-request-id" in first.headers:
            self.manner = Manner.NONE
        elif found[0] and b"x-amz-tagging-count" not in first.headers:
            self.manner = Manner.ASK  # whatever it calls itself: it has tags and does not announce them
        elif self._announces or (self._announces is None and _announcer(first)):
            self.manner = Manner.ANNOUNCED
        else:
            self.manner = Manner.ASK
        return found

    def _request(self, key: bytes, version: str) -> Request:
        return self._calls.request("GET", key, f"?tagging&versionId={version}" if version else "?tagging")

    def _ask(self, key: bytes, version: str) -> Answer:
        return self._request(key, version)()

    def _read(self, answer: Answer, key: bytes) -> Found:
        if answer.status == 200 and not answer.body:
            return NOTHING, ()  # Ceph 16, for an object that never had tags
        if answer.status == 200:
            try:
                return replies.tag_set(answer.body) or NOTHING, ()
            except replies.Unreadable as error:
                raise Unreachable(f"tags cannot be read: {error}", key=key, storage=self._calls.name) from None
        code = replies.error_code(answer.body)
        if code == "NoSuchTagSet" or _not_implemented(answer):
            return NOTHING, ()
        if answer.status == 403 and code in ("AccessDenied", ""):
            return NOTHING, (_HIDDEN,)
        raise self._calls.error(answer, key)

    def ensure(self, key: bytes, wanted: Mapping[str, str]) -> tuple[Loss, ...]:
        """Set tags again where the store forgot those given to a multipart upload; name what is still wrong."""
        now, losses = self._read(self._ask(key, ""), key)
        if not losses and dict(now) != dict(wanted):
            body = replies.tagging_xml(dict(wanted))
            sha256 = hashlib.sha256(body).hexdigest()
            answer = self._calls.object(
                "PUT",
                key,
                "?tagging",
                ["Content-Type: application/xml", fields.content_md5(hashlib.md5(body).hexdigest())],
                body,
                sha256,
            )
            if answer.status < 300:
                now, losses = self._read(self._ask(key, ""), key)
        return tuple(
            Loss(f"tag.{name}", "the target did not keep it", value, now.get(name))
            for name, value in wanted.items()
            if now.get(name) != value
        )


def _announcer(answer: Answer) -> bool:
    server = answer.headers.get(b"server", b"")
    return b"x-rgw-object-type" in answer.headers or server.startswith(_ANNOUNCERS)


def _not_implemented(answer: Answer) -> bool:
    return answer.status in (405, 501) or (answer.status == 400 and replies.error_code(answer.body) == "NotImplemented")
