"""A small application behind `regkit.serving`, as a program: `python -m support.echo_server HOME`.

It serves on a free port and on HOME/socket. The routes are in `application`; tests start it and
talk to it with `support.echoes`, which must not be imported here: it would import requests before
gevent has patched.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from regkit import identity, logs, serving
from regkit.errors import Invalid, ServiceError, Unavailable
from regkit.identity import Identity

log = logs.get("echo")
BLOCK = bytes(range(256)) * 1024


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer `/who`, `/sink`, `/refuse`, `/bytes/N`, `/poll`, `/work`."""
    path = environ["PATH_INFO"]
    if path == "/who":
        return _json(start_response, _who(environ))
    if path == "/sink":
        return _sink(environ, start_response)
    if path == "/refuse":
        start_response("403 Forbidden", [("Content-Length", "2")])
        return [b"no"]
    if path.startswith("/bytes/"):
        size = int(path.rpartition("/")[2])
        start_response("200 OK", [("Content-Length", str(size))])
        return _blocks(size)
    if path == "/poll":
        import gevent  # noqa: PLC0415 - after patch()

        log.info("polling")
        while not serving.stopping():
            gevent.sleep(0.02)
        return _json(start_response, {"stopping": True})
    if path == "/work":
        return _work(environ, start_response)
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def _who(environ: dict[str, Any]) -> dict[str, Any]:
    certificate = serving.peer_certificate(environ)
    return {
        "fingerprint": str(certificate.fingerprint) if certificate else None,
        "local": serving.is_local(environ),
        "scheme": environ["wsgi.url_scheme"],
        "pid": os.getpid(),
    }


def _sink(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    import hashlib  # noqa: PLC0415

    digest, size = hashlib.sha256(), 0
    try:
        for data in serving.read_body(environ):
            digest.update(data)
            size += len(data)
    except serving.ClientGone as error:
        log.info("body-cut", size=size, reason=str(error))
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    log.info("body-whole", size=size)
    return _json(start_response, {"size": size, "digest": digest.hexdigest()})


def _work(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Say that work has begun, and finish when the file /work?<path> appears."""
    import gevent  # noqa: PLC0415

    log.info("working")
    go = Path(environ["QUERY_STRING"])
    while not go.exists():
        gevent.sleep(0.02)
    return _json(start_response, {"done": True})


def _blocks(size: int) -> Iterator[bytes]:
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)


def _json(start_response: Callable[..., Any], content: Any) -> list[bytes]:
    data = json.dumps(content).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    start_response("200 OK", headers)
    return [data]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minimum-tls", default="1.3")
    parser.add_argument("--broken", choices=["refuses", "raises"])
    parser.add_argument("--slow-start", action="store_true")
    parser.add_argument("--away", type=Path, help="while there is such a file, it can't be made")
    options = parser.parse_args()
    serving.patch()
    from regkit.serving.server import serve  # noqa: PLC0415 - only now

    logs.configure("info", "json")

    def make() -> Any:
        log.info("making")
        if options.broken == "refuses":
            raise Invalid("the setting is wrong: mend it")
        if options.broken == "raises":
            raise RuntimeError("a fault of the program")
        if options.away is not None and options.away.exists():
            if options.away.read_text():
                raise Invalid("the setting is wrong by now: mend it")
            raise Unavailable("the database can't be reached: see to it")
        if options.slow_start:
            import gevent  # noqa: PLC0415

            gevent.sleep(1)
        return application

    def load() -> Identity:
        paths = options.home / "server.crt", options.home / "server.key"
        return identity.ensure(*paths, "echo", ["127.0.0.1"], usage="server")

    master = os.getpid()
    try:
        serve(
            make,
            [
                serving.UnixListener(options.home / "socket"),
                serving.TcpListener("127.0.0.1", options.port),
            ],
            identity=load(),
            workers=options.workers,
            minimum_tls=options.minimum_tls,
            reload=load,
        )
    except ServiceError as error:
        log.error("failed", reason=str(error), master=os.getpid() == master)  # noqa: TRY400
        return 1
    log.info("returned", master=os.getpid() == master)
    return 0


if __name__ == "__main__":
    sys.exit(main())
