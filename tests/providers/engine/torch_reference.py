"""The same tiny models run by torch. Only tests that run import this: torch and transformers take seconds."""

import json
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
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", ROBERTA),
    "xlm-roberta": ("XLMRobertaConfig", ROBERTA),
    "camembert": ("CamembertConfig", ROBERTA),
    "distilbert": ("DistilBertConfig", {}),
    "mpnet": ("MPNetConfig", {"pad_token_id": 1}),
}


def save_encoder(folder, family, activation="gelu", **extra):
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
            "activation": activation,
        }
    else:
        sizes |= {
            "hidden_size": tiny.HIDDEN,
            "intermediate_size": tiny.INNER,
            "num_hidden_layers": 2,
        }
        sizes |= {"num_attention_heads": 4, "hidden_act": activation}
    torch.manual_seed(5)
    encoder = transformers.AutoModel.from_config(
        getattr(transformers, name)(**sizes)
    ).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0, 0.3)
    encoder.save_pretrained(folder)
    return encoder


def whole(folder):
    """Load a tiny model's folder in sentence-transformers, in float32."""
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
            }
        )
    )
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
