"""Encrypted packages: checked without the secret key, read with it, and by age's own library."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pyrage = pytest.importorskip("pyrage")

from portabl import manifest as manifests  # noqa: E402
from portabl import package, providers, registry, snapshots  # noqa: E402
from portabl.encryption import HEADER_MAX, Key, Lock, Sealing, plain_size, recipients_of, sealed_size  # noqa: E402
from portabl.errors import UsageError  # noqa: E402
from portabl.model import Proof  # noqa: E402
from portabl.package import Export, Restore  # noqa: E402
from portabl.package_place import payload_of  # noqa: E402
from portabl.package_versions import Folded, names_of  # noqa: E402

CONFIG = providers.Config()
LARGE = bytes(range(256)) * 75_000 + b"end"
FILES = {"a.txt": b"a", "empty": b"", "sub/100%": b"%" * 70_000, "large": LARGE}


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


@pytest.fixture
def here(tmp_path: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    (tmp_path / "key.txt").write_text(f"# a comment\n{pair[0]}\n")
    (tmp_path / "public.txt").write_text(f"# mine\n{pair[1]}\n")
    return tmp_path


def _export(target: str = "./package", **more: object) -> object:
    return package.export(Export("./source", target, CONFIG, recipients=("./public.txt",), threads=4, **more))  # type: ignore[arg-type]


def _stranger(folder: Path) -> int:
    command = [sys.executable, "-I", "-S", str(folder / "verify_package.py"), str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_there_and_back(here: Path, pair: tuple[str, str]) -> None:
    plain = package.export(Export("./source", "./plain", CONFIG))
    report = _export(layout="bag")
    assert (report.exit_code, report.source_root) == (0, plain.source_root)  # type: ignore[attr-defined]
    folder = here / "package"
    stored = {str(p.relative_to(folder / "data")): p.read_bytes() for p in (folder / "data").rglob("*") if p.is_file()}
    assert len(stored) == len(FILES)
    identity = pyrage.x25519.Identity.from_str(pair[0])
    opened = {name: pyrage.decrypt(data, [identity]) for name, data in stored.items()}
    assert opened == {name.replace("%", "!25"): data for name, data in FILES.items()}
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    bagit = [sys.executable, "-m", "bagit", "--validate", "."]
    judged = subprocess.run(bagit, cwd=folder, capture_output=True, check=False)
    assert judged.returncode == 0, judged.stderr
    assert _stranger(folder) == 0
    blind = package.verify("./package", CONFIG)
    assert (blind.exit_code, blind.root_proven) == (0, "")
    assert "encrypted" in blind.warnings[0]
    seen = package.verify("./package", CONFIG, identity="./key.txt")
    assert (seen.exit_code, seen.root_proven) == (0, plain.source_root)
    back = package.restore(Restore("./package", "./back", CONFIG, identity="./key.txt"))
    assert (back.exit_code, back.target_root) == (0, plain.source_root)
    assert {
        str(p.relative_to(here / "back")): p.read_bytes() for p in (here / "back").rglob("*") if p.is_file()
    } == FILES
    assert "age -d -i" in (folder / "README.txt").read_text()
    assert pair[0] not in "".join(p.read_text("utf-8", "replace") for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ["data/a.txt", "data/large"])
def test_damage_is_found_with_and_without_the_key(name: str, here: Path) -> None:
    _export()
    path = here / "package" / name
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    assert package.verify("./package", CONFIG).exit_code == 3
    assert package.verify("./package", CONFIG, identity="./key.txt").exit_code == 3
    assert _stranger(here / "package") == 1
    restored = package.restore(Restore("./package", "./back", CONFIG, identity="./key.txt"))
    assert (restored.exit_code, restored.failed) == (3, 1)
    path.write_bytes(data[:-1])
    assert package.verify("./package", CONFIG, proof=Proof.SIZE).exit_code == 3


def test_without_the_right_key_nothing_is_restored(here: Path) -> None:
    _export()
    with pytest.raises(UsageError, match="encrypted"):
        package.restore(Restore("./package", "./back", CONFIG))
    (here / "other.txt").write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(UsageError, match="none of these"):
        package.restore(Restore("./package", "./back", CONFIG, identity="./other.txt"))
    with pytest.raises(UsageError, match="none of these"):
        package.verify("./package", CONFIG, identity="./other.txt")


@pytest.mark.parametrize("text", ["age1wrong", "./key.txt", "./source/empty"])
def test_what_is_no_recipient(text: str, here: Path, pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError) as failed:
        package.export(Export("./source", "./package", CONFIG, recipients=(text,)))
    assert pair[0] not in str(failed.value) + failed.value.hint
    assert not (here / "package").exists()


def test_what_cannot_go_together(here: Path) -> None:
    with pytest.raises(UsageError, match="read back"):
        _export(proof=Proof.READBACK)
    with pytest.raises(UsageError, match="archive"):
        _export("./package.tar")
    package.export(Export("./source", "./plain", CONFIG))
    with pytest.raises(UsageError, match="encrypted in another way"):
        _export(since="./plain")


def test_snapshots_share_what_is_encrypted(here: Path) -> None:
    job = Export("./source", "./nightly", CONFIG, recipients=("./public.txt",), threads=4)
    assert snapshots.take(job).exit_code == 0
    (here / "source" / "a.txt").write_text("changed")
    second = snapshots.take(job)
    assert (second.exit_code, second.copied, second.shared) == (0, 1, 3)
    for _, found in snapshots.verify("./nightly", CONFIG, identity="./key.txt"):
        assert found.exit_code == 0
    names = [one.name for one in snapshots.snapshots("./nightly", CONFIG)]
    assert json.loads((here / "nightly" / names[1] / "package.json").read_text())["encryption"]["recipients"]


@pytest.mark.parametrize("sizes", [[0], [1], [65536], [65535, 2], [8 << 20, 8 << 20, 5]])
def test_sealing_piece_by_piece(sizes: list[int], pair: tuple[str, str]) -> None:
    lock = Lock(recipients_of([pair[1]]))
    sealing, data = Sealing(lock), b""
    plain = hashlib.sha256()
    for size in sizes:
        plain.update(b"x" * size)
        data += sealing.feed(b"x" * size)
    data += sealing.close()
    assert len(data) == sealed_size(sealing.header, sum(sizes))
    assert plain_size(data[:HEADER_MAX], len(data)) == sum(sizes)
    assert hashlib.sha256(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(pair[0])])).digest() == plain.digest()


@pytest.mark.parametrize("name", ["a.txt", "large"])
def test_what_is_looked_at_again_can_be_read(name: str, here: Path) -> None:
    _export()
    key = Key("./key.txt")
    loaded = manifests.load(registry.files("./package/manifest", CONFIG))
    with payload_of("./package", CONFIG, names_of("current"), 4, learn=True, key=key, loaded=loaded) as payload:
        entry = next(entry for entry in payload.entries() if entry.key == name.encode())
        now = payload.look(entry)
        again = replace(entry, size=now.size, etag=now.etag, version=now.version, modified=now.modified)
        for one in (again, payload.listed(entry.key)):
            assert one is not None
            assert one.size == len(FILES[name])
            assert payload.read(one).data == FILES[name]
            assert payload.read(one, 0, 1).data == FILES[name][:1]


def test_a_version_that_is_looked_at_again_can_be_read(here: Path) -> None:
    (here / "payload" / "data").mkdir(parents=True)
    (here / "payload" / "data" / "k!v1").write_bytes(b"1")
    (here / "payload" / "data" / "k!v2").write_bytes(b"22")
    with payload_of("./payload", CONFIG, names_of("all"), 4, learn=True) as payload, Folded(payload) as place:
        for entry in (*place.entries(), *place.versions()):
            now = place.look(entry)
            again = replace(entry, size=now.size, etag=now.etag, version=now.version, modified=now.modified)
            assert place.read(again).data == place.read(entry).data
