"""`aar trust apply`: the whole of what a program, such as a charm, wants trusted.

Not in the list of `aar trust --help`, which is what operators need, word for word as the page
about registering clients has it. Parses, makes one call, prints.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

from aar.cli.common import opened
from regkit import cli as shared

if TYPE_CHECKING:
    from regkit.trust import Applied, Wanted

MAX_BYTES = 4 * 1024 * 1024
"""Some thousand certificates."""

COLUMNS = [("FINGERPRINT", "fingerprint"), ("OUTCOME", "outcome"), ("REASON", "reason")]


@click.command(hidden=True)
@click.argument("path", metavar="[<path>|-]", default="-", type=click.Path(allow_dash=True))
@click.option(
    "--owner",
    required=True,
    metavar="<name>",
    help="On whose behalf: a lower-case name, such as juju.",
)
@shared.format_option("json", "yaml", "table", default="json")
def apply(path: str, owner: str, output_format: str) -> None:
    """Trust exactly what an owner wants, and tell what became of each certificate. For programs.

    Reads a document, YAML or JSON, from a file or from standard input. It states everything that
    the owner wants; `role` is client or publisher, `origin` and `architectures` may be left out:

    \b
      trusted:
      - certificate: |
          -----BEGIN CERTIFICATE-----
          ...
        role: publisher
        origin: publisher:3
        architectures: [amd64]

    What the owner wanted before and wants no longer is removed. What operators or other owners
    have added is never touched: a wanted certificate among it is kept as it is. A certificate that
    was revoked, has expired or isn't valid yet is refused, and the others go on; that is no
    failure. Anything wrong with the document is one, and nothing is changed then.

    \b
    Example:
      sudo aar trust apply --owner juju wanted.yaml
      echo '{"trusted": []}' | sudo aar trust apply --owner juju --format table
    """
    from regkit.trust import check_owner  # noqa: PLC0415 - SQLAlchemy costs 200 ms

    check_owner(owner)
    with click.open_file(path, "rb") as file:
        wanted = _read(file, "standard input" if path == "-" else path)
    with opened() as registry:
        applied = registry.trust.apply(owner, wanted, for_clients=True)
    if output_format == "table":
        from regkit.tables import show  # noqa: PLC0415

        show(_rows(applied), COLUMNS, output_format)
    else:
        shared.print_document(_document(applied), output_format)


def _read(file: IO[bytes], source: str) -> list[Wanted]:
    from aar.wanted import read_wanted  # noqa: PLC0415 - so does pydantic, half of it

    return read_wanted(file.read(MAX_BYTES + 1), source, MAX_BYTES)


def _document(applied: Applied) -> dict[str, Any]:
    outcomes = ("added", "changed", "removed", "kept", "unchanged")
    document: dict[str, Any] = {
        name: [str(fingerprint) for fingerprint in getattr(applied, name)] for name in outcomes
    }
    document["refused"] = [
        {"fingerprint": str(item.fingerprint), "reason": item.reason, "message": item.message}
        for item in applied.refused
    ]
    return document


def _rows(applied: Applied) -> list[dict[str, str]]:
    document = _document(applied)
    refused = document.pop("refused")
    rows = [
        {"fingerprint": fingerprint, "outcome": outcome, "reason": ""}
        for outcome, found in document.items()
        for fingerprint in found
    ]
    return rows + [
        {"fingerprint": item["fingerprint"], "outcome": "refused", "reason": item["message"]}
        for item in refused
    ]
