"""Train a tokenizer, or load one, and encode with it. All are plain `PreTrainedTokenizerFast`.

A trained tokenizer has the special tokens [PAD] [UNK] [CLS] [SEP] [MASK] and writes a text as
`[CLS] text [SEP]`, for masked and causal models alike ([CLS] begins, [SEP] ends).

Chinese has no spaces. Only punctuation, digits and white space part the text here, so pieces grow
to the words that are frequent, and sequences get shorter than in characters.

`bpe` and `unigram` lose nothing: a word's piece holds the space before it, line breaks are pieces,
and a character without a piece is written as its UTF-8 bytes (Kudo & Richardson 2018), so decoding
gives the normalized text back. Spaces stand for themselves, not as `▁`, which a text may hold too.
"""

import collections
import functools
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.errors import UserError
from trainers.corpora.config import Tokenizer
from trainers.corpora.text_batches import batched
from trainers.corpora.tokens.pack import Tokens, token_type

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, BEGIN, END, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MAX_PIECE_CHARACTERS = 16
LONGEST_WORD = 100
"""Of `wordpiece`, in characters, as in BERT: a longer word is unknown. To look for its pieces takes
the cube of its length, for 10,000 characters a minute."""
CHARACTER_COVERAGE = 0.9995
"""Of the characters in the training text, what has a piece of its own; the rest is left to bytes.
SentencePiece's value for scripts with many characters: it leaves room for words."""
HAN = r"\p{Han}"
WORDS = (
    # A run of Chinese characters; a word, a digit or a sign, with the space before it; white space.
    rf"{HAN}+| ?[[\p{{L}}\p{{M}}]&&[^{HAN}]]+| ?\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]\p{{M}}*"
    r"|\s+(?!\S)|\s"
)
"""What no piece of `bpe` and `unigram` reaches beyond. Every character belongs to one."""
TOO_LONG_WARNED = "sequence-length-is-longer-than-the-specified-maximum"
"""By which Transformers remembers that a tokenizer has warned of a text that is too long."""
CHUNK_CHARACTERS = 2**18
"""Encoded at once: the backend takes some 100 bytes for a token."""


def load(folder: str | Path, key: str = "corpora.tokenizer.base") -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder or hub id. Raises UserError, with the recipe's key, if there is
    none."""
    try:
        tokenizer: Any = _class_for(Path(folder)).from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}: no tokenizer in {str(folder)!r}: {reason}") from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{key}: {str(folder)!r} has a {type(tokenizer).__name__}, which is written in Python; "
            "raymill needs one with a tokenizer.json"
        )
    if ends(tokenizer)[1] is None:
        raise UserError(f"{key}: {str(folder)!r} has no token that ends a text (sep or eos)")
    # It would warn of the first text that is longer than the model reads. Tasks cut or drop what
    # is, and count it.
    tokenizer.deprecation_warnings[TOO_LONG_WARNED] = True
    return tokenizer


def _class_for(folder: Path) -> Any:
    """What loads a tokenizer. One that was trained here needs no AutoTokenizer, whose import brings
    torch and more, for seconds."""
    settings = folder / "tokenizer_config.json"
    if settings.is_file() and not (folder / "config.json").exists():
        from transformers import PreTrainedTokenizerFast

        if json.loads(settings.read_text("utf-8")).get("tokenizer_class") in (
            PreTrainedTokenizerFast.__name__,
            "PreTrainedTokenizerFast",  # the name it had before Transformers 5
        ):
            return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


@functools.lru_cache(maxsize=1)
def backend_in(folder: Path, unicode: str) -> "Backend":
    """What encodes texts in this normal form for the tokenizer that is saved in a folder; without
    Transformers, whose import takes seconds. A process has one: each keeps words it has seen, and
    in the holes that it leaves the next does not fit."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.normalizer = _beyond(backend.normalizer, unicode)
    return backend


def _beyond(normalizer: Any, unicode: str) -> Any:
    """Without the first steps that only bring texts into the normal form in which they are already:
    a tenth of the time of encoding."""
    from tokenizers import normalizers

    if normalizer is None:
        return None
    several = isinstance(normalizer, normalizers.Sequence)
    steps = list(normalizer) if several else [normalizer]
    done: Any = (normalizers.NFC, *[normalizers.NFKC] * (unicode == "NFKC"))
    left = itertools.dropwhile(lambda step: isinstance(step, done), steps)
    return normalizers.Sequence(list(left))


def encode(backend: "Backend", texts: Sequence[str]) -> list[Tokens]:
    """The tokens of every text, without special ones: `[SEP]` in a text is text, and ends nothing.

    The backend runs on all cores, unless TOKENIZERS_PARALLELISM is false as in workers.
    """
    # What a tokenizer.json may bring along. Transformers sets all three anew in each of its calls.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    token = token_type(backend.get_vocab_size())
    encoded: Any = [
        np.array(encoding.ids, dtype=token)
        for chunk in batched(texts, CHUNK_CHARACTERS)
        for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False)
    ]
    return encoded


