"""Writer and loader: what was written is read, and nothing else ever is."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_samples import SAMPLE, record, records, written
from test_merkle import naive

from portabl import segments, verify_manifest
from portabl.errors import ManifestError, UsageError
from portabl.files import Files
from portabl.manifest import Manifest, ManifestWriter, again, load
from portabl.model import Loss, Metadata, Record, Seen
from portabl.records import at_target, canonical, encode, leaf, sort_key, target_leaf


def at(path: Path) -> Files:
    return Files.at(str(path))


def read(path: Path) -> list[Record]:
    return [one for _, one in load(at(path)).records()]


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit manifest.json as somebody would who repairs its own hash too."""
    document = json.loads((path / "manifest.json").read_bytes())
    del document["document_sha256"]
    change(document)
    document["document_sha256"] = hashlib.sha256(canonical(document).encode()).hexdigest()
    (path / "manifest.json").write_bytes(canonical(document).encode() + b"\n")


def refused(path: Path) -> str:
    """Both readers must refuse; answers portabl's reason."""
    with pytest.raises(verify_manifest.ManifestError):
        verify_manifest.verify(str(path))
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert caught.value.exit_code == 3
    return str(caught.value) + caught.value.hint


def test_what_was_written_is_read(tmp_path: Path) -> None:
    finished = written(at(tmp_path), SAMPLE, 2, scope="all", complete=True, proof="ingest", filters=[])
    loaded = load(at(tmp_path))
    assert loaded == replace(finished, files=loaded.files)
    assert [one for _, one in loaded.records()] == SAMPLE
    assert [line for line, _ in loaded.records()] == [encode(one) for one in SAMPLE]
    assert [segment.records for segment in loaded.segments] == [2, 2, 1]
    assert loaded.document["scope"] == "all"
    assert loaded.counts == {
        "at_target": 4,
        "bytes": 11,
        "delete_markers": 1,
        "failed": 1,
        "losses": {"object": 1, "tag.*": 1},
        "objects": 4,
        "unread": 0,
    }
    assert loaded.root == naive([leaf(one) for one in SAMPLE]).hex()
    arrived = [hashed for one in SAMPLE if at_target(one) and (hashed := target_leaf(one)) is not None]
    assert loaded.target_root == naive(arrived).hex()
    assert loaded.root != loaded.target_root


def test_no_records_make_a_manifest_too(tmp_path: Path) -> None:
    finished = written(at(tmp_path), [])
    assert read(tmp_path) == []
    assert finished.root == finished.target_root == hashlib.sha256(b"").hexdigest()
    assert at(tmp_path).names() == ["manifest.json"]


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), max_size=8, unique_by=sort_key), st.integers(1, 3))
def test_any_records_and_the_stranger_agrees(
    tmp_path_factory: pytest.TempPathFactory, some: list[Record], n: int
) -> None:
    path = tmp_path_factory.mktemp("any")
    finished = written(at(path), some, n)
    assert read(path) == sorted(some, key=sort_key)
    document, differences = verify_manifest.verify(str(path))
    assert document == {name: value for name, value in finished.document.items() if name != "document_sha256"}
    assert bool(differences) == (finished.root != finished.target_root)


def test_equal_roots_mean_that_everything_arrived_as_it_was(tmp_path: Path) -> None:
    good = [record(b"a"), record(b"b", b"x")]
    assert (same := written(at(tmp_path / "1"), good)).root == same.target_root
    lost = [
        replace(good[1], target=None),
        replace(good[1], sha256=None),
        replace(good[1], losses=(Loss("object", "refused"),)),
        replace(good[1], losses=(Loss("cache-control", "added", None, "x"),)),
    ]
    for number, one in enumerate(lost):
        finished = written(at(tmp_path / f"lost{number}"), [good[0], one])
        assert finished.root != finished.target_root


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("1", "2"):
        written(at(tmp_path / name), SAMPLE, 2, scope="x")
    for name in at(tmp_path / "1").names():
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    head = (tmp_path / "1" / "segments/000000.jsonl.gz").read_bytes()[:10]
    assert head.hex() == "1f8b0800000000000403"


