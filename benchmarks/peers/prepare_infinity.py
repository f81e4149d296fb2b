"""Make the folders that Infinity's ONNX engine reads, with its own libraries: `prepare_infinity.py MODEL TARGET`.

TARGET/fp32 holds the graph that optimum exports; TARGET/int8 the same, quantised as the ready-made files on the hub
are: dynamically, by channel.
"""

import shutil
import sys
from pathlib import Path

from onnxruntime.quantization import (  # type: ignore[import-untyped]
    QuantType,
    quantize_dynamic,
)
from optimum.exporters.onnx import main_export


def main(model: Path, target: Path) -> None:
    exact, quantised = target / "fp32", target / "int8"
    main_export(
        str(model),
        exact,
        task="feature-extraction",
        library_name="transformers",
        do_validation=False,
    )
    shutil.copytree(
        exact, quantised, ignore=shutil.ignore_patterns("*.onnx"), dirs_exist_ok=True
    )
    quantize_dynamic(
        exact / "model.onnx",
        quantised / "model_quantized.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    (target / "ready").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
