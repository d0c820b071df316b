"""The harness of docs/performance.md: a real run of a tool, and what is made of figures."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from benchmarks import aims, chart, data, memory, report
from benchmarks.figures import merged, ratios
from benchmarks.legs import LEGS, Ground
from benchmarks.tools import TOOLS, Place
from kit.servers import S3Server
from kit.synthetic import Bucket, body_of, key_of

RUN = {
    "machine": {"cores": 2, "cpu": "none", "memory_gib": 1.0, "system": "Linux", "load_at_start": 0.0},
    "versions": {"portabl": "0"},
    "rounds": 2,
}


def _part(leg: str, work: str, run: str, walls: dict[str, tuple[float, ...]], **more: Any) -> dict[str, Any]:
    samples = [
        {"tool": tool, "round": number, "wall": wall, "cpu": wall / 2, "memory": 2**20, "wrong": ""}
        for tool, rounds in walls.items()
        for number, wall in enumerate(rounds)
    ]
    known = {"leg": leg, "work": work, "run": run, "title": f"{work} & {leg}", "objects": 1000, "bytes": 1000}
    return known | {"latency": 0.0, "samples": samples, "requests": {}} | more


def _document(run: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"runs": {run: RUN}, "help_seconds": 0.05, "parts": list(parts)}


def _rows(doc: dict[str, Any], curve: Path) -> list[str]:
    return [row.rsplit("|", 3)[-3].strip() + row.rsplit("|", 3)[-2] for row in aims.table(doc, curve)[2:]]


def test_an_aim_is_met_or_missed_by_the_figures_alone(tmp_path: Path) -> None:
    small = {"portabl": (6.0, 8.0), "rclone-tuned": (10.0, 10.0), "juicefs": (12.0, 8.0), "rclone": (1.0,)}
    requests = {"objects": 2000, "kinds": {"portabl": {"list": 4, "uploads": 1}}}
    doc = _document(
        "one",
        _part("s3-s3", "small", "one", small),
        _part("unchanged", "many", "one", {"portabl": (1.0,), "rclone-tuned": (1.25,)}, requests=requests),
        _part("far-80", "small", "one", {"portabl": (2.0,)}, latency=0.08),
        _part("s3-s3", "large", "one", {"portabl": (4.0,), "rclone-tuned": (4.0,)}, bytes=3000),
        _part("s3-s3", "huge", "one", {"portabl": (3.0,)}, bytes=2000),
    )
    curve = tmp_path / "curve.json"
    points = [{"kind": "copy", "objects": count, "memory": size} for count, size in ((10, 60e6), (1000, 90e6))]
    curve.write_text(json.dumps({"points": points}))
    assert "| copying, 10 to 1,000 objects | peak memory, MB | <= 150 | 90.00 | met |" in aims.table(doc, curve)
    assert {row.strip() for row in _rows(doc, curve)} == {
        *("0.70 met", "0.75 met", "0.70 **missed**", "0.80 met", "2.00 met", "1.00 **missed**", "1.25 met"),
        *("1.12 **missed**", "90.00 met", "1.50 **missed**", "not measured", "1.00 met", "3500.00 **missed**"),
    }


def test_only_rounds_of_both_are_compared() -> None:
    part = _part("s3-s3", "small", "one", {"portabl": (1.0, 9.0), "rclone": (2.0,)})
    assert ratios(part, "rclone", "wall") == [0.5]
    assert ratios(part, "juicefs", "wall") == []


def test_a_part_measured_anew_leaves_the_others_and_their_dates(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    tools = {"portabl": (1.0,), "juicefs": (2.0,)}
    report.publish(_document("one", _part("s3-s3", "large", "one", tools), _part("s3-s3", "small", "one", tools)), page)
    report.publish(_document("two", _part("s3-s3", "small", "two", {"portabl": (1.5,), "juicefs": (2.0,)})), page)
    doc = json.loads(page.with_suffix(".json").read_text())
    assert [(part["work"], part["run"]) for part in doc["parts"]] == [("small", "two"), ("large", "one")]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Run of one." in text
    assert "Run of two." in text
    assert "0.75 (0.75 to 0.75)" in text
    assert len(ET.fromstring(page.with_suffix(".svg").read_text())) > 10
    assert list(merged(doc, _document("three", _part("s3-s3", "large", "three", tools)), report.ORDER)["runs"]) == [
        "two",
        "three",
    ]


def test_a_page_without_its_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("by hand")
    page.with_suffix(".json").write_text(json.dumps(_document("one")))
    with pytest.raises(SystemExit):
        report.render(page)
    assert page.read_text() == "by hand"


def test_a_curve_is_well_formed() -> None:
    picture = chart.curve("memory & more", {"copying": [(10, 1.0), (100, 2.0)]}, 150, "MB")
    assert len(ET.fromstring(picture)) > 8


def test_a_run_is_measured_counted_and_looked_at(seaweed2: S3Server, seaweed: S3Server) -> None:
    work = data.works(20, 1)["small"]
    with Ground(LEGS["s3-s3"], work, (seaweed2, seaweed), counted=True) as ground:
        found, sample = ground.count(TOOLS["portabl"])
        assert sample.wrong == ""
        assert sample.cpu > 0
        assert sample.memory > 2**20
        assert found["put"] == 20
        assert found["list"] >= 3
    with Ground(LEGS["changed"], data.works(200, 1)["small"], (seaweed2, seaweed)) as ground:
        ground.begin([TOOLS["portabl"]], 0)
        assert ground.run(TOOLS["portabl"], 0).wrong == ""
        ground.begin([TOOLS["portabl"]], 1)
        place = ground.kept["portabl"].target
        assert isinstance(place, Place)
        assert data.wrong(place.server, place.bucket, ground.stored) == "0 missing, 0 added, 2 different"


def test_what_stands_before_distant_servers_holds_back_and_refuses(seaweed2: S3Server, seaweed: S3Server) -> None:
    work = data.Work("one", "one object", (10,))
    with Ground(LEGS["far-80"], work, (seaweed2, seaweed)) as ground:
        began = time.monotonic()
        assert [_answer(place) for place in ground.endpoints] == [403, 403]  # nobody signed
        assert time.monotonic() - began >= 2 * LEGS["far-80"].latency
    with Ground(LEGS["busy"], work, (seaweed2, seaweed)) as ground:
        for place in ground.endpoints:
            assert {_answer(place) for _ in range(100)} == {403, 503}


def _answer(endpoint: str) -> int:
    try:
        urllib.request.urlopen(f"{endpoint}/no/object", timeout=60)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 0


def test_objects_that_nobody_stored_are_copied_and_known_again() -> None:
    """2,100 are three pages of a listing; what was measured is wrong unless all of them arrived."""
    points = list(memory._measured(2_100, ["copy", "again"]))
    assert [(point["kind"], point["wrong"]) for point in points] == [("copy", ""), ("again", "")]
    assert all(point["memory"] > 2**20 for point in points)


def test_a_made_up_bucket_tells_what_arrived_from_what_did_not() -> None:
    bucket = Bucket(30, full=False)
    for number in (3, 7):
        bucket.put(key_of(number), body_of(number), b"")
    bucket.put(key_of(5), b"damaged", b"")
    bucket.put(b"other", b"x", b"")
    found = [(key_of(3), body_of(3)), (key_of(5), b"damaged"), (key_of(7), body_of(7)), (b"other", b"x")]
    assert list(bucket.after(b"", b"")) == found
    assert list(bucket.after(key_of(5), b"")) == found[2:]
    assert list(bucket.after(key_of(3), b"objects/")) == found[1:3]
    bucket.delete(key_of(7))
    assert bucket.get(key_of(7)) is None
    assert bucket.get(key_of(5)) == b"damaged"
