"""How a bundled Python service sits on a machine: its release, user, unit, settings, commands.

A charm says what should be there; every verb makes it so, says whether it changed anything, and
may be killed at any point and called again. Not responsible for what the service does, nor for
Juju: nothing here reads a relation, an option or a unit's name.
"""

from machine_service.errors import (
    CommandFailed,
    InvalidConfiguration,
    MachineServiceError,
    NotRunning,
)
from machine_service.program import Program
from machine_service.service import MachineService

__all__ = [
    "CommandFailed",
    "InvalidConfiguration",
    "MachineService",
    "MachineServiceError",
    "NotRunning",
    "Program",
]
