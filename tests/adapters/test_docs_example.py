"""The example in docs/adapters.md is a complete adapter: the contract suite runs over its text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from portabl.storage import Opening, Storage
from portabl.testing import MissingContainerContract, StorageContract

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"


def example() -> dict[str, Any]:
    (source,) = re.findall(
        r"^```python example\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    found: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), found)
    return found


def opened(path: Path) -> Storage:
    storage = example()["open_storage"](Opening("example", str(path), b"", {}, lambda _: None))
    assert isinstance(storage, Storage)
    return storage


class TestExample(StorageContract, MissingContainerContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        storage = opened(tmp_path / "objects.sqlite")
        storage.check(write=True)
        return storage

    @pytest.fixture
    def missing(self, tmp_path: Path) -> Storage:
        return opened(tmp_path / "none.sqlite")
