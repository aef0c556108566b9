"""What can go wrong on the machine. A subclass only where a caller decides differently."""

from __future__ import annotations


class MachineServiceError(Exception):
    """The machine is not as it should be; the message says what is wrong and what to do next."""


class InvalidConfiguration(MachineServiceError):  # noqa: N818 - the name states the fault
    """The service refuses the settings, and keeps those it has; the message names every fault."""


class NotRunning(MachineServiceError):  # noqa: N818 - the name states the fault
    """The service didn't start, or isn't installed; the message is the last it said."""


class CommandFailed(MachineServiceError):  # noqa: N818 - the name states the fault
    """A command of the service failed; the message is the command's own last line."""
