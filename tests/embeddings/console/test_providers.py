"""The page of providers: only what works looks like it, a test is real, everything that changes is audited."""

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from prometheus_client import REGISTRY

from embeddings.models import AuditEntry, UsageHour
from embeddings.services.pool_states import show_pools
from providers.base import ModelSpec
from providers.canary import address_key
from providers.exceptions import ProviderUnavailable
from providers.models import (
    AllowlistEntry,
    Breaker,
    BreakerChange,
    ModelEntry,
    ProviderSetting,
    ProviderTest,
    RemoteSpace,
    Revision,
)
from providers.operator_settings import reader
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import MINILM

URL = "/admin/gateway/providers/"
HOSTILE = "<script>alert(1)</script>"


def verdicts(client):
    """Return what each card says: word and tone."""
    shown = client.get(URL).context["providers"]
    return {one.state.name: (one.verdict.word, one.verdict.tone) for one in shown}


def press(client, **fields):
    return client.post(URL, fields, follow=True)


def test_only_what_was_seen_to_work_looks_like_it(console, fakes):
    words = verdicts(console)
    assert words["openai"] == ("not set up", "warn")
    assert words["onnx"] == ("not tried yet", "")
    press(console, action="test", provider="onnx")
    assert verdicts(console)["onnx"] == ("works", "good")


def test_failed_test_shows_in_words_and_is_kept(console, fakes):
    fakes["onnx"].fault = ProviderUnavailable(f"No answer {HOSTILE}.")
    page = press(console, action="test", provider="onnx")
    assert "onnx failed its test" in page.content.decode()
    assert HOSTILE not in page.content.decode()
    assert verdicts(console)["onnx"] == ("failed its test", "bad")
    kept = ProviderTest.objects.get()
    assert (kept.provider, kept.model, kept.ok, kept.by) == (
        "onnx",
        MINILM,
        False,
        "boss",
    )


def test_a_test_asks_the_provider_itself_and_leaves_the_breaker_alone(console, fakes):
    Breaker.objects.filter(provider="onnx").update(state="open")
    for _ in range(2):
        press(console, action="test", provider="onnx", model="only-onnx")
    assert len(fakes["onnx"].calls) == 2
    assert Breaker.objects.get(provider="onnx").state == "open"
    done = ProviderTest.objects.first()
    assert done is not None
    assert (done.model, done.ok, done.dimensions) == ("only-onnx", True, 8)
    assert done.milliseconds is not None
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.actor, entry.action, entry.target) == (
        "boss",
        "test",
        "provider onnx",
    )


def test_what_is_not_set_up_is_not_called(console, fakes):
    page = press(console, action="test", provider="openai").content.decode()
    assert "OPENAI_API_KEY is not set" in page
    assert not fakes["openai"].calls
    assert ProviderTest.objects.get().milliseconds is None


def test_provider_without_a_list_is_tried_with_what_it_answered_last(console, fakes):
    fakes["onnx"].specs = ()
    ModelEntry.objects.filter(provider="onnx").delete()
    reader.cache_clear()
    registry().list_again()
    page = press(console, action="test", provider="onnx").content.decode()
    assert "name one" in page
    assert verdicts(console)["onnx"] == ("not tried yet", "")
    spec = ModelSpec(name="m", dimensions=8, max_tokens=9, vector_space="m")
    fakes["onnx"].resolve = lambda name: spec
    UsageHour.objects.create(
        caller="user:1", hour=timezone.now(), provider="onnx", model="m", requests=1
    )
    press(console, action="test", provider="onnx")
    assert ProviderTest.objects.filter(model="m", ok=True).exists()


def test_plug_in_that_breaks_in_a_test_is_a_sentence(console, fakes):
    fakes["onnx"].fault = ZeroDivisionError("secret")
    page = press(console, action="test", provider="onnx").content.decode()
    assert "The plug-in failed (ZeroDivisionError)" in page
    assert "secret" not in page


def test_provider_is_switched_off_and_on_with_an_audit_entry(console):
    press(console, action="switch", provider="onnx")
    reader.cache_clear()
    assert verdicts(console)["onnx"] == ("switched off", "")
    press(console, action="switch", provider="onnx", enabled="on")
    reader.cache_clear()
    assert verdicts(console)["onnx"][0] != "switched off"
    first, second = AuditEntry.objects.order_by("pk")
    assert (first.before, first.after) == ({"enabled": True}, {"enabled": False})
    assert second.after == {"enabled": True}


def test_provider_that_the_allowlist_leaves_out_says_so(console):
    AllowlistEntry.objects.create(kind="provider", pattern="openai")
    reader.cache_clear()
    assert verdicts(console)["onnx"] == ("not allowed", "")


def test_open_breaker_shows_its_story_and_is_reset(console):
    Breaker.objects.filter(provider="onnx").update(state="open", last_error="Down.")
    BreakerChange.objects.create(
        provider="onnx", from_state="closed", to_state="open", reason=HOSTILE
    )
    assert verdicts(console)["onnx"] == ("failing", "bad")
    page = console.get(f"{URL}onnx/").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert HOSTILE not in page
    press(console, action="reset", provider="onnx")
    assert Breaker.objects.get(provider="onnx").state == "closed"
    assert "Reset by boss." in console.get(f"{URL}onnx/").content.decode()
    assert AuditEntry.objects.get().action == "reset"


def test_today_s_use_is_on_the_card(console):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    UsageHour.objects.create(
        caller="user:1", hour=hour, provider="onnx", model="m", requests=7, errors=2
    )
    assert "7 requests, 2 errors" in console.get(URL).content.decode()


