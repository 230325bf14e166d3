"""The user's mistakes: one clear line, exit status 2, before any long work, nothing left behind."""

import socket


def bad(tmp_path, raymill, recipe, edit=None, *arguments):
    """Runs the tiny recipe after an edit of its text, in a workspace of its own."""
    path = tmp_path / "bad.yaml"
    text = recipe.read_text("utf-8")
    path.write_text(edit(text) if edit else text, "utf-8")
    workspace = tmp_path / "workspace"
    outcome = raymill("run", str(path), "--workspace", str(workspace), "--no-hold", *arguments)
    assert "Traceback" not in outcome.stderr
    kinds = {made.parent.name for made in workspace.glob("[a-z]*/*")}
    assert kinds <= {"runs", "examples"}, "labelled documents may be whole already"
    assert not list(workspace.glob(".staging/*"))
    return outcome


def test_more_workers_than_cpus(tmp_path, raymill_at_head, recipe):
    outcome = bad(tmp_path, raymill_at_head, recipe, None, "--set", "pretrain.workers=16")
    assert outcome.status == 2
    assert "pretrain.workers: needs 16 CPUs" in outcome.stderr


def test_port_in_use(tmp_path, raymill, recipe):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = bad(tmp_path, raymill, recipe, None, "--set", f"serve.port={port}")
    assert outcome.status == 2
    assert f"serve.port: 127.0.0.1:{port}" in outcome.stderr


def test_bad_labelled_file(tmp_path, raymill, recipe, data):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "a", "label": "good"}\n{"text": \n')
    outcome = bad(
        tmp_path, raymill, recipe, lambda text: text.replace(f"{data}/reviews.jsonl.gz", str(path))
    )
    assert outcome.status == 2
    assert "broken.jsonl:2" in outcome.stderr


def test_bad_file_that_a_task_reads(tmp_path, raymill, recipe, data):
    path = tmp_path / "news.jsonl"
    path.write_text('{"text": "一"}\n{"text": \n')
    outcome = bad(
        tmp_path,
        raymill,
        recipe,
        lambda text: text.replace(f"{data}/news.txt", str(path)),
        *("--set=finetune=null", "--set=tune=null", "--set=serve=null"),
    )
    assert outcome.status == 2
    assert "news.jsonl:2: not JSON" in outcome.stderr


def test_base_without_a_model_in_a_search(first_run, raymill_at_head, recipe, copied, tmp_path):
    """Which every trial finds out."""
    copied("examples")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    settings = ("pretrain=null", f"finetune.base={base}", "serve=null", "tune.trials=1")
    settings += ("finetune.evaluation.without_pretraining=false",)
    overrides = [f"--set={setting}" for setting in settings]
    outcome = raymill_at_head("tune", str(recipe), "--workspace", str(tmp_path), *overrides)
    assert outcome.status == 2
    assert "finetune.base: no tokenizer in" in outcome.stderr


def test_corpus_that_cleaning_empties(tmp_path, raymill_at_head, recipe):
    outcome = bad(
        tmp_path, raymill_at_head, recipe, None, "--set", "corpora.clean.min_characters=99999"
    )
    assert outcome.status == 2
    assert "found no documents" in outcome.stderr


def test_no_ray_at_the_address(tmp_path, raymill, recipe):
    outcome = bad(tmp_path, raymill, recipe, None, "--address", "127.0.0.1:1")
    assert outcome.status == 2
    assert "--address 127.0.0.1:1: no Ray answers there" in outcome.stderr
