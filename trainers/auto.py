"""Transformers' Auto classes, imported a third faster: every process that trains or serves does.

Transformers imports scikit-learn, where it is installed, for a heuristic of assisted generation,
which raymill does not use. Here it is told that there is none, while it imports that.
"""

from transformers import utils

_is_sklearn_available = utils.is_sklearn_available
utils.is_sklearn_available = lambda: False
try:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForPreTraining,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
finally:
    utils.is_sklearn_available = _is_sklearn_available

__all__ = [
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoConfig",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForPreTraining",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
]
