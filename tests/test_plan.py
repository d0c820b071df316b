"""The plan against an oracle of dictionaries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl import plan, records
from portabl.errors import Refused
from portabl.model import Entry, Loss, Metadata, Record, Seen
from portabl.plan import Action, Line, Step, histories, steps

MD5 = "900150983cd24fb0d6963f7d28e17f72"
OTHER = "00000000000000000000000000000000"
NAMES = st.sampled_from([b"a", b"a/b", b"a0", b"b", b"\xff", b"", b"z"])
ENTRIES = st.builds(
    Entry,
    key=NAMES,
    size=st.sampled_from([1, 2]),
    etag=st.sampled_from(["", MD5, OTHER, MD5 + "-2"]),
    modified=st.sampled_from(["", "now", "then"]),
    problem=st.sampled_from(["", "", "", "a socket"]),
)
SEEN = st.builds(
    Seen, etag=st.sampled_from(["", MD5, OTHER, MD5 + "-2"]), modified=st.sampled_from(["", "now", "then"])
)
RECORDS = st.builds(
    Record,
    key=NAMES,
    size=st.sampled_from([1, 2]),
    sha256=st.sampled_from([None, "a" * 64]),
    source=SEEN,
    target=st.one_of(st.none(), SEEN),
    losses=st.sampled_from([(), (Loss("object", "gone"),), (Loss("tag.x", "no tags"),)]),
)


def _by_key(items: list[Entry]) -> dict[bytes, Entry]:
    return {item.key: item for item in items}


def _expected(entry: Entry, target: Entry | None, record: Record | None) -> Action:
    if entry.problem:
        return Action.REPORT
    if target is None:
        return Action.COPY
    if (
        record is not None
        and record.target is not None
        and record.sha256 is not None
        and record.losses != (Loss("object", "gone"),)
        and (entry.size, entry.etag, entry.modified) == (record.size, record.source.etag, record.source.modified)
        and (entry.etag, entry.modified) != ("", "")
        and target.size == record.size
        and target.etag == record.target.etag != ""
    ):
        return Action.KEEP
    same = entry.size == target.size and entry.etag == target.etag in (MD5, OTHER)
    return Action.ADOPT if same else Action.COPY


@given(st.lists(ENTRIES), st.lists(ENTRIES), st.lists(RECORDS))
def test_against_an_oracle(source: list[Entry], target: list[Entry], known: list[Record]) -> None:
    here, there = _by_key(source), _by_key(target)
    lines = {record.key: record for record in known}
    found = list(
        steps(
            [here[key] for key in sorted(here)],
            [there[key] for key in sorted(there)],
            [(records.encode(lines[key]), lines[key]) for key in sorted(lines)],
        )
    )
    keys = [step.entry.key for step in found]
    assert keys == sorted({*here, *there})
    for step in found:
        key = step.entry.key
        if key not in here:
            assert step == Step(Action.EXTRA, there[key])
            continue
        assert (step.entry, step.target) == (here[key], there.get(key))
        assert step.action is _expected(here[key], there.get(key), lines.get(key)), step


def _kept() -> tuple[Entry, Entry, Record]:
    entry = Entry(b"k", 3, MD5, "now")
    record = Record(b"k", 3, "a" * 64, source=Seen(MD5, "now"), target=Seen("x-1"))
    return entry, Entry(b"k", 3, "x-1", "later"), record


def _action(entry: Entry, target: Entry | None, record: Record, restore: Record | None = None) -> Action:
    line: Line = (records.encode(record), record)
    (step,) = steps([entry], [target] if target else [], [line], None if restore is None else [restore])
    return step.action


def test_only_what_nobody_touched_is_kept() -> None:
    entry, target, record = _kept()
    assert _action(entry, target, record) is Action.KEEP
    for changed in (
        replace(entry, size=4),
        replace(entry, etag=OTHER),
        replace(entry, modified="then"),
        replace(entry, version="2"),
    ):
        assert _action(changed, target, record) is Action.COPY
    for touched in (replace(target, size=4), replace(target, etag="x-2"), replace(target, etag=""), None):
        assert _action(entry, touched, record) is Action.COPY
    assert _action(entry, target, replace(record, target=None)) is Action.COPY
    assert _action(entry, target, replace(record, losses=(Loss("tag.a", "no tags"),))) is Action.KEEP


def test_a_restored_manifest_decides_about_metadata() -> None:
    entry, target, record = _kept()
    assert _action(entry, target, record, record) is Action.KEEP
    richer = replace(record, metadata=Metadata(user={"a": "b"}))
    assert _action(entry, target, record, richer) is Action.COPY


def test_bodies_a_restored_manifest_misses_are_reported() -> None:
    gone = [Record(key, 1, "a" * 64) for key in (b"a", b"c", b"e")]
    found = list(steps([Entry(b"b", 1), Entry(b"c", 1)], [], [], gone))
    assert [(step.action, step.entry.key) for step in found] == [
        (Action.REPORT, b"a"),
        (Action.COPY, b"b"),
        (Action.COPY, b"c"),
        (Action.REPORT, b"e"),
    ]
    assert found[0].entry.problem
    assert found[1].restore is None
    assert found[2].restore == gone[1]


def test_a_deleted_version_is_no_missing_body() -> None:
    (step,) = steps([], [], [], [Record(b"a", 0, None, delete_marker=True)])
    assert (step.action, step.entry.problem) == (Action.REPORT, "")


@pytest.mark.parametrize("etag", ["", MD5 + "-2", MD5.upper(), "x"])
def test_an_etag_that_is_no_digest_adopts_nothing(etag: str) -> None:
    (step,) = steps([Entry(b"k", 1, etag)], [Entry(b"k", 1, etag)], [])
    assert step.action is Action.COPY


def _version(key: bytes, number: int, *, gone: bool = False, version: str = "") -> Entry:
    etag = "" if gone else f"e{number}"
    return Entry(key, 0 if gone else 1, etag, "now", version or f"s{number}", ordinal=number, delete_marker=gone)


def _carried(entry: Entry, **change: object) -> Line:
    digest = None if entry.delete_marker else "a" * 64
    seen = Seen(entry.etag, entry.modified, entry.version), Seen(entry.etag, "now", f"t{entry.ordinal}")
    made = Record(entry.key, entry.size, digest, Metadata(), entry.ordinal, entry.delete_marker, *seen)
    made = replace(made, **change)  # type: ignore[arg-type]
    return records.encode(made), made


def _at_target(entry: Entry) -> Entry:
    return replace(entry, version=f"t{entry.ordinal}")


OURS = [_version(b"k", 1), _version(b"k", 2, gone=True), _version(b"k", 3)]
THEIRS = [_at_target(entry) for entry in OURS]
LINES = [_carried(entry) for entry in OURS]


@pytest.mark.parametrize(
    ("source", "target", "known", "settled"),
    [
        (OURS, THEIRS, LINES, 3),
        (OURS, THEIRS[:2], LINES, 2),
        (OURS, THEIRS, LINES[:1], 1),
        (OURS[:1], THEIRS, LINES, 1),
        (OURS, [], LINES, 0),
        (OURS, [THEIRS[0], replace(THEIRS[1], delete_marker=False), THEIRS[2]], LINES, 1),
        (OURS, [THEIRS[0], replace(THEIRS[1], version="other"), THEIRS[2]], LINES, 1),
        (OURS, [replace(THEIRS[0], modified="later"), *THEIRS[1:]], LINES, 0),
        ([replace(OURS[0], etag="other"), *OURS[1:]], THEIRS, LINES, 0),
        # the source has dropped its oldest version
        ([replace(OURS[1], ordinal=1), replace(OURS[2], ordinal=2)], THEIRS, LINES, 0),
        (OURS, THEIRS, [LINES[0], _carried(OURS[1], target=None), LINES[2]], 1),
        (OURS, THEIRS, [_carried(OURS[0], losses=(Loss("object", "damaged"),)), *LINES[1:]], 0),
        (OURS, THEIRS, [_carried(OURS[0], losses=(Loss("tag.x", "no tags"),)), *LINES[1:]], 3),
    ],
)
def test_a_history_is_settled_as_far_as_both_sides_show_what_its_records_say(
    source: list[Entry], target: list[Entry], known: list[Line], settled: int
) -> None:
    others = [_version(b"a", 1), _version(b"z", 1)]
    there = [_version(b"b", 1), *target, _version(b"zz", 1), _version(b"zz", 2)]
    found = list(histories([others[0], *source, others[1]], there, known))
    assert [step.key for step in found] == [b"a", b"b", b"k", b"z", b"zz"]
    assert [len(step.source) for step in found] == [1, 0, len(source), 1, 0]
    assert [len(step.target) for step in found] == [0, 1, len(target), 0, 2]
    assert found[2].settled() == known[:settled]


def test_a_key_with_too_many_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "HISTORY_MAX", 2)
    assert len(list(histories(OURS[:2], [], []))) == 1
    with pytest.raises(Refused, match="more than 2 versions"):
        list(histories(OURS, [], []))


def test_of_a_package_only_what_its_manifest_names_is_carried() -> None:
    named = Record(b"b", 1, "a" * 64)
    found = list(steps([Entry(b"a", 1), Entry(b"b", 1)], [], [], [named], only_named=True))
    assert [(step.action, step.entry.key) for step in found] == [(Action.REPORT, b"a"), (Action.COPY, b"b")]
    assert "not named" in found[0].entry.problem
