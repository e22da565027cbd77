"""Two hundred clients at once: some are refused, none is lost, memory stays bounded."""

import threading

import httpx
import pytest

from tests.server.running import running

CLIENTS = 200
QUEUE = 8


def test_two_hundred_clients_are_served_or_told_to_come_back(tmp_path, toy_model_folder, cutout):
    psutil = pytest.importorskip("psutil", reason="measures memory")
    memory = psutil.Process().memory_info
    with running(tmp_path / "kept", toy_model_folder, queue=QUEUE) as server:
        with server.client() as client:
            client.wait(client.generate("a red apple", seed=0))  # everything is loaded
        before, lock = memory().rss, threading.Lock()
        answers, ends, other = [], [], []

        def visit(number):
            with httpx.Client(base_url=server.address, timeout=120) as http:
                asked = http.post("/api/jobs/generate", json={"prompt": "a cat", "seed": number})
                uploaded = http.post("/api/pictures", content=cutout)
                with lock:
                    answers.append(asked.status_code)
                    other.append(uploaded.status_code)
                if asked.status_code == 202:
                    text = http.get(f"/api/jobs/{asked.json()['id']}/events").text
                    with lock:
                        ends.append(text)
                else:
                    assert int(asked.headers["retry-after"]) >= 1

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        grown = memory().rss - before
        jobs = server.worker.store.jobs()
    accepted, refused = answers.count(202), answers.count(429)
    done = sum(job.state == "done" for job in jobs) - 1
    print(f"{done} jobs finished, {refused} refused with 429, {accepted - done} lost, "
          f"{grown / 2**20:.0f} MiB more memory")  # fmt: skip
    assert accepted + refused == CLIENTS
    assert accepted >= QUEUE
    assert refused > 0
    assert done == accepted == len(ends)
    assert all('"state":"done"' in text for text in ends)
    assert set(other) <= {201, 429}
    assert 201 in other
    assert grown < 300 * 2**20
