"""Everything that can be wrong gives one clear line, the right exit code, no traceback, and nothing is written."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from kit.processes import free_ports
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Shell, shell

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users or mounts")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    """A shell without any provider."""
    return shell(tmp_path)


@pytest.fixture
def weed(tmp_path: Path, seaweed: S3Server) -> Shell:
    """A shell with one SeaweedFS provider."""
    made = shell(tmp_path, seaweed.environment)
    made.configure(seaweed.provider_toml("weed"))
    return made


def _nothing_written(where: Shell) -> None:
    assert not where.state.exists(), list(where.state.rglob("*"))


def _tree(where: Shell, name: str = "data", files: int = 3) -> Path:
    folder = where.folder / name
    folder.mkdir()
    for number in range(files):
        (folder / f"{number}.txt").write_text(f"file {number}")
    return folder


def test_unknown_provider(here: Shell) -> None:
    here.configure('[providers.old]\ntype = "file"\npath = "."')
    here.portabl("migrate", "odl:photos", "old:x").clear(2, "`odl`", "known: old", "portabl.toml", "did you mean `old`")
    _nothing_written(here)


def test_no_configuration_at_all(here: Shell) -> None:
    found = here.portabl("ls", "old:photos").clear(2, "none is configured", str(here.folder / "portabl.toml"))
    assert str(here.folder / "home" / "config" / "portabl" / "portabl.toml") in found.err


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s4://bucket", ("unknown URL scheme", "`s4`")),
        ("file://host/path", ("has a host", "file:///path")),
        ("s3://", ("names no bucket",)),
        ("s3://key:secretword@bucket/x", ("do not belong into a URL",)),
        ("", ("empty",)),
    ],
)
def test_bad_url(here: Shell, location: str, words: tuple[str, ...]) -> None:
    found = here.portabl("migrate", location, "./target").clear(2, *words)
    assert "secretword" not in found.err
    assert not (here.folder / "target").exists()
    _nothing_written(here)


def test_missing_bucket_as_source_and_as_target(weed: Shell, seaweed: S3Server) -> None:
    weed.portabl("migrate", "weed:no-such-bucket", "./target").clear(6, "weed:no-such-bucket", "no-such-bucket")
    assert not (weed.folder / "target").exists()
    _tree(weed)
    weed.portabl("migrate", "./data", "weed:no-such-bucket").clear(6, "no-such-bucket")
    assert "no-such-bucket" not in [b["Name"] for b in seaweed.client().list_buckets()["Buckets"]]
    _nothing_written(weed)


def test_missing_local_source(here: Shell) -> None:
    here.portabl("migrate", "./missing", "./target").clear(6, "missing")
    assert not (here.folder / "target").exists()
    _nothing_written(here)


def test_wrong_secret(weed: Shell, seaweed: S3Server) -> None:
    bucket = seaweed.bucket()
    found = weed.portabl("migrate", f"weed:{bucket}", "./target", KIT_SEAWEED_SECRET_KEY="mistypedsecret")
    found.clear(6, f"weed:{bucket}")
    assert "mistypedsecret" not in found.err + found.out
    _nothing_written(weed)


@pytest.fixture(scope="module")
def guest(rgw: S3Server) -> Iterator[tuple[S3Server, str]]:
    """A second user of the RGW without any right, and a bucket of the first with one object."""
    assert rgw.family is not None
    conf = ("-c", str(rgw.family.directory / "ceph.conf"))
    keys = ("--uid=guest", "--display-name=guest", "--access-key=guestkey", "--secret-key=guestsecret")
    rgw.family.run("radosgw-admin", *conf, "user", "create", *keys, timeout=90)
    bucket = rgw.bucket()
    rgw.client().put_object(Bucket=bucket, Key="one", Body=b"1")
    yield dataclasses.replace(rgw, access_key="guestkey", secret_key="guestsecret"), bucket
    rgw.family.run("radosgw-admin", *conf, "user", "rm", "--uid=guest", timeout=90)


def _allow(rgw: S3Server, bucket: str, *actions: str) -> None:
    where = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    allow = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/guest"]}, "Resource": where}
    statement = allow | {"Action": [f"s3:{action}" for action in actions]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    rgw.client().put_bucket_policy(Bucket=bucket, Policy=policy)


def test_permission_to_list_read_or_write_is_missing(
    tmp_path: Path, rgw: S3Server, guest: tuple[S3Server, str]
) -> None:
    user, bucket = guest
    here = shell(tmp_path, user.environment)
    here.configure(user.provider_toml("guest"))
    place = f"guest:{bucket}"
    _allow(rgw, bucket, "GetObject")  # not to list
    here.portabl("migrate", place, "./target", "-q").clear(6, place, "AccessDenied", "may list")
    _nothing_written(here)

    _allow(rgw, bucket, "ListBucket")  # not to read
    unread = here.portabl("migrate", place, "./target", "-q", "--json")
    assert unread.code in (3, 6), unread.err
    assert "Traceback" not in unread.err
    assert "AccessDenied" in unread.out, unread.out
    assert "one" not in os.listdir(here.folder / "target")

    _allow(rgw, bucket, "ListBucket", "GetObject")  # not to write
    _tree(here)
    unwritten = here.portabl("migrate", "./data", place, "-q", "--json")
    assert unwritten.code in (3, 6), unwritten.err
    assert "Traceback" not in unwritten.err
    assert "AccessDenied" in unwritten.out, unwritten.out
    assert rgw.keys(bucket) == ["one"]


def test_unset_credential(weed: Shell, seaweed: S3Server) -> None:
    toml = seaweed.provider_toml("weed").replace("env:KIT_SEAWEED_SECRET_KEY", "env:NOT_SET_AT_ALL")
    weed.configure(toml)
    found = weed.portabl("ls", "weed:bucket")
    found.clear(2, "portabl.toml", "[providers.weed]", "secret_access_key", "NOT_SET_AT_ALL")


def test_unreachable_endpoint(here: Shell) -> None:
    port = free_ports(1)
    here.configure(_table(f"http://127.0.0.1:{port}"))
    here.portabl("migrate", "old:photos", "./target").clear(6, "old:photos", str(port))
    assert not (here.folder / "target").exists()
    _nothing_written(here)


def test_endpoint_that_has_no_address(here: Shell) -> None:
    here.configure(_table("http://nowhere.invalid"))
    here.portabl("ls", "old:photos").clear(6, "nowhere.invalid")


def _table(endpoint: str, *lines: str) -> str:
    table = (
        f'[providers.old]\ntype = "s3"\nendpoint = "{endpoint}"\naccess_key_id = "k"\nsecret_access_key = "env:HOME"\n'
    )
    return table + 'addressing = "path"\n' + "\n".join(lines) + "\n"


class _NothingHere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[str]:
    """A TLS server whose certificate nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NothingHere)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]  # failing handshakes are the point
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_certificate_that_is_not_trusted(here: Shell, untrusted: str) -> None:
    here.configure(_table(untrusted))
    found = here.portabl("ls", "old:photos").clear(6, "old:photos", "certificate")
    assert "ca_bundle" in found.err


