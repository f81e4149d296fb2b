"""Fetch a model's files from a Hugging Face hub. The only module that imports huggingface_hub, and only when asked."""

import inspect
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from providers.engine.described import refused
from providers.engine.files import files_below, sha256_of
from providers.engine.graph.checkpoint import SAFETENSORS_FILE
from providers.engine.model_config import read_model_config
from providers.engine.modules import read_modules
from providers.engine.repository import (
    choose_runtime,
    data_files,
    onnx_file,
    weight_files,
)
from providers.engine.space import check_space, needed_bytes
from providers.engine.static_config import StaticConfig
from providers.exceptions import (
    ProviderDenied,
    ProviderError,
    ProviderUnavailable,
    UnknownModel,
)
from providers.progress import progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

HUB_ENDPOINT = "https://huggingface.co"
_ETAG_TIMEOUT_SECONDS = 20.0
_VOCABULARIES = frozenset(
    {
        "tokenizer.json",
        "tokenizer.model",
        "sentencepiece.bpe.model",
        "spiece.model",
        "vocab.txt",
        "merges.txt",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """One hub and, for gated models, a token. Neither is ever taken from the environment."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = None

    def fetch(self, name: str, target: Path) -> str:
        """Put the files that serving needs into `target`, going on with what a killed call left; return the commit.

        Raises UnknownModel, ProviderDenied (gated or private), ProviderUnavailable (hub not reached, wrong content),
        ProviderMisconfigured (the repo has nothing that can be run safely, or not on this machine).
        """
        with _errors_mapped(name):
            info = self._info(name)
            commit = str(info.sha)
            files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
            fetched: list[str] = []

            def take(names: Iterable[str]) -> None:
                wanted = list(names)
                if absent := [file for file in wanted if file not in files]:
                    raise refused(f"the repository lacks {absent[0][:80]}")
                progress().expect(sum(files[file].size or 0 for file in wanted))
                for file in wanted:
                    self._file(name, commit, file, target, files[file])
                    fetched.append(file)

            take(file for file in files if _describes(file, {"."}))
            modules = read_modules(target)
            folders = {module.path or "." for module in modules} - {"."}
            tables = {
                StaticConfig(folder=m.path).weights_file for m in modules if m.static
            }
            take(
                file
                for file in files
                if _describes(file, folders) and file not in tables
            )
            # Known before anything large is fetched: whether and how the model can be served.
            config = read_model_config(target, fetched=False)
            runtime = choose_runtime(config, files)
            if runtime == "onnx" and (graph := onnx_file(files)):
                take([graph])
                weights = data_files(target / graph, graph)
            else:
                weights = weight_files(config, target, files)
            sizes = [files[file].size or 0 for file in weights if file in files]
            needed = needed_bytes(config, runtime, sum(sizes))
            check_space(target, name, needed, weights)
            take(weights)
            _keep_only(target, fetched)
        return commit

    def _info(self, name: str) -> "ModelInfo":
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        return api.model_info(name, files_metadata=True, timeout=_ETAG_TIMEOUT_SECONDS)

    def _file(
        self, name: str, commit: str, file: str, target: Path, sibling: Any
    ) -> None:
        from huggingface_hub import hf_hub_download

        before = progress().done_bytes
        sha256 = sibling.lfs.sha256 if sibling.lfs else None
        hf_hub_download(
            name,
            file,
            revision=commit,
            local_dir=target,
            endpoint=self.endpoint,
            token=self.token or False,
            etag_timeout=_ETAG_TIMEOUT_SECONDS,
            **_bar(),
        )
        progress().reach(before + (sibling.size or 0))
        if sha256 is not None and sha256_of(target / file) != sha256:
            (target / file).unlink()
            raise _damaged(name)


def _bar() -> dict[str, Any]:
    """Return what has a file's bytes counted while they come; older versions of the library count whole files only.

    With the library's own transfer protocol a cancelled download may end only with its file.
    """
    from huggingface_hub import hf_hub_download
    from tqdm import tqdm

    counted = progress()

    class Bar(tqdm):  # type: ignore[type-arg]
        """Draws nothing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            shape = {name: options.get(name) for name in ("total", "initial")}
            super().__init__(disable=True, total=shape["total"])
            if shape["initial"]:
                self.update(shape["initial"])

        def update(self, n: float | None = 1) -> bool | None:
            counted.advance(int(n or 0))
            return None

        def update_transfer(self, n: float) -> None:
            counted.check()

    known = inspect.signature(hf_hub_download).parameters
    return {"tqdm_class": Bar} if "tqdm_class" in known else {}


def _describes(file: str, folders: Collection[str]) -> bool:
    """Whether a file of these folders says how the model works: JSON, vocabularies, a module's own weights."""
    path = PurePosixPath(file)
    if path.parent.as_posix() not in folders:
        return False
    if path.suffix == ".json" or path.name in _VOCABULARIES:
        return True
    return path.name == SAFETENSORS_FILE and path.name != file


def _keep_only(target: Path, fetched: Collection[str]) -> None:
    """Remove what a killed call left of another commit."""
    for file in files_below(target):
        if file not in fetched:
            (target / file).unlink()


@contextmanager
def _errors_mapped(name: str) -> Iterator[None]:
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        mapped = _mapped(name, error)
        if mapped is None:
            raise
        raise mapped from error


def _mapped(name: str, error: Exception) -> ProviderError | None:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return ProviderDenied(
                f"{name} is gated on the hub: accept its terms there and configure a token."
            )
        case errors.RepositoryNotFoundError():
            # The hub answers 401 for what is private and for what does not exist, so that nobody can tell which.
            return UnknownModel(
                f"The hub knows no model {name}, or it is private and the token may not read it."
            )
        case errors.HFValidationError():
            return UnknownModel(f"{name[:100]!r} is not a model name.")
        case OSError() if "Consistency check failed" in str(error):
            return _damaged(name)
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return ProviderDenied(
                f"The hub refused access to {name}: the token is missing or may not read it."
            )
        case (
            errors.HfHubHTTPError()
            | errors.LocalEntryNotFoundError()
            | errors.FileMetadataError()
        ):
            return _unreachable(name)
        case ConnectionError() | TimeoutError():
            return _unreachable(name)
    # huggingface_hub 1.x speaks through httpx, 2.x through httpx2; their errors share no base with each other.
    return (
        _unreachable(name)
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2")
        else None
    )


def _damaged(name: str) -> ProviderError:
    return ProviderUnavailable(
        f"The hub sent a damaged file of {name}; it was thrown away. Try again."
    )


def _unreachable(name: str) -> ProviderError:
    return ProviderUnavailable(
        f"{name} could not be fetched: the hub was not reached or failed. Try again."
    )
