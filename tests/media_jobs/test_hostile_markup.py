"""Markup, scripts and template syntax in any text that a row may hold are shown as they are, and are nothing more."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.urls import reverse

from embeddings.console.page import _pages
from embeddings.models import AuditEntry
from tests.media_jobs.console import page
from tests.media_jobs.rows import listed_models, make_row

HOSTILE = """<script>w()</script>"><img src=x onerror=w()>'{{ 7|add:70 }}{% now "Y" %}</textarea>"""
MODELS = [model._meta.label for model in listed_models()]


@pytest.fixture
def boss(console, fakes):
    return console("boss")


def shown(browser, address):
    """Return the page, in which nothing of the hostile text is markup."""
    response = browser.get(address, follow=True)
    assert response.status_code == 200, address
    content: str = response.content.decode()
    assert "<script>w" not in content
    assert "<img src=x" not in content
    assert "'77" not in content
    return content


@pytest.mark.parametrize("label", MODELS)
def test_rows_show_hostile_text_as_text(boss, label):
    model = apps.get_model(label)
    row = make_row(model, HOSTILE)
    rows = admin.site._registry[model]
    shown(boss, page(model))
    shown(boss, f"{page(model)}?q=%3Cscript%3Ew()")
    shown(boss, page(model, "change", row.pk))
    if rows.has_delete_permission(boss.get("/admin/").wsgi_request, row):
        shown(boss, page(model, "delete", row.pk))
    shown(boss, page(model, "history", row.pk))


def test_pages_show_hostile_text_as_text(boss):
    for model in listed_models():
        make_row(model, HOSTILE)
    for one in _pages:
        if "<" not in one.route:
            shown(boss, reverse(f"console:{one.name()}"))


def test_refused_form_shows_hostile_text_as_text(boss):
    for model in listed_models():
        row = make_row(model, HOSTILE)
        fields = {
            field.name: HOSTILE
            for field in model._meta.concrete_fields
            if not field.is_relation
        }
        for address in (page(model, "change", row.pk), page(model, "add")):
            response = boss.post(address, fields)
            content = response.content.decode()
            assert "<script>w" not in content, address
            assert "<img src=x" not in content, address
    assert AuditEntry.objects.exists()
