"""What was promised: versions that were acknowledged, removals that were, and what is in doubt.

Every version has content of its own, so its SHA-256 names it everywhere: at the publisher, in the
registry, on the clients. An operation whose answer a fault has swallowed leaves a doubt, which the
next look at healed services settles, once and for ever. Knows no service.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["site", "direct"]


@dataclass(frozen=True)
class Item:
    """A version: its application, who publishes it, its number where the pusher gives it."""

    name: str
    source: Source
    content: bytes
    number: int = 0


@dataclass(frozen=True)
class Mark:
    """What was promised and what was gone at a moment, by SHA-256."""

    promised: frozenset[str]
    gone: frozenset[str]


@dataclass
class Model:
    """Versions by the SHA-256 of their content."""

    promised: dict[str, Item] = field(default_factory=dict)
    gone: dict[str, Item] = field(default_factory=dict)
    maybe_there: dict[str, Item] = field(default_factory=dict)
    """Published, but nobody said so."""
    maybe_gone: set[str] = field(default_factory=set)
    """Promised, but a removal was asked for."""
    revoked: list[str] = field(default_factory=list)
    """Fingerprints whose revocation was acknowledged."""
    wrong: list[str] = field(default_factory=list)
    """What was seen to be wrong on the way."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    """The publishers act at the same time."""

    def of(self, source: Source) -> dict[str, Item]:
        with self.lock:
            return {sha: item for sha, item in self.promised.items() if item.source == source}

    def names(self, source: Source) -> list[str]:
        return sorted({item.name for item in self.of(source).values()})

    def published(self, sha: str, item: Item, *, acknowledged: bool) -> None:
        with self.lock:
            (self.promised if acknowledged else self.maybe_there)[sha] = item

    def removed(self, shas: Collection[str], *, acknowledged: bool) -> None:
        with self.lock:
            for sha in shas:
                if acknowledged:
                    self.gone[sha] = self.promised.pop(sha)
                    self.maybe_gone.discard(sha)
                else:
                    self.maybe_gone.add(sha)

    def missing(self, shas: Collection[str]) -> None:
        """Note that these were answered to be absent, which only a removal in doubt explains."""
        with self.lock:
            if not self.maybe_gone.intersection(shas):
                names = sorted({self.promised[sha].name for sha in shas})
                self.wrong.append(f"lost: {', '.join(names)} wasn't found to be removed")

    def mark(self) -> Mark:
        """Note this moment, which a backup that begins now keeps."""
        with self.lock:
            return Mark(frozenset(self.promised), frozenset(self.gone))

    def put_back(self, mark: Mark) -> None:
        """Note that the registry was put back to `mark`, with nobody at work.

        It may have lost what was pushed straight to it since, and nothing else: what a site
        has published is still there, and is pushed again.
        """
        with self.lock:
            for sha in self.of("direct"):
                if sha not in mark.promised:
                    self.maybe_gone.add(sha)

    def settle(self, source: Source, found: Mapping[str, str]) -> list[str]:
        """Compare with what one source has, as name by content; returns what is wrong.

        Doubts of that source end here: what is found is promised from now on, what isn't is gone.
        """
        wrong, self.wrong = self.wrong, []
        for sha, item in list(self.maybe_there.items()):
            if item.source == source:
                del self.maybe_there[sha]
                if sha in found:
                    self.promised[sha] = item
        for sha in list(self.maybe_gone):
            if self.promised[sha].source == source:
                self.maybe_gone.discard(sha)
                if sha not in found:
                    self.gone[sha] = self.promised.pop(sha)
        for sha, item in self.of(source).items():
            if found.get(sha) != item.name:
                wrong.append(f"lost: {item.name} {item.number} ({sha[:12]}) of the {source}")
        for sha, name in found.items():
            if sha in self.gone:
                wrong.append(f"came back: {name} ({sha[:12]}), removed at the {source}")
            elif sha not in self.promised:
                wrong.append(f"nobody published {name} ({sha[:12]}), which the {source} has")
        return wrong
