"""What users hold in their hands: verbs, shipped recipes, a command line that answers at once."""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cluster.cli.main import EPILOG, STAGES, _parser
from cluster.lazy_import import lazy_import
from cluster.recipe.loading import about, load, shipped
from cluster.runs import pipeline
from serving.config import Serve

ROOT = Path(__file__).parents[2]
VERBS = {
    "recipes",
    "check",
    "plan",
    "shard",
    "pretrain",
    "tune",
    "finetune",
    "run",
    "status",
    "evaluate",
    "score",
    "promote",
    "serve",
    "submit",
}
HEAVY = ("torch", "ray", "transformers", "deepspeed", "datasets", "sklearn", "pandas", "matplotlib")


def test_the_verbs_are_those_that_are_promised() -> None:
    (action,) = (
        action
        for action in _parser()._subparsers._group_actions  # type: ignore[union-attr]
        if isinstance(action, argparse._SubParsersAction)
    )
    assert set(action.choices) == VERBS
    for name, parser in action.choices.items():
        assert callable(lazy_import(f"cluster.cli.{parser.get_default('function')}")), name


def test_the_help_names_the_stages() -> None:
    assert STAGES.replace(" or ", ", ").split(", ") == [
        *(stage.name for stage in pipeline.STAGES),
        pipeline.SERVE,
    ]


def test_the_help_of_a_gate_says_what_the_recipes_key_does() -> None:
    parser = _parser()
    (action,) = parser._subparsers._group_actions  # type: ignore[union-attr]
    help_ = " ".join(action.choices["promote"].format_help().split())  # type: ignore[index, call-overload]
    for words in ("least value of a test metric", "or the most that an error may be"):
        assert words in help_
        assert words in " ".join((Serve.model_fields["gate"].description or "").lower().split())


def test_every_dependency_is_named_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[\[=<>]", dependency)[0] for dependency in project["dependencies"]]
    assert sorted(names) == sorted(set(names))


def documented_commands() -> list[str]:
    """What follows `raymill` in the README's code blocks."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    return [command for block in blocks for command in re.findall(r"\braymill (.+)", block)]


@pytest.mark.parametrize("command", documented_commands())
def test_commands_of_the_readme_parse(command: str) -> None:
    _parser().parse_args(shlex.split(command, comments=True))


def test_the_readme_and_the_help_tell_the_same_exit_statuses() -> None:
    (statuses,) = re.findall(r"exit status: (.*)", " ".join(EPILOG.split()))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Exit status: {statuses}. " in readme


def test_the_recipes_of_the_readme_are_valid(tmp_path: Path) -> None:
    readmes = "".join(
        (ROOT / name).read_text("utf-8") for name in ("README.md", "trainers/README.md")
    )
    own, corpora = re.findall(r"^```yaml\n(.*?)^```", readmes, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "readme.yaml"
    path.write_text(own, encoding="utf-8")
    assert load(path).corpora.sources["mine"].columns["label"] == "rating"
    assert load(path, ["finetune=null", "serve=null"]).pretrain is not None
    path.write_text(f"name: readme\n{corpora}", encoding="utf-8")
    assert load(path).corpora.sources["raw"].weak_labels.functions["blame"].label == "bad"


def test_the_readme_runs_the_quickstart_within_twenty_lines() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    assert any("raymill run quickstart" in line for line in head)
    assert any(line.endswith("pytest") for line in head)


def test_the_readmes_are_short_and_every_folder_has_one() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
    for folder in ("cluster", "trainers", "tuning", "serving", "k8s", "tests"):
        assert (ROOT / folder / "README.md").is_file(), folder


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert len(about(shipped()[name])) > 10


def test_the_quickstart_is_shipped() -> None:
    assert "quickstart" in shipped()


def test_the_quickstart_learns_the_same_on_every_machine() -> None:
    recipe = load("quickstart")
    assert recipe.pretrain.max_minutes is None
    assert recipe.finetune.max_minutes is None


def imported(code: str) -> list[str]:
    """Runs `code` in a fresh process; returns those of the `modules` that it sets which were
    imported. What is quick is held by this: a clock would measure the machine."""
    report = (
        "\nimport json, sys\n"
        "print('\\n' + json.dumps([name for name in modules if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import contextlib
from cluster.cli.main import main
with contextlib.suppress(SystemExit):
    main(["--help"])
modules = {(*HEAVY, "pyarrow", "numpy", "pydantic")!r}
"""
    assert imported(code) == []


def test_loading_a_recipe_imports_nothing_heavy() -> None:
    code = f"""
from cluster.recipe.loading import load
load("quickstart")
modules = {(*HEAVY, "pyarrow", "numpy")!r}
"""
    assert imported(code) == []


def test_check_imports_neither_torch_nor_ray() -> None:
    """Arrow it does import, to look at the files."""
    code = f"""
from cluster.cli.main import main
assert main(["check", "quickstart"]) == 0
modules = {(*HEAVY, "scipy", "aiohttp", "asyncio")!r}
"""
    assert imported(code) == []


def test_a_mistake_in_a_recipe_is_told_before_arrow_is_imported() -> None:
    code = f"""
from cluster.cli.main import main
assert main(["check", "quickstart", "--set", "pretrain.epoch=1"]) == 2
modules = {(*HEAVY, "pyarrow", "numpy")!r}
"""
    assert imported(code) == []


def test_an_endpoint_and_then_a_training_wait_for_no_import_that_they_do_not_use() -> None:
    code = """
import sys
import serving.encoders.api, trainers.tasks.classify.predictor
import transformers.models.bert.modeling_bert
assert not {'deepspeed', 'ray', 'datasets'} & sys.modules.keys()
from trainers.engine import loop
from trainers.tasks.classify import task
loop.zero.lean_imports.deepspeed()
from deepspeed.runtime.zero.muon import muon_optimizer
modules = ('sklearn', 'scipy', 'torch._inductor.compile_fx')
"""
    assert imported(code) == []


def test_who_starts_a_training_waits_for_no_import_of_it() -> None:
    """Nor does the process that cleans up behind Ray Train's controller."""
    code = """
import trainers.pretrain, trainers.finetune, trainers.scoring.evaluation.score_rows, tuning.search
import trainers.launch.elastic
modules = ('torch', 'transformers', 'deepspeed')
"""
    assert imported(code) == []
