"""How the benchmark of the console finds its pages."""

from benchmarks.console import Page, Visitor, addresses, markdown

MENU = '<div id="nav-sidebar-apps"><a href="/admin/jobs/">Jobs</a></div></nav>'
SITE = {
    "/admin/": MENU + '<a href="/docs">Docs</a> <div hx-get="?part=live"></div>',
    "/admin/jobs/": '<input type="text" name="q"> <a href="/admin/jobs/7/">7</a>'
    '<a href="/admin/jobs/9/">9</a> <a href="?p=2">2</a> <a href="?p=40">40</a>',
    "/admin/jobs/9/": '<a href="delete/">Delete</a> <a href="#top">Up</a>',
}


class Site(Visitor):
    """Somebody who reads SITE."""

    def __init__(self) -> None:
        pass

    def read(self, address: str) -> str:
        return SITE.get(address, "")


def test_one_page_of_each_kind_is_found_that_with_the_highest_number():
    assert sorted(addresses(Site())) == [
        "/admin/",
        "/admin/?part=live",
        "/admin/jobs/",
        "/admin/jobs/9/",
        "/admin/jobs/9/delete/",
        "/admin/jobs/?p=40",
        "/admin/jobs/?q=7",
        "/admin/jobs/?q=nothing-like-it",
    ]


def test_page_that_one_database_lacks_has_an_empty_cell():
    page = Page(address="jobs/", ms=12.4, kilobytes=3.2)
    table = markdown({"SQLite": [page], "PostgreSQL": []})
    assert table.splitlines()[-1] == "| `jobs/` | 12 | | 3 |"
