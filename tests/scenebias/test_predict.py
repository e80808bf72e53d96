"""Predictions for a video are those that the evaluation counts for it when packed, with and without its humans.

Shape suffixes: N frames, H rows, W columns, C colours; A actions.
"""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from dali_pipelines import ClipConfig, EvalLoader
from scenebias.annotators import open_mask_source
from scenebias.clips.views import hide_humans
from scenebias.distributed.process_place import ProcessPlace
from scenebias.evaluation.accuracy import evaluate_model
from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.loading import ClipTransform, LoadedModel, load_model
from scenebias.models.weights import WeightsMetadata, load_weights, save_weights
from scenebias.predict import COMMAND, PredictConfig, main, predict_video, read_mask, stored_height
from scenebias.run_folder.record import plain
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.format.focus import Focus
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.packing.request import Annotators
from shards.sources import FolderSource
from tests.shards.conftest import write_test_video

CLIP = ClipConfig(frames=8, size=28)
FRAMES, HEIGHT, WIDTH = 37, 64, 96
CLASSES = ("clap", "jump", "sit", "stand", "walk", "wave")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """videos/wave/clip.mp4, of grey patches; masks/wave/clip.npz, a square that walks; weights.safetensors."""
    folder = tmp_path_factory.mktemp("predict")
    random = np.random.default_rng(0)
    grey_NHWC = random.integers(0, 256, (FRAMES, HEIGHT // 16, WIDTH // 16, 1), dtype=np.uint8)
    frames_NHWC = grey_NHWC.repeat(16, axis=1).repeat(16, axis=2).repeat(3, axis=3)
    write_test_video(folder / "videos" / "wave" / "clip.mp4", frames_NHWC)
    (folder / "masks" / "wave").mkdir(parents=True)
    np.savez(folder / "masks" / "wave" / "clip.npz", masks=walking_square())
    torch.manual_seed(1)
    metadata = WeightsMetadata(backbone="small3d", classes=CLASSES, trained_on=(), configuration={"clip": plain(CLIP)})
    model = ActionModel(ModelConfig(backbone="small3d"), 6)
    with torch.no_grad():
        model.head[1].weight.mul_(100)  # or a random network would say nearly the same of all clips
    save_weights(folder / "weights.safetensors", model, metadata)
    return folder


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return folder / "videos" / "wave" / "clip.mp4"


def walking_square() -> np.ndarray:
    mask_NHW = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=bool)
    for frame in range(1, FRAMES):  # nobody is in the first one
        mask_NHW[frame, 16:48, frame + 16 : frame + 48] = True
    return mask_NHW


def predict(video: Path, weights: Path, **options: object) -> dict:
    out = weights.parent / "numbers.json"
    with pytest.raises(SystemExit) as stop:
        COMMAND.run(
            [str(video), "--weights", str(weights), "--json", str(out)]
            + [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)],
        )
    assert stop.value.code == 0
    return json.loads(out.read_text())


def test_a_video_gets_the_probabilities_that_the_evaluation_counts_for_it(folder: Path, video: Path) -> None:
    source = FolderSource(root=folder / "videos", dataset="one", subset="test")
    listing = source.listing()
    pack(
        listing,
        folder / "packed",
        PackConfig(height=32, workers=1, mask_scale=1, quality=95),
        annotators=Annotators(mask_source=open_mask_source(folder / "masks", listing.clips)),
    )
    loader = EvalLoader(ShardDataset.open(folder / "packed"), CLIP, batch_size=3)
    loaded = load_model(folder / "weights.safetensors")
    place = ProcessPlace(0, 1, torch.device("cpu"))
    expected_A, expected_hidden_A = (
        evaluate_model(loaded.model, loader, 6, place, change=change).probability_NA[0]
        for change in (None, partial(hide_humans, fill="white"))
    )
    mask_NHW = read_mask(video, folder / "masks" / "wave" / "clip.npz")
    found = predict_video(video, loaded, height=32, batch_size=2, mask_NHW=mask_NHW, fill="white")
    assert found.window_count == 4
    assert found.without_humans is not None
    # The packed frames went through JPEG.
    np.testing.assert_allclose(found.probability_A, expected_A, atol=1e-3)
    np.testing.assert_allclose(found.without_humans.probability_A, expected_hidden_A, atol=1e-3)
    assert np.abs(expected_hidden_A - expected_A).max() > 0.05


