"""Calls to storage are tried again where a failure may pass: a server that is busy, a connection
that broke. pyarrow's clients try again by themselves, but for a few seconds only."""

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each further try, drawn around these."""
REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "NO_SUCH_BUCKET",
    "SIGNATURE_DOES_NOT_MATCH",
)
"""What S3 answers to a mistake, in pyarrow's messages."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def may_pass(error: OSError) -> bool:
    """Whether the same call may succeed a little later: where an object store or its network fails,
    pyarrow raises a plain OSError of text alone, and one with a number for what lasts. Pure."""
    is_of_a_store = type(error) is OSError and error.errno is None
    return is_of_a_store and not any(word in str(error) for word in REFUSED)


def retried(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """The function, tried again where it raises an OSError that may pass; the last one is raised.
    It must be one that can be called twice."""

    @functools.wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        for pause_s in PAUSES_S:
            try:
                return function(*arguments, **named)
            except OSError as error:
                if not may_pass(error):
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # so that ranks do not come all at once
        return function(*arguments, **named)

    return call
