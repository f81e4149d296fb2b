"""The console for everybody: with axe, by keyboard alone, on a phone, in the dark, under the policy that pages have.

The fixture `page` fails a test whose browser complains, and browsers complain about what the policy forbids.
"""

import pytest
import requests

from tests.e2e.console_pages import pages, serious, use
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("how pages look")

WIDE, PHONE = 1440, 390


@pytest.fixture(scope="module", autouse=True)
def rows(server):
    """Something in most lists, with markup in it: were it run, the policy would complain."""
    server.embed(["one", "two"])
    title = f"""<script>run()</script>"><img src=x onerror=run()>{"x" * 120}"""
    body = {"title": title, "content": f"{title} sat on the mat. " * 20}
    kept = {"headers": server.headers, "timeout": 60}
    made = requests.post(f"{server.api}/media", json=body, **kept).json()
    address = f"{server.api}/media/{made['media_id']}"
    job = requests.post(f"{address}/embeddings", json={}, **kept).json()["job_id"]
    state = f"{server.api}/media/embeddings/jobs/{job}"
    poll(
        lambda: requests.get(state, **kept).json()["status"] == "completed",
        seconds=120,
        what="job",
    )
    yield
    requests.delete(address, **kept)


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_axe_finds_nothing_grave_nothing_sticks_out_and_all_can_be_pressed(
    console, width
):
    console.set_viewport_size({"width": width, "height": 900})
    found = []
    for address in pages(console):
        if console.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{address} is wider than the window")
        found += serious(console)
        use(console)
    assert not found, "\n".join(found)


def test_axe_finds_nothing_grave_in_the_docs(page, expect):
    page.goto("/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    assert not serious(page)


def test_theme_is_kept_and_docs_follow_it(console, expect):
    console.get_by_title("Theme, password, log out").click()
    console.get_by_role("button", name="Dark").click()
    expect(console.locator("html")).to_have_class("dark")
    console.goto("/admin/auth/user/")
    expect(console.locator("html")).to_have_class("dark")
    console.goto("/docs")
    expect(console.locator("html")).to_have_class("dark-mode")


def focus(console, name):
    """Press Tab until the button of that name has the focus."""
    for _ in range(60):
        console.keyboard.press("Tab")
        here = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
        if name in console.evaluate(here):
            return
    raise AssertionError(f"Tab never reaches {name}.")


def test_filters_menu_and_account_are_reached_and_used_by_keyboard(console, expect):
    console.goto("/admin/embeddings/auditentry/")
    focus(console, "To the content")
    console.keyboard.press("Enter")
    focus(console, "Filters")
    console.keyboard.press("Enter")
    expect(console.get_by_role("dialog", name="Filters")).to_be_visible()
    console.keyboard.press("Escape")
    expect(console.get_by_role("dialog", name="Filters")).to_be_hidden()
    console.goto("/admin/")
    focus(console, "admin")
    console.keyboard.press("Enter")
    expect(console.get_by_role("button", name="Log out")).to_be_visible()
    console.goto("/admin/")
    focus(console, "Show or hide the menu")
    console.keyboard.press("Space")
    expect(console.locator("#nav-sidebar")).to_be_hidden()


def test_docs_and_console_lead_to_each_other(console, expect):
    console.get_by_title("Theme, password, log out").click()
    console.get_by_role("link", name="View site").click()
    console.wait_for_url("**/docs")
    console.get_by_role("link", name="Operator console").click()
    console.wait_for_url("**/admin/")


def test_period_filter_narrows_a_list(console, expect):
    console.goto("/admin/embeddings/usagehour/")
    console.get_by_role("button", name="Filters").click()
    console.get_by_label("From").fill("2020-01-01")
    console.get_by_label("To").fill("2020-01-02")
    console.get_by_role("button", name="Show these days").click()
    expect(console.get_by_text("Nothing matches")).to_be_visible()
