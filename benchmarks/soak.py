"""Mixed load for a long time: does the server's memory grow?"""

import itertools
import time

from benchmarks.contestants import Contestant
from benchmarks.corpus import short_texts
from benchmarks.load import Stream, send
from benchmarks.run import LOGS, say
from benchmarks.workloads import BULK_CONNECTIONS, HOT_TEXT, Corpus, NoAnswers

CYCLE_SECONDS = 20.0


def soak(
    contestant: Contestant, corpus: Corpus, *, minutes: float
) -> list[tuple[float, float]]:
    """Load the server with new bulk texts, single texts and cached ones; return (minute, MB) after each cycle."""
    server = contestant.start(LOGS)
    samples: list[tuple[float, float]] = []
    try:
        server.wait_until(contestant.answers, pause_seconds=0.2)
        begun = time.monotonic()
        for cycle in itertools.count():
            minute = (time.monotonic() - begun) / 60
            samples.append(
                (round(minute, 2), round(server.tree.proportional_bytes() / 1e6, 1))
            )
            say(f"soak: minute {minute:.1f}, {samples[-1][1]:.0f} MB")
            if minute >= minutes:
                return samples
            streams = _cycle(contestant, corpus, cycle)
            for answers in send(
                server.port, contestant.path, contestant.headers, streams
            ):
                if answers.errors:
                    raise NoAnswers(
                        f"{answers.errors} errors, the first: {answers.first_error}"
                    )
    finally:
        server.stop()
    return samples


def growth(samples: list[tuple[float, float]]) -> float | None:
    """Return by how much the last third's memory exceeds the middle third's, as a share; None for few samples."""
    third = len(samples) // 3
    if third < 2:
        return None
    middle = sum(mb for _, mb in samples[third : 2 * third]) / third
    last = sum(mb for _, mb in samples[-third:]) / third
    return last / middle - 1


def _cycle(contestant: Contestant, corpus: Corpus, cycle: int) -> list[Stream]:
    bulk = [
        contestant.body([f"{cycle}. {text}" for text in texts])
        for texts in corpus.requests(len(corpus.texts))
    ]
    single = [contestant.body(text) for text in short_texts(5000, start=5000 * cycle)]
    hot = [contestant.body(HOT_TEXT)] * 50_000
    return [
        Stream(bodies=bulk, connections=BULK_CONNECTIONS, seconds=CYCLE_SECONDS),
        Stream(bodies=single, connections=2, seconds=CYCLE_SECONDS),
        Stream(bodies=hot, connections=2, seconds=CYCLE_SECONDS),
    ]
