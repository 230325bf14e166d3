"""Every architecture is built by shape, and packs documents that do not see each other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from cluster.errors import UserError
from cluster.store.artifacts import drafting
from cluster.store.storage import Storage
from tests.objectives import CLASSIFIER, HEADS
from trainers.models.build import (
    Start,
    build,
    from_shape,
    packed_inputs,
    parameter_count,
    recompute_activations,
    refuse_longer,
    remarks,
    weights,
)
from trainers.models.shape import Shape
from trainers.tasks.pretraining.config import CAUSAL, MASKED, SUITED

TAGGER = "AutoModelForTokenClassification"
LENGTH = 24
PIECES = (7, 5, 9)
LOCAL = {"layer_types": ["sliding_attention", "full_attention"], "local_attention": 4}
"""Of a ModernBERT that attends to its neighbours, as those on the hub do."""
SHARED = {"num_key_value_heads": 1}
"""Of a model whose heads share their keys and values."""


def shape(architecture: str, **keys: Any) -> Shape:
    sizes: dict[str, Any] = {"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": LENGTH}
    return Shape.model_validate({"architecture": architecture, **sizes, **keys})


def head_of(architecture: str) -> str:
    return HEADS["causal_lm" if architecture in CAUSAL else "masked_lm"]


@pytest.mark.parametrize("architecture", [*MASKED, *CAUSAL, "t5"])
def test_a_shape_becomes_the_config_of_its_architecture(architecture: str, tokenizer: Any) -> None:
    config = from_shape(shape(architecture, dropout=0.25, intermediate_size=40), tokenizer)
    assert config.model_type == architecture
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 2, 2)
    assert config.vocab_size == len(tokenizer)
    assert config.pad_token_id == tokenizer.pad_token_id
    assert 40 in [getattr(config, key, None) for key in ("intermediate_size", "n_inner", "d_ff")]
    dropouts = {
        key: value
        for key, value in config.to_dict().items()
        if key.endswith(("dropout", "dropout_prob", "_pdrop", "dropout_rate"))
        and not key.startswith(("classifier", "summary"))
    }
    assert set(dropouts.values()) == {0.25}, dropouts


@pytest.mark.parametrize(("architecture", "width"), [("bert", 128), ("llama", 96)])
def test_the_default_width_is_the_architectures_usual_one(
    architecture: str, width: int, tokenizer: Any
) -> None:
    assert from_shape(shape(architecture), tokenizer).intermediate_size == width


def test_heads_share_keys_and_values_in_groups(tokenizer: Any) -> None:
    for architecture in ("llama", "qwen3"):
        config = from_shape(shape(architecture, kv_heads=1), tokenizer)
        assert (config.num_attention_heads, config.num_key_value_heads) == (2, 1)
        assert from_shape(shape(architecture), tokenizer).num_key_value_heads == 2


def test_further_keys_of_the_config_are_taken_and_unknown_ones_refused(tokenizer: Any) -> None:
    made = from_shape(shape("modernbert", config={"classifier_pooling": "mean"}), tokenizer)
    assert made.classifier_pooling == "mean"
    with pytest.raises(UserError, match=r"pretrain\.model\.config\.classifier_poling: no such key"):
        from_shape(shape("modernbert", config={"classifier_poling": "mean"}), tokenizer)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [(architecture, {}) for architecture in (*MASKED, *CAUSAL)]
    + [("modernbert", LOCAL), ("qwen3", SHARED)],
)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(
    architecture: str, config: dict[str, Any], tokenizer: Any
) -> None:
    """The logits of a packed sequence are those of its documents, each by itself."""
    torch.manual_seed(0)
    start = Start(shape=shape(architecture, config=config))
    model = build(start, head_of(architecture), tokenizer).eval()
    documents = [torch.randint(5, len(tokenizer), (count,)) for count in PIECES]
    ids = torch.full((2, LENGTH), tokenizer.pad_token_id)
    segments = torch.zeros(2, LENGTH, dtype=torch.long)
    for row, order in enumerate(([0, 1, 2], [2, 0])):
        at = 0
        for number, document in enumerate((documents[index] for index in order), start=1):
            ids[row, at : at + len(document)] = document
            segments[row, at : at + len(document)] = number
            at += len(document)
    logits = model(**packed_inputs(model, ids, segments)).logits
    assert logits.isfinite().all(), "padding too, or gradients are not numbers"
    for row, number, index in ((0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 2), (1, 2, 0)):
        alone = model(
            input_ids=documents[index][None], attention_mask=torch.ones(1, PIECES[index])
        ).logits[0]
        torch.testing.assert_close(logits[row, segments[row] == number], alone)


def test_positions_restart_with_each_document(tokenizer: Any) -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0, 0]])
    ids = torch.zeros_like(segments)
    for architecture, first in (("bert", 0), ("roberta", 1 + tokenizer.pad_token_id)):
        model = build(Start(shape=shape(architecture)), "AutoModelForMaskedLM", tokenizer)
        found = packed_inputs(model, ids, segments)["position_ids"][0]
        assert (found - first).tolist() == [0, 1, 2, 0, 1, 0, 1]


def test_a_saved_model_is_plain_transformers_and_a_start(tokenizer: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(Start(shape=shape("bert")), "AutoModelForMaskedLM", tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path)
    again = build(Start(base=str(tmp_path)), "AutoModelForMaskedLM", tokenizer)
    for name, weight in model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], weight)
        assert torch.equal(again.state_dict()[name], weight)
    classifier = build(Start(base=str(tmp_path)), CLASSIFIER, tokenizer, num_labels=3)
    assert isinstance(
        classifier, type(AutoModelForSequenceClassification.from_config(plain.config))
    )
    assert classifier.config.num_labels == 3
    body = dict(model.base_model.named_parameters())
    for name, weight in classifier.base_model.named_parameters():
        assert name.startswith("pooler") or torch.equal(weight, body[name])


@pytest.mark.parametrize("head", ["AutoModelForMaskedLM", CLASSIFIER])
def test_an_outline_reads_no_weights(head: str, tokenizer: Any, tmp_path: Path) -> None:
    made = build(Start(shape=shape("bert")), "AutoModelForMaskedLM", tokenizer)
    made.config.save_pretrained(tmp_path)
    keys = {"num_labels": 3, "head_dropout": 0.5} if head == CLASSIFIER else {}
    for start in (Start(base=str(tmp_path)), Start(shape=shape("bert"))):
        with torch.device("meta"):
            outline = build(start, head, tokenizer, **keys)
        assert all(weight.is_meta for weight in outline.parameters())
        if head == CLASSIFIER:
            assert (outline.config.num_labels, outline.config.classifier_dropout) == (3, 0.5)
        else:
            assert parameter_count(outline) == parameter_count(made)


def test_a_model_of_fewer_tokens_than_its_tokenizer_is_refused(
    tokenizer: Any, tmp_path: Path
) -> None:
    small = build(
        Start(shape=shape("bert", config={"vocab_size": 50})), "AutoModelForMaskedLM", tokenizer
    )
    small.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"knows 50 tokens, its tokenizer has {len(tokenizer)}"):
        build(Start(base=str(tmp_path)), "AutoModelForMaskedLM", tokenizer)


@pytest.mark.parametrize(("architecture", "positions"), [("bert", 64), ("roberta", 64)])
def test_sequences_beyond_the_positions_are_refused(
    architecture: str, positions: int, tokenizer: Any
) -> None:
    start = Start(shape=shape(architecture, max_positions=positions))
    model = build(start, "AutoModelForMaskedLM", tokenizer)
    refuse_longer(model, "finetune.max_length", positions)
    with pytest.raises(UserError, match=r"finetune\.max_length: 65 is over the 64 positions"):
        refuse_longer(model, "finetune.max_length", positions + 1)


@pytest.mark.parametrize(
    ("kind", "key"), [("distilbert", "seq_classif_dropout"), ("bert", "classifier_dropout")]
)
def test_dropout_has_the_bases_own_name(
    kind: str, key: str, tokenizer: Any, tmp_path: Path
) -> None:
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 16, "dim": 16, "hidden_dim": 32}
    heads = {"num_attention_heads": 2, "n_heads": 2, "n_layers": 1, "num_hidden_layers": 1}
    config = AutoConfig.for_model(kind, **sizes, **heads, intermediate_size=32)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    model = build(Start(base=str(tmp_path)), CLASSIFIER, tokenizer, head_dropout=0.3)
    assert getattr(model.config, key) == 0.3


@pytest.mark.parametrize("architecture", ["modernbert", "bert", "roberta", "electra", "llama"])
def test_a_head_for_other_labels_begins_anew(
    architecture: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Else the row of one label would go on as that of another; of as many labels or more."""
    base = labelled(Start(shape(architecture)), CLASSIFIER, tokenizer, "bad", "good")
    base.save_pretrained(tmp_path)
    start = Start(base=str(tmp_path))
    same = labelled(start, CLASSIFIER, tokenizer, "bad", "good")
    other = labelled(start, CLASSIFIER, tokenizer, "good", "book")
    more = labelled(start, CLASSIFIER, tokenizer, "bad", "good", "book")
    known = logits(base)
    assert torch.allclose(logits(same), known, atol=1e-6), "it goes on"
    assert not torch.isclose(logits(other), known).any()
    assert logits(more).shape == (1, 3)
    assert remarks(same) == ()
    for model in (other, more):
        (remark,) = remarks(model)
        assert remark.startswith(f"the last layer of {tmp_path} was for other labels")
    weights = more.base_model.state_dict()
    for name, value in base.base_model.state_dict().items():
        assert torch.equal(weights[name], value), name


