"""Templates that ours take the place of: where a new unfold has another one, ours is to be compared with it."""

import hashlib
from pathlib import Path

import pytest
import unfold

from embeddings_project import layout

THEIRS = Path(unfold.__file__).parent / "templates"
# As they were when ours were written: unfold 0.91.
KNOWN = {
    "admin/actions.html": "b5332aace8e6",
    "admin/base.html": "2ce9250b3c64",
    "admin/change_list.html": "5885c39760f6",
    "admin/login.html": "13deb7765ce3",
    "unfold/helpers/boolean.html": "ccaf312fe7ef",
    "unfold/helpers/change_list_filter.html": "9606a6123fb4",
    "unfold/helpers/command.html": "ae6ce324d853",
    "unfold/helpers/empty_results.html": "5f4727a37a99",
    "unfold/helpers/header_title.html": "b126ed2ab9ca",
    "unfold/helpers/navigation_header.html": "35139b9d9458",
    "unfold/helpers/navigation_user.html": "4c9ba58b3f21",
    "unfold/helpers/search.html": "91996c27181d",
    "unfold/helpers/theme_switch.html": "c8e659df65f5",
    "unfold/helpers/theme_switch_dropdown.html": "90421e9a3524",
    "unfold/helpers/unauthenticated_header.html": "904c823eb0d8",
    "unfold/helpers/welcomemsg.html": "e8eab02522ba",
    "unfold/layouts/base_simple.html": "f90e61e284c3",
    "unfold/layouts/skeleton.html": "66af9f0bb45f",
    "unfold/layouts/unauthenticated.html": "768501529f1a",
}


@pytest.mark.parametrize("name", KNOWN)
def test_template_is_as_it_was_when_ours_was_written(name):
    digest = hashlib.sha256((THEIRS / name).read_bytes()).hexdigest()
    assert digest.startswith(KNOWN[name]), f"Compare templates/{name} with unfold's."


def test_all_of_ours_are_known():
    ours = Path(layout.TEMPLATES)
    names = {path.relative_to(ours).as_posix() for path in ours.rglob("*.html")}
    assert {name for name in names if (THEIRS / name).exists()} == {*KNOWN}
