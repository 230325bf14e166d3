"""Errors in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

RETRY_AFTER_S = 1
INVALID, OVERLOADED, BROKEN = "invalid_request_error", "rate_limit_error", "server_error"
"""The types of errors."""


class Refused(HTTPException):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ):
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else None
        super().__init__(status, message, headers)
        self.body = error_body(message, _type_of(status), param, code)


def error_body(
    message: str, type_: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def _type_of(status: int) -> str:
    if status == 429:
        return OVERLOADED
    return BROKEN if status >= 500 else INVALID


def answer_in_openai_shape(http: FastAPI) -> None:
    """Has an API answer errors of every kind so."""

    @http.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _response(explained(error.errors()))

    @http.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, Refused):
            return _response(error)
        if error.status_code == 404:
            paths = ", ".join(http.openapi()["paths"])
            return _response(Refused(404, f"there is no {request.url.path}; there are {paths}"))
        # Of a body that is no JSON, OpenAI's API and its clients know 400 alone.
        status = 400 if error.status_code == 422 else error.status_code
        return _response(Refused(status, error.detail))

    @http.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return _response(Refused(500, f"{type(error).__name__}: {error}"))


def refusal(message: str, status: int) -> JSONResponse:
    return _response(Refused(status, message))


def _response(error: Refused) -> JSONResponse:
    return JSONResponse(error.body, error.status_code, error.headers)


def explained(problems: Any) -> Refused:
    """The first of pydantic's errors of a body, with its key. Pure."""
    problem = problems[0]
    path = [str(part) for part in problem["loc"] if part != "body"]
    key = ".".join(path) or None
    match problem["type"]:
        case "extra_forbidden":
            return Refused(400, f"{key}: there is no such key here", key, "unknown_parameter")
        case "missing":
            return Refused(400, f"{key}: missing; it must be given", key, "missing_parameter")
    said = problem["msg"].removeprefix("Value error, ")
    return Refused(400, f"{key}: {said}" if key else said, key, "invalid_value")


def explained_value(error: ValueError, key: str) -> Refused:
    """A value of a key that cannot be taken. Pure."""
    if isinstance(error, ValidationError):
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
    else:
        said = str(error)
    return Refused(400, f"{key}: {said}", key, "invalid_value")
