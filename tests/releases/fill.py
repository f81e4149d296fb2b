"""Have a release fill its database and data folder as users do, and write both down for the tests of later releases.

    git worktree add /tmp/release RELEASE
    cd /tmp/release && PYTHONPATH=. python …/tests/releases/fill.py …/tests/releases/VERSION [POSTGRESQL_URL PG_DUMP]

Without PostgreSQL: `sqlite.sql`, and the secrets. With it: `postgres.sql`. The API keys of each lie in a JSON file
beside it.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

MODEL = "local_api:words"
DIMENSIONS = 16
SECRETS = ("api_key", "secret_key", "webhook_secret")
JWT_SECRET = "the-secret-of-tokens-of-the-tests-0123456789"


class WordServer(ThreadingHTTPServer):
    """An OpenAI-compatible server whose vectors count words, so that texts with the same words are near."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text)}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        answer = {"object": "list", "data": data, "model": "words", "usage": usage}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


def vector_of(text):
    vector = [0.01] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
    return vector


def main(target, database_url="", pg_dump=""):
    target.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    words = WordServer()
    threading.Thread(target=words.serve_forever, daemon=True).start()
    known = {}
    for mode in ("single_user", "multi_user"):
        done = subprocess.run(
            [sys.executable, __file__, "--fill", mode],
            env={
                **os.environ,
                "DATA_DIR": str(folder),
                "DATABASE_URL": database_url,
                "AUTH_MODE": mode,
                "JWT_SECRET_KEY": JWT_SECRET if mode == "multi_user" else "",
                "LOCAL_API_URL": words.url,
                "LOG_LEVEL": "error",
                "DJANGO_SETTINGS_MODULE": "embeddings_project.settings",
            },
            stdout=subprocess.PIPE,
            check=True,
        )
        known |= json.loads(done.stdout.splitlines()[-1])
    store = "postgres" if database_url else "sqlite"
    (target / f"{store}.json").write_text(json.dumps(known, indent=1) + "\n")
    if database_url:
        dumped = subprocess.run(
            [pg_dump, "--no-owner", "--no-privileges", "--inserts", database_url],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        (target / "postgres.sql").write_text(_plain_sql(dumped.stdout))
    else:
        with sqlite3.connect(folder / "db.sqlite3") as file:
            (target / "sqlite.sql").write_text("\n".join(_dump(file)) + "\n")
        for name in SECRETS:
            shutil.copy(folder / name, target / name)
    shutil.rmtree(folder)


def fill(mode):
    import django

    django.setup()

    from django.conf import settings
    from django.core.management import call_command

    from providers.seeding import seed_registry

    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)
    seed_registry(allowed_providers=(), allowed_models=())
    known = _fill_multi() if mode == "multi_user" else _fill_single()
    if find_spec("providers.state.process"):  # 0.1.0 stores what is left at its exit
        import_module("providers.state.process").close()
    sys.stdout.write("\n" + json.dumps(known) + "\n")


def _client(**headers):
    from django.test import Client

    client = Client(headers=headers)

    def send(method, path, body=None, status=(200, 201, 202, 204)):
        answer = client.generic(
            method,
            f"/api/v1{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
        )
        assert answer.status_code in status, (path, answer.status_code, answer.content)
        return json.loads(answer.content or b"{}")

    return send


def _fill_single():
    from django.conf import settings

    _set_up()
    send = _client(**{"X-API-KEY": settings.EMBEDDINGS.single_user_api_key})
    send("POST", "/embeddings", {"input": ["one text", "another"], "model": MODEL})
    _store(send, "On badgers", "Badgers dig setts in the woods.\n\nThey sleep by day.")
    _embed_all()
    return {}


def _set_up():
    from providers.models import AllowlistEntry, ModelEntry, ProviderSetting

    ModelEntry.objects.update_or_create(
        provider="local_api",
        name="words",
        defaults={
            "vector_space": MODEL.replace(":", "/"),
            "dimensions": DIMENSIONS,
            "price_per_million_tokens": "0.1300",
        },
    )
    AllowlistEntry.objects.create(kind="model", pattern="local_api:*")
    ProviderSetting.objects.filter(name="cohere").update(enabled=False)


