"""Learned tokens in front of each sequence, put there where the model's body is called.

PEFT puts them in front in a wrapper around the whole model, whose outputs then begin with theirs.
Here the body takes them in and gives back hidden states of the sequence's own tokens alone, so that
heads, losses and labels need not know of them. Of an encoder-decoder the encoder takes them in, and
the decoder sees their hidden states, too. The numbers are the same (gate.py holds them equal).
"""

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def takes_cache(model: "PreTrainedModel") -> bool:
    return "past_key_values" in inspect.signature(model.base_model.forward).parameters


def attach(model: "PreTrainedModel", peft: "PeftModel") -> None:
    """Has the model's body take in the virtual tokens of its PEFT view."""
    is_encoder_decoder = model.config.is_encoder_decoder
    body: Any = model.get_encoder() if is_encoder_decoder else model.base_model
    in_front = InFront(model, peft, body)
    model.virtual_tokens = in_front
    body.register_forward_pre_hook(in_front.before, with_kwargs=True)
    if is_encoder_decoder:
        decoder: Any = model.get_decoder()
        decoder.register_forward_pre_hook(in_front.before_decoder, with_kwargs=True)
    else:
        body.register_forward_hook(in_front.after)


class InFront(nn.Module):
    def __init__(self, model: "PreTrainedModel", peft: "PeftModel", body: nn.Module):
        super().__init__()
        config: Any = peft.active_peft_config
        self.encoder = peft.prompt_encoder
        self._prompt = peft.get_prompt
        # As a buffer, so that they go where the model does.
        self.register_buffer("default", peft.prompt_tokens["default"], persistent=False)
        peft.prompt_tokens = self._buffers  # type: ignore[assignment]
        self._embedding = model.get_input_embeddings
        self.number = config.num_virtual_tokens
        self._is_prefix = config.peft_type == "PREFIX_TUNING"
        self._names = [*inspect.signature(body.forward).parameters]
        self._is_on, self._is_cut = True, False

    def enable_adapters(self, enabled: bool) -> None:
        self._is_on = enabled

    def before(self, body: nn.Module, args: Any, kwargs: Any) -> tuple[tuple[()], dict[str, Any]]:
        """The arguments of the body with the virtual tokens in front. Once keys and values of
        theirs are in a cache, they only count in masks and positions."""
        inputs = {**dict(zip(self._names, args, strict=False)), **kwargs}
        self._is_cut = False
        if not self._is_on:
            return (), inputs
        cache = inputs.get("past_key_values")
        begins = cache is None or cache.get_seq_length() == 0
        first = inputs.get("input_ids")
        rows = len(first if first is not None else inputs["inputs_embeds"])
        mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
        if mask is not None:
            assert mask.ndim == 2, "rows that share a sequence cannot share virtual tokens"
            inputs["attention_mask"] = self._longer(mask)
        if positions is not None:
            inputs["position_ids"] = positions + self.number
        if begins and self._is_prefix:
            inputs["past_key_values"] = self._prompt(rows)
        elif begins:
            self._prepend(inputs, rows)
        return (), inputs

    def before_decoder(
        self, decoder: nn.Module, args: Any, kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The arguments of a decoder with a mask as long as what its encoder says."""
        mask = kwargs.get("encoder_attention_mask")
        if self._is_on and mask is not None:
            kwargs = {**kwargs, "encoder_attention_mask": self._longer(mask)}
        return args, kwargs

    def _longer(self, mask: Tensor) -> Tensor:
        """A mask (rows, length) with room for the tokens in front."""
        return torch.cat([mask.new_ones(len(mask), self.number), mask], dim=1)

    def _prepend(self, inputs: dict[str, Any], rows: int) -> None:
        embedded = inputs.get("inputs_embeds")
        if embedded is None:
            embedded = self._embedding()(inputs.pop("input_ids"))
        prompts = self._prompt(rows).to(embedded.dtype)
        inputs["input_ids"], inputs["inputs_embeds"] = None, torch.cat([prompts, embedded], dim=1)
        positions: Tensor | None = inputs.get("position_ids")
        if positions is not None:
            own = torch.arange(self.number, device=positions.device)
            own = own.expand(len(positions), -1)
            inputs["position_ids"] = torch.cat([own, positions], dim=1)
        self._is_cut = True

    def after(self, body: nn.Module, args: Any, output: Any) -> Any:
        if self._is_cut:
            output.last_hidden_state = output.last_hidden_state[:, self.number :]
        return output
