"""What must hold of memory that is used again."""

import gc
from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines.reused_memory import ReusedMemory


def test_memory_comes_back_when_the_last_view_is_gone():
    memory = ReusedMemory(kept_blocks=2)
    tensor = memory.empty((4, 5))
    place = tensor.data_ptr()
    view = tensor.view(torch.bool)[2:]
    del tensor
    assert memory.empty((4, 5)).data_ptr() != place
    del view
    assert memory.empty((4, 5)).data_ptr() == place


def test_a_smaller_batch_takes_the_memory_of_a_larger_and_a_larger_gets_more():
    memory = ReusedMemory(kept_blocks=1)
    place = memory.empty((8, 5)).data_ptr()
    small = memory.empty((7, 5))
    assert (small.data_ptr(), small.shape, small.dtype) == (place, (7, 5), torch.uint8)
    del small
    large = memory.empty((100, 50))
    large.fill_(1)
    assert large.sum() == 5000


def test_no_more_blocks_are_kept_than_asked_for():
    memory = ReusedMemory(kept_blocks=2)
    held = [memory.empty((10,)) for _ in range(7)]
    held.clear()
    gc.collect()
    assert len(memory._free) == 2


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=40))
def test_tensors_that_are_alive_never_share_memory(steps):
    memory = ReusedMemory(kept_blocks=3)
    alive: list[tuple[torch.Tensor, int]] = []
    for number, (size, dropped) in enumerate(steps):
        tensor = memory.empty((size,))
        tensor.fill_(number)
        alive.append((tensor, number))
        del tensor
        alive = alive[dropped:]
        assert all((tensor == value).all() for tensor, value in alive)


def test_memory_may_come_back_from_any_thread():
    memory = ReusedMemory(kept_blocks=4)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            list(pool.map(lambda tensor: tensor.fill_(1), [memory.empty((1000,)) for _ in range(8)]))
    gc.collect()
    assert len(memory._free) == 4
