"""Graphs written here against the same tiny random models run by torch."""

import json

import numpy as np
import pytest

from providers.engine.building import build_graph
from providers.engine.graph import GRAPH_FILE
from providers.engine.graph.bert_encoder import buckets
from providers.engine.graph.build import build_fast_graph
from providers.engine.model_config import read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pooling import normalize, pool
from providers.engine.runtime import Row
from tests.providers.engine import tiny

FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet"),
    *("modernbert", "nomic_bert", "gte", "qwen3", "gemma3_text"),
)
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def rows():
    random = np.random.default_rng(3)
    found = [Row(random.integers(5, 60, length), "") for length in (1, 4, 9, 9, 30)]
    found[2].token_ids[4] = (
        1  # a literal padding token in a text, as RoBERTa numbers it
    )
    found[3].token_ids[4] = 0
    return found


def built(folder):
    config = read_model_config(folder)
    assert config.buildable
    build_graph(folder, config)
    return OnnxRuntime(folder / GRAPH_FILE, config, threads=1)


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_matches_torch(tmp_path, torch_reference, family):
    encoder = torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    heads = [torch_reference.Pooling(tiny.HIDDEN), torch_reference.Normalize()]
    close(built(tmp_path).run(rows()), torch_reference.run(encoder, rows(), heads))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_int8_graph_is_near_the_exact_one(
    tmp_path, torch_reference, family
):
    torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    exact = built(tmp_path).run(rows())
    config = read_model_config(tmp_path)
    random = np.random.default_rng(4)
    samples = [random.integers(5, 60, length) for length in range(1, 33)]
    fast = build_fast_graph(tmp_path, config, samples, threads=1)
    found = OnnxRuntime(fast, config, threads=1).run(rows())
    assert (found * exact).sum(axis=1).min() > 0.97


def test_mpnet_s_tokens_see_as_far_as_torch_s(torch_reference):
    encoder = torch_reference.transformers.models.mpnet.modeling_mpnet.MPNetEncoder
    distances = np.arange(-700, 700)
    expected = encoder.relative_position_bucket(
        torch_reference.torch.tensor(distances)
    ).numpy()
    assert np.array_equal(buckets(distances), expected)


def test_mpnet_numbers_positions_from_2_whatever_its_padding(tmp_path, torch_reference):
    encoder = torch_reference.save_encoder(tmp_path, "mpnet", pad_token_id=0)
    tiny.write_modules(tmp_path)
    heads = [torch_reference.Pooling(tiny.HIDDEN), torch_reference.Normalize()]
    assert read_model_config(tmp_path).max_tokens == 32
    close(built(tmp_path).run(rows()), torch_reference.run(encoder, rows(), heads))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_every_activation_matches_torch(tmp_path, torch_reference, activation):
    encoder = torch_reference.save_encoder(tmp_path, "bert", activation)
    tiny.write_modules(tmp_path, normalize=False)
    close(
        built(tmp_path).run(rows()),
        torch_reference.run(encoder, rows(), [torch_reference.Pooling(tiny.HIDDEN)]),
    )


@pytest.mark.parametrize("mode", [*MODES, ["cls", "mean"], list(MODES)])
def test_every_pooling_mode_matches_torch(tmp_path, torch_reference, mode):
    encoder = torch_reference.save_encoder(tmp_path, "bert")
    tiny.write_modules(tmp_path, {"pooling_mode": mode}, normalize=False)
    close(
        built(tmp_path).run(rows()),
        torch_reference.run(
            encoder, rows(), [torch_reference.Pooling(tiny.HIDDEN, mode)]
        ),
    )


def test_older_pooling_flags_mean_the_same(tmp_path, torch_reference):
    encoder = torch_reference.save_encoder(tmp_path, "bert")
    tiny.write_modules(
        tmp_path,
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
        normalize=False,
    )
    close(
        built(tmp_path).run(rows()),
        torch_reference.run(
            encoder, rows(), [torch_reference.Pooling(tiny.HIDDEN, ("cls", "max"))]
        ),
    )


@pytest.mark.parametrize("activation", ["Tanh", "Identity"])
def test_a_dense_layer_matches_torch(tmp_path, torch_reference, activation):
    encoder = torch_reference.save_encoder(tmp_path, "bert")
    dense = torch_reference.Dense(
        tiny.HIDDEN,
        7,
        activation_function=getattr(torch_reference.torch.nn, activation)(),
    )
    tiny.write_modules(tmp_path, dense=dense.get_config_dict())
    dense.save(str(tmp_path / "2_Dense"))
    heads = [torch_reference.Pooling(tiny.HIDDEN), dense, torch_reference.Normalize()]
    assert read_model_config(tmp_path).dimensions == 7
    close(built(tmp_path).run(rows()), torch_reference.run(encoder, rows(), heads))


@pytest.mark.parametrize("mode", MODES)
def test_pooling_in_numpy_matches_torch(torch_reference, mode):
    random = np.random.default_rng(1)
    tokens = random.standard_normal((3, 6, 8)).astype(np.float32)
    mask = np.array([[1] * 6, [1] * 2 + [0] * 4, [1] + [0] * 5])
    features = {
        "token_embeddings": torch_reference.torch.tensor(tokens),
        "attention_mask": torch_reference.torch.tensor(mask),
    }
    expected = torch_reference.Normalize()(torch_reference.Pooling(8, mode)(features))[
        "sentence_embedding"
    ].numpy()
    close(normalize(pool(tokens, mask, (mode,))), expected)


def test_half_precision_and_a_task_prefix_are_understood(tmp_path, torch_reference):
    encoder = torch_reference.save_encoder(tmp_path, "bert")
    tiny.write_modules(tmp_path)
    expected = torch_reference.run(
        encoder,
        rows(),
        [torch_reference.Pooling(tiny.HIDDEN), torch_reference.Normalize()],
    )
    whole = torch_reference.transformers.BertForMaskedLM(encoder.config)
    whole.bert.load_state_dict(encoder.state_dict(), strict=False)
    (tmp_path / "model.safetensors").unlink()
    whole.to(torch_reference.torch.bfloat16).save_pretrained(tmp_path)
    found = built(tmp_path).run(rows())
    assert (found * expected).sum(1).min() > 0.99


@pytest.mark.parametrize(
    "config",
    [
        {"position_embedding_type": "relative_key"},
        {"model_type": "deberta-v2"},
        {"model_type": "mpnet", "relative_attention_num_buckets": 64},
        {"hidden_act": "mish"},
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
