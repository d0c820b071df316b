"""One-node Ceph without a manager: a monitor, one OSD in memory, and RGW, configured by hand, all on loopback."""

from __future__ import annotations

import uuid

from kit.processes import Family, NotReady

_GLOBAL = {
    "public addr": "127.0.0.1",
    "cluster addr": "127.0.0.1",
    "auth cluster required": "cephx",  # with "none" radosgw-admin never gets an answer
    "auth service required": "cephx",
    "auth client required": "cephx",
    "auth allow insecure global id reclaim": "true",
    "mon allow pool delete": "true",
    "mon allow pool size one": "true",
    "mon data avail warn": "1",
    "mon data avail crit": "1",
    "paxos propose interval": "0.01",  # by default every pool that RGW makes waits a second for its map
    "paxos min wait": "0.01",
    "mon warn on pool no redundancy": "false",
    "osd pool default size": "1",
    "osd pool default min size": "1",
    "osd pool default pg num": "8",
    "osd pool default pgp num": "8",
    "osd pool default pg autoscale mode": "off",
    "osd crush chooseleaf type": "0",
    "osd objectstore": "memstore",
    "memstore device bytes": "4G",
    "osd class load list": "*",
    "osd class default list": "*",
}
_CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
    "client.rgw": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
}


def start(family: Family, port: int, access_key: str, secret_key: str) -> None:
    """Bring the cluster up with RGW on ``port``; the 50 ports behind it belong to the cluster."""
    here = family.directory
    for name in ("mon", "osd0", "rgw", "run", "log"):
        (here / name).mkdir()
    cluster = str(uuid.uuid4())
    addresses = f"[v2:127.0.0.1:{port + 1},v1:127.0.0.1:{port + 2}]"
    (here / "ceph.conf").write_text(_configuration(family, cluster, port))
    environment = {"CEPH_CONF": f"{here}/ceph.conf"}
    _keyring(family)
    family.run("monmaptool", "--create", "--clobber", "--fsid", cluster, "--addv", "a", addresses, "monmap")
    conf = ("-c", f"{here}/ceph.conf")
    family.run("ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
    family.start("mon", "ceph-mon", *conf, "-i", "a", "-f", environment=environment)
    osd = str(uuid.uuid4())
    family.run("ceph", *conf, "osd", "new", osd)
    family.run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
    family.start("osd", "ceph-osd", *conf, "-i", "0", "-f", environment=environment)
    family.wait(lambda: _osd_is_up(family, conf), 60)
    family.start("rgw", "radosgw", *conf, "-n", "client.rgw", "-f", environment=environment)
    user = ("--uid=kit", "--display-name=kit", f"--access-key={access_key}", f"--secret-key={secret_key}")
    family.run("radosgw-admin", *conf, "user", "create", *user, timeout=90)


def _osd_is_up(family: Family, conf: tuple[str, ...]) -> None:
    said = family.run("ceph", *conf, "osd", "stat", timeout=10)
    if "1 up" not in said:
        raise NotReady(said)


def _configuration(family: Family, cluster: str, port: int) -> str:
    here = family.directory
    everywhere = _GLOBAL | {
        "fsid": cluster,
        "run dir": f"{here}/run",
        "admin socket": f"{here}/run/$name.asok",
        "pid file": f"{here}/run/$name.pid",
        "log file": f"{here}/log/$name.log",
        "crash dir": f"{here}/log",
        "keyring": f"{here}/keyring",
        "mon host": f"[v2:127.0.0.1:{port + 1}/0,v1:127.0.0.1:{port + 2}/0]",
        "ms bind port min": str(port + 10),
        "ms bind port max": str(port + 50),
    }
    gateway = {
        "rgw data": f"{here}/rgw",
        "rgw frontends": f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1",
        "rgw crypt require ssl": "false",
        "rgw dns name": "store.invalid",  # for buckets in the host name
        "rgw enable apis": "s3, admin",
    }
    sections = {
        "global": everywhere,
        "mon.a": {"mon data": f"{here}/mon"},
        "osd.0": {"osd data": f"{here}/osd0"},
        "client.rgw": gateway,
    }
    lines = []
    for section, settings in sections.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"


def _keyring(family: Family) -> None:
    family.run("ceph-authtool", "--create-keyring", "keyring")
    for name, caps in _CAPS.items():
        flags = [word for service, cap in caps.items() for word in ("--cap", service, cap)]
        family.run("ceph-authtool", "keyring", "--gen-key", "-n", name, *flags)
