"""What the server keeps: over restarts, for a stated time, and no longer than that."""

import threading
import time

import numpy as np
import pytest

from text2layer import LayeredImage
from text2layer.errors import InputError
from text2layer.server.drawing import Studio
from text2layer.server.schema import Generate, Replace
from text2layer.server.store import KILLED, NotKept, StorageFull, Store
from text2layer.server.worker import QueueFull, Worker

HOUR = 3600.0


@pytest.fixture
def picture():
    return LayeredImage(np.full((8, 8, 3), 7, np.uint8))


def aged(store, seconds):
    """Let everything in the store be so many seconds older."""
    for table, column in (("pictures", "used"), ("jobs", "finished")):
        store._write(f"UPDATE {table} SET {column} = {column} - ?", seconds)


def test_a_killed_servers_running_job_failed_and_nothing_else_is_lost(tmp_path, picture):
    store = Store(tmp_path, HOUR)
    done, runs, waits = (store.add_job("generate", '{"prompt": "a"}') for _ in range(3))
    kept = store.add_picture(picture)
    store.start_job(done.id)
    store.finish_job(done.id, "done", None, [kept])
    store.start_job(runs.id)
    (tmp_path / "tmp" / "half").write_bytes(b"1")
    (tmp_path / "pictures" / ".text2layer-1.part").mkdir()
    (tmp_path / "pictures" / "0123456789abcdef.psd").write_bytes(
        b"8BPS"
    )  # written, and never indexed
    store.close()
    again = Store(tmp_path, HOUR)
    assert again.job(done.id).pictures == [kept]
    assert again.load_picture(kept) == picture
    assert (again.job(runs.id).state, again.job(runs.id).error) == ("failed", KILLED)
    assert again.queued() == [waits.id]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [one.stem for one in (tmp_path / "pictures").iterdir()] == [kept]


def test_jobs_of_before_a_restart_are_drawn(tmp_path, toy_model_folder):
    store = Store(tmp_path, HOUR)
    waits = store.add_job("generate", Generate(prompt="a red apple", seed=1).model_dump_json())
    foreign = store.add_job("generate", '{"prompt": "a", "lasagne": 1}')
    store.close()
    again = Store(tmp_path, HOUR)
    worker = Worker(again, Studio(toy_model_folder, "cpu"), 3)
    worker.start()
    end = time.monotonic() + 60
    while again.job(foreign.id).state != "failed":
        assert time.monotonic() < end
        time.sleep(0.05)
    worker.stop()
    assert len(again.job(waits.id).pictures) == 1
    assert "another version" in again.job(foreign.id).error


def test_two_servers_do_not_share_a_folder(tmp_path):
    first = Store(tmp_path, HOUR)
    with pytest.raises(InputError, match="Another server uses"):
        Store(tmp_path, HOUR)
    first.close()
    Store(tmp_path, HOUR)


def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        Store(tmp_path / "file", HOUR)
    (tmp_path / "index.sqlite").write_text("no database at all, but text" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        Store(tmp_path, HOUR)
    (tmp_path / "index.sqlite").unlink()
    Store(tmp_path, HOUR)  # the lock was let go


def test_what_is_old_goes_and_what_is_used_or_needed_stays(tmp_path, picture):
    store = Store(tmp_path, HOUR)
    old, used, needed = (store.add_picture(picture) for _ in range(3))
    finished = store.add_job("generate", '{"prompt": "a"}')
    store.finish_job(finished.id, "done", None, [old])
    waits = store.add_job("replace", Replace(picture=needed, layer="a").model_dump_json())
    aged(store, HOUR + 1)
    store.use_picture(used)
    with pytest.raises(InputError, match="waits for a job"):
        store.delete_picture(needed)
    store.expire()
    for gone in (lambda: store.picture_row(old), lambda: store.job(finished.id)):
        with pytest.raises(NotKept):
            gone()
    assert store.load_picture(used) == store.load_picture(needed) == picture
    assert store.job(waits.id).state == "queued"
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_the_folder_has_a_limit(tmp_path, picture):
    store = Store(tmp_path, HOUR, max_bytes=1)
    store.add_picture(picture)
    with pytest.raises(StorageFull):
        store.add_picture(picture)


def test_the_queue_holds_no_more_than_its_limit_whoever_asks(tmp_path):
    store = Store(tmp_path, HOUR)
    worker = Worker(store, Studio(tmp_path), 5)  # not started: nothing leaves the queue
    refused = []

    def ask():
        try:
            worker.submit(Generate(prompt="a"))
        except QueueFull as error:
            refused.append(error.retry_after)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.queued()) == worker.queued == 5
    assert len(refused) == 35
    assert min(refused) >= 1
