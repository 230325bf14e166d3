"""Span corruption for encoder-decoders (T5, Raffel et al. 2020, 3.1.4).

In each document spans S_1, S_2, ... of three tokens in the mean, together 15 % of it, are replaced
by one sentinel each. The encoder reads what is left; the decoder writes what is gone,

    encoder   [CLS] a <extra_id_0> d e <extra_id_1> [SEP]
    decoder         <extra_id_0> b c <extra_id_1> f g [SEP]

and the loss is the cross-entropy of what it writes, each token after those before it. Spans are
placed as by the authors: the tokens to go and those to stay are each parted at random into as many
runs, which alternate, beginning with one that stays.

Documents of a row stay apart in the encoder, in the decoder and between both; sentinels begin anew
in each. T5 knows relative positions only, so these begin anew by themselves.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken
from torch import Tensor

from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.tasks.cross_entropy import cross_entropy
from trainers.tasks.flops import EncoderDecoderCost
from trainers.tasks.pretraining.language_model import Ids, LanguageModel, tensors
from trainers.tasks.task import IGNORED, Batch, Counts, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SENTINELS = 100
"""As many as T5 has. Very long documents have no more spans, but longer ones."""


@dataclasses.dataclass(frozen=True)
class SpanCorruption(LanguageModel):
    mask_probability: float = 0.15
    mean_span: float = 3.0

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The corpus's, with sentinels: no text has them, so the corpus does not change."""
        tokenizer = super().tokenizer()
        names = [AddedToken(f"<extra_id_{number}>", special=True) for number in range(SENTINELS)]
        tokenizer.add_tokens(names, special_tokens=True)
        return tokenizer

    def model(self) -> "PreTrainedModel":
        return self._model("AutoModelForSeq2SeqLM")

    def collate(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> Batch:
        sentinels, pad, skipped = self._tokens
        read: list[list[Ids]] = [[] for _ in rows]
        written: list[list[Ids]] = [[] for _ in rows]
        for place, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            draw = self._draw(number)
            ids = np.asarray(row["input_ids"], dtype=np.int64)
            for document in np.split(ids, np.cumsum(row["piece_lengths"]))[:-1]:
                begin, text, end = document[skipped:1], document[1:-1], document[-1:]
                left, gone = corrupt(text, sentinels, self.mask_probability, self.mean_span, draw)
                read[place].append(np.concatenate([begin, left, end]))
                written[place].append(np.concatenate([gone, end]) if len(gone) else gone)
        input_ids, segments = _joined(read, pad)
        labels, label_segments = _joined(written, IGNORED)
        starts = np.diff(label_segments, axis=1, prepend=0) != 0
        before = np.pad(labels, ((0, 0), (1, 0)))[:, :-1]
        return tensors(
            input_ids=input_ids,
            segments=segments,
            decoder_input_ids=np.where(starts | (label_segments == 0), pad, before),
            decoder_segments=label_segments,
            labels=labels,
        )

    @functools.cached_property
    def _tokens(self) -> tuple[Ids, int, int]:
        """The sentinels; what pads, and begins what the decoder writes; and how many tokens at the
        beginning of a document are none of its tokenizer's: T5's writes no begin token."""
        tokenizer = self.tokenizer()
        names = [f"<extra_id_{number}>" for number in range(SENTINELS)]
        begin, end = tokenizers.ends(tokenizer)
        sentinels = np.array(tokenizer.convert_tokens_to_ids(names), dtype=np.int64)
        pad: Any = tokenizer.pad_token_id
        return sentinels, pad if pad is not None else end, int(begin == end)

    def loss(self, model: "PreTrainedModel", batch: Batch) -> tuple[Tensor, Counts]:
        return cross_entropy(logits(model, batch), batch["labels"], counted=not model.training)

    def flops(self, model: Any) -> Callable[[Batch], float]:
        """What is left goes through the encoder, and what is written through the decoder."""
        cost = EncoderDecoderCost.of(model)
        return lambda batch: cost.flops(lengths(batch), (batch["decoder_segments"] != 0).sum(-1))


def logits(model: Any, batch: Batch) -> Tensor:
    """Of what the decoder writes, (batch, length, vocabulary); documents never see each other."""
    segments, decoder_segments = batch["segments"], batch["decoder_segments"]
    steps = torch.arange(decoder_segments.shape[1], device=segments.device)
    causal = steps[:, None] >= steps[None, :]
    encoded = model.encoder(
        input_ids=batch["input_ids"], attention_mask=_bias(model, _same(segments, segments))
    )
    # With the encoder's output given, `attention_mask` is what the decoder sees of it.
    return model(
        encoder_outputs=encoded,
        attention_mask=_bias(model, _same(decoder_segments, segments)),
        decoder_input_ids=batch["decoder_input_ids"],
        decoder_attention_mask=_bias(model, _same(decoder_segments, decoder_segments) & causal),
        use_cache=False,
    ).logits


def _same(queries: Tensor, keys: Tensor) -> Tensor:
    return queries[:, :, None] == keys[:, None, :]


def _bias(model: Any, allowed: Tensor) -> Tensor:
    """What T5 adds to its scores. Not minus infinity: padding of the decoder may see nothing."""
    bias = torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device)
    return bias.masked_fill(~allowed, torch.finfo(model.dtype).min)[:, None]


def corrupt(
    tokens: Ids, sentinels: Ids, share: float, mean_span: float, draw: np.random.Generator
) -> tuple[Ids, Ids]:
    """What is left of a document, and what is gone, with a sentinel for each span in both.

    Nothing is gone from a single token.
    """
    if len(tokens) < 2:
        return tokens, tokens[:0]
    gone_count = min(max(round(len(tokens) * share), 1), len(tokens) - 1)
    count = min(max(round(gone_count / mean_span), 1), len(tokens) - gone_count, len(sentinels))
    stays = _parted(len(tokens) - gone_count, count, draw)
    goes = _parted(gone_count, count, draw)
    ends = np.cumsum(stays + goes)
    left: list[Any] = []
    gone: list[Any] = []
    for sentinel, stay, go, end in zip(sentinels, stays, goes, ends, strict=False):
        left += [tokens[end - go - stay : end - go], [sentinel]]
        gone += [[sentinel], tokens[end - go : end]]
    return np.concatenate(left), np.concatenate(gone)


def _parted(total: int, count: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """`count` sizes of at least 1 with this total, all such equally likely."""
    cuts = np.sort(draw.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def _joined(rows: Sequence[Sequence[Ids]], filler: int) -> tuple[Ids, Ids]:
    """Documents of each row one after the other, filled up to the longest; and their numbers from
    1, 0 where it is filled."""
    sizes = [sum(map(len, row)) for row in rows]
    ids = np.full((len(rows), max(1, *sizes)), filler, dtype=np.int64)
    segments = np.zeros_like(ids)
    for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if size:
            ids[place, :size] = np.concatenate(row)
            segments[place, :size] = np.repeat(np.arange(1, len(row) + 1), list(map(len, row)))
    return ids, segments
