"""Build models: from scratch by shape, or from a folder or hub id. Always in fp32; engines cast."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from cluster.errors import UserError
from trainers.methods.loading import whole
from trainers.models import packed_attention
from trainers.models.lean_imports import transformers
from trainers.models.published import refuse_other_bytes
from trainers.models.shape import Shape
from trainers.models.sizing import NoSuchSize, sized
from trainers.parallel.sequence_parallel import local_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PACKABLE = (
    "bert", "roberta", "xlm-roberta", "electra", "modernbert",
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "t5",
)  # fmt: skip
"""Model types that take a block-diagonal attention mask and positions that restart."""
HEAD_DROPOUT = ("classifier_dropout", "seq_classif_dropout", "cls_dropout")
"""What Transformers' configs call the dropout before the head."""
TASK_HEADS = (
    *("ForSequenceClassification", "ForTokenClassification"),
    *("ForMultipleChoice", "ForQuestionAnswering"),
)
"""What ends the names of Transformers' classes whose head is of a task, by which it has a meaning
that another task's has not."""
INNER = {"gpt2": "n_inner", "t5": "d_ff"}
"""What Transformers' configs call the width of the feed-forward layers, else intermediate_size."""
HIDDEN_DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "electra": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "modernbert": ("embedding_dropout", "mlp_dropout", "attention_dropout"),
    "gpt2": ("embd_pdrop", "resid_pdrop", "attn_pdrop"),
    "llama": ("attention_dropout",),
    "qwen3": ("attention_dropout",),
    "t5": ("dropout_rate",),
}


@dataclasses.dataclass(frozen=True)
class Start:
    """What training starts from: random weights of a shape, or of another model's config, or the
    weights in a folder."""

    shape: Shape | None = None
    like: str | None = None
    """A folder or hub id, of which the config is taken."""
    base: str | None = None
    """A folder or hub id."""

    @property
    def key(self) -> str:
        """The recipe's key that says so."""
        return "model" if self.shape is not None else "like" if self.base is None else "base"


