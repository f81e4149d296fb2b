"""What this app keeps: who used how much of which model."""

from typing import ClassVar

from django.db import models


class UsageHour(models.Model):
    """One caller's use of one model in one hour (UTC). Written by UPSERTs that add up; see services/usage_store.py.

    `caller` is the caller's stable id; the names beside it are those of the last request. Ids are plain numbers, so
    that usage outlives the users and keys it speaks of.
    """

    caller = models.CharField(max_length=64)
    hour = models.DateTimeField()
    provider = models.CharField(
        max_length=64, blank=True, help_text="Empty: failed before a model was found."
    )
    model = models.CharField(max_length=200, blank=True)
    username = models.CharField(max_length=150)
    user_id = models.BigIntegerField(null=True, blank=True)
    key_id = models.BigIntegerField(null=True, blank=True)
    requests = models.PositiveBigIntegerField(
        default=0, help_text="Answered with vectors."
    )
    errors = models.PositiveBigIntegerField(default=0, help_text="Failed.")
    tokens = models.PositiveBigIntegerField(default=0)
    cache_hits = models.PositiveBigIntegerField(
        default=0, help_text="Texts answered from the cache."
    )
    cost = models.DecimalField(
        default=0,
        max_digits=20,
        decimal_places=10,
        help_text="US dollars, estimated from the registry's prices; cached texts cost nothing.",
    )

    class Meta:
        ordering: ClassVar = ["-hour", "caller", "provider", "model"]
        verbose_name = "usage"
        verbose_name_plural = "usage"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["caller", "hour", "provider", "model"],
                name="one_usage_row_an_hour",
            )
        ]
        indexes: ClassVar = [models.Index(fields=["hour"], name="usage_by_hour")]

    def __str__(self) -> str:
        return (
            f"{self.username}: {self.provider}:{self.model}, {self.hour:%Y-%m-%d %H}:00"
        )


class EndUserDay(models.Model):
    """What a caller used in one day (UTC) for one of its own users, as its requests' `user` field names them."""

    caller = models.CharField(max_length=64)
    day = models.DateField()
    end_user = models.CharField(max_length=256)
    requests = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["-day", "caller", "end_user"]
        verbose_name = "end user's day"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["caller", "day", "end_user"], name="one_row_a_user_a_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.caller}: {self.end_user}, {self.day}"
