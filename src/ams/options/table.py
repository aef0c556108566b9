"""The one table of options: names, defaults, how their text is read, what they are for.

It knows no stored value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from regkit import durations
from regkit.errors import Invalid
from regkit.settings import Address

MODES = ("pull", "push", "manual")
MIN_INTERVAL = timedelta(seconds=1)
MAX_URLS = 16
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One option: how its text is read, and what it is for.

    `parse` turns text into the typed value or raises ValueError; `render` gives the canonical
    text that is stored, and that `parse` reads back to the same value. The default is a text too.
    """

    name: str
    parse: Callable[[str], Any]
    render: Callable[[Any], str]
    default: str
    description: str
    secret: bool = False


def _urls(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    urls = dict.fromkeys(_url(part) for part in parts)
    if len(urls) > MAX_URLS:
        raise ValueError(f"at most {MAX_URLS} URLs")
    return tuple(urls)


def _url(text: str) -> str:
    wanted = f"{text[:200]!r} is not a registry's URL: write it like https://192.168.178.45:3000"
    try:
        parts = urlsplit(text)
        port = 443 if parts.port is None else parts.port
        host = parts.hostname or ""
        address = Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except ValueError:
        raise ValueError(wanted) from None
    if not host or port == 0 or "@" in parts.netloc or not text.isprintable():
        raise ValueError(wanted)
    if parts.scheme.lower() != "https":
        raise ValueError(f"{wanted} (only https is allowed)")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{wanted} (no path, query or fragment)")
    return f"https://{address}" if parts.port is not None else f"https://{address}"[: -len(":443")]


def _tags(text: str) -> tuple[str, ...]:
    tags = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    for tag in tags:
        if not tag.isprintable() or len(tag) > 255:
            raise ValueError(f"{tag[:80]!r} is not a tag")
    return tuple(sorted(tags))


def _mode(text: str) -> str:
    if text not in MODES:
        raise ValueError(f"{text[:80]!r} is not a mode: use one of {', '.join(MODES)}")
    return text


def _interval(text: str) -> timedelta:
    interval = durations.parse(text)
    if interval < MIN_INTERVAL:
        raise ValueError(f"{text[:40]!r} is too short: use 1s or more")
    return interval


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text[:80]!r} is neither true nor false")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or int(text) < 1:
        raise ValueError(f"{text[:80]!r} is not a number from 1 to 999999")
    return int(text)


def _fingerprint(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{text[:80]!r} is not a fingerprint: 64 hexadecimal digits")
    return text


def _render_bool(value: bool) -> str:
    return "true" if value else "false"


def _join(value: tuple[str, ...]) -> str:
    return ",".join(value)


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option(
            "registry.url",
            _urls,
            _join,
            "",
            "Where the registry is: one https URL, or several that reach the same registry, "
            "separated by commas.",
        ),
        Option(
            "registry.fingerprint",
            _fingerprint,
            str,
            "",
            "SHA-256 fingerprint of the registry's certificate, or an unambiguous prefix of it. "
            "The certificate must be in the trust store (`amc config trust add`).",
        ),
        Option(
            "registry.mode",
            _mode,
            str,
            "pull",
            "What to do with the registry: `pull` its applications, `push` the published local "
            "ones, or `manual`: nothing by itself.",
        ),
        Option(
            "registry.update_interval",
            _interval,
            durations.render,
            "1h",
            "How often to look for changes, at the latest, such as 30s, 5m or 1h30m; at least 1s.",
        ),
        Option(
            "registry.spread",
            durations.parse,
            durations.render,
            "0s",
            "How long to wait at the most, at random, once the registry tells of something new: "
            "in a large fleet it keeps the sites from asking all at the same moment. 0s: at once.",
        ),
        Option(
            "registry.filter",
            _tags,
            _join,
            "",
            "Comma-separated tags: only applications that have one of them are pulled. "
            "Empty: all.",
        ),
        Option(
            "application.auto_publish",
            _bool,
            _render_bool,
            "true",
            "Publish every new version of a local application at once; otherwise it waits for "
            "`amc application publish`.",
        ),
        Option(
            "application.auto_update",
            _bool,
            _render_bool,
            "true",
            "Acts on nothing, and is kept for programs that set it: in the reference an "
            "application is rebuilt when its image or an addon has a newer version, and here are "
            "neither images nor addons to rebuild it from.",
        ),
        Option(
            "application.max_published_versions",
            _count,
            str,
            "3",
            "How many versions of an application may be published at a time: whenever one is "
            "published, the oldest beyond that number are revoked.",
        ),
        Option(
            "core.trust_password",
            str,
            str,
            "",
            "Password with which a new client may register itself. Only whether it is set is "
            "shown.",
            secret=True,
        ),
    )
}
"""Every option, in the order in which they are shown."""


def option(name: str) -> Option:
    """Return the option of this name. Raises Invalid that names similar ones."""
    if found := OPTIONS.get(name):
        return found
    close = difflib.get_close_matches(name[:80], OPTIONS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "'amc config show' lists them all"
    raise Invalid(f"{name[:80]!r} is not an option: {hint}")
