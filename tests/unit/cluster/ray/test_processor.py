from pathlib import Path

import pytest

from cluster.ray import processor

CPUINFO = """\
processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
flags\t\t: fpu sse2 avx2 {flag}

processor\t: 1
vendor_id\t: {vendor}
"""


@pytest.fixture(autouse=True)
def cpuinfo(monkeypatch, tmp_path) -> Path:
    """What is said of the processor: nothing yet."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("vendor", "family", "flag", "found"),
    [
        pytest.param("AuthenticAMD", 25, "avx512f", "X86_V4", id="zen-4"),
        pytest.param("AuthenticAMD", 25, "", None, id="zen-3"),
        pytest.param("AuthenticAMD", 26, "avx512f", None, id="zen-5"),
        pytest.param("GenuineIntel", 6, "avx512f", None, id="intel"),
    ],
)
def test_avx512_is_left_to_numpy_where_it_sorts_fast_with_it(cpuinfo, vendor, family, flag, found):
    cpuinfo.write_text(CPUINFO.format(vendor=vendor, family=family, flag=flag))
    assert processor.environment().get("NPY_DISABLE_CPU_FEATURES") == found


def test_nothing_is_said_where_there_is_no_proc():
    assert processor.environment() == {}


def test_arm_has_no_such_lines(cpuinfo):
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    assert processor.environment() == {}


def test_what_the_user_enables_is_left_alone(monkeypatch, cpuinfo):
    cpuinfo.write_text(CPUINFO.format(vendor="AuthenticAMD", family=25, flag="avx512f"))
    monkeypatch.setenv("NPY_ENABLE_CPU_FEATURES", "X86_V4")
    assert processor.environment() == {}
