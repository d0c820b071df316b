"""Alerts, to real servers: signed, retried within bounds, and never in the way of the run they speak of."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from jobs.place import NIGHTLY, Place, Receiver, receiver
from kit.processes import free_ports

from portabl.jobs import alerts
from portabl.jobs.alert_config import Alert, alert_of

SECRET = "whsec_c2VjcmV0IG9mIHRoZSBob29r"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.data(a="1", b="22")
    return made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def _webhook(url: str, secret: str = SECRET) -> str:
    return f'[alerts.hook]\ntype = "webhook"\nurl = "{url}/hook?token=tokentoken"\nsecret = "{secret}"\n'


BROKEN = NIGHTLY.replace('"data"', '"not-there"') + 'on_failure = ["hook"]\non_success = ["hook"]\n'
GOOD = NIGHTLY + 'on_failure = ["hook"]\non_success = ["hook"]\n'


def _failing(place: Place) -> None:
    from portabl.errors import PortablError

    with pytest.raises(PortablError):
        place.run()


def test_a_webhook_is_signed_so_that_others_can_check_it(place: Place, hook: Receiver) -> None:
    place.write(GOOD + _webhook(hook.url))
    run = place.run()
    ((method, path, headers, body),) = hook.seen
    assert (method, path) == ("POST", "/hook?token=tokentoken")
    said = standardwebhooks.Webhook(SECRET).verify(body, {k.lower(): v for k, v in headers.items()})
    assert (said["event"], said["job"], said["exit_code"], said["objects"], said["bytes"]) == ("ok", "nightly", 0, 2, 3)
    assert (said["run"], said["manifest"], run.alerts) == (run.id, run.manifest, "delivered")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body + b" ", {k.lower(): v for k, v in headers.items()})


def test_a_failed_run_is_told(place: Place, hook: Receiver) -> None:
    place.write(BROKEN + _webhook(hook.url))
    _failing(place)
    said = json.loads(hook.seen[0][3])
    assert (said["event"], said["exit_code"]) == ("failed", 6)
    assert "not-there" in said["message"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_webhook_is_sent_again_with_growing_pauses(place: Place, hook: Receiver, status: int) -> None:
    hook.answers = [status, status, 200]
    place.write(GOOD + _webhook(hook.url))
    assert place.run().alerts == "delivered"
    assert len({headers["Webhook-Id"] for _, _, headers, _ in hook.seen}) == 1, "the receiver can tell it is the same"
    assert len(hook.seen) == 3
    first, second = place.slept
    assert 1 <= first < 2 <= second < 4


def test_a_webhook_waits_as_long_as_it_is_asked_to_but_not_for_ever(place: Place, hook: Receiver) -> None:
    hook.answers, hook.headers = [429], {"Retry-After": "17"}
    place.write(GOOD + _webhook(hook.url))
    place.run()
    assert place.slept == [17]
    hook.answers, hook.headers = [503], {"Retry-After": "99999"}
    place.run()
    assert place.slept[1:] == [alerts.PAUSE_SECONDS_MAX]


@pytest.mark.parametrize(("status", "attempts"), [(500, alerts.ATTEMPTS), (400, 1), (404, 1), (302, 1)])
def test_what_cannot_be_delivered_is_said_and_changes_nothing_else(
    place: Place, hook: Receiver, status: int, attempts: int
) -> None:
    hook.answers, hook.headers = [status] * 20, {"Location": f"{hook.url}/elsewhere"}
    place.write(GOOD + _webhook(hook.url))
    run = place.run()
    assert (run.result, run.exit_code, run.alerts) == ("ok", 0, f"hook: answered {status}")
    assert place.told == [f"warning: the alert could not be delivered: hook: answered {status}"]
    assert [path.partition("?")[0] for _, path, _, _ in hook.seen] == ["/hook"] * attempts, "no redirect is followed"


def test_nobody_listens(place: Place, hook: Receiver) -> None:
    with receiver() as gone:
        pass
    place.write(GOOD + _webhook(gone.url))
    run = place.run()
    assert (run.result, run.alerts) == ("ok", "hook: no answer: ConnectionRefusedError")
    assert len(place.slept) == alerts.ATTEMPTS - 1
    assert "tokentoken" not in str(place.told)


def test_a_secret_that_is_not_there_is_no_reason_to_hide_the_run(place: Place, hook: Receiver) -> None:
    place.write(GOOD + _webhook(hook.url, "env:NOT_SET_ANYWHERE"))
    run = place.run()
    assert run.result == "ok"
    assert "[alerts.hook] secret: environment variable NOT_SET_ANYWHERE is not set" in run.alerts
    assert not hook.seen, "nothing unsigned is sent where a signature is expected"


def test_the_dead_mans_switch_hears_of_good_runs_only(place: Place, hook: Receiver) -> None:
    place.write(NIGHTLY + f'ping = "{hook.url}/alive"\n')
    hook.answers = [503]
    assert place.run().alerts == "delivered"
    assert [(method, path) for method, path, _, _ in hook.seen] == [("GET", "/alive")] * 2
    place.write(NIGHTLY.replace('"data"', '"not-there"') + f'ping = "{hook.url}/alive"\n')
    _failing(place)
    assert len(hook.seen) == 2


def test_a_command_reads_the_message_and_its_environment(place: Place) -> None:
    program = "import json, os, sys; m = json.load(sys.stdin); m['env'] = os.environ['PORTABL_EVENT']; "
    program += "m['arguments'] = sys.argv[1:]; json.dump(m, open('said.json', 'w'))"
    command = [sys.executable, "-c", program.replace("said.json", str(place.folder / "said.json")), "$(x) ;"]
    place.write(GOOD + f'[alerts.hook]\ntype = "command"\ncommand = {json.dumps(command)}\n')
    assert place.run().alerts == "delivered"
    said = json.loads((place.folder / "said.json").read_text())
    assert (said["job"], said["env"], said["arguments"]) == ("nightly", "ok", ["$(x) ;"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([sys.executable, "-c", "raise SystemExit(9)"], "the command ended with 9"),
        (["/not/there"], "the command cannot be run: No such file or directory"),
    ],
)
def test_a_command_that_fails_is_said(place: Place, command: list[str], words: str) -> None:
    place.write(GOOD + f'[alerts.hook]\ntype = "command"\ncommand = {json.dumps(command)}\n')
    assert place.run().alerts == f"hook: {words}"


class _Mailbox:
    """Keeps mails; refuses the recipients it is told to."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.answers: list[str] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 kept"


