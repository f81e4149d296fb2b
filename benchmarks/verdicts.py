"""What was promised, as ratios, and whether this run keeps it."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.figures import Figures

EXACT, FAST = "exact", "fast"
EQUAL_COSINE = 0.9999  # from here on a peer's engine counts as exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One promise. `value` None: not measured in this run. `at_least` False: the limit is an upper one."""

    promise: str
    value: float | None
    limit: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Return whether it is kept; None if it was not measured."""
        if self.value is None:
            return None
        if self.at_least:
            return self.value >= self.limit
        return self.value <= self.limit

    @property
    def limit_text(self) -> str:
        """Return the limit with its direction."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def verdicts(figures: Figures) -> list[Verdict]:
    """Judge everything that was promised."""
    return [
        *_bulk(figures),
        *_server(figures),
        *_fidelity(figures),
        *_over_time(figures),
    ]


def _bulk(figures: Figures) -> Iterator[Verdict]:
    bulk = "bulk_tokens_per_second"
    best = max(
        ("infinity_torch", "infinity_onnx"),
        key=lambda name: figures.median(name, bulk) or 0.0,
    )
    for own, words, other, limit in (
        (EXACT, "Infinity's best exact engine", (best, bulk), 1.7),
        (EXACT, "the fp32 limit", ("fp32_limit", "tokens_per_second"), 0.65),
        (FAST, "Infinity's default", ("infinity_torch", bulk), 4.0),
        (FAST, "Infinity's int8 engine", ("infinity_int8", bulk), 2.0),
        (FAST, "the int8 limit", ("int8_limit", "tokens_per_second"), 0.4),
    ):
        yield Verdict(
            promise=f"{own}: bulk tokens/s over {words}",
            value=figures.ratio((own, bulk), other),
            limit=limit,
            at_least=True,
        )


def _server(figures: Figures) -> Iterator[Verdict]:
    for own in (EXACT, FAST):
        engine = f"{own}_engine"
        yield _at_most(
            f"{own}: share of all but the engine's threads in the server's processor time (bulk)",
            figures.median(own, "http_share"),
            0.10,
        )
        yield _at_most(
            f"{own}: one short text, p50 over 1.5 x engine + 2 ms",
            figures.ratio((own, "single_p50_ms"), (engine, "single_bound_ms")),
            1.0,
        )
        yield _at_most(
            f"{own}: one short text during a 2048-text request, p99 over idle p50",
            figures.ratio((own, "mix_p99_ms"), (own, "single_p50_ms")),
            5.0,
        )
        yield _at_most(
            f"{own}: 2048 cached texts over serialising alone",
            figures.ratio((own, "big_cached_ms"), (own, "serialising_ms")),
            5.0,
        )
        yield Verdict(
            promise=f"{own}: cache-hot requests/s over an empty view's",
            value=figures.ratio(
                (own, "hot_requests_per_second"),
                ("empty_view", "hot_requests_per_second"),
            ),
            limit=0.6,
            at_least=True,
        )
        yield _at_most(
            f"{own}: memory of the whole server after bulk, MB",
            max(figures.of(own, "memory_mb"), default=None),
            450,
        )
        yield _at_most(
            f"{own}: cold start to the first vector, s",
            figures.median(own, "cold_start_s"),
            3.0,
        )


def _fidelity(figures: Figures) -> Iterator[Verdict]:
    for own, figure, words, limit in (
        (EXACT, "cosine_min", "lowest cosine to sentence-transformers", EQUAL_COSINE),
        (FAST, "cosine_mean", "mean cosine to sentence-transformers", 0.995),
        (FAST, "cosine_min", "lowest cosine to sentence-transformers", 0.97),
        (FAST, "overlap_with_exact", "ten nearest texts shared with exact", 0.95),
    ):
        yield Verdict(
            promise=f"{own}: {words}",
            value=figures.median(own, figure),
            limit=limit,
            at_least=True,
        )
    for own in (EXACT, FAST):
        yield _at_most(
            f"{own}: difference between a text alone and in a batch",
            figures.median(own, "batch_difference"),
            1e-6,
        )


def _over_time(figures: Figures) -> Iterator[Verdict]:
    yield _at_most(
        f"{EXACT}: growth of memory over the last third of the soak",
        figures.median(EXACT, "soak_growth"),
        0.05,
    )
    counted = [figures.of(own, "errors") for own in (EXACT, FAST)]
    failed = sum(map(sum, counted)) if any(counted) else None
    yield _at_most("errors of this server", failed, 0)


def _at_most(promise: str, value: float | None, limit: float) -> Verdict:
    return Verdict(promise=promise, value=value, limit=limit, at_least=False)
