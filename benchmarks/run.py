"""One run: everybody started once, then rounds in which each has the machine to itself in turn."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.child import Child
from benchmarks.contestants import Contestant, Kind
from benchmarks.corpus import bulk_texts, short_texts
from benchmarks.fidelity import (
    Vectors,
    cosines,
    largest_difference,
    neighbour_overlap,
)
from benchmarks.figures import Figures
from benchmarks.preparation import RUNS, fresh_data_folder
from benchmarks.verdicts import EXACT, FAST
from benchmarks.workloads import BULK_CONNECTIONS, Bench, Corpus, NoAnswers, Scale

LOGS = RUNS / "logs"
ENGINES = {EXACT: "huggingface", FAST: "onnx"}
PRODUCTS = {EXACT: "fp32", FAST: "int8"}
# Whoever is held against each other is measured next to each other.
BULK_ORDER = ("infinity_onnx", EXACT, "infinity_torch", FAST, "infinity_int8")
ENGINE_SINGLES = 60
EMBEDDERS: tuple[Kind, ...] = ("ours", "peer")
STACK: tuple[Kind, ...] = ("ours", "floor")  # the same under all of them


def read_corpus(model_folder: Path) -> Corpus:
    """Return the bulk texts, counted with the model's own tokenizer."""
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = bulk_texts()
    return Corpus(
        texts=texts,
        tokens=[len(row.ids) for row in tokenizer.encode_batch(texts)],
    )


