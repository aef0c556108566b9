"""Time, as one seam: the real clock, and one that tests move by hand."""

from __future__ import annotations

import datetime
import time


class Clock:
    """The machine's clock."""

    def now(self) -> datetime.datetime:
        """Aware UTC time of day."""
        return datetime.datetime.now(datetime.timezone.utc)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()


class ManualClock(Clock):
    """A clock that stands still until `advance` is called."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime.datetime:
        """Aware UTC time of day, counted from a fixed date."""
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        return start + datetime.timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
