import threading

import numpy as np
import pytest
import torch

from scenebias.annotators.networks.frame_network import run_network
from shards.errors import UserError

CPU = torch.device("cpu")


def numbered_frames(sizes):
    """Frames of the given (height, width); the pixels of frame k are k."""
    return [np.full((*size, 3), number, np.uint8) for number, size in enumerate(sizes)]


def run(network, frames, batch_size=1):
    return run_network(network, frames, device=CPU, batch_size=batch_size, batch_option="--mask-batch")


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_results_come_in_the_order_of_the_frames_whatever_their_sizes(batch_size):
    sizes = [(4, 6)] * 5 + [(8, 6)] + [(4, 6)] * 2 + [(6, 4)] * 3
    results = list(run(lambda image_NCHW: image_NCHW[:, 0, 0], numbered_frames(sizes), batch_size))
    assert [(row.shape, set(row.tolist())) for row in results] == [
        ((width,), {number}) for number, (_, width) in enumerate(sizes)
    ]


def test_every_batch_is_filled_up_to_its_full_size():
    shapes = []

    def network(image_NCHW):
        shapes.append(tuple(image_NCHW.shape))
        return image_NCHW[:, 0, 0, 0]

    assert len(list(run(network, numbered_frames([(4, 6)] * 5 + [(8, 6)]), batch_size=4))) == 6
    assert sorted(shapes) == [(4, 3, 4, 6), (4, 3, 4, 6), (4, 3, 8, 6)]


def test_images_come_in_channels_last_layout_with_all_their_pixels():
    frame = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    frame.flags.writeable = False

    def network(image_NCHW):
        assert image_NCHW.is_contiguous(memory_format=torch.channels_last)
        assert image_NCHW.dtype == torch.uint8
        return image_NCHW

    [image_CHW] = run(network, [frame])
    assert np.array_equal(image_CHW.transpose(1, 2, 0), frame)


def test_no_frame_gives_no_result():
    assert list(run(lambda image_NCHW: image_NCHW, [])) == []


def test_few_frames_are_held_at_a_time():
    fetched = 0

    def frames():
        nonlocal fetched
        for frame in numbered_frames([(4, 6)] * 100):
            fetched += 1
            yield frame

    for number, _ in enumerate(run(lambda image_NCHW: image_NCHW[:, 0, 0, 0], frames(), batch_size=4)):
        assert fetched <= number + 4 * (torch.get_num_threads() + 1)


def test_threads_end_with_the_stream_even_where_it_is_left_early():
    before = threading.active_count()
    stream = run(lambda image_NCHW: image_NCHW[:, 0, 0, 0], numbered_frames([(4, 6)] * 9))
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_errors_of_the_frames_and_of_the_network_arrive():
    def broken():
        yield np.zeros((4, 6, 3), np.uint8)
        raise UserError("no more frames")

    with pytest.raises(UserError, match="no more frames"):
        list(run(lambda image_NCHW: image_NCHW, broken()))

    def refuse(image_NCHW):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run(refuse, numbered_frames([(4, 6)])))


def test_a_gpu_without_enough_memory_names_the_option():
    def exhaust(image_NCHW):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    for batch_size, remedy in ((8, "give a lower number"), (1, "use one with more")):
        sentence = rf"--mask-batch {batch_size}: cpu has too little .* frames of 6x4; {remedy}$"
        with pytest.raises(UserError, match=sentence):
            list(run(exhaust, numbered_frames([(4, 6)]), batch_size))


def test_results_do_not_depend_on_the_number_of_threads():
    frames = np.random.default_rng(0).integers(0, 256, (6, 300, 400, 3), dtype=np.uint8)

    def network(image_NCHW):  # one sum for each image: threads that shared it would add in another order
        return torch.stack([image_CHW.double().log1p().sqrt().float().sum() for image_CHW in image_NCHW])

    def both_ways():
        shared = network(torch.from_numpy(frames).permute(0, 3, 1, 2)).tolist()
        return shared, [float(result) for result in run(network, frames)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, of_one_thread = both_ways()
        torch.set_num_threads(2)
        shared, of_two_threads = both_ways()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert shared != alone, "the test needs a sum that depends on it"
    assert of_one_thread == of_two_threads == alone
