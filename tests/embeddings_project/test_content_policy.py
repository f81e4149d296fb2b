import pytest

from embeddings_project.content_policy import DATA, PAGE


@pytest.mark.parametrize(
    ("path", "status", "policy"),
    [
        ("/api/v1/models", 200, DATA),
        ("/api/v1/nothing", 404, DATA),
        ("/healthz", 200, DATA),
        ("/openapi.json", 200, DATA),
        ("/nothing", 404, DATA),
        ("/docs", 200, PAGE),
        ("/docs?script=", 200, DATA),
        ("/admin/login/", 200, PAGE),
    ],
)
def test_every_answer_says_what_browsers_may_load(client, fakes, path, status, policy):
    answer = client.get(path)
    answer.close()
    assert answer.status_code == status
    assert answer["Content-Security-Policy"] == policy


def test_policies_let_no_page_be_framed_and_no_foreign_script_run():
    for policy in (PAGE, DATA):
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "//" not in policy
