"""Writes docs/cli.md from the commands themselves: ``python -m portabl.cli.reference > docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

_INTRODUCTION = """# Command line

Made by `python -m portabl.cli.reference`; a test compares it with the commands. Exit codes:
[exit-codes.md](exit-codes.md), configuration: [configuration.md](configuration.md).

Results go to stdout, everything else (progress, notes, errors) to stderr. On a terminal, progress is a bar;
elsewhere it is a line every five seconds; with `--quiet` there is none. Keys are quoted, and what a terminal could
obey is escaped. `NO_COLOR` is obeyed.

A first Ctrl-C (SIGINT, SIGTERM or SIGHUP) lets what is in flight finish and ends with exit code 4; a second one
ends at once. Either way the same command goes on from there.

"""

_JSON = """## JSON

With `--json`, stdout holds exactly one JSON document. Fields are added over time; none is renamed, removed or given
another meaning without a new `version`. A key is a string when it is valid UTF-8, else `{"base64": "..."}`. Sizes
are bytes, times are seconds.

`migrate`, `export`, `restore` (`"document": "portabl report"`): `source`, `target`, `proof`; the counts `objects`,
`bytes`, `copied`, `bytes_copied`, `adopted` (were there already), `unchanged`, `shared` (taken from an earlier
package), `changed` (part of `copied`), `failed`, `deleted`,
`extra` (only at the target), `delete_markers` (with `--versions all`);
`losses`, a list of `field`, `reason`, `count` and up to five `examples`;
`source_root`, `target_root`, `roots_equal` (null when one is not known); `manifest`, `issues` (a file that lists
every issue, or ""), `elapsed_seconds`, `bytes_per_second`, `objects_per_second`, `complete`, `interrupted`,
`notes` (what was seen at the source that is neither carried nor a loss of one object),
`dry_run`, `stopped` (nothing was copied, because the `losses` lie ahead), `accepted` (losses accepted by name),
`warnings`, `next_command`, `policy` (which rules were kept or overridden, "" without rules),
`policy_override` (the reason given, or ""), `exit_code`.

`verify` (`"portabl verification"`): `manifest`, `location`, `proof`; `objects`, `checked`, `bytes_checked`,
`missing`, `size_differs`, `content_differs`, `metadata_differs`, `unreadable`, `extra`, `losses`, `issues_total`;
`issues`, a list of `kind` (missing, size, content, metadata, extra, unreadable; of a package also foreign, document),
`key` and `detail`; of a package `foreign` and `documents_differ` count these; `read` objects were read, and with
`sample` above 0 (a share of 1) only these: then `complete` is false whatever was found; `root`,
`root_proven`, `elapsed_seconds`, `complete`, `interrupted`, `warnings`, `exit_code`.

`plan` (`"portabl plan"`): `source`, `target`, `objects`, `bytes`; `sizes`, a list of `to` (bytes, null for what is
larger), `objects`, `bytes`; `storage_classes`; `card` (`measured`, `server`, `service`) or null; `looked_at`: `by`
(listing, manifest), `metadata_of` so many `of` those that could lose some, `complete`; `carried` (objects by kind);
`losses`, a list of `class`, `accept`, `field`, `reason`, `count`, `examples`; `unknown` (objects by feature);
`delete_markers`; `left_behind` by the options, no losses (`field`, `reason`, `count`, `examples`);
`unfinished_uploads`; `notes`; `settings` of the bucket (`name`, `class`, `reasons`);
`requests` to `source` and `target` (`list`, `read`, `write`); `seconds` (null when unknown), `seconds_from`;
`currency`, `prices_of`, `costs` (`what`, `amount`); `warnings`, `exit_code`. `probe` (`"portabl capability card 1"`):
`service`, `location`, `server`, `measured`, `tool`, `facts` (`outcome`, `detail` by name), `left_behind`, `exit_code`.

