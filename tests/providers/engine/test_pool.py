"""Which models stay in memory."""

import pytest

from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.weights import Weights
from providers.exceptions import Overloaded, ProviderMisconfigured
from tests.providers.engine import tiny

NAMES = ("one", "two")


@pytest.fixture
def weights(tmp_path):
    folders = tuple(
        tiny.write_model(tmp_path / "own" / name, seed=seed)
        for seed, name in enumerate(NAMES)
    )
    made = Weights(tmp_path / "data", model_paths=folders)
    for name in NAMES:
        made.prepare(name)
    return made


@pytest.fixture
def pool(weights):
    pools = []

    def make(**limits):
        pools.append(Pool(weights, PoolLimits(threads=1, **limits)))
        return pools[-1]

    yield make
    for made in pools:
        made.close()


def embed(model, text="a b"):
    rows = [Row(ids, text) for ids in model.tokenizer.encode([text])]
    return model.embed(rows, timeout_seconds=30)


def loaded(pool):
    return [name for name in NAMES if pool.loaded(name, "exact")]


def size_of(weights, name="one"):
    return weights.find(name).weights_bytes(fast=False)


def test_several_models_are_served_at_once(pool):
    models = pool()
    vectors = [embed(models.model(name)) for name in NAMES]
    assert loaded(models) == ["one", "two"]
    assert (vectors[0] != vectors[1]).any()


def test_a_model_that_nobody_used_for_a_while_is_unloaded_and_loaded_again(pool):
    models = pool(idle_seconds=1e-6)
    before = embed(models.model("one"))
    models.unload_idle()
    assert loaded(models) == []
    assert (embed(models.model("one")) == before).all()


def test_a_model_in_use_is_not_unloaded(pool):
    models = pool(idle_seconds=1000.0)
    embed(models.model("one"))
    models.unload_idle()
    assert loaded(models) == ["one"]


def test_the_model_unused_for_longest_makes_room_for_another(pool, weights):
    models = pool(memory_bytes=int(1.5 * size_of(weights)))
    embed(models.model("one"))
    embed(models.model("two"))
    assert loaded(models) == ["two"]


def test_a_model_at_work_is_not_put_out_for_another(pool, weights, monkeypatch):
    models = pool(memory_bytes=int(1.5 * size_of(weights)))
    busy = models.model("one")
    monkeypatch.setattr(busy.batcher, "close_if_idle", lambda seconds: False)
    with pytest.raises(Overloaded) as refused:
        models.model("two")
    assert refused.value.retry_after_seconds >= 1
    assert len(embed(busy)) == 1


def test_a_model_beyond_the_memory_is_refused_with_the_setting_that_allows_it(pool):
    with pytest.raises(ProviderMisconfigured, match="EMBEDDINGS_MODELS_MAX_MB"):
        pool(memory_bytes=1000).model("one")
