"""A text encoder's ONNX graphs, exact and int8, from its safetensors. README.md shows how to use it alone.

Imports nothing of the project outside itself. Serving reads these names and small tables without importing onnx.
"""

GRAPH_VERSION = 3
GRAPH_FILE = f"graph-v{GRAPH_VERSION}.onnx"
PARAMETERS_FILE = f"graph-v{GRAPH_VERSION}.bin"
FAST_GRAPH_FILE = f"graph-v{GRAPH_VERSION}-int8.onnx"
FAST_PARAMETERS_FILE = f"graph-v{GRAPH_VERSION}-int8.bin"
