"""How a command line of this service ends: one line on stderr, and the exit code.

0 success, 1 failure, 2 wrong usage, 130 interrupted. It knows nothing of any command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from regkit.errors import ServiceError


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


def _explained(error: BaseException, name: str) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else name
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
