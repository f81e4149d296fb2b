"""OpenTelemetry's standard variables, as far as this server knows them; the SDK reads those that are set."""

import re
from pathlib import Path

from embeddings.conf import TelemetryConf
from embeddings_project.env import Env

SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
URLS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
CHOICES = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf",),
    "OTEL_EXPORTER_OTLP_COMPRESSION": ("none", "gzip", "deflate"),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": (
        "cumulative",
        "delta",
        "lowmemory",
    ),
    "OTEL_TRACES_SAMPLER": SAMPLERS,
}
NUMBERS = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": (1, 600),
    "OTEL_BSP_SCHEDULE_DELAY": (1, 600_000),
    "OTEL_BSP_MAX_QUEUE_SIZE": (512, 1_000_000),
    "OTEL_METRIC_EXPORT_INTERVAL": (100, 3_600_000),
}


def read_telemetry(env: Env) -> TelemetryConf | None:
    """Return what is sent to a collector; None where no address of one is set, or it is switched off."""
    given = {name: env.url(name) for name in URLS}
    for name, choices in CHOICES.items():
        given[name] = env.choice(name, "", choices)
    for name, (least, most) in NUMBERS.items():
        number = env.integer(name, 0, minimum=least, maximum=most)
        given[name] = str(number) if number else ""
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        given[name] = env.text(name)
    given["OTEL_EXPORTER_OTLP_HEADERS"] = _headers(env)
    given["OTEL_EXPORTER_OTLP_CERTIFICATE"] = _certificate(env)
    given["OTEL_TRACES_SAMPLER_ARG"] = _ratio(env)
    off = env.boolean("OTEL_SDK_DISABLED", default=False)
    signals = {
        kind: env.choice(f"OTEL_{kind}_EXPORTER", "otlp", ("otlp", "none")) == "otlp"
        and bool(given[URLS[0]] or given[f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT"])
        for kind in ("TRACES", "METRICS")
    }
    if off or not any(signals.values()):
        return None
    return TelemetryConf(
        traces=signals["TRACES"],
        metrics=signals["METRICS"],
        environment={name: value for name, value in given.items() if value},
    )


def _headers(env: Env) -> str:
    """Read them as a secret; the SDK would write one that it cannot read into the log."""
    headers = env.secret("OTEL_EXPORTER_OTLP_HEADERS") or ""
    for pair in filter(str.strip, headers.split(",")):
        if not re.fullmatch(r"\s*[\w.~!#$%&'*+^`|-]+\s*=.*", pair, re.ASCII):
            env.problem("OTEL_EXPORTER_OTLP_HEADERS", "must be name=value,name=value")
    return headers


def _certificate(env: Env) -> str:
    path = env.text("OTEL_EXPORTER_OTLP_CERTIFICATE")
    if path and not Path(path).is_file():
        env.problem("OTEL_EXPORTER_OTLP_CERTIFICATE", "names no file that is there")
    return path


def _ratio(env: Env) -> str:
    value = env.text("OTEL_TRACES_SAMPLER_ARG")
    try:
        sound = not value or 0 <= float(value) <= 1
    except ValueError:
        sound = False
    if not sound:
        env.problem(
            "OTEL_TRACES_SAMPLER_ARG", f"must be a share from 0 to 1, not {value!r}"
        )
    return value
