"""The pages of jobs: the queue, one job, cancelling and starting again."""

import pytest

from embeddings.models import AuditEntry
from media_jobs.models import Job, MediaItem
from media_jobs.services.claims import fail, try_again
from tests.media_jobs.conftest import claimed_job
from tests.media_jobs.console import act

QUEUE = "/admin/jobs/"


@pytest.fixture
def job(stored):
    """Ada's job that waits."""
    return Job.objects.get(status="queued")


def address(job):
    return f"{QUEUE}{job.public_id}/"


def do(browser, action, job, place=QUEUE):
    form = {"action": action, "job": job.public_id}
    answer = browser.post(place, form, follow=True)
    job.refresh_from_db()
    return answer


def test_queue_shows_what_runs_waits_and_failed(job, console):
    browser = console("viewer")
    assert job.public_id in browser.get(QUEUE).content.decode()
    try_again(claimed_job(), "<b>It broke.", pause_seconds=60)
    shown = browser.get(QUEUE, {"part": "live"}).content.decode()
    assert "<html" not in shown
    assert "&lt;b&gt;It broke." in shown
    assert "Next try" in shown
    assert '<span class="badge bad">failing</span>' in shown


def test_queue_says_where_no_worker_takes_jobs(job, console):
    shown = console("viewer").get(QUEUE).content.decode()
    assert "No worker runs" in shown


def test_job_is_shown_with_what_happened(job, console):
    try_again(claimed_job(), "It broke.", pause_seconds=60)
    shown = console("viewer").get(address(job)).content.decode()
    assert "An attempt failed" in shown
    assert "Next attempt" in shown
    assert "On dogs" in shown
    part = console("viewer").get(address(job), {"part": "live"}).content.decode()
    assert "hx-get" in part
    assert "<html" not in part


def test_job_that_has_ended_asks_for_nothing_again(job, console):
    fail(claimed_job(), "It broke.")
    part = console("viewer").get(address(job), {"part": "live"}).content.decode()
    assert "hx-get" not in part


def test_job_outlives_its_document(job, console):
    fail(claimed_job(), "It broke.")
    MediaItem.objects.filter(pk=job.media_id).delete()
    shown = console("full").get(address(job)).content.decode()
    assert "Its document was deleted." in shown
    assert "Start again" not in shown


def test_jobs_of_others_are_not_there_for_who_may_not_see_them(job, console):
    assert console("keyman").get(address(job)).status_code == 404
    assert job.public_id not in console("keyman").get(QUEUE).content.decode()


@pytest.mark.parametrize("where", ["queue", "page"])
def test_job_is_cancelled_and_that_is_audited(job, console, where):
    place = QUEUE if where == "queue" else address(job)
    do(console("full"), "cancel", job, place)
    assert job.status == "cancelled"
    assert AuditEntry.objects.get().action == "cancel"
    said = do(console("full"), "cancel", Job.objects.get(status="completed"))
    assert "The job is completed already." in said.content.decode()


def test_failed_job_is_started_again_on_the_account_of_who_asks(job, console, people):
    fail(claimed_job(), "It broke.")
    answer = do(console("full"), "retry", job, address(job))
    again = Job.objects.get(status="queued")
    assert answer.redirect_chain[-1][0] == address(again)
    assert again.caller == f"user:{people['full'].pk}"
    assert job.status == "failed"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.after) == ("retry", {"job": again.public_id})


def test_job_that_runs_well_is_not_started_again(job, console):
    said = do(console("full"), "retry", job).content.decode()
    assert "only failed and cancelled jobs can be started again" in said
    assert not AuditEntry.objects.exists()


def test_several_are_started_again_from_the_list(job, console):
    fail(claimed_job(), "It broke.")
    answer = act(console("full"), Job, "retry", *Job.objects.all())
    said = answer.content.decode()
    assert "Started 1 job(s) again." in said
    assert "Not started (1): The job is completed; only failed" in said
    assert Job.objects.filter(status="queued").count() == 1
    assert AuditEntry.objects.get().action == "retry"
    act(console("viewer"), Job, "retry", *Job.objects.all())
    assert Job.objects.count() == 3


def test_who_may_only_look_sees_no_buttons_and_can_press_none(job, console):
    viewer = console("viewer")
    for place in (QUEUE, address(job)):
        shown = viewer.get(place).content.decode()
        assert (
            "<button"
            not in shown.partition('class="console"')[2].partition("</main>")[0]
        )
        for action in ("cancel", "retry"):
            form = {"action": action, "job": job.public_id}
            assert viewer.post(place, form).status_code == 403
    job.refresh_from_db()
    assert job.status == "queued"


def test_pages_take_few_queries(job, console, django_assert_max_num_queries):
    browser = console("viewer")
    browser.get(QUEUE)
    for place in (QUEUE, address(job)):
        with django_assert_max_num_queries(18):
            browser.get(place)
