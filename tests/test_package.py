"""Packages in directories: what is refused, what is continued, what is found, and what a stranger can check."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from portabl import package, providers
from portabl.checker import Sample
from portabl.errors import JobLocked, ManifestError, UsageError
from portabl.model import Proof
from portabl.package import Export, Restore
from portabl.report import Report

CONFIG = providers.Config()
FILES = {"a.txt": b"a", "b.bin": b"b" * 1000, "sub/c.txt": b"c", "sub/100%": b"%", "sub/new\nline": b"n", "empty": b""}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    return tmp_path


def _export(target: str = "./package", **more: Any) -> Report:
    return package.export(Export("./source", target, CONFIG, threads=4, **more))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _stranger(folder: Path) -> subprocess.CompletedProcess[str]:
    """The bundled verifier in an isolated Python: no site-packages, nothing of ours."""
    command = [sys.executable, "-I", "-S", str(folder / "verify_package.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _sums(folder: Path, name: str = "SHA256SUMS") -> int:
    return subprocess.run(["sha256sum", "-c", "--strict", "--quiet", name], cwd=folder, check=False).returncode


@pytest.mark.parametrize("layout", ["mirror", "bag"])
def test_a_package_is_all_there_and_goes_back(layout: str, here: Path) -> None:
    report = _export(layout=layout)
    assert (report.exit_code, report.objects, report.copied) == (0, len(FILES), len(FILES))
    assert not list((here / "state").rglob("*.json")), "state of a finished export is left"
    folder = here / "package"
    assert _sums(folder) == 0
    assert _stranger(folder).returncode == 0
    found = package.verify("./package", CONFIG)
    assert (found.exit_code, found.complete, found.root_proven) == (0, True, report.source_root)
    back = package.restore(Restore("./package", "./back", CONFIG))
    assert (back.exit_code, back.source_root, back.target_root) == (0, report.source_root, report.source_root)
    assert _contents(here / "back") == _contents(here / "source")
    text = (folder / "README.txt").read_text()
    assert "sha256sum -c" in text
    assert report.source_root in text
    assert ("bagit.py" in text) == (layout == "bag")


def test_moved_to_another_directory(here: Path) -> None:
    _export(layout="bag")
    shutil.copytree(here / "package", here / "else" / "where")
    shutil.rmtree(here / "package")
    assert _stranger(here / "else" / "where").returncode == 0
    assert package.verify("./else/where", CONFIG).exit_code == 0


def test_a_finished_package_is_never_changed(here: Path) -> None:
    _export()
    before = _contents(here / "package")
    (here / "source" / "later").write_text("later")
    with pytest.raises(UsageError, match="finished package"):
        _export()
    assert _contents(here / "package") == before


@pytest.mark.parametrize("there", ["note.txt", "data/x", "package.txt"])
def test_a_place_that_holds_something_is_refused(there: str, here: Path) -> None:
    (here / "package" / there).parent.mkdir(parents=True)
    (here / "package" / there).write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        _export()
    assert _contents(here / "package") == {there: b"mine"}


@pytest.mark.parametrize("target", ["./source", "./source/package", "."])
def test_source_and_package_must_not_overlap(target: str, here: Path) -> None:
    before = _contents(here / "source")
    with pytest.raises(UsageError, match="overlap"):
        _export(target)
    assert _contents(here / "source") == before
    assert not (here / "package.json").exists()


def test_a_dry_run_writes_nothing(here: Path) -> None:
    report = _export(dry_run=True)
    assert (report.dry_run, report.copied) == (True, len(FILES))
    assert not (here / "package").exists()


def _interrupt(here: Path) -> None:
    """As a run that was killed before it finished leaves it."""
    _export()
    document = json.loads((here / "package" / "package.json").read_bytes())
    from portabl.package_format import UNFINISHED, parse, with_state

    old = parse((here / "package" / "package.json").read_bytes(), "")
    (here / "package" / "package.json").write_bytes(with_state(old, UNFINISHED).to_json())
    assert document["state"] == "complete"


def test_an_unfinished_package_is_no_package(here: Path) -> None:
    _interrupt(here)
    for use in (
        lambda: package.verify("./package", CONFIG),
        lambda: package.restore(Restore("./package", "./b", CONFIG)),
    ):
        with pytest.raises(ManifestError, match="not finished"):
            use()
    assert _stranger(here / "package").returncode == 2


def test_an_unfinished_package_is_continued_by_the_same_export_only(here: Path) -> None:
    _interrupt(here)
    with pytest.raises(UsageError, match="another export"):
        _export(include=("*.txt",))
    with pytest.raises(UsageError, match="another export"):
        _export(layout="bag")
    assert _export().exit_code == 0
    assert _stranger(here / "package").returncode == 0


def test_what_vanished_between_two_runs_is_not_in_the_package(here: Path) -> None:
    """Nor is a body under a name that another key needs now: `node` as a file moves `node/x`."""
    (here / "source" / "node").mkdir()
    (here / "source" / "node" / "x").write_text("x")
    _interrupt(here)
    (here / "source" / "a.txt").unlink()
    shutil.rmtree(here / "source" / "node")
    (here / "source" / "node").write_text("a file")
    report = _export()
    assert (report.exit_code, report.objects) == (0, len(FILES))
    assert (here / "package" / "data" / "node").read_text() == "a file"
    assert not (here / "package" / "data" / "a.txt").exists()
    assert _stranger(here / "package").returncode == 0


def test_strange_files_in_the_payload_keep_a_package_unfinished(here: Path) -> None:
    _interrupt(here)
    (here / "package" / "data" / "100%").write_text("?")
    report = _export()
    assert report.exit_code == 3
    assert "did not write" in report.warnings[-1]
    (here / "package" / "data" / "100%").unlink()
    assert _export().exit_code == 0


def _flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("data/b.bin", "content"),
        ("data/sub/100!25", "content"),
        ("SHA256SUMS", "document"),
        ("README.txt", "document"),
        ("names.jsonl", "document"),
        ("verify_manifest.py", "document"),
        ("provider/source.json", "document"),
    ],
)
def test_a_flipped_byte_is_found(what: str, kind: str, here: Path) -> None:
    _export()
    _flip(here / "package" / what)
    found = package.verify("./package", CONFIG)
    assert found.exit_code == 3
    assert {issue.kind for issue in found.issues} == {kind}
    if what != "verify_manifest.py":
        assert _stranger(here / "package").returncode in (1, 2)


@pytest.mark.parametrize("what", ["package.json", "manifest/manifest.json", "manifest/segments/000000.jsonl.gz"])
def test_damage_to_what_everything_rests_on(what: str, here: Path) -> None:
    _export()
    _flip(here / "package" / what, 40)
    with pytest.raises(ManifestError):
        package.verify("./package", CONFIG)
    with pytest.raises(ManifestError):
        package.restore(Restore("./package", "./back", CONFIG))
    assert _stranger(here / "package").returncode == 2


@pytest.mark.parametrize("what", ["data/b.bin", "data/empty", "README.txt", "SHA256SUMS"])
def test_a_missing_file_is_found(what: str, here: Path) -> None:
    _export()
    (here / "package" / what).unlink()
    for proof in (Proof.SIZE, Proof.READBACK):
        assert package.verify("./package", CONFIG, proof=proof).exit_code == 3
    assert _stranger(here / "package").returncode in (1, 2)


@pytest.mark.parametrize("name", ["more", "100%", "a!+/x"])
def test_a_file_more_is_found(name: str, here: Path) -> None:
    _export()
    (here / "package" / "data" / name).parent.mkdir(exist_ok=True)
    (here / "package" / "data" / name).write_text("more")
    assert package.verify("./package", CONFIG, proof=Proof.SIZE).exit_code == 3
    assert _stranger(here / "package").returncode == 1


def test_a_damaged_body_is_not_restored(here: Path) -> None:
    _export()
    _flip(here / "package" / "data" / "b.bin")
    report = package.restore(Restore("./package", "./back", CONFIG))
    assert (report.exit_code, report.failed) == (3, 1)
    assert not (here / "back" / "b.bin").exists()
    assert (here / "back" / "a.txt").read_text() == "a"


def test_a_sample_is_never_a_verification(here: Path) -> None:
    _export()
    share = 0.5
    found = package.verify("./package", CONFIG, sample=Sample(share, 0.25))
    assert (found.exit_code, found.complete, found.root_proven, found.sample) == (0, False, "", share)
    assert found.checked == len(FILES)
    assert 0 <= found.read <= len(FILES)


def test_samples_side_by_side_read_everything_once(here: Path) -> None:
    _export()
    parts = 4
    reads = [package.verify("./package", CONFIG, sample=Sample(1 / parts, n / parts)).read for n in range(parts)]
    assert sum(reads) == len(FILES)
    _flip(here / "package" / "data" / "b.bin")
    codes = [package.verify("./package", CONFIG, sample=Sample(1 / parts, n / parts)).exit_code for n in range(parts)]
    assert sorted(codes) == [0, 0, 0, 3]


def test_what_could_not_be_read_makes_the_package_incomplete(here: Path) -> None:
    os.mkfifo(here / "source" / "pipe")
    report = _export()
    assert (report.exit_code, report.failed) == (3, 1)
    assert "NOT everything" in (here / "package" / "README.txt").read_text()
    assert _stranger(here / "package").returncode == 1
    assert package.verify("./package", CONFIG).exit_code == 3
    assert package.restore(Restore("./package", "./back", CONFIG)).exit_code == 3
    assert (here / "back" / "a.txt").exists()
    (here / "source" / "pipe").unlink()
    again = _export()
    assert (again.exit_code, again.copied) == (0, 0)
    assert _stranger(here / "package").returncode == 0


def test_filters(here: Path) -> None:
    report = _export(include=("*.txt",))
    assert (report.exit_code, report.objects) == (0, 2)
    assert package.verify("./package", CONFIG).exit_code == 0


def test_an_empty_source(here: Path) -> None:
    (here / "nothing").mkdir()
    report = package.export(Export("./nothing", "./package", CONFIG, layout="bag"))
    assert report.exit_code == 0
    assert report.warnings
    assert package.verify("./package", CONFIG).exit_code == 0
    assert _stranger(here / "package").returncode == 0


def test_evidence_travels_along(here: Path) -> None:
    (here / "label.json").write_text('{"label": 3}')
    _export(evidence=("./label.json",))
    assert (here / "package" / "provider" / "label.json").read_text() == '{"label": 3}'
    assert json.loads((here / "package" / "provider" / "source.json").read_text())["type"] == "file"
    _flip(here / "package" / "provider" / "label.json")
    assert package.verify("./package", CONFIG).exit_code == 3


# --- one place, two exports -------------------------------------------------------------------------------------------


@pytest.fixture
def claimed(here: Path) -> Any:
    """An export that stands still in the middle: what another one meets there."""
    from portabl import package_claim
    from portabl.files import Files
    from portabl.package_format import UNFINISHED, load, with_state

    _export()
    files = Files.at("./package")
    files.write("package.json", with_state(load(files), UNFINISHED).to_json())
    with package_claim.Claim(files, threading.Event()) as claim:
        claim.take(load(files), lambda there: there)
        yield claim


def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine."""
    from portabl import package_claim

    monkeypatch.setattr(package_claim, "_host", lambda: "another:0")
    monkeypatch.setattr(package_claim.os, "getpid", lambda: 1)


