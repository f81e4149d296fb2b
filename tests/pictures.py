"""Make the pictures of docs/console.md: a real server, real traffic and documents, a real browser.

`make pictures` runs it, so that the pictures stay true.
"""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from providers.engine.pins import DEFAULT_MODEL
from providers.engine.vocabulary import prepare_vocabulary
from providers.engine.weights import Weights
from tests.e2e.browser import BROWSERS, QUIET
from tests.e2e.server import Server
from tests.environment import DATA_DIR
from tests.waiting import poll

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SIZE: Any = {"width": 1440, "height": 900}
SENTENCES = (
    "A cat sat on the mat.",
    "A feline rested on the rug.",
    "The dog chased its tail.",
    "Quarterly revenue grew by a tenth.",
    "The company earned more than last year.",
    "Rain is expected over the weekend.",
)
DOCUMENTS = {
    "Tides": "The moon pulls the sea, and the sea follows it round the earth twice a day. ",
    "Bread": "Flour, water and salt are worked into a dough that rests until it has doubled. ",
    "Compilers": "A parser makes a tree of the source, which later passes turn into machine code. ",
}


def main() -> int:
    from playwright.sync_api import sync_playwright

    Weights(DATA_DIR).prepare(DEFAULT_MODEL)
    prepare_vocabulary(DATA_DIR)
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    server = Server(folder, MEDIA_WORKERS="1", COHERE_API_KEY="not-a-real-key-at-all")
    try:
        server.wait_until_ready()
        fill(server)
        path = next(filter(None, map(shutil.which, BROWSERS)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=[*QUIET])
            page = browser.new_page(base_url=server.url, viewport=SIZE)
            log_in(page, server.output)
            take_all(page)
            browser.close()
    finally:
        server.end()
        shutil.rmtree(folder)
    return 0


def fill(server: Server) -> None:
    """Ask as several clients would, some of them wrongly, and embed some documents."""

    def post(path: str, **body: Any) -> requests.Response:
        return requests.post(
            f"{server.api}/{path}", json=body, headers=server.headers, timeout=60
        )

    end = time.monotonic() + 130
    number = 0
    while time.monotonic() < end:
        number += 1
        texts = [SENTENCES[number % 6], f"{SENTENCES[number % 5]} ({number % 90})"]
        models = ("text-embedding-3-small", "all-MiniLM-L6-v2", "onnx:all-MiniLM-L6-v2")
        post("embeddings", input=texts, model=models[number % 3])
        if number % 29 == 0:
            post("embeddings", input="", model=models[0])
        if number % 37 == 0:
            post("embeddings", input="a", model="onnx:unheard-of")
        time.sleep(0.02 + 0.05 * (number // 200 % 3))
    jobs = []
    for title, sentence in DOCUMENTS.items():
        text = "".join(f"{sentence}This is part {part} of it. " for part in range(60))
        media = post("media", title=title, content=text).json()["media_id"]
        job = post(f"media/{media}/embeddings", chunk_size=400, chunk_overlap=80)
        jobs.append(job.json()["job_id"])

    def done() -> bool:
        addresses = [f"{server.api}/media/embeddings/jobs/{job}" for job in jobs]
        answers = [
            requests.get(address, headers=server.headers, timeout=60).json()
            for address in addresses
        ]
        return all(answer["status"] == "completed" for answer in answers)

    poll(done, seconds=120, what="documents embedded")


def log_in(page: Any, output: str) -> None:
    (user, password), *_ = re.findall(r"^Login +(\S+) / (\S+) ", output, re.MULTILINE)
    page.goto("/admin/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=False).first.fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")


def take_all(page: Any) -> None:
    take(page, "overview", "/admin/")
    take(page, "models", "/admin/gateway/models/")
    take(page, "routing", "/admin/gateway/routing/")
    page.goto("/admin/playground/")
    page.get_by_label("Texts", exact=True).fill("\n".join(SENTENCES))
    page.get_by_role("button", name="Embed").click()
    page.get_by_role("heading", name="Nearest pairs").wait_for()
    page.locator("table.heat").first.scroll_into_view_if_needed()
    take(page, "playground")
    take(page, "document", "/admin/documents/1/")
    take(page, "usage", "/admin/usage/?measure=requests")


def take(page: Any, name: str, address: str = "") -> None:
    if address:
        page.goto(address)
        page.wait_for_load_state("networkidle")
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
