from dataclasses import replace

import pytest
from django.core.checks import run_checks


def ids():
    return {message.id for message in run_checks(tags=["embeddings"])}


def test_sound_settings_raise_nothing(fakes):
    assert ids() == set()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("short", "embeddings.E001"),
        ("your_api_key_here", "embeddings.E002"),
        ("aaaaaaaaaaaaaaaaaaaa", "embeddings.E002"),
        ("sixteen chars or so", "embeddings.E003"),
        ("schlüssel-0123456789", "embeddings.E003"),
    ],
)
def test_unsafe_key_stops_the_start(configure, key, expected):
    configure(single_user_api_key=key)
    assert expected in ids()


def test_redis_without_its_client_stops_the_start(settings, configure, monkeypatch):
    configure(
        limiter=replace(settings.EMBEDDINGS.limiter, redis_url="redis://localhost")
    )
    assert "embeddings.E020" not in ids()
    monkeypatch.setattr("embeddings.checks.find_spec", lambda name: None)
    assert "embeddings.E020" in ids()


def test_debug_beyond_loopback_stops_the_start(settings):
    settings.DEBUG, settings.LOOPBACK = True, False
    assert "embeddings.E004" in ids()


def test_unknown_providers_in_the_settings_stop_the_start(configure):
    configure(default_provider="acme")
    assert "embeddings.E005" in ids()
