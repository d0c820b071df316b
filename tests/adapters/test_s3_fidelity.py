"""S3 keeps what it is given: every key, every header, tags; uploads that are continued; copies that are proven."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from kit.proxy import Fault, FaultProxy
from kit.s3_opened import body, opened
from kit.servers import S3Server

from portabl.errors import Refused, StorageError, Unreachable
from portabl.model import Entry, Loss, Metadata
from portabl_adapters.s3.tags import Manner
from portabl_adapters.s3.wire import Answer

KEYS = [
    *(b"sp ace", b"plus+plus", b"pct%2Fenc", b"%", b"%zz", b"q?x=1&y", b"h#x", b"c:d", b"a\\b", b"a*'()!~[]{}^`|;,@$="),
    *(
        b"tab\tkey",
        b"nl\nkey",
        b"cr\rkey",
        b"\x01ctl",
        b"\x7f",
        b"&<>\"'",
        b"trail ",
        b" lead",
        b"d /f",
        b"\xef\xbf\xbf",
    ),
    *(
        b"a//b",
        b"/lead",
        b"trail/",
        b"x//",
        b"/",
        b"//",
        b"dir/x",
        b"dir-x",
        b".hidden",
        b"trail.",
        b"%2e%2e",
        b"k" * 1000,
    ),
    *(b"./x", b"../x", b"a/./b", b"a/../b", b".", b"..", b"x/.", b"x/..", b"e/../../f"),
    *("é".encode(), "é".encode(), "日本".encode(), "😀".encode(), "\u2028".encode(), "a␊b".encode()),
]


def test_every_key_is_written_read_listed_and_deleted_exactly(rgw: S3Server) -> None:
    with opened(rgw, rgw.bucket(), b"pre fix+/") as storage:
        etags = {key: storage.write(key, body(key), Metadata()).etag for key in [b"", *KEYS]}
        listed = list(storage.entries())
        assert [entry.key for entry in listed] == sorted(etags)
        for entry in listed:
            assert entry.etag == etags[entry.key]
            assert bytes(storage.read(entry).data) == entry.key
        middle = sorted(etags)[20]
        assert [entry.key for entry in storage.entries(middle)] == sorted(etags)[21:]
        for key in etags:
            storage.delete(key)
        assert list(storage.entries()) == []


def test_metadata_comes_back_as_it_was_given(rgw: S3Server) -> None:
    headers = {
        "cache-control": "no-cache",
        "content-disposition": 'attachment; filename="é.txt"',
        "content-encoding": "gzip",
        "content-language": "de",
        "content-type": "text/plain; charset=utf-8",
        "expires": "in a while",
        "website-redirect-location": "/elsewhere",
    }
    given = Metadata(headers, {"colour": "b  lue", "empty": "", "utf8": "schön"}, {"a b": "c+d/é", "empty": ""})
    with opened(rgw, rgw.bucket()) as storage:
        for key in (b"plain", b"../dots"):
            etag = storage.write(key, body(b"data"), given).etag
            info = storage.stat(key)
            assert info.metadata == given
            assert info.digests == {"md5": body(b"data").md5}
            assert storage.read(Entry(key, 4, etag)).info.metadata == given
            assert storage.read(Entry(key, 4, etag), 0, 2).info.metadata == given


def test_no_type_stays_no_type_and_aws_chunked_is_no_encoding(seaweed: S3Server) -> None:
    with opened(seaweed, seaweed.bucket()) as storage:
        storage.write(b"page.html", body(b"x"), Metadata())
        assert storage.stat(b"page.html").metadata == Metadata()
        storage.write(b"c", body(b"x"), Metadata({"content-encoding": "aws-chunked,gzip"}))
        assert storage.stat(b"c").metadata.headers == {"content-encoding": "gzip"}


BIG = b"big+ %key"


@pytest.mark.parametrize("name", ["rgw", "seaweed", "moto"])
def test_an_upload_is_continued_and_keeps_its_tags(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    part, data = 5 * 2**20, os.urandom(5 * 2**20 + 99)
    given = Metadata({"content-type": "text/plain"}, {"a": "b"}, {"team": "x y"})
    with opened(server, server.bucket()) as storage:
        first = storage.upload(BIG, len(data), given, part)
        one = first.part(1, body(data[:part]), 0)
        assert storage.abandoned(BIG) == [first.token]
        assert storage.abandoned(BIG[:3]) == []
    with opened(server, storage.calls.address.bucket) as storage:
        again = storage.upload(BIG, len(data), given, part, first.token)
        assert again.done == {1: one}
        written = again.finish([one, again.part(2, body(data[part:]), part)], body(data).sha256)
        assert written.losses == ()
        content = storage.read(Entry(BIG, len(data), written.etag))
        assert bytes(content.data) == data
        assert content.info.metadata == given
        assert content.info.digests.get("md5") is None
        assert [entry.etag for entry in storage.entries()] == [written.etag]
        anew = storage.upload(BIG, len(data), given, part, first.token)
        assert anew.token != first.token
        assert anew.done == {}
        anew.abort()
        assert storage.abandoned(BIG) == []


def test_an_upload_to_a_key_that_is_no_xml(rgw: S3Server) -> None:
    with opened(rgw, rgw.bucket()) as storage:
        upload = storage.upload(b"c\x01", 4, Metadata(), 5 * 2**20)
        assert storage.abandoned(b"c\x01") == [upload.token]
        tag = upload.part(1, body(b"data"), 0)
        assert storage.upload(b"c\x01", 4, Metadata(), 5 * 2**20, upload.token).done == {1: tag}
        upload.finish([tag], body(b"data").sha256)
        assert storage.stat(b"c\x01").size == 4


def test_fields_a_store_refuses_are_named_and_learned_once(swift: S3Server) -> None:
    given = Metadata({"website-redirect-location": "/x"}, {"a": "b"}, {"t": "v"})
    expected = {"website-redirect-location": "/x", "tag.t": "v"}
    with FaultProxy(swift.endpoint) as proxy, opened(swift, swift.bucket(), endpoint=proxy.endpoint) as storage:
        for key in (b"one", b"two"):
            puts = proxy.counts["put"]
            written = storage.write(key, body(b"x"), given)
            assert {loss.field: loss.value for loss in written.losses} == expected
        assert proxy.counts["put"] - puts == 1
        assert storage.stat(b"two").metadata.user == {"a": "b"}
        assert storage.write(b"three", body(b"x"), Metadata()).losses == ()


def test_hidden_tags_are_a_loss_of_every_object(seaweed: S3Server) -> None:
    with FaultProxy(seaweed.endpoint) as proxy, opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        for key in (b"a", b"b"):
            storage.write(key, body(b"x"), Metadata())
        proxy.add(Fault("status", kind="tagging", status=403))
        entries = list(storage.entries())
        for entry in entries:
            assert storage.read(entry).info.losses == (Loss("tags", "no permission to read tags"),)
        assert storage.tags.manner is Manner.HIDDEN


def test_tags_that_are_hidden_in_one_folder_are_a_loss_there(seaweed: S3Server) -> None:
    """Permissions are given by prefix, and who may not read tags is not told their number either."""
    silent = Answer(200, [b"HTTP/1.1 200 OK\r\n", b"Server: AmazonS3\r\n"], b"")
    with FaultProxy(seaweed.endpoint) as proxy, opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        for key, tags in ((b"open/a", {}), (b"closed/b", {"t": "1"}), (b"closed/c", {"t": "2"})):
            storage.write(key, body(key), Metadata(tags=tags))
        proxy.add(Fault("status", kind="tagging", status=403, match=lambda request: "/closed/" in request.target))
        assert storage.tags.of(b"open/a", silent) == ({}, ())
        assert storage.tags.manner is Manner.ANNOUNCED
        for key in (b"closed/b", b"closed/c"):
            assert storage.tags.of(key, silent)[1] == (Loss("tags", "no permission to read tags"),)


def test_a_server_that_has_tags_and_does_not_announce_them_is_asked_whatever_its_name(moto: S3Server) -> None:
    with opened(moto, moto.bucket()) as storage:
        silent = Answer(200, [b"HTTP/1.1 200 OK\r\n", b"Server: AmazonS3\r\n"], b"")
        for key in (b"a", b"b"):
            storage.write(key, body(key), Metadata(tags={"t": "1"}))
        assert [dict(storage.tags.of(key, silent)[0]) for key in (b"a", b"b")] == [{"t": "1"}] * 2


def test_announced_tags_cost_no_request_for_objects_without(seaweed: S3Server) -> None:
    with FaultProxy(seaweed.endpoint) as proxy, opened(seaweed, seaweed.bucket(), endpoint=proxy.endpoint) as storage:
        for key in (b"a", b"b", b"c"):
            storage.write(key, body(b"x"), Metadata({}, {}, {"t": "v"} if key == b"b" else {}))
        tags = [dict(storage.read(entry).info.metadata.tags) for entry in storage.entries()]
        assert tags == [{}, {"t": "v"}, {}]
        assert proxy.counts["tagging"] == 2


def test_a_name_that_is_the_bucket_itself_is_never_sent(moto: S3Server) -> None:
    with FaultProxy(moto.endpoint) as proxy, opened(moto, moto.bucket(), endpoint=proxy.endpoint) as storage:
        for act in (lambda: storage.write(b"", body(b"x"), Metadata()), lambda: storage.delete(b"")):
            with pytest.raises(Refused):
                act()
        assert not proxy.requests


def test_a_server_side_copy_is_exact(rgw: S3Server) -> None:
    given = Metadata({"website-redirect-location": "/x", "expires": "soon"}, {"u": "é"}, {"t": "v w"})
    bucket = rgw.bucket()
    with opened(rgw, bucket) as source, opened(rgw, bucket, b"copy/") as target:
        etag = source.write(b"a+b %2F", body(b"data"), given).etag
        info = source.stat(b"a+b %2F")
        written = target.copy(source, Entry(b"a+b %2F", 4, etag), b"new", info)
        assert written is not None
        assert written.etag == etag
        assert target.stat(b"new").metadata == given
        assert target.copy(source, Entry(b"a+b %2F", 4, "0" * 32), b"other", info) is None


def test_expired_credentials_are_asked_for_again(moto: S3Server) -> None:
    right = {"access_key_id": moto.access_key, "secret_access_key": moto.secret_key}
    with FaultProxy(moto.endpoint) as proxy:
        secrets = dict(right)
        with opened(moto, moto.bucket(), endpoint=proxy.endpoint, secrets=secrets) as storage:
            storage.check(write=True)
            proxy.add(Fault("status", status=403, code="ExpiredToken", times=1))
            secrets["session_token"] = "the next token"
            storage.write(b"k", body(b"x"), Metadata())
            assert storage.calls.credentials.current().token == "the next token"
            proxy.add(Fault("status", kind="head", status=403, times=1))
            secrets["session_token"] = "one more token"
            assert storage.stat(b"k").size == 1


def test_static_keys_need_no_boto3(seaweed: S3Server) -> None:
    script = (
        "import sys; from portabl_adapters.s3 import open_storage; from portabl.storage import Opening\n"
        f"keys = {{'access_key_id': {seaweed.access_key!r}, 'secret_access_key': {seaweed.secret_key!r}}}\n"
        f"where = {{'endpoint': {seaweed.endpoint!r}}}\n"
        f"with open_storage(Opening('it', {seaweed.bucket()!r}, b'', where, keys.get)) as it: it.check(write=True)\n"
        "sys.exit(any(name.startswith(('boto', 'urllib3')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


class _EmptyBucket(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An HTTPS server under a private authority: its URL and the authority's PEM file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EmptyBucket)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", str(tmp_path / "ca.pem")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("access_key", ["plain", "needs:botocore"])
def test_certificates_are_checked(tls: tuple[str, str], access_key: str) -> None:
    endpoint, ca_bundle = tls
    server = S3Server("tls", endpoint, access_key, "secret")
    with opened(server, "bucket") as storage, pytest.raises(Unreachable) as refused:
        storage.check(write=False)
    assert "not trusted" in str(refused.value)
    assert "ca_bundle" in refused.value.hint
    for settings in ({"ca_bundle": ca_bundle}, {"insecure": True}):
        with opened(server, "bucket", **settings) as storage:
            storage.check(write=False)
    with pytest.raises(StorageError):
        storage.check(write=False)
