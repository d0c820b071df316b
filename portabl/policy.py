"""What a migration may do: rules of the user's own, decided before anything is read.

The table ``[policy]`` of portabl.toml and the flags of a command are added up: both hold, and a flag can only make the
rules stricter. What is not known (a country, a label without evidence) counts as not allowed. The decision, and the
label evidence it rests on, go into the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from portabl import countries, tables
from portabl.errors import ConfigError, PolicyRefused, UsageError
from portabl.keys import plain
from portabl.model import Proof
from portabl.providers import Config, FileProvider, FsspecProvider, S3Provider
from portabl.registry import Location

if TYPE_CHECKING:
    from portabl.labels.configured import Held
    from portabl.labels.trust import Trust

SIDES = ("source", "target")
LEVELS = ("SC", "L1", "L2", "L3")
FIELDS = ("require_label", "require_criteria", "jurisdictions", "min_proof", "tls", "allow_providers")
EVIDENCE_BYTES_MAX = 8 << 20
"""Most label evidence that is put into one manifest."""

_PROOFS = tuple(Proof)
_SAFE_SCHEMES = ("file", "local", "memory", "https", "sftp", "ssh")


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules; empty means that nothing is asked. Pairs of levels and criteria are for (source, target).

    ``jurisdictions``: groups of areas and countries, in each of which both region and owner must be. ``allow``: names
    of the providers that may be used, None for all.
    """

    labels: tuple[str, str] = ("", "")
    criteria: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    jurisdictions: tuple[tuple[str, ...], ...] = ()
    min_proof: str = ""
    tls: bool = False
    allow: tuple[str, ...] | None = None

    def __and__(self, other: Policy) -> Policy:
        """Both at once."""
        stronger = [max(pair, key=("", *LEVELS).index) for pair in zip(self.labels, other.labels, strict=True)]
        criteria = [tuple(dict.fromkeys(a + b)) for a, b in zip(self.criteria, other.criteria, strict=True)]
        allow = self.allow if other.allow is None else other.allow
        if self.allow is not None and other.allow is not None:
            allow = tuple(name for name in self.allow if name in other.allow)
        return Policy(
            (stronger[0], stronger[1]),
            (criteria[0], criteria[1]),
            tuple(dict.fromkeys(self.jurisdictions + other.jurisdictions)),
            max(self.min_proof, other.min_proof, key=("", *_PROOFS).index),
            self.tls or other.tls,
            allow,
        )


def of_config(config: Config) -> Policy:
    """The table ``[policy]``. Raises ConfigError."""
    return of_table(config.section("policy"), f"{config.path}: [policy]")


def of_table(table: Mapping[str, object], where: str) -> Policy:
    """Rules from a table; ``where`` names it in errors. Raises ConfigError."""
    for name in table:
        if name not in FIELDS:
            raise ConfigError(f"{where} {plain(name)}: unknown rule", hint=tables.suggest(name, FIELDS))
    labels = tuple(_level(value, where) for value in _by_side(table, "require_label", "", where))
    areas = _strings(table.get("jurisdictions", []), f"{where} jurisdictions")
    for area in areas:
        if not countries.members(area):
            known = f"one of {', '.join(countries.AREAS)}, or a country code such as FR"
            raise ConfigError(f"{where} jurisdictions: `{plain(area)}` is no area that is known", hint=known)
    allowed = table.get("allow_providers")
    return Policy(
        (labels[0], labels[1]),
        _criteria(table, labels, where),
        (areas,) if areas else (),
        _one_of(table.get("min_proof", ""), _PROOFS, f"{where} min_proof"),
        _one_of(table.get("tls", ""), ("required",), f"{where} tls") == "required",
        None if allowed is None else _strings(allowed, f"{where} allow_providers"),
    )


