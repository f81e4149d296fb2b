"""What the documentation shows, done: each command and program runs, each answer is the server's.

Substituted are the address, the data folder and, where a page leaves it out, the key. Vectors are compared to four
digits, and as far as they are shown.
"""

import contextlib
import json
import os
import re
import shlex
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import REPOSITORY, Server, clean_environment
from tests.pages import Block, blocks
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("the pages begin with SQLite")

UNMARKED = [block for block in blocks() if not block.mark.startswith(("not", "tested"))]
SHELL = [block for block in UNMARKED if block.language == "sh"]
REQUESTS = [block for block in SHELL if "curl " in block.text]
SETTINGS = [block for block in SHELL if block.settings]
# All others, so that a block of a new kind fails there.
MOVE = [block for block in SHELL if block not in REQUESTS + SETTINGS]
PROGRAMS = [block for block in UNMARKED if block.language == "python"]
ANSWERS = [block for block in UNMARKED if block.language == "json"]
JOB_SECONDS = 60
# All but what runs, and the queue that calls for workers.
DUMP = "embeddings-server dumpdata -e django_q -e embeddings.processbeat -e embeddings.node"


class Reader:
    """Someone who follows the pages: in a folder with `var/` in it, and the server's commands in the path."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        (folder / "bin").mkdir(parents=True)
        (folder / "var").symlink_to(server.data_dir)
        command = folder / "bin" / "embeddings-server"
        script = shlex.join([sys.executable, str(REPOSITORY / "manage.py")])
        command.write_text(f'#!/bin/sh\nexec {script} "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)

    def run(self, *command: str, **environment: str) -> str:
        finished = subprocess.run(
            [self._here(word) for word in command],
            cwd=self.folder,
            env={
                **clean_environment(
                    home=self.folder,
                    data_dir=self.server.data_dir,
                    port=self.server.port,
                ),
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def shell(self, text: str, **environment: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", text, **environment)

    def request(self, command: str) -> tuple[int, Any]:
        """Run a command with curl; return the answer's status and body."""
        rc = 'silent\nshow-error\nwrite-out = "\\n%{http_code}"\n'
        if "X-API-KEY" not in command:
            rc += f'header = "X-API-KEY: {self.server.key}"\n'
        (self.folder / ".curlrc").write_text(rc)
        answer, _, status = self.shell(command).rpartition("\n")
        return int(status), json.loads(answer)

    def _here(self, text: str) -> str:
        return text.replace("localhost:8000", f"127.0.0.1:{self.server.port}")


@pytest.fixture(scope="module")
def reader(prepared_weights, tmp_path_factory):
    """A reader with a server of its own: the pages count documents from 1."""
    folder = tmp_path_factory.mktemp("reader")
    server = Server(folder / "server", MEDIA_WORKERS="1")
    yield Reader(folder / "here", server.wait_until_ready())
    server.end()


def place(block: Block) -> str:
    return block.place


@pytest.fixture(scope="module")
def answers(reader):
    """The answers to all requests of the pages, made in their order; a job is waited for."""
    seen: dict[str, tuple[int, Any]] = {}
    for block in REQUESTS:
        for command in commands(block):
            status, body = seen[command] = reader.request(command)
            if status == 202:
                wait_for_job(reader.server, body["job_id"])
    return seen


def commands(block: Block) -> list[str]:
    return re.split(r"(?<!\\)\n", block.text.strip())


def wait_for_job(server: Server, job_id: str) -> None:
    path = f"/api/v1/media/embeddings/jobs/{job_id}"
    poll(
        lambda: server.get(path).json()["status"] == "completed",
        seconds=JOB_SECONDS,
        what=f"job {job_id} done",
    )


