"""Tokens that real engines issued: the ones whose key is known verify, and the label is not believed without one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from portabl.labels import credential, jose
from portabl.labels.finding import Finding
from portabl.labels.sources import Piece, Sources
from portabl.labels.steps import Failed
from portabl.labels.trust import Trust
from portabl.labels.verify import verify

REAL = Path(__file__).parent / "real"
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
JWK = json.loads((REAL / "key-0.jwk.json").read_text())
DID = "did:web:gaia-x.eu"
KEY = f"{DID}#key-0"
DOCUMENT = {
    "id": DID,
    "verificationMethod": [{"id": KEY, "type": "JsonWebKey2020", "controller": DID, "publicKeyJwk": JWK}],
    "assertionMethod": [KEY],
}
EVIDENCE = (
    Piece("did", DID, json.dumps(DOCUMENT), "test"),
    Piece("presentation", "vp", (REAL / "presentation.jwt").read_text(), "test"),
)
ES256 = ("legal-person", "terms-and-conditions", "presentation")


def check(name: str, at: datetime = APRIL) -> Finding:
    return verify((REAL / f"{name}.jwt").read_text(), at=at, sources=Sources(EVIDENCE), trust=Trust())


def outcome(found: Finding, name: str) -> tuple[str, str]:
    return next((str(step.outcome), step.reason) for step in found.steps if step.name == name)


@pytest.mark.parametrize("name", ES256)
def test_es256_signatures_verify_but_nothing_else_is_a_label(name: str) -> None:
    found = check(name)
    assert outcome(found, "signature") == ("passed", f"ES256 signature of {KEY}")
    assert outcome(found, "issuer")[0] == "failed"
    assert outcome(found, "credential")[0] == "failed"
    assert not found.labelled


@pytest.mark.parametrize("name", ES256)
def test_es256_signatures_are_over_every_byte(name: str) -> None:
    token = jose.parse((REAL / f"{name}.jwt").read_text())
    jose.check_signature(token, JWK)
    head, body, signature = token.text.split(".")
    for text in (f"{head}.{body[:-1]}{'A' if body[-1] != 'A' else 'B'}.{signature}", f"{head}.{body}.{'A' * 86}"):
        with pytest.raises(Failed):
            jose.check_signature(jose.parse(text), JWK)


def test_the_label_is_not_proven_without_the_key() -> None:
    found = check("label")
    assert outcome(found, "signature") == ("not checked", "no key at hand")
    assert outcome(found, "key")[0] == outcome(found, "chain")[0] == "not checked"
    passed = {step.name for step in found.steps if step.outcome == "passed"}
    assert {"token", "algorithm", "header", "credential", "issuer", "dates", "status", "label", "digests"} == passed
    assert outcome(found, "digests")[1].startswith("3 credentials")
    assert (found.labelled, found.state) == (False, "present")


def test_the_label_is_for_a_participant_and_no_service() -> None:
    found = check("label")
    assert (found.participant_only, found.services, found.criteria) == (True, (), ("PA1.1",))
    assert outcome(found, "service") == ("failed", "it labels a participant: there is no service among its credentials")
    assert (found.level, found.rules_version, found.engine_version) == ("SC", "CD25.10", "2.11.0")
    assert found.issuer_name == "OVHcloud"


def test_today_the_label_has_ended() -> None:
    found = check("label", datetime(2026, 11, 30, tzinfo=UTC))
    assert outcome(found, "dates") == ("failed", "expired on 2026-06-03 09:00:04 UTC")
    assert found.state == "expired"


def test_the_notary_signs_what_the_label_covers_and_its_key_is_not_known() -> None:
    state, reason = outcome(check("label"), "members")
    assert state == "not checked"
    assert "vatID" in reason


def test_each_digest_is_that_of_one_credential() -> None:
    label = jose.parse((REAL / "label.jwt").read_text())
    named = {e["id"]: e["gx:digestSRI"] for e in credential.subject(label.payload)["gx:compliantCredentials"]}
    for name in ("legal-person", "terms-and-conditions", "vatID"):
        payload = jose.parse((REAL / f"{name}.jwt").read_text()).payload
        assert named[payload["id"]] == f"sha256-{credential.digest(payload).hex()}"
