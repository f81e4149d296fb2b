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


@pytest.fixture(scope="module")
def tabs():
    """The browser's page of each server, by its address: a new one would fetch and compile all scripts again."""
    return {}


@pytest.fixture(scope="module")
def logins():
    """The cookies that the form to log in has given, by the server's address."""
    return {}


class Watch:
    """What a page asks for and what goes wrong in it, from now on until the end."""

    def __init__(self, page, url):
        self._page = page
        self._host = urlsplit(url).netloc
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self._listeners = {
            "request": lambda sent: self.asked.append(sent.url),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "console": self._note_line,
            "response": self._note_answer,
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)

    def end(self):
        for event, listener in self._listeners.items():
            self._page.remove_listener(event, listener)

    @property
    def strangers(self):
        """The hosts that it spoke to but should not."""
        urls = [url for url in self.asked if not url.startswith(("data:", "about:"))]
        return {urlsplit(url).netloc for url in urls} - {self._host}

    def _note_line(self, line):
        if line.type in ("error", "warning"):
            self.complaints.append(line.text)

    def _note_answer(self, answer):
        if answer.status >= 400:
            self.complaints.append(f"{answer.status} {answer.request.url}")


@pytest.fixture
def page(browser, tabs, server, tmp_path, request):
    """A page that keeps nothing of the test before but what is cached.

    Afterwards: it spoke to no other host, and nothing went wrong in it. A test that fails leaves a picture.
    """
    failed = request.session.testsfailed
    page = tabs.pop(server.url, None) or browser.new_page(base_url=server.url)
    page.set_viewport_size({"width": 1280, "height": 720})
    watch = Watch(page, server.url)
    yield page
    picture = tmp_path / f"{request.node.name}.png"
    page.wait_for_load_state()
    page.title()  # what the browser noticed before it answers is noted by then
    bad = watch.complaints or watch.strangers or request.session.testsfailed > failed
    if bad:
        page.screenshot(path=picture, full_page=True)
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    page.goto("about:blank")
    page.context.clear_cookies()
    watch.end()
    if bad:
        page.context.close()
    else:
        tabs[server.url] = page
    assert watch.asked
    assert not watch.strangers, f"{watch.strangers}, see {picture}"
    assert not watch.complaints, f"{watch.complaints}, see {picture}"


@pytest.fixture
def console(page, server, logins):
    """A page that has logged in: by the form at first, later with the cookies that this gave."""
    page.context.add_cookies(logins.get(server.url, []))
    page.goto("/admin/")
    if "/login/" in page.url:
        log_in(page, server)
        logins[server.url] = page.context.cookies()
    return page


def log_in(page, server):
    """Fill in the form that is open with what the first start printed."""
    (user, password), *_ = re.findall(
        r"^Login +(\S+) / (\S+) ", server.output, re.MULTILINE
    )
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=False).first.fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
