"""The fault proxy: transparent when idle (signatures hold), and every fault is what it says."""

from __future__ import annotations

import base64
import hashlib
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from kit.distance import Distance
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server

BODY = bytes(range(256)) * 4096  # 1 MiB
PART = 5 * 2**20


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
def s3(moto: S3Server, proxy: FaultProxy) -> Iterator[Any]:
    """A client that tries once."""
    client = moto._connect(proxy.endpoint, attempts=1)
    yield client
    client.close()


@pytest.mark.parametrize("name", ["moto", "seaweed", "rgw", "swift"])
def test_every_kind_of_request_passes_unchanged_and_is_counted(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    bucket = server.bucket()
    with FaultProxy(server.endpoint) as proxy:
        s3 = server.client(proxy.endpoint)
        s3.put_object(Bucket=bucket, Key="sp ace/é+%2F?#", Body=BODY, Metadata={"a": "b"})
        assert s3.get_object(Bucket=bucket, Key="sp ace/é+%2F?#")["Body"].read() == BODY
        assert s3.head_object(Bucket=bucket, Key="sp ace/é+%2F?#")["ContentLength"] == len(BODY)
        begun = s3.create_multipart_upload(Bucket=bucket, Key="big")
        which = {"Bucket": bucket, "Key": "big", "UploadId": begun["UploadId"]}
        tags = [s3.upload_part(**which, PartNumber=n, Body=b"p" * PART)["ETag"] for n in (1, 2)]
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        s3.complete_multipart_upload(**which, MultipartUpload={"Parts": parts})
        assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 2
        s3.delete_object(Bucket=bucket, Key="big")
        s3.close()
    expected = dict.fromkeys(["put", "get", "head", "create", "complete", "list", "delete"], 1) | {"part": 2}
    assert proxy.counts == expected


def test_a_wrong_signature_is_still_refused_behind_the_proxy(seaweed: S3Server) -> None:
    bucket = seaweed.bucket()
    with FaultProxy(seaweed.endpoint) as proxy:
        wrong = S3Server("wrong", proxy.endpoint, seaweed.access_key, "not the secret")
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            wrong.client().put_object(Bucket=bucket, Key="k", Body=b"v")
        wrong.stop()


def test_status_is_answered_instead_of_asking_the_server(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    fault = proxy.add(Fault("status", kind="put", status=503, skip=1, times=2))
    outcomes = []
    for n in range(4):
        try:
            s3.put_object(Bucket=bucket, Key=f"k{n}", Body=BODY)
            outcomes.append("stored")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])
    assert outcomes == ["stored", "SlowDown", "SlowDown", "stored"]
    assert (fault.fired, moto.keys(bucket)) == (2, ["k0", "k3"])


