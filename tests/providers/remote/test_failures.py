import pytest

from providers.exceptions import (
    ProviderDenied,
    ProviderMalformed,
    ProviderRejected,
    ProviderThrottled,
    ProviderUnavailable,
)
from providers.remote import Json, classify_status
from providers.remote.failures import (
    is_too_many,
    public_message,
    retry_after_seconds,
)

NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (201, ProviderMalformed),
        (301, ProviderMalformed),
        (308, ProviderMalformed),
        (400, ProviderRejected),
        (401, ProviderDenied),
        (402, ProviderDenied),
        (403, ProviderDenied),
        (404, ProviderRejected),
        (408, ProviderUnavailable),
        (424, ProviderUnavailable),
        (413, ProviderRejected),
        (422, ProviderRejected),
        (429, ProviderThrottled),
        (500, ProviderUnavailable),
        (529, ProviderUnavailable),
    ],
)
def test_status_decides_the_exception(status, kind):
    assert classify_status(status) is kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    assert retry_after_seconds({"retry-after": value}, now=NOON) == seconds


def test_absent_retry_after_is_none():
    assert retry_after_seconds({}, now=NOON) is None


@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"message": "no such size", "type": "x"}},
        {"error": "no such size"},
        {"message": "no such size"},
        {"message": {"detail": [{"loc": ["body"], "msg": "no such size"}]}},
        {"detail": "no such size"},
        {"detail": [{"type": "extra", "msg": "no such size", "input": "secret"}]},
        {"object": "error", "message": "no such size", "code": 3},
        [{"error": {"code": 400, "message": "no such size"}}],
        "no such size",
    ],
)
def test_message_is_found_in_every_shape(payload):
    assert public_message(payload, secrets=(), texts=()) == "no such size"


@pytest.mark.parametrize(
    "payload", [None, {}, [], 7, {"error": {}}, {"error": None}, {"detail": []}, ""]
)
def test_no_message_is_none(payload):
    assert public_message(payload, secrets=(), texts=()) is None


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456",
        "sk-ab**********************wxyz",
        "pa-Zx81kq_sdf-ABCD",
        "AIzaSyA1234567890abcdefg",
        "hf_abcdefghijkl",
        "Bearer abc.def.ghi",
        "https://api.example.com/v1?key=abc",
        "http://10.0.0.3:8080",
        "www.example.com/keys",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_keys_and_addresses_are_removed(secret):
    message = public_message({"error": f"bad {secret} here"}, secrets=(), texts=())

    assert message is not None
    assert message.startswith("bad [removed]")
    assert secret not in message


def test_own_key_is_removed_whatever_it_looks_like():
    message = public_message(
        {"error": "key hunter2 bad"}, secrets=("hunter2",), texts=()
    )

    assert message == "key [removed] bad"


def test_callers_text_is_not_echoed():
    payload = {"error": "cannot embed 'my private diary'"}

    message = public_message(payload, secrets=(), texts=("my private diary", "a"))

    assert message == "cannot embed '[input]'"


@pytest.mark.parametrize(
    "words",
    [
        "The model `text-embedding-3-small` does not exist.",
        "sentence-transformers/all-MiniLM-L6-v2 is not found",
        "inputs must have less than 512 tokens. Given: 1024",
        "models/gemini-embedding-001 is not found for API version v1beta",
    ],
)
def test_ordinary_words_stay(words):
    assert public_message({"error": words}, secrets=(), texts=()) == words


def test_message_is_one_bounded_line():
    long = "line\r\n\x1b[31mred\x00 " * 500

    message = public_message({"error": long}, secrets=(), texts=())

    assert message is not None
    assert len(message) == 300
    assert message.isprintable()


def test_deep_nesting_ends():
    payload: Json = {"message": "deep"}
    for _ in range(200):
        payload = {"error": payload}

    assert public_message(payload, secrets=(), texts=()) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "inf"}, None),
    ],
)
def test_milliseconds_are_the_finer_word(headers, seconds):
    assert retry_after_seconds(headers, now=0) == seconds


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (413, "batch size 33 > maximum allowed batch size 32", True),
        (400, "array too long. Expected an array with maximum length 2048.", True),
        (400, "batch size is invalid, it should not be larger than 10.", True),
        (422, "at most 96 texts per call", True),
        (413, None, True),
        (400, None, False),
        (413, "inputs must have less than 512 tokens", False),
        (400, "This model's maximum context length is 8192 tokens", False),
        (429, "batch size 33 > maximum allowed batch size 32", False),
    ],
)
def test_what_says_that_there_were_too_many_texts(status, message, expected):
    payload = message and {"error": {"message": message}}
    assert is_too_many(status, payload) is expected
