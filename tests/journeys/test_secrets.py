"""Secrets are nowhere: not in output, state, manifests or the process list, whether a run works or fails."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from pathlib import Path

import pytest
from kit.processes import free_ports
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Shell, shell

ACCESS, SECRET, TOKEN = "AKIAPLAINLYVISIBLE7", "Zq9+sEcReT/pHrAsE=7x", "tOkEn//wItH+sIgNs==42"
HIDDEN = (SECRET, TOKEN, "Zq9%2BsEcReT", "tOkEn%2F%2FwItH")


def _provider(server: S3Server, name: str = "store", endpoint: str = "") -> str:
    table = server.provider_toml(name, endpoint)
    access, secret = server.environment
    table = table.replace(f"env:{access}", "env:HIDE_A").replace(f"env:{secret}", "file:secret.txt")
    return table + 'session_token = "env:HIDE_T"\n'


class Watched:
    """Runs portabl, keeps all output, and looks at every process while it runs."""

    def __init__(self, folder: Path, hidden: tuple[str, ...]) -> None:
        self.shell: Shell = shell(folder, {"HIDE_A": ACCESS, "HIDE_T": TOKEN})
        (folder / "secret.txt").write_text(SECRET + "\n")
        self.folder, self.hidden = folder, hidden
        self.looks = 0

    def run(self, *codes: int, arguments: tuple[str, ...]) -> str:
        child = subprocess.Popen(
            self.shell.command(*arguments),
            cwd=self.folder,
            env=self.shell.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        over, seen = threading.Event(), set[bytes]()
        watcher = threading.Thread(target=self._watch, args=(child.pid, over, seen))
        watcher.start()
        out, _ = child.communicate(timeout=120)
        over.set()
        watcher.join()
        text = out.decode()
        assert child.returncode in codes, (arguments, child.returncode, text)
        for secret in self.hidden:
            assert secret not in text, (arguments, text)
            assert not [line for line in seen if secret.encode() in line]
        return text

    def _watch(self, pid: int, over: threading.Event, seen: set[bytes]) -> None:
        """What `ps` shows: command lines of all, and the environment of any child that portabl starts."""
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    seen.add((process / "cmdline").read_bytes())
                    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                    if parent == str(pid):
                        seen.add((process / "environ").read_bytes())
                except (OSError, IndexError):
                    continue  # it has ended
            self.looks += 1
            time.sleep(0.05)

    def search(self) -> int:
        """Look into every file that was left; how many there are."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "secret.txt"]
        for path in files:
            content = path.read_bytes()
            for secret in self.hidden:
                assert secret.encode() not in content, (path, secret)
        return len(files)


def test_s3_credentials(tmp_path: Path, moto: S3Server) -> None:
    """Moto takes any credentials, so all of it works, with a session token too."""
    bucket, target = moto.bucket(), moto.bucket()
    for name in ("a", "./dot", "b/c"):  # the dot goes by another way, through botocore
        moto.client().put_object(Bucket=bucket, Key=name, Body=b"body", Metadata={"m": "1"})
    watched = Watched(tmp_path, HIDDEN)
    with FaultProxy(moto.endpoint) as proxy:
        watched.shell.configure(_provider(moto), _provider(moto, "other", proxy.endpoint))
        work = ("migrate", f"store:{bucket}", f"other:{target}", "--manifest", "./manifest", "-v")
        watched.run(0, arguments=work)
        assert any(TOKEN in request.headers.get("x-amz-security-token", "") for request in proxy.requests)
        watched.run(0, arguments=(*work, "--json"))
        watched.run(0, arguments=("verify", "./manifest", "-v", "--json"))
        watched.run(0, arguments=("ls", f"store:{bucket}", "-v"))
        watched.run(0, arguments=("status", "-v", "--json"))
        watched.run(0, arguments=("manifest", "show", "./manifest", "--records", "-v"))
        for status in (403, 400, 500):
            # an error that repeats what it was sent, as some servers do
            fault = Fault("status", status=status, code=f"X</Code><Message>no {SECRET} {TOKEN}</Message><Code>")
            proxy.add(fault)
            watched.run(3, 6, arguments=("ls", f"other:{target}", "-v"))
            assert fault.fired
            proxy.clear()
        proxy.add(Fault("status", kind="put", status=403))
        moto.client().put_object(Bucket=bucket, Key="new", Body=b"refused")
        watched.run(3, 6, arguments=work)
    watched.run(6, arguments=work)  # the proxy is gone: nobody answers
    assert watched.search() > 5
    assert watched.looks > 10


def test_wrong_secret_and_unreachable(tmp_path: Path, seaweed: S3Server) -> None:
    watched = Watched(tmp_path, HIDDEN)
    nowhere = dataclasses.replace(seaweed, endpoint=f"http://127.0.0.1:{free_ports(1)}")
    watched.shell.configure(_provider(seaweed), _provider(nowhere, "nowhere"))
    for place in ("store", "nowhere"):
        for arguments in (("ls", f"{place}:bucket"), ("migrate", f"{place}:bucket", "./target"), ("status",)):
            watched.run(6 if len(arguments) > 1 else 0, arguments=(*arguments, "-v", "--json"))
    watched.search()


@pytest.mark.parametrize("literal", [True, False])
def test_a_literal_secret_is_warned_of_and_not_repeated(literal: bool, tmp_path: Path, moto: S3Server) -> None:
    bucket = moto.bucket()
    watched = Watched(tmp_path, HIDDEN)
    table = _provider(moto)
    if literal:
        table = table.replace("file:secret.txt", SECRET).replace("env:HIDE_T", TOKEN)
    watched.shell.configure(table)
    text = watched.run(0, arguments=("ls", f"store:{bucket}", "-v"))
    assert ("warning:" in text) is literal
    (tmp_path / "portabl.toml").unlink()
    watched.search()


def test_secrets_in_urls_of_other_filesystems(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    secret = "hUsH-hUsH-9"
    watched = Watched(tmp_path, (secret,))
    port = free_ports(1)
    dead = (
        f"ftp://me:{secret}@127.0.0.1:{port}/x",
        f"http://me:{secret}@127.0.0.1:{port}/x?X-Amz-Signature={secret}",
        f"webdav://me:{secret}@127.0.0.1:{port}/x",
    )
    done = [watched.shell.portabl(*command, url, "-v") for url in dead for command in (("ls",), ("migrate", "./data"))]
    assert all(result.code not in (0, 1) for result in done), done
    alive = watched.shell.portabl("migrate", "./data", f"memory://me:{secret}@place/x?sig={secret}", "-v", "--json")
    assert alive.code == 0, alive.err
    kept = watched.shell.portabl(
        *("migrate", "./data", "./copy", "-v", "--manifest", f"memory://me:{secret}@place/m?sig={secret}"),
        *("--state", f"memory://me:{secret}@place/s?sig={secret}"),
    )
    assert kept.code == 0, kept.err
    status = watched.shell.portabl("status", "-v")
    for result in (*done, alive, kept, status):
        assert secret not in result.out + result.err
    assert watched.search()
