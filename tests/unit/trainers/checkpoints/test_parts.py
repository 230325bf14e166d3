"""Tensors whose fragments many ranks wrote are read as if each were whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainers.checkpoints.parts import Columns, Parts, Unreadable, pieces


def written(path: Path, tensors: dict[tuple[str, int, str], torch.Tensor]) -> Path:
    path.write_bytes(b"".join(pieces(tensors)))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A parameter of 10 elements, in stretches of 4, 1 and 5, and its count of steps."""
    whole, steps = torch.arange(10.0), torch.tensor(7.0)
    cuts = {"b": (0, 4), "a": (4, 5), "c": (5, 10)}
    return [
        written(
            tmp_path / f"{name}.safetensors",
            {
                ("weight", start, "layer.weight"): whole[start:end].clone(),
                ("step", start, "layer.weight"): steps,
                ("row_var", start, f"only:{name}"): torch.full((2, 1), float(start)),
            },
        )
        for name, (start, end) in cuts.items()
    ]


def test_a_part_is_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {
        ("weight", 0, "one"): torch.randn(5),
        ("buffer", 0, "two"): torch.tensor([True, False, True]),
        ("step", 0, "three"): torch.tensor(3.0),
        ("buffer", 0, "four"): torch.arange(6).view(2, 3),
        ("buffer", 0, "five"): torch.randn(3, 3).bfloat16().T,
        ("buffer", 0, "six"): torch.empty(0),
    }
    loaded = load_file(written(tmp_path / "x.safetensors", tensors))
    assert loaded.keys() == {f"{kind}:0:{name}" for kind, _, name in tensors}
    for (kind, _, name), tensor in tensors.items():
        assert torch.equal(loaded[f"{kind}:0:{name}"], tensor)


def test_any_stretch_is_read_from_the_files_that_have_it(files: list[Path]) -> None:
    parts = Parts(files)
    for start in range(10):
        for end in range(start + 1, 11):
            read = parts.read("weight", "layer.weight", start, end - start)
            assert read.tolist() == list(range(start, end))


def test_a_tensor_of_the_whole_parameter_is_read_whole(files: list[Path]) -> None:
    parts = Parts(files)
    assert parts.read("step", "layer.weight", 6, 2).tolist() == 7.0
    assert parts.read("row_var", "only:c", 0, 100).tolist() == [[5.0], [5.0]]
    assert parts.kinds("layer.weight") == {"weight", "step"}
    assert parts.kinds("other") == set()


@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_the_first_missing_element_is_named(gone: str, files: list[Path]) -> None:
    parts = Parts(file for file in files if file.stem != gone)
    first = {"a": 4, "b": 0, "c": 5}[gone]
    with pytest.raises(Unreadable, match=f"weight of layer.weight is missing from element {first}"):
        parts.read("weight", "layer.weight", 0, 10)


WIDTH, MATRIX = 6, torch.arange(24.0).view(4, 6)


def by_columns(folder: Path, cuts: list[Columns | None]) -> Parts:
    """A matrix of 4 x 6 in two stretches of each of its cuts."""
    folder.mkdir()
    for number, columns in enumerate(cuts):
        kept = MATRIX[:, columns.begin : columns.end] if columns else MATRIX
        values, name = kept.reshape(-1), f"layer.weight{columns or ''}"
        for half, part in enumerate((values[:7].clone(), values[7:].clone())):
            tensors = {
                ("weight", 7 * half, name): part,
                ("step", 7 * half, name): torch.tensor(3.0),
            }
            written(folder / f"{number}-{half}.safetensors", tensors)
    return Parts(folder.iterdir())


HALVES = [Columns(0, 3, WIDTH), Columns(3, 6, WIDTH)]
THIRDS = [Columns(2 * part, 2 * part + 2, WIDTH) for part in range(3)]
CUTS: list[list[Columns | None]] = [[None], [*HALVES], [*THIRDS]]


@pytest.mark.parametrize("kept", CUTS, ids=len)
@pytest.mark.parametrize("wanted", CUTS, ids=len)
def test_columns_are_read_however_they_were_kept(
    kept: list[Columns | None], wanted: list[Columns | None], tmp_path: Path
) -> None:
    parts = by_columns(tmp_path / "kept", kept)
    for columns in wanted:
        expected = MATRIX[:, columns.begin : columns.end] if columns else MATRIX
        read = parts.read("weight", "layer.weight", 2, 5, columns)
        assert read.tolist() == expected.reshape(-1)[2:7].tolist()
        assert read.untyped_storage().nbytes() == 5 * 4, "the matrix is not kept for it"
        assert float(parts.read("step", "layer.weight", 2, 5, columns)) == 3.0
    assert parts.kinds("layer.weight") == {"weight", "step"}


def test_a_file_that_is_no_safetensors_is_named(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:50])
    with pytest.raises(Unreadable, match=r"a\.safetensors: "):
        Parts(files)
