"""The base of every recipe section: frozen, closed, explained under each field.

A section is one pydantic model owned by the folder that uses it. It checks what it can see by
itself in its validators; what spans sections it checks in `conflicts`.
"""

import difflib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field

DEFAULT_WORKSPACE = "~/.raymill"


class Conflict(NamedTuple):
    key: str
    """Dotted recipe key to point at."""
    message: str


class Invalid(ValueError):
    """Raised by a section's validator, to point at one of its keys."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A hint at the known word that was meant, or nothing. The cutoff is difflib's."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def operational(default: Any, **constraints: Any) -> Any:
    """A field that says how a stage runs, not what it makes: it is no part of the fingerprint."""
    return Field(default, json_schema_extra={"operational": True}, **constraints)


def told_by(key: str, default: str) -> Discriminator:
    """Tells which of several sections a value is, by this key of theirs. Their tags are its values
    behind a "|": so errors, which have them among the keys of a recipe, know and leave them out.
    What is no section at all is left to the default one, which refuses it."""

    def tag(value: Any) -> str:
        is_mapping = isinstance(value, Mapping)
        return f"|{value.get(key, default) if is_mapping else getattr(value, key, default)}"

    return Discriminator(tag)


class Section(BaseModel):
    # Model configs are written `model:` in recipes; pydantic's protected prefix would refuse that.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def conflicts(self, recipe: "Recipe") -> Iterator[Conflict]:
        """Impossible combinations with other sections. Pure; imports nothing heavy."""
        yield from ()

    def faults(self, recipe: "Recipe") -> Iterator[Conflict]:
        """What the section says that what is installed here, and the local files it names, do not
        bear out. Takes a moment."""
        yield from ()

    def warnings(self, recipe: "Recipe") -> Iterator[str]:
        """What a run takes, though hardly anybody means it. Takes a moment, too."""
        yield from ()

    def described(self, recipe: "Recipe") -> Iterator[str]:
        """What is to be seen of how it is understood. Takes a moment, too."""
        yield from ()

    def identity(self) -> dict[str, Any]:
        """What of this section decides the content of an artifact, as plain JSON."""
        return {
            name: identity(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra is None
        }


def identity(value: Any) -> Any:
    """What of a recipe's value belongs in a fingerprint."""
    match value:
        case Section():
            return value.identity()
        case dict():
            return {key: identity(item) for key, item in value.items()}
        case list() | tuple():
            return [identity(item) for item in value]
        case _:
            return value


WAIT_FOR_NODE_MINUTES = 30.0


class ClusterSection(Section):
    """The Ray cluster that raymill makes when it is not given one."""

    cpus: int | None = Field(default=None, ge=1)
    """CPUs of the local Ray; all of the machine's by default. An existing cluster is taken as
    is."""
    max_failures_per_hour: int = Field(default=3, ge=0)
    """Lost workers or nodes that a training survives within any hour, going on from its last
    checkpoint; a task of `shard` is tried so often in all. One more, and the run gives up (exit
    status 3)."""
    wait_for_node_minutes: float = Field(default=WAIT_FOR_NODE_MINUTES, gt=0)
    """How long a training or a search waits for nodes with room for its workers, such as those that
    come in place of lost ones. Then the run gives up (exit status 3); its last checkpoint is kept.
    """
    cache_gb: float = Field(default=50.0, gt=0)
    """Disk that each node spends on copies of shards, and of what `shard` works on, where the
    workspace is remote."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = operational(["tensorboard"])
    """Where the metrics of trainings go besides their metrics.jsonl. Event files of TensorBoard are
    in WORKSPACE/tensorboard; W&B and MLflow (extras of the installation) read their own environment
    variables, and without them write into WORKSPACE/wandb and WORKSPACE/mlflow.db."""

    def faults(self, recipe: "Recipe") -> Iterator[Conflict]:
        for problem in absent(self.trackers):
            yield Conflict("cluster.trackers", problem)


class Recipe(Section):
    """A validated recipe. `load` gives a subclass whose sections have their own types."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """Lower-case letters, digits and dashes, at most 40: it names artifacts and Kubernetes
    objects."""
    workspace: str = DEFAULT_WORKSPACE
    """Where artifacts live: a folder, or a URI that pyarrow.fs reads (s3://, gs://)."""
    seed: int = Field(default=17, ge=0, lt=2**32)
    cluster: ClusterSection = ClusterSection()
    corpora: Any = None
    pretrain: Any = None
    finetune: Any = None
    tune: Any = None
    serve: Any = None

    def __reduce__(self) -> Any:
        # As a plain Recipe: the subclass is made at run time, and would go along to every worker.
        return _unpickled, (self.__getstate__(),)


def _unpickled(state: dict[Any, Any]) -> Recipe:
    recipe = Recipe.__new__(Recipe)
    recipe.__setstate__(state)
    return recipe


TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""The package of each."""


def absent(trackers: Iterable[str]) -> Iterator[str]:
    """What to say of trackers whose packages are not installed here."""
    for name in trackers:
        if importlib.util.find_spec(TRACKERS[name]) is None:
            yield (
                f"{name} is not installed; pip install 'raymill[{name}]' on every node, or leave "
                "it out"
            )
