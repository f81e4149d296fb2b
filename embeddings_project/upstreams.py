"""The providers' options: where remote ones are, and their keys, which come from nowhere but the environment."""

from pathlib import Path
from typing import Any

from embeddings_project.env import Env
from providers.addresses import KEY_PREFIX, KEY_SUFFIX, origin_of
from providers.built_in import BuiltIn, built_in, option_of


def read_providers(
    env: Env, *, data_dir: Path, engine: dict[str, Any], timeout_seconds: float
) -> dict[str, dict[str, Any]]:
    """Return each provider's options. One that is not built in, or added in the console, has its key, if it is set.

    It stands under its `environment_name`.
    """
    common = {"timeout_seconds": timeout_seconds, "data_dir": data_dir}
    providers = {
        one.name: _read(env, one) | common for one in built_in() if one.key_variable
    }
    local = [one.name for one in built_in() if one.name not in providers]
    for part in env.between(KEY_PREFIX, KEY_SUFFIX):
        variable, name = f"{KEY_PREFIX}{part}{KEY_SUFFIX}", part.lower()
        key = env.secret(variable)
        options = providers.setdefault(name, {"timeout_seconds": timeout_seconds})
        if options.get("api_key") not in (None, key):
            env.problem(variable, f"differs from {name}'s other variable; keep one")
        if name in local:
            env.problem(variable, f"is of no use: {name} needs no key")
        options["api_key"] = key
    return providers | dict.fromkeys(local, engine)


def _read(env: Env, one: BuiltIn) -> dict[str, Any]:
    """Return the key, the address, the batch size and the choices of a remote provider; its first key variable wins."""
    keys = [env.secret(name) for name in (one.key_variable, *one.other_key_variables)]
    choices = {
        option_of(variable, one.name): env.choice(variable, allowed[0], allowed)
        for variable, allowed in one.choices.items()
    }
    given: dict[str, Any] = {
        "api_key": next(filter(None, keys), None),
        "base_url": env.url(one.url_variable),
    }
    if one.batch_variable:
        most = one.largest_batch
        size = env.integer(one.batch_variable, 0, minimum=1, maximum=most)
        given["batch_size"] = size or None
    return given | choices


def read_allowed_hosts(env: Env) -> frozenset[str]:
    """Return the origins that operators who are no superusers may set; a bare host or host:port means https."""
    origins = set()
    for word in env.words("UPSTREAM_ALLOWED_HOSTS"):
        address = word if "://" in word else f"https://{word}"
        origin = origin_of(address)
        if origin is None or address.count("/") > 2:
            env.problem(
                "UPSTREAM_ALLOWED_HOSTS",
                f"must be hosts such as gateway.example, 10.0.0.5:8443 or http://localhost:11434, not {word!r}",
            )
        else:
            origins.add(origin)
    return frozenset(origins)
