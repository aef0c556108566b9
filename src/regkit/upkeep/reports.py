"""What a check found, in words for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from regkit.sizes import render
from regkit.upkeep.scrub import Damage, Report

SHOWN = 20
"""Lines of one kind; the document has all."""
DIGITS = 12
"""Of a fingerprint: enough for every command."""


def document(report: Report) -> dict[str, Any]:
    """Return the report as plain data; sizes are in bytes."""
    return {
        "sound": report.sound,
        "blobs": report.blobs,
        "bytes": report.size,
        "damaged": [_damage(damage) for damage in report.damages],
        "healed": [str(digest) for digest in report.healed],
        "orphans": {
            "digests": [str(digest) for digest in report.orphans],
            "bytes": report.orphaned_size,
        },
        "strays": list(report.strays),
        "dangling": list(report.dangling),
        "faults": list(report.rows),
        "notes": list(report.notes),
    }


def in_words(report: Report, name: str, advice: str) -> str:
    """Return the report as lines. `name` is the command line's, `advice` says what to do."""
    lines = [f"Checked {report.blobs} blobs, {render(report.size)}"]
    for damage in report.damages:
        restored = f"; restored from {damage.restored}" if damage.restored else ""
        size = render(damage.size)
        lines.append(f"{damage.kind}: {damage.digest} ({size}): {damage.why}{restored}")
        lines += [f"  needed by {user.name}" for user in damage.users[:SHOWN]]
    lines += _some("fault", report.rows)
    lines += _some("sound again", [str(digest) for digest in report.healed])
    lines += _some("no blob", report.strays)
    lines += _some("partly deleted", report.dangling)
    lines += _some("note", report.notes)
    if report.orphans:
        lines.append(
            f"left over: {len(report.orphans)} blobs, {render(report.orphaned_size)}, that "
            "nothing refers to: they go by themselves when their time is over"
        )
    lines += _summary(report, name, advice)
    return "\n".join(lines) + "\n"


def _summary(report: Report, name: str, advice: str) -> Iterator[str]:
    if report.sound:
        mended = len(report.damages)
        yield f"Everything is sound again, {mended} blobs were restored" if mended else "Sound"
        return
    if report.left:
        yield (
            f"{len(report.left)} blobs are lost. '{name} verify --repair --from <folder, backup or"
            f" URL>' takes them from elsewhere; or else {advice}:"
        )
        yield from _by_giver(report.left)
    if report.rows:
        yield f"The database has {len(report.rows)} faults: restore a backup ('{name} restore')"


def _by_giver(damages: Sequence[Damage]) -> Iterator[str]:
    """List what is lost by who can give it again."""
    givers: dict[tuple[str, str], set[str]] = {}
    for damage in damages:
        for user in damage.users:
            givers.setdefault((user.by, user.who), set()).add(user.name)
    for (by, who), names in sorted(givers.items()):
        giver = f"{by[:DIGITS]}{f' ({who})' if who else ''}: " if by else ""
        yield f"  {giver}{', '.join(sorted(names))}"


def _damage(damage: Damage) -> dict[str, Any]:
    return {
        "digest": str(damage.digest),
        "size": damage.size,
        "kind": damage.kind,
        "why": damage.why,
        "restored": damage.restored,
        "needed-by": [
            {"name": user.name, "fingerprint": user.by, "common-name": user.who}
            for user in damage.users
        ],
    }


def _some(kind: str, items: Sequence[str]) -> list[str]:
    lines = [f"{kind}: {item}" for item in items[:SHOWN]]
    if len(items) > SHOWN:
        lines.append(f"{kind}: and {len(items) - SHOWN} more")
    return lines
