"""Histories in packages: every version and delete marker goes in and comes back, compared by boto3."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from journeys.test_package_journey import _judged, _run
from journeys.test_versions import MIB, place, put, tangle
from kit.hazards import snapshot
from kit.servers import S3Server
from kit.versions import Version, histories, versioned
from shell import Result, Shell

from portabl import package, providers
from portabl.package_versions import Flattened

LARGE = bytes(range(256)) * 80_000  # goes in parts
HARD = ("dir/", "a", "a/b", "x!v1", "100%", "n" * 250)


def _source(moto: S3Server) -> str:
    bucket = moto.bucket("v")
    tangle(moto, bucket)
    for key in HARD:
        put(moto, bucket, key, b"1")
        put(moto, bucket, key, b"22", Metadata={"n": "2"}, Tagging="t=2")
    put(moto, bucket, "large", LARGE, ContentType="a/b", Metadata={"m": "1"})
    put(moto, bucket, "large", LARGE[::-1])
    for number in range(11):  # 10 comes after 9, not after 1
        put(moto, bucket, "many", b"%d" % number)
    return bucket


Stock = tuple[S3Server, str, dict[str, list[Version]]]


@pytest.fixture(scope="module")
def stock(moto: S3Server) -> Stock:
    """A bucket with histories of all kinds, and what boto3 sees of them."""
    bucket = _source(moto)
    return moto, bucket, histories(moto, bucket)


def _done(here: Shell, *arguments: str) -> Result:
    done = here.portabl(*arguments, "--json", "-q", timeout=600)
    assert "Traceback" not in done.err, done.err
    assert done.code == 0, (done.code, done.document.get("issues"), done.document.get("losses"), done.err)
    return done


def _export(here: Shell, *arguments: str) -> str:
    document = _done(here, "export", "--versions", "all", *arguments).document
    assert document["source_root"] == document["target_root"]
    return str(document["source_root"])


def test_there_and_back(stock: Stock, moto2: S3Server, tmp_path: Path) -> None:
    moto, bucket, expected = stock
    here = place(tmp_path, moto, moto2)
    root = _export(here, f"old:{bucket}", "./package", "--layout", "bag")
    folder = here.folder / "package"
    _judged(folder)
    assert (folder / "data" / "many!v10").read_bytes() == b"9"
    assert (folder / "data" / "deleted and back!v2-deleted").read_bytes() == b""
    assert "EVERY VERSION" in (folder / "README.txt").read_text()
    verified = _done(here, "verify", "./package").document
    assert (verified["complete"], verified["root_proven"]) == (True, root)
    into = versioned(moto2)
    back = _done(here, "restore", "./package", f"new:{into}").document
    assert (back["source_root"], back["target_root"]) == (root, root)
    again = _done(here, "restore", "./package", f"new:{into}").document
    assert (again["copied"], again["source_root"]) == (0, root), "a second restore finds everything there"
    assert histories(moto2, into) == expected
    assert _export(here, f"new:{into}", "./second", "--layout", "bag") == root
    assert (here.folder / "second" / "SHA256SUMS").read_bytes() == (folder / "SHA256SUMS").read_bytes()


def test_in_a_bucket_encrypted_and_from_there(stock: Stock, moto2: S3Server, tmp_path: Path) -> None:
    import pyrage

    moto, bucket, expected = stock
    here = place(tmp_path, moto, moto2)
    key = pyrage.x25519.Identity.generate()
    (here.folder / "key.txt").write_text(f"{key}\n")
    vault, into = f"new:{moto2.bucket()}/packages/one", versioned(moto2)
    root = _export(here, f"old:{bucket}", vault, "--encrypt-to", str(key.to_public()))
    assert _done(here, "verify", vault).document["root_proven"] == "", "without the key"
    assert _done(here, "verify", vault, "--identity", "key.txt").document["root_proven"] == root
    back = _done(here, "restore", vault, f"new:{into}", "--identity", "key.txt").document
    assert back["target_root"] == root
    assert histories(moto2, into) == expected


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_as_one_stream(kind: str, stock: Stock, moto2: S3Server, tmp_path: Path) -> None:
    moto, bucket, expected = stock
    here = place(tmp_path, moto, moto2)
    root = _export(here, f"old:{bucket}", f"./all.{kind}", "--include", "many", "--include", "gone/**")
    shutil.unpack_archive(here.folder / f"all.{kind}", here.folder / "out")
    _judged(here.folder / "out" / "all")
    into = versioned(moto2)
    assert _done(here, "restore", f"./all.{kind}", f"new:{into}").document["target_root"] == root
    wanted = {key: history for key, history in expected.items() if key == "many" or "gone/" in key}
    assert len(wanted) == 3
    assert histories(moto2, into) == wanted


def test_what_cannot_keep_them_is_refused_with_a_choice(stock: Stock, moto2: S3Server, tmp_path: Path) -> None:
    moto, bucket, _ = stock
    here = place(tmp_path, moto, moto2)
    _export(here, f"old:{bucket}", "./package")
    plain = moto2.bucket()
    for target, words in ((f"new:{plain}", "enable versioning"), ("./files", "--versions current")):
        refused = here.portabl("restore", "./package", target)
        assert refused.code == 2
        assert words in refused.err
        assert "--versions current" in refused.err
    assert not moto2.keys(plain)
    assert not (here.folder / "files").exists()
    newest = _done(here, "restore", "./package", f"new:{plain}", "--versions", "current").document
    assert newest["complete"]
    wanted, found = snapshot(moto, bucket), snapshot(moto2, plain)
    assert wanted.keys() == found.keys()
    assert not [key for key, seen in wanted.items() if (seen.sha256, seen.tags) != (found[key].sha256, found[key].tags)]


def test_only_what_has_versions_can_be_exported_with_them(tmp_path: Path, moto: S3Server, moto2: S3Server) -> None:
    here = place(tmp_path, moto, moto2)
    (here.folder / "files").mkdir()
    (here.folder / "files" / "a").write_text("a")
    refused = here.portabl("export", "./files", "./package", "--versions", "all")
    assert (refused.code, "one version" in refused.err) == (2, True)
    assert not (here.folder / "package").exists()
    _done(here, "export", "./files", "./package")
    refused = here.portabl("restore", "./package", "./back", "--versions", "all")
    assert (refused.code, "one version" in refused.err) == (2, True)


def test_snapshots_share_versions(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket = versioned(moto)
    for body in (b"1", b"2", b"3"):
        put(moto, bucket, "a", body)
    moto.client().delete_object(Bucket=bucket, Key="a")
    put(moto, bucket, "b", b"1")
    here = place(tmp_path, moto, moto2)
    arguments = ("export", f"old:{bucket}", "./nightly", "--snapshot", "--versions", "all")
    _done(here, *arguments)
    put(moto, bucket, "a", b"back")
    second = _done(here, *arguments).document
    assert (second["copied"], second["shared"]) == (1, 5)
    newest = max((here.folder / "nightly").iterdir())
    _done(here, "snapshots", "prune", "./nightly", "--keep-last", "1", "--apply")
    assert list((here.folder / "nightly").iterdir()) == [newest]
    into = versioned(moto2)
    back = _done(here, "restore", str(newest), f"new:{into}").document
    assert back["target_root"] == second["source_root"]
    assert histories(moto2, into) == histories(moto, bucket)


def _inside(here: Shell, monkeypatch: pytest.MonkeyPatch) -> providers.Config:
    """The same place for this process."""
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(here.folder)
    return providers.load(None)


def _harm(data: Path, harm: str) -> None:
    match harm:
        case "lost":
            (data / "a!v2").unlink()
        case "swapped":
            (data / "a!v1").write_bytes(b"2")
            (data / "a!v2").write_bytes(b"1")
        case "one more":
            (data / "b!v2").write_bytes(b"2")
        case "deletion lost":
            (data / "a!v4-deleted").unlink()
        case "deletion written to":
            (data / "a!v4-deleted").write_bytes(b"!")
        case _:
            (data / "a!v3-deleted").touch()


HARMS = {
    "lost": "missing",
    "swapped": "content",
    "one more": "extra",
    "deletion lost": "missing",
    "deletion written to": "size",
    "deleted and not": "foreign",
}


def test_damage_is_found_and_not_restored(
    moto: S3Server, moto2: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = versioned(moto)
    for body in (b"1", b"2", b"3"):
        put(moto, bucket, "a", body)
    moto.client().delete_object(Bucket=bucket, Key="a")
    put(moto, bucket, "b", b"1")
    config = _inside(place(tmp_path, moto, moto2), monkeypatch)
    package.export(package.Export(f"old:{bucket}", "./package", config, versions="all"))
    for harm, words in HARMS.items():
        shutil.copytree("package", harm)
        _harm(Path(harm, "data"), harm)
        found = package.verify(f"./{harm}", config)
        assert found.exit_code == 3, harm
        assert words in {issue.kind for issue in found.issues}, harm
        stranger = _run(Path(harm), sys.executable, "-I", "verify_package.py", ".")
        assert stranger.returncode == 1, (harm, stranger.stdout)
        into = versioned(moto2)
        back = package.restore(package.Restore(f"./{harm}", f"new:{into}", config))
        whole = words in ("foreign", "size")  # all that the manifest names is intact
        assert back.exit_code == (0 if whole else 3), harm
        there = histories(moto2, into)
        bodies = [version.body for version in there.get("a", [])]
        assert bodies == [b"1", b"2", b"3", None][: len(bodies)], "never a history with a hole"
        assert ([version.body for version in there["b"]], whole) == ([b"1"], len(bodies) == 4 and harm != "one more")


def test_a_version_that_vanishes_under_the_export_is_named(
    moto: S3Server, moto2: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, so that it vanishes just between the listing and the reading."""
    bucket = versioned(moto)
    for body in (b"1", b"2", b"3"):
        put(moto, bucket, "a", body)
    config = _inside(place(tmp_path, moto, moto2), monkeypatch)
    original = Flattened.read
    gone: list[str] = []

    def read(self: Flattened, entry: object, *more: object) -> object:
        if not gone:
            listed = moto.client().list_object_versions(Bucket=bucket)["Versions"]
            gone.extend(sorted(one["VersionId"] for one in listed if not one["IsLatest"])[:1])
            moto.client().delete_object(Bucket=bucket, Key="a", VersionId=gone[0])
        return original(self, entry, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Flattened, "read", read)
    report = package.export(package.Export(f"old:{bucket}", "./package", config, versions="all"))
    assert report.exit_code == 3
    [loss] = report.losses
    assert (loss.field, loss.count, loss.examples) == ("object", 1, (b"a",))
    assert json.loads((tmp_path / "package" / "package.json").read_text())["state"] == "incomplete"


assert len(LARGE) > 16 * MIB


def test_a_deletion_that_is_missing_brings_nothing_back(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, plain = versioned(moto), moto2.bucket()
    for key in ("kept", "gone"):
        put(moto, bucket, key, b"1")
    moto.client().delete_object(Bucket=bucket, Key="gone")
    here = place(tmp_path, moto, moto2)
    _export(here, f"old:{bucket}", "./package")
    data = here.folder / "package" / "data"
    (data / "gone!v2-deleted").unlink()
    (data / "stranger!v1").write_bytes(b"more")
    restored = here.portabl("restore", "./package", f"new:{plain}", "--versions", "current", "--json", "-q")
    assert (restored.code, restored.document["failed"]) == (3, 2)
    assert moto2.keys(plain) == ["kept"]