@dataclass(slots=True, kw_only=True)
class Run:
    """Measure `contestants` against each other and against the limits."""

    contestants: Sequence[Contestant]
    corpus: Corpus
    scale: Scale
    model_folder: Path
    figures: Figures = field(default_factory=Figures)
    vectors: dict[str, Vectors] = field(default_factory=dict)

    def measure(self) -> Figures:
        """Return all figures."""
        with self._all_started() as benches:
            for number in range(self.scale.rounds):
                turn = number % len(benches)
                turns = [*benches[turn:], *benches[:turn]]
                # The machine changes by the minute: what is compared is measured one right after the other.
                self._each(turns, number, self._one_at_a_time, EMBEDDERS)
                self._laps(benches, number)
                self._each(turns, number, lambda bench, _: bench.hot(), STACK)
                self._each(turns, number, self._other_loads, EMBEDDERS)
        self._cold_starts()
        self._fidelity()
        return self.figures

    @contextmanager
    def _all_started(self) -> Iterator[list[Bench]]:
        """Start everybody, one after another, each held still once it is warm."""
        benches: list[Bench] = []
        try:
            for contestant in self.contestants:
                say(f"starting {contestant.title}")
                server = contestant.start(LOGS)
                bench = Bench(
                    contestant=contestant,
                    server=server,
                    figures=self.figures,
                    corpus=self.corpus,
                    scale=self.scale,
                )
                benches.append(bench)
                server.wait_until(contestant.answers, pause_seconds=0.2)
                bench.warm_up()
                server.tree.pause()
            yield benches
        finally:
            for bench in benches:
                bench.server.stop()

    def _each(
        self,
        benches: Sequence[Bench],
        number: int,
        load: Callable[[Bench, int], None],
        kinds: Sequence[Kind],
    ) -> None:
        """Put `load` on each of these kinds in turn, while all others are held still."""
        for bench in benches:
            if bench.contestant.kind not in kinds:
                continue
            say(f"round {number + 1}: {bench.contestant.title}")
            bench.server.tree.resume()
            try:
                load(bench, number)
            except NoAnswers as failure:  # the others are still measured
                say(f"given up: {failure}")
            bench.server.tree.pause()

    def _laps(self, benches: Sequence[Bench], number: int) -> None:
        """Measure bulk, there and back again: a machine that grows slower or faster favours nobody."""
        neighbours = {name: place for place, name in enumerate(BULK_ORDER)}
        there = sorted(
            benches, key=lambda bench: neighbours.get(bench.contestant.name, -1)
        )
        for lap in range(self.scale.laps):
            self._each(there[:: -1 if lap % 2 else 1], number, self._bulk, EMBEDDERS)

    def _one_at_a_time(self, bench: Bench, number: int) -> None:
        if provider := ENGINES.get(bench.contestant.name):
            self._beside_its_engine(bench, provider, number)
        else:
            bench.one_at_a_time(number)

    def _beside_its_engine(self, bench: Bench, provider: str, number: int) -> None:
        """Measure a server of ours and its engine without HTTP, in a process that holds nothing else."""
        name = f"{bench.contestant.name}_engine"
        requests = self.corpus.requests(self.scale.bulk_texts)
        texts = short_texts(2 * ENGINE_SINGLES, start=2 * number * ENGINE_SINGLES)
        parts = iter([texts[:ENGINE_SINGLES], texts[ENGINE_SINGLES:]])
        environment = {**os.environ, "DATA_DIR": str(fresh_data_folder(name))}
        with Child("benchmarks.in_process", environment) as child:
            engine = partial(child.ask, provider=provider)
            engine("bulk", requests=requests[:2], threads=2)  # loads the model
            with _beside(
                lambda: engine("single", texts=next(parts))["p50_ms"]
            ) as singles:
                bench.one_at_a_time(number)
            bulk = engine("bulk", requests=requests, threads=BULK_CONNECTIONS)
        single = statistics.mean(singles)
        tokens = self.corpus.tokens_of(range(len(requests)))
        self.figures.add(
            name,
            single_p50_ms=single,
            single_bound_ms=1.5 * single + 2,
            bulk_tokens_per_second=tokens / bulk["seconds"],
        )

    def _bulk(self, bench: Bench, number: int) -> None:
        name = bench.contestant.name
        keep = name not in self.vectors
        if name in PRODUCTS:
            vectors = self._bulk_beside_the_limit(bench, PRODUCTS[name], keep=keep)
        else:
            vectors = bench.bulk(keep=keep)
        if vectors is not None:
            self.vectors[name] = vectors
            difference = largest_difference(bench.alone(), vectors)
            self.figures.add(name, batch_difference=difference)

    def _bulk_beside_the_limit(
        self, bench: Bench, products: str, *, keep: bool
    ) -> Vectors | None:
        with _beside(
            lambda: _ask("benchmarks.limits", products)["tokens_per_second"]
        ) as limits:
            vectors = bench.bulk(keep=keep)
        self.figures.add(
            f"{products}_limit", tokens_per_second=statistics.harmonic_mean(limits)
        )
        return vectors

    def _other_loads(self, bench: Bench, number: int) -> None:
        contestant = bench.contestant
        bench.many_clients(number)
        # A peer is busy with what is left of it for long afterwards: once will do.
        if contestant.ours or number == 0:
            bench.mix(number)
        if contestant.ours:
            with _beside(
                lambda: _ask("benchmarks.limits", "serialising")["ms"]
            ) as alone:
                bench.big_cached()
            self.figures.add(contestant.name, serialising_ms=statistics.mean(alone))

    def _cold_starts(self) -> None:
        for contestant in self.contestants:
            for number in range(self.scale.cold_starts if contestant.ours else 0):
                say(f"cold start: {contestant.title}")
                seconds = _seconds_to_first_vector(contestant, number)
                self.figures.add(contestant.name, cold_start_s=seconds)

    def _fidelity(self) -> None:
        say("comparing vectors with sentence-transformers")
        texts = self.corpus.texts[: self.scale.bulk_texts]
        target = RUNS / "reference.npy"
        _ask(
            "benchmarks.fidelity",
            "reference",
            folder=str(self.model_folder),
            texts=texts,
            target=str(target),
        )
        reference = np.load(target)
        for name, vectors in self.vectors.items():
            close = cosines(vectors, reference)
            self.figures.add(
                name,
                cosine_mean=float(close.mean()),
                cosine_min=float(close.min()),
                overlap=neighbour_overlap(vectors, reference),
            )
        if EXACT in self.vectors and FAST in self.vectors:
            overlap = neighbour_overlap(self.vectors[FAST], self.vectors[EXACT])
            self.figures.add(FAST, overlap_with_exact=overlap)


@contextmanager
def _beside(measure: Callable[[], float]) -> Iterator[list[float]]:
    """Take a measure right before and right after what is held against it; both are in the list at the end."""
    measured = [measure()]
    yield measured
    measured.append(measure())


def _ask(module: str, question: str, **details: Any) -> dict[str, float]:
    """Return a helper process's answer to one question; what it loaded for it is gone afterwards."""
    with Child(module, os.environ) as child:
        return child.ask(question, **details)


def _seconds_to_first_vector(contestant: Contestant, number: int) -> float:
    """Start a server whose weights are prepared, its files in the page cache, and ask for a text no cache holds."""
    text = f"A text that no cache holds, number {number}."
    started = time.perf_counter()
    server = contestant.start(LOGS)
    try:
        server.wait_until(
            lambda port: contestant.answers(port, text), pause_seconds=0.02
        )
        return time.perf_counter() - started
    finally:
        server.stop()


def say(what: str) -> None:
    """Tell how far the run is."""
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