`ls` (`"portabl listing"`): `location`, `entries` (`key`, `size`, and what is known of `etag`, `modified`,
`version`, `ordinal`, `delete_marker`, `storage_class`, `problem`),
`complete`, `error`, `exit_code`. `fingerprint`: `location`, `root`,
`objects`, `bytes`, `issues`, `exit_code`. `status`: `root`, `jobs`, `exit_code`. `manifest show`: `manifest`,
`records`, `complete`, `error`, `exit_code`. `manifest views`: `views`, `exit_code`. `bucket-config show SRC`:
`settings`, by name `document` (S3's own, null when not set) and `problem`; `bucket-config show SRC DST` and `apply`:
`changes`, a list of `name`, `class`, `reasons`, `notes`, `source`, `target`, `proposed`, `applied` (null when it was
not tried) and `problem`; `exit_code`.

`snapshots list`: `snapshots`
(`name`, `state`, `taken`, and of finished ones `objects`, `bytes`, `losses`, `root`, `source`, `finished`). `snapshots
prune`: `decisions` (`name`, `state`, `keep`, `reason`), `removed`, `dry_run`, `refused`, `exit_code`. `snapshots
verify`: `snapshots` (`name`, and `verification` or `error`), `exit_code`.

`labels verify` (`"portabl label"`): `file`, `labelled`, `state` (unreadable, no label, expired, or the furthest thing
proven: present, signature-ok, issuer-trusted, chain-ok, digests-ok, labelled), `at`, `token_sha256`, `level`,
`rules_version`, `engine_version`, `issuer`, `issuer_name`, `valid_from`, `valid_until`, `criteria`, `portability` and
`european` (criterion to boolean), `labels` (service, participant or ""), `services` (`id`, `name`, `types`,
`endpoints`, `provider`, `country`, `legal_country`), `steps` (`step`, `outcome`, `reason`, `where`), `exit_code`.
`labels status`: `at`, `labels`, a list of the same with `provider`, `file` and `days_left`, `exit_code`.
`labels recheck`: `labels`, `exit_code`.

`providers list`: `providers`, a list of `name`, `type`, `place`, `region`, `country`, `catalogue`; with `--catalogue`
of `name`, `provider`, `status`, `api`, `regions`, `countries`. `providers show`: `name`, and what there is of
`provider` and `catalogue` (the fields of [the catalogue](providers.md)). `providers test`: `location`, `steps`
(`step`, `passed`, `detail`, `hint`, `error`), `note`, `exit_code`. `providers add`, `edit`, `remove`: `name`, `file`,
`exit_code`.

`jobs list`: `jobs`, a list of definitions, each with its `health`. `jobs show`: `job`, `health`. `jobs check`:
`jobs`, a list of `health`: `job`, `state` (ok, waiting, running, disabled, failed, late), `well`, `message`, `due`,
`missing`, `last`, `last_ok`. `jobs history`: `runs`. `jobs run`: `job`, `run` (null when `--if-due` found nothing to
do), `report`, the document of the job's kind. A run: `id`, `job`, `kind`, `trigger`, `due`, `started`, `finished`,
`duration_seconds`, `result` (running, ok, failed, interrupted, missed, skipped), `exit_code`, `objects`, `bytes`,
`changes`, `manifest`, `message`, `pid`, `host`, `resumes`, `alerts`. `jobs next`: `times` (`job`, `due`, `local`).
`jobs enable` and `disable`: `job`, `enabled`. `jobs test-alerts`: `alerts`, by name why it was not delivered, or "".
`jobs install`: `files` (`name`, `text`, `note`), `written`. All of them: `exit_code`.

An error: `{"error": {"kind", "message", "hint", "exit_code"}}`, with `key` when it is about one object. A command
that had begun its document closes it, with `complete` false and the `error` inside.
"""


def text() -> str:
    """The whole page."""
    from portabl.cli.app import cli

    return _INTRODUCTION + "\n".join(_sections(cli, click.Context(cli, info_name="portabl"))) + "\n" + _JSON


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = 100
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _sections(inner, click.Context(inner, parent=context, info_name=name))


if __name__ == "__main__":
    sys.stdout.write(text())
