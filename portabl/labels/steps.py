"""The steps of a verification: what each asks, where that is written, and how it can end."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Outcome(enum.StrEnum):
    """How a step ended. Only ``PASSED`` counts: what was not checked is not proven."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


class Failed(Exception):
    """A step found something wrong; the text says what."""


class NotChecked(Exception):
    """A step could not look; the text says what was missing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a verification. ``where``: the place in the specification that asks for it."""

    name: str
    outcome: Outcome
    reason: str
    where: str


WHERE: Mapping[str, str] = MappingProxyType(
    {
        "token": "RFC 7515 section 7.1, RFC 8259 section 4",
        "algorithm": "RFC 7518 section 3.1, RFC 8725 section 3.1",
        "header": "W3C VC-JOSE-COSE, JOSE header; Gaia-X ICAM 25.11, credential format",
        "credential": "W3C VC Data Model 2.0, Contexts and Types; Gaia-X ICAM 25.11, credential format",
        "issuer": "Gaia-X ICAM 25.11, trusted issuers of the registry",
        "key": "did:web method, Read; W3C DID Core 1.0 section 5.3.2 (assertion)",
        "signature": "RFC 7515 section 5.2",
        "chain": "RFC 7517 sections 4.6 and 4.7, RFC 5280 section 6; Gaia-X trust anchors",
        "dates": "W3C VC Data Model 2.0, Validity Period",
        "status": "W3C VC Data Model 2.0, Status",
        "label": "Gaia-X Compliance Document, label levels and criteria",
        "digests": "W3C VC Data Model 2.0, Integrity of Related Resources; RFC 8785",
        "members": "Gaia-X ICAM 25.11, compliance credential; RFC 7515 section 5.2",
        "service": "Gaia-X ontology 25.11, ServiceOffering and LegalPerson",
        "provider": "Gaia-X ontology 25.11, Endpoint",
    }
)
"""Every step in order, with the place that asks for it. ``provider`` is asked only when a provider is named."""
