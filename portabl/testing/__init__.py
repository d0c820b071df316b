"""The contract suite: an adapter, ours or a stranger's, keeps the promises of `portabl.storage` when this passes.

Derive a test class and give it a fixture (pytest does the rest, and is imported nowhere in here)::

    from portabl.testing import MissingContainerContract, StorageContract

    class TestMyStore(StorageContract, MissingContainerContract):
        @pytest.fixture
        def storage(self):      # open, writable, empty, and new for every test
            ...
        @pytest.fixture
        def missing(self):      # opened on a container that does not exist
            ...

What a *server* is known to get wrong although the adapter is right is declared on the class: `changed_keys`,
`merged_keys`, `changed_metadata`. The suite asserts these sets exactly, so they cannot rot: a server that improves, or
gets worse, fails the test. An adapter whose `Capabilities.key_rules` is "exact" may not declare any key.

``pytest.register_assert_rewrite("portabl.testing")`` in conftest.py (before the import) makes failures easier to read.
"""

from __future__ import annotations

from portabl.errors import ContainerMissing
from portabl.storage import Storage
from portabl.testing.content import ContentContract
from portabl.testing.data import KEYS, METADATA, ORDER, TWINS
from portabl.testing.keys import KeyContract
from portabl.testing.listing import ListingContract
from portabl.testing.metadata import MetadataContract
from portabl.testing.tools import raises
from portabl.testing.uploads import UploadContract

__all__ = ["KEYS", "METADATA", "ORDER", "TWINS", "MissingContainerContract", "StorageContract"]


class StorageContract(ListingContract, KeyContract, ContentContract, MetadataContract, UploadContract):
    """Every promise of a writable storage, one test each."""


class MissingContainerContract:
    """A container that does not exist is an error, never an empty place."""

    def test_a_missing_container_is_not_an_empty_one(self, missing: Storage) -> None:
        """Checking says so before anything starts, listing when it does."""
        with raises(ContainerMissing):
            missing.check(write=False)
        with raises(ContainerMissing):
            list(missing.entries())
