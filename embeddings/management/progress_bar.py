"""The progress of a download or a warm-up on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from embeddings.services.action_records import Watch
from providers.progress import Progress


@contextmanager
def progress_bar(model: str) -> Iterator[Watch]:
    """Give what draws the progress of this model; nothing is drawn where nobody looks at a terminal."""
    with tqdm(
        unit="B", unit_scale=True, unit_divisor=1024, leave=False, disable=None
    ) as bar:

        def watch(progress: Progress) -> None:
            bar.total, bar.n = progress.total_bytes, progress.done_bytes
            bar.set_description_str(f"{model}: {progress.stage}", refresh=True)

        yield watch
