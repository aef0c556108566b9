"""The errors that a user may read.

One base, and a kind only where a caller decides differently. The message is one line that says
what is wrong and what to do next; the doors (Flask, click) turn it into an answer in one place
each. Programming errors are not of this family and surface as such.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Something that the user can understand and act on. `status` is its HTTP status code."""

    status = 500


class Invalid(ServiceError):  # noqa: N818 - the names state the fault
    """The input can't be used as it is."""

    status = 400


class Forbidden(ServiceError):  # noqa: N818
    """The caller may not do this."""

    status = 403


class NotFound(ServiceError):  # noqa: N818
    """What was named doesn't exist."""

    status = 404


class Conflict(ServiceError):  # noqa: N818
    """The state as it is doesn't allow this."""

    status = 409


class TooLarge(ServiceError):  # noqa: N818
    """The input is over a limit, which the message names."""

    status = 413


class NoSpace(ServiceError):  # noqa: N818
    """The disk is full, or would be."""

    status = 507


class Unavailable(ServiceError):  # noqa: N818
    """Not now: the other side can't be reached or is busy; trying again later may help.

    `retry_after`: in how many seconds, where that is known.
    """

    status = 503
    retry_after: float | None = None
