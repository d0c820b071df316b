"""What an object has besides bytes, headers and tags: carried by option, named as a loss, or said in the report."""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.servers import S3Server
from kit.versions import histories, items
from shell import Result, Shell, shell

from portabl.errors import Archived
from portabl.storage import Opening
from portabl_adapters.s3 import fidelity
from portabl_adapters.s3.storage import S3Storage

MIB = 2**20
UNTIL = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)


def place(folder: Path, source: S3Server, target: S3Server, settings: str = "") -> Shell:
    here = shell(folder, source.environment, target.environment)
    here.configure(source.provider_toml("old") + settings, target.provider_toml("new") + settings)
    return here


def run(here: Shell, bucket: str, into: str, *more: str, code: int = 0, **environment: str) -> Result:
    done = here.portabl("migrate", f"old:{bucket}", f"new:{into}", "--json", "--threads", "8", *more, **environment)
    assert "Traceback" not in done.err, done.err
    assert done.code == code, (done.err, done.out)
    return done


def losses(done: Result) -> dict[str, int]:
    """Counts by field, whatever the reasons."""
    found: Counter[str] = Counter()
    for loss in done.document["losses"]:
        found[loss["field"]] += loss["count"]
    return dict(found)


def put(server: S3Server, bucket: str, key: str, body: bytes = b"x", **more: Any) -> None:
    server.client().put_object(Bucket=bucket, Key=key, Body=body, **more)


# object lock


def locked_bucket(server: S3Server) -> str:
    bucket = server.bucket("l", lock=True)
    governed = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": UNTIL, "ContentMD5": md5(b"x")}
    put(server, bucket, "governed", **governed)
    put(server, bucket, "held", ObjectLockLegalHoldStatus="ON", ContentMD5=md5(b"x"))
    put(server, bucket, "both", **{**governed, "ObjectLockMode": "COMPLIANCE", "ObjectLockLegalHoldStatus": "ON"})
    put(server, bucket, "free", ContentMD5=md5(b"x"))
    return bucket


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def lock_of(server: S3Server, bucket: str, key: str, version: str = "") -> tuple[Any, Any, Any]:
    which = {"VersionId": version} if version else {}
    seen = server.client().head_object(Bucket=bucket, Key=key, **which)
    names = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus")
    mode, until, hold = (seen.get(name) for name in names)
    return mode, until, hold if hold == "ON" else None


