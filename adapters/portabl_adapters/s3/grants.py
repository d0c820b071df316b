"""Access control lists, as text: a canned name where one says it all, else every grant.

``FULL_CONTROL owner, READ all-users``: permission and grantee, sorted. The owner is whoever owns the object in its
place, the groups are those of S3, others are ``id:CANONICAL-ID`` or ``email:ADDRESS`` and mean something only where
that account is known. The ACL that every object has at first, all to its owner, is "".
https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
"""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

from portabl_adapters.s3 import replies

_OWN = frozenset({"FULL_CONTROL owner"})
CANNED = {
    frozenset({*_OWN, "READ all-users"}): "public-read",
    frozenset({*_OWN, "READ all-users", "WRITE all-users"}): "public-read-write",
    frozenset({*_OWN, "READ authenticated-users"}): "authenticated-read",
}
_GROUPS = {
    "http://acs.amazonaws.com/groups/global/AllUsers": "all-users",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers": "authenticated-users",
    "http://acs.amazonaws.com/groups/s3/LogDelivery": "log-delivery",
}
_URIS = {name: uri for uri, name in _GROUPS.items()}
_PERMISSIONS = frozenset({"READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"})


def text_of(body: bytes | memoryview) -> str:
    """The text of an AccessControlPolicy. Raises `replies.Unreadable`."""
    root, ns = replies.parse(body, "AccessControlPolicy", "GetObjectAclResponse", "GetBucketAclResponse")
    owner = root.findtext(f"{ns}Owner/{ns}ID") or ""
    grants = frozenset(_grant(node, ns, owner) for node in root.iter(ns + "Grant"))
    if grants == _OWN:
        return ""
    return CANNED.get(grants) or ", ".join(sorted(grants))


def owner_of(body: bytes | memoryview) -> str:
    """Canonical id of the owner. Raises `replies.Unreadable`."""
    root, ns = replies.parse(body, "AccessControlPolicy", "GetObjectAclResponse", "GetBucketAclResponse")
    return root.findtext(f"{ns}Owner/{ns}ID") or ""


def _grant(node: ET.Element, ns: str, owner: str) -> str:
    permission = node.findtext(ns + "Permission") or ""
    grantee = node.find(ns + "Grantee")
    if grantee is None or permission not in _PERMISSIONS:
        raise replies.Unreadable("a grant without grantee or permission")
    uri, mail = grantee.findtext(ns + "URI"), grantee.findtext(ns + "EmailAddress")
    if uri:
        return f"{permission} {_GROUPS.get(uri, uri)}"
    if mail:
        return f"{permission} email:{mail}"
    who = grantee.findtext(ns + "ID") or ""
    return f"{permission} owner" if who == owner else f"{permission} id:{who}"


def is_canned(acl: str) -> bool:
    """Whether one canned name says it all."""
    return acl in CANNED.values()


def header_lines(acl: str, owner: Callable[[], str]) -> list[str]:
    """Headers of a PUT that gives the new object this ACL. ``owner``: canonical id of the owner at the target."""
    if is_canned(acl):
        return [f"x-amz-acl: {acl}"]
    by_permission: dict[str, list[str]] = {}
    for grant in acl.split(", "):
        permission, _, who = grant.partition(" ")
        by_permission.setdefault(permission, []).append(_grantee(who, owner))
    return [
        f"x-amz-grant-{permission.lower().replace('_', '-')}: {', '.join(grantees)}"
        for permission, grantees in by_permission.items()
    ]


def _grantee(who: str, owner: Callable[[], str]) -> str:
    if who == "owner":
        return f'id="{owner()}"'
    kind, colon, name = who.partition(":")
    if colon and kind in ("id", "email"):
        return f'{"id" if kind == "id" else "emailAddress"}="{name}"'
    return f'uri="{_URIS.get(who, who)}"'
