"""A Ray cluster on this machine, a processor a node, for benchmarks and tests: `python -m benchmarks.ray_nodes 2`.

Prints its address. A line on standard input kills the last node; the end of it ends the cluster.
"""

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # of Ray's own

from ray.cluster_utils import Cluster  # noqa: E402

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    # Sockets lie in it, whose paths must be short. Ray notes the cluster's address in a folder that it takes for there.
    folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")
    (Path(folder) / "ray").mkdir()
    head = {**NODE, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        others = [cluster.add_node(**NODE) for _ in range(1, int(sys.argv[1]))]
        print(cluster.address, flush=True)
        while sys.stdin.readline():
            cluster.remove_node(others.pop(), allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