def _fill_multi():
    from django.contrib.auth.models import User

    from embeddings.models import UserLimits

    User.objects.create_superuser("root", password="the-password-of-root")
    ada = User.objects.create_user("ada", password="the-password-of-ada")
    UserLimits.objects.create(user=ada, tokens_per_minute=500000, max_documents=50)
    key = _command("create_api_key", "ada", "--name", "notebook", "--burst", "7")
    revoked = _command("create_api_key", "ada", "--name", "lost")
    send = _client(**{"X-API-KEY": key})
    token = _client()(
        "POST",
        "/auth/token",
        {"username": "ada", "password": "the-password-of-ada"},
    )["access"]
    by_token = _client(Authorization=f"Bearer {token}")
    lost = next(
        one for one in by_token("GET", "/auth/keys")["data"] if one["name"] == "lost"
    )
    by_token("DELETE", f"/auth/keys/{lost['id']}")
    send(
        "POST", "/embeddings", {"input": "a text of ada", "model": MODEL, "user": "u-1"}
    )
    foxes = _store(send, "On foxes", "Foxes hunt mice at dawn. " * 8, {"shelf": 3.5})
    _store(send, "On herons", "Herons stand still in shallow water.", {"tags": ["ä"]})
    _embed_all()
    send("PATCH", f"/media/{foxes}", {"content": "Foxes hunt voles at dusk."})
    send("POST", f"/media/{foxes}/embeddings", {"embedding_model": MODEL})
    return {"key": key, "revoked": revoked}


def _store(send, title, content, metadata=None):
    body = {"title": title, "content": content, "metadata": metadata or {}}
    item = send("POST", "/media", body)["media_id"]
    job = {"embedding_model": MODEL, "chunk_size": 64, "chunk_overlap": 8}
    send("POST", f"/media/{item}/embeddings", job)
    return item


def _embed_all():
    from media_jobs.tasks import work

    work()


def _command(*words):
    from io import StringIO

    from django.core.management import call_command

    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue().strip()


def _dump(file):
    """Yield a database's statements. A virtual table's own tables are left out: it is filled from what it indexes."""
    rows = file.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    made = {name: sql for _, name, _, sql in rows}
    virtual = [name for _, name, _, sql in rows if sql.startswith("CREATE VIRTUAL")]
    shadows = {
        name
        for kind, name, _, _ in rows
        for one in virtual
        if kind == "table" and name.startswith(f"{one}_")
    }
    tables = [row for row in rows if row[0] == "table" and row[1] not in shadows]
    yield "BEGIN;"
    for _, name, _, sql in tables:
        if name == "sqlite_sequence":
            continue
        yield f"{sql};"
        if name not in virtual:
            yield from _inserts(file, name)
    yield "DELETE FROM sqlite_sequence;"
    yield from _inserts(file, "sqlite_sequence")
    for name in virtual:
        if "USING fts5vocab" not in made[name]:
            yield f"INSERT INTO {name} ({name}) VALUES ('rebuild');"
    for kind, _, _, sql in rows:
        if kind in ("index", "trigger"):
            yield f"{sql};"
    yield "COMMIT;"


def _inserts(file, table):
    names = [row[1] for row in file.execute(f'PRAGMA table_info("{table}")')]
    quoted = " || ', ' || ".join(f'quote("{name}")' for name in names)
    for (values,) in file.execute(f'SELECT {quoted} FROM "{table}" ORDER BY rowid'):
        yield f'INSERT INTO "{table}" VALUES ({values});'


def _plain_sql(text):
    """Leave out what only psql understands, and what newer servers add to each dump."""
    left_out = ("\\", "--", "SET transaction_timeout")
    lines = [line for line in text.splitlines() if not line.startswith(left_out)]
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)) + "\n"


if __name__ == "__main__":
    if sys.argv[1] == "--fill":
        fill(sys.argv[2])
    else:
        main(Path(sys.argv[1]), *sys.argv[2:])
