"""All of OpenStack Swift on one machine: account, container and object server, proxy with tempauth and s3api."""

from __future__ import annotations

import shutil
from pathlib import Path

from kit.processes import Family

CREDENTIALS = ("test:tester", "testing")
_PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth copy"
    " slo dlo versioned_writes symlink proxy-logging proxy-server"
)
_MODULES = {"cache": "memcache", "proxy-logging": "proxy_logging"}
_UPDATERS = {
    "container": "[container-updater]\n[container-sync]\n[container-sharder]\n",
    "object": "[object-updater]\n",
}
_EXTRA = {
    "s3api": "location = us-east-1\ns3_acl = false",
    "tempauth": "user_test_tester = testing .admin\nstorage_url_scheme = http",
    "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true",
}


def start(family: Family, port: int) -> None:
    """Write the configuration and the rings, then start the five daemons; S3 and Swift both answer on ``port``."""
    here = family.directory
    etc = here / "etc"
    etc.mkdir()
    (here / "srv" / "d1").mkdir(parents=True)
    (here / "cache").mkdir()
    (etc / "swift.conf").write_text(_swift_conf())
    for offset, name in enumerate(("account", "container", "object"), start=1):
        (etc / f"{name}.conf").write_text(_backend(here, name, port + offset))
    _rings(family, port)
    (etc / "proxy.conf").write_text(_proxy(here, port, port + 4))
    family.start("memcached", "memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port + 4), "-U", "0", "-m", "16")
    for name in ("account", "container", "object", "proxy"):
        family.start(name, f"swift-{name}-server", f"{etc}/{name}.conf")


def _swift_conf() -> str:
    return """[swift-hash]
swift_hash_path_suffix = kit
swift_hash_path_prefix = kit
[storage-policy:0]
name = gold
default = yes
[swift-constraints]
max_header_size = 16384
"""


def _default(here: Path, name: str, port: int) -> str:
    return f"""[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {here}/etc
log_name = {name}
log_address = /dev/null
log_level = ERROR
devices = {here}/srv
mount_check = false
disable_fallocate = true
"""


def _backend(here: Path, name: str, port: int) -> str:
    return f"""{_default(here, name, port)}[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
[{name}-replicator]
[{name}-auditor]
recon_cache_path = {here}/cache
{_UPDATERS.get(name, "")}"""


def _proxy(here: Path, port: int, memcached: int) -> str:
    extra = _EXTRA | {"cache": f"memcache_servers = 127.0.0.1:{memcached}"}
    filters = [name for name in dict.fromkeys(_PIPELINE.split()) if name != "proxy-server"]
    sections = [
        f"[filter:{name}]\nuse = egg:swift#{_MODULES.get(name, name)}\n{extra.get(name, '')}" for name in filters
    ]
    return f"""{_default(here, "proxy", port)}[pipeline:main]
pipeline = {_PIPELINE}
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
""" + "\n".join(sections)


_RINGS = """import sys
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), map(int, sys.argv[1:])):
    builder, address = RingBuilder(4, 1, 0), {"ip": "127.0.0.1", "port": port}
    address |= {"replication_ip": address["ip"], "replication_port": port}
    builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": ""} | address)
    builder.rebalance()
    builder.get_ring().save(f"etc/{name}.ring.gz")
"""


def _rings(family: Family, port: int) -> None:
    """All three in one process of Swift's own Python: as nine commands they took longer than the daemons."""
    program = Path(shutil.which("swift-ring-builder") or "/usr/bin/swift-ring-builder")
    with program.open(encoding="utf-8") as script:
        python = script.readline().removeprefix("#!").split()
    family.run(*python, "-c", _RINGS, *(str(port + offset) for offset in (1, 2, 3)))
