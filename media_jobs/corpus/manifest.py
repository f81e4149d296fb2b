"""OUTPUT/manifest.json: of which input and by which model the output is, and how it is cut into shards.

Who comes first writes it; all others work by it, and are refused where they would make anything else.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from media_jobs.corpus.documents import Fields
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.plan import File, Plan, Shard
from media_jobs.corpus.vectors import Encoding
from media_jobs.services.targets import Identity
from providers.base import Vectors
from providers.canary import LEAST_COSINE, TEXTS, least_cosine

VERSION = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSettings:
    """What decides the output beside input and model. `dimensions`: as asked for; None: the model's own.

    `chunker`: what cuts. `texts`: whether the documents lie beside their vectors, to be loaded.
    """

    fields: Fields
    shard_rows: int
    skip_invalid: bool
    chunk_size: int
    chunk_overlap: int
    chunker: str
    dimensions: int | None
    vectors: Encoding
    texts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The vectors of fixed texts, by which another machine's model is known to be the same. float32 (n, d)."""

    vectors: Vectors

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])

    def least_cosine(self, other: "Check") -> float:
        return least_cosine(self.vectors, other.vectors)

    def refuse_unless_like(self, other: "Check", label: str) -> None:
        """Raise CorpusError where `other`, made here by `label`, is not the same within rounding."""
        cosine = self.least_cosine(other)
        if cosine < LEAST_COSINE:
            raise CorpusError(
                f"{label} gives other vectors here than those in the output: the least cosine of three check texts is"
                f" {cosine:.4f}, and {LEAST_COSINE} is due. Prepare the same model here, or embed into a new OUTPUT."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an output is, and the plan of its shards."""

    settings: CorpusSettings
    model: Identity
    check: Check
    files: Sequence[File]
    shards: Sequence[Shard]
    text_bytes: int

    @classmethod
    def of(
        cls, plan: Plan, settings: CorpusSettings, model: Identity, check: Check
    ) -> Self:
        return cls(
            settings=settings,
            model=model,
            check=check,
            files=plan.files,
            shards=plan.shards,
            text_bytes=plan.text_bytes,
        )

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def rejected(self) -> int:
        return sum(len(shard.rejected) for shard in self.shards)

    def key(self) -> str:
        """Return what the finished files carry: equal for equal output."""
        made_by = [asdict(self.settings), asdict(self.model), self.check.dimensions]
        whole = json.dumps([made_by, [asdict(shard) for shard in self.shards]])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def refuse_unless_like(self, settings: CorpusSettings, model: Identity) -> None:
        """Raise CorpusError where a run with these would make anything else, naming what differs."""
        differing = [
            *_differing(asdict(self.settings), asdict(settings)),
            *_differing(asdict(self.model), asdict(model)),
        ]
        if differing:
            raise CorpusError(
                "The output was begun with other settings: "
                + "; ".join(differing)
                + ". Take the same, or another OUTPUT."
            )


def read_manifest(output: Path) -> Manifest | None:
    """Return the manifest of an output, None if there is none. Raises CorpusError."""
    path = output / NAME
    try:
        written = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorpusError(f"{path} is not JSON; take another OUTPUT.") from error
    if not isinstance(written, dict) or written.get("version") != VERSION:
        raise CorpusError(
            f"{path} is not a manifest of this version ({VERSION}); take another OUTPUT."
        )
    try:
        return _read(written)
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} was edited; take another OUTPUT.") from error


def _read(written: Mapping[str, Any]) -> Manifest:
    settings = written["settings"]
    return Manifest(
        settings=CorpusSettings(**{**settings, "fields": Fields(**settings["fields"])}),
        model=Identity(**written["model"]),
        check=Check(vectors=np.array(written["check"]["vectors"], dtype=np.float32)),
        files=[File(**file) for file in written["files"]],
        shards=[Shard(**shard) for shard in written["shards"]],
        text_bytes=written["text_bytes"],
    )


def write_manifest(output: Path, manifest: Manifest) -> None:
    """Write the manifest where there is none yet: of several at once, one is whole and the rest are dropped."""
    output.mkdir(parents=True, exist_ok=True)
    draft = output / f".{NAME}.{secrets.token_hex(6)}.tmp"
    try:
        with draft.open("w") as file:
            json.dump(_written(manifest), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            (output / NAME).hardlink_to(draft)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            draft.replace(output / NAME)
    finally:
        draft.unlink(missing_ok=True)


def _written(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": VERSION,
        "documents": manifest.documents,
        "rejected": manifest.rejected,
        "text_bytes": manifest.text_bytes,
        "settings": asdict(manifest.settings),
        "model": asdict(manifest.model),
        "check": {"texts": [*TEXTS], "vectors": manifest.check.vectors.tolist()},
        "files": [asdict(file) for file in manifest.files],
        "shards": [asdict(shard) for shard in manifest.shards],
    }


def _differing(
    there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for name, value in there.items():
        other = here[name]
        if isinstance(value, dict):
            yield from _differing(value, other, f"{prefix}{name}.")
        elif _plain(value) != _plain(other):
            yield f"{prefix}{name} was {value!r} and is {other!r}"


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
