"""What a run says at its end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from portabl.report import LossGroup, Report, duration_text, report_document, report_text, size_text
from portabl.verification import Issue, Verification, verification_document, verification_text

DONE = Report(
    source="old:b",
    target="new:b",
    proof="ingest",
    objects=12,
    bytes=4096,
    copied=10,
    bytes_copied=4000,
    adopted=1,
    unchanged=1,
    source_root="aa" * 32,
    target_root="aa" * 32,
    manifest="/m",
    elapsed_seconds=2.0,
    complete=True,
    next_command="portabl verify /m",
)
LOSS = LossGroup("tag.team", "the target holds no tags", 7, tuple(f"k{n}".encode() for n in range(5)))


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (DONE, 0),
        (replace(DONE, extra=5), 0),
        (replace(DONE, complete=False), 3),
        (replace(DONE, losses=(LOSS,)), 3),
        (replace(DONE, failed=1), 3),
        (replace(DONE, interrupted=True), 4),
        (replace(DONE, interrupted=True, losses=(LOSS,)), 4),
    ],
)
def test_exit_code(report: Report, code: int) -> None:
    assert report.exit_code == code
    assert report_document(report)["exit_code"] == code


def test_text_of_a_complete_run() -> None:
    text = report_text(DONE)
    assert text.startswith("old:b -> new:b: complete, every object is proven at the target (ingest)\n")
    assert "copied          10 (3.9 KiB)" in text
    assert "(equal)" in text
    assert "5 objects/s" in text
    assert text.endswith("next: portabl verify /m\n")


def test_different_roots_are_loud() -> None:
    assert "(DIFFERENT)" in report_text(replace(DONE, target_root="bb" * 32))
    assert replace(DONE, target_root="").roots_equal is None


def test_losses_are_named_and_the_rest_is_counted() -> None:
    text = report_text(replace(DONE, losses=(LOSS,)))
    assert "7 x tag.team: the target holds no tags" in text
    assert '"k4"' in text
    assert "and 2 more, see `portabl manifest show /m`" in text
    assert "NOT complete" in text


def test_nothing_a_terminal_could_obey_gets_through() -> None:
    evil = "\x1b]0;owned\x07\n\u202e"
    loss = LossGroup("user." + evil, evil, 1, (evil.encode(), b"\xff\x00"))
    report = replace(DONE, source=evil, losses=(loss,), warnings=(evil,), next_command=evil, manifest=evil, issues=evil)
    for line in report_text(report).splitlines():
        assert line.isprintable(), repr(line)
    found = Verification(evil, evil, "size", issues=(Issue("missing", evil.encode(), evil),), warnings=(evil,))
    for line in verification_text(found).splitlines():
        assert line.isprintable(), repr(line)


def test_documents_are_json_with_exact_keys() -> None:
    loss = LossGroup("object", "gone", 2, (b"caf\xc3\xa9\n", b"\xff"))
    document = json.loads(json.dumps(report_document(replace(DONE, losses=(loss,)))))
    assert document["losses"][0]["examples"] == ["café\n", {"base64": "/w=="}]
    assert document["roots_equal"] is True
    assert document["bytes_per_second"] == 2000.0


CHECKED = Verification("m", "new:b", "readback", objects=2, checked=2, root="aa", root_proven="aa")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (CHECKED, 0),
        (replace(CHECKED, root_proven=""), 0),
        (replace(CHECKED, extra=3), 0),
        (replace(CHECKED, root_proven="bb"), 3),
        (replace(CHECKED, missing=1), 3),
        (replace(CHECKED, size_differs=1), 3),
        (replace(CHECKED, content_differs=1), 3),
        (replace(CHECKED, metadata_differs=1), 3),
        (replace(CHECKED, unreadable=1), 3),
        (replace(CHECKED, losses=1), 3),
        (replace(CHECKED, checked=1), 3),
        (replace(CHECKED, checked=1, interrupted=True), 4),
    ],
)
def test_exit_code_of_a_verification(found: Verification, code: int) -> None:
    assert found.exit_code == code
    assert verification_document(found)["complete"] is (code == 0)


def test_every_issue_has_its_sign() -> None:
    issues = tuple(Issue(kind, b"k") for kind in ("missing", "content", "extra", "unreadable"))
    text = verification_text(replace(CHECKED, issues=issues, missing=1, issues_total=4))
    assert [line[0] for line in text.splitlines()[:4]] == ["-", "*", "+", "!"]
    many = replace(CHECKED, missing=100, issues=tuple(Issue("missing", b"%d" % n) for n in range(50)), issues_total=100)
    assert "and 80 more; `--json` lists up to 50" in verification_text(many)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (5 * 2**40, "5.0 TiB"), (2**70, "1,048,576.0 PiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (125, "2 min 05 s"), (11000, "3 h 03 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
