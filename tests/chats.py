"""Conversations for a tiny model, and a chat template of special tokens that any tokenizer trained
here has."""

from typing import Any

TEMPLATE = (
    "{% for message in messages %}[CLS]{{ message.role }}\n{{ message.content }}[SEP]{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
NAMES = ["Anna", "Bob", "Carla", "Dora", "Emil", "Finn", "Gina", "Hugo"]
PLACES = ["Rome", "Oslo", "Bern", "Cairo", "Lima", "Riga", "Delhi"]


def dialogue(number: int) -> dict[str, Any]:
    """One of 56 that differ, of one question or two."""
    name, place = NAMES[number % len(NAMES)], PLACES[number % len(PLACES)]
    turns = [("user", f"Where does {name} live?"), ("assistant", f"{name} lives in {place}.")]
    if number % 2:
        turns += [("user", "And now?"), ("assistant", f"Still in {place}, number {number}.")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}
