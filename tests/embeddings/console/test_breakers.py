"""The circuit breakers' rows: states as lights, nothing to save, reset by a button."""

from django.urls import reverse

from providers import breaker
from providers.models import Breaker, BreakerChange


def opened():
    row = Breaker.objects.get(provider="onnx")
    Breaker.objects.filter(pk=row.pk).update(state="open", last_error="Down.")
    BreakerChange.objects.create(
        provider="onnx", from_state="closed", to_state="open", reason="Down."
    )
    return reverse("admin:providers_breaker_change", args=[row.pk])


def test_row_shows_its_story_and_a_reset_but_nothing_to_save(console):
    page = console.get(opened()).content.decode()
    assert "Close (reset)" in page
    assert "Down." in page
    assert 'name="_save"' not in page
    assert 'name="_continue"' not in page


def test_closed_one_has_nothing_to_reset(console):
    row = Breaker.objects.get(provider="openai")
    page = console.get(reverse("admin:providers_breaker_change", args=[row.pk]))
    assert "Close (reset)" not in page.content.decode()


def test_who_may_only_look_sees_the_story_without_the_button(viewer):
    page = viewer.get(opened()).content.decode()
    assert "Down." in page
    assert "Close (reset)" not in page


def test_reset_from_the_list_is_noted_with_who_did_it(console):
    opened()
    row = Breaker.objects.get(provider="onnx")
    fields = {"action": "reset_breakers", "_selected_action": [row.pk]}
    console.post(reverse("admin:providers_breaker_changelist"), fields)
    assert breaker.refusal("onnx") is None
    newest = BreakerChange.objects.first()
    assert newest is not None
    assert newest.reason == "Reset by boss."


def test_states_are_words_with_a_colour(console):
    opened()
    page = console.get(reverse("admin:providers_breaker_changelist")).content.decode()
    for colour in ("bg-red", "bg-green"):
        assert colour in page
