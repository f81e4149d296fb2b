"""Loaded by schemathesis: let many of the made-up requests name what exists, so that they get as far as the engine.

What is wrong about a request stays wrong: only names that the schema allows are replaced.
"""

from typing import TypeGuard

import schemathesis

PROVIDER, MODEL = "onnx", "all-MiniLM-L6-v2"
MODELS = ("text-embedding-3-small", f"{PROVIDER}:{MODEL}")
LONGEST_MODEL, LONGEST_PROVIDER = 512, 64


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    if is_name(body.get("model"), LONGEST_MODEL):
        body = {**body, "model": MODELS[len(body["model"]) % 2]}
    if is_name(body.get("provider"), LONGEST_PROVIDER):
        body = {**body, "provider": PROVIDER}
    if "provider" in body and body.get("model") in MODELS:
        body = {**body, "model": MODEL}
    return body


@schemathesis.hook
def map_headers(context, headers):
    if headers and is_name(headers.get("x-provider"), LONGEST_PROVIDER):
        headers["x-provider"] = PROVIDER
    return headers


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    model = (path_parameters or {}).get("model_id")
    if is_name(model, LONGEST_MODEL) and len(model) % 2:
        return {**path_parameters, "model_id": MODELS[len(model) % 4 // 2]}
    return path_parameters


def is_name(value: object, longest: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= longest
