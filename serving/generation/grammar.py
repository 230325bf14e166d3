"""Answers that are JSON of a schema, by xgrammar (github.com/mlc-ai/xgrammar)."""

import functools
import json
from collections.abc import Sequence
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
            raise UserError(
                "response_format: this endpoint has no xgrammar; pip install it on every node"
            ) from error
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary_size, stop_token_ids=stop_ids
        )
        self._xgrammar, self._size = xgrammar, vocabulary_size
        self._controls = _with_controls(info.decoded_vocab)
        self._compiler = xgrammar.GrammarCompiler(info)
        self._compiled = functools.lru_cache(maxsize=64)(self._compile)

    def _compile(self, schema: str | None) -> Any:
        if schema is None:
            return self._compiler.compile_builtin_json_grammar()
        return self._compiler.compile_json_schema(schema, any_whitespace=False)

    def of(self, schema: dict[str, Any] | None) -> "JsonGrammar":
        """Of one answer: JSON of a schema, or any. Raises ValueError for what is no schema."""
        text = None if schema is None else json.dumps(schema)
        try:
            compiled = self._compiled(text)
        except RuntimeError as error:
            raise ValueError(f"no JSON schema that can be kept to: {error}") from error
        return JsonGrammar(self._xgrammar, compiled, self._size, self._controls)


class JsonGrammar:
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
    """The tokens with characters that JSON has in no string. xgrammar 0.2 lets them be there; what
    it lets stand between values, such as line feeds, is not needed."""
    found = [place for place, token in enumerate(vocabulary) if any(byte < 0x20 for byte in token)]
    return torch.tensor(found, dtype=torch.long)
