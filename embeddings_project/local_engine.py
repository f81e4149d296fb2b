"""How the local engine is set up."""

from pathlib import Path
from typing import Any

from embeddings_project.env import Env
from providers.engine import devices


def read_engine(env: Env, *, data_dir: Path, mode: str) -> dict[str, Any]:
    """Return what `EngineOptions` takes."""
    return {
        "data_dir": data_dir,
        "process": mode,
        "device": _read_device(env),
        "hub_endpoint": env.url("HF_ENDPOINT"),
        "hub_token": env.secret("HF_TOKEN"),
        "threads": env.integer("EMBEDDINGS_ENGINE_THREADS", 0, minimum=0, maximum=512)
        or None,
        "queue_max_tokens": env.integer(
            "EMBEDDINGS_ENGINE_QUEUE_TOKENS", 4_000_000, minimum=1024, maximum=10**9
        ),
        "models_max_bytes": env.integer(
            "EMBEDDINGS_MODELS_MAX_MB", 0, minimum=0, maximum=10**7
        )
        * 2**20
        or None,
        "model_idle_seconds": float(
            env.integer("EMBEDDINGS_MODEL_IDLE", 3600, minimum=0, maximum=10**8)
        )
        or None,
        "model_paths": tuple(
            Path(path).expanduser().absolute()
            for path in env.words("EMBEDDINGS_MODEL_PATHS")
        ),
    }


def _read_device(env: Env) -> str:
    name = env.text("EMBEDDINGS_DEVICE", devices.AUTO).lower()
    if devices.is_name(name):
        return name
    env.problem("EMBEDDINGS_DEVICE", f"must be auto, cpu, cuda or cuda:N, not {name!r}")
    return devices.AUTO
