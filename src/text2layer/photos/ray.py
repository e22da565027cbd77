"""The same chunks on a Ray cluster: actors, fed by Ray Data.

PHOTOS and OUT must be addresses, or folders that every machine sees under the same path: actors
read the index and the photos themselves. On a cluster with GPUs the work on a chunk is divided (see
`ray_parts`). On others each actor works on whole chunks and writes shards and journals; only
numbers of chunks and their results travel, no pictures. When a machine is lost, Ray gives its
chunks to another actor, and a chunk that is done twice gives the same bytes and is renamed into
place twice. A photo that kills its worker does not kill the actor, which holds a `Guard`. Machines
that come during the run get actors too.
"""

import json
import logging
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from text2layer.errors import InputError
from text2layer.options import require
from text2layer.photos.chunk import ChunkResult, journal_result
from text2layer.photos.folder import BuildFolder
from text2layer.photos.guard import Guard
from text2layer.photos.pool import Results, Stop
from text2layer.photos.ray_parts import (
    IN_FLIGHT,
    Actors,
    error_of,
    read_entries,
    run_parts,
    said_of,
)
from text2layer.photos.worker import WorkerSetup

CORES_PER_ACTOR = 2  # unless their number is given; as in the pool of one machine
ANSWER_SECONDS = 5  # that a cluster's head may take to answer
MOST_BLOCKS = 10_000  # of chunks' numbers that Ray schedules; beyond, a block holds several


class ChunkActor:
    """Works on chunks by number; Ray makes one for each worker of the cluster."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._guard = Guard(setup)
        self._folder = BuildFolder(setup.out)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """{"id": numbers of chunks} -> {"result": what became of each, as text}.

        An error that a person can act on travels as text too, for Ray would wrap it.
        """
        return {"result": [self._done(int(number)) for number in batch["id"]]}

    def _done(self, number: int) -> str:
        folder = self._folder
        try:
            if folder.journal(number).exists():  # a machine was lost after it had done this one
                return _packed(journal_result(number, folder, self._guard.hashes()))
            entries = read_entries(folder, self._setup, number)
            return _packed(self._guard.chunk(number, entries))
        except Exception as error:
            return json.dumps({"error": said_of(error, number)})


def run_on_ray(
    setup: WorkerSetup, numbers: Sequence[int], address: str, actors: int | None, stop: Stop
) -> Results:
    """Do the chunks on a cluster; results come as they are ready.

    Args:
        setup: what the actors need to know; how many threads each uses is decided here.
        numbers: of the chunks to do.
        address: of the cluster; "auto" takes the one at hand, and starts one here if there is none.
        actors: how many at most; None lets Ray use all the cluster's cores, or GPUs if it has any,
            also those that join it later.
        stop: asked after each result; the chunks at work are then given up, and done again by the
            next run.

    Raises:
        InputError: ray is not installed, or no cluster answers.
        Text2LayerError: what an actor met, such as a full disk.
    """
    with _connected(address) as ray:
        from ray import data

        logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing it sets another level
        data.DataContext.get_current().enable_progress_bars = False
        cluster = _cluster(ray)
        if setup.device == "cuda" and not cluster.gpus:
            raise InputError("The Ray cluster has no GPU; leave out --device cuda.")
        if setup.device == "cpu" or not cluster.gpus:
            results = _run_chunks(setup, numbers, cluster, actors)
        else:
            results = run_parts(setup, _chunks(numbers, cluster.cores), cluster.actors(actors))
        with closing(results):
            for result in results:
                yield result
                if stop():
                    return


def _run_chunks(
    setup: WorkerSetup, numbers: Sequence[int], cluster: "Cluster", actors: int | None
) -> Results:
    from ray import data

    cores = cluster.cores
    threads = max(1, min(cluster.node_cores, cores // actors if actors else CORES_PER_ACTOR))
    first = max(1, min(actors or cores // threads, len(numbers)))
    most = min(actors or len(numbers), len(numbers))
    done = _chunks(numbers, first).map_batches(
        ChunkActor,
        fn_constructor_args=(replace(setup, threads=threads),),
        batch_size=1,
        compute=data.ActorPoolStrategy(
            min_size=1,
            initial_size=first,
            max_size=most,
            max_tasks_in_flight_per_actor=IN_FLIGHT,
        ),
        num_cpus=threads,
    )
    for row in done.iter_rows():
        yield _unpacked(row["result"])


def _chunks(numbers: Sequence[int], actors: int) -> Any:
    """A Ray Data set of the chunks' numbers, in enough blocks for so many actors."""
    from ray import data

    items = [{"id": number} for number in numbers]
    blocks = min(len(items), max(MOST_BLOCKS, 4 * actors))
    return data.from_items(items, override_num_blocks=blocks)


