"""`aar audit`: who changed what, and who was refused."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from aar.cli.common import opened
from regkit import cli as shared
from regkit import durations

if TYPE_CHECKING:
    from aar.audit import Record, Row

LIMIT = 1000
SHOWN = 12
"""Digits of a fingerprint in the table, enough for every command."""

COLUMNS = [
    ("TIME", "time"),
    ("ACTION", "action"),
    ("SUBJECT", "subject"),
    ("BY", "by"),
    ("COUNT", "count"),
    ("DETAIL", "said"),
]


def _moment(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    """Read a duration, counted back from now, or a time."""
    if text is None:
        return None
    now = datetime.now(timezone.utc)
    try:
        return now - durations.parse(text)
    except ValueError:
        pass
    try:
        # RFC 3339's Z is read by Python from 3.11 on only.
        moment = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            "give a duration such as 24h, or a time such as 2026-01-31T12:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


@click.command("audit")
@click.option(
    "--by",
    default="",
    metavar="<fingerprint>",
    help="Only what this certificate did: 8 digits or more; or an owner such as juju; or manual.",
)
@click.option(
    "--since",
    metavar="<duration>|<time>",
    callback=_moment,
    help="Only what is younger, such as 24h, or 2026-01-31T12:00:00Z.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=LIMIT,
    show_default=True,
    help="Show no more than the last of these.",
)
@shared.format_option("table", "csv", "json", "yaml")
def command(by: str, since: datetime | None, limit: int, output_format: str) -> None:
    """Show who changed trust, who pushed, who deleted, and who was refused; oldest first.

    What an operator did here is "by" manual, what a program did the name of its owner, such as
    juju. Refusals of one certificate for one reason are counted and written once an hour.

    The log only grows, and nothing shortens it: about 400 bytes for each push and change, and at
    most some hundred rows of refusals a day for each server process. It is part of backups, and
    outlives the restore of an older one.

    \b
    Example:
      sudo aar audit --since 24h
      sudo aar audit --by 3a1f09c2b7d4 --format json
    """
    from regkit.tables import show  # noqa: PLC0415

    with opened() as registry:
        rows = registry.audit.read(by, since, limit)
    show([_describe(row, output_format) for row in rows], COLUMNS, output_format)


def _describe(row: Row, output_format: str) -> dict[str, Any]:
    short, record = output_format == "table", row.record
    document: dict[str, Any] = {
        "seq": row.seq,
        "time": f"{row.at:%Y-%m-%d %H:%M:%S}" if short else row.at.isoformat(timespec="seconds"),
        "action": record.action,
        "subject": _shortened(record.subject) if short else record.subject,
        "by": _shortened(record.by) if short else record.by,
        "count": record.count,
        "address": record.address,
        "detail": dict(record.detail),
    }
    if output_format in ("table", "csv"):
        document["said"] = _said(record, short=short)
    return document


def _said(record: Record, *, short: bool) -> str:
    """Put the detail in words; the table has those that an eye looks for."""
    detail = dict(record.detail)
    if short:
        wanted = ("reason", "role", "origin", "tag", "published-by")
        detail = {key: detail[key] for key in wanted if detail.get(key)}
    if record.address:
        detail["from"] = record.address
    return " ".join(f"{key}={_shortened(str(value), short)}" for key, value in detail.items())


def _shortened(text: str, short: bool = True) -> str:
    """Cut a fingerprint to what commands take."""
    digits = short and len(text) == 64 and not set(text) - set("0123456789abcdef")
    return text[:SHOWN] if digits else text
