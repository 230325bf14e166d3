"""POST /v1/completions."""

from collections.abc import AsyncIterator
from typing import Any

from serving.generation.answer import Answer
from serving.generation.answers import completion_logprobs
from serving.generation.errors import Refused
from serving.generation.models import Served
from serving.generation.requests import CompletionRequest
from serving.generation.text import Detokenizer
from serving.generation.writing import Delta, deltas
from trainers.tasks.generate.predictor import GeneratePredictor
from trainers.tasks.writing.batcher import Asked


class CompletionAnswer(Answer[CompletionRequest]):
    prefix = "cmpl"
    prompt_key = "prompt"

    def __init__(self, request: CompletionRequest, served: Served, context: int, _: Any):
        """Raises Refused."""
        super().__init__(request, served, _prompt(request, served), context)
        self._choices = [self.asked(choice) for choice in range(request.n)]

    def choices_asked(self) -> list[Asked]:
        return self._choices

    def deltas(self, choice: int) -> AsyncIterator[Delta]:
        detokenizer = Detokenizer(self.tokenizer, self.request.stops)
        return deltas(self.writings[choice], detokenizer, None)

    async def whole(self) -> dict[str, Any]:
        made = await self.choices()
        choices = []
        for place, of_choice in enumerate(made):
            drawn = [one for delta in of_choice for one in delta.drawn]
            choices.append(
                {
                    "index": place,
                    "text": "".join(delta.content for delta in of_choice),
                    "logprobs": completion_logprobs(drawn, self.tokenizer, 0),
                    "finish_reason": of_choice[-1].finish,
                }
            )
        tokens = sum(len(delta.drawn) for one in made for delta in one)
        return {**self.head("text_completion"), "choices": choices, "usage": self.usage(tokens)}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        head = self.head("text_completion")
        null_usage = {"usage": None} if self.request.has_usage else {}
        offsets, tokens = [0] * self.request.n, 0
        async for choice, delta in self.mixed():
            tokens += len(delta.drawn)
            told = {
                "index": choice,
                "text": delta.content,
                "logprobs": completion_logprobs(delta.drawn, self.tokenizer, offsets[choice]),
                "finish_reason": delta.finish,
            }
            offsets[choice] += len(delta.content)
            yield {**head, "choices": [told], **null_usage}
        if self.request.has_usage:
            yield {**head, "choices": [], "usage": self.usage(tokens)}


def _prompt(request: CompletionRequest, served: Served) -> list[int]:
    """Raises Refused."""
    predictor = served.predictor
    if not isinstance(predictor, GeneratePredictor):
        ids: list[int] = predictor.tokenizer(request.prompt)["input_ids"]
        if not ids:
            raise Refused(400, "prompt: is empty", "prompt")
        return ids
    (encoded,) = predictor.encode([request.prompt])
    if encoded.is_cut:
        raise Refused(
            400,
            f"prompt: has more than the {len(encoded.input_ids):,} tokens that the model reads; "
            "shorten it",
            "prompt",
            "context_length_exceeded",
        )
    return [*encoded.input_ids]
