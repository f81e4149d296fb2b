from types import SimpleNamespace

import pytest

from embeddings.services import preparation
from providers.exceptions import ProviderMisconfigured


class Local:
    """A provider two of whose models an older version prepared; the first cannot be prepared again."""

    def __init__(self):
        self.prepared = []

    def outdated(self):
        return ["org/broken", "org/good"]

    def download(self, name):
        if name == "org/broken":
            raise ProviderMisconfigured("The disk is full.")
        self.prepared.append(name)


@pytest.fixture
def local(monkeypatch):
    provider = Local()
    registry = SimpleNamespace(all=lambda: [provider])
    state = SimpleNamespace(downloaded=True)
    monkeypatch.setattr(preparation, "registry", lambda: registry)
    monkeypatch.setattr(preparation, "model_state", lambda name: state)
    monkeypatch.setattr(preparation, "prepare_vocabulary", lambda folder: None)
    return provider


def test_models_of_an_older_version_are_renewed_one_failure_aside(local, caplog):
    preparation.prepare_local_model()
    assert local.prepared == ["org/good"]
    assert "org/broken" in caplog.text
    assert "The disk is full." in caplog.text
