"""The console's pages of the gateway in a browser: providers tried, a model fetched, cancelled and loaded, routing."""

import threading

import pytest

from tests.e2e.server import Server
from tests.providers.engine import tiny
from tests.providers.engine.fake_hub import NAME, FakeHub
from tests.servers import serving

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub of one tiny model, whose weights it holds back until its gate is set."""
    repository = tmp_path_factory.mktemp("hub") / "repository"
    with serving(FakeHub(tiny.write_model(repository))) as hub:
        hub.gate = threading.Event()
        yield hub
        hub.gate.set()


@pytest.fixture(scope="module")
def server(prepared_weights, migrated, hub, tmp_path_factory):
    """A server of this file's own: its tests switch a provider off and fetch a model."""
    folder = tmp_path_factory.mktemp("gateway-console")
    running = Server(folder, database=migrated, HF_ENDPOINT=hub.endpoint)
    yield running.wait_until_ready()
    running.end()


def action(console):
    """The newest download or warm-up, as the page keeps showing it."""
    return console.locator("[aria-live] .card").first


def download(console, name):
    console.get_by_text("Download another model").click()
    console.get_by_label("Name on the Hugging Face hub").fill(name)
    console.get_by_role("button", name="Download", exact=True).click()


@pytest.mark.sqlite_only("how models are fetched")
def test_model_is_fetched_with_progress_cancelled_fetched_again_and_loaded(
    expect, console, hub
):
    console.goto("/admin/gateway/models/")
    download(console, NAME)
    expect(action(console)).to_contain_text("fetching")
    expect(action(console).get_by_role("progressbar")).to_be_visible()
    action(console).get_by_role("button", name="Cancel").click()
    expect(action(console)).to_contain_text("stopping")
    hub.gate.set()
    expect(action(console)).to_contain_text("cancelled", timeout=30_000)
    download(console, NAME)
    expect(action(console)).to_contain_text("done", timeout=60_000)
    # The list of models learns of it without being loaded again.
    warm_up = console.get_by_role("button", name=f"Warm up {NAME} of huggingface")
    warm_up.click(timeout=30_000)
    expect(action(console)).to_contain_text("Warm-up")
    expect(action(console)).to_contain_text("done", timeout=60_000)
    edit = console.get_by_role("link", name=f"Edit {NAME} of huggingface")
    row = console.locator("tr").filter(has=edit)
    expect(row).to_contain_text("loaded", timeout=30_000)


def test_provider_is_tried_switched_off_and_asked_about(expect, console):
    console.goto("/admin/gateway/providers/")
    console.get_by_role("button", name="Test huggingface").click()
    expect(console.get_by_text("huggingface works: ")).to_be_visible()
    console.get_by_role("button", name="Switch off onnx").click()
    card = console.get_by_role("region", name="onnx")
    expect(card).to_contain_text("switched off", timeout=30_000)
    console.goto("/admin/gateway/routing/")
    console.get_by_role("combobox", name="Model").fill(f"onnx:{MINILM}")
    console.get_by_role("button", name="Show", exact=True).click()
    expect(console.get_by_text("Nothing answers.")).to_be_visible()
    expect(console.get_by_text("switched off in the console").first).to_be_visible()
    console.get_by_text("The chains in words").click()
    expect(console.locator("svg.routes").first).to_be_visible()


def test_allowlist_entry_shows_what_it_lets_through_while_it_is_typed(expect, console):
    console.goto("/admin/providers/allowlistentry/add/")
    console.locator("select[name=kind]").select_option("model")
    console.get_by_label("Pattern").fill("OpenAI:text-embedding-3-small")
    expect(console.get_by_text("Did you mean openai:text-em")).to_be_visible()
    console.get_by_label("Pattern").fill("text-embedding-3-*")
    expect(console.get_by_text("2 of them by this entry")).to_be_visible()
