"""Rules: how they are read, how two sets add up, and what each says of two places. No place is opened here."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kit.clearing_house import House, key, sign

from portabl import countries, providers, registry
from portabl.errors import ConfigError, PolicyRefused, UsageError
from portabl.model import Proof
from portabl.policy import FIELDS, Decision, Policy, decide, of_config, of_table, summary
from portabl.providers import Config

SOURCE, TARGET = "https://s3.old.example", "https://s3.new.example"


def config(folder: Path, policy: dict[str, Any] | None = None, **more: Any) -> Config:
    """Two providers in France and Germany, with what ``more`` says of both."""
    table = {"type": "s3", "region": "x", "country": "FR", "owner_country": "DE", **more}
    document: dict[str, Any] = {
        "providers": {"old": {**table, "endpoint": SOURCE}, "new": {**table, "endpoint": TARGET}},
        "labels": {"trust": str(House().trust(folder))},
    }
    return providers.from_document(document | ({"policy": policy} if policy else {}), str(folder / "portabl.toml"))


def decided(
    found: Config, flags: Policy | None = None, source: str = "old:b", target: str = "new:b", **more: Any
) -> Decision:
    places = [registry.parse(text, found) for text in (source, target)]
    wanted = {"proof": Proof.INGEST, **more}
    return decide(flags or Policy(), places[0], places[1], found, **wanted)


def broken(decision: Decision) -> list[tuple[str, str]]:
    return [(one.rule, one.side) for one in decision.broken]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_table_with_everything() -> None:
    found = of_table(
        {
            "require_label": "L1",
            "require_criteria": ["P4.1.1"],
            "jurisdictions": ["EU", "NO"],
            "min_proof": "readback",
            "tls": "required",
            "allow_providers": ["ovh"],
        },
        "x",
    )
    assert found == Policy(("L1", "L1"), (("P4.1.1",),) * 2, (("EU", "NO"),), "readback", True, ("ovh",))
    one_side = of_table({"require_label": {"target": "L2"}, "require_criteria": ["P4.1.1"]}, "x")
    assert (one_side.labels, one_side.criteria) == (("", "L2"), ((), ("P4.1.1",)))
    assert of_table({"require_criteria": ["P1"]}, "x").criteria == (("P1",), ("P1",))
    assert of_table({"require_criteria": {"source": ["P1"]}, "require_label": {"target": "SC"}}, "x").criteria == (
        ("P1",),
        (),
    )
    assert of_table({}, "x") == Policy()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"require_lable": "L1"}, "unknown rule"),
        ({"require_label": "L4"}, "SC, L1, L2, L3"),
        ({"require_label": ["L1"]}, "must be one of"),
        ({"require_label": {"left": "L1"}}, "unknown side `left`"),
        ({"require_criteria": "P4.1.1"}, "list of strings"),
        ({"jurisdictions": ["EU", "Europe"]}, "`Europe` is no area"),
        ({"jurisdictions": "EU"}, "list of strings"),
        ({"min_proof": "some"}, "size, ingest, readback"),
        ({"tls": "maybe"}, "must be one of required"),
        ({"tls": True}, "must be one of required"),
        ({"allow_providers": [1]}, "list of strings"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        of_table(table, "portabl.toml: [policy]")


def test_flags_only_make_it_stricter(tmp_path: Path) -> None:
    base = of_table(
        {"require_label": "L2", "jurisdictions": ["EU"], "min_proof": "readback", "allow_providers": ["a", "b"]}, "x"
    )
    weak = of_table(
        {"require_label": "SC", "jurisdictions": ["US", "FR"], "min_proof": "size", "allow_providers": ["b", "c"]}, "x"
    )
    both = base & weak
    assert both == replace(weak & base, jurisdictions=both.jurisdictions)
    assert (both.labels, both.min_proof, both.allow) == (("L2", "L2"), "readback", ("b",))
    assert both.jurisdictions == (("EU",), ("US", "FR"))
    assert base & Policy() == base == Policy() & base
    strict = config(tmp_path, {"tls": "required"})
    assert of_config(strict).tls
    assert (of_config(strict) & Policy()).tls


def test_the_page_knows_every_rule_and_its_example_is_valid() -> None:
    page = (Path(__file__).parents[1] / "docs" / "policy.md").read_text()
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example
    table = tomllib.loads(example[1])["policy"]
    assert set(table) == set(FIELDS) == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert of_table(table, "x") == of_table({name: table[name] for name in FIELDS}, "x")
    assert {name for flags in re.findall(r"`(--[a-z-]+)", page) for name in [flags]} >= {
        f"--{name}"
        for name in ("require-label", "require-criteria", "jurisdiction", "min-proof", "require-tls", "allow-provider")
    }


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_no_rules_no_decision(tmp_path: Path) -> None:
    found = decided(config(tmp_path))
    assert (found.rulings, found.document(), summary(found)) == ((), {}, "")
    found.enforce()


@pytest.mark.parametrize(
    ("areas", "country", "owner", "held"),
    [
        (["EU"], "FR", "DE", True),
        (["EU"], "FR", "US", False),
        (["EU"], "US", "FR", False),
        (["EU"], "NO", "NO", False),
        (["EEA"], "NO", "FR", True),
        (["FR"], "FR", "DE", False),
        (["FR", "DE"], "FR", "DE", True),
        (["EU", "CH"], "CH", "CH", True),
        (["EU"], "", "FR", False),
        (["EU"], "FR", "", False),
        (["EU"], "GB", "GB", False),
    ],
)
def test_jurisdictions(areas: list[str], country: str, owner: str, held: bool, tmp_path: Path) -> None:
    found = decided(config(tmp_path, {"jurisdictions": areas}, country=country, owner_country=owner))
    assert broken(found) == ([] if held else [("jurisdictions", "source"), ("jurisdictions", "target")])
    if not held:
        with pytest.raises(PolicyRefused) as refused:
            found.enforce()
        assert f"region in {country or 'an unknown country'}" in str(refused.value)
        assert f"region and owner of the source in {' or '.join(areas)}" in refused.value.hint


def test_areas_are_what_they_are() -> None:
    assert len(countries.EU) == 27
    assert len(countries.EEA) == 30
    assert countries.members("eea") == countries.EEA
    assert countries.members("FRA") == countries.members("250") == {"FR"}
    assert countries.members("UK") == frozenset()
    assert all(countries.alpha2(code) == code for code in countries.EEA)
    assert countries.alpha2("") == countries.alpha2("EU") == ""


@pytest.mark.parametrize(
    ("place", "held"),
    [
        ("./here", True),
        ("file:///tmp/x", True),
        ("s3://bucket", True),
        ("old:b", True),
        ("plain:b", False),
        ("careless:b", False),
        ("memory://x", True),
        ("http://host/x", False),
        ("ftp://host/x", False),
        ("simplecache::http://host/x", False),
        ("sftp://host/x", True),
    ],
)
def test_tls(place: str, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    found = config(tmp_path, {"tls": "required"})
    more = {
        "plain": {"endpoint": "http://s3.example"},
        "careless": {"endpoint": "https://s3.example", "insecure": True},
    }
    others = {n: providers.S3Provider(name=n, region="x", **t) for n, t in more.items()}
    found = replace(found, providers={**found.providers, **others})
    assert broken(decided(found, source=place)) == ([] if held else [("tls", "source")])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert broken(decided(found, source="s3://bucket")) == [("tls", "source")]


def test_min_proof_and_allowed_providers(tmp_path: Path) -> None:
    rules = {"min_proof": "ingest", "allow_providers": ["old"]}
    assert broken(decided(config(tmp_path, rules), proof=Proof.SIZE)) == [
        ("allow_providers", "target"),
        ("min_proof", ""),
    ]
    assert broken(decided(config(tmp_path, rules), target="old:c")) == []
    assert broken(decided(config(tmp_path, rules), target="./x", proof=Proof.READBACK)) == [
        ("allow_providers", "target")
    ]
    assert broken(decided(config(tmp_path, {"allow_providers": []}))) == [
        ("allow_providers", "source"),
        ("allow_providers", "target"),
    ]


# --- labels -----------------------------------------------------------------------------------------------------------


def labelled(folder: Path, **more: Any) -> dict[str, Any]:
    """Write labels for both providers; the field of their tables."""
    for name, endpoint in (("old", SOURCE), ("new", TARGET)):
        House().case(**{"endpoint": endpoint, **more}).write(folder, name)
    return {"labels": ["old.jwt", "new.jwt"]}


@pytest.mark.parametrize(
    ("rules", "level", "held"),
    [
        ({"require_label": "SC"}, "SC", True),
        ({"require_label": "L1"}, "L3", True),
        ({"require_label": "L2"}, "L1", False),
        ({"require_label": "L1", "require_criteria": ["P4.1.1", "P3.1.11"]}, "L1", True),
        ({"require_label": "L1", "require_criteria": ["P5.1.1"]}, "L2", False),
        ({"require_criteria": ["P4.1.2"]}, "SC", True),
        ({"require_criteria": ["P4.1"]}, "SC", False),
    ],
)
def test_levels_and_criteria(rules: dict[str, Any], level: str, held: bool, tmp_path: Path) -> None:
    found = decided(config(tmp_path, rules, **labelled(tmp_path, level=level)))
    assert bool(found.broken) is not held
    assert len(found.labels[0]) == 2, "both files are looked at for each provider"
    if not held:
        with pytest.raises(PolicyRefused, match=r"the label is"):
            found.enforce()


def test_no_label_is_no_label(tmp_path: Path) -> None:
    found = decided(config(tmp_path, {"require_label": {"target": "SC"}}))
    assert broken(found) == [("require_label", "target")]
    with pytest.raises(PolicyRefused, match="require_label of the target: no label") as refused:
        found.enforce()
    assert "a proven label of level SC or above for new" in refused.value.hint
    assert "--policy-override REASON" in refused.value.hint
    assert broken(decided(config(tmp_path, {"require_label": "SC"}), target="./here")) == [
        ("require_label", "source"),
        ("require_label", "target"),
    ]


def test_the_label_of_another_service_does_not_count(tmp_path: Path) -> None:
    found = decided(config(tmp_path, {"require_label": "SC"}, **labelled(tmp_path, endpoint=TARGET)))
    assert broken(found) == [("require_label", "source")]
    assert "the label is for another service" in found.broken[0].found


def test_what_a_label_says_of_its_provider_counts_for_jurisdictions(tmp_path: Path) -> None:
    found = decided(config(tmp_path, {"jurisdictions": ["EU"]}, **labelled(tmp_path, country="US")))
    assert len(found.broken) == 2
    assert "provider by its label in US" in found.broken[0].found
    assert not decided(config(tmp_path, {"jurisdictions": ["EU"]}, **labelled(tmp_path, country="FRA"))).broken


def test_an_ended_label_is_none(tmp_path: Path) -> None:
    rules = {"require_label": "SC"}
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    found = decided(config(tmp_path, rules, **labelled(tmp_path, at=long_ago)))
    assert [one.rule for one in found.broken] == ["require_label"] * 2
    assert "expired on 2026-0" in found.broken[0].found


def test_an_override_needs_a_reason_and_is_recorded(tmp_path: Path) -> None:
    rules = {"require_label": "SC", "min_proof": "readback"}
    found = decided(config(tmp_path, rules), override=" agreed with the\nDPO ")
    found.enforce()
    document = found.document()["policy"]
    assert (document["allowed"], document["override"]) == (False, "agreed with the\\x0aDPO")
    assert summary(found).startswith("OVERRIDDEN (require_label, min_proof): ")
    with pytest.raises(UsageError, match="reason"):
        decided(config(tmp_path, rules), override="  ")


def test_evidence_has_a_limit(tmp_path: Path) -> None:
    fields = labelled(tmp_path)
    large = sign({"alg": "ES256"}, {"type": "VerifiablePresentation", "x": "x" * 2_900_000}, key("participant"))
    for number in range(3):
        (tmp_path / f"old.{number}.vp.jwt").write_text(large)
    with pytest.raises(UsageError, match="label evidence of old has"):
        decided(config(tmp_path, {"require_label": "SC"}, **fields))
