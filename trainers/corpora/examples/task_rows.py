"""What the rows of a task are: which columns they have, how they are cleaned, what their label is.

Reading and writing examples knows nothing else of a task. Every row has `text`, by which rows are
compared; a task whose columns are others says what stands for a row in its place. Light, as part of
a recipe's section: Arrow is imported when data are there.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from cluster.errors import UserError
from trainers.corpora.reading.config import GROUP, LABEL, SOURCE, TEXT
from trainers.corpora.reading.formats.rows import Problem
from trainers.corpora.reading.formats.sentences import TAGS, TOKENS

if TYPE_CHECKING:
    import pyarrow as pa

    from trainers.corpora.cleaning.documents import Normalizer
    from trainers.corpora.reading.readers import Document

DEFAULT_TASK = "classify"
"""Of a section `finetune` that names none; a recipe that fine-tunes nothing has its rows."""


@dataclasses.dataclass(frozen=True)
class Role:
    """A column that a task needs of each row, by the task's own name for it. A source whose column
    has another name says so in `columns`."""

    kind: Literal["text", "label", "value"]
    """`text` is cleaned and must be text. `label` is a text, number, truth value or class, or a
    list of these where the task takes several: splits have their share of each. `value` is kept as
    it is, if it is of this type."""
    about: str
    type: Any = str
    """Of a value: str, int, float, bool, a list of such, or a TypedDict of typing_extensions with
    such fields; Annotated with what pydantic makes of other forms, if there are some."""
    is_kept: bool = True
    """Whether examples have a column of it, as they do unless `cleaned` makes another one of it."""
    is_optional: bool = False
    """Whether a row may lack it, whatever its form: the role is then none of any form."""
    also: Mapping[str, Callable[[Any], bool]] = dataclasses.field(default_factory=dict)
    """What well-known data sets call its column, where that has such values."""


class TaskRows:
    """By default a row is a text with one label."""

    roles: ClassVar[Mapping[str, Role]] = {
        TEXT: Role("text", "a text"),
        LABEL: Role("label", "its label"),
    }
    """The columns that a row can have, by their names in the task."""
    row_forms: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Sets of roles of which any makes a row, such as `(("tokens", "tags"), ("text",
    "entities"))`; by default all that are not optional do together."""
    row_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the task's section that decide what its rows are: examples depend on them, and the
    trials of a search share them."""

    def for_labels(self, labels: Sequence[str]) -> Self:
        """As it reads rows of a file that no recipe knows, for a model with these labels: what is
        called as they are, is one of them."""
        return self

    @property
    def several_labels(self) -> bool:
        """Whether the label of a row may be a list."""
        return False

    @property
    def named_labels(self) -> Sequence[str]:
        """Labels that the recipe names. One that no row has is told."""
        return ()

    def refused_label(self, label: str) -> str | None:
        """Why no row can have this label, or None."""
        return None

    def too_few_labels(self, labels: Collection[str]) -> str | None:
        """Why nothing can be learned where rows have these labels and no other, or None."""
        return None

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        """What is wrong with a row as it was read, though each of its values is of its type, such
        as words and tags of unequal number. Such rows are dropped, counted, and if they are many,
        refused."""
        return None

    def cleaned(self, row: Mapping[str, Any], clean: "Normalizer") -> dict[str, Any]:
        """A row with its texts cleaned. A task whose values point into a text moves them along, by
        `clean.aligned`; one with several forms of rows may turn one into the other. What it finds
        worth telling of a row it counts by `clean.note`."""
        return {
            role: clean(value) if self.roles[role].kind == "text" else value
            for role, value in row.items()
        }

    def labels_of(self, values: Mapping[str, Any]) -> Sequence[str]:
        """Labels in the values of a cleaned row, each once, where none of its roles is a label:
        splits have their share of each."""
        return ()

    def text_of(self, row: Mapping[str, Any]) -> str:
        """The `text` of a row, by which rows are compared: equal ones are one, alike ones are in
        one split, and none of validation and test is trained on. Without a role of that name it is
        all texts of the row: so a task of pairs calls neither `text`."""
        if TEXT in self.roles:
            return row.get(TEXT, "")
        return "\n".join(row[role] for role in self.roles if isinstance(row.get(role), str))

    def annotations(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the values of a cleaned row those that its text does not have, such as entities: of
        copies of a text that differ in them none can be trusted, and all are dropped."""
        return values

    def prompt_of(self, row: Mapping[str, Any]) -> str | None:
        """Of a cleaned row, what a model is asked that answers it: rows with one prompt are a
        group, if they have no other, so that no answer to a prompt of the test split is trained on.
        None where rows are not answered."""
        return None

    # What follows from these.

    def refuse_labels(self, found: Mapping[str, str]) -> None:
        """Raises UserError for labels, with where each was found, that cannot be learned."""
        too_few = self.too_few_labels(found)
        if too_few is not None:
            raise UserError(f"corpora.sources: {too_few}")
        for label, where in found.items():
            refused = self.refused_label(label)
            if refused is not None:
                raise UserError(f"{where}: {refused}")

    def also_called(self, first: Mapping[str, Any]) -> dict[str, str]:
        """Columns that well-known data sets call otherwise than the task, by their roles; `first`
        has a value of each column."""
        return {
            role: name
            for role, of in self.roles.items()
            for name, is_one in of.also.items()
            if name in first and is_one(first[name])
        }

    @property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        needed = (role for role, of in self.roles.items() if not of.is_optional)
        return self.row_forms or (tuple(needed),)

    @property
    def optional_roles(self) -> tuple[str, ...]:
        return tuple(role for role, of in self.roles.items() if of.is_optional)

    @property
    def may_be_tagged(self) -> bool:
        """Whether words with tags make a row."""
        return any({TOKENS, TAGS} <= {*form} for form in self.forms)

    @property
    def has_label(self) -> bool:
        return LABEL in self.roles

    @property
    def noun(self) -> str:
        """What messages call its rows."""
        return "labelled documents" if self.has_label else "rows"

    @property
    def values(self) -> dict[str, Any]:
        """The types of the columns that its examples have besides `id`, `text`, `label`, `group`
        and `source`."""
        return {
            role: of.type
            for role, of in self.roles.items()
            if of.is_kept and role not in (TEXT, LABEL)
        }

    @property
    def value_types(self) -> "dict[str, pa.DataType]":
        """The same, as Arrow has them."""
        return {role: _arrow_type(kind) for role, kind in self.values.items()}

    @property
    def example_schema(self) -> "pa.Schema":
        import pyarrow as pa

        label = pa.list_(pa.string()) if self.several_labels else pa.string()
        return pa.schema(
            [
                ("id", pa.string()),
                ("text", pa.large_string()),
                *([("label", label)] if self.has_label else []),
                (GROUP, pa.string()),
                (SOURCE, pa.string()),
                *self.value_types.items(),
            ]
        )

    def checked(self, documents: Iterable["Document"]) -> Iterator["Document"]:
        """Documents with their values as their types have them; of others the problem."""
        for document in documents:
            if document.text is None or not document.values:
                yield document
                continue
            values = {role: self._checked(role, value) for role, value in document.values.items()}
            problems = [value for value in values.values() if isinstance(value, Problem)]
            document = dataclasses.replace(document, values=values)
            problem = problems[0] if problems else self.problem_of(_row(document))
            if problem is not None:
                document = dataclasses.replace(document, text=None, problem=problem)
            yield document

    def _checked(self, role: str, value: Any) -> Any:
        kind = self.roles[role].type
        try:
            return value if isinstance(value, Problem) else _adapter(kind).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (role, *first["loc"])))
            return Problem(f"{role} is not what the task needs", f"{where}: {first['msg']}")

    def cleaned_document(self, document: "Document", clean: "Normalizer") -> "Document":
        assert document.text is not None
        if not document.values:
            return dataclasses.replace(document, text=clean(document.text))
        row = self.cleaned(_row(document), clean)
        values = {role: row.get(role) for role in self.values}
        group = self._group_of(row) if document.group is None else document.group
        return dataclasses.replace(document, text=self.text_of(row), values=values, group=group)

    def _group_of(self, row: Mapping[str, Any]) -> str | None:
        from trainers.corpora.cleaning.documents import text_key

        prompt = self.prompt_of(row)
        return None if prompt is None else f"{text_key(prompt):016x}"


def _row(document: "Document") -> dict[str, Any]:
    text = {TEXT: document.text} if document.text else {}  # none has a form without it
    return {**text, **document.values}


_adapter = functools.cache(TypeAdapter)


def _arrow_type(kind: Any) -> "pa.DataType":
    import pyarrow as pa

    if typing.get_origin(kind) is Annotated:
        return _arrow_type(typing.get_args(kind)[0])
    if typing.get_origin(kind) is list:
        return pa.list_(_arrow_type(*typing.get_args(kind)))
    if is_typeddict(kind):
        fields = typing.get_type_hints(kind)
        return pa.struct([(name, _arrow_type(of)) for name, of in fields.items()])
    return {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]


LABELLED_TEXTS = TaskRows()
"""The rows of a recipe that fine-tunes nothing."""
