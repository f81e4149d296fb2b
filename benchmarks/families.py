"""Measure the models that people run, family by family, on one core: `python -m benchmarks.families`.

This server's engine in both classes, sentence-transformers and Infinity's engines run the same weights in one run, each
in a process of its own; and the processor's own limit for the products of that shape. Without HTTP: what a server adds
is measured by `python -m benchmarks`. On a CUDA device: `--device cuda` (this server and sentence-transformers,
three families, ended after ten minutes).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Child
from benchmarks.contestants import INFINITY_ENVIRONMENT, PEERS, REPOSITORY, TOOLS
from benchmarks.family_models import FAMILIES, Family
from benchmarks.fidelity import cosines, neighbour_overlap
from benchmarks.figures import Figures
from benchmarks.machine import describe_machine
from benchmarks.preparation import SCRATCH, prepare_minilm, say, there

INFINITY_PYTHON = TOOLS / "infinity" / "bin" / "python"
LENGTHS = (32, 128, 512, 2048, 8192)
BATCH_TOKENS = 512  # padded tokens of a batch: what the server runs at once on a core
DEVICE_BATCH_TOKENS = 16_384
# Texts over so many tokens take seconds each: one lap, one text.
LONG = 1024
COMPARED_TEXTS = 48
# A limit is measured with as many of a model's products as take this many parameters.
LIMIT_PARAMETERS = 60_000_000
EXACT, FAST, REFERENCE = "exact", "fast", "sentence-transformers"
INFINITY, INFINITY_ONNX = "Infinity", "Infinity, ONNX"
CONTESTANTS = (EXACT, FAST, REFERENCE, INFINITY, INFINITY_ONNX)
# Of a device, which is often there for a short while only.
DEVICE_FAMILIES = ("minilm", "bge-base", "qwen3")
DEVICE_MINUTES = 10.0
# optimum exports a model of 600 million parameters in four minutes.
EXPORT_SECONDS = 600


def main() -> None:
    options = _options()
    machine = describe_machine()
    if not options.saved:
        minilm = prepare_minilm("ours")
        for name in options.only:
            if _is_over(name, options):
                break
            say(f"{name}: preparing")
            try:
                _measure(name, minilm, machine, options)
            except RuntimeError as error:  # one family must not cost the others theirs
                say(f"{name}: {error}")
            shutil.rmtree(SCRATCH / "families" / name, ignore_errors=True)
    print(_markdown(options.only, machine, options.device))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add(
        "--only",
        type=lambda text: text.split(","),
        help="default: all; of a device, three",
    )
    add(
        "--lengths",
        type=lambda text: [int(n) for n in text.split(",")],
        default=LENGTHS,
    )
    add("--laps", type=int, default=5)
    add("--seconds", type=float, default=1.0, help="of each contestant in each lap")
    add("--device", default="cpu")
    add(
        "--minutes", type=float, help="begin nothing more after so many; of a device 10"
    )
    add("--saved", action="store_true", help="print what earlier runs measured")
    options = parser.parse_args()
    is_cpu = options.device == "cpu"
    options.only = options.only or list(FAMILIES if is_cpu else DEVICE_FAMILIES)
    minutes = options.minutes or (float("inf") if is_cpu else DEVICE_MINUTES)
    options.end = time.monotonic() + 60 * minutes
    if unknown := {*options.only} - {*FAMILIES}:
        sys.exit(f"--only: {', '.join(unknown)}? There are {', '.join(FAMILIES)}.")
    return options


def _measure(
    name: str, minilm: Path, machine: Mapping[str, str], options: argparse.Namespace
) -> None:
    """Measure a family, and save its figures and how it is served."""
    family, figures = FAMILIES[name], Figures()
    folder = SCRATCH / "families" / name
    source, data = folder / name, folder / "data"
    with _child("benchmarks.family_models") as child:
        size = child.ask("write", name=name, minilm=str(minilm), folder=str(source))
    with _child("benchmarks.family_runs") as child:
        prepared: dict[str, Any] = child.ask(
            "prepare",
            folder=str(data),
            name=name,
            source=str(source),
            device=options.device,
        )
    words = _words(source)
    with ExitStack() as stack:
        children = dict(_opened(stack, name, source, data, options.device))
        _compare(name, children, words, folder, figures)
        limits = stack.enter_context(_child("benchmarks.limits"))
        _run_laps(name, family, children, limits, words, prepared, figures, options)
    how = {**size, "runtime": prepared["runtime"], "fast": prepared["fast"]}
    saved = {"machine": machine, "how": how, "figures": figures.values}
    _saved(name, options.device).write_text(json.dumps(saved))


def _saved(name: str, device: str) -> Path:
    return SCRATCH / f"family-{name}-{device.replace(':', '-')}.json"


def _child(module: str, python: Path | str = sys.executable) -> Child:
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **INFINITY_ENVIRONMENT, **threads}
    return Child(module, environment, python)


def _opened(
    stack: ExitStack, name: str, source: Path, data: Path, device: str
) -> Iterator[tuple[str, Child]]:
    """Yield the contestants that can load the model."""
    for contestant in CONTESTANTS:
        python: Path | str = sys.executable
        details: dict[str, str] = {"folder": str(source)}
        if contestant in (EXACT, FAST):
            details = {"folder": str(data), "name": name, "precision": contestant}
            details["device"] = device
            question = "ours"
        elif contestant == REFERENCE:
            question = "sentence_transformers"
            details["device"] = device
        else:
            question, python = "infinity", INFINITY_PYTHON
            if contestant == INFINITY_ONNX:
                python = PEERS / "bin" / "python"
                details = {"folder": str(_exported(name, source)), "engine": "optimum"}
            if device != "cpu" or not python.exists():
                continue
        child = stack.enter_context(_child("benchmarks.family_runs", python))
        if child.ask(question, **details)["loaded"]:
            yield contestant, child
        else:
            say(f"{name}: {contestant} does not run it")


def _exported(name: str, source: Path) -> Path:
    """Return the folder of what optimum exports for Infinity's ONNX engine; without a model where it cannot."""
    target = source.with_name("infinity")
    if there("peers"):
        try:
            script = REPOSITORY / "benchmarks" / "peers" / "prepare_infinity.py"
            command = [str(PEERS / "bin" / "python"), str(script), "--exact"]
            subprocess.run(  # noqa: S603
                [*command, str(source), str(target)], check=True, timeout=EXPORT_SECONDS
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            say(f"{name}: optimum does not export it: {error}")
    return target / "fp32"


def _compare(
    name: str,
    children: Mapping[str, Child],
    words: Sequence[str],
    folder: Path,
    figures: Figures,
) -> None:
    """Note how close both classes are to sentence-transformers."""
    draw = np.random.default_rng(1)
    texts = [_text(words, draw, int(n)) for n in draw.integers(4, 200, COMPARED_TEXTS)]
    found = {}
    for contestant in {EXACT, FAST, REFERENCE} & children.keys():
        target = folder / f"{contestant}.npy"
        children[contestant].ask("vectors", texts=texts, target=str(target))
        found[contestant] = np.load(target)
    for contestant in {EXACT, FAST} & found.keys():
        close = cosines(found[contestant], found[REFERENCE])
        figures.add(
            f"{name} {contestant}",
            cosine_mean=float(close.mean()),
            cosine_min=float(close.min()),
            overlap=neighbour_overlap(found[contestant], found[REFERENCE]),
        )


def _run_laps(
    name: str,
    family: Family,
    children: Mapping[str, Child],
    limits: Child,
    words: Sequence[str],
    prepared: Mapping[str, Any],
    figures: Figures,
    options: argparse.Namespace,
) -> None:
    draw = np.random.default_rng(2)
    budget = BATCH_TOKENS if options.device == "cpu" else DEVICE_BATCH_TOKENS
    shapes, share = _part(prepared["products"])
    for lap, length in _rounds(family, options):
        if _is_over(f"{name}, {length} tokens", options):
            return
        say(f"{name}: {length} tokens, lap {lap + 1}")
        if shapes and options.device == "cpu":
            for kind in ("fp32", "int8") if length == options.lengths[0] else ():
                asked = {"precision": kind, "shapes": shapes, "lanes": 1}
                best = max(limits.ask("limits", **asked).values())
                figures.add(f"{name} {kind} limit", tokens=best * share)
            seconds = sum(
                layers / max(limits.ask("attention", **shape).values())
                for layers, shape in family.attention(length)
            )
            figures.add(f"{name} attention", **{f"seconds_{length}": seconds})
        texts = [_text(words, draw, length) for _ in range(max(1, budget // length))]
        order = list(children)[:: 1 if lap % 2 else -1]
        for contestant in order:
            answer = children[contestant].ask(
                "speed", texts=texts, seconds=options.seconds
            )
            tokens = answer["batches_per_second"] * length * len(texts)
            figures.add(f"{name} {contestant}", **{f"tokens_{length}": tokens})


def _rounds(family: Family, options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Yield each lap with each length of text, in tokens."""
    for lap in range(options.laps):
        for length in options.lengths:
            if length <= family.max_tokens and not (length > LONG and lap):
                yield lap, length


def _is_over(what: str, options: argparse.Namespace) -> bool:
    """Whether the time is over; says what is left out."""
    over: bool = time.monotonic() > options.end
    if over:
        say(f"{what}: no time is left")
    return over


def _part(shapes: Sequence[Sequence[int]]) -> tuple[list[list[int]], float]:
    """Return the first products that together are large enough, and which share of all parameters they have."""
    part: list[list[int]] = []
    size = 0
    for inputs, outputs in shapes:
        if size and size + inputs * outputs > LIMIT_PARAMETERS:
            break
        part.append([inputs, outputs])
        size += inputs * outputs
    return part, size / max(1, sum(inputs * outputs for inputs, outputs in shapes))


def _words(source: Path) -> list[str]:
    """Return words that are one token each."""
    words = (source / "vocab.txt").read_text().splitlines()
    return [
        word for word in words if word.isascii() and word.isalpha() and len(word) > 2
    ]


def _text(words: Sequence[str], draw: np.random.Generator, tokens: int) -> str:
    """Return a text of so many tokens, the two special ones included."""
    return " ".join(draw.choice(words, max(1, tokens - 2)))


def _markdown(names: Sequence[str], machine: Mapping[str, str], device: str) -> str:
    """Return the tables of what was measured on this machine, now or before."""
    figures, made = Figures(), {}
    for name in names:
        file = _saved(name, device)
        if (
            file.exists()
            and (saved := json.loads(file.read_text()))["machine"] == machine
        ):
            figures.values.update(saved["figures"])
            made[name] = saved["how"]
    each = " of one core" if device == "cpu" else ""
    heads = (
        *(
            "family",
            "tokens",
            *CONTESTANTS,
            "exact of fp32 limit",
            "fast of int8 limit",
        ),
        *("exact over best peer", "fast over exact"),
    )
    lines = [
        f"{machine['processor']} (int8 by {machine['int8 by']}), {device}; tokens/s{each}, medians. Shares are of the",
        "limit of the products with parameters, and of the limit of these and attention's, which are float32 in both.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for name, how in made.items():
        for length in LENGTHS:
            key = f"tokens_{length}"
            medians = {one: figures.median(f"{name} {one}", key) for one in CONTESTANTS}
            if medians[EXACT] is None:
                continue
            peers = [medians[one] or 0 for one in (REFERENCE, INFINITY, INFINITY_ONNX)]
            attention = figures.median(f"{name} attention", f"seconds_{length}")
            fp32, int8 = (
                figures.median(f"{name} {kind} limit", "tokens")
                for kind in ("fp32", "int8")
            )
            lines.append(
                f"| {name} ({FAMILIES[name].like}; {how['runtime']}, {how['fast']}) | {length} | "
                + " | ".join(
                    [
                        *(_number(medians[one]) for one in CONTESTANTS),
                        _of_limits(medians[EXACT], fp32, attention),
                        _of_limits(medians[FAST], int8, attention),
                        _ratio(medians[EXACT], max(peers)),
                        _ratio(medians[FAST], medians[EXACT]),
                    ]
                )
                + " |"
            )
    lines += [
        "",
        "| family | exact, least cosine | fast, mean | fast, least | fast, neighbours |",
        "|---|---|---|---|---|",
    ]
    for name in made:
        fast = f"{name} {FAST}"
        cells = [
            figures.median(f"{name} {EXACT}", "cosine_min"),
            *(
                figures.median(fast, one)
                for one in ("cosine_mean", "cosine_min", "overlap")
            ),
        ]
        shown = ["-" if cell is None else f"{cell:.6f}" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _of_limits(
    tokens: float | None, limit: float | None, attention: float | None
) -> str:
    """Return the share of the limit of the parameters' products, and of the limit of these and attention's."""
    if not (tokens and limit and attention):
        return "-"
    return f"{tokens / limit:.2f}, {tokens * (1 / limit + attention):.2f}"


def _ratio(over: float | None, under: float | None) -> str:
    return f"{over / under:.2f}" if over and under else "-"


if __name__ == "__main__":
    if Path.cwd() != REPOSITORY:
        os.chdir(REPOSITORY)
    main()
