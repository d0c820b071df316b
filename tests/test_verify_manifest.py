"""The stand-alone verifier: alone, on an old Python, in step with portabl where it must be."""

from __future__ import annotations

import ast
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_samples import SAMPLE, record, records, written

from portabl import verify_manifest
from portabl.errors import ManifestError
from portabl.files import Files
from portabl.manifest import FORMAT, LOSS_KINDS_MAX
from portabl.model import HEADERS, Loss, Record
from portabl.records import LINE_BYTES_MAX, decode, encode, leaf, target_leaf
from portabl.views import sha256sums
from portabl_adapters import local_names

SCRIPT = verify_manifest.__file__
KEYS = [
    b"",
    b"a//b",
    b"a",
    b"a/b",
    b"a/../c",
    b"dir/",
    b"%~=x",
    b"%~=",
    b"\xff\xfe",
    b"new\nline",
    b"n" * 600,
    b"nul\0",
    b"Z",
]


def pythons() -> list[str]:
    """This Python, and the oldest that is promised wherever there is one."""
    found = [shutil.which("python3.9"), *glob.glob(os.path.expanduser("~/.pyenv/versions/3.9*/bin/python3.9"))]
    return [sys.executable, *[path for path in found if path][-1:]]


def run(tmp_path: Path, *arguments: object, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "alone" / "verify_manifest.py"
    script.parent.mkdir(exist_ok=True)
    shutil.copy(SCRIPT, script)
    command = [python, "-I", str(script), *map(str, arguments)]
    return subprocess.run(command, cwd="/", check=False, capture_output=True, text=True, env={})


def stored(directory: Path, keys: list[bytes]) -> list[Record]:
    """Files as portabl names them, and their records."""
    some = []
    for key in sorted(set(keys)):
        for names in (local_names.encode(key), tuple(alternatives(key))):
            path = os.path.join(os.fsencode(directory), *names)
            if not os.path.isdir(path):
                break
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"of " + key)
        some.append(record(key, b"of " + key))
    return some


def alternatives(key: bytes) -> list[bytes]:
    *parents, base = key.split(b"/")
    return [name for part in parents for name in local_names.natural(part)] + list(local_names.alternative(base))


def directory_of(tmp_path: Path, keys: list[bytes]) -> list[Record]:
    # "a" is a file before "a/b" asks for a directory of that name, so portabl gives the directory its second name.
    data = tmp_path / "data"
    data.mkdir()
    some = stored(data, [key for key in keys if key != b"a"])
    if b"a" in keys:
        some.extend(stored(data, [b"a"]))
    written(Files.at(str(tmp_path / "m")), some)
    return some


def test_it_imports_only_the_standard_library() -> None:
    tree = ast.parse(Path(SCRIPT).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("python", pythons())
def test_a_good_manifest_and_directory_are_proven(tmp_path: Path, python: str) -> None:
    some = directory_of(tmp_path, KEYS)
    sums = tmp_path / "SHA256SUMS"
    done = run(tmp_path, tmp_path / "m", "--directory", tmp_path / "data", python=python)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"objects      {len(some)}, ")
    assert done.stdout.endswith("proven\n")
    plain = [one for one in some if re.fullmatch(rb"\w+", one.key)]
    written(Files.at(str(tmp_path / "plain")), plain)
    with sums.open("wb") as out:
        assert not sha256sums(sorted(plain, key=lambda one: one.key), out).left_out
    assert run(tmp_path, tmp_path / "plain", "--sha256sums", sums, python=python).returncode == 0


@pytest.mark.parametrize("python", pythons())
def test_each_difference_is_named(tmp_path: Path, python: str) -> None:
    directory_of(tmp_path, [b"gone", b"longer", b"other\nbytes", b"good", b"linked", b"pipe"])
    data = tmp_path / "data"
    (data / "gone").unlink()
    (data / "longer").write_bytes(b"of longer!")
    (data / "other\nbytes").write_bytes(b"OF other\nbytes")
    (data / "linked").unlink()
    (data / "linked").symlink_to("good")
    (data / "pipe").unlink()
    os.mkfifo(data / "pipe")
    done = run(tmp_path, tmp_path / "m", "--directory", data, python=python)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == 'differs: "gone": missing'
    assert lines[1].startswith('differs: "linked": cannot be read')
    assert lines[2] == 'differs: "longer": size differs: manifest 9, file 10'
    assert lines[3].startswith('differs: "other\\u{a}bytes": SHA-256 differs')
    assert lines[4] == 'differs: "pipe": not a regular file'
    assert lines[-1] == "NOT proven: 5 differences"


