"""Whatever is in a token or beside it: a verification ends in a finding, and a changed label is never a label."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.clearing_house import Case, House

from portabl import verify_manifest
from portabl.labels import credential
from portabl.labels.finding import Finding, finding_document, finding_text
from portabl.labels.sources import Piece, Sources
from portabl.labels.trust import ClearingHouse, Trust
from portabl.labels.verify import verify
from portabl.records import canonical

HOUSE = House()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["\ud800", "gx:ServiceOffering", "2026-01-01T00:00:00Z", "sha256-", "did:web:localhost%3A443:v2"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "@value", "x"]), inner),
    max_leaves=4,
)


def verified(case: Case, pieces: list[Piece] | None = None, label: str | None = None) -> Finding:
    if pieces is None:
        pieces = [Piece("did", did, json.dumps(one), "t") for did, one in case.documents.items()]
        pieces += [Piece("chain", "c", case.chain, "t"), Piece("presentation", "vp", case.presentation(), "t")]
    houses = {HOUSE.did: ClearingHouse(HOUSE.did, "test house", case.roots)}
    text = case.label() if label is None else label
    found = verify(text, at=case.at, sources=Sources(pieces), trust=Trust(houses), endpoint=case.endpoint)
    finding_text(found, "x")
    canonical(finding_document(found)).encode("utf-8")
    return found


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(value, name) for name, _ in items] + [found for _, inner in items for found in places(inner)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_anything_anywhere_ends_in_a_finding(data: st.DataObject) -> None:
    case = HOUSE.case()
    parts = {"label": case.payload, "header": case.header, "documents": case.documents, "members": case.members}
    name = data.draw(st.sampled_from(sorted(parts)))
    container, key = data.draw(st.sampled_from([(c, k) for c, k in places(parts[name]) if c is not case.documents]))
    if name == "members" and (container is case.members or key in ("issuer", "id")):
        return  # the kit itself needs these
    container[key] = data.draw(VALUES)
    try:
        if name == "members" and data.draw(st.booleans()):
            case.label_members()
    except Exception:
        return  # what has no canonical form, no engine labels
    try:
        case.presentation()
    except UnicodeEncodeError:
        return
    verified(case)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_label_with_one_character_changed_is_none(data: st.DataObject) -> None:
    case = HOUSE.case()
    label = case.label()
    at = data.draw(st.integers(0, len(label) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_.=").filter(lambda c: c != label[at]))
    assert not verified(case, label=label[:at] + other + label[at + 1 :]).labelled


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_presentation_with_one_character_changed_is_no_way_around_the_digests(data: st.DataObject) -> None:
    case = HOUSE.case()
    label, text = case.label(), case.presentation()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from("Aa0-.")) + text[at + 1 :]
    pieces = [Piece("did", did, json.dumps(one), "t") for did, one in case.documents.items()]
    pieces += [Piece("chain", "c", case.chain, "t"), Piece("presentation", "vp", changed, "t")]
    found = verified(case, pieces, label)
    if found.labelled:  # only the envelope changed: every credential is still the one that was labelled
        named = {credential.digest(member) for member in case.members}
        assert {credential.digest(token.payload) for token in credential.enveloped(changed)} >= named


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_ends_in_a_finding(text: str) -> None:
    case = copy.copy(HOUSE.case())
    found = verified(case, [Piece("did", "d", text, "t"), Piece("presentation", "vp", text, "t")])
    assert not found.labelled
    assert verified(case, [], text).state == "unreadable"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_certificate_with_one_byte_changed_is_none(data: st.DataObject) -> None:
    case = HOUSE.case()
    first, rest = case.chain.split("-----END CERTIFICATE-----\n", 1)
    der = bytearray(base64.b64decode(first.split("-----")[2]))
    at = data.draw(st.integers(0, len(der) - 1))
    der[at] ^= 1 << data.draw(st.integers(0, 7))
    body = base64.encodebytes(bytes(der)).decode()
    case.chain = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n{rest}"
    assert not verified(case).labelled


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from([1e21, 1e20, 1e-6, 1e-7, 5e-324, -0.0, 1.5e300, 123456789012345680.0, 0.00001234])
        | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\u20ac\U0001f600", max_size=3), inner),
        max_leaves=5,
    )
)
def test_the_lone_verifier_writes_the_same_canonical_form(value: Any) -> None:
    assert verify_manifest.jcs(value) == rfc8785.dumps(value).decode()
