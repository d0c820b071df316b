"""A store that lies cannot hurt: it ends in an error or a named loss, in bounded time and memory, never in exit 0."""

from __future__ import annotations

import gzip
import itertools
import os
import pty
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from kit.hostile import ENDLESS, Answer, HostileServer, Lists, Query, Reads, abc, item, page
from kit.losses import admitted
from shell import Result, Shell, shell

MEMORY_MAX = 200 * 2**20
SECONDS_MAX = 60


def _shell(folder: Path, server: HostileServer, *lines: str) -> Shell:
    made = shell(folder, {"EVIL_KEY": "evil", "NO_COLOR": "1"})
    made.configure(server.provider_toml("evil", *lines))
    return made


def _bounded(here: Shell, *arguments: str) -> Result:
    """Run portabl and watch its memory and the clock."""
    child = subprocess.Popen(
        here.command(*arguments), cwd=here.folder, env=here.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                return
            line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
            peak[0] = max(peak[0], int(line.split()[1]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = child.communicate(timeout=SECONDS_MAX)
    finally:
        child.kill()
        child.wait()
        over.set()
        watcher.join()
    assert 0 < peak[0] < MEMORY_MAX, f"{peak[0] / 2**20:.0f} MB"
    return Result(child.returncode, out.decode(), err.decode())


NASTY = (
    *("../escape", "../../escape", "/abs/escape", "a/../../escape", "..", ".", "/", "//", "a/..", "~/escape"),
    *("red\x1b[31m", "title\x1b]0;owned\x07", "bell\x07", "c1\x9b31m", "back\x08", "line\r\nfeed", "\u202egnp.exe"),
    *("..\\escape", "C:/escape", "nul\x01", "\ufeffbom", "con", "-rf", "$(touch escape)", "`id`", "a\u2028b"),
)
RAW = (b"\x1b[31m", b"\x1b]0;", b"\x07", "\x9b".encode(), b"\x08", "\u202e".encode(), b"\r\nfeed", "\u2028".encode())


def _listing(*names: str) -> Lists:
    return lambda query: page(*(item(name) for name in sorted(names, key=str.encode)))


def _bold(key: str, headers: object) -> Answer:
    more = {"Content-Type": "text/\x1b[31m", "x-amz-meta-c1": "\x9b\x07", "x-amz-meta-k": "v\x1b]0;owned\x07"}
    return Answer(b"abc", headers={"ETag": '"900150983cd24fb0d6963f7d28e17f72"', **more})


def test_names_stay_inside_and_never_reach_the_terminal(tmp_path: Path) -> None:
    inside = tmp_path / "one" / "two" / "here"
    inside.mkdir(parents=True)
    with HostileServer(_listing(*NASTY), _bold) as server:
        here = _shell(inside, server)
        ran = [
            _in_a_terminal(here, "migrate", "evil:bucket", "./target", "--manifest", "./manifest", "-v"),
            _in_a_terminal(here, "ls", "evil:bucket"),
            _in_a_terminal(here, "verify", "./manifest", "./target"),
            _in_a_terminal(here, "manifest", "show", "./manifest", "--records"),
            _in_a_terminal(here, "status"),
        ]
        assert [code for code, _ in ran] == [0] * 5, ran[0][1].decode(errors="replace")
        plainly = here.portabl("ls", "evil:bucket", "--json")
        assert {entry["key"] for entry in plainly.document["entries"]} == set(NASTY)
    for _, shown in ran:
        assert not [raw for raw in RAW if raw in shown]
    assert b'"red\\x1b[31m"' in ran[1][1]
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(inside)]
    assert sorted(outside) == [tmp_path / "one", tmp_path / "one" / "two"]
    names = {path.relative_to(inside).parts[0] for path in inside.rglob("*")}
    assert names == {"home", "target", "manifest", "portabl.toml"}
    files = [path for path in (inside / "target").rglob("*") if path.is_file()]
    assert len(files) == len(NASTY)
    assert not any(path.is_symlink() for path in files)
    assert not Path("/abs/escape").exists()


def _in_a_terminal(here: Shell, *arguments: str) -> tuple[int, bytes]:
    """Exit code and everything that reached the terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        here.command(*arguments), cwd=here.folder, env=here.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + SECONDS_MAX
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        return child.wait(timeout=10), shown
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def test_what_a_store_says_in_an_error_never_reaches_the_terminal(tmp_path: Path) -> None:
    said = "<Error><Code>Odd</Code><Message>\x1b[31mred \x9b31m \u202e</Message></Error>".encode()
    with HostileServer(lambda query: Answer(said, 400, {"x-amz-bucket-region": "x\x1b[31m"})) as server:
        here = _shell(tmp_path, server)
        for status in (400, 301, 403, 404):
            server.lists = lambda query, status=status: Answer(  # type: ignore[misc]
                said, status, {"x-amz-bucket-region": "x\x1b[31m", "Server": "\x1b[31m"}
            )
            code, shown = _in_a_terminal(here, "migrate", "evil:bucket", "./target", "-v")
            assert code == 6, shown
            assert not [raw for raw in RAW if raw in shown], shown


LAUGHS = "<!DOCTYPE l [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))


def _xml(text: str) -> Lists:
    return lambda query: Answer(text.encode(), headers={"Content-Type": "application/xml"})


def _zeros(size: int | None = None) -> Iterator[bytes]:
    piece = b"<a>" * 20_000
    return itertools.repeat(piece) if size is None else itertools.repeat(piece, size // len(piece))


def _growing(query: Query) -> Answer:
    """Never a key, always another token."""
    return page(token=query.get("continuation-token", "t") + "x" if len(query) < 9 else "t")


def _circle(query: Query) -> Answer:
    turn = {"": ("b", "1"), "1": ("a", "2"), "2": ("c", "3"), "3": ("b", "1")}
    key, token = turn[query.get("continuation-token", "")]
    return page(item(key), token=token)


BROKEN: dict[str, Lists] = {
    "entities": lambda query: page(item("k"), head=LAUGHS + "]>"),
    "entities used": _xml(f"<?xml version='1.0'?>{LAUGHS}]><ListBucketResult>&a11;</ListBucketResult>"),
    "external document type": lambda query: page(item("k"), head='<!DOCTYPE x SYSTEM "file:///etc/passwd">'),
    "document type in UTF-16": lambda query: Answer(page(head="<!DOCTYPE x>").body.decode().encode("utf-16")),  # type: ignore[union-attr]
    "deep nesting": _xml("<ListBucketResult>" + "<a>" * 1_000_000 + "</a>" * 1_000_000 + "</ListBucketResult>"),
    "deep and cut": _xml("<ListBucketResult>" + "<a>" * 2_000_000),
    "endless page": lambda query: Answer(_zeros(), length=ENDLESS),
    "large page": lambda query: Answer(b"<ListBucketResult>" + b" " * (20 * 2**20) + b"</ListBucketResult>"),
    "claims a large page": lambda query: Answer(b"<ListBucketResult>", length=10**15),
    "gzip bomb": lambda query: Answer(gzip.compress(b" " * 2**26), headers={"Content-Encoding": "gzip"}),
    "empty": lambda query: Answer(b""),
    "web page": lambda query: Answer(b"<html><body>welcome</body></html>"),
    "no XML": lambda query: Answer(b"\x00\xff\xfe"),
    "another root": _xml("<ListAllMyBucketsResult/>"),
    "no flag": _xml("<ListBucketResult></ListBucketResult>"),
    "no token": lambda query: page(item("k"), truncated="true"),
    "same page again": lambda query: page(item("k"), token="t"),
    "same empty page again": lambda query: page(token="t"),
    "empty pages for ever": _growing,
    "pages in a circle": _circle,
    "key without name": _xml(
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents></ListBucketResult>"
    ),
    "key without size": lambda query: page("<Contents><Key>k</Key></Contents>"),
    "negative size": lambda query: page(item("k", -1)),
    "no number": lambda query: page(item("k", "1e3")),
    "endless number": lambda query: page(item("k", "9" * 5000)),
    "underscored number": lambda query: page(item("k", "1_0")),
    "one key, two faces": lambda query: page(item("k"), item("j"), item("k", 4)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_listing_that_cannot_be_believed(name: str, tmp_path: Path) -> None:
    with HostileServer(BROKEN[name], abc) as server:
        here = _shell(tmp_path, server)
        done = _bounded(here, "migrate", "evil:bucket", "./target", "-q")
    done.clear(6, "evil:bucket")
    assert not list((tmp_path / "target").rglob("*")) or name in ("same page again", "pages in a circle", "no token")


def test_keys_outside_the_prefix(tmp_path: Path) -> None:
    with HostileServer(_listing("other/k"), abc) as server:
        here = _shell(tmp_path, server)
        _bounded(here, "migrate", "evil:bucket/mine", "./target", "-q").clear(6, "outside the prefix")


def _says(body: bytes = b"abc", status: int = 200, length: int | None = None, **headers: str) -> Reads:
    named = {"ETag": '"900150983cd24fb0d6963f7d28e17f72"'} | {n.replace("_", "-"): v for n, v in headers.items()}
    return lambda key, asked: Answer(body, status, named, length)


LYING: dict[str, tuple[object, Reads]] = {
    "longer": (3, _says(b"abcd")),
    "shorter": (3, _says(b"ab")),
    "ends early": (3, _says(b"ab", length=3)),
    "ends very early": (3, _says(b"", length=3)),
    "endless": (3, lambda key, headers: Answer(_zeros(), 200, {"ETag": '"900150983cd24fb0d6963f7d28e17f72"'}, ENDLESS)),
    "other bytes": (3, _says(b"abd")),
    "other ETag": (3, _says(ETag='"00000000000000000000000000000000"')),
    "redirect": (3, _says(b"", 307, Location="http://127.0.0.1:9/secret")),
    "unpacked size listed": (2**26, _says(gzip.compress(b"a" * 2**26), Content_Encoding="gzip")),
    "wrong range": (20 * 2**20, _says(b"abc", 206, Content_Range="bytes 5-7/20971520")),
}


def test_bodies_that_are_not_as_listed(tmp_path: Path) -> None:
    """All at once, as each of them costs the waits between tries; the good one arrives all the same."""
    listed = [item(name, size) for name, (size, _) in sorted({**LYING, "good": (3, abc)}.items())]

    def reads(key: str, headers: Mapping[str, str]) -> Answer:
        return abc(key, headers) if key == "good" else LYING[key][1](key, headers)

    with HostileServer(lambda query: page(*listed), reads) as server:
        here = _shell(tmp_path, server, "stall_seconds = 2")
        done = _bounded(here, "migrate", "evil:bucket", "./target", "-q", "--manifest", "./manifest")
    assert "Traceback" not in done.err
    assert done.code == 3, (done.code, done.out, done.err)
    assert admitted(tmp_path / "manifest") == {(name.encode(), "object") for name in LYING}
    assert [path.name for path in (tmp_path / "target").rglob("*")] == ["good"]


@pytest.mark.parametrize("size", [10**13, 20 * 2**20, 10**17])
def test_a_listed_size_that_is_wrong_costs_nothing(size: int, tmp_path: Path) -> None:
    """The object itself says three bytes, and three bytes come: that is what it is."""
    with HostileServer(lambda query: page(item("huge", size)), abc) as server:
        here = _shell(tmp_path, server)
        done = _bounded(here, "migrate", "evil:bucket", "./target", "--json", "-q")
    assert done.code == 0, done.err
    assert (done.document["bytes"], done.document["bytes_copied"]) == (3, 3)
    assert (tmp_path / "target" / "huge").read_bytes() == b"abc"


def test_a_compressed_body_is_never_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(b"a" * 2**28, 9, mtime=0)
    with HostileServer(
        lambda query: page(item("bomb", len(packed), "x-1")), _says(packed, ETag='"x-1"', Content_Encoding="gzip")
    ) as server:
        here = _shell(tmp_path, server)
        done = _bounded(here, "migrate", "evil:bucket", "./target", "-q")
    assert done.code == 0, done.err
    assert (tmp_path / "target" / "bomb").read_bytes() == packed
