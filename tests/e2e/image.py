"""The Dockerfile built and run where there is no Docker: its steps in a root of their own, by root, in namespaces.

The base image is this machine's system with the tests' own Python. Homes, this clone and `/tmp` are hidden in it.

    unshare --mount python -m tests.e2e.image build FOLDER
    unshare --mount --pid --fork python -m tests.e2e.image run FOLDER VOLUME
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(sys.base_prefix)
BASE_PATH = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HIDDEN = (Path("/root"), Path("/home"), REPOSITORY, Path("/tmp"))
# How this machine reaches the package index; of a container's start nothing may depend on it.
NETWORK = re.compile(r"(PIP|SSL|REQUESTS)_\w+|\w+_proxy|\w+_PROXY")
# Nothing to carry out: the base is this machine, and the rest is for who starts containers.
NOT_DONE = ("ARG", "LABEL", "EXPOSE", "STOPSIGNAL")


@dataclass(slots=True, kw_only=True)
class Stage:
    """One FROM and what follows. `layer` holds what it adds to the base."""

    layer: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volume: str = ""


def steps(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions: each one's first word and the rest, on one line."""
    lines = re.sub(r"^\s*#.*\n|\\\n", "", text, flags=re.MULTILINE).splitlines()
    return [
        (word, rest.strip())
        for word, _, rest in (x.partition(" ") for x in lines)
        if word
    ]


def allowed_context(name: str) -> bool:
    """Whether `.dockerignore` lets a file of the clone into the build: `*`, and the exceptions to that."""
    first, *others = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    exceptions = tuple(line[1:] for line in others if line.startswith("!"))
    assert first == "*"
    return any(name == one or name.startswith(f"{one}/") for one in exceptions)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def mounted(stage: Stage, root: Path, *, mode: str) -> Path:
    """Mount the base and the stage's layer upon it, and what every container has, at `root`; `mode` is rw or ro."""
    root.mkdir(parents=True, exist_ok=True)
    work = stage.layer.with_name(f"{stage.layer.name}-work")
    work.mkdir(exist_ok=True)
    options = f"lowerdir=/,upperdir={stage.layer},workdir={work}"
    mount("-t", "overlay", "overlay", "-o", f"{options},{mode}", root)
    for hidden in HIDDEN:
        if hidden.is_dir():
            mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}{hidden}")
    python = Path(f"{root}{PYTHON}")
    python.mkdir(parents=True, exist_ok=True)
    mount("--bind", "-o", "ro", PYTHON, python)
    mount("-t", "proc", "proc", root / "proc")
    mount("--rbind", "/dev", root / "dev")
    return root


class Build:
    """Carries out the instructions one by one; one that it does not know is an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: list[Stage] = []
        self.roots: dict[str, Path] = {}

    def run(self, text: str) -> Stage:
        for word, rest in steps(text):
            print(f"{word} {rest[:100]}", file=sys.stderr)  # noqa: T201
            if word not in NOT_DONE:
                getattr(self, f"_{word.lower()}")(rest)
        return self.stages[-1]

    @property
    def _stage(self) -> Stage:
        return self.stages[-1]

    @property
    def _root(self) -> Path:
        return self.folder / f"root-{len(self.stages)}"

    def _from(self, rest: str) -> None:
        assert rest.split()[0] == "${BASE}"
        layer = self.folder / f"layer-{len(self.stages) + 1}"
        layer.mkdir()
        self.stages.append(Stage(layer=layer))
        name = rest.partition(" AS ")[2] or f"{len(self.stages)}"
        self.roots[name] = mounted(self._stage, self._root, mode="rw")

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            path = self._stage.env["PATH"]
            self._stage.env[name] = value.replace("$PATH", path)

    def _workdir(self, rest: str) -> None:
        self._stage.workdir = rest
        Path(f"{self._root}{rest}").mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = None
        if sources[0].startswith("--from="):
            origin = self.roots[sources.pop(0).removeprefix("--from=")]
        place = Path(f"{self._root}{Path(self._stage.workdir, target)}")
        for name in sources:
            source = Path(f"{origin}{name}") if origin else self._context(name)
            if source.is_dir():
                shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                assert target.endswith("/")
                shutil.copy2(source, place)

    def _context(self, name: str) -> Path:
        """Return a copy of a file or folder as the build context has it: what git knows or would add."""
        listed = subprocess.run(
            [
                "git",
                "-c",
                "safe.directory=*",
                "ls-files",
                "-co",
                "--exclude-standard",
                name,
            ],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        there = [file for file in listed if (REPOSITORY / file).is_file()]
        assert there and all(map(allowed_context, there)), (
            f"{name} is not in the context"
        )
        copied = self.folder / "context"
        for file in there:
            (copied / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / file, copied / file)
        return copied / name

    def _run(self, rest: str) -> None:
        assert self._stage.user == "0:0"
        # A cache is of the build's own here: homes are in memory, and no part of a layer.
        rest = re.sub(r"--mount=type=cache,target=/root/\S+", "", rest)
        network = {k: v for k, v in os.environ.items() if NETWORK.fullmatch(k)}
        subprocess.run(
            [
                "chroot",
                self._root,
                "/bin/sh",
                "-c",
                f"cd {self._stage.workdir} && {rest}",
            ],
            env={"HOME": "/root", **network, **self._stage.env},
            check=True,
        )

    def _user(self, rest: str) -> None:
        self._stage.user = rest

    def _volume(self, rest: str) -> None:
        self._stage.volume = rest

    def _entrypoint(self, rest: str) -> None:
        self._stage.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self._stage.cmd = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self._stage.healthcheck = json.loads(rest.partition("CMD ")[2])


def unprivileged(stage: Stage, root: str, command: list[str]) -> list[str]:
    """Return the command line that runs `command` in `root` as the image's user, without any capability."""
    uid, gid = stage.user.split(":")
    rights = ["--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
    rights += ["--bounding-set=-all", "--inh-caps=-all"]
    there = ["sh", "-c", 'cd "$0" && exec "$@"', stage.workdir, *command]
    return ["chroot", root, "setpriv", *rights, *there]


def build(folder: Path) -> None:
    stage = Build(folder).run((REPOSITORY / "Dockerfile").read_text())
    described = {name: getattr(stage, name) for name in Stage.__dataclass_fields__}
    (folder / "image.json").write_text(json.dumps(described, default=str))


def image(folder: Path) -> Stage:
    """Return what was built in `folder`."""
    described = json.loads((folder / "image.json").read_text())
    return Stage(**{**described, "layer": Path(described["layer"])})


def run(folder: Path, volume: Path) -> None:
    """Become the container's first process: its root is read-only, but for its volume and `/tmp`.

    Settings come from the environment, as `docker run --env` gives them.
    """
    stage = image(folder)
    root = mounted(stage, folder / "container", mode="ro")
    if not volume.exists():  # a new one begins as the image has the folder
        shutil.copytree(f"{stage.layer}{stage.volume}", volume)
        os.chown(volume, *map(int, stage.user.split(":")))
    mount("--bind", volume, f"{root}{stage.volume}")
    given = {k: v for k, v in os.environ.items() if k not in ("PATH", *stage.env)}
    given["PORT"] = os.environ["PORT"]
    command = unprivileged(stage, str(root), [*stage.entrypoint, *stage.cmd])
    os.execvpe("chroot", command, {**stage.env, **given})


if __name__ == "__main__":
    os.umask(0o022)
    word, *paths = sys.argv[1:]
    if word == "build":
        build(Path(paths[0]))
    else:
        run(Path(paths[0]), Path(paths[1]))
