"""A base in memory with adapters of it, of which each row of a batch may have another one."""

import collections
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from cluster.lazy_import import lazy_import
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.methods import loading
from trainers.methods.config import Lora
from trainers.methods.record import RECORD, AdapterRecord
from trainers.models.card import read_card
from trainers.tasks.chat.predictor import ChatPredictor
from trainers.tasks.predictor import inference_dtype
from trainers.tasks.registry import TASKS
from trainers.tasks.rendered import RenderedTask
from trainers.tasks.writing.predictor import WritingPredictor


def mixable(folder: Path) -> AdapterRecord | None:
    """The record of an adapter that a batch can mix with others, which is LoRA; else None."""
    if not (folder / RECORD).is_file():
        return None
    record = AdapterRecord.read(folder)
    return record if isinstance(record.adapter, Lora) and not record.trained_whole else None


def whole_model(folder: Path, device: torch.device) -> Any:
    """The model in a folder, with an adapter in its base's weights. Raises UserError."""
    head = _writer(folder).head_of(folder)
    model = loading.load(folder, head, inference_dtype(read_card(folder), device))
    return model.eval().to(device)


def predictor_of(folder: Path, model: Any) -> WritingPredictor:
    """What encodes prompts for the model in a folder as they were in training; `model` answers
    them. How long an answer may be is for who asks."""
    card = {**read_card(folder), "most_new_tokens": 1}
    return _writer(folder)(card, tokenizers.load(folder), model)


def _writer(folder: Path) -> type[WritingPredictor]:
    section = TASKS[read_card(folder)["task"]]
    assert issubclass(section, RenderedTask)
    kind: type[WritingPredictor] = lazy_import(section.writer)
    return kind


class Mixed:
    """The base of an adapter, and the adapters that are loaded."""

    def __init__(self, folder: Path, record: AdapterRecord, device: torch.device, most: int):
        """By the folder of one adapter; so many can be loaded at once. Raises UserError."""
        dtype = inference_dtype(read_card(folder), device)
        with loading.plain_base(folder, record.architecture) as base:
            self.model: Any = base.to(dtype).eval().to(device)
        self.base_folder = loading.base_of(folder)
        self._most = most
        self._folders: dict[str, str] = {}
        self._loaded: collections.OrderedDict[str, None] = collections.OrderedDict()
        """Those that were used last at the end."""

    def know(self, adapter: str, folder: Path) -> None:
        """Where an adapter is, before it is asked for."""
        self._folders[adapter] = str(folder)

    def ready(self, adapter: str, in_use: Collection[str]) -> bool:
        """Has an adapter loaded, between two steps of the model, in the place of the one that was
        not used for longest where there are as many as may be; False where all are in use."""
        if adapter not in self._loaded:
            if len(self._loaded) >= self._most:
                idle = next((one for one in self._loaded if one not in in_use), None)
                if idle is None:
                    return False
                self.model.delete_adapter(idle)
                del self._loaded[idle]
            self._load(adapter)
        self._loaded[adapter] = None
        self._loaded.move_to_end(adapter)
        return True

    def _load(self, adapter: str) -> None:
        folder = self._folders[adapter]
        if hasattr(self.model, "peft_config"):
            self.model.load_adapter(folder, adapter, torch_device=str(self.model.device))
        else:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, folder, adapter_name=adapter)
        self.model.eval()

    def base_predictor(self, context: int) -> WritingPredictor | None:
        """What encodes conversations for the base itself; None of one without a chat template."""
        tokenizer = tokenizers.load(self.base_folder)
        if not tokenizer.chat_template:
            return None
        card = {
            "clean": Clean().model_dump(mode="json"),
            "max_length": context,
            "most_new_tokens": 1,
        }
        return ChatPredictor(card, tokenizer, self.model)
