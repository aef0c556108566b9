"""In the place of an application that can't be made yet, such as for a database that is away.

The master takes a worker that ends while it starts for a hopeless one, and ends the server. So a
worker that is started just then answers 503, tries again, and is the application from then on.
When a server starts as a whole, whoever starts it has looked before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from regkit import logs
from regkit.errors import ServiceError, Unavailable
from regkit.serving.requests import announcing_close

log = logs.get("regkit.serving")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds before the second try, doubled for each further one, up to the longest."""
RETRY_AFTER = 2.0
"""Seconds after which a client may ask again, where the fault doesn't say."""
HOPELESS = 3
"""The exit code of a worker that tells gunicorn's master not to try again."""


class Waiting:
    """A WSGI application: what `make` gives as soon as that succeeds, and 503 before."""

    def __init__(
        self, make: Callable[[], Any], fault: Unavailable, ready: Callable[[], None]
    ) -> None:
        """`fault`: why the first try has failed. `ready` is called once the application is."""
        self._make = make
        self._ready = ready
        self._retry_after = RETRY_AFTER if fault.retry_after is None else fault.retry_after
        self._application: Any = None
        self._answer = announcing_close(self._unavailable)
        gevent.spawn(self._try_on)

    @property
    def over(self) -> bool:
        """Whether the application is there."""
        return self._application is not None

    @property
    def shortcut(self) -> Any:
        """The application's, if it has one (`regkit.serving.conversation`)."""
        return getattr(self._application, "shortcut", None)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer as the application, or that it isn't there yet."""
        application = self._application or self._answer
        return application(environ, start_response)

    def _try_on(self) -> None:
        pause = FIRST_PAUSE
        while self._application is None:
            gevent.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                self._application = self._make()
            except Unavailable as error:
                log.debug("start-waits", reason=str(error))
            except ServiceError as error:
                log.error("start-failed", reason=str(error))  # noqa: TRY400 - for the operator
                raise SystemExit(HOPELESS) from None
            except Exception:
                log.exception("start-failed")
                raise SystemExit(HOPELESS) from None
        log.info("started-late")
        self._ready()

    def _unavailable(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Tell whoever it is to come again, in the envelope of `regkit.rest`."""
        content = json.dumps(
            {
                "type": "error",
                "status": "",
                "status_code": 0,
                "operation": "",
                "error_code": Unavailable.status,
                "error": "what this service stands on can't be reached at the moment: try again",
                "metadata": None,
            }
        ).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
            ("Retry-After", str(max(1, math.ceil(self._retry_after)))),
        ]
        start_response("503 Service Unavailable", headers)
        return [content]
