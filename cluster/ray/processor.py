"""What this machine's processor does not do well."""

import os
from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
ZEN_4 = {"vendor_id": "AuthenticAMD", "cpu family": "25"}
"""And Zen 3, which has no AVX-512."""


def environment() -> dict[str, str]:
    """Variables for the libraries that use it, on Linux."""
    if "NPY_ENABLE_CPU_FEATURES" in os.environ or not CPUINFO.exists():  # NumPy refuses both
        return {}
    return _environment(CPUINFO.read_text("utf-8"))


def _environment(cpuinfo: str) -> dict[str, str]:
    """Has NumPy sort by AVX2 on AMD's Zen 4, in a quarter of the time: there the instruction that
    its AVX-512 sort is built on takes a hundred cycles (numpy/x86-simd-sort, issue 6). Pure."""
    values = _first(cpuinfo)
    if values.items() >= ZEN_4.items() and "avx512f" in values.get("flags", "").split():
        return {"NPY_DISABLE_CPU_FEATURES": "X86_V4"}
    return {}


def _first(cpuinfo: str) -> Mapping[str, str]:
    """What is said of the first processor. Pure."""
    block, _, _ = cpuinfo.partition("\n\n")
    lines = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
