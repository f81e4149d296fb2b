"""Measure this server against its peers: `make bench`, or `python -m benchmarks --quick`."""

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import contestants as field
from benchmarks.contestants import REPOSITORY, Contestant
from benchmarks.machine import describe_machine
from benchmarks.plot import PLOTS
from benchmarks.preparation import (
    SCRATCH,
    fresh_data_folder,
    peers_are_there,
    prepare_infinity,
    prepare_own_model,
)
from benchmarks.report import Report, publish
from benchmarks.run import ENGINES, Run, read_corpus
from benchmarks.soak import growth, soak
from benchmarks.verdicts import EXACT
from benchmarks.workloads import FULL, QUICK, Corpus

RESULTS = SCRATCH / "results.json"
PAGE = REPOSITORY / "docs" / "performance.md"


def main() -> None:
    options = _options()
    # Whoever ends this process wants the servers ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    model_folder = prepare_own_model()
    corpus = read_corpus(model_folder)
    report = (
        Report.load(options.saved)
        if options.saved
        else _measure(options, model_folder, corpus)
    )
    if options.soak:
        report = _soak(report, corpus, minutes=options.soak)
    report.save(RESULTS)
    print("\n" + report.markdown())
    if options.publish:
        publish(report, PAGE, PLOTS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round")
    add("--only", help="names of contestants, comma-separated")
    add(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="then load this server alone, for long",
    )
    add("--publish", action="store_true", help="write docs/performance.md")
    add("--saved", type=Path, help="a results.json, instead of a new run")
    return parser.parse_args()


def _measure(options: argparse.Namespace, model_folder: Path, corpus: Corpus) -> Report:
    contestants = _contestants(model_folder, options.only)
    scale = QUICK if options.quick else FULL
    run = Run(
        contestants=contestants, corpus=corpus, scale=scale, model_folder=model_folder
    )
    rounds = f"{scale.rounds} rounds, medians" if scale.rounds > 1 else "one round"
    mean = sum(corpus.tokens) / len(corpus.tokens)
    return Report(
        figures=run.measure(),
        titles={one.name: one.title for one in contestants},
        machine=describe_machine(),
        conditions=(
            f"Measured on {time.strftime('%Y-%m-%d')}: {rounds};"
            f" the corpus has {len(corpus.texts)} texts of {mean:.0f} tokens on average."
        ),
    )


def _soak(report: Report, corpus: Corpus, *, minutes: float) -> Report:
    """Add a soak of this server to the report."""
    own = _own(EXACT)
    samples = soak(own, corpus, minutes=minutes)
    report.figures.values.get(EXACT, {}).pop("soak_growth", None)
    if (share := growth(samples)) is not None:
        report.figures.add(EXACT, soak_growth=share)
    return replace(report, soak=samples)


def _own(name: str) -> Contestant:
    return field.ours(
        name, f"this server, {name}", ENGINES[name], fresh_data_folder(name)
    )


def _contestants(model_folder: Path, only: str | None) -> list[Contestant]:
    everybody = [*map(_own, ENGINES), field.empty_view()]
    if peers_are_there():
        graphs = prepare_infinity(model_folder)
        everybody += [
            field.fastapi(model_folder),
            field.infinity("infinity_torch", "Infinity, torch", "torch", model_folder),
            field.infinity(
                "infinity_onnx", "Infinity, ONNX fp32", "optimum", graphs / "fp32"
            ),
            field.infinity(
                "infinity_int8", "Infinity, ONNX int8", "optimum", graphs / "int8"
            ),
        ]
    known = [one.name for one in everybody]
    names = only.split(",") if only else known
    if unknown := set(names) - set(known):
        sys.exit(f"--only: {', '.join(unknown)}? There are {', '.join(known)}.")
    return [one for one in everybody if one.name in names]


if __name__ == "__main__":
    main()