def test_versions_and_delete_markers_against_a_directory(tmp_path: Path) -> None:
    some = stored(tmp_path, [b"deleted", b"k"])
    marker = Record(b"deleted", 0, None, ordinal=1, delete_marker=True, target=some[0].target)
    old = record(b"k", b"old")
    new = replace(some[1], ordinal=1)
    written(Files.at(str(tmp_path / "m")), [some[0], marker, old, new])
    told: list[str] = []
    assert verify_manifest.verify(str(tmp_path / "m"), str(tmp_path), None, told.append)[1] == 3
    assert told[0] == '"deleted": version 0 is an older one, no directory can hold it'
    assert told[1] == '"deleted": deleted at the source, but there is a file'
    assert told[2].startswith('"k": version 0')


@pytest.mark.parametrize(
    "change",
    [lambda text: text[:-1], lambda text: text + b"x", lambda text: text.replace(b"  b", b" *b"), lambda text: b""],
)
def test_a_list_that_differs_is_told(tmp_path: Path, change: object) -> None:
    some = [record(b"a"), record(b"b"), record(b"new\nline")]
    written(Files.at(str(tmp_path / "m")), some)
    with (tmp_path / "sums").open("wb") as out:
        sha256sums(some, out)
    assert run(tmp_path, tmp_path / "m", "--sha256sums", tmp_path / "sums").returncode == 0
    (tmp_path / "sums").write_bytes(change((tmp_path / "sums").read_bytes()))  # type: ignore[operator]
    assert run(tmp_path, tmp_path / "m", "--sha256sums", tmp_path / "sums").returncode == 1


def test_losses_and_unfinished_runs_are_differences(tmp_path: Path) -> None:
    lost = record(b"k", losses=(Loss("expires", "dropped"), Loss("object", "refused")))
    written(Files.at(str(tmp_path / "lost")), [lost], complete=True)
    done = run(tmp_path, tmp_path / "lost")
    assert done.returncode == 1
    assert "0 of 1 arrived, 2 losses" in done.stdout
    written(Files.at(str(tmp_path / "cut")), [record(b"k")], complete=False)
    assert run(tmp_path, tmp_path / "cut").returncode == 1


def test_unusable_is_2(tmp_path: Path) -> None:
    written(Files.at(str(tmp_path / "m")), SAMPLE)
    for arguments in (
        [tmp_path / "none"],
        [tmp_path / "m", "--directory", tmp_path / "none"],
        [tmp_path / "m", "--sha256sums", tmp_path / "none"],
        [tmp_path / "m", "--sha256sums", tmp_path],
        [],
        ["--wrong"],
    ):
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
    (tmp_path / "m" / "segments/000000.jsonl.gz").unlink()
    assert run(tmp_path, tmp_path / "m").returncode == 2


@given(records())
def test_both_codecs_agree_on_every_record(one: Record) -> None:
    line = encode(one)
    theirs = verify_manifest.Record(line)
    assert (theirs.key, theirs.ordinal, theirs.size, theirs.sha256) == (one.key, one.ordinal, one.size, one.sha256)
    assert theirs.leaf == leaf(one)
    if theirs.target_leaf is not None:
        assert theirs.target_leaf == target_leaf(one)


def accepted(read: object, error: type[Exception], line: bytes) -> bool:
    try:
        read(line)  # type: ignore[operator]
    except error:
        return False
    return True


TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"1",
    b"null",
    b"true",
    b'"a"',
    b'{"base64":"/w=="}',
    b"\\u00e9",
    b"",
]


@settings(max_examples=400)
@given(records(), st.data())
def test_both_codecs_refuse_the_same_lines(one: Record, data: st.DataObject) -> None:
    line = encode(one)
    at = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(at, min(len(line), at + 8)))
    changed = line[:at] + data.draw(st.sampled_from(TOKENS)) + line[end:]
    ours = accepted(decode, ManifestError, changed)
    assert accepted(verify_manifest.Record, verify_manifest.ManifestError, changed) == ours


