"""The files of pages: small on their way, and not asked for again while they are the same."""

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.test import Client

NAME = "embeddings/console.css"


def content(name):
    return Path(str(finders.find(name))).read_bytes()


@pytest.fixture
def answer(db):
    def ask(address, **headers):
        response = Client().get(address, headers=headers)
        body = b"".join(response) if response.streaming else response.content
        response.close()
        return response, body

    return ask


def test_address_names_the_version_and_is_kept_for_good(answer):
    address = static(NAME)
    assert re.fullmatch(rf"/static/{NAME}\?v=[0-9a-f]{{12}}", address)
    response, body = answer(address)
    assert "immutable" in response["Cache-Control"]
    assert body == content(NAME)


def test_file_is_compressed_for_who_takes_that(answer):
    response, body = answer(static(NAME), **{"Accept-Encoding": "gzip, br"})
    assert response["Content-Encoding"] == "gzip"
    assert int(response["Content-Length"]) == len(body)
    assert response["Content-Type"].startswith("text/css")
    assert gzip.decompress(body) == content(NAME)


def test_file_that_is_known_is_not_sent(answer):
    known, _ = answer(f"/static/{NAME}", **{"Accept-Encoding": "gzip"})
    assert known["Cache-Control"] == "max-age=60, public"
    asked = {"If-None-Match": known["ETag"], "Accept-Encoding": "gzip"}
    response, body = answer(f"/static/{NAME}", **asked)
    assert (response.status_code, body) == (304, b"")


def test_part_of_a_file_is_sent_as_it_is(answer):
    asked = {"Range": "bytes=0-9", "Accept-Encoding": "gzip"}
    response, body = answer(static(NAME), **asked)
    assert response.status_code == 206
    assert body == content(NAME)[:10]


def test_pages_name_versions(db):
    page = Client().get("/admin/login/").content.decode()
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert files
    assert all("?v=" in file for file in files)


def test_every_colour_that_the_framework_uses_is_ours():
    """Which unfold would write into each page, where the policy lets no style stand."""
    used = content("unfold/css/styles.css").decode()
    ours = content("embeddings/theme.css").decode()
    names = set(re.findall(r"--color-[\w-]+(?=:var\(--color)", used))
    assert names
    assert names <= set(re.findall(r"--color-[\w-]+(?=:)", ours))
