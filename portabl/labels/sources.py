"""Where the other documents of a verification come from: files kept as evidence, the network, or the dated cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portabl.labels import chain, credential, jose
from portabl.labels.did import Web
from portabl.labels.fetch import Cache, Fetcher
from portabl.labels.jose import Token
from portabl.labels.steps import Failed, NotChecked

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

DOCUMENT_BYTES_MAX = 1 << 18


@dataclass(frozen=True, slots=True)
class Piece:
    """A document beside the token. ``kind``: did, chain, presentation or credential. ``origin``: for people."""

    kind: str
    name: str
    text: str
    origin: str


class Sources:
    """Looks a document up in the evidence, then elsewhere; remembers in ``used`` what it answered.

    Without ``fetcher`` nothing touches the network and the cache is asked instead.
    """

    def __init__(
        self, evidence: Sequence[Piece] = (), fetcher: Fetcher | None = None, cache: Cache | None = None
    ) -> None:
        self._evidence = tuple(evidence)
        self._fetcher = fetcher
        self._cache = cache
        self.used: dict[str, Piece] = {}

    def did(self, web: Web, *, fetch: bool = True) -> tuple[Mapping[str, Any], str]:
        """A DID document and where it comes from. ``fetch``: the network may be asked. Raises Failed, NotChecked."""
        for piece in self._of("did"):
            document = jose.read_json(piece.text.encode("utf-8", "replace"), f"DID document {piece.name}")
            if document.get("id") == web.did:
                self.used[web.did] = piece
                return document, piece.origin
        piece = self._elsewhere("did", web.url, DOCUMENT_BYTES_MAX, fetch=fetch)
        self.used[web.did] = piece
        return jose.read_json(piece.text.encode("utf-8"), f"DID document at {web.url}"), piece.origin

    def chain(self, jwk: Mapping[str, Any]) -> tuple[list[Certificate], str]:
        """The certificates behind a key: from a file, from ``x5c``, from ``x5u``. Raises Failed, NotChecked."""
        for piece in self._of("chain"):
            self.used["chain"] = piece
            return chain.from_pem(piece.text), piece.origin
        if "x5c" in jwk:
            return chain.from_x5c(jwk["x5c"]), "x5c"
        if not isinstance(jwk.get("x5u"), str):
            raise Failed("the key names no certificate chain (x5u or x5c)")
        piece = self._elsewhere("chain", jwk["x5u"], chain.CHAIN_BYTES_MAX)
        self.used["chain"] = piece
        return chain.from_pem(piece.text), piece.origin

    def credentials(self) -> Iterator[Token]:
        """Every credential at hand. Raises Failed for a presentation that cannot be read."""
        for piece in self._of("presentation"):
            self.used[piece.name] = piece
            yield from credential.enveloped(piece.text)
        for piece in self._of("credential"):
            self.used[piece.name] = piece
            yield jose.parse(piece.text)

    def credential(self, url: str) -> Token:
        """A credential at its own address. Raises Failed, NotChecked."""
        piece = self._elsewhere("credential", url, jose.TOKEN_BYTES_MAX)
        self.used[url] = piece
        return jose.parse(piece.text)

    def _of(self, kind: str) -> Iterator[Piece]:
        return (piece for piece in self._evidence if piece.kind == kind)

    def _elsewhere(self, kind: str, url: str, limit: int, *, fetch: bool = True) -> Piece:
        if self._fetcher is not None and fetch:
            text = self._fetcher.get(url, limit)
            if self._cache is not None:
                self._cache.put(url, text)
            return Piece(kind, url, text, f"fetched from {url}")
        found = self._cache.get(url) if self._cache is not None else None
        if found is None:
            why = "offline" if self._fetcher is None else "not fetched"
            raise NotChecked(f"{url} is not at hand ({why}, and not in the cache)")
        return Piece(kind, url, found[0], f"from the cache, as seen on {found[1]}")
