"""What operators set (providers, models, allowlists) and what processes share (circuit breakers, remote spaces)."""

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

MAX_DIMENSIONS = 8192
MAX_PROMPT_LENGTH = 2000


class Revision(models.Model):
    """One row: counts the changes, so that a process sees at little cost whether to read again."""

    number = models.PositiveBigIntegerField(default=0)
    allowlists_seeded = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"revision {self.number}"

    @classmethod
    def bump(cls) -> None:
        """Tell all processes that something changed."""
        cls.objects.get_or_create(pk=1)
        cls.objects.filter(pk=1).update(number=models.F("number") + 1)


class Watched(models.Model):
    """A row whose change every process must learn of."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        Revision.bump()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        Revision.bump()
        return deleted


class ProviderSetting(Watched):
    """One provider: the plug-in itself, or another upstream that speaks like it, which operators added.

    Its key comes from the environment and is never stored.
    """

    name = models.SlugField(max_length=64, unique=True)
    kind = models.CharField(max_length=64, help_text="The plug-in that calls it.")
    wire = models.CharField(
        blank=True,
        max_length=32,
        help_text="How it speaks; of local_api: openai, openai-exact, tei or ollama; of openai: openai or azure."
        " Empty: openai.",
    )
    enabled = models.BooleanField(default=True)
    base_url = models.URLField(
        "address",
        blank=True,
        max_length=500,
        help_text="Empty: the plug-in's own; for what is built in, from the environment.",
    )
    timeout_seconds = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.1), MaxValueValidator(600)],
        help_text="Empty: EMBEDDINGS_REQUEST_TIMEOUT.",
    )
    batch_size = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Texts in one call of it at most. Empty: as many as the plug-in's service takes.",
    )
    pool = models.SlugField(
        blank=True,
        max_length=64,
        help_text="The provider in whose place this one serves, too, as long as it gives the same vectors.",
    )
    pool_models = models.JSONField(
        "names of the pool's models",
        default=dict,
        blank=True,
        help_text='Where it calls them otherwise: {"text-embedding-3-small": "our-deployment"}.',
    )

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "provider"

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.kind = self.kind or self.name
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Refuse names that are not names."""
        names = self.pool_models
        words = [*names, *names.values()] if isinstance(names, dict) else [None]
        if not all(isinstance(word, str) and 0 < len(word) <= 200 for word in words):
            problem = "Give an object of names, of 200 characters at most: the pool's, and this provider's."
            raise ValidationError({"pool_models": problem})


class ModelEntry(Watched):
    """One model of one provider. `max_tokens` empty: the upstream judges.

    A prompt that is null is the model's own; an empty one keeps the model's own away.
    """

    provider = models.SlugField(max_length=64)
    name = models.CharField(max_length=200)
    enabled = models.BooleanField(default=True)
    is_default = models.BooleanField(
        "default",
        default=False,
        help_text="Serves requests that name no model; overrides EMBEDDINGS_DEFAULT_MODEL.",
    )
    retired = models.BooleanField(
        default=False, help_text="Withdrawn by its maker; still passed on."
    )
    dimensions = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_DIMENSIONS)],
    )
    native_dimensions = models.JSONField(
        null=True,
        blank=True,
        help_text='Sizes the model answers in by itself: [256, 512] or {"minimum": 1, "maximum": 1536}.',
    )
    max_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    vector_space = models.CharField(
        max_length=200,
        help_text="Vectors of models with the same word here may be compared.",
    )
    price_per_million_tokens = models.DecimalField(
        null=True,
        blank=True,
        max_digits=10,
        decimal_places=4,
        validators=[MinValueValidator(0)],
        help_text="US dollars.",
    )
    query_prompt = models.TextField(  # noqa: DJ001
        null=True, blank=True, max_length=MAX_PROMPT_LENGTH
    )
    document_prompt = models.TextField(  # noqa: DJ001
        null=True, blank=True, max_length=MAX_PROMPT_LENGTH
    )

    class Meta:
        ordering: ClassVar = ["provider", "name"]
        verbose_name = "model"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "name"], name="one_entry_a_model"
            ),
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"

    def clean(self) -> None:
        """Refuse native dimensions that are neither a list of sizes nor a range."""
        if self.native_dimensions is None:
            return
        try:
            read_sizes(self.native_dimensions)
        except (TypeError, KeyError, ValueError) as error:
            raise ValidationError(
                {
                    "native_dimensions": "Give a list of sizes, or minimum and maximum, from 1 to 8192."
                }
            ) from error


class AllowlistEntry(Watched):
    """What may be used. No entry of a kind: everything of that kind."""

    class Kind(models.TextChoices):
        PROVIDER = "provider", "provider"
        MODEL = "model", "model"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    pattern = models.CharField(
        max_length=264,
        help_text="Exact, or ending in *. Models match with or without their provider's prefix.",
    )

    class Meta:
        ordering: ClassVar = ["kind", "pattern"]
        verbose_name = "allowlist entry"
        verbose_name_plural = "allowlist"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "pattern"], name="one_entry_a_pattern"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pattern}"

    def clean(self) -> None:
        """Refuse a star anywhere but at the end."""
        self.pattern = self.pattern.strip()
        if not self.pattern or "*" in self.pattern[:-1]:
            raise ValidationError(
                {"pattern": "Give an exact name, or a beginning followed by one *."}
            )


