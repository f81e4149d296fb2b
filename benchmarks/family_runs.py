"""One contestant of `benchmarks.families`, in a process of its own, on one core: texts in, vectors out."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import answer_questions
from providers.base import Precision

FIRST_SECONDS = 60.0  # for a first text

Embed = Callable[[Sequence[str]], Any]
_loaded: dict[str, Embed] = {}


def ours(folder: str, name: str, precision: Precision, device: str) -> dict[str, float]:
    """Load a prepared model of the data folder `folder`; return whether its vectors are computed as asked."""
    from providers.engine import devices
    from providers.engine.verification import open_proved
    from providers.engine.weights import Weights

    weights = Weights(Path(folder), device=devices.named(device))
    prepared = weights.verified(name)
    if precision not in prepared.precisions:
        return {"loaded": 0}
    opened = open_proved(prepared, precision, threads=1)
    _loaded["embed"] = lambda texts: opened.vectors([("", text) for text in texts])
    return {"loaded": 1}


def sentence_transformers(folder: str, device: str) -> dict[str, float]:
    """Load a model by sentence-transformers, in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(
        folder, device=device, model_kwargs={"dtype": torch.float32}
    )
    _loaded["embed"] = lambda texts: model.encode(list(texts), batch_size=len(texts))
    return {"loaded": 1}


def infinity(folder: str, engine: str = "torch") -> dict[str, float]:
    """Load a model by one of Infinity's engines, as its server does, without HTTP."""
    import torch
    from infinity_emb import (  # type: ignore[import-not-found]
        AsyncEmbeddingEngine,
        EngineArgs,
    )

    torch.set_num_threads(1)
    if engine == "optimum":
        _use_one_thread()
    loop = asyncio.new_event_loop()
    arguments = EngineArgs(
        model_name_or_path=folder, engine=engine, device="cpu", model_warmup=False
    )
    try:
        running = AsyncEmbeddingEngine.from_args(arguments)
        loop.run_until_complete(running.astart())
        # Where its model raises, its queue says so to nobody.
        answer = asyncio.wait_for(running.embed(sentences=["a text"]), FIRST_SECONDS)
        found, _ = loop.run_until_complete(answer)
    except Exception as error:  # it knows fewer families, and each fails in its own way
        print(f"Infinity cannot load {folder}: {error!r}")
        return {"loaded": 0}
    _loaded["embed"] = lambda texts: np.array(
        loop.run_until_complete(running.embed(sentences=list(texts)))[0]
    )
    return {"loaded": int(len(found) == 1)}


def _use_one_thread() -> None:
    """Have ONNX Runtime's sessions compute on one core: left alone they take all, whatever the process may use."""
    from optimum.onnxruntime import modeling

    session = modeling.InferenceSession

    def on_one_core(*arguments: Any, sess_options: Any = None, **more: Any) -> Any:
        chosen = sess_options or modeling.SessionOptions()
        chosen.intra_op_num_threads = 1
        return session(*arguments, sess_options=chosen, **more)

    modeling.InferenceSession = on_one_core


def vectors(texts: list[str], target: str) -> dict[str, float]:
    """Write each text's vector, embedded alone, to the file `target`."""
    rows = [np.asarray(_loaded["embed"]([text]), np.float32)[0] for text in texts]
    np.save(Path(target), np.stack(rows))
    return {"texts": len(rows)}


def speed(texts: list[str], seconds: float) -> dict[str, float]:
    """Embed these texts in one batch again and again; return batches a second of this process' time."""
    embed, done = _loaded["embed"], 0
    embed(texts)
    started = time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or not done:
        embed(texts)
        done += 1
    took = time.perf_counter() - started
    return {"batches_per_second": done / took}


def prepare(folder: str, name: str, source: str, device: str) -> dict[str, Any]:
    """Prepare a model folder as the server does, whatever its fast vectors are like; return how it is served.

    Some random weights are served badly in int8, which says nothing of the weights that people run.
    """
    from providers.engine import building, devices, verification
    from providers.engine.reference import sentence_transformers as reference
    from providers.engine.weights import Weights

    for module in (building, verification):
        vars(module).update(FAST_COSINE=-1.0, FAST_MEAN_COSINE=-1.0)
    weights = Weights(
        Path(folder),
        model_paths=(Path(source),),
        reference=reference,
        device=devices.named(device),
    )
    prepared = weights.prepare(name)
    return {
        "runtime": prepared.runtime,
        "fast": prepared.method("fast"),
        "products": []
        if prepared.runtime == "torch"
        else _products(prepared.onnx_file),
    }


def _products(graph: Path) -> list[tuple[int, int]]:
    from providers.engine.graph.products import ProductGraph

    found = ProductGraph(graph)
    return [found.shape(product) for product in found.products]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    answer_questions(
        {
            "ours": ours,
            "sentence_transformers": sentence_transformers,
            "infinity": infinity,
            "vectors": vectors,
            "speed": speed,
            "prepare": prepare,
        }
    )