@dataclass(frozen=True)
class Cluster:
    """What a cluster has.

    Attributes:
        gpus: in all.
        cores: in all.
        node_cores: of its smallest node that has any. An actor that asked for more cores than a
            node has would be waited for without end.
        gpu_cores: for each GPU, on the node that has fewest.
    """

    gpus: int
    cores: int
    node_cores: int
    gpu_cores: int

    def actors(self, most: int | None) -> Actors:
        """How a cluster with GPUs is divided.

        Args:
            most: actors with networks; None: as many as there are GPUs, those that join included.
        """
        share = gpu_share(self.gpus, most or self.gpus)
        networks = min(most or self.gpus, int(self.gpus / share))
        kept = share if self.gpu_cores >= 2 else 0  # a core for each GPU, where that leaves one
        others = self.cores - networks * kept
        return Actors(networks, most, share, kept, 1 if others >= 2 else 0.5)


def gpu_share(gpus: int, actors: int) -> float:
    """GPUs of one actor: 1, or an even part of one where there are more actors than GPUs.

    Those that share a GPU take turns: while pictures go to or from one, the GPU works for others.
    """
    if not gpus:
        return 0
    sharing = -(-actors // gpus)
    return 1 if sharing <= 1 else int(1e4 / sharing) / 1e4  # as fine as Ray counts


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The ray module, connected to a cluster; a connection that was there before stays."""
    ray = require("ray", "Ray", "Work on a cluster", extra="ray", instead="leave out --ray")
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address != "auto":
            _knock(address)
            ray.init(address=address, **options)
        else:
            try:
                ray.init(address="auto", **options)
            except ConnectionError:  # there is none: this machine is the cluster
                ray.init(include_dashboard=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"No Ray cluster answers at '{address}' ({said}); start one, or give its address."
        ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray puts one of its own there
    try:
        yield ray
    finally:
        ray.shutdown()


def _cluster(ray: Any) -> Cluster:
    total = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    by_gpu = [node.get("CPU", 0) // node["GPU"] for node in nodes if node.get("GPU", 0) >= 1]
    return Cluster(
        int(total.get("GPU", 0)), max(1, int(total.get("CPU", 1))),
        min(cores, default=1), int(min(by_gpu, default=0)),
    )  # fmt: skip


def _knock(address: str) -> None:
    """OSError or ValueError if no one listens there: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address reads HOST:PORT")
    socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


def _packed(result: ChunkResult) -> str:
    """A result as JSON text: Arrow tables, which Ray fills, want the same columns in every row."""
    fields = asdict(result) | {
        "reasons": [[*pair, count] for pair, count in sorted(result.reasons.items())]
    }
    return json.dumps(fields)


def _unpacked(text: str) -> ChunkResult:
    fields = json.loads(text)
    if "error" in fields:
        raise error_of(fields["error"])
    reasons = Counter({(stage, reason): count for stage, reason, count in fields.pop("reasons")})
    return ChunkResult(**fields, reasons=reasons)
