"""Rows of Hugging Face datasets: saved on disk, memory-mapped; or streamed from the hub."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Row, Rows, Wanted


def is_saved(dataset: str) -> bool:
    return Path(dataset).expanduser().is_dir()


def saved_rows(dataset: str, split: str) -> int:
    """How many rows a dataset on disk has."""
    return len(_load(dataset, split))


def saved_columns(dataset: str, split: str) -> list[str]:
    """The columns of a dataset on disk; none of one that is not there."""
    with contextlib.suppress(UserError):
        return list(_load(dataset, split).column_names) if is_saved(dataset) else []
    return []


def commit(dataset: str, revision: str | None) -> str:
    """The commit that a revision of a dataset on the hub names now. Raises UserError."""
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        sha = HfApi().dataset_info(dataset, revision=revision).sha
    except (OSError, ValueError, HTTPError) as error:
        raise _cannot_load(dataset, error) from error
    assert sha is not None
    return sha


def hub_files(dataset: str, split: str, commit: str) -> int:
    """How many files a dataset on the hub has."""
    return _load(dataset, split, commit).num_shards


def huggingface(
    dataset: str,
    split: str,
    wanted: Wanted,
    begin: int = 0,
    end: int | None = None,
    commit: str | None = None,
    is_whole: bool = False,
) -> Rows:
    """The rows of a range, or of a file of a dataset on the hub; with the names of classes for
    their numbers."""
    loaded = _load(dataset, split, commit)
    if loaded.column_names is not None:  # the hub does not always know
        rows.refuse_columns(dataset, wanted, loaded.column_names)
    where, count = dataset, None
    if is_saved(dataset):
        loaded = loaded.select(range(begin, len(loaded) if end is None else end))
        count = len(loaded)
    else:
        loaded = loaded.shard(loaded.num_shards, begin)
        where, begin = f"{dataset}:file {begin}", 0
    if not is_whole:
        loaded = loaded.select_columns([*dict.fromkeys(wanted.values())])
    features = loaded.features or {}
    for number, row in enumerate(loaded, start=begin):
        columns = {name: _as_written(features.get(name), value) for name, value in row.items()}
        share = None if count is None else (number - begin + 1) / count
        yield Row(f"{where}:row {number}", columns, share=share)


def _as_written(feature: Any, value: Any) -> Any:
    """A class by its name, and a short float as people wrote it: 0.1, not 0.10000000149."""
    if isinstance(value, list):
        return [_as_written(getattr(feature, "feature", None), one) for one in value]
    if value is not None and hasattr(feature, "names"):
        return feature.names[value] if value >= 0 else None  # numbers below 0 stand for no class
    if value is not None and getattr(feature, "dtype", None) in ("float16", "float32"):
        return float(str(np.float32(value)))
    return value


def _load(dataset: str, split: str, commit: str | None = None) -> Any:
    import datasets

    try:
        if not is_saved(dataset):
            return datasets.load_dataset(dataset, split=split, revision=commit, streaming=True)
        loaded = datasets.load_from_disk(str(Path(dataset).expanduser()))
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    except KeyError as error:
        raise UserError(f"dataset_split: {dataset!r} has no split {split!r}") from error
    except IndexError as error:  # so does `datasets` answer where no shard was saved
        raise UserError(f"dataset: {dataset!r} has no rows") from error
    except (OSError, ValueError) as error:
        raise _cannot_load(dataset, error) from error


def _cannot_load(dataset: str, error: Exception) -> UserError:
    return UserError(f"dataset: cannot load {dataset!r}: {str(error).splitlines()[0]}")