def test_segments_are_ordinary_gzip(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE)
    text = gzip.decompress((tmp_path / "segments/000000.jsonl.gz").read_bytes())
    assert text == b"".join(encode(one) + b"\n" for one in SAMPLE)


@pytest.mark.parametrize("second", [record(b"b"), record(b"a"), replace(record(b"b"), size=99)])
def test_disorder_and_duplicates_are_refused(tmp_path: Path, second: Record) -> None:
    first = record(b"b")
    with ManifestWriter(at(tmp_path)) as writer:
        writer.add(encode(first), first)
        with pytest.raises(ManifestError, match="out of order"):
            writer.add(encode(second), second)


def test_versions_of_a_key_may_cross_a_segment(tmp_path: Path) -> None:
    some = [replace(record(b"k"), ordinal=n) for n in range(5)]
    written(at(tmp_path), some, 2)
    assert read(tmp_path) == some


def test_nothing_is_a_manifest_before_it_is_finished(tmp_path: Path) -> None:
    with ManifestWriter(at(tmp_path), 2) as writer:
        for one in SAMPLE:
            writer.add(encode(one), one)
    assert at(tmp_path).names() == ["segments/000000.jsonl.gz", "segments/000001.jsonl.gz"]
    assert "no manifest here" in refused(tmp_path)
    written(at(tmp_path), SAMPLE[:1])
    assert at(tmp_path).names() == ["manifest.json", "segments/000000.jsonl.gz"]
    assert read(tmp_path) == SAMPLE[:1]


def test_a_finished_manifest_is_only_replaced_when_told(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE)
    with pytest.raises(UsageError, match="already"):
        ManifestWriter(at(tmp_path))
    assert read(tmp_path) == SAMPLE
    with ManifestWriter(at(tmp_path), replace=True) as writer:
        assert "no manifest here" in refused(tmp_path)
        writer.finish({})
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    "document", [{"root": "x"}, {"format": "x"}, {"x": 1.5}, {"x": b"y"}, {"x": "\ud800"}, {"\udcff": 1}]
)
def test_the_callers_fields_are_checked(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        written(at(tmp_path), SAMPLE, **document)
    assert not at(tmp_path).exists("manifest.json")


def test_a_place_whose_name_is_no_unicode_can_be_named(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE, source="/data/caf\udce9")
    assert load(at(tmp_path)).document["source"] == {"base64": "L2RhdGEvY2Fm6Q=="}
    assert read(tmp_path) == SAMPLE
    verify_manifest.verify(str(tmp_path))


def test_every_byte_of_every_file_counts(tmp_path: Path) -> None:
    """One byte changed (two ways) anywhere, or any file cut at any length: never read as good, never another error."""
    written(at(tmp_path), SAMPLE[:3], 2, scope="s", complete=True)
    for name in at(tmp_path).names():
        file = tmp_path / name
        good = file.read_bytes()
        damaged = [good[:n] for n in range(len(good))]
        damaged += [good + b"\n", good + b"\0", good + good, b" " + good]
        for n in range(len(good)):
            damaged += [good[:n] + bytes([good[n] ^ bit]) + good[n + 1 :] for bit in (1, 32)]
        for data in damaged:
            file.write_bytes(data)
            refused(tmp_path)
        file.write_bytes(good)
        assert read(tmp_path) == SAMPLE[:3]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_damage_is_always_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage")
    written(at(path), SAMPLE, 3, scope="s")
    file = path / data.draw(st.sampled_from(at(path).names()))
    good = file.read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(start + 20, len(good))))
    bad = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    file.write_bytes(bad)
    if bad != good:
        refused(path)


def test_other_gzip_of_the_same_text_is_refused(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE)
    file = tmp_path / "segments/000000.jsonl.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), mtime=1))
    refused(tmp_path)


