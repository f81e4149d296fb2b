"""What is aimed at, as ratios, and whether this run meets it."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.figures import Figures

EXACT, FAST = "exact", "fast"
BEFORE_EXACT, BEFORE_FAST = "before_exact", "before_fast"
EXACT_PEERS = ("infinity_torch", "infinity_onnx", "fastapi")
INFINITY_EXACT = EXACT_PEERS[:2]
INT8_PEER = "infinity_int8"
EQUAL_COSINE = 0.9999  # from here on a peer's vectors count as exact
SHORT, CACHED, BULK = "short_per_second", "cached_per_second", "bulk_tokens_per_second"
USUAL_CORES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One aim. `value` None: not measured in this run; `limit` None: only shown. `at_least` False: an upper limit."""

    table: str
    aim: str
    value: float | None
    limit: float | None = None
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        """Return whether it is met; None if it was not measured or nothing is aimed at."""
        if self.value is None or self.limit is None:
            return None
        if self.at_least:
            return self.value >= self.limit
        return self.value <= self.limit

    @property
    def limit_text(self) -> str:
        """Return the limit with its direction."""
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:.4g}"


def verdicts(figures: Figures, *, cores: int) -> list[Verdict]:
    """Judge everything that is aimed at."""
    return [
        *_short(figures),
        *_passthrough(figures),
        *_latency(figures),
        *_bulk(figures),
        *_further(figures),
        *_memory(figures, cores=cores),
        *_fidelity(figures),
    ]


def _short(figures: Figures) -> Iterator[Verdict]:
    exact_peer = _best(figures, INFINITY_EXACT, SHORT)
    for own, other, words, limit in (
        (EXACT, (EXACT, "possible_per_second"), "what the cores can give", 0.85),
        (FAST, (FAST, "possible_per_second"), "what the cores can give", 0.85),
        (EXACT, (exact_peer, SHORT), "Infinity's best fp32 engine", 1.3),
        (FAST, (INT8_PEER, SHORT), "Infinity's int8 engine", 1.5),
        (EXACT, (BEFORE_EXACT, SHORT), "513a80f", None),
        (FAST, (BEFORE_FAST, SHORT), "513a80f", None),
    ):
        yield Verdict(
            table="short",
            aim=f"{own}: short texts/s of 32 clients over {words}",
            value=figures.ratio((own, SHORT), other),
            limit=limit,
        )
    yield Verdict(
        table="short",
        aim="cached texts/s over 513a80f",
        value=figures.ratio((EXACT, CACHED), (BEFORE_EXACT, CACHED)),
        limit=1.7,
    )
    for own, figure, words in (
        (EXACT, SHORT, "exact: short texts/s"),
        (FAST, SHORT, "fast: short texts/s"),
        (EXACT, CACHED, "cached texts/s"),
    ):
        yield Verdict(
            table="short",
            aim=f"{words} of all cores over as many times one core's",
            value=figures.median(own, f"{figure}_growth"),
            limit=0.85,
        )


def _passthrough(figures: Figures) -> Iterator[Verdict]:
    for other, words, limit in (
        ("before_gateway", "513a80f's", 0.7),
        ("litellm", "that of LiteLLM's proxy", 0.333),
    ):
        yield Verdict(
            table="passthrough",
            aim=f"time added to an upstream's p50 over {words}",
            value=figures.ratio(("gateway", "added_ms"), (other, "added_ms")),
            limit=limit,
            at_least=False,
        )
    for other, words, aim in (
        ("before_gateway", "513a80f's", 2.0),
        ("litellm", "that of LiteLLM's proxy", None),
    ):
        yield Verdict(
            table="passthrough",
            aim=f"texts/s passed on by two cores over {words}",
            value=figures.ratio(("gateway", SHORT), (other, SHORT)),
            limit=aim,
        )


