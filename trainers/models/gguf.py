"""A model in a GGUF file, as a plain Hugging Face folder: made once a node, and kept in its cache.

The weights are in fp32, as Transformers unpacks them, so the folder is several times as large as
the file. The chat template is the file's own. To rebuild the tokenizer takes minutes.
"""

import logging
import shutil
from pathlib import Path

from cluster.errors import UserError
from cluster.store.bases import file_hash
from cluster.store.lock import locked
from cluster.store.storage import CACHE

log = logging.getLogger(__name__)


def folder_of(file: Path) -> Path:
    """Where on this node the model of a GGUF file is, by its content, once it is converted."""
    return CACHE.expanduser() / "gguf" / file_hash(file)


def converted(file: Path) -> Path:
    """The folder with the model of a GGUF file. Processes of a node wait for the one that makes it.
    Raises UserError for a file that cannot be converted."""
    folder = folder_of(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_suffix(".part")
    if folder.exists():
        return folder
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            log.info("converting %s, once on this node, into %s", file, folder)
            _convert(file, part)
            part.rename(folder)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    unpacked = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **unpacked)
    except (ImportError, OSError, ValueError, LookupError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"base: cannot convert {str(file)!r}: {reason}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
