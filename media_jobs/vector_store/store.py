"""The store that this process uses."""

from django.db import DEFAULT_DB_ALIAS, connections

from media_jobs.vector_store.base import VectorStore
from media_jobs.vector_store.orm import OrmVectorStore
from media_jobs.vector_store.pgvector import PgVectorStore
from media_jobs.vector_store.pgvector_index import TABLE, exists
from media_jobs.vector_store.sql import SqlVectorStore
from providers.state.process import owned


@owned
def vector_store() -> VectorStore:
    """Return the process-wide store."""
    return choose()


def choose(using: str = DEFAULT_DB_ALIAS) -> SqlVectorStore:
    """Return pgvector's store if the database was prepared for it when it was migrated, else the embedded one."""
    connection = connections[using]
    if connection.vendor == "postgresql" and exists(connection, TABLE):
        return PgVectorStore(using)
    return OrmVectorStore(using)
