"""A rank's part of a checkpoint as a safetensors file, and the parts of all ranks read as one.

A tensor's name in a file is `KIND:START:PARAMETER`. Tensors of one dimension are stretches of a
flattened parameter, from START on; others belong to the whole parameter.
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
        self._stretches: dict[tuple[str, str], list[_Stretch]] = {}
        self._kinds: dict[str, set[str]] = {}
        for number, path in enumerate(sorted(files)):
            try:
                opened = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise Unreadable(f"{path.name}: {error}") from error
            self._files.append(opened)
            for key in opened.keys():  # noqa: SIM118  it is no mapping
                kind, start, name = key.split(":", 2)
                shape = tuple(opened.get_slice(key).get_shape())
                stretch = _Stretch(int(start), shape, number, key)
                self._stretches.setdefault((kind, name), []).append(stretch)
                self._kinds.setdefault(name, set()).add(kind)
        for stretches in self._stretches.values():
            stretches.sort()

    def kinds(self, name: str) -> set[str]:
        """What is kept of a parameter."""
        return self._kinds.get(name, set())

    def read(self, kind: str, name: str, start: int, elements: int) -> Tensor:
        """Of a parameter's tensor of this kind, `elements` from `start` on: (elements,); or the
        whole of one that is not kept by stretches.

        Raises Unreadable where something is missing.
        """
        found = self._stretches.get((kind, name), [])
        if found and len(found[0].shape) != 1:
            return self._files[found[0].file].get_tensor(found[0].key)
        return torch.cat(list(self._covering(found, f"{kind} of {name}", start, start + elements)))

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
