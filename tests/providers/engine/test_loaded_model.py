"""What a pool hands to the engine of each model, and what is left of one that it drops."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from providers.engine.local_provider import Engine
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.tokenizers import Tokenizers
from providers.engine.weights import Weights
from providers.exceptions import EngineClosed, Overloaded, ProviderTimeout
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny
from tests.waiting import poll

NAME = "one"


@pytest.fixture
def weights(tmp_path):
    """One tiny model, prepared."""
    weights = Weights(
        tmp_path / "data", model_paths=(tiny.write_model(tmp_path / "own" / NAME),)
    )
    weights.prepare(NAME)
    return weights


@pytest.fixture
def pool(weights):
    """Return a function that makes a pool of one tiny model."""
    pools = []

    def make(**limits):
        pools.append(Pool(weights, PoolLimits(threads=1, **limits)))
        return pools[-1]

    yield make
    for made in pools:
        made.close()


def rows(*lengths):
    return [Row(np.full(length, 5, dtype=np.int64), "") for length in lengths]


def test_time_that_is_up_is_up_in_the_engine_too(pool, weights):
    provider = HuggingFaceProvider(Engine(weights, pool()))
    spec = provider.resolve(NAME)
    assert spec is not None
    with pytest.raises(ProviderTimeout):
        provider.embed(
            spec,
            ["a"],
            dimensions=None,
            input_type="document",
            timeout_seconds=-1.0,
        )


def test_model_that_was_dropped_runs_nothing_more(pool):
    models = pool()
    dropped = models.model(NAME)
    models.forget(NAME)
    with pytest.raises(EngineClosed):
        tiny.run(dropped, rows(3), seconds=30)
    assert len(tiny.run(models.model(NAME), rows(3), seconds=30)) == 1


def test_tokenizer_of_files_that_were_replaced_is_read_again(pool):
    models = pool()
    before = models.tokenizer(NAME)
    assert models.model(NAME).tokenizer is before
    models.forget(NAME)
    assert models.tokenizer(NAME) is not before
    assert models.model(NAME).tokenizer is models.tokenizer(NAME)


def test_tokenizer_that_was_read_before_a_fork_goes_where_its_files_were_replaced(
    weights,
):
    inherited = Tokenizers(weights)
    read = inherited.get(NAME)
    assert read is not None
    manifest = read.prepared.manifest
    assert inherited.replaced(NAME, replace(manifest, revision="newer"))
    inherited.forget(NAME)
    inherited.get(NAME)
    assert not inherited.replaced(NAME, manifest)


def test_queue_of_each_model_is_as_long_as_the_limit_says(pool, monkeypatch):
    gate, at_work = threading.Event(), threading.Semaphore(0)

    def held(self, rows, *, wide=False):
        at_work.release()
        assert gate.wait(20)
        return np.ones((len(rows), 2), dtype=np.float32)

    model = pool(queue_tokens=10).model(NAME)
    monkeypatch.setattr(OnnxRuntime, "run", held)
    with ThreadPoolExecutor() as callers:
        for _ in range(2):  # the bulk lane's and the express lane's
            callers.submit(tiny.run, model, rows(8), seconds=30)
            assert at_work.acquire(timeout=20)
        callers.submit(tiny.run, model, rows(8), seconds=30)
        poll(lambda: model.batcher.queued_tokens == 8, what="one waits")
        with pytest.raises(Overloaded):
            tiny.run(model, rows(8), seconds=30)
        gate.set()
