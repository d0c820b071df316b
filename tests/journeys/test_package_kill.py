"""Exports, prunes and streams, killed at named instants: run again they end as if nothing had been; nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kit.servers import S3Server

from portabl import package, providers, registry, snapshots
from portabl.errors import ManifestError
from portabl.package import Export
from portabl.snapshots import Retention

DRIVER = str(Path(__file__).with_name("killed.py"))
LARGE = 17 * 2**20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source" / "a").mkdir(parents=True)
    for number in range(12):
        (tmp_path / "source" / "a" / f"{number:02d}").write_text(f"content {number}")
    (tmp_path / "source" / "large").write_bytes(bytes(range(256)) * (LARGE // 256))
    return tmp_path


def _change(here: Path) -> None:
    (here / "source" / "a" / "03").write_text("changed")
    (here / "source" / "a" / "04").unlink()
    (here / "source" / "new").write_text("new")


def _killed(here: Path, place: str, *arguments: str) -> None:
    """Run the command until the place is reached; fails when it is not."""
    command = [sys.executable, DRIVER, "portabl.shards:SHARD_OBJECTS=4", place, "--", *arguments]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL, (place, done.returncode, done.stderr)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _verified(location: str, config: providers.Config, root: str) -> None:
    found = package.verify(location, config)
    assert (found.exit_code, found.root_proven) == (0, root), found.issues


@pytest.mark.parametrize(
    "place",
    [
        "portabl.local_files:_named@1,before",
        "portabl.package_claim:Claim.take@1,after",
        "portabl.payload:Payload.share@3,after",
        "portabl.shards:Shard._append@2,after",
        "portabl.manifest:copy@1,before",
        "portabl.package_writing:Describer._write@3,before",
        "portabl.package_claim:Claim.end@1,after",
    ],
    ids=lambda place: place.rpartition(":")[2],
)
def test_an_export_to_a_directory(place: str, here: Path) -> None:
    config = providers.Config()
    first = package.export(Export("./source", "./monday", config))
    _change(here)
    asked = Export("./source", "./tuesday", config, since="./monday")
    whole = package.export(replace(asked, target="./undisturbed"))
    assert (first.exit_code, whole.exit_code, whole.shared, whole.copied) == (0, 0, 11, 2)
    _killed(here, place, "export", "./source", "./tuesday", "--since", "./monday")
    with pytest.raises(ManifestError):
        package.verify("./tuesday", config)
    again = package.export(asked)
    assert (again.exit_code, again.source_root) == (0, whole.source_root)
    _verified("./tuesday", config, whole.source_root)
    _verified("./monday", config, first.source_root)
    assert _names(here / "tuesday") == _names(here / "undisturbed"), "debris, or something is missing"


@pytest.mark.parametrize(
    "place",
    [
        "portabl_adapters.s3.upload:S3Upload.finish@1,before",
        "portabl.package_writing:Describer._write@4,after",
    ],
    ids=lambda place: place.rpartition(":")[2],
)
def test_an_export_to_a_bucket(place: str, here: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (here / "portabl.toml").write_text(moto.provider_toml())
    config = providers.load(None)
    vault = moto.bucket()
    whole = package.export(Export("./source", f"moto:{vault}/whole", config))
    _killed(here, place, "export", "./source", f"moto:{vault}/killed")
    with pytest.raises(ManifestError):
        package.verify(f"moto:{vault}/killed", config)
    again = package.export(Export("./source", f"moto:{vault}/killed", config))
    assert (again.exit_code, again.source_root) == (0, whole.source_root)
    _verified(f"moto:{vault}/killed", config, whole.source_root)
    found = [{key.partition("/")[2] for key in moto.keys(vault, f"{top}/")} for top in ("whole", "killed")]
    assert found[0] == found[1], "debris, or something is missing"
    assert "Uploads" not in moto.client().list_multipart_uploads(Bucket=vault)


@pytest.mark.parametrize(
    "place",
    [
        "portabl.package_format:with_state@1,after",
        "portabl.files:Files.write@1,after",
        "portabl.snapshots:_delete@9,after",
    ],
    ids=lambda place: place.rpartition(":")[2],
)
def test_a_prune(place: str, here: Path) -> None:
    """What is taken apart is no snapshot any more; what stays shares its bodies, and is whole."""
    config = providers.Config()
    roots = {}
    for name in ("20260601T000000Z", "20260602T000000Z", "20260603T000000Z"):
        since = max(roots, default=None)
        asked = Export("./source", f"./nightly/{name}", config, since=since and f"./nightly/{since}")
        roots[name] = package.export(asked).source_root
        (here / "source" / f"of {name}").write_text(name)
    _killed(here, place, "snapshots", "prune", "./nightly", "--keep-last", "1", "--apply")
    there = snapshots.snapshots("./nightly", config)
    assert {"20260602T000000Z", "20260603T000000Z"} <= {one.name for one in there if one.finished}
    for one in there:
        if one.finished:
            _verified(one.location, config, roots[one.name])
    done = snapshots.prune("./nightly", config, Retention(last=1), apply=True)
    assert (done.exit_code, len(done.removed)) == (0, 2)
    assert {path.name for path in (here / "nightly").iterdir()} == {"20260603T000000Z"}
    _verified("./nightly/20260603T000000Z", config, roots["20260603T000000Z"])


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_stream(kind: str, here: Path) -> None:
    """There is no archive before it is whole; and a part of one, however it came about, is never taken for one."""
    config = providers.Config()
    writer = {"tar": "Tar", "zip": "Zip"}[kind]
    _killed(here, f"portabl.archive:{writer}.end@14,after", "export", "./source", f"./all.{kind}")
    assert not (here / f"all.{kind}").exists()
    [left] = [path for path in here.iterdir() if path.name.endswith(".tmp")]
    (here / f"part.{kind}").write_bytes(left.read_bytes())
    with pytest.raises(ManifestError):
        package.verify(f"./part.{kind}", config)
    done = package.export(Export("./source", f"./all.{kind}", config))
    assert done.exit_code == 0
    _verified(f"./all.{kind}", config, done.source_root)
    assert not [path for path in here.iterdir() if path.name.endswith(".tmp")], "debris"


def test_a_stream_into_a_bucket(here: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (here / "portabl.toml").write_text(moto.provider_toml())
    config: Any = providers.load(None)
    vault = moto.bucket()
    _killed(here, "portabl.archive:Tar.finish@1,before", "export", "./source", f"moto:{vault}/all.tar")
    assert not moto.keys(vault)
    done = package.export(Export("./source", f"moto:{vault}/all.tar", config))
    assert done.exit_code == 0
    moto.client().download_file(vault, "all.tar", "home.tar")
    _verified("./home.tar", config, done.source_root)


def test_of_two_exports_that_begin_at_once_one_makes_the_package(
    here: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (here / "portabl.toml").write_text(moto.provider_toml())
    config = providers.load(None)
    for place in (f"moto:{moto.bucket()}/package", "./package"):
        files = registry.files(place, config)
        assert [files.create("package.json", b"first"), files.create("package.json", b"second")] == [True, False]
        assert (files.read("package.json"), files.names()) == (b"first", ["package.json"])
