"""A disk that is full must not end the process that counts: a page without space behind it would be SIGBUS."""

import contextlib
import resource

import pytest
from prometheus_client import mmap_dict, values

from embeddings_project.metric_files import FIRST_BYTES, reserve_metric_files


@pytest.fixture
def open_file(monkeypatch, tmp_path):
    """Return a function that opens a file as prometheus_client does."""
    monkeypatch.setattr(values, "MmapedDict", mmap_dict.MmapedDict)
    reserve_metric_files()
    opened = []

    def new(name="counter_1.db"):
        opened.append(vars(values)["MmapedDict"](str(tmp_path / name)))
        return opened[-1]

    yield new
    for file in opened:
        file.close()


@contextlib.contextmanager
def no_space_beyond(size):
    """Have every write beyond this size fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def keys(count):
    return [f'["requests", "requests", {{"model": "m{n}"}}, ""]' for n in range(count)]


def written(file):
    return {key: value for key, value, _ in file.read_all_values()}


def test_a_file_has_its_space_before_anything_is_counted(open_file, tmp_path):
    file = open_file()
    file.write_value("a", 1.0, 0.0)
    path = tmp_path / "counter_1.db"
    assert path.stat().st_blocks * 512 >= FIRST_BYTES
    read = mmap_dict.MmapedDict.read_all_values_from_file(str(path))
    assert [(key, value) for key, value, *_ in read] == [("a", 1.0)]


def test_a_file_grows_with_its_space(open_file, tmp_path):
    file = open_file()
    for key in keys(5000):
        file.write_value(key, 2.0, 0.0)
    path = tmp_path / "counter_1.db"
    assert path.stat().st_size > FIRST_BYTES
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert written(file) == dict.fromkeys(keys(5000), 2.0)


def test_without_space_a_process_counts_in_memory(open_file, tmp_path):
    with no_space_beyond(FIRST_BYTES // 2):
        file = open_file()
        for key in keys(5000):
            file.write_value(key, 3.0, 0.0)
    assert written(file) == dict.fromkeys(keys(5000), 3.0)
    assert not list(tmp_path.iterdir())  # whoever sums up finds no half file


def test_a_file_that_cannot_grow_goes_on_in_memory(open_file):
    file = open_file()
    with no_space_beyond(FIRST_BYTES):
        for key in keys(5000):
            file.write_value(key, 4.0, 0.0)
    assert written(file) == dict.fromkeys(keys(5000), 4.0)


def test_a_folder_that_is_gone_is_counted_past(open_file, tmp_path):
    tmp_path.rmdir()
    file = open_file()
    file.write_value("a", 1.0, 0.0)
    assert written(file) == {"a": 1.0}
