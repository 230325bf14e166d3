"""Train a tokenizer, or load one. The result is a plain `PreTrainedTokenizerFast`.

A trained tokenizer has the special tokens [PAD] [UNK] [CLS] [SEP] [MASK] and writes a text as
`[CLS] text [SEP]`, for masked and causal models alike ([CLS] begins, [SEP] ends).

Chinese has no spaces. Only punctuation, digits and white space part the text here, so pieces grow
to the words that are frequent, and sequences get shorter than in characters.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from trainers.corpora.config import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, BEGIN, END, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_PIECE_CHARACTERS = 6
HAN = r"\p{Han}"


def load(folder: str | Path, key: str = "corpora.tokenizer.base") -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder or hub id. Raises UserError, with the recipe's key, if there is
    none."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        return tokenizer
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}: no tokenizer in {str(folder)!r}: {reason}") from error


def train(texts: Iterable[str], settings: Tokenizer, max_length: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of at most `settings.vocabulary_size` pieces, special tokens included."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL_TOKENS)
    size = settings.vocabulary_size
    model: Any
    trainer: Any
    match settings.algorithm:
        case "bpe":
            model = models.BPE(unk_token=UNKNOWN)
            trainer = trainers.BpeTrainer(
                vocab_size=size, special_tokens=special, max_token_length=MAX_PIECE_CHARACTERS
            )
        case "unigram":
            model = models.Unigram()
            trainer = trainers.UnigramTrainer(
                vocab_size=size,
                special_tokens=special,
                unk_token=UNKNOWN,
                max_piece_length=MAX_PIECE_CHARACTERS,
            )
        case _:
            model = models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=10_000)
            trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    han = Regex(HAN if settings.algorithm == "characters" else f"{HAN}+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(han, behavior="isolated"),
        ]
    )
    continued = settings.algorithm in ("wordpiece", "characters")
    tokenizer.decoder = decoders.WordPiece() if continued else decoders.Fuse()
    tokenizer.train_from_iterator(texts, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        pair=f"{BEGIN} $A {END} $B:1 {END}:1",
        special_tokens=[(token, ids[token]) for token in (BEGIN, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
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
