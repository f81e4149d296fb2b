"""The rows of the store. Triggers hang on these tables: a migration that remakes one must make its triggers again.

(SQLite remakes a table to alter a column, and drops its triggers with it; see migrations 0003 and 0004.)
"""

import time
from typing import ClassVar

from django.db import models


class VectorSpace(models.Model):
    """Vectors that may be compared. `version` grows with every change to what the space holds, in its transaction.

    It begins with the time, so that no earlier life of the database has reached it.
    """

    vector_space = models.CharField(max_length=300)
    dimensions = models.PositiveIntegerField()
    version = models.BigIntegerField(default=time.time_ns)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["vector_space", "dimensions"], name="one_row_a_vector_space"
            )
        ]

    def __str__(self) -> str:
        return f"{self.vector_space} ({self.dimensions})"


class ItemVectors(models.Model):
    """What is stored for one media item: whose vectors, how many, and the space's version that brought them."""

    media = models.OneToOneField(
        "media_jobs.MediaItem",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="vectors",
    )
    space = models.ForeignKey(
        VectorSpace, on_delete=models.CASCADE, db_index=False, related_name="items"
    )
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=200)
    chunks = models.PositiveIntegerField(default=0)
    version = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "item vectors"
        indexes: ClassVar = [
            models.Index(fields=["space", "version"], name="media_jobs_item_changes")
        ]

    def __str__(self) -> str:
        return f"{self.chunks} chunks of item {self.media_id}"


class StoredChunk(models.Model):
    """One chunk. `vector`: float32, little-endian; null where pgvector holds it."""

    media = models.ForeignKey(
        "media_jobs.MediaItem",
        on_delete=models.CASCADE,
        db_index=False,
        related_name="chunks",
    )
    space = models.ForeignKey(
        VectorSpace, on_delete=models.CASCADE, related_name="chunks"
    )
    index = models.PositiveIntegerField()
    start = models.PositiveBigIntegerField()
    end = models.PositiveBigIntegerField()
    vector = models.BinaryField(null=True)
    # Last, since SQLite reads past a long text to the columns behind it.
    text = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["media", "index"], name="one_chunk_an_index"
            )
        ]

    def __str__(self) -> str:
        return f"chunk {self.index} of item {self.media_id}"
