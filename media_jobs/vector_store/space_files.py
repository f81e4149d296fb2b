"""The files of one space's matrix. Each process of a server maps them, so the machine's memory holds the vectors once.

A block's file is whole before a manifest names it, and never changes. The manifest says which blocks are the matrix of
which version, and is replaced as a whole. What a process has mapped outlives the removal of its file.
"""

import base64
import fcntl
import json
import mmap
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np
import structlog

from media_jobs.vector_store.coded import CodedVectors, Mask
from media_jobs.vector_store.matrix import Block, Matrix

MANIFEST = "manifest"
LOCK = "lock"
LOOK_SECONDS = 0.005
ID = np.dtype("<i8")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Which manifest it is: none is ever written at another's nanosecond."""

    inode: int
    written_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A matrix whose blocks are mapped files, and the manifest that named them."""

    files: "SpaceFiles"
    stamp: Stamp
    matrix: Matrix

    @property
    def is_current(self) -> bool:
        return self.files.stamp() == self.stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFiles:
    """The files in `folder`, whose name says the database and the space. What writes them runs under the lock."""

    folder: Path

    def locked(self, seconds: float) -> AbstractContextManager[None]:
        """Hold the space's lock. Raises OSError where there can be none, or where others hold it for so long."""
        return locked(self.folder, seconds)

    def stamp(self) -> Stamp | None:
        """Say which manifest there is now."""
        try:
            status = (self.folder / MANIFEST).stat()
        except OSError:
            return None
        return Stamp(inode=status.st_ino, written_at_ns=status.st_mtime_ns)

    def note_use(self, at_ns: int) -> None:
        """Leave for all processes when the space was last searched."""
        with suppress(OSError):  # then it counts as used less recently
            os.utime(self.folder / LOCK, ns=(at_ns, at_ns))

    def load(self, dimensions: int, known: Mapped | None) -> Mapped | None:
        """Map what the manifest names and `known` does not have. None: there is no manifest, or something is broken."""
        stamp = self.stamp()
        if stamp is None:
            return None
        if known and known.stamp == stamp:
            return known
        blocks = known.matrix.blocks if known else ()
        mapped = {block.file: block for block in blocks if block.file}
        try:
            content = self._manifest()
            blocks = tuple(
                self._block(entry, dimensions, mapped) for entry in content["blocks"]
            )
            matrix = Matrix(version=int(content["version"]), blocks=blocks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("search_files_broken", reason=repr(error))
            return None
        return Mapped(files=self, stamp=stamp, matrix=matrix)

    def kept(self, block: Block) -> Block:
        """Return the block with its arrays in a file. Raises OSError, and leaves no file then."""
        if block.file:
            return block
        name = f"{checksum_of(block):08x}-{uuid4().hex}"
        try:
            # Written, not truncated to its size: a full disk is an error here, and no SIGBUS in whoever reads it.
            with (self.folder / name).open("xb") as file:
                for part in parts_of(block):
                    file.write(part)
            return self._map(name, block.vectors.dimensions, block.alive)
        except OSError:
            (self.folder / name).unlink(missing_ok=True)
            raise

    def publish(self, matrix: Matrix, at_ns: int) -> Mapped:
        """Put a manifest of this matrix, all of whose blocks are kept, in the place of the last one. Raises OSError."""
        content = {
            "of": self.folder.name,
            "version": matrix.version,
            "blocks": [
                {
                    "file": block.file,
                    "rows": len(block.chunk_ids),
                    "alive": base64.b64encode(
                        np.packbits(block.alive).tobytes()
                    ).decode(),
                }
                for block in matrix.blocks
            ],
        }
        written = json.dumps(content).encode()
        new = self.folder / f"{MANIFEST}-{uuid4().hex}"
        try:
            new.write_bytes(b"%08x\n" % crc32(written) + written)
            os.utime(new, ns=(at_ns, at_ns))
            stamp = Stamp(inode=new.stat().st_ino, written_at_ns=at_ns)
            new.replace(self.folder / MANIFEST)
        finally:
            new.unlink(missing_ok=True)
        return Mapped(files=self, stamp=stamp, matrix=matrix)

    def sweep(self, named: Matrix | None) -> None:
        """Remove what the matrix does not name, also what killed processes left; with None the manifest, too."""
        wanted = {block.file for block in named.blocks} if named else set()
        wanted |= {LOCK, MANIFEST} if named else {LOCK}
        try:
            for path in self.folder.glob("*"):
                if path.name not in wanted:
                    path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("search_files_not_removed", reason=repr(error))

    def size_bytes(self) -> int:
        """Return what the blocks take, also those that are being written."""
        blocks = self.folder.glob(f"{'[0-9a-f]' * 8}-*")
        return sum(path.stat().st_size for path in blocks)

    def used_at_ns(self) -> int:
        return (self.folder / LOCK).stat().st_mtime_ns

    def _manifest(self) -> dict[str, Any]:
        checksum, _, written = (self.folder / MANIFEST).read_bytes().partition(b"\n")
        if int(checksum, 16) != crc32(written):
            raise ValueError("The manifest's checksum differs.")
        content: dict[str, Any] = json.loads(written)
        if content["of"] != self.folder.name:
            raise ValueError("The manifest is another space's.")
        return content

    def _block(
        self, entry: Mapping[str, Any], dimensions: int, mapped: Mapping[str, Block]
    ) -> Block:
        bits = np.frombuffer(base64.b64decode(entry["alive"]), dtype=np.uint8)
        alive = np.unpackbits(bits, count=entry["rows"]).view(np.bool_)
        if known := mapped.get(entry["file"]):
            live_rows = int(np.count_nonzero(alive))
            return replace(known, alive=alive, live_rows=live_rows)
        block = self._map(entry["file"], dimensions, alive)
        if checksum_of(block) != int(entry["file"].partition("-")[0], 16):
            raise ValueError("A block's checksum differs.")
        return block

    def _map(self, name: str, dimensions: int, alive: Mask) -> Block:
        """Map a file of as many rows as `alive` has. Raises OSError, and ValueError where it is of another size."""
        rows = len(alive)
        with (self.folder / name).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        ids = np.frombuffer(content, dtype=ID, count=2 * rows)
        return Block.of(
            ids[:rows],
            ids[rows:],
            CodedVectors.read(memoryview(content)[ids.nbytes :], rows, dimensions),
            alive=alive,
            file=name,
        )


def parts_of(block: Block) -> Iterator[memoryview]:
    """Yield the bytes of a block's file, in their order: all numbers are aligned so."""
    for ids in (block.chunk_ids, block.media_ids):
        yield np.ascontiguousarray(ids, dtype=ID).data
    for array in block.vectors.arrays():
        yield np.ascontiguousarray(array).data


def checksum_of(block: Block) -> int:
    checksum = 0
    for part in parts_of(block):
        checksum = crc32(part, checksum)
    return checksum


@contextmanager
def locked(folder: Path, seconds: float) -> Iterator[None]:
    """Hold a folder's lock against other threads and processes; the kernel frees it if the holder dies.

    The folder is made, its parents are not. Raises OSError, TimeoutError where others hold the lock for so long.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for(handle, time.monotonic() + seconds)
        try:
            yield
        finally:
            # Not by closing it alone: a child that was forked meanwhile has it open, too.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


def _wait_for(handle: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError("Others hold the lock.") from None
        time.sleep(LOOK_SECONDS)
