"""Which digest of a part each server checks: asked of real servers, and nothing left behind by asking."""

from __future__ import annotations

import pytest
from kit.s3_opened import body, opened
from kit.servers import S3Server

from portabl import checksum
from portabl.errors import Corrupt
from portabl.model import Body, Metadata
from portabl_adapters.s3.address import Address, parse_address
from portabl_adapters.s3.bodies import Rooms
from portabl_adapters.s3.bodyproof import Checked


@pytest.mark.parametrize(
    ("server", "expected"),
    [("moto", Checked.MD5), ("seaweed", Checked.CHECKSUM), ("rgw", Checked.SIGNED)],
)
def test_what_a_server_checks(
    server: str, expected: Checked, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto checks nothing, SeaweedFS the checksum header, Ceph the signed hash; the asking leaves nothing behind."""
    monkeypatch.setattr(Address, "guarded", property(lambda _: False))  # a CRC is not enough
    chosen: S3Server = request.getfixturevalue(server)
    bucket = chosen.bucket()
    with opened(chosen, bucket) as storage:
        assert storage.body_proof.known is Checked.MD5
        assert storage.body_proof.learn(b"some/key") is expected
        assert list(storage.entries()) == []
    assert not chosen.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def crc64(data: bytes | memoryview) -> str:
    """CRC-64/NVME by its definition: reflected polynomial, all ones before and after."""
    value = 2**64 - 1
    for byte in bytes(data):
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
    return f"{value ^ (2**64 - 1):016x}"


def test_the_crc_is_the_one_that_is_meant() -> None:
    assert crc64(b"123456789") == "ae8b14860a799888"  # the check value of the catalogue of CRCs
    assert checksum.crc64nvme(memoryview(b"123456789")) == crc64(b"123456789")


@pytest.mark.parametrize(("server", "expected"), [("seaweed", Checked.CRC64), ("moto", Checked.MD5)])
def test_parts_under_a_crc_where_it_is_checked(server: str, expected: Checked, request: pytest.FixtureRequest) -> None:
    """SeaweedFS holds it against the body; moto takes anything, and is not believed."""
    chosen: S3Server = request.getfixturevalue(server)
    data = bytes(range(256)) * 8
    with opened(chosen, chosen.bucket()) as storage:
        upload = storage.upload(b"k", len(data), Metadata(), 5 * 2**20)
        assert storage.body_proof.known is expected
        assert upload.wants_crc64 is (expected is Checked.CRC64)
        if upload.wants_crc64:
            with pytest.raises(Corrupt, match="arrives damaged"):
                upload.part(1, Body(data, "", crc64=crc64(b"something else")), 0)
            tag = upload.part(1, Body(data, "", crc64=crc64(data)), 0)
        else:
            tag = upload.part(1, body(data), 0)
        assert upload.finish([tag], body(data).sha256).etag
        assert bytes(storage.read(next(iter(storage.entries()))).data) == data


@pytest.mark.parametrize(
    ("settings", "guarded"),
    [
        ({"endpoint": "https://s3.example.com"}, True),
        ({"endpoint": "https://s3.example.com", "insecure": True}, False),
        ({"endpoint": "http://s3.example.com"}, False),
        ({"endpoint": "http://127.0.0.1:9000"}, True),
        ({"endpoint": "http://localhost:9000"}, True),
        ({"endpoint": "http://127.0.0.1.example.com"}, False),
        ({"endpoint": "http://[::1]:9000"}, True),
    ],
)
def test_where_a_crc_is_enough(settings: dict[str, object], guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CRC is no protection from somebody who changes bodies on purpose."""
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert parse_address(settings, "bucket").guarded is guarded
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    assert parse_address(settings, "bucket").guarded is (guarded and str(settings["endpoint"]).startswith("https"))


def test_memory_is_used_again_only_when_nobody_looks_into_it() -> None:
    size = 2**20
    rooms = Rooms(2 * size)
    first = rooms.take(size)
    memory = first.memory
    memory.seek(0)
    memory.write(b"kept")
    assert rooms.take(size).memory is not memory, "it is lent"
    part = memory.getbuffer()[2:4]
    del first
    assert rooms.take(size).memory is not memory, "a slice of it is in use"
    assert bytes(part) == b"pt"
    del part
    assert rooms.take(size - 1).memory is memory
    assert rooms.take(size // 4).memory is not memory, "much smaller bodies do not take large memory"


def test_no_more_memory_is_kept_than_allowed() -> None:
    rooms = Rooms(4 * 2**20)
    lent = [rooms.take(2**20) for _ in range(8)]
    assert len({id(room.memory) for room in lent}) == 8
    assert rooms.kept == 4 * 2**20
    del lent
    other = rooms.take(3 * 2**20)  # those that are free give way
    assert rooms.kept == len(other.memory.getbuffer()) == 3 * 2**20
