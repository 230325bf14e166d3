"""The recipe's `corpora` section."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Section, identity, nearest, operational
from trainers.corpora.cleaning.config import OF_PRETRAINING, Clean
from trainers.corpora.examples.task_rows import DEFAULT_TASK, LABELLED_TEXTS, TaskRows
from trainers.corpora.reading.config import (
    EVALUATION_SETS,
    GROUP,
    LABEL,
    TEXT,
    Source,
    knob,
    lexicons,
)
from trainers.corpora.reading.formats.rows import shown_columns

if TYPE_CHECKING:
    from cluster.recipe.section import Recipe
    from trainers.corpora.label_checks import LabelSample


NO_LABELS = (
    "finetune needs labels: give a source `label`, `columns: {label: ...}` or `weak_labels`; a "
    "column that is called `label` needs none of them, unless it is on a hub"
)
LABELS_MISPLACED = (  # of a key at a source without labels; where no source is held out
    "is for labelled documents; give the source labels",
    "all labelled documents are for training (weak labels are, by default): give a source with "
    "labels of its own, or `split: shares`",
)
ROWS_MISPLACED = (
    "is for rows of finetune, and this source has none; leave it out",
    "all rows are for training: give sources with another `split`, or set `split: shares`",
)
"""As LABELS_MISPLACED, of a task whose rows have no labels."""


class Deduplicate(Section):
    """Texts that are equal after cleaning are always dropped but the first, across all sources."""

    similarity: float | None = Field(default=None, ge=0.2, le=1)
    """Also those that share as much of their shingles (Jaccard; each counts as often as it occurs),
    such as 0.4: texts of which a tenth was edited. What is like an evaluation text is dropped with
    it; labelled documents that are alike stay, in one split."""


class Decontaminate(Section):
    """Drops of training texts, labelled ones too, what is equal to, or shares a long passage (13
    characters of Chinese, 50 of English) with, the labelled validation and test texts. What more
    than 10 training documents share, such as a greeting or a footer, is no such passage."""

    files: tuple[str, ...] = ()
    """Further evaluation sets: paths, globs or URIs. Of rows with columns, as in CLUE's JSONL,
    every text counts."""


class Split(Section):
    """Shares of the labelled documents: the same of every label, to one document; nearly, where
    documents have groups or several labels. Equal texts and documents of one group never part,
    nor do answers to one prompt."""

    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test > 0.9:
            raise ValueError(
                f"validation + test = {self.validation + self.test:g}: under a tenth is left to "
                "train on"
            )
        return self


class Tokenizer(Section):
    base: str | None = None
    """A folder, a GGUF file or a hub id whose tokenizer to use; without it one is trained."""
    algorithm: Literal["bpe", "unigram", "wordpiece"] = "bpe"
    """`bpe` (Sennrich et al. 2016) merges what often stands together; `unigram` (Kudo 2018) keeps
    what makes the text likely, and trains over ten times longer. Their pieces may span several
    Chinese characters, which shortens sequences; they keep spaces and line breaks and write rare
    characters as bytes: decoding gives the text back. `wordpiece` as in BERT (Devlin et al. 2019)
    takes every Chinese character by itself, drops spaces and writes what it does not know as [UNK]:
    for masked models."""
    lowercase: bool = False
    """Fewer pieces for the same words, in small letters alone, as no model that writes wants them.
    By default true with `wordpiece`, as in BERT, and false else."""
    vocabulary_size: int = Field(default=8000, ge=300, le=2**31 - 1)
    """Pieces at most, with the 5 special tokens and, in `bpe` and `unigram`, the 256 bytes.
    `wordpiece` has every character of the training text, even if those are more."""
    training_characters: int = Field(default=20_000_000, ge=1000)
    """About how much text the training sees, of the sources as the mixture has them."""

    @model_validator(mode="after")
    def _wordpiece_has_small_letters(self) -> Self:
        if "lowercase" not in self.model_fields_set:
            object.__setattr__(self, "lowercase", self.algorithm == "wordpiece")
        return self


class Corpora(Section):
    sources: dict[str, Source] = Field(min_length=1)
    clean: Clean = Clean()
    deduplicate: Deduplicate = Deduplicate()
    decontaminate: Decontaminate | None = Decontaminate()
    """`null` leaves it out; texts that are equal to held-out ones are dropped all the same."""
    split: Split = Split()
    balance: Literal["none", "downsample", "upsample"] = "none"
    """Of the labels in the training split: as few documents of each as the rarest has, or as many
    as the most frequent has, repeated."""
    validation: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the documents that pretraining holds out, besides the labelled validation and
    test. None of their texts is trained on; what is nearly one may be, and makes perplexity look
    better than it is, unless `deduplicate.similarity` is set."""
    tokenizer: Tokenizer = Tokenizer()
    sequence_length: int = Field(default=128, ge=16)
    """Tokens in a packed sequence."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of an epoch from the sources with a `weight`."""
    shard_megabytes: float = Field(default=8.0, gt=0)
    """Text that goes into one shard, in UTF-8, and so into the memory of a task: about ten times as
    much."""
    concurrency: int | None = operational(None, ge=1)
    """Ray tasks at once; as many as there are CPUs by default."""

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        found = {**super().identity(), "contents": self._contents(self.sources)}
        found |= self._evaluation_sets()
        if self.tokenizer.base is not None:
            found["tokenizer_content"] = base_hash(self.tokenizer.base, "corpora.tokenizer.base")
        return found

    @property
    def slices(self) -> list[str]:
        """The columns that examples keep of their rows, sorted."""
        return sorted({name for source in self.sources.values() for name in source.slices})

    @property
    def of_pretraining(self) -> dict[str, Source]:
        """The sources that pretraining reads."""
        return {name: source for name, source in self.sources.items() if source.repeat}

    def held_out_share(self, source: Source) -> float:
        """Of the documents of a source, what pretraining holds out."""
        return self.validation if source.validation is None else source.validation

    def examples(self, recipe: "Recipe") -> dict[str, Any]:
        """What the labelled examples of a recipe depend on."""
        from trainers.corpora.reading.sources import content_hash

        sources = self.example_sources(recipe)
        of_pretraining = {"repeat": 1, "tokens": None, "weight": None, "validation": None}
        own = {name: source.model_copy(update=of_pretraining) for name, source in sources.items()}
        return {
            "sources": identity(own),
            # Columns alone do not tell how a task cleans and compares its rows.
            "task": recipe.finetune.task if recipe.finetune else DEFAULT_TASK,
            "columns": {field.name: str(field.type) for field in rows_of(recipe).example_schema},
            **{
                f"finetune.{key}": identity(getattr(recipe.finetune, key))
                for key in rows_of(recipe).row_keys
            },
            "contents": self._contents(sources),
            "lexicons": {key: content_hash(file, key) for key, file in lexicons(sources)},
            "clean": identity(self.clean.model_copy(update=OF_PRETRAINING)),
            "deduplicate": self.deduplicate.identity(),
            "decontaminate": self.decontaminate and self.decontaminate.identity(),
            **self._evaluation_sets(),
            "split": self.split.identity(),
            "balance": self.balance,
        }

    def example_sources(self, recipe: "Recipe", looks_far: bool = True) -> dict[str, Source]:
        """The sources with labels, their columns named. Where a source does not say whether it has
        labels, its first file does, if that matters; of what is remote only if this `looks_far`."""
        from trainers.corpora.reading.sources import is_remote

        found = {}
        for name, source in self.sources.items():
            may_look = (looks_far or not is_remote(source)) and source.may_be_labelled
            looks = may_look and (source.is_labelled or _matters(recipe, source))
            task, known = rows_of(recipe), dict[str, Any]()
            if looks:
                known = self._columns_of(name, {*itertools.chain(*task.forms)} - {TEXT})
            of_examples = source.of_examples(
                known, task.forms, task.also_called(known), task.optional_roles
            )
            if of_examples is not None:
                found[name] = of_examples
        return found

    def _columns_of(self, name: str, roles: Collection[str]) -> dict[str, Any]:
        """The columns of a source's files, looked at once, with first values: all of a run sees the
        same. It looks for those that are called as a role is."""
        from trainers.corpora.reading.readers import first_columns

        if name not in self._columns:
            self._columns[name] = first_columns(self.sources[name], {*roles, GROUP})
        return self._columns[name]

    @functools.cached_property
    def _columns(self) -> dict[str, dict[str, Any]]:
        return {}

    def _evaluation_sets(self) -> dict[str, Any]:
        if self.decontaminate is None or not self.decontaminate.files:
            return {}
        files = {path: Source(path=path) for path in self.decontaminate.files}
        return {"decontaminate_contents": self._contents(files, EVALUATION_SETS)}

    def _contents(self, sources: dict[str, Source], key: str = "corpora.sources") -> dict[str, str]:
        from trainers.corpora.reading.sources import content_hash

        return {
            name: content_hash(source.origin, f"{key}.{name}") for name, source in sources.items()
        }

    def every_source(
        self, of_examples: Mapping[str, Source] | None = None
    ) -> Iterator[tuple[str, Source]]:
        """Sources and evaluation sets with their keys: sources of examples as they are given, and
        others for their texts alone."""
        for name, source in self.sources.items():
            yield f"corpora.sources.{name}", (of_examples or {}).get(name, source.of_texts)
        for path in self.decontaminate.files if self.decontaminate else ():
            yield EVALUATION_SETS, Source(path=path)
        yield from lexicons(self.sources)

    def faults(self, recipe: "Recipe") -> Iterator[Conflict]:
        from trainers.corpora import label_checks
        from trainers.corpora.reading import path_checks
        from trainers.corpora.reading.sources import missing_folders

        sources, task = self.example_sources(recipe, looks_far=False), rows_of(recipe)
        undecided = self._is_undecided(sources)
        problems: list[Conflict] = []
        if not sources and not undecided and recipe.finetune and not recipe.pretrain:
            problems += self._of_no_form(recipe.finetune)
        if not problems:
            problems += path_checks.faults(self.every_source(sources), self.clean, task)
        if not problems and not undecided:
            problems += self._about_labels(recipe, sources)
        if not problems:
            problems += self._without_text(recipe, sources)
        if not problems:
            problems += self._about_splits(recipe, {} if undecided else sources)
        # Of a label that is all documents' the task's own section tells.
        is_in_rows = any(source.label is None for source in sources.values())
        if not problems and recipe.finetune and is_in_rows:
            problems += label_checks.faults(self._labels_seen(recipe), task)
        yield from problems
        yield from missing_folders({"corpora.tokenizer.base": self.tokenizer.base})

    def warnings(self, recipe: "Recipe") -> Iterator[str]:
        from trainers.corpora import label_checks

        if not recipe.finetune:
            return
        for line in label_checks.warnings(self._labels_seen(recipe), recipe.finetune):
            yield f"corpora.sources: {line}"
        sources = self.example_sources(recipe, looks_far=False)
        for name, source in self.sources.items():
            key = label_checks.key_for_tags(source, recipe.finetune)
            if name not in sources and key is not None:
                yield (
                    f"corpora.sources.{name}: its lines look like words with tags, and are read as "
                    f"texts; set `{key}`"
                )

    def described(self, recipe: "Recipe") -> Iterator[str]:
        from trainers.corpora import row_checks

        if recipe.finetune:
            sources = self.example_sources(recipe, looks_far=False)
            yield from row_checks.described(sources, self.clean, recipe.finetune)

    def _labels_seen(self, recipe: "Recipe") -> "LabelSample":
        """The labels in the first rows of all sources that have some."""
        from trainers.corpora import label_checks

        sources = self.example_sources(recipe, looks_far=False)
        seen = label_checks.sample_labels(sources.values(), self.clean, recipe.finetune)
        return dataclasses.replace(seen, is_whole=seen.is_whole and not self._is_undecided(sources))

    def _is_undecided(self, of_examples: Collection[str]) -> bool:
        """Whether a source that was not looked at may have labels."""
        from trainers.corpora.reading.sources import is_remote

        return any(
            source.may_be_labelled and (is_remote(source) or source.dataset is not None)
            for name, source in self.sources.items()
            if name not in of_examples
        )

    def _about_labels(
        self, recipe: "Recipe", of_examples: Mapping[str, Source]
    ) -> Iterator[Conflict]:
        """What is wrong with labels, or rows of another task, where these are all the sources that
        have some."""
        task = rows_of(recipe)
        misplaced, all_train = LABELS_MISPLACED if task.has_label else ROWS_MISPLACED
        for name, source in self.sources.items():
            if name not in of_examples and source.misplaced:
                yield Conflict(f"corpora.sources.{name}.{source.misplaced}", misplaced)
        placements = {source.placement for source in of_examples.values()}
        if recipe.finetune and not placements:
            yield Conflict("corpora.sources", no_examples(recipe.finetune))
        elif recipe.finetune and placements == {"train"}:
            yield Conflict("corpora.sources", all_train)

    def _of_no_form(self, task: TaskRows) -> Iterator[Conflict]:
        """Sources whose columns make no row of a task that has no texts by themselves."""
        if task.has_label or not all(map(self._columns.get, self.sources)):
            return
        for name in self.sources:
            columns = shown_columns(self._columns[name])
            yield Conflict(f"corpora.sources.{name}", f"{no_examples(task)}; found {columns}")

    def _without_text(
        self, recipe: "Recipe", of_examples: Mapping[str, Source]
    ) -> Iterator[Conflict]:
        """Sources of rows for fine-tuning that pretraining would find no text in."""
        for name in of_examples if recipe.pretrain else ():
            source, known = self.sources[name], self._columns.get(name)
            if source.repeat and known and source.text_column not in known:
                yield Conflict(
                    f"corpora.sources.{name}.repeat",
                    f"its rows are for {recipe.finetune.task}, without a column "
                    f"{source.text_column!r} to pretrain on; set 0",
                )

    def _about_splits(
        self, recipe: "Recipe", of_examples: Mapping[str, Source]
    ) -> Iterator[Conflict]:
        """Splits that would be empty."""
        from trainers.corpora import split_checks

        if of_examples:
            shares = {"validation": self.split.validation, "test": self.split.test}
            yield from split_checks.of_examples(
                of_examples.values(), self.clean, shares, rows_of(recipe)
            )
        if recipe.pretrain or not recipe.finetune:
            held_out = [(each, self.held_out_share(each)) for each in self.of_pretraining.values()]
            yield from split_checks.of_pretraining(held_out, self.clean, recipe.seed)

    def conflicts(self, recipe: "Recipe") -> Iterator[Conflict]:
        weighted = [name for name, source in self.sources.items() if source.weight is not None]
        if weighted and self.tokens is None:
            yield Conflict(
                f"corpora.sources.{weighted[0]}.weight",
                "needs corpora.tokens, of which it is a share",
            )
        if self.tokens is not None and not weighted:
            yield Conflict("corpora.tokens", "no source has a `weight`, so nothing shares it")
        roles = {TEXT, LABEL, GROUP} | {*rows_of(recipe).roles}
        for name, source in self.sources.items():
            for role in roles.intersection(source.slices):
                yield Conflict(f"corpora.sources.{name}.slices", taken(role))
            for role in source.columns.keys() - roles - {*source.slices}:
                known = f"a row has {', '.join(sorted(roles))}{nearest(role, roles)}"
                yield Conflict(
                    f"corpora.sources.{name}.columns.{role}",
                    f"columns are written {{text: NAME OF THE COLUMN}}, and {known}",
                )
        if not rows_of(recipe).has_label:
            for name, source in self.sources.items():
                for key in source.label_keys:
                    yield Conflict(
                        f"corpora.sources.{name}.{key}",
                        f"is about the label of a row, and {recipe.finetune.task} has none",
                    )
        is_decided = all(
            source.is_labelled or not (source.may_be_labelled and _matters(recipe, source))
            for source in self.sources.values()
        )
        if is_decided:
            yield from self._about_labels(
                recipe, {name: each for name, each in self.sources.items() if each.is_labelled}
            )
        shards = recipe.pretrain or not recipe.finetune
        if shards and not any(source.repeat for source in self.sources.values()):
            yield Conflict("corpora.sources", "every source has repeat: 0; nothing to pretrain on")
        objective = recipe.pretrain.objective if recipe.pretrain else None
        writes = objective in ("causal_lm", "span_corruption")
        if writes and self.tokenizer.base is None and self.tokenizer.algorithm == "wordpiece":
            yield Conflict(
                "corpora.tokenizer.algorithm",
                f"wordpiece drops spaces, which a model of {objective} must write: take bpe or "
                "unigram",
            )
        base = recipe.pretrain.base if recipe.pretrain else None
        if base and self.tokenizer.base != base:
            yield Conflict(
                "corpora.tokenizer.base",
                f"pretrain.base is {base!r}: its weights need its tokenizer; set the same base",
            )


