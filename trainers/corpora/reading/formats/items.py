"""Rows of YAML, as people write them by hand: the items of a list. The whole file is in memory."""

import io
from collections.abc import Mapping
from typing import Any

from cluster.errors import UserError
from trainers.corpora.reading.formats.rows import Problem, Row, Rows

MOST_BYTES = 64 << 20
"""Of a file: what is larger is no work of hands."""


def yaml(name: str, stream: io.BufferedReader, undecodable: Problem) -> Rows:
    """A row for each item of a list, or of the one list of rows that is under a key of the file. An
    object is a row as it is; a list becomes the one column that is called as that key, as the
    dialogues of ChatterBot are: `conversations: [[How are you?, Fine.]]`. What else the file has,
    each row has too. Raises UserError for what has no such list."""
    from ruamel.yaml import YAML, YAMLError

    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{name}: YAML over {MOST_BYTES >> 20} MiB; write it as JSONL")
    try:
        document = YAML(typ="safe").load(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        yield Row(name, None, undecodable)
        return
    except YAMLError as error:
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    key, items, beside = _items(name, document)
    for number, item in enumerate(items, 1):
        columns = item if isinstance(item, Mapping) else {key: item}
        yield Row(f"{name}:item {number}", {**beside, **columns}, share=number / len(items))


def _items(name: str, document: Any) -> tuple[str, list[Any], Mapping[str, Any]]:
    """The key of the list of rows, its items, and the other values of the file."""
    keys = document if isinstance(document, Mapping) else {"items": document}
    lists = [key for key, value in keys.items() if _is_rows(value)]
    if len(lists) != 1:
        told = f"several of them: {', '.join(lists)}" if lists else "none"
        raise UserError(f"{name}: a file of YAML has one list of objects or lists, found {told}")
    (key,) = lists
    return key, keys[key], {name: one for name, one in keys.items() if name != key}


def _is_rows(value: Any) -> bool:
    """Most items are; one that is not is a slip of the hand, and a row that the task refuses."""
    if not isinstance(value, list):
        return False
    return 2 * sum(isinstance(one, Mapping | list) for one in value) >= len(value)
