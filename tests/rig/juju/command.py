"""What the verbs of `juju` share: the parsed request, the reply, the entry in the table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rig.controller import Controller
from rig.errors import UsageError
from rig.state import Model


@dataclasses.dataclass(frozen=True)
class Reply:
    """What `juju` prints and its exit status."""

    stdout: str = ""
    stderr: str = ""
    code: int = 0


@dataclasses.dataclass(frozen=True)
class Request:
    """One parsed command line."""

    controller: Controller
    words: list[str]
    options: dict[str, str | bool]
    repeated: dict[str, list[str]]
    model_name: str
    cwd: str

    @property
    def model(self) -> Model:
        """The model that it is about."""
        return self.controller.model(self.model_name or None)

    def text(self, option: str, default: str = "") -> str:
        """An option's value."""
        value = self.options.get(option, default)
        return value if isinstance(value, str) else default

    def on(self, switch: str) -> bool:
        """Whether a switch was given."""
        return self.options.get(switch) is True

    def number(self, option: str, default: int) -> int:
        """An option's value as a number from 1."""
        value = self.text(option, str(default))
        if not value.isdigit() or int(value) < 1:
            raise UsageError(f'invalid value "{value}" for option --{option}')
        return int(value)

    def path(self, text: str) -> Path:
        """A path relative to where the client was started."""
        return Path(self.cwd, text)

    def document(self, value: Any) -> Reply:
        """`value` in the format asked for, YAML by default."""
        style = self.text("format", "yaml")
        if style == "json":
            return Reply(json.dumps(value) + "\n")
        if style != "yaml":
            raise UsageError(f"the rig prints json and yaml, not {style}")
        return Reply(yaml.safe_dump(value, sort_keys=False))


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb. `blocks` verbs wait for something and take the lock themselves."""

    names: tuple[str, ...]
    function: Callable[[Request], Reply]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    repeated: dict[str, str] = dataclasses.field(default_factory=dict)
    words: tuple[int, int] = (0, 0)
    of_model: bool = True
    blocks: bool = False
    passes_on: bool = False


FORMAT = {"--format": "format"}


def seconds(text: str) -> float:
    """A duration such as `60s`, `1.5s`, `2m` or `500ms`."""
    for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        number = text.removesuffix(suffix)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise UsageError(f'invalid duration "{text}"')
