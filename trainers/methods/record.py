"""What an adapter's folder says of it, for those that need no weights."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from cluster.errors import UserError
from trainers.methods.config import Adapting, Method

RECORD, PEFT_CONFIG = "adapter.json", "adapter_config.json"


@dataclasses.dataclass(frozen=True)
class AdapterRecord:
    """What an adapter's folder says of it."""

    method: Mapping[str, Any]
    """Its section of the recipe."""
    architecture: str
    """The class of Transformers that it is in."""
    base: str
    """Its lasting name (cluster/store/bases.py)."""
    base_model: str | None
    """The id of a base that is a model of a workspace."""
    base_files: Mapping[str, str]
    """The sha256 of the base's files, by name."""
    trained_whole: list[str]
    """The modules that are trained as they are."""
    base_revision: str | None = None
    """The commit of a base of the hub."""

    @classmethod
    def parse(cls, document: str | bytes) -> Self:
        """Raises ValueError or TypeError where it is damaged."""
        return cls(**json.loads(document))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises UserError where it is damaged."""
        try:
            return cls.parse((folder / RECORD).read_text("utf-8"))
        except (ValueError, TypeError) as error:
            raise UserError(f"{folder / RECORD} is damaged: {error}") from error

    def write(self, folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
        (folder / RECORD).write_text(text, "utf-8")

    @property
    def adapter(self) -> Adapting:
        section = TypeAdapter(Method).validate_python(self.method)
        assert isinstance(section, Adapting)
        return section


def is_adapter(source: str | Path) -> bool:
    return (Path(source) / RECORD).is_file()
