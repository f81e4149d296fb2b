"""Measure this server against its peers: `make bench`, or `python -m benchmarks --quick`."""

import argparse
from pathlib import Path

from benchmarks import contestants as field
from benchmarks.contestants import Contestant
from benchmarks.preparation import (
    fresh_data_folder,
    peers_are_there,
    prepare_infinity,
    prepare_own_model,
)
from benchmarks.run import ENGINES, Run, read_corpus
from benchmarks.verdicts import verdicts
from benchmarks.workloads import FULL, QUICK


def main() -> None:
    options = _options()
    model_folder = prepare_own_model()
    run = Run(
        contestants=_contestants(model_folder, options.only),
        corpus=read_corpus(model_folder),
        scale=QUICK if options.quick else FULL,
        model_folder=model_folder,
    )
    figures = run.measure()
    for name, own in figures.values.items():
        print(name, {figure: figures.median(name, figure) for figure in own})
    for verdict in verdicts(figures):
        print(verdict.promise, verdict.value, verdict.limit_text, verdict.met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", help="names of contestants, comma-separated")
    return parser.parse_args()


def _contestants(model_folder: Path, only: str | None) -> list[Contestant]:
    everybody = [
        *(
            field.ours(
                name, f"this server, {name}", ENGINES[name], fresh_data_folder(name)
            )
            for name in ENGINES
        ),
        field.empty_view(),
    ]
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
    names = only.split(",") if only else [one.name for one in everybody]
    return [one for one in everybody if one.name in names]


if __name__ == "__main__":
    main()
