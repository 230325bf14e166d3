"""The chat templates of some eighty published models, as TRL has them beside its own for training:
each is either refused for its fault, or gives the ids of `apply_chat_template`.

Their tokens are those of a toy tokenizer: what looks like one in a template is one."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.errors import UserError
from tests.conversations import CONVERSATIONS, ToyTemplate, chatml, toy_tokenizer
from trainers.tasks.conversations.renderer import Renderer

TOKENS = re.compile(
    r"<[|｜][^<>|｜\s]+[|｜]>|<[|]?[a-z_]*turn[|]?>|<[|]?channel[|]?>|</?think>|</?tool_call>"
)
REFUSED: Mapping[str, str] = {
    "deepseek_r1_distill": "asks for an answer by",
    "deepseekv3": "asks for an answer by",
    "glm4moe": "never learn to stop",  # F1, trl#5988
    # Of images and texts: contents are lists of parts.
    "idefics3": "leaves out what a message says",
    "llava_next": "refuses it: ",
    "smolvlm": "leaves out what a message says",
}
FIXED_FOR_TRAINING = ("glm4moe_training",)


def published() -> list[Path]:
    spec = importlib.util.find_spec("trl")
    folders = spec.submodule_search_locations if spec else None
    return sorted(Path(next(iter(folders)), "chat_templates").glob("*.jinja")) if folders else []


def named(path: Path) -> str:
    return path.stem


def toy_of(path: Path) -> ToyTemplate:
    template = path.read_text("utf-8")
    tokens = sorted({*TOKENS.findall(template)})
    special = [token for token in tokens if "think" not in token and "tool" not in token]
    added = [token for token in tokens if token not in special]
    return ToyTemplate(template, ("<s>", "</s>", *special), chatml, tuple(added))


@pytest.mark.skipif(not published(), reason="needs trl, for its templates")
@pytest.mark.parametrize("path", published(), ids=named)
def test_a_published_template_is_refused_or_gives_the_tokenizers_ids(path: Path) -> None:
    toy = toy_of(path)
    fault = REFUSED.get(path.stem.removesuffix("_training"))
    if fault is not None and path.stem not in FIXED_FOR_TRAINING:
        with pytest.raises(UserError) as raised:
            Renderer(toy_tokenizer(toy))
        assert fault in str(raised.value)
        return
    renderer = Renderer(toy_tokenizer(toy))
    name = "thought" if renderer.asks_for_reasoning else "turns"
    conversation = CONVERSATIONS[name]
    first, *_ = renderer.sequences(conversation.messages)
    ids = toy_tokenizer(toy).apply_chat_template([*conversation.said], return_dict=False)
    assert first.input_ids == ids
    asked = renderer.prompt(conversation.messages[:-1])
    begin = len(asked)
    assert first.input_ids[:begin] == asked
    assert first.learned[begin]
    assert not first.learned[begin - 1]
    last = max(place for place, is_learned in enumerate(first.learned) if is_learned)
    assert first.input_ids[last] in renderer.stop_ids
