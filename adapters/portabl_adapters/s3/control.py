"""What needs botocore: the credentials chain, and requests libcurl cannot sign. botocore is loaded only for these.

Requests libcurl cannot sign: keys with ``.`` or ``..`` segments (it resolves them), and access keys with
characters it would percent-encode (OpenStack Swift's ``account:user``). botocore signs and sends them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from portabl.errors import CredentialsRefused
from portabl_adapters.s3.address import Address
from portabl_adapters.s3.bodies import Sink
from portabl_adapters.s3.wire import ANSWER_BYTES_MAX, CONNECT_SECONDS, Answer, Header, Keys, Lost

if TYPE_CHECKING:
    from botocore.httpsession import URLLib3Session

RECHECK_SECONDS = 60
"""How often the credentials chain is asked for its keys (botocore itself renews them before they expire)."""
RENEW_SECONDS = 5
"""After keys were refused and there are no others, this long nobody asks again: every object may be refused."""
_DOT_SEGMENT = re.compile(r"(?<=/)\.{1,2}(?=[/?]|$)")
_PLAIN_ACCESS_KEY = re.compile(r"[A-Za-z0-9_.~-]+")


@lru_cache(maxsize=64)
def libcurl_signs(access_key: str) -> bool:
    """Whether libcurl puts this access key into a request as it is."""
    return _PLAIN_ACCESS_KEY.fullmatch(access_key) is not None


class Credentials:
    """Present keys: from the configuration, else from boto3's chain (environment, profile, SSO, instance role ...)."""

    def __init__(self, secret: Callable[[str], str | None], profile: str, storage: str) -> None:
        self._secret = secret
        self._profile = profile
        self._storage = storage
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._chain: Any = None
        self._recheck = float("inf")
        self._refused_until = 0.0

    def current(self) -> Keys:
        """The keys to sign with now, the same object until they change. Raises CredentialsRefused without any."""
        keys = self._keys
        if keys is not None and time.monotonic() < self._recheck:
            return keys
        with self._lock:
            if self._keys is None or time.monotonic() >= self._recheck:
                self._take(self._ask())
            assert self._keys is not None
            return self._keys

    def at_hand(self) -> Keys | None:
        """The same when nobody need be asked for them now, else None."""
        keys = self._keys
        return keys if keys is not None and time.monotonic() < self._recheck else None

    def renew(self, refused: Keys) -> bool:
        """Ask again after ``refused`` was refused; whether there are others now: renewed, or rotated by somebody."""
        with self._lock:
            if self._keys is refused and time.monotonic() >= self._refused_until:
                self._chain = None
                self._take(self._ask())
                if self._keys is refused:
                    self._refused_until = time.monotonic() + RENEW_SECONDS
            return self._keys is not refused

    def redact(self, text: str) -> str:
        """``text`` without any secret in it."""
        keys = self._keys
        for secret in (keys.secret, keys.token) if keys else ():
            if secret:
                text = text.replace(secret, "***")
        return text

    def _take(self, keys: Keys) -> None:
        old = self._keys
        if old is None or not old.same(keys):
            self._keys = keys

    def _ask(self) -> Keys:
        access = self._secret("access_key_id")
        if access is not None:
            secret = self._secret("secret_access_key")
            if not secret:
                raise CredentialsRefused(
                    "an access key without its secret", storage=self._storage, hint="set secret_access_key too"
                )
            return Keys(access, secret, self._secret("session_token") or "")
        return self._ask_chain()

    def _ask_chain(self) -> Keys:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._chain is None:
                self._chain = boto3.Session(profile_name=self._profile or None).get_credentials()
            frozen = self._chain.get_frozen_credentials() if self._chain is not None else None
        except (BotoCoreError, ClientError) as error:
            raise CredentialsRefused(f"no credentials: {_reason(error)}", storage=self._storage) from None
        if frozen is None or not frozen.access_key:
            hint = "set access_key_id and secret_access_key, or AWS_PROFILE, or run where a role is attached"
            raise CredentialsRefused("no credentials found", storage=self._storage, hint=hint)
        self._recheck = time.monotonic() + RECHECK_SECONDS
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")


