"""The pages in a real browser: they work offline, ask no other host for anything, and complain about nothing.

A browser complains about what the Content-Security-Policy forbids, too.
"""

import pytest

from tests.e2e.browser import log_in

pytestmark = pytest.mark.sqlite_only("how pages look")


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


def test_printed_login_opens_the_console(expect, page, server):
    page.goto("/admin/")
    log_in(page, server)
    expect(page.get_by_text("Users").first).to_be_visible()


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
