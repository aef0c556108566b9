"""One line per event on stderr: `time level event key=value…`, or JSON.

Events have names and fields rather than sentences, so that an operator can grep and a program
can parse. Control characters of foreign values never reach the terminal.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any, Literal

Format = Literal["text", "json"]
_FIELDS = "regkit_fields"


class EventLogger:
    """A logger whose messages are an event's name and its fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def debugging(self) -> bool:
        """Whether `debug` writes anything."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only a developer wants to see."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log what an operator expects to happen."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log what failed."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log a fault of the program, with its traceback."""
        self._logger.error(event, exc_info=True, extra={_FIELDS: fields})

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        self._logger.log(level, event, extra={_FIELDS: fields})


def get(name: str) -> EventLogger:
    """Return the logger of a part of the service, such as `aar.web`."""
    return EventLogger(name)


def configure(level: str = "info", log_format: Format = "text") -> None:
    """Send every event of `level` or above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("alembic", "urllib3", "gunicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, _FIELDS, {})


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = [_time_of(record), record.levelname.lower(), _plain(record.getMessage())]
        parts += [f"{key}={_quoted(str(value))}" for key, value in _fields_of(record).items()]
        line = " ".join(parts)
        if not record.exc_info:
            return line
        # Indented, since a fault may repeat foreign text that looks like a line of this log.
        trace = self.formatException(record.exc_info).splitlines()
        return "\n".join([line, *(f"    {_plain(part)}" for part in trace)])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # In ASCII: some terminals obey U+009B, and some readers take U+2028 for a line's end.
        return json.dumps(entry, default=str)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    if text and text.isprintable() and not any(c in ' "=' for c in text):
        return text
    return json.dumps(text, ensure_ascii=True)
