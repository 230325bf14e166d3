"""Eight templates times twelve conversations: their ids, what of them is learned, and what asks for
it; and templates that are refused.

F1 and so on are faults of other systems, each named by its report."""

import functools
from collections.abc import Mapping, Sequence

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from cluster.errors import UserError
from tests.conversations import (
    CHATML,
    CONVERSATIONS,
    DEEPSEEK,
    ENDLESS_GLM,
    MARKED,
    QWEN_3_5,
    TOYS,
    Piece,
    ToyTemplate,
    call,
    openai_messages,
    said,
    sequences_by_hand,
    toy_tokenizer,
)
from trainers.tasks.conversations.messages import messages
from trainers.tasks.conversations.renderer import Renderer
from trainers.tasks.conversations.template import UNFINISHED, NotRendered, read_template

RENDERED = [
    (toy, name) for toy, of in TOYS.items() for name in CONVERSATIONS if name not in of.refuses
]


@functools.cache
def renderer_of(toy_name: str) -> Renderer:
    return Renderer(toy_tokenizer(TOYS[toy_name]))


def renderer_with(toy_name: str, template: str) -> Renderer:
    """The toy's, but for the template."""
    return Renderer(toy_tokenizer(TOYS[toy_name]._replace(template=template)))


def learned_by_hand(toy: ToyTemplate, pieces: Sequence[Piece], taught: Sequence[int]) -> list[bool]:
    """Of each token of the pieces' text, whether it is in one that is learned."""
    text = "".join(piece for piece, _ in pieces)
    marks = [place in taught for piece, place in pieces for _ in piece]
    encoded = toy_tokenizer(toy)(text, add_special_tokens=False, return_offsets_mapping=True)
    return [all(marks[begin:end]) for begin, end in encoded["offset_mapping"]]


@pytest.mark.parametrize(("toy_name", "name"), RENDERED)
def test_ids_are_the_tokenizers_and_the_learned_ones_are_those_of_a_hand(
    toy_name: str, name: str
) -> None:
    toy, conversation, renderer = TOYS[toy_name], CONVERSATIONS[name], renderer_of(toy_name)
    rendered = renderer.sequences(conversation.messages, conversation.tools_json)
    by_hand = sequences_by_hand(toy, name)
    assert len(rendered) == len(by_hand)
    for sequence, (until, taught) in zip(rendered, by_hand, strict=True):
        ids = toy_tokenizer(toy).apply_chat_template(
            openai_messages(toy, conversation.said[:until]),
            tools=[*conversation.tools] or None,
            return_dict=False,
        )
        assert sequence.input_ids == ids
        pieces = toy.write(conversation.said[:until], conversation.tools)
        assert sequence.learned == learned_by_hand(toy, pieces, taught)
        assert sequence.rewritten == 0


@pytest.mark.parametrize(("toy_name", "name"), RENDERED)
def test_what_is_learned_follows_what_asks_for_it(toy_name: str, name: str) -> None:
    """Training's ids are those of `prompt`, which an endpoint computes, and the answer's (F7)."""
    toy, conversation, renderer = TOYS[toy_name], CONVERSATIONS[name], renderer_of(toy_name)
    rendered = renderer.sequences(conversation.messages, conversation.tools_json)
    for sequence, (_, taught) in zip(rendered, sequences_by_hand(toy, name), strict=True):
        for place in taught:
            asked = renderer.prompt(conversation.messages[:place], conversation.tools_json)
            ids = toy_tokenizer(toy).apply_chat_template(
                openai_messages(toy, conversation.said[:place]),
                tools=[*conversation.tools] or None,
                add_generation_prompt=True,
                return_dict=False,
            )
            begin = len(asked)
            assert asked == ids == sequence.input_ids[:begin]
            assert not sequence.learned[begin - 1]
            end = [*sequence.learned, False].index(False, begin)
            assert end > begin
            assert sequence.input_ids[end - 1] in renderer.stop_ids


@pytest.mark.parametrize(
    ("toy_name", "name"), [(toy, name) for toy, of in TOYS.items() for name in of.refuses]
)
def test_what_a_template_cannot_say_is_not_rendered(toy_name: str, name: str) -> None:
    conversation, renderer = CONVERSATIONS[name], renderer_of(toy_name)
    with pytest.raises(NotRendered) as raised:
        renderer.sequences(conversation.messages, conversation.tools_json)
    assert str(raised.value).startswith(TOYS[toy_name].refuses[name])


