"""Fields a store refuses: found out by trying, remembered, named as losses.

A store that has no tags or no redirects answers 501 to the whole request. What to leave out is tried field by field,
and remembered only when leaving it out is what helped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from portabl.model import Loss, Metadata
from portabl.tasks import Task, aside
from portabl_adapters.s3 import replies
from portabl_adapters.s3.calls import Request
from portabl_adapters.s3.fields import is_http_date, request_headers
from portabl_adapters.s3.wire import Answer, Header

_REDIRECT = "website-redirect-location"
_NEVER_LEARNED = frozenset({"acl", "lock"})
"""Kinds that one object's value decides about: the account of a grant is unknown, a retention ends too soon."""
_OF_THIS_OBJECT = frozenset({"InvalidTag", "BadRequest", "InvalidTagError"})


class Fitting:
    """What one store does not hold, learned once. ``further``: headers for ACL and lock."""

    def __init__(self, further: Callable[[Metadata], list[Header]]) -> None:
        self._dropped: frozenset[str] = frozenset()
        self._further = further

    def sending(
        self, metadata: Metadata, request: Callable[[Sequence[Header]], Request]
    ) -> Task[tuple[Answer, list[Loss]]]:
        """Send the headers of ``metadata``, fewer if need be. Returns the answer, and what was left out."""
        if metadata.acl:
            yield aside  # who owns the bucket may have to be asked for
        headers, losses = request_headers(metadata, self._dropped, self._further)
        answer: Answer
        answer = first = yield request(headers)
        if answer.status < 300:
            return answer, losses
        for trial in _trials(answer, metadata, self._dropped):
            headers, losses = request_headers(metadata, self._dropped | trial, self._further)
            answer = yield request(headers)
            if answer.status < 300:
                if replies.error_code(first.body) not in _OF_THIS_OBJECT and not trial & _NEVER_LEARNED:
                    self._dropped |= trial
                return answer, losses
        return first, losses


def _trials(answer: Answer, metadata: Metadata, dropped: frozenset[str]) -> Iterator[frozenset[str]]:
    suspects = [kind for kind in _suspects(answer, metadata) if kind not in dropped]
    for kind in suspects:
        yield frozenset({kind})
    if len(suspects) > 1:
        yield frozenset(suspects)


def _suspects(answer: Answer, metadata: Metadata) -> list[str]:
    code = replies.error_code(answer.body)
    found: list[str] = []
    if answer.status == 501 or code in {"NotImplemented", *_OF_THIS_OBJECT}:
        found += ["tags"] if metadata.tags else []
    if answer.status == 501 or code == "NotImplemented":
        found += [_REDIRECT] if _REDIRECT in metadata.headers else []
    if metadata.storage_class and (
        answer.status == 501 or code in ("InvalidStorageClass", "InvalidArgument", "NotImplemented")
    ):
        found.append(f"storage-class {metadata.storage_class}")
    if answer.status == 400 and not is_http_date(metadata.headers.get("expires", "")) and "expires" in metadata.headers:
        found.append("expires that is no date")
    if answer.status in (400, 403, 501):
        found += ["acl"] if metadata.acl else []
        found += ["lock"] if metadata.lock else []
    return found
