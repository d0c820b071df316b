"""The kit itself: servers answer, hand out empty buckets, and leave nothing running."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kit import servers
from kit.processes import Family, NotReady, free_ports
from kit.servers import S3Server

from portabl import providers


@pytest.mark.parametrize("name", ["moto", "seaweed", "rgw", "swift"])
def test_every_server_gives_separate_empty_buckets(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    one, other = server.bucket(), server.bucket()
    server.client().put_object(Bucket=one, Key="k", Body=b"v")
    assert (server.keys(one), server.keys(other)) == (["k"], [])


def test_stopping_a_server_leaves_no_process_and_no_directory() -> None:
    server = servers.start_moto("brief")
    assert server.family is not None
    pids, directory = list(server.family.pids), server.family.directory
    server.stop()
    server.stop()
    assert not directory.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_server_that_dies_at_the_start_is_reported_with_its_own_words() -> None:
    family = Family("broken")
    family.start("broken", "sh", "-c", "echo no room on this ship; exit 3")

    def never() -> None:
        raise ConnectionRefusedError

    try:
        with pytest.raises(NotReady, match="no room on this ship"):
            family.wait(never, 10)
    finally:
        family.stop()


def test_free_ports_come_in_a_row() -> None:
    assert 11_000 <= free_ports(60) < 32_000


def test_the_provider_table_is_one_that_portabl_reads(
    moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "portabl.toml").write_text(moto.provider_toml("old"))
    provider = providers.load(str(tmp_path / "portabl.toml")).provider("old")
    assert provider.settings()["endpoint"] == moto.endpoint
    assert provider.secret("secret_access_key") == moto.secret_key
