"""Which admin may do what over the API: the same as in the console, act by act."""

import pytest

from embeddings.models import ApiKey
from media_jobs.models import Job, MediaItem
from tests.embeddings.multi_user import bearer, refused
from tests.embeddings.staff import WHO, give
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA

API = "/api/v1"
MODEL = {"model": f"huggingface:{MINILM}"}

# What each of WHO is answered: boss, full, viewer, keyman, plain. {item}, {job}, {key}: what another plain user has.
ACTS = [
    ("get", "/embeddings/providers-config", None, (200, 200, 200, 403, 403)),
    ("get", "/embeddings/circuit-breakers", None, (200, 200, 200, 403, 403)),
    ("get", "/embeddings/metrics", None, (200, 200, 200, 403, 403)),
    ("get", "/usage?caller=user:1", None, (200, 200, 200, 403, 403)),
    ("get", "/auth/keys?user=ada", None, (200, 200, 200, 403, 403)),
    ("get", "/media/{item}", None, (200, 200, 200, 404, 404)),
    ("get", "/media/{item}/embeddings/status", None, (200, 200, 200, 404, 404)),
    ("get", "/media/embeddings/jobs/{job}", None, (200, 200, 200, 404, 404)),
    (
        "post",
        "/embeddings/circuit-breakers/openai/reset",
        None,
        (200, 200, 403, 403, 403),
    ),
    ("post", "/embeddings/models/warmup", MODEL, (200, 200, 403, 403, 403)),
    ("post", "/embeddings/models/download", MODEL, (200, 200, 403, 403, 403)),
    ("delete", "/embeddings/cache", None, (200, 200, 403, 403, 403)),
    ("post", "/auth/keys?user=ada", {}, (201, 201, 403, 201, 403)),
    ("post", "/auth/keys", {"limits": {"burst": 9}}, (201, 201, 403, 201, 403)),
    ("post", "/auth/keys", {}, (201, 201, 201, 201, 201)),
    ("delete", "/auth/keys/{key}", None, (200, 200, 403, 404, 404)),
    ("patch", "/media/{item}", {"title": "x"}, (200, 200, 403, 404, 404)),
    ("post", "/media/{item}/embeddings", {}, (202, 202, 403, 404, 404)),
    (
        "post",
        "/media/embeddings/batch",
        {"media_ids": ["{item}"]},
        (202, 202, 403, 404, 404),
    ),
    ("delete", "/media/{item}/embeddings", None, (200, 200, 403, 404, 404)),
    ("post", "/media/embeddings/jobs/{job}/cancel", None, (200, 200, 403, 404, 404)),
    ("delete", "/media/{item}", None, (200, 200, 403, 404, 404)),
    ("post", "/media", {"title": "x", "content": "y"}, (201, 201, 201, 201, 201)),
]


@pytest.fixture
def things(people, ada, client_of, key_of):
    """What ada has: a document, the job that embeds it, a key."""
    own = client_of(ada)
    body = {"title": "On cats", "content": "The cat sat on the mat."}
    item = own.post(MEDIA, body, format="json").json()["media_id"]
    body = {"embedding_model": f"onnx:{MINILM}"}
    job = own.post(f"{MEDIA}/{item}/embeddings", body, format="json").json()
    key_of(ada)
    return {"item": item, "job": job["job_id"], "key": ApiKey.objects.get().pk}


def do(client, method, path, body, things):
    if body and "media_ids" in body:
        body = {**body, "media_ids": [things["item"]]}
    call = getattr(client, method)
    return call(API + path.format(**things), body, format="json")


@pytest.mark.parametrize("number", range(len(WHO)), ids=WHO)
@pytest.mark.parametrize(
    ("method", "path", "body", "statuses"), ACTS, ids=[f"{a[0]} {a[1]}" for a in ACTS]
)
def test_act_is_for_whom_the_console_lets_do_it(
    people, things, client_of, key_of, number, method, path, body, statuses
):
    user = people[WHO[number]]
    response = do(client_of(user), method, path, body, things)
    assert response.status_code == statuses[number], response.content
    if response.status_code == 403:
        assert "permission" in response.json()["detail"]


