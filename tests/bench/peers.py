"""What others do with the same text, each in its best settings on two cores, as a user's script.

    python -m tests.bench.peers datasets TEXTS TOKENIZER OUT
    python -m tests.bench.peers datatrove TEXTS OUT

datasets: one `map` that tokenizes and packs (as its examples do: joined and cut), in two processes,
tokens as uint16; then `save_to_disk`.

datatrove: ftfy and personal data, then its four stages of MinHash, two tasks each. Five words in a
row, its default shingle, seldom survive where every tenth character was edited. So it is given
character shingles like raymill's (two characters of Chinese, four else), by its own interface for
word tokenizers, and 20 buckets of 5 hashes, which find texts that share over half of them. Fewer
hashes a bucket would find more, and join more of what is not alike, since it compares no further
than a bucket; its default, 14 of 8, finds 63 % of the copies.
"""

import os
import sys
from pathlib import Path
from typing import Any

from trainers.corpora.cleaning.units import is_cjk
from trainers.corpora.duplicates.minhash import SHINGLE

WORKERS = 2
LENGTH = 512
BUCKETS, HASHES = 20, 5


def run_datasets(texts: str, tokenizer_folder: str, out: str) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_DATASETS_CACHE"] = f"{out}/cache"
    from datasets import Features, List, Value, load_dataset
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_folder)

    def tokenize_and_pack(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(
            batch["text"], return_attention_mask=False, return_token_type_ids=False, verbose=False
        )["input_ids"]
        joined = [token for ids in encoded for token in ids]
        ends = range(LENGTH, len(joined) + 1, LENGTH)
        return {"input_ids": [joined[end - LENGTH : end] for end in ends]}

    files = sorted(map(str, Path(texts).glob("*.jsonl")))
    loaded = load_dataset("json", data_files=files, split="train", num_proc=WORKERS)
    packed = loaded.map(
        tokenize_and_pack,
        batched=True,
        num_proc=WORKERS,
        remove_columns=loaded.column_names,
        features=Features({"input_ids": List(Value("uint16"))}),
    )
    packed.save_to_disk(f"{out}/packed", num_proc=WORKERS)


def run_datatrove(texts: str, out: str) -> None:
    import datatrove.utils.hashes.xxhash as hashes
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Shingles(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            cjk = is_cjk(text)
            plain, size = (
                ("".join(text.split()), SHINGLE["cjk"]) if cjk else (text, SHINGLE["other"])
            )
            return [plain[at : at + size] for at in range(max(1, len(plain) - size + 1))]

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    # Its 0.10 hashes strings, of which xxhash 4 takes the bytes only.
    hashes.xxhash64 = lambda text: xxhash.xxh64_intdigest(text.encode())
    config = MinhashConfig(n_grams=1, num_buckets=BUCKETS, hashes_per_bucket=HASHES)
    signature = MinhashDedupSignature(f"{out}/signatures", config, language="zho_Latn")
    signature.word_tokenizer = Shingles()
    stages: list[tuple[int, list[Any]]] = [
        (WORKERS, [
            JsonlReader(texts),
            FTFYFormatter(normalization="NFKC"),
            PIIFormatter(),
            JsonlWriter(f"{out}/cleaned", compression=None),
        ]),
        (WORKERS, [JsonlReader(f"{out}/cleaned"), signature]),
        (BUCKETS, [MinhashDedupBuckets(f"{out}/signatures", f"{out}/pairs", config=config)]),
        (1, [MinhashDedupCluster(f"{out}/pairs", f"{out}/remove", config=config)]),
        (WORKERS, [
            JsonlReader(f"{out}/cleaned"),
            MinhashDedupFilter(f"{out}/remove"),
            JsonlWriter(f"{out}/kept", compression=None),
        ]),
    ]  # fmt: skip
    for number, (tasks, pipeline) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline,
            tasks=tasks,
            workers=min(tasks, WORKERS),
            logging_dir=f"{out}/logs/{number}",
            start_method="fork",
        ).run()


if __name__ == "__main__":
    {"datasets": run_datasets, "datatrove": run_datatrove}[sys.argv[1]](*sys.argv[2:])