@pytest.mark.parametrize("architecture", ["modernbert", "bert", "roberta", "electra", "llama"])
@pytest.mark.parametrize(("before", "after"), [(CLASSIFIER, TAGGER), (TAGGER, CLASSIFIER)])
@pytest.mark.parametrize("labels", [("bad", "good"), ("O", "B-x", "I-x")])
def test_of_another_tasks_model_all_but_the_head_is_taken(
    architecture: str,
    before: str,
    after: str,
    labels: tuple[str, ...],
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    """Also where the heads have weights of the same names, sizes and labels."""
    base = labelled(Start(shape(architecture)), before, tokenizer, "bad", "good")
    base.save_pretrained(tmp_path)
    model = labelled(Start(base=str(tmp_path)), after, tokenizer, *labels)
    assert logits(model).shape[-1] == len(labels)
    assert remarks(model) == (f"the head of {tmp_path} was for another task, and begins anew",)
    body = {f"{model.base_model_prefix}.{name}" for name in model.base_model.state_dict()}
    known, found = base.state_dict(), model.state_dict()
    assert len(body & known.keys()) > 10
    for name in found.keys() & known.keys():
        if name in body:
            assert torch.equal(found[name], known[name]), name
        elif found[name].dim() == 2:
            assert not torch.equal(found[name], known[name]), name


def labelled(start: Start, head: str, tokenizer: Any, *labels: str) -> Any:
    numbers = {label: number for number, label in enumerate(labels)}
    names = {"id2label": dict(enumerate(labels)), "label2id": numbers}
    return build(start, head, tokenizer, num_labels=len(labels), **names)


def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(torch.tensor([[5, 6, 7]])).logits
    return found


@pytest.mark.parametrize("before", ["AutoModelForMaskedLM", TAGGER])
def test_weights_of_other_sizes_than_the_config_says_are_not_begun_anew(
    before: str, tokenizer: Any, tmp_path: Path
) -> None:
    build(Start(shape("bert")), before, tokenizer).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.update({"intermediate_size": config.intermediate_size + 8})
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is damaged: bert\.encoder.* has the sizes \[128\]"):
        build(Start(base=str(tmp_path)), CLASSIFIER, tokenizer, num_labels=2)


def test_a_base_of_other_bytes_than_its_manifest_says_is_refused(
    tokenizer: Any, tmp_path: Path
) -> None:
    made, other = (labelled(Start(shape("bert")), CLASSIFIER, tokenizer, "a", "b") for _ in "12")
    storage = Storage.at(str(tmp_path))
    with drafting(storage, "model/demo-finetune-0a") as draft:
        with draft.folder() as folder:
            made.save_pretrained(folder)
        base = draft.publish(recipe="demo", stage="finetune", parents={}, inputs={}, metrics={})
    start = Start(base=str(base.path))
    labelled(start, TAGGER, tokenizer, "a", "b")
    other.save_pretrained(base.path)
    with pytest.raises(UserError, match=r"0a is damaged: model\.safetensors has other bytes"):
        labelled(start, TAGGER, tokenizer, "a", "b")
    with torch.device("meta"):
        labelled(start, TAGGER, tokenizer, "a", "b")


@pytest.mark.parametrize("architecture", [*MASKED, *CAUSAL, "t5"])
def test_one_like_another_has_its_config_and_the_corpus_tokens(
    architecture: str, tokenizer: Any, tmp_path: Path
) -> None:
    head = "AutoModelForSeq2SeqLM" if architecture == "t5" else head_of(architecture)
    other = from_shape(shape(architecture, intermediate_size=40), tokenizer)
    other.update({"vocab_size": 50_000, "pad_token_id": 49_999, "dtype": "bfloat16"})
    other.save_pretrained(tmp_path)
    model = build(Start(like=str(tmp_path)), head, tokenizer)
    assert model.config.model_type == architecture
    assert (model.config.vocab_size, model.config.pad_token_id) == (
        len(tokenizer),
        tokenizer.pad_token_id,
    )
    known = build(Start(shape(architecture, intermediate_size=40)), head, tokenizer)
    if architecture != "roberta":  # whose positions count on from the padding token
        assert parameter_count(model) == parameter_count(known)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_one_like_nothing_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"like: cannot load '.*nothing'"):
        build(Start(like=str(tmp_path / "nothing")), "AutoModelForMaskedLM", tokenizer)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    with pytest.raises(UserError, match=r"like: cannot load .*'hidden_size' expected int"):
        build(Start(like=str(tmp_path)), "AutoModelForCausalLM", tokenizer)


