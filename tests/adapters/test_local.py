"""Local directories beyond the contract suite: what file systems hold besides files, and what happens in the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portabl.errors import (
    AccessDenied,
    Changed,
    ConfigError,
    ContainerMissing,
    NotFound,
    Refused,
    StorageError,
    UsageError,
)
from portabl.model import Body, Entry, Metadata
from portabl.storage import Opening, Storage
from portabl_adapters.local import open_storage
from portabl_adapters.local_names import alternative, encode, natural

NONE = Metadata()


def opened(path: Path | bytes | str, prefix: bytes = b"", **options: str) -> Storage:
    where = os.fsdecode(path)
    return open_storage(Opening(where, where, prefix, {}, lambda _: None, options=options))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


@pytest.fixture
def target(root: Path) -> Iterator[Storage]:
    with opened(root) as storage:
        storage.check(write=True)
        yield storage


def body(data: bytes) -> Body:
    return Body(data, hashlib.sha256(data).hexdigest())


def listing(storage: Storage) -> dict[bytes, Entry]:
    found = list(storage.entries())
    keys = [entry.key for entry in found]
    assert keys == sorted(set(keys)), "strictly rising"
    return {entry.key: entry for entry in found}


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """A directory of a user for whom permissions count, even when the tests run as root."""
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    path = tempfile.mkdtemp()
    os.chown(path, user, -1)
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield Path(path)
    finally:
        os.seteuid(before)
        subprocess.run(["chmod", "-R", "u+rwx", path], check=True)
        shutil.rmtree(path)


# Order and names


def test_keys_come_in_byte_order_from_anywhere(target: Storage) -> None:
    """A directory sorts with its slash, spelled names sort as the keys they stand for."""
    long = b"y" * 251
    keys = [
        b"a-b",
        b"a/x",
        b"a",
        b"a.b",
        b"a0",
        b"",
        b"/",
        b"a//z",
        long + b"m",
        long + b"a" * 9,
        long + b"z" * 9,
        b"a/",
    ]
    keys += [b"../up", b"y" * 600 + b"/deep", b"y" * 600, b"\0", b"%~=", b"d/" * 500 + b"x"]
    for key in keys:
        target.write(key, body(key), NONE)
    assert list(listing(target)) == sorted(keys)
    for entry in listing(target).values():
        assert target.read(entry).data == entry.key
    for after in [*keys, b"a/w", b"y" * 252, b"d/d/d/d"]:
        assert [entry.key for entry in target.entries(after)] == [key for key in sorted(keys) if key > after]
    for key in keys:
        target.delete(key)
    assert listing(target) == {}


SEGMENT = st.sampled_from([b"a", b"b", b"", b".", b"..", b"%~=", b"%~!a", b"y" * 251, b"y" * 260, b"%~=%25~="])


@example(keys=[b"%~=/a", b"%~=%25~=/a"])
@example(keys=[b"%~+" + b"y" * 250 + b"/a", b"y" * 250 + b"/a", b"y" * 300])
@example(keys=[b"b", b"b", b"b", b"b", b"y" * 260 + b"/a/a", b"y" * 260])
@given(keys=st.lists(st.lists(SEGMENT, min_size=1, max_size=4).map(b"/".join), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_keys_in_any_order_of_arrival(keys: list[bytes]) -> None:
    """Files and directories of one name included: each key keeps its own content, and leaves nothing when deleted."""
    with tempfile.TemporaryDirectory() as path, opened(path) as storage:
        for number, key in enumerate(keys):
            storage.write(key, body(b"%d" % number), NONE)
        wanted = {key: b"%d" % number for number, key in enumerate(keys)}
        found = listing(storage)
        assert {key: storage.read(entry).data for key, entry in found.items()} == wanted
        for key in keys[::2]:
            storage.delete(key)
            wanted.pop(key, None)
        for key in keys[1::3]:
            storage.write(key, body(b"again"), NONE)
            wanted[key] = b"again"
        assert {entry.key: storage.read(entry).data for entry in storage.entries()} == wanted
        for key in wanted:
            storage.delete(key)
        assert listing(storage) == {}
        storage.close()
        assert os.listdir(path) == []


CHAIN = natural(b"y" * 300)
ODD = st.sampled_from(
    [b"a", b"b", b"%~=", b"%~=.", b"%~!a", b"%~=%25~=", b"%~=a", b"%~+", *CHAIN, alternative(b"y" * 300)[1], b"%~=zz"]
) | st.sampled_from([b"%~+" + b"y" * 250, b"%~tmp-0123456789abcdef", b"%~=%41", b"%~=%61"])


@given(paths=st.lists(st.tuples(st.lists(ODD, min_size=1, max_size=4), st.booleans()), max_size=12))
@settings(max_examples=120, deadline=None)
def test_any_tree_lists_every_file_once(paths: list[tuple[list[bytes], bool]]) -> None:
    """Names that look like spellings included: distinct files have distinct keys; each can be read or has a problem."""
    with tempfile.TemporaryDirectory() as path:
        for names, is_file in paths:
            full = os.path.join(os.fsencode(path), *names)
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                os.makedirs(os.path.dirname(full) if is_file else full, exist_ok=True)
                if is_file:
                    Path(os.fsdecode(full)).write_bytes(full)
        files = {os.path.join(d, name) for d, _, names in os.walk(os.fsencode(path)) for name in names}
        with opened(path) as storage:
            found = listing(storage)
            read = {bytes(storage.read(e).data) for e in found.values() if not e.problem and not e.key.endswith(b"/")}
            marked = {bytes(storage.read(e).data) for e in found.values() if not e.problem and e.key.endswith(b"/")} - {
                b""
            }
        problems = sum(1 for entry in found.values() if entry.problem)
        assert read | marked <= files
        assert files == read | marked or problems


def test_what_the_documentation_says_of_names(root: Path, target: Storage) -> None:
    """The second of `a` and `a/b` gets the other name, whichever it is."""
    target.write(b"one", body(b"f"), NONE)
    target.write(b"one/x", body(b"x"), NONE)
    target.write(b"two/x", body(b"x"), NONE)
    target.write(b"two", body(b"f"), NONE)
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == {
        "one",
        "%~!one/x",
        "two/x",
        "%~!two",
    }
    target.delete(b"one")
    target.write(b"one/y", body(b"y"), NONE)
    assert list(listing(target)) == [b"one/x", b"one/y", b"two", b"two/x"]


def test_a_second_name_for_one_key_is_a_problem(root: Path, target: Storage) -> None:
    """Neither hidden nor taken for the other."""
    (root / "a").write_bytes(b"first")
    (root / "%~!a").write_bytes(b"second")
    found = listing(target)
    assert found[b"a"].problem == ""
    assert "second name" in found[b"%~!a"].problem
    assert target.read(found[b"a"]).data == b"first"


def test_files_and_directories_of_one_name_in_a_race(target: Storage) -> None:
    """16 threads write `n` and `n/x` for the same names at once."""
    keys = [b"%d%s" % (n, tail) for n in range(60) for tail in (b"", b"/x", b"/x/y")]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: target.write(key, body(key), NONE), keys))
    found = listing(target)
    assert list(found) == sorted(keys)
    assert all(target.read(entry).data == key for key, entry in found.items())
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(target.delete, keys))
    assert listing(target) == {}


def test_writing_while_directories_come_and_go(target: Storage) -> None:
    """Deleting the last file of a directory removes it; a writer that meant it makes it again."""
    target.write(b"d/e/stays", body(b"v"), NONE)

    def churn(n: int) -> None:
        for _ in range(20):
            target.write(b"d/f/%d" % n, body(b"v"), NONE)
            target.delete(b"d/f/%d" % n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(churn, range(8)))
    assert list(listing(target)) == [b"d/e/stays"]


def test_below_a_prefix(root: Path) -> None:
    """A prefix means whole segments, spelled like keys."""
    with opened(root, b"p/../q/") as storage:
        storage.check(write=True)
        storage.write(b"k", body(b"v"), NONE)
        assert list(listing(storage)) == [b"k"]
    with opened(root) as above:
        assert list(listing(above)) == [b"p/../q/k"]


# What is no file


def test_what_is_no_ordinary_file_is_reported(root: Path, target: Storage) -> None:
    """Links, sockets, pipes: an entry with a problem each; asking for one never hangs."""
    (root / "file").write_bytes(b"v")
    (root / "link").symlink_to("file")
    (root / "directory-link").symlink_to("/")
    os.mkfifo(root / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(root / "socket"))
    server.close()
    found = {key: entry.problem for key, entry in listing(target).items()}
    assert found == {
        b"directory-link": 'symbolic link to "/"',
        b"file": "",
        b"link": 'symbolic link to "file"',
        b"pipe": "named pipe",
        b"socket": "socket",
    }
    for key in (b"pipe", b"socket", b"link"):
        with pytest.raises(Refused):
            target.read(Entry(key, 1))
    with pytest.raises(NotFound):
        target.read(Entry(b"directory-link/etc/passwd", 1))


def test_followed_links_stay_inside(root: Path) -> None:
    """Files and directories below the root are read through links; what leaves it, loops or dangles is reported."""
    (root / "real").mkdir()
    (root / "real" / "file").write_bytes(b"v")
    (root / "to-file").symlink_to("real/file")
    (root / "to-directory").symlink_to("real")
    (root / "real" / "up").symlink_to("..")
    (root / "out").symlink_to("/etc/passwd")
    (root / "out-directory").symlink_to("/etc")
    (root / "dangling").symlink_to("nowhere")
    with opened(root, symlinks="follow") as storage:
        found = listing(storage)
        good = {key: bytes(storage.read(entry).data) for key, entry in found.items() if not entry.problem}
        assert good == {b"real/file": b"v", b"to-file": b"v", b"to-directory/file": b"v"}
        assert {key for key, entry in found.items() if entry.problem} == {
            *(b"out", b"out-directory", b"dangling", b"real/up/", b"to-directory/up/"),
        }
        for key in (b"out", b"out-directory/passwd"):
            with pytest.raises(StorageError):
                storage.read(Entry(key, 1))


def test_kept_links_are_objects_that_say_where_they_point(root: Path) -> None:
    """The text of the link is the body, and the metadata say that it is one."""
    (root / "link").symlink_to("some/where")
    with opened(root, symlinks="keep") as storage:
        content = storage.read(listing(storage)[b"link"])
        assert content.data == b"some/where"
        assert dict(content.info.metadata.user) == {"symlink": "true"}


def test_an_unknown_way_to_treat_links(root: Path) -> None:
    """Names the known ones."""
    with pytest.raises(UsageError, match="report, follow, keep"):
        opened(root, symlinks="maybe")


def test_empty_directories_are_keys_with_a_slash(root: Path, target: Storage) -> None:
    """They read as nothing; a directory that filled up meanwhile is not the one that was listed."""
    (root / "empty" / "inner").mkdir(parents=True)
    found = listing(target)
    assert list(found) == [b"empty/inner/"]
    assert target.read(found[b"empty/inner/"]).data == b""
    (root / "empty" / "inner" / "f").write_bytes(b"")
    with pytest.raises(NotFound):
        target.read(found[b"empty/inner/"])


def test_a_marker_key_stays_beside_the_files_below_it(root: Path, target: Storage) -> None:
    """`dir/` is a file of its own, with bytes of its own, as in an object store."""
    target.write(b"dir/", body(b"marker"), NONE)
    target.write(b"dir/x", body(b"v"), NONE)
    assert (root / "dir" / "%~=").read_bytes() == b"marker"
    assert list(listing(target)) == [b"dir/", b"dir/x"]


def test_what_cannot_be_read_is_reported_and_the_rest_goes_on() -> None:
    """An unreadable directory is one entry with a problem; an unreadable file says so when it is read."""
    with unprivileged() as path, opened(path) as storage:
        (path / "closed").mkdir()
        (path / "closed" / "f").write_bytes(b"v")
        (path / "closed").chmod(0)
        (path / "blind").mkdir()
        (path / "blind" / "f").write_bytes(b"v")
        (path / "blind").chmod(0o400)
        (path / "secret").write_bytes(b"v")
        (path / "secret").chmod(0)
        (path / "z").write_bytes(b"v")
        found = listing(storage)
        assert [key for key, entry in found.items() if entry.problem] == [b"blind/", b"closed/"]
        with pytest.raises(AccessDenied) as caught:
            storage.read(found[b"secret"])
        assert caught.value.key == b"secret"
        assert storage.read(found[b"z"]).data == b"v"


# Reading what moves


def test_a_file_that_changes_after_it_was_listed(root: Path, target: Storage) -> None:
    """Also when size and modification time are put back."""
    path = root / "f"
    path.write_bytes(b"old")
    entry = listing(target)[b"f"]
    times = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Changed):
        target.read(entry)
    path.unlink()
    with pytest.raises(NotFound):
        target.read(entry)


def test_a_file_that_changes_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch, target: Storage) -> None:
    """The bytes are thrown away: they may be half old, half new."""
    path = root / "f"
    path.write_bytes(b"x" * 100)
    entry, real = listing(target)[b"f"], os.pread

    def slow(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        with path.open("ab") as file:
            file.write(b"more")
        return data

    monkeypatch.setattr(os, "pread", slow)
    with pytest.raises(Changed, match="while"):
        target.read(entry)


def test_a_directory_replaced_under_an_open_place(root: Path, target: Storage) -> None:
    """What is read is what is there now."""
    target.write(b"d/f", body(b"old"), NONE)
    shutil.rmtree(root / "d")
    (root / "d").mkdir()
    target.write(b"d/g", body(b"new"), NONE)
    assert (root / "d" / "g").read_bytes() == b"new"


# Targets


@pytest.mark.parametrize(
    "key", [b"../out", b"/etc/out", b"a/../../../out", b"..", b"x/\n\x1b[2J", b"~/out", b"\\\\host\\out"]
)
def test_no_key_leaves_the_directory(tmp_path: Path, target: Storage, key: bytes) -> None:
    """Whatever it says."""
    before = set(os.listdir(tmp_path))
    target.write(key, body(b"v"), NONE)
    assert set(os.listdir(tmp_path)) == before
    assert list(listing(target)) == [key]
    assert not os.path.exists("/etc/out")


def test_a_link_in_the_target_leads_nowhere(tmp_path: Path, root: Path, target: Storage) -> None:
    """A linked directory is not entered, a linked file is not written through; both are refused."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"mine")
    (root / "d").symlink_to(outside)
    (root / "f").symlink_to(outside / "f")
    for key in (b"d/new", b"d/f", b"f"):
        with pytest.raises(Refused) as caught:
            target.write(key, body(b"v"), NONE)
        assert caught.value.key == key
        with contextlib.suppress(StorageError):
            target.delete(key) if key != b"f" else None
    assert [(p.name, p.read_bytes()) for p in outside.iterdir()] == [("f", b"mine")]


