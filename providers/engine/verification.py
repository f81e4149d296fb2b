"""No model is served before it has proved its vectors: when it is prepared, and again each time it is loaded.

At preparation the runtime that will serve a model embeds some 32 texts, each alone and in a batch of other lengths. The
vectors are compared with sentence-transformers in float32 where that is installed, else with themselves. A few are kept
in the manifest, and whatever loads the model later (another processor, another version of the runtime) has to give them
again.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import structlog

from providers.base import Precision, Vectors
from providers.command import COMMAND
from providers.engine.files import Proof
from providers.engine.machine import usable_cores
from providers.engine.model_config import ModelConfig
from providers.engine.prepared import Prepared
from providers.engine.run_sizes import batch_tokens
from providers.engine.runtime import (
    EXACT_COSINE,
    FAST_COSINE,
    FAST_MEAN_COSINE,
    Runtime,
    rows_of,
)
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.torch_runtime import TorchRuntime
from providers.exceptions import ProviderMisconfigured, VectorsDiffer

# Least cosine to the vectors in the manifest when a model is loaded.
LOAD_COSINE = {"exact": 0.9999, "fast": 0.99}
# Share of different texts that must have different vectors.
_DISTINCT_SHARE = 0.9
_UNIT_LENGTH_ERROR = 1e-3
# The text at the limit is as long as this at most: eight thousand tokens would take gigabytes, in both runtimes.
_LONGEST_TOKENS = 2048
_RUN_TEXTS, _MOST_RUN_TOKENS = 4, 4096
# One character, questions, prose of many scripts, code, numbers; the paragraph, repeated, fills any limit.
_TEXTS = Path(__file__).with_name("check_texts.json")
# Which of them are embedded with each of the model's prompts, too, and which are kept in the manifest.
_PROMPTED_TEXTS = (0, 7, 12, 18)
_KEPT_TEXTS = (0, 7, 9, 18)

# Vectors of (prompt, text) pairs by sentence-transformers, of the model in a folder; None where it cannot give them.
Reference = Callable[[Path, Sequence[tuple[str, str]]], Vectors | None]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime ready to serve, and the tokenizer that goes with it."""

    runtime: Runtime
    tokenizer: ModelTokenizer
    config: ModelConfig

    def vectors(self, checks: Sequence[tuple[str, str]]) -> Vectors:
        """Return the vectors of a batch of (prompt, text) pairs, float32 (pairs, dimensions)."""
        rows = [
            row
            for prompt, text in checks
            for row in rows_of(
                self.tokenizer, [text], prompt, pooled=self.config.include_prompt
            )
        ]
        return self.runtime.run(rows)


def prove(prepared: Prepared, reference: Reference | None) -> Proof:
    """Check every class in which a model in its folder would be served; return what the manifest keeps of it.

    The proof has no vectors of the class `fast` where that exists and is not good enough: it must not be served.
    Raises ProviderMisconfigured, with the figure, for a model that must not be served at all.
    """
    opened = _open(prepared, "exact", threads=usable_cores())
    checks = check_texts(prepared.config, opened.tokenizer)
    if not checks:
        _refuse(
            prepared, f"its limit of {prepared.config.max_tokens} tokens fits no text"
        )
    texts = _kept_texts(prepared.config, opened.tokenizer)
    exact = _self_checked(prepared, opened, checks)
    kept = {"exact": _written(_unprompted(opened, texts))}
    tokenizer = opened.tokenizer
    # The reference takes as much memory as the model, and so does the fast class.
    del opened
    expected = reference(prepared.path, checks) if reference else None
    if expected is not None:
        _check_reference(prepared, exact, expected)
    elif prepared.runtime == "exported":
        _refuse(prepared, "sentence-transformers gave nothing to compare it with")
    if prepared.fast_file is not None:
        fast = _open(prepared, "fast", threads=usable_cores(), tokenizer=tokenizer)
        if _fast_enough(prepared, fast, checks, exact):
            kept["fast"] = _written(_unprompted(fast, texts))
    return Proof(
        verified="self" if expected is None else "reference",
        texts=texts,
        vectors=kept,
    )


