"""Which models stay in memory."""

import time
import weakref

import numpy as np
import pytest

from providers.engine.local_provider import Engine
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.weights import Weights
from providers.exceptions import Overloaded, ProviderMisconfigured
from providers.plugins.huggingface import HuggingFaceProvider
from tests.collector import collector_off, together
from tests.providers.engine import tiny

NAMES = ("one", "two")
# Four texts together have enough tokens for all cores.
LONG = "a b c d e f g h i j k l m n o p q r s t"


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
        pools.append(Pool(weights, PoolLimits(**{"threads": 1, **limits})))
        return pools[-1]

    yield make
    for made in pools:
        made.close()


def embed(models, name, text="a b"):
    with models.using(name) as model:
        return embed_by(model, text)


def embed_by(model, text="a b"):
    rows = [Row(ids, text) for ids in model.tokenizer.encode([text] * 4)]
    return tiny.run(model, rows, seconds=30)


def loaded(pool):
    return [name for name in NAMES if pool.loaded(name, "exact")]


def size_of(weights, name="one"):
    return weights.find(name).weights_bytes(fast=False)


def test_several_models_are_served_at_once(pool):
    models = pool()
    vectors = [embed(models, name) for name in NAMES]
    assert loaded(models) == ["one", "two"]
    assert (vectors[0] != vectors[1]).any()


def test_a_model_that_nobody_used_for_a_while_is_unloaded_and_loaded_again(pool):
    models = pool(idle_seconds=1e-6)
    before = embed(models, "one")
    models.unload_idle()
    assert loaded(models) == []
    assert (embed(models, "one") == before).all()


def test_a_model_in_use_is_not_unloaded(pool):
    models = pool(idle_seconds=1000.0)
    embed(models, "one")
    models.unload_idle()
    assert loaded(models) == ["one"]


def test_the_model_unused_for_longest_is_unloaded_for_another(pool, weights):
    models = pool(memory_bytes=int(1.5 * size_of(weights)))
    embed(models, "one")
    embed(models, "two")
    assert loaded(models) == ["two"]


def test_a_model_at_work_is_not_put_out_for_another(pool, weights):
    models = pool(memory_bytes=int(1.5 * size_of(weights)))
    with models.using("one") as busy:
        with pytest.raises(Overloaded) as refused:
            models.model("two", timeout_seconds=0)
        assert (refused.value.retry_after_seconds or 0) >= 1
        assert len(embed_by(busy)) == 4


def test_a_lone_text_s_second_copy_of_the_weights_counts(pool, weights):
    models = pool(threads=2, memory_bytes=int(2.5 * size_of(weights)))
    embed(models, "one", LONG)
    embed(models, "two")
    assert loaded(models) == ["two"]


def test_without_memory_for_a_second_copy_a_lone_text_is_still_served(pool, weights):
    models = pool(threads=2, memory_bytes=int(1.5 * size_of(weights)))
    alone = embed(models, "one", LONG)
    np.testing.assert_allclose(alone, embed(pool(threads=1), "one", LONG), atol=1e-6)
    embed(models, "two")
    assert loaded(models) == ["two"]


def test_models_that_take_turns_are_all_served_and_leave_nothing_behind(pool, weights):
    models = pool(memory_bytes=int(1.5 * size_of(weights)), slice_seconds=0.01)
    answers, runtimes = [], []

    def ask(name):
        for _ in range(3):
            with models.using(name, timeout_seconds=60) as model:
                runtimes.append(weakref.ref(model.batcher))
                answers.append(embed_by(model))

    together(*(lambda name=name: ask(name) for name in NAMES * 6))
    assert len(answers) == 36
    with collector_off():
        models.close()
        assert [made for made in runtimes if made() is not None] == []


def test_a_model_beyond_the_memory_is_refused_with_the_setting_that_allows_it(pool):
    with pytest.raises(ProviderMisconfigured, match="EMBEDDINGS_MODELS_MAX_MB"):
        pool(memory_bytes=1000).model("one")


def test_a_request_waits_for_memory_no_longer_than_its_own_time(weights):
    engine = Engine(
        weights,
        Pool(
            weights,
            PoolLimits(threads=1, memory_bytes=int(1.5 * size_of(weights))),
        ),
    )
    provider = HuggingFaceProvider(engine)
    other = provider.resolve("two")
    assert other is not None
    started = time.monotonic()
    with engine.pool.using("one"), pytest.raises(Overloaded):
        provider.embed(
            other,
            ["a"],
            dimensions=None,
            input_type="document",
            timeout_seconds=0.01,
        )
    assert time.monotonic() - started < 30
    provider.close()
