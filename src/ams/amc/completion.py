"""`amc completion bash|fish|zsh`."""

from __future__ import annotations

import click

from regkit.cli import SHELLS, completion_script


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Example:
      amc completion bash | sudo tee /etc/bash_completion.d/amc
      amc completion zsh > ~/.zfunc/_amc
      amc completion fish > ~/.config/fish/completions/amc.fish
    """
    root = ctx.find_root()
    click.echo(completion_script(root.command, "amc", shell))
