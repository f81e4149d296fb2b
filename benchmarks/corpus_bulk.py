"""Bulk embedding: documents a second without Ray and with 1, 2 and 4 actors: `python -m benchmarks.corpus_bulk`.

Each way embeds the same short texts by `embed_corpus`, from file to file; the actors are on as many Ray nodes of this
machine. Measured from the first finished shard to the last, so that the start of Ray and of the model is left out; how
long the whole command took stands beside it. With `--kill`, a node of two is killed when half of the shards are done,
and ids and vectors are compared with those of the run without Ray.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.contestants import MINILM, PROVIDERS, REPOSITORY
from benchmarks.machine import describe_machine
from benchmarks.preparation import RUNS, SCRATCH, fresh_data_folder, prepare_minilm, say

ACTORS = (1, 2, 4)
WORDS = (2, 24)
VOCABULARY = 5000


def main() -> None:
    options = _options()
    prepare_minilm("ours")
    data = fresh_data_folder("corpus")
    source = RUNS / "corpus.jsonl"
    _write(source, options.documents)
    figures: dict[str, dict[str, Any]] = {}
    figures["without Ray"] = _run("local", source, data, options)
    for actors in options.actors:
        with _nodes(actors) as (address, _):
            name = f"{actors} actors"
            figures[name] = _run(name, source, data, options, ray=(actors, address))
    if options.kill:
        figures["2 actors, a node killed"] = _killed(source, data, options)
    machine = describe_machine()
    (SCRATCH / "corpus_bulk.json").write_text(
        json.dumps({"machine": machine, "documents": options.documents, **figures})
    )
    print(_markdown(figures, machine, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("--documents", type=int, default=20_000)
    add("--shard-documents", type=int, default=500)
    add("--model", choices=sorted(PROVIDERS), default="fast", help="its class")
    add(
        "--actors",
        type=lambda text: [int(n) for n in text.split(",") if n],
        default=ACTORS,
    )
    add("--kill", action="store_true")
    return parser.parse_args()


def _write(path: Path, documents: int) -> None:
    """Write texts of 2 to 24 words, the same each time."""
    draw = random.Random(1)
    words = [
        "".join(draw.choices("abcdefghijklmnopqrst", k=draw.randint(2, 8)))
        for _ in range(VOCABULARY)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for number in range(documents):
            text = " ".join(draw.choices(words, k=draw.randint(*WORDS)))
            file.write(json.dumps({"id": f"doc-{number}", "text": text}) + "\n")


def _run(
    name: str,
    source: Path,
    data: Path,
    options: argparse.Namespace,
    *,
    ray: tuple[int, str] | None = None,
) -> dict[str, Any]:
    output = _output(name)
    started = time.time()
    process = _start(source, output, data, options, ray)
    out, _ = process.communicate()
    return _figures(out, output, started)


def _killed(source: Path, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    output = _output("killed")
    shards = -(-options.documents // options.shard_documents)
    with _nodes(2) as (address, nodes):
        started = time.time()
        process = _start(source, output, data, options, (2, address))
        while len(_finished(output)) < shards // 2 and process.poll() is None:
            time.sleep(0.1)
        nodes.stdin.write("kill\n")
        nodes.stdin.flush()
        nodes.stdout.readline()
        out, _ = process.communicate()
    found = _figures(out, output, started)
    begun = re.search(r"(\d+) shards were begun again", out)
    found["shards begun again"] = int(begun[1]) if begun else 0
    found |= _compared(output, _output_of("local"))
    return found


def _compared(output: Path, other: Path) -> dict[str, Any]:
    """Return how ids and vectors of two runs differ."""
    one, two = (
        pq.read_table(path / "vectors", columns=["id", "vector"]).sort_by("id")
        for path in (output, other)
    )
    ids = one.column("id").to_pylist()
    wanted = two.column("id").to_pylist()
    same = ids == wanted and len({*ids}) == len(ids)
    rows = [
        table.column("vector").combine_chunks().flatten().to_numpy()
        for table in (one, two)
    ]
    largest = float(np.abs(rows[0] - rows[1]).max()) if same else None
    return {"every id once": same, "largest difference": largest}


@contextmanager
def _nodes(count: int) -> Iterator[tuple[str, Any]]:
    say(f"{count} Ray nodes")
    process: Any = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "benchmarks.ray_nodes", str(count)],
        cwd=REPOSITORY,
        env=_environment(RUNS / "corpus"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.communicate()


def _start(
    source: Path,
    output: Path,
    data: Path,
    options: argparse.Namespace,
    ray: tuple[int, str] | None,
) -> "subprocess.Popen[str]":
    command = [sys.executable, "manage.py", "embed_corpus", str(source), str(output)]
    command += ["--model", f"{PROVIDERS[options.model]}:{MINILM}"]
    command += ["--shard-documents", str(options.shard_documents)]
    if ray is not None:
        actors, address = ray
        command += [
            "--engine",
            "ray",
            "--actors",
            str(actors),
            "--ray-address",
            address,
        ]
    return subprocess.Popen(  # noqa: S603
        command,
        cwd=REPOSITORY,
        env=_environment(data),
        stdout=subprocess.PIPE,
        text=True,
    )


def _environment(data: Path) -> dict[str, str]:
    return {**os.environ, "DATA_DIR": str(data), "PYTHONPATH": str(REPOSITORY)}


def _output_of(name: str) -> Path:
    return RUNS / f"corpus-{name.replace(' ', '-')}"


def _output(name: str) -> Path:
    """Return an output folder that is not there yet."""
    say(name)
    folder = _output_of(name)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _finished(output: Path) -> list[Path]:
    return [*output.glob("vectors/part-*.parquet")]


def _figures(out: str, output: Path, started: float) -> dict[str, Any]:
    """Return documents a second between the first finished shard and the last, and the seconds of all."""
    ended = sorted(
        (path.stat().st_mtime, pq.read_metadata(path).num_rows)
        for path in _finished(output)
    )
    if "Complete" not in out:
        raise RuntimeError(out)
    documents = sum(count for _, count in ended[1:])
    return {
        "documents/s": documents / max(ended[-1][0] - ended[0][0], 1e-9),
        "seconds": ended[-1][0] - started,
    }


def _markdown(
    figures: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, str],
    options: argparse.Namespace,
) -> str:
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; MiniLM, {options.model} class.",
        f"{options.documents:,} texts of {WORDS[0]} to {WORDS[1]} words, {options.shard_documents:,} a shard.",
        "",
        "| way | documents/s | whole command, seconds |",
        "|---|---|---|",
    ]
    for name, found in figures.items():
        lines.append(
            f"| {name} | {found['documents/s']:,.0f} | {found['seconds']:,.0f} |"
        )
    killed = figures.get("2 actors, a node killed")
    if killed:
        lines += [
            "",
            f"Killed: every id once: {killed['every id once']}; shards begun again: {killed['shards begun again']};",
            f"largest difference of a value from the run without Ray: {killed['largest difference']}.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
