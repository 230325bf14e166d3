"""A rank's part of a checkpoint as a safetensors file, and the parts of all ranks read as one.

A tensor's name in a file is `KIND:START:PARAMETER`. Tensors of one dimension are stretches of a
flattened parameter, from START on; others belong to the whole parameter. Of a matrix whose columns
workers shared, each has a stretch of its own, `KIND:START:PARAMETER[BEGIN:END:WIDTH]`.
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
    """The bytes of a safetensors file with these tensors. They are not copied: safetensors' own
    writer would hold the interpreter's lock all along, and the training with it."""
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


def _named(text: str) -> tuple[str, Columns | None]:
    """A parameter, and which of its columns."""
    name, _, columns = text.rstrip("]").partition("[")
    return name, Columns(*map(int, columns.split(":"))) if columns else None


class _Stretch(NamedTuple):
    start: int
    shape: tuple[int, ...]
    file: int
    key: str


class Parts:
    """The parts of all ranks. Only what is asked for is read."""

    def __init__(self, files: Iterable[Path]):
        """Raises Unreadable for a file that is no safetensors."""
        self._files = []
        self._stretches: dict[tuple[str, str], dict[Columns | None, list[_Stretch]]] = {}
        self._kinds: dict[str, set[str]] = {}
        for number, path in enumerate(sorted(files)):
            try:
                opened = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise Unreadable(f"{path.name}: {error}") from error
            self._files.append(opened)
            for key in opened.keys():  # noqa: SIM118  it is no mapping
                kind, start, text = key.split(":", 2)
                name, columns = _named(text)
                shape = tuple(opened.get_slice(key).get_shape())
                stretch = _Stretch(int(start), shape, number, key)
                found = self._stretches.setdefault((kind, name), {})
                found.setdefault(columns, []).append(stretch)
                self._kinds.setdefault(name, set()).add(kind)
        for found in self._stretches.values():
            for stretches in found.values():
                stretches.sort()

    def kinds(self, name: str) -> set[str]:
        """What is kept of a parameter."""
        return self._kinds.get(name, set())

    def read(
        self, kind: str, name: str, start: int, elements: int, columns: Columns | None = None
    ) -> Tensor:
        """Of a parameter's tensor of this kind, or of some of its columns, `elements` from `start`
        on: (elements,); or the whole of one that is not kept by stretches.

        Raises Unreadable where something is missing.
        """
        what, found = f"{kind} of {name}", self._stretches.get((kind, name), {})
        first = next((stretches[0] for stretches in found.values()), None)
        if first is not None and len(first.shape) != 1:
            return self._files[first.file].get_tensor(first.key)
        if columns in found or not found:
            covering = self._covering(found.get(columns, []), what, start, start + elements)
            return torch.cat(list(covering))
        values = self._gathered(found, what, columns).reshape(-1)[start : start + elements]
        if len(values) < elements:
            raise Unreadable(f"{what} is missing from element {start + len(values):,} on")
        return values.clone()  # a view would keep the matrix

    def _gathered(
        self, found: Mapping[Columns | None, list[_Stretch]], what: str, wanted: Columns | None
    ) -> Tensor:
        """Columns of a matrix of which other columns were kept together: (rows, columns)."""
        width = next(one.width for one in (wanted, *found) if one is not None)
        parts = []
        for kept, stretches in sorted(found.items(), key=lambda item: item[0] or (0,)):
            end = max(one.start + one.shape[0] for one in stretches)
            values = torch.cat(list(self._covering(stretches, what, 0, end)))
            own = kept.end - kept.begin if kept else width
            parts.append(values[: len(values) // own * own].view(-1, own))
        rows = min(len(part) for part in parts)
        whole = torch.cat([part[:rows] for part in parts], dim=1)
        if whole.shape[1] < width:
            raise Unreadable(f"{what} is missing {width - whole.shape[1]:,} of its columns")
        return whole[:, wanted.begin : wanted.end] if wanted else whole

    def _covering(self, found: list[_Stretch], what: str, at: int, end: int) -> Iterator[Tensor]:
        first = bisect.bisect_right([stretch.start for stretch in found], at) - 1
        for stretch in found[max(first, 0) :]:
            stops = stretch.start + stretch.shape[0]
            if stretch.start > at or at >= end:
                break
            if stops > at:
                until = min(stops, end)
                view = self._files[stretch.file].get_slice(stretch.key)
                yield view[at - stretch.start : until - stretch.start]
                at = until
        if at < end:
            raise Unreadable(f"{what} is missing from element {at:,} on")
