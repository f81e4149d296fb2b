"""Search over HTTP: what is found, whose it is, and what cannot be compared."""

import pytest
from rest_framework.test import APIClient

from embeddings.services.embed import embed
from media_jobs.models import MediaItem
from media_jobs.services import search as search_module
from media_jobs.tasks import work
from providers.exceptions import ProviderUnavailable
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA

OPENAI = "text-embedding-3-small"


@pytest.fixture
def embedded(create, start, client):
    """Return a function that stores a document, embeds it and returns its id."""

    def make(content, by=client, job=None, **fields):
        media_id = create(content, by=by, **fields)["media_id"]
        assert start(media_id, by=by, **(job or {})).status_code == 202
        work()
        return media_id

    return make


@pytest.fixture
def find(client):
    """Return a function that searches and returns the answer."""

    def post(query="The cat sat.", by=client, **body):
        return by.post(
            f"{MEDIA}/embeddings/search", {"query": query, **body}, format="json"
        )

    return post


def ids(answer):
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["count"] == len(body["results"])
    return [row["media_id"] for row in body["results"]]


def test_known_text_is_found_first_with_its_place(embedded, find):
    text = "A dog barked.\n\nThe cat sat.\n\n" + "Other words follow here. " * 20
    media_id = embedded(
        text,
        title="Pets",
        metadata={"a": 1},
        job={"chunk_size": 50, "chunk_overlap": 0},
    )
    embedded("Nothing of the kind.")
    answer = find("A dog barked.\n\nThe cat sat.", top_k=3)
    best = answer.json()["results"][0]
    assert best["media_id"] == media_id
    assert best["score"] == pytest.approx(1, abs=5e-4)  # as pgvector keeps it
    assert text[best["start"] : best["end"]] == best["text"]
    assert best["text"] == "A dog barked.\n\nThe cat sat."
    assert (best["title"], best["metadata"], best["chunk_index"]) == (
        "Pets",
        {"a": 1},
        0,
    )
    scores = [row["score"] for row in answer.json()["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer.headers["X-Embeddings-Vector-Space"] == MINILM
    assert answer.headers["X-Embeddings-Provider"] == "onnx"


def test_query_is_embedded_as_what_body_or_header_say(embedded, find, fakes, client):
    embedded("The cat sat.")
    asked = fakes["onnx"].asked
    cases: list[tuple[dict[str, str | None], dict[str, str], str]] = [
        ({}, {}, "query"),
        ({"input_type": None}, {}, "query"),
        ({"input_type": "search_query"}, {}, "query"),
        ({"input_type": "passage"}, {}, "document"),
        ({}, {"X-Embeddings-Input-Type": "document"}, "document"),
        ({}, {"X-Embeddings-Input-Type": ""}, "query"),
        ({}, {"X-Embeddings-Truncate": "of another endpoint"}, "query"),
    ]
    for number, (sent, header, meant) in enumerate(cases):
        body = {"query": f"query {number}", **sent}
        url = f"{MEDIA}/embeddings/search"
        answer = client.post(url, body, format="json", headers=header)
        assert answer.status_code == 200
        assert asked[-1].texts[-1].endswith(f"query {number}")
        assert asked[-1].input_type == meant


def test_input_types_of_body_and_header_that_disagree_are_refused(client, db):
    answer = client.post(
        f"{MEDIA}/embeddings/search",
        {"query": "a", "input_type": "query"},
        format="json",
        headers={"X-Embeddings-Input-Type": "document"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input_type"
    assert "the header X-Embeddings-Input-Type" in answer.json()["detail"]


def test_hybrid_search_finds_by_words_what_vectors_do_not(embedded, find):
    for number in range(5):
        embedded(f"Text {number} of no interest.")
    media_id = embedded("The zyzzyva is a weevil.")
    assert ids(find("zyzzyva", hybrid=True, top_k=3)).count(media_id) == 1
    assert "score" in find("zyzzyva", hybrid=True).json()["results"][0]


def test_top_k_bounds_the_results(embedded, find):
    for number in range(4):
        embedded(f"Text {number}.")
    assert len(ids(find(top_k=3))) == 3


def test_nothing_stored_finds_nothing(create, find):
    create()
    assert ids(find()) == []


def test_media_ids_narrow_the_search(embedded, find):
    embedded("The cat sat.")
    other = embedded("The dog sat.")
    assert ids(find(media_ids=[other])) == [other]


def test_unknown_media_id_is_404(embedded, find):
    media_id = embedded("The cat sat.")
    answer = find(media_ids=[media_id, 999])
    assert answer.status_code == 404
    assert "999" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"title": "FELI"}, {0}),
        ({"language": "de"}, {1}),
        ({"metadata": {"year": 2020}}, {0}),
        ({"metadata": {"year": [2020, 2021]}}, {0, 1}),
        ({"metadata": {"year": "2020"}}, set()),
        ({"metadata": {"author.name": "Eve"}}, {1}),
        ({"metadata": {"draft": True}}, {2}),
        ({"metadata": {"draft": True, "year": 2020}}, set()),
        ({"metadata": {"tags.0": "x"}}, {2}),
        ({"metadata": {"tags": "X"}}, {2}),
        ({"metadata": {"-1": "x"}}, set()),
        ({"language": "DE"}, {1}),
        ({"title": "ärzte"}, {1}),
        ({"source_filename": "R\u00c9SUM\u00c9.pdf"}, {2}),
        ({"metadata": {"nowhere": 1}}, set()),
        ({"metadata": {'it\'s "quoted"': 1}}, set()),
        ({"metadata": {"contains": "x"}}, set()),
        ({"created_after": "2020-01-01"}, {0, 1, 2}),
        ({"created_before": "2020-01-01"}, set()),
    ],
)
def test_filters(embedded, find, filters, expected):
    made = [
        embedded("One.", title="Felines", metadata={"year": 2020}),
        embedded(
            "Two.",
            title="Die ÄRZTE",
            language="de",
            metadata={"year": 2021, "author": {"name": "Eve"}},
        ),
        embedded(
            "Three.",
            source_filename="re\u0301sume\u0301.pdf",
            metadata={"draft": True, "tags": ["x"]},
        ),
    ]
    assert {made.index(found) for found in ids(find(filters=filters))} == expected


