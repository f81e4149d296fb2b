"""Which models an operator's folders are, and what is said of those that are none."""

import os
import shutil
from dataclasses import replace

import pytest

from providers.engine import files
from providers.engine.folders import find_model_folders, unreadable
from providers.engine.weights import Weights
from providers.exceptions import ProviderUnavailable
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny


def model(folder, mark="config.json"):
    folder.mkdir(parents=True)
    (folder / mark).write_text("{")
    return folder


def found(parent, *paths):
    folders = find_model_folders(parent, paths)
    assert folders.problems == ()
    return dict(folders.by_name)


def problems(parent, *paths):
    return [
        (problem.message, problem.fatal)
        for problem in find_model_folders(parent, paths).problems
    ]


def cache(parent, name="models--BAAI--bge-m3", commits=("c1",), main="c1"):
    """Write a hub's cache of one repository: snapshots are links to blobs."""
    folder = parent / name
    (folder / "blobs").mkdir(parents=True)
    for commit in commits:
        snapshot = folder / "snapshots" / commit
        tiny.write_model(snapshot, seed=len(commit))
        for file in list(files.files_below(snapshot)):
            blob = folder / "blobs" / f"{commit}-{file.replace('/', '-')}"
            (snapshot / file).rename(blob)
            (snapshot / file).symlink_to(
                os.path.relpath(blob, (snapshot / file).parent)
            )
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(f"{main}\n")
    return folder


@pytest.mark.parametrize("mark", ["config.json", "modules.json"])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my-model", "my-model"),
        ("BAAI--bge-m3", "BAAI/bge-m3"),
        ("BAAI/bge-m3", "BAAI/bge-m3"),
        ("any/BAAI--bge-m3", "BAAI/bge-m3"),
        ("own--my--model", "own/my--model"),
    ],
)
def test_a_folder_below_a_parent_is_named_as_on_the_hub(tmp_path, mark, path, name):
    folder = model(tmp_path / "models" / path, mark)
    assert found(tmp_path / "models") == {name: folder}
    assert found(tmp_path / "absent", tmp_path / "models") == {name: folder}


@pytest.mark.parametrize(
    ("path", "name"), [("my-model", "my-model"), ("BAAI--bge-m3", "BAAI/bge-m3")]
)
def test_a_named_folder_may_be_the_model_itself(tmp_path, path, name):
    folder = model(tmp_path / path)
    assert found(tmp_path / "absent", folder) == {name: folder}


@pytest.mark.parametrize("given", ["", "models--BAAI--bge-m3", "snapshot"])
def test_a_hub_s_cache_is_the_model_that_its_main_branch_names(tmp_path, given):
    folder = cache(tmp_path / "hub", commits=("old", "newest"), main="newest")
    (tmp_path / "hub" / "datasets--x--y").mkdir()
    (tmp_path / "hub" / ".locks").mkdir()
    newest = folder / "snapshots" / "newest"
    path = newest if given == "snapshot" else tmp_path / "hub" / given
    assert found(tmp_path / "absent", path) == {"BAAI/bge-m3": newest}


def test_a_cached_model_without_owner_keeps_its_name(tmp_path):
    folder = cache(tmp_path, "models--bert-base-uncased")
    assert list(found(tmp_path)) == ["bert-base-uncased"]
    assert list(found(folder.parent / "absent", folder)) == ["bert-base-uncased"]


def test_the_only_snapshot_of_a_cache_counts_without_a_main_branch(tmp_path):
    folder = cache(tmp_path / "hub", main=None)
    assert found(tmp_path / "hub") == {"BAAI/bge-m3": folder / "snapshots" / "c1"}


@pytest.mark.parametrize("main", [None, "other", "../blobs"])
def test_a_cache_that_names_no_snapshot_is_a_problem(tmp_path, main):
    folder = cache(tmp_path / "hub", commits=("c1", "c2"), main=main)
    for given in ([tmp_path / "hub"], [tmp_path / "absent", tmp_path / "hub"]):
        [(message, fatal)] = problems(*given)
        assert str(folder) in message
        assert not fatal