@pytest.mark.parametrize("block", REQUESTS, ids=place)
def test_requests_get_what_their_comments_say(block, answers):
    for command in commands(block):
        status, body = answers[command]
        comment = re.search(r" # ([^'\"]+)$", command)
        said = comment[1].split(", ") if comment else []
        numbers = [int(words) for words in said if words.isdecimal()]
        assert status in (numbers or [200, 201]), body
        for words in said:
            name, _, value = words.rpartition(" ")
            if name:
                assert str(body[name]).startswith(value.removesuffix("...")), body


@pytest.mark.parametrize("block", ANSWERS, ids=place)
def test_answer_is_the_one_that_is_shown(block, reader, answers):
    options, _, marked = block.mark.partition(": ")
    _, body = reader.request(marked or block.asked_by)
    shown = json.loads(block.text.replace("…", '"…"'))
    if "other figures" in options:
        poll(lambda: reader.request(marked)[1]["data"], seconds=30, what="usage")
        shown, body = figureless(shown), figureless(reader.request(marked)[1])
    assert_shown(shown, body)


def figureless(value: Any) -> Any:
    """Return an answer with figures and dates as zeros of their kind, and of each list the first item."""
    match value:
        case dict():
            return {key: figureless(inner) for key, inner in value.items()}
        case list():
            return [figureless(inner) for inner in value[:1]]
        case str():
            return re.sub(r"\d", "0", value)
        case bool() | None:
            return value
        case _:
            return type(value)()


def assert_shown(shown: Any, real: Any, at: str = "the answer") -> None:
    """Compare the JSON on a page with the server's. A list may break off with `…`."""
    if isinstance(shown, dict):
        assert shown.keys() == real.keys(), at
        for key, value in shown.items():
            assert_shown(value, real[key], f"{at}, {key}")
    elif isinstance(shown, list):
        whole = shown[-1:] != ["…"]
        assert len(real) == len(shown) if whole else len(real) >= len(shown), at
        for index, value in enumerate(shown if whole else shown[:-1]):
            assert_shown(value, real[index], f"{at}[{index}]")
    else:
        assert type(real) is type(shown), at
        assert real == (pytest.approx(shown, abs=1e-4) if at[-1] == "]" else shown), at


@pytest.mark.parametrize("block", PROGRAMS, ids=place)
def test_program_runs_and_prints_what_it_says(block, reader):
    # What a page says before a block: `key` holds the key. And a client that is made has to be of use.
    code = (
        f"key = {reader.server.key!r}\n{block.text}\nassert client.models.list().data"
    )
    said = re.search(r"# ([^\n]+)\n$", block.text)
    printed = reader.run(sys.executable, "-c", code)
    assert printed.strip() == (said[1] if said else "")


@pytest.mark.parametrize("block", SETTINGS, ids=place)
def test_settings_are_accepted(block, reader):
    reader.shell("embeddings-server check --fail-level WARNING", **block.settings)


def dumped(file):
    """Yield the rows, less the vectors, which `move_to` compares itself: pgvector has a table of its own for them."""
    for row in json.loads(file.read_text()):
        row["fields"].pop("vector", None)
        yield (
            row["model"],
            str(row.get("pk")),
            json.dumps(row["fields"], sort_keys=True),
        )


@pytest.mark.parametrize("block", MOVE, ids=place)
def test_all_data_move_to_postgresql(block, reader, answers, tmp_path, postgres_server):
    with (
        contextlib.closing(
            sqlite3.connect(reader.server.data_dir / "db.sqlite3")
        ) as db,
        contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as copy,
    ):
        db.backup(copy)  # the pages say to stop the server; other tests need it
        copy.execute("DELETE FROM embeddings_processbeat")
        copy.commit()
    address = postgres_server.create_database("moved")
    move = re.sub(r"postgres://\S+", shlex.quote(address), block.text)
    reader.shell(
        f"{DUMP} --output before.json\n{move}{DUMP} --output after.json\n",
        DATA_DIR=str(tmp_path),
    )
    before, after = (
        set(dumped(reader.folder / name)) for name in ("before.json", "after.json")
    )
    assert "media_jobs.storedchunk" in {model for model, _, _ in before}
    assert after == before
