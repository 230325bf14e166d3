"""The recipe's `corpora` section."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from cluster.section import Conflict, Invalid, Section, identity, operational
from trainers.corpora.labels.labelling import WeakLabels

if TYPE_CHECKING:
    from cluster.recipe import Recipe


class Source(Section):
    """Documents from files, from a Python package's files, or from a Hugging Face dataset."""

    path: str | None = None
    """A file, a glob or a URI; inside the package's folder if `package` is given."""
    package: str | None = None
    """An installed Python package that ships the files."""
    dataset: str | None = None
    """A Hugging Face dataset: a folder made by `save_to_disk`, or a hub id."""
    dataset_split: str = "train"
    revision: str | None = None
    """Of a dataset on the hub: a commit, tag or branch. Only a commit of 40 digits is the same
    tomorrow; what else is named is looked up when the documents are first read."""
    format: Literal["text", "jsonl", "csv", "parquet"] | None = None
    """By default from the file's ending; compression (.gz, .zst, .bz2) is seen by itself. In
    `text`, each line is a document. Of an archive (.zip, .tar, .tar.gz, .tgz, .tar.zst) it is the
    format of all members; by default those with a known ending are read."""
    text: str = "text"
    """The column with the text, where there are columns."""
    label: str | None = None
    """The label of every document."""
    label_column: str | None = None
    """The column with each document's label."""
    label_map: dict[str, str | None] | None = Field(default=None, min_length=1)
    """What the values of `label_column` are called, as in `{1: good, 2: null}`; `null` drops the
    document. A value outside the map is refused; without a map all are taken as they are."""
    group_column: str | None = None
    """The column with what documents share, such as their product or author: a group never parts
    between training, validation and test, nor does one of that name in another source."""
    weak_labels: WeakLabels | None = None
    """Rules that label the documents of a source without labels."""
    split: Literal["train", "validation", "test", "shares"] | None = None
    """The one split that a labelled source is, such as an official test file; no other source then
    adds to that validation or test split. `shares` draws them by `corpora.split`: the default, but
    for weak labels, whose default is `train`."""
    tagged: bool = False
    """The text is `word/TAG word/TAG`: the tags are stripped and the words joined, as in Chinese
    part-of-speech corpora."""
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
        """As the column's values are read: YAML takes `1` for a number."""
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.dataset is None) == (self.path is None):
            raise ValueError("give `path` (with or without `package`), or `dataset`")
        if self.dataset is not None and self.package is not None:
            raise ValueError("`package` goes with `path`, not with `dataset`")
        if self.dataset is None and self.revision is not None:
            raise Invalid("revision", "goes with `dataset`, a hub id")
        if (self.repeat != 1) + (self.tokens is not None) + (self.weight is not None) > 1:
            raise ValueError("give one of `repeat`, `tokens` and `weight`")
        return self

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if self._kinds_of_label > 1:
            raise ValueError("give `label`, `label_column` or `weak_labels`, one of them")
        if self.label_map is not None and self.label_column is None:
            raise Invalid("label_map", "goes with `label_column`")
        for key in ("group_column", "split"):
            if getattr(self, key) is not None and not self.is_labelled:
                raise Invalid(key, "is for labelled documents; give the source labels")
        return self

    @property
    def is_labelled(self) -> bool:
        """By people or by rules."""
        return self._kinds_of_label > 0

    @property
    def has_budget(self) -> bool:
        """Whether it gives so many tokens to an epoch, not so many passes."""
        return self.tokens is not None or self.weight is not None

    @property
    def _kinds_of_label(self) -> int:
        kinds = (self.label, self.label_column, self.weak_labels)
        return sum(kind is not None for kind in kinds)

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


class Repetition(Section):
    """Largest shares of a document that repeat themselves (Rae et al. 2021, table A1). An n-gram is
    of words, or of twice as many CJK characters; documents of under 50 of either have none."""

    max_duplicate_lines: float = Field(default=0.3, ge=0, le=1)
    """Of the lines, those that stood before."""
    max_duplicate_line_characters: float = Field(default=0.2, ge=0, le=1)
    max_top_ngrams: tuple[float, float, float] = (0.2, 0.18, 0.16)
    """Of the characters, what the most frequent 2-, 3- and 4-gram takes."""
    max_duplicate_ngrams: float = Field(default=0.15, ge=0, le=1)
    """Of the characters, what lies in 5-grams that stood before."""
    max_character_run: int = Field(default=50, ge=2)
    """The longest run of one character."""


