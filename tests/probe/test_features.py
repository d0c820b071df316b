"""What is measured and what is asked for are the same things."""

from __future__ import annotations

import pytest

from portabl.features import BESIDE, CHARACTERS, FIELDS, FOLDER, KEYS, PAIRS, field_features, key_features
from portabl.model import Metadata


@pytest.mark.parametrize("feature", KEYS)
def test_every_sample_key_has_the_feature_it_is_a_sample_of(feature: str) -> None:
    for key in KEYS[feature]:
        assert feature in key_features(key, 0 if feature == FOLDER else len(key)), key


@pytest.mark.parametrize("feature", FIELDS)
def test_every_sample_field_has_the_feature_it_is_a_sample_of(feature: str) -> None:
    assert feature in {fact for _, fact in field_features(FIELDS[feature])}


def test_every_feature_of_a_key_is_measured() -> None:
    odd = bytes(range(1, 128)) + "é e\u0301 ﬁ 😀 \u202e \u2028 \uffff \x85 &amp; ?a=b //./ . A".encode()
    found = {*key_features(odd, 1), *key_features(odd + b"/", 1), *key_features(b"d/", 0), *key_features(b"\xff", 1)}
    assert found <= {*KEYS}
    assert {*CHARACTERS} <= found


def test_a_plain_object_asks_for_nothing() -> None:
    assert key_features(b"data/2026/01/part-0000.parquet", 5) == []
    assert list(field_features(Metadata())) == []
    assert list(field_features(Metadata(storage_class="STANDARD"))) == []


def test_an_expires_that_is_no_date_is_asked_for_as_such() -> None:
    assert list(field_features(Metadata({"expires": "0"}))) == [("expires", "header: expires that is no date")]


def test_pairs_are_two_keys_and_one_of_them_a_folder_beside_its_object() -> None:
    assert all(first != second for first, second in PAIRS.values())
    assert PAIRS[BESIDE][1] == PAIRS[BESIDE][0] + b"/"