def test_weights_that_are_not_there_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base: cannot load '.*nothing'"):
        build(Start(base=str(tmp_path / "nothing")), "AutoModelForMaskedLM", tokenizer)


def test_tied_weights_count_once(tokenizer: Any) -> None:
    tied, untied = (
        parameter_count(
            build(
                Start(shape=shape("llama", config={"tie_word_embeddings": tie})),
                "AutoModelForCausalLM",
                tokenizer,
            )
        )
        for tie in (True, False)
    )
    assert untied - tied == 32 * len(tokenizer)


@pytest.mark.parametrize("architecture", get_args(Shape.model_fields["architecture"].annotation))
def test_weights_are_those_that_transformers_saves(
    architecture: str, tokenizer: Any, tmp_path: Path
) -> None:
    objective = next(name for name, suited in SUITED.items() if architecture in suited)
    for head in (HEADS[objective], CLASSIFIER):
        model = build(Start(shape=shape(architecture)), head, tokenizer)
        model.save_pretrained(tmp_path / head)
        assert weights(model).keys() == load_file(tmp_path / head / "model.safetensors").keys()


def test_activations_of_all_parts_are_computed_again(tokenizer: Any) -> None:
    pair = SimpleNamespace(
        parts={
            name: build(Start(shape=shape("electra")), "AutoModelForMaskedLM", tokenizer)
            for name in ("", "generator")
        }
    )
    recompute_activations(pair)
    assert all(part.is_gradient_checkpointing for part in pair.parts.values())
