"""Kill -9 one of the server's processes at a random moment of a job, again and again, while a search watches.

    python -m tests.e2e.random_kills --kills 10 --seed 1

Every job must complete, its chunks must be exact, and no search may see a part of a replacement.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.under_fire import SlowUpstream, UnderFire, Watch

TARGETS = (
    *("task worker", "cluster parent", "sentinel", "cluster group"),
    *("supervisor", "web worker", "everything", "hung task worker"),
)
JOB_SECONDS = 2.5  # of a job that nobody disturbs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, help="Only this one.")
    options = parser.parse_args()
    choose = random.Random(options.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as folder, SlowUpstream() as upstream:
        fire = UnderFire(Path(folder), upstream)
        try:
            for number in range(options.kills):
                failed += not kill(
                    fire,
                    target=options.target or choose.choice(TARGETS),
                    after_seconds=choose.uniform(0, JOB_SECONDS),
                    number=number,
                )
        finally:
            fire.end()
    raise SystemExit(f"{failed} of {options.kills} went wrong" if failed else 0)


def kill(fire: UnderFire, *, target: str, after_seconds: float, number: int) -> bool:
    """Start a job, kill `target` after so long, and return whether all went well."""
    with Watch(fire) as watch:
        job_id = fire.new_job()
        time.sleep(after_seconds)
        fire.fire(target, job_id)
        killed_at = time.monotonic()
        job = fire.finished(job_id)
        seconds = time.monotonic() - killed_at
    fire.check_chunks()
    sys.stdout.write(
        f"{number + 1:3}  {target:15} after {after_seconds:.2f} s: {job['status']}"
        f" {seconds:.1f} s later, {job['attempts']} attempts,"
        f" {watch.answers} searches, problems: {watch.problems or 'none'}\n"
    )
    return job["status"] == "completed" and not watch.problems


if __name__ == "__main__":
    main()
