"""Imports go down only, as the design draws it, and the house has no other rooms."""

import ast
import graphlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"cluster", "trainers", "tuning", "serving", "k8s", "tests"}
OURS = ("cluster", "trainers", "tuning", "serving", "tests", "k8s")
# What a file may import of ours, by the longest prefix of its module name.
MAY_IMPORT = {
    "cluster": ("cluster",),
    "trainers.corpora": ("cluster", "trainers.corpora"),
    "trainers": ("cluster", "trainers"),
    "tuning": ("cluster", "trainers", "tuning"),
    "serving": ("cluster", "trainers.tasks", "trainers.models", "serving"),
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("cluster", "trainers", "tuning", "serving")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that a file imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    package = max((name for name in MAY_IMPORT if is_inside(module, name)), key=len)
    names = imported(module, ast.parse(MODULES[module].read_text(encoding="utf-8")))
    ours = [name for name in names if name.partition(".")[0] in OURS]
    upwards = [
        name
        for name in ours
        if not any(is_inside(name, allowed) for allowed in MAY_IMPORT[package])
    ]
    assert upwards == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for types and inside functions count: a circle is one file in several pieces."""
    graph = {
        module: {
            found
            for name in imported(module, ast.parse(path.read_text(encoding="utf-8")))
            for found in (name, name.rpartition(".")[0])
            if found in MODULES and found != module and not is_inside(module, found)
        }
        for module, path in MODULES.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def named_as_strings() -> Iterator[str]:
    """`module:attribute` strings in `cluster`, by which it reaches upper folders."""
    for module, path in MODULES.items():
        if is_inside(module, "cluster"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield from re.findall(r"^(?:trainers|tuning|serving)[\w.]*:\w+$", node.value)


@pytest.mark.parametrize("target", sorted(set(named_as_strings())))
def test_what_cluster_names_as_a_string_exists(target: str) -> None:
    module, _, attribute = target.partition(":")
    defined: set[str] = set()
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert attribute in defined


def test_cluster_reaches_every_upper_folder_by_name() -> None:
    """Guards the two tests above against finding nothing."""
    reached = {target.partition(".")[0] for target in named_as_strings()}
    assert reached == {"trainers", "tuning", "serving"}


def test_no_folders_beyond_those_of_the_design() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    folders = {name.partition("/")[0] for name in listed.stdout.splitlines() if "/" in name}
    assert {name for name in folders if not name.startswith(".")} <= FOLDERS
