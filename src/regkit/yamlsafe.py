"""YAML from strangers: one document, plain data, bounded.

Refused: more than the allowed bytes, deep nesting, anchors and aliases (a few lines of them
expand to gigabytes), tags, keys that occur twice, several documents. Every scalar is left as the
text that was written, `null` aside: what `version: 1.10` or `permissions: 0644` means is up to
the field, as with Go's decoder, and not to YAML's guesses. What the fields are is not known here.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.events import AliasEvent, ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 256 * 1024
"""Far more than any manifest has; a full one takes its reader a second."""
MAX_DEPTH = 32
MAX_NODES = 50_000
_NULLS = ("", "~", "null", "Null", "NULL")


class InvalidYaml(ValueError):  # noqa: N818 - the name states the fault
    """The text can't be used; the message says why, and in which line."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, counting them, and refuses what plain data has no use for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InvalidYaml(f"line {line}: anchors and aliases are not allowed")
        tag = getattr(event, "tag", None)
        if tag is not None and not (isinstance(event, ScalarEvent) and tag == "!"):
            raise InvalidYaml(f"line {line}: tags such as {tag[:40]!r} are not allowed")
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise InvalidYaml(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            raise InvalidYaml(f"line {line}: more than {MAX_NODES} values")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def load(raw: bytes, limit: int = MAX_BYTES) -> Any:
    """Read one YAML document of at most `limit` bytes into dicts, lists, str and None.

    Raises InvalidYaml.
    """
    if len(raw) > limit:
        raise InvalidYaml(f"too large: over {limit} bytes")
    try:
        loader = _Loader(raw.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        raise InvalidYaml("not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        raise InvalidYaml(f"{where}not valid YAML: {problem or 'unreadable'}") from None
    return None if node is None else _plain(node)


def _plain(node: Node) -> Any:
    if isinstance(node, ScalarNode):
        return None if node.style is None and node.value in _NULLS else _text(node)
    if isinstance(node, SequenceNode):
        return [_plain(item) for item in node.value]
    assert isinstance(node, MappingNode)  # noqa: S101 - YAML has no fourth kind
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            raise InvalidYaml(f"line {line}: a key must be a plain text")
        if key.value in found:
            raise InvalidYaml(f"line {line}: the key {key.value[:80]!r} is there twice")
        found[_text(key)] = _plain(value)
    return found


def _text(node: ScalarNode) -> str:
    try:
        node.value.encode()
    except UnicodeEncodeError:  # an escaped half of a surrogate pair
        line = node.start_mark.line + 1
        raise InvalidYaml(f"line {line}: a text that is not valid Unicode") from None
    return node.value
