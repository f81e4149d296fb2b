"""What clients send that write out all they know: null for what is not set, marks and other servers' words."""

import json
from typing import Any

import pytest

from embeddings.api.serializers import (
    BatchRequestSerializer,
    EmbeddingRequestSerializer,
    ModelActionSerializer,
)
from embeddings.api.views.credentials import NewKeySerializer
from media_jobs.api.media_serializers import (
    ItemChangesSerializer,
    JobBatchSerializer,
    JobSerializer,
    NewItemSerializer,
)
from media_jobs.api.search_views import SearchSerializer
from tests.embeddings.multi_user import bearer, signed
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
MODEL = f"onnx:{MINILM}"
PROMPTED = "onnx:prompted"

REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    (EmbeddingRequestSerializer, {"input": ["a"], "model": MODEL}),
    (BatchRequestSerializer, {"texts": ["a"]}),
    (ModelActionSerializer, {"model": MODEL}),
    (NewItemSerializer, {"title": "a", "content": "b"}),
    (ItemChangesSerializer, {"title": "a"}),
    (JobSerializer, {}),
    (JobBatchSerializer, {"media_ids": [1]}),
    (SearchSerializer, {"query": "a"}),
    (NewKeySerializer, {}),
]


@pytest.mark.parametrize(("serializer", "body"), REQUESTS)
def test_null_in_an_optional_field_is_a_field_that_was_not_sent(serializer, body):
    optional = serializer().fields.keys() - body.keys()
    assert optional
    given = serializer().run_validation({**body, **dict.fromkeys(optional)})
    assert given == serializer().run_validation(body)


@pytest.mark.parametrize(
    ("serializer", "body"),
    [one for one in REQUESTS if one[1] and "title" not in one[1]],
)
def test_null_in_a_required_field_is_refused(serializer, body):
    for name in body:
        checked = serializer(data={**body, name: None})
        assert not checked.is_valid()
        assert [*checked.errors] == [name]


def test_null_in_a_filter_or_limit_is_not_sent_either():
    search = SearchSerializer().run_validation(
        {"query": "a", "filters": {"title": None, "metadata": {"a": None}}}
    )
    assert search["filters"] == {"metadata": {"a": None}}  # there, null is a value
    key = NewKeySerializer().run_validation({"limits": {"burst": None}})
    assert key["limits"] == {}


def test_null_in_a_field_that_there_is_not_is_refused_and_named(post):
    response = post({"input": "a", "model": MODEL, "colour": None})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "colour"


def test_item_of_the_input_that_is_null_is_refused(post):
    response = post({"input": ["a", None], "model": MODEL})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input[1]"


def test_nulls_of_every_kind_are_answered(post):
    nulls = dict.fromkeys(("encoding_format", "dimensions", "user", "input_type"))
    response = post({"input": "a", "model": MODEL, **nulls})
    assert response.status_code == 200
    assert isinstance(response.json()["data"][0]["embedding"], list)


def test_key_with_nulls_is_one_of_a_user_who_set_no_limits(client_of, ada):
    body = {"name": None, "expires_in_days": None, "limits": None}
    made = client_of(ada).post("/api/v1/auth/keys", body, format="json")
    assert made.status_code == 201, made.content


def test_document_of_the_api_says_where_null_may_stand(client, fakes):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    properties = schemas["EmbeddingRequest"]["properties"]
    assert properties["dimensions"]["nullable"]
    assert "nullable" not in properties["model"]


def test_byte_order_mark_before_the_body_is_skipped(client, fakes):
    body = json.dumps({"input": "a", "model": MODEL}).encode()
    for mark, status in ((b"\xef\xbb\xbf", 200), (b"\xef\xbb\xbf" * 2, 400)):
        answer = client.post(URL, mark + body, content_type="application/json")
        assert answer.status_code == status


SPELLINGS = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "search_document": "document",
    "passage": "document",
}


@pytest.mark.parametrize(("spelling", "meant"), SPELLINGS.items())
@pytest.mark.parametrize(("path", "field"), [(URL, "input"), (f"{URL}/batch", "texts")])
def test_input_type_is_taken_in_the_body_and_the_header(
    post, fakes, path, field, spelling, meant
):
    header = {"X-Embeddings-Input-Type": spelling}
    body = {field: ["a"], "model": PROMPTED}
    assert post({**body, "input_type": spelling}, path).status_code == 200
    body[field] = ["b"]
    assert post(body, path, **header).status_code == 200
    body[field] = ["c"]
    assert post({**body, "input_type": spelling}, path, **header).status_code == 200
    assert [asked.input_type for asked in fakes["onnx"].asked] == [meant] * 3


def test_two_spellings_of_one_kind_agree(post):
    body = {"input": "a", "model": PROMPTED, "input_type": "passage"}
    header = {"X-Embeddings-Input-Type": "document"}
    assert post(body, **header).status_code == 200


def test_input_types_that_disagree_are_refused(post, fakes):
    body = {"input": "a", "model": PROMPTED, "input_type": "search_query"}
    response = post(body, **{"X-Embeddings-Input-Type": "document"})
    assert response.status_code == 400
    assert "the header X-Embeddings-Input-Type" in response.json()["detail"]
    assert response.json()["error"]["param"] == "input_type"
    assert not fakes["onnx"].asked


@pytest.mark.parametrize("wrong", ["classification", "Query", "", 1, ["query"]])
def test_other_input_types_are_refused_and_named(post, wrong):
    response = post({"input": "a", "model": PROMPTED, "input_type": wrong})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input_type"


def test_good_credential_is_let_in_on_the_embeddings_endpoint_too(post, ada):
    headers = {"X-API-KEY": "EMPTY", **bearer(signed())}
    assert post({"input": "a", "model": MODEL}, **headers).status_code == 200
