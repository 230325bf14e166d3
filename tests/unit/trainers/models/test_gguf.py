"""A GGUF file becomes a plain Hugging Face folder, once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from cluster.errors import UserError
from cluster.store.bases import conversion
from trainers.models import gguf
from trainers.models.gguf import converted

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
TOKENS = ["<pad>", "<end>", "a", "b", "c", "ab", "Ġ", "abc"]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
"""Of weights in GGUF."""
HEADS = 2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gguf, "CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "gguf"


@pytest.fixture
def model() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=32,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def write_gguf(model: Any, file: Path) -> None:
    config = model.config
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * 6])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        values = weight.numpy()
        if "attn_q" in name or "attn_k" in name:  # as GGUF orders what is rotated
            halves = values.reshape(HEADS, 2, -1, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_folder_has_the_same_model_and_the_real_chat_template(
    tmp_path: Path, cache: Path, model: Any
) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(model, file)
    assert "takes minutes" in conversion(str(file))
    folder = converted(file)
    assert conversion(str(file)) == "", "what is done is not told of"
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[2, 3, 4, 5]])
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert getattr(loaded.config, "quantization_config", None) is None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.convert_ids_to_tokens(tokenizer("abcab").input_ids)[-2:] == ["abc", "ab"]
    made = (folder / "config.json").stat().st_mtime_ns
    assert converted(file) == folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    assert {path.suffix for path in cache.iterdir()} == {"", ".lock"}


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path, cache: Path, model: Any) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(model, file)
    left = cache / f"{gguf.file_hash(file)}.part"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_text("half")
    assert AutoModelForCausalLM.from_pretrained(converted(file)) is not None


def test_what_is_no_gguf_is_told(tmp_path: Path) -> None:
    file = tmp_path / "none.gguf"
    file.write_text("text")
    with pytest.raises(UserError, match=r"base: cannot convert '.*none\.gguf': "):
        converted(file)