def focused_weights(folder: Path, focus: Focus) -> Path:
    """The weights of ``folder``, as of data with this focus."""
    model, metadata = load_weights(folder / "weights.safetensors")
    save_weights(folder / "focused.safetensors", model, replace(metadata, focus=focus))
    return folder / "focused.safetensors"


@pytest.mark.parametrize("masks", [walking_square(), np.zeros((FRAMES, HEIGHT, WIDTH), bool)], ids=["person", "nobody"])
def test_with_weights_of_squares_around_people_the_same_square_is_looked_at(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], masks: np.ndarray
) -> None:
    random = np.random.default_rng(2)
    grey_NHWC = random.integers(0, 256, (FRAMES, HEIGHT // 4, WIDTH // 4, 1), dtype=np.uint8)
    video = write_test_video(
        tmp_path / "videos" / "wave" / "clip.mp4", grey_NHWC.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
    )
    masks = masks & (np.arange(WIDTH) < 60)  # or the square would be the whole frame's
    masks[:, :20] = False
    (tmp_path / "masks" / "wave").mkdir(parents=True)
    np.savez(tmp_path / "masks" / "wave" / "clip.npz", masks=masks)
    listing = FolderSource(root=tmp_path / "videos", dataset="one", subset="test").listing()
    config = PackConfig(height=32, workers=1, mask_scale=1, quality=95, focus="person", focus_margin=1.2)
    pack(
        listing,
        tmp_path / "packed",
        config,
        annotators=Annotators(mask_source=open_mask_source(tmp_path / "masks", listing.clips)),
    )
    packed = ShardDataset.open(tmp_path / "packed")
    weights = focused_weights(folder, packed.manifest.focus)
    loaded = load_model(weights)
    expected_A, expected_hidden_A = (
        evaluate_model(
            loaded.model,
            EvalLoader(packed, CLIP, batch_size=3),
            6,
            ProcessPlace(0, 1, torch.device("cpu")),
            change=change,
        ).probability_NA[0]
        for change in (None, partial(hide_humans, fill="frame_mean"))
    )
    numbers = predict(video, weights, mask=tmp_path / "masks" / "wave" / "clip.npz", height=32)
    crop = packed.info(0).crop
    assert crop is not None
    assert numbers["crop"] == asdict(crop)
    assert ("shows no person: the centre" in capsys.readouterr().out) == (not masks.any())
    assert numbers["person_share"] == masks.any(axis=(1, 2)).mean()
    for row in numbers["top"]:
        action = CLASSES.index(row["action"])
        # The packed frames went through JPEG.
        assert row["probability"] == pytest.approx(expected_A[action], abs=1e-3)
        assert row["probability_without_humans"] == pytest.approx(expected_hidden_A[action], abs=1e-3)
    whole_A = predict_video(video, loaded, height=32).probability_A
    # The evaluation looks at the centre square of whole frames too.
    assert (np.abs(whole_A - expected_A).max() > 0.01) == masks.any()


def test_weights_of_squares_around_people_need_to_know_where_they_are(folder: Path, video: Path) -> None:
    weights = focused_weights(folder, Focus("person", 1.3))
    with pytest.raises(UserError, match=r"--focus person --focus-margin 1\.3.*give their masks as --mask"):
        main(PredictConfig(video=video, weights=weights))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_the_pieces_in_which_a_video_is_read_change_nothing(folder: Path, video: Path, batch_size: int) -> None:
    loaded = load_model(folder / "weights.safetensors")
    mask_NHW = walking_square()
    whole, found = (
        predict_video(video, loaded, height=32, batch_size=size, mask_NHW=mask_NHW) for size in (99, batch_size)
    )
    assert found.window_count == whole.window_count == FRAMES // 8
    assert found.without_humans is not None
    assert whole.without_humans is not None
    np.testing.assert_allclose(found.probability_A, whole.probability_A, rtol=1e-4)
    np.testing.assert_allclose(found.without_humans.probability_A, whole.without_humans.probability_A, rtol=1e-4)


def test_a_video_shorter_than_a_window_loops(folder: Path, video: Path) -> None:
    model, classes, _ = load_model(folder / "weights.safetensors")
    long = LoadedModel(model, classes, ClipTransform(ClipConfig(frames=64, size=28)))
    assert predict_video(video, long, height=32).window_count == 1


def test_the_command_prints_and_writes_the_top_five(
    folder: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = predict(video, folder / "weights.safetensors")
    printed = capsys.readouterr().out
    assert numbers["windows"] == 4
    assert len(numbers["top"]) == 5
    probabilities = [row["probability"] for row in numbers["top"]]
    assert probabilities == sorted(probabilities, reverse=True)
    for row in numbers["top"]:
        assert row["action"] in printed
        assert f"{100 * row['probability']:.1f} %" in printed
    assert "surviving_share" not in numbers


def test_with_a_mask_the_share_of_the_score_that_survives_is_told(
    folder: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = predict(video, folder / "weights.safetensors", mask=folder / "masks" / "wave" / "clip.npz")
    printed = capsys.readouterr().out
    best = numbers["top"][0]
    assert numbers["surviving_share"] == pytest.approx(best["probability_without_humans"] / best["probability"])
    assert numbers["person_share"] == pytest.approx((FRAMES - 1) / FRAMES)
    assert f"{100 * numbers['surviving_share']:.0f} % of the score of {best['action']} survives" in printed
    assert f"the model then says {numbers['action_without_humans']}" in printed


def test_a_mask_of_nobody_changes_nothing(folder: Path, video: Path) -> None:
    np.save(folder / "nobody.npy", np.zeros((FRAMES, HEIGHT, WIDTH), bool))
    numbers = predict(video, folder / "weights.safetensors", mask=folder / "nobody.npy")
    assert numbers["surviving_share"] == 1
    assert numbers["person_share"] == 0


def test_masks_of_every_kind_are_read(video: Path, tmp_path: Path) -> None:
    mask_NHW = walking_square()
    np.savez(tmp_path / "a.npz", masks=mask_NHW)
    np.save(tmp_path / "b.npy", np.packbits(mask_NHW, axis=-1))
    savemat(tmp_path / "c.mat", {"part_mask": np.moveaxis(mask_NHW, 0, 2).astype(np.uint8)})
    (tmp_path / "d").mkdir()
    for number, mask_HW in enumerate(mask_NHW):
        Image.fromarray(mask_HW.astype(np.uint8) * 255).save(tmp_path / "d" / f"{number}.png")
    boxes = [[frame + 16, 16, frame + 48, 48] for frame in range(1, FRAMES)]
    described = {"frame_count": FRAMES, "height": HEIGHT, "boxes": boxes, "frames": list(range(1, FRAMES))}
    (tmp_path / "e.json").write_text(json.dumps(described | {"scores": [1.0] * len(boxes)}))
    for name in ("a.npz", "b.npy", "c.mat", "d", "e.json"):
        np.testing.assert_array_equal(read_mask(video, tmp_path / name), mask_NHW, err_msg=name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.npz", "no such file"),
        ("clip.txt", "of no known kind"),
        ("twin.npy", "twin.npz beside it has the same name"),
        ("empty", "holds no .png pictures"),
        ("short.npy", "masks of shape 3x64x96 for 37 frames"),
    ],
)
def test_masks_that_cannot_be_used_are_refused_in_a_sentence(video: Path, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.txt").touch()
    np.save(tmp_path / "short.npy", np.zeros((3, HEIGHT, WIDTH), bool))
    for twin in ("twin.npy", "twin.npz"):
        (tmp_path / twin).touch()
    with pytest.raises(UserError, match=told):
        read_mask(video, tmp_path / name)


def test_what_is_no_video_is_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    config = PredictConfig(video=tmp_path / "broken.mp4", weights=folder / "weights.safetensors")
    with pytest.raises(UserError, match=r"broken\.mp4: .*; give another video"):
        main(config)
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); give another video"):
        main(replace(config, video=tmp_path / "none.mp4"))


def test_frames_are_scaled_in_proportion_to_128_rows_for_112() -> None:
    heights = {size: stored_height(ClipTransform(ClipConfig(size=size))) for size in (56, 112, 128, 224)}
    assert heights == {56: 64, 112: 128, 128: 160, 224: 256}


@pytest.mark.parametrize("option", ["height", "batch_size", "mask_fps"])
def test_options_out_of_range_are_refused_by_name(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        PredictConfig(video=Path("a"), weights=Path("b"), **{option: 0})
