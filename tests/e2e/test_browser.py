"""The pages in a real browser: they work offline, ask no other host for anything, and complain about nothing.

A browser complains about what the Content-Security-Policy forbids, too.
"""

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


def test_docs_show_every_operation(expect, page, server):
    page.goto("/docs")
    operations = [
        method
        for methods in server.get("/openapi.json").json()["paths"].values()
        for method in methods
    ]
    expect(page.locator(".opblock")).to_have_count(len(operations))
    expect(page.get_by_text("/api/v1/embeddings", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    "operation",
    ["create_embeddings", "create_embedding_batch", "retrieve_model", "warm_up_model"],
)
def test_docs_let_a_reader_try_an_operation_as_it_stands(
    expect, page, server, operation
):
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(server.key)
    page.locator(".auth-container button[type=submit]").click()
    page.locator(".btn-done").click()
    page.locator(f"[id$='-{operation}']").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    status = page.locator(".live-responses-table td.response-col_status").last
    expect(status).to_contain_text("200")


def test_start_page_leads_to_the_docs(expect, page):
    page.goto("/")
    page.wait_for_url("**/docs")
    expect(page.get_by_role("heading", name="Embeddings API")).to_be_visible()


def test_login_page_greets(expect, page):
    page.goto("/admin/")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_wrong_password_is_shown(expect, page):
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password", exact=False).first.fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Please enter the correct username")).to_be_visible()


def test_printed_login_opens_the_console(expect, console):
    expect(console.get_by_text("Users").first).to_be_visible()


def test_every_list_of_the_console_opens(expect, console):
    links = console.locator("a[href^='/admin/']").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    lists = {link for link in links if re.fullmatch(r"/admin/\w+/\w+/", link)}
    assert "/admin/auth/user/" in lists
    for link in sorted(lists):
        console.goto(link)
        expect(console.locator("#content-main, #changelist").first).to_be_visible()


def test_a_user_can_be_opened(expect, console):
    console.goto("/admin/auth/user/")
    console.get_by_role("link", name="admin", exact=True).first.click()
    expect(console.get_by_label("Username").first).to_have_value("admin")


def test_an_entry_can_be_added_and_deleted(expect, console):
    console.goto("/admin/providers/allowlistentry/add/")
    console.get_by_label("Pattern").fill("no-such-model*")
    console.locator("select[name=kind]").select_option("model")
    console.get_by_role("button", name="Save", exact=True).first.click()
    console.get_by_role("link", name="no-such-model*").first.click()
    console.locator("a[href$='/delete/']").first.click()
    console.get_by_role("button", name="Yes").click()
    expect(console.get_by_text("was deleted")).to_be_visible()