def test_certificates_to_trust_that_are_not_there(here: Shell, untrusted: str) -> None:
    here.configure(_table(untrusted, 'ca_bundle = "missing.pem"'))
    here.portabl("ls", "old:photos").clear(2, "[providers.old] ca_bundle", str(here.folder / "missing.pem"), "PEM")


def test_a_package_that_an_fsspec_url_needs_is_named(here: Shell) -> None:
    found = here.portabl("ls", "smb://host/share")
    found.clear(2, "smb://host/share", "package", "smbprotocol", "pip")


def test_switching_tls_checks_off_is_loud(here: Shell, untrusted: str) -> None:
    here.configure(_table(untrusted, "insecure = true"))
    found = here.portabl("ls", "old:photos").clear(6)
    assert "TLS certificates are NOT checked" in found.err
    assert "verify failed" not in found.err


def test_source_equal_to_target_or_inside(weed: Shell, seaweed: S3Server) -> None:
    bucket = seaweed.bucket()
    for source, target in ((bucket, bucket), (bucket, f"{bucket}/inside"), (f"{bucket}/inside", bucket)):
        weed.portabl("migrate", f"weed:{source}", f"weed:{target}").clear(2, "overlap")
    folder = _tree(weed)
    (weed.folder / "link").symlink_to(folder)
    for source, target in (("./data", "./data"), ("./data", "./data/in"), ("./data", "./link"), (".", "./data")):
        weed.portabl("migrate", source, target).clear(2, "overlap")
    assert sorted(os.listdir(folder)) == ["0.txt", "1.txt", "2.txt"]
    _nothing_written(weed)