def open_proved(
    prepared: Prepared,
    precision: Precision,
    *,
    threads: int,
    tokenizer: ModelTokenizer | None = None,
    memory_for_wide: Callable[[], bool] = lambda: True,
) -> Opened:
    """Load a model that gives the vectors of its manifest. Raises ProviderMisconfigured, or VectorsDiffer.

    `memory_for_wide` is asked before the model is opened a second time, for long texts that have all cores.
    """
    opened = _open(
        prepared,
        precision,
        threads=threads,
        tokenizer=tokenizer,
        memory_for_wide=memory_for_wide,
    )
    proof = prepared.manifest.proof
    if proof is None or precision not in proof.vectors:
        raise VectorsDiffer(
            f"{prepared.name} was never checked in the {precision} class: "
            f"run `{COMMAND} download_model {prepared.name}`."
        )
    expected = _read(proof.vectors[precision])
    found = _unprompted(opened, proof.texts)
    least = 0.0
    if expected is not None and found.shape == expected.shape:
        least = float(_cosines(found, expected).min())
    if not least >= LOAD_COSINE[precision]:
        raise VectorsDiffer(
            f"{prepared.name} gives other vectors in the {precision} class than when it was prepared "
            f"(cosine {least:.4f}, {LOAD_COSINE[precision]} is needed) and is not served: "
            f"run `{COMMAND} download_model {prepared.name}` to prepare and check it on this machine."
        )
    return opened


def _open(
    prepared: Prepared,
    precision: Precision,
    *,
    threads: int,
    tokenizer: ModelTokenizer | None = None,
    memory_for_wide: Callable[[], bool] = lambda: True,
) -> Opened:
    if prepared.runtime == "torch":
        runtime = TorchRuntime(
            prepared.path, name=prepared.name, threads=threads, device=prepared.device
        )
        return Opened(
            runtime, tokenizer or runtime.tokenizer(prepared.config), prepared.config
        )
    if prepared.runtime == "static":
        from providers.engine.static_runtime import StaticRuntime

        tokenizer = tokenizer or prepared.tokenizer()
        table = StaticRuntime(prepared.path, prepared.config, tokenizer)
        return Opened(table, tokenizer, prepared.config)
    # Imported here: where an engine process runs the models, no other needs the runtime's 20 MB.
    from providers.engine.onnx_runtime import OnnxRuntime

    file = prepared.fast_file if precision == "fast" else None
    graph = OnnxRuntime(
        file or prepared.onnx_file,
        prepared.config,
        threads=threads,
        memory_for_wide=memory_for_wide,
        device=prepared.device,
    )
    return Opened(graph, tokenizer or prepared.tokenizer(), prepared.config)


