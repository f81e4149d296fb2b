"""Staff who may only look: no page of the console offers them to change anything, and none lets them.

The pages come from the registries, so that new ones are tested too.
"""

import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from embeddings.console.page import _pages
from tests.media_jobs.console import page
from tests.media_jobs.rows import listed_models, make_row

NOT_DATA = {"sessions.Session", "admin.LogEntry"}
MODELS = [model._meta.label for model in listed_models()]
ACTIONS = [
    (model._meta.label, name)
    for model in listed_models()
    for name in {
        "delete_selected",
        *map(str, admin.site._registry[model].actions or ()),
    }
]
PAGES = {one.name(): one for one in _pages}
PRESSES = [(name, done) for name, one in PAGES.items() for done in one.actions()]


def everything():
    """Return all that the database holds, but for who is logged in."""
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list()))
        for model in apps.get_models()
        if model._meta.label not in NOT_DATA
    }


@pytest.fixture
def viewer(console, fakes):
    return console("viewer")


@pytest.mark.parametrize("label", MODELS)
def test_lists_and_rows_show_no_button(viewer, label):
    model = apps.get_model(label)
    row = make_row(model, "a row")
    for address in (page(model), page(model, "change", row.pk)):
        response = viewer.get(address, follow=True)
        assert response.status_code == 200
        content = response.content.decode()
        offered = set(re.findall(r'<select name="action"|name="_\w+"|/add/"', content))
        assert not offered - {'name="_popup"'}
        assert f"{row.pk}/delete/" not in content


@pytest.mark.parametrize("label", MODELS)
def test_forms_of_rows_are_refused(viewer, label):
    model = apps.get_model(label)
    row = make_row(model, "a row")
    before = everything()
    for address in (
        page(model, "add"),
        page(model, "change", row.pk),
        page(model, "delete", row.pk),
    ):
        # Or led to a page that shows the row.
        assert viewer.post(address, {"post": "yes"}).status_code in (302, 403)
    assert everything() == before


@pytest.mark.parametrize(("label", "action"), ACTIONS)
def test_actions_of_lists_change_nothing(viewer, label, action):
    model = apps.get_model(label)
    row = make_row(model, "a row")
    before = everything()
    form = {"action": action, "_selected_action": [row.pk], "post": "yes"}
    viewer.post(page(model), form)
    assert everything() == before


@pytest.mark.parametrize(
    "name", [n for n, one in PAGES.items() if "<" not in one.route]
)
def test_pages_show_no_button(viewer, name):
    response = viewer.get(f"/admin/{PAGES[name].route}")
    looks = all(".view_" in needed for needed in PAGES[name].needs)
    assert response.status_code == (200 if looks else 403)
    content = response.content.decode()
    for action in PAGES[name].actions():
        assert f'name="action" value="{action}"' not in content


@pytest.mark.parametrize(("name", "action"), PRESSES)
def test_actions_of_pages_are_refused(people, fakes, name, action):
    shown = PAGES[name]
    request = RequestFactory().post("/", {"action": action})
    request.user = people["viewer"]
    names = re.findall(r"<(?:\w+:)?(\w+)>", shown.route)
    before = everything()
    with pytest.raises(PermissionDenied):
        shown.as_view()(request, **dict.fromkeys(names, "1"))
    assert everything() == before
