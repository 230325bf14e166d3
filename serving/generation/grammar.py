"""Answers that are JSON of a schema, or calls of tools, by xgrammar (mlc-ai/xgrammar)."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cluster.errors import UserError


class Grammars:
    """Of one tokenizer; what is compiled of a schema is kept."""

    def __init__(self, tokenizer: Any, vocabulary_size: int, stop_ids: list[int]):
        """`vocabulary_size` is that of the model's logits. Raises UserError where xgrammar is not
        installed."""
        try:
            import xgrammar
        except ImportError as error:
            raise UserError("this endpoint has no xgrammar; pip install it on each node") from error
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary_size, stop_token_ids=stop_ids
        )
        self._xgrammar, self._size = xgrammar, vocabulary_size
        self._controls = _with_controls(info.decoded_vocab)
        self._compiler = xgrammar.GrammarCompiler(info)
        self._compiled = functools.lru_cache(maxsize=64)(self._compile)

    def _compile(self, kind: str, document: str) -> Any:
        if kind == "calls":
            return self._compiler.compile_structural_tag(document)
        return self._compiler.compile_json_schema(document, any_whitespace=False)

    def of_json(self, schema: Mapping[str, Any]) -> "MaskedGrammar":
        """Of one answer. Raises ValueError for what is no schema."""
        return self._of("json", schema)

    def of_calls(
        self, tools: Mapping[str, Mapping[str, Any]], begin: str, end: str, several: bool
    ) -> "MaskedGrammar":
        """Of one answer that calls one of the tools, or `several` times, and says nothing else.
        `tools` are schemas of arguments by name; each call stands between `begin` and `end`. Raises
        ValueError for what is no schema."""
        tags = [
            {
                "type": "tag",
                "begin": f'{begin}\n{{"name": {json.dumps(name)}, "arguments": ',
                "content": {"type": "json_schema", "json_schema": {"type": "object", **schema}},
                "end": f"}}\n{end}",
            }
            for name, schema in tools.items()
        ]
        calls = {
            "type": "tags_with_separator",
            "tags": tags,
            "separator": "\n",
            "at_least_one": True,
            "stop_after_first": not several,
        }
        return self._of("calls", {"type": "structural_tag", "format": calls})

    def _of(self, kind: str, document: Mapping[str, Any]) -> "MaskedGrammar":
        try:
            compiled = self._compiled(kind, json.dumps(document))
        except RuntimeError as error:
            raise ValueError(f"no JSON schema that can be kept to: {error}") from error
        return MaskedGrammar(self._xgrammar, compiled, self._size, self._controls)


class MaskedGrammar:
    """A Grammar of the Batcher."""

    def __init__(self, xgrammar: Any, compiled: Any, vocabulary_size: int, controls: Tensor):
        """`controls` are tokens that never come."""
        self._controls = controls
        self._xgrammar, self._matcher = xgrammar, xgrammar.GrammarMatcher(compiled)
        self._allowed = xgrammar.allocate_token_bitmask(1, vocabulary_size)

    def mask(self, logits: Tensor) -> None:
        self._matcher.fill_next_token_bitmask(self._allowed)
        allowed = self._allowed.to(logits.device)
        self._xgrammar.apply_token_bitmask_inplace(logits[None], allowed)
        logits[self._controls.to(logits.device)] = -torch.inf

    def accept(self, token: int) -> None:
        accepted: bool = self._matcher.accept_token(token)
        assert accepted, "a token that the mask forbids"


def _with_controls(vocabulary: Sequence[bytes]) -> Tensor:
    """The tokens with control characters, which xgrammar 0.2 lets be in strings, where JSON has
    none; but for line feeds, which it keeps from there."""
    found = [
        place
        for place, token in enumerate(vocabulary)
        if any(byte < 0x20 and byte != ord("\n") for byte in token)
    ]
    return torch.tensor(found, dtype=torch.long)
