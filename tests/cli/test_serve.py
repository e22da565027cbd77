"""`text2layer serve`: what it refuses to start with, and a server that is killed in mid-job."""

import os
import re
import subprocess
import sys
import time

import pytest

from tests.cli.outcome import assert_one_sentence

pytest.importorskip("fastapi", reason="the server needs the extra 'serve'")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "192.0.2.1"], "give a --token"),
        (["--host", "0.0.0.0"], "give a --token"),
        (["--token", "short"], "16 ASCII characters"),
        (["--host", "0.0.0.0", "--token", "a" * 16], "--allow-host"),
        (["--device", "toaster"], "auto, cpu or cuda"),
        (["--keep-hours", "nan"], "keep_hours must"),
        (["--port", "1", "--host", "192.0.2.1", "--token", "a" * 16], "cannot be used"),
    ],
)
def test_options_that_cannot_be_used(run, tmp_path, options, told):
    result = run("serve", "--folder", tmp_path / "kept", "--no-browser", *options)
    assert told in assert_one_sentence(result)
    assert not (tmp_path / "kept").exists()


class Started:
    """A server as a process of its own."""

    def __init__(self, folder, model):
        from text2layer.server.client import StudioClient

        arguments = ["serve", "--port", "0", "--folder", folder, "--model", model, "--no-browser"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "text2layer", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        told = self.process.stderr.readline()
        self.client = StudioClient(re.search(r"http://\S+?(?=/)", told).group())

    def until(self, job, *states):
        end = time.monotonic() + 300
        while (now := self.client.job(job.id)).state not in states:
            assert time.monotonic() < end, now
            time.sleep(0.1)
        return now


@pytest.mark.slow  # the program is started twice
def test_a_server_killed_in_mid_job_lists_it_as_failed_and_loses_nothing(tmp_path, model):
    first = Started(tmp_path / "kept", model)
    try:
        done = first.client.generate("a red apple", seed=1)
        done = first.until(done, "done")
        before = first.client.download(done.pictures[0], "png")
        runs = first.client.generate("a cat", steps=1000, count=8)
        waits = first.client.generate("a dog")
        first.until(runs, "running")
    finally:
        first.process.kill()
        first.process.wait()
    second = Started(tmp_path / "kept", model)
    try:
        failed = second.client.job(runs.id)
        assert failed.state == "failed"
        assert "stopped while the job ran" in failed.error
        assert second.client.download(done.pictures[0], "png") == before
        assert len(second.until(waits, "done").pictures) == 1
    finally:
        second.process.terminate()
        assert second.process.wait(30) in (0, -15)