def _reason(error: Exception) -> str:
    """Why the chain failed, in words that hold no secret: what programs wrote to their error output is left out."""
    from botocore.exceptions import ClientError, ProfileNotFound

    if isinstance(error, ProfileNotFound):
        return str(error)
    if isinstance(error, ClientError):  # the token service
        said = error.response.get("Error", {})
        return f"the token service says {said.get('Code', '')} {said.get('Message', '')}".rstrip()
    provider = getattr(error, "kwargs", {}).get("provider", "")
    return f"the credentials chain failed: {type(error).__name__}{f' ({provider})' if provider else ''}"


class BotoHandle:
    """The same as CurlHandle with botocore's signer and session, which leave the path as it is; much slower."""

    def __init__(self, address: Address, stall_seconds: int) -> None:
        self._region = address.region
        self._session = _session(address, stall_seconds)
        self._forwarded = address.endpoint.startswith("http:") and bool(_proxies(address))

    def send(
        self,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes | memoryview,
        sha256: str,
        keys: Keys,
        sink: Sink | None,
    ) -> Answer:
        """One request, one answer. Raises Lost."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials as BotoCredentials

        request = AWSRequest(method, url, headers=_pairs(headers), data=bytes(body))
        request.headers["x-amz-content-sha256"] = sha256
        request.headers["User-Agent"] = "portabl"
        request.context["payload_signing_enabled"] = True
        S3SigV4Auth(BotoCredentials(keys.access, keys.secret, keys.token or None), "s3", self._region).add_auth(request)
        prepared = request.prepare()
        if self._forwarded:  # a proxy is given the whole URL, whose dot segments urllib3 would resolve
            prepared.url = _DOT_SEGMENT.sub(lambda found: found[0].replace(".", "%2E"), prepared.url)
        prepared.stream_output = True
        for name, value in prepared.headers.items():
            if not value.isascii():  # signed as text, sent as the same UTF-8
                raw: Any = value.encode("utf-8", "surrogateescape")
                prepared.headers[name] = raw
        return self._exchange(prepared, sink)

    def _exchange(self, prepared: Any, sink: Sink | None) -> Answer:
        from botocore.exceptions import BotoCoreError, ConnectTimeoutError, EndpointConnectionError, SSLError
        from urllib3.exceptions import HTTPError

        try:
            response = self._session.send(prepared)
            lines = [f"HTTP/1.1 {response.status_code}".encode()]
            lines += [_line(name, value) for name, value in response.raw.headers.items()]
            body = _receive(response.raw, lines, sink)
        except (EndpointConnectionError, ConnectTimeoutError):
            raise Lost(7, "cannot connect") from None
        except SSLError:
            raise Lost(60, "the server's certificate is not trusted") from None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise Lost(56, f"the connection broke ({type(error).__name__})") from None
        return Answer(response.status_code, lines, body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _session(address: Address, stall_seconds: int) -> URLLib3Session:
    from botocore.httpsession import URLLib3Session
    from urllib3 import disable_warnings
    from urllib3.exceptions import InsecureRequestWarning

    verify: Any = False if address.insecure else (address.ca_bundle or True)
    if address.insecure:  # asked for by name: no warning a request
        disable_warnings(InsecureRequestWarning)
    proxies = _proxies(address)
    timeout: Any = (CONNECT_SECONDS, stall_seconds)
    return URLLib3Session(verify=verify, proxies=proxies, timeout=timeout, max_pool_connections=1)


def _proxies(address: Address) -> dict[str, str]:
    """Proxies by scheme, from the environment."""
    from botocore.utils import get_environ_proxies

    found: dict[str, str] = get_environ_proxies(address.endpoint)
    return found


def _pairs(headers: Sequence[Header]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in headers:
        text = header.decode("utf-8", "surrogateescape") if isinstance(header, bytes) else header
        name, colon, value = text.partition(":")
        if colon:
            found[name] = value.strip()
        else:
            found[name.removesuffix(";")] = ""
    return found


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}".encode("latin-1", "replace")  # http.client decodes headers as Latin-1: this undoes it


def _receive(raw: Any, lines: list[bytes], sink: Sink | None) -> bytes | memoryview:
    try:
        if sink is None:
            data: bytes = raw.read(ANSWER_BYTES_MAX + 1, decode_content=False)
            if len(data) > ANSWER_BYTES_MAX:
                raise Lost(63, "the answer is larger than expected")
            return data
        sink.attach(lines)
        while chunk := raw.read(256 * 1024, decode_content=False):
            if sink.write(chunk) is not None:
                raw.close()
                break
        return sink.body
    finally:
        raw.release_conn()
