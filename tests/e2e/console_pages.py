"""Every page of the console, found by its menu and its lists, so that a new one is tested without being named."""

from typing import Any

from tests.e2e.server import REPOSITORY

AXE = REPOSITORY / ".tools/axe/node_modules/axe-core/axe.min.js"
LINKS = "links => links.map(link => link.getAttribute('href'))"


def pages(console: Any) -> list[str]:
    """Return the addresses of all pages that whoever is logged in can open by following links."""
    console.goto("/admin/")
    menu = console.locator("#nav-sidebar-apps a").evaluate_all(LINKS)
    found = [*dict.fromkeys(menu), "/admin/password_change/"]
    kinds = {address.rpartition("/")[0] for address in found}
    for address in menu:
        console.goto(address)
        for link in console.locator("#content a[href^='/admin/']").evaluate_all(LINKS):
            path = link.partition("?")[0].partition("#")[0]
            kind = path.rstrip("/").rpartition("/")[0]  # one page of each kind
            if "/change/" not in path and kind not in kinds:
                kinds.add(kind)
                found.append(path)
        found += _of_list(console, address)
    return list(dict.fromkeys(found))


def _of_list(console: Any, address: str) -> list[str]:
    """Return the pages of a list's first row, and the one to add another."""
    adds: list[str] = console.locator(f"a[href^='{address}add/']").evaluate_all(LINKS)
    rows = console.locator("#result_list tbody :is(th, td) a[href*='/change/']")
    if not rows.count():
        return adds[:1]
    change = str(rows.first.get_attribute("href")).partition("?")[0]
    console.goto(change)
    others = [
        change.replace("/change/", f"/{name}/")
        for name in ("delete", "history")
        if console.locator(f"a[href*='/{name}/']").count()
    ]
    return [*adds[:1], change, *others]


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
            for one in page.evaluate("axe.run({resultTypes: ['violations']})")[
                "violations"
            ]
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
