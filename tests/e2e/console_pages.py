"""Every page of the console, found by its menu and its lists, so that a new one is tested without being named."""

from collections.abc import Iterator
from typing import Any

from tests.e2e.server import REPOSITORY

AXE = REPOSITORY / ".tools/axe/node_modules/axe-core/axe.min.js"
VIOLATIONS = "axe.run({resultTypes: ['violations']}).then(one => one.violations)"
LINKS = "links => links.map(link => link.getAttribute('href'))"


def pages(console: Any) -> Iterator[str]:
    """Open all pages that whoever is logged in can reach by links, one after the other, and yield their addresses."""
    console.goto("/admin/")
    menu = console.locator("#nav-sidebar-apps a").evaluate_all(LINKS)
    found = dict.fromkeys([*menu, "/admin/password_change/"])
    kinds = {address.rpartition("/")[0] for address in found}
    waiting = [*found]
    while waiting:
        address = waiting.pop(0)
        console.goto(address)
        others = _of_row(console, address)
        if address in menu:
            others += [*_of_kinds(console, kinds), *_of_list(console, address)]
        waiting += [other for other in dict.fromkeys(others) if other not in found]
        found |= dict.fromkeys(others)
        yield address


def _of_kinds(console: Any, kinds: set[str]) -> list[str]:
    """Return the pages that the open one leads to, one of each kind; add these to `kinds`."""
    found = []
    for link in console.locator("#content a[href^='/admin/']").evaluate_all(LINKS):
        path = link.partition("?")[0].partition("#")[0]
        kind = path.rstrip("/").rpartition("/")[0]
        if "/change/" not in path and kind not in kinds:
            kinds.add(kind)
            found.append(path)
    return found


def _of_list(console: Any, address: str) -> list[str]:
    """Return the page of an open list's first row, and the one to add another."""
    adds: list[str] = console.locator(f"a[href^='{address}add/']").evaluate_all(LINKS)
    rows = console.locator("#result_list tbody :is(th, td) a[href*='/change/']")
    links = rows.evaluate_all(LINKS)
    return [*adds[:1], *(link.partition("?")[0] for link in links[:1])]


def _of_row(console: Any, address: str) -> list[str]:
    """Return the other pages of the row that is open, if one is."""
    return [
        address.replace("/change/", f"/{name}/")
        for name in ("delete", "history")
        if address.endswith("/change/")
        and console.locator(f"a[href*='/{name}/']").count()
    ]


def serious(page: Any) -> list[str]:
    """Return what axe finds grave on the page that is open, in its light and its dark colours."""
    page.evaluate(AXE.read_text())  # not as an element, which the policy forbids
    found = []
    for theme in ("", "dark dark-mode"):
        page.evaluate(f"document.documentElement.className = '{theme}'")
        page.evaluate(
            "Promise.all(document.getAnimations().map(one => one.finished.catch(() => 0)))"
        )
        found += [
            f"{page.url} {theme} {one['id']}: {one['help']}: {node['html'][:200]} {node['any'][:1]}"
            for one in page.evaluate(VIOLATIONS)
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
    return found


def use(page: Any) -> None:
    """Press all that can be pressed without leaving the page: menus, filters, the theme, rows that fold."""
    for choice in page.locator(".select2-selection:visible").all():
        choice.click()
        page.keyboard.press("Escape")
    page.evaluate(
        "document.querySelectorAll('[x-on\\\\:click]:not(a[href])').forEach(one => one.click())"
    )
