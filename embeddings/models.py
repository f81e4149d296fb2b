"""Who may call and what they may use, who changed what, and who used how much of which model."""

from typing import Any, ClassVar, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone


class Limited(models.Model):
    """Limits of one caller. Empty: the next wider rule counts (a key's user, then the server's settings)."""

    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Requests that may come at once.",
    )
    tokens_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    monthly_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    monthly_cost_usd = models.DecimalField(
        "monthly cost (USD)",
        null=True,
        blank=True,
        max_digits=12,
        decimal_places=4,
        validators=[MinValueValidator(0)],
    )

    class Meta:
        abstract = True


class UserLimits(Limited):
    """The limits of one user, for all that its keys leave open, and the quotas of all its keys together."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="limits"
    )
    max_documents = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Media items that may be stored."
    )
    max_stored_bytes = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Of their texts, in UTF-8."
    )
    max_queued_jobs = models.PositiveIntegerField(
        null=True, blank=True, help_text="Jobs that may wait or run at once."
    )

    class Meta:
        verbose_name = verbose_name_plural = "limits"

    def __str__(self) -> str:
        return f"limits of {self.user}"


class ApiKey(Limited):
    """One API key of one user. The key itself is shown once and never stored."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    name = models.CharField(max_length=100, blank=True, help_text="What it is for.")
    prefix = models.CharField(max_length=15, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)  # sha256 of the whole key
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(
        null=True, editable=False, help_text="To the minute."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    allowed_providers = models.JSONField(default=list, blank=True)
    allowed_models = models.JSONField(default=list, blank=True)
    read_only_media = models.BooleanField(
        default=False, help_text="Media and jobs may be read, not changed."
    )

    class Meta:
        ordering: ClassVar = ["-created_at", "-pk"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})" if self.name else f"{self.prefix}…"

    @property
    def status(self) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return "expired" if expired else "active"

    @property
    def narrowed(self) -> bool:
        """Whether the key may do less than its user."""
        return bool(
            self.allowed_providers or self.allowed_models or self.read_only_media
        )


class AppendOnlyQuerySet(models.QuerySet["AuditEntry"]):
    """Rows that are written once."""

    def update(self, **changes: Any) -> NoReturn:
        raise ValidationError("The audit log is append-only.")

    def delete(self) -> NoReturn:
        raise ValidationError("The audit log is append-only.")


class AuditEntry(models.Model):
    """One admin action. Refers by name, not by key, so that it outlives what it tells of. Never holds a secret."""

    class Source(models.TextChoices):
        API = "api", "API"
        CONSOLE = "console", "console"
        COMMAND = "command", "command line"

    at = models.DateTimeField(default=timezone.now, db_index=True)
    source = models.CharField(max_length=7, choices=Source.choices)
    actor = models.CharField(max_length=150, help_text="Username.")
    credential = models.CharField(
        max_length=40, blank=True, help_text="What the caller showed."
    )
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=128, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValidationError("The audit log is append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValidationError("The audit log is append-only.")


class LoginFailures(models.Model):
    """Failed logins from one address, or for one name from one address. `source` is a digest: people type passwords
    into the wrong field."""

    source = models.CharField(max_length=64, unique=True)
    count = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(db_index=True)
    locked_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = verbose_name_plural = "failed logins"

    def __str__(self) -> str:
        return f"{self.count} failed logins"


class UsageHour(models.Model):
    """One caller's use of one model in one hour (UTC). Written by UPSERTs that add up; see services/usage/counts.py.

    `caller` is the caller's stable id; the names beside it are those of the last request. Ids are plain numbers, so
    that usage outlives the users and keys it speaks of. `asked` is what was asked for, `provider:model`, which is
    another one than what answered after a fallback.
    """

    caller = models.CharField(max_length=64)
    hour = models.DateTimeField()
    provider = models.CharField(
        max_length=64, blank=True, help_text="Empty: failed before a model was found."
    )
    model = models.CharField(max_length=200, blank=True)
    asked = models.CharField(
        "asked for", max_length=265, blank=True, db_default="", default=""
    )
    username = models.CharField(max_length=150)
    user_id = models.BigIntegerField(null=True, blank=True)
    key_id = models.BigIntegerField(null=True, blank=True)
    requests = models.PositiveBigIntegerField(
        default=0, help_text="Answered with vectors."
    )
    errors = models.PositiveBigIntegerField(default=0, help_text="Failed.")
    texts = models.PositiveBigIntegerField(default=0, db_default=0)
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
        verbose_name = "hour of usage"
        verbose_name_plural = "hours of usage"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["caller", "hour", "provider", "model", "asked"],
                name="one_usage_row_an_hour",
            )
        ]
        indexes: ClassVar = [models.Index(fields=["hour"], name="usage_by_hour")]

    def __str__(self) -> str:
        served = f"{self.provider}:{self.model}" if self.provider else "no model"
        return f"{self.username}: {served}, {self.hour:%Y-%m-%d %H}:00 UTC"


