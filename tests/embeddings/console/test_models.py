"""The page of models: what each is, made ready in the background; the default by one click; a form without nonsense."""

import re
from html import unescape

import pytest
from django.urls import reverse

from embeddings.models import AuditEntry
from embeddings.services import model_actions
from embeddings.services.errors import ModelActionFailed, ModelNotFound
from embeddings.services.routing import find_target
from providers.base import Serving
from providers.exceptions import ProviderUnavailable, UnknownModel
from providers.models import AllowlistEntry, ModelAction, ModelEntry
from providers.operator_settings import reader
from tests.fakes import MINILM

URL = "/admin/gateway/models/"
SMALL = "text-embedding-3-small"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def background(monkeypatch):
    """What was begun in the background, to be done by `background.pop()()`."""
    begun = []
    monkeypatch.setattr(model_actions, "in_background", begun.append)
    return begun


def press(client, **fields):
    return client.post(URL, fields, follow=True)


def text(page):
    return page.content.decode()


def states(page):
    return {
        (state.target.provider.name, state.target.model.name): state
        for rows in (
            part
            for group in page.context["groups"]
            for part in (group.here, group.elsewhere)
        )
        for state, _, _ in rows
    }


def entries():
    return [(e.action, e.target) for e in AuditEntry.objects.order_by("pk")]


def test_models_are_shown_with_how_they_run_and_stand(console):
    ModelEntry.objects.filter(name="text-embedding-ada-002").update(retired=True)
    AllowlistEntry.objects.create(kind="model", pattern="only-*")
    reader.cache_clear()
    page = console.get(URL)
    found = states(page)
    assert found["onnx", "only-onnx"].allowed
    assert not found["openai", SMALL].allowed
    for words in ("graph, int8-static", "search for: ", "retired", "not allowed"):
        assert words in text(page)


def test_models_are_found_by_provider_and_name(console):
    page = console.get(URL, {"provider": "onnx", "q": "ONLY"})
    assert [*states(page)] == [("onnx", "only-onnx")]
    assert "No model is like that" in text(console.get(URL, {"q": "zzz"}))


def test_download_begins_shows_itself_and_ends(console, background):
    page = press(console, action="download", provider="onnx", model=MINILM)
    assert f"Began the download of onnx:{MINILM}" in text(page)
    row = ModelAction.objects.get()
    assert (row.state, row.by) == ("running", "boss")
    part = console.get(URL, {"part": "actions"})
    assert "running" in text(part)
    assert "Cancel" in text(part)
    background.pop()()
    row.refresh_from_db()
    assert (row.state, row.finished_at is None) == ("done", False)
    assert "done" in text(console.get(URL, {"part": "actions"}))
    assert entries() == [("download", f"model onnx:{MINILM}")]


def test_page_looks_often_only_while_something_is_in_progress(console, background):
    def look(page):
        part = re.search(
            r'hx-get="([^"]*part=actions[^"]*)" hx-trigger="([^"]*)"', page
        )
        assert part is not None
        return unescape(part[1]), part[2]

    assert look(text(console.get(URL)))[1] == "every 20s"
    page = text(press(console, action="download", provider="onnx", model=MINILM))
    address, often = look(page)
    assert often == "every 2s"
    assert "#models" not in text(console.get(URL + address))
    background.pop()()
    page = text(console.get(URL + address))
    assert look(page)[1] == "every 20s"
    assert 'hx-select="#models"' in page  # shown again, since one is ready
    assert 'hx-select="#models"' not in text(console.get(URL + look(page)[0]))
    assert (
        console.get(URL, {"part": "actions", "since": "yesterday"}).status_code == 200
    )


def test_second_download_of_a_model_joins_the_first(console, background):
    for _ in range(2):
        page = press(console, action="download", provider="onnx", model=MINILM)
    assert "is under way already, begun by boss" in text(page)
    assert ModelAction.objects.count() == len(background) == 1


