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
    """What comes of the votes on the texts of one source. Texts with the same votes are alike, so
    there are few different ones, however many texts."""

    votes: Votes
    """(patterns, functions): each once."""
    texts: npt.NDArray[np.int64]
    """(patterns,): how many have these votes."""
    names: list[str]
    """Of the labels that votes are for."""
    labels: list[str | None]
    open: list[str | None]
    """Why texts with these votes have none."""


def votes(texts: Sequence[str], settings: WeakLabels, rules: Sequence[re.Pattern[str]]) -> Votes:
    """(texts, functions): by the rules that `patterns` made of the settings."""
    names = label_names(settings)
    found = np.full((len(texts), len(rules)), ABSTAIN)
    for column, (function, rule) in enumerate(zip(settings.functions.values(), rules, strict=True)):
        hits = np.array([rule.search(text) is not None for text in texts], dtype=bool)
        found[hits, column] = names.index(function.label)
    return found


def label_names(settings: WeakLabels) -> list[str]:
    return sorted({function.label for function in settings.functions.values()})


def labelling(votes: Votes, texts: npt.NDArray[np.int64], settings: WeakLabels) -> Labelling:
    """The labels of texts by different votes, and by how many texts have each."""
    names = label_names(settings)
    if settings.vote == "majority" or not len(votes):
        weights = np.stack([(votes == number).sum(axis=1) for number in range(len(names))], axis=1)
    else:
        weights = label_model.fit(votes, texts, len(names)).probabilities(votes)
    best = weights.max(axis=1, keepdims=True)
    reasons = np.full(len(votes), None, dtype=object)
    if settings.min_probability is not None:
        reasons[best[:, 0] < settings.min_probability] = IMPROBABLE
    reasons[np.isclose(weights, best, rtol=1e-9, atol=0).sum(axis=1) > 1] = TIED_VOTES
    reasons[(votes == ABSTAIN).all(axis=1)] = NO_VOTES
    labels = [
        None if reason else names[best]
        for best, reason in zip(weights.argmax(axis=1), reasons, strict=True)
    ]
    return Labelling(votes, texts, names, labels, reasons.tolist())


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


def report(
    settings: WeakLabels, found: Labelling, gold: Mapping[int, Mapping[str, int]]
) -> dict[str, Any]:
    """Shares of the texts: of each function, those it votes on (coverage), those where another
    votes too (overlaps), and for another label (conflicts). `gold` has how many texts have which
    labels that are known, by the place of their votes; accuracy is of those that rules label."""
    functions = {}
    for column, name in enumerate(settings.functions):
        mine, others = found.votes[:, [column]], np.delete(found.votes, column, axis=1)
        voted, others_voted = mine != ABSTAIN, others != ABSTAIN
        named = [None if vote == ABSTAIN else found.names[vote] for vote in mine[:, 0]]
        functions[name] = {
            "coverage": _share(voted[:, 0], found.texts),
            "overlaps": _share((voted & others_voted).any(axis=1), found.texts),
            "conflicts": _share((voted & others_voted & (others != mine)).any(axis=1), found.texts),
            **_accuracy(named, gold),
        }
    is_labelled = np.array([label is not None for label in found.labels], dtype=bool)
    return {
        "documents": int(found.texts.sum()),
        "coverage": _share(is_labelled, found.texts),
        **_accuracy(found.labels, gold),
        "functions": functions,
    }


def _share(hits: npt.NDArray[np.bool_], texts: npt.NDArray[np.int64]) -> float:
    return float(texts[hits].sum() / texts.sum()) if texts.size else 0.0


def _accuracy(
    labels: Sequence[str | None], gold: Mapping[int, Mapping[str, int]]
) -> dict[str, Any]:
    known = {place: counts for place, counts in gold.items() if labels[place] is not None}
    total = sum(sum(counts.values()) for counts in known.values())
    right = sum(counts.get(labels[place] or "", 0) for place, counts in known.items())
    return {"accuracy": right / total, "accuracy_documents": total} if total else {}
