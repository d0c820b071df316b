"""Fixtures for every test: real servers, started when first asked for and stopped when the session ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell: the runs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("portabl.testing", "kit")

from kit import servers  # noqa: E402 - after the line above, so that its assertions are explained too
from kit.servers import S3Server  # noqa: E402


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A moto server."""
    server = servers.start_moto()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto2() -> Iterator[S3Server]:
    """A second moto server: another place with other contents."""
    server = servers.start_moto("moto2")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[S3Server]:
    """A SeaweedFS server."""
    server = servers.start_seaweed()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweed_guest(seaweed: S3Server) -> S3Server:
    """The same server for somebody who may list and read, and not write."""
    return servers.guest(seaweed)


@pytest.fixture(scope="session")
def seaweed2() -> Iterator[S3Server]:
    """A second SeaweedFS server."""
    server = servers.start_seaweed("seaweed2")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rgw() -> Iterator[S3Server]:
    """A Ceph RGW."""
    _installed("Ceph RGW", servers.RGW_PROGRAMS)
    server = servers.start_rgw()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def swift() -> Iterator[S3Server]:
    """OpenStack Swift with its S3 front."""
    _installed("OpenStack Swift", servers.SWIFT_PROGRAMS)
    server = servers.start_swift()
    yield server
    server.stop()


def _installed(what: str, programs: tuple[str, ...]) -> None:
    """Skip where Debian's packages are missing; fail in CI, which installs them (.ci/run)."""
    reason = servers.missing(programs)
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"{what}: {reason}")
    if reason:
        pytest.skip(f"{what}: {reason} (see .ci/run)")
