"""What of raymill's dependencies a machine without a network is given."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
IMAGE = ("torch", "transformers")
"""What such a machine has, with what these need."""
USED = (
    "cluster.cli.main",
    "serving.encoders.app",
    "serving.generation.app",
    "serving.generation.chat",
    "trainers.corpora.examples.stage",
    "trainers.corpora.shard",
    "trainers.engine.loop",
    "trainers.scoring.batch.run",
    "trainers.scoring.evaluation.stage",
    "trainers.tasks.classify.predictor",
    "trainers.tasks.classify.task",
    "trainers.tasks.chat.predictor",
    "trainers.tasks.writing.figures",
    "tests.gpu.chunks",
    "tests.gpu.packing",
    "tests.gpu.stages",
    "tests.gpu.trainings",
)
WITHOUT_OTHERS = f"""
import importlib, sys
from importlib.machinery import PathFinder

class OfTheImage(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in absent:  # but for what Ray brings in a folder of its own
            path = [place for place in sys.path if not place.endswith("site-packages")]
        return super().find_spec(name, path, target)

absent = {{*sys.argv[1:]}}
sys.meta_path[sys.meta_path.index(PathFinder)] = OfTheImage
for name in {USED!r}:
    importlib.import_module(name)

from trainers.corpora.report.picture import picture
from trainers.scoring.evaluation.paired import mcnemar
from trainers.tasks.writing.likeness import likeness

likeness("an answer", "another answer")
picture(lambda axes: axes.plot([0, 1], [0, 1]))
mcnemar(3, 5)
"""


def wheels() -> set[str]:
    lines = (ROOT / "tests/gpu/wheels.txt").read_text("utf-8").splitlines()
    return {canonicalize_name(line) for line in lines if line and not line.startswith("#")}


def needed_by(names: Iterable[str]) -> set[str]:
    """Them, and all that they need without extras, as far as it is installed here."""
    needed: set[str] = set()
    left = [*names]
    while left:
        name = canonicalize_name(left.pop())
        if name in needed:
            continue
        needed.add(name)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:  # of a GPU, or of another system
            continue
        left += [
            one.name
            for one in requirements
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
    return needed


def test_what_a_wheel_needs_travels_too() -> None:
    missing = needed_by(wheels()) - wheels() - needed_by(IMAGE)
    assert missing == set()


def test_the_parts_import_nothing_that_does_not_travel(tmp_path: Path) -> None:
    there = wheels() | needed_by(IMAGE)
    absent = [
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not there & {*map(canonicalize_name, names)} and canonicalize_name(names[0]) != "raymill"
    ]
    assert "sklearn" in absent
    command = [sys.executable, "-c", WITHOUT_OTHERS, *absent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
