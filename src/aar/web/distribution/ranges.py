"""The two range headers of the distribution API, parsed from hostile text.

`Range` of a download is RFC 9110's; `Content-Range` of an upload's chunk is the distribution
specification's own form, `<start>-<end>`, without a unit. No request or answer is touched here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regkit.errors import Invalid, ServiceError

# 19 digits hold every 64-bit size; more would only make the conversion slow.
_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?")


class Unsatisfiable(ServiceError):  # noqa: N818 - the name RFC 9110 gives it
    """The range begins after the end of what there is."""

    status = 416


@dataclass(frozen=True)
class Span:
    """Bytes `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes there are in it."""
        return self.stop - self.start


def requested(header: str | None, size: int) -> Span | None:
    """Read the `Range` of a download of `size` bytes; None means the whole.

    Only one range is served: several, and what isn't a range of bytes, are ignored, as RFC 9110,
    section 14.2, allows. Raises Unsatisfiable.
    """
    match = _RANGE.fullmatch(header) if header and len(header) < 200 else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        span = Span(max(size - int(last), 0), size)
    else:
        if last and int(last) < int(first):
            return None
        span = Span(int(first), min(int(last) + 1, size) if last else size)
    if span.length <= 0:
        raise Unsatisfiable(f"the range begins after the end: there are {size} bytes")
    return span


def announced(header: str | None) -> Span | None:
    """Read the `Content-Range` of an upload's chunk; None when there is none.

    Raises Invalid for what the specification's form doesn't allow.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip()) if len(header) < 200 else None
    if match is None or int(match[2]) < int(match[1]):
        raise Invalid("Content-Range must be <start>-<end>, both counted from 0 and included")
    return Span(int(match[1]), int(match[2]) + 1)