def test_failure_is_shown_in_words_and_hostile_ones_as_text(
    console, background, fakes, monkeypatch
):
    def fail(name):
        raise UnknownModel(f"There is no model {HOSTILE}.")

    monkeypatch.setattr(fakes["onnx"], "download", fail)
    press(console, action="download", provider="onnx", model=HOSTILE)
    with pytest.raises(ModelNotFound):
        background.pop()()
    part = text(console.get(URL, {"part": "actions"}))
    assert "failed" in part
    assert "There is no model &lt;img" in part
    assert HOSTILE not in part


def test_what_cannot_begin_says_why(console, background):
    page = press(console, action="download", provider="openai", model=SMALL)
    assert "there is nothing to download" in text(page)
    page = press(console, action="warm_up", provider="onnx", model="nope")
    assert "is not known to provider onnx" in text(page)
    assert not background
    assert not ModelAction.objects.exists()


def test_warm_up_that_fails_says_so(console, background, fakes):
    fakes["onnx"].fault = ProviderUnavailable("The engine is away.")
    press(console, action="warm_up", provider="onnx", model=MINILM)
    with pytest.raises(ModelActionFailed):
        background.pop()()
    assert "The engine is away." in text(console.get(URL, {"part": "actions"}))


def test_action_is_cancelled_with_an_audit_entry(console, background):
    press(console, action="download", provider="onnx", model=MINILM)
    page = press(
        console, action="cancel", kind="download", provider="onnx", model=MINILM
    )
    assert "stops within seconds" in text(page)
    assert ModelAction.objects.get().cancel_requested
    assert entries()[-1] == ("cancel download", f"model onnx:{MINILM}")
    ModelAction.objects.update(state="done")
    page = press(
        console, action="cancel", kind="download", provider="onnx", model=MINILM
    )
    assert "It was over already." in text(page)


def test_default_is_made_by_one_click(console):
    ModelEntry.objects.filter(name="only-onnx").update(is_default=True)
    reader.cache_clear()
    page = press(console, action="make_default", provider="openai", model=SMALL)
    assert f"now go to {SMALL}" in text(page)
    assert str(ModelEntry.objects.get(is_default=True)) == f"openai:{SMALL}"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.before, entry.after) == (
        "make default",
        {"default": "onnx:only-onnx"},
        {"default": f"openai:{SMALL}"},
    )


def test_model_without_an_entry_becomes_the_default_as_it_is(console):
    ModelEntry.objects.filter(name=SMALL).delete()
    reader.cache_clear()
    press(console, action="make_default", provider="openai", model=SMALL)
    row = ModelEntry.objects.get(is_default=True)
    assert (row.dimensions, row.vector_space) == (16, f"openai/{SMALL}")
    assert row.native_dimensions == {"minimum": 1, "maximum": 16}


def test_model_that_is_not_allowed_is_not_made_the_default(console):
    AllowlistEntry.objects.create(kind="model", pattern="only-*")
    reader.cache_clear()
    page = press(console, action="make_default", provider="openai", model=SMALL)
    assert "cannot be the default until it is allowed" in text(page)
    assert not ModelEntry.objects.filter(is_default=True).exists()


def test_second_default_in_the_form_is_refused_in_words(console):
    ModelEntry.objects.filter(name="only-onnx").update(is_default=True)
    row = ModelEntry.objects.get(name=SMALL)
    fields = {"provider": "openai", "name": SMALL, "vector_space": "x"}
    page = console.post(
        reverse("admin:providers_modelentry_change", args=[row.pk]),
        {**fields, "enabled": "on", "is_default": "on"},
    )
    assert "onnx:only-onnx is the default." in text(page)
    assert "one_default" not in text(page)


def test_form_takes_known_providers_only_and_shows_no_null(console):
    address = reverse("admin:providers_modelentry_add")
    fields = {"name": "m", "vector_space": "x", "enabled": "on"}
    page = console.post(address, {**fields, "provider": "nonsense"})
    assert "nonsense is not one of the available choices" in text(page)
    assert ">null<" not in text(console.get(address))
    row = ModelEntry.objects.get(name="only-onnx")
    shown = text(
        console.get(reverse("admin:providers_modelentry_change", args=[row.pk]))
    )
    assert ">null<" not in shown
    assert "None</textarea>" not in shown


