"""A corpus in which every objective finds its tokenizer, and a tokenizer for conversations."""

import copy
from typing import Any

import numpy as np
import pytest

from cluster.store.storage import Storage
from tests.chats import TEMPLATE
from tests.packed import corpus_of
from trainers.corpora.tokens.pack import pack_documents


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Any:
    documents = [np.arange(5, 15, dtype=np.uint16)] * 6
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    table = pack_documents(documents, *ends, 32, tokenizer.pad_token_id, len(tokenizer))
    storage = Storage.at(str(tmp_path_factory.mktemp("mill")))
    corpus = corpus_of(storage, {"train": [table]})
    tokenizer.save_pretrained(corpus.path / "tokenizer")
    return corpus


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer: Any) -> Any:
    own = copy.deepcopy(tokenizer)
    own.chat_template = TEMPLATE
    return own
