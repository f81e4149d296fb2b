import pytest
from rest_framework.test import APIClient

from tests.conftest import KEY
from tests.fakes import MINILM

URL = "/api/v1/embeddings/models"


def get(**headers):
    return APIClient().get(URL, headers=headers)


@pytest.fixture(autouse=True)
def _fakes(fakes):
    pass


def test_right_key_is_let_in():
    assert get(**{"X-API-KEY": KEY}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-KEY": ""},
        {"X-API-KEY": KEY[:-1]},
        {"X-API-KEY": KEY + "x"},
        {"X-API-KEY": "schlüssel-schlüssel"},
        {"Authorization": f"Bearer {KEY}"},
        {"X-API-KEY": "wrong", "Authorization": f"Bearer {KEY}"},
    ],
)
def test_anything_else_is_401_with_a_challenge(headers):
    response = get(**headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"]
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in response.content.decode()


def test_authorization_alone_learns_what_to_add():
    detail = get(Authorization=f"Bearer {KEY}").json()["detail"]
    assert "default_headers" in detail


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": f"Bearer {KEY}"}, {"X-API-KEY": "wrong"}]
)
def test_refusal_names_both_ways_in(headers):
    detail = get(**headers).json()["detail"]
    assert "X-API-KEY" in detail
    assert "SINGLE_USER_ACCEPT_BEARER=true" in detail


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_refusal_asks_for_no_setting_that_is_on(configure, headers):
    configure(single_user_accept_bearer=True)
    detail = get(**headers).json()["detail"]
    assert "X-API-KEY" in detail
    assert "Authorization: Bearer" in detail
    assert "SINGLE_USER" not in detail


def test_placeholder_beside_the_key_spoils_nothing(configure):
    for other in ("Bearer EMPTY", "Bearer", "Basic YTpi", ""):
        headers = {"X-API-KEY": KEY, "Authorization": other}
        assert get(**headers).status_code == 200
    configure(single_user_accept_bearer=True)
    good = {"Authorization": f"Bearer {KEY}"}
    for other in ("EMPTY", "", KEY):
        assert get(**{"X-API-KEY": other, **good}).status_code == 200
    headers = {"X-API-KEY": KEY, "Authorization": "Bearer EMPTY"}
    assert get(**headers).status_code == 200


def test_same_header_twice_is_one(configure):
    assert get(**{"X-API-KEY": f"{KEY},{KEY}"}).status_code == 200
    assert get(**{"X-API-KEY": f"{KEY},wrong"}).status_code == 401
    configure(single_user_accept_bearer=True)
    twice = f"Bearer {KEY},Bearer {KEY}"
    assert get(Authorization=twice).status_code == 200


def test_key_with_a_comma_is_itself(configure):
    key = "same-words,same-words"
    configure(single_user_api_key=key)
    assert get(**{"X-API-KEY": key}).status_code == 200
    assert get(**{"X-API-KEY": "same-words"}).status_code == 401


def test_bearer_is_accepted_where_the_operator_opted_in(configure):
    configure(single_user_accept_bearer=True)
    assert get(Authorization=f"Bearer {KEY}").status_code == 200
    assert get(Authorization=f"bearer  {KEY} ").status_code == 200
    assert get(Authorization="Bearer wrong").status_code == 401
    assert get(Authorization=f"Basic {KEY}").status_code == 401


def test_key_in_the_query_string_is_not_read():
    assert APIClient().get(f"{URL}?api_key={KEY}").status_code == 401


def test_the_key_s_holder_is_the_admin(client):
    body = {"model": f"huggingface:{MINILM}"}
    assert client.post(f"{URL}/warmup", body, format="json").status_code == 200
