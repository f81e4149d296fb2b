"""The image of the Dockerfile, built step by step in a root of its own, and run as containers are.

`make image` runs these, and `make test` does not: to install all that the image holds takes a minute.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e import image
from tests.e2e.server import NOWHERE, REPOSITORY, Server, is_alive, is_called
from tests.waiting import poll

KEY = "test-key-0123456789abcdef"
BUILD_SECONDS = 900
STOP_SECONDS = 40
pytestmark = [
    pytest.mark.timeout(BUILD_SECONDS + 100),
    pytest.mark.sqlite_only("what an image holds"),
]


def as_root(*words: str | Path) -> tuple[str, ...]:
    """Return a command line for root; where tests run as somebody else, sudo must not ask."""
    assert shutil.which("unshare"), "unshare (util-linux) is missing"
    sudo = () if os.geteuid() == 0 else ("sudo", "--non-interactive", "--preserve-env")
    return (*sudo, *map(str, words))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    command = as_root("unshare", "--mount", sys.executable, "-m", "tests.e2e.image")
    with (folder / "build.txt").open("wb") as said:
        done = subprocess.run(
            [*command, "build", folder],
            cwd=REPOSITORY,
            stdout=said,
            stderr=said,
            timeout=BUILD_SECONDS,
        )
    assert done.returncode == 0, (folder / "build.txt").read_text()[-4000:]
    return folder


class Container(Server):
    """A server in the image; `main` is its first process."""

    def __init__(
        self,
        folder: Path,
        built: Path,
        *,
        volume: Path | None = None,
        **environment: Any,
    ) -> None:
        volume = volume or folder / "volume"
        spaces = ("--mount", "--pid", "--fork", "--kill-child")
        python = (sys.executable, "-m", "tests.e2e.image")
        super().__init__(
            folder,
            data_dir=volume,
            command=as_root("unshare", *spaces, *python, "run", built, volume),
            SINGLE_USER_API_KEY=KEY,
            PIP_INDEX_URL=NOWHERE,
            **environment,
        )

    @property
    def main(self) -> psutil.Process:
        outermost = psutil.Process(self.process.pid)
        inside = (outermost, *outermost.children(recursive=True))
        return next(one for one in inside if is_called("embeddings-server", one))


@pytest.fixture(scope="module")
def container(built, tmp_path_factory):
    one = Container(tmp_path_factory.mktemp("container"), built, MEDIA_WORKERS="1")
    yield one.wait_until_ready()
    one.end()


def test_container_embeds_with_its_root_read_only_and_nothing_to_fetch_from(container):
    assert len(container.embed(["from a container"])[0]) == 384


def test_container_runs_as_a_user_without_rights(container):
    processes = [container.main, *container.main.children(recursive=True)]
    assert len(processes) > 3
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert process.uids() == (10001, 10001, 10001)
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status


def test_server_is_the_container_s_first_process(container):
    status = Path(f"/proc/{container.main.pid}/status").read_text()
    assert status.split("NSpid:")[1].splitlines()[0].split()[-1] == "1"


def test_models_are_the_image_s_own(container):
    for kind in ("prepared", "tiktoken"):
        (model,) = (container.data_dir / kind).iterdir()
        assert str(model.readlink()).startswith(f"/opt/models/{kind}/")


def test_healthcheck_of_the_image_passes(container, built):
    stage = image.image(built)
    root = f"/proc/{container.main.pid}/root"
    done = subprocess.run(
        as_root(*image.unprivileged(stage, root, stage.healthcheck)),
        env={**stage.env, "PORT": str(container.port)},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_commands_run_in_the_container_on_its_data(container, built):
    stage = image.image(built)
    root = f"/proc/{container.main.pid}/root"
    command = image.unprivileged(stage, root, [*stage.entrypoint, "models"])
    done = subprocess.run(
        as_root(*command), env=stage.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "all-MiniLM-L6-v2" in done.stdout


def test_stop_signal_ends_all_and_the_next_container_goes_on_with_the_data(
    built, tmp_path
):
    first = Container(tmp_path / "first", built)
    first.wait_until_ready()
    processes = [first.main, *first.main.children(recursive=True)]
    first.main.terminate()
    assert first.process.wait(STOP_SECONDS) == 0
    poll(lambda: not any(map(is_alive, processes)), what="no process left")
    second = Container(tmp_path / "second", built, volume=first.data_dir)
    try:
        assert "Login" in first.output
        assert second.wait_until_ready().embed(["again"])
        assert "Login" not in second.output
    finally:
        second.end()


def test_code_and_models_of_the_image_are_its_root_s_alone(built):
    layer = image.image(built).layer
    for folder in ("opt/embeddings", "opt/models"):
        for path in (layer / folder).rglob("*"):
            mode = path.lstat()
            assert mode.st_uid == 0, path
            assert path.is_symlink() or not mode.st_mode & 0o022, path
            assert path.is_symlink() or mode.st_mode & 0o004, path
