"""All documents on a map: which are about the like."""

from typing import Any

from embeddings.access.caller_lookup import console_caller
from embeddings.console.charts import Chart, Series
from embeddings.console.page import ConsolePage
from media_jobs.services.maps import (
    SpaceCount,
    VectorMap,
    documents_map,
    map_spaces,
)


class DocumentMap(ConsolePage):
    """All staff may look: each sees the documents that the API would show."""

    route = "documents/map/"
    title = "Document map"
    icon = "bubble_chart"
    section = "Documents"

    def show(self) -> dict[str, Any]:
        caller = console_caller(self.request.user)
        spaces = map_spaces(caller)
        wanted = self.request.GET.get("space", "")
        space = next((one for one in spaces if str(one.id) == wanted), None)
        space = space or next(iter(spaces), None)
        drawn = documents_map(caller, space) if space else None
        return {
            "spaces": spaces,
            "space": space,
            "drawn": drawn,
            "map": _chart(space, drawn) if space and drawn else None,
        }


def _chart(space: SpaceCount, drawn: VectorMap) -> Chart:
    names = [point.name for point in drawn.points]
    return Chart(
        id="map",
        title=f"Documents in {space.vector_space}. It shows {drawn.share:.0%} of how they differ.",
        kind="scatter",
        series=[
            Series(
                name="Documents",
                values=[(point.x, point.y) for point in drawn.points],
                names=names,
            )
        ],
        labels=names,
        summary="Near points are documents whose beginnings are alike.",
    )
