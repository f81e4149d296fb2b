import json
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from embeddings.services import model_archives
from providers.engine.local_provider import Engine
from providers.engine.pool import Pool
from providers.engine.weights import Weights
from providers.exceptions import ProviderUnavailable
from providers.models import ModelEntry, ProviderSetting, ProviderTest
from providers.operator_settings import reader
from providers.plugins.huggingface import HuggingFaceProvider
from providers.progress import progress
from providers.seeding import seed_registry
from tests.fakes import MINILM
from tests.providers.engine import tiny


@pytest.fixture(autouse=True)
def _fakes(fakes):
    pass


@pytest.fixture
def tiny_weights(tmp_path):
    """The folder of a tiny model's data, with its source beside it."""
    folder = tiny.write_model(tmp_path / "source" / "org--tiny")
    return Weights(tmp_path / "data", model_paths=(folder,))


def run(*command):
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_warmup_proves_each_model(fakes):
    out = run("warmup", f"onnx:{MINILM}", "huggingface:all-MiniLM-L6-v2")
    assert f"onnx:{MINILM}  ready in" in out
    assert len(fakes["huggingface"].calls) == 1


def test_warmup_of_an_unknown_model_fails_by_name():
    with pytest.raises(CommandError, match="nope"):
        run("warmup", "onnx:nope")


def test_download_model_tells_where_it_is():
    assert "/models/minilm" in run("download_model", MINILM)


class Terminal(StringIO):
    def isatty(self):
        return True


def test_download_model_draws_how_far_it_is_on_a_terminal(fakes, monkeypatch):
    fetch = fakes["huggingface"].download

    def download(name):
        progress().begin("fetching", total_bytes=200)
        progress().advance(100)
        return fetch(name)

    monkeypatch.setattr(fakes["huggingface"], "download", download)
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run("download_model", MINILM)
    assert f"{MINILM}: fetching:  50%" in terminal.getvalue()


def test_check_providers_keeps_its_tests(fakes):
    run("check_providers", "onnx")
    kept = ProviderTest.objects.get()
    assert (kept.provider, kept.ok, kept.by) == ("onnx", True, "manage.py")


def test_check_providers_tells_what_works_and_what_is_missing():
    out = run("check_providers", "openai", "onnx")
    assert "openai: OPENAI_API_KEY is not set." in out
    onnx = next(line for line in out.splitlines() if line.startswith("onnx"))
    assert onnx.split()[:4] == ["onnx", "yes", "yes", MINILM]
    assert onnx.endswith("ms")


def test_check_providers_fails_when_a_configured_one_is_down(fakes):
    fakes["onnx"].fault = ProviderUnavailable("onnx is down.")
    with pytest.raises(CommandError):
        run("check_providers", "onnx")


def test_check_providers_names_what_the_settings_call_and_nobody_is(
    configure, settings
):
    configure(default_provider="eu", fallback_chain={"openai": ("onnx", "us")})
    settings.PROVIDERS = {**settings.PROVIDERS, "my_eu": {"api_key": "k"}}
    assert run("check_providers", "openai").splitlines()[-3:] == [
        "EMBEDDINGS_DEFAULT_PROVIDER names eu, which is no provider yet.",
        "EMBEDDINGS_FALLBACK_CHAIN names us, which is no provider yet.",
        "UPSTREAM_MY_EU_API_KEY is the key of no provider yet.",
    ]
    seed_registry(allowed_providers=[], allowed_models=[])
    for name in ("eu", "us", "my-eu"):
        ProviderSetting.objects.create(name=name, kind="local_api")
    reader.cache_clear()
    assert "no provider yet" not in run("check_providers", "openai")


def test_check_providers_refuses_unknown_names():
    with pytest.raises(CommandError, match="acme"):
        run("check_providers", "acme")


