from collections.abc import Callable
from typing import Any

import pytest

from cluster import __version__
from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.artifacts import MANIFEST, Artifact, drafting, fingerprint
from cluster.store.storage import Storage
from tests.fakes import published

INPUTS = {"seed": 7, "finetune": {"learning_rate": 1e-4, "labels": ["好", "坏"]}}
PARENTS = {"examples": "examples/demo-examples-0123456789ab"}


def test_a_fingerprint_is_twelve_digits_that_stay() -> None:
    """It names artifacts on users' storage: another value is another schema version."""
    assert fingerprint("model", {"seed": 7}, {}) == "a42b8558df9d"
    assert fingerprint("model", INPUTS, PARENTS) == fingerprint("model", dict(INPUTS), PARENTS)


@pytest.mark.parametrize(
    ("kind", "inputs", "parents"),
    [
        ("sweep", INPUTS, PARENTS),
        ("model", {**INPUTS, "seed": 8}, PARENTS),
        ("model", {**INPUTS, "finetune": {"learning_rate": 2e-4, "labels": ["好", "坏"]}}, PARENTS),
        ("model", {**INPUTS, "finetune": {"learning_rate": 1e-4, "labels": ["坏", "好"]}}, PARENTS),
        ("model", {"seed": 7}, PARENTS),
        ("model", INPUTS, {}),
        ("model", INPUTS, {"examples": "examples/demo-examples-ba9876543210"}),
        ("model", INPUTS, {**PARENTS, "tune": "sweep/demo-tune-0123456789ab"}),
    ],
)
def test_a_fingerprint_changes_with_each_input_and_parent(
    kind: str, inputs: dict[str, Any], parents: dict[str, str]
) -> None:
    assert fingerprint(kind, inputs, parents) != fingerprint("model", INPUTS, PARENTS)


def test_a_fingerprint_knows_no_recipe_name() -> None:
    """The same work under another name is the same."""
    renamed = {"examples": "examples/other-name-examples-0123456789ab"}
    assert fingerprint("model", INPUTS, renamed) == fingerprint("model", INPUTS, PARENTS)


def test_a_published_artifact_is_found_with_all_it_is(storage: Storage) -> None:
    made = published(
        storage, "model/demo-finetune-0a1b", {"deep/config.json": "{}"}, PARENTS, {"accuracy": 0.5}
    )
    found = artifacts.find(storage, "model/demo-finetune-0a1b")
    assert found == made
    assert (found.id, found.version) == ("model/demo-finetune-0a1b", "0a1b")
    manifest = found.manifest
    assert (manifest.kind, manifest.recipe, manifest.stage) == ("model", "demo", "finetune")
    assert (manifest.parents, manifest.metrics) == (PARENTS, {"accuracy": 0.5})
    assert manifest.files == {
        "deep/config.json": {"sha256": storage.sha256(f"{made.id}/deep/config.json"), "bytes": 2}
    }
    assert {"raymill", "python", "ray", "torch"} <= set(manifest.software)
    assert (found.path / "deep" / "config.json").read_text() == "{}"


def test_nothing_is_an_artifact_before_its_manifest(storage: Storage) -> None:
    with drafting(storage, "model/demo-finetune-0a1b") as draft:
        with draft.folder() as folder:
            (folder / "config.json").write_text("{}")
        assert artifacts.find(storage, draft.id) is None
        assert artifacts.listed(storage, "model") == []
        draft.publish(recipe="demo", stage="finetune", parents={}, inputs={}, metrics={})
        assert artifacts.find(storage, draft.id) is not None
    assert set(storage.files("")) == {f"{draft.id}/config.json", f"{draft.id}/{MANIFEST}"}


def raised() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("ending", [raised, lambda: None], ids=["interrupted", "never published"])
def test_what_is_not_published_leaves_nothing(storage: Storage, ending: Callable[[], None]) -> None:
    def work() -> None:
        with drafting(storage, "model/demo-finetune-0a1b") as draft:
            with draft.folder() as folder:
                (folder / "config.json").write_text("{}")
            ending()

    if ending is raised:
        with pytest.raises(KeyboardInterrupt):
            work()
    else:
        work()
    assert storage.files("") == {}


def test_a_draft_begins_empty_after_a_killed_run(storage: Storage) -> None:
    draft = artifacts.Draft(storage, "model/demo-finetune-0a1b")
    with draft.folder() as folder:
        (folder / "half.bin").write_text("")
    made = published(storage, draft.id, {"whole.bin": ""})
    assert list(made.manifest.files) == ["whole.bin"]


