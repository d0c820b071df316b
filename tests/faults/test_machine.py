"""Random lives of a job: the source changes, runs end in every way; an oracle in memory says what is right."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from kit.memory import VERBS, WAYS, Fault, FaultyStorage, Killed, MemoryStorage, Store, Stored

from portabl import manifest, providers, registry
from portabl.errors import PortablError
from portabl.files import Files
from portabl.migrate import migrate
from portabl.migration import Migration
from portabl.model import Metadata, Proof
from portabl.report import Report
from portabl.storage import Storage

KEYS = some.sampled_from([b"a", b"a/b", b"a//b", b"A", b"b", b"c/", b"large"])
BODIES = some.one_of(some.binary(max_size=20), some.integers(101, 300).map(lambda n: bytes([n % 251]) * n))
METADATA = some.builds(
    Metadata,
    headers=some.sampled_from([{}, {"content-type": "text/plain"}]),
    user=some.sampled_from([{}, {"n": "1"}, {"n": "2"}]),
    tags=some.sampled_from([{}, {"t": "x"}]),
)
FAULTS = some.builds(
    Fault,
    side=some.sampled_from(["source", "target"]),
    verb=some.sampled_from(VERBS),
    way=some.sampled_from(WAYS),
    skip=some.integers(0, 6),
    times=some.sampled_from([1, 1, 2, 99]),
)


class Life(RuleBasedStateMachine):
    """One job from its first run to its last. ``source`` and ``target`` are stores in memory, the state is on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="portabl-life-"))
        self.source, self.target = Store("source"), Store("target")
        self.fault: Fault | None = None

    @initialize(objects=some.dictionaries(KEYS, BODIES, max_size=5), metadata=METADATA)
    def begin(self, objects: dict[bytes, bytes], metadata: Metadata) -> None:
        for key, body in objects.items():
            self.source.put(key, body, metadata)

    # what others do

    @rule(key=KEYS, body=BODIES, metadata=METADATA)
    def put(self, key: bytes, body: bytes, metadata: Metadata) -> None:
        self.source.put(key, body, metadata)

    @precondition(lambda self: self.source.objects)
    @rule(data=some.data(), metadata=METADATA)
    def change_metadata(self, data: some.DataObject, metadata: Metadata) -> None:
        key = data.draw(some.sampled_from(sorted(self.source.objects)))
        self.source.put(key, self.source.objects[key].data, metadata)

    @precondition(lambda self: self.source.objects)
    @rule(data=some.data())
    def delete(self, data: some.DataObject) -> None:
        del self.source.objects[data.draw(some.sampled_from(sorted(self.source.objects)))]

    @precondition(lambda self: self.target.objects)
    @rule(data=some.data(), body=some.none() | BODIES, metadata=METADATA)
    def meddle(self, data: some.DataObject, body: bytes | None, metadata: Metadata) -> None:
        """Somebody else deletes or overwrites an object at the target."""
        key = data.draw(some.sampled_from(sorted(self.target.objects)))
        if body is None:
            del self.target.objects[key]
        else:
            self.target.put(key, body, metadata)

    # runs

    @rule(mirror=some.booleans(), proof=some.sampled_from(Proof))
    def run(self, mirror: bool, proof: Proof) -> None:
        """Without a fault a run ends with exit code 0, whatever happened before."""
        self.fault = None
        report = self._run(mirror=mirror, proof=proof)
        assert report.exit_code == 0, report
        self._all_there()
        assert report.source_root == report.target_root
        if mirror and self.source.objects:
            assert self.target.objects.keys() == self.source.objects.keys()
        assert not self.target.uploads, "an upload was left behind"
        self._recorded(report)

    @rule(fault=FAULTS, mirror=some.booleans())
    def run_with_fault(self, fault: Fault, mirror: bool) -> None:
        """Exit 0 means everything; exit 3 names what differs; all else is an error of portabl's own, or a death."""
        self.fault = fault
        fault.kill = self._remember
        try:
            report = self._run(mirror=mirror, proof=Proof.INGEST)
        except PortablError:
            pass  # a clear error: nothing was claimed
        except Killed:
            shutil.rmtree(self.folder / "state")
            (self.folder / "dead").rename(self.folder / "state")
        else:
            if report.exit_code == 0:
                self._all_there()
            elif report.exit_code == 3:
                lines = manifest.load(Files.at(report.manifest)).records()
                named = {record.key for _, record in lines if record.losses}
                assert self._wrong() <= named, "SILENT"
        finally:
            self.fault = None

    def _remember(self) -> None:
        """The state as it is at the instant of death: what runs on after it in this process does not count."""
        shutil.rmtree(self.folder / "dead", ignore_errors=True)
        shutil.copytree(self.folder / "state", self.folder / "dead")

    def _run(self, **options: Any) -> Report:
        original = registry.open_location

        def opened(location: str, *args: Any, **more: Any) -> Storage:
            if not location.startswith("./"):
                return original(location, *args, **more)
            side = location.removeprefix("./")
            return FaultyStorage(MemoryStorage(self.source if side == "source" else self.target), side, self.fault)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "open_location", opened)
            places = ("./source", "./target", providers.Config())
            return migrate(Migration(*places, threads=2, state=str(self.folder / "state"), **options))

    def _wrong(self) -> set[bytes]:
        def plain(one: Stored | None) -> object:
            return one and (one.data, one.metadata.fields())

        return {key for key, one in self.source.objects.items() if plain(self.target.objects.get(key)) != plain(one)}

    def _all_there(self) -> None:
        assert not self._wrong(), f"SILENT: exit 0, and {self._wrong()} differ"

    def _recorded(self, report: Report) -> None:
        """The manifest tells the source as it is."""
        lines: Iterator[Any] = manifest.load(Files.at(report.manifest)).records()
        records: Mapping[bytes, Any] = {record.key: record for _, record in lines}
        assert records.keys() == self.source.objects.keys()
        for key, one in self.source.objects.items():
            assert records[key].sha256 == hashlib.sha256(one.data).hexdigest()
            assert records[key].metadata.fields() == one.metadata.fields()

    def teardown(self) -> None:
        try:
            self.run(False, Proof.INGEST)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_lives(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("portabl.transfer.SINGLE_MAX", 100)
    monkeypatch.setattr("portabl.copying.SINGLE_MAX", 100)
    monkeypatch.setattr("portabl.large.part_size", lambda *_: 64)
    monkeypatch.setattr("portabl.checker.PATIENCE_SECONDS", 0.01)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
