"""`embed_folder` and `search`."""

import io
from unicodedata import normalize

import pytest
from django.core.management import CommandError, call_command

from media_jobs.models import Job, MediaItem


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "documents"
    (root / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "cats.txt").write_text("The cat sat on the mat.")
    (root / "deep" / "dogs.md").write_text("# Dogs\n\nThe dog barked.")
    (root / "broken.txt").write_bytes(b"\x00\x01")
    (root / "image.png").write_bytes(b"PNG")
    (root / ".git" / "notes.txt").write_text("hidden")
    return root


def run(*arguments, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_folder_is_stored_and_embedded(folder, fakes):
    out, err = run("embed_folder", str(folder))
    assert "3 files, 2 to embed, 1 refused." in out
    assert "2 embedded." in out
    assert "broken.txt" in err
    titles = MediaItem.objects.values_list("title", flat=True)
    assert sorted(titles) == ["cats.txt", "deep/dogs.md"]
    assert all(MediaItem.objects.values_list("embedding_count", flat=True))


def test_second_time_takes_what_changed(folder, fakes):
    run("embed_folder", str(folder))
    (folder / "cats.txt").write_text("The cat left.")
    out, _ = run("embed_folder", str(folder))
    assert "1 to embed" in out
    item = MediaItem.objects.get(title="cats.txt")
    assert (item.content, item.is_stale) == ("The cat left.", False)
    assert MediaItem.objects.count() == 2


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_file_is_known_again_in_either_normal_form(tmp_path, fakes, stored, named):
    (tmp_path / normalize(named, "résumé.txt")).write_text("The cat left.")
    path = normalize(stored, "résumé.txt")
    MediaItem.objects.create(title=path, content="Old.", metadata={"path": path})
    run("embed_folder", str(tmp_path), "--no-wait")
    assert MediaItem.objects.get().content == "The cat left."


def test_names_of_files_are_stored_in_one_normal_form(tmp_path, fakes):
    (tmp_path / normalize("NFD", "résumé.txt")).write_text("The cat sat.")
    run("embed_folder", str(tmp_path), "--no-wait")
    item = MediaItem.objects.get()
    assert {item.title, item.source_filename, item.metadata["path"]} == {"résumé.txt"}


def test_files_that_differ_in_case_are_two(tmp_path, fakes):
    for name in ("a.txt", "A.txt"):
        (tmp_path / name).write_text(f"The file {name}.")
    run("embed_folder", str(tmp_path), "--no-wait")
    assert MediaItem.objects.count() == 2


def test_what_a_file_lost_is_printed_and_kept(tmp_path, fakes):
    (tmp_path / "a.txt").write_bytes("Zwölf Boxkämpfer".encode() + b"\xe4")
    _, err = run("embed_folder", str(tmp_path), "--no-wait")
    assert "a.txt: 1 bad byte" in err
    assert "1 bad byte" in MediaItem.objects.get().warnings[0]
    (tmp_path / "a.txt").write_text("Zwölf Boxkämpfer")
    run("embed_folder", str(tmp_path), "--no-wait")
    assert MediaItem.objects.get().warnings == []


def test_embedding_can_be_left_to_the_worker(folder, fakes):
    run("embed_folder", str(folder), "--no-wait")
    assert set(Job.objects.values_list("status", flat=True)) == {"queued"}


def test_ctrl_c_puts_the_job_under_way_back(folder, fakes, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("media_jobs.management.commands.embed_folder.run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("embed_folder", str(folder))
    assert set(Job.objects.values_list("status", "attempts")) == {("queued", 0)}


def test_what_is_no_folder_is_refused(tmp_path, db):
    with pytest.raises(CommandError, match="not a folder"):
        run("embed_folder", str(tmp_path / "nowhere"))


def test_unknown_owner_is_refused(folder, db):
    with pytest.raises(CommandError, match="no user eve"):
        run("embed_folder", str(folder), "--owner", "eve")


def test_hits_are_printed(folder, fakes):
    run("embed_folder", str(folder))
    out, _ = run("search", "The cat sat on the mat.", "--top-k", "1")
    assert out.startswith("1.000  cats.txt  [")
    assert "The cat sat on the mat." in out


def test_nothing_found_is_said(fakes):
    assert run("search", "anything")[0] == "Nothing found.\n"


def test_search_that_cannot_be_done_says_why(folder, fakes):
    run("embed_folder", str(folder))
    with pytest.raises(CommandError, match="cannot be compared"):
        run("search", "x", "--model", "onnx:only-onnx")
