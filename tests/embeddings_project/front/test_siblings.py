"""What the web processes of a server know of each other's connections."""

import math

import pytest

from embeddings_project.front.siblings import MOST, SILENT_SECONDS, Siblings

NOW = 1000.0


@pytest.fixture
def siblings():
    return Siblings()


def test_a_process_sees_the_fewest_connections_of_the_others(siblings):
    mine, second, third = (siblings.take() for _ in range(3))
    assert siblings.fewest_of_others(mine, NOW) == math.inf
    siblings.say(mine, 1, NOW)
    siblings.say(second, 7, NOW)
    siblings.say(third, 5, NOW)
    assert siblings.fewest_of_others(mine, NOW) == 5
    assert siblings.fewest_of_others(third, NOW) == 1


@pytest.mark.parametrize(
    "end",
    [
        lambda siblings, place: siblings.fall_silent(place),
        lambda siblings, place: siblings.free(place),
        lambda siblings, place: siblings.say(place, 5, NOW - SILENT_SECONDS),
    ],
    ids=["drains", "has ended", "stands still"],
)
def test_a_process_that_takes_no_connections_is_not_given_way_to(siblings, end):
    mine, other = siblings.take(), siblings.take()
    siblings.say(other, 5, NOW)
    end(siblings, other)
    assert siblings.fewest_of_others(mine, NOW) == math.inf


def test_the_place_of_a_process_that_has_ended_is_anothers(siblings):
    places = [siblings.take() for _ in range(MOST)]
    assert len({*places}) == MOST
    siblings.free(places[3])
    assert siblings.take() == places[3]
