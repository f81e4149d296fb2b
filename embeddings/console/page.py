"""What a page of the console is, and where it appears: its address, its place in the menu, who may open it.

A page that is more than Django's lists and forms is a `ConsolePage` in a module of its own, in `embeddings/console/` or
`media_jobs/console/`, with a template in `templates/console/`. Nothing else lists it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, ClassVar, Literal

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.views.generic import TemplateView

from embeddings.models import AuditEntry
from embeddings.services.audit import State, record

Section = Literal["", "Use", "Gateway", "Documents", "Access", "Records"]
SECTIONS: tuple[Section, ...] = ("", "Use", "Gateway", "Documents", "Access", "Records")

Do = Callable[[Any, HttpRequest], HttpResponse | None]
_pages: list[type["ConsolePage"]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a page's forms can do, by the name that they send as `action`."""

    permission: str
    do: Do


def action(permission: str) -> Callable[[Do], Any]:
    """Make a method of a page an action: forms post its name as `action`, to those with the permission alone.

    It returns an answer, or None to show the page again.
    """

    def made(method: Do) -> Action:
        return Action(permission=permission, do=method)

    return made


class ConsolePage(TemplateView):
    """A page with an address of its own.

    `route`: below /admin/; what it captures is in `self.kwargs`, and such a page is not in the menu. `needs`: the
    permissions to open it, by Django's names; without any, all staff may. `parts`: name -> template of what the page
    asks for again (`?part=name`) while it is open; each is rendered with the page's own context.
    """

    route: ClassVar[str]
    title: ClassVar[str]
    icon: ClassVar[str] = "circle"  # of Material Symbols
    section: ClassVar[Section] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "route" in vars(cls):
            _pages.append(cls)

    @staticmethod
    def every() -> list[type["ConsolePage"]]:
        """Return all pages."""
        return [*_pages]

    @classmethod
    def name(cls) -> str:
        """Return what the page is called in addresses: `console:<name>`."""
        return cls.__name__.lower()

    @classmethod
    def may_open(cls, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.has_perms(cls.needs)

    @classmethod
    def actions(cls) -> dict[str, Action]:
        found = ((name, getattr(cls, name)) for name in dir(cls))
        return {name: one for name, one in found if isinstance(one, Action)}

    def show(self) -> dict[str, Any]:
        """Return what the template shows."""
        return {}

    def get_context_data(self, **given: Any) -> dict[str, Any]:
        """Add the console's frame, and as `may` the actions that whoever looks may do."""
        user = self.request.user
        may = {
            name: user.has_perm(one.permission) for name, one in self.actions().items()
        }
        return {
            **admin.site.each_context(self.request),
            "title": self.title,
            "may": may,
            **self.show(),
            **given,
        }

    def get_template_names(self) -> list[str]:
        part = self.parts.get(self.request.GET.get("part", ""))
        return [part or self.template_name or f"console/{self.name()}.html"]

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if not self.may_open(request):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do what the form says. Raises PermissionDenied."""
        wanted = self.actions().get(request.POST.get("action", ""))
        if wanted is None or not request.user.has_perm(wanted.permission):
            raise PermissionDenied
        return wanted.do(self, request) or HttpResponseRedirect(request.get_full_path())

    def note(
        self,
        action: str,
        target: str,
        *,
        before: State | None = None,
        after: State | None = None,
    ) -> None:
        """Write into the audit log what the user of this request did."""
        record(
            source=AuditEntry.Source.CONSOLE,
            actor=self.request.user.get_username(),
            action=action,
            target=target,
            before=before,
            after=after,
        )


def load_pages(package: ModuleType) -> None:
    """Import the modules of a package, each of which registers its pages."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)


def urls() -> list[URLPattern]:
    """Return the addresses of all pages, below that of the console."""
    return [
        path(page.route, admin.site.admin_view(page.as_view()), name=page.name())
        for page in _pages
    ]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu as unfold takes it: sections with the pages and lists that whoever asks may open."""
    items = list(_menu(request))
    return [
        {
            "title": section,
            "separator": bool(section),
            "items": [item for place, item in items if place == section],
        }
        for section in SECTIONS
        if any(place == section for place, _ in items)
    ]


def _menu(request: HttpRequest) -> Iterator[tuple[Section, dict[str, Any]]]:
    for page in _pages:
        if "<" not in page.route and page.may_open(request):
            link = reverse(f"console:{page.name()}")
            yield page.section, {"title": page.title, "icon": page.icon, "link": link}
    for model, rows in admin.site._registry.items():
        section: Section | None = getattr(rows, "section", None)
        if section is not None and rows.has_view_permission(request):
            link = reverse(
                f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
            )
            title = capfirst(str(model._meta.verbose_name_plural))
            icon = getattr(rows, "icon", "circle")
            yield section, {"title": title, "icon": icon, "link": link}