def test_a_cached_model_is_prepared_with_the_contents_of_its_links(tmp_path):
    folder = cache(tmp_path / "hub")
    weights = Weights(tmp_path / "data", model_paths=(tmp_path / "hub",))
    prepared = weights.prepare("BAAI/bge-m3")
    assert not [file for file in prepared.path.rglob("*") if file.is_symlink()]
    assert {"model.safetensors", "1_Pooling/config.json"} <= set(
        prepared.manifest.files
    )
    original = folder / "snapshots" / "c1" / "model.safetensors"
    assert (prepared.path / "model.safetensors").read_bytes() == original.read_bytes()
    assert weights.verified("BAAI/bge-m3").path == prepared.path


def test_two_folders_of_one_name_are_a_fatal_problem_that_names_both(tmp_path):
    one = model(tmp_path / "models" / "BAAI--bge-m3")
    two = model(tmp_path / "own" / "BAAI" / "bge-m3")
    folders = find_model_folders(tmp_path / "models", [tmp_path / "own"])
    [problem] = folders.problems
    assert problem.fatal
    assert str(one) in problem.message
    assert str(two) in problem.message
    assert folders.by_name == {"BAAI/bge-m3": one}


def test_one_folder_that_is_named_twice_is_no_problem(tmp_path):
    folder = model(tmp_path / "models" / "my-model")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "my-model").symlink_to(folder)
    paths = [folder, tmp_path / "models", tmp_path / "link"]
    assert found(tmp_path / "models", *paths) == {"my-model": folder}


@pytest.mark.parametrize(
    ("name", "what"), [("absent", "does not exist"), ("file", "is not a folder")]
)
def test_a_path_that_is_no_folder_is_a_fatal_problem(tmp_path, name, what):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    [(message, fatal)] = problems(tmp_path / "models", path)
    assert message == f"{path}, named in EMBEDDINGS_MODEL_PATHS, {what}."
    assert fatal


def test_a_named_folder_that_holds_nothing_is_a_problem(tmp_path):
    (tmp_path / "own").mkdir()
    [(message, fatal)] = problems(tmp_path / "models", tmp_path / "own")
    assert str(tmp_path / "own") in message
    assert not fatal


def test_a_data_folder_without_models_is_no_problem(tmp_path):
    assert found(tmp_path / "models") == {}
    (tmp_path / "models").mkdir()
    assert found(tmp_path / "models") == {}


def test_a_folder_that_holds_no_model_is_a_problem_and_the_others_are_found(tmp_path):
    (tmp_path / "models" / "notes" / "drafts").mkdir(parents=True)
    folder = model(tmp_path / "models" / "my-model")
    folders = find_model_folders(tmp_path / "models", [])
    [problem] = folders.problems
    assert str(tmp_path / "models" / "notes") in problem.message
    assert not problem.fatal
    assert folders.by_name == {"my-model": folder}


def test_a_folder_whose_name_no_model_can_have_is_a_problem(tmp_path):
    folder = model(tmp_path / "models" / "my model")
    folders = find_model_folders(tmp_path / "models", [])
    [problem] = folders.problems
    assert str(folder) in problem.message
    assert not problem.fatal
    assert folders.by_name == {}


def test_what_the_reader_does_not_understand_is_said(tmp_path):
    folder = model(tmp_path / "models" / "broken")
    tiny.write_model(tmp_path / "models" / "whole")
    [problem] = unreadable(find_model_folders(tmp_path / "models", []))
    assert str(folder) in problem.message
    assert not problem.fatal


# What a folder's name means for the models of the engine.


@pytest.fixture
def provider(tmp_path):
    made = HuggingFaceProvider.from_settings(
        {"data_dir": tmp_path / "data", "hub_endpoint": "http://127.0.0.1:9"}
    )
    yield made
    made.close()


def embedded(provider, name):
    return provider.embed(
        provider.resolve(name),
        ["a b"],
        dimensions=None,
        input_type="document",
        timeout_seconds=60,
    ).vectors


