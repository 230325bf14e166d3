"""A look at what pretraining will hold out, before anything runs."""

from collections.abc import Iterator, Mapping

import numpy as np

from cluster.recipe.section import Conflict
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.cleaning.rules import normalize, too_short_or_long
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import Part, is_remote, located
from trainers.corpora.steps.shard_assignment import draws

ROWS = 2_000
"""More would take too long; and of as many, some are drawn for any share that makes sense."""


def undrawn(
    sources: Mapping[str, Source], clean: Clean, validation: float, seed: int
) -> Iterator[Conflict]:
    """A conflict for a split of pretraining for which none of all texts is drawn. So it is told
    where they are few: of many, the first ones fill both splits."""
    drawn: set[bool] = set()
    rows = 0
    for source in sources.values():
        if not source.repeat:
            continue
        if source.path is None or is_remote(source):
            return
        held = validation if source.validation is None else source.validation
        for file in located(source).files:
            for document in read(source.of_texts, Part(file)):
                rows += 1
                if document.text is None:
                    continue
                text = normalize(document.text, clean)
                if not too_short_or_long(text, clean):
                    key = np.array([text_key(text)], np.uint64)
                    drawn.add(bool(draws(key, seed, "validation")[0] < held))
                if len(drawn) == 2 or rows == ROWS:
                    return
    if drawn == {False}:  # where none is left by cleaning, the run tells by which rule
        yield Conflict(
            "corpora.validation",
            f"no documents left for validation: none of {rows:,} is drawn for a share of "
            f"{validation:g}; raise it, or give more documents",
        )
