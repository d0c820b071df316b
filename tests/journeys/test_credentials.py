"""Credentials from everywhere they can be kept, against servers that verify signatures; proxies; virtual hosts."""

from __future__ import annotations

import dataclasses
import datetime
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import trustme
from kit import servers
from kit.processes import free_ports
from kit.proxy import Fault, FaultProxy
from kit.relay import Answer, ForwardProxy, answering, as_json, post, tls_front
from kit.servers import S3Server
from shell import Shell, shell

KEYS = ("one", "b/./dot")
"""The second is signed and sent by botocore, not by libcurl."""


@pytest.fixture(scope="module")
def bucket(rgw: S3Server) -> str:
    """A bucket of a server that takes every key and checks every signature."""
    name = rgw.bucket()
    for key in KEYS:
        rgw.client().put_object(Bucket=name, Key=key, Body=b"body")
    return name


@pytest.fixture
def here(tmp_path: Path, bucket: str) -> Shell:
    """A shell that knows no credentials yet."""
    return shell(tmp_path, {"BUCKET": bucket})


def _provider(server: S3Server, *lines: str, endpoint: str = "") -> str:
    start = f'[providers.p]\ntype = "s3"\nendpoint = "{endpoint or server.endpoint}"\naddressing = "path"\n'
    return start + f'region = "{server.region}"\n' + "\n".join(lines) + "\n"


def _works(here: Shell, **environment: str) -> None:
    """Everything is read and proven with these credentials, and a wrong bucket name is no credentials error."""
    done = here.portabl(
        "migrate", f"p:{here.environment['BUCKET']}", "./copy", "--proof", "readback", "-q", **environment
    )
    assert done.code == 0, done.out + done.err
    assert "warning" not in done.err
    assert sorted(path.name for path in (here.folder / "copy").rglob("*") if path.is_file()), done.out


def test_environment_variables(here: Shell, rgw: S3Server) -> None:
    here.configure(_provider(rgw, 'access_key_id = "env:A"', 'secret_access_key = "env:S"'))
    _works(here, A=rgw.access_key, S=rgw.secret_key)
    wrong = here.portabl("ls", f"p:{here.environment['BUCKET']}", A=rgw.access_key, S="wrong-secret")
    wrong.clear(6, "SignatureDoesNotMatch")
    assert "wrong-secret" not in wrong.err + wrong.out


def test_files(here: Shell, rgw: S3Server) -> None:
    (here.folder / "access").write_text(rgw.access_key + "\n")
    (here.folder / "home" / "secret").write_text(rgw.secret_key)
    here.configure(_provider(rgw, 'access_key_id = "file:access"', 'secret_access_key = "file:~/secret"'))
    _works(here)
    (here.folder / "home" / "secret").write_text("wrong-secret")
    here.portabl("ls", f"p:{here.environment['BUCKET']}").clear(6, "SignatureDoesNotMatch")


KEYRING = '''
import json, os
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    """A keyring in a file, so that several processes see the same."""
    priority = 1
    def _read(self):
        return json.load(open(os.environ["RING"])) if os.path.exists(os.environ["RING"]) else {}
    def get_password(self, service, username):
        return self._read().get(f"{service} {username}")
    def set_password(self, service, username, password):
        json.dump(self._read() | {f"{service} {username}": password}, open(os.environ["RING"], "w"))
'''


def test_keyring(here: Shell, rgw: S3Server) -> None:
    (here.folder / "ring_in_a_file.py").write_text(KEYRING)
    ring = {
        "PYTHON_KEYRING_BACKEND": "ring_in_a_file.Keyring",
        "PYTHONPATH": str(here.folder),
        "RING": str(here.folder / "ring"),
    }
    (here.folder / "ring").write_text(json.dumps({"rgw me": rgw.secret_key}))
    here.configure(_provider(rgw, f'access_key_id = "{rgw.access_key}"', 'secret_access_key = "keyring:rgw/me"'))
    _works(here, **ring)
    (here.folder / "ring").write_text("{}")
    empty = here.portabl("ls", f"p:{here.environment['BUCKET']}", **ring)
    empty.clear(2, "[providers.p] secret_access_key", "holds nothing for me at rgw", "keyring set rgw me")