def test_two_machines_do_not_export_into_one_place(here: Path, claimed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _contents(here / "package")
    with monkeypatch.context() as patched:
        _elsewhere(patched)
        with pytest.raises(JobLocked, match="another export into this place is going on"):
            _export()
    assert _contents(here / "package") == before
    claimed.confirm()


def test_nor_do_two_processes_of_one_machine(here: Path, claimed: Any) -> None:
    """With states of their own, so that the lock of the state does not keep them apart."""
    program = "import sys; from portabl.cli.app import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "export", "./source", "./package", "--state", "./other"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "another export into this place is going on" in done.stderr
    claimed.confirm()


def test_a_holder_without_a_sign_of_life_no_longer_counts(
    here: Path, claimed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portabl import package_claim

    with monkeypatch.context() as patched:
        _elsewhere(patched)
        patched.setattr(package_claim, "ALIVE_SECONDS", 0)
        assert _export().exit_code == 0
    with pytest.raises(JobLocked, match="the package is complete"):
        claimed.confirm()
    assert _stranger(here / "package").returncode == 0


def test_who_loses_the_place_stops_and_finishes_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another takes over in the middle (this one looked dead): the first ends with an error, the second's stays."""
    from portabl import package_claim

    between = package.between
    finished = dict[str, bytes]()

    def overtaken(*arguments: Any, **more: Any) -> Report:
        report = between(*arguments, **more)
        with monkeypatch.context() as patched:
            _elsewhere(patched)
            patched.setattr(package, "between", between)
            patched.setattr(package_claim, "ALIVE_SECONDS", 0)
            assert _export(state="./other").exit_code == 0
        finished.update(_contents(here / "package"))
        return report

    monkeypatch.setattr(package, "between", overtaken)
    with pytest.raises(JobLocked, match="somebody else has taken this place"):
        _export()
    assert _contents(here / "package") == finished
    assert _stranger(here / "package").returncode == 0


def test_signs_of_life_are_given_and_the_loss_is_seen(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portabl import package_claim
    from portabl.files import Files
    from portabl.package_format import UNFINISHED, load, with_state

    monkeypatch.setattr(package_claim, "BEAT_SECONDS", 0.01)
    _export()
    files = Files.at("./package")
    files.write("package.json", with_state(load(files), UNFINISHED).to_json())
    now = [1_000_000_000]
    monkeypatch.setattr(package_claim.time, "time", lambda: now[0])
    with package_claim.Claim(files, threading.Event()) as claim:
        claim.take(load(files), lambda there: there)
        now[0] += 60
        deadline = time.monotonic() + 60
        while load(files).holder["time"] != now[0]:
            assert time.monotonic() < deadline
        with monkeypatch.context() as patched:
            _elsewhere(patched)
            patched.setattr(package_claim, "ALIVE_SECONDS", 0)
            other = package_claim.Claim(files, threading.Event())
            with claim._guard:  # between two signs of life: one under way might be written over what the other claims
                other.take(load(files), lambda there: there)
        assert claim.stop.wait(0.0) or _soon(claim)
        other.__exit__()


def _soon(claim: Any) -> bool:
    deadline = time.monotonic() + 60
    while not claim.stop.is_set():
        assert time.monotonic() < deadline
    return True


def test_the_provider_is_described(here: Path) -> None:
    """A card that was measured, the catalogue's entry, labels with what lies beside them; and the README names each."""
    from portabl import capability, registry
    from portabl.model import Fact
    from portabl.state import default_root

    (here / "labels").mkdir()
    for name in ("home.jwt", "home.did.json"):
        (here / "labels" / name).write_text(f"this is {name}")
    (here / "portabl.toml").write_text(
        '[providers.home]\ntype = "file"\npath = "."\nlabels = ["labels/home.jwt"]\ncountry = "DE"\n'
    )
    config = providers.load("portabl.toml")
    with registry.open_location("home:source", config) as opened:
        facts = {"limit: parts": Fact("limit: parts", "77", "measured")}
        card = capability.Card(opened.service, "home:source", "a server 1.0", "2026-11-30", "portabl", facts)
    capability.write(card, capability.place_of(card.service, default_root()))
    report = package.export(Export("home:source", "./package", config))
    assert report.exit_code == 0
    provider = here / "package" / "provider"
    assert json.loads((provider / "capabilities.json").read_text())["facts"]["limit: parts"]["outcome"] == "77"
    assert json.loads((provider / "source.json").read_text())["country"] == "DE"
    assert (provider / "home.jwt").read_text() == "this is home.jwt"
    assert (provider / "home.did.json").read_text() == "this is home.did.json"
    text = (here / "package" / "README.txt").read_text()
    assert all(f"provider/{path.name}" in text for path in provider.iterdir())
    assert _stranger(here / "package").returncode == 0
    (here / "labels" / "home.jwt").unlink()
    with pytest.raises(UsageError, match=r"home\.jwt"):
        package.export(Export("home:source", "./second", config))
    assert not (here / "second").exists(), "found out before anything is written"


def test_a_file_that_the_manifest_does_not_name_is_not_restored(here: Path) -> None:
    _export()
    (here / "package" / "data" / "stranger.txt").write_text("more")
    for keep in ((), ("*.txt",)):
        report = package.restore(Restore("./package", "./back", CONFIG, include=keep))
        assert (report.exit_code, report.failed) == (3, 1)
        assert not (here / "back" / "stranger.txt").exists()
        assert (here / "back" / "a.txt").read_text() == "a"
