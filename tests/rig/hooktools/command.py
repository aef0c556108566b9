"""What all hook tools share: Go-style flags, parsed strictly, and Juju's output formats."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from rig.errors import UsageError

if TYPE_CHECKING:
    from rig.hookcontext import HookContext

FORMATS = ("smart", "json", "yaml")


@dataclasses.dataclass(frozen=True)
class Call:
    """A parsed command line: positional words, options by name, and what was piped in."""

    words: list[str]
    options: dict[str, str | bool]
    stdin: str = ""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def text(self, option: str) -> str:
        """The option's value, empty when it was not given."""
        value = self.options.get(option, "")
        return value if isinstance(value, str) else ""

    def on(self, switch: str) -> bool:
        """Whether a switch was given and not set to false."""
        return self.options.get(switch) is True

    def word(self, index: int, default: str = "") -> str:
        """A positional word, or the default."""
        return self.words[index] if index < len(self.words) else default


@dataclasses.dataclass(frozen=True)
class Tool:
    """One hook tool. `options` and `switches` map each flag to the name it is known by."""

    name: str
    function: Callable[[HookContext, Call], Any]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    words: tuple[int, int] = (0, 0)  # fewest and most positional words
    prints: bool = False

    def parse(self, arguments: list[str], stdin: str, files: Mapping[str, str]) -> Call:
        """Parse a command line; UsageError for anything that is not known here."""
        options = dict(self.options) | ({"--format": "format"} if self.prints else {})
        call = Call(*parse_flags(arguments, options, self.switches), stdin, files)
        least, most = self.words
        if len(call.words) < least:
            raise UsageError(f"{self.name}: missing argument")
        if len(call.words) > most:
            raise UsageError(f"unrecognized args: {call.words[most:]}")
        if call.text("format") not in ("", *FORMATS):
            raise UsageError(f'invalid value "{call.text("format")}" for option --format')
        return call


def parse_flags(
    arguments: list[str], options: Mapping[str, str], switches: Mapping[str, str]
) -> tuple[list[str], dict[str, str | bool]]:
    """Split a command line as Juju's flag package does: flags and words may be mixed."""
    words: list[str] = []
    found: dict[str, str | bool] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            words += list(rest)
        elif not argument.startswith("-") or argument == "-":
            words.append(argument)
        elif flag in switches:
            truth = {"": True, "true": True, "false": False}
            if value.lower() not in truth:
                raise UsageError(f'invalid value "{value}" for flag {flag}')
            found[switches[flag]] = truth[value.lower()]
        elif flag in options:
            if not equals:
                value = next(rest, "\0")
                if value == "\0":
                    raise UsageError(f"option needs an argument: {flag}")
            found[options[flag]] = value
        else:
            raise UsageError(f"option provided but not defined: {flag}")
    return words, found


def render(value: Any, style: str) -> str:
    """The value in one of Juju's formats; smart prints text bare and nothing for nothing."""
    if style == "json":
        return json.dumps(value) + "\n"
    if style == "yaml":
        return yaml.safe_dump(value, default_flow_style=False)
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"{value}\n"
    if isinstance(value, str | int | float):
        return f"{value}\n"
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "".join(f"{v}\n" for v in value)
    return yaml.safe_dump(value, default_flow_style=False)


def key_values(words: list[str]) -> dict[str, str]:
    """Words of the form `key=value`; UsageError for others."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f'expected "key=value", got "{word}"')
        found[key] = value
    return found


def file_values(call: Call) -> dict[str, str]:
    """The YAML map of strings that `--file` names; `-` is standard input."""
    name = call.text("file")
    if not name:
        return {}
    document = yaml.safe_load(call.stdin if name == "-" else call.files[name]) or {}
    if not isinstance(document, dict):
        raise UsageError(f"{name}: expected a YAML map")
    for key, value in document.items():
        if not isinstance(value, str):
            raise UsageError(f"cannot unmarshal {key}: {value!r} into string")
    return document