def test_checking_a_target_makes_it_and_adds_nothing_else(tmp_path: Path) -> None:
    """Parents too."""
    with opened(tmp_path / "a" / "b" / "c") as storage:
        storage.check(write=True)
        assert listing(storage) == {}
    assert list((tmp_path / "a").rglob("*")) == [tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]


def test_places_that_are_none(tmp_path: Path) -> None:
    """Missing, a file, below a file, no path at all, not ours to write."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ContainerMissing):
        opened(tmp_path / "missing").check(write=False)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for write in (False, True):
            with pytest.raises(UsageError, match="not a directory"):
                opened(path).check(write=write)
    with pytest.raises(ConfigError):
        opened("")
    with unprivileged() as mine:
        mine.chmod(0o500)
        with pytest.raises(AccessDenied):
            opened(mine).check(write=True)
        with pytest.raises(AccessDenied):
            opened(mine / "new").check(write=True)


def test_unfinished_work_of_a_living_run_is_not_listed(root: Path, target: Storage) -> None:
    """By anybody; when the run is gone it is reported by a source and cleared by the next target."""
    script = (
        "import sys, time\n"
        "from portabl.storage import Opening\nfrom portabl.model import Metadata, Body\n"
        "from portabl_adapters.local import open_storage\n"
        "s = open_storage(Opening('x', sys.argv[1], b'', {}, lambda _: None))\n"
        "u = s.upload(b'big', 10, Metadata(), 5)\nu.part(1, Body(b'12345', ''), 0)\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    target.close()
    assert listing(target) == {}
    with opened(root) as other:
        other.check(write=True)
        assert len(os.listdir(root)) == 2, "a living run keeps its directory"
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert [entry.problem[:11] for entry in listing(target).values()] == ["left behind"]
    target.check(write=True)
    assert listing(target) == {}
    target.close()
    assert os.listdir(root) == []


def test_a_directory_of_the_users_that_looks_like_ours(root: Path, target: Storage) -> None:
    """Is never cleared when it holds anything a run would not have left, and never silently skipped."""
    (root / "%~tmp-0123456789abcdef").mkdir()
    (root / "%~tmp-0123456789abcdef" / "my notes").write_bytes(b"precious")
    target.check(write=True)
    assert [entry.problem[:11] for entry in listing(target).values()] == ["left behind"]
    assert (root / "%~tmp-0123456789abcdef" / "my notes").read_bytes() == b"precious"


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """On a file system of 256 KiB; a small object still fits afterwards."""
    script = (
        "import os, sys\n"
        "from portabl.errors import PlaceFull\nfrom portabl.storage import Opening\n"
        "from portabl.model import Metadata, Body\nfrom portabl_adapters.local import open_storage\n"
        "s = open_storage(Opening('x', sys.argv[1], b'', {}, lambda _: None))\n"
        "s.check(write=True)\n"
        "try:\n    s.write(b'big', Body(b'v' * 1_000_000, ''), Metadata())\n"
        "except PlaceFull as error:\n    print(error.exit_code, error)\n"
        "s.write(b'small', Body(b'v', ''), Metadata())\n"
        "print([e.key for e in s.entries()])\ns.close()\nprint(os.listdir(sys.argv[1]))\n"
    )
    command = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    options = "-m" if os.geteuid() == 0 else "-rm"
    arguments = ["unshare", options, "sh", "-c", command, "sh", str(tmp_path), sys.executable, script]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()
    assert output[0].startswith("6 x: no space left at the target")
    assert output[1:] == ["[b'small']", "['small']"]


def test_an_upload_whose_parts_do_not_cover_it(target: Storage) -> None:
    """Is not finished."""
    upload = target.upload(b"k", 10, NONE, 5)
    tag = upload.part(2, body(b"67890"), 5)
    with pytest.raises(StorageError, match="part 1 is missing"):
        upload.finish(["", tag], "")
    upload.abort()
    assert listing(target) == {}


def test_times_and_identity(root: Path, target: Storage) -> None:
    """Modified is the file's time to the nanosecond, in UTC; a write tells the identity that the listing shows."""
    written = target.write(b"f", body(b"v"), NONE)
    os.utime(root / "f", ns=(0, 1_700_000_000_123_456_789))
    entry = listing(target)[b"f"]
    assert entry.modified == "2023-11-14T22:13:20.123456789Z"
    assert entry.etag != written.etag, "touching a file changes its identity"
    assert target.write(b"f", body(b"w"), NONE).etag == listing(target)[b"f"].etag == target.stat(b"f").etag


