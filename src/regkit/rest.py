"""The LXD-style envelope of both services' `/1.0`, and the one place where errors become answers.

Shapes (https://documentation.ubuntu.com/lxd/stable/rest-api/): `sync`, `async` with the URL of an
operation, `error`. No route is defined here.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from regkit import logs
from regkit.errors import ServiceError

log = logs.get("regkit.rest")

OPERATION_CREATED = 100
"""The envelope's status code of an answer that names an operation (LXD's status codes)."""


def sync(metadata: Any = None, *, total_size: int | None = None) -> Response:
    """Answer 200 with `metadata`; `total_size` is the length of an unpaged list."""
    body: dict[str, Any] = {
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": metadata,
    }
    if total_size is not None:
        body["total_size"] = total_size
    return jsonify(body)


def operation(url: str, metadata: Any) -> Response:
    """Answer 202: the work goes on as the operation at `url`."""
    response = jsonify(
        {
            "type": "async",
            "status": "Operation created",
            "status_code": OPERATION_CREATED,
            "operation": url,
            "error_code": 0,
            "error": "",
            "metadata": metadata,
        }
    )
    response.status_code = 202
    response.headers["Location"] = url
    return response


def error(status: int, message: str, metadata: Any = None) -> Response:
    """Answer `status` with one line that says what to do next."""
    response = jsonify(
        {
            "type": "error",
            "status": "",
            "status_code": 0,
            "operation": "",
            "error_code": status,
            "error": message,
            "metadata": metadata,
        }
    )
    response.status_code = status
    return response


def install(app: Flask) -> None:
    """Make every error that leaves a view of `app` an envelope; faults of ours are logged."""
    app.json.sort_keys = False  # type: ignore[attr-defined] - the default provider has it
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def delayed(response: Response, fault: ServiceError) -> Response:
    """Tell in `response` when to try again, if the fault says so (`retry_after`, in seconds)."""
    seconds = getattr(fault, "retry_after", None)
    if seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return response


def _service_error(fault: ServiceError) -> Response:
    response = error(fault.status, str(fault), getattr(fault, "metadata", None))
    return delayed(response, fault)


def _http_error(fault: HTTPException) -> Response:
    status = fault.code or 500
    response = error(status, fault.description or HTTPStatus(status).phrase)
    if fault.response is None and status == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = getattr(fault, "valid_methods", None) or ()
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _unexpected(_fault: Exception) -> Response:
    log.exception("request-failed", method=request.method, path=request.path)
    return error(500, "internal error: the service's log has the details")
