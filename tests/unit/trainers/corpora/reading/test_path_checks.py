"""What a look at a recipe's files finds, with the line of the recipe, before anything runs."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import RecipeError
from cluster.recipe.loading import load
from cluster.recipe.section import Recipe
from trainers.corpora.config import Corpora

ROOT = Path(__file__).parents[5]
ROWS = [{"review": "这家酒店很好", "stars": 5}, {"review": "two words", "stars": 1}]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Of the few rows here the splits would be empty: test_split_checks.py.
    monkeypatch.setattr(Corpora, "_about_splits", lambda *_: ())
    lines = [json.dumps(row) for row in ROWS]
    Path("a.jsonl").write_text("\n".join(lines))
    Path("a.csv").write_text("review,stars\ngood,5\nbad,1\n")
    pq.write_table(pa.Table.from_pylist(ROWS), "a.parquet")
    with gzip.open("a.jsonl.gz", "wt") as stream:
        stream.write("\n".join(lines))
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("inside/a.jsonl", "\n".join(lines))
    Path("a.txt").write_text("a line\n")


def found(source: str) -> str:
    """The error of a recipe with this source, or nothing."""
    Path("r.yaml").write_text(f"name: demo\ncorpora:\n  sources:\n    mine:\n      {source}\n")
    try:
        load("r.yaml", check_files=True)
    except RecipeError as error:
        return str(error)
    return ""


FILES = ("a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "a.zip")


@pytest.mark.parametrize("file", FILES)
def test_a_column_that_is_not_there_is_told_with_those_that_are(file: str) -> None:
    assert found(f"path: {file}\n      columns:\n        text: review\n        label: stars") == ""
    wrong = found(f"path: {file}\n      columns:\n        text: reviews\n        label: stars")
    assert wrong.startswith(f"r.yaml:7: corpora.sources.mine.columns.text: {Path.cwd()}/{file}")
    assert "no column 'reviews'" in wrong
    assert "; columns: review, stars; did you mean 'review'?" in wrong


@pytest.mark.parametrize("file", FILES)
def test_a_column_that_was_not_set_is_told_at_its_source(file: str) -> None:
    wrong = found(f"path: {file}\n      columns:\n        label: stars")
    assert wrong.startswith("r.yaml:6: corpora.sources.mine.columns.text: ")
    assert "no column 'text'" in wrong


def test_lines_of_text_have_no_columns_but_what_they_are_called() -> None:
    assert found("path: a.txt") == ""
    assert found("path: a.txt\n      columns: {text: anything}") == ""
    wrong = found("path: a.txt\n      columns: {label: stars}")
    assert "mine.columns.label: " in wrong
    assert "no column 'stars'" in wrong


def test_what_a_run_may_read_is_not_refused() -> None:
    Path("header.csv").write_text("text,label\n")
    assert found("path: header.csv\n      columns: {label: label}") == ""
    Path("late.jsonl").write_text('{"broken": \n[]\n{"other": 1}\n{"text": "a", "label": "b"}\n')
    late = "path: late.jsonl\n      columns: {label: label}"
    told = found(late)
    assert "late.jsonl:1: not JSON: " in told
    assert "(unreadable: 3 of 4 rows, over corpora.clean.max_unreadable = 0.01; mend them" in told
    assert found(f"{late}\n  clean: {{max_unreadable: 0.75}}") == ""


def test_a_source_of_nothing_but_empty_files_is_told(tmp_path: Path) -> None:
    for name in ("none.txt", "nil.jsonl"):
        Path(name).touch()
    wrong = f"r.yaml:5: corpora.sources.mine.path: {tmp_path}/none.txt: empty; leave the source out"
    assert found("path: none.txt") == wrong
    assert f"{tmp_path}/nil.jsonl, {tmp_path}/none.txt: empty" in found("path: n*.*")
    assert found("path: '*.jsonl'\n      columns: {text: review}") == "", "some have text"
    Path("0.jsonl").touch()
    assert "no column 'txt'" in found("path: '*.jsonl'\n      columns: {text: txt}"), (
        "the first that has"
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "gbk.txt",
            "这家酒店很好\n".encode("gbk"),
            "gbk.txt:1: not UTF-8: it looks like ",
        ),
        ("gbk.csv", "内容,label\n".encode("gbk"), "the header cannot be read: not UTF-8: it looks"),
        ("list.jsonl", b"[1]\n[2]\n", "list.jsonl:1: not an object with col"),
        ("cut.json", b'[{"text": "a"}, {"te', "cut.json:item 2: not JSON: "),
        ("pretty.jsonl", b'{\n  "text": "a"\n}\n', "pretty.jsonl:1: not JSON: "),
    ],
)
def test_a_file_of_which_nothing_can_be_read_is_told(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    Path(name).write_bytes(content)
    told = found(f"path: {name}")
    assert told.startswith(f"r.yaml:5: corpora.sources.mine.path: {tmp_path}/")
    assert says in told


@pytest.mark.parametrize("name", ["gbk.jsonl", "gbk.csv", "gbk.txt", "gbk.csv.gz"])
def test_rows_in_another_encoding_are_told_with_its_name(name: str) -> None:
    """hiyouga/LLaMA-Factory#7016: the first line may be ASCII."""
    rows = {
        "jsonl": '{"text": "这家酒店很好，下次还会再来"}\n' * 40,
        "csv": "text,label\n" + "这家酒店很好，下次还会再来,好评\n" * 40,
        "txt": "ascii\n" + "这家酒店很好，下次还会再来\n" * 40,
    }
    content = rows[name.split(".")[1]].encode("gbk")
    Path(name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    told = found(f"path: {name}")
    assert "not UTF-8: it looks like gb18030; set the source's `encoding: gb18030`" in told
    assert found(f"path: {name}\n      encoding: gb18030") == ""


def test_labels_are_looked_at_as_a_run_does() -> None:
    """ludwig-ai/ludwig#2336"""
    Path("l.jsonl").write_text('{"text": "a text", "label": ["good"]}\n' * 9)
    told = found("path: l.jsonl\n      columns: {label: label}")
    assert told.startswith("r.yaml:6: corpora.sources.mine.columns.label: ")
    assert "l.jsonl:1: the label is a list, ['good']; set finetune.multi_label: true" in told
    Path("l.jsonl").write_text('{"text": "a text", "label": 3}\n')
    keys = "path: l.jsonl\n      columns: {label: label}\n      label_map: "
    assert found(f"{keys}{{3.0: good}}") == ""
    assert "r.yaml:7: corpora.sources.mine.label_map: " in (told := found(f"{keys}{{4: good}}"))
    assert "l.jsonl:1: label '3' is not in corpora.sources.mine.label_map" in told


def test_two_columns_of_one_name_are_told() -> None:
    """apache/datafusion#24381"""
    table = pa.Table.from_arrays([["a"], ["b"], ["c"], ["d"]], names=["text", "x", "x", "label"])
    pq.write_table(table, "two.parquet")
    assert found("path: two.parquet\n      columns: {label: label}") == ""
    told = found("path: two.parquet\n      columns: {label: x}")
    assert "two.parquet: 2 columns are called 'x'; rename all but one" in told


def test_a_column_without_texts_is_told(tmp_path: Path) -> None:
    Path("stars.jsonl").write_text('{"stars": 4}\n{"stars": 5}\n')
    at = "r.yaml:6: corpora.sources.mine.columns.text"
    wrong = f"{at}: {tmp_path}/stars.jsonl:1: column 'stars' is int"
    assert found("path: stars.jsonl\n      columns: {text: stars}").startswith(wrong)
    Path("stars.jsonl").write_text('{"stars": 4}\n' * 1001 + '{"stars": "four"}\n')
    assert found("path: stars.jsonl\n      columns: {text: stars}").startswith(wrong)
    Path("stars.jsonl").write_text('{"stars": 4}\n{"stars": "four"}\n' * 600)
    assert found("path: stars.jsonl\n      columns: {text: stars}") == "", (
        "those that follow may be texts"
    )
    Path("stars.jsonl").write_text('{"stars": null}\n' * 1001)
    assert found("path: stars.jsonl\n      columns: {text: stars}") == "", (
        "further rows may have it"
    )
    Path("stars.jsonl").write_text('{"stars": null}\n' * 100)
    assert "no text in column 'stars' (unreadable: 100 of 100" in (
        found("path: stars.jsonl\n      columns: {text: stars}")
    )


def test_files_are_looked_at_as_far_as_it_takes_a_moment(tmp_path: Path) -> None:
    Path("1.jsonl").write_text('{"text": "a"}\n')
    Path("2.jsonl").write_text('{"txt": "a"}\n')
    assert f"{tmp_path}/2.jsonl:1: no column 'text'" in found("path: '[0-9].jsonl'")
    Path("1.jsonl").write_text('{"text": "a"}\n' * 1001)
    assert found("path: '[0-9].jsonl'") == ""
    Path("long.jsonl").write_text('{"other": "a"}\n' * 200 + '{"text": "a"}\n')
    assert "no column 'text'" in found("path: long.jsonl")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("path: a.jsnl", "r.yaml:5: corpora.sources.mine.path: no file matches 'a.jsnl' (looked in "
         "{here}); did you mean 'a.jsonl'?"),
        ("path: b/*.txt", "r.yaml:5: corpora.sources.mine.path: no file matches 'b/*.txt'"),
        ("path: gone/a.txt", "r.yaml:5: corpora.sources.mine.path: no file matches 'gone/a.txt'"),
        ("path: a.txt\n      package: nothing_such", "r.yaml:6: corpora.sources.mine.package: '"),
        ("path: a.odt", "r.yaml:5: corpora.sources.mine.path: {here}/a.odt: unknown ending '.odt'"),
        ("path: no.parquet", "mine.path: {here}/no.parquet: not a Parquet file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_told_with_the_line(source: str, says: str) -> None:
    Path("a.odt").write_text("a text")
    Path("no.parquet").write_text("no")
    assert says.format(here=Path.cwd()) in found(source)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["x.jsonl", "y.jsonl", "z.txt", "README"], "such as 'mine/*.jsonl'"),
        (["x.jsonl.gz"], "such as 'mine/*.jsonl.gz'"),
        (["x.tar.gz"], "such as 'mine/*.tar.gz'"),
        (["x.tgz"], "such as 'mine/*.tgz'"),
        (["2024/x.csv", "2025/x.csv"], "such as 'mine/**/*.csv'"),
        (["x.odt"], "none in it has a known ending (.txt, .jsonl, "),
    ],
)
def test_a_folder_is_told_from_a_file(files: list[str], says: str) -> None:
    for file in files:
        path = Path("mine") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for given in ("mine", "mine/"):
        wrong = found(f"path: {given}")
        assert f"mine.path: '{given}' is a folder; give its files" in wrong
    assert says in found("path: mine")


