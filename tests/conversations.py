"""Toy chat templates with real tokenizers, and conversations, as OpenAI's API has them.

Each template is cut down from a family's own. Beside it stands what it makes of a conversation,
written without Jinja: texts, and the place of the message whose answer a text is, if it is one.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trainers.tasks.conversations.messages import Message, messages, tools_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Piece = tuple[str, int | None]
"""A text, and the place of the message that it answers by; None of what is not learned."""
Said = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class Conversation(NamedTuple):
    said: Said
    tools: Tools = ()

    @property
    def messages(self) -> list[Message]:
        """As rows have them."""
        made: list[Message] = messages([*self.said])
        return made

    @property
    def tools_json(self) -> str:
        return tools_of([*self.tools])


class ToyTemplate(NamedTuple):
    template: str
    special: tuple[str, ...]
    """Tokens of the vocabulary; first those that begin and end a text."""
    write: Callable[[Said, Tools], list[Piece]]
    added: tuple[str, ...] = ()
    """Tokens that are text, too, such as `<think>`."""
    refuses: Mapping[str, str] = {}
    """How the reason begins for which a conversation is not rendered."""
    sequences: Mapping[str, Sequence[tuple[int, Sequence[int]]]] = {}
    """Of conversations that become several: how many messages each has, and which it teaches."""


def said(role: str, content: str, **keys: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **keys}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a place.", "parameters": {"type": "object"}},
}
CODE = "Like this:\n\n```python\ndef f(x):\n    return {'a': x}  # <b>\n```"
CONVERSATIONS: Mapping[str, Conversation] = {
    "single": Conversation([said("user", "Who are you?"), said("assistant", "A mill.")]),
    "system": Conversation(
        [said("system", "Be brief."), said("user", "Why?"), said("assistant", "So.")]
    ),
    "turns": Conversation(
        [
            *(said("user", "One?"), said("assistant", "First.")),
            *(said("user", "Two?"), said("assistant", "Second.")),
            *(said("user", "Three?"), said("assistant", "Third.")),
        ]
    ),
    "code": Conversation([said("user", "How?\n\n  - in code"), said("assistant", CODE)]),
    "chinese": Conversation([said("user", "你好，世界！"), said("assistant", "你好。👩‍🚀 x² ≤ ½")]),
    "thought": Conversation(
        [
            said("user", "2 + 2?"),
            said("assistant", "4", reasoning_content="Two and two.\nFour, then."),
        ]
    ),
    "thoughts": Conversation(
        [
            *(said("user", "1 + 1?"), said("assistant", "2", reasoning_content="One and one.")),
            *(said("user", "2 + 2?"), said("assistant", "4", reasoning_content="Two and two.")),
        ]
    ),
    "tool": Conversation(
        [
            said("user", "Is it cold in Oslo?"),
            said("assistant", "", tool_calls=[call("weather", at="Oslo")]),
            said("tool", '{"degrees": -3}', name="weather"),
            said("assistant", "Yes, -3 degrees."),
        ],
        [WEATHER],
    ),
    "text and call": Conversation(
        [
            said("user", "Is it cold in Bonn?"),
            said("assistant", "I look.", tool_calls=[call("weather", at="Bonn")]),
        ],
        [WEATHER],
    ),
    "two calls": Conversation(
        [
            said("user", "Oslo or Bonn?"),
            said("assistant", "", tool_calls=[call("cold", at="Oslo"), call("cold", at="Bonn")]),
            *(said("tool", "yes"), said("tool", "no")),
            said("assistant", "Oslo."),
        ]
    ),
    "untrained": Conversation(
        [
            *(said("user", "Bad?"), said("assistant", "Wrong.", train=False)),
            *(said("user", "Good?"), said("assistant", "Right.")),
        ]
    ),
    "spaces": Conversation(
        [said("user", "  Ends\nhere \n"), said("assistant", "It does.  \n")],
    ),
}

# ChatML, with tools.

CHATML = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function.name + ' ' + "
    "call.function.arguments | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Its marks leave out the end of turn, as many do."""


