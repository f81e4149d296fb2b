"""Files of every format to text, each by a process of its own."""

import io
import sys
import threading
import zipfile

import psutil
import pytest

from embeddings.services.errors import Busy, InvalidRequest
from media_jobs.extraction import slots
from media_jobs.extraction.extract import extracted
from media_jobs.extraction.slots import slot
from providers.exceptions import Abandoned
from providers.waiting import caller_left
from tests.media_jobs.extraction.files import docx, paragraph, pdf


@pytest.fixture
def text_of(tmp_path):
    """Return a function that writes a file and extracts its text."""

    def extract(name, data):
        path = tmp_path / "upload"
        path.write_bytes(data)
        with path.open("rb") as file:
            return extracted(file, filename=name).text

    return extract


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"One text"),
        ("a.html", b"<p>One\n<b>text</b>"),
        ("a.PDF", pdf("One text")),
        ("a.docx", docx(paragraph("One text"))),
    ],
)
def test_every_format_gives_its_text(text_of, name, data):
    assert text_of(name, data) == "One text"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_file_that_is_not_what_its_name_says_is_refused(text_of, name):
    with pytest.raises(InvalidRequest, match="is not a"):
        text_of(name, b"Just some words, whatever the ending claims.")


def test_archive_that_unpacks_to_too_much_is_refused(text_of):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(10):
            archive.writestr(f"word/{number}.xml", bytes(60 * 2**20), compresslevel=1)
    with pytest.raises(InvalidRequest, match="too much"):
        text_of("a.docx", out.getvalue())


def test_text_beyond_the_limit_is_refused(text_of, settings, media_conf):
    media_conf(max_bytes=1000)
    with pytest.raises(InvalidRequest, match="1000 bytes"):
        text_of("a.html", b"<p>" + b"x" * 2000)


@pytest.fixture
def slow(tmp_path):
    """An open file that takes seconds to read."""
    path = tmp_path / "slow"
    path.write_bytes(b"<div>" * 500_000)
    with path.open("rb") as file:
        yield file


def test_reader_ends_when_the_client_leaves(slow):
    token = caller_left.set(lambda: True)
    try:
        with pytest.raises(Abandoned):
            extracted(slow, filename="a.html")
    finally:
        caller_left.reset(token)
    readers = [
        process
        for process in psutil.Process().children()
        # None for one that has ended: another test's, not waited for yet
        if "media_jobs.extraction.child"
        in (process.as_dict(["cmdline"])["cmdline"] or [])
    ]
    assert readers == []


@pytest.mark.parametrize(
    ("limit", "value"),
    [pytest.param("-t", "1", marks=pytest.mark.e2e), ("-v", "300000")],
)
def test_file_beyond_the_limits_says_so(text_of, monkeypatch, tmp_path, limit, value):
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nulimit {limit} {value}\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    data = b"<div>" * 1_000_000 if limit == "-t" else b"<p>a</p>" * 1_000_000
    with pytest.raises(InvalidRequest, match="too large or too complex"):
        text_of("a.html", data)


def test_file_waits_for_its_turn_a_bounded_time(media_conf, tmp_path, slow):
    media_conf(extractions=1)
    with (
        slot(tmp_path / "jobs", 1, patience=0),
        pytest.raises(Busy, match="as many files"),
    ):
        extracted(slow, filename="a.html", patience=0)
    assert slots._waiting()._value == slots.MAX_WAITING


def test_file_that_waits_is_read_when_its_turn_comes(text_of, media_conf, tmp_path):
    media_conf(extractions=1)
    texts = []
    with slot(tmp_path / "jobs", 1, patience=0):
        waiting = threading.Thread(
            target=lambda: texts.append(text_of("a.html", b"<p>text"))
        )
        waiting.start()
        waiting.join(0.2)
        assert texts == []
    waiting.join()
    assert texts == ["text"]


def test_client_that_leaves_gives_up_its_turn(media_conf, tmp_path, slow):
    media_conf(extractions=1)
    token = caller_left.set(lambda: True)
    try:
        with slot(tmp_path / "jobs", 1, patience=0), pytest.raises(Abandoned):
            extracted(slow, filename="a.html")
    finally:
        caller_left.reset(token)


def test_more_than_a_few_do_not_wait_at_all(media_conf, tmp_path, slow, monkeypatch):
    media_conf(extractions=1)
    monkeypatch.setattr(slots, "MAX_WAITING", 1)
    with slots._waiting(), slot(tmp_path / "jobs", 1, patience=0), pytest.raises(Busy):
        extracted(slow, filename="a.html", patience=600)
