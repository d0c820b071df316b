"""What `portabl demo` needs: two S3 providers on this machine, and objects that careless tools lose."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from portabl.errors import ConfigError, PortablError

BUCKET = "photos"
SECRET = "demo-secret"  # noqa: S105 - of a server that listens on loopback only and checks nothing
LARGE_BYTES = 12 * 2**20
SMALL_COUNT = 300
FLIPPED = "albums/2026/0042.jpg"

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # the end of this pipe means that the demo is over, however it ended
server.stop()
"""


@dataclass(frozen=True)
class Demo:
    """Two running providers, ``old`` and ``new``, and a directory with their portabl.toml."""

    folder: Path
    endpoints: dict[str, str] = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Environment for the commands of the demo: its own state, its own credentials."""
        own = {"XDG_STATE_HOME": str(self.folder / "state"), "DEMO_SECRET": SECRET}
        return {**os.environ, **own}

    def client(self, name: str) -> Any:
        """A boto3 client, to look at a provider with other eyes than portabl's."""
        return _client(self.endpoints[name])

    def fill(self) -> None:
        """Put the data set into ``old``, and an empty bucket into ``new``."""
        for name in self.endpoints:
            self.client(name).create_bucket(Bucket=BUCKET)
        fill(self.client("old"))

    def flip(self) -> str:
        """Change one bit of one object at the target, size and metadata as before; returns its key."""
        client = self.client("new")
        found = client.get_object(Bucket=BUCKET, Key=FLIPPED)
        body = bytearray(found["Body"].read())
        body[len(body) // 2] ^= 1
        client.put_object(
            Bucket=BUCKET, Key=FLIPPED, Body=bytes(body), ContentType=found["ContentType"], Metadata=found["Metadata"]
        )
        return FLIPPED


@contextmanager
def running(folder: Path) -> Iterator[Demo]:
    """Start both providers and write portabl.toml; they stop when the block ends, however it ends.

    Raises ConfigError when the demo extra is not installed.
    """
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise ConfigError("the demo's S3 server is not installed", hint="pip install 'portabl[demo]'")
    with ExitStack() as stack:
        endpoints = {name: stack.enter_context(_server(folder / f"{name}.log")) for name in ("old", "new")}
        (folder / "portabl.toml").write_text(_configuration(endpoints), encoding="utf-8")
        yield Demo(folder, endpoints)


@contextmanager
def _server(log: Path) -> Iterator[str]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops its servers in order
        )
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{_port(process.stdout, log)}"
        finally:
            _stop(process)


def _port(output: IO[str], log: Path) -> int:
    line = output.readline().strip()
    if not line.isdigit():
        last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise PortablError(f"the demo's S3 server did not start: {last or 'it said nothing'}")
    return int(line)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _configuration(endpoints: dict[str, str]) -> str:
    table = '[providers.{}]\ntype = "s3"\nendpoint = "{}"\nregion = "us-east-1"\naccess_key_id = "demo"\n'
    table += 'secret_access_key = "env:DEMO_SECRET"\naddressing = "path"\n'
    return "\n".join(table.format(name, endpoint) for name, endpoint in endpoints.items())


def _client(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    make: Any = boto3.client
    # A proxy of the user's has no business on loopback, and botocore resolves dot segments for proxies.
    no_proxy: Any = {"http": None}
    return make(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key=SECRET,
        config=Config(
            s3={"addressing_style": "path"},
            proxies=no_proxy,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


NASTY = (
    "double//slash",
    "/leading slash",
    "trailing/",
    "dots/./here/../there",
    "..",
    unicodedata.normalize("NFC", "caf\u00e9.txt"),
    unicodedata.normalize("NFD", "caf\u00e9.txt"),
    "a",
    "a/b",
    "A",
    "tab\there",
    "100%25 + more?&#.txt",
    "back\\slash",
    "escape \x1b[31m red",
    "right-to-left \u202eexe.txt",
    " spaces ",
)
"""Keys that S3 keeps apart, and that file systems, browsers and other tools merge, rename or hide."""


def fill(client: Any) -> None:
    """The data set: nasty keys, every header, metadata, tags, a multipart object, and a crowd of small objects."""
    for number, key in enumerate(NASTY):
        client.put_object(
            Bucket=BUCKET, Key=key, Body=f"object {number}: {key!r}".encode(), Metadata={"number": str(number)}
        )
    client.put_object(
        Bucket=BUCKET,
        Key="headers.html",
        Body=b"<h1>every header</h1>",
        ContentType="text/html; charset=utf-8",
        CacheControl="no-cache, max-age=60",
        ContentDisposition='attachment; filename="r\u00e9sum\u00e9.html"'.encode("ascii", "xmlcharrefreplace").decode(),
        ContentLanguage="de, fr",
        Expires=datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
        Metadata={"Owner": "team", "empty": ""},
        Tagging="class=secret&team=red%20and%20blue",
    )
    _multipart(client, "large/video.bin", LARGE_BYTES)
    for number in range(SMALL_COUNT):
        body = hashlib.sha256(str(number).encode()).digest() * (1 + number % 50)
        client.put_object(Bucket=BUCKET, Key=f"albums/2026/{number:04}.jpg", Body=body, ContentType="image/jpeg")


def _multipart(client: Any, key: str, size: int) -> None:
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key, ContentType="video/mp4")["UploadId"]
    part_size = 5 * 2**20
    parts = []
    for number, start in enumerate(range(0, size, part_size), 1):
        body = hashlib.shake_128(f"{key} {number}".encode()).digest(min(part_size, size - start))
        tag = client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]
        parts.append({"ETag": tag, "PartNumber": number})
    client.complete_multipart_upload(
        Bucket=BUCKET,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": parts},
    )
