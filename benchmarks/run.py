"""One run: for each table its servers are started, then measured in laps in which each has the machine to itself."""

import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from benchmarks import contestants as who
from benchmarks.alone import Parts
from benchmarks.child import Child
from benchmarks.contestants import MINILM, PROVIDERS, Contestant
from benchmarks.corpora import bulk_corpus, long_corpus
from benchmarks.fidelity import Vectors, compare, largest_difference
from benchmarks.figures import Figures
from benchmarks.passthrough import measure_passthrough
from benchmarks.preparation import (
    FOLDERS,
    RUNS,
    core_numbers,
    cores,
    fresh_data_folder,
    model_paths,
    prepare_infinity,
    prepare_model,
    say,
    there,
)
from benchmarks.verdicts import BEFORE_EXACT, BEFORE_FAST, EXACT, FAST
from benchmarks.workloads import Bench, Corpus, NoAnswers, Scale

LOGS = RUNS / "logs"
TABLES = ("short", "passthrough", "latency", "bulk", "long", "base", "large", "memory")
# What is measured of one model's servers beside each other.
TOGETHER = {"short", "latency", "bulk"}
# Table to the folder model that it is about.
FURTHER = {"long": "minilm-512", "base": "bge-base-shape", "large": "e5-large-shape"}
PRODUCTS = {EXACT: "fp32", FAST: "int8"}
# Whoever is held against each other is measured next to each other.
ORDER = (
    *("fastapi", "infinity_onnx", EXACT, BEFORE_EXACT, "infinity_torch"),
    *(BEFORE_FAST, FAST, "infinity_int8"),
)
MORE_WEB = 2
IN_REQUEST = 32
MEMORY_LAPS = 2


