"""`ams serve`: the service behind its unix socket and behind mutual TLS, in one worker process.

One worker, since the sync engine and the running operations live in it. How to listen and to stop
is `regkit.serving`'s business; what is served is `ams.web`'s.
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from ams import settings as config
from ams.service import Service
from ams.settings import SERVER_CERTIFICATE, SERVER_KEY, Settings
from ams.web import create_app
from regkit import identity, logs, serving
from regkit.identity import Identity
from regkit.serving.server import serve
from regkit.upkeep import swap

SOCKET = Path("server/unix.socket")
"""Under the state root (documented paths)."""
COMMON_NAME = "ams"


def run(home: Path, log_format: logs.Format = "text") -> None:
    """Serve the state root `home` in the foreground, until told to stop.

    Raises a kind of ServiceError for settings, certificates or addresses that can't be used.
    """
    swap.complete(home)
    settings = _settings(home, log_format)
    server_identity = _identity(home, settings)
    # Migrates once, and finds a bad state root before the worker does.
    Service(home, settings).stop()
    address = settings.http.addr
    serve(
        lambda: _make_app(home, settings),
        [
            serving.UnixListener(home / SOCKET),
            serving.TcpListener(address.host, address.port),
        ],
        identity=server_identity,
        workers=1,
        reload=lambda: _reload(home, log_format),
    )


def _make_app(home: Path, settings: Settings) -> Flask:
    # In the worker, after the fork: neither connections nor threads survive one.
    service = Service(home, settings)
    try:
        service.start_background()
        return create_app(service)
    except BaseException:
        service.stop()  # it may be made again
        raise


def _settings(home: Path, log_format: logs.Format) -> Settings:
    settings = config.load(home)
    logs.configure(settings.log.level, log_format)
    return settings


def _reload(home: Path, log_format: logs.Format) -> Identity:
    """Read log level and certificate anew; what else the settings hold needs a restart."""
    return _identity(home, _settings(home, log_format))


def _identity(home: Path, settings: Settings) -> Identity:
    names = (*identity.local_names(), *settings.http.names)
    return identity.ensure(
        home / SERVER_CERTIFICATE, home / SERVER_KEY, COMMON_NAME, names, usage="server"
    )
