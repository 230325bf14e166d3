"""Rows of named entities: a text and the spans of it that are entities. Words with tags become such
a row, as do other ways to write spans.

Spans are of characters, as Python counts them (code points), and end behind their last one. They
are taken as annotation tools and libraries write them:

    {"start": 9, "end": 12, "label": "name"}             or start_offset, begin; end_offset; type,
                                                         entity_group
    [9, 12, "name"]                                      as doccano, whose column is `label`
    {"name": {"叶老桂": [[9, 11]]}}                       as CLUENER, whose column is `label`: the
                                                         last character is counted
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from cluster.recipe.section import Section
from trainers.corpora.examples.task_rows import Role, TaskRows
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.formats.sentences import joined
from trainers.tasks.ner.tags import OUTSIDE, have_prefixes, spans_of

if TYPE_CHECKING:
    from trainers.corpora.cleaning.documents import Normalizer

SPELLINGS = {
    "start": ("start", "start_offset", "begin"),
    "end": ("end", "end_offset"),
    "label": ("label", "type", "entity_group"),
}
"""Keys of a span, as annotation tools and libraries call them."""

TWICE, NESTED = "entities given twice", "entities nested in others"
OVERLAPPING, REMOVED = "entities that overlap others", "entities in what cleaning removes"
UNNAMED = "entities whose label is not in finetune.label_map"
UNNAMED_WORDS = "words whose tag is not in finetune.label_map"
WITHOUT_FIRST = "entities that begin with no first tag (as those of IOB1)"
WITHOUT_LAST = "entities that end with no last tag"
EMPTY_WORDS = "words without a character"


class Entity(TypedDict):
    start: int
    end: int
    label: str


def entities(value: Any) -> Any:
    """Spans as pydantic checks them: of objects with one of the known spellings, of lists [start,
    end, label], or of CLUENER's `{label: {words: [[first, last], ...]}}`. Raises ValueError."""
    match value:
        case Mapping():
            return _of_cluener(value)
        case list():
            return [_entity(one) for one in value]
        case _:
            return value


