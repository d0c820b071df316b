"""Ways to lose something and still exit 0, or to hang for ever: each was found once."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from kit.servers import S3Server
from shell import shell

from portabl.budget import Budget
from portabl.files import Files
from portabl.journal import Journal
from portabl.large import LargeMover
from portabl.manifest import ManifestWriter
from portabl.model import Content, Entry, Loss, Metadata, ObjectInfo, Record, Seen
from portabl.plan import Action, Step
from portabl.records import encode
from portabl.transfer import SINGLE_MAX, Mover
from portabl_adapters.local import LocalStorage

MIB = 2**20


def test_small_objects_read_already_and_a_large_one_under_a_watched_key_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    sizes = {b"a": 8 * MIB, b"b": 8 * MIB, b"My Video.mp4": SINGLE_MAX + 1}
    for key, size in sizes.items():
        with open(tmp_path / "from" / os.fsdecode(key), "wb") as file:
            file.truncate(size)
    alone, read = threading.Event(), threading.Semaphore(0)

    class Source(LocalStorage):
        def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
            content = super().read(entry, start, length)
            if entry.size <= SINGLE_MAX:
                assert alone.wait(20)  # the large one is alone by now; these have all the budget
                read.release()
            return content

    class Target(LocalStorage):
        capabilities = replace(LocalStorage.capabilities, key_rules="store")

        def stat(self, key: bytes) -> ObjectInfo:
            if key == b"My Video.mp4" and not alone.is_set():
                alone.set()
                for _ in range(2):
                    assert read.acquire(timeout=20)
            return super().stat(key)

    source, target = Source(os.fsencode(tmp_path / "from"), "from"), Target(os.fsencode(tmp_path / "to"), "to")
    target.check(write=True)
    large = LargeMover(Journal(tmp_path / "journal"), str(tmp_path), lambda _: None)
    mover = Mover(source, target, Budget(16 * MIB), large, lambda: False)
    entries = {entry.key: entry for entry in source.entries()}
    assert set(entries) == set(sizes)
    threads = [
        threading.Thread(target=mover.move, args=(Step(Action.COPY, entries[key]),), daemon=True) for key in sizes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "stuck"
    assert {entry.key: entry.size for entry in target.entries()} == sizes
    large.close()
    target.close()


def test_headers_that_somebody_replaced_at_the_target_are_put_back(tmp_path: Path, moto: S3Server) -> None:
    here, client = shell(tmp_path, moto.environment), moto.client()
    here.configure(moto.provider_toml("old"))
    source, target = moto.bucket(), moto.bucket()
    command = ("migrate", f"old:{source}", f"old:{target}", "--json")
    for key in ("replaced", "left"):
        client.put_object(Bucket=source, Key=key, Body=b"same", CacheControl="no-store", Metadata={"a": "1"})
    assert here.portabl(*command).code == 0
    time.sleep(1.1)  # a listing shows seconds
    client.put_object(Bucket=target, Key="replaced", Body=b"same")
    again = here.portabl(*command)
    assert again.code == 0, again.err
    assert (again.document["copied"], again.document["unchanged"]) == (1, 1)
    found = client.head_object(Bucket=target, Key="replaced")
    assert (found["CacheControl"], found["Metadata"]) == ("no-store", {"a": "1"})
    assert here.portabl(*command).document["unchanged"] == 2


def test_a_large_body_copied_inside_a_store_is_still_held_against_the_manifest_it_is_restored_from(
    tmp_path: Path, moto: S3Server
) -> None:
    here, client = shell(tmp_path, moto.environment), moto.client()
    here.configure(moto.provider_toml("old"))
    source, target = moto.bucket(), moto.bucket()
    client.put_object(Bucket=source, Key="large", Body=b"a" * (SINGLE_MAX + 1))
    first = here.portabl("migrate", f"old:{source}", "./export", "--json")
    assert first.code == 0, first.err
    client.put_object(Bucket=source, Key="large", Body=b"b" * (SINGLE_MAX + 1))
    restored = here.portabl(
        "migrate", f"old:{source}", f"old:{target}", "--json", "--restore", first.document["manifest"]
    )
    assert restored.code == 3, restored.out
    assert "sha256 differs" in restored.document["losses"][0]["reason"]
    assert moto.keys(target) == []


def test_a_mistyped_prefix_is_said_to_hold_nothing(tmp_path: Path, moto: S3Server) -> None:
    here = shell(tmp_path, moto.environment)
    here.configure(moto.provider_toml("old"))
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="photos/1", Body=b"x")
    for option in ((), ("--dry-run",)):
        done = here.portabl("migrate", f"old:{bucket}/fotos", "./export", "--json", *option)
        assert any("holds nothing in scope" in line for line in done.document["warnings"]), done.out


def test_a_manifest_copied_over_an_older_one_is_never_a_mixture(tmp_path: Path) -> None:
    here = shell(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("1")
    command = ("migrate", "./data", "./copy", "--manifest", "./proof", "--json")
    assert here.portabl(*command).code == 0
    (tmp_path / "data" / "two").write_text("2")
    segment = tmp_path / "proof" / "segments" / "000000.jsonl.gz"
    segment.unlink()
    (segment / "in the way").mkdir(parents=True)
    assert here.portabl(*command).code == 6
    assert not (tmp_path / "proof" / "manifest.json").exists(), "the old manifest over new segments"
    (segment / "in the way").rmdir()
    segment.rmdir()
    assert here.portabl(*command).code == 0
    assert here.portabl("verify", "./proof", "--json").code == 0


def manifest(folder: Path, *records: Record) -> str:
    """A manifest of these records."""
    with ManifestWriter(Files.at(str(folder))) as writer:
        for record in records:
            writer.add(encode(record), record)
        writer.finish({"target": "./data"})
    return str(folder)


def test_what_could_not_be_read_when_the_manifest_was_made_is_missing_from_a_restore(
    tmp_path: Path, moto: S3Server
) -> None:
    here = shell(tmp_path, moto.environment)
    here.configure(moto.provider_toml("new"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "k").write_bytes(b"x")
    record = Record(b"k", 1, hashlib.sha256(b"x").hexdigest(), Metadata(user={"a": "1"}), target=Seen("e"))
    hidden = replace(record, losses=(Loss("tags", "no permission to read tags"),))
    kept_elsewhere = replace(record, losses=(Loss("user.a", "dropped by the target", "1"),))
    for losses, code in ((hidden, 3), (kept_elsewhere, 0)):
        where = manifest(tmp_path / f"manifest-{code}", losses)
        done = here.portabl("migrate", "./data", f"new:{moto.bucket()}", "--restore", where, "--json")
        assert done.code == code, (done.out, done.err)
        assert [loss["field"] for loss in done.document["losses"]] == (["tags"] if code else [])


def test_a_record_that_names_no_target_proves_nothing(tmp_path: Path) -> None:
    here = shell(tmp_path)
    (tmp_path / "data").mkdir()
    where = manifest(tmp_path / "manifest", Record(b"k", 1, hashlib.sha256(b"x").hexdigest()))
    for proof in ("size", "readback"):
        done = here.portabl("verify", where, "./data", "--proof", proof, "--json")
        assert (done.code, done.document["missing"]) == (3, 1)


def test_mirror_does_not_delete_its_own_state_and_manifest(tmp_path: Path, moto: S3Server) -> None:
    here = shell(tmp_path, moto.environment)
    here.configure(moto.provider_toml("new"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "k").write_bytes(b"x")
    command, bucket = ("migrate", "./data", "--mirror"), moto.bucket()
    here.portabl(*command, "./copy", "--state", "./copy/state").clear(2, "--mirror would delete")
    here.portabl(*command, "./copy", "--manifest", "./copy").clear(2, "--mirror would delete")
    here.portabl(*command, ".").clear(2)
    here.portabl(*command, "./home").clear(2, "--mirror would delete")
    here.portabl(*command, f"new:{bucket}", "--manifest", f"new:{bucket}/m").clear(2, "--mirror would delete")
    assert here.portabl(*command, f"new:{bucket}/k", "--manifest", f"new:{bucket}/m").code == 0
    assert here.portabl(*command, f"new:{bucket}/k", "--manifest", f"new:{bucket}/m").code == 0
    assert "m/manifest.json" in moto.keys(bucket)


def test_a_key_whose_other_forms_are_too_long_for_the_target_arrives(tmp_path: Path, rgw: S3Server) -> None:
    here = shell(tmp_path, rgw.environment)
    here.configure(rgw.provider_toml("new"))
    source, target, key = rgw.bucket(), rgw.bucket(), "\N{LATIN SMALL LETTER E WITH ACUTE}" * 512
    rgw.client().put_object(Bucket=source, Key=key, Body=b"x")  # decomposed, it has 1536 bytes
    done = here.portabl("migrate", f"new:{source}", f"new:{target}", "--json")
    assert (done.code, rgw.keys(target)) == (0, [key]), done.out
