"""The models of one endpoint: a whole one, or a base with adapters of it by name.

A whole model answers by its recipe's name. A LoRA adapter answers beside its base and the other
promoted LoRA adapters of that base in its workspace, which are loaded when they are asked for.
Adapters of other kinds, which a batch cannot mix, are put into their base's weights, and answer
alone.
"""

import dataclasses
import datetime
import threading
import time
from collections.abc import Collection

import torch

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from trainers.models.build import positions_of
from trainers.models.published import refuse_other_bytes
from trainers.tasks.writing.adapters import (
    RECORD,
    Mixed,
    mixable,
    predictor_of,
    whole_model,
)
from trainers.tasks.writing.predictor import WritingPredictor

CONTEXT = 4096
"""Tokens of a prompt with its answer, of a model whose positions have no end."""

KNOWN_FOR_S = 2.0
"""The workspace is asked for promotions no more often than that."""


@dataclasses.dataclass(frozen=True)
class Served:
    """What answers by one name."""

    name: str
    version: str
    predictor: WritingPredictor
    """Encodes prompts as they were in training; the engine makes the forwards."""
    adapter: str | None = None
    """By what the engine knows it; None of what has no adapter."""


class Models:
    """Of one process."""

    def __init__(self, model: Artifact, device: torch.device, most_adapters: int):
        """Raises UserError for one that is damaged, or whose base is not there."""
        refuse_other_bytes(model.path, None)
        self._first, self._record = model, mixable(model.path)
        self._served: dict[str, Served] = {}
        """By the id of a model."""
        self._known: dict[str, Artifact] | None = None
        self._known_until = 0.0
        self._lock = threading.Lock()
        self.base: Served | None = None
        self._mixed: Mixed | None = None
        if self._record is None:
            self.model = whole_model(model.path, device)
            return
        self._mixed = Mixed(model.path, self._record, device, most_adapters)
        self.model = self._mixed.model
        self._add_base(self._mixed, self._record.base_model or self._record.base)
        self.ready(self._serve(model).adapter or "", ())
        self.model = self._mixed.model

    def _add_base(self, mixed: Mixed, named: str) -> None:
        predictor = mixed.base_predictor(self.context)
        if predictor is not None:
            name = named.rstrip("/").rpartition("/")[2]
            self.base = Served(name, name, predictor)

    @property
    def context(self) -> int:
        """Tokens of a prompt with its answer, at most."""
        return positions_of(self.model) or CONTEXT

    def known(self) -> dict[str, Artifact]:
        """The models that answer by name, but for the base: of a recipe that has several the one
        that was promoted last."""
        now = time.monotonic()
        if self._known is None or now > self._known_until:
            self._known, self._known_until = self._listed(), now + KNOWN_FOR_S
        return self._known

    def _listed(self) -> dict[str, Artifact]:
        first, found = self._first, {}
        promoted = artifacts.listed(first.storage, "promotion") if self._record else []
        for promotion in promoted:
            model = artifacts.find(first.storage, promotion.manifest.parents["finetune"])
            if model is not None and self._is_beside(model):
                found[model.manifest.recipe] = model
        return {**found, first.manifest.recipe: first}

    def _is_beside(self, model: Artifact) -> bool:
        """Whether it is an adapter of the same base."""
        assert self._record is not None
        if RECORD not in model.manifest.files:  # fetched from afar only where it is one
            return False
        record = mixable(model.path)
        return record is not None and record.base_files == self._record.base_files

    def named(self, name: str) -> Served | None:
        """What answers by a name. Raises UserError for an adapter that is damaged."""
        if self.base is not None and name == self.base.name:
            return self.base
        model = self.known().get(name)
        return None if model is None else self._serve(model)

    def _serve(self, model: Artifact) -> Served:
        with self._lock:
            if model.id not in self._served:
                refuse_other_bytes(model.path, None)
                self._served[model.id] = self._made(model)
            return self._served[model.id]

    def _made(self, model: Artifact) -> Served:
        adapter = None
        if self._mixed is not None:
            adapter = model.version
            self._mixed.know(adapter, model.path)
        predictor = predictor_of(model.path, self.model)
        return Served(model.manifest.recipe, model.version, predictor, adapter)

    def ready(self, adapter: str, in_use: Collection[str]) -> bool:
        """Of the Batcher."""
        assert self._mixed is not None, "a whole model has no adapters"
        return self._mixed.ready(adapter, in_use)


def created(model: Artifact) -> int:
    """In seconds since 1970."""
    return int(datetime.datetime.fromisoformat(model.manifest.created).timestamp())
