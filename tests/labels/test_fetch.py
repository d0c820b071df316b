"""Documents over HTTPS: from our own server when a trust file says so, and from nowhere else on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.clearing_house import Case, Web

from portabl.labels import did, trust
from portabl.labels.fetch import Cache, Fetcher, is_public
from portabl.labels.finding import Finding
from portabl.labels.sources import DOCUMENT_BYTES_MAX, Piece, Sources
from portabl.labels.steps import Failed, NotChecked
from portabl.labels.verify import verify


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    server = Web(tmp_path_factory.mktemp("web"))
    yield server
    server.stop()


@pytest.fixture
def fetcher(web: Web) -> Fetcher:
    return Fetcher(frozenset({f"localhost:{web.port}"}), str(web.ca_file))


def check(case: Case, web: Web, folder: Path, *, fetcher: Fetcher | None, cache: Cache | None = None) -> Finding:
    """Verify with the presentation at hand and everything else from elsewhere."""
    believed = trust.load(str(web.house.trust(folder)))
    sources = Sources([Piece("presentation", "vp", case.presentation(), "test")], fetcher, cache)
    return verify(case.label(), at=case.at, sources=sources, trust=believed, endpoint=case.endpoint)


def outcome(found: Finding, name: str) -> tuple[str, str]:
    return next((str(step.outcome), step.reason) for step in found.steps if step.name == name)


def test_keys_and_chain_come_over_https(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    case = web.house.case()
    web.publish(case)
    web.asked.clear()
    found = check(case, web, tmp_path, fetcher=fetcher)
    assert found.first_problem is None
    assert {"/v2/did.json", "/v2/chain.pem", "/participant/did.json", "/notary/did.json"} == set(web.asked)


def test_a_credential_that_is_not_at_hand_is_fetched_by_its_id(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    case = web.house.case()
    web.publish(case)
    believed = trust.load(str(web.house.trust(tmp_path)))
    found = verify(case.label(), at=case.at, sources=Sources((), fetcher), trust=believed, endpoint=case.endpoint)
    assert found.first_problem is None
    case.members[3]["credentialSubject"]["schema:name"] = "changed since"
    web.publish(case)
    found = verify(case.label(), at=case.at, sources=Sources((), fetcher), trust=believed)
    assert "its digest is another" in outcome(found, "digests")[1]


def test_offline_touches_nothing_and_the_cache_answers_with_its_date(
    web: Web, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, cache = web.house.case(), Cache(str(tmp_path / "cache"))
    web.publish(case)
    assert check(case, web, tmp_path, fetcher=fetcher, cache=cache).labelled
    monkeypatch.setattr(socket, "socket", _forbidden)
    web.asked.clear()
    found = check(case, web, tmp_path, fetcher=None, cache=cache)
    assert found.first_problem is None
    assert "from the cache, as seen on 20" in outcome(found, "key")[1]
    alone = check(case, web, tmp_path, fetcher=None)
    assert outcome(alone, "key")[0] == "not checked"
    assert web.asked == []


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("a socket was opened")


def test_an_old_or_broken_cache_is_none(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.put("https://a.example/did.json", "text")
    assert cache.get("https://a.example/did.json") is not None
    assert cache.get("https://b.example/did.json") is None
    (file,) = tmp_path.iterdir()
    entry = json.loads(file.read_text())
    for seen in (datetime.now(UTC) - timedelta(days=91), datetime.now(UTC) + timedelta(days=1)):
        file.write_text(json.dumps({**entry, "seen": seen.isoformat()}))
        assert cache.get("https://a.example/did.json") is None
    for text in ("", "[]", "{}", '{"seen": 1}', json.dumps({**entry, "seen": "2026-01-01"})):
        file.write_text(text)
        assert cache.get("https://a.example/did.json") is None


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    Cache(str(tmp_path / "file" / "cache")).put("https://a.example", "text")


def test_private_addresses_are_refused_without_a_trust_file(web: Web, tmp_path: Path) -> None:
    web.asked.clear()
    for url in (f"https://localhost:{web.port}/v2/did.json", f"https://127.0.0.1:{web.port}/"):
        with pytest.raises(NotChecked, match="no public address"):
            Fetcher(ca_bundle=str(web.ca_file)).get(url, 1000)
    with pytest.raises(NotChecked, match="no public address"):
        Fetcher(frozenset({f"localhost:{web.port + 1}"}), str(web.ca_file)).get(f"https://localhost:{web.port}/", 1000)
    assert web.asked == []


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "ff02::1", "255.255.255.255", "not an address", ""),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "185.15.58.224", "2a02:ec80:300:ed1a::1", "64:ff9b::808:808"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/did.json",
        "file:///etc/passwd",
        "ftp://localhost/x",
        "https://user:secret@localhost/x",
        "https:///x",
        "https://localhost:99999/x",
        "https://localhost/\n",
        "https://bücher.example/",
        "",
    ],
)
def test_only_plain_https(url: str) -> None:
    with pytest.raises(NotChecked, match="URL"):
        Fetcher(frozenset({"localhost"})).get(url, 1000)


def test_limits(web: Web, fetcher: Fetcher) -> None:
    base = f"https://localhost:{web.port}"
    web.pages["/large"] = b"x" * (DOCUMENT_BYTES_MAX + 1)
    web.pages["/exact"] = b"x" * DOCUMENT_BYTES_MAX
    web.pages["/latin"] = b"\xff"
    web.pages["/moved"] = (302, {"Location": f"{base}/exact"}, b"")
    web.pages["/gone"] = (410, {}, b"gone")
    assert len(fetcher.get(f"{base}/exact", DOCUMENT_BYTES_MAX)) == DOCUMENT_BYTES_MAX
    for page, words in (("large", "longer than"), ("latin", "UTF-8"), ("moved", "302"), ("gone", "410")):
        with pytest.raises(NotChecked, match=words):
            fetcher.get(f"{base}/{page}", DOCUMENT_BYTES_MAX)


def test_a_certificate_nobody_trusts_ends_it(web: Web) -> None:
    with pytest.raises(NotChecked, match=r"(?i)certificate"):
        Fetcher(frozenset({"localhost"})).get(f"https://localhost:{web.port}/exact", 1000)


def test_a_proxy_of_the_environment_is_not_asked(
    web: Web, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.pages["/x"] = b"here"
    assert fetcher.get(f"https://localhost:{web.port}/x", 100) == "here"


def test_an_untrusted_issuer_is_not_even_asked(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    case = web.house.case()
    stranger = case.payload["issuer"].replace(":v2", ":v3")
    case.payload["issuer"] = case.header["iss"] = stranger
    case.header["kid"] = f"{stranger}#X509-JWK"
    web.asked.clear()
    found = check(case, web, tmp_path, fetcher=fetcher)
    assert outcome(found, "issuer")[0] == "failed"
    assert "/v3/did.json" not in web.asked


def test_a_document_of_somebody_else_is_refused(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    case = web.house.case()
    web.publish(case)
    for body, words in (
        (b"{}", "not of did:web"),
        (b"[1]", "no JSON object"),
        (b'{"id": 1, "id": 2}', "comes twice"),
        (b"<html>", "not JSON"),
    ):
        web.pages["/v2/did.json"] = body
        state, reason = outcome(check(case, web, tmp_path, fetcher=fetcher), "key")
        assert state == "failed"
        assert words in reason


# --- did:web ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("did:web:gaia-x.eu", "https://gaia-x.eu/.well-known/did.json"),
        ("did:web:compliance.gxdch.gaiax.ovh:v2", "https://compliance.gxdch.gaiax.ovh/v2/did.json"),
        ("did:web:localhost%3A8443:a:b", "https://localhost:8443/a/b/did.json"),
    ],
)
def test_where_a_did_document_is(name: str, url: str) -> None:
    assert did.parse(name).url == url


@pytest.mark.parametrize(
    "name",
    [
        *("did:web:", "did:web:a b", "did:web:A.example", "did:web:a.example:", "did:web:a.example:..:x", "did:key:z6"),
        *("did:web:a.example:x/y", "did:web:a.example:x?y", "did:web:a.example%3A0", "did:web:a.example%3A99999"),
        *("did:web:a.example%3A", "did:web:127.0.0.1", "did:web:user@a.example", "did:web:a.example#k", "web:x", ""),
        *("did:web:-a.example", f"did:web:{'a' * 300}", "did:web:a..b", "did:web:a.example%2Fx", "did:web:[::1]"),
    ],
)
def test_names_that_are_no_did_web(name: str) -> None:
    with pytest.raises(Failed):
        did.parse(name)


# --- trust files ---


def test_a_trust_file_is_loud(web: Web, tmp_path: Path) -> None:
    believed = trust.load(str(web.house.trust(tmp_path, private_hosts=["localhost"])))
    said = " ".join(believed.warnings)
    assert web.house.did in said
    assert "private addresses are allowed for localhost" in said
    assert len(believed.houses) == len(trust.BUILT_IN) + 1
    alone = trust.load(str(web.house.trust(tmp_path, builtin=False)))
    assert set(alone.houses) == {web.house.did}


def test_the_laboratory_stays_out_whatever_the_file_says(tmp_path: Path) -> None:
    lab = "did:web:compliance.lab.gaia-x.eu:v2"
    (tmp_path / "t.toml").write_text(f'[[clearing_houses]]\ndid = "{lab}"')
    with pytest.raises(Failed, match="laboratory"):
        trust.load(str(tmp_path / "t.toml")).house(lab)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "TOML"),
        ("surprise = 1", "unknown field `surprise`"),
        ("anchors = 'roots.pem'", "anchors must be a list"),
        ("anchors = ['missing.pem']", "missing.pem"),
        ("private_hosts = [1]", "list of strings"),
        ("[[clearing_houses]]\nname = 'x'", "did"),
        ("[[clearing_houses]]\ndid = 'did:key:x'", "did:web"),
        ("clearing_houses = [1]", "tables"),
    ],
)
def test_mistakes_in_a_trust_file(text: str, words: str, tmp_path: Path) -> None:
    from portabl.errors import ConfigError

    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        trust.load(str(tmp_path / "t.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        trust.load(str(tmp_path / "none.toml"))
