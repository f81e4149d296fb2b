"""Typed, strict readers for the environment. Every problem is collected and named; nothing is guessed."""

import base64
import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from providers.built_in import built_in

# Names under these prefixes are ours alone: an unknown one is a typo.
OWN_PREFIXES = (
    "EMBEDDINGS_",
    "ALLOWED_EMBEDDING_",
    "RATE_LIMIT_",
    "SINGLE_USER_",
    "LOCAL_API_",
    "AUTH_",
    "JWT_",
    "MEDIA_",
    "METRICS_",
    "UPSTREAM_",
)
PROVIDER_PREFIXES = tuple(
    sorted(
        {
            f"{variable.partition('_')[0]}_"
            for one in built_in()
            for variable in one.variables
            if not variable.startswith(OWN_PREFIXES)
        }
    )
)
# Other tools use these too (OPENAI_ORG_ID, GOOGLE_CLOUD_PROJECT): only a near miss of a known name is a typo.
SHARED_PREFIXES = (
    "DATA_",
    "CACHE_",
    "WEB_",
    "HTTP_",
    "DRAIN_",
    "LOG_",
    "CORS_",
    "DATABASE_",
    "PUBLIC_",
    "HSTS_",
    "HTTPS_",
    "FORWARDED_",
    "OTEL_",
    "SECRET_KEY",
    *PROVIDER_PREFIXES,
)
NEAR_MISS = 0.88
# Standard variables of OpenTelemetry that are near misses of others; its library reads them.
NO_MISS = re.compile(r"OTEL_(EXPORTER_OTLP_(CLIENT|LOGS|METRICS|TRACES)|BLRP)_\w+")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


Given = ParamSpec("Given")
Value = TypeVar("Value")


def recorded(
    read: "Callable[Concatenate[Env, str, Given], Value]",
) -> "Callable[Concatenate[Env, str, Given], Value]":
    """Have a reader note what it returns."""

    @functools.wraps(read)
    def noting(
        env: "Env", name: str, /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Value:
        value = env.read[name] = read(env, name, *args, **kwargs)
        return value

    return noting


class Env:
    """Read settings from a mapping of names to strings. An empty value counts as unset.

    Readers never raise: they note the problem and return the default. `finish` raises once, with all of them.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.known: set[str] = set()  # all that were asked for
        self.read: dict[str, object] = {}  # what was returned, secrets too
        self._problems: list[str] = []
        self.secrets: set[str] = set()  # all that were read

    @recorded
    def text(self, name: str, default: str = "") -> str:
        return self._raw(name) or default

    @recorded
    def secret(self, name: str) -> str | None:
        """Read a secret from NAME, or from the file that NAME_FILE points to."""
        value, path = self._raw(name), self._raw(f"{name}_FILE")
        if value and path:
            self.problem(name, f"is set, and so is {name}_FILE; keep one of them")
        if value or not path:
            self.secrets.add(value or "")
            return value
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
            self.secrets.add(text)
            return text or None
        except (OSError, UnicodeDecodeError) as error:
            self.problem(
                f"{name}_FILE",
                f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}",
            )
            return None

    @recorded
    def signing_secret(self, name: str) -> str | None:
        """Read a secret; one that begins with `whsec_` goes on as Standard Webhooks has it, in base64."""
        value = self.secret(name)
        if value and value.startswith("whsec_"):
            try:
                size = len(
                    base64.b64decode(value.removeprefix("whsec_"), validate=True)
                )
            except ValueError:
                size = 0
            if not 24 <= size <= 64:
                self.problem(name, "must have base64 of 24 to 64 bytes after whsec_")
        return value

    def between(self, prefix: str, suffix: str) -> tuple[str, ...]:
        """Return what stands between the two in the names of variables that are set, or whose _FILE is."""
        given = [name for name, value in self._values.items() if value.strip()]
        names = {name.removesuffix("_FILE") for name in given}
        return tuple(
            sorted(
                name[len(prefix) : -len(suffix)]
                for name in names
                if name.startswith(prefix)
                and name.endswith(suffix)
                and len(name) > len(prefix) + len(suffix)
            )
        )

    @recorded
    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        value = self._raw(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            self.problem(
                name,
                f"must be a whole number from {minimum} to {maximum}, not {value!r}",
            )
            return default
        return number

    @recorded
    def seconds(self, name: str, default: float, *, maximum: float) -> float:
        value = self._raw(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number <= maximum:
            self.problem(
                name, f"must be seconds above 0 and at most {maximum:g}, not {value!r}"
            )
            return default
        return number

    @recorded
    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._raw(name)
        if value is None:
            return default
        if value.lower() not in TRUE + FALSE:
            self.problem(name, f"must be true or false, not {value!r}")
        return value.lower() in TRUE

    @recorded
    def choice(self, name: str, default: str, choices: Iterable[str]) -> str:
        value = self._raw(name)
        if value is None:
            return default
        if value.lower() not in choices:
            self.problem(name, f"must be one of {', '.join(choices)}, not {value!r}")
            return default
        return value.lower()

    @recorded
    def words(self, name: str) -> tuple[str, ...]:
        """Read a comma-separated list."""
        return tuple(
            word.strip() for word in (self._raw(name) or "").split(",") if word.strip()
        )

    @recorded
    def origins(self, name: str) -> tuple[str, ...]:
        """Read a comma-separated list of origins, as browsers send them."""
        given = self.words(name)
        for origin in given:
            scheme, _, host = origin.partition("://")
            if not scheme or not re.fullmatch(r"[\w.\-\[\]:]+", host, re.ASCII):
                self.problem(
                    name,
                    f"must be origins such as https://app.example or http://localhost:3000, not {origin!r}",
                )
        return given

    @recorded
    def url(self, name: str, default: str | None = None) -> str | None:
        value = self._raw(name)
        if value is None:
            return default
        try:
            parts = urlsplit(value)
            sound = (
                parts.scheme in ("http", "https")
                and bool(parts.hostname)
                and parts.port != 0
            )
        except ValueError:
            sound = False
        if not sound:
            self.problem(name, "must be an http:// or https:// URL")
            return default
        return value.rstrip("/")

    @recorded
    def json_object(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        value = self._raw(name)
        if value is None:
            return default
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            self.problem(name, "must be a JSON object")
            return default
        return parsed

    def problem(self, name: str, what: str) -> None:
        """Note that the variable `name` is wrong; `what` completes the sentence."""
        self._problems.append(f"{name} {what}.")

    def finish(self) -> None:
        """Raise ImproperlyConfigured with every problem found, unknown names included."""
        unknown = (
            self._unknown(name)
            for name in sorted(self._values)
            if name not in self.known
        )
        problems = self._problems + [line for line in unknown if line]
        if problems:
            raise ImproperlyConfigured(
                "The environment is wrong: " + " ".join(problems)
            )

    def _raw(self, name: str) -> str | None:
        self.known.add(name)
        return self._values.get(name, "").strip() or None

    def _unknown(self, name: str) -> str | None:
        if NO_MISS.fullmatch(name):
            return None
        near = difflib.get_close_matches(name, self.known, n=1, cutoff=NEAR_MISS)
        if name.startswith(OWN_PREFIXES) or (near and name.startswith(SHARED_PREFIXES)):
            return f"{name} is not a setting of this server" + (
                f"; did you mean {near[0]}?" if near else "."
            )
        return None
