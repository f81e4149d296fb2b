import io
import json
import logging.config

import pytest
import structlog

from embeddings_project.logging import logging_config


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


def test_traceback_stands_in_the_line(line):
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
