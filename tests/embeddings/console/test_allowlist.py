"""The allowlist: what an entry lets through is shown before it is saved, with what an operator hardly wants."""

import pytest
from django.test import Client
from django.urls import reverse

from providers.models import AllowlistEntry, ModelEntry
from providers.operator_settings import reader
from tests.fakes import MINILM

LIST = "/admin/providers/allowlistentry/"
SMALL = "text-embedding-3-small"


def previewed(client, kind, pattern, entry=""):
    fields = {"kind": kind, "pattern": pattern, "entry": entry}
    return client.get(f"{LIST}preview/", fields).content.decode()


def test_empty_list_says_that_everything_is_allowed(console):
    page = console.get(LIST).content.decode()
    assert "There is no entry: everything is allowed." in page


def test_preview_names_what_an_entry_lets_through(console, fakes):
    fakes["openai"].problem = None
    shown = previewed(console, "model", "openai:text-embedding-*")
    total = ModelEntry.objects.count()
    assert f"<strong>2 of {total}</strong>" in shown
    assert f"openai:{SMALL}" in shown
    assert "notice bad" not in shown
    assert not AllowlistEntry.objects.exists()


def test_entry_that_is_changed_counts_in_its_place(console, fakes):
    fakes["openai"].problem = None
    row = AllowlistEntry.objects.create(kind="model", pattern="only-onnx")
    other = AllowlistEntry.objects.create(kind="model", pattern=SMALL)
    assert "<strong>1 of" in previewed(console, "model", SMALL, entry=str(row.pk))
    # Of both local providers, beside what the other entry lets through.
    assert "<strong>3 of" in previewed(console, "model", MINILM, entry=str(other.pk))


def test_default_model_that_is_shut_out_is_warned_of(console):
    assert f"The default model {SMALL} is shut out" in previewed(
        console, "provider", "onnx"
    )


def test_list_that_leaves_nothing_ready_is_warned_of(console):
    shown = previewed(console, "provider", "openai")  # it has no key
    assert "Nothing that is let through is set up" in shown
    assert "is shut out" not in shown


@pytest.mark.parametrize(
    ("kind", "pattern", "meant"),
    [
        ("provider", "openia", "openai"),
        ("model", f"OpenAI:{SMALL}", f"openai:{SMALL}"),
        ("model", "text-embeding-3-small", SMALL),
    ],
)
def test_pattern_that_matches_nothing_is_warned_of(console, kind, pattern, meant):
    shown = previewed(console, kind, pattern)
    assert f"No known {kind} is like {pattern}. Did you mean {meant}?" in shown


def test_provider_in_another_case_is_the_provider(console):
    shown = previewed(console, "provider", "OpenAI")
    assert "No known" not in shown
    assert "2 of them by this entry" in shown


def test_hostile_pattern_is_text(console):
    assert "<script>" not in previewed(console, "model", "<script>alert(1)</script>")


def test_saving_and_deleting_warn_of_what_the_list_shuts_out(console):
    fields = {"kind": "provider", "pattern": "onnx"}
    page = console.post(f"{LIST}add/", fields, follow=True).content.decode()
    assert "is shut out" in page
    AllowlistEntry.objects.create(kind="provider", pattern="openai")
    reader.cache_clear()
    row = AllowlistEntry.objects.get(pattern="openai")
    address = reverse("admin:providers_allowlistentry_delete", args=[row.pk])
    page = console.post(address, {"post": "yes"}, follow=True).content.decode()
    assert "is shut out" in page


def test_form_asks_for_the_preview(console):
    page = console.get(f"{LIST}add/").content.decode()
    assert "preview/?entry=" in page


def test_who_may_only_look_sees_what_is_let_through(viewer):
    assert "everything is allowed" in viewer.get(LIST).content.decode()
    AllowlistEntry.objects.create(kind="provider", pattern="onnx")
    assert "models are let through" in viewer.get(LIST).content.decode()


def test_strangers_see_no_preview(seeded):
    assert Client().get(f"{LIST}preview/").status_code == 302
