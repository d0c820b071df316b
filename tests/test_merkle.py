"""The streaming tree against the recursive definition of RFC 6962, section 2.1."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl.merkle import Tree

LEAVES = [hashlib.sha256(b"\0" + bytes([n])).digest() for n in range(200)]


def naive(leaves: list[bytes]) -> bytes:
    """MTH as the RFC writes it, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def streamed(leaves: list[bytes]) -> Tree:
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree


def test_every_size_up_to_200_and_the_root_may_be_asked_at_any_time() -> None:
    tree = Tree()
    for size in range(201):
        assert tree.root() == naive(LEAVES[:size])
        assert tree.size == size
        if size < 200:
            tree.add(LEAVES[size])


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40))
def test_any_leaves(leaves: list[bytes]) -> None:
    assert streamed(leaves).root() == naive(leaves)


def test_known_roots_of_certificate_transparency() -> None:
    """Test vectors of the reference implementation (google/certificate-transparency, merkle tree tests)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [hashlib.sha256(b"\0" + bytes.fromhex(text)).digest() for text in inputs]
    assert streamed([]).root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert streamed(leaves[:1]).root().hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert streamed(leaves).root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_memory_is_logarithmic() -> None:
    tree = streamed(LEAVES[:1] * 100_000)
    assert len(tree._stack) == (100_000).bit_count()


def test_a_leaf_is_a_hash() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tree().add(b"short")


@pytest.mark.parametrize("size", range(10))
def test_a_copy_grows_by_itself(size: int) -> None:
    tree = streamed(LEAVES[:size])
    other = tree.copy()
    for leaf in LEAVES[100:103]:
        other.add(leaf)
    tree.add(LEAVES[size])
    assert (tree.size, tree.root()) == (size + 1, naive(LEAVES[: size + 1]))
    assert (other.size, other.root()) == (size + 3, naive([*LEAVES[:size], *LEAVES[100:103]]))
