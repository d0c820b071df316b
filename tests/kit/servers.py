"""Real S3 servers on loopback, one function each: moto, SeaweedFS, Ceph RGW, OpenStack Swift.

Every function starts the server with ports and a directory of its own, waits until an object was stored and
read back, and returns an `S3Server`; call `S3Server.stop` when done (the fixtures in conftest.py do).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from kit import ceph, swift_service
from kit.processes import Family, NotReady, free_ports

RGW_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
SWIFT_PROGRAMS = ("swift-proxy-server", "swift-object-server", "swift-ring-builder", "memcached")

_CONNECTING = threading.Lock()  # many threads may use one client, and one at a time a session


@cache
def _session() -> Any:
    """One for all clients: a session reads boto3's description of S3, which takes ten times as long as all else."""
    import boto3

    return boto3.session.Session()


@dataclass
class S3Server:
    """A running server and how to reach it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    family: Family | None = field(default=None, repr=False)

    def client(self, endpoint: str = "") -> Any:
        """A boto3 client (safe to share between threads), at ``endpoint`` instead (a proxy in front) when given."""
        return self._shared if not endpoint else self._connect(endpoint)

    @cached_property
    def _shared(self) -> Any:
        return self._connect(self.endpoint)

    def _connect(self, endpoint: str, attempts: int = 3) -> Any:
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=60,
        )
        with _CONNECTING:
            return _session().client(
                "s3",
                endpoint_url=endpoint,
                region_name=self.region,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                config=config,
            )

    def bucket(self, prefix: str = "b", *, lock: bool = False) -> str:
        """Make a new, empty bucket; its name. ``lock``: with object lock (and so with versions)."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys of a bucket as boto3 lists them, in the server's order."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `provider_toml` refers to."""
        stem = f"KIT_{self.name.upper()}"
        return {f"{stem}_ACCESS_KEY": self.access_key, f"{stem}_SECRET_KEY": self.secret_key}

    def provider_toml(self, name: str = "", endpoint: str = "") -> str:
        """A ``[providers.NAME]`` table for portabl.toml; credentials are references into `environment`."""
        access, secret = self.environment
        return (
            f"[providers.{name or self.name}]\n"
            'type = "s3"\n'
            f"endpoint = {json.dumps(endpoint or self.endpoint)}\n"
            f"region = {json.dumps(self.region)}\n"
            f'access_key_id = "env:{access}"\n'
            f'secret_access_key = "env:{secret}"\n'
            'addressing = "path"\n'
        )

    def stop(self) -> None:
        """End the server's processes and remove its directory."""
        if "_shared" in self.__dict__:
            self._shared.close()
        if self.family:
            self.family.stop()

    def prove(self) -> None:
        """Store an object, read it back and clean up: only then is a server ready."""
        client = self._connect(self.endpoint, attempts=1)
        bucket = f"ready-{uuid.uuid4().hex[:12]}"
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
            if client.get_object(Bucket=bucket, Key="ready")["Body"].read() != b"ready":
                raise NotReady("read back something else than was written")
            client.delete_object(Bucket=bucket, Key="ready")
            client.delete_bucket(Bucket=bucket)
        finally:
            client.close()


def _program(name: str) -> str:
    """Path of a program that a wheel put beside this interpreter, or that is on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise NotReady(f"{name} is not installed")
    return found


def missing(programs: tuple[str, ...]) -> str:
    """Why servers from Debian packages cannot run here, "" when they can."""
    absent = [name for name in programs if not shutil.which(name)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "these daemons need root"


def _ready(server: S3Server, seconds: float) -> S3Server:
    if server.family is None:
        raise NotReady("no processes to wait for")
    try:
        server.family.wait(server.prove, seconds)
    except BaseException:
        server.stop()
        raise
    return server


def start_moto(name: str = "moto") -> S3Server:
    """Moto in a process of its own: broad and quick, checks neither signatures nor checksums."""
    family, port = Family(name), free_ports(1)
    family.start("moto", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    return _ready(S3Server(name, f"http://127.0.0.1:{port}", "motokey", "motosecret", family=family), 120)


def start_seaweed(name: str = "seaweed", volumes: int = 1) -> S3Server:
    """SeaweedFS: real signatures and checksums, but keys are kept as paths and so are changed.

    ``volumes``: files it writes to at once, for each bucket; one is enough for tests, 7 is its own default.
    """
    family, port = Family(name), free_ports(9)
    here = family.directory
    credentials = [{"accessKey": "weedkey", "secretKey": "weedsecret"}]
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    guest = {"name": "guest", "credentials": [{"accessKey": "guestkey", "secretKey": "guestsecret"}], "actions": _READS}
    identities = {"identities": [{"name": "admin", "credentials": credentials, "actions": actions}, guest]}
    (here / "s3.json").write_text(json.dumps(identities))
    (here / "data").mkdir()
    ports = {"master.port": 1, "volume.port": 2, "filer.port": 3, "master.port.grpc": 5, "volume.port.grpc": 6}
    ports |= {"filer.port.grpc": 7, "s3.port.grpc": 8, "s3.port": 0}
    options = {
        "dir": f"{here}/data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": "256",
        "volume.max": "2000",  # every bucket takes volumes of its own
        "filer": "true",
        "filer.localSocket": f"{here}/filer.sock",
        "s3": "true",
        "s3.config": f"{here}/s3.json",
        "s3.localSocket": f"{here}/s3.sock",
        "s3.port.iceberg": "0",  # fixed ports otherwise: a second instance would not start
        "s3.port.lance": "0",
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
    } | {option: str(port + offset) for option, offset in ports.items()}
    arguments = [f"-{option}={value}" for option, value in options.items()]
    growth = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": str(volumes)}
    family.start("weed", _program("weed"), f"-logdir={here}", "server", *arguments, environment=growth)
    return _ready(S3Server(name, f"http://127.0.0.1:{port}", "weedkey", "weedsecret", family=family), 60)


_READS = ["Read", "List"]


def guest(server: S3Server) -> S3Server:
    """A SeaweedFS server as somebody sees it who may list and read, and not write."""
    return dataclasses.replace(server, name=f"{server.name}_guest", access_key="guestkey", secret_key="guestsecret")


def start_rgw(name: str = "rgw") -> S3Server:
    """Ceph RGW over an OSD in memory: every key exact, strict signatures, an older S3 dialect."""
    family, port = Family(name), free_ports(60)
    try:
        ceph.start(family, port, "rgwkey", "rgwsecret")
    except BaseException:
        family.stop()
        raise
    return _ready(S3Server(name, f"http://127.0.0.1:{port}", "rgwkey", "rgwsecret", family=family), 90)


def start_swift(name: str = "swift") -> S3Server:
    """OpenStack Swift with its S3 front: exact keys, no tags, no conditional writes."""
    family, port = Family(name), free_ports(5)
    try:
        swift_service.start(family, port)
    except BaseException:
        family.stop()
        raise
    access, secret = swift_service.CREDENTIALS
    return _ready(S3Server(name, f"http://127.0.0.1:{port}", access, secret, family=family), 60)


def main() -> None:
    """Start the named server by hand: ``python -m kit.servers rgw``, until Ctrl-C."""
    starters = {"moto": start_moto, "seaweed": start_seaweed, "rgw": start_rgw, "swift": start_swift}
    server = starters[sys.argv[1]]()
    print(server)
    try:
        while True:
            time.sleep(3600)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