def are_entities(value: Any) -> bool:
    """Whether a value can be entities, and nothing else that a column could be called for."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, (list, Mapping)) for one in value)
    return isinstance(value, Mapping)


def _of_cluener(by_label: Mapping[str, Any]) -> list[Entity]:
    spans = []
    for label, by_words in by_label.items():
        if not isinstance(by_words, Mapping):
            raise ValueError(f"{label!r} has no object {{words: [[first, last], ...]}}")
        for words, places in by_words.items():
            for place in places if isinstance(places, list) else [places]:
                first, last = _first_and_last(place)
                if last - first + 1 != len(words):
                    raise ValueError(
                        f"{words!r} has {len(words)} characters, and {place} has "
                        f"{last - first + 1}, the last one counted"
                    )
                spans.append(Entity(start=first, end=last + 1, label=label))
    return spans


def _first_and_last(place: Any) -> tuple[int, int]:
    match place:
        case [int(first), int(last)]:
            return first, last
    raise ValueError(f"{place!r} is no place [first, last]")


def _entity(span: Any) -> Any:
    match span:
        case [start, end, label]:
            return {"start": start, "end": end, "label": label}
        case Mapping():
            return {
                key: span[name]
                for key, names in SPELLINGS.items()
                for name in names[::-1]
                if name in span
            }
        case _:
            return span


class Marked(NamedTuple):
    """A text as it was read, with its entities."""

    text: str
    entities: Sequence[Entity]
    notes: Mapping[str, int]
    """What is to be told of them, and how often it occurs."""


class EntityRows(TaskRows, Section):
    """What a task of entities has in common with others that find spans."""

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role("text", "what entities are found in"),
        "entities": Role(
            "value",
            "its entities: a list of {start, end, label} or [start, end, label], in characters, "
            "the end behind the last one; or CLUENER's {label: {words: [[first, last]]}}",
            Annotated[list[Entity], BeforeValidator(entities)],
            also={"label": are_entities},  # CLUENER, doccano
        ),
        "tokens": Role("value", "or the words of a sentence", list[str], is_kept=False),
        "tags": Role("value", "with a tag of each, such as B-PER", list[str], is_kept=False),
    }
    row_forms: ClassVar[tuple[tuple[str, ...], ...]] = (("tokens", "tags"), ("text", "entities"))
    row_keys: ClassVar[tuple[str, ...]] = ("label_map", "tags")

    label_map: dict[str, str] | None = Field(default=None, min_length=1)
    """What the labels in the data are called, as in `{nr: person, ns: place}`. With a map every
    other label is no entity; without one all are taken as they are."""
    tags: Literal["prefixed", "bare"] = "prefixed"
    """How `tags` say where entities are: by prefixes (BIO, BIOES, BILOU, BMES), or `bare`, where a
    tag is a label itself and neighbours of one label are one entity, as in `word/TAG`; a sentence
    whose tags all have prefixes is read by these even so."""

    def for_labels(self, labels: Sequence[str]) -> Self:
        if self.label_map is None:
            return self
        names = {**{label: label for label in labels}, **self.label_map}
        return self.model_copy(update={"label_map": names})

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        marked = self._marked(row)
        if isinstance(marked, Problem):
            return marked
        problems = (problem_of_span(marked.text, entity) for entity in marked.entities)
        return next((problem for problem in problems if problem is not None), None)

    def cleaned(self, row: Mapping[str, Any], clean: "Normalizer") -> dict[str, Any]:
        marked = self._marked(row)
        assert not isinstance(marked, Problem)
        aligned = clean.aligned(marked.text)
        moved = []
        for entity in marked.entities:
            span = aligned.in_text(entity["start"], entity["end"]) or (0, 0)
            start, end = without_spaces(aligned.text, *span)
            if start < end:
                moved.append((start, end, entity["label"]))
        spans = sorted({*moved})
        notes = {
            **marked.notes,
            REMOVED: len(marked.entities) - len(moved),
            TWICE: len(moved) - len(spans),
            **crossings((start, end) for start, end, _ in spans),
        }
        for what, number in notes.items():
            clean.note(what, number)
        named = [Entity(start=start, end=end, label=label) for start, end, label in spans]
        return {"text": aligned.text, "entities": named}

    def labels_of(self, values: Mapping[str, Any]) -> Sequence[str]:
        return sorted({entity["label"] for entity in values["entities"]})

    @property
    def named_labels(self) -> Sequence[str]:
        return [*dict.fromkeys([*super().named_labels, *(self.label_map or {}).values()])]

    def too_few_labels(self, labels: Collection[str]) -> str | None:
        if labels:
            return super().too_few_labels(labels)
        hint = "" if self.label_map is None else f" called {', '.join(self.label_map)}"
        return f"no rows have entities{hint}; see finetune.tags and finetune.label_map"

    def _marked(self, row: Mapping[str, Any]) -> Marked | Problem:
        """A row in any form, with its labels as the map has them."""
        tokens, names = row.get("tokens"), self.label_map
        if tokens is None:
            return renamed(Marked(row.get("text", ""), row["entities"], {}), names)
        form = "prefixed" if have_prefixes(row["tags"]) else self.tags
        if form == "prefixed" or names is None:
            marked = of_words(tokens, row["tags"], form)
            return marked if isinstance(marked, Problem) else renamed(marked, names)
        # Before neighbours are joined: a family name and a given name may have tags of their own.
        marked = of_words(tokens, [names.get(tag, OUTSIDE) for tag in row["tags"]], form)
        if isinstance(marked, Problem):
            return marked
        unnamed = sum(tag != OUTSIDE and tag not in names for tag in row["tags"])
        return marked._replace(notes={**marked.notes, UNNAMED_WORDS: unnamed})


def renamed(marked: Marked, names: Mapping[str, str] | None) -> Marked:
    """With the labels as they are called; entities whose labels are not are left out."""
    if names is None:
        return marked
    called = [
        Entity(start=one["start"], end=one["end"], label=names[one["label"]])
        for one in marked.entities
        if one["label"] in names
    ]
    unnamed = len(marked.entities) - len(called)
    return Marked(marked.text, called, {**marked.notes, UNNAMED: unnamed})


def of_words(
    tokens: Sequence[str], tags: Sequence[str], form: Literal["prefixed", "bare"]
) -> Marked | Problem:
    """The text of a sentence with its entities. Words without a character are left out."""
    if len(tokens) != len(tags):
        return Problem("tokens and tags of unequal number", f"{len(tokens)} and {len(tags)}")
    there = [place for place, token in enumerate(tokens) if token]
    words = [tokens[place] for place in there]
    reading = spans_of([tags[place] for place in there], form)
    if isinstance(reading, Problem):
        return reading
    text, starts = joined(words)
    named = [
        Entity(start=starts[first], end=starts[end - 1] + len(words[end - 1]), label=label)
        for first, end, label in reading.spans
    ]
    notes = {
        WITHOUT_FIRST: reading.without_first,
        WITHOUT_LAST: reading.without_last,
        EMPTY_WORDS: len(tokens) - len(words),
    }
    return Marked(text, named, notes)


def problem_of_span(text: str, entity: Entity) -> Problem | None:
    """Why a span cannot be an entity of a text, or None."""
    start, end, label = entity["start"], entity["end"], entity["label"]
    reason = None
    if not label:
        reason = "an entity without a label"
    elif not 0 <= start <= len(text) >= end:
        reason = "an entity outside its text"
    elif start >= end or not text[start:end].strip():
        reason = "an entity without a character"
    elif _is_inside_a_character(text, start) or _is_inside_a_character(text, end):
        reason = "an entity that cuts a character"
    if reason is None:
        return None
    return Problem(reason, f"{label!r} at [{start}, {end}) of {len(text):,} characters")


def _is_inside_a_character(text: str, place: int) -> bool:
    """Whether what people see as one character (Unicode Standard Annex 29), such as a letter with
    its marks or a flag, goes on at a place."""
    around = text[max(0, place - 1) : place + 1]
    if len(around) < 2 or around.isascii():
        return False
    import regex  # takes a moment, which checking a recipe should not

    # Nearly always both sides decide: joiners and marks alone let what is before them decide too.
    before_decides = around[0] == "\u200d" or unicodedata.combining(around[0])
    if not before_decides and len(regex.match(r"\X", around)[0]) == 1:
        return False
    begin = max(0, text.rfind(" ", 0, place), text.rfind("\n", 0, place))
    return all(match.start() != place for match in regex.finditer(r"\X", text, 0, begin, place + 1))


def without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without white space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def crossings(spans: Iterable[tuple[int, int]]) -> dict[str, int]:
    """How many spans lie in another one, and how many of the others share characters with one."""
    nested = overlapping = 0
    open_: list[int] = []  # ends of spans that began before and have not ended
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        open_ = [other for other in open_ if other > start]
        if any(other >= end for other in open_):
            nested += 1
        elif open_:
            overlapping += 1
        open_.append(end)
    return {NESTED: nested, OVERLAPPING: overlapping}
