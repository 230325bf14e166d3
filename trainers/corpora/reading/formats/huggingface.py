"""Rows of Hugging Face datasets: saved on disk, memory-mapped; or streamed from the hub."""

from pathlib import Path
from typing import Any

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Row, Rows, Wanted


def is_saved(dataset: str) -> bool:
    return Path(dataset).expanduser().is_dir()


def saved_rows(dataset: str, split: str) -> int:
    """How many rows a dataset on disk has."""
    return len(_load(dataset, split))


def huggingface(
    dataset: str, split: str, wanted: Wanted, begin: int = 0, end: int | None = None
) -> Rows:
    """The rows of a range, with the names of classes for their numbers."""
    loaded = _load(dataset, split)
    if loaded.column_names is not None:  # the hub does not always know
        rows.refuse_missing(dataset, wanted, loaded.column_names)
    if is_saved(dataset):
        loaded = loaded.select(range(begin, len(loaded) if end is None else end))
    loaded = loaded.select_columns([*dict.fromkeys(wanted.values())])
    names = {
        column: feature.names
        for column, feature in (loaded.features or {}).items()
        if hasattr(feature, "names")
    }
    for number, row in enumerate(loaded, start=begin):
        for column, of_classes in names.items():
            if isinstance(row[column], int):
                row[column] = of_classes[row[column]] if row[column] >= 0 else None
        yield Row(f"{dataset}:row {number}", row)


def _load(dataset: str, split: str) -> Any:
    import datasets

    try:
        if not is_saved(dataset):
            return datasets.load_dataset(dataset, split=split, streaming=True)
        loaded = datasets.load_from_disk(str(Path(dataset).expanduser()))
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    except KeyError as error:
        raise UserError(f"dataset_split: {dataset!r} has no split {split!r}") from error
    except IndexError as error:  # so does `datasets` answer where no shard was saved
        raise UserError(f"dataset: {dataset!r} has no rows") from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"dataset: cannot load {dataset!r}: {reason}") from error
