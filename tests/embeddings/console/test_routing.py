"""The routing page: chains drawn and in words, and the way of a request."""

import re

import pytest
from django.test import Client

from providers.models import ModelEntry
from providers.operator_settings import reader
from tests.embeddings.staff import give
from tests.fakes import MINILM

URL = "/admin/gateway/routing/"
SMALL = "text-embedding-3-small"


@pytest.fixture
def chain(configure):
    configure(fallback_chain={"openai": ("onnx", "huggingface")})


def words(page):
    text = re.sub(r"<[^>]+>", " ", page.content.decode())
    return re.sub(r"\s+", " ", text)


def test_chains_are_drawn_and_said_in_words_with_their_spaces(console, chain):
    page = console.get(URL)
    first, *_ = page.context["picture"].rows
    assert [(box.provider, box.space) for box in first] == [
        ("openai", "A"),
        ("onnx", "B"),
        ("huggingface", "B"),
    ]
    assert f"openai: {SMALL} (space A; OPENAI_API_KEY is not set.)" in words(page)
    assert f"then onnx: {MINILM} (space B)" in words(page)
    spaces = {letter: space for letter, space, _ in page.context["picture"].spaces}
    assert (spaces["A"], spaces["B"]) == (f"openai/{SMALL}", MINILM)
    assert "style=" not in page.content.decode().partition('class="routes"')[2][:4000]


def test_what_would_answer_is_said_with_the_reason_at_each_step(console, chain):
    page = console.get(URL, {"model": SMALL, "provider": "", "fallback": ""})
    assert f"onnx:{MINILM} answers" in words(page)
    assert "OPENAI_API_KEY is not set." in words(page)
    off = console.get(URL, {"model": SMALL, "provider": "", "fallback": "off"})
    assert "Nothing answers." in words(off)


def test_a_key_and_a_user_are_asked_for_by_name(console, chain, ada, key_of):
    text = key_of(ada, allowed_providers=["huggingface"])
    asked = {"model": MINILM, "provider": "onnx", "fallback": ""}
    refused = console.get(URL, {**asked, "caller": text[:15]})
    assert "scopes leave provider onnx out" in words(refused)
    assert "answers" in words(console.get(URL, {**asked, "caller": "ada"}))
    nobody = console.get(URL, {**asked, "caller": "nobody"})
    assert "no such user or key" in words(nobody)


def test_who_may_not_see_keys_cannot_ask_for_one(make_user, seeded, ada, key_of):
    clerk = make_user("clerk", is_staff=True)
    give(clerk, "view_providersetting")
    client = Client()
    client.force_login(clerk)
    text = key_of(ada, allowed_providers=["huggingface"])
    asked = {"model": MINILM, "provider": "onnx", "fallback": "", "caller": text[:15]}
    page = client.get(URL, asked)
    assert 'name="caller"' not in page.content.decode()
    assert "scopes" not in words(page)


def test_hostile_names_are_shown_as_text(console, chain):
    bad = "<script>alert(1)</script>"
    ModelEntry.objects.create(provider="openai", name=bad, vector_space=bad)
    reader.cache_clear()
    page = console.get(URL, {"model": bad, "provider": "", "fallback": ""})
    assert bad not in page.content.decode()


def test_no_model_anywhere_is_no_error(console, fakes):
    for fake in fakes.values():
        fake.specs = ()
    ModelEntry.objects.all().delete()
    reader.cache_clear()
    assert console.get(URL).status_code == 200
