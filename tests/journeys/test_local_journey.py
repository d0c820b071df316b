"""From a store into a directory and on to another store: headers, metadata and tags travel in the manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kit import hazards
from kit.hazards import HAZARDS, Item
from kit.losses import admitted
from kit.servers import S3Server
from shell import shell

import portabl

LARGE = Item(b"multi/large.bin", bytes(range(256)) * 70_000, {"ContentType": "a/b"}, {"m": "1"}, {"t": "2"}, parts=4)
KNOWN = {item.key for item in HAZARDS}
EVERYTHING = (*HAZARDS, LARGE, *hazards.torture(key for key in hazards.TORTURE if key not in KNOWN))
VERIFIER = Path(portabl.__file__).with_name("verify_manifest.py")


@pytest.mark.parametrize("target", ["rgw", "moto"])
def test_there_and_back(target: str, tmp_path: Path, rgw: S3Server, request: pytest.FixtureRequest) -> None:
    """To the same server and to another one. A line feed in a key is beyond moto."""
    server: S3Server = request.getfixturevalue(target)
    items = [item for item in EVERYTHING if target == "rgw" or b"\n" not in item.key]
    bucket, back = rgw.bucket(), server.bucket()
    hazards.fill(rgw, bucket, items)
    here = shell(tmp_path, rgw.environment, server.environment)
    here.configure(rgw.provider_toml(), *([server.provider_toml()] if target != "rgw" else []))

    out = here.portabl("migrate", f"rgw:{bucket}", "./export", "--manifest", "./manifest", "--json", "-q")
    assert out.code == 0, out.err
    home = here.portabl("migrate", "./export", f"{target}:{back}", "--restore", "./manifest", "--json", "-q")
    assert home.code == 0, (home.out, home.err)
    source = hazards.snapshot(rgw, bucket)
    assert hazards.differences(source, hazards.snapshot(server, back)) == {}
    roots = {out.document["source_root"], out.document["target_root"]}
    assert roots == {home.document["source_root"], home.document["target_root"]}
    assert home.document["copied"] == len(source)
    assert admitted(tmp_path / "manifest") == set()

    found = here.portabl("fingerprint", f"{target}:{back}", "--json", "-q")
    assert (found.code, found.document["root"]) == (0, out.document["source_root"])
    verified = here.portabl("verify", "./manifest", "./export", "--json", "-q")
    assert (verified.code, verified.document["root_proven"]) == (0, out.document["source_root"])
    assert _alone(tmp_path, "manifest", "--directory", "export").returncode == 0


def _alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", str(VERIFIER), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False)


def test_verifiers_agree_on_damage(tmp_path: Path, rgw: S3Server) -> None:
    bucket = rgw.bucket()
    hazards.fill(rgw, bucket, hazards.torture([b"a//b", b"plain", b"dir/x", b"../x"]))
    here = shell(tmp_path, rgw.environment)
    here.configure(rgw.provider_toml())
    assert here.portabl("migrate", f"rgw:{bucket}", "./export", "--manifest", "./manifest", "-q").code == 0
    file = tmp_path / "export" / "plain"
    was = file.read_bytes()

    def verdicts() -> tuple[int, int]:
        ours = here.portabl("verify", "./manifest", "./export", "-q")
        alone = _alone(tmp_path, "manifest", "--directory", "export")
        assert b"Traceback" not in alone.stderr
        return ours.code, alone.returncode

    assert verdicts() == (0, 0)
    file.write_bytes(was[:-1] + b"!")
    ours, alone = verdicts()
    assert ours == 3
    assert alone != 0
    file.unlink()
    ours, alone = verdicts()
    assert ours == 3
    assert alone != 0
    file.write_bytes(was)
    assert verdicts() == (0, 0)


def test_a_body_that_is_not_the_manifests_is_refused(tmp_path: Path, rgw: S3Server, moto: S3Server) -> None:
    bucket, back = rgw.bucket(), moto.bucket()
    hazards.fill(rgw, bucket, hazards.torture([b"changed", b"gone", b"kept"]))
    here = shell(tmp_path, rgw.environment, moto.environment)
    here.configure(rgw.provider_toml(), moto.provider_toml())
    assert here.portabl("migrate", f"rgw:{bucket}", "./export", "--manifest", "./manifest", "-q").code == 0
    (tmp_path / "export" / "changed").write_bytes(b"content of CHANGED")
    (tmp_path / "export" / "gone").unlink()
    home = here.portabl("migrate", "./export", f"moto:{back}", "--restore", "./manifest", "--json", "-q")
    assert home.code == 3, home.err
    assert admitted(home.document["manifest"]) == {(b"changed", "object"), (b"gone", "object")}
    assert moto.keys(back) == ["kept"]
    assert json.loads((tmp_path / "manifest" / "manifest.json").read_bytes())