def test_a_share_of_requests_fails_the_same_way_in_every_run(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    fault = proxy.add(Fault("status", kind="head", status=500, share=0.3))
    for n in range(60):
        with pytest.raises(ClientError):
            s3.head_object(Bucket=bucket, Key=f"{n}")
    assert 10 <= fault.fired <= 26


def test_a_status_after_the_commit(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    proxy.add(Fault("status", kind="put", status=500, committed=True))
    with pytest.raises(ClientError, match="InternalError"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert moto.keys(bucket) == ["k"]


@pytest.mark.parametrize("gently", [False, True])
def test_an_answer_lost_after_the_commit(gently: bool, moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    proxy.add(Fault("lose", kind="put", gently=gently))
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert moto.keys(bucket) == ["k"]


@pytest.mark.parametrize("gently", [False, True])
def test_a_cut_download_ends_where_it_was_told(gently: bool, moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    proxy.add(Fault("cut", kind="get", after=100_000, gently=gently))
    received = b""
    with pytest.raises(BotoCoreError):  # noqa: PT012 - the error comes in the middle of the loop
        for piece in s3.get_object(Bucket=bucket, Key="k")["Body"].iter_chunks(1000):
            received += piece
    assert BODY.startswith(received)
    assert len(received) <= 100_000


def test_a_cut_upload_leaves_no_object(seaweed: S3Server) -> None:
    bucket = seaweed.bucket()
    with FaultProxy(seaweed.endpoint) as proxy:
        client = seaweed._connect(proxy.endpoint, attempts=1)
        fault = proxy.add(Fault("cut", kind="put", after=100_000, up=True))
        with pytest.raises(HTTPClientError):
            client.put_object(Bucket=bucket, Key="k", Body=BODY)
        client.close()
    assert (fault.fired, seaweed.keys(bucket)) == (1, [])


def test_flipped_bits_down_and_up(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    proxy.add(Fault("flip", kind="get", after=300_000))
    got = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert [n for n in range(len(BODY)) if got[n] != BODY[n]] == [300_000]
    proxy.clear()
    proxy.add(Fault("flip", kind="put", after=5, up=True))
    s3.put_object(Bucket=bucket, Key="up", Body=b"0123456789")  # moto does not look at the checksum
    proxy.clear()
    assert s3.get_object(Bucket=bucket, Key="up")["Body"].read() == b"01234\x346789"


PROVES = {  # which hash sent with a PUT makes a server refuse a body that was damaged on the way
    ("moto", "signed sha256"): False,
    ("moto", "Content-MD5"): False,
    ("moto", "x-amz-checksum-sha256"): False,
    ("seaweed", "signed sha256"): False,  # signs for a hash that it never compares with the body
    ("seaweed", "Content-MD5"): True,
    ("seaweed", "x-amz-checksum-sha256"): True,
    ("rgw", "signed sha256"): True,
    ("swift", "signed sha256"): True,
}


@pytest.mark.parametrize(("name", "proof"), PROVES)
def test_which_hash_makes_which_server_refuse_a_damaged_body(
    name: str, proof: str, request: pytest.FixtureRequest
) -> None:
    server, body = request.getfixturevalue(name), b"0123456789"
    bucket = server.bucket()
    sent = {
        "signed sha256": {},
        "Content-MD5": {"ContentMD5": base64.b64encode(hashlib.md5(body).digest()).decode()},
        "x-amz-checksum-sha256": {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()},
    }
    with FaultProxy(server.endpoint) as proxy:
        client = server._connect(proxy.endpoint, attempts=1)
        proxy.add(Fault("flip", kind="put", after=5, up=True))
        refused = ""
        try:
            client.put_object(Bucket=bucket, Key="k", Body=body, **sent[proof])
        except ClientError as error:
            refused = error.response["Error"]["Code"]
        client.close()
    assert proxy.requests[-1].headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert (refused in ("BadDigest", "XAmzContentSHA256Mismatch")) is PROVES[name, proof]
    assert server.keys(bucket) == ([] if PROVES[name, proof] else ["k"])


def test_a_completion_that_fails_with_status_200(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    begun = s3.create_multipart_upload(Bucket=bucket, Key="big")
    which = {"Bucket": bucket, "Key": "big", "UploadId": begun["UploadId"]}
    tag = s3.upload_part(**which, PartNumber=1, Body=b"p")["ETag"]
    proxy.add(Fault("status", kind="complete", status=200, times=1))
    with pytest.raises(ClientError, match="InternalError"):
        s3.complete_multipart_upload(**which, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    assert moto.keys(bucket) == []


def test_a_stalled_answer_runs_into_the_clients_own_limit(moto: S3Server, proxy: FaultProxy) -> None:
    import boto3
    from botocore.config import Config

    limits = Config(read_timeout=0.5, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    access = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    client = boto3.session.Session().client("s3", endpoint_url=proxy.endpoint, config=limits, **access)
    proxy.add(Fault("stall", kind="list"))
    with pytest.raises(HTTPClientError, match="timeout"):
        client.list_objects_v2(Bucket=moto.bucket())
    client.close()


def test_rewritten_listing(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    s3.put_object(Bucket=bucket, Key="there", Body=b"")
    proxy.add(Fault("rewrite", kind="list", rewrite=lambda body: body.replace(b"there", b"somewhere else")))
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["somewhere else"]


def test_down_refuses_and_up_serves_again(moto: S3Server, proxy: FaultProxy, s3: Any) -> None:
    bucket = moto.bucket()
    proxy.down()
    with pytest.raises(EndpointConnectionError):
        s3.list_objects_v2(Bucket=bucket)
    proxy.up()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("rate", [0.0, 4.0 * 2**20])
def test_far_away_everything_arrives_later_and_as_it_was(rate: float, moto: S3Server) -> None:
    bucket = moto.bucket()
    with Distance(moto.endpoint, seconds=0.05, rate=rate) as far:
        client = moto._connect(far.endpoint, attempts=1)
        began = time.monotonic()
        client.put_object(Bucket=bucket, Key="k", Body=BODY)
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
        client.head_object(Bucket=bucket, Key="k")
        took = time.monotonic() - began
        client.close()
    assert took >= 3 * 0.05 + (2 * len(BODY) / rate if rate else 0)


def test_far_away_a_server_that_is_not_there_ends_the_connection() -> None:
    with Distance("http://127.0.0.1:9", seconds=0.01) as far, pytest.raises(OSError, match=r"closed|reset|Remote"):
        urllib.request.urlopen(far.endpoint, timeout=30)