def train(
    texts: Iterable[str], settings: Tokenizer, max_length: int, unicode: str = "NFKC"
) -> "PreTrainedTokenizerFast":
    """A tokenizer of at most `settings.vocabulary_size` pieces, special tokens included, for texts
    in this normal form."""
    from tokenizers import normalizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    form = normalizers.NFKC() if unicode == "NFKC" else normalizers.NFC()
    normalizer = normalizers.Sequence([form, *[normalizers.Lowercase()] * settings.lowercase])
    make = _wordpiece if settings.algorithm == "wordpiece" else _lossless
    backend = make(texts, settings, normalizer)
    backend.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        pair=f"{BEGIN} $A {END} $B:1 {END}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (BEGIN, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=BEGIN,
        sep_token=END,
        mask_token=MASK,
        bos_token=BEGIN,
        eos_token=END,
    )


def ends(tokenizer: "PreTrainedTokenizerFast") -> tuple[int, int]:
    """Begin and end token of a document: [CLS] and [SEP], or what a causal tokenizer has."""
    begin: Any = (
        tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    )
    end: Any = (
        tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    )
    return (begin if begin is not None else end), end


def _lossless(texts: Iterable[str], settings: Tokenizer, normalizer: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    size = settings.vocabulary_size - len(BYTES)
    keys: dict[str, Any] = {
        "vocab_size": size,
        "special_tokens": list(SPECIAL_TOKENS),
        "show_progress": False,
    }
    model: Any
    trainer: Any
    if settings.algorithm == "bpe":
        model = models.BPE(unk_token=UNKNOWN)
        trainer = trainers.BpeTrainer(max_token_length=MAX_PIECE_CHARACTERS, **keys)
    else:
        model = models.Unigram()
        trainer = trainers.UnigramTrainer(
            max_piece_length=MAX_PIECE_CHARACTERS,
            unk_token=UNKNOWN,
            shrinking_factor=0.5,  # a third of the time of 0.75 for 0.3 % more tokens
            **keys,
        )
    backend = Tokenizer(model)
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    normalized = map(normalizer.normalize_str, texts)
    backend.train_from_iterator(_covered(normalized, most=size * 3 // 4), trainer)
    backend = _with_bytes(backend)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _covered(texts: Iterable[str], most: int) -> list[str]:
    """The texts with a line break for each character that gets no piece.

    Both trainers would give every character a piece, the rarest too and whatever the vocabulary's
    size; of `limit_alphabet`, which only `bpe` has, equally rare ones fall out by chance.
    """
    kept = list(texts)
    counts: collections.Counter[str] = collections.Counter()
    for text in kept:
        counts.update(text)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    covered, least = 0, CHARACTER_COVERAGE * counts.total()
    rare = ""
    for rank, character in enumerate(ranked, start=1):
        if covered >= least or rank > most:
            rare += re.escape(character)
        covered += counts[character]
    return [re.sub(f"[{rare}]", "\n", text) for text in kept] if rare else kept


def _with_bytes(backend: Any) -> Any:
    """With a piece for every byte behind the learned ones. Only what is written as JSON shows a
    model's merges, and takes this change."""
    from tokenizers import Tokenizer

    saved = json.loads(backend.to_str())
    model = saved["model"]
    model["byte_fallback"] = True
    if model["type"] == "BPE":
        model["vocab"] |= {piece: len(model["vocab"]) + at for at, piece in enumerate(BYTES)}
    else:
        head = len(SPECIAL_TOKENS)
        learned = _settled(model["vocab"][head:])
        model["vocab"] = [*model["vocab"][:head], *learned, *[(piece, 0.0) for piece in BYTES]]
    return Tokenizer.from_str(json.dumps(saved))


def _settled(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Pieces and their scores, the same in every run.

    The trainer adds up in the order of a random hash, which shows in the last digits; in that order
    too, it gives characters it had not kept the lowest score and 0.0001 more for each.
    """
    lowest = min(score for _, score in pieces)
    random = lowest + 0.0001 * sum(len(piece) == 1 for piece, _ in pieces)
    settled = [
        (piece, round(lowest if len(piece) == 1 and score <= random else score, 4))
        for piece, score in pieces
    ]
    return sorted(settled, key=lambda entry: (-entry[1], entry[0]))


def _wordpiece(texts: Iterable[str], settings: Tokenizer, normalizer: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(HAN), behavior="isolated"),
        ]
    )
    # The trainer numbers characters inside words in the order of a random hash, and chooses among
    # equally frequent pieces by number. So it is given all there can be, as if they were special.
    kept = list(texts)
    alphabet = sorted(set().union(*map(normalizer.normalize_str, kept)))
    split = backend.pre_tokenizer.pre_tokenize_str
    inside = [f"##{character}" for character in alphabet
              if split(f"a{character}")[0][0] == f"a{character}"]  # fmt: skip
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *inside],
        show_progress=False,
    )
    backend.train_from_iterator(kept, trainer)
    saved = json.loads(backend.to_str())
    del saved["added_tokens"][len(SPECIAL_TOKENS) :]
    backend = Tokenizer.from_str(json.dumps(saved))
    backend.decoder = decoders.WordPiece()
    return backend
