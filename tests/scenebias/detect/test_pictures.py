"""Pictures of key frames: boxes lie where they should, in the colour that tells whether they are right."""

from pathlib import Path

import numpy as np
import torch

from scenebias.detect.controls import truth_found
from scenebias.detect.evaluating import gathered
from scenebias.detect.key_frames import KeyFrames
from scenebias.detect.pictures import (
    RIGHT_COLOUR,
    TRUE_COLOUR,
    WRONG_COLOUR,
    draw_boxes,
    key_frame_strip,
    key_frame_strips,
)
from scenebias.detection.instances import FrameBoxes
from tests.scenebias.detect.rectangles import CLASSES, FRAMES, HEIGHT, WIDTH, write_rectangles


def boxes(*found: tuple[int, float, list[float]]) -> FrameBoxes:
    """Label, score and corners of each."""
    return FrameBoxes(
        frame_N=torch.zeros(len(found), dtype=torch.int64),
        label_N=torch.tensor([label for label, _, _ in found], dtype=torch.int64),
        score_N=torch.tensor([score for _, score, _ in found]),
        box_N4=torch.tensor([corners for _, _, corners in found]).reshape(-1, 4),
    )


def test_true_boxes_are_white_and_found_ones_tell_by_their_colour_whether_the_class_is_right() -> None:
    frame_HW3 = np.zeros((120, 160, 3), np.uint8)
    truth = boxes((1, 1.0, [20, 20, 50, 80]))
    found = boxes((1, 0.9, [60, 30, 90, 90]), (0, 0.5, [100, 30, 130, 90]))
    picture_HW3 = draw_boxes(frame_HW3, truth, found, CLASSES)
    assert picture_HW3.shape == (240, 320, 3)
    for left, colour in ((20, TRUE_COLOUR), (60, RIGHT_COLOUR), (100, WRONG_COLOUR)):
        assert tuple(picture_HW3[110, 2 * left]) == colour
    assert not picture_HW3[:, :38].any()
    assert not frame_HW3.any()


def test_a_frame_without_boxes_is_shown_as_it_is() -> None:
    frame_HW3 = np.random.default_rng(0).integers(0, 256, (240, 30, 3), dtype=np.uint8)
    assert np.array_equal(draw_boxes(frame_HW3, boxes(), boxes(), CLASSES), frame_HW3)


def test_a_strip_shows_some_key_frames_beside_each_other(tmp_path: Path) -> None:
    dataset = write_rectangles(tmp_path, 2)
    evaluation = truth_found(gathered(KeyFrames.of(dataset), []))
    strip_HW3 = key_frame_strip(evaluation, evaluation.videos[0], dataset, frames=3)
    assert strip_HW3.shape == (5 * HEIGHT, 3 * 5 * WIDTH, 3)
    width = 5 * WIDTH
    first, last = (evaluation.videos[0].truth.box_N4[frame] for frame in (0, FRAMES - 1))
    for start, box in ((0, first), (2 * width, last)):
        bottom, left = 5 * int(box[3]), 5 * int(box[0])
        assert tuple(strip_HW3[bottom, start + left + 30]) == RIGHT_COLOUR
    body = key_frame_strips(evaluation, dataset, videos=2)
    assert body.count("<img") == 2
    assert evaluation.videos[0].name in body