class Breaker(models.Model):
    """The circuit breaker of one provider, shared by all processes. Changed by conditional UPDATEs only."""

    class State(models.TextChoices):
        CLOSED = "closed", "closed"
        OPEN = "open", "open"
        HALF_OPEN = "half_open", "half open"

    provider = models.SlugField(max_length=64, unique=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.CLOSED)
    failure_count = models.PositiveIntegerField(default=0)
    success_count = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    probe_until = models.DateTimeField(
        null=True, blank=True, help_text="An elected probe is under way until then."
    )
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["provider"]
        verbose_name = "circuit breaker"

    def __str__(self) -> str:
        return f"{self.provider}: {self.state}"


class BreakerChange(models.Model):
    """One change of a circuit breaker's state: its story, bounded for each provider (see providers/breaker.py)."""

    provider = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)
    from_state = models.CharField(max_length=9, choices=Breaker.State.choices)
    to_state = models.CharField(max_length=9, choices=Breaker.State.choices)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["provider", "-id"], name="breaker_story")
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.from_state} to {self.to_state}"


class ProviderTest(models.Model):
    """What came of one short text that somebody had a provider embed. Bounded for each provider."""

    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(default=timezone.now)
    ok = models.BooleanField()
    milliseconds = models.PositiveIntegerField(null=True)
    dimensions = models.PositiveIntegerField(null=True)
    problem = models.CharField(max_length=500, blank=True, help_text="One sentence.")
    by = models.CharField(max_length=150, blank=True, help_text="Username.")

    class Meta:
        ordering: ClassVar = ["-pk"]
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["provider", "-id"], name="provider_tests")
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {'ok' if self.ok else self.problem}"


class ModelAction(models.Model):
    """A download or a warm-up, running or over. Whoever does it writes it; `seen_at` says when it last did.

    While it runs and `seen_at` is old, its process is gone. `state` and `stage` are as services/model_actions.py says.
    """

    class Kind(models.TextChoices):
        DOWNLOAD = "download", "download"
        WARM_UP = "warm_up", "warm-up"

    class State(models.TextChoices):
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=9, choices=State.choices, default=State.RUNNING)
    stage = models.CharField(max_length=100, blank=True)
    done_bytes = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField(null=True)
    problem = models.CharField(max_length=500, blank=True, help_text="One sentence.")
    by = models.CharField(max_length=150, blank=True, help_text="Username.")
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    cancel_requested = models.BooleanField(default=False)

    class Meta:
        ordering: ClassVar = ["-pk"]
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["provider", "model", "-id"], name="model_actions")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.provider}:{self.model}: {self.state}"


class RemoteSpace(models.Model):
    """What a remote model answers to the fixed texts at one address. Changed by conditional UPDATEs only.

    `pool`: as whose member; then the reference and the revision are those of that provider's model, and `drifted`
    means that it gives other vectors than the pool. Empty: in its own right. `reference` and `seen`: float32
    little-endian, one vector a text: what is kept, and, while it has drifted, what came at the last check.
    `dimensions` is the reference's; null before the first answer.
    """

    class State(models.TextChoices):
        OK = "ok", "ok"
        DRIFTED = "drifted", "drifted"

    provider = models.SlugField(max_length=64)
    model = models.CharField(max_length=200)
    address = models.CharField(
        max_length=32, help_text="A hash: the address itself may hold secrets."
    )
    pool = models.SlugField(blank=True, max_length=64)
    host = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=7, choices=State.choices, default=State.OK)
    cosine = models.FloatField(
        null=True,
        blank=True,
        help_text="The least of the texts at the last check; 0 if the width is another.",
    )
    checked_at = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveIntegerField(default=1)
    accepted_by = models.CharField(max_length=150, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    dimensions = models.PositiveIntegerField(null=True, blank=True)
    reference = models.BinaryField(default=b"")
    seen = models.BinaryField(default=b"")
    lease_until = models.DateTimeField(
        null=True, blank=True, help_text="A check is under way until then."
    )
    retry_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["provider", "model", "host"]
        verbose_name = "remote space"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "model", "address", "pool"], name="one_row_a_space"
            )
        ]

    def __str__(self) -> str:
        place = f"{self.provider}:{self.model} at {self.host or 'its own address'}"
        return f"{place} for {self.pool}" if self.pool else place


def read_sizes(value: Any) -> range | tuple[int, ...]:
    """Read stored native dimensions. Raises TypeError, KeyError or ValueError."""
    if isinstance(value, dict):
        sizes: range | tuple[int, ...] = range(value["minimum"], value["maximum"] + 1)
    else:
        sizes = tuple(value)
    if not sizes or not all(
        type(size) is int for size in (sizes[0], sizes[-1], *sizes[:64])
    ):
        raise TypeError("sizes must be whole numbers")
    if min(sizes) < 1 or max(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"sizes must lie between 1 and {MAX_DIMENSIONS}")
    return sizes


def written_sizes(sizes: range | tuple[int, ...]) -> list[int] | dict[str, int] | None:
    """Write native dimensions as `read_sizes` reads them; None if there are none."""
    if not sizes:
        return None
    if isinstance(sizes, range):
        return {"minimum": sizes[0], "maximum": sizes[-1]}
    return list(sizes)
