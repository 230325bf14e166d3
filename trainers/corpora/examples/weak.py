"""Labels from rules: what the labelling functions of a source vote, and what comes of the votes."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import UserError
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize
from trainers.corpora.cleaning.units import CJK
from trainers.corpora.examples import label_model
from trainers.corpora.examples.label_model import ABSTAIN, Votes
from trainers.corpora.examples.weak_labels import LabellingFunction, WeakLabels
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import parts

NO_VOTES, TIED_VOTES, IMPROBABLE = "no votes", "tied votes", "improbable label"
LETTER = f"[^\\W_{CJK}]"
"""Or a digit, of scripts that put spaces between words."""


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Of the texts of one source."""

    votes: Votes
    names: list[str]
    """Of the labels that votes are for."""
    labels: list[str | None]
    open: list[str | None]
    """Why a text has none."""


def label(
    texts: Sequence[str], settings: WeakLabels, rules: Sequence[re.Pattern[str]]
) -> Labelling:
    """The labels of texts by the rules that `patterns` made of the settings."""
    names = sorted({function.label for function in settings.functions.values()})
    votes = np.full((len(texts), len(rules)), ABSTAIN)
    for column, (function, rule) in enumerate(zip(settings.functions.values(), rules, strict=True)):
        hits = np.array([rule.search(text) is not None for text in texts], dtype=bool)
        votes[hits, column] = names.index(function.label)
    weights, reasons = _weighed(votes, len(names), settings)
    labels = [
        None if reason else names[best]
        for best, reason in zip(weights.argmax(axis=1), reasons, strict=True)
    ]
    return Labelling(votes, names, labels, reasons)


def _weighed(
    votes: Votes, labels: int, settings: WeakLabels
) -> tuple[npt.NDArray[np.float64], list[str | None]]:
    """(documents, labels), and why a document gets none."""
    if settings.vote == "majority" or not len(votes):
        weights = np.stack([(votes == number).sum(axis=1) for number in range(labels)], axis=1)
    else:
        weights = label_model.fit(votes, labels).probabilities(votes)
    best = weights.max(axis=1, keepdims=True)
    reasons = np.full(len(votes), None, dtype=object)
    if settings.min_probability is not None:
        reasons[best[:, 0] < settings.min_probability] = IMPROBABLE
    reasons[np.isclose(weights, best, rtol=1e-9, atol=0).sum(axis=1) > 1] = TIED_VOTES
    reasons[(votes == ABSTAIN).all(axis=1)] = NO_VOTES
    return weights, reasons.tolist()


def patterns(settings: WeakLabels, clean: Clean, key: str) -> list[re.Pattern[str]]:
    """What each function looks for. `key` is that of the settings. Raises UserError."""
    return [
        _pattern(function, clean, f"{key}.functions.{name}")
        for name, function in settings.functions.items()
    ]


def _pattern(function: LabellingFunction, clean: Clean, key: str) -> re.Pattern[str]:
    if function.pattern is not None:
        return re.compile(function.pattern)
    given = _words(function.path, key) if function.path else function.lexicon or ()
    as_texts = Clean(unicode=clean.unicode)
    words = sorted({normalize(word, as_texts) for word in given} - {""})
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


def report(settings: WeakLabels, found: Labelling, gold: Mapping[int, str]) -> dict[str, Any]:
    """Shares of the texts: of each function, those it votes on (coverage), those where another
    votes too (overlaps), and for another label (conflicts). `gold` has the labels that are known,
    by the place of the text; accuracy is of those that the rules label."""
    functions = {}
    for column, name in enumerate(settings.functions):
        mine, others = found.votes[:, [column]], np.delete(found.votes, column, axis=1)
        voted, others_voted = mine != ABSTAIN, others != ABSTAIN
        named = [None if vote == ABSTAIN else found.names[vote] for vote in mine[:, 0]]
        functions[name] = {
            "coverage": _share(voted),
            "overlaps": _share((voted & others_voted).any(axis=1)),
            "conflicts": _share((voted & others_voted & (others != mine)).any(axis=1)),
            **_accuracy(named, gold),
        }
    return {
        "documents": len(found.labels),
        "coverage": _share(np.array([label is not None for label in found.labels], dtype=bool)),
        **_accuracy(found.labels, gold),
        "functions": functions,
    }


def _share(hits: npt.NDArray[np.bool_]) -> float:
    return float(hits.mean()) if hits.size else 0.0


def _accuracy(labels: Sequence[str | None], gold: Mapping[int, str]) -> dict[str, Any]:
    hits = [labels[place] == known for place, known in gold.items() if labels[place] is not None]
    return {"accuracy": sum(hits) / len(hits), "accuracy_documents": len(hits)} if hits else {}
