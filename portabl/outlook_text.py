"""What `portabl plan` says, as text for people and as a document for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from portabl.bucket_config import Change, Class
from portabl.capability import Card
from portabl.judge import Portability
from portabl.keys import plain, show, to_json
from portabl.outlook import Outlook
from portabl.preflight import Ahead, Survey
from portabl.report import duration_text, size_text


def outlook_text(outlook: Outlook) -> str:
    """A plan for people. No line holds anything a terminal could obey."""
    return "\n".join(_lines(outlook)) + "\n"


def _lines(outlook: Outlook) -> Iterator[str]:
    survey = outlook.survey
    verdict = "something would be lost, see below" if survey.ahead else "nothing that is known would be lost"
    yield f"{plain(outlook.source)} -> {plain(outlook.target)}: {verdict}; nothing was written"
    yield f"  objects         {survey.objects:,} ({size_text(survey.bytes)})"
    if survey.delete_markers:
        yield f"  delete markers  {survey.delete_markers:,}"
    yield f"  looked at       {_looked_at(outlook)}"
    yield f"  target measured {_card(outlook.card)}"
    yield from _sizes(survey)
    yield from _classes(survey)
    yield "  core (carried)"
    yield from (f"    {count:,} x {plain(name)}" for name, count in survey.carried.items() if count)
    for portability in (Portability.ADAPTATION, Portability.NONE):
        yield from _losses(portability, [one for one in survey.ahead if one.portability is portability])
    if survey.unknown:
        yield "  unknown (never measured at the target; a migration watches for it)"
        yield from (f"    {count:,} x {plain(name)}" for name, count in survey.unknown.items())
    yield from _left(outlook)
    yield from _settings(outlook)
    yield from _forecast(outlook)
    yield from (f"note: {plain(line)}" for line in outlook.notes)
    yield from (f"warning: {plain(line)}" for line in outlook.warnings)
    yield from _next(outlook)


def _looked_at(outlook: Outlook) -> str:
    survey = outlook.survey
    what = "every record of the manifest" if outlook.looked_by == "manifest" else "every key and size in the listing"
    if not survey.wanted:
        return what
    if survey.complete:
        return f"{what}, and the metadata of all {survey.wanted:,} objects that arrive"
    share = f"{survey.looked_at:,} of {survey.wanted:,} objects, drawn evenly"
    return f"{what}; the metadata of {share}: a SAMPLE, `--deep` looks at all"


def _card(card: Card | None) -> str:
    if card is None:
        return "never; `portabl probe` finds out what it keeps"
    return f"{card.measured}, {plain(card.server) or plain(card.service)} (card by {plain(card.tool)})"


def _sizes(survey: Survey) -> Iterator[str]:
    yield "  sizes"
    for one in survey.sizes:
        upto = "larger" if one.upper is None else f"to {size_text(one.upper)}"
        yield f"    {upto:<14} {one.objects:>12,}  {size_text(one.bytes)}"


def _classes(survey: Survey) -> Iterator[str]:
    named = {name: pair for name, pair in survey.classes.items() if name not in ("", "STANDARD")}
    if named:
        yield "  storage classes"
        yield from (f"    {plain(n):<14} {count:>12,}  {size_text(size)}" for n, (count, size) in named.items())


def _losses(portability: Portability, losses: list[Ahead]) -> Iterator[str]:
    if not losses:
        return
    yield f"  {portability}"
    for one in losses:
        yield f"    {one.count:,} x {plain(one.field)}: {plain(one.reason)}  [{plain(one.accept)}]"
        yield from (f"        {show(key)}" for key in one.examples)
        if one.count > len(one.examples):
            yield f"        and {one.count - len(one.examples):,} more; `--list FILE` names them all"


def _left(outlook: Outlook) -> Iterator[str]:
    if not outlook.left:
        return
    yield "  left behind, as these options say (no loss in the exit code)"
    for one in outlook.left:
        yield f"    {one.count:,} x {one.field}: {plain(one.reason)}"
        yield from (f"        {show(key)}" for key in one.examples)


def _settings(outlook: Outlook) -> Iterator[str]:
    set_there = [change for change in outlook.settings if change.kind not in (Class.ABSENT, Class.SAME)]
    if set_there:
        yield "  configuration of the bucket (left alone by `portabl migrate`, see `portabl bucket-config`)"
        yield from (f"    {change.name}: {change.kind}{_because(change)}" for change in set_there)


def _because(change: Change) -> str:
    return f" ({plain('; '.join(change.reasons))})" if change.reasons else ""


def _forecast(outlook: Outlook) -> Iterator[str]:
    forecast = outlook.forecast
    for name, count in (("source", forecast.source), ("target", forecast.target)):
        yield f"  requests        {name}: {count.list:,} listing, {count.read:,} reading, {count.write:,} writing"
    known = "unknown" if forecast.seconds is None else f"about {duration_text(forecast.seconds)}"
    yield f"  time            {known} ({plain(forecast.basis)})"
    if forecast.prices_of:
        total = sum(cost.amount for cost in forecast.costs)
        yield f"  cost            {total:,.2f} {plain(forecast.currency)}, by your prices of {forecast.prices_of}"
        yield from (f"    {cost.amount:>14,.4f}  {plain(cost.what)}" for cost in forecast.costs)


def _next(outlook: Outlook) -> Iterator[str]:
    command = f"portabl migrate {plain(outlook.source)} {plain(outlook.target)}"
    names = sorted({one.accept for one in outlook.survey.unaccepted(())})
    if names:
        yield f"next: `{command}` stops before copying, unless what is lost is accepted: --accept {','.join(names)}"
    else:
        yield f"next: {command}"


def outlook_document(outlook: Outlook) -> dict[str, object]:
    """A plan for programs; fields as in docs/cli.md."""
    survey, forecast, card = outlook.survey, outlook.forecast, outlook.card
    return {
        "document": "portabl plan",
        "version": 1,
        "source": plain(outlook.source),
        "target": plain(outlook.target),
        "objects": survey.objects,
        "delete_markers": survey.delete_markers,
        "bytes": survey.bytes,
        "sizes": [{"to": one.upper, "objects": one.objects, "bytes": one.bytes} for one in survey.sizes],
        "storage_classes": {
            plain(name): {"objects": count, "bytes": size} for name, (count, size) in survey.classes.items()
        },
        "card": {"measured": card.measured, "server": plain(card.server), "service": plain(card.service)}
        if card
        else None,
        "looked_at": {
            "by": outlook.looked_by,
            "metadata_of": survey.looked_at,
            "of": survey.wanted,
            "complete": survey.complete,
        },
        "carried": {plain(name): count for name, count in survey.carried.items()},
        "losses": [_loss(one) for one in survey.ahead],
        "unknown": dict(survey.unknown),
        "left_behind": [
            {
                "field": one.field,
                "reason": one.reason,
                "count": one.count,
                "examples": [to_json(k) for k in one.examples],
            }
            for one in outlook.left
        ],
        "unfinished_uploads": outlook.unfinished,
        "notes": [plain(line) for line in outlook.notes],
        "settings": [
            {"name": change.name, "class": str(change.kind), "reasons": [plain(reason) for reason in change.reasons]}
            for change in outlook.settings
        ],
        "requests": {"source": _requests(outlook.forecast.source), "target": _requests(forecast.target)},
        "seconds": None if forecast.seconds is None else round(forecast.seconds, 3),
        "seconds_from": forecast.basis,
        "currency": forecast.currency,
        "prices_of": forecast.prices_of,
        "costs": [{"what": plain(cost.what), "amount": round(cost.amount, 6)} for cost in forecast.costs],
        "warnings": [plain(line) for line in outlook.warnings],
        "exit_code": outlook.exit_code,
    }


def _loss(one: Ahead) -> dict[str, object]:
    return {
        "class": str(one.portability),
        "accept": plain(one.accept),
        "field": plain(one.field),
        "reason": plain(one.reason),
        "count": one.count,
        "examples": [to_json(key) for key in one.examples],
    }


def _requests(count: object) -> dict[str, int]:
    return {name: getattr(count, name) for name in ("list", "read", "write")}
