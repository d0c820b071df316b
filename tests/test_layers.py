"""The plan of the house, enforced: who may import whom, who may print, and nothing of anybody's own machine."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "portabl").rglob("*.py"))
ADAPTERS = sorted((ROOT / "adapters").rglob("*.py"))

NOUNS = {"model", "slots", "errors", "storage", "keys", "checksum", "merkle", "budget", "tasks", "throttle"}
OPEN_TO_ADAPTERS = {"model", "errors", "storage", "keys", "checksum", "tasks", "throttle"}
CONDUCTORS = {
    "migrate",
    "migration",
    "package",
    "package_reading",
    "snapshots",
    "jobs",
    "cli",
    "__main__",
    "demo",
    "registry",
}
CONDUCTORS |= {"testing", "migration"}
HEAVY = {"boto3", "botocore", "s3fs", "fsspec", "moto", "keyring", "pycurl", "aiobotocore", "cryptography", "rfc8785"}
HEAVY |= {"awscrt", "apscheduler", "prometheus_client", "cronsim", "tomlkit", "zstandard", "pyrage"}


def name_of(path: Path) -> str:
    """Dotted module name: portabl.cli.app, portabl_adapters.s3.wire."""
    base = ROOT / "adapters" if path.is_relative_to(ROOT / "adapters") else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path) for path in (*CORE, *ADAPTERS)}


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, at the top or lazily, but not those for type checkers only."""
    found = set()
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else str(node.module) for one in inner}
    return found


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _running(child)


def part(module: str) -> str:
    """portabl.cli.app -> cli."""
    return module.split(".")[1] if "." in module else ""


def test_the_core_never_imports_an_adapter() -> None:
    for path in CORE:
        assert not {name for name in imported(path) if name.startswith("portabl_adapters")}, path


def test_adapters_import_the_contract_and_nothing_else_of_the_core() -> None:
    for path in ADAPTERS:
        used = {part(name) for name in imported(path) if name.split(".")[0] == "portabl"}
        assert used <= OPEN_TO_ADAPTERS, path


def test_an_adapter_imports_no_other_adapter() -> None:
    families = {path: part(name_of(path)).split("_")[0] for path in ADAPTERS}
    for path, family in families.items():
        used = {part(name).split("_")[0] for name in imported(path) if name.startswith("portabl_adapters.")}
        assert used <= {family}, path


def test_nouns_import_only_nouns() -> None:
    for path in CORE:
        if part(name_of(path)) in NOUNS:
            used = {part(name) for name in imported(path) if name.split(".")[0] == "portabl"}
            assert used <= NOUNS, path


def test_stages_do_not_know_who_conducts_them() -> None:
    for path in CORE:
        if part(name_of(path)) not in CONDUCTORS | {""}:
            used = {part(name) for name in imported(path) if name.split(".")[0] == "portabl"}
            assert not used & (CONDUCTORS - {"registry"}), path
            if part(name_of(path)) in {
                "listing",
                "plan",
                "transfer",
                "report",
                "large",
                "histories",
                "shards",
                "records",
                "manifest",
            }:
                assert "registry" not in used, path


def test_no_module_imports_itself_through_others() -> None:
    graph = {name_of(path): imported(path) & MODULES - {name_of(path)} for path in (*CORE, *ADAPTERS)}
    graph.pop("portabl", None)  # the flat public face imports from everywhere
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_only_the_command_line_imports_click_and_prints() -> None:
    for path in (*CORE, *ADAPTERS):
        if part(name_of(path)) == "cli":
            continue
        assert not {name for name in imported(path) if name.split(".")[0] == "click"}, path
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path
        assert not [call for call in calls if isinstance(call, ast.Attribute) and call.attr in ("echo", "secho")], path


@pytest.mark.parametrize("module", ["portabl", "portabl.cli", "portabl.migrate", "portabl.registry"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


SELDOM = {"concurrent.futures", "email", "filelock", "importlib.metadata", "logging", "tempfile"}
SELDOM |= {
    f"portabl.{name}" for name in ("catalogue", "fleet", "histories", "preflight", "ranges", "verification", "worker")
}


def test_a_migration_loads_what_only_some_need_when_they_need_it() -> None:
    """What is loaded before the first object is a good part of the CPU that a run of few objects takes."""
    program = "import sys; before = {*sys.modules}; import portabl.cli.app, portabl.cli.migrate, portabl.migrate; "
    program += "print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "portabl.migrate" in loaded
    assert not SELDOM & loaded


def test_nothing_names_a_place_on_somebodys_machine() -> None:
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    tracked = [ROOT / name for name in told.stdout.split("\0") if name]
    files = tracked or [*CORE, *ADAPTERS, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    personal = re.compile("(?<![\\w.])/(?:" + "wo" + "rk|ro" + "ot|fa" + "rm)/")
    found = {}
    for path in files:
        if path.exists() and (hit := personal.search(path.read_bytes().decode("utf-8", "replace"))):
            found[str(path)] = hit[0]
    assert found == {}
