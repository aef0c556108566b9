"""`amc info`: what the connected service is."""

from __future__ import annotations

import click

from ams.amc.common import chosen_remote, service
from regkit.cli import format_option, print_document


@click.command("info")
@format_option("yaml", "json", default="yaml")
def command(output_format: str) -> None:
    """Show what the connected service is, and whether it trusts you.

    \b
    Example:
      amc info
      amc --remote site info
    """
    remote = chosen_remote()
    with service() as client:
        document = {
            "remote": remote.name,
            "url": remote.url,
            **client.info(),
            "service_version": client.version(),
        }
    print_document(document, output_format)