def _latency(figures: Figures) -> Iterator[Verdict]:
    for own, before in ((EXACT, BEFORE_EXACT), (FAST, BEFORE_FAST)):
        single = (own, "single_p50_ms")
        yield Verdict(
            table="latency",
            aim=f"{own}: one short text, p50 over 513a80f's",
            value=figures.ratio(single, (before, "single_p50_ms")),
            limit=1.08,
            at_least=False,
        )
        yield Verdict(
            table="latency",
            aim=f"{own}: p99 during bulk and a media job, over idle p50",
            value=figures.ratio((own, "busy_p99_ms"), single),
            limit=4,
            at_least=False,
        )


def _bulk(figures: Figures) -> Iterator[Verdict]:
    equal = [
        name
        for name in EXACT_PEERS
        if (figures.median(name, "cosine_min") or 0.0) >= EQUAL_COSINE
    ]
    for own, other, words, limit in (
        (EXACT, ("fp32_limit", "tokens_per_second"), "the fp32 limit", 0.75),
        (EXACT, (_best(figures, equal, BULK), BULK), "the best exact peer", 1.4),
        (FAST, ("int8_limit", "tokens_per_second"), "the int8 limit", 0.55),
        (FAST, (INT8_PEER, BULK), "the best int8 peer", 1.7),
        (EXACT, (BEFORE_EXACT, BULK), "513a80f", None),
        (FAST, (BEFORE_FAST, BULK), "513a80f", None),
    ):
        yield Verdict(
            table="bulk",
            aim=f"{own}: bulk tokens/s over {words}",
            value=figures.ratio((own, BULK), other),
            limit=limit,
        )


def _further(figures: Figures) -> Iterator[Verdict]:
    for table in ("long", "base", "large"):
        figure = f"{table}_tokens_per_second"
        for own, other, words in (
            (EXACT, _best(figures, EXACT_PEERS, figure), "the best exact peer"),
            (FAST, INT8_PEER, "the best int8 peer"),
            (EXACT, BEFORE_EXACT, "513a80f"),
            (FAST, BEFORE_FAST, "513a80f"),
        ):
            yield Verdict(
                table=table,
                aim=f"{own}: tokens/s over {words}",
                value=figures.ratio((own, figure), (other, figure)),
            )


def _memory(figures: Figures, *, cores: int) -> Iterator[Verdict]:
    for words, figure, limit in (
        ("MB of the whole server after bulk", "memory_mb", _most_memory(cores)),
        ("MB of each further web process", "web_mb", 40.0),
        ("seconds from a cold start to the first 200 of /readyz", "cold_start_s", 3.0),
    ):
        yield Verdict(
            table="memory",
            aim=words,
            value=figures.median("default", figure),
            limit=limit,
            at_least=False,
        )


def _most_memory(cores: int) -> float:
    """Return what the server may take: each core beyond two brings a web process, of up to eight."""
    return 450.0 + 40.0 * max(0, min(cores, 8) - USUAL_CORES)


def _fidelity(figures: Figures) -> Iterator[Verdict]:
    for own, figure, words, limit in (
        (EXACT, "cosine_min", "lowest cosine to sentence-transformers", EQUAL_COSINE),
        (FAST, "cosine_mean", "mean cosine to sentence-transformers", 0.995),
        (FAST, "cosine_min", "lowest cosine to sentence-transformers", 0.97),
    ):
        yield Verdict(
            table="bulk",
            aim=f"{own}: {words}",
            value=figures.median(own, figure),
            limit=limit,
        )
    for own in (EXACT, FAST):
        yield Verdict(
            table="bulk",
            aim=f"{own}: difference between a text alone and in a batch",
            value=figures.median(own, "batch_difference"),
            limit=1e-6,
            at_least=False,
        )
    counted = [figures.of(own, "errors") for own in (EXACT, FAST, "gateway", "default")]
    yield Verdict(
        table="all",
        aim="errors of this server",
        value=sum(map(sum, counted)) if any(counted) else None,
        limit=0,
        at_least=False,
    )


def _best(figures: Figures, names: tuple[str, ...] | list[str], figure: str) -> str:
    """Return who has the highest median; a name that nobody has where nobody was measured."""
    return max(
        names, key=lambda name: figures.median(name, figure) or 0.0, default="nobody"
    )
