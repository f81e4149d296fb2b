"""The console: keys shown once, every change audited, logins guarded."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from embeddings.access.api_keys import find_key
from embeddings.models import ApiKey, AuditEntry, LoginFailures, UserLimits
from providers.models import AllowlistEntry, Breaker, ModelEntry, ProviderSetting

PASSWORD = "correct horse battery"
LIMITS = {
    "requests_per_minute": "",
    "burst": "",
    "tokens_per_minute": "",
    "monthly_tokens": "",
    "monthly_cost_usd": "",
}


@pytest.fixture
def operator(make_user):
    return make_user("operator", is_staff=True, is_superuser=True)


@pytest.fixture
def console(operator):
    client = Client()
    client.force_login(operator)
    return client


def url(model, page, *args):
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)


def submit(console, address, **fields):
    """Post a form as the page would; return the answer. Fails if the form was refused."""
    response = console.post(address, {"_save": "Save", **fields}, follow=True)
    assert response.status_code == 200
    form = response.context.get("adminform")
    assert form is None or not form.errors, form.errors
    return response


def entries():
    return [
        (entry.actor, entry.action, entry.target.split()[0])
        for entry in AuditEntry.objects.order_by("pk")
    ]


def test_key_for_a_user_that_is_no_number_is_refused_in_words(console):
    answer = console.post(url(ApiKey, "add"), {**LIMITS, "user": "nobody'\"<"})
    assert answer.status_code == 200
    assert "This field is required." in answer.content.decode()


def test_key_is_shown_once_and_works(console, operator):
    fields = {
        **LIMITS,
        "user": operator.pk,
        "name": "ci",
        "allowed_providers": "ONNX, openai",
        "allowed_models": "text-*\nonly-onnx",
        "burst": "3",
    }
    answer = submit(console, url(ApiKey, "add"), **fields)
    found = re.search(r"sk-[0-9a-f]{12}[\w-]{43}", answer.content.decode())
    assert found is not None
    text = found[0]
    assert "no-store" in answer.headers["Cache-Control"]
    assert not answer.redirect_chain
    for cookie in (*console.cookies.values(), *answer.cookies.values()):
        assert cookie.key != "messages"
    row = find_key(text)
    assert row is not None
    assert row.allowed_providers == ["onnx", "openai"]
    assert row.allowed_models == ["text-*", "only-onnx"]
    assert row.burst == 3
    again = console.get(url(ApiKey, "changelist")).content.decode()
    assert text not in again
    assert row.prefix in again
    assert entries() == [("operator", "add", "API")]
    assert text[15:] not in str(AuditEntry.objects.values_list()[0])


def test_key_s_scopes_are_changed_but_not_its_owner(console, operator, ada, key_of):
    key_of(operator, allowed_models=["a"])
    row = ApiKey.objects.get()
    page = console.get(url(ApiKey, "change", row.pk)).content.decode()
    assert row.digest not in page
    fields = {**LIMITS, "name": "", "allowed_providers": "", "allowed_models": "a b"}
    submit(console, url(ApiKey, "change", row.pk), user=ada.pk, **fields)
    row.refresh_from_db()
    assert row.allowed_models == ["a", "b"]
    assert row.user == operator
    entry = AuditEntry.objects.get()
    assert entry.before == {"allowed_models": ["a"]}
    assert entry.after == {"allowed_models": ["a", "b"]}


def test_senseless_scope_is_a_form_error(console, operator):
    fields = {**LIMITS, "user": operator.pk, "allowed_models": "a*b"}
    response = console.post(url(ApiKey, "add"), fields)
    assert "exact names" in response.content.decode()
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_together(console, operator, key_of):
    text = key_of(operator)
    fields = {"action": "revoke_keys", "_selected_action": [ApiKey.objects.get().pk]}
    console.post(url(ApiKey, "changelist"), fields)
    row = find_key(text)
    assert row is not None
    assert row.status == "revoked"
    assert entries() == [("operator", "revoke", "API")]


def test_new_user_and_changed_rights_and_limits_are_audited(console):
    submit(
        console,
        url(User, "add"),
        username="eve",
        usable_password="true",
        password1=PASSWORD,
        password2=PASSWORD,
        **{f"limits-{n}_FORMS": v for n, v in (("TOTAL", 0), ("INITIAL", 0))},
    )
    eve = User.objects.get(username="eve")
    submit(
        console,
        url(User, "change", eve.pk),
        username="eve",
        is_active="on",
        is_staff="on",
        date_joined_0="2026-01-01",
        date_joined_1="00:00:00",
        **{f"limits-{n}_FORMS": v for n, v in (("TOTAL", 1), ("INITIAL", 0))},
        **{"limits-0-user": eve.pk, "limits-0-burst": "7"},
        **{"limits-0-max_documents": "0", "limits-0-max_stored_bytes": ""},
    )
    limits = UserLimits.objects.get()
    assert limits.burst == 7
    assert (limits.max_documents, limits.max_stored_bytes) == (0, None)
    added, changed = AuditEntry.objects.order_by("pk")
    assert added.after is not None
    assert added.after["username"] == "eve"
    assert added.after["password"] == "set"
    assert changed.before is not None
    assert changed.after is not None
    assert changed.before["is_staff"] is False
    assert changed.after["is_staff"] is True
    assert changed.before["limits"] is None
    assert changed.after["limits"]["burst"] == 7
    assert changed.after["limits"]["max_documents"] == 0


def test_changed_password_is_audited_without_it(console, ada):
    fields = {
        "usable_password": "true",
        "set-password": "1",
        "password1": "another horse battery",
        "password2": "another horse battery",
    }
    address = reverse("admin:auth_user_password_change", args=[ada.pk])
    console.post(address, fields)
    ada.refresh_from_db()
    assert ada.check_password("another horse battery")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.after) == ("change", {"password": "changed"})


def test_deletions_are_audited_one_by_one_and_together(console, ada, make_user):
    console.post(url(User, "delete", ada.pk), {"post": "yes"})
    others = [make_user(name).pk for name in ("eve", "mallory")]
    fields = {"action": "delete_selected", "_selected_action": others, "post": "yes"}
    console.post(url(User, "changelist"), fields)
    assert entries() == [("operator", "delete", "user")] * 3
    names = {(entry.before or {})["username"] for entry in AuditEntry.objects.all()}
    assert names == {"ada", "eve", "mallory"}


def test_providers_models_and_allowlist_are_audited(console):
    row = ProviderSetting.objects.create(name="onnx")
    submit(console, url(ProviderSetting, "change", row.pk), base_url="")
    submit(
        console,
        url(ModelEntry, "add"),
        provider="onnx",
        name="mine",
        enabled="on",
        vector_space="mine",
    )
    submit(console, url(AllowlistEntry, "add"), kind="model", pattern="x*")
    pattern = AllowlistEntry.objects.get()
    console.post(url(AllowlistEntry, "delete", pattern.pk), {"post": "yes"})
    assert entries() == [
        ("operator", "change", "provider"),
        ("operator", "add", "model"),
        ("operator", "add", "allowlist"),
        ("operator", "delete", "allowlist"),
    ]
    change = AuditEntry.objects.order_by("pk").first()
    assert change is not None
    assert (change.before, change.after) == ({"enabled": True}, {"enabled": False})


MODEL_FIELDS = {
    "provider": "onnx",
    "name": "prompted",
    "enabled": "on",
    "vector_space": "prompted",
}


def test_prompts_are_kept_as_they_were_typed_and_audited(console, fakes):
    row = ModelEntry.objects.create(
        provider="onnx", name="prompted", vector_space="prompted"
    )
    address = url(ModelEntry, "change", row.pk)
    page = console.get(address).content.decode()
    assert "the model's own (&#x27;search for: &#x27;)" in page
    prompt = " Instruct: find it\r\nQuery: "
    submit(console, address, **MODEL_FIELDS, query_prompt=prompt)
    row.refresh_from_db()
    assert row.query_prompt == " Instruct: find it\nQuery: "
    assert row.document_prompt is None
    entry = AuditEntry.objects.get()
    assert entry.before == {"query_prompt": None}
    assert entry.after == {"query_prompt": " Instruct: find it\nQuery: "}


def test_model_s_own_prompt_is_kept_away_by_a_tick_and_brought_back_without(console):
    row = ModelEntry.objects.create(
        provider="onnx", name="prompted", vector_space="prompted"
    )
    address = url(ModelEntry, "change", row.pk)
    submit(console, address, **MODEL_FIELDS, no_document_prompt="on")
    row.refresh_from_db()
    assert (row.query_prompt, row.document_prompt) == (None, "")
    form = console.get(address).context["adminform"].form
    assert form["no_document_prompt"].value() is True
    assert form["no_query_prompt"].value() is False
    submit(console, address, **MODEL_FIELDS)
    row.refresh_from_db()
    assert row.document_prompt is None


def test_who_may_only_look_sees_the_prompts(make_user):
    row = ModelEntry.objects.create(
        provider="onnx", name="m", vector_space="m", query_prompt="query: "
    )
    viewer = make_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_modelentry"))
    client = Client()
    client.force_login(viewer)
    page = client.get(url(ModelEntry, "change", row.pk))
    assert page.status_code == 200
    assert "query: " in page.content.decode()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"query_prompt": "q: ", "no_query_prompt": "on"}, "take the tick away"),
        ({"query_prompt": "  \r\n"}, "Give words"),
    ],
)
def test_senseless_prompt_is_a_form_error(console, fields, sentence):
    response = console.post(url(ModelEntry, "add"), {**MODEL_FIELDS, **fields})
    assert sentence in response.content.decode()
    assert not ModelEntry.objects.exists()


def test_prompt_of_a_plug_in_that_puts_none_before_texts_is_a_form_error(
    console, fakes, monkeypatch
):
    monkeypatch.setattr(type(fakes["onnx"]), "takes_prompts", False)
    fields = {**MODEL_FIELDS, "query_prompt": "query: "}
    response = console.post(url(ModelEntry, "add"), fields)
    assert "puts no prompts before texts" in response.content.decode()
    assert not ModelEntry.objects.exists()


def test_breaker_reset_is_audited(console):
    row = Breaker.objects.create(provider="openai", state="open", failure_count=5)
    fields = {"action": "reset_breakers", "_selected_action": [row.pk]}
    console.post(url(Breaker, "changelist"), fields)
    entry = AuditEntry.objects.get()
    assert entry.action == "reset"
    assert entry.before is not None
    assert entry.before["state"] == "open"


def test_change_that_changes_nothing_is_no_entry(console):
    row = ProviderSetting.objects.create(name="onnx")
    submit(console, url(ProviderSetting, "change", row.pk), base_url="", enabled="on")
    assert entries() == []


@pytest.fixture
def clerk(make_user):
    """A console of one who may change providers and is no superuser."""
    user = make_user("clerk", is_staff=True)
    user.user_permissions.add(
        Permission.objects.get(codename="change_providersetting"),
        Permission.objects.get(codename="view_providersetting"),
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def openai_row():
    return ProviderSetting.objects.create(name="openai", base_url="https://a.example")


def post_provider(console, row, **fields):
    """Change a provider's row as the page would; return the form's errors and the stored address."""
    response = console.post(url(ProviderSetting, "change", row.pk), fields)
    row.refresh_from_db()
    form = response.context["adminform"] if response.status_code == 200 else None
    return dict(form.errors) if form else {}, row.base_url


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/v1", "http://a.example", "https://a.example:8443", ""],
)
def test_address_of_a_provider_is_a_superuser_s_to_change(clerk, openai_row, address):
    errors, stored = post_provider(clerk, openai_row, base_url=address, enabled="on")
    assert "UPSTREAM_ALLOWED_HOSTS" in errors["base_url"][0]
    assert stored == "https://a.example"
    assert entries() == []


def test_all_else_of_a_provider_is_the_clerk_s_to_change(clerk, openai_row):
    errors, _ = post_provider(clerk, openai_row, base_url="https://a.example")
    assert not errors
    assert not openai_row.enabled


def test_host_that_the_operator_named_may_be_set_by_others(clerk, openai_row, settings):
    settings.UPSTREAM_ALLOWED_HOSTS = frozenset({"https://gateway.example:443"})
    address = "https://gateway.example/openai/v1"
    errors, stored = post_provider(clerk, openai_row, base_url=address)
    assert not errors
    assert stored == address
    errors, stored = post_provider(clerk, openai_row, base_url="http://gateway.example")
    assert "base_url" in errors
    assert stored == address


def test_change_of_an_address_is_audited_with_both(console, openai_row):
    errors, _ = post_provider(console, openai_row, base_url="https://b.example")
    assert not errors
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action) == ("operator", "change")
    assert entry.before is not None
    assert entry.after is not None
    assert entry.before["base_url"] == "https://a.example"
    assert entry.after["base_url"] == "https://b.example"


def test_audit_log_can_be_read_and_nothing_else(console, operator):
    AuditEntry.objects.create(
        source="api", actor="ada", action="clear", target="embedding cache"
    )
    row = AuditEntry.objects.get()
    listed = console.get(url(AuditEntry, "changelist")).content.decode()
    assert "embedding cache" in listed
    assert console.get(url(AuditEntry, "change", row.pk)).status_code == 200
    assert console.get(url(AuditEntry, "add")).status_code == 403
    assert console.post(url(AuditEntry, "change", row.pk), {}).status_code == 403
    assert console.post(url(AuditEntry, "delete", row.pk), {}).status_code == 403
    fields = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    console.post(url(AuditEntry, "changelist"), fields)
    assert AuditEntry.objects.count() == 1


def log_in(password, username="operator"):
    fields = {"username": username, "password": password, "next": "/admin/"}
    return Client().post(reverse("admin:login"), fields)


def test_login_is_guarded_against_guessing(operator):
    assert log_in(PASSWORD).status_code == 302
    for _ in range(5):
        page = log_in("wrong").content.decode()
        assert "Too many" not in page
    page = log_in(PASSWORD).content.decode()
    assert "Too many failed logins. Try again in 1 minute." in page


def test_users_who_are_no_staff_are_kept_out_and_counted(ada):
    assert log_in(PASSWORD, username="ada").status_code == 200
    assert LoginFailures.objects.exists()


def test_console_and_api_count_together(operator):
    for _ in range(5):
        log_in("wrong")
    body = {"username": "operator", "password": PASSWORD}
    response = Client().post(
        "/api/v1/auth/token", body, content_type="application/json"
    )
    assert response.status_code == 429
