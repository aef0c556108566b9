"""The distribution API's form of an error, and the one place where a fault becomes one.

`{"errors": [{"code", "message", "detail"}]}` with the codes of the OCI Distribution Specification
1.1, section "Error Codes". Which fault has which code is said where the fault is raised
(`aar.errors`); here are only those that come from HTTP itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from aar.errors import Denied
from regkit import logs, rest
from regkit.errors import ServiceError

log = logs.get("aar.web.distribution")

#: For faults that bring no code of their own. Clients take one they don't know for `UNKNOWN`.
CODES = {
    400: "UNSUPPORTED",
    403: "DENIED",
    404: "NAME_UNKNOWN",
    405: "UNSUPPORTED",
    409: "DENIED",
    413: "SIZE_INVALID",
    415: "MANIFEST_INVALID",
    416: "BLOB_UPLOAD_INVALID",
    429: "TOOMANYREQUESTS",
    503: "UNAVAILABLE",
}


def install(app: Flask, denied: Callable[[Denied], None]) -> None:
    """Give every fault that leaves a view of `app` the specification's form.

    `denied` is told of what the rules refuse.
    """

    def deny(fault: Denied) -> Response:
        denied(fault)
        return _service_error(fault)

    app.register_error_handler(Denied, deny)
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ConnectionError, _cut)
    app.register_error_handler(Exception, _unexpected)


def answer(status: int, message: str, code: str | None = None, detail: Any = None) -> Response:
    """Answer `status` with one error; without `code`, the one that belongs to `status`."""
    code = code or CODES.get(status, "UNKNOWN")
    response = jsonify({"errors": [{"code": code, "message": message, "detail": detail}]})
    response.status_code = status
    return response


def _service_error(fault: ServiceError) -> Response:
    response = answer(
        fault.status, str(fault), getattr(fault, "code", None), getattr(fault, "detail", None)
    )
    return rest.delayed(response, fault)


def _http_error(fault: HTTPException) -> Response:
    status = fault.code or 500
    if status == 404:
        return answer(status, "the distribution API has no such path")
    response = answer(status, fault.description or fault.name)
    if isinstance(fault, MethodNotAllowed) and fault.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(fault.valid_methods))
    return response


def _cut(fault: ConnectionError) -> Response:
    # Nobody reads this answer: what matters is that a sender's death is no fault of ours.
    log.info("client-gone", method=request.method, path=request.path[:500], reason=str(fault))
    return answer(400, "the connection was cut before the whole body had come: resume the upload")


def _unexpected(_fault: Exception) -> Response:
    log.exception("request-failed", method=request.method, path=request.path)
    return answer(500, "internal error: the registry's log has the details")
