"""Everything an application does with openai-python, printed as one JSON object. Runs with 2.x and with 3.x.

The arguments come as JSON on stdin: base_url, key, in_header, model, texts, many, tokens.
"""

import json
import sys

import openai

given = json.load(sys.stdin)
MODEL = given["model"]


def client_with(key):
    """The two ways to hand the key over: OpenAI's own, and the header that a single-user server takes."""
    if given["in_header"]:
        return openai.OpenAI(
            api_key="unused",
            base_url=given["base_url"],
            default_headers={"X-API-KEY": key},
        )
    return openai.OpenAI(api_key=key, base_url=given["base_url"])


client = client_with(given["key"])


def create(**arguments):
    return client.embeddings.create(model=MODEL, **arguments)


def rows(answer):
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "message": error.message,
            "body": error.body,
            "request_id": error.request_id,
        }
    raise AssertionError("The call succeeded.")


texts = given["texts"]
single = create(input=texts[0])
report = {
    "version": openai.__version__,
    "answered_model": single.model,
    "usage": [single.usage.prompt_tokens, single.usage.total_tokens],
    "single": rows(single)[0],
    "list": rows(create(input=texts)),
    "many": rows(create(input=given["many"])),
    "float": rows(create(input=texts, encoding_format="float")),
    "base64": rows(create(input=texts, encoding_format="base64")),
    "dimensions": rows(create(input=texts, dimensions=64)),
    "tokens": rows(create(input=given["tokens"][0])),
    "token_arrays": rows(create(input=given["tokens"])),
    "models": [model.id for model in client.models.list()],
    "retrieved": client.models.retrieve(MODEL).id,
    "raw_provider": client.embeddings.with_raw_response.create(
        model=MODEL, input=texts[0]
    ).headers["x-embeddings-provider"],
    "errors": {
        "wrong key": error_of(
            lambda: client_with("wrong-key").embeddings.create(model=MODEL, input="x")
        ),
        "unknown model": error_of(
            lambda: client.embeddings.create(model="onnx:no/such-model", input="x")
        ),
        "unknown model retrieved": error_of(
            lambda: client.models.retrieve("no/such-model")
        ),
        "blank input": error_of(lambda: create(input=["fine", " "])),
        "wrong dimensions": error_of(lambda: create(input="x", dimensions=0)),
        "too long": error_of(lambda: create(input=["fine", "word " * 400])),
    },
}
json.dump(report, sys.stdout)