@pytest.mark.parametrize("who", ["viewer", "keyman", "plain"])
def test_nothing_changes_for_who_may_not_change_it(people, things, client_of, who):
    for method, path, body, statuses in ACTS:
        if statuses[WHO.index(who)] in (403, 404):
            do(client_of(people[who]), method, path, body, things)
    item = MediaItem.objects.get(pk=things["item"])
    assert item.title == "On cats"
    assert Job.objects.get().status == "queued"
    assert ApiKey.objects.get().status == "active"


def test_permission_to_act_without_the_one_to_look(people, things, client_of):
    """As in Django's admin, who may change may look; who may only delete cannot find it."""
    keyman = client_of(people["keyman"])
    give(people["keyman"], "delete_mediaitem")
    assert do(keyman, "get", "/media/{item}", None, things).status_code == 404
    give(people["keyman"], "change_mediaitem")
    assert do(keyman, "get", "/media/{item}", None, things).status_code == 200
    assert do(keyman, "delete", "/media/{item}", None, things).status_code == 200


def test_permissions_count_for_staff_alone_and_from_the_next_look_on(
    people, client_of, key_of
):
    plain, url = people["plain"], f"{API}/embeddings/circuit-breakers"
    give(plain, "view_breaker")
    for client in (client_of(plain), client_of(plain)):
        assert client.get(url).status_code == 403
    plain.is_staff = True
    plain.save()
    key = bearer(key_of(plain))
    assert client_of(plain).get(url).status_code == 200
    assert client_of(plain).get(url, headers=key).status_code == 200
    plain.user_permissions.clear()
    assert client_of(plain).get(url).status_code == 403
    assert client_of(plain).get(url, headers=key).status_code == 403
    plain.groups.add(people["full"].groups.get())
    assert client_of(plain).get(url, headers=key).status_code == 200
    people["full"].groups.get().permissions.clear()
    assert client_of(plain).get(url, headers=key).status_code == 403


@pytest.mark.parametrize(
    "narrow", [{"allowed_models": ["*"]}, {"read_only_media": True}]
)
def test_narrowed_key_of_staff_has_no_permissions(
    people, things, client_of, key_of, narrow
):
    client = client_of(people["full"])
    headers = bearer(key_of(people["full"], **narrow))
    for path in ("/embeddings/circuit-breakers", f"/media/{things['item']}"):
        response = client.get(API + path, headers=headers)
        assert response.status_code in (403, 404)


def test_nobody_makes_or_revokes_keys_of_who_has_more_rights(people, client_of, key_of):
    for maker, owner in (("full", "boss"), ("keyman", "full"), ("keyman", "viewer")):
        response = client_of(people[maker]).post(
            f"{API}/auth/keys?user={people[owner].username}", {}, format="json"
        )
        assert "permissions that you lack" in refused(response, 403)
    assert not ApiKey.objects.exists()
    key_of(people["boss"])
    key = ApiKey.objects.get()
    response = client_of(people["full"]).delete(f"{API}/auth/keys/{key.pk}")
    assert "permissions that you lack" in refused(response, 403)
    key.refresh_from_db()
    assert key.status == "active"


def test_rights_that_sleep_count_too(people, client_of):
    """A user who is no staff, or off, may be made so: then a key made before would have its rights."""
    for off in ({"is_staff": False}, {"is_active": False}):
        for name in ("boss", "viewer"):
            for field, value in off.items():
                setattr(people[name], field, value)
            people[name].save()
            response = client_of(people["keyman"]).post(
                f"{API}/auth/keys?user={name}", {}, format="json"
            )
            assert response.status_code == 403


def test_staff_cost_no_query_more(
    people, client_of, django_assert_num_queries, monkeypatch
):
    viewer = client_of(people["viewer"])
    url = f"{API}/models"
    assert viewer.get(url).status_code == 200
    monkeypatch.setattr("embeddings.access.row_memory.FRESH_SECONDS", 60.0)
    viewer.get(url)
    with django_assert_num_queries(0):
        assert viewer.get(url).status_code == 200