def test_key_shows_its_last_four_characters_only(console, settings):
    key = "sk-0123456789abcdef-WXYZ"
    settings.PROVIDERS = {**settings.PROVIDERS, "openai": {"api_key": key}}
    page = console.get(URL).content.decode()
    assert "…WXYZ" in page
    assert key not in page


def test_short_key_is_not_given_away(console, settings):
    settings.PROVIDERS = {**settings.PROVIDERS, "openai": {"api_key": "short-WXYZ"}}
    page = console.get(URL).content.decode()
    assert "OPENAI_API_KEY: set" in page
    assert "WXYZ" not in page


def test_who_may_only_look_sees_no_buttons_and_can_press_none(viewer):
    page = viewer.get(URL).content.decode()
    assert 'name="action"' not in page
    assert viewer.get(f"{URL}onnx/").status_code == 200
    for action in ("test", "switch", "reset"):
        answer = viewer.post(URL, {"action": action, "provider": "onnx"})
        assert answer.status_code == 403
    assert not ProviderTest.objects.exists()


def test_unknown_provider_is_not_found_and_cannot_be_pressed(console):
    assert console.get(f"{URL}nope/").status_code == 404
    for action in ("test", "switch", "reset"):
        page = press(console, action=action, provider="nope")
        assert page.status_code == 200


def test_page_takes_as_many_queries_for_many_providers(
    console, django_assert_max_num_queries
):
    for number in range(20):
        ProviderSetting.objects.create(
            name=f"up-{number}", kind="openai", base_url="https://up.example/v1"
        )
    reader.cache_clear()
    console.get(URL)
    with django_assert_max_num_queries(20):
        assert len(console.get(URL).context["providers"]) == 28


def test_deleting_a_provider_names_what_goes_with_it(console):
    row = ProviderSetting.objects.create(name="eu", kind="openai")
    ModelEntry.objects.create(provider="eu", name="its-model", vector_space="x")
    Breaker.objects.create(provider="eu")
    page = console.get(
        reverse("admin:providers_providersetting_delete", args=[row.pk])
    ).content.decode()
    assert "eu:its-model" in page
    assert "Circuit breaker" in page


def test_form_calls_the_address_an_address(console):
    page = console.get(reverse("admin:providers_providersetting_add"))
    assert "Address" in page.content.decode()
    assert "Base url" not in page.content.decode()


@pytest.mark.parametrize("name", ["providers", "models", "routing"])
def test_pages_of_the_gateway_are_in_the_menu(console, name):
    assert reverse(f"console:{name}") in console.get("/admin/").content.decode()


@pytest.fixture
def pool(fakes, settings):
    """`local_api` with two members: one that gives its vectors of model m, one whose check failed."""
    settings.EMBEDDINGS_CANARY = True
    seed_registry(allowed_providers=[], allowed_models=[])
    row = {"kind": "local_api", "pool": "local_api", "base_url": "http://a.example"}
    for name in ("twin", "dead"):
        ProviderSetting.objects.create(name=name, **row)
        Breaker.objects.create(provider=name)
    reader.cache_clear()
    for provider in map(registry().get, ("local_api", "twin", "dead")):
        assert provider is not None
        fields: dict[str, Any] = {"provider": provider.name, "model": "m"}
        fields["dimensions"] = 8
        if provider.name != "local_api":
            fields["pool"] = "local_api"
        if provider.name == "dead":
            fields |= {"dimensions": None, "last_error": f"No {HOSTILE} there."}
        address = address_key(provider.address())
        RemoteSpace.objects.create(address=address, **fields)
    Revision.bump()
    reader.cache_clear()


@pytest.mark.parametrize("page", ["provider", "breaker"])
def test_members_of_a_pool_are_shown_with_what_keeps_them_out(console, pool, page):
    row = Breaker.objects.get(provider="twin")
    url = {
        "provider": f"{URL}local_api/",
        "breaker": reverse("admin:providers_breaker_change", args=[row.pk]),
    }[page]
    answer = console.get(url)
    shown = answer.context
    members = shown["one"].state.members if page == "provider" else shown["members"]
    found = {one.name: [each.problem for each in one.models] for one in members}
    assert found["local_api"] == found["twin"] == [None]
    assert found["dead"] == [
        f"Its vectors have not been compared with the pool's yet. No {HOSTILE} there."
    ]
    assert HOSTILE not in answer.content.decode()
    assert "have not been compared" in answer.content.decode()


def test_card_of_a_member_names_its_pool(console, pool):
    page = console.get(URL).content.decode()
    assert page.count("In the pool of") == 2


def test_member_that_is_switched_off_says_so(console, pool):
    press(console, action="switch", provider="twin")
    reader.cache_clear()
    (one,) = (
        member
        for member in console.get(f"{URL}local_api/").context["one"].state.members
        if member.name == "twin"
    )
    assert one.problem == "twin is switched off, or the allowlist leaves it out."


def test_providers_config_has_the_members(client, pool):
    report = client.get("/api/v1/embeddings/providers-config").json()["providers"]
    rows = {one["name"]: one for one in report}
    assert [one["name"] for one in rows["local_api"]["members"]] == [
        "local_api",
        "dead",
        "twin",
    ]
    assert rows["twin"]["pool"] == "local_api"
    assert rows["openai"]["pool"] is None
    assert rows["openai"]["members"] == []


def test_prometheus_shows_who_is_admitted(pool):
    show_pools()
    for member, admitted in (("twin", 1), ("dead", 0)):
        labels = {"pool": "local_api", "member": member, "model": "other"}
        assert REGISTRY.get_sample_value("embedding_pool_admitted", labels) == admitted
