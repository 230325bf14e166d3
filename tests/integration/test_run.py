"""One recipe, corpora to endpoint; then again, and with one key changed."""

import hashlib
import json
import re

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from cluster.cli.summary import headline

STAGES = ["examples", "shard", "pretrain", "tune", "finetune", "evaluate", "promote", "serve"]


def stages(outcome):
    return {stage["stage"]: stage for stage in outcome.answer["stages"]}


def test_every_stage_is_done_and_the_endpoint_answers(first_run):
    assert [stage["stage"] for stage in first_run.answer["stages"]] == STAGES
    assert {stage["status"] for stage in first_run.answer["stages"]} == {"done"}
    found = stages(first_run)
    assert found["pretrain"]["metrics"]["workers"] == 2
    assert found["tune"]["metrics"]["trials"] == 2
    test = found["evaluate"]["metrics"]["test"]
    assert sum(map(sum, test["confusion"])) == test["documents"]
    assert len(found["evaluate"]["metrics"]["seeds"]["scratch"]["values"]) == 1
    auto = r"^{}: (\d+) x (\d+) CPUs.* \(workers x cpus_per_worker; auto\)$"
    for stage in ("pretrain", "tune", "finetune", "evaluate"):
        assert len(re.findall(auto.format(stage), first_run.stderr, re.MULTILINE)) == 1, stage
    smoke = first_run.answer["endpoint"]["smoke"]
    assert smoke["version"] == first_run.answer["endpoint"]["version"]
    assert sum(smoke["predictions"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_terminal_shows_raymills_lines_and_the_log_has_the_rest(first_run, workspace):
    made = [f"{name} {what}" for name in STAGES for what in ("model", "report")]
    known = ("tiny: ", "serve: ", *[f"{name}: " for name in STAGES], *made)
    assert all(line.startswith(known) for line in first_run.stderr.splitlines())
    assert re.search(r"^finetune model +/.*/model/tiny-finetune-\w+$", first_run.stderr, re.M)
    log = workspace / "runs" / first_run.answer["run"] / "log.txt"
    assert "RayTrainWorker" in log.read_text("utf-8")


def test_manifests_hold_the_hash_of_every_file(first_run, workspace):
    for stage in first_run.answer["stages"][:-1]:
        folder = workspace / stage["artifact"]
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        present = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
        assert set(manifest["files"]) == present
        for name, entry in manifest["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


def test_lineage_leads_from_the_deployment_to_the_corpus(first_run, workspace):
    def manifest(artifact_id):
        return json.loads((workspace / artifact_id / "manifest.json").read_text("utf-8"))

    deployment = min((workspace / "deployment").iterdir())
    promotion = manifest(manifest(f"deployment/{deployment.name}")["parents"]["promote"])
    model = manifest(promotion["parents"]["finetune"])
    base = manifest(model["parents"]["pretrain"])
    corpus = manifest(base["parents"]["shard"])
    assert corpus["kind"] == "corpus"
    assert corpus["inputs"]["corpora"]["contents"]["news"]


def test_nothing_half_made_is_left(first_run, workspace):
    assert not list(workspace.glob(".staging/*"))
    assert not list(workspace.glob("work/*"))


def test_shards_are_read_by_pyarrow_and_datasets(first_run, workspace):
    import datasets

    folder = workspace / stages(first_run)["shard"]["artifact"]
    files = sorted((folder / "train").glob("*.arrow"))
    table = pa.ipc.open_stream(pa.memory_map(str(files[0]))).read_all()
    assert table.num_rows == len(datasets.Dataset.from_file(str(files[0])))
    assert len(table["input_ids"][0]) == 64


def test_held_out_reviews_are_in_no_pretraining_shard(first_run, workspace):
    """Decoded, no training sequence holds a test review."""
    found = stages(first_run)
    corpus = workspace / found["shard"]["artifact"]
    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    test = workspace / found["examples"]["artifact"] / "test.arrow"
    texts = pa.ipc.open_stream(pa.memory_map(str(test))).read_all()["text"].to_pylist()
    long = [text for text in texts if len(text) > 15]
    assert long
    train = []
    for path in (corpus / "train").glob("*.arrow"):
        rows = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()["input_ids"].to_pylist()
        train += [tuple(row) for row in rows]
    flat = ["," + ",".join(map(str, row)) + "," for row in train]
    for text in long:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:12]
        needle = "," + ",".join(map(str, ids)) + ","
        assert not any(needle in row for row in flat)


def test_running_again_does_nothing_and_says_so(first_run, raymill, recipe, workspace):
    again = raymill("run", str(recipe), "--workspace", str(workspace), "--until", "promote")
    assert again.status == 0
    assert {stage["status"] for stage in again.answer["stages"]} == {"skipped"}
    assert "nothing to do" in again.stderr


def test_a_changed_key_redoes_only_what_depends_on_it(first_run, raymill, recipe, workspace):
    arguments = ("run", str(recipe), "--workspace", str(workspace), "--until", "promote")
    changed = raymill(*arguments, "--set", "serve.gate.accuracy=0.41")
    assert changed.status == 0
    redone = [s["stage"] for s in changed.answer["stages"] if s["status"] == "done"]
    assert redone == ["promote"]


def test_a_model_below_the_gate_is_refused(first_run, raymill, recipe, workspace):
    arguments = ("run", str(recipe), "--workspace", str(workspace), "--until", "promote")
    refused = raymill(*arguments, "--set", "serve.gate.accuracy=0.999")
    assert refused.status == 4
    assert "is below serve.gate.accuracy = 0.999" in refused.stderr


def test_status_tells_what_was_done(first_run, raymill, workspace):
    outcome = raymill("status", "tiny", "--workspace", str(workspace))
    assert outcome.status == 0
    assert "finetune: loss " in outcome.stderr
    for stage in ("pretrain", "finetune"):
        assert 0 < outcome.answer["journals"][stage]["goodput"] < 1
    assert all(headline(stage) for stage in first_run.answer["stages"]), "of metrics that exist"
    found = stages(first_run)
    for stage in ("examples", "shard"):
        page = workspace / found[stage]["artifact"] / "report.html"
        assert outcome.answer["reports"][stage] == str(page)
        assert found[stage]["artifact"] in page.read_text("utf-8")


def test_a_model_is_evaluated_and_promoted_by_hand(
    first_run, raymill, raymill_at_head, copied, tmp_path
):
    copied("examples", "finetune")
    model, own = stages(first_run)["finetune"]["artifact"], ("--workspace", str(tmp_path))
    unknown = raymill("promote", model, *own)
    assert f"run `raymill evaluate {model}` first" in unknown.stderr
    evaluated = raymill_at_head("evaluate", model, *own)
    assert evaluated.answer["test"] == stages(first_run)["evaluate"]["metrics"]["test"]
    assert "Loading weights" not in evaluated.stderr, "that is in the run's log"
    promoted = raymill("promote", model, *own, "--gate", "accuracy=0.3")
    assert promoted.answer["model"] == model


def test_an_adapter_of_a_base_from_elsewhere_is_trained_and_compared(
    first_run, raymill, raymill_at_head, recipe, copied, workspace, tmp_path
):
    """By two workers under ZeRO-3; with a model all of whose weights were trained."""
    copied("examples")
    base = workspace / stages(first_run)["pretrain"]["artifact"]
    settings = ("pretrain=null", "tune=null", "serve=null", f"finetune.base={base}")
    settings += ("finetune.evaluation.without_pretraining=false",)
    settings += ("finetune.method=lora", "finetune.workers=2", "finetune.zero={stage: 3}")
    overrides = [f"--set={setting}" for setting in settings]
    outcome = raymill_at_head("finetune", str(recipe), "--workspace", str(tmp_path), *overrides)
    assert outcome.status == 0, outcome.stderr
    assert list(stages(outcome)) == ["examples", "finetune"]
    metrics = stages(outcome)["finetune"]["metrics"]
    assert metrics["workers"] == 2
    assert metrics["trained_parameters"] < metrics["parameters"]
    tuned = tmp_path / stages(outcome)["finetune"]["artifact"]
    record = json.loads((tuned / "adapter.json").read_text("utf-8"))
    assert record["base"] == str(base)
    assert {*record["base_files"]} == {"config.json", "model.safetensors"}
    assert not (tuned / "model.safetensors").exists()
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert "FutureWarning" not in log.read_text("utf-8"), "one in every step"
    copied("finetune")
    models = [stages(outcome)["finetune"]["artifact"], stages(first_run)["finetune"]["artifact"]]
    own = ("--workspace", str(tmp_path))
    compared = raymill_at_head("evaluate", models[0], "--against", models[1], *own)
    assert compared.status == 0, compared.stderr
    difference = compared.answer["comparison"]["metrics"]["accuracy"]
    low, high = difference["interval"]
    assert low <= difference["difference"] <= high
    assert "McNemar's test: p " in compared.stderr
    reports = raymill("status", compared.answer["run"], *own).answer["reports"]
    assert [*reports] == ["evaluate", "against", "compare"]
