"""The same tiny models run by torch. Only tests that run import this: torch and transformers take seconds."""

from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
)

from tests.providers.engine import tiny

__all__ = [
    "Dense",
    "Normalize",
    "Pooling",
    "run",
    "save_encoder",
    "sentence_transformers",
    "torch",
    "transformers",
    "whole",
]

ROBERTA = {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
SPECIAL = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
SPECIAL |= {"bos_token_id": 2, "eos_token_id": 3}
SHARED_KEYS = {"num_key_value_heads": 2, "head_dim": 8}
GEMMA = SHARED_KEYS | {
    "use_bidirectional_attention": True,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 20,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", ROBERTA),
    "xlm-roberta": ("XLMRobertaConfig", ROBERTA),
    "camembert": ("CamembertConfig", ROBERTA),
    "distilbert": ("DistilBertConfig", {}),
    "mpnet": ("MPNetConfig", {"pad_token_id": 1}),
    "modernbert": ("ModernBertConfig", {"local_attention": 12, **SPECIAL}),
    "nomic_bert": ("NomicBertConfig", {}),
    "gte": ("GteConfig", {}),
    "qwen3": ("Qwen3Config", SHARED_KEYS),
    "gemma3_text": ("Gemma3TextConfig", GEMMA),
}


def save_encoder(folder, family, activation=None, **extra):
    """Save a tiny encoder of random weights; `extra` is of its config."""
    name, settings = FAMILIES[family]
    sizes = {
        "vocab_size": 60,
        "max_position_embeddings": tiny.POSITIONS,
        **settings,
        **extra,
    }
    if family == "distilbert":
        sizes |= {
            "dim": tiny.HIDDEN,
            "hidden_dim": tiny.INNER,
            "n_layers": 2,
            "n_heads": 4,
            "activation": activation or "gelu",
        }
    else:
        sizes = {
            "hidden_size": tiny.HIDDEN,
            "intermediate_size": tiny.INNER,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        } | sizes
        if activation is not None:
            named = family in ("modernbert", "gemma3_text")
            sizes |= {"hidden_activation" if named else "hidden_act": activation}
    torch.manual_seed(5)
    encoder = transformers.AutoModel.from_config(
        getattr(transformers, name)(**sizes)
    ).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0, 0.3)
    encoder.save_pretrained(folder)
    return encoder


def whole(folder, **described):
    """Load a tiny model's folder in sentence-transformers, in float32; `described` is of its tokenizer."""
    tiny.describe_tokenizer(folder, **described)
    return sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", model_kwargs={"dtype": torch.float32}
    )


def run(encoder, batch, heads):
    """Run torch on each row alone, so that padding plays no part."""
    answers = []
    for row in batch:
        ids = torch.tensor(row.token_ids[None])
        mask = torch.ones_like(ids)
        with torch.no_grad():
            tokens = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            features = {"token_embeddings": tokens, "attention_mask": mask}
            for head in heads:
                features = head(features)
        answers.append(features["sentence_embedding"][0].numpy())
    return np.stack(answers)