def check_texts(
    config: ModelConfig, tokenizer: ModelTokenizer
) -> list[tuple[str, str]]:
    """Return the (prompt, text) pairs that every model is checked with, all within its limit: without a prompt, then
    some with each of its own."""
    limit = min(config.max_tokens or _LONGEST_TOKENS, _LONGEST_TOKENS)
    known = json.loads(_TEXTS.read_bytes())
    long = known["paragraph"] * (1 + limit // 40)
    texts = [
        *known["texts"],
        *(tokenizer.truncate(long, size) for size in (limit // 3, limit)),
    ]
    pairs = [("", text) for text in texts]
    prompts = dict.fromkeys(config.prompt(kind) for kind in ("query", "document"))
    pairs += [
        (prompt, text)
        for prompt in prompts
        if prompt
        for text in [*(texts[index] for index in _PROMPTED_TEXTS), long]
    ]
    fitted = [
        (prompt, tokenizer.truncate(prompt + text, limit)[len(prompt) :])
        for prompt, text in pairs
    ]
    counts = tokenizer.count([prompt + text for prompt, text in fitted])
    sized = zip(fitted, counts, strict=True)
    return [*dict.fromkeys(check for check, count in sized if check[1] and count)]


def _kept_texts(config: ModelConfig, tokenizer: ModelTokenizer) -> tuple[str, ...]:
    limit = config.max_tokens or _LONGEST_TOKENS
    known = json.loads(_TEXTS.read_bytes())["texts"]
    texts = [tokenizer.truncate(known[index], limit) for index in _KEPT_TEXTS]
    counts = tokenizer.count(texts)
    return tuple(text for text, count in zip(texts, counts, strict=True) if count)


def _self_checked(
    prepared: Prepared, opened: Opened, checks: Sequence[tuple[str, str]]
) -> Vectors:
    """Return each text's vector when it is embedded alone, float32 (texts, dimensions), once all agree with it."""
    alone = np.concatenate([opened.vectors([check]) for check in checks])
    width = prepared.config.dimensions
    if alone.shape[1] != width:
        _refuse(prepared, f"its vectors have {alone.shape[1]} numbers, not {width}")
    norms = np.linalg.norm(alone, axis=1)
    if not (np.isfinite(norms).all() and norms.min() > 0):
        _refuse(prepared, "some of its vectors are zero or not finite")
    if prepared.config.normalize and np.abs(norms - 1).max() > _UNIT_LENGTH_ERROR:
        _refuse(prepared, f"its vectors are up to {norms.max():.3f} long, not 1")
    _check_distinct(prepared, opened, checks, alone)
    budget = min(batch_tokens(prepared), _MOST_RUN_TOKENS)
    together = np.concatenate(
        [opened.vectors(run) for run in _runs(checks, opened.tokenizer, budget)]
    )
    least = float(_cosines(alone, together).min())
    if not least >= EXACT_COSINE:
        _refuse(
            prepared,
            f"a text's vector depends on what else is in its batch (cosine {least:.4f}, {EXACT_COSINE} is needed)",
        )
    return alone


def _check_distinct(
    prepared: Prepared,
    opened: Opened,
    checks: Sequence[tuple[str, str]],
    vectors: Vectors,
) -> None:
    """Refuse a model that gives different texts the same vector; texts that it reads as the same tokens count once.

    The mean of a static model's tokens does not know their order, nor how often all of them come.
    """
    rows = opened.tokenizer.encode([prompt + text for prompt, text in checks])
    if opened.config.static is not None:
        rows = [np.unique(row) for row in rows]
    first = {row.tobytes(): index for index, row in enumerate(rows)}
    chosen = vectors[list(first.values())]
    unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    distinct = len(np.unique(np.round(unit, 6), axis=0))
    if distinct < _DISTINCT_SHARE * len(chosen):
        _refuse(
            prepared,
            f"it gives {len(chosen)} different texts only {distinct} different vectors",
        )


def _check_reference(prepared: Prepared, found: Vectors, expected: Vectors) -> None:
    if found.shape != expected.shape:
        _refuse(
            prepared,
            f"its vectors have {found.shape[1]} numbers, sentence-transformers' {expected.shape[1]}",
        )
    least = float(_cosines(found, expected).min())
    if not least >= EXACT_COSINE:
        _refuse(
            prepared,
            f"its vectors are not those of sentence-transformers (cosine {least:.4f}, {EXACT_COSINE} is needed)",
        )


def _fast_enough(
    prepared: Prepared,
    fast: Opened,
    checks: Sequence[tuple[str, str]],
    exact: Vectors,
) -> bool:
    try:
        vectors = _self_checked(prepared, fast, checks)
    except ProviderMisconfigured as error:
        log.warning("fast_class_refused", model=prepared.name, reason=error.message)
        return False
    cosines = _cosines(vectors, exact)
    least, mean = float(cosines.min()), float(cosines.mean())
    if least >= FAST_COSINE and mean >= FAST_MEAN_COSINE:
        return True
    log.warning("fast_class_refused", model=prepared.name, least=least, mean=mean)
    return False


def _refuse(prepared: Prepared, reason: str) -> NoReturn:
    raise ProviderMisconfigured(f"{prepared.name} is not served: {reason}.")


def _unprompted(opened: Opened, texts: Sequence[str]) -> Vectors:
    return opened.vectors([("", text) for text in texts])


def _runs(
    checks: Sequence[tuple[str, str]], tokenizer: ModelTokenizer, budget: int
) -> Iterator[list[tuple[str, str]]]:
    """Cut the texts, in their order, into batches of several lengths and up to `budget` padded tokens.

    A text that is longer is run alone, as the batcher would: it is never padded.
    """
    counts = tokenizer.count([prompt + text for prompt, text in checks])
    run: list[tuple[str, str]] = []
    longest = 0
    for check, count in zip(checks, counts, strict=True):
        longest = max(longest, count)
        if run and (len(run) == _RUN_TEXTS or longest * (len(run) + 1) > budget):
            yield run
            run, longest = [], count
        run.append(check)
    yield run


def _cosines(a: Vectors, b: Vectors) -> Vectors:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12))


def _written(vectors: Vectors) -> tuple[str, ...]:
    return tuple(
        base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors
    )


def _read(written: Sequence[str]) -> Vectors | None:
    """Return the vectors that were written, None if they are damaged."""
    try:
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in written]
        return np.stack(rows).astype(np.float32)
    except ValueError:
        return None
