"""A source of the recipe's `corpora` section."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cluster.recipe.section import Invalid, Section
from trainers.corpora.examples.label_values import label_of
from trainers.corpora.examples.weak_labels import WeakLabels
from trainers.corpora.reading.formats import known_format

EVALUATION_SETS = "corpora.decontaminate.files"
TEXT, LABEL, GROUP = "text", "label", "group"
"""What a column may be to every recipe; a task may need more."""
SOURCE = "source"
"""Which source an example comes from."""
OWN_COLUMNS = (
    *(TEXT, LABEL, GROUP, SOURCE, "id", "row", "gold", "prediction", "score"),
    *("tokens", "truncated", "characters"),
)
"""What examples and records of evaluations have by themselves: no slice can be called so."""
SLICE_CHARACTERS = 100
"""Of a value that rows are sliced by: what is longer is no kind of row."""

PATH_KEYS = ["package", "encoding", "delimiter"]


class Source(Section):
    """Documents from files, from a Python package's files, or from a Hugging Face dataset."""

    path: str | None = None
    """A file, a glob or a URI, whose names may be percent-encoded; inside the package's folder if
    `package` is given. `**` in a glob is any number of folders. Links are followed; names that
    begin with `.`, `_` or `~$` are passed over, unless the glob begins so too."""
    package: str | None = None
    """An installed Python package that ships the files."""
    dataset: str | None = None
    """A Hugging Face dataset: a folder made by `save_to_disk`, or a hub id."""
    dataset_split: str = "train"
    revision: str | None = None
    """Of a dataset on the hub: a commit, tag or branch. Only a commit of 40 digits is the same
    tomorrow; what else is named is looked up when the documents are first read."""
    format: Literal["text", "jsonl", "csv", "conll", "parquet", "yaml"] | None = None
    """By default from the file's ending; compression (.gz, .zst, .bz2) is seen by itself. In
    `text`, each line is a document; a `.json` file may also be an array of objects, alone or under
    one key, and `csv` is `.tsv` and `.tab` too. In `conll` (.conll, .bio, .bmes, .iob) lines up to
    a blank one are a sentence: their first column is its `tokens`, their last its `tags`, and the
    tokens joined its `text`. In `yaml` (.yaml, .yml) the items of its list are rows. Of an archive
    (.zip, .tar, .tar.gz, .tgz, .tar.zst) it is the format of all members; by default those with a
    known ending are read."""
    encoding: str | None = None
    """Of text, JSON, CSV and CoNLL, as `gb18030`, `big5` or `utf-16`. By default UTF-8, or what
    a byte order mark says. One task reads all of a file in another encoding than UTF-8."""
    delimiter: str | None = None
    """What stands between the columns of `csv`, such as `;`. By default found from the header: a
    comma, a tab, a semicolon or `|`."""
    columns: dict[str, str | None] = Field(default={})
    """The files' columns by what they are for, as in `{text: review, label: stars}`: `text`,
    `label`, `group`, and what else the task of `finetune` needs. A column that is called so needs
    no entry, and one that is to be passed over is `null`, as in `{label: null}`. A `group` is what
    documents share, such as their product or author: it never parts between training, validation
    and test, nor does one of that name in another source. Where rows have answers (chat, generate,
    prefer), those to one prompt are a group, unless they have another."""
    slices: list[str] = Field(default=[])
    """Further columns that labelled rows keep, such as `[shop, year]`: an evaluation has figures of
    the rows with each value, or of ranges of numbers. A column that has another name in the files
    is named by `columns: {shop: store}`. A row may have no value; a list or more than 100
    characters count as none."""
    label: str | None = None
    """The label of every document, where none of the columns has it."""
    label_map: dict[str, str | None] | None = Field(default=None, min_length=1)
    """What the labels in a column are called, as in `{1: good, 2: null}`; `null` drops the
    document, or that label of a list. 1 and 1.0 are the same, and so are true and True. A value
    outside the map is refused; without a map all are taken as they are."""
    weak_labels: WeakLabels | None = None
    """Rules that label the documents of a source without labels."""
    split: Literal["train", "validation", "test", "shares"] | None = None
    """The one split that a labelled source is, such as an official test file; no other source then
    adds to that validation or test split. `shares` draws them by `corpora.split`: the default, but
    for weak labels, whose default is `train`."""
    tagged: bool = False
    """The text is `word/TAG word/TAG`, as in Chinese part-of-speech corpora: the tags are stripped
    and the words joined. A task may have both, as `tokens` and `tags`."""
    repeat: int = Field(default=1, ge=0, le=100)
    """How often an epoch of pretraining passes over it; 0 leaves it out."""
    tokens: int | None = Field(default=None, ge=1)
    """Instead of `repeat`: about how many tokens of it an epoch has; a part of the documents, drawn
    by their texts, or some repeated."""
    weight: float | None = Field(default=None, gt=0)
    """Instead of `repeat`: its share of `corpora.tokens`, relative to the other weights."""
    validation: float | None = Field(default=None, ge=0, lt=0.5)
    """Share of its documents that pretraining holds out; `corpora.validation` by default."""

    @field_validator("label_map", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        """As the column's values are read: YAML takes `1` and `1.0` for numbers."""
        if not isinstance(value, dict):
            return value
        keys = {key: label_of(key) or str(key) for key in value}
        for key, others in itertools.pairwise(sorted(keys, key=lambda key: keys[key])):
            if keys[key] == keys[others]:
                raise ValueError(f"{key!r} and {others!r} are the same label")
        return {keys[key]: item for key, item in value.items()}

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            "x".encode("utf-8" if value is None else value)
        except LookupError:
            raise ValueError(
                f"{value!r} is no encoding of text that Python knows; such are gb18030, big5, "
                "shift_jis, euc_kr, cp1252, utf-16"
            ) from None
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError(
                f"must be one character, no quote and no line break, found {value!r}; a tab is "
                r'"\t", in double quotes'
            )
        return value

    @field_validator("slices")
    @classmethod
    def _names_of_their_own(cls, value: list[str]) -> list[str]:
        for name in value:
            if name in OWN_COLUMNS:
                raise ValueError(
                    f"rows have a column {name!r} by themselves; give it another name, as in "
                    f"`slices: [own_{name}]` with `columns: {{own_{name}: {name}}}`"
                )
        if len({*value}) < len(value):
            raise ValueError(f"each only once, found {value}")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.dataset is None) == (self.path is None):
            raise ValueError("give `path` (with or without `package`), or `dataset`")
        kind, others = ("path", ["revision"]) if self.path is not None else ("dataset", PATH_KEYS)
        for key in others:
            if getattr(self, key) is not None:
                raise Invalid(key, f"does not go with `{kind}`")
        if (self.repeat != 1) + (self.tokens is not None) + (self.weight is not None) > 1:
            raise ValueError("give one of `repeat`, `tokens` and `weight`")
        return self

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if self._kinds_of_label > 1:
            raise ValueError("give `label`, `columns: {label: ...}` or `weak_labels`, one of them")
        if self.label is not None or self.weak_labels is not None:
            if self.label_map is not None:
                raise Invalid("label_map", "goes with labels in a column")
        elif not self.may_be_labelled:
            for key, value in self._for_examples.items():
                if value is not None:
                    raise Invalid(key, "is for labelled documents; give the source labels")
        if TEXT in self.columns and self.columns[TEXT] is None:
            raise Invalid("columns.text", "every source has texts; leave the source out")
        return self

    @property
    def is_labelled(self) -> bool:
        """Whether the recipe says that it has labels, from people or from rules."""
        return self._kinds_of_label > 0

    @property
    def may_be_labelled(self) -> bool:
        """Whether it is, or its files may have a column of labels, or of what else a task needs,
        that is called so."""
        is_text = (self.format or known_format(self.path or "")) == "text"
        has_columns = self.tagged or not is_text
        return self.is_labelled or (has_columns and LABEL not in self.columns)

    @property
    def label_keys(self) -> list[str]:
        """The keys that say what the label of a row is."""
        keys = ("label", "label_map", "weak_labels")
        return [key for key in keys if getattr(self, key) is not None]

    @property
    def misplaced(self) -> str | None:
        """The key that says something of labelled documents, if there is one."""
        return next((key for key, value in self._for_examples.items() if value is not None), None)

    @property
    def _for_examples(self) -> dict[str, Any]:
        return {
            "columns.group": self.columns.get(GROUP),
            "split": self.split,
            "label_map": self.label_map,
            "slices": self.slices or None,
        }

    @property
    def text_column(self) -> str:
        return self.columns.get(TEXT) or TEXT

    @property
    def wanted(self) -> dict[str, str]:
        """The columns to read, by what they are for."""
        named = {role: column for role, column in self.columns.items() if column is not None}
        named |= {name: self.columns.get(name) or name for name in self.slices}
        has_text = self.columns.get(TEXT, TEXT) is not None
        return {TEXT: self.text_column, **named} if has_text else named

    @property
    def of_texts(self) -> "Source":
        """The same, to be read for its texts alone."""
        return self.model_copy(update={"columns": {TEXT: self.text_column}, "slices": []})

    def of_examples(
        self,
        known: Collection[str],
        forms: Iterable[Collection[str]],
        also: Mapping[str, str] | None = None,
        optional: Collection[str] = (),
    ) -> "Source | None":
        """The same with its columns named, if these make rows of one of the forms, which are sets
        of roles; `known` are the names of columns that its files have, `also` those of them that
        are for a role by another name, and `optional` roles that rows may have in any form."""
        columns = {TEXT: self.text_column, **self.columns}
        has_label = self.label is not None or self.weak_labels is not None
        if has_label:
            columns[LABEL] = None

        def column_of(role: str) -> str | None:
            return columns.get(role, role if role in known else (also or {}).get(role))

        for form in forms:
            named = {role: column_of(role) for role in form}
            if all(named[role] or (role == LABEL and has_label) for role in form):
                may_have = {role: column_of(role) for role in (GROUP, *optional)}
                # What is tagged is in the text.
                text = {} if TEXT in form or self.tagged else {TEXT: None}
                return self.model_copy(update={"columns": {**columns, **named, **may_have, **text}})
        return None

    @property
    def has_budget(self) -> bool:
        """Whether it gives so many tokens to an epoch, not so many passes."""
        return self.tokens is not None or self.weight is not None

    @property
    def _kinds_of_label(self) -> int:
        kinds = (self.label, self.columns.get(LABEL), self.weak_labels)
        return sum(kind is not None for kind in kinds)

    def __hash__(self) -> int:
        return hash((self.path, self.package, self.dataset, self.revision))

    @property
    def origin(self) -> "Source":
        """The same files, whatever is made of them."""
        return Source(
            path=self.path, package=self.package, dataset=self.dataset, revision=self.revision
        )

    @property
    def placement(self) -> str:
        """The split of its labelled documents, or `shares`."""
        return self.split or ("train" if self.weak_labels else "shares")


def lexicons(sources: Mapping[str, Source]) -> Iterator[tuple[str, Source]]:
    """The files of labelling functions, with their keys."""
    for name, source in sources.items():
        for rule, function in (source.weak_labels.functions if source.weak_labels else {}).items():
            if function.path is not None:
                yield (
                    f"corpora.sources.{name}.weak_labels.functions.{rule}",
                    Source(path=function.path, format="text"),
                )


def knob(key: str, name: str) -> str:
    """Where the recipe says this of a source: an evaluation set is but a path."""
    return key if key == EVALUATION_SETS else f"{key}.{name}"