def test_models_shows_each_local_model_once_with_what_it_is(fakes):
    lines = run("models").splitlines()
    assert lines[0].split() == [
        "model",
        "dimensions",
        "tokens",
        "languages",
        "licence",
        "download",
        "memory",
        "state",
    ]
    (line,) = (line for line in lines if line.startswith("only-onnx"))
    assert line.split()[:5] == ["only-onnx", "8", "10", "en", "mit"]
    assert line.endswith("prepared (graph, int8-static)")
    assert sum(line.startswith(MINILM) for line in lines) == 1
    assert "text-embedding-3-small" not in "".join(lines)


def test_models_tells_a_machine_all_that_is_known(fakes, monkeypatch):
    for name in ("onnx", "huggingface"):
        fake = fakes[name]
        monkeypatch.setattr(fake, "downloaded", lambda model: model.name == MINILM)
    shown = {one["model"]: one for one in json.loads(run("models", "--json"))}
    only = shown["only-onnx"]
    assert (only["short_names"], only["common_names"]) == (["only"], ["commonly"])
    assert (only["matryoshka"], only["gated"], only["disk_bytes"]) == (
        [4, 8],
        True,
        9000,
    )
    assert only["card_prompts"] == {"query": "ask: ", "document": ""}
    assert not only["prepared"]
    assert shown[MINILM]["classes"] == {"huggingface": "fp32", "onnx": "fp32"}
    prepared = json.loads(run("models", "--json", "--prepared"))
    assert [one["model"] for one in prepared] == [MINILM]


def test_download_model_says_what_it_takes_before_it_begins(fakes, monkeypatch):
    monkeypatch.setattr(fakes["onnx"], "downloaded", lambda model: False)
    assert "onnx:commonly: 0 MB to fetch, 0 MB of disk" in run(
        "download_model", "onnx:commonly"
    )
    assert "to fetch" not in run("download_model", MINILM)


def test_download_model_by_a_common_name_names_the_cards_prompts_and_takes_them_if_asked(
    fakes,
):
    seed_registry(allowed_providers=[], allowed_models=[])
    out = run("download_model", "onnx:commonly")
    assert "onnx:only-onnx" in out
    assert "its card recommends 'ask: ' before queries" in out
    assert ModelEntry.objects.filter(query_prompt="ask: ").count() == 0
    out = run("download_model", "onnx:commonly", "--prompts")
    assert "prompts: 'ask: ' before queries, '' before documents" in out
    assert ModelEntry.objects.get(query_prompt="ask: ").name == "only-onnx"
    reader.cache_clear()
    assert "prompts" not in run("download_model", "onnx:only-onnx", "--prompts")


def test_a_model_goes_to_another_machine_as_one_file(
    tmp_path, tiny_weights, monkeypatch
):
    tiny_weights.prepare("org/tiny")
    there = Weights(tmp_path / "there")
    file = tmp_path / "tiny.zip"
    prints = []
    for weights, command in (
        (tiny_weights, ("export_model", "org/tiny", str(file))),
        (there, ("import_model", str(file))),
    ):
        provider = HuggingFaceProvider(Engine(weights, Pool(weights)))
        monkeypatch.setattr(model_archives, "named_provider", lambda _, p=provider: p)
        written = run(*command)
        assert "org/tiny" in written
        prints.append(written.split("fingerprint ")[1].strip())
    assert prints[0] == prints[1]
    assert there.find("org/tiny") is not None


def test_what_is_no_archive_is_refused_by_name(tmp_path, tiny_weights, monkeypatch):
    provider = HuggingFaceProvider(Engine(tiny_weights, Pool(tiny_weights)))
    monkeypatch.setattr(model_archives, "named_provider", lambda _: provider)
    with pytest.raises(CommandError, match=r"no file .*absent\.zip"):
        run("import_model", str(tmp_path / "absent.zip"))
    with pytest.raises(CommandError, match="download_model nope"):
        run("export_model", "nope", str(tmp_path / "nope.zip"))
