"""One bucket is one place, however its endpoint is spelled: else a target inside the source is not noticed."""

from __future__ import annotations

import itertools

from portabl_adapters.s3.address import parse_address

SAME = (
    (
        {},
        {"region": "eu-west-1"},
        {"endpoint": "https://s3.amazonaws.com"},
        {"endpoint": "http://s3.dualstack.eu-west-1.amazonaws.com", "addressing": "virtual"},
        {"endpoint": "https://s3-eu-west-1.amazonaws.com:443/"},
    ),
    ({"endpoint": "https://s3.cn-north-1.amazonaws.com.cn"}, {"endpoint": "http://s3.cn-north-1.amazonaws.com.cn"}),
    ({"endpoint": "http://localhost:9000"}, {"endpoint": "HTTP://127.0.0.1:9000/"}),
    ({"endpoint": "https://S3.example.org"}, {"endpoint": "http://s3.example.org:80"}),
    ({"endpoint": "https://s3.example.org:8443"},),
    ({"endpoint": "https://s3.example.org/tenant"},),
    ({"endpoint": "https://s3.example.org.amazonaws.com.evil.example"},),
)


def test_one_place_has_one_name() -> None:
    places = [{parse_address(settings, "bucket").place for settings in spellings} for spellings in SAME]
    assert all(len(names) == 1 for names in places), places
    assert not any(a & b for a, b in itertools.combinations(places, 2)), places


def test_buckets_are_places_of_their_own() -> None:
    assert parse_address({}, "one").place != parse_address({}, "two").place
