"""Models of each family in the sizes that people run, with random weights: `benchmarks.families` measures them.

Speed does not depend on what the weights are. All have MiniLM's tokenizer, and its vocabulary's size.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.child import answer_questions

VOCABULARY = 30522
ROBERTA = {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
# MiniLM's tokenizer's.
SPECIAL = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102}
SPECIAL |= {"bos_token_id": 101, "eos_token_id": 102}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """transformers' configuration class and what differs from its defaults; the longest text, in tokens.

    In `local_layers` a token looks at `window` tokens around it.
    """

    config: str
    like: str
    max_tokens: int = 512
    pooling: str = "mean"
    local_layers: int = 0
    window: int = 0
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def attention(self, tokens: int) -> list[tuple[int, dict[str, int]]]:
        """Return how many layers attend in which way, as `benchmarks.limits.attention` takes it."""
        heads = self.sizes["num_attention_heads"]
        width = self.sizes.get("head_dim", self.sizes["hidden_size"] // heads)
        layers = self.sizes["num_hidden_layers"] - self.local_layers
        shape = {"heads": heads, "width": width, "tokens": tokens}
        kinds = [(layers, tokens), (self.local_layers, min(tokens, self.window))]
        return [(many, {**shape, "keys": keys}) for many, keys in kinds if many]


def base(layers: int, hidden: int, inner: int, heads: int, **more: Any) -> Any:
    """Return sizes under the names that most configurations have."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "vocab_size": VOCABULARY,
        **more,
    }


FAMILIES: dict[str, Family] = {
    "minilm": Family(
        config="BertConfig", like="all-MiniLM-L6-v2", sizes=base(6, 384, 1536, 12)
    ),
    "bge-base": Family(
        config="BertConfig",
        like="bge-base-en-v1.5",
        pooling="cls",
        sizes=base(12, 768, 3072, 12),
    ),
    "mpnet": Family(
        config="MPNetConfig",
        like="all-mpnet-base-v2",
        sizes=base(12, 768, 3072, 12, max_position_embeddings=514),
    ),
    "bge-m3": Family(
        config="XLMRobertaConfig",
        like="bge-m3",
        max_tokens=8192,
        pooling="cls",
        sizes=base(24, 1024, 4096, 16, max_position_embeddings=8194, **ROBERTA),
    ),
    "modernbert": Family(
        config="ModernBertConfig",
        like="gte-modernbert-base",
        max_tokens=8192,
        local_layers=14,
        window=128,
        sizes=base(22, 768, 1152, 12, max_position_embeddings=8192, **SPECIAL),
    ),
    "nomic": Family(
        config="NomicBertConfig",
        like="nomic-embed-text-v1.5",
        max_tokens=8192,
        sizes=base(12, 768, 3072, 12, max_position_embeddings=8192),
    ),
    "gte": Family(
        config="GteConfig",
        like="gte-base-en-v1.5",
        max_tokens=8192,
        pooling="cls",
        sizes=base(12, 768, 3072, 12, max_position_embeddings=8192),
    ),
    "qwen3": Family(
        config="Qwen3Config",
        like="Qwen3-Embedding-0.6B",
        max_tokens=8192,
        pooling="lasttoken",
        sizes=base(
            *(28, 1024, 3072, 16),
            num_key_value_heads=8,
            head_dim=128,
            max_position_embeddings=32768,
        ),
    ),
    "gemma3": Family(
        config="Gemma3TextConfig",
        like="embeddinggemma-300m",
        max_tokens=2048,
        local_layers=20,
        window=512,
        sizes=base(
            *(24, 768, 1152, 3),
            num_key_value_heads=1,
            head_dim=256,
            max_position_embeddings=2048,
            sliding_window=512,
            use_bidirectional_attention=True,
            layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 4,
        ),
    ),
    "deberta": Family(
        config="DebertaV2Config",
        like="deberta-v3-base",
        sizes=base(
            *(12, 768, 3072, 12),
            relative_attention=True,
            position_buckets=256,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            max_relative_positions=-1,
            position_biased_input=False,
            type_vocab_size=0,
        ),
    ),
}


def write(name: str, minilm: str, folder: str) -> dict[str, float]:
    """Write a family's model into `folder`, in sentence-transformers' layout, MiniLM's tokenizer beside it."""
    family, target, source = FAMILIES[name], Path(folder), Path(minilm)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    torch.manual_seed(0)
    config = getattr(transformers, family.config)(**family.sizes)
    with torch.no_grad():
        encoder = transformers.AutoModel.from_config(config).eval()  # type: ignore[no-untyped-call]
        for parameter in encoder.parameters():
            # Products keep the size of what they are given, as those of trained models do.
            if parameter.dim() == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
        encoder.get_input_embeddings().weight.normal_(0, 1)
    encoder.save_pretrained(target)
    for file in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ):
        shutil.copyfile(source / file, target / file)
    _write(
        target / "tokenizer_config.json",
        {
            **json.loads((target / "tokenizer_config.json").read_text()),
            "model_max_length": family.max_tokens,
        },
    )
    prefix = "sentence_transformers.models"
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    _write(
        target / "modules.json",
        [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"{prefix}.{kind}",
            }
            for number, (path, kind) in enumerate(modules.items())
        ],
    )
    _write(target / "sentence_bert_config.json", {"max_seq_length": family.max_tokens})
    (target / "1_Pooling").mkdir()
    modes = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    _write(
        target / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": config.hidden_size,
            **{
                f"pooling_mode_{mode}": mode == modes[family.pooling]
                for mode in modes.values()
            },
        },
    )
    return {"parameters": sum(each.numel() for each in encoder.parameters())}


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    answer_questions({"write": write})