@pytest.mark.parametrize(
    ("folder", "asked", "name"),
    [
        ("all-mpnet-base-v2", "all-mpnet-base-v2", "all-mpnet-base-v2"),
        ("BAAI--bge-base-en-v1.5", "BAAI/bge-base-en-v1.5", "BAAI/bge-base-en-v1.5"),
        ("BAAI/bge-base-en-v1.5", "bge-base-en-v1.5", "BAAI/bge-base-en-v1.5"),
        ("own/thing", "thing", "own/thing"),
    ],
)
def test_a_folder_is_downloaded_and_served_under_its_name_without_the_hub(
    provider, tmp_path, folder, asked, name
):
    tiny.write_model(tmp_path / "data" / "models" / folder)
    assert provider.resolve(asked).dimensions == tiny.HIDDEN
    assert provider.download(asked).model.name == name
    assert provider.resolve(asked).name == name
    assert embedded(provider, asked).shape == (1, tiny.HIDDEN)


def test_a_folder_put_in_an_owner_s_folder_is_found_while_the_server_runs(
    provider, tmp_path
):
    owner = tmp_path / "data" / "models" / "own"
    tiny.write_model(owner / "one")
    assert provider.resolve("own/two") is None
    tiny.write_model(owner / "two")
    assert provider.resolve("own/two").name == "own/two"


def test_a_folder_that_is_renamed_is_listed_by_its_new_name(provider, tmp_path):
    folder = tiny.write_model(tmp_path / "data" / "models" / "one")
    assert provider.resolve("one").name == "one"
    folder.rename(folder.with_name("two"))
    assert provider.resolve("one") is None
    assert provider.resolve("two").name == "two"


def test_what_a_folder_gave_is_not_what_the_hub_has_under_a_like_name(
    provider, tmp_path
):
    weights = provider.engine.weights
    folder = tiny.write_model(tmp_path / "data" / "models" / "thing")
    prepared = weights.prepare("thing").path
    shutil.rmtree(folder)
    # So versions wrote it that took "own--thing" for a name.
    manifest = files.read_manifest(prepared)
    assert manifest is not None
    files.write_manifest(prepared, replace(manifest, model="own--thing"))
    prepared.rename(prepared.with_name("own--thing"))
    with pytest.raises(ProviderUnavailable):
        weights.prepare("own/thing")


def test_a_short_name_belongs_to_the_first_and_never_hides_a_name(provider, tmp_path):
    models = tmp_path / "data" / "models"
    for name in ("a--short", "b--short", "c--free", "free", "x--bge-small-en-v1.5"):
        tiny.write_model(models / name)
    named = {
        alias: provider.resolve(alias).name
        for alias in ("short", "free", "bge-small-en-v1.5")
    }
    assert named == {
        "short": "a/short",
        "free": "free",
        "bge-small-en-v1.5": "BAAI/bge-small-en-v1.5",
    }
    specs = list(provider.models())
    claimed = [name for spec in specs for name in (spec.name, *spec.aliases)]
    assert len(claimed) == len(set(claimed))


@pytest.mark.parametrize(
    ("alias", "name", "dimensions"),
    [
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", 384),
        ("bge-large-en", "BAAI/bge-large-en", 1024),
        ("bge-large-en-v1.5", "BAAI/bge-large-en-v1.5", 1024),
        ("multilingual-e5-small", "intfloat/multilingual-e5-small", 384),
    ],
)
def test_models_of_the_catalogue_go_by_their_short_names(
    provider, alias, name, dimensions
):
    spec = provider.resolve(alias)
    assert (spec.name, spec.dimensions) == (name, dimensions)


def test_what_was_prepared_under_another_name_of_the_same_folder_is_not_taken_for_it(
    provider, tmp_path
):
    folder = tiny.write_model(tmp_path / "data" / "models" / "own--thing")
    prepared = provider.engine.weights.prepare("own/thing")
    assert provider.engine.weights.find("own/thing").path == prepared.path
    assert provider.engine.weights.find("own--thing") is None
    assert folder.is_dir()
