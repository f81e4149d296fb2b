"""What stops a run over a corpus. `message` is one sentence with the remedy."""


class CorpusError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
