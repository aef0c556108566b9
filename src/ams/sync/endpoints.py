"""Which of a registry's URLs to try first: rules without I/O, shared by everything that asks.

All of them reach the same registry, so any may be asked. Sites spread over them, a site stays with
its own, and one that failed is left alone for a while. How a request is sent and what a failure is
are the business of `ams.sync.transport`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FIRST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds that a URL is left alone after it failed; doubled for each further failure."""


@dataclass
class _Rest:
    failures: int
    until: float


class Endpoints:
    """The URLs of one registry. Safe for use by several threads."""

    def __init__(
        self, urls: Sequence[str], site: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the URLs, without a slash at the end. `clock` counts seconds.

        `site` is a text of this site's own, by which it prefers another URL than other sites do,
        for ever the same one, so that they all together load each evenly. Without it the URLs are
        tried as given.
        """
        bare = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self._preferred = sorted(bare, key=lambda url: _weight(site, url)) if site else bare
        self._clock = clock
        self._resting: dict[str, _Rest] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._preferred)

    def order(self) -> list[str]:
        """Return all URLs: by preference, those that rest last, the next to come back first.

        A rested one is at its own place again, so that a site returns to it.
        """
        now = self._clock()
        with self._lock:
            until = {u: r.until for u, r in self._resting.items() if r.until > now}
        return sorted(self._preferred, key=lambda url: until.get(url, 0.0))

    def worked(self, url: str) -> None:
        """Forget the failures of a URL that answers."""
        with self._lock:
            self._resting.pop(url, None)

    def failed(self, url: str) -> None:
        """Leave a URL alone for a while, as long as another one answers.

        Several requests that fail during one rest count as one failure.
        """
        now = self._clock()
        with self._lock:
            rest = self._resting.get(url)
            if rest is None:
                self._resting[url] = _Rest(1, now + FIRST_REST)
            elif rest.until <= now:
                seconds = min(FIRST_REST * 2 ** min(rest.failures, 10), LONGEST_REST)
                self._resting[url] = _Rest(rest.failures + 1, now + seconds)


def _weight(site: str, url: str) -> str:
    return hashlib.sha256(f"{site} {url}".encode()).hexdigest()
