"""Local inference: weights, tokenizers, runtimes, batching. Used by the local plug-ins only."""

import os

# ONNX Runtime 1.29 and later report to its vendor from Linux, too, and keep a device id below the home folder, unless
# this is set before the library is loaded. A server that runs on its own does not.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
