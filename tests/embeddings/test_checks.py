from dataclasses import replace
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.core.checks import ERROR, run_checks

from embeddings.conf import AccessConf, TelemetryConf
from tests.providers.engine import tiny


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


@pytest.mark.parametrize("error", [None, ModuleNotFoundError("no such package")])
def test_a_collector_without_opentelemetry_stops_the_start(
    configure, monkeypatch, error
):
    configure(telemetry=TelemetryConf(traces=True, metrics=True, environment={}))
    assert "embeddings.E021" not in ids()
    monkeypatch.setattr(
        "embeddings.checks.find_spec", Mock(side_effect=error, return_value=None)
    )
    assert "embeddings.E021" in ids()


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


def test_name_that_no_provider_can_have_stops_the_start(configure):
    configure(default_provider="openai:eu", fallback_chain={"openai": ("eu west",)})
    found = [m.msg for m in run_checks(tags=["embeddings"])]
    assert [line.partition(" ")[0] for line in found] == [
        "EMBEDDINGS_DEFAULT_PROVIDER",
        "EMBEDDINGS_FALLBACK_CHAIN",
    ]
    assert ids() == {"embeddings.E005"}


def test_name_that_the_console_may_know_stops_no_start(configure):
    configure(default_provider="eu", fallback_chain={"openai": ("eu-west_2",)})
    assert ids() == set()


SECRET = "Quite-random-0123456789-abcdefghij"


def multi_user(**changes):
    return AccessConf(**{"mode": "multi_user", "jwt_secret_key": SECRET, **changes})


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("", {"embeddings.E006"}),
        (SECRET[:31], {"embeddings.E007"}),
        ("changeme-changeme-changeme-changeme", {"embeddings.E008"}),
        ("your-secret-key-0123456789-abcdefgh", {"embeddings.E008"}),
        ("abababababababababababababababababab", {"embeddings.E008"}),
        ("-----BEGIN PRIVATE KEY----- 0123456789", {"embeddings.E008"}),
        (SECRET, set()),
    ],
)
def test_unsafe_jwt_secret_stops_the_start(fakes, configure, secret, expected):
    configure(access=multi_user(jwt_secret_key=secret), single_user_api_key="")
    assert ids() == expected


def test_jwt_secret_is_of_no_matter_in_single_user_mode(fakes, configure):
    configure(access=AccessConf(jwt_secret_key="short"))
    assert ids() == set()


@pytest.mark.parametrize(
    ("former", "expected"),
    [
        ("", set()),
        (SECRET[:31], {"embeddings.E007"}),
        ("changeme-changeme-changeme-changeme", {"embeddings.E008"}),
        (SECRET[::-1], set()),
    ],
)
def test_former_jwt_secret_is_held_to_the_same(fakes, configure, former, expected):
    configure(access=multi_user(former_jwt_secret_key=former), single_user_api_key="")
    assert ids() == expected


@pytest.mark.parametrize(
    ("key", "former", "expected"),
    [
        (SECRET[:31], "", ["SECRET_KEY must have at least 32 characters."]),
        (SECRET, SECRET[:31], ["SECRET_KEY_FORMER must have at least 32 characters."]),
        (SECRET, "a" * 40, ["SECRET_KEY_FORMER is a placeholder or no secret; set a"]),
        (SECRET, SECRET[::-1], []),
    ],
)
def test_weak_secret_key_stops_the_start(fakes, settings, key, former, expected):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, [former] if former else []
    messages = [message.msg for message in run_checks(tags=["embeddings"])]
    assert len(messages) == len(expected)
    assert all(map(str.startswith, messages, expected))


def pem(key):
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA_2048 = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_1024 = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P_256 = ec.generate_private_key(ec.SECP256R1())
P_384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("algorithm", "key", "expected"),
    [
        ("RS256", "", {"embeddings.E006"}),
        ("RS256", "nonsense", {"embeddings.E009"}),
        ("RS256", pem(P_256.public_key()), {"embeddings.E009"}),
        ("RS256", pem(RSA_1024.public_key()), {"embeddings.E009"}),
        ("ES256", pem(P_384.public_key()), {"embeddings.E009"}),
        ("ES256", pem(RSA_2048.public_key()), {"embeddings.E009"}),
        (
            "RS256",
            RSA_2048.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ).decode(),
            {"embeddings.E009"},
        ),
        ("RS256", pem(RSA_2048.public_key()), set()),
        ("ES256", pem(P_256.public_key()), set()),
    ],
)
def test_public_key_that_cannot_verify_stops_the_start(
    fakes, configure, algorithm, key, expected
):
    configure(
        access=multi_user(
            jwt_algorithm=algorithm, jwt_public_key=key, jwt_secret_key=""
        )
    )
    assert ids() == expected


@pytest.mark.parametrize(
    ("former", "expected"),
    [("nonsense", {"embeddings.E009"}), (pem(RSA_2048.public_key()), set())],
)
def test_former_public_key_is_held_to_the_same(fakes, configure, former, expected):
    configure(
        access=multi_user(
            jwt_algorithm="RS256",
            jwt_public_key=pem(RSA_2048.public_key()),
            former_jwt_public_key=former,
        )
    )
    assert ids() == expected


def folder_messages(settings, tmp_path, *paths):
    settings.LOCAL_ENGINE = {"data_dir": tmp_path, "model_paths": paths}
    return {
        (message.id, message.level >= ERROR, message.msg)
        for message in run_checks(tags=["embeddings"])
    }


def test_a_model_path_that_is_absent_stops_the_start(fakes, settings, tmp_path):
    absent = tmp_path / "tpyo"
    [(number, stops, text)] = folder_messages(settings, tmp_path, absent)
    assert (number, stops) == ("embeddings.E030", True)
    assert str(absent) in text


def test_two_folders_of_one_model_stop_the_start(fakes, settings, tmp_path):
    one = tiny.write_model(tmp_path / "models" / "own--thing")
    two = tiny.write_model(tmp_path / "elsewhere" / "own" / "thing")
    [(number, stops, text)] = folder_messages(
        settings, tmp_path, tmp_path / "elsewhere"
    )
    assert (number, stops) == ("embeddings.E030", True)
    assert str(one) in text
    assert str(two) in text


def test_folders_that_are_no_models_are_named_and_stop_nothing(
    fakes, settings, tmp_path
):
    tiny.write_model(tmp_path / "models" / "whole")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "config.json").write_text("{")
    (tmp_path / "empty").mkdir()
    found = folder_messages(settings, tmp_path, tmp_path / "empty")
    assert {(number, stops) for number, stops, _ in found} == {
        ("embeddings.W030", False)
    }
    texts = " ".join(text for _, _, text in found)
    assert str(tmp_path / "models" / "broken") in texts
    assert str(tmp_path / "empty") in texts
    assert "whole" not in texts


def test_a_device_that_is_not_there_stops_the_start(fakes, settings):
    settings.LOCAL_ENGINE = {**settings.LOCAL_ENGINE, "device": "cuda:3"}
    [problem] = run_checks(tags=["embeddings"])
    assert (problem.id, problem.level >= ERROR) == ("embeddings.E031", True)
    assert "EMBEDDINGS_DEVICE asks for cuda:3" in problem.msg
