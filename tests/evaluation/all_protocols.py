"""Every protocol on a toy model, as one run: for a test's process, or for processes of torchrun.

python -m tests.evaluation.all_protocols LIBRARY TEXT_ENCODER OUT BATCH_SIZE
"""

import sys
from pathlib import Path

import torch

from tests.evaluation.test_objects import Thumbnail
from tests.evaluation.toy_samples import ToyFeatures, toy_judge
from tests.toy_model import build_pipeline
from text2layer.evaluation import Evaluation, EvaluationSettings, evaluate
from text2layer.evaluation.benchmark import PROTOCOLS
from text2layer.evaluation.collector import is_first_process, processes
from text2layer.evaluation.results import write_results
from text2layer.evaluation.run import Networks


def measure(library: Path, text_encoder: Path, scratch: Path, batch_size: int) -> Evaluation:
    """All protocols on 8 samples and 4 things."""
    networks = Networks.of(
        inception=ToyFeatures(), judge=toy_judge(scratch), objects=Thumbnail().eval()
    )
    settings = EvaluationSettings(
        PROTOCOLS, samples=8, size=64, steps=2, things=4, seeds=2, batch_size=batch_size
    )
    return evaluate(build_pipeline(text_encoder), library, settings, networks)


if __name__ == "__main__":
    library, text_encoder, out = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    scratch = out.with_name(f"{out.name}-{is_first_process()}")
    scratch.mkdir()
    done = measure(library, text_encoder, scratch, int(sys.argv[4]))
    if is_first_process():
        write_results(done.results, out)
        print(f"{processes().num_processes} processes")
