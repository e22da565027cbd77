"""Features on disk: what goes in comes out, broken rows stay out, memory stays small."""

import tracemalloc

import numpy as np
import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.features import (
    CHUNK_ROWS,
    FeatureStore,
    check_pair,
    chunks,
    mean_of,
)


def rows(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def test_batches_come_back_in_order_and_the_file_goes(tmp_path):
    values = rows(10)
    with FeatureStore(8, tmp_path) as store:
        store.append(torch.from_numpy(values[:4]).requires_grad_())
        first = store.array()
        store.append(values[4:].astype(np.float64))
        store.append(np.empty((0, 8)))
        assert len(store) == 10
        np.testing.assert_array_equal(store.array(), values)
        np.testing.assert_array_equal(first, values[:4])
        assert store.array().dtype == np.float32
        assert not store.array().flags.writeable
        assert len(list(tmp_path.rglob("*.f32"))) == 1
        del first
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="closed"):
        store.append(values)
    with pytest.raises(InputError, match="closed"):
        store.array()


def test_half_precision_is_taken():
    with FeatureStore(2) as store:
        store.append(torch.tensor([[0.5, 2.0]], dtype=torch.bfloat16))
        assert store.array().tolist() == [[0.5, 2.0]]


def test_an_empty_store_has_no_rows(tmp_path):
    with FeatureStore(8, tmp_path) as store:
        assert store.array().shape == (0, 8)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e300])
def test_a_broken_row_is_named_and_nothing_of_its_batch_kept(broken):
    values = rows(5).astype(np.float64)
    values[3, 2] = broken
    with FeatureStore(8) as store:
        store.append(rows(2))
        with pytest.raises(InputError, match="sample 5 are not finite"):
            store.append(values)
        assert len(store) == len(store.array()) == 2


@pytest.mark.parametrize("shape", [(3, 7), (8,), (1, 2, 8)])
def test_other_shapes_are_refused(shape):
    with FeatureStore(8) as store, pytest.raises(InputError, match=r"rows \(N, 8\)"):
        store.append(np.zeros(shape))


def test_a_store_needs_features():
    with pytest.raises(InputError, match="not 0"):
        FeatureStore(0)


def test_many_samples_need_no_more_memory_than_few():
    batch, peaks = rows(500, 64), []
    for repeats in (1, 100):  # 500 and 50,000 samples: 0.1 and 12.8 MB
        tracemalloc.start()
        with FeatureStore(64) as store:
            for _ in range(repeats):
                store.append(batch)
            mean = mean_of(store.array())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_allclose(mean, batch.astype(np.float64).mean(axis=0), atol=1e-12)
    assert peaks[1] < peaks[0] + 2 * CHUNK_ROWS * 64 * 8


def test_chunks_are_the_rows_in_float64():
    values = rows(CHUNK_ROWS + 5)
    parts = list(chunks(values))
    assert [len(part) for part in parts] == [CHUNK_ROWS, 5]
    assert parts[0].dtype == np.float64
    np.testing.assert_array_equal(np.concatenate(parts), values)
    (chosen,) = chunks(values, np.array([7, 3]))
    np.testing.assert_array_equal(chosen, values[[7, 3]])


def test_pairs_that_cannot_be_compared_are_refused():
    good, broken = rows(4), rows(4)
    broken[2, 0] = np.nan
    check_pair(good, good)
    for other in (rows(4, 7), rows(4)[0]):
        with pytest.raises(InputError, match="same dimension"):
            check_pair(good, other)
    with pytest.raises(InputError, match="generated set needs at least 5 samples"):
        check_pair(rows(5), good, least=5)
    with pytest.raises(InputError, match="generated sample 2 are not finite"):
        check_pair(good, broken)