@pytest.mark.parametrize(
    "path", ["losses", "object", "source", "target", "object.headers", "object.user", "object.size"]
)
@pytest.mark.parametrize(
    "value", [None, True, 0, 1.5, "", "x", [], {}, [[]], [["a", "b"]], {"a": 1}, {"base64": "YQ=="}]
)
def test_both_codecs_refuse_the_same_shapes(path: str, value: object) -> None:
    whole = json.loads(encode(replace(SAMPLE[1], losses=(Loss("a", "b"),))))
    *parents, last = path.split(".")
    (whole[parents[0]] if parents else whole)[last] = value
    line = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ours = accepted(decode, ManifestError, line)
    assert accepted(verify_manifest.Record, verify_manifest.ManifestError, line) == ours


SEGMENTS = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"",
            b".",
            b"..",
            b"a",
            b"A",
            b"%~",
            b"%~=",
            b"%~!x",
            b"%~=%25",
            b"%~tmp-0123456789abcdef",
            b"%~+" + b"x" * 250,
        ]
    ),
    st.binary(min_size=240, max_size=270),
    st.builds(lambda kind, rest: b"%~" + kind + rest, st.sampled_from([b"=", b"!", b"+", b"t"]), st.binary(max_size=4)),
    st.builds(lambda n, unit: unit * n, st.integers(60, 300), st.sampled_from([b"n", b"%", b"\0", b"\xff", b"A%"])),
)


@settings(max_examples=500)
@given(st.lists(SEGMENTS, min_size=1, max_size=4).map(b"/".join), st.booleans())
def test_file_names_are_those_of_the_adapter(key: bytes, fold: bool) -> None:
    assert verify_manifest.encode(key, fold) == local_names.encode(key, fold)
    for segment in key.split(b"/"):
        assert verify_manifest.spelled(segment, b"!", fold) == local_names.alternative(segment, fold)


def test_the_worked_example_of_the_documentation(tmp_path: Path) -> None:
    """docs/manifest.md by itself: a manifest made from the page's own lines and document is proven, hash by hash."""
    page = (Path(SCRIPT).parent.parent / "docs" / "manifest.md").read_text(encoding="utf-8")
    example = page[page.index("## A worked example") :]
    lines, part, document = (block.encode() for block in re.findall(r"```[a-z]*\n(.*?\n)```", example, re.DOTALL))
    assert json.loads(lines.splitlines()[0])["object"] == json.loads(part)
    some = [decode(line) for line in lines.splitlines()]
    written(Files.at(str(tmp_path)), some, complete=True, scope="example")
    assert (tmp_path / "manifest.json").read_bytes() == document
    theirs = [verify_manifest.Record(line) for line in lines.splitlines()]
    rows = re.findall(r"^\| \d \| `(\w+)` \| (?:`(\w+)`|none) \|$", example, re.MULTILINE)
    assert rows == [(one.leaf.hex(), one.target_leaf.hex() if one.target_leaf else "") for one in theirs]
    assert hashlib.sha256(b"\0" + part[:-1]).hexdigest() == rows[0][0]
    values = re.findall(r"^\| .*SHA-256\(0x01.*\| `(\w{64})` \|$", example, re.MULTILINE)
    inner = hashlib.sha256(b"\1" + theirs[0].leaf + theirs[1].leaf).digest()
    checked = json.loads(document)
    assert values == [inner.hex(), checked["root"], checked["target_root"]]
    assert hashlib.sha256(b"\1" + inner + theirs[2].leaf).hexdigest() == checked["root"]
    bare = re.search(r"target leaf is that of `(.*)`\.", example)
    assert bare is not None
    assert hashlib.sha256(b"\0" + bare[1].encode()).hexdigest() == rows[1][1]


def test_the_documentation_names_every_header_and_limit() -> None:
    page = (Path(SCRIPT).parent.parent / "docs" / "manifest.md").read_text(encoding="utf-8")
    for header in HEADERS:
        assert f"`{header}`" in page
    assert tuple(name.decode() for name in verify_manifest.CONTENT_HEADERS) == HEADERS
    assert f"at most {LINE_BYTES_MAX:,} bytes" in page
    assert verify_manifest.LINE_MAX == LINE_BYTES_MAX
    assert f"there are {LOSS_KINDS_MAX:,} names" in page
    assert verify_manifest.KINDS_MAX == LOSS_KINDS_MAX
    assert f"`{FORMAT}`" in page
    assert verify_manifest.FORMAT == FORMAT