def test_locks_are_named_or_carried(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = locked_bucket(moto), moto2.bucket("l", lock=True)
    big = random.Random(1).randbytes(17 * MIB)
    retained = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": UNTIL}
    put(moto, bucket, "large", big, ContentMD5=md5(big), **retained)
    here = place(tmp_path, moto, moto2)
    assert losses(run(here, bucket, moto2.bucket(), code=3)) == {"lock": 4}
    assert losses(run(here, bucket, moto2.bucket(), "--lock", "none")) == {}
    done = run(here, bucket, into, "--lock", "keep")
    assert done.document["source_root"] == done.document["target_root"]
    keys = ("governed", "held", "both", "free", "large")
    expected = {key: lock_of(moto, bucket, key) for key in keys}
    assert expected["both"] == ("COMPLIANCE", UNTIL, "ON")
    assert {key: lock_of(moto2, into, key) for key in keys} == expected
    checked = here.portabl("verify", done.document["manifest"], "--json")
    assert (checked.code, checked.document["root_proven"]) == (0, done.document["target_root"])
    assert run(here, bucket, into, "--lock", "keep").document["unchanged"] == 5


def test_a_target_that_cannot_lock_is_refused_before_anything_is_written(moto: S3Server, tmp_path: Path) -> None:
    bucket, into = locked_bucket(moto), moto.bucket()
    here = place(tmp_path, moto, moto)
    run(here, bucket, into, "--lock", "keep", code=2).clear(2, "no object lock", "--lock none")
    assert not moto.keys(into)


def test_each_version_keeps_its_own_lock(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = locked_bucket(moto), moto2.bucket("l", lock=True)
    later = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": UNTIL + timedelta(days=1)}
    put(moto, bucket, "governed", b"second", ContentMD5=md5(b"second"), **later)
    moto.client().delete_object(Bucket=bucket, Key="held")
    run(place(tmp_path, moto, moto2), bucket, into, "--lock", "keep", "--versions", "all")
    assert histories(moto2, into) == histories(moto, bucket)
    seen = [
        [lock_of(server, name, i["Key"], i["VersionId"]) for i, gone in items(server, name) if not gone]
        for server, name in ((moto, bucket), (moto2, into))
    ]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 5


# access control lists


def grants(server: S3Server, bucket: str, key: str) -> set[tuple[str, str]]:
    found = server.client().get_object_acl(Bucket=bucket, Key=key)["Grants"]
    return {(g["Permission"], g["Grantee"].get("URI") or g["Grantee"].get("ID", "")) for g in found}


def test_acls_are_said_or_carried(rgw: S3Server, tmp_path: Path) -> None:
    bucket, client = rgw.bucket(), rgw.client()
    owner = client.list_buckets()["Owner"]["ID"]
    put(rgw, bucket, "private")
    put(rgw, bucket, "public", ACL="public-read")
    put(rgw, bucket, "members", ACL="authenticated-read")
    put(rgw, bucket, "granted", GrantRead=f'id="{owner}"', GrantFullControl=f'id="{owner}"')
    keys = ("private", "public", "members", "granted")
    expected = {key: grants(rgw, bucket, key) for key in keys}
    here = place(tmp_path, rgw, rgw)
    plain = run(here, bucket, rgw.bucket())
    assert any("ACLs were not carried: 3 of the 4 objects grant" in note for note in plain.document["notes"]), plain.out
    assert not run(here, bucket, rgw.bucket(), "--acl", "none").document["notes"]
    into = rgw.bucket()
    stopped = run(here, bucket, into, "--acl", "canned", code=3)
    assert (stopped.document["stopped"], losses(stopped)) == (True, {"acl": 1})
    canned = run(here, bucket, into, "--acl", "canned", "--accept", "acl", code=3)
    assert losses(canned) == {"acl": 1}
    assert {key: grants(rgw, into, key) for key in keys[:3]} == {key: expected[key] for key in keys[:3]}
    into = rgw.bucket()
    full = run(here, bucket, into, "--acl", "full", "--proof", "readback")
    assert {key: grants(rgw, into, key) for key in keys} == expected
    assert full.document["source_root"] == full.document["target_root"]


def test_acls_that_the_target_does_not_keep_are_lost(moto: S3Server, seaweed: S3Server, tmp_path: Path) -> None:
    bucket = moto.bucket()
    put(moto, bucket, "public", ACL="public-read")
    put(moto, bucket, "private")
    here, into = place(tmp_path, moto, seaweed), seaweed.bucket()
    done = run(here, bucket, into, "--acl", "canned", code=3)
    assert losses(done) == {"acl": 1}
    again = run(here, bucket, into, "--acl", "canned", code=3)
    assert (again.document["copied"], again.document["unchanged"]) == (0, 2)
    assert again.document["losses"] == done.document["losses"], "what is lost is named as long as it is lost"
    assert again.document["target_root"] == done.document["target_root"] != done.document["source_root"]


# storage classes and archives


def test_archived_objects_are_named_and_restored_on_request(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = moto.bucket(), moto2.bucket()
    put(moto, bucket, "cold/1", b"one", StorageClass="GLACIER")
    put(moto, bucket, "cold/2", b"two", StorageClass="DEEP_ARCHIVE")
    put(moto, bucket, "warm", b"three")
    here = place(tmp_path, moto, moto2)
    stopped = run(here, bucket, into, code=3)
    assert (stopped.document["stopped"], losses(stopped)) == (True, {"object": 2})
    assert not moto2.keys(into)
    first = run(here, bucket, into, "--accept", "archived", code=3)
    assert losses(first) == {"object": 2}
    assert "archived (GLACIER): `--restore-archived DAYS`" in first.out
    assert moto2.keys(into) == ["warm"]
    asked = run(here, bucket, into, "--restore-archived", "2")  # moto restores at once, as no store does
    assert asked.document["copied"] == 2
    assert moto2.keys(into) == ["cold/1", "cold/2", "warm"]


def test_a_restore_that_was_asked_for_is_said(moto: S3Server) -> None:
    bucket = moto.bucket()
    put(moto, bucket, "cold", b"one", StorageClass="GLACIER")
    settings = {"endpoint": moto.endpoint, "region": moto.region}
    keys = {"access_key_id": moto.access_key, "secret_access_key": moto.secret_key}
    opening = Opening("old:b", bucket, b"", settings, keys.get, 4, {"restore_archived": "2"})
    with S3Storage(opening) as storage:
        (entry,) = storage.entries()
        with pytest.raises(Archived, match="archived \\(GLACIER\\): a copy was asked for"):
            storage.read(entry)
        assert "ongoing-request" in moto.client().head_object(Bucket=bucket, Key="cold")["Restore"]


def test_storage_classes_are_kept_or_mapped(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, kept, mapped = moto.bucket(), moto2.bucket(), moto2.bucket()
    for name in ("STANDARD_IA", "ONEZONE_IA", "STANDARD", "INTELLIGENT_TIERING"):
        put(moto, bucket, name, StorageClass=name)
    here = place(tmp_path, moto, moto2)
    run(here, bucket, kept, "--storage-class", "map", code=2).clear(2, "no table of storage classes")
    here = place(
        tmp_path, moto, moto2, 'storage_classes = { STANDARD_IA = "GLACIER_IR", "*" = "REDUCED_REDUNDANCY" }\n'
    )
    run(here, bucket, kept, "--storage-class", "keep")
    done = run(here, bucket, mapped, "--storage-class", "map")

    def classes(into: str) -> dict[str, str]:
        listed = moto2.client().list_objects_v2(Bucket=into)["Contents"]
        return {item["Key"]: item["StorageClass"] for item in listed}

    assert all(key == name for key, name in classes(kept).items())
    other = "REDUCED_REDUNDANCY"
    assert classes(mapped) == {
        "STANDARD_IA": "GLACIER_IR", "ONEZONE_IA": other, "STANDARD": "STANDARD", "INTELLIGENT_TIERING": other
    }  # fmt: skip
    assert here.portabl("verify", done.document["manifest"]).code == 0


# encryption at rest, uploads


def test_objects_with_their_owners_key_are_read_with_it(seaweed: S3Server, moto: S3Server, tmp_path: Path) -> None:
    bucket, into = seaweed.bucket(), moto.bucket()
    keys = [random.Random(seed).randbytes(32) for seed in (1, 2)]
    big = random.Random(3).randbytes(17 * MIB)
    for number, key in enumerate(keys):
        put(seaweed, bucket, f"own/{number}", b"secret", SSECustomerAlgorithm="AES256", SSECustomerKey=key)
    put(seaweed, bucket, "own/large", big, SSECustomerAlgorithm="AES256", SSECustomerKey=keys[0])
    put(seaweed, bucket, "plain", b"open")
    here = place(tmp_path, seaweed, moto)
    assert losses(run(here, bucket, into, code=3)) == {"object": 3}
    here = place(tmp_path, seaweed, moto, 'sse_c_keys = "env:OWN_KEYS"\n')
    texts = [base64.b64encode(key).decode() for key in keys]
    done = run(here, bucket, into, OWN_KEYS=" ".join(texts))
    assert any("3 SSE-C" in note for note in done.document["notes"])
    client = moto.client()
    read = {name: client.get_object(Bucket=into, Key=name)["Body"].read() for name in moto.keys(into)}
    assert read == {"own/0": b"secret", "own/1": b"secret", "own/large": big, "plain": b"open"}
    everything = (
        done.out
        + done.err
        + "".join(path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file())
    )
    assert not any(text in everything for text in texts)
    short = run(here, bucket, into, code=2, OWN_KEYS="dG9vIHNob3J0").clear(2, "32 bytes in base64")
    assert "dG9vIHNob3J0" not in short.err


def test_encryption_and_unfinished_uploads_at_the_source_are_counted(
    moto: S3Server, moto2: S3Server, tmp_path: Path
) -> None:
    bucket, client = moto.bucket(), moto.client()
    for number in range(3):
        put(moto, bucket, f"in/{number}", ServerSideEncryption="AES256")
    put(moto, bucket, "in/kms", ServerSideEncryption="aws:kms")
    put(moto, bucket, "in/plain")
    for key in ("in/a", "in/b", "out/c"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    notes = run(place(tmp_path, moto, moto2), f"{bucket}/in", moto2.bucket()).document["notes"]
    assert any("3 AES256, 1 aws:kms" in note for note in notes)
    assert any(note.startswith("2 unfinished uploads") for note in notes)


@pytest.mark.parametrize("options", [("--restore-archived", "0"), ("--acl", "all"), ("--lock", "yes")])
def test_options_nobody_knows(options: tuple[str, str], tmp_path: Path) -> None:
    shell(tmp_path).portabl("migrate", "./a", "./b", *options).clear(2, options[0])


def test_what_is_said_of_acls_that_were_not_all_looked_at(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = moto.bucket()
    for number in range(12):
        put(moto, bucket, f"{number:02d}", ACL="public-read" if number in (3, 4, 11) else "private")
    monkeypatch.setattr(fidelity, "ACL_FIRST", 3)
    monkeypatch.setattr(fidelity, "ACL_EVERY", 4)
    settings = {"endpoint": moto.endpoint, "region": moto.region}
    keys = {"access_key_id": moto.access_key, "secret_access_key": moto.secret_key}

    def said(up_to: int, **options: str) -> list[str]:
        with S3Storage(Opening("old:b", bucket, b"", settings, keys.get, 4, options)) as storage:
            for entry in list(storage.entries())[:up_to]:
                storage.stat(entry.key)
                storage.read(entry)
            return [note.partition("; ")[0] for note in storage.notes()]

    assert said(3, acl="report") == []
    seen = "of the 4 objects looked at, of 5 (the first 3, then one in 4)"
    one = f"ACLs were not carried: 1 {seen} grant something to others, such as '03'"
    assert said(5, acl="report") == [one]
    put(moto, bucket, "03")
    assert said(5, acl="report") == [f"ACLs were not carried: none {seen} grants something to others"]
    for options in ({"acl": "report-all"}, {"acl": "report-all", "counts": "heads"}):
        (note,) = said(12, **options)
        assert note == "ACLs were not carried: 2 of the 12 objects grant something to others, such as '04'"
