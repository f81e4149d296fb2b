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


def test_authorization_alone_is_told_what_to_add():
    detail = get(Authorization=f"Bearer {KEY}").json()["detail"]
    assert "X-API-KEY" in detail
    assert "default_headers" in detail


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
