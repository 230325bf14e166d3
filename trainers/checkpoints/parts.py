"""A rank's part of a checkpoint as a safetensors file, and the parts of all ranks read as one.

A tensor's name in a file is `KIND:START:PARAMETER`. A tensor of one dimension is a fragment of the
flattened parameter, from START on; any other belongs to the whole parameter. A matrix whose columns
several ranks divide is kept as `KIND:START:PARAMETER[BEGIN:END:WIDTH]`, by the columns of each.
"""

import bisect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Key = tuple[str, int, str]
"""(kind, start, parameter)."""
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names."""


class Unreadable(Exception):
    """Why a checkpoint cannot be loaded."""


def pieces(tensors: Mapping[Key, Tensor]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file. The tensors are not copied: safetensors' own writer would
    hold the interpreter's lock for the whole file, and the training with it."""
    header, end = {}, 0
    for (kind, start, name), tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[f"{kind}:{start}:{name}"] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        yield tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class Columns(NamedTuple):
    """From `begin` to `end`, of a matrix of `width` columns."""

    begin: int
    end: int
    width: int

    def __str__(self) -> str:
        return f"[{self.begin}:{self.end}:{self.width}]"


class _Fragment(NamedTuple):
    start: int
    shape: tuple[int, ...]
    file: int
    key: str


class Parts:
    """The parts of all ranks. Only what is asked for is read."""

    def __init__(self, paths: Iterable[Path]):
        """Raises Unreadable for a file that is no safetensors."""
        self._files = []
        self._fragments: dict[tuple[str, str], dict[Columns | None, list[_Fragment]]] = {}
        for number, path in enumerate(sorted(paths)):
            try:
                file = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise Unreadable(f"{path.name}: {error}") from error
            self._files.append(file)
            for key in file.keys():  # noqa: SIM118  it is no mapping
                kind, start, parameter = key.split(":", 2)
                name, _, text = parameter.rstrip("]").partition("[")
                columns = Columns(*map(int, text.split(":"))) if text else None
                shape = tuple(file.get_slice(key).get_shape())
                by_columns = self._fragments.setdefault((kind, name), {})
                by_columns.setdefault(columns, []).append(_Fragment(int(start), shape, number, key))
        for by_columns in self._fragments.values():
            for fragments in by_columns.values():
                fragments.sort()

    def kinds(self, name: str) -> set[str]:
        """What is kept of a parameter."""
        return {kind for kind, parameter in self._fragments if parameter == name}

    def read(
        self, kind: str, name: str, start: int, elements: int, columns: Columns | None = None
    ) -> Tensor:
        """(elements,) from `start` on, of the flattened parameter or of some of its columns; or the
        whole of a tensor that is not kept by fragments.

        Raises Unreadable where something is missing.
        """
        by_columns = self._fragments.get((kind, name), {})
        fragments = by_columns.get(columns, [])
        first = next((fragments[0] for fragments in by_columns.values()), None)
        if first is not None and len(first.shape) != 1:
            return self._files[first.file].get_tensor(first.key)
        if fragments or first is None:
            return self._concatenated(fragments, f"{kind} of {name}", start, start + elements)
        matrix = self._matrix(by_columns, f"{kind} of {name}", columns)
        if columns is not None:
            matrix = matrix[:, columns.begin : columns.end]
        return matrix.reshape(-1)[start : start + elements].clone()  # a view keeps the matrix

    def _matrix(
        self,
        by_columns: Mapping[Columns | None, list[_Fragment]],
        what: str,
        wanted: Columns | None,
    ) -> Tensor:
        """A whole matrix, however its columns were divided."""
        width = next(columns.width for columns in (wanted, *by_columns) if columns is not None)
        blocks = []
        for columns, fragments in sorted(by_columns.items(), key=lambda item: item[0] or (0,)):
            values = self._concatenated(
                fragments, what, 0, fragments[-1].start + fragments[-1].shape[0]
            )
            blocks.append(values.view(-1, columns.end - columns.begin if columns else width))
        return torch.cat(blocks, dim=1)

    def _concatenated(self, fragments: list[_Fragment], what: str, at: int, end: int) -> Tensor:
        """Elements from `at` to `end`, of the fragments that have some."""
        values = []
        first = bisect.bisect_right([fragment.start for fragment in fragments], at) - 1
        for fragment in fragments[max(first, 0) :]:
            fragment_end = fragment.start + fragment.shape[0]
            if fragment.start > at or at >= end:
                break
            if fragment_end > at:
                until = min(fragment_end, end)
                view = self._files[fragment.file].get_slice(fragment.key)
                values.append(view[at - fragment.start : until - fragment.start])
                at = until
        if at < end:
            raise Unreadable(f"{what} is missing from element {at:,} on")
        return torch.cat(values)