class Quality(Section):
    """Rules for running text from the web: Gopher's (Rae et al. 2021, section A.1.1) and C4's
    (Raffel et al. 2020, section 2.2), with Chinese stop words, punctuation and lengths. A word is a
    word, or a CJK character."""

    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=100_000, ge=1)
    mean_word_length: tuple[float, float] = (3.0, 10.0)
    """In characters; texts of CJK characters are not asked."""
    max_symbols: float = Field(default=0.1, ge=0)
    """`#` and ellipses a word."""
    max_digits: float = Field(default=0.3, ge=0, le=1)
    """Of the characters."""
    max_punctuation: float = Field(default=0.4, ge=0, le=1)
    """Of the characters, what is neither letter nor digit nor space."""
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    min_terminated_lines: float = Field(default=0.12, ge=0, le=1)
    """Of the lines, those that end in a punctuation mark (FineWeb's limit)."""
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    """Of the words, those with a letter or a CJK character."""
    min_stop_words: int = Field(default=2, ge=0)
    """Different ones, which running text has."""


def _known_code(code: str) -> str:
    if not re.fullmatch(r"zh-Hans|zh-Hant|[a-z]{2,3}", code):
        raise ValueError(
            f"{code!r} is no code of a language here; such are zh-Hans, zh-Hant, zh, en"
        )
    return code


PersonalData = Literal[
    "email", "phone", "id_number", "bank_card", "passport", "license_plate", "ipv4", "ipv6"
]


class Clean(Section):
    """Steps of cleaning. `repetition`, `quality` and `languages` choose what pretraining reads;
    labelled documents are only normalized and masked, since they are what a task is."""

    mojibake: bool = False
    """Mends text that was decoded with a wrong encoding, by ftfy: `å¾ˆå¥½` to `很好`."""
    unicode: Literal["NFC", "NFKC"] = "NFKC"
    """Normal form of every text. NFKC also makes full-width letters, digits and punctuation
    half-width, as `，` to `,`."""
    boilerplate: bool = False
    """Drops lines that are navigation, copyright, cookie and script notices, in Chinese and
    English."""
    mask: tuple[PersonalData, ...] = ()
    """Personal data to replace by its kind, as in `<PHONE>`; Chinese and international forms. Bank
    cards and identity numbers count if their check digits are right, passports and license plates
    are those of mainland China, addresses those of the public internet."""
    min_characters: int = Field(default=2, ge=1)
    max_characters: int = Field(default=100_000, ge=1)
    languages: tuple[Annotated[str, AfterValidator(_known_code)], ...] | None = Field(
        default=None, min_length=1
    )
    """Codes to keep: `zh-Hans` (simplified Chinese), `zh-Hant`, `zh` (both), else ISO 639's, such
    as `en`."""
    repetition: Repetition | None = None
    quality: Quality | None = None
    max_unreadable: float = Field(default=0.01, ge=0, le=1)
    """Rows that cannot be read (not UTF-8, broken, without their text or label, over 16 MiB) are
    dropped and counted by reason; more than this share of a file, or of 64 MiB of a larger one, is
    refused."""


OF_PRETRAINING = {"languages": None, "repetition": None, "quality": None}
"""Of cleaning, the steps that labelled documents do not go through."""


class Deduplicate(Section):
    """Texts that are equal after cleaning are always dropped but the first, across all sources."""

    similarity: float | None = Field(default=None, ge=0.2, le=1)
    """Also those that share as much of their shingles (Jaccard; each counts as often as it occurs),
    such as 0.4: texts of which a tenth was edited. What is like an evaluation text is dropped with
    it; labelled documents that are alike stay, in one split."""


class Decontaminate(Section):
    """Drops what is equal to, or shares a long passage (13 characters of Chinese, 50 of English)
    with, the labelled validation and test texts."""

    files: tuple[str, ...] = ()
    """Further evaluation sets: paths, globs or URIs. Of rows with columns, as in CLUE's JSONL,
    every text counts."""


