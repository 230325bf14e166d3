"""What a training is asked for while it runs: a checkpoint, or to leave one and end. All ranks come
to know of it in the same step."""

import enum
import threading
from collections.abc import Callable


class Request(enum.Enum):
    NOTHING = "nothing"
    SAVE = "save"
    END = "end"


Asked = Callable[[], Request]
"""What a rank is asked for now; what it was told of once need not be told again."""


def nothing() -> Request:
    return Request.NOTHING


class Requests:
    """From other threads of a worker's process to the one that trains."""

    def __init__(self) -> None:
        self.to_save = threading.Event()
        self.to_end = threading.Event()
        self.ended = threading.Event()
        """Whether the training has."""

    def pending(self) -> Request:
        if self.to_end.is_set():
            return Request.END
        if self.to_save.is_set():
            self.to_save.clear()
            return Request.SAVE
        return Request.NOTHING


REQUESTS = Requests()