def taken(role: str) -> str:
    """What to tell of a slice that is called as a column that the task has."""
    return f"{role!r} is a column of the task; give the slice another name, by `columns`"


def rows_of(recipe: "Recipe") -> TaskRows:
    """What the rows of a recipe's examples are."""
    return recipe.finetune or LABELLED_TEXTS


def _matters(recipe: "Recipe", source: Source) -> bool:
    """Whether it matters if a source has labels: there is something to fine-tune, or the source
    says something of labelled documents."""
    return recipe.finetune is not None or source.misplaced is not None


def no_examples(task: TaskRows) -> str:
    """What to tell where no source has rows of a task."""
    if task.has_label:
        return NO_LABELS
    forms = ", or ".join(" and ".join(form) for form in task.forms)
    of_text = "; of a text file `format: conll` or `tagged: true` (word/TAG) says that it has them"
    return (
        f"finetune needs rows with {forms}; a source whose columns have other names says so in "
        f"`columns`{of_text if task.may_be_tagged else ''}"
    )


def refuse_relative(recipe: "Recipe") -> None:
    """Raises UserError for a path that another machine cannot know."""
    for key, path in _paths(recipe):
        if path and "://" not in path and not os.path.isabs(path):
            raise UserError(
                f"{key}: {path!r} is relative to this folder, which the cluster does not see; give "
                "a URI, or a path that every node has"
            )


def _paths(recipe: "Recipe") -> Iterator[tuple[str, str | None]]:
    """What a recipe names by a path, with its keys."""
    # The default is in the home of whoever runs the recipe.
    yield "workspace", os.path.expanduser(recipe.workspace)
    yield "finetune.template", getattr(recipe.finetune, "template", None)
    folders: dict[str, str | None] = {}
    corpora, pretrain, finetune = recipe.corpora, recipe.pretrain, recipe.finetune
    for key, source in corpora.every_source() if corpora else ():
        if source.package is None:
            yield knob(key, "path"), source.path
        folders[f"{key}.dataset"] = source.dataset
    folders["pretrain.like"] = pretrain and pretrain.like
    bases = {
        "pretrain.base": pretrain and pretrain.base,
        "finetune.base": finetune and finetune.base,
        "corpora.tokenizer.base": corpora and corpora.tokenizer.base,
    }
    # An id of the workspace is never taken for a hub id.
    folders |= {key: base for key, base in bases.items() if base and not base.startswith("model/")}
    # What is not here is a hub id, or a model of the workspace by its recipe's name.
    yield from ((key, name) for key, name in folders.items() if name and os.path.exists(name))