class EndUserDay(models.Model):
    """What a caller used in one day (UTC) for one of its own users, as its requests' `user` field names them."""

    caller = models.CharField(max_length=64)
    day = models.DateField()
    end_user = models.CharField(max_length=256)
    requests = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["-day", "caller", "end_user"]
        verbose_name = "day of an end user"
        verbose_name_plural = "days of end users"
        indexes: ClassVar = [models.Index(fields=["day"], name="end_user_days_by_day")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["caller", "day", "end_user"], name="one_row_a_user_a_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.caller}: {self.end_user}, {self.day}"


MINUTE, HOUR = 60, 3600  # the spans of slots


class Slot(models.Model):
    """What was counted over all callers in one minute, kept for days, or in one hour. Written by UPSERTs that add up.

    `start`: its first second, since the epoch; `span`: its length in seconds.
    """

    start = models.BigIntegerField()
    span = models.PositiveSmallIntegerField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} of {self.span} s from {self.start}"


class Traffic(Slot):
    """Requests by what was asked for, what answered, and how it ended. The names come from registries, not clients.

    `endpoint`: method and path; or `job`, `playground`. `outcome`: empty if it was answered, else status and code.
    """

    endpoint = models.CharField(max_length=100)
    provider = models.CharField(max_length=64, blank=True)
    model = models.CharField(max_length=200, blank=True)
    asked = models.CharField(max_length=265, blank=True)
    outcome = models.CharField(max_length=80, blank=True)
    requests = models.PositiveBigIntegerField(default=0)
    texts = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)
    cache_hits = models.PositiveBigIntegerField(default=0)
    cost = models.DecimalField(default=0, max_digits=20, decimal_places=10)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=[
                    *("span", "start", "endpoint"),
                    *("provider", "model", "asked", "outcome"),
                ],
                name="one_traffic_row_a_slot",
            )
        ]


class LatencyCount(Slot):
    """Requests answered by one model whose stage took no longer than a bound, and longer than the next smaller one.

    `bucket`: the bound's place in TIME_BUCKETS; one more for what took longer than all. `stage`: `total` or a part.
    """

    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=200)
    stage = models.CharField(max_length=16)
    bucket = models.PositiveSmallIntegerField()
    requests = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["span", "start", "provider", "model", "stage", "bucket"],
                name="one_latency_row_a_slot",
            )
        ]


class Level(Slot):
    """A quantity that goes up and down, such as what waits in a queue: the sum of its samples, and the highest."""

    name = models.CharField(max_length=64)
    samples = models.PositiveBigIntegerField(default=0)
    total = models.FloatField(default=0)
    highest = models.FloatField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["span", "start", "name"], name="one_level_row_a_slot"
            )
        ]


class LoggedRequest(models.Model):
    """One of the last requests. Never holds a text. `stages`: milliseconds by stage."""

    at = models.DateTimeField()
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    endpoint = models.CharField(max_length=100)
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=64, blank=True)
    caller = models.CharField(max_length=64, blank=True)
    username = models.CharField(max_length=150, blank=True)
    asked = models.CharField(max_length=265, blank=True)
    provider = models.CharField(max_length=64, blank=True)
    model = models.CharField(max_length=200, blank=True)
    member = models.CharField(max_length=64, blank=True, help_text="Of a pool.")
    texts = models.PositiveIntegerField(default=0)
    tokens = models.PositiveIntegerField(default=0)
    cache_hits = models.PositiveIntegerField(default=0)
    milliseconds = models.FloatField()
    stages = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["-pk"]
        verbose_name = "request"

    def __str__(self) -> str:
        return f"{self.endpoint} {self.request_id}"


class Node(models.Model):
    """A server that shares this database with others, as it last said that it runs: see services/nodes.py."""

    name = models.CharField(max_length=64, unique=True)
    run = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True)
    settings = models.JSONField(default=dict)
    prepared = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host} ({self.name[:12]})"


class ProcessBeat(models.Model):
    """A process of a server, as it last said that it runs. `detail`: more of its kind, such as loaded models."""

    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    role = models.CharField(max_length=16)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(db_index=True)
    memory_bytes = models.PositiveBigIntegerField(default=0)
    detail = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["host", "pid", "role"], name="one_row_a_process"
            )
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.pid} on {self.host}"
