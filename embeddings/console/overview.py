"""The first page: how the server is doing."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from embeddings.console.page import ConsolePage, action
from embeddings.services.breaker_states import breaker_states, reset_breaker


class Overview(ConsolePage):
    route = ""
    title = "Overview"
    icon = "dashboard"
    parts = {"live": "console/overview_live.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        return {"breakers": list(breaker_states())}

    @action("providers.change_breaker")
    def reset(self, request: HttpRequest) -> None:
        provider = request.POST.get("provider", "")
        before, after = reset_breaker(provider, by=request.user.get_username())
        self.note(
            "reset",
            f"circuit breaker {after.provider}",
            before={"state": before.state},
            after={"state": after.state},
        )
        messages.success(request, f"Closed the circuit breaker of {after.provider}.")