def test_other_model_is_409(embedded, find):
    embedded("The cat sat.")
    answer = find(model="onnx:only-onnx")
    assert answer.status_code == 409
    assert MINILM in answer.json()["detail"]
    assert "only-onnx" in answer.json()["detail"]


def test_same_model_elsewhere_is_welcome(embedded, find):
    media_id = embedded("The cat sat.")
    assert ids(find(model=f"huggingface:{MINILM}")) == [media_id]


def test_of_two_spaces_one_must_be_named(embedded, find):
    one = embedded("The cat sat.")
    two = embedded("The cat sat.", job={"embedding_model": "onnx:only-onnx"})
    assert find().status_code == 409
    assert ids(find(model=f"onnx:{MINILM}")) == [one]
    assert ids(find(model="onnx:only-onnx")) == [two]
    assert ids(find(media_ids=[two])) == [two]


def test_of_two_sizes_one_must_be_named(embedded, find):
    one = embedded("The cat sat.")
    two = embedded("The cat sat.", job={"dimensions": 4})
    assert find().status_code == 409
    assert ids(find(dimensions=8)) == [one]
    assert ids(find(dimensions=4)) == [two]
    assert find(dimensions=5).status_code == 409


def test_fallback_stays_in_the_space(embedded, find, fakes):
    media_id = embedded("The dog sat.")
    fakes["onnx"].fault = ProviderUnavailable("down")
    answer = find("Some other words.")
    assert ids(answer) == [media_id]
    assert answer.headers["X-Embeddings-Fallback-From"] == "onnx"
    fakes["huggingface"].fault = ProviderUnavailable("down")
    assert find("Still other words.").status_code == 503


def test_fallback_of_another_space_is_never_asked(embedded, find, fakes):
    """It is set up and answers in the stored vectors' size, so nothing but the space speaks against it."""
    fakes["openai"].problem = None
    embedded("The cat sat.", job={"embedding_model": OPENAI, "dimensions": 8})
    fakes["openai"].fault = ProviderUnavailable("down")
    assert find().status_code == 503
    assert find(model=OPENAI).status_code == 503
    assert not fakes["huggingface"].asked
    assert not fakes["onnx"].asked


def test_query_is_embedded_as_a_query_and_documents_as_documents(embedded, find, fakes):
    embedded("The cat sat.")
    find("Which animal?")
    asked = [(call.texts, call.input_type) for call in fakes["onnx"].asked]
    assert asked == [(["The cat sat."], "document"), (["Which animal?"], "query")]


@pytest.mark.parametrize("named", [{}, {"model": f"onnx:{MINILM}"}])
def test_vectors_of_another_prompt_are_409_until_they_are_made_again(
    embedded, find, start, model, named
):
    media_id = embedded("The cat sat.")
    model.set_prompt("passage: ")
    before = len(model.fake.calls)
    answer = find(**named)
    assert answer.status_code == 409
    assert MINILM in answer.json()["detail"]
    assert "embed the documents again" in answer.json()["detail"]
    assert len(model.fake.calls) == before
    start(media_id)
    work()
    assert ids(find(**named)) == [media_id]