def test_an_answer_that_history_rewrites_is_context() -> None:
    """Qwen3 as one sequence: the earlier answers stand without the thought that a model asked for
    them would write."""
    renderer, turns = renderer_of("Qwen 3"), CONVERSATIONS["turns"].messages
    whole = renderer.render(turns)
    assert whole.rewritten == 2
    assert whole == renderer.sequences(turns)[0]._replace(rewritten=2)


def test_a_template_that_asks_for_reasoning_learns_no_row_without() -> None:
    """The line feed behind `<think>` would be another token before an empty thought."""
    renderer = renderer_with("Qwen 3", QWEN_3_5)
    assert renderer.render(CONVERSATIONS["thought"].messages)
    with pytest.raises(NotRendered, match="no reasoning, which the template asks for"):
        renderer.sequences(CONVERSATIONS["single"].messages)
    without = renderer_with("Qwen 3", f"{{% set enable_thinking = false %}}{QWEN_3_5}")
    assert without.render(CONVERSATIONS["single"].messages)


BROKEN: Mapping[str, tuple[str, str, str]] = {
    "trims what is said": (
        "ChatML",
        CHATML.replace("m.content }}", "m.content[:9] }}"),
        "leaves out what a message says",
    ),
    "makes lines one": (
        "ChatML",
        CHATML.replace("m.content }}", "m.content.split() | join(' ') }}"),
        "leaves out what a message says",
    ),
    "drops all but the last message": (
        "ChatML",
        CHATML.replace("in messages", "in messages[-1:]"),
        "leaves out what a message says",
    ),
    "ends a turn with the next message (F1, trl#5988)": (
        "GLM",
        ENDLESS_GLM,
        "never learn to stop",
    ),
    "ends a turn by no token": (
        "ChatML",
        CHATML.replace("<|im_end|>", "###"),
        "ends an answer by '###', which is no token",
    ),
    "has tokens that the vocabulary lacks": (
        "Llama 3",
        CHATML,
        "writes <|im_end|>, <|im_start|>, not in the vocabulary",
    ),
    "asks otherwise than it answers": (
        "DeepSeek",
        DEEPSEEK.replace("{{ '<｜Assistant｜>' }}", "{{ '<｜Assistant｜><think>\n' }}"),
        "asks for an answer by",
    ),
    "marks no answer": (
        "ChatML",
        MARKED.replace("{% generation %}", "{% generation %}{% endgeneration %}").replace(
            "{{ m.content }}{% endgeneration %}", "{{ m.content }}"
        ),
        "marks leave out the answer",
    ),
    "cannot be read": ("ChatML", "{% for m in %}", "refuses it: "),
    "wants a system's message": (
        "ChatML",
        "{{ raise_exception('no system') if messages[0].role != 'system' }}",
        "refuses it: no system",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_template_is_refused_by_its_fault(fault: str) -> None:
    toy, template, says = BROKEN[fault]
    with pytest.raises(UserError, match=r"^finetune\.template: ") as raised:
        renderer_with(toy, template)
    assert says in str(raised.value)


def test_a_prompt_that_is_other_tokens_before_an_answer_is_refused() -> None:
    """GPT-2's pattern leaves the last line feed to what follows."""
    tokenizer = toy_tokenizer(TOYS["Llama 3"])
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    with pytest.raises(
        UserError, match=r"the tokenizer parts .* otherwise where an answer follows"
    ):
        Renderer(tokenizer)


def test_without_a_template_there_is_a_remedy() -> None:
    tokenizer = toy_tokenizer(TOYS["ChatML"])
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template; name a file"):
        Renderer(tokenizer)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"finetune\.template: .*absent\.jinja"):
        read_template("absent.jinja")


def test_the_end_of_turn_is_learned_also_where_it_pads() -> None:
    """F2, trl#6357: labels that are masked by the id of padding never teach the end."""
    tokenizer = toy_tokenizer(TOYS["ChatML"], pads_with_end=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rendered = Renderer(tokenizer).render(CONVERSATIONS["single"].messages)
    ends = [n for n, id_ in enumerate(rendered.input_ids) if id_ == tokenizer.eos_token_id]
    assert [rendered.learned[end] for end in ends] == [False, True]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_thought_that_the_prompt_begins_is_in_prompt_and_answer_once(name: str) -> None:
    """F5, trl#6433: `<think>`, with which both answers of a pair begin, is part of the prompt."""
    renderer, conversation = renderer_of("GLM"), CONVERSATIONS[name]
    rendered = renderer.render(conversation.messages, conversation.tools_json)
    asked = renderer.prompt(conversation.messages[:-1], conversation.tools_json)
    think = toy_tokenizer(TOYS["GLM"]).convert_tokens_to_ids("<think>")
    assert asked[-1] == think
    assert rendered.input_ids[: len(asked)] == asked
    assert think not in rendered.input_ids[len(asked) :]


@pytest.mark.parametrize("name", ["single", "thought", "thoughts", "tool", "two calls"])
def test_reasoning_stands_as_the_tokenizers_own_template_has_it(name: str) -> None:
    """F6, trl#6363: templates made for training wrote reasoning otherwise than those of use."""
    toy, conversation = TOYS["Qwen 3"], CONVERSATIONS[name]
    rendered = renderer_of("Qwen 3").render(conversation.messages, conversation.tools_json)
    text = toy_tokenizer(toy).apply_chat_template(
        [*conversation.said], tools=[*conversation.tools] or None, tokenize=False
    )
    assert toy_tokenizer(toy).decode(rendered.input_ids) == text


def learned_texts(toy_name: str, name: str) -> list[str]:
    """The runs of learned tokens of a conversation as one sequence."""
    conversation = CONVERSATIONS[name]
    rendered = renderer_of(toy_name).render(conversation.messages, conversation.tools_json)
    tokenizer = toy_tokenizer(TOYS[toy_name])
    runs: list[list[int]] = [[]]
    for id_, is_learned in zip(rendered.input_ids, rendered.learned, strict=True):
        if is_learned:
            runs[-1].append(id_)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


def test_a_text_and_a_call_can_be_one_turn() -> None:
    """F7, LLaMA-Factory#10530."""
    assert learned_texts("ChatML", "text and call") == [
        'I look.<tool_call>weather {"at": "Bonn"}</tool_call><|im_end|>'
    ]


def test_a_call_and_the_answer_behind_the_tool_are_learned() -> None:
    """F8, ms-swift#9923."""
    assert learned_texts("ChatML", "tool") == [
        '<tool_call>weather {"at": "Oslo"}</tool_call><|im_end|>',
        "Yes, -3 degrees.<|im_end|>",
    ]


def test_a_call_that_is_not_to_be_learned_is_not() -> None:
    """F8, ms-swift#9266."""
    conversation = CONVERSATIONS["tool"]
    made = conversation.messages
    made[1]["train"] = False
    rendered = renderer_of("ChatML").render(made, conversation.tools_json)
    whole = renderer_of("ChatML").render(conversation.messages, conversation.tools_json)
    first = whole.learned.index(True)
    end = whole.learned.index(False, first)
    assert rendered.input_ids == whole.input_ids
    assert rendered.learned == [False] * end + whole.learned[end:]


def test_a_call_may_have_an_end_of_its_own() -> None:
    """Llama 3.1 ends it by `<|eom_id|>`, at which generation has to stop, too."""
    tokenizer = toy_tokenizer(TOYS["Llama 3"])
    stops = tokenizer.convert_ids_to_tokens([*renderer_of("Llama 3").stop_ids])
    assert {*stops} == {"<|eot_id|>", "<|eom_id|>"}


def test_the_name_of_a_special_token_is_no_text() -> None:
    """It would end the message, and let whoever writes it speak as another role."""
    made = messages([said("user", "Say <|im_end|>"), said("assistant", "No.")])
    with pytest.raises(NotRendered, match="the name of a special token"):
        renderer_of("ChatML").render(made)
    with pytest.raises(NotRendered, match="the name of a special token"):
        renderer_of("ChatML").prompt(made[:1])


def test_an_answer_that_is_one_token_with_its_prompt_is_not_learned() -> None:
    """Its line feed would stand in the prompt's last token, which no model is asked with."""
    made = messages([said("user", "Why?"), said("assistant", "\n\nSo.")])
    with pytest.raises(NotRendered, match="no answer stands as the model would write it"):
        renderer_of("ChatML").render(made)


def test_an_answer_without_an_end_is_not_learned() -> None:
    """Where only calls have none, as here, the template is good for other rows."""
    endless = CHATML.replace(
        "{{ '<|im_end|>\n' }}{% endfor %}",
        "{{ '\n' if m.tool_calls else '<|im_end|>\n' }}{% endfor %}",
    ).replace("</tool_call>", "")
    renderer = renderer_with("ChatML", endless)
    asked = said("user", "Is it cold?")
    made = messages([asked, said("assistant", "", tool_calls=[call("weather", at="Rome")])])
    with pytest.raises(NotRendered, match=UNFINISHED):
        renderer.render(made)
    assert renderer.render(messages([asked, said("assistant", "No.")]))


def test_tools_that_a_template_does_not_write_are_missed_also_in_a_prompt() -> None:
    tools = CONVERSATIONS["tool"].tools_json
    with pytest.raises(NotRendered, match="the template leaves out tools"):
        renderer_of("Gemma").prompt(messages([said("user", "Cold?")]), tools)
