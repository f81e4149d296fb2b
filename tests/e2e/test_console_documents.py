"""Documents in a real browser, with a real worker: uploaded, embedded, watched, searched, looked at."""

import re

import pytest

TEXT = (
    "".join(
        f"Paragraph {number}: the harbour of the old town opens at dawn.\n\n"
        for number in range(60)
    )
    + "At noon a saffron kite crossed the quiet square.\n"
)


@pytest.fixture
def notes(tmp_path):
    """Return a function that makes a file to upload."""

    def make(name, text=TEXT):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def embedded(expect, page, **fields):
    """Press Embed on a document's page, and wait until a worker has done it."""
    for label, value in fields.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Embed").click()
    expect(page.get_by_text("Started 1 job.")).to_be_visible()
    expect(page.locator("table.jobs").get_by_text("completed")).to_be_visible(
        timeout=60_000
    )


def test_file_is_uploaded_embedded_found_and_shown(expect, console, notes):
    console.goto("/admin/documents/upload/")
    console.get_by_label("Language").fill("en")
    console.get_by_label("Files").set_input_files([notes("harbour.txt")])
    console.get_by_role("link", name="harbour").click()
    expect(console.get_by_text("not embedded")).to_be_visible()
    embedded(expect, console, **{"Chunk size": "200", "Chunk overlap": "80"})
    console.reload()
    expect(console.locator("mark.overlap").nth(1)).to_be_visible()
    expect(console.locator("#chunk-3")).to_have_text("3")
    expect(console.locator("canvas")).to_be_visible()

    console.goto("/admin/documents/search/")
    console.get_by_label("Search for").fill("saffron kite")
    console.get_by_role("button", name="Search", exact=True).click()
    hit = console.locator(".hit").first
    expect(hit.locator("mark").first).to_have_text("saffron")
    hit.get_by_role("link").click()
    expect(console).to_have_url(re.compile(r"chunk=\d+#chunk-\d+$"))
    expect(console.locator(".text [id]:target")).to_be_visible()

    console.goto("/admin/documents/map/")
    expect(console.locator("canvas")).to_be_visible()


def test_several_files_are_sent_one_by_one_and_a_bad_one_says_why(
    expect, console, notes
):
    console.goto("/admin/documents/upload/")
    files = [notes("one.txt"), notes("two.exe"), notes("three.md")]
    console.get_by_label("Files").set_input_files(files)
    rows = console.locator(".uploads li")
    expect(rows.nth(0)).to_contain_text("stored")
    expect(rows.nth(1)).to_contain_text("not understood")
    expect(rows.nth(2)).to_contain_text("stored")


def test_file_is_dropped(expect, console):
    console.goto("/admin/documents/upload/")
    dropped = console.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["Dropped here."], "dropped.txt"));
            return data;
        }"""
    )
    console.dispatch_event(".drop", "drop", {"dataTransfer": dropped})
    link = console.get_by_role("link", name="dropped")
    expect(link).to_be_visible()


def test_job_is_watched_until_it_is_done(expect, console, notes):
    console.goto("/admin/documents/upload/")
    console.get_by_label("Files").set_input_files([notes("watched.txt", TEXT * 20)])
    console.get_by_role("link", name="watched").click()
    console.get_by_role("button", name="Embed").click()
    console.locator("table.jobs a").first.click()
    expect(console.locator(".timeline")).to_contain_text("Asked for")
    expect(console.locator(".timeline")).to_contain_text("Completed", timeout=90_000)
    console.goto("/admin/jobs/")
    expect(console.get_by_text("No job runs.")).to_be_visible()