def swap(document: dict[str, Any]) -> None:
    document["segments"].reverse()


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "outside": lambda d: d["segments"][0].update(name="../secret.jsonl.gz"),
    "absolute": lambda d: d["segments"][0].update(name="/etc/passwd"),
    "segment left out": lambda d: d["segments"].pop(),
    "segment swapped": swap,
    "segment twice": lambda d: d["segments"].append(d["segments"][0]),
    "segment grew a field": lambda d: d["segments"][0].update(new=1),
    "segment hash": lambda d: d["segments"][0].update(sha256="0" * 64),
    "first key": lambda d: d["segments"][0].update(first="A"),
    "last key": lambda d: d["segments"][0].update(last="a~"),
    "records": lambda d: d["segments"][0].update(records=3),
    "records moved": lambda d: (d["segments"][0].update(records=1), d["segments"][1].update(records=3)),
    "no records": lambda d: d["segments"][0].update(records=0),
    "records true": lambda d: d["segments"][0].update(records=True),
    "bytes": lambda d: d["segments"][0].update(bytes=10**6),
    "fewer bytes": lambda d: d["segments"][0].update(bytes=10),
    "text bytes": lambda d: d["segments"][0].update(text_bytes=10**6),
    "fewer text bytes": lambda d: d["segments"][0].update(text_bytes=10),
    "segments null": lambda d: d.update(segments=None),
    "segments object": lambda d: d.update(segments={"0": 1}),
    "objects": lambda d: d["counts"].update(objects=5),
    "bytes in all": lambda d: d["counts"].update(bytes=12),
    "failed": lambda d: d["counts"].update(failed=0),
    "failed false": lambda d: d["counts"].update(unread=False),
    "losses": lambda d: d["counts"].update(losses={}),
    "losses list": lambda d: d["counts"].update(losses=[]),
    "counts gone": lambda d: d.pop("counts"),
    "count gone": lambda d: d["counts"].pop("unread"),
    "count more": lambda d: d["counts"].update(more=1),
    "root": lambda d: d.update(root="0" * 64),
    "target root": lambda d: d.update(target_root=d["root"]),
    "root null": lambda d: d.update(root=None),
    "format gone": lambda d: d.pop("format"),
    "format other": lambda d: d.update(format="portabl manifest 0"),
    "format number": lambda d: d.update(format=1),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edits_that_repair_the_documents_hash_are_found_too(tmp_path: Path, edit: Callable[[Any], Any]) -> None:
    written(at(tmp_path), SAMPLE, 2)
    reseal(tmp_path, lambda _: None)
    assert read(tmp_path) == SAMPLE
    reseal(tmp_path, edit)
    refused(tmp_path)


def test_an_edited_document_is_found(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE, scope="all")
    file = tmp_path / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"scope":"all"', b'"scope":"few"'))
    assert "edited" in refused(tmp_path)


@pytest.mark.parametrize("number", ["2", "10"])
def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path, number: str) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"format": "portabl manifest {number}", "x": 1.5}}')
    assert "upgrade" in refused(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"1", b"\xff", b"[" * 10**6, b"9" * 10**5, b'{"format":"portabl manifest 1"}']
)
def test_what_is_no_manifest_is_not_taken_for_one(tmp_path: Path, data: bytes) -> None:
    for end in (b"", b"\n"):
        (tmp_path / "manifest.json").write_bytes(data + end)
        refused(tmp_path)


def test_disorder_in_a_segment_is_found(tmp_path: Path) -> None:
    """A manifest whose every hash is right, but whose records are not in order, is not a manifest."""
    written(at(tmp_path), SAMPLE[:3])
    file = tmp_path / "segments/000000.jsonl.gz"
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    text = lines[0] + lines[2] + lines[1]
    file.write_bytes(gzip.compress(text, mtime=0))

    def describe(document: dict[str, Any]) -> None:
        packed = file.read_bytes()
        digest = hashlib.sha256(packed).hexdigest()
        document["segments"][0].update(bytes=len(packed), text_bytes=len(text), sha256=digest)

    reseal(tmp_path, describe)
    assert "out of order" in refused(tmp_path)