def test_old_and_new_vectors_of_one_model_are_not_searched_together(
    embedded, find, model
):
    embedded("The cat sat.")
    model.set_prompt("passage: ")
    new = embedded("The cat sat.")
    answer = find()
    assert answer.status_code == 409
    assert "stale" in answer.json()["detail"]
    assert ids(find(model=f"onnx:{MINILM}")) == [new]


def test_vectors_stay_searchable_by_whoever_still_makes_their_like(
    embedded, find, model, start
):
    one = embedded("The cat sat.")
    other = embedded("The cat sat.", job={"embedding_model": f"huggingface:{MINILM}"})
    model.set_prompt("passage: ")
    answer = find()
    assert set(ids(answer)) == {one, other}
    assert answer.headers["X-Embeddings-Provider"] == "huggingface"


def test_model_that_changes_during_a_search_is_409(embedded, find, model, monkeypatch):
    """Between the choice of the model and its answer, its prompt is edited."""
    embedded("The cat sat.")

    def edited(request):
        model.set_prompt("passage: ")
        return embed(request)

    monkeypatch.setattr(search_module, "embed", edited)
    answer = find()
    assert answer.status_code == 409
    assert "embed the documents again" in answer.json()["detail"]


def test_vectors_of_another_size_than_the_model_has_now_are_409(embedded, find, model):
    embedded("The cat sat.")
    model.change(dimensions=6)
    answer = find()
    assert answer.status_code == 409
    assert "8 dimensions" in answer.json()["detail"]


def test_model_is_asked_for_a_size_only_where_it_is_not_its_own(embedded, find, fakes):
    fakes["openai"].problem = None
    for dimensions, asked in ((16, None), (8, 8)):
        media_id = embedded(
            "The cat sat.", job={"embedding_model": OPENAI, "dimensions": dimensions}
        )
        find(media_ids=[media_id])
        assert fakes["openai"].asked[-1].dimensions == asked


def test_another_method_of_one_model_is_searched_on(embedded, find, model):
    media_id = embedded("The cat sat.")
    model.set_method("int8-static")
    assert ids(find()) == [media_id]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": " "}, "query"),
        ({"query": 7}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 101}, "top_k"),
        ({"media_ids": []}, "media_ids"),
        ({"filters": {"colour": "red"}}, "filters"),
        ({"filters": {"metadata": {"a": {}}}}, "filters"),
        ({"filters": {"metadata": {"a" * 201: 1}}}, "filters"),
        ({"filters": {"created_after": "soon"}}, "filters"),
        ({"hybrid": "yes"}, "hybrid"),
        ({"k": 3}, "k"),
    ],
)
def test_nonsense_is_400_and_names_the_field(client, fakes, body, param):
    body = {"query": "x", **body}
    answer = client.post(f"{MEDIA}/embeddings/search", body, format="json")
    assert answer.status_code == 400
    named = answer.json()["error"]["param"]
    assert named.startswith(param) or param in answer.json()["detail"]


def test_query_over_the_limit_is_400(embedded, find):
    embedded("The cat sat.")
    answer = find("word " * 11)
    assert answer.json()["error"] == "input_too_long"


def test_users_find_their_own_alone_and_admins_all(
    embedded, find, client_of, make_user, admin
):
    ada, eve = client_of(make_user("ada")), client_of(make_user("eve"))
    hers = embedded("The cat sat.", by=ada)
    assert ids(find(by=ada)) == [hers]
    assert ids(find(by=eve)) == []
    assert find(by=eve, media_ids=[hers]).status_code == 404
    assert ids(find(by=client_of(admin))) == [hers]


def test_read_only_key_may_search(embedded, find, client_of, key_of, ada):
    media_id = embedded("The cat sat.", by=client_of(ada))
    reader = APIClient(headers={"X-API-KEY": key_of(ada, read_only_media=True)})
    assert ids(find(by=reader)) == [media_id]


def test_stale_vectors_still_tell_what_they_were_made_of(embedded, find, client):
    media_id = embedded("The cat sat.")
    client.patch(f"{MEDIA}/{media_id}", {"content": "Gone."}, format="json")
    assert find().json()["results"][0]["text"] == "The cat sat."


def test_deleted_document_is_not_found(embedded, find, client):
    media_id = embedded("The cat sat.")
    client.delete(f"{MEDIA}/{media_id}")
    assert ids(find()) == []
    assert not MediaItem.objects.exists()


def test_query_without_tokens_is_refused_and_named(embedded, find):
    embedded("The cat sat.")
    answer = find("\u200b")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "query"
    assert answer.json()["detail"].startswith("query has no tokens")


def test_answers_say_how_exactly_the_query_was_embedded(embedded, find):
    embedded("The cat sat.")
    assert find().headers["X-Embeddings-Precision"] == "exact"