def test_state_directory_that_cannot_be_one(here: Shell) -> None:
    _tree(here)
    (here.folder / "file").write_text("")
    here.portabl("migrate", "./data", "./target", "--state", "./file/state").clear(2, "state", "--state")


@needs_root
def test_state_directory_without_permission(here: Shell) -> None:
    _tree(here)
    _open_to_all(here)
    (here.folder / "locked").mkdir(mode=0o700)
    found = here.portabl("migrate", "./data", "./target", "--state", "./locked/state", prefix=NOBODY)
    found.clear(2, "locked", "Permission denied")


def _open_to_all(where: Shell) -> None:
    """Pytest's directories are private; another user has to get through."""
    for folder in (where.folder, *where.folder.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    where.folder.chmod(0o777)


@needs_root
def test_local_target_without_permission_to_write(here: Shell) -> None:
    _tree(here)
    _open_to_all(here)
    (here.folder / "target").mkdir(mode=0o755)
    found = here.portabl("migrate", "./data", "./target", "--state", "./state", prefix=NOBODY)
    found.clear(6, "target", "ermission")
    assert not os.listdir(here.folder / "target")


@needs_root
def test_local_source_without_permission_to_list(here: Shell) -> None:
    _tree(here)
    _open_to_all(here)
    (here.folder / "data").chmod(0o700)
    here.portabl("migrate", "./data", "./target", "--state", "./state", prefix=NOBODY).clear(6, "data", "ermission")
    assert not (here.folder / "target").exists()


@needs_root
def test_a_file_without_permission_to_read_is_named_and_the_rest_arrives(here: Shell) -> None:
    folder = _tree(here)
    _open_to_all(here)
    (folder / "1.txt").chmod(0o600)
    found = here.portabl("migrate", "./data", "./target", "--state", "./state", "--json", prefix=NOBODY)
    assert found.code == 3, found.err
    assert [(loss["field"], loss["examples"]) for loss in found.document["losses"]] == [("object", ["1.txt"])]
    assert sorted(os.listdir(here.folder / "target")) == ["0.txt", "2.txt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@needs_root
def test_full_disk_at_the_target(here: Shell, small_disk: Path) -> None:
    folder = _tree(here)
    (folder / "large.bin").write_bytes(bytes(2**20))
    found = here.portabl("migrate", "./data", str(small_disk), "-q")
    assert "Traceback" not in found.err
    assert found.code in (3, 6), found.err
    assert "o space left" in found.err + found.out, (found.out, found.err)
    assert not [name for name in os.listdir(small_disk) if not name.endswith(".txt")], "a partial file was left"


@needs_root
def test_full_disk_at_the_state(here: Shell, small_disk: Path) -> None:
    _tree(here, files=3000)
    (small_disk / "ballast").write_bytes(bytes(150 * 1024))
    found = here.portabl("migrate", "./data", "./target", "--state", str(small_disk / "state"), "-q")
    found.clear(4, "no space left", "free space")
    (small_disk / "ballast").unlink()
    shutil.rmtree(here.folder / "target")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("endpont = 'http://x'", ("endpont", "unknown field", "did you mean `endpoint`?")),
        ("endpoint = 5", ("endpoint", "must be a string, not a whole number")),
        ("endpoint = 'ftp://x'", ("endpoint", "URL")),
        ("insecure = 'yes'", ("insecure", "must be true or false, not a string")),
        ("parts_max = true", ("parts_max", "must be a whole number, not true or false")),
        ("addressing = 'dns'", ("addressing", "`path` or `virtual`")),
        ("access_key_id = 'k'", ("secret_access_key", "belong together")),
    ],
)
def test_configuration_with_a_mistake(here: Shell, line: str, words: tuple[str, ...]) -> None:
    here.configure(f'[providers.old]\ntype = "s3"\n{line}\n')
    here.portabl("migrate", "old:b", "./target").clear(2, "portabl.toml", "[providers.old]", *words)
    _nothing_written(here)