def calls_of(one: Mapping[str, Any], written: str) -> str:
    """As a format with the fields `name` and `arguments`, which are JSON."""
    functions = [each["function"] for each in one.get("tool_calls", ())]
    return "".join(
        written.format(name=of["name"], arguments=json.dumps(of["arguments"], ensure_ascii=False))
        for of in functions
    )


def chatml(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = []
    if tools:
        schemas = json.dumps([*tools], ensure_ascii=False)
        pieces.append((f"<|im_start|>system\n{schemas}<|im_end|>\n", None))
    for place, one in enumerate(conversation):
        is_answer = one["role"] == "assistant"
        pieces.append((f"<|im_start|>{one['role']}\n", None))
        calls = calls_of(one, "<tool_call>{name} {arguments}</tool_call>")
        pieces.append((f"{one['content']}{calls}<|im_end|>", place if is_answer else None))
        pieces.append(("\n", None))
    return pieces


# Llama 3: trims, and ends calls of tools by another token.

HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
LLAMA_3 = (
    "{{ bos_token }}"
    "{% if tools %}{{ '<|start_header_id|>system<|end_header_id|>\n\n' + tools | tojson + "
    "'<|eot_id|>' }}{% endif %}{% for m in messages %}"
    "{% if m.tool_calls %}"
    "{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' + '{\"name\": \"' + f.name + "
    "'\", \"parameters\": ' + f.arguments | tojson + '}<|eom_id|>' }}"
    "{% elif m.role == 'tool' %}{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' + "
    "m.content | tojson + '<|eot_id|>' }}"
    "{% else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + "
    "'<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def llama_3(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = [("<|begin_of_text|>", None)]
    if tools:
        schemas = json.dumps([*tools], ensure_ascii=False)
        pieces.append((f"{HEADER.format('system')}{schemas}<|eot_id|>", None))
    for place, one in enumerate(conversation):
        if one["role"] == "tool":
            content = json.dumps(one["content"], ensure_ascii=False)
            pieces.append((f"{HEADER.format('ipython')}{content}<|eot_id|>", None))
            continue
        pieces.append((HEADER.format(one["role"]), None))
        calls = calls_of(one, '{{"name": "{name}", "parameters": {arguments}}}<|eom_id|>')
        text = calls or f"{one['content'].strip()}<|eot_id|>"
        pieces.append((text, place if one["role"] == "assistant" else None))
    return pieces


# Mistral: the system's message is a part of the first question, and roles must alternate.

MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def mistral(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = [("<s>", None)]
    system = ""
    for place, one in enumerate(conversation):
        if one["role"] == "system":
            system = f"{one['content']}\n\n"
        elif one["role"] == "user":
            pieces.append((f"[INST] {system}{one['content']} [/INST]", None))
            system = ""
        else:
            pieces.append((f" {one['content']}</s>", place))
    return pieces


# Qwen3: what was thought before earlier answers is gone, and the last one always has a thought.

QWEN = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content.lstrip('\n') }}"
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>\n' + call.function.name + ' ' + "
    "call.function.arguments | tojson + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}"
)
QWEN_3 = QWEN + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
QWEN_3_5 = QWEN + (
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""Its prompt begins a thought, or has an empty one."""


def qwen_3(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = []
    if tools:
        schemas = json.dumps([*tools], ensure_ascii=False)
        pieces.append((f"<|im_start|>system\n{schemas}<|im_end|>\n", None))
    asked = max(place for place, one in enumerate(conversation) if one["role"] == "user")
    for place, one in enumerate(conversation):
        is_answer = one["role"] == "assistant"
        pieces.append((f"<|im_start|>{one['role']}\n", None))
        thought = one.get("reasoning_content", "")
        is_last = place == len(conversation) - 1
        thinks = is_answer and place > asked and (is_last or thought)
        begin = f"<think>\n{thought}\n</think>\n\n" if thinks else ""
        calls = calls_of(one, "<tool_call>\n{name} {arguments}\n</tool_call>")
        text = f"{begin}{one['content']}{calls}<|im_end|>"
        pieces += [(text, place if is_answer else None), ("\n", None)]
    return pieces


# Gemma: no system, an assistant is called model, and messages are trimmed.

GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def gemma(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = [("<bos>", None)]
    for place, one in enumerate(conversation):
        is_answer = one["role"] == "assistant"
        pieces.append((f"<start_of_turn>{'model' if is_answer else one['role']}\n", None))
        text = f"{one['content'].strip()}<end_of_turn>"
        pieces += [(text, place if is_answer else None), ("\n", None)]
    return pieces


# DeepSeek: takes the arguments of calls as JSON, and writes no tools.

DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}"
    "{% endfor %}{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] }}"
    "{% for call in m.tool_calls or [] %}{{ '<｜tool▁call▁begin｜>' + call.function.name + '\n' + "
    "call.function.arguments + '<｜tool▁call▁end｜>' }}{% endfor %}{{ eos_token }}"
    "{% elif m.role == 'tool' %}"
    "{{ '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)


def deepseek(conversation: Said, tools: Tools) -> list[Piece]:
    system = "".join(one["content"] for one in conversation if one["role"] == "system")
    pieces: list[Piece] = [(f"<｜begin▁of▁sentence｜>{system}", None)]
    for place, one in enumerate(conversation):
        match one["role"]:
            case "user":
                pieces.append((f"<｜User｜>{one['content']}", None))
            case "tool":
                text = f"<｜tool▁output▁begin｜>{one['content']}<｜tool▁output▁end｜>"
                pieces.append((text, None))
            case "assistant":
                pieces.append(("<｜Assistant｜>", None))
                calls = calls_of(one, "<｜tool▁call▁begin｜>{name}\n{arguments}<｜tool▁call▁end｜>")
                pieces.append((f"{one['content']}{calls}<｜end▁of▁sentence｜>", place))
    return pieces


# GLM, with an end of turn of its own; and as it is, where the next message's role ends a turn.

GLM = (
    "[gMASK]<sop>{% if tools %}{{ '<|system|>\n' + tools | tojson }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|assistant|>\n<think>' + (m.reasoning_content or '') + '</think>\n' + m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function.name + '\n' + "
    "call.function.arguments | tojson + '</tool_call>' }}{% endfor %}{{ '<|endoftext|>' }}"
    "{% elif m.role == 'tool' %}{{ '<|observation|>\n' + m.content }}"
    "{% else %}{{ '<|' + m.role + '|>\n' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n<think>' }}{% endif %}"
)
ENDLESS_GLM = GLM.replace("{{ '<|endoftext|>' }}", "")


def glm(conversation: Said, tools: Tools) -> list[Piece]:
    pieces: list[Piece] = [("[gMASK]<sop>", None)]
    if tools:
        pieces.append((f"<|system|>\n{json.dumps([*tools], ensure_ascii=False)}", None))
    for place, one in enumerate(conversation):
        role = "observation" if one["role"] == "tool" else one["role"]
        if role != "assistant":
            pieces.append((f"<|{role}|>\n{one['content']}", None))
            continue
        pieces.append(("<|assistant|>\n<think>", None))
        calls = calls_of(one, "<tool_call>{name}\n{arguments}</tool_call>")
        thought = one.get("reasoning_content", "")
        pieces.append((f"{thought}</think>\n{one['content']}{calls}<|endoftext|>", place))
    return pieces


NO_REASONING = {
    "thought": "the template leaves out reasoning",
    "thoughts": "the template leaves out reasoning",
}
NO_TOOLS = {
    "tool": "the template leaves out tools",
    "text and call": "the template leaves out tools",
}
ONLY_TURNS = {
    "tool": "the template refuses it: roles must alternate",
    "text and call": "the template leaves out a call",
    "two calls": "the template refuses it: roles must alternate",
}
IM = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
TOYS: Mapping[str, ToyTemplate] = {
    "ChatML": ToyTemplate(CHATML, IM, chatml, ("<tool_call>", "</tool_call>"), NO_REASONING),
    "ChatML with marks": ToyTemplate(
        MARKED,
        IM,
        chatml,
        refuses={
            **NO_REASONING,
            **dict.fromkeys(ONLY_TURNS, "the template leaves out a call"),
        },
    ),
    "Llama 3": ToyTemplate(
        LLAMA_3,
        (
            *("<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>"),
            *("<|start_header_id|>", "<|end_header_id|>"),
        ),
        llama_3,
        refuses={
            **NO_REASONING,
            "text and call": "the template leaves out what a message says",
            "two calls": "the template refuses it: one call at a time",
        },
    ),
    "Mistral": ToyTemplate(
        MISTRAL, ("<s>", "</s>"), mistral, refuses={**NO_REASONING, **ONLY_TURNS}
    ),
    "Qwen 3": ToyTemplate(
        QWEN_3,
        IM,
        qwen_3,
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
        sequences={
            "turns": [(6, [5]), (4, [3]), (2, [1])],
            "thoughts": [(4, [3]), (2, [1])],
            "tool": [(4, [3]), (2, [1])],
            "two calls": [(5, [4]), (2, [1])],
        },
    ),
    "Gemma": ToyTemplate(
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        gemma,
        refuses={
            **NO_REASONING,
            **ONLY_TURNS,
            "system": "the template refuses it: System role not supported",
        },
    ),
    "DeepSeek": ToyTemplate(
        DEEPSEEK,
        (
            *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
            *("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
            *("<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
        ),
        deepseek,
        refuses={**NO_REASONING, **NO_TOOLS},
    ),
    "GLM": ToyTemplate(
        GLM,
        (
            *("[gMASK]", "<|endoftext|>", "<sop>"),
            *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        ),
        glm,
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
}


def sequences_by_hand(toy: ToyTemplate, name: str) -> Sequence[tuple[int, Sequence[int]]]:
    """How many messages each sequence of a conversation has, and the places of those it teaches."""
    conversation = CONVERSATIONS[name].said
    taught = [
        place
        for place, one in enumerate(conversation)
        if one["role"] == "assistant" and one.get("train", True)
    ]
    return toy.sequences.get(name, [(len(conversation), taught)])


WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""As Llama 3 and Qwen part a text. Line feeds stay together, whatever follows them; by GPT-2's
pattern two of them would be other tokens at the end of a prompt than before an answer."""


@functools.cache
def _trained_backend() -> str:
    """A byte-level BPE, as JSON: it knows any text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (one["content"] for each in CONVERSATIONS.values() for one in each.said)
    words = (
        "system user assistant weather\n\n \n\n\n What is it? It is this one, and that is all.\n"
    )
    backend.train_from_iterator([*texts, *[words] * 8], trainer)
    written: str = backend.to_str()
    return written


def toy_tokenizer(toy: ToyTemplate, *, pads_with_end: bool = False) -> "PreTrainedTokenizerFast":
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained_backend())
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in toy.special])
    backend.add_tokens([AddedToken(name, normalized=False) for name in toy.added])
    begin, end, *_ = toy.special
    pad = end if pads_with_end else "<pad>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=begin, eos_token=end, pad_token=pad
    )
    tokenizer.chat_template = toy.template
    return tokenizer


def openai_messages(toy: ToyTemplate, conversation: Said) -> list[dict[str, Any]]:
    """As who knows the template would pass them to `apply_chat_template`."""
    plain = [{key: one[key] for key in one if key != "train"} for one in conversation]
    if toy.template is not DEEPSEEK:
        return plain
    return [
        {**one, "tool_calls": [_with_json_arguments(each) for each in one["tool_calls"]]}
        if "tool_calls" in one
        else one
        for one in plain
    ]


def _with_json_arguments(one: Mapping[str, Any]) -> dict[str, Any]:
    of = one["function"]
    arguments = json.dumps(of["arguments"], ensure_ascii=False)
    return {**one, "function": {**of, "arguments": arguments}}