def test_a_gzip_bomb_stops_at_the_recorded_size(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE)
    file = tmp_path / "segments/000000.jsonl.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(300)) + packer.flush()
    file.write_bytes(bomb)
    digest = hashlib.sha256(bomb).hexdigest()
    reseal(tmp_path, lambda d: d["segments"][0].update(bytes=len(bomb), sha256=digest, text_bytes=2**40))
    tracemalloc.start()
    try:
        refused(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_records(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / str(count)
        tracemalloc.start()
        try:
            writer = ManifestWriter(at(path), 1000)
            for number in range(count):
                one = record(b"key-%09d" % number, metadata=Metadata({"content-type": "text/plain"}))
                writer.add(encode(one), one)
            writer.finish({})
            assert sum(1 for _ in load(at(path)).records()) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            shutil.rmtree(path)

    peak(100)
    assert peak(8000) < peak(2000) * 1.3 + 100_000


def test_kinds_of_losses_are_bounded(tmp_path: Path) -> None:
    losses = (*(Loss(f"x-field-{n}", "not kept") for n in range(1500)), Loss("\udcff", "not text"))
    finished = written(at(tmp_path), [record(b"k", losses=losses)])
    assert len(finished.counts["losses"]) == 1001
    assert finished.counts["losses"]["other"] == 501
    assert len(read(tmp_path)) == 1
    assert verify_manifest.verify(str(tmp_path))[1] == 0


def test_more_bytes_than_a_json_number_can_say(tmp_path: Path) -> None:
    huge = [replace(record(key), size=2**53 - 1) for key in (b"a", b"b")]
    finished = written(at(tmp_path), huge)
    assert finished.document["counts"]["bytes"] == "18014398509481982"
    assert load(at(tmp_path)).counts["bytes"] == 2**54 - 2
    assert read(tmp_path) == huge
    assert verify_manifest.verify(str(tmp_path))[1] == 0
    reseal(tmp_path, lambda d: d["counts"].update(bytes="1" * 20))
    refused(tmp_path)


def test_a_target_without_identity_was_written_all_the_same(tmp_path: Path) -> None:
    finished = written(at(tmp_path), [record(b"k", target=Seen())])
    assert finished.root == finished.target_root
    assert read(tmp_path)[0].target == Seen()


FULL_DISK = """
mount -t tmpfs -o size=64k none "$1" && exec "$2" -c '
import hashlib, sys
from portabl.errors import StateFull
from portabl.files import Files
from portabl.manifest import ManifestWriter
from portabl.model import Record
from portabl.records import encode
files = Files.at(sys.argv[1])
try:
    with ManifestWriter(files) as writer:
        for n in range(20000):
            one = Record(b"%06d" % n, 1, hashlib.sha256(b"%d" % n).hexdigest())
            writer.add(encode(one), one)
        writer.finish({})
except StateFull as full:
    print(full.exit_code, full.hint, files.names())
' "$1"
"""


def test_a_full_disk_is_told_and_leaves_no_manifest(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        return  # no file system of our own can be mounted here; tests/test_files.py shows the translation itself
    command = ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("4 free space")
    assert done.stdout.endswith("[]\n")
    assert done.stderr == ""


def test_a_line_in_another_form_never_passes_for_proven(tmp_path: Path) -> None:
    one = record(b"k", b"x")
    line = encode(one)
    with ManifestWriter(at(tmp_path)) as writer:
        with pytest.raises(ManifestError, match="another record"):
            writer.add(line.replace(b'{"object"', b'{ "object"'), one)
        writer.add(line.replace(b'"target":{', b'"target":{ '), one)
        writer.finish({})
    assert "not in canonical form" in refused(tmp_path)


def test_the_same_records_are_said_again(tmp_path: Path) -> None:
    last = written(at(tmp_path / "last"), SAMPLE, 2, tool="one", finished="then")
    told = again(last, at(tmp_path / "next"), {"tool": "two", "complete": False})
    assert told == replace(load(at(tmp_path / "next")), files=told.files)
    assert (told.document["tool"], "finished" in told.document) == ("two", False), "the fields are those of the caller"
    assert (told.root, told.target_root, told.counts) == (last.root, last.target_root, last.counts)
    assert read(tmp_path / "next") == SAMPLE
    assert [line for line, _ in told.own_records()] == [encode(one) for one in SAMPLE]
    assert verify_manifest.verify(str(tmp_path / "next"))[0]["root"] == last.root
    assert at(tmp_path / "next").names() == at(tmp_path / "last").names()


def test_nothing_is_said_again_of_no_records(tmp_path: Path) -> None:
    told = again(written(at(tmp_path / "last"), []), at(tmp_path / "next"), {})
    assert list(told.own_records()) == read(tmp_path / "next") == []


def test_a_manifest_said_again_takes_the_place_of_a_longer_one(tmp_path: Path) -> None:
    last = written(at(tmp_path / "last"), SAMPLE[:2], 1)
    written(at(tmp_path / "next"), SAMPLE, 1)
    again(last, at(tmp_path / "next"), {})
    assert read(tmp_path / "next") == SAMPLE[:2]
    assert at(tmp_path / "next").names() == at(tmp_path / "last").names()


def _damaged(path: Path, segment: int, damage: str) -> Path:
    file = path / "segments" / f"{segment:06d}.jsonl.gz"
    good = file.read_bytes()
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(good[:-1])
        case "longer":
            file.write_bytes(good + b"\0")
        case "bit":
            file.write_bytes(good[:-6] + bytes([good[-6] ^ 1]) + good[-5:])
        case "other":
            file.write_bytes((path / "segments" / f"{(segment + 1) % 3:06d}.jsonl.gz").read_bytes())
    return file


@pytest.mark.parametrize("damage", ["gone", "cut", "longer", "bit", "other"])
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_damage_is_neither_read_nor_said_again(segment: int, damage: str, tmp_path: Path) -> None:
    last = written(at(tmp_path / "last"), SAMPLE, 2)
    written(at(tmp_path / "next"), SAMPLE[:1])
    file = _damaged(tmp_path / "last", segment, damage)
    with pytest.raises(ManifestError, match=file.name):
        next(last.own_records())
    with pytest.raises(ManifestError, match=file.name):
        again(last, at(tmp_path / "next"), {})
    assert "manifest.json" not in at(tmp_path / "next").names(), "nor is there an older one"
    with pytest.raises(ManifestError, match=file.name):
        segments.copy(last.files, at(tmp_path / "alone"), last.segments[segment])
    assert at(tmp_path / "alone").names() == []


def test_a_segment_of_other_records_than_the_document_says_is_found(tmp_path: Path) -> None:
    written(at(tmp_path), SAMPLE, 3)

    def fewer(document: dict[str, Any]) -> None:
        document["segments"][0]["records"], document["segments"][1]["records"] = 2, 3

    reseal(tmp_path, fewer)
    edited: Manifest = load(at(tmp_path))
    with pytest.raises(ManifestError, match="other records"):
        list(edited.own_records())


@pytest.mark.parametrize("document", [{"root": "0"}, {"counts": {}}, {"share": 0.5}])
def test_what_the_writer_refuses_is_not_said_again_either(tmp_path: Path, document: dict[str, Any]) -> None:
    last = written(at(tmp_path / "last"), SAMPLE)
    written(at(tmp_path / "next"), SAMPLE[:1])
    with pytest.raises(ManifestError):
        again(last, at(tmp_path / "next"), document)
    assert read(tmp_path / "next") == SAMPLE[:1], "refused before anything was touched"
