"""Shards on a Ray cluster: actors with a model each, and a driver that hands them shards.

An actor that dies, with its node or alone, loses the shard it was at, which goes to another; a new actor takes its
place as soon as the cluster has one. Input and output are folders that all nodes see. Nodes are set up as for a server:
this package with the same settings, and the model prepared.

No module of Django's may be imported here before an actor has set Django up.
"""

import os
import pickle
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from media_jobs.corpus.errors import CorpusError

if TYPE_CHECKING:
    from media_jobs.corpus.plan import Shard
    from media_jobs.corpus.run import Wanted
    from media_jobs.corpus.shards import Done

WAIT_SECONDS = 30.0
# So many actors may die at one shard, and at their start, before that counts as its fault.
MAX_DEATHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """How many there are at most (None: as many as the cluster takes), with how much of a machine each, and where."""

    count: int | None
    cpus: int
    gpus: float
    address: str | None


class ShardActor:
    """Runs in a process of its own on any node. `cpus`: threads of its engine."""

    def __init__(self, settings_module: str, wanted: bytes, cpus: int) -> None:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
        os.environ["EMBEDDINGS_ENGINE"] = "inline"
        os.environ["EMBEDDINGS_ENGINE_THREADS"] = str(cpus)
        self._wanted = wanted
        self._work: Any = None

    def begin(self) -> dict[str, Any]:
        """Load the model, and see that it is the manifest's."""
        import django

        django.setup()
        from media_jobs.corpus.run import begin

        def work() -> dict[str, Any]:
            self._work = begin(pickle.loads(self._wanted)).work  # noqa: S301  (the driver's own)
            return {}

        return _answered(work)

    def make(self, shard: bytes) -> dict[str, Any]:
        """Make one shard; return what was done, or the problem as a sentence."""
        from media_jobs.corpus.shards import Done, make_shard

        def work() -> dict[str, Any]:
            steps = [*make_shard(self._work, pickle.loads(shard))]  # noqa: S301  (the driver's own)
            return asdict(Done.sum(steps))

        return _answered(work)


class Crew:
    """The driver's side: which actor has which shard."""

    def __init__(self, wanted: "Wanted", actors: Actors, settings_module: str) -> None:
        import ray

        self._ray: Any = ray
        self._actors = actors
        self._arguments = (settings_module, pickle.dumps(wanted), actors.cpus)
        self._class: Any = ray.remote(ShardActor).options(
            num_cpus=actors.cpus, num_gpus=actors.gpus, scheduling_strategy="SPREAD"
        )
        self._busy: dict[Any, tuple[Any, Shard | None]] = {}
        self._deaths: Counter[int] = Counter()
        self._dead_at_start = 0
        self.again = 0

    def make_all(self, shards: Sequence["Shard"]) -> Iterator["Done"]:
        """Have all shards made; yield what was done as each is. Raises CorpusError."""
        from media_jobs.corpus.shards import Done

        left = deque(shards)
        for _ in range(min(self._count(), len(left))):
            self._hire()
        while left or any(shard for _, shard in self._busy.values()):
            ended, _ = self._ray.wait([*self._busy], timeout=WAIT_SECONDS)
            for reference in ended:
                actor, shard = self._busy.pop(reference)
                answer = self._answer(reference, actor, shard, left)
                if answer is None:
                    continue
                if shard is not None:
                    yield Done(**answer)
                if left:
                    self._assign(actor, left.popleft())
                else:  # its place may be needed, should another die with the last shards
                    self._ray.kill(actor)

    def _count(self) -> int:
        if self._actors.count is not None:
            return self._actors.count
        cpus = self._ray.cluster_resources().get("CPU", 0)
        return max(1, int(cpus // self._actors.cpus))

    def _hire(self) -> None:
        actor = self._class.remote(*self._arguments)
        self._busy[actor.begin.remote()] = (actor, None)

    def _assign(self, actor: Any, shard: "Shard") -> None:
        self._busy[actor.make.remote(pickle.dumps(shard))] = (actor, shard)

    def _answer(
        self, reference: Any, actor: Any, shard: "Shard | None", left: "deque[Shard]"
    ) -> dict[str, Any] | None:
        """Return an actor's answer; None where it died. Raises CorpusError with the problem it met."""
        try:
            answer: dict[str, Any] = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._ray.kill(actor)  # one that is only out of reach
            self._note_death(shard, error)
            if shard is not None:
                self.again += 1
                left.appendleft(shard)
            self._hire()
            return None
        if "problem" in answer:
            raise CorpusError(answer["problem"])
        return answer

    def _note_death(self, shard: "Shard | None", error: Exception) -> None:
        if shard is None:
            self._dead_at_start += 1
            if self._dead_at_start > MAX_DEATHS:
                raise CorpusError(f"Actors die at their start: {error}") from error
            return
        self._deaths[shard.number] += 1
        if self._deaths[shard.number] >= MAX_DEATHS:
            raise CorpusError(
                f"Shard {shard.number} ({shard.file}, row {shard.first} on) ended {MAX_DEATHS} actors: {error}"
            ) from error


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start one on this machine. Raises CorpusError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    if address is None:
        options |= {"include_dashboard": False}
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CorpusError(f"No Ray cluster answers at {address}: {error}") from error


def disconnect() -> None:
    """Leave the cluster; its actors of this run end."""
    import ray

    ray.shutdown()


def _answered(work: Any) -> dict[str, Any]:
    """Return what `work` does, or its problem: exceptions of ours need not survive the way to the driver."""
    from embeddings.services.errors import ServiceError
    from providers.exceptions import ProviderError

    try:
        answer: dict[str, Any] = work()
    except (CorpusError, ServiceError, ProviderError) as error:
        return {"problem": error.message}
    except OSError as error:
        return {"problem": str(error)}
    return answer
