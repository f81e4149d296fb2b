"""The product installed from its wheel, in an environment of its own, run where there is no clone."""

import re
import subprocess
from pathlib import Path

import pytest
import requests

from tests.e2e.installed import APPS, build, copy_sources, install, names_in, unpack
from tests.e2e.server import REPOSITORY, Server, free_port, lay_out_weights

pytestmark = pytest.mark.sqlite_only("what a package holds; it begins with SQLite")

KEY = "test-key-0123456789abcdef"
READ_ONLY_HOME = "/dev/null"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


def data_folder(home):
    """Where the server of a user with this home keeps its data, as the tests' systems have it."""
    return home / ".local" / "share" / "embeddings-server"


def serve(installed, home, *command):
    lay_out_weights(data_folder(home))
    return Server(
        home,
        data_dir=data_folder(home),
        command=command or (installed.command, "serve"),
        cwd=home,
        DATA_DIR="",
        SINGLE_USER_API_KEY=KEY,
    )


@pytest.fixture(scope="module")
def running(installed, prepared_weights, tmp_path_factory):
    server = serve(installed, tmp_path_factory.mktemp("home"))
    yield server.wait_until_ready()
    server.end()


@pytest.fixture(scope="module")
def operator(running):
    """A session that has logged in to the console."""
    password = re.findall(r"^Login +admin / (\S+) ", running.output, re.MULTILINE)[0]
    session = requests.Session()
    page = session.get(f"{running.url}/admin/login/", timeout=60)
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    answer = session.post(f"{running.url}/admin/login/", data=form, timeout=60)
    assert answer.url.endswith("/admin/")
    return session


def test_wheel_holds_every_file_of_the_apps_and_the_templates(installed):
    tracked = subprocess.run(
        [
            "git",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            *APPS,
            "templates",
        ],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    wanted = {
        f"embeddings_project/{name}" if name.startswith("templates/") else name
        for name in tracked
        if (REPOSITORY / name).exists()
    }
    assert wanted == {
        name for name in names_in(installed.wheel) if ".dist-info/" not in name
    }


def test_wheel_installs_the_apps_and_nothing_else_at_the_top(installed):
    tops = {name.partition("/")[0] for name in names_in(installed.wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(APPS)


def test_sdist_builds_the_same_wheel(installed, tmp_path):
    sdist = build("sdist", copy_sources(tmp_path / "source"), tmp_path / "sdist")
    source = unpack(sdist, tmp_path / "unpacked")
    assert (source / "manage.py").is_file()
    wheel = build("wheel", source, tmp_path / "wheel")
    assert names_in(wheel) == names_in(installed.wheel)


def test_installed_server_embeds(running):
    assert len(running.embed(["from the wheel"])[0]) == 384


def test_installed_server_has_docs_and_metrics(running):
    running.embed(["counted"])
    assert "swagger" in running.get("/docs").text
    assert running.counter("embedding_requests_total") > 0


def test_installed_console_has_its_templates_and_files(running, operator):
    page = operator.get(f"{running.url}/admin/embeddings/usagehour/", timeout=60)
    assert page.status_code == 200
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
    assert any(file.startswith("/static/embeddings/icon.svg?v=") for file in files)
    for file in files:
        assert running.get(file).status_code == 200, file


def test_installed_server_keeps_its_data_in_the_user_s_data_folder(running):
    assert (running.data_dir / "db.sqlite3").is_file()
    assert f"Data     {running.data_dir}" in running.output


def test_installed_server_writes_nothing_beside_its_code(installed, running):
    written = {
        str(path.relative_to(installed.packages))
        for path in installed.packages.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    dist_info = next(installed.packages.glob("embeddings_server*.dist-info")).name
    known = {*names_in(installed.wheel), "shared.pth"}
    extra = {name for name in written - known if not name.startswith(dist_info)}
    assert not extra


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "django", "serve", "--settings", "embeddings_project.settings"),
        ("-m", "embeddings_project", "serve"),
        ("-m", "gunicorn", "-c", "python:embeddings_project.gunicorn"),
    ],
    ids=["django", "module", "gunicorn"],
)
def test_metrics_count_whichever_way_the_server_was_started(
    installed, prepared_weights, tmp_path, arguments
):
    installed.run("migrate", HOME=str(tmp_path))
    server = serve(installed, tmp_path, installed.python, *arguments)
    try:
        server.wait_until_ready().embed(["counted"])
        assert server.counter("embedding_requests_total") == 1
    finally:
        server.end()


def test_version_is_the_package_s_own(installed, running):
    version = re.findall(r"embeddings_server-([\d.]+)-", installed.wheel.name)[0]
    assert installed.run("--version").stdout == f"embeddings-server {version}\n"
    assert running.get("/openapi.json").json()["info"]["version"] == version


def test_help_names_every_command_of_the_server(installed):
    text = installed.run("--help").stdout
    own = {
        path.stem
        for app in APPS
        for path in Path(REPOSITORY, app).glob("management/commands/[a-z]*.py")
    }
    assert own <= set(re.findall(r"^  (\w+) ", text, re.MULTILINE))
    assert "embeddings-server help COMMAND" in text


def test_remedies_name_the_command_that_is_installed(installed, tmp_path):
    installed.run("migrate", HOME=str(tmp_path))
    model = "sentence-transformers/all-MiniLM-L6-v2"
    done = installed.run("warmup", model, HOME=str(tmp_path))
    assert f"run `embeddings-server download_model {model}`" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("check",), ("serve", "--help")]
)
def test_looking_writes_nothing(installed, tmp_path, arguments):
    done = installed.run(*arguments, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_env_file_of_the_data_folder_counts(installed, tmp_path):
    data_folder(tmp_path).mkdir(parents=True)
    (data_folder(tmp_path) / ".env").write_text("PORT=never\n")
    done = installed.run("check", HOME=str(tmp_path))
    assert "PORT must be a whole number" in done.stderr


@pytest.mark.parametrize("command", ["serve", "runworker", "create_api_key"])
def test_home_that_cannot_be_written_is_refused_in_a_plain_sentence(installed, command):
    done = installed.run(
        command, *(["bob"] if command == "create_api_key" else []), HOME=READ_ONLY_HOME
    )
    assert done.returncode != 0
    assert re.fullmatch(
        r"Error: DATA_DIR must be a folder that this user can write to: /dev/null/\S+: .*\n",
        done.stderr,
    )


@pytest.mark.parametrize("command", ["serve", "search"])
def test_database_that_is_none_is_refused_in_a_plain_sentence(
    installed, tmp_path, command
):
    (tmp_path / "db.sqlite3").write_bytes(b"no database at all " * 500)
    done = installed.run(
        command,
        *(["words"] if command == "search" else []),
        DATA_DIR=str(tmp_path),
        PORT=str(free_port()),
    )
    assert done.returncode != 0
    assert (
        f"The database {tmp_path}/db.sqlite3 cannot be used: file is not a database."
        in done.stderr
    )
    assert "Traceback" not in done.stderr