def _criteria(
    table: Mapping[str, object], labels: Sequence[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Written without sides, criteria are asked of the sides that need a label, else of both."""
    values = _by_side(table, "require_criteria", [], where)
    source, target = (_strings(value, f"{where} require_criteria") for value in values)
    if isinstance(table.get("require_criteria"), Mapping) or not any(labels):
        return source, target
    return (source if labels[0] else ()), (target if labels[1] else ())


def _by_side(table: Mapping[str, object], name: str, empty: object, where: str) -> tuple[object, object]:
    """A rule for both sides, or a table with one for each."""
    value = table.get(name, empty)
    if not isinstance(value, Mapping):
        return value, value
    for side in value:
        if side not in SIDES:
            raise ConfigError(f"{where} {name}: unknown side `{plain(str(side))}`", hint="`source` and `target`")
    return value.get("source", empty), value.get("target", empty)


def _level(value: object, where: str) -> str:
    return _one_of(value, LEVELS, f"{where} require_label")


def _one_of(value: object, known: Sequence[str], where: str) -> str:
    if value == "" or value in known:
        return str(value)
    raise ConfigError(f"{where}: must be one of {', '.join(known)}, not `{plain(str(value))}`")


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{where}: must be a list of strings")
    return tuple(value)


# --- deciding ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ruling:
    """One rule held against one side (``side`` is "" for rules on the run). ``needed``: what would satisfy it."""

    rule: str
    side: str
    held: bool
    found: str
    needed: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run may go on, and why. ``override``: the reason given for going on although it may not.

    ``labels``: by side, the labels of its provider with the evidence they rest on. ``warnings``: to be said each time,
    such as rules overridden, or clearing houses that only a trust file vouches for.
    """

    at: datetime
    rulings: tuple[Ruling, ...] = ()
    override: str = ""
    labels: tuple[tuple[Held, ...], tuple[Held, ...]] = ((), ())
    warnings: tuple[str, ...] = ()

    @property
    def broken(self) -> tuple[Ruling, ...]:
        """The rules that do not hold."""
        return tuple(ruling for ruling in self.rulings if not ruling.held)

    def enforce(self) -> None:
        """Raise PolicyRefused when a rule is broken and nobody took responsibility for that."""
        if not self.broken or self.override:
            return
        told = "; ".join(f"{one.rule}{' of the ' + one.side if one.side else ''}: {one.found}" for one in self.broken)
        hint = "; ".join(dict.fromkeys(one.needed for one in self.broken))
        raise PolicyRefused(
            f"refused by policy, nothing was read: {told}",
            hint=f"{hint}; or, on your responsibility, `--policy-override REASON`, which is recorded",
        )

    def document(self) -> dict[str, Any]:
        """The members ``policy`` and ``labels`` of a manifest (docs/manifest.md); {} when there is nothing to say."""
        found: dict[str, Any] = {}
        if self.rulings:
            found["policy"] = policy_document(self)
        if any(self.labels):
            found["labels"] = list(_label_documents(self))
        return found


def decide(
    policy: Policy, source: Location, target: Location, config: Config, *, proof: Proof, override: str = ""
) -> Decision:
    """Hold both places and the run against every rule, now. Reads label files, and no place.

    Raises ConfigError and UsageError for label and trust files that cannot be read.
    """
    at = datetime.now(UTC)
    rules = of_config(config) & policy
    if override and not override.strip():
        raise UsageError("`--policy-override` needs a reason", hint="say why, it goes into the manifest")
    believed = _trust(config) if source.provider.labels or target.provider.labels else None
    source_labels, target_labels = (_labels(place, believed, at) for place in (source, target))
    labels = (source_labels, target_labels)
    rulings: list[Ruling] = []
    for number, place in enumerate((source, target)):
        rulings += _of_side(rules, number, place, labels[number])
    if rules.min_proof:
        enough = _PROOFS.index(proof) >= _PROOFS.index(Proof(rules.min_proof))
        rulings.append(Ruling("min_proof", "", enough, f"proof {proof}", f"`--proof {rules.min_proof}` or more"))
    decision = Decision(at, tuple(rulings), override.strip(), labels)
    said = [f"policy {summary(decision)}"] if decision.broken else []
    return replace(decision, warnings=(*said, *(believed.warnings if believed is not None else ())))


def _trust(config: Config) -> Trust:
    from portabl.labels import configured

    return configured.trust_of(config)


def _labels(place: Location, believed: Trust | None, at: datetime) -> tuple[Held, ...]:
    if believed is None:
        return ()
    from portabl.labels import configured

    found = configured.held(place.provider, believed, at)
    size = sum(len(one.token) + sum(len(piece.text) for piece in one.evidence) for one in found)
    if size > EVIDENCE_BYTES_MAX:
        raise UsageError(
            f"the label evidence of {place.provider.name} has {size:,} characters, accepted are {EVIDENCE_BYTES_MAX:,}",
            hint="keep beside a label only what belongs to it",
        )
    return found


def _of_side(rules: Policy, number: int, place: Location, labels: tuple[Held, ...]) -> Iterator[Ruling]:
    side, name = SIDES[number], place.provider.name
    if rules.allow is not None:
        known = ", ".join(rules.allow) or "none"
        found = f"provider {name}" if name else f"{place.name} is no named provider"
        yield Ruling("allow_providers", side, name in rules.allow, found, f"one of the allowed providers: {known}")
    if rules.labels[number] or rules.criteria[number]:
        yield _label_ruling(rules, number, place, labels)
    for areas in rules.jurisdictions:
        yield _jurisdiction_ruling(areas, side, place, labels)
    if rules.tls:
        safe, found = _tls(place)
        yield Ruling("tls", side, safe, found, f"an https endpoint with checked certificates for the {side}")


def _label_ruling(rules: Policy, number: int, place: Location, labels: tuple[Held, ...]) -> Ruling:
    side, level, criteria = SIDES[number], rules.labels[number], rules.criteria[number]
    rule = "require_label" if level else "require_criteria"
    words = f"level {level or LEVELS[0]} or above" + (f" with {', '.join(criteria)}" if criteria else "")
    needed = f"a proven label of {words} for {place.provider.name or place.name} (`labels` in its table)"
    proven = [one.finding for one in labels if one.finding.labelled]
    for finding in proven:
        high_enough = not level or LEVELS.index(finding.level) >= LEVELS.index(level)
        if high_enough and set(criteria) <= set(finding.criteria):
            until = f"{finding.valid_until:%Y-%m-%d}"
            return Ruling(rule, side, True, f"{finding.level} by {finding.issuer_name} until {until}", needed)
    if proven:
        best = max(proven, key=lambda finding: LEVELS.index(finding.level))
        missing = [one for one in criteria if one not in best.criteria]
        lacking = f", without {', '.join(missing)}" if missing else ""
        return Ruling(rule, side, False, f"the label is {best.level}{lacking}", needed)
    return Ruling(rule, side, False, _why_not(labels), needed)


def _why_not(labels: tuple[Held, ...]) -> str:
    if not labels:
        return "no label"
    problem = labels[0].finding.first_problem
    assert problem is not None
    return f"not labelled: {problem.name} {problem.outcome}: {problem.reason}"


def _jurisdiction_ruling(areas: tuple[str, ...], side: str, place: Location, labels: tuple[Held, ...]) -> Ruling:
    allowed = frozenset(code for area in areas for code in countries.members(area))
    provider = place.provider
    seen = {"region": provider.country, "owner": provider.owner_country}
    for one in labels:
        if one.finding.labelled:
            for service in one.finding.services:
                seen |= {"provider by its label": service.country, "its legal address": service.legal_country}
    held = all(countries.alpha2(code) in allowed for code in seen.values())
    found = ", ".join(f"{what} in {code or 'an unknown country'}" for what, code in seen.items())
    needed = f"region and owner of the {side} in {' or '.join(areas)}"
    if not all(seen.values()):
        needed += " (`country` and `owner_country` in the provider's table, where they are not known otherwise)"
    return Ruling("jurisdictions", side, held, found, needed)


def _tls(place: Location) -> tuple[bool, str]:
    provider = place.provider
    if isinstance(provider, FileProvider):
        return True, "a local directory"
    if isinstance(provider, S3Provider):
        if provider.insecure:
            return False, "certificates are not checked (insecure = true)"
        secure = not provider.endpoint or provider.endpoint.lower().startswith("https://")
        return secure, "https" if secure else f"the endpoint {provider.endpoint} is not https"
    url = provider.url if isinstance(provider, FsspecProvider) else ""
    schemes = [part.partition("://")[0].lower() for part in url.split("::")]
    strange = [scheme for scheme in schemes if scheme not in _SAFE_SCHEMES]
    return not strange, f"nothing shows that {', '.join(strange)} uses TLS" if strange else ", ".join(schemes)


# --- telling ----------------------------------------------------------------------------------------------------------


def policy_document(decision: Decision) -> dict[str, Any]:
    """The decision as the manifest holds it."""
    from portabl.labels.finding import stamp

    rulings = [
        {"rule": one.rule, "side": one.side, "held": one.held, "found": plain(one.found), "needed": plain(one.needed)}
        for one in decision.rulings
    ]
    found: dict[str, Any] = {"at": stamp(decision.at), "allowed": not decision.broken, "rulings": rulings}
    return found | ({"override": plain(decision.override)} if decision.override else {})


def _label_documents(decision: Decision) -> Iterator[dict[str, Any]]:
    from portabl.labels.finding import finding_document

    for side, labels in zip(SIDES, decision.labels, strict=True):
        for one in labels:
            yield {
                "side": side,
                "provider": one.provider,
                "endpoint": one.endpoint,
                "token": one.token,
                "evidence": [{"kind": p.kind, "name": p.name, "text": p.text} for p in one.evidence],
                "finding": finding_document(one.finding),
            }


def summary(decision: Decision) -> str:
    """One line for a report, "" when there are no rules."""
    if not decision.rulings:
        return ""
    if decision.broken:
        rules = ", ".join(dict.fromkeys(one.rule for one in decision.broken))
        return f"OVERRIDDEN ({rules}): {decision.override}"
    return f"kept ({', '.join(dict.fromkeys(one.rule for one in decision.rulings))})"