def test_what_is_elsewhere_is_not_looked_at() -> None:
    assert found("path: s3://bucket/gone.jsonl") == ""
    assert found("dataset: some/where") == ""


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ("path: a.csv\n      columns:\n        text: review\n        label: stars\n"
         "finetune: {base: /no/where}", "9: finetune.base"),
        ("path: a.txt\n  tokenizer: {base: ./gone}\npretrain: {base: ./gone}", "7: pretrain.base"),
        ("path: a.txt\n  tokenizer: {base: ~/gone}", "6: corpora.tokenizer.base"),
        ("dataset: ./gone", "5: corpora.sources.mine.dataset"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_there_is_told(keys: str, at: str) -> None:
    name = keys.split()[-1].strip("}")
    assert f"r.yaml:{at}: no such folder '{name}'" in found(keys)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("finetune: {base: ./own}", "finetune.base"),
        ("pretrain: {base: ./own}", "pretrain.base"),
        ("pretrain: {like: ./own}", "pretrain.like"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_model_is_told(section: str, key: str) -> None:
    Path("own").mkdir()
    columns = "columns: {text: review, label: stars}"
    keys = f"path: a.csv\n      {columns}\n  tokenizer: {{base: ./own}}"
    told = (
        f"{key}: the folder './own' has no config.json; if a recipe's model of this name is meant, "
        "give its id (model/...)"
    )
    assert told in found(f"{keys}\n{section}")
    (Path("own") / "config.json").touch()
    assert found(f"{keys}\n{section}") == ""


def test_a_look_at_an_evaluation_set(tmp_path: Path) -> None:
    Path("a.odt").touch()
    Path("none.jsonl").touch()
    Path("cut.jsonl").write_text('{"sentence": ')
    Path("late.jsonl").write_text('{"sentence": "a"}\n{"sentence": ')
    for name, says in (
        ("gone.jsonl", "no file matches 'gone.j"),
        ("a.odt", f"{tmp_path}/a.odt: unknown ending '.odt'"),
        ("cut.jsonl", f"{tmp_path}/cut.jsonl:1: not JSON"),
        ("late.jsonl", f"{tmp_path}/late.jsonl:2: not JSON"),
    ):
        wrong = found(f"path: a.txt\n  decontaminate: {{files: [a.jsonl, none.jsonl, {name}]}}")
        assert wrong.startswith(f"r.yaml:6: corpora.decontaminate.files: {says}")


def test_one_label_for_all_is_refused_for_a_classifier() -> None:
    one = "path: a.csv\n      columns: {text: review}\n      label: stars\nfinetune: {base: b}"
    assert found(one).startswith(
        "r.yaml:7: corpora.sources.mine.label: every labelled document has the label 'stars'"
    )
    two = "\n    yours: {path: a.txt, label: other}"
    assert found(one.replace("\nfinetune", f"{two}\nfinetune")) == ""
    assert found(one.partition("\nfinetune")[0]) == "", "only pretraining needs no labels"


def test_looking_imports_neither_torch_nor_ray() -> None:
    code = """
import sys
from cluster.cli.main import main
assert main(["check", "r.yaml"]) == 0
print([name for name in ("torch", "ray", "transformers", "datasets") if name in sys.modules])
"""
    Path("a.jsonl").write_text("".join(f'{{"review": "text {n}"}}\n' for n in range(500)))
    assert found("path: a.jsonl\n      columns: {text: review}") == ""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


FINETUNE = "\nfinetune: {base: some/model}"
TWO = '{"text": "很好", "label": "good"}\n{"text": "很差", "label": "bad"}\n'


def test_a_column_that_is_called_so_needs_no_entry() -> None:
    Path("own.jsonl").write_text(TWO, "utf-8")
    assert found(f"path: own.jsonl{FINETUNE}") == ""
    recipe = load("r.yaml")
    assert recipe.corpora.example_sources(recipe)["mine"].wanted == {
        "text": "text",
        "label": "label",
    }
    assert not load("r.yaml", ["finetune=null"]).corpora.example_sources(Recipe(name="plain"))
    told = found(f"path: own.jsonl\n      columns: {{label: null}}{FINETUNE}")
    assert told.startswith("r.yaml:3: corpora.sources: finetune needs labels: give")
    assert "finetune needs labels" in found(
        f"path: a.jsonl\n      columns: {{text: review}}{FINETUNE}"
    )


def test_a_column_for_what_no_row_has_is_told_with_the_nearest() -> None:
    told = found(f"path: own.jsonl\n      columns: {{lable: stars}}{FINETUNE}")
    assert told == (
        "r.yaml:6: corpora.sources.mine.columns.lable: columns are written {text: NAME OF THE "
        "COLUMN}, and a row has group, label, text; did you mean 'label'?"
    )


def test_what_is_said_of_labels_needs_some() -> None:
    Path("plain.jsonl").write_text('{"text": "很好"}\n', "utf-8")
    Path("own.jsonl").write_text(TWO, "utf-8")
    more = "\n    more: {path: own.jsonl}"
    for key in ("split: test", "label_map: {a: b}"):
        told = found(f"path: plain.jsonl\n      {key}{more}{FINETUNE}")
        name = key.partition(":")[0]
        assert told.startswith(f"r.yaml:6: corpora.sources.mine.{name}: is for labelled documents")


def test_lists_of_labels_need_a_task_that_takes_them() -> None:
    Path("own.jsonl").write_text(TWO.replace('"good"', '["good", "bad"]'), "utf-8")
    told = found(f"path: own.jsonl{FINETUNE}")
    assert "mine.columns.label: " in told
    assert told.endswith(
        "own.jsonl:1: the label is a list, ['good', 'bad']; set finetune.multi_label: true"
    )
    assert found("path: own.jsonl\nfinetune: {base: some/model, multi_label: true}") == ""
