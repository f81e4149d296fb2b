"""Ingest a folder and embed it."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from embeddings.services.callers import Caller
from embeddings.services.errors import ServiceError
from media_jobs.conf import conf
from media_jobs.management.owner import add_owner, caller_of
from media_jobs.models import LIVE, Job
from media_jobs.services.claims import claim_next
from media_jobs.services.ingestion import files_in, take_files
from media_jobs.services.jobs import JobOptions, start_job
from media_jobs.services.recovery import hand_back_mine
from media_jobs.services.runs import run

POLL_SECONDS = 0.5
SHIFT_SECONDS = 5.0  # how often the progress bar moves at least


class Command(BaseCommand):
    help = "Store the files of a folder (txt, md, html, pdf, docx) and embed them. Again: what is new or changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        add_owner(parser)
        parser.add_argument("--model", help="`model` or `provider:model`")
        parser.add_argument("--chunk-size", type=int, default=conf().chunk_size)
        parser.add_argument("--chunk-overlap", type=int, default=conf().chunk_overlap)
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="Leave the embedding to the server's worker.",
        )

    def handle(self, *, folder: Path, no_wait: bool, **options: Any) -> None:
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder.")
        caller = caller_of(options["owner"])
        wanted = JobOptions(
            model=options["model"],
            chunk_size=options["chunk_size"],
            chunk_overlap=options["chunk_overlap"],
        )
        try:
            jobs = self._start(caller, folder, wanted)
        except ServiceError as error:
            raise CommandError(error.message) from error
        if no_wait:
            return
        try:
            self._finish(jobs)
        finally:
            hand_back_mine()  # what Ctrl-C interrupted

    def _start(self, caller: Caller, folder: Path, wanted: JobOptions) -> list[int]:
        paths = files_in(folder)
        jobs, refused = [], 0
        taken = take_files(caller, paths, root=folder)
        for one in tqdm(taken, total=len(paths), unit="file", disable=None):
            if one.item is None:
                refused += 1
                self.stderr.write(f"{one.path}: {one.problem}")
                continue
            for warning in one.item.warnings:
                self.stderr.write(f"{one.path}: {warning}")
            started = start_job(caller, one.item.pk, wanted)
            if started.job.status in LIVE:
                jobs.append(started.job.pk)
        self.stdout.write(
            f"{len(paths)} files, {len(jobs)} to embed, {refused} refused."
        )
        return jobs

    def _finish(self, jobs: list[int]) -> None:
        """Run jobs here, beside any worker, until these have ended."""
        mine = Job.objects.filter(pk__in=jobs)
        with tqdm(total=len(jobs), unit="document", disable=None) as bar:
            while waiting := mine.filter(status__in=LIVE).count():
                bar.update(len(jobs) - waiting - bar.n)
                job = claim_next()
                if job is None:
                    time.sleep(POLL_SECONDS)
                else:
                    run(job, until=time.monotonic() + SHIFT_SECONDS)
            bar.update(len(jobs) - bar.n)
        for job in mine.filter(status=Job.Status.FAILED):
            self.stderr.write(f"media item {job.media_id}: {job.error}")
        done = mine.filter(status=Job.Status.COMPLETED).count()
        self.stdout.write(f"{done} embedded.")