def test_entry_of_a_provider_that_is_gone_can_still_be_saved(console):
    row = ModelEntry.objects.create(provider="gone", name="m", vector_space="x")
    address = reverse("admin:providers_modelentry_change", args=[row.pk])
    fields = {"provider": "gone", "name": "m", "vector_space": "y", "enabled": "on"}
    assert console.post(address, fields).status_code == 302


def test_form_for_a_model_without_an_entry_begins_with_what_is_known(console):
    ModelEntry.objects.filter(provider="onnx", name="only-onnx").delete()
    reader.cache_clear()
    page = text(console.get(URL, {"provider": "onnx", "q": "only"}))
    assert "provider=onnx&amp;name=only-onnx&amp;vector_space=only-onnx" in page


def test_who_may_only_look_sees_no_buttons_and_can_press_none(viewer):
    assert 'name="action"' not in text(viewer.get(URL))
    for action in ("download", "warm_up", "cancel", "make_default"):
        fields = {"action": action, "provider": "onnx", "model": MINILM}
        assert viewer.post(URL, fields).status_code == 403
    assert not ModelAction.objects.exists()


def test_page_takes_as_many_queries_for_many_models(
    console, django_assert_max_num_queries
):
    ModelEntry.objects.bulk_create(
        ModelEntry(provider="openai", name=f"m-{number}", vector_space="x")
        for number in range(300)
    )
    reader.cache_clear()
    console.get(URL)
    with django_assert_max_num_queries(16):
        assert len(states(console.get(URL))) > 300
    with django_assert_max_num_queries(10):
        console.get(URL, {"part": "actions"})


def test_what_a_models_card_says_is_shown_and_its_prompts_are_taken(console, fakes):
    page = text(console.get(URL, {"q": "only-onnx"}))
    for words in ("en, mit", "gated", "its card recommends others", "ask: "):
        assert words in page
    page = press(console, action="take_prompts", provider="onnx", model="only-onnx")
    assert "uses the prompts of its card now" in text(page)
    reader.cache_clear()
    spec = find_target(model="onnx:only-onnx").model
    assert (spec.query_prompt, spec.document_prompt) == ("ask: ", "")
    assert spec.vector_space.startswith("only-onnx#prompt-")
    entry = ModelEntry.objects.get(provider="onnx", name="only-onnx")
    assert (entry.query_prompt, entry.document_prompt) == ("ask: ", None)
    assert entries() == [("take recommended prompts", "model onnx:only-onnx")]
    page = press(console, action="take_prompts", provider="onnx", model="only-onnx")
    assert "uses the prompts of its card already" in text(page)
    page = press(console, action="take_prompts", provider="onnx", model="nope")
    assert "is not known to provider onnx" in text(page)


def test_what_a_model_takes_is_shown_before_it_is_fetched(console, fakes, monkeypatch):
    monkeypatch.setattr(fakes["onnx"], "downloaded", lambda model: False)
    monkeypatch.setattr(fakes["onnx"], "serving", lambda model: Serving())
    page = text(console.get(URL, {"q": "only-onnx"}))
    for takes in ("to fetch", "8.8\xa0KB of disk", "3.9\xa0KB of memory"):
        assert takes in page


def test_models_that_would_have_to_be_fetched_stand_apart(console, fakes, monkeypatch):
    monkeypatch.setattr(
        fakes["onnx"], "downloaded", lambda model: model.name != "only-onnx"
    )
    [group] = console.get(URL, {"provider": "onnx"}).context["groups"]
    assert [row[0].target.model.name for row in group.elsewhere] == ["only-onnx"]
    assert "only-onnx" not in [row[0].target.model.name for row in group.here]
    assert group.count == len(group.here) + 1
