"""Embed a corpus from file to file, shard by shard."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from media_jobs.conf import conf
from media_jobs.corpus.command import explained, require
from media_jobs.services.jobs import MAX_CHUNK, MIN_CHUNK, usual_overlap

if TYPE_CHECKING:
    from media_jobs.corpus.plan import Shard
    from media_jobs.corpus.progress import Meter
    from media_jobs.corpus.run import Begun, Wanted

SHARD_ROWS = 5000
ENGINES = ("local", "ray")
ENCODINGS = ("float32", "float16", "int8")


class Command(BaseCommand):
    help = "Embed documents of JSON Lines or Parquet into Parquet files, shard by shard; again: what is missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("input", type=Path, help="a .jsonl or .parquet file, or a folder of them")
        add("output", type=Path, help="a folder; what is finished there is kept")
        add("--model", help="`model` or `provider:model`")
        add("--engine", choices=ENGINES, default="local")
        add(
            "--shard",
            type=_part,
            default=(0, 1),
            metavar="I/N",
            help="only every N-th shard, from the I-th on (0 to N-1): a task of an array of N",
        )
        add(
            "--plan-only",
            action="store_true",
            help="read the input and write the manifest; embed nothing",
        )
        add(
            "--vectors",
            choices=ENCODINGS,
            default="float32",
            help="how they are written",
        )
        add("--dimensions", type=_positive, help="the model's own if left out")
        add("--chunk-size", type=int, default=conf().chunk_size, help="characters")
        add("--chunk-overlap", type=int, help="characters that neighbours share")
        add(
            "--shard-documents", type=_positive, default=SHARD_ROWS, help="rows a shard"
        )
        add("--id-field", default="id")
        add("--text-field", default="text")
        add(
            "--metadata-fields",
            type=_names,
            default=(),
            metavar="A,B",
            help="fields to keep as metadata",
        )
        add(
            "--skip-invalid",
            action="store_true",
            help="leave bad rows out, and list them in OUTPUT/rejects",
        )
        add(
            "--no-texts",
            action="store_true",
            help="write vectors only; load_corpus needs the texts",
        )
        add("--requests", type=_positive, default=2, help="batches under way at once")
        add(
            "--actors",
            type=_positive,
            help="Ray: how many (default: as many as the cluster has place for)",
        )
        add(
            "--actor-cpus",
            type=_positive,
            default=1,
            help="Ray: processors and threads of each",
        )
        add(
            "--actor-gpus",
            type=float,
            default=0,
            metavar="N",
            help="Ray: GPUs of each, such as 1 or 0.5",
        )
        add("--ray-address", help="Ray: of a running cluster; else one is started here")

    def handle(self, **options: Any) -> None:
        require("pyarrow", extra="corpus")
        if options["engine"] == "ray":
            require("ray", extra="ray")
        from media_jobs.corpus.run import begin

        wanted = _wanted(options)
        with explained():
            begun = begin(wanted)
            self._tell(begun)
            if not options["plan_only"]:
                self._run(begun, wanted, options)

    def _tell(self, begun: "Begun") -> None:
        manifest = begun.manifest
        self.stdout.write(
            f"{manifest.documents:,} documents in {len(manifest.shards):,} shards"
            + (f", {manifest.rejected:,} rows left out" if manifest.rejected else "")
            + f"; {manifest.model.provider}:{manifest.model.model}, {manifest.check.dimensions} dimensions."
        )
        if begun.unread:
            self.stdout.write(
                f"Fields left out: {', '.join(begun.unread)}. --metadata-fields keeps them (in another OUTPUT)."
            )

    def _run(self, begun: "Begun", wanted: "Wanted", options: dict[str, Any]) -> None:
        from media_jobs.corpus.progress import Meter
        from media_jobs.corpus.run import make_all

        part, parts = options["shard"]
        own = [one for one in begun.manifest.shards if one.number % parts == part]
        missing = begun.missing(part, parts)
        total = sum(one.documents for one in own)
        before = total - sum(one.documents for one in missing)
        if before:
            self.stdout.write(
                f"{len(own) - len(missing):,} of {len(own):,} shards are done already."
            )
        with Meter(total, before=before, write=self.stdout.write) as meter:
            if options["engine"] == "local":
                meter.follow(make_all(begun.work, missing))
            else:
                self._run_on_ray(begun, wanted, missing, meter, options)
        self.stdout.write(meter.summary())
        self._tell_rest(begun)

    def _run_on_ray(
        self,
        begun: "Begun",
        wanted: "Wanted",
        missing: "list[Shard]",
        meter: "Meter",
        options: dict[str, Any],
    ) -> None:
        from media_jobs.corpus.on_ray import Actors, Crew, connect, disconnect

        actors = Actors(
            count=options["actors"],
            cpus=options["actor_cpus"],
            gpus=options["actor_gpus"],
            address=options["ray_address"],
        )
        connect(actors.address)
        try:
            crew = Crew(wanted, actors, settings.SETTINGS_MODULE)
            meter.follow(crew.make_all(missing))
        finally:
            disconnect()
        if crew.again:
            self.stdout.write(
                f"{crew.again} shards were begun again: their actors died."
            )

    def _tell_rest(self, begun: "Begun") -> None:
        """Say how far the whole output is, which others may be working at, too."""
        from media_jobs.corpus.shards import written

        left = begun.missing()
        shards, output = begun.manifest.shards, begun.work.output
        if left:
            self.stdout.write(
                f"{len(left):,} of {len(shards):,} shards are missing yet."
            )
            return
        counts = [written(output, shard.number) for shard in shards]
        sums = {name: sum(one[name] for one in counts) for name in counts[0]}
        self.stdout.write(
            f"Complete: {sums['documents']:,} documents, {sums['chunks']:,} chunks, {sums['tokens']:,} tokens"
            + (
                f"; {sums['rejected']:,} rows left out, listed in {output / 'rejects'}."
                if sums["rejected"]
                else "."
            )
        )


def _wanted(options: dict[str, Any]) -> "Wanted":
    from media_jobs.corpus.documents import Fields
    from media_jobs.corpus.run import Wanted

    size, overlap = options["chunk_size"], options["chunk_overlap"]
    if not MIN_CHUNK <= size <= MAX_CHUNK:
        raise CommandError(
            f"--chunk-size must lie between {MIN_CHUNK} and {MAX_CHUNK}."
        )
    overlap = usual_overlap(size) if overlap is None else overlap
    if not 0 <= overlap < size:
        raise CommandError(
            "--chunk-overlap must be at least 0 and less than --chunk-size."
        )
    return Wanted(
        source=options["input"].absolute(),
        output=options["output"].absolute(),
        model=options["model"],
        fields=Fields(
            id=options["id_field"],
            text=options["text_field"],
            metadata=options["metadata_fields"],
        ),
        shard_rows=options["shard_documents"],
        skip_invalid=options["skip_invalid"],
        chunk_size=size,
        chunk_overlap=overlap,
        dimensions=options["dimensions"],
        vectors=options["vectors"],
        texts=not options["no_texts"],
        requests=options["requests"],
    )


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ArgumentTypeError("must be I/N with I from 0 to N-1, such as 0/4")
    return int(found[1]), int(found[2])


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ArgumentTypeError("must be a whole number, at least 1")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
