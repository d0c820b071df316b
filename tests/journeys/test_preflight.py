"""Before a migration: what it then loses is what was foretold, no more and no less; and it stops where it must."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kit import hazards
from kit.hazards import HAZARDS, Item, Seen
from kit.losses import Losses, admitted, observed
from kit.servers import S3Server
from shell import Result, Shell, shell

from portabl import capability, providers
from portabl.errors import ManifestError
from portabl.files import Files
from portabl.outlook import Wanted, foresee
from portabl.outlook_text import outlook_document, outlook_text
from portabl.package import finished

KNOWN = {item.key for item in HAZARDS}
EVERYTHING = (*HAZARDS, *hazards.torture(key for key in hazards.TORTURE if key not in KNOWN))
"""The hazard bucket and the keys of torture, in one bucket."""


@pytest.fixture(scope="module")
def filled(rgw: S3Server) -> tuple[str, dict[bytes, Seen]]:
    bucket = rgw.bucket()
    stored = hazards.fill(rgw, bucket, EVERYTHING)
    assert {item.key for item in EVERYTHING} - {item.key for item in stored} == {b"meta/class"}
    return bucket, hazards.snapshot(rgw, bucket)


def _place(folder: Path, *servers: S3Server) -> Shell:
    here = shell(folder, *(server.environment for server in servers))
    here.configure(*(server.provider_toml() for server in servers))
    return here


def _foretold(path: Path) -> Losses:
    """(key, field) of every line of ``--list``."""
    found = set()
    for line in path.read_text().splitlines():
        loss = json.loads(line)
        key = loss["key"]
        raw = key.encode() if isinstance(key, str) else base64.b64decode(key["base64"])
        assert (raw, loss["field"]) not in found, "told once"
        found.add((raw, loss["field"]))
    return found


def _ran(code: int, done: Result) -> Any:
    assert "Traceback" not in done.err
    assert done.code == code, (done.code, done.err, done.out)
    return done.document


@pytest.mark.parametrize(("fixture", "card"), [("seaweed", "seaweedfs"), ("swift", "swift")])
def test_a_plan_names_exactly_what_the_migration_loses(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    rgw: S3Server,
    filled: tuple[str, dict[bytes, Seen]],
    fixture: str,
    card: str,
) -> None:
    server: S3Server = request.getfixturevalue(fixture)
    bucket, source = filled
    target = server.bucket()
    here = _place(tmp_path, rgw, server)
    places = (f"rgw:{bucket}", f"{server.name}:{target}")
    plan = _ran(3, here.portabl("plan", *places, "--card", card, "--list", "losses.jsonl", "--json", "-q"))
    assert server.keys(target) == [], "a plan writes nothing"
    foretold = _foretold(tmp_path / "losses.jsonl")
    assert (plan["objects"], plan["looked_at"]["complete"], plan["unknown"]) == (len(source), True, {})
    assert sum(loss["count"] for loss in plan["losses"]) == len(foretold)
    assert plan["carried"]["objects"] == len(source) - sum(field == "object" for _, field in foretold)

    stopped = _ran(3, here.portabl("migrate", *places, "--card", card, "--json", "-q"))
    assert (stopped["stopped"], stopped["copied"], stopped["complete"]) == (True, 0, False)
    assert server.keys(target) == [], "it stopped before copying"
    names = sorted({loss["accept"] for loss in plan["losses"]})
    assert f"--accept {','.join(names)}`" in stopped["next_command"]
    fewer = _ran(3, here.portabl("migrate", *places, "--card", card, "--accept", names[0], "--json", "-q"))
    assert fewer["stopped"]
    assert server.keys(target) == []

    accept = ("--card", card, "--accept", ",".join(names))
    done = _ran(3, here.portabl("migrate", *places, *accept, "--json", "-q"))
    assert not done["stopped"]
    assert foretold == admitted(done["manifest"]) == observed(source, hazards.snapshot(server, target))
    assert done["accepted"] == names
    document = json.loads((Path(done["manifest"].removeprefix("file://")) / "manifest.json").read_text())
    assert (document["accepted"], document["complete"]) == (names, False)


def test_a_measured_card_is_gone_by_without_being_named(tmp_path: Path, moto: S3Server, swift: S3Server) -> None:
    here = _place(tmp_path, moto, swift)
    bucket, target = moto.bucket(), swift.bucket()
    hazards.store(moto, bucket, Item(b"tagged", b"t", {}, {}, {"team": "blue"}))
    hazards.store(moto, bucket, Item(b"plain", b"p"))
    places = (f"moto:{bucket}", f"swift:{target}")
    before = _ran(0, here.portabl("plan", *places, "--json", "-q"))
    assert (before["card"], before["losses"], before["unknown"]) == (None, [], {"tags: plain": 1})
    card = json.loads((Path(__file__).parents[2] / "portabl" / "cards" / "swift.json").read_text())
    endpoint = f"s3 {swift.endpoint}"
    kept = capability.parse(card | {"service": endpoint}, "the card")
    capability.write(kept, capability.place_of(endpoint, here.state))
    after = _ran(3, here.portabl("plan", *places, "--json", "-q"))
    assert [(loss["field"], loss["accept"], loss["examples"]) for loss in after["losses"]] == [
        ("tag.team", "tags", ["tagged"])
    ]
    stopped = _ran(3, here.portabl("migrate", *places, "--json", "-q"))
    assert (stopped["stopped"], stopped["losses"][0]["field"]) == (True, "tag.team")
    assert swift.keys(target) == []
    rehearsed = _ran(3, here.portabl("migrate", *places, "--dry-run", "--json", "-q"))
    assert (rehearsed["stopped"], rehearsed["dry_run"]) == (True, True)
    done = _ran(3, here.portabl("migrate", *places, "--accept", "tags", "--json", "-q"))
    assert sorted(swift.keys(target)) == ["plain", "tagged"]
    assert (done["accepted"], done["complete"]) == (["tags"], False)
    manifest = _ran(3, here.portabl("plan", *places, "--manifest", done["manifest"], "--json", "-q"))
    assert (manifest["looked_at"]["by"], manifest["looked_at"]["complete"]) == ("manifest", True)
    assert manifest["losses"] == after["losses"]


def test_a_wrong_card_costs_a_refusal_and_never_an_object(tmp_path: Path, moto: S3Server, seaweed: S3Server) -> None:
    """A card that says SeaweedFS keeps everything: the migration sees for itself, and says 3."""
    here = _place(tmp_path, moto, seaweed)
    bucket, target = moto.bucket(), seaweed.bucket()
    hazards.fill(moto, bucket, [Item(b"a//b", b"1"), Item(b"a/b", b"2"), Item(b"r", b"3", {}, {"none": ""})])
    places = (f"moto:{bucket}", f"seaweed:{target}", "--card", "moto", "--json", "-q")
    assert _ran(0, here.portabl("plan", *places))["losses"] == []
    done = _ran(3, here.portabl("migrate", *places))
    assert admitted(done["manifest"]) == {(b"a//b", "object"), (b"r", "user.none")}
    assert sorted(seaweed.keys(target)) == ["a/b", "r"]


def test_archived_objects_stop_a_migration_and_those_that_can_be_read_do_not(
    tmp_path: Path, moto: S3Server, seaweed: S3Server
) -> None:
    here = _place(tmp_path, moto, seaweed)
    for server, code in ((moto, 3), (seaweed, 0)):
        bucket, target = server.bucket(), moto.bucket()
        hazards.store(server, bucket, Item(b"cold", b"cold", {"StorageClass": "GLACIER"}))
        hazards.store(server, bucket, Item(b"warm", b"warm"))
        places = (f"{server.name}:{bucket}", f"moto:{target}", "--json", "-q")
        plan = _ran(code, here.portabl("plan", *places))
        assert [loss["accept"] for loss in plan["losses"]] == (["archived"] if code else [])
        done = _ran(code, here.portabl("migrate", *places))
        assert (done["stopped"], moto.keys(target)) == ((True, []) if code else (False, ["cold", "warm"]))


def test_a_sample_is_never_called_complete(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    here = _place(tmp_path, moto)
    bucket, target = moto.bucket(), moto.bucket()
    for number in range(12):
        hazards.store(moto, bucket, Item(b"%04d" % number, b"x", {}, {"n": str(number)}))
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    config = providers.load(str(tmp_path / "portabl.toml"))
    wanted = Wanted(f"moto:{bucket}", f"moto:{target}", config, card="moto", heads=9, threads=4)
    some = foresee(wanted)
    assert (some.survey.looked_at, some.survey.wanted, some.survey.complete) == (9, 12, False)
    assert "9 of 12 objects, drawn evenly: a SAMPLE" in outlook_text(some)
    assert outlook_document(some)["looked_at"] == {"by": "listing", "metadata_of": 9, "of": 12, "complete": False}
    deep = _ran(0, here.portabl("plan", f"moto:{bucket}", f"moto:{target}", "--card", "moto", "--deep", "--json", "-q"))
    assert deep["looked_at"] == {"by": "listing", "metadata_of": 12, "of": 12, "complete": True}
    assert deep["carried"] == {"objects": 12, "user": 12}


def test_wrong_names_cards_and_prices_are_told_before_anything_is_done(tmp_path: Path, moto: S3Server) -> None:
    here = _place(tmp_path, moto)
    places = (f"moto:{moto.bucket()}", f"moto:{moto.bucket()}")
    here.portabl("migrate", *places, "--accept", "everything").clear(2, "everything", "known: keys")
    here.portabl("migrate", *places, "--card", "nobody").clear(2, "no card nobody", "swift")
    here.portabl("plan", *places, "--bandwidth", "fast").clear(2, "no bandwidth")
    (tmp_path / "prices.toml").write_text("looked_up = 2026-11-30\ncurrency = 'EUR'\n[providers.x]\negress = 1\n")
    here.portabl("plan", *places, "--prices", "prices.toml").clear(2, "providers.x", "egress")


def test_the_configuration_of_buckets_is_told_and_is_no_loss(tmp_path: Path, moto: S3Server) -> None:
    here = _place(tmp_path, moto)
    bucket, target = moto.bucket(), moto.bucket()
    hazards.store(moto, bucket, Item(b"one", b"1"))
    moto.client().put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "team", "Value": "blue"}]})
    plan = _ran(0, here.portabl("plan", f"moto:{bucket}", f"moto:{target}", "--json", "-q"))
    classes = {one["name"]: one["class"] for one in plan["settings"]}
    assert (classes["tags"], classes["policy"]) == ("carried", "not set")
    assert "tags: carried" in here.portabl("plan", f"moto:{bucket}", f"moto:{target}", "-q").out
    directory = _ran(0, here.portabl("plan", f"moto:{bucket}", "./not-there-yet", "--json", "-q"))
    assert (directory["settings"], directory["losses"]) == ([], [])
    assert not (tmp_path / "not-there-yet").exists(), "a plan writes nothing"


def test_exports_and_jobs_stop_too_and_can_be_told_what_may_be_lost(tmp_path: Path, moto: S3Server) -> None:
    here = _place(tmp_path, moto)
    bucket, target = moto.bucket(), moto.bucket()
    hazards.store(moto, bucket, Item(b"cold", b"cold", {"StorageClass": "GLACIER"}))
    hazards.store(moto, bucket, Item(b"warm", b"warm"))
    export = ("export", f"moto:{bucket}", "./package", "--json", "-q")
    stopped = _ran(3, here.portabl(*export))
    assert (stopped["stopped"], stopped["losses"][0]["examples"]) == (True, ["cold"])
    with pytest.raises(ManifestError):
        finished(Files.at(str(tmp_path / "package")))
    made = _ran(3, here.portabl(*export, "--accept", "archived"))
    assert not made["stopped"]
    finished(Files.at(str(tmp_path / "package")))
    assert [key for key, _ in admitted(tmp_path / "package" / "manifest")] == [b"cold"]
    job = f'[jobs.nightly]\nkind = "migrate"\nsource = "moto:{bucket}"\ntarget = "moto:{target}"\n'
    for accept, keys in (("", []), ('accept = ["archived"]\n', ["warm"])):
        here.configure(moto.provider_toml(), job + accept)
        assert here.portabl("jobs", "run", "nightly", "-q").code == 3
        assert moto.keys(target) == keys


def _with_everything(server: S3Server) -> str:
    """A bucket with versions, locks, grants and an upload that nobody finished."""
    bucket, client = server.bucket("l", lock=True), server.client()
    governed = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime(2099, 1, 2, tzinfo=UTC)}
    for key, body, more in (
        ("plain", b"p", {}),
        ("twice", b"1", governed),
        ("twice", b"2", {}),
        ("gone", b"1", {}),
        ("governed", b"g", {**governed, "ObjectLockLegalHoldStatus": "ON"}),
        ("held", b"h", {"ObjectLockLegalHoldStatus": "ON"}),
        ("public", b"x", {"ACL": "public-read"}),
        ("granted", b"x", {"GrantRead": 'id="somebody"', "GrantFullControl": 'id="somebody"'}),
    ):
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        client.put_object(Bucket=bucket, Key=key, Body=body, ContentMD5=digest, **more)
    client.delete_object(Bucket=bucket, Key="gone")
    client.create_multipart_upload(Bucket=bucket, Key="never finished")
    return bucket


def _counts(document: Any) -> dict[str, int]:
    found: Counter[str] = Counter()
    for loss in document["losses"]:
        found[loss["field"]] += loss["count"]
    return dict(found)


def test_what_versions_and_locks_lose_is_foretold_exactly(tmp_path: Path, moto: S3Server, moto2: S3Server) -> None:
    here = _place(tmp_path, moto, moto2)
    bucket, into = _with_everything(moto), moto2.bucket()
    places = (f"moto:{bucket}", f"moto2:{into}", "--json", "-q")
    plan = _ran(3, here.portabl("plan", *places, "--list", "losses.jsonl"))
    foretold = _foretold(tmp_path / "losses.jsonl")
    assert foretold == {(b"governed", "lock"), (b"held", "lock")}
    assert {loss["class"] for loss in plan["losses"]} == {"needs adaptation"}
    left = {one["field"]: (one["count"], one["examples"]) for one in plan["left_behind"]}
    assert left == {"versions": (2, ["gone", "twice"]), "delete-markers": (1, ["gone"])}
    assert (plan["objects"], plan["unfinished_uploads"]) == (6, 1)
    assert [note for note in plan["notes"] if "2 of the 6 objects grant something to others" in note], plan["notes"]
    text = here.portabl("plan", *places[:2], "-q").out
    assert "2 x versions: not carried: `--versions all`" in text

    stopped = _ran(3, here.portabl("migrate", *places))
    assert (stopped["stopped"], _counts(stopped), moto2.keys(into)) == (True, {"lock": 2}, [])
    done = _ran(3, here.portabl("migrate", *places, "--accept", "lock"))
    assert admitted(done["manifest"]) == foretold
    for said in ("2 older versions", "1 delete markers", "1 unfinished uploads", "2 of the 6 objects grant"):
        assert [note for note in done["notes"] if said in note], (said, done["notes"])
    assert _ran(0, here.portabl("plan", *places, "--lock", "none"))["losses"] == []
    assert _ran(0, here.portabl("migrate", *places, "--lock", "none"))["complete"]


def test_a_plan_foretells_what_options_lose_and_refuses_what_they_cannot(
    tmp_path: Path, moto: S3Server, moto2: S3Server
) -> None:
    here = _place(tmp_path, moto, moto2)
    bucket, simple, into = _with_everything(moto), moto2.bucket(), moto2.bucket("l", lock=True)
    for options, words in (
        (("--lock", "keep"), "no object lock"),
        (("--versions", "all", "--lock", "none"), "does not keep versions"),
    ):
        for command in ("plan", "migrate"):
            here.portabl(command, f"moto:{bucket}", f"moto2:{simple}", *options).clear(2, words)
    assert moto2.keys(simple) == []
    places = (f"moto:{bucket}", f"moto2:{into}", "--json", "-q")
    for options in (("--versions", "all"), ("--versions", "all", "--lock", "keep", "--acl", "canned")):
        plan = _ran(3, here.portabl("plan", *places, *options))
        assert (plan["left_behind"], plan["objects"], plan["delete_markers"]) == ([], 8, 1)
        assert _counts(plan) == ({"lock": 3} if "--lock" not in options else {"acl": 1})
        assert _counts(_ran(3, here.portabl("migrate", *places, *options))) == _counts(plan)
        assert moto2.keys(into) == [], "it stopped before copying"
    done = _ran(3, here.portabl("migrate", *places, *options, "--accept", "acl"))
    assert (done["stopped"], _counts(done)) == (False, {"acl": 1})
    both = ("--versions", "all", "--lock", "keep", "--acl", "full")
    assert _ran(
        0, here.portabl("plan", f"moto:{bucket}", f"moto2:{moto2.bucket('l', lock=True)}", *both, "--json", "-q")
    )
