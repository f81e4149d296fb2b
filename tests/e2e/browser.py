"""A real browser for the tests of pages, and the console, logged in; fixtures of tests/e2e/conftest.py."""

import re
import shutil
from urllib.parse import urlsplit

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, "Chromium is not installed; .ci/tools installs it."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=path, headless=True, args=[*QUIET]
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def expect():
    """Playwright's assertions, which wait."""
    from playwright.sync_api import expect

    return expect


@pytest.fixture
def page(browser, server, tmp_path, request):
    """A fresh page. Afterwards: it spoke to no other host, and nothing went wrong in it."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def note_line(line):
        if line.type in ("error", "warning"):
            complaints.append(line.text)

    def note_answer(answer):
        if answer.status >= 400:
            complaints.append(f"{answer.status} {answer.request.url}")

    page.on("console", note_line)
    page.on("response", note_answer)
    yield page
    picture = tmp_path / f"{request.node.name}.png"
    page.screenshot(path=picture, full_page=True)
    context.close()
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
    assert hosts == {urlsplit(server.url).netloc}, f"{hosts}, see {picture}"
    assert not complaints, f"{complaints}, see {picture}"


@pytest.fixture
def console(page, server):
    """A page that has logged in with what the first start printed."""
    (user, password), *_ = re.findall(
        r"^Login +(\S+) / (\S+) ", server.output, re.MULTILINE
    )
    page.goto("/admin/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=False).first.fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
    return page