class Split(Section):
    """Shares of the labelled documents: the same of every label, to one document. Equal texts and
    documents of one group never part."""

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
    """A folder or hub id whose tokenizer to use; without it one is trained."""
    algorithm: Literal["bpe", "unigram", "wordpiece"] = "bpe"
    """`bpe` (Sennrich et al. 2016) merges what often stands together; `unigram` (Kudo 2018) keeps
    what makes the text likely, and trains over ten times longer. Their pieces may span several
    Chinese characters, which shortens sequences; they keep spaces and line breaks and write rare
    characters as bytes: decoding gives the text back, but for its case. `wordpiece` as in BERT
    (Devlin et al. 2019) takes every Chinese character by itself, drops spaces and writes what it
    does not know as [UNK]: for masked models."""
    lowercase: bool = True
    """Fewer pieces for the same words; `false` for models that write text."""
    vocabulary_size: int = Field(default=8000, ge=300, le=2**31 - 1)
    """Pieces at most, with the 5 special tokens and, in `bpe` and `unigram`, the 256 bytes.
    `wordpiece` has every character of the training text, even if those are more."""
    training_characters: int = Field(default=20_000_000, ge=1000)
    """About how much text the training sees, of the sources as the mixture has them."""


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
    sequence_length: int = Field(default=128, ge=8)
    """Tokens in a packed sequence."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of an epoch from the sources with a `weight`."""
    shard_megabytes: float = Field(default=8.0, gt=0)
    """Text that goes into one shard, in UTF-8, and so into the memory of a task: about ten times as
    much."""
    concurrency: int | None = operational(None, ge=1)
    """Tasks of Ray Data at once; as many as there are CPUs by default."""

    def identity(self) -> dict[str, Any]:
        from trainers.corpora.reading.sources import base_hash

        found = {**super().identity(), "contents": self._contents(self.sources)}
        if self.decontaminate is not None and self.decontaminate.files:
            files = {path: Source(path=path) for path in self.decontaminate.files}
            found["decontaminate_contents"] = self._contents(files, "corpora.decontaminate.files")
        if self.tokenizer.base is not None:
            found["tokenizer_content"] = base_hash(self.tokenizer.base, "corpora.tokenizer.base")
        return found

    @property
    def labelled(self) -> dict[str, Any]:
        """What the labelled examples depend on."""
        from trainers.corpora.reading.sources import content_hash

        sources = {name: source for name, source in self.sources.items() if source.is_labelled}
        of_pretraining = {"repeat": 1, "tokens": None, "weight": None, "validation": None}
        own = {name: source.model_copy(update=of_pretraining) for name, source in sources.items()}
        return {
            "sources": identity(own),
            "contents": self._contents(sources),
            "lexicons": {key: content_hash(file, key) for key, file in lexicons(sources)},
            "clean": identity(self.clean.model_copy(update=OF_PRETRAINING)),
            "deduplicate": self.deduplicate.identity(),
            "split": self.split.identity(),
            "balance": self.balance,
        }

    @property
    def is_labelled(self) -> bool:
        return any(source.is_labelled for source in self.sources.values())

    def _contents(self, sources: dict[str, Source], key: str = "corpora.sources") -> dict[str, str]:
        from trainers.corpora.reading.sources import content_hash

        return {
            name: content_hash(source.origin, f"{key}.{name}") for name, source in sources.items()
        }

    def faults(self, recipe: "Recipe") -> Iterator[Conflict]:
        from trainers.corpora.reading import looking

        yield from looking.faults(self)
        given = {name: source.label for name, source in self.sources.items() if source.is_labelled}
        if recipe.finetune and len(set(given.values())) == 1 and None not in given.values():
            (label, *_) = given.values()
            yield Conflict(
                f"corpora.sources.{next(iter(given))}.label",
                f"every labelled document has the label {label!r}, and finetune needs two; the "
                "column with the labels, if there is one, is `label_column`",
            )

    def conflicts(self, recipe: "Recipe") -> Iterator[Conflict]:
        weighted = [name for name, source in self.sources.items() if source.weight is not None]
        if weighted and self.tokens is None:
            yield Conflict(
                f"corpora.sources.{weighted[0]}.weight",
                "needs corpora.tokens, of which it is a share",
            )
        if self.tokens is not None and not weighted:
            yield Conflict("corpora.tokens", "no source has a `weight`, so nothing shares it")
        placements = {source.placement for source in self.sources.values() if source.is_labelled}
        if recipe.finetune and not placements:
            yield Conflict(
                "corpora.sources",
                "finetune needs labels: give a source `label`, `label_column` or `weak_labels`",
            )
        elif recipe.finetune and placements == {"train"}:
            yield Conflict(
                "corpora.sources",
                "all labelled documents are for training (weak labels are, by default): give a "
                "source with labels of its own, or `split: shares`",
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


def lexicons(sources: Mapping[str, Source]) -> Iterator[tuple[str, Source]]:
    """The files of labelling functions, with their keys."""
    for name, source in sources.items():
        for rule, function in (source.weak_labels.functions if source.weak_labels else {}).items():
            if function.path is not None:
                yield (
                    f"corpora.sources.{name}.weak_labels.functions.{rule}",
                    Source(path=function.path, format="text"),
                )
