"""Starting: what the first start makes and prints, what later starts keep, what stops a start."""

import re
import socket
import stat

import psutil
import pytest


def test_first_start_prints_the_key_that_it_made(server):
    printed = re.search(r"^API key +(\S+) ", server.output, re.MULTILINE)
    assert printed and printed[1] == server.key
    assert server.embed(["the printed key works"])


def test_made_secrets_are_readable_by_their_owner_only(server):
    for name in ("api_key", "secret_key"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600, name


@pytest.mark.sqlite_only("the database's files")
def test_what_the_server_writes_is_its_owner_s_alone(server):
    modes = {
        file.name: stat.S_IMODE(file.stat().st_mode)
        for file in server.data_dir.glob("db.sqlite3*")
    }
    assert set(modes.values()) == {0o600}


def test_second_start_keeps_key_and_login_and_prints_neither(launch):
    first = launch(first=True).wait_until_ready()
    key = first.key
    first.stop()
    second = launch(data_dir=first.data_dir).wait_until_ready()
    assert second.key == key
    assert key not in second.output
    assert "Login " not in second.output
    assert second.embed(["the first start's key"])


def test_greeting_names_every_door(server):
    host = f"http://localhost:{server.port}"
    for line in (f"API {host}/api/v1", f"Docs {host}/docs", f"Console {host}/admin/"):
        assert line in re.sub(" +", " ", server.output)


@pytest.mark.sqlite_only("refused before the database")
def test_taken_port_is_refused_in_a_plain_sentence(launch):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        written = launch(PORT=str(port)).wait_for_refusal()
    assert f"Cannot serve at 127.0.0.1 port {port}" in written
    assert "Traceback" not in written


@pytest.mark.sqlite_only("refused before the database")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EMBEDDINGS_DEFUALT_MODEL", "x"),
        ("SINGLE_USER_API_KEYS", "a-key-with-enough-characters"),
        ("SINGLE_USER_API_KEY", "too-short"),
        ("SINGLE_USER_API_KEY", "your_api_key_or_jwt"),
        ("EMBEDDINGS_FALLBACK_CHAIN", "openai,onnx"),
        ("EMBEDDINGS_DEFAULT_PROVIDER", "opnai"),
        ("WEB_CONCURRENCY", "many"),
        ("DATABASE_URL", "nonsense"),
        ("CACHE_URL", "memcached://localhost"),
        ("CACHE_URL", "redis://localhost:port"),
    ],
)
def test_wrong_setting_stops_the_start_and_is_named(launch, variable, value):
    written = launch(**{variable: value}).wait_for_refusal()
    assert variable in written
    assert "Traceback" not in written


@pytest.mark.sqlite_only("refused before the database")
def test_unwritable_data_folder_is_refused_in_a_plain_sentence(launch, tmp_path):
    occupied = tmp_path / "a-file"
    occupied.write_text("")
    written = launch(data_dir=occupied / "data").wait_for_refusal()
    assert str(occupied) in written
    assert "Traceback" not in written


def test_port_of_the_environment_is_served(server):
    process = psutil.Process(server.process.pid)
    ports = {
        connection.laddr.port
        for member in (process, *process.children(recursive=True))
        for connection in member.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ports == {server.port}
