"""Measure this server against its peers: `make bench`, or `python -m benchmarks --quick`."""

import argparse
import signal
import sys
import time
from pathlib import Path

from benchmarks.contestants import BEFORE_COMMIT, REPOSITORY
from benchmarks.machine import describe_machine
from benchmarks.plot import PLOTS
from benchmarks.preparation import SCRATCH, prepare_minilm, say, there
from benchmarks.report import Report, publish
from benchmarks.run import TABLES, Run
from benchmarks.workloads import FULL, QUICK

RESULTS = SCRATCH / "results.json"
PAGE = REPOSITORY / "docs" / "performance.md"
# Starting everybody with the larger models alone takes longer than a quick run may.
QUICK_TABLES = [name for name in TABLES if name not in ("base", "large")]
MISSING = {
    "before": f"{BEFORE_COMMIT} is not installed (no history?): nothing is compared with it",
    "peers": "Infinity and FastAPI are not installed: nothing is compared with them",
    "litellm": "LiteLLM is not installed: nothing is compared with it",
}


def main() -> None:
    options = _options()
    # Whoever ends this process wants the servers ended, too, and what was measured reported.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed: list[str] = []
    if options.saved:
        report = Report.load(options.saved)
    else:
        report, failed = _measure(options)
    report.save(RESULTS)
    print("\n" + report.markdown())
    if options.publish:
        publish(report, PAGE, PLOTS)
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="one short lap, without larger models")
    add("--only", help=f"tables, comma-separated, of {', '.join(TABLES)}")
    add("--publish", action="store_true", help="write docs/performance.md")
    add("--saved", type=Path, help="a results.json, instead of a new run")
    return parser.parse_args()


def _measure(options: argparse.Namespace) -> tuple[Report, list[str]]:
    tables = _tables(options)
    for what, sentence in MISSING.items():
        if not there(what):
            say(f"skipped: {sentence}")
    machine = describe_machine()
    say(f"{machine['processor']}, {machine['cores']} cores")
    states = ("ours", "before") if there("before") else ("ours",)
    scale = QUICK if options.quick else FULL
    run = Run(tables=tables, scale=scale, minilm=prepare_minilm(*states))
    laps = f"{scale.laps} laps, medians" if scale.laps > 1 else "one lap"
    run.prepare()
    started = time.monotonic()
    failed = run.measure()
    minutes = (time.monotonic() - started) / 60
    report = Report(
        figures=run.figures,
        titles=run.titles,
        machine=machine,
        conditions=f"Measured on {time.strftime('%Y-%m-%d')}: {laps}, {minutes:.0f} minutes.",
    )
    return report, failed


def _tables(options: argparse.Namespace) -> list[str]:
    if not options.only:
        return QUICK_TABLES if options.quick else list(TABLES)
    names: list[str] = options.only.split(",")
    if unknown := {*names} - {*TABLES}:
        sys.exit(f"--only: {', '.join(unknown)}? There are {', '.join(TABLES)}.")
    return names


if __name__ == "__main__":
    main()
