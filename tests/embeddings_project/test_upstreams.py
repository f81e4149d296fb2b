from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from embeddings_project.env import Env
from embeddings_project.upstreams import read_allowed_hosts, read_providers
from providers.built_in import built_in

ENGINE = {"engine": True}


def providers(**values):
    env = Env(values)
    read = read_providers(
        env, data_dir=Path("/data"), engine=ENGINE, timeout_seconds=30
    )
    env.finish()
    return read


def test_nothing_set_names_the_built_in_providers_without_a_key():
    read = providers()
    assert set(read) == {one.name for one in built_in()}
    assert not [name for name, options in read.items() if options.get("api_key")]
    assert read["huggingface"] == read["onnx"] == ENGINE


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("OPENAI_API_KEY", "openai"),
        ("UPSTREAM_OPENAI_API_KEY", "openai"),
        ("LOCAL_API_KEY", "local_api"),
        ("UPSTREAM_LOCAL_API_API_KEY", "local_api"),
        ("GEMINI_API_KEY", "google"),
        ("UPSTREAM_GOOGLE_API_KEY", "google"),
        ("UPSTREAM_ACME_API_KEY", "acme"),
    ],
)
def test_key_comes_by_either_name(variable, name):
    read = providers(**{variable: "the-key"})
    assert {n for n, o in read.items() if o.get("api_key") == "the-key"} == {name}
    assert read[name]["timeout_seconds"] == 30


def test_key_of_an_upstream_can_be_read_from_a_file(tmp_path):
    (tmp_path / "key").write_text("the-key\n")
    read = providers(UPSTREAM_COHERE_API_KEY_FILE=str(tmp_path / "key"))
    assert read["cohere"]["api_key"] == "the-key"


def test_local_server_has_its_kind():
    assert providers(LOCAL_API_KIND="TEI")["local_api"]["kind"] == "tei"


def test_same_key_by_both_names_is_one():
    read = providers(COHERE_API_KEY="k", UPSTREAM_COHERE_API_KEY="k")
    assert read["cohere"]["api_key"] == "k"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"COHERE_API_KEY": "a", "UPSTREAM_COHERE_API_KEY": "b"},
            "UPSTREAM_COHERE_API_KEY differs from cohere's other variable",
        ),
        (
            {"UPSTREAM_ONNX_API_KEY": "a"},
            "UPSTREAM_ONNX_API_KEY is of no use: onnx needs no key",
        ),
        ({"UPSTREAM_OPENAI_KEY": "a"}, "UPSTREAM_OPENAI_KEY is not a setting"),
        ({"UPSTREAM_API_KEY": "a"}, "UPSTREAM_API_KEY is not a setting"),
    ],
)
def test_key_that_makes_no_sense_is_refused(values, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        providers(**values)


def hosts(words):
    env = Env({"UPSTREAM_ALLOWED_HOSTS": words})
    read = read_allowed_hosts(env)
    env.finish()
    return read


def test_bare_host_means_https():
    assert hosts("Gateway.example, 10.0.0.5:8443, http://localhost:11434, [::1]") == {
        "https://gateway.example:443",
        "https://10.0.0.5:8443",
        "http://localhost:11434",
        "https://[::1]:443",
    }


@pytest.mark.parametrize(
    "words",
    ["*", "a.example/v1", "https://a.example/", "u@a.example", "a:b", "ftp://a"],
)
def test_what_is_no_host_is_refused(words):
    with pytest.raises(ImproperlyConfigured, match="UPSTREAM_ALLOWED_HOSTS must be"):
        hosts(words)
