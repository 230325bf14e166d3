"""What an endpoint refuses, and in what words: `{"detail": "..."}`, one sentence.

404   a path that there is not
405   a method that a path does not take
413   a body over `serve.max_request_megabytes`, too many inputs, or one that would be cut but must
      not be
415   a body that is no JSON, or compressed
422   a body that is not what was asked for
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import Scope

from trainers.tasks.encoding import Encoded

SHOWN_PROBLEMS = 5


class Refusal(BaseModel):
    detail: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (413, 415, 422)
}
"""For the schema of a route."""


def refuse_in_words(http: FastAPI, known: Collection[str]) -> None:
    """Has an API answer in words what it cannot take. `known` are the keys of its body."""

    @http.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer would send the whole body back.
        problems = error.errors()
        status = 413 if problems[0]["type"] == "too_long" else 422
        return JSONResponse({"detail": explain(problems, known)}, status)

    @http.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        detail, path = error.detail, request.url.path
        if error.status_code == 404:
            paths = ", ".join(http.openapi()["paths"])
            return JSONResponse({"detail": f"there is no {path}; there are {paths}"}, 404)
        if error.status_code != 405:
            return JSONResponse({"detail": detail}, error.status_code, error.headers)
        methods = ", ".join(_methods(http, request.scope))
        headers = {"Allow": methods}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"{path} takes {methods}, not {request.method}"
        return JSONResponse({"detail": detail}, 405, headers)


def refuse_cut(encoded: Sequence[Encoded], name: str) -> None:
    """Raises HTTPException if any of the inputs, which a request calls so, is longer than what the
    model reads."""
    problems = [
        f"{name}.{place} has "
        f"{'more' if one.length is None else f'{one.length} tokens, more'} than the "
        f"{len(one.input_ids)} tokens that the model reads"
        for place, one in enumerate(encoded)
        if one.is_cut
    ]
    if problems:
        raise HTTPException(
            413, f'{_joined(problems)}: shorten what is longer, or leave "truncate": false out'
        )


def explain(problems: Sequence[Mapping[str, Any]], known: Collection[str]) -> str:
    """Of pydantic's errors of a body that may have the keys `known`. Pure."""
    return _joined([_explain(problem, known) for problem in problems])


def _explain(problem: Mapping[str, Any], known: Collection[str]) -> str:
    where = ".".join(map(str, problem["loc"][1:]))  # the first is `body`
    match problem["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key; known: {', '.join(known)}"
        case "missing":
            return f"{where}: missing"
        case "too_long":
            found, most = problem["ctx"]["actual_length"], problem["ctx"]["max_length"]
            return f"{found} {where} in one request, at most {most}"
        case _ if not where:
            return "the body is no JSON object"
        case _:
            return f"{where}: {problem['msg']}"


def _joined(problems: Sequence[str]) -> str:
    more = len(problems) - SHOWN_PROBLEMS
    return "; ".join([*problems[:SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _methods(http: FastAPI, scope: Scope) -> list[str]:
    """All that the path of a request takes."""
    methods = {
        method
        for route in http.routes
        if route.matches(scope)[0] != Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()) | {"OPTIONS"})