def build(
    start: Start, head: str, tokenizer: "PreTrainedTokenizerFast", **config: Any
) -> "PreTrainedModel":
    """The model with a head, which is the name of a class of Transformers; `config` are keys of the
    Transformers config, and `head_dropout`, whatever that calls it.

    A base's head for another task begins anew, and its last layer where it was for other labels:
    `remarks` tell. Under `torch.device("meta")` a model has no weights, and none are read.
    Raises UserError if the weights cannot be read or are damaged, or keys do not exist.
    """
    kind = getattr(transformers, head)
    if start.shape is not None:
        return kind.from_config(from_shape(start.shape, tokenizer, **config))
    key, source = start.key, start.like if start.base is None else start.base
    assert source is not None
    try:
        known_config = transformers.AutoConfig.from_pretrained(source)
        named = _named_for(known_config, config)
        if start.base is None:
            named |= _of_tokenizer(known_config, tokenizer)
        if start.base is None or torch.get_default_device().type == "meta":
            known_config = transformers.AutoConfig.from_pretrained(source, **named)
            model = kind.from_config(known_config, dtype=torch.float32)
        else:
            if os.environ.get("LOCAL_RANK", "0") == "0":  # once a node
                refuse_other_bytes(Path(source))
            with whole(source) as folder:
                anew = _to_begin_anew(known_config, head, config)
                model = _loaded(folder, source, kind, named, anew)
    except (OSError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{key}: cannot load {source!r}: {reason}") from error
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UserError(
            f"base: {source!r} knows {known} tokens, its tokenizer has {len(tokenizer)}"
        )
    return model


def architecture_of(start: Start) -> Any:
    """The Transformers config of the model's architecture: of a shape without its sizes. Raises
    UserError if it cannot be read."""
    if start.shape is not None:
        return transformers.AutoConfig.for_model(start.shape.architecture)
    source = start.like if start.base is None else start.base
    assert source is not None
    try:
        return transformers.AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{start.key}: cannot load {source!r}: {reason}") from error


def remark(model: Any, text: str) -> None:
    """Keeps what is to be told of a model that was just built."""
    model.remarks = (*remarks(model), text)


def remarks(model: Any) -> tuple[str, ...]:
    """What is to be told of a model that was just built, such as what of its base it did not take;
    for people."""
    kept: tuple[str, ...] = getattr(model, "remarks", ())
    return kept


HeadPart = Literal["head", "last layer"]


def _to_begin_anew(known: Any, head: str, config: dict[str, Any]) -> HeadPart | None:
    """What of a base's head has another meaning than in the model to be, by the base's config."""
    kind = head.removeprefix("AutoModel")
    heads = {end for name in known.architectures or () for end in TASK_HEADS if name.endswith(end)}
    if kind not in TASK_HEADS or not heads:
        return None
    if kind not in heads:
        return "head"
    return "last layer" if config.get("label2id", known.label2id) != known.label2id else None


def _loaded(
    folder: str, source: str, kind: Any, config: dict[str, Any], anew: HeadPart | None
) -> Any:
    """The model in a folder or of a hub id, made of this source; `absent_in_base` names the weights
    that are not in it. Raises UserError where other weights than those that begin anew are not of
    the sizes that its config says."""
    model, found = kind.from_pretrained(
        folder,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **config,
    )
    layers = [] if anew is None else [*_head_layers(model, anew)]
    fresh = {weight for layer in layers for weight in layer.parameters()}
    for name, has, needed in sorted(found["mismatched_keys"]):
        if model.get_parameter(name) not in fresh:
            raise UserError(
                f"base: {source!r} is damaged: {name} has the sizes {[*has]}, by its config.json "
                f"it should have {[*needed]}; copy it again"
            )
    for layer in layers:
        layer.reset_parameters()
    model.name_or_path, model.absent_in_base = source, sorted(found["missing_keys"])
    if anew is not None:
        what = "another task" if anew == "head" else "other labels"
        remark(model, f"the {anew} of {source} was for {what}, and begins anew")
    return model


def _head_layers(model: "PreTrainedModel", part: HeadPart) -> Iterator[Any]:
    """The layers of a model's head, or of them the one that has an output for each label."""
    body = set(model.base_model.modules())
    for layer in model.modules():
        is_last = getattr(layer, "out_features", None) == model.config.num_labels
        if layer not in body and hasattr(layer, "reset_parameters") and (part == "head" or is_last):
            yield layer


def _of_tokenizer(known: Any, tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    """What a config has of its tokenizer, from another one."""
    keys = {f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep")}
    ids = {key: getattr(tokenizer, key) for key in keys if hasattr(known, key)}
    if getattr(known, "decoder_start_token_id", None) is not None:
        ids["decoder_start_token_id"] = tokenizer.pad_token_id
    return {"vocab_size": len(tokenizer), **ids}


def _named_for(known: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The keys as this Transformers config calls them; a dropout that it does not have is left
    out."""
    named = dict(config)
    if "head_dropout" in named:
        dropout = named.pop("head_dropout")
        named |= {key: dropout for key in HEAD_DROPOUT if hasattr(known, key)}
    return named


def refuse_longer(model: "PreTrainedModel", key: str, length: int, in_front: int = 0) -> None:
    """Raises UserError if sequences of this length, which the recipe's key sets, and so many
    virtual tokens in front have more tokens than the model has positions."""
    positions = positions_of(model)
    if positions is None or length + in_front <= positions:
        return
    also = f" behind method.tokens = {in_front}" if in_front else ""
    raise UserError(f"{key}: {length}{also} is over the {positions} positions of the model")


def positions_of(model: "PreTrainedModel") -> int | None:
    """How many tokens a sequence can have, behind the virtual ones that were put into the model;
    None where positions are relative, which have no end."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    in_front: int = getattr(getattr(model, "virtual_tokens", None), "number", 0)
    return positions - first_position(model) - in_front


def first_position(model: "PreTrainedModel") -> int:
    """The number of the first token's position: 0, but RoBERTa and its like count on from the
    padding token."""
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def from_shape(shape: Shape, tokenizer: "PreTrainedTokenizerFast", **config: Any) -> Any:
    """The Transformers config of a shape. Raises UserError for a key that it does not have."""
    try:
        shape = sized(shape, len(tokenizer))
    except NoSuchSize as error:
        raise UserError(f"pretrain.model.parameters: {error}") from error
    keys: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.max_positions,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **dict.fromkeys(HIDDEN_DROPOUT[shape.architecture], shape.dropout),
    }
    keys[INNER.get(shape.architecture, "intermediate_size")] = shape.inner_size
    match shape.architecture:
        case "modernbert":
            keys |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
            # The defaults are for 8,192 positions. At a few hundred, a local window only loses
            # context, and so slow a rotation leaves most dimensions without a position.
            keys["layer_types"] = ["full_attention"] * shape.layers
            rotation = {"rope_type": "default", "rope_theta": 10_000.0}
            keys["rope_parameters"] = dict.fromkeys(
                ("full_attention", "sliding_attention"), rotation
            )
        case "roberta":
            keys["max_position_embeddings"] += 1 + tokenizer.pad_token_id  # it counts from there
        case "electra":
            keys["embedding_size"] = shape.hidden_size
        case "llama" | "qwen3":
            keys["tie_word_embeddings"] = True
            keys["num_key_value_heads"] = shape.kv_heads or shape.heads
            keys["head_dim"] = shape.hidden_size // shape.heads
        case "t5":
            keys |= {
                "d_kv": shape.hidden_size // shape.heads,
                "num_decoder_layers": shape.layers,
                "feed_forward_proj": "gated-gelu",
                "decoder_start_token_id": tokenizer.pad_token_id,
            }
            del keys["max_position_embeddings"]  # its positions are relative
    known = transformers.AutoConfig.for_model(shape.architecture)
    for key in shape.config:
        if not hasattr(known, key):
            raise UserError(f"pretrain.model.config.{key}: no such key in {type(known).__name__}")
    keys |= shape.config | _named_for(known, config)
    try:
        return transformers.AutoConfig.for_model(shape.architecture, **keys)
    except StrictDataclassError as error:
        raise UserError(f"pretrain.model.config: {error}") from error


def parameter_count(model: "PreTrainedModel") -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def trained_count(model: nn.Module) -> int:
    """Of these, those that are trained."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def is_causal(model: "PreTrainedModel") -> bool:
    known = transformers.models.auto.modeling_auto
    return type(model).__name__ in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def packed_inputs(model: "PreTrainedModel", input_ids: Tensor, segments: Tensor) -> dict[str, Any]:
    """The arguments of a model's forward for packed sequences, whose pieces never see each other:
    documents of pretraining, rows of fine-tuning.

    `segments` (batch, length) numbers the pieces of each sequence from 1; padding is 0. Positions
    restart with each piece. Attention is block-diagonal, and causal where the model is: by a mask,
    or by the bounds of pieces where the model attends by them (packed_attention.py).
    """
    length = segments.shape[1]
    steps = torch.arange(length, device=segments.device)
    starts = torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    first = torch.where(starts, steps, 0).cummax(dim=1).values
    positions = steps[None, :] - first + first_position(model)
    if packed_attention.is_used(model):
        return {
            "input_ids": input_ids,
            "position_ids": positions,
            **packed_attention.bounds(starts),
        }
    same = segments[:, :, None] == segments[:, None, :]
    # Padding attends to padding: a row of nothing but False has no softmax.
    if is_causal(model):
        same = same & (steps[None, :, None] >= steps[None, None, :])
    config = model.config
    mask: Any = same[:, None]
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        window = (steps[:, None] - steps[None, :]).abs() <= config.sliding_window
        mask = {"full_attention": mask, "sliding_attention": mask & window}
    return {
        "input_ids": local_tokens(model, input_ids),
        "attention_mask": mask,
        "position_ids": local_tokens(model, positions),
    }


def parts(model: Any) -> dict[str, "PreTrainedModel"]:
    """The models that one is made of, by the folder in its folder where each is kept."""
    return model.parts if hasattr(model, "parts") else {"": model}


def recompute_activations(model: Any) -> None:
    """Lets the backward pass compute each layer's activations again. Raises UserError."""
    for part in parts(model).values():
        if not part.supports_gradient_checkpointing:
            raise UserError(
                f"activation_checkpointing: {part.config.model_type!r} cannot do it; leave it out"
            )
        part.gradient_checkpointing_enable()


def weights(model: "PreTrainedModel") -> dict[str, Tensor]:
    """What a model's files hold, by name: of tied weights one, and no weights that its class leaves
    out. As the module has them, which under ZeRO-3 is without values."""
    left_out = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if name not in left_out}


def save_config(model: "PreTrainedModel", folder: Path) -> None:
    """All of a Hugging Face folder but the weights, which are in fp32, and the tokenizer."""
    model.config.dtype = "float32"
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
