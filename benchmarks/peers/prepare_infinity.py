"""Make the folders that Infinity's ONNX engine reads, with its own libraries: `prepare_infinity.py MODEL TARGET`.

TARGET/fp32 holds the graph that optimum exports; TARGET/int8 the same, quantised as the ready-made files on the hub
are: dynamically, by channel (not with `--exact`). Both are optimised as Infinity itself optimises them at its first
start; that step of its own fails on local folders with the versions of optimum that its other needs allow.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from onnxruntime.quantization import (  # type: ignore[import-untyped]
    QuantType,
    quantize_dynamic,
)
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer
from optimum.onnxruntime.configuration import OptimizationConfig


def main(model: Path, target: Path, *, fast: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        exact, quantised = Path(scratch) / "fp32", Path(scratch) / "int8"
        main_export(
            str(model),
            exact,
            task="feature-extraction",
            library_name="transformers",
            do_validation=False,
        )
        optimise(exact, "model.onnx", target / "fp32")
        if fast:
            shutil.copytree(exact, quantised, ignore=shutil.ignore_patterns("*.onnx"))
            quantize_dynamic(
                exact / "model.onnx",
                quantised / "model_quantized.onnx",
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
            optimise(quantised, "model_quantized.onnx", target / "int8")
    (target / "ready").touch()


def optimise(folder: Path, graph: str, target: Path) -> None:
    """Write the optimised graph, and what else a model's folder holds, to `target`."""
    model = ORTModelForFeatureExtraction.from_pretrained(
        folder, file_name=graph, provider="CPUExecutionProvider"
    )
    ORTOptimizer.from_pretrained(model).optimize(
        optimization_config=OptimizationConfig(optimization_level=99), save_dir=target
    )
    shutil.copytree(
        folder, target, ignore=shutil.ignore_patterns("*.onnx"), dirs_exist_ok=True
    )


if __name__ == "__main__":
    *options, model, target = sys.argv[1:]
    main(Path(model), Path(target), fast="--exact" not in options)
