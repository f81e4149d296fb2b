"""What a gateway adds to an upstream that answers at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import contestants as who
from benchmarks.contestants import REMOTE_MODEL, Contestant
from benchmarks.figures import Figures
from benchmarks.preparation import RUNS, core_numbers, fresh_data_folder, say, there
from benchmarks.workloads import Bench, Scale

CORES = 2


def measure_passthrough(
    figures: Figures, titles: dict[str, str], scale: Scale, logs: Path
) -> None:
    """Note what each gateway adds to one text's p50, and how many of 32 clients' it passes on, on two cores."""
    numbers = core_numbers()
    # The stub and the load have cores of their own where there are more than two.
    others = numbers[CORES:] or None
    with ExitStack() as stack:

        def started(contestant: Contestant) -> Bench:
            say(f"starting {contestant.title}")
            titles[contestant.name] = contestant.title
            return stack.enter_context(
                _started(contestant, figures, scale, logs, others)
            )

        stub = started(who.stub_upstream(others))
        upstream = f"http://127.0.0.1:{stub.server.port}/v1"
        gateways = [started(one) for one in _gateways(upstream, numbers[:CORES])]
        for bench in gateways:
            bench.server.tree.pause()
        for lap in range(scale.laps):
            say(f"pass-through: lap {lap + 1} of {scale.laps}")
            for bench in gateways[:: -1 if lap % 2 else 1]:
                with bench.awake():
                    direct = stub.single()
                    bench.add(added_ms=bench.single() - direct)
                    bench.many_clients()


def _gateways(upstream: str, numbers: list[int]) -> Iterator[Contestant]:
    environment = {
        "OPENAI_BASE_URL": upstream,
        "OPENAI_API_KEY": "sk-of-the-benchmark",
        "EMBEDDINGS_FALLBACK": "off",  # an upstream that fails is an error here
    }
    model = f"openai:{REMOTE_MODEL}"
    limited = numbers or None
    name = "gateway"
    data = fresh_data_folder(name)
    yield who.ours(
        name, "this server", data, model=model, cores=limited, environment=environment
    )
    if there("before"):
        name, data = "before_gateway", fresh_data_folder("before_gateway", "before")
        title = who.BEFORE_COMMIT
        yield who.before(
            name, title, data, model=model, cores=limited, environment=environment
        )
    if there("litellm"):
        yield who.litellm(upstream, RUNS, limited)


@contextmanager
def _started(
    contestant: Contestant,
    figures: Figures,
    scale: Scale,
    logs: Path,
    load_cores: list[int] | None,
) -> Iterator[Bench]:
    server = contestant.start(logs)
    try:
        server.wait_until(contestant.answers, pause_seconds=0.2)
        yield Bench(
            contestant=contestant,
            server=server,
            figures=figures,
            scale=scale,
            cores=load_cores,
        )
    finally:
        server.stop()