def test_configuration_that_is_no_toml(here: Shell) -> None:
    here.configure("[providers.old\n")
    here.portabl("ls", "./").clear(2, "portabl.toml", "line 1")


@pytest.fixture
def manifest(here: Shell) -> Path:
    """The manifest of a finished migration."""
    _tree(here)
    done = here.portabl("migrate", "./data", "./target", "--manifest", "./manifest")
    assert done.code == 0, done.err
    assert here.portabl("verify", "./manifest").code == 0
    return here.folder / "manifest"


def _verify_and_show(here: Shell, *words: str) -> None:
    for command in (("verify", "./manifest"), ("manifest", "show", "./manifest", "-q")):
        found = here.portabl(*command)
        assert found.code == 3, (command, found.out, found.err)
        assert "Traceback" not in found.err
        for word in words:
            assert word in found.err, (command, word, found.err)


def test_manifest_cut_short(here: Shell, manifest: Path) -> None:
    whole = (manifest / "manifest.json").read_bytes()
    (manifest / "manifest.json").write_bytes(whole[: len(whole) // 2])
    _verify_and_show(here, "manifest.json")


def test_manifest_with_a_segment_cut_short(here: Shell, manifest: Path) -> None:
    segment = next((manifest / "segments").iterdir())
    segment.write_bytes(segment.read_bytes()[:-20])
    _verify_and_show(here, segment.name)


def test_manifest_edited(here: Shell, manifest: Path) -> None:
    """Even when the editor knew to correct the hash of the segment."""
    segment = next((manifest / "segments").iterdir())
    text = gzip.decompress(segment.read_bytes())
    before = segment.read_bytes()
    edited = gzip.compress(text.replace(b"1.txt", b"9.txt"), mtime=0)
    segment.write_bytes(edited)
    document = (manifest / "manifest.json").read_text()
    for old, new in ((before, edited),):
        document = document.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    (manifest / "manifest.json").write_text(document)
    _verify_and_show(here)


def test_manifest_of_a_newer_version(here: Shell, manifest: Path) -> None:
    path = manifest / "manifest.json"
    path.write_text(re.sub(r"portabl manifest \d+", "portabl manifest 99", path.read_text()))
    _verify_and_show(here, "99")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": 5}', "not JSON", "\0\0\0", json.dumps({"a": 1})])
def test_not_a_manifest(here: Shell, text: str) -> None:
    (here.folder / "manifest").mkdir()
    (here.folder / "manifest" / "manifest.json").write_text(text)
    _verify_and_show(here, "manifest.json")


def test_no_manifest_there(here: Shell) -> None:
    here.portabl("verify", "./nothing").clear(3, "nothing")


def test_two_runs_of_the_same_job(tmp_path: Path, moto: S3Server) -> None:
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="k", Body=b"x")
    with FaultProxy(moto.endpoint) as proxy:
        slow = proxy.add(Fault("delay", kind="get", seconds=60))
        here = shell(tmp_path, moto.environment)
        here.configure(moto.provider_toml("slow", proxy.endpoint))
        arguments = ("migrate", f"slow:{bucket}", "./target")
        first = subprocess.Popen(
            here.command(*arguments),
            cwd=tmp_path,
            env=here.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 30
            while not slow.fired:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            here.portabl(*arguments).clear(2, "another run")
        finally:
            first.kill()
            first.wait()
        proxy.clear()
        assert here.portabl(*arguments).code == 0, "the lock of a killed run is no lock"
