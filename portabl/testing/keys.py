"""Promises about keys: exactly this name, or a refusal."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from portabl.errors import Refused, StorageError
from portabl.storage import Storage
from portabl.testing.data import KEYS, TWINS
from portabl.testing.tools import Declarations, get, noise, put


class KeyContract(Declarations):
    """No key becomes another, and no object destroys another."""

    def test_a_key_comes_back_exactly_or_is_refused(self, storage: Storage) -> None:
        """Never another name: neither in the listing, nor for reading, nor for deleting."""
        assert storage.capabilities.key_rules in ("exact", "store")
        wrong = {key: why for key in KEYS if (why := self._trouble_with(storage, key))}
        assert set(wrong) == set(self.changed_keys), wrong
        assert storage.capabilities.key_rules == "store" or not wrong

    def _trouble_with(self, storage: Storage, key: bytes) -> str:
        before, data = self.held(storage), noise(33, len(key))
        try:
            put(storage, key, data)
        except Refused as error:
            if error.key != key:
                return f"refused under the name {error.key!r}"
            return "refused, yet something was stored" if self.held(storage) != before else ""
        except StorageError as error:
            return f"neither stored nor refused: {error}"
        new = self.held(storage) - before
        try:
            return self._trouble_with_stored(storage, key, data, before, new)
        finally:
            for name in new | {key}:
                with contextlib.suppress(StorageError):  # what a server renamed cannot always be removed again
                    storage.delete(name)

    def _trouble_with_stored(
        self, storage: Storage, key: bytes, data: bytes, before: set[bytes], new: set[bytes]
    ) -> str:
        if new != {key}:
            return f"listed as {sorted(new)}"
        try:
            if get(storage, key) != data or storage.stat(key).size != len(data):
                return "reads as something else"
            storage.delete(key)
        except (StorageError, KeyError) as error:
            return f"listed but not readable: {error}"
        return "" if self.held(storage) == before else "not deleted"

    def test_no_object_destroys_another(self, storage: Storage) -> None:
        """Names that look alike stay apart, or the later one is refused."""
        wrong = {twins: why for twins in TWINS if (why := self._merging(storage, twins))}
        assert set(wrong) == set(self.merged_keys), wrong
        assert storage.capabilities.key_rules == "store" or not wrong

    def _merging(self, storage: Storage, twins: Sequence[bytes]) -> str:
        for order in (list(twins), list(reversed(twins))):
            before = self.contents(storage)  # what a server does not let us delete again stays between the rounds
            held = dict(before)
            broken = [key for key in order if not self._hold(storage, key, held)]
            found = self.contents(storage)
            for key in (found.keys() | held.keys()) - before.keys():
                with contextlib.suppress(StorageError):
                    storage.delete(key)
            if broken or found != held:
                return f"in the order {order}: neither stored nor refused {broken}, found {found}"
        return ""

    def _hold(self, storage: Storage, key: bytes, held: dict[bytes, bytes]) -> bool:
        """Write, and note it in ``held`` unless refused; False when it is neither stored nor refused."""
        try:
            put(storage, key, b"content of " + key)
        except Refused:
            return True
        except StorageError:
            return False
        held[key] = b"content of " + key
        return True
