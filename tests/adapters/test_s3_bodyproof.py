"""Which digest of a part each server checks: asked of real servers, and nothing left behind by asking."""

from __future__ import annotations

import pytest
from kit.s3_opened import opened
from kit.servers import S3Server

from portabl import checksum
from portabl_adapters.s3.bodyproof import Checked


@pytest.mark.parametrize(
    ("server", "expected"),
    [("moto", Checked.MD5), ("seaweed", Checked.CHECKSUM), ("rgw", Checked.SIGNED)],
)
def test_what_a_server_checks(
    server: str, expected: Checked, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto checks nothing, SeaweedFS the checksum header, Ceph the signed hash; the asking leaves nothing behind."""
    monkeypatch.setattr(checksum, "has_crc64", lambda: False)
    chosen: S3Server = request.getfixturevalue(server)
    bucket = chosen.bucket()
    with opened(chosen, bucket) as storage:
        assert storage.body_proof.known is Checked.MD5
        assert storage.body_proof.learn(b"some/key") is expected
        assert list(storage.entries()) == []
    assert not chosen.client().list_multipart_uploads(Bucket=bucket).get("Uploads")
