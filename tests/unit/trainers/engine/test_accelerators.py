"""GPUs by the names that CUDA gives them."""

import pytest

from trainers.engine.accelerators import named


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA H100 PCIe", None),  # slower than its namesake
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A10", None),
        ("Quadro P4000", None),
    ],
)
def test_a_device_is_known_by_its_name(device: str, expected: str | None) -> None:
    found = named(device)
    assert (found.name if found else None) == expected