def _mail(port: int, more: str = 'security = "none"') -> str:
    return (
        f'[alerts.hook]\ntype = "email"\nhost = "127.0.0.1"\nport = {port}\nfrom = "portabl@example.org"\n'
        f'to = ["ops@example.org", "boss@example.org"]\n{more}\n'
    )


@pytest.fixture
def mailbox() -> Iterator[tuple[_Mailbox, int]]:
    box = _Mailbox()
    port = free_ports(1)
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


def test_a_mail_names_the_run(place: Place, mailbox: tuple[_Mailbox, int]) -> None:
    box, port = mailbox
    place.write(BROKEN + _mail(port))
    _failing(place)
    ((to, mail),) = box.mails
    assert to == ["ops@example.org", "boss@example.org"]
    assert mail["Subject"].startswith("portabl: job nightly on ")
    assert "failed" in mail["Subject"]
    text = mail.get_content()
    assert "exit_code         6" in text
    assert "not-there" in text


def test_a_mail_server_that_is_busy_is_asked_again_one_that_refuses_is_not(
    place: Place, mailbox: tuple[_Mailbox, int]
) -> None:
    box, port = mailbox
    place.write(GOOD + _mail(port))
    box.answers = ["451 later", "452 later"]
    assert place.run().alerts == "delivered"
    assert (len(box.mails), len(place.slept)) == (1, 2)
    box.answers = ["550 never"]
    assert place.run().alerts == "hook: the mail server answered 550"
    assert len(place.slept) == 2


def test_no_mail_without_tls_where_tls_is_asked_for(place: Place, mailbox: tuple[_Mailbox, int]) -> None:
    box, port = mailbox
    place.write(GOOD + _mail(port, ""))
    assert place.run().alerts == "hook: the mail server refuses: SMTPNotSupportedError"
    assert not box.mails


def test_mail_with_starttls_and_a_password(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    box, authority, logins = _Mailbox(), trustme.CA(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(place.folder / "ca.pem"))

    def login(_server: object, _session: object, _envelope: object, _mechanism: str, data: Any) -> AuthResult:
        logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"word", handled=False)

    port = free_ports(1)
    controller = Controller(
        box, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True, authenticator=login,
        auth_required=True,
    )  # fmt: skip
    controller.start()
    try:
        monkeypatch.setenv("MAIL_PASSWORD", "word")
        place.write(GOOD + _mail(port, 'username = "me"\npassword = "env:MAIL_PASSWORD"'))
        assert place.run().alerts == "hook: the mail server cannot be reached: SSLCertVerificationError"
        assert not logins, "no password before the server is known"
        monkeypatch.setenv("SSL_CERT_FILE", str(place.folder / "ca.pem"))
        assert place.run().alerts == "delivered"
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        assert place.run().alerts == "hook: the mail server answered 535"
    finally:
        controller.stop()
    assert logins[0] == (b"me", b"word")
    assert len(box.mails) == 1


def test_a_text_from_outside_cannot_add_headers_to_a_mail(mailbox: tuple[_Mailbox, int]) -> None:
    box, port = mailbox
    table = {"type": "email", "host": "127.0.0.1", "port": port, "from": "a@b", "to": ["c@d"], "security": "none"}
    alert: Alert = alert_of("x", table, "")
    message = {"id": "1", "job": "a", "summary": "x\r\nBcc: evil@example.org\x1b[31m", "message": "y\n.\nQUIT"}
    assert alerts.send(alert, message) == ""
    assert "Bcc" not in box.mails[0][1]
    assert "\x1b" not in str(box.mails[0][1])
