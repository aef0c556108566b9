"""What the command lines share: how they end, their version, their questions, completion.

A command line ends with at most one line on stderr and an exit code: 0 success, 1 failure, 2 wrong
usage, 130 interrupted. It knows nothing of any command. Imports next to nothing, since most of the
time of a short command is start-up, and since a server patches before it imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar

import click
from click.shell_completion import ShellComplete, get_completion_class

from regkit.errors import ServiceError

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
SHELLS = ("bash", "fish", "zsh")


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run `command` and return the exit code. Every error that a user can meet is one line."""
    try:
        result = command.main(
            list(arguments) if arguments is not None else None,
            prog_name=name,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `amc … | head` does. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (click.ClickException, click.Abort, KeyboardInterrupt, ServiceError, OSError) as error:
        return _fail(*_explained(error, name))
    return result if isinstance(result, int) else 0


def version_option(name: str) -> Callable[[F], F]:
    """Return the option `-v`/`--version` of the command line `name`."""

    def show(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if not value or ctx.resilient_parsing:
            return
        from importlib.metadata import version  # noqa: PLC0415 - costs time that only this needs

        click.echo(f"{name} {version('anbox-registry')}")
        ctx.exit()

    return click.option(
        "-v",
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )


def format_option(*formats: str, default: str = "table") -> Callable[[F], F]:
    """Return the `--format` option with these formats."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=default,
        show_default=True,
        help="Output format.",
    )


yes_option = click.option(
    "-y", "--yes", is_flag=True, help="Assume 'yes' as answer to all questions."
)


def print_document(document: Any, output_format: str) -> None:
    """Print one object as yaml or json."""
    if output_format == "json":
        import json  # noqa: PLC0415

        click.echo(json.dumps(document, indent=2))
    else:
        import yaml  # noqa: PLC0415

        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        click.echo(text, nl=False)


def confirm(*, default: bool = True, option: str = "--yes") -> None:
    """Ask whether to continue; anything but yes ends the command.

    `default` is what an empty line means on a terminal; elsewhere it never means yes. `option` is
    what the command offers to skip the question.
    """
    if not sys.stdin.isatty():
        # A script that forgot -y must not delete by an empty line.
        click.echo(f"Do you want to continue? [{'Y/n' if default else 'y/N'}]:")
        answer = sys.stdin.readline().strip().lower()
        if answer not in ("y", "yes"):
            raise click.ClickException(
                f"not confirmed: answer y, or give {option} to skip the question"
            )
        return
    if not click.confirm("Do you want to continue?", default=default):
        raise click.ClickException("not confirmed, nothing was changed")


def completion_script(command: click.Command, name: str, shell: str) -> str:
    """Return the script that makes `shell` complete `name`."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}: choose bash, fish or zsh")
    variable = f"_{name.upper()}_COMPLETE"
    # Not found.source(): bash's would run a bash just to look at its version.
    return ShellComplete.source(found(command, {}, name, variable))


def completion_command(name: str) -> click.Command:
    """Return the command `completion` of the command line `name`."""

    @click.command("completion", short_help="Generate the completion script for a shell")
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.pass_context
    def command(ctx: click.Context, shell: str) -> None:
        click.echo(completion_script(ctx.find_root().command, name, shell))

    command.help = (
        "Print the completion script for a shell.\n\n\b\nExample:\n"
        f"  {name} completion bash | sudo tee /etc/bash_completion.d/{name}\n"
        f"  {name} completion zsh > ~/.zfunc/_{name}\n"
        f"  {name} completion fish > ~/.config/fish/completions/{name}.fish"
    )
    return command


def check_config_command(name: str, check: Callable[[IO[bytes], str], object]) -> click.Command:
    """Return the command `check-config` of the command line `name`.

    `check` takes a file and what to call it, and raises Invalid for what can't work.
    """

    @click.command("check-config", short_help="Check a configuration file")
    @click.argument("path", metavar="<path>|-", type=click.Path(allow_dash=True))
    def command(path: str) -> None:
        with click.open_file(path, "rb") as file:
            check(file, "standard input" if path == "-" else path)

    command.help = (
        "Check a conf/main.yaml, given as a file or, with -, on standard input.\n\n"
        "Nothing else is looked at, and nothing is changed. Says nothing when it can be used; "
        "every fault, in one line, when it can't.\n\n\b\nExample:\n"
        f"  {name} check-config main.yaml\n"
        f"  {name} check-config - < main.yaml"
    )
    return command


def _explained(error: BaseException, name: str) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else name
        # Since click 8.2; its text is the whole help.
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            return f"a command is missing: see '{path} --help'", 2
        return f"{error.format_message().rstrip('.')}: see '{path} --help'", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return "interrupted", 130
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 1
    return str(error), 1


def _fail(message: str, code: int) -> int:
    text = " ".join(message.split())
    printable = "".join(c if c.isprintable() else "?" for c in text)
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        click.echo(click.style("Error:", fg="red", bold=True) + f" {printable}", err=True)
    else:
        click.echo(f"Error: {printable}", err=True)
    return code