def test_checkpoints_outlive_a_draft_until_the_artifact_is_there(storage: Storage) -> None:
    checkpoint = "work/demo-finetune-0a1b/step-1/record.json"
    with drafting(storage, "model/demo-finetune-0a1b") as draft:
        storage.write(f"{draft.work}/step-1/record.json", b"{}")
    assert list(storage.files("")) == [checkpoint]
    published(storage, draft.id, {"whole.bin": ""})
    assert not storage.files("checkpoint")


def _left_by_a_killed_run(storage: Storage) -> None:
    draft = artifacts.Draft(storage, "corpus/demo-shard-0a1b", resumes=True)
    draft.begin()
    with draft.working("documents") as folder:
        (folder / "0.arrow").write_text("")
    with draft.folder() as folder:
        (folder / "0.arrow").write_text("")


def test_a_run_goes_on_from_the_work_of_the_same_software(storage: Storage) -> None:
    _left_by_a_killed_run(storage)
    with drafting(storage, "corpus/demo-shard-0a1b", resumes=True) as draft:
        assert draft.outdated == ""
        assert draft.worked("documents").names() == ["0.arrow"]
        assert list(storage.files(draft.place)) == ["0.arrow"]


def test_work_of_other_software_is_deleted_and_told(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _left_by_a_killed_run(storage)
    monkeypatch.setattr(artifacts, "_software", lambda: {"raymill": "9.9"})
    with drafting(storage, "corpus/demo-shard-0a1b", resumes=True) as draft:
        assert draft.outdated == f"raymill {__version__} (now 9.9)"
        assert draft.worked("documents").names() == []
        assert storage.files(draft.place) == {}
    with drafting(storage, draft.id, resumes=True) as again:
        assert again.outdated == "", "it is of this software now"


def test_a_failure_after_publishing_keeps_the_artifact(storage: Storage) -> None:
    def work() -> None:
        with drafting(storage, "model/demo-finetune-0a1b") as draft:
            draft.publish(recipe="demo", stage="finetune", parents={}, inputs={}, metrics={})
            raised()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert artifacts.find(storage, "model/demo-finetune-0a1b") is not None


def test_a_manifest_of_another_schema_is_refused(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published(storage, "model/demo-finetune-0a1b")
    monkeypatch.setattr(artifacts, "SCHEMA_VERSION", 2)
    with pytest.raises(UserError, match="manifest of schema 1, this raymill reads 2"):
        artifacts.find(storage, made.id)


@pytest.mark.parametrize("content", [b"", b'{"id": "mod', b'{"\xe1'])
def test_a_damaged_manifest_is_named_with_the_remedy(storage: Storage, content: bytes) -> None:
    made = published(storage, "model/demo-finetune-0a1b")
    storage.write(f"{made.id}/manifest.json", content)
    told = f"{storage.root}/{made.id}/manifest.json is damaged .*; delete that folder, and run"
    with pytest.raises(UserError, match=told):
        artifacts.listed(storage, "model")


def test_artifacts_are_listed_the_oldest_first(storage: Storage, three: list[Artifact]) -> None:
    assert artifacts.listed(storage, "model") == three
    assert artifacts.listed(storage, "corpus") == []


def test_the_lineage_holds_every_ancestor_the_nearest_first(storage: Storage) -> None:
    corpus = published(storage, "corpus/demo-shard-01")
    base = published(storage, "model/demo-pretrain-02", parents={"shard": corpus.id})
    examples = published(storage, "examples/demo-examples-03")
    parents = {"examples": examples.id, "pretrain": base.id}
    sweep = published(storage, "sweep/demo-tune-04", parents=parents)
    model = published(storage, "model/demo-finetune-05", parents={**parents, "tune": sweep.id})
    assert artifacts.lineage(model) == {
        "examples": examples.id,
        "pretrain": base.id,
        "tune": sweep.id,
        "shard": corpus.id,
    }
    storage.delete(base.id)
    assert "pretrain" in artifacts.lineage(model), "what is deleted is named all the same"


def test_the_lineage_of_a_chain_names_every_base(storage: Storage) -> None:
    """Pretrained in one recipe, taught in a second, and then in a third."""
    corpus = published(storage, "corpus/first-shard-01")
    first = published(storage, "model/first-pretrain-02", parents={"shard": corpus.id})
    examples = published(storage, "examples/second-examples-03")
    parents = {"examples": examples.id, "base": first.id}
    second = published(storage, "model/second-finetune-04", parents=parents)
    other = published(storage, "examples/third-examples-05")
    parents = {"examples": other.id, "base": second.id}
    third = published(storage, "model/third-finetune-06", parents=parents)
    assert artifacts.lineage(third) == {
        "examples": other.id,
        "base": second.id,
        "base.examples": examples.id,
        "base.base": first.id,
        "base.base.shard": corpus.id,
    }
