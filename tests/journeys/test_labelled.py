"""From one labelled provider to another: allowed while both labels hold, refused before anything is read when not."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.clearing_house import House
from kit.proxy import FaultProxy
from kit.servers import S3Server
from shell import Result, Shell, shell

from portabl import verify_manifest
from portabl.records import canonical


class Country:
    """Two real servers dressed as labelled providers, each behind a proxy that counts what it is asked."""

    def __init__(self, here: Shell, source: tuple[S3Server, FaultProxy], target: tuple[S3Server, FaultProxy]) -> None:
        self.here, self.servers = here, (source, target)
        self.source, self.target = (server.bucket() for server, _ in self.servers)
        for number in range(3):
            source[0].client().put_object(Bucket=self.source, Key=f"k{number}", Body=b"x" * number)
        House().trust(here.folder)

    def label(self, name: str, **more: Any) -> None:
        """A label for one of the two, renewed or otherwise."""
        proxy = self.servers[("old", "new").index(name)][1]
        House().case(**{"endpoint": proxy.endpoint, **more}).write(self.here.folder / "labels", name)

    def configure(self, *policy: str, **fields: str) -> None:
        tables = []
        for name, (server, proxy) in zip(("old", "new"), self.servers, strict=True):
            more = {"country": "FR", "owner_country": "FR", **fields}
            lines = [f'{key} = "{value}"' for key, value in more.items()] + [f'labels = ["labels/{name}.jwt"]']
            tables.append(server.provider_toml(name, proxy.endpoint) + "\n".join(lines))
        self.here.configure(*tables, '[labels]\ntrust = "trust.toml"', "[policy]", *policy)

    def migrate(self, *more: str) -> Result:
        for _, proxy in self.servers:
            proxy.requests.clear()
        where = (f"old:{self.source}", f"new:{self.target}", "--manifest", "./manifest")
        return self.here.portabl("migrate", *where, *more)

    @property
    def source_proxy(self) -> FaultProxy:
        return self.servers[0][1]

    @property
    def asked(self) -> int:
        return sum(len(proxy.requests) for _, proxy in self.servers)


@pytest.fixture
def country(tmp_path: Path, moto: S3Server, moto2: S3Server) -> Iterator[Country]:
    with FaultProxy(moto.endpoint) as one, FaultProxy(moto2.endpoint) as two:
        made = Country(shell(tmp_path, moto.environment, moto2.environment), (moto, one), (moto2, two))
        made.label("old")
        made.label("new")
        yield made


def document(here: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((here.folder / "manifest" / "manifest.json").read_text())
    return found


def test_refused_when_a_label_ends_and_allowed_when_it_is_renewed(country: Country) -> None:
    country.configure('require_label = "L1"', 'require_criteria = ["P4.1.1"]', 'jurisdictions = ["EU"]')
    done = country.migrate()
    assert done.code == 0, done.err
    assert "policy          kept (require_label, jurisdictions)" in done.out
    assert document(country.here)["policy"]["allowed"] is True
    assert (
        "trust.toml: labels of did:web:localhost%3A443:v2 (test house) are accepted because this file says so"
        in done.out
    )

    country.label("new", at=datetime.now(UTC) - timedelta(days=100))  # ended ten days ago
    refused = country.migrate()
    refused.clear(5, "require_label of the target: not labelled: dates failed: expired on 20", "nothing was read")
    assert "a proven label of level L1 or above with P4.1.1 for new" in refused.err
    assert country.asked == 0, "neither side heard of it"

    country.label("new")
    done = country.migrate("--json")
    assert done.code == 0, done.err
    assert (done.document["unchanged"], done.document["policy"]) == (3, "kept (require_label, jurisdictions)")


def test_what_was_known_is_in_the_manifest(country: Country) -> None:
    country.configure('require_label = "SC"')
    assert country.migrate().code == 0
    found = document(country.here)
    assert [label["side"] for label in found["labels"]] == ["source", "target"]
    kept = (country.here.folder / "labels" / "new.jwt").read_text()
    label = found["labels"][1]
    assert label["token"] == kept
    assert {piece["kind"] for piece in label["evidence"]} == {"did", "chain", "presentation"}
    assert label["finding"]["level"] == "L1"
    assert {step["outcome"] for step in label["finding"]["steps"]} == {"passed"}
    shown = country.here.portabl("manifest", "show", "./manifest").out
    assert "target: L1 by test house" in shown
    assert kept not in shown, "tokens are not for the terminal"
    assert verify_manifest.main([str(country.here.folder / "manifest")]) == 0

    (country.here.folder / "labels" / "new.vp.jwt").unlink()
    again = country.here.portabl("labels", "recheck", "./manifest")
    assert again.code == 0, again.out
    assert [line.partition(" at ")[0] for line in again.out.splitlines() if ": labelled" in line] == [
        "source old: labelled L1",
        "target new: labelled L1",
    ]
    (country.here.folder / "trust.toml").write_text("")
    assert country.here.portabl("labels", "recheck", "./manifest").code == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other service", "the label is for another service"),
        ("participant", "it labels a participant"),
        ("forged", "signature failed"),
        ("unknown house", "issuer failed"),
    ],
)
def test_labels_that_are_none(country: Country, name: str, words: str) -> None:
    country.configure('require_label = { target = "SC" }')
    case = House().case(endpoint=country.servers[1][1].endpoint)
    if name == "other service":
        case = House().case(endpoint=country.servers[0][1].endpoint)
    elif name == "participant":
        del case.members[3], case.member_headers[3], case.member_keys[3]
        case.label_members()
    elif name == "forged":
        case.key = case.member_keys[2]
    else:
        (country.here.folder / "trust.toml").write_text("")
    case.write(country.here.folder / "labels", "new")
    country.migrate().clear(5, "require_label of the target", words)
    assert country.asked == 0


def test_jurisdiction_and_flags(country: Country) -> None:
    country.configure('jurisdictions = ["EU"]', owner_country="US")
    refused = country.migrate()
    refused.clear(5, "jurisdictions of the source: region in FR, owner in US", "region and owner of the source in EU")
    country.configure('jurisdictions = ["EU"]')
    flags = ("--require-label", "target=L3", "--require-tls", "--dry-run", "--min-proof", "readback")
    refused = country.migrate(*flags)
    refused.clear(5, "require_label of the target: the label is L1", "tls of the source", "min_proof: proof ingest")
    assert country.asked == 0
    flags = ("--require-label", "L1", "--jurisdiction", "FR", "--allow-provider", "old", "--allow-provider", "new")
    assert country.migrate(*flags).code == 0


def test_an_export_keeps_the_same_rules(country: Country) -> None:
    country.configure('require_label = { source = "L1" }')
    portabl, source = country.here.portabl, f"old:{country.source}"
    assert portabl("export", source, "./first").code == 0
    found = json.loads((country.here.folder / "first" / "manifest" / "manifest.json").read_text())
    assert found["policy"]["allowed"] is True
    assert [label["side"] for label in found["labels"]] == ["source"]

    country.label("old", at=datetime.now(UTC) - timedelta(days=100))
    country.source_proxy.requests.clear()
    portabl("export", source, "./second").clear(5, "require_label of the source: not labelled: dates failed")
    assert not country.source_proxy.requests
    portabl("export", source, "./second.tar").clear(5, "require_label of the source")
    assert not country.source_proxy.requests
    assert not list(country.here.folder.glob("second*"))
    for name in ("second", "second.tar"):
        done = portabl("export", source, f"./{name}", "--policy-override", "the contract ends today")
        assert done.code == 0, done.err
        assert "OVERRIDDEN (require_label): the contract ends today" in done.out
    with tarfile.open(country.here.folder / "second.tar") as archive:
        inside = archive.extractfile("second/manifest/manifest.json")
        assert inside is not None
        assert json.load(inside)["policy"]["override"] == "the contract ends today"

    country.configure('require_label = { target = "L3" }')
    country.servers[1][1].requests.clear()
    for package in ("./first", "./second.tar"):
        portabl("restore", package, f"new:{country.target}").clear(5, "require_label of the target: the label is L1")
    assert not country.servers[1][1].requests


def test_an_override_is_recorded(country: Country, capsys: pytest.CaptureFixture[str]) -> None:
    country.configure('require_label = "L3"')
    done = country.migrate("--policy-override", "agreed by the DPO, ticket 42")
    assert done.code == 0, done.err
    assert "policy          OVERRIDDEN (require_label): agreed by the DPO, ticket 42" in done.out
    assert "warning: policy OVERRIDDEN" in done.out
    found = document(country.here)["policy"]
    assert (found["allowed"], found["override"]) == (False, "agreed by the DPO, ticket 42")
    assert [one["found"] for one in found["rulings"]] == ["the label is L1", "the label is L1"]
    assert verify_manifest.main([str(country.here.folder / "manifest")]) == 0
    assert "policy       OVERRIDDEN: agreed by the DPO, ticket 42" in capsys.readouterr().out


def _edit(manifest: dict[str, Any], what: str) -> None:
    label = manifest["labels"][1]
    if what == "allowed":
        manifest["policy"]["allowed"] = False
    elif what == "held":
        manifest["policy"]["rulings"][0]["held"] = False
    elif what == "level":
        label["finding"]["level"] = "L3"
    elif what == "token":
        label["token"] = manifest["labels"][0]["token"]
    elif what == "at":
        label["finding"]["at"] = "2030-01-01T00:00:00.000Z"
    elif what == "step":
        label["finding"]["steps"][3]["outcome"] = "not checked"
    elif what == "evidence":
        label["evidence"] = [piece for piece in label["evidence"] if piece["kind"] != "presentation"]
    else:
        label["evidence"][0] = 7


def test_an_edited_manifest_is_refused_by_the_verifier_alone(country: Country) -> None:
    country.configure('require_label = "SC"')
    assert country.migrate().code == 0
    path = country.here.folder / "manifest" / "manifest.json"
    whole = path.read_text()
    for what in ("allowed", "held", "level", "token", "at", "step", "evidence", "misshapen", ""):
        found = json.loads(whole)
        if what:
            _edit(found, what)
        del found["document_sha256"]
        found["document_sha256"] = hashlib.sha256(canonical(found).encode()).hexdigest()
        path.write_text(canonical(found) + "\n")
        assert verify_manifest.main([str(path.parent)]) == (2 if what else 0), what
