"""Telling people and monitors: signed webhooks, mail, commands, and the dead man's switch.

Every way has a limit of attempts and of time. What could not be delivered is returned, never raised: an alert that
fails must not hide the run it speaks of.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from types import MappingProxyType
from typing import Any

from portabl.errors import ConfigError
from portabl.jobs.alert_config import SECURITY, Alert
from portabl.keys import plain

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 1.0
PAUSE_SECONDS_MAX = 60.0
ANSWER_SECONDS = 20.0
COMMAND_SECONDS = 120.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Message = Mapping[str, Any]
"""What an alert says: fields of the run, see docs/jobs.md."""

Sleep = Callable[[float], object]


class _Undelivered(Exception):
    """An attempt failed; ``again``: whether another one may succeed, ``after``: seconds the other side asks for."""

    def __init__(self, reason: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(reason)
        self.again = again
        self.after = after


def send(alert: Alert, message: Message, sleep: Sleep = time.sleep) -> str:
    """Deliver ``message``; "" when that was confirmed, else why not. Bounded: `ATTEMPTS`, with growing pauses."""
    return _patiently(lambda: _WAYS[alert.type](alert, message), sleep)


def ping(url: str, sleep: Sleep = time.sleep) -> str:
    """Tell a dead man's switch that all is well (one GET); "" when it answered so, else why not."""
    return _patiently(lambda: _call(urllib.request.Request(url)), sleep)  # noqa: S310 - the scheme was checked


def _patiently(attempt: Callable[[], None], sleep: Sleep) -> str:
    reason = ""
    for number in range(ATTEMPTS):
        try:
            attempt()
            return ""
        except _Undelivered as failed:
            reason = str(failed)
            if not failed.again or number == ATTEMPTS - 1:
                break
            pause = FIRST_PAUSE_SECONDS * 2**number * random.uniform(1, 1.25)  # noqa: S311 - no secret
            sleep(min(max(pause, failed.after), PAUSE_SECONDS_MAX))
        except ConfigError as error:
            return plain(str(error))
    return plain(reason)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET and carry the message to a place nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _call(request: urllib.request.Request) -> None:
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        with error:
            wait = error.headers.get("Retry-After", "")
            after = float(wait) if wait.isdigit() else 0.0
            raise _Undelivered(f"answered {error.code}", again=error.code in _AGAIN, after=after) from None
    except (OSError, ValueError) as error:  # the URL may hold a token: only the kind of failure is told
        reason = getattr(error, "reason", error)
        again = isinstance(error, OSError) and not isinstance(reason, ssl.SSLCertVerificationError)
        raise _Undelivered(f"no answer: {type(reason).__name__}", again=again) from None


def _webhook(alert: Alert, message: Message) -> None:
    body = json.dumps(message).encode()
    url = alert.secret("url")
    headers = {"Content-Type": "application/json", "User-Agent": "portabl"}
    headers |= signature(alert.secret("secret"), str(message["id"]), int(time.time()), body)
    if not url.startswith(("http://", "https://")):
        raise _Undelivered("its url is no http or https URL", again=False)
    _call(urllib.request.Request(url, data=body, headers=headers, method="POST"))  # noqa: S310 - checked above


def signature(secret: str, identity: str, seconds: int, body: bytes) -> dict[str, str]:
    """Headers by which a receiver knows who sent a body (https://www.standardwebhooks.com).

    ``secret``: ``whsec_`` and base64, or any text; "" gives no signature. ``seconds``: Unix time.
    """
    headers = {"webhook-id": identity, "webhook-timestamp": str(seconds)}
    if not secret:
        return headers
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.digest(key, f"{identity}.{seconds}.".encode() + body, hashlib.sha256)
    return headers | {"webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}


def _email(alert: Alert, message: Message) -> None:
    import smtplib

    values = alert.values
    mail = EmailMessage()
    mail["Subject"] = plain(f"portabl: {message['summary']}"[:200])
    mail["From"] = values["from"]
    mail["To"] = ", ".join(values["to"])
    mail["X-Portabl-Job"] = str(message["job"])
    mail.set_content(mail_text(message))
    try:
        _submit(alert, mail)
    except smtplib.SMTPResponseException as error:
        again = 400 <= error.smtp_code < 500
        raise _Undelivered(f"the mail server answered {error.smtp_code}", again=again) from None
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
        raise _Undelivered(f"the mail server refuses: {type(error).__name__}", again=False) from None
    except (OSError, smtplib.SMTPException) as error:
        again = not isinstance(error, ssl.SSLCertVerificationError)
        raise _Undelivered(f"the mail server cannot be reached: {type(error).__name__}", again=again) from None


def _submit(alert: Alert, mail: EmailMessage) -> None:
    import smtplib

    values = alert.values
    security = values.get("security", "starttls")
    host, port = values["host"], values.get("port", SECURITY[security])
    trust = ssl.create_default_context()
    if security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=ANSWER_SECONDS, context=trust)
    else:
        server = smtplib.SMTP(host, port, timeout=ANSWER_SECONDS)
    with server:
        if security == "starttls":
            server.starttls(context=trust)
        if values.get("username"):
            server.login(alert.secret("username"), alert.secret("password"))
        refused = server.send_message(mail)
        if refused:
            raise _Undelivered(f"the mail server refuses {len(refused)} of the recipients", again=False)


def mail_text(message: Message) -> str:
    """The body of a mail: one field a line."""
    width = max(map(len, message))
    lines = [f"{name:<{width}}  {plain(str(value))}" for name, value in message.items() if value not in ("", None)]
    return "\n".join(lines) + "\n"


def _command(alert: Alert, message: Message) -> None:
    names = {f"PORTABL_{name.upper()}": plain(str(message[name])) for name in ("job", "event", "exit_code", "summary")}
    try:
        done = subprocess.run(  # noqa: S603 - running the user's command is what was asked for; no shell reads it
            alert.values["command"],
            input=json.dumps(message).encode(),
            env={**os.environ, **names},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Undelivered(f"the command took longer than {COMMAND_SECONDS:.0f} s", again=False) from None
    except OSError as error:
        raise _Undelivered(f"the command cannot be run: {error.strerror}", again=False) from None
    if done.returncode:
        raise _Undelivered(f"the command ended with {done.returncode}", again=False)


_WAYS: Mapping[str, Callable[[Alert, Message], None]] = MappingProxyType(
    {"webhook": _webhook, "email": _email, "command": _command}
)
