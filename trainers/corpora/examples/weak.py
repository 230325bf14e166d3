"""Labels from rules: what the labelling functions of a source vote, and what comes of the votes.

The votes on a text are written as JSON: for each function the label that it votes for, or null
where it abstains, as in `["good", null]`. There are few different ones, however many texts.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.errors import UserError
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.cleaning.units import CJK
from trainers.corpora.examples import label_model
from trainers.corpora.examples.label_model import ABSTAIN
from trainers.corpora.examples.weak_labels import LabellingFunction, WeakLabels
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import parts

NO_VOTES, TIED_VOTES, IMPROBABLE = "no votes", "tied votes", "improbable label"
LETTER = f"[^\\W_{CJK}]"
"""Or a digit, of scripts that put spaces between words."""

Rules = Sequence[re.Pattern[str]]
"""What each function looks for."""


@dataclasses.dataclass(frozen=True)
class Labelling:
    """What comes of the votes on the texts of one source."""

    labels: Mapping[str, str]
    """By the votes."""
    unlabelled: Mapping[str, str]
    """Why texts with such votes have no label."""


def votes(texts: Sequence[str], settings: WeakLabels, rules: Rules) -> Iterator[str]:
    """The votes on each text, by the rules that `patterns` made of the settings."""
    functions = [*zip(settings.functions.values(), rules, strict=True)]
    for text in texts:
        yield json.dumps(
            [function.label if rule.search(text) else None for function, rule in functions],
            ensure_ascii=False,
        )


def labelling(counts: Mapping[str, int], settings: WeakLabels) -> Labelling:
    """The labels of texts, of which so many have each of these votes."""
    names = sorted({function.label for function in settings.functions.values()})
    patterns = sorted(counts)  # so that sums are the same in whatever order files were read
    numbered = [
        [ABSTAIN if vote is None else names.index(vote) for vote in json.loads(pattern)]
        for pattern in patterns
    ]
    found = np.array(numbered, np.int64).reshape(len(patterns), len(settings.functions))
    if settings.vote == "majority" or not patterns:
        weights = np.stack([(found == number).sum(axis=1) for number in range(len(names))], axis=1)
    else:
        texts = np.array([counts[pattern] for pattern in patterns], np.int64)
        weights = label_model.fit(found, texts, len(names)).probabilities(found)
    labels, unlabelled = {}, {}
    for pattern, row, weighed in zip(patterns, found, weights, strict=True):
        best = weighed.max()
        if (row == ABSTAIN).all():
            unlabelled[pattern] = NO_VOTES
        elif np.isclose(weighed, best, rtol=1e-9, atol=0).sum() > 1:
            unlabelled[pattern] = TIED_VOTES
        elif best < (settings.min_probability or 0):
            unlabelled[pattern] = IMPROBABLE
        else:
            labels[pattern] = names[weighed.argmax()]
    return Labelling(labels, unlabelled)


def patterns(settings: WeakLabels, clean: Clean, key: str) -> Rules:
    """What each function looks for. `key` is that of the settings. Raises UserError."""
    return [
        _pattern(function, clean, f"{key}.functions.{name}")
        for name, function in settings.functions.items()
    ]


def _pattern(function: LabellingFunction, clean: Clean, key: str) -> re.Pattern[str]:
    if function.pattern is not None:
        return re.compile(function.pattern)
    lexicon = _words(function.path, key) if function.path else function.lexicon or ()
    as_texts = Clean(unicode=clean.unicode)
    words = sorted({normalize(word, as_texts) for word in lexicon} - {""})
    if not words:
        raise UserError(f"{key}.path: no words in {function.path!r}")
    return re.compile("|".join(map(_whole, words)), re.IGNORECASE)


def _words(path: str, key: str) -> Iterator[str]:
    """The lines of a lexicon's file."""
    source = Source(path=path, format="text")
    for part in parts(source, key):
        for document in read(source, part):
            if document.text is None:
                raise UserError(f"{document.where}: {document.problem}; mend the lexicon")
            yield document.text


def _whole(word: str) -> str:
    """A pattern for the word, where it is no part of a longer one."""
    before = f"(?<!{LETTER})" if re.match(LETTER, word[0]) else ""
    after = f"(?!{LETTER})" if re.match(LETTER, word[-1]) else ""
    return f"{before}{re.escape(word)}{after}"


def report(
    settings: WeakLabels,
    counts: Mapping[str, int],
    found: Labelling,
    gold: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Shares of the texts, of which `counts` have each of these votes: of each function, those it
    votes on (coverage), those where another votes too (overlaps), and for another label
    (conflicts). `gold` has how many texts have which labels of people, by the votes; accuracy is of
    those that rules label."""
    total = max(1, sum(counts.values()))
    parsed = {pattern: json.loads(pattern) for pattern in counts}

    def share(holds: Callable[[list[str | None]], bool]) -> float:
        return sum(n for pattern, n in counts.items() if holds(parsed[pattern])) / total

    def of_function(place: int) -> dict[str, Any]:
        def others(row: list[str | None]) -> set[str | None]:
            return {*row[:place], *row[place + 1 :]} - {None} if row[place] else set()

        own = {pattern: row[place] for pattern, row in parsed.items() if row[place]}
        return {
            "coverage": share(lambda row: row[place] is not None),
            "overlaps": share(lambda row: bool(others(row))),
            "conflicts": share(lambda row: bool(others(row) - {row[place]})),
            **_accuracy(own, gold),
        }

    return {
        "documents": sum(counts.values()),
        "coverage": sum(counts[pattern] for pattern in found.labels) / total,
        **_accuracy(found.labels, gold),
        "functions": {name: of_function(place) for place, name in enumerate(settings.functions)},
    }


def _accuracy(
    labels: Mapping[str, str], gold: Mapping[str, Mapping[str, int]]
) -> dict[str, float | int]:
    known = {pattern: gold[pattern] for pattern in labels if pattern in gold}
    total = sum(sum(counts.values()) for counts in known.values())
    right = sum(counts.get(labels[pattern], 0) for pattern, counts in known.items())
    return {"accuracy": right / total, "accuracy_documents": total} if total else {}
