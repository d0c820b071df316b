"""Merkle tree hash of RFC 6962, section 2.1, over a stream of leaves."""

from __future__ import annotations

import hashlib


class Tree:
    """Takes leaf hashes in order; memory is one hash for each bit of their number.

    The stack holds the roots of the perfect subtrees that the leaves so far fall into, largest first: one for each
    1 in the binary form of ``size``. Splitting at the largest power of two below n, as the RFC does, is folding that
    stack from the right.
    """

    __slots__ = ("_stack", "size")

    def __init__(self) -> None:
        self.size = 0
        self._stack: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append one leaf: the 32 bytes of its RFC 6962 leaf hash (0x00 already hashed in)."""
        if len(leaf) != 32:
            raise ValueError(f"a leaf hash has 32 bytes, not {len(leaf)}")
        carry = self.size
        while carry & 1:
            leaf = hashlib.sha256(b"\1" + self._stack.pop() + leaf).digest()
            carry >>= 1
        self._stack.append(leaf)
        self.size += 1

    def copy(self) -> Tree:
        """Another tree with the same leaves so far."""
        other = Tree()
        other.size, other._stack = self.size, self._stack.copy()
        return other

    def root(self) -> bytes:
        """Hash of the tree so far, 32 bytes; SHA-256 of nothing when there is no leaf."""
        if not self._stack:
            return hashlib.sha256(b"").digest()
        root = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            root = hashlib.sha256(b"\1" + left + root).digest()
        return root
