import pytest

from providers.exceptions import ProviderDenied, ProviderRejected, ProviderThrottled
from providers.plugins.google import GoogleProvider
from providers.remote import Reply
from tests.upstreams import Fault


def test_request_has_google_s_form(open_provider, google_upstream, embed):
    provider = open_provider(GoogleProvider, google_upstream)

    embed(provider, "models/gemini-embedding-001", ["text"], dimensions=768)

    (call,) = google_upstream.calls
    assert call.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert call.body == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "taskType": "RETRIEVAL_DOCUMENT",
                "content": {"parts": [{"text": "text"}]},
                "outputDimensionality": 768,
            }
        ]
    }


def test_second_generation_has_its_task_in_the_text(
    open_provider, google_upstream, embed
):
    provider = open_provider(GoogleProvider, google_upstream)

    embed(provider, "gemini-embedding-2", ["text"], input_type="query")

    (entry,) = google_upstream.calls[0].body["requests"]
    assert entry == {
        "model": "models/gemini-embedding-2",
        "content": {"parts": [{"text": "task: search result | query: text"}]},
    }


def test_bad_key_is_denied_though_google_says_400(
    open_provider, google_upstream, embed
):
    provider = open_provider(GoogleProvider, google_upstream, api_key="AIza-wrong")

    with pytest.raises(ProviderDenied):
        embed(provider, "gemini-embedding-001", ["text"])


def test_other_400_is_the_callers_fault(open_provider, google_upstream, embed):
    provider = open_provider(GoogleProvider, google_upstream)

    with pytest.raises(ProviderRejected, match="output_dimensionality out of range"):
        embed(provider, "gemini-embedding-001", ["text"], dimensions=64)


def test_retry_delay_in_the_body_is_read(open_provider, google_upstream, embed):
    google_upstream.fault = Fault.THROTTLED_SECONDS
    google_upstream.retry_after_seconds = 39
    provider = open_provider(GoogleProvider, google_upstream)

    with pytest.raises(ProviderThrottled) as caught:
        embed(provider, "gemini-embedding-001", ["text"])

    assert caught.value.retry_after_seconds == 39


@pytest.mark.parametrize(
    "details",
    [
        None,
        7,
        [],
        [7],
        [{}],
        [{"retryDelay": 5}],
        [{"retryDelay": "soon"}],
        [{"retryDelay": "s"}],
        [{"retryDelay": "nans"}],
        [{"retryDelay": "-1s"}],
        [{"reason": ["x"]}],
    ],
)
def test_odd_details_leave_the_header(details):
    reply = Reply(
        status=429,
        headers={"retry-after": "4"},
        payload={"error": {"details": details}},
    )
    provider = GoogleProvider({})

    assert provider.retry_delay_seconds(reply) == 4
    assert provider.classify(reply) is ProviderThrottled


def test_fraction_of_a_second_is_a_delay():
    payload = {"error": {"details": [{}, {"retryDelay": "0.847655010s"}]}}
    reply = Reply(status=429, headers={}, payload=payload)

    assert GoogleProvider({}).retry_delay_seconds(reply) == pytest.approx(0.84765501)
