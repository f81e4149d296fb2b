"""The playground: what it shows, what it refuses, and whose usage it is."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from embeddings.access.limiter.limiter import Limiter
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from embeddings.models import UsageHour, UserLimits
from embeddings.services.usage.ledger import usage
from providers.exceptions import ProviderUnavailable
from providers.models import AllowlistEntry, Revision
from providers.state import process
from tests.fakes import MINILM

URL = "/admin/playground/"
FORM = {
    "texts": "The cat sat.\nA dog ran.\n\nThe cat sat.",
    "split": "lines",
    "model": f"onnx:{MINILM}",
    "other_model": "",
    "input_type": "document",
    "dimensions": "",
}


@pytest.fixture
def clerk(make_user, fakes):
    return make_user("clerk", is_staff=True)


@pytest.fixture
def console(clerk):
    client = Client()
    client.force_login(clerk)
    return client


@pytest.fixture
def ask(console):
    """Return a function that posts the form, and returns the page and what it was made of."""

    def send(part="", **fields):
        response = console.post(URL + part, {**FORM, **fields})
        assert response.status_code == 200
        return response.content.decode(), response.context

    return send


def test_page_offers_the_models_that_are_ready_with_the_default_chosen(console):
    page = console.get(URL).content.decode()
    assert f'value="huggingface:{MINILM}" selected' in page
    assert "onnx:only-onnx" in page
    assert "text-embedding-3-small" not in page  # it has no key


def test_answer_has_figures_headers_and_cosines(ask):
    page, context = ask()
    (answer,) = context["answers"]
    assert answer.figures["Dimensions"] == "8"
    assert answer.figures["Tokens"] == "9"
    assert answer.figures["Vector space"] == MINILM
    assert answer.figures["Precision"] == "exact"
    assert answer.figures["Cost"] == "none: local"
    assert answer.headers["X-Embeddings-Provider"] == "onnx"
    assert answer.headers["X-Embeddings-Precision"] == "exact"
    assert [row.cells[0] for row in answer.heat][::2] == [("1.00", 10), ("1.00", 10)]
    assert answer.pairs[0].cosine == "1.000"
    assert 'class="number heat-10"' in page
    assert "<html" in page


def test_part_is_answered_without_the_page(ask):
    page, _ = ask(part="?part=result")
    assert "Nearest pairs" in page
    assert "<html" not in page


def test_texts_may_have_several_lines(ask, fakes):
    ask(split="blocks", texts="One\r\ntwo\r\n\r\n \r\nThree")
    assert fakes["onnx"].calls == [["One\ntwo", "Three"]]


def test_texts_may_come_from_a_file(ask, fakes):
    file = SimpleUploadedFile("texts.txt", "\ufeffGrüße\nAus der Datei".encode())
    ask(texts="Getippt", file=file)
    assert fakes["onnx"].calls == [["Getippt", "Grüße", "Aus der Datei"]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"texts": " \n"}, "Type a text, or choose a file."),
        ({"texts": "a\n" * 41}, "41 texts; the playground takes 40"),
        ({"texts": "a" * 100_001}, "at most 100000 characters"),
        ({"file": SimpleUploadedFile("a.txt", b"\xff\xfe\x00")}, "not text in UTF-8"),
        ({"file": SimpleUploadedFile("a.txt", b"a" * 2**20)}, "over 512 KiB"),
        ({"model": "onnx:nosuch"}, "not one of the available choices"),
        ({"dimensions": "0"}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_named_and_nothing_is_asked(ask, fakes, fields, says):
    page, _ = ask(part="?part=result", **fields)
    assert says in page
    assert not fakes["onnx"].calls


def test_refusal_of_a_model_is_shown_beside_the_other_answer(ask):
    page, context = ask(texts="word " * 20, other_model=f"huggingface:{MINILM}")
    assert "exceed max tokens 10" in page
    assert [bool(answer.problem) for answer in context["answers"]] == [True, True]
    _, context = ask(texts="word " * 20, truncate="on")
    assert context["answers"][0].headers["X-Embeddings-Truncated"] == "1"


def test_models_of_two_spaces_are_not_compared(ask):
    page, context = ask(other_model="onnx:only-onnx")
    assert "two vector spaces" in page
    assert not context["comparison"].rows
    assert len(context["answers"]) == 2


def test_models_of_one_space_are_compared_text_by_text(ask):
    _, context = ask(other_model=f"huggingface:{MINILM}")
    assert context["comparison"].rows[0] == ("The cat sat.", "1.0000")


def test_queries_are_asked_as_queries(ask, fakes):
    ask(model="onnx:prompted", input_type="query")
    assert fakes["onnx"].asked[0].input_type == "query"


def test_fallback_is_said(ask, fakes, configure):
    configure(fallback_chain={"onnx": ("huggingface",)})
    fakes["onnx"].fault = ProviderUnavailable("It is away.")
    page, context = ask()
    (answer,) = context["answers"]
    assert "onnx could not serve: a fallback answered." in page
    assert answer.figures["Answered by"] == f"huggingface:{MINILM}"
    assert answer.headers["X-Embeddings-Fallback-From"] == "onnx"


def test_usage_is_the_user_s(ask, clerk):
    ask(texts="one two")
    usage().flush()
    row = UsageHour.objects.get()
    assert (row.user_id, row.username) == (clerk.pk, "clerk")
    assert (row.requests, row.tokens, row.model) == (1, 2, MINILM)


def test_budget_of_the_user_holds(ask, clerk, fakes):
    UserLimits.objects.create(user=clerk, monthly_tokens=1)
    ask(texts="one two")
    page, _ = ask(texts="three")
    assert "monthly budget of 1 tokens is used up" in page
    assert len(fakes["onnx"].calls) == 1


def test_cost_budget_is_charged_where_a_model_has_a_price(ask, clerk):
    UserLimits.objects.create(user=clerk, monthly_cost_usd=Decimal(0))
    page, _ = ask()
    assert "US dollars is used up" in page


@pytest.fixture
def limited(configure, settings, monkeypatch, tmp_path):
    """Have the limiter take part, with buckets of this test's own."""
    store = SqliteBuckets(tmp_path / "limiter.sqlite3")
    own = Limiter(store)
    monkeypatch.setattr("embeddings.access.throttling.limiter", lambda: own)
    limits = settings.EMBEDDINGS.limiter
    configure(limiter=replace(limits, enabled=True, embeddings=True))
    yield
    store.close()


