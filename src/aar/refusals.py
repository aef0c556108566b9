"""Refusals on their way into the audit log: counted, and written as a bounded number of rows.

Anybody can be refused as often as they like, so a row per request would let strangers fill the
disk and keep the database busy. The first refusal of a certificate for a reason is written within
a second; those that follow are counted and written together, once an hour. However many
certificates and reasons there are, one worker writes no more than `BURST` rows and then one per
`REFILL`; what doesn't fit into its memory is counted as "others". A kill -9 loses counts of the
last hour, never the fact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from aar.audit import Record
from regkit import logs
from regkit.errors import ServiceError

log = logs.get("aar.refusals")

PERIOD = 3600.0
"""Seconds that refusals of one kind are counted before they are written again."""
BURST = 50
REFILL = 300.0
"""Rows that may be written at once, and the seconds after which there may be one more."""
MAX_KINDS = 256
"""Pairs of certificate and reason that are told apart."""
OTHERS = "various reasons"


@dataclass
class _Tally:
    count: int = 0
    address: str = ""
    path: str = ""
    first: str = ""
    last: str = ""
    due: float = 0.0


class Refusals:
    """The refusals of one worker. `write` adds rows to the log; `clock` counts seconds."""

    def __init__(
        self,
        write: Callable[[Sequence[Record]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._rows = float(BURST)
        self._filled = clock()

    def note(self, fingerprint: str, reason: str, address: str, path: str) -> bool:
        """Count a refusal; no I/O. Returns whether it is the first of its kind."""
        key = (fingerprint, reason[:200])
        if key not in self._tallies and len(self._tallies) >= MAX_KINDS:
            key = ("", OTHERS)
        first = key not in self._tallies
        tally = self._tallies.setdefault(key, _Tally())
        tally.last = datetime.now(timezone.utc).isoformat(timespec="seconds")
        tally.first = tally.first or tally.last
        tally.count += 1
        tally.address, tally.path = address, path
        return first

    def flush(self, *, final: bool = False) -> int:
        """Write what is due, or with `final` all that there is; return the number of rows.

        What can't be written now is kept; at the end, what is beyond the rows that may be written
        is one more.
        """
        now = self._clock()
        self._rows = min(float(BURST), self._rows + (now - self._filled) / REFILL)
        self._filled = now
        waiting = [
            (key, tally)
            for key, tally in self._tallies.items()
            if tally.count and (final or tally.due <= now)
        ]
        due, rest = waiting[: int(self._rows)], waiting[int(self._rows) :]
        if final and rest:
            due.append((("", OTHERS), self._merged([key for key, _ in rest])))
        if due:
            try:
                self._write([_record(*key, tally) for key, tally in due])
            except ServiceError as error:
                log.warning("audit-failed", reason=str(error))
                return 0
            self._rows = max(0.0, self._rows - len(due))
            for key, _ in due:
                self._tallies[key] = _Tally(due=now + PERIOD)
        self._forget(now)
        return len(due)

    def _merged(self, keys: Sequence[tuple[str, str]]) -> _Tally:
        """Take several tallies out and return them as one."""
        merged = _Tally()
        for key in keys:
            tally = self._tallies.pop(key)
            merged.count += tally.count
            merged.first = min(merged.first or tally.first, tally.first)
            merged.last = max(merged.last, tally.last)
        return merged

    def _forget(self, now: float) -> None:
        """Make room: what was quiet for a whole period begins anew."""
        quiet = [
            key for key, tally in self._tallies.items() if not tally.count and tally.due <= now
        ]
        for key in quiet:
            del self._tallies[key]


def _record(fingerprint: str, reason: str, tally: _Tally) -> Record:
    detail = {"reason": reason, "first": tally.first, "last": tally.last}
    return Record("refused", tally.path, fingerprint, detail, tally.address, tally.count)
