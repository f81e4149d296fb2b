"""What a short text costs each part of the server, measured with nobody else at work: engine, web, load generator."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import contestants as field
from benchmarks.child import Child
from benchmarks.contestants import Contestant
from benchmarks.figures import Figures
from benchmarks.preparation import cores, fresh_data_folder
from benchmarks.workloads import (
    SHORT_CONNECTIONS,
    TEXTS_A_SECOND,
    Bench,
    Scale,
    fresh_texts,
)

WEB = "web"


class Parts:
    """The web processes with an engine that computes nothing, and a server that only answers."""

    def __init__(self, figures: Figures, scale: Scale, logs: Path) -> None:
        self._figures, self._scale, self._logs = figures, scale, logs
        self._stack = ExitStack()

    def __enter__(self) -> "Parts":
        self._generator = self._stack.enter_context(
            _started(_small_stub(), self._logs, self._figures, self._scale)
        )
        data = fresh_data_folder(WEB)
        self._stack.enter_context(_stub_engine(data))
        web = _web(data)
        self._web = self._stack.enter_context(
            _started(web, self._logs, self._figures, self._scale)
        )
        for part in (self._generator, self._web):
            part.server.tree.pause()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, *servers: Bench) -> None:
        """Note what each part takes of a text, and what the cores can give of each of these servers."""
        web = self._web_milliseconds()
        generator = self._generator_milliseconds()
        for bench in servers:
            with bench.awake():
                engine = self._engine_milliseconds(bench)
                spent = engine + web + generator
                bench.add(
                    engine_ms=engine,
                    web_ms=web,
                    generator_ms=generator,
                    possible_per_second=cores() * 1000 / spent,
                )

    def measure_lone_texts(self, bench: Bench) -> None:
        """Note what the engine takes of a text that has a run of its own."""
        with bench.awake():
            bench.add(engine_lone_ms=self._engine_milliseconds(bench, clients=1))

    def _web_milliseconds(self) -> float:
        with self._web.awake():
            tree = self._web.server.tree
            tree.wait_until_idle()
            before = tree.cpu_seconds()
            answers = self._web.many_clients()
            return 1000 * (tree.cpu_seconds() - before) / len(answers.seconds)
        raise RuntimeError("The web processes alone do not answer; see their log")

    def _generator_milliseconds(self) -> float:
        with self._generator.awake():
            answers = self._generator.many_clients()
            return 1000 * answers.processor_seconds / len(answers.seconds)
        raise RuntimeError("The stub of the load generator does not answer")

    def _engine_milliseconds(
        self, bench: Bench, clients: int = SHORT_CONNECTIONS
    ) -> float:
        environment = {
            **os.environ,
            **bench.contestant.environment,
            "EMBEDDINGS_ENGINE": "process",
        }
        provider = bench.contestant.model.partition(":")[0]
        texts = fresh_texts(int(self._scale.seconds * TEXTS_A_SECOND))
        details = {"provider": provider, "clients": clients}
        with Child("benchmarks.in_process", environment) as child:
            child.ask("short", texts=texts[:200], seconds=0.5, **details)
            tree = bench.server.tree
            before = tree.engine_cpu_seconds()
            done = child.ask(
                "short", texts=texts[200:], seconds=self._scale.seconds, **details
            )
            return 1000 * (tree.engine_cpu_seconds() - before) / done["texts"]


def _web(data: Path) -> Contestant:
    """Return the web processes as `serve` runs them, without an engine and a worker of their own."""
    return Contestant(
        name=WEB,
        title="web processes with a stub engine",
        kind="ours",
        command=(
            *(sys.executable, "-m", "gunicorn"),
            *("-c", "python:embeddings_project.gunicorn"),
        ),
        model=f"{field.PROVIDERS['exact']}:{field.MINILM}",
        path=field.PATH,
        environment={
            "DATA_DIR": str(data),
            "SINGLE_USER_API_KEY": field.KEY,
            "EMBEDDINGS_ENGINE": "process",
            "DJANGO_SETTINGS_MODULE": "embeddings_project.settings",
        },
        headers={"X-API-KEY": field.KEY},
    )


def _small_stub() -> Contestant:
    """Return a server that only answers, with vectors as wide as MiniLM's."""
    return Contestant(
        name="generator",
        title="a stub, for the load generator alone",
        kind="peer",
        command=(
            *(sys.executable, "-m", "benchmarks.peers.stub_upstream"),
            *("{port}", "384"),
        ),
        model="stub",
        path="/v1/embeddings",
    )


@contextmanager
def _started(
    contestant: Contestant, logs: Path, figures: Figures, scale: Scale
) -> Iterator[Bench]:
    server = contestant.start(logs)
    try:
        server.wait_until(contestant.answers, pause_seconds=0.2)
        yield Bench(contestant=contestant, server=server, figures=figures, scale=scale)
    finally:
        server.stop()


@contextmanager
def _stub_engine(data: Path) -> Iterator[None]:
    """Start an engine that computes nothing, where the web processes of this data folder look for theirs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.sock"
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmarks.peers.stub_engine", str(path)],
            cwd=field.REPOSITORY,
        )
        try:
            while not path.exists():
                if process.poll() is not None:
                    raise RuntimeError("The stub engine does not start")
                time.sleep(0.1)
            (data / "engine.socket").write_text(str(path))
            yield
        finally:
            process.terminate()
            process.wait()
