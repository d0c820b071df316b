"""A label of our own clearing house holds; every forgery is caught, and by the step that should catch it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.clearing_house import Authority, Case, House, digest, jwk, key, sign
from kit.label_variants import VARIANTS, Variant, table

from portabl.labels.finding import Finding
from portabl.labels.sources import Piece, Sources
from portabl.labels.steps import WHERE, Outcome
from portabl.labels.trust import BUILT_IN, ClearingHouse, Trust, load
from portabl.labels.verify import verify

HOUSE = House()
DOCS = Path(__file__).parents[2] / "docs"


def pieces(case: Case) -> list[Piece]:
    """Everything a case is made of, as evidence."""
    found = [Piece("did", did, json.dumps(one), "test") for did, one in case.documents.items()]
    found.append(Piece("chain", "chain", case.chain, "test"))
    return [*found, Piece("presentation", "vp", case.presentation(), "test")]


def trusted(case: Case) -> Trust:
    """The built-in list, and our own house."""
    own = {HOUSE.did: ClearingHouse(HOUSE.did, "test house", case.roots)}
    return Trust({**Trust().houses, **own})


def check(case: Case, **more: Any) -> Finding:
    """Verify a case offline, for the endpoint it was made for."""
    wanted = {"at": case.at, "endpoint": case.endpoint, "sources": Sources(pieces(case)), "trust": trusted(case)}
    return verify(case.label(), **{**wanted, **more})


def outcomes(found: Finding) -> dict[str, str]:
    return {step.name: str(step.outcome) for step in found.steps}


def test_a_sound_label_passes_every_step() -> None:
    found = check(HOUSE.case())
    assert {step.name: step.reason for step in found.steps if step.outcome is not Outcome.PASSED} == {}
    assert list(outcomes(found)) == list(WHERE)
    assert (found.labelled, found.state, found.level, found.rules_version) == (True, "labelled", "L1", "CD25.10")
    assert found.criteria == ("P1.1.2", "P3.1.11", "P4.1.1", "P4.1.2")
    assert found.days_left == 89
    (service,) = found.services
    assert (service.provider, service.country, service.endpoints) == (
        "Test Cloud SAS",
        "FR",
        ("https://s3.cloud.example",),
    )
    assert not found.participant_only


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_a_forgery_is_caught_by_the_right_step(variant: Variant) -> None:
    case = HOUSE.case()
    variant.change(case)
    found = check(case)
    assert not found.labelled
    assert found.state != "labelled"
    problems = {step.name: step.reason for step in found.steps if step.outcome is not Outcome.PASSED}
    assert next(iter(problems)) == variant.step, problems
    assert outcomes(found)[variant.step] == variant.outcome, problems
    assert "cannot be understood" not in str(problems), problems


def test_there_are_many_forgeries_and_the_page_lists_them() -> None:
    assert len(VARIANTS) > 60
    assert {one.step for one in VARIANTS} == set(WHERE), "every step catches something"
    page = (DOCS / "labels.md").read_text()
    assert table() in page, "python tests/kit/label_variants.py prints the table for docs/labels.md"


def test_the_page_lists_every_step_every_house_and_a_sound_trust_file(tmp_path: Path) -> None:
    page = (DOCS / "labels.md").read_text()
    assert re.findall(r"^\| `([a-z]+)` \|", page.partition("## Where keys")[0], re.MULTILINE) == list(WHERE)
    houses = dict(re.findall(r"^\| `(did:web:[^`]+)` \| (.+?) \|", page, re.MULTILINE))
    assert houses == {one.did: one.name for one in BUILT_IN}
    (example,) = (text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "builtin" in text)
    for name in ("seal-authorities.pem", "tls.pem", "own-root.pem"):
        (tmp_path / name).write_text("PEM")
    (tmp_path / "trust.toml").write_text(example)
    assert len(load(str(tmp_path / "trust.toml")).houses) == len(BUILT_IN) + 1


# --- quirks of real engines that are no reason to refuse ---


def _base64_digests(case: Case) -> None:
    for entry in case.subject["gx:compliantCredentials"]:
        raw = bytes.fromhex(entry["gx:digestSRI"].removeprefix("sha256-"))
        entry["gx:digestSRI"] = "sha256-" + base64.b64encode(raw).decode()


def _doubled_types(case: Case) -> None:
    for entry in case.subject["gx:compliantCredentials"]:
        entry["type"] = f"{entry['type']},{entry['type']}"


def _no_ids(case: Case) -> None:
    del case.subject["gx:compliantCredentials"][0]["id"]


def _names_of_the_shapes(case: Case) -> None:
    for entry in case.subject["gx:compliantCredentials"]:
        entry["gx:credentialType"] = entry.pop("type")
        entry["cred:digestSRI"] = entry.pop("gx:digestSRI")


def _seconds(case: Case) -> None:
    case.header |= {"iat": case.header["iat"] // 1000, "exp": case.header["exp"] // 1000}


def _no_times(case: Case) -> None:
    del case.header["iat"], case.header["exp"]


def _type_as_iri(case: Case) -> None:
    case.payload["type"] = ["VerifiableCredential", "https://w3id.org/gaia-x/development#LabelCredential"]


def _older_media_type(case: Case) -> None:
    case.header |= {"typ": "vc+ld+json+jwt", "cty": "vc+ld+json"}


def _issuer_object(case: Case) -> None:
    case.payload["issuer"] = {"id": case.payload["issuer"], "name": "the house"}


def _country(code: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        for name in ("gx:headquartersAddress", "gx:legalAddress"):
            case.members[0]["credentialSubject"][name] = {"gx:countryCode": code}
        case.label_members()

    return change


def _key_in_place(case: Case) -> None:
    found = case.documents[HOUSE.did]
    found["assertionMethod"] = [found["verificationMethod"].pop()]


def _relative_key(case: Case) -> None:
    found = case.documents[HOUSE.did]
    found["verificationMethod"][0]["id"] = found["assertionMethod"][0] = "#X509-JWK"


def _es256(case: Case) -> None:
    case.header["alg"], case.key = "ES256", key("ec house")
    case.documents[HOUSE.did]["verificationMethod"][0]["publicKeyJwk"] = jwk(case.key)
    case.chain = Authority().chain(case.key, "localhost")


def _rs256(case: Case) -> None:
    case.header["alg"] = "RS256"
    case.documents[HOUSE.did]["verificationMethod"][0]["publicKeyJwk"]["alg"] = "RS256"


@pytest.mark.parametrize(
    "change",
    [
        _base64_digests,
        _doubled_types,
        _no_ids,
        _names_of_the_shapes,
        _seconds,
        _no_times,
        _type_as_iri,
        _older_media_type,
        _issuer_object,
        _country("FRA"),
        _country("250"),
        _country({"@type": "xsd:string", "@value": "FR"}),
        _key_in_place,
        _relative_key,
        _es256,
        _rs256,
    ],
    ids=lambda one: getattr(one, "__name__", str(one)).strip("_"),
)
def test_quirks_of_engines_are_no_reason_to_refuse(change: Callable[[Case], None]) -> None:
    case = HOUSE.case()
    change(case)
    found = check(case)
    assert found.first_problem is None
    assert found.services[0].country == "FR"


# --- x5c, time, trust -------------------------------------------------------------------------------------------------


def test_a_chain_inside_the_key_counts_too() -> None:
    case = HOUSE.case()
    body = [one.partition("-----END")[0] for one in case.chain.split("-----BEGIN CERTIFICATE-----")[1:]]
    method = case.documents[HOUSE.did]["verificationMethod"][0]["publicKeyJwk"]
    method["x5c"] = ["".join(one.split()) for one in body]
    del method["x5u"]
    without = [one for one in pieces(case) if one.kind != "chain"]
    assert check(case, sources=Sources(without)).labelled
    method["x5c"] = ["AAAA"]
    without = [one for one in pieces(case) if one.kind != "chain"]
    assert outcomes(check(case, sources=Sources(without)))["chain"] == "failed"


def test_the_time_asked_for_decides() -> None:
    case = HOUSE.case()
    assert check(case, at=case.at + timedelta(days=89)).labelled
    late = check(case, at=case.at + timedelta(days=90))
    assert (late.labelled, late.state, late.days_left) == (False, "expired", -1)
    assert outcomes(check(case, at=case.at - timedelta(days=1)))["dates"] == "failed"
    assert outcomes(check(case, at=case.at + timedelta(days=400)))["chain"] == "failed"


def test_without_the_house_in_the_list_nothing_helps() -> None:
    case = HOUSE.case()
    found = check(case, trust=Trust())
    assert (found.labelled, found.state) == (False, "signature-ok")
    assert outcomes(found)["issuer"] == "failed"


def test_roots_of_this_machine_do_not_vouch_for_our_house() -> None:
    case = HOUSE.case()
    own = ClearingHouse(HOUSE.did, "test house")
    found = check(case, trust=Trust({HOUSE.did: own}))
    assert outcomes(found)["chain"] in ("failed", "not checked")
    assert not found.labelled


def test_authorities_of_this_machine_count_for_extended_validation_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = HOUSE.case()
    (tmp_path / "roots.pem").write_text(case.roots)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    machine = Trust({HOUSE.did: ClearingHouse(HOUSE.did, "test house")})
    found = {step.name: step.reason for step in check(case, trust=machine).steps if step.outcome is Outcome.FAILED}
    assert list(found) == ["chain"]
    assert "extended validation" in found["chain"]
    case.chain = Authority().chain(case.key, "localhost", policy="2.23.140.1.1")
    assert check(case, trust=machine).labelled
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert outcomes(check(case, trust=machine))["chain"] == "not checked"


def test_nobody_asked_for_a_provider() -> None:
    case = HOUSE.case()
    found = check(case, endpoint=None)
    assert found.labelled
    assert "provider" not in outcomes(found)


def test_a_provider_without_endpoint_has_no_label() -> None:
    assert outcomes(check(HOUSE.case(), endpoint=""))["provider"] == "not checked"


def test_one_flaw_does_not_hide_the_others() -> None:
    case = HOUSE.case()
    case.header["typ"] = "JWT"
    case.subject["gx:labelLevel"] = "L9"
    case.key = key("rsa thief")
    ended = outcomes(check(case))
    assert [name for name, outcome in ended.items() if outcome == "failed"] == ["header", "signature", "label"]


def test_a_bad_presentation_is_no_way_in() -> None:
    case = HOUSE.case()
    for text in ("", "a.b.c", sign({"alg": "ES256"}, {"type": "VerifiablePresentation"}, key("participant"))):
        broken = [one if one.kind != "presentation" else Piece("presentation", "vp", text, "t") for one in pieces(case)]
        assert outcomes(check(case, sources=Sources(broken)))["digests"] != "passed"


def test_digests_are_those_of_the_canonical_form() -> None:
    case = HOUSE.case()
    service = case.members[3]
    shuffled = json.loads(json.dumps(dict(reversed(service.items()))))
    assert digest(shuffled) == digest(service)
    case.signed_members = [*case.members[:3], shuffled]
    assert check(case).labelled
