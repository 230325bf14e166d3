"""What becomes of a conversation that has more tokens than the model reads. Pure."""

from typing import NamedTuple

from trainers.tasks.conversations.renderer import Rendered
from trainers.tasks.rendered import Overlong

DROPPED = "longer than max_length"
CUT, SPLIT = "cut to max_length", "split at max_length"
NOTHING_LEFT = "no answer left after the cut"


class Fitted(NamedTuple):
    """The sequences that a conversation becomes, none where it is dropped, and what is counted
    of it."""

    sequences: list[Rendered]
    counted: str | None = None


def fitted(rendered: Rendered, max_length: int, overlong: Overlong) -> Fitted:
    """Sequences of at most `max_length` tokens, each with something that is learned.

    Pieces of `split` share one token: as the first of its piece it is not learned, as the last of
    the one before it is.
    """
    length = len(rendered.input_ids)
    if length <= max_length:
        return Fitted([rendered])
    match overlong:
        case "drop":
            return Fitted([], DROPPED)
        case "keep_start":
            pieces, counted = [piece(rendered, slice(max_length))], CUT
        case "keep_end":
            pieces, counted = [piece(rendered, slice(length - max_length, length))], CUT
        case "split":
            begins = range(0, length - 1, max_length - 1)
            pieces = [piece(rendered, slice(begin, begin + max_length)) for begin in begins]
            counted = SPLIT
    learned = [one for one in pieces if any(one.learned)]
    return Fitted(learned, counted if learned else NOTHING_LEFT)


def piece(rendered: Rendered, kept: slice) -> Rendered:
    """The tokens that are kept, of which the first is not learned: nothing stands before it that it
    could be predicted from."""
    ids, learned = rendered.input_ids[kept], rendered.learned[kept]
    return rendered._replace(input_ids=ids, learned=[False, *learned[1:]])
