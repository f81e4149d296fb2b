"""A request for embeddings as code to copy: curl, Python, JavaScript. The key comes from the reader's environment."""

import json
from dataclasses import dataclass
from typing import Any

from embeddings.services.types import EmbeddingRequest

KEY = "EMBEDDINGS_API_KEY"
INPUT_TYPE, TRUNCATE = "X-Embeddings-Input-Type", "X-Embeddings-Truncate"

CURL = """\
curl {url}/embeddings \\
  -H "X-API-KEY: ${key}" \\
  -H 'Content-Type: application/json' \\
{headers}  --data-binary @- <<'JSON'
{body}
JSON"""

PYTHON = """\
import os

from openai import OpenAI

key = os.environ["{key}"]
client = OpenAI(base_url={url!r}, api_key=key, default_headers={{"X-API-KEY": key}})
answer = client.embeddings.create(
{arguments})
for one in answer.data:
    print(one.index, len(one.embedding), one.embedding[:4])"""

JAVASCRIPT = """\
import OpenAI from "openai";

const key = process.env.{key};
const client = new OpenAI({{ baseURL: {url}, apiKey: key, defaultHeaders: {{ "X-API-KEY": key }} }});
const answer = await client.embeddings.create(
  {body},
  {{ headers: {headers} }},
);
for (const one of answer.data) console.log(one.index, one.embedding.length, one.embedding.slice(0, 4));"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """`id`: unique on its page."""

    id: str
    language: str
    code: str


def snippets(request: EmbeddingRequest, *, url: str, id: str) -> list[Snippet]:
    """Return the request as code for each language. `url`: the API's, without a slash at its end."""
    body: dict[str, Any] = {"model": request.model, "input": list(request.inputs)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    headers = {INPUT_TYPE: "query"} if request.input_type == "query" else {}
    if request.truncate:
        headers[TRUNCATE] = "end"
    made = {
        "curl": _curl(url, body, headers),
        "Python": _python(url, body, headers),
        "JavaScript": _javascript(url, body, headers),
    }
    return [
        Snippet(id=f"{id}-{language.lower()}", language=language, code=code)
        for language, code in made.items()
    ]


def _curl(url: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    lines = (f"  -H '{name}: {value}' \\\n" for name, value in headers.items())
    return CURL.format(url=url, key=KEY, headers="".join(lines), body=_json(body))


def _python(url: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    arguments: dict[str, Any] = dict(body)
    if headers:
        arguments["extra_headers"] = headers
    lines = (f"    {name}={_literal(value)},\n" for name, value in arguments.items())
    return PYTHON.format(url=url, key=KEY, arguments="".join(lines))


def _literal(value: Any) -> str:
    """Return Python for a value, a list's items on lines of their own."""
    if isinstance(value, list):
        return "[\n" + "".join(f"        {one!r},\n" for one in value) + "    ]"
    return repr(value)


def _javascript(url: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    return JAVASCRIPT.format(
        url=json.dumps(url),
        key=KEY,
        body=_json(body).replace("\n", "\n  "),
        headers=json.dumps(headers),
    )


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2)