def test_deep_trees_with_few_open_files(root: Path, target: Storage) -> None:
    """600 levels, far over the kernel's limit for one path, and at most 150 descriptors."""
    key = b"/".join([b"level-%d" % n for n in range(600)])
    target.write(key, body(b"v"), NONE)
    assert len(key) > 4096
    for entry in target.entries():
        assert entry.key == key
        assert len(os.listdir("/proc/self/fd")) < 150
        assert target.read(entry).data == b"v"
    target.delete(key)
    assert os.listdir(root) in ([], [name for name in os.listdir(root) if name.startswith("%~tmp-")])


@pytest.mark.slow
def test_small_files_are_quick(target: Storage) -> None:
    """2,000 durable writes, one listing, 2,000 reads: tens of microseconds of our own each."""
    start = time.process_time()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: target.write(b"d/%04d" % n, body(b"v"), NONE), range(2000)))
    found = listing(target)
    assert all(target.read(entry).data == b"v" for entry in found.values())
    assert (time.process_time() - start) / 2000 < 0.002


def test_names_on_disk_are_those_of_the_scheme(root: Path, target: Storage) -> None:
    """So a tree can be read without portabl, by the table in the documentation."""
    for key in (b"a//b", b"dir/", b"x" * 300):
        target.write(key, body(b"v"), NONE)
        assert os.path.isfile(os.path.join(bytes(root), *encode(key)))


