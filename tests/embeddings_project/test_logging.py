import io
import json
import logging.config

import pytest
import structlog

from embeddings_project.logging import HIDDEN, hide, logging_config


@pytest.fixture(autouse=True)
def structlog_as_it_was():
    """Loggers that are cached keep the list of processors they found; who captures logs later changes the latest."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def line():
    """Return a function that logs by `write(logger)` and returns the one line that comes of it, read."""
    stream = io.StringIO()
    config = logging_config(level="INFO", log_format="json")
    formatter = logging.config.DictConfigurator(config).configure_formatter(
        config["formatters"]["line"]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("tests.line")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def read(write, *, through_structlog=True):
        write(structlog.get_logger("tests.line") if through_structlog else logger)
        return json.loads(stream.getvalue())

    yield read
    logger.removeHandler(handler)


def test_event_is_a_line_with_its_fields_and_the_request_s_id(line):
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        said = line(lambda log: log.info("something_happened", count=3))
    assert said["timestamp"].endswith("Z")
    assert {**said, "timestamp": ""} == {
        "event": "something_happened",
        "count": 3,
        "request_id": "r1",
        "level": "info",
        "logger": "tests.line",
        "timestamp": "",
    }


def test_traceback_is_in_the_line(line):
    def fail(log):
        try:
            raise ValueError("no good")
        except ValueError:
            log.exception("failed")

    assert "ValueError: no good" in line(fail)["exception"]


def test_lines_of_others_have_the_same_shape(line):
    said = line(lambda log: log.info("%s left", 2), through_structlog=False)
    assert (said["event"], said["level"], said["logger"]) == (
        "2 left",
        "info",
        "tests.line",
    )


@pytest.mark.parametrize("value", ["\ud800", 2**70, object(), {1: 2}])
def test_no_value_keeps_a_line_from_being_written(line, value):
    assert line(lambda log: log.info("odd", value=value))["event"] == "odd"


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("/api/v1/sk-0123456789abcdefXYZ/models", "/api/v1/sk-…/models"),
        ("/api/v1/sk-proj-0123_456-789abcdef", "/api/v1/sk-…"),
        ("/x/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmVk/y", "/x/eyJ…/y"),
        ("/x\nsk-proj-0123456789abcdef", "sk-…"),
        (f"/xsk-0123456789ab{'A-_' * 14}x", "/xsk-…"),
        ("/api/v1/task-1/models", "/api/v1/task-1/models"),
        ("multilingual-task-embeddings-large", "multilingual-task-embeddings-large"),
        ("sk-0123456789ab", "sk-0123456789ab"),
    ],
)
def test_what_looks_like_a_key_is_masked_wherever_it_stands(text, logged, log_format):
    formatter = formatter_of(log_format)
    for fields in ({"event": "x", "path": text}, {"event": f"no {text}"}):
        record = logging.LogRecord("x", logging.INFO, "", 0, fields, (), None)
        record.__dict__.update(_logger=None, _name="info")
        line = formatter.format(record)
        assert logged in line
        assert logged == text or text not in line


def test_line_of_another_library_is_masked():
    text = "Not Found: /sk-0123456789abcdefXYZ"
    record = logging.LogRecord("x", logging.INFO, "", 0, text, (), None)
    assert "sk-…" in formatter_of("json").format(record)


def test_secrets_of_the_server_are_masked_also_as_json_writes_them(line, monkeypatch):
    monkeypatch.setattr("embeddings_project.logging.HIDDEN", set())
    hide('an-operator\'s "own" key', None, "", "short")
    said = line(lambda log: log.info("seen", path='/an-operator\'s "own" key/short'))
    assert said["path"] == "/…/short"


def test_secrets_of_this_process_are_hidden(settings):
    assert settings.SECRET_KEY in HIDDEN


def formatter_of(log_format):
    config = logging_config(level="INFO", log_format=log_format)
    return logging.config.DictConfigurator(config).configure_formatter(
        config["formatters"]["line"]
    )