def test_profile_of_the_aws_configuration(here: Shell, rgw: S3Server) -> None:
    credentials = here.folder / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id = x\naws_secret_access_key = y\n"
        f"[old]\naws_access_key_id = {rgw.access_key}\naws_secret_access_key = {rgw.secret_key}\n"
    )
    here.configure(_provider(rgw, 'profile = "old"'))
    _works(here, AWS_SHARED_CREDENTIALS_FILE=str(credentials))
    here.configure(_provider(rgw, 'profile = "older"'))
    missing = here.portabl("ls", f"p:{here.environment['BUCKET']}", AWS_SHARED_CREDENTIALS_FILE=str(credentials))
    missing.clear(6, "profile", "older")


def test_a_program_that_hands_out_credentials(here: Shell, rgw: S3Server) -> None:
    program = here.folder / "give.py"
    keys = {"Version": 1, "AccessKeyId": rgw.access_key, "SecretAccessKey": rgw.secret_key}
    program.write_text(f"print({json.dumps(keys)!r})")
    (here.folder / "aws").write_text(f"[profile give]\ncredential_process = {sys.executable} {program}\n")
    here.configure(_provider(rgw, 'profile = "give"'))
    _works(here, AWS_CONFIG_FILE=str(here.folder / "aws"))


def _expiry(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _role(server: S3Server, seconds: float = 6 * 3600) -> dict[str, str]:
    keys = {"AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key, "Token": ""}
    return {"Code": "Success", "Type": "AWS-HMAC", "Expiration": _expiry(seconds), **keys}


def test_role_of_an_instance(here: Shell, rgw: S3Server) -> None:
    asked: list[str] = []

    def metadata(method: str, path: str, _: bytes) -> Answer:
        asked.append(f"{method} {path}")
        if method == "PUT":
            return 200, b"a-session"
        if path.endswith("/security-credentials/"):
            return 200, b"mover"
        return as_json(_role(rgw))

    here.configure(_provider(rgw))
    with answering(metadata) as url:
        _works(here, AWS_EC2_METADATA_SERVICE_ENDPOINT=url, AWS_EC2_METADATA_DISABLED="false")
    assert any(line.endswith("/security-credentials/mover") for line in asked)


def test_role_of_a_container(here: Shell, rgw: S3Server) -> None:
    here.configure(_provider(rgw))
    with answering(lambda *_: as_json(_role(rgw))) as url:
        _works(here, AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/credentials")


def test_nothing_anywhere(here: Shell, rgw: S3Server) -> None:
    here.configure(_provider(rgw))
    here.portabl("ls", f"p:{here.environment['BUCKET']}").clear(6, "no credentials found", "access_key_id")


@dataclasses.dataclass
class Identity:
    """A moto server that verifies signatures, session tokens and policies, and a front for its token service."""

    server: S3Server
    role: str
    refuse: bool = False
    asked: int = 0

    def verify(self, count: str) -> None:
        """Requests from the ``count``-th on are verified."""
        post(f"{self.server.endpoint}/moto-api/reset-auth", count.encode(), **{"Content-Type": "text/plain"})

    def token_service(self, _method: str, _path: str, body: bytes) -> Answer:
        """AssumeRoleWithWebIdentity is not signed, so moto may not look for a signature while it answers."""
        self.asked += 1
        if self.refuse:
            code = b"<Code>ExpiredTokenException</Code><Message>Token expired: 5 minutes ago</Message>"
            return 400, b"<ErrorResponse><Error>" + code + b"</Error></ErrorResponse>"
        self.verify("inf")
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Host": "sts.amazonaws.com"}
        answer = post(self.server.endpoint, body, **headers)
        self.verify("0")
        return 200, answer


@pytest.fixture(scope="module")
def identity() -> Iterator[Identity]:
    server = servers.start_moto("identity")
    own = {"endpoint_url": server.endpoint, "region_name": "us-east-1"}
    iam = boto3.client("iam", **own, aws_access_key_id="a", aws_secret_access_key="b")
    trust = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity"}
    allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    documents = [json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, allow)]
    role = iam.create_role(RoleName="mover", AssumeRolePolicyDocument=documents[0])["Role"]["Arn"]
    iam.put_role_policy(RoleName="mover", PolicyName="all", PolicyDocument=documents[1])
    iam.close()
    yield Identity(server, role)
    server.stop()


def test_web_identity(tmp_path: Path, identity: Identity) -> None:
    """The token is exchanged for keys at a token service; the store verifies the signature made with them."""
    name = identity.server.bucket()
    for key in KEYS:
        identity.server.client().put_object(Bucket=name, Key=key, Body=b"body")
    (tmp_path / "token").write_text("header.payload.signature")
    here = shell(tmp_path, {"BUCKET": name, "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")})
    here.configure(_provider(identity.server))
    with answering(identity.token_service) as url:
        role = {"AWS_ROLE_ARN": identity.role, "AWS_ROLE_SESSION_NAME": "portabl", "AWS_ENDPOINT_URL_STS": url}
        identity.verify("0")
        _works(here, **role)
        assert identity.asked == 1
        here.portabl("ls", f"p:{name}", AWS_ACCESS_KEY_ID="AKIAWRONG", AWS_SECRET_ACCESS_KEY="x").clear(
            6, "InvalidAccessKeyId"
        )
        identity.refuse = True
        refused = here.portabl("ls", f"p:{name}", **role)
        refused.clear(6, "credentials", "ExpiredTokenException", "Token expired")
        assert "header.payload" not in refused.err


def _second(server: S3Server) -> S3Server:
    """Another pair of keys of the same user."""
    return dataclasses.replace(server, access_key="rgwkey2", secret_key="rgwsecret2")


@pytest.fixture(scope="module")
def rotated(rgw: S3Server) -> S3Server:
    assert rgw.family is not None
    keys = ("--uid=kit", "--key-type=s3", "--access-key=rgwkey2", "--secret-key=rgwsecret2")
    rgw.family.run("radosgw-admin", "-c", str(rgw.family.directory / "ceph.conf"), "key", "create", *keys, timeout=90)
    return _second(rgw)


def _filled(server: S3Server, count: int) -> str:
    name = server.bucket()
    for number in range(count):
        server.client().put_object(Bucket=name, Key=f"{number:03}", Body=b"x" * number)
    return name


def _expiring(access_key: str) -> Fault:
    """What a store says to keys whose time is over, from the 20th request under them on."""
    return Fault(
        "status",
        status=400,
        code="ExpiredToken",
        match=lambda request: f"Credential={access_key}/" in request.headers.get("authorization", ""),
        skip=20,
    )


def test_the_chain_is_asked_again_when_keys_expire_during_a_run(
    tmp_path: Path, rgw: S3Server, rotated: S3Server
) -> None:
    name = _filled(rgw, 60)
    here = shell(tmp_path, {})
    handed: list[str] = []

    def role(*_: object) -> Answer:
        server = rgw if not handed else rotated
        handed.append(server.access_key)
        return as_json(_role(server))

    with FaultProxy(rgw.endpoint) as proxy, answering(role) as url:
        expiring = proxy.add(_expiring(rgw.access_key))
        here.configure(_provider(rgw, endpoint=proxy.endpoint))
        done = here.portabl(
            "migrate", f"p:{name}", "./copy", "--threads", "4", "-q", AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/c"
        )
        assert done.code == 0, done.err
        assert expiring.fired
        signed = [request.headers.get("authorization", "") for request in proxy.requests]
    assert handed == [rgw.access_key, rotated.access_key]
    assert sum(f"Credential={rotated.access_key}/" in line for line in signed) > 30


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId"])
def test_a_rotated_secret_is_found_during_a_run(tmp_path: Path, rgw: S3Server, rotated: S3Server, code: str) -> None:
    """A file is read again when the store refuses the keys, as it does once the old ones were taken away."""
    name = _filled(rgw, 60)
    here = shell(tmp_path, {})
    (here.folder / "access").write_text(rgw.access_key)
    (here.folder / "secret").write_text(rgw.secret_key)

    def rotate(request: object) -> bool:
        if expiring.match(request) and not changed:  # the first request: portabl holds the old keys by now
            changed.append((here.folder / "access").write_text(rotated.access_key))
            changed.append((here.folder / "secret").write_text(rotated.secret_key))
        return expiring.match(request)

    changed: list[int] = []
    expiring = _expiring(rgw.access_key)
    fault = dataclasses.replace(expiring, match=rotate, code=code, status=403)
    with FaultProxy(rgw.endpoint) as proxy:
        proxy.add(fault)
        here.configure(
            _provider(
                rgw, 'access_key_id = "file:access"', 'secret_access_key = "file:secret"', endpoint=proxy.endpoint
            )
        )
        done = here.portabl("migrate", f"p:{name}", "./copy", "--threads", "4", "-q")
        assert done.code == 0, done.err
        assert fault.fired
    assert len(list((here.folder / "copy").iterdir())) == 60


def test_a_proxy_from_the_environment(here: Shell, rgw: S3Server) -> None:
    """The store's name can be resolved by the proxy alone, so nothing arrives but through it."""
    host, port = rgw.endpoint.removeprefix("http://").split(":")
    here.configure(
        _provider(rgw, 'access_key_id = "env:A"', 'secret_access_key = "env:S"', endpoint="http://store.invalid")
    )
    keys = {"A": rgw.access_key, "S": rgw.secret_key}
    with ForwardProxy({"store.invalid": (host, int(port))}) as proxy:
        _works(here, http_proxy=proxy.url, **keys)
        assert all(" http://store.invalid/" in line for line in proxy.asked)
        assert any("/b/%2E/dot " in line for line in proxy.asked), "what botocore sends goes the same way"
        seen = len(proxy.asked)
        direct = here.portabl(
            "ls", f"p:{here.environment['BUCKET']}", http_proxy=proxy.url, no_proxy="store.invalid", **keys
        )
        direct.clear(6, "store.invalid")
        assert len(proxy.asked) == seen
    dead = here.portabl("ls", f"p:{here.environment['BUCKET']}", http_proxy=f"http://127.0.0.1:{free_ports(1)}", **keys)
    dead.clear(6, "no answer")


def test_the_bucket_in_the_host_name(here: Shell, rgw: S3Server) -> None:
    """With a proxy that resolves ``bucket.store.invalid``; Ceph is asked at a name that it knows as its own."""
    host, port = rgw.endpoint.removeprefix("http://").split(":")
    own = dataclasses.replace(rgw, endpoint="http://store.invalid")
    table = _provider(own, 'access_key_id = "env:A"', 'secret_access_key = "env:S"').replace('"path"', '"virtual"')
    here.configure(table)
    bucket = here.environment["BUCKET"]
    with ForwardProxy({f"{bucket}.store.invalid": (host, int(port))}) as proxy:
        _works(here, http_proxy=proxy.url, A=rgw.access_key, S=rgw.secret_key)
        assert all(f" http://{bucket}.store.invalid/" in line for line in proxy.asked)


def test_tls_through_a_proxy(here: Shell, rgw: S3Server) -> None:
    """The proxy is asked for a tunnel and sees nothing; the certificate is checked at the other end."""
    host, port = rgw.endpoint.removeprefix("http://").split(":")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("store.invalid").configure_cert(context)
    authority.cert_pem.write_to_path(str(here.folder / "ca.pem"))
    keys = {"A": rgw.access_key, "S": rgw.secret_key}
    lines = ('access_key_id = "env:A"', 'secret_access_key = "env:S"', 'ca_bundle = "ca.pem"')
    here.configure(_provider(rgw, *lines, endpoint="https://store.invalid"))
    with tls_front((host, int(port)), context) as front, ForwardProxy({"store.invalid:443": front}) as proxy:
        _works(here, https_proxy=proxy.url, **keys)
        assert proxy.asked
        assert {line.split()[0] for line in proxy.asked} == {"CONNECT"}