def test_durable_before_visible_and_after(root: Path, target: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes reach the disk before the rename, the name after it and before `write` returns."""
    target.write(b"d/first", body(b"v"), NONE)
    calls: list[tuple[str, int]] = []
    sync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        calls.append(("fsync", os.fstat(fd).st_ino))
        sync(fd)

    def renamed(*args: Any, **options: Any) -> None:
        calls.append(("rename", 0))
        rename(*args, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    target.write(b"d/k", body(b"v"), NONE)
    file, directory = (root / "d" / "k").stat().st_ino, (root / "d").stat().st_ino
    assert calls == [("fsync", file), ("rename", 0), ("fsync", directory)]


def test_directories_removed_by_others(root: Path, target: Storage) -> None:
    """A whole branch that was kept open is made again, from its top."""
    target.write(b"a/b/c/k", body(b"v"), NONE)
    shutil.rmtree(root / "a")
    target.write(b"a/b/c/k", body(b"w"), NONE)
    assert (root / "a/b/c/k").read_bytes() == b"w"


def test_two_walks_at_once_both_see_everything(target: Storage) -> None:
    """Readers of one directory have positions of their own; with a shared one each would miss names, silently."""
    for number in range(2000):
        target.write(b"t/%04d" % number, body(b""), NONE)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: sum(1 for _ in target.entries()), range(12)))
    assert counts == [2000] * 12


def test_a_file_that_changed_this_instant_is_read_when_its_clock_tick_is_over(root: Path) -> None:
    with opened(root) as storage:
        for number in range(20):
            (root / "f").write_text(str(number))
            entry = storage.listed(b"f")
            assert entry is not None
            content = storage.read(entry)
            assert bytes(content.data) == str(number).encode()
            assert time.time() - (root / "f").stat().st_ctime >= 0.02, "a change right now could carry the same times"
