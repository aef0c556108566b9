"""`amc completion bash|fish|zsh`."""

from __future__ import annotations

from regkit.cli import completion_command

command = completion_command("amc")
