"""Graphs written here against the same tiny random models run by torch."""

import json

import numpy as np
import pytest

from providers.engine.graph import build_graph
from providers.engine.model_config import GRAPH_FILE, read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pooling import normalize, pool
from providers.engine.runtime import Row
from tests.providers.engine import tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

ROBERTA = {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
FAMILIES = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", ROBERTA),
    "xlm-roberta": ("XLMRobertaConfig", ROBERTA),
    "camembert": ("CamembertConfig", ROBERTA),
    "distilbert": ("DistilBertConfig", {}),
}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


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


def rows():
    random = np.random.default_rng(3)
    found = [Row(random.integers(5, 60, length), "") for length in (1, 4, 9, 9, 30)]
    found[2].token_ids[4] = (
        1  # a literal padding token in a text, as RoBERTa numbers it
    )
    found[3].token_ids[4] = 0
    return found


def reference(encoder, batch, heads):
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


def built(folder):
    config = read_model_config(folder)
    assert config.buildable
    build_graph(folder, config)
    return OnnxRuntime(folder / GRAPH_FILE, config, threads=1)


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_matches_torch(tmp_path, family):
    encoder = save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    heads = [modules.Pooling(tiny.HIDDEN), modules.Normalize()]
    close(built(tmp_path).run(rows()), reference(encoder, rows(), heads))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_every_activation_matches_torch(tmp_path, activation):
    encoder = save_encoder(tmp_path, "bert", activation)
    tiny.write_modules(tmp_path, normalize=False)
    close(
        built(tmp_path).run(rows()),
        reference(encoder, rows(), [modules.Pooling(tiny.HIDDEN)]),
    )


@pytest.mark.parametrize("mode", [*MODES, ["cls", "mean"], list(MODES)])
def test_every_pooling_mode_matches_torch(tmp_path, mode):
    encoder = save_encoder(tmp_path, "bert")
    tiny.write_modules(tmp_path, {"pooling_mode": mode}, normalize=False)
    close(
        built(tmp_path).run(rows()),
        reference(encoder, rows(), [modules.Pooling(tiny.HIDDEN, mode)]),
    )


def test_older_pooling_flags_mean_the_same(tmp_path):
    encoder = save_encoder(tmp_path, "bert")
    tiny.write_modules(
        tmp_path,
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
        normalize=False,
    )
    close(
        built(tmp_path).run(rows()),
        reference(encoder, rows(), [modules.Pooling(tiny.HIDDEN, ("cls", "max"))]),
    )


@pytest.mark.parametrize("activation", [torch.nn.Tanh(), torch.nn.Identity()])
def test_a_dense_layer_matches_torch(tmp_path, activation):
    encoder = save_encoder(tmp_path, "bert")
    dense = modules.Dense(tiny.HIDDEN, 7, activation_function=activation)
    tiny.write_modules(tmp_path, dense=dense.get_config_dict())
    dense.save(str(tmp_path / "2_Dense"))
    heads = [modules.Pooling(tiny.HIDDEN), dense, modules.Normalize()]
    assert read_model_config(tmp_path).dimensions == 7
    close(built(tmp_path).run(rows()), reference(encoder, rows(), heads))


@pytest.mark.parametrize("mode", MODES)
def test_pooling_in_numpy_matches_torch(mode):
    random = np.random.default_rng(1)
    tokens = random.standard_normal((3, 6, 8)).astype(np.float32)
    mask = np.array([[1] * 6, [1] * 2 + [0] * 4, [1] + [0] * 5])
    features = {
        "token_embeddings": torch.tensor(tokens),
        "attention_mask": torch.tensor(mask),
    }
    expected = modules.Normalize()(modules.Pooling(8, mode)(features))[
        "sentence_embedding"
    ].numpy()
    close(normalize(pool(tokens, mask, (mode,))), expected)


def test_half_precision_and_a_task_prefix_are_understood(tmp_path):
    encoder = save_encoder(tmp_path, "bert")
    tiny.write_modules(tmp_path)
    expected = reference(
        encoder, rows(), [modules.Pooling(tiny.HIDDEN), modules.Normalize()]
    )
    whole = transformers.BertForMaskedLM(encoder.config)
    whole.bert.load_state_dict(encoder.state_dict(), strict=False)
    (tmp_path / "model.safetensors").unlink()
    whole.to(torch.bfloat16).save_pretrained(tmp_path)
    found = built(tmp_path).run(rows())
    assert (found * expected).sum(1).min() > 0.99


@pytest.mark.parametrize(
    "config",
    [
        {"position_embedding_type": "relative_key"},
        {"model_type": "mpnet"},
        {"hidden_act": "swish"},
        {"is_decoder": True},
    ],
)
def test_what_a_graph_cannot_express_is_not_built(tmp_path, config):
    tiny.write_model(tmp_path / "m", **config)
    assert not read_model_config(tmp_path / "m").buildable


def test_a_module_from_elsewhere_needs_sentence_transformers(tmp_path):
    folder = tiny.write_model(tmp_path / "m")
    listed = json.loads((folder / "modules.json").read_text())
    listed.insert(2, {"path": "2_LSTM", "type": "sentence_transformers.models.LSTM"})
    (folder / "modules.json").write_text(json.dumps(listed))
    assert not read_model_config(folder).buildable
