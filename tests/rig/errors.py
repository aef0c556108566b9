"""The rig's two kinds of failure: what Juju would refuse, and what the rig itself cannot do."""

from __future__ import annotations


class JujuError(Exception):
    """Juju would refuse this too; the message is what `juju` or the hook tool prints.

    `code` is the exit status of the program (2 for a wrong command line, like Juju's own).
    """

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class UsageError(JujuError):
    """A flag, tool or verb that is unknown here: never ignored, since Juju may know it."""

    def __init__(self, message: str):
        super().__init__(message, code=2)


class RigError(Exception):
    """The rig could not do its part (build, boot, pack); the message says what to do next."""
