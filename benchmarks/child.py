"""A helper process that answers one JSON line with another: what must not share this process's memory or threads."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from benchmarks.servers import Tree

REPOSITORY = Path(__file__).parents[1]


class Child:
    """`python -m module` and the questions put to it, until the end of the `with`."""

    def __init__(
        self,
        module: str,
        environment: Mapping[str, str],
        python: str | Path = sys.executable,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [str(python), "-m", module],
            cwd=REPOSITORY,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tree = Tree(self._process.pid)

    def ask(self, question: str, **details: Any) -> dict[str, float]:
        """Return the answer to `question`. Raises RuntimeError if the process ended; its own words are on stderr."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The helper process has no pipes")
        self._process.stdin.write(json.dumps({"ask": question, **details}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The helper process ended at {question!r}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def answer_questions(answers: Mapping[str, Callable[..., dict[str, float]]]) -> None:
    """Answer each line of stdin; whatever else the process writes goes to stderr."""
    output, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        details = json.loads(line)
        answer = answers[details.pop("ask")](**details)
        output.write(json.dumps(answer) + "\n")
        output.flush()
