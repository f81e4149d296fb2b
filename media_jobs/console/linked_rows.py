"""Lists whose rows lead to pages of the console's own."""

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect


class LinkedRows:
    """Put before an admin class. `address_of` says where the page of a row is."""

    def address_of(self, row: Any) -> str:
        """Return the address of a row's page."""
        raise NotImplementedError

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:
        address_of = self.address_of

        class Linked(ChangeList):
            def url_for_result(self, result: Model) -> str:
                return address_of(result)

        return Linked


class ShownElsewhere(LinkedRows):
    """The same, for rows that have no page here at all."""

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = self.get_object(request, object_id)  # type: ignore[attr-defined]
        if row is None:
            return self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined,no-any-return]
                request,
                self.opts,  # type: ignore[attr-defined]
                object_id,
            )
        return HttpResponseRedirect(self.address_of(row))
