"""What is found in a video file is what is found in the same frames where they are packed."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dali_pipelines.windows import ClipConfig
from scenebias.localize.command import LocalizeConfig
from scenebias.localize.command import main as localize
from scenebias.localize.found_segments import SEGMENTS_NAME, FoundSegments
from scenebias.localize.head.pyramid import PyramidConfig
from scenebias.localize.head.training import HeadTrainingConfig
from scenebias.localize.predicting import load_localizer, square_pieces
from scenebias.predict import COMMAND
from shards.dataset import ShardDataset
from shards.errors import UserError
from tests.scenebias.localize.packed_takes import CLIP, FPS, pack_takes
from tests.scenebias.random_weights import pretrained
from tests.shards.conftest import write_test_video


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
def test_pieces_hold_every_strided_frame_once_and_short_videos_loop(
    count: int, frames: int, stride: int, times: int
) -> None:
    clip = ClipConfig(frames=frames, stride=stride, size=2)
    video = [np.full((2, 2, 3), number, np.uint8) for number in range(count)]
    found = [int(square[0, 0, 0]) for square in chain.from_iterable(square_pieces(iter(video), clip, stride * times))]
    if count < clip.span:
        assert found == [i * stride % count for i in range(frames)]
    else:
        assert found == list(range(0, count, stride))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LocalizeConfig:
    folder = tmp_path_factory.mktemp("predicting")
    config = LocalizeConfig(
        weights=(pretrained(folder / "weights", "baseline", 0, CLIP),),
        train=(pack_takes(folder / "train", range(4), subset="train"),),
        val=(pack_takes(folder / "test", range(20, 22), subset="test"),),
        out=folder / "out",
        pyramid=PyramidConfig(levels=3, width=32, stem_layers=1, head_layers=1),
        training=HeadTrainingConfig(epochs=10),
    )
    localize(config)
    return config


def test_a_file_has_the_segments_that_it_has_when_packed(
    trained: LocalizeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decoded strips are written as a video, nearly without loss."""
    dataset = ShardDataset.open(trained.val[0])
    frames_NHWC = dataset.decode(0, dataset.read_clip(0, np.arange(dataset.frame_counts[0])))
    weights, out = trained.out / "weights.safetensors", tmp_path / "found.json"
    write_test_video(tmp_path / "video.mp4", frames_NHWC, fps=int(FPS))
    with pytest.raises(SystemExit) as stop:
        COMMAND.run([str(tmp_path / "video.mp4"), "--weights", str(weights), "--height", "32", "--json", str(out)])
    assert stop.value.code == 0
    assert "from s" in capsys.readouterr().out
    told = json.loads(out.read_text())
    packed = FoundSegments.load(trained.out / SEGMENTS_NAME).videos[0]
    assert told["duration_s"] == pytest.approx(packed.duration_s)
    assert told["segments"][0]["probability"] == pytest.approx(float(packed.found.scores[0]), abs=0.02)
    assert told["segments"][0]["start_s"] == pytest.approx(float(packed.found.start_s_N[0]), abs=0.1)


def test_a_localizer_is_the_one_that_was_saved(trained: LocalizeConfig) -> None:
    localizer = load_localizer(trained.out / "weights.safetensors")
    assert localizer.pyramid.config == trained.pyramid
    assert (localizer.dense, localizer.decoding) == (trained.dense, trained.decoding)
    assert not torch.equal(localizer.pyramid.std_C1, torch.ones_like(localizer.pyramid.std_C1))


def test_weights_without_a_detector_are_refused(trained: LocalizeConfig) -> None:
    with pytest.raises(UserError, match="does not hold a segment detector; give weights of scenebias localize"):
        load_localizer(trained.weights[0])
