"""Command lines as pages: what `--help` says of every command, hidden ones included."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from tools.reference.markdown import escaped

EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | failure: the last line on stderr says what is wrong and what to do next |
| 2 | wrong usage: unknown command or option, missing or malformed argument |
| 130 | interrupted with Ctrl-C |
"""


def aar() -> str:
    """Return the page of `aar`."""
    from aar.cli import cli  # noqa: PLC0415 - one page's import must not be the other's fault

    return _page(
        "aar",
        cli,
        "The registry, and its trust store. Every command but `serve` works on the state root of "
        "this machine; a running registry acts on it at once.",
    )


def amc() -> str:
    """Return the page of `amc`."""
    from ams.amc import cli  # noqa: PLC0415

    return _page(
        "amc",
        cli,
        "The command line of a management service, on this machine or elsewhere. It speaks the "
        "[REST API](rest-api.md).\n\n"
        "On a terminal uploads, downloads and operations show a bar. Elsewhere a plain line on "
        "stderr says how far they are, every ten seconds. Colours are left out where stderr is no "
        "terminal or `NO_COLOR` is set. Ctrl-C cancels the operation that a command waits for.",
    )


def ams() -> str:
    """Return the page of `ams`."""
    from ams.cli import cli  # noqa: PLC0415

    return _page(
        "ams",
        cli,
        "The management service itself. What an operator does with a running one is "
        "[`amc`](amc.md).",
    )


def _page(name: str, root: click.Command, introduction: str) -> str:
    sections = list(_sections(root, click.Context(root, info_name=name, **root.context_settings)))
    links = "\n".join(f"- [`{path}`](#{path.replace(' ', '-')})" for path, _ in sections)
    bodies = "\n".join(f"## {path}\n\n{text}" for path, text in sections)
    return f"# {name}\n\n{introduction}\n\n{links}\n\n{EXIT_CODES}\n{bodies}"


def _sections(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of a command and of everything below it."""
    yield ctx.command_path, _section(command, ctx)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is None:
                raise LookupError(f"{ctx.command_path} lists {name!r} but doesn't have it")
            yield from _sections(below, click.Context(below, info_name=name, parent=ctx))


def _section(command: click.Command, ctx: click.Context) -> str:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    parts = [f"```\n{usage}\n```\n", *_prose(command.help or "")]
    if isinstance(command, click.Group) and (aliases := _aliases(command, ctx)):
        parts.append(f"Short names: {aliases}.\n")
    if options := list(_options(command, ctx)):
        parts.append("\n".join(options) + "\n")
    if command.epilog:
        parts += _prose(command.epilog)
    return "\n".join(parts)


def _prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; what click leaves as it is becomes a code block."""
    # Not every Python cleans docstrings itself.
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        block = paragraph.strip("\n")
        literal = block.startswith("\b")
        block = block.removeprefix("\b").strip("\n")
        if literal:
            title, _, rest = block.partition("\n")
            heading, body = (title, rest) if title == "Example:" else ("", block)
            code = f"```\n{textwrap.dedent(body)}\n```\n"
            yield f"{heading}\n\n{code}" if heading else code
        else:
            yield escaped(block) + "\n"


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        said_once = "--help" in parameter.opts and ctx.parent is not None
        if record is not None and isinstance(parameter, click.Option) and not said_once:
            names, meaning = record
            yield f"- `{names}`: {escaped(meaning)}"


def _aliases(command: click.Group, ctx: click.Context) -> str:
    """Name what leads to a command of the group without being listed."""
    listed = set(command.list_commands(ctx))
    found = {
        short: below.name
        for short in ("app", "ls", "rm")
        if short not in listed and (below := command.get_command(ctx, short)) is not None
    }
    return ", ".join(f"`{short}` for `{name}`" for short, name in found.items())
