import pytest
from django.core.exceptions import ImproperlyConfigured
from opentelemetry import environment_variables as api_variables
from opentelemetry.sdk import environment_variables as sdk_variables

from embeddings_project import settings
from embeddings_project.env import Env
from embeddings_project.telemetry import read_telemetry

URL = "http://collector:4318"


def telemetry(**values):
    env = Env({f"OTEL_{name}": value for name, value in values.items()})
    read = read_telemetry(env)
    env.finish()
    return read


def test_nothing_is_sent_without_an_address():
    assert telemetry() is None
    assert telemetry(SERVICE_NAME="mine", TRACES_SAMPLER="always_on") is None


def test_an_address_sends_both_and_the_library_gets_what_is_set():
    read = telemetry(EXPORTER_OTLP_ENDPOINT=URL, SERVICE_NAME="mine")
    assert (read.traces, read.metrics) == (True, True)
    assert read.environment == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": URL,
        "OTEL_SERVICE_NAME": "mine",
    }


@pytest.mark.parametrize(
    ("values", "traces", "metrics"),
    [
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": f"{URL}/v1/traces"}, True, False),
        ({"EXPORTER_OTLP_METRICS_ENDPOINT": f"{URL}/v1/metrics"}, False, True),
        ({"EXPORTER_OTLP_ENDPOINT": URL, "TRACES_EXPORTER": "none"}, False, True),
        ({"EXPORTER_OTLP_ENDPOINT": URL, "METRICS_EXPORTER": "none"}, True, False),
    ],
)
def test_one_of_both_can_be_left_out(values, traces, metrics):
    read = telemetry(**values)
    assert (read.traces, read.metrics) == (traces, metrics)


def test_it_can_be_switched_off():
    assert telemetry(EXPORTER_OTLP_ENDPOINT=URL, SDK_DISABLED="true") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("TRACES_SAMPLER", "jaeger_remote"),
        ("TRACES_SAMPLER_ARG", "1.5"),
        ("TRACES_SAMPLER_ARG", "ten percent"),
        ("TRACES_SAMPLER_ARG", "nan"),
        ("EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("EXPORTER_OTLP_HEADERS", "Authorization: Bearer 0123456789abcdef"),
        ("BSP_MAX_QUEUE_SIZE", "-1"),
        ("METRIC_EXPORT_INTERVAL", "often"),
        ("EXPORTER_OTLP_ENDPIONT", URL),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name, value):
    with pytest.raises(ImproperlyConfigured, match=f"OTEL_{name}") as refused:
        telemetry(**{name: value})
    assert "0123456789abcdef" not in str(refused.value)


STANDARD = {
    value
    for module in (api_variables, sdk_variables)
    for name, value in vars(module).items()
    if name.startswith("OTEL_")
}


@pytest.mark.parametrize("name", sorted(STANDARD - settings.env.known))
def test_a_standard_variable_that_is_not_ours_is_no_misspelt_one(name):
    assert telemetry(**{name.removeprefix("OTEL_"): "x"}) is None


def test_headers_may_come_from_a_file_and_are_not_shown(tmp_path):
    file = tmp_path / "headers"
    file.write_text("api-key=0123456789abcdef\n")
    read = telemetry(EXPORTER_OTLP_ENDPOINT=URL, EXPORTER_OTLP_HEADERS_FILE=str(file))
    given = read.environment["OTEL_EXPORTER_OTLP_HEADERS"]
    assert given == "api-key=0123456789abcdef"
    assert given not in repr(read)