@dataclass(slots=True, kw_only=True)
class Run:
    """Measure what `tables` name. `minilm` is the folder of the default model's files."""

    tables: Collection[str]
    scale: Scale
    minilm: Path
    figures: Figures = field(default_factory=Figures)
    titles: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, Vectors] = field(default_factory=dict)

    def prepare(self) -> None:
        """Build, export and prepare all that the tables need, once for all runs."""
        states = ("ours", "before") if there("before") else ("ours",)
        folders = {"minilm": self.minilm} if TOGETHER & {*self.tables} else {}
        for table, model in FURTHER.items():
            if table in self.tables:
                say(f"preparing {model}")
                folders[model] = prepare_model(model, self.minilm, *states)
        for name, folder in folders.items():
            if there("peers"):
                prepare_infinity(name, folder)

    def measure(self) -> list[str]:
        """Fill in all figures; return what failed, which keeps nothing else from being measured."""
        parts: dict[str, Callable[[], None]] = {
            "minilm": self._minilm,
            "passthrough": partial(
                measure_passthrough, self.figures, self.titles, self.scale, LOGS
            ),
            **{
                table: partial(self._further, table, model)
                for table, model in FURTHER.items()
            },
            "memory": self._memory,
        }
        wanted = {*self.tables} | ({"minilm"} if TOGETHER & {*self.tables} else set())
        failed = []
        for name, part in parts.items():
            if name in wanted:
                try:
                    part()
                except Exception:
                    traceback.print_exc()
                    failed.append(name)
                except KeyboardInterrupt:  # what is measured by now is reported
                    failed.append(name)
                    break
        return failed

    def _minilm(self) -> None:
        corpus = bulk_corpus(self.minilm, self.scale.bulk_texts, in_request=IN_REQUEST)
        contestants = self._contestants(MINILM, self.minilm, "minilm")
        if not {"short", "bulk"} & {*self.tables}:
            contestants = [one for one in contestants if one.kind != "peer"]
        parts: Parts | nullcontext[None] = nullcontext()
        if "short" in self.tables:
            contestants += self._on_fewer_cores()
            parts = Parts(self.figures, self.scale, LOGS)
        with (
            self.started(contestants, corpus) as benches,
            parts as alone,
            Child("benchmarks.limits", os.environ) as limits,
        ):
            for lap in range(self.scale.laps):
                say(f"lap {lap + 1} of {self.scale.laps}")
                turns = benches[:: -1 if lap % 2 else 1]
                if alone:
                    self._short(turns, alone)
                if "latency" in self.tables:
                    self._latency(turns, corpus)
                if "bulk" in self.tables:
                    self._bulk(turns, corpus, limits)
        if self.vectors:
            say("comparing vectors with sentence-transformers")
            texts = [text for request in corpus.requests for text in request]
            compare(self.vectors, texts, self.minilm, RUNS, self.figures)

    def _short(self, benches: Sequence[Bench], alone: Parts) -> None:
        say("short texts of 32 clients")
        own = [b for b in benches if b.contestant.kind != "peer"]
        each(benches, lambda bench: bench.many_clients())
        each([b for b in own if EXACT in b.contestant.name], lambda b: b.cached())
        for figure in ("short_per_second", "cached_per_second"):
            self._growth(figure)
        say("each part alone")
        alone.measure(*(b for b in benches if b.contestant.name in PROVIDERS))

    def _growth(self, figure: str) -> None:
        """Note which share of so many times one core's figure all cores give, as measured last."""
        for name in (EXACT, FAST):
            whole, one = (self.figures.of(n, figure) for n in (name, f"{name}_1"))
            if whole and len(whole) == len(one):
                growth = whole[-1] / one[-1] / cores()
                self.figures.add(name, **{f"{figure}_growth": growth})

    def _latency(self, benches: Sequence[Bench], corpus: Corpus) -> None:
        say("one short text")
        own = [b for b in benches if b.contestant.kind != "peer" and not b.cores]
        each(own, lambda bench: bench.single())
        ours = [b for b in own if b.contestant.kind == "ours"]
        each(ours, lambda bench: bench.during_bulk_and_job(corpus))

    def _bulk(self, benches: Sequence[Bench], corpus: Corpus, limits: Child) -> None:
        say("bulk")
        for bench in (b for b in benches if not b.cores):
            name = bench.contestant.name
            each([bench], partial(self._bulk_of, corpus=corpus))
            if precision := PRODUCTS.get(name):
                best = limits.ask("limits", precision=precision)
                self.figures.add(
                    f"{precision}_limit", tokens_per_second=max(best.values()), **best
                )

    def _bulk_of(self, bench: Bench, corpus: Corpus) -> None:
        name = bench.contestant.name
        keep = name not in self.vectors
        vectors = bench.bulk(corpus, "bulk_tokens_per_second", keep=keep)
        if vectors is not None:
            bench.memory()
            self.vectors[name] = vectors
            difference = largest_difference(bench.alone(corpus), vectors)
            bench.add(batch_difference=difference)

    def _further(self, table: str, model: str) -> None:
        texts = self.scale.long_texts
        if table == "long":
            corpus = long_corpus(self.minilm, texts, in_request=4)
        elif table == "base":
            corpus = bulk_corpus(self.minilm, texts, in_request=4)
        else:
            corpus = bulk_corpus(self.minilm, texts // 4, in_request=1)
        contestants = self._contestants(model, FOLDERS / model, model)
        figure = f"{table}_tokens_per_second"
        with self.started(contestants, corpus) as benches:
            for lap in range(self.scale.laps):
                say(f"{model}: lap {lap + 1} of {self.scale.laps}")
                each(benches[:: -1 if lap % 2 else 1], _bulk_as(figure, corpus))

    def _memory(self) -> None:
        corpus = bulk_corpus(self.minilm, self.scale.bulk_texts, in_request=IN_REQUEST)
        usual = min(cores(), 8)
        say("cold starts and memory")
        for lap in range(self.scale.cold_starts):
            weighed = lap < min(MEMORY_LAPS, self.scale.laps)
            self._start("default", corpus if weighed else None)
            if weighed:
                more = {"WEB_CONCURRENCY": str(usual + MORE_WEB)}
                self._start("more_web", corpus, more)
                large, small = (
                    self.figures.of(n, "memory_mb")[-1] for n in ("more_web", "default")
                )
                self.figures.add("default", web_mb=(large - small) / MORE_WEB)

    def _start(
        self,
        name: str,
        corpus: Corpus | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a server at its defaults until it is ready; weigh it after bulk, if there is any."""
        title = "this server at its defaults"
        model = f"{PROVIDERS[EXACT]}:{MINILM}"
        data = fresh_data_folder(name)
        own = who.ours(name, title, data, model=model, environment=environment)
        began = time.perf_counter()
        server = own.start(LOGS)
        bench = Bench(
            contestant=own, server=server, figures=self.figures, scale=self.scale
        )
        try:
            server.wait_until(
                lambda port: own.call(port, "GET", "/readyz") is not None,
                pause_seconds=0.02,
            )
            bench.add(cold_start_s=time.perf_counter() - began)
            if corpus:
                bench.bulk(corpus, "default_tokens_per_second")
                bench.memory()
        finally:
            server.stop()

    @contextmanager
    def started(
        self, contestants: Sequence[Contestant], corpus: Corpus
    ) -> Iterator[list[Bench]]:
        """Start everybody who starts, one after another, each held still once it is warm."""
        with ExitStack() as stack:
            benches: list[Bench] = []
            for contestant in contestants:
                say(f"starting {contestant.title}")
                self.titles.setdefault(contestant.name, contestant.title)
                server = contestant.start(LOGS)
                stack.callback(server.stop)
                bench = Bench(
                    contestant=contestant,
                    server=server,
                    figures=self.figures,
                    scale=self.scale,
                    cores=contestant.cores,
                )
                try:
                    server.wait_until(contestant.answers, pause_seconds=0.2)
                    bench.warm_up(corpus)
                except (RuntimeError, NoAnswers) as failure:  # the others are measured
                    say(f"given up: {failure}")
                    server.stop()
                    continue
                benches.append(bench)
                server.tree.pause()
            yield benches

    def _contestants(self, model: str, folder: Path, graphs: str) -> list[Contestant]:
        """Return everybody who serves a model, in the order in which they are measured."""
        everybody = []
        for name, provider in PROVIDERS.items():
            served = f"{provider}:{model}"
            data = fresh_data_folder(name)
            title = f"this server, {name}"
            own = who.ours(name, title, data, model=served, environment=model_paths())
            everybody.append(own)
            if there("before"):
                data = fresh_data_folder(f"before_{name}", "before")
                title = f"{who.BEFORE_COMMIT}, {name}"
                paths = model_paths()
                everybody.append(
                    who.before(
                        f"before_{name}", title, data, model=served, environment=paths
                    )
                )
        if there("peers"):
            everybody += who.peers(folder, prepare_infinity(graphs, folder))
        return sorted(everybody, key=lambda one: ORDER.index(one.name))

    def _on_fewer_cores(self) -> list[Contestant]:
        """Return this server on one core, and on 2, 4, 8, … as long as there are more."""
        numbers = core_numbers()
        fewer = []
        for name, provider in PROVIDERS.items():
            count = 1
            while count < len(numbers):
                own = who.ours(
                    f"{name}_{count}",
                    f"this server, {name}, {count} core{'s' if count > 1 else ''}",
                    fresh_data_folder(f"{name}_{count}"),
                    model=f"{provider}:{MINILM}",
                )
                fewer.append(replace(own, cores=numbers[:count]))
                count *= 2
        return fewer


def each(benches: Sequence[Bench], load: Callable[[Bench], object]) -> None:
    """Put `load` on each in turn, while all others are held still."""
    for bench in benches:
        with bench.awake():
            load(bench)


def _bulk_as(figure: str, corpus: Corpus) -> Callable[[Bench], object]:
    return lambda bench: bench.bulk(corpus, figure)
