"""What becomes of a conversation that has more tokens than the model reads. Pure."""

from typing import Literal, NamedTuple

from trainers.tasks.conversations.renderer import Rendered

Overlong = Literal["drop", "keep_start", "keep_end", "split"]
"""`drop` leaves it out. `keep_start` and `keep_end` cut it, and drop it where no answer is left.
`split` makes it several sequences, of which those without an answer are dropped."""

DROPPED = "longer than max_length"
CUT, SPLIT = "cut to max_length", "split at max_length"
NOTHING_LEFT = "no answer left after the cut"


class Fitted(NamedTuple):
    """The sequences that a conversation becomes, none where it is dropped, and what is counted
    of it."""

    sequences: list[Rendered]
    counted: str | None = None


def fitted(rendered: Rendered, max_length: int, overlong: Overlong) -> Fitted:
    """Sequences of at most `max_length` tokens, of which each has a target.

    The first token of a sequence has nothing before it that it could be predicted from, so it is no
    target. Pieces of `split` share one token, so that all the others stay targets.
    """
    length = len(rendered.input_ids)
    if length <= max_length:
        return Fitted([rendered])
    match overlong:
        case "drop":
            return Fitted([], DROPPED)
        case "keep_start":
            pieces, counted = [_piece(rendered, 0, max_length)], CUT
        case "keep_end":
            pieces, counted = [_piece(rendered, length - max_length, length)], CUT
        case "split":
            begins = range(0, length - 1, max_length - 1)
            pieces = [_piece(rendered, begin, begin + max_length) for begin in begins]
            counted = SPLIT
    learned = [piece for piece in pieces if any(piece.learned)]
    return Fitted(learned, counted if learned else NOTHING_LEFT)


def _piece(rendered: Rendered, begin: int, end: int) -> Rendered:
    ids, learned = rendered.input_ids[begin:end], rendered.learned[begin:end]
    return rendered._replace(input_ids=ids, learned=[False, *learned[1:]])
