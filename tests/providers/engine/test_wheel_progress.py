"""What is seen of a wheel on its way: pip's temporary folders come and go meanwhile."""

import shutil
import threading

from providers.engine.wheels import _largest


def test_folders_that_go_while_they_are_looked_at_are_passed_by(tmp_path):
    over = threading.Event()

    def come_and_go():
        while not over.is_set():
            for name in ("a", "b", "c"):
                (tmp_path / name / "deeper").mkdir(parents=True)
                (tmp_path / name / "deeper" / "part").write_bytes(b"1234")
            for name in ("a", "b", "c"):
                shutil.rmtree(tmp_path / name)

    pip = threading.Thread(target=come_and_go)
    pip.start()
    try:
        assert {_largest(tmp_path) for _ in range(300)} <= {0, 4}
    finally:
        over.set()
        pip.join()
