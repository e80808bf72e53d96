"""What must hold of the DALI graph, with the GPU's graph checked as far as that goes without a GPU."""

import numpy as np
import pytest
import torch
from nvidia.dali import Pipeline

from dali_pipelines import graph
from dali_pipelines.cropping import crop_clip, crop_mask
from dali_pipelines.decoding_config import DecodingConfig
from dali_pipelines.graph import build_clip_pipeline
from dali_pipelines.windows import ClipConfig, Windows
from shards.codecs.masks import pack_masks

CONFIG = ClipConfig(frames=4, size=56)


def no_source():
    raise StopIteration


def build(device="cpu", *, config=CONFIG, crop=True, masks=True, source=no_source, **options) -> Pipeline:
    return build_clip_pipeline(
        config, source, device=device, crop=crop, masks=masks, batch_size=8, threads=2, prefetch=2, **options
    )


@pytest.mark.parametrize("masks", [False, True])
def test_the_gpu_graph_can_be_defined_without_a_gpu(masks):
    text = build("gpu", masks=masks).serialize()
    for name in (b"decoders__Image", b"Resize", b"Reshape", b"mixed", b"jpeg_fancy_upsampling"):
        assert name in text


def test_a_wrong_argument_in_the_gpu_graph_raises(monkeypatch):
    resize = graph.fn.resize
    monkeypatch.setattr(graph.fn, "resize", lambda *inputs, **options: resize(*inputs, **options, no_such_option=1))
    with pytest.raises(KeyError, match="no_such_option"):
        build("gpu").serialize()


def test_the_settings_that_decide_pixels_are_the_same_on_both_backends(monkeypatch):
    said = {}
    for name in ("image", "image_slice"):
        operator = getattr(graph.fn.decoders, name)

        def record(*inputs, name=name, operator=operator, **options):
            said[name] = options
            return operator(*inputs, **options)

        monkeypatch.setattr(graph.fn.decoders, name, record)
    build("cpu", crop=False, masks=False).serialize()
    build("gpu").serialize()
    on_cpu, on_gpu = (
        {name: said[operator][name] for name in ("jpeg_fancy_upsampling", "use_fast_idct", "output_type")}
        for operator in ("image_slice", "image")
    )
    assert on_cpu == on_gpu
    assert on_gpu["jpeg_fancy_upsampling"]  # the CPU backend interpolates colours whatever it is told


def test_a_gpus_decoder_is_set_as_it_is_asked_for(monkeypatch):
    operator, said = graph.fn.decoders.image, []
    monkeypatch.setattr(
        graph.fn.decoders, "image", lambda *inputs, **options: said.append(options) or operator(*inputs, **options)
    )
    for preallocate in (True, False):
        decoding = DecodingConfig(hw_decoder_load=0.25, hybrid_huffman_threshold=7, preallocate=preallocate)
        build("gpu", decoding=decoding, largest_strip=(512, 96)).serialize()
    hints = [(options["preallocate_height_hint"], options["preallocate_width_hint"]) for options in said]
    assert hints == [(512, 96), (0, 0)]
    assert {(options["hw_decoder_load"], options["hybrid_huffman_threshold"]) for options in said} == {(0.25, 7)}


def test_masks_without_a_crop_are_refused():
    with pytest.raises(ValueError, match="masks"):
        build(crop=False, masks=True)


def run_graph(waves, samples, rois, masks, mask_rois, **options):
    """The graph's outputs for the first four frames of clips of one size."""
    crop = options.get("crop", True)
    inputs = (
        [np.frombuffer(waves.read_clip(i, np.arange(CONFIG.frames)).parts[0].data, np.uint8) for i in samples],
        np.array([(CONFIG.frames, *waves.frame_sizes[i], 3) for i in samples], np.int32),
        np.array([(0, waves.frame_sizes[i][1]) for i in samples], np.int32),
        np.array(rois, np.float32),
        [pack_masks(mask) for mask in masks],
        np.array(mask_rois, np.float32),
    )
    return build(source=lambda: inputs if crop else inputs[:3], crop=crop, masks=crop).run()


def torch_crop(frames, roi_22):
    clip_TSSC = torch.empty((len(frames), CONFIG.size, CONFIG.size, 3), dtype=torch.uint8)
    crop_clip(frames, roi_22, clip_TSSC)
    return clip_TSSC


def random_rois(samples, sizes, seed, squares):
    random = np.random.default_rng(seed)
    height = width = random.integers(20, 49, len(samples))
    if not squares:
        width = random.integers(20, 49, len(samples))
    windows = Windows(
        sample_B=np.array(samples),
        window_B=np.zeros(len(samples), int),
        repeat_B=np.zeros(len(samples), int),
        start_frame_B=np.zeros(len(samples), int),
        stride_B=np.ones(len(samples), int),
        top_B=np.array([random.integers(0, h - s + 1) for (h, _), s in zip(sizes, height, strict=True)]),
        left_B=np.array([random.integers(0, w - s + 1) for (_, w), s in zip(sizes, width, strict=True)]),
        height_B=height,
        width_B=width,
        flip_B=random.random(len(samples)) < 0.5,
    )
    return windows.rois()


@pytest.mark.parametrize("squares", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_torch_crop_agrees_with_the_graphs_own_frame_by_frame(waves, seed, squares):
    samples = [1, 2, 3, 5, 6, 9, 12]
    sizes = waves.frame_sizes[samples]
    rois = random_rois(samples, sizes, seed, squares)
    # Off the pixel grid: a nearest pixel that two neighbours share is either's, and rounding decides.
    mask_rois = rois * 0.5 + np.pi / 1000
    mask_sizes = [tuple(size // 2 + 1) for size in sizes]
    masks = [np.random.default_rng(i).random((CONFIG.frames, *size)) < 0.5 for i, size in enumerate(mask_sizes)]

    clips, graph_masks = run_graph(waves, samples, rois, masks, mask_rois)
    (decoded,) = run_graph(waves, samples, rois, masks, mask_rois, crop=False)
    for i in range(len(samples)):
        ours = torch_crop(torch.from_dlpack(decoded[i]), rois[i])
        theirs = torch.from_dlpack(clips[i])
        difference = (ours.int() - theirs.int()).abs()
        assert ours.shape == theirs.shape == (CONFIG.frames, CONFIG.size, CONFIG.size, 3)
        # They round in another order: one of 255 levels. At the rim, DALI's filter reaches past the crop for half a
        # stored pixel (here at most two of the output), where torch's repeats the crop's edge.
        assert difference[:, 2:-2, 2:-2].amax(dim=(1, 2, 3)).max() <= 1
        compared = difference if squares else difference[:, 2:-2, 2:-2]  # a narrow one's rim is most of it
        assert compared.float().mean(dim=(1, 2, 3)).max() < 0.5
        mask = np.empty((CONFIG.frames, CONFIG.size, CONFIG.size), np.uint8)
        crop_mask(pack_masks(masks[i]), mask_rois[i], mask)
        np.testing.assert_array_equal(mask, np.asarray(graph_masks[i])[..., 0])
