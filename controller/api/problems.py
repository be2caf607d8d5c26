"""Refusals as ``application/problem+json`` (RFC 9457), each naming the thing and the remedy."""

import math
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controller.errors import (
    ConflictError,
    ControllerError,
    InvalidError,
    NotFoundError,
    PermanentError,
    TransientError,
)

TITLES = {
    400: "Bad request",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    422: "Refused",
    500: "Internal error",
    503: "Not available",
}


def problem(
    status: int, detail: str, problems: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body: dict[str, object] = {"type": "about:blank", "title": TITLES.get(status, "Error"), "status": status}
    body["detail"] = detail
    if problems:
        body["problems"] = list(problems)
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(ControllerError)
    def controller_error(_request: Request, error: ControllerError) -> JSONResponse:
        return _from_error(error)

    @app.exception_handler(Exception)
    def unforeseen(_request: Request, _error: Exception) -> JSONResponse:
        """The server logs it; whoever asked gets nothing of it."""
        return problem(500, "an internal error; the controller's log says more")

    @app.exception_handler(RequestValidationError)
    def invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        return problem(422, "the request is not valid: " + (found[0] if found else "no detail"), found)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = f"there is no {request.url.path}; GET /docs lists what there is"
        return problem(error.status_code, detail, headers=error.headers)


def _from_error(error: ControllerError) -> JSONResponse:
    match error:
        case TransientError():
            return problem(503, str(error), headers={"Retry-After": str(math.ceil(error.retry_after))})
        case NotFoundError():
            return problem(404, str(error))
        case ConflictError():
            return problem(409, str(error))
        case InvalidError():
            return problem(422, str(error), error.problems)
        case PermanentError():
            return problem(422, str(error))
    return problem(500, str(error))
