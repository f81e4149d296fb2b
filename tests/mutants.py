"""Breaks the product one line at a time and says which breaks no test notices.

`python -m tests.mutants` tries every mutant of mutants.toml, `python -m tests.mutants embed cache-ttl` those whose
names begin so. Each is made in a copy of the tree, where the tests that it names must fail with it and pass without it.
"""

import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
# A mutant that hangs is noticed as one that fails is, only later.
TEST_SECONDS = 60
PYTEST = [
    *(sys.executable, "-m", "pytest", "-x", "-q", f"--timeout={TEST_SECONDS}"),
    *("-p", "no:randomly", "-p", "no:cacheprovider"),
]
# Pytest's exit statuses; any other means that the tests could not run.
PASSED, FAILED = 0, 1
NOT_COPIED = ignore_patterns(
    *(".git", ".venv", ".tools", ".env", ".*_cache", "var", "build")
)
Outcome = str
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"


class MutantError(Exception):
    """The list does not fit the tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`old`, which stands once in `file`, becomes `new`; some test of `tests` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read(path: Path) -> list[Mutant]:
    """Return the mutants of a list, in its order."""
    return [
        Mutant(
            name=name, file=group["file"], old=old, new=new, tests=(*group["tests"],)
        )
        for group in tomllib.loads(path.read_text())["group"]
        for name, old, new in group["mutants"]
    ]


def check(mutants: Sequence[Mutant], tree: Path) -> None:
    """Raises MutantError where a name stands twice, tests are absent, or an old text is not there exactly once."""
    names = Counter(mutant.name for mutant in mutants)
    problems = [
        f"{name}: named {count} times" for name, count in names.items() if count > 1
    ]
    for mutant in mutants:
        file = tree / mutant.file
        found = file.read_text().count(mutant.old) if file.is_file() else 0
        if found != 1 or mutant.old == mutant.new:
            problems.append(
                f"{mutant.name}: its old text stands {found} times in {mutant.file}"
            )
        problems += [
            f"{mutant.name}: no {test}"
            for test in mutant.tests
            if not (tree / test).exists()
        ]
    if problems:
        raise MutantError("\n".join(problems))


def copied(target: Path) -> Path:
    """Copy the tree into a new folder, and link what tests have downloaded."""
    copytree(REPOSITORY, target, ignore=NOT_COPIED)
    (target / ".tools").symlink_to(REPOSITORY / ".tools")
    return target


def outcome(mutant: Mutant, tree: Path) -> Outcome:
    """Run the mutant's tests with it, and put the file right again."""
    file = tree / mutant.file
    original = file.read_text()
    rewrite(file, original.replace(mutant.old, mutant.new))
    try:
        status = run(mutant.tests, tree)
    finally:
        rewrite(file, original)
    return {PASSED: SURVIVED, FAILED: KILLED}.get(status, BROKEN)


def rewrite(file: Path, text: str) -> None:
    """Write a module, and drop what Python compiled of it: a change within one second could go unseen."""
    file.write_text(text)
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
        compiled.unlink()


def run(tests: Sequence[str], tree: Path) -> int:
    """Return pytest's exit status."""
    return subprocess.run([*PYTEST, *tests], cwd=tree, capture_output=True).returncode


def tried(mutants: Sequence[Mutant], tree: Path) -> Counter[Outcome]:
    """Try each mutant, print what became of it and return how many ended how."""
    sound: dict[tuple[str, ...], bool] = {}  # do the tests pass without a mutant?
    counts: Counter[Outcome] = Counter()
    for mutant in mutants:
        began = time.monotonic()
        if mutant.tests not in sound:
            sound[mutant.tests] = run(mutant.tests, tree) == PASSED
        ended = outcome(mutant, tree) if sound[mutant.tests] else BROKEN
        counts[ended] += 1
        print(f"{ended:9}{mutant.name:34}{time.monotonic() - began:6.1f} s", flush=True)
    return counts


def main(prefixes: Sequence[str]) -> str | None:
    """Try those asked for, or all; return why the exit status is not 0, if so."""
    mutants = read(LIST)
    check(mutants, REPOSITORY)
    chosen = [m for m in mutants if not prefixes or m.name.startswith((*prefixes,))]
    with TemporaryDirectory(prefix="mutants-") as folder:
        counts = tried(chosen, copied(Path(folder) / "tree"))
    print(
        f"{len(chosen)} mutants: "
        + ", ".join(f"{n} {ended}" for ended, n in counts.items())
    )
    if counts[SURVIVED] or counts[BROKEN] or not chosen:
        return "SURVIVED: no test failed. BROKEN: the tests cannot run with it, or fail without it."
    return None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MutantError as error:
        sys.exit(f"{LIST.name} does not fit the code:\n{error}")
