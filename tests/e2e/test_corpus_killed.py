"""A corpus whose processes are killed: every id once, no finished shard done again, vectors as the API's."""

import contextlib
import json
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.e2e.server import MODEL, REPOSITORY, clean_environment, lay_out_weights
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("files of texts")

SHARD = 100


@pytest.fixture(scope="module")
def environment(prepared_weights, tmp_path_factory):
    """What the commands run with, on a data folder of their own."""
    home = tmp_path_factory.mktemp("corpus")
    lay_out_weights(home / "data")
    options = {"PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"}
    found = clean_environment(home=home, data_dir=home / "data", port=1, **options)
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=REPOSITORY, env=found, check=True)
    return found


@pytest.fixture
def corpus(tmp_path):
    """Return a function that writes so many documents, the `long` last ones of 5,000 words, and returns the file and
    their texts by id."""

    def write(count, long=0):
        texts = {f"doc-{n}": f"The {n}th cat sat on mat {n % 7}." for n in range(count)}
        for n in range(count - long, count):
            texts[f"doc-{n}"] += " word" * 5_000
        path = tmp_path / "corpus.jsonl"
        lines = (json.dumps({"id": key, "text": text}) for key, text in texts.items())
        path.write_text("\n".join(lines))
        return path, texts

    return write


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def start(environment, output):
    """Return a function that starts `embed_corpus`."""
    started = []

    def begin(path, *options):
        command = ["manage.py", "embed_corpus", str(path), str(output)]
        options = ("--model", MODEL, "--shard-documents", str(SHARD), *options)
        process = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def two_nodes(environment):
    """Two Ray nodes; a line to their standard input kills the second."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ray_nodes", "2"],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()
    assert process.returncode == 0


def shards(output):
    """Return the finished shards, and when each was written."""
    return {
        path.name: path.stat().st_mtime_ns for path in output.glob("vectors/part-*")
    }


def wait_for(count, process, output):
    """Wait until so many shards are done, which are not all."""

    def are_done():
        assert process.poll() is None, process.communicate()
        return len(shards(output)) >= count

    poll(are_done, seconds=180, what=f"{count} shards")


def actors_of(cluster):
    """Return how many actors a cluster runs."""
    count = 0
    for process in psutil.Process(cluster.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            count += "ShardActor" in " ".join(process.cmdline())
    return count


def finished(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return out


def check(output, texts, server):
    """See that each id is there once, with the vector that the API gives its text."""
    rows = pq.read_table(output / "vectors").to_pydict()
    assert sorted(rows["id"]) == sorted(texts)
    sample = range(0, len(texts), 7)
    asked = server.embed([texts[rows["id"][n]] for n in sample])
    made = np.array([rows["vector"][n] for n in sample])
    assert np.abs(made - np.array(asked)).max() < 1e-6


def test_killed_command_goes_on_where_it_was(corpus, start, output, server):
    path, texts = corpus(6 * SHARD)
    first = start(path)
    wait_for(2, first, output)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = shards(output)
    out = finished(start(path))
    assert f"{len(kept)} of 6 shards are done already" in out
    assert {name: at for name, at in shards(output).items() if name in kept} == kept
    check(output, texts, server)


def test_node_that_is_killed_costs_a_shard_an_actor_at_most(
    corpus, start, output, two_nodes, server
):
    path, texts = corpus(20 * SHARD)
    address = two_nodes.stdout.readline().strip()
    run = start(path, "--engine", "ray", "--ray-address", address)
    wait_for(6, run, output)
    two_nodes.stdin.write("kill\n")
    two_nodes.stdin.flush()
    assert two_nodes.stdout.readline() == "killed\n"
    kept = shards(output)
    out = finished(run)
    begun_again = re.search(r"(\d+) shards were begun again", out)
    assert not begun_again or int(begun_again[1]) <= 1
    assert {name: at for name, at in shards(output).items() if name in kept} == kept
    assert not [*output.glob("vectors/.*")]
    check(output, texts, server)


def test_actor_without_work_leaves_its_place_to_another(
    corpus, start, output, two_nodes
):
    """Else none could follow the one that dies with its node at the last shard."""
    path, _ = corpus(2 * SHARD, long=SHARD)
    address = two_nodes.stdout.readline().strip()
    run = start(path, "--engine", "ray", "--ray-address", address)
    wait_for(1, run, output)
    poll(lambda: actors_of(two_nodes) == 1, seconds=20, what="the end of an actor")
    assert len(shards(output)) == 1
    assert run.poll() is None
