"""Completion scripts of `ams` and `amc`, as click makes them."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class


def completion_script(command: click.Command, name: str, shell: str) -> str:
    """Return the script that makes `shell` complete `name`."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}: choose bash, fish or zsh")
    variable = f"_{name.upper()}_COMPLETE"
    # Not found.source(): bash's would run a bash just to look at its version.
    return ShellComplete.source(found(command, {}, name, variable))
