"""The store's settings: one frozen object, built by the project's settings and read here."""

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorStoreConf:
    """`memory_bytes`: how much a process may keep of vectors that it searches in memory."""

    memory_bytes: int = 256 * 2**20


def conf() -> VectorStoreConf:
    """Return the settings in force."""
    configured: VectorStoreConf = settings.VECTOR_STORE
    return configured
