"""A row of a recipe as it is trained on: `raymill check RECIPE --show-row N`.

The row is read, cleaned and rendered as a run does it, with the tokenizer of the base, of which no
weights are read.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from cluster.recipe.section import Recipe
from cluster.store import artifacts
from cluster.store.bases import base_folder, base_model
from cluster.store.storage import Storage
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.config import rows_of
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.reading.sources import parts
from trainers.tasks.conversations.template import NotRendered

LEARNED, CONTEXT, LINE_FEED = "+", " ", "↵"
"""What a line of a row begins with, and what stands for its own line feeds."""


class MarkedTokens(NamedTuple):
    """A sequence, or one of the texts that it consists of, such as the answer that was chosen."""

    name: str
    input_ids: Sequence[int]
    learned: Sequence[bool]
    """Whether each token is learned."""

    def __str__(self) -> str:
        return f"{self.name}: {len(self.learned):,} tokens, {sum(self.learned):,} learned"


def show_row(recipe: Recipe, number: int) -> dict[str, Any]:
    """The row of this number in all sources of examples, the first being 1: its `sequences`, or why
    it is `dropped`; and both as a `text` for people. Raises UserError where there is none."""
    settings: Any = recipe.finetune
    if settings is None or not settings.is_rendered:
        raise UserError(
            "--show-row: shows what is learned of a row's tokens; the recipe fine-tunes for no "
            "task that writes text, such as chat"
        )
    if settings.base is None:
        raise UserError("--show-row: the tokenizer is that of finetune.base, and there is none")
    document = _document(recipe, number)
    shown: dict[str, Any] = {"row": number, "where": document.where}
    title = f"row {number} ({document.where})"
    try:
        row = _cleaned(recipe, document)
        task = _task(recipe)
        made = task.render(row)
    except NotRendered as error:
        return {**shown, "dropped": str(error), "text": f"{title} is dropped: {error}"}
    decode = functools.partial(task.loaded_tokenizer.decode, clean_up_tokenization_spaces=False)
    lines = [f"{title}; what is learned begins with {LEARNED}"]
    lines += [f"noted: {what} {count:,}" for what, count in made.noted.items()]
    for place, sequence in enumerate(made.sequences, 1):
        for tokens in marked_tokens(sequence, f"sequence {place} of {len(made.sequences)}"):
            lines += [str(tokens), *marked_lines(tokens, decode)]
    shown |= {"noted": {**made.noted}, "sequences": [*map(dict, made.sequences)]}
    return {**shown, "text": "\n".join(lines)}


def marked_tokens(sequence: Mapping[str, Sequence[Any]], name: str) -> list[MarkedTokens]:
    """The texts of a sequence as a Task renders it: one, or two answers to a prompt, each behind
    it; or what an encoder reads, and what its decoder learns to write. Pure."""
    ids = sequence["input_ids"]
    if "labels" in sequence:
        labels = sequence["labels"]
        source = MarkedTokens("source", ids, [False] * len(ids))
        return [source, MarkedTokens("target", labels, [True] * len(labels))]
    whole = MarkedTokens(name, ids, sequence["learned"])
    if "lengths" not in sequence:
        return [whole]
    chosen, _ = sequence["lengths"]
    cuts = {"chosen": slice(chosen), "rejected": slice(chosen, None)}
    return [MarkedTokens(side, ids[cut], whole.learned[cut]) for side, cut in cuts.items()]


def marked_lines(tokens: MarkedTokens, decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Lines of text, in each of which all tokens are learned, or none. Pure."""
    pairs = zip(tokens.input_ids, tokens.learned, strict=True)
    for is_learned, run in itertools.groupby(pairs, lambda pair: pair[1]):
        mark = LEARNED if is_learned else CONTEXT
        *ended, last = decode([id_ for id_, _ in run]).split("\n")
        yield from (f"{mark} {line}{LINE_FEED}" for line in ended)
        if last:
            yield f"{mark} {last}"


def _document(recipe: Recipe, number: int) -> Document:
    sources = recipe.corpora.example_sources(recipe)
    documents = (
        document
        for name, source in sources.items()
        for part in parts(source, f"corpora.sources.{name}")
        for document in read(source, part, rows_of(recipe).optional_roles)
    )
    rows = 0
    for rows, document in enumerate(documents, 1):
        if rows == number:
            return document
    raise UserError(f"--show-row {number}: the sources have {rows:,} rows; the first is 1")


def _cleaned(recipe: Recipe, document: Document) -> dict[str, Any]:
    """The document as a row of examples. Raises NotRendered where it is dropped before that."""
    rows, counts = rows_of(recipe), Counts()
    clean = recipe.corpora.clean.model_copy(update={"max_unreadable": 1.0})  # which is of files
    (checked,) = rows.checked([document])
    kept = [*cleaned([checked], clean, counts, too_short_or_long, rows.cleaned_document)]
    if not kept:
        raise NotRendered(str(checked.problem or next(iter(counts.dropped))))
    return {"text": kept[0].text, **kept[0].values}


def _task(recipe: Recipe) -> Any:
    """The Task without data, in whose tokenizer the template is."""
    from trainers.models.build import Start

    settings, storage = recipe.finetune, Storage.at(recipe.workspace)
    made = base_model(storage, settings.base, "finetune.base", recipe.name)
    base = base_folder(settings.base, {artifacts.BASE: made})
    return lazy_import(settings.implementation)(settings, None, Start(base=base), base)
