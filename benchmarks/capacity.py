"""What a node answers, measured and simulated: `python -m benchmarks.capacity`. Prints the tables of docs/scaling.md.

What each part takes of a processor is measured with nobody else at work (`alone`). From that, `simulation` says what 32
clients get of 1, 2 and 4 web processes, and the same is measured with the whole server.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contestants as field
from benchmarks.alone import Parts
from benchmarks.contestants import REPOSITORY
from benchmarks.figures import Figures
from benchmarks.machine import describe_machine
from benchmarks.preparation import (
    RUNS,
    cores,
    fresh_data_folder,
    prepare_minilm,
    say,
)
from benchmarks.simulation import Costs, Node
from benchmarks.workloads import SHORT_CONNECTIONS, Bench, Scale

PROCESSES = (1, 2, 4)
SIMULATED_SECONDS = 10.0
# Of all cores: beyond it the wait grows faster than the load.
USED = 0.7
RATES = (100, 1000, 10_000)
CACHED, EXACT, FAST = "cached", "new, exact", "new, fast"
MODELS = {CACHED: "fast", EXACT: "exact", FAST: "fast"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What 32 clients got of so many web processes, a second: measured, simulated."""

    load: str
    processes: int
    measured: float
    simulated: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--laps", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    scale = Scale(
        laps=options.laps,
        seconds=options.seconds,
        bulk_texts=0,
        long_texts=0,
        cold_starts=0,
    )
    prepare_minilm("ours")
    figures, logs = Figures(), RUNS / "logs"
    costs = _costs(figures, scale, logs)
    rows = [*_compare(costs, figures, scale, logs)]
    machine = describe_machine()
    print(
        f"\n{machine['processor']}, {machine['cores']} cores, int8 by {machine['int8 by']}\n"
    )
    print(_markdown(rows, costs))


def _costs(figures: Figures, scale: Scale, logs: Path) -> Mapping[str, Costs]:
    """Measure what each part takes of each load."""
    found: dict[str, Costs] = {}
    with Parts(figures, scale, logs) as parts:
        for precision, load in (("exact", EXACT), ("fast", FAST)):
            with _served(precision, 2, figures, scale, logs) as bench:
                bench.server.tree.pause()
                for lap in range(scale.laps):
                    say(f"{load}: each part alone, lap {lap + 1}")
                    parts.measure(bench)
                    parts.measure_lone_texts(bench)
                found[load] = _from(figures, bench.contestant.name)
                if precision == "fast":
                    with bench.awake():
                        found[CACHED] = _cached(bench, found[load].client)
    return found


def _from(figures: Figures, name: str) -> Costs:
    """Return costs in seconds. A lone text pays for a run of its own, one of many for its share of one."""
    web, engine, lone, client = (
        (figures.median(name, figure) or 0.0) / 1000
        for figure in ("web_ms", "engine_ms", "engine_lone_ms", "generator_ms")
    )
    # The lanes of `cores() + 1` share what waits for them.
    together = SHORT_CONNECTIONS / (cores() + 1)
    run = max(lone - engine, 0.0) / (1 - 1 / together)
    return Costs(web=web, run=run, text=max(lone - run, 0.0), client=client)


def _cached(bench: Bench, client: float) -> Costs:
    tree, seconds = bench.server.tree, []
    for _ in range(bench.scale.laps):
        before = tree.cpu_seconds()
        answers = bench.cached()
        seconds.append((tree.cpu_seconds() - before) / len(answers.seconds))
    return Costs(web=statistics.median(seconds), client=client)


def _compare(
    costs: Mapping[str, Costs], figures: Figures, scale: Scale, logs: Path
) -> Iterator[Row]:
    for load, precision in MODELS.items():
        for processes in PROCESSES:
            say(f"{load}: {processes} web processes")
            with _served(precision, processes, figures, scale, logs) as bench:
                found = []
                for _ in range(scale.laps):
                    ask = bench.cached if load == CACHED else bench.many_clients
                    answers = ask()
                    found.append(len(answers.seconds) / answers.elapsed)
            node = Node(
                costs[load], cores=cores(), web=processes, clients=SHORT_CONNECTIONS
            )
            yield Row(
                load=load,
                processes=processes,
                measured=statistics.median(found),
                simulated=node.run(SIMULATED_SECONDS).per_second,
            )


@contextmanager
def _served(
    precision: str, processes: int, figures: Figures, scale: Scale, logs: Path
) -> Iterator[Bench]:
    name = f"{precision}-{processes}"
    contestant = field.ours(
        name,
        name,
        fresh_data_folder(name),
        model=f"{field.PROVIDERS[precision]}:{field.MINILM}",
        environment={"WEB_CONCURRENCY": str(processes)},
    )
    server = contestant.start(logs)
    try:
        server.wait_until(contestant.answers, pause_seconds=0.2)
        bench = Bench(
            contestant=contestant, server=server, figures=figures, scale=scale
        )
        bench.many_clients()  # loaded, compiled
        yield bench
    finally:
        server.stop()


def _markdown(rows: list[Row], costs: Mapping[str, Costs]) -> str:
    lines = [
        "| 32 clients, short texts | web processes | measured a second | simulated | simulated over measured |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.load} | {row.processes} | {row.measured:,.0f} | {row.simulated:,.0f} "
        f"| {row.simulated / row.measured:.2f} |"
        for row in rows
    ]
    lines += [
        "",
        "| a short text | web process, ms | engine, ms a run | engine, ms a text | "
        + " | ".join(f"cores for {rate:,} a second" for rate in RATES)
        + " |",
        "|---|---|---|---|" + "---|" * len(RATES),
    ]
    for load, cost in costs.items():
        each = cost.web + cost.text
        lines.append(
            f"| {load} | {cost.web * 1000:.2f} | {cost.run * 1000:.2f} | {cost.text * 1000:.2f} | "
            + " | ".join(f"{rate * each / USED:,.1f}" for rate in RATES)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if Path.cwd() != REPOSITORY:
        os.chdir(REPOSITORY)
    main()