def test_rate_limit_of_the_user_holds(ask, clerk, limited):
    UserLimits.objects.create(user=clerk, requests_per_minute=1, burst=1)
    _, context = ask(texts="one")
    assert context["answers"][0].headers["x-ratelimit-remaining-requests"] == "0"
    page, _ = ask(texts="two")
    assert "Too many requests: the limit is 1 a minute" in page


def test_what_is_not_allowed_is_not_offered(console):
    Revision.objects.update_or_create(pk=1, defaults={"allowlists_seeded": True})
    AllowlistEntry.objects.create(kind="model", pattern="only-onnx")
    process.renew()  # what was read before is believed for two seconds
    page = console.get(URL).content.decode()
    assert "only-onnx" in page
    assert MINILM not in page


def test_texts_are_shown_as_texts(ask):
    page, _ = ask(texts="<script>alert(1)</script>\n<b>x</b>'\"")
    assert "<script>alert" not in page
    assert "<b>x" not in page


def test_users_who_are_no_staff_are_kept_out(make_user, fakes):
    client = Client()
    client.force_login(make_user("ada"))
    assert client.get(URL).status_code == 302
    assert client.post(URL, FORM).status_code == 302


def test_form_of_another_site_is_refused(clerk):
    client = Client(enforce_csrf_checks=True)
    client.force_login(clerk)
    assert client.post(URL, FORM).status_code == 403


def test_page_writes_no_style_into_attributes(ask):
    page, _ = ask(part="?part=result", other_model="onnx:only-onnx")
    assert not re.search(r"\sstyle=|<style|onclick=", page)
