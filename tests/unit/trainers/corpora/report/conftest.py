from typing import Any

import pytest


def source(**changes: Any) -> dict[str, Any]:
    return {
        "read": 2000,
        "dropped": {"exact duplicate": 611, "near duplicate": 57, "too short": 32},
        "kept": 1300,
        "masked": {"email": 3, "phone": 14},
        "characters": 456_789,
        "tokens": 321_012,
        "tokens_per_character": 321_012 / 456_789,
        "unknown_tokens": 0.00123,
        "train_tokens": 963_035,
        "lengths": {"3": 100, "7": 400, "9": 800},
        "samples": {"kept": ["今天天气很好。"], "too short": ["好", "二"]},
        **changes,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """A corpus of two sources, with near duplicates."""
    return {
        "sources": {
            "news": source(),
            "reviews": source(
                read=777,
                dropped={"too long": 77},
                kept=700,
                masked={},
                characters=70_123,
                tokens=50_321,
                train_tokens=49_876,
                lengths={"0": 1, "7": 699},
                samples={"kept": ["Very good."], "too long": ["And so on and on"]},
            ),
        },
        "splits": {
            "train": {"documents": 1961, "tokens": 1_012_911, "sequences": 7913, "shards": 5},
            "validation": {"documents": 39, "tokens": 7421, "sequences": 58, "shards": 1},
        },
        "packing_efficiency": 0.99612,
        "characters_per_token": 1.4193,
        "near_duplicates": {"documents": 118, "clusters": 61, "sizes": {"2": 58, "3": 2, "5": 1}},
    }
