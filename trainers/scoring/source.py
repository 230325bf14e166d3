"""A source that a command line names: a path, or `-` with a data set, and `--set` for its keys."""

from collections.abc import Sequence

from cluster.errors import UserError
from cluster.recipe.loading import load_keys
from cluster.recipe.section import Invalid
from trainers.corpora.reading import sources
from trainers.corpora.reading.config import Source


def named_source(path: str, overrides: Sequence[str], key: str) -> Source:
    """`key` is what the command line calls the path. Raises UserError."""
    names_dataset = "dataset" in {override.partition("=")[0].strip() for override in overrides}
    if (path == "-") != names_dataset:
        raise UserError(
            f"{key}: {path!r}: it is `-` where --set dataset=NAME names a data set, else a path"
        )
    source: Source = load_keys(Source, overrides, {} if path == "-" else {"path": path})
    return source


def refuse_missing(source: Source, key: str) -> None:
    """Raises UserError for files that are not there."""
    try:
        if source.path is not None:
            sources.located(source)
    except Invalid as error:
        named = key if error.key == "path" else f"--set {error.key}"
        raise UserError(f"{named}: {error}") from error


def name_of(source: Source) -> str:
    """For people."""
    return str(source.path or source.dataset)
