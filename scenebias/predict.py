"""``python -m scenebias.predict``: what a model says of a video file, and how much of it without the people.

Shape suffixes: N frames, H rows, W columns, C colours; B windows, T frames of a window, S side of the input; A actions.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console

from scenebias.annotators import BoxMasks, JhmdbMasks, MaskFolder, NumpyMasks, PngMasks
from scenebias.annotators.masks.human_masks import JHMDB_FPS
from scenebias.clips.masked_clip import Fill, mask_out_humans
from scenebias.commands import Command, write_output
from scenebias.detect.predicting import boxes_in_video, load_detector
from scenebias.localize.predicting import find_in_video, load_localizer
from scenebias.models.backbones import AnyBackbone
from scenebias.models.loading import ClipTransform, LoadedModel, load_model
from scenebias.models.published.pretrained import PretrainedName, check_network, needed_weight_file
from scenebias.models.weights import read_metadata
from scenebias.reports.html import jpeg
from scenebias.reports.terminal import number_table
from shards.checks import require_at_least, require_frame_rate
from shards.codecs.masks import resize_masks
from shards.decoding.refusal import BrokenClipError
from shards.decoding.video import open_video
from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.format.sample import Crop
from shards.packing.person_crop import person_crop
from shards.sources.listing import ClipEntry

SHOWN = 5
SURE = 0.25
"""Segments of a lower probability are not shown."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Which video to look at, with which model."""

    video: Annotated[Path, tyro.conf.Positional]
    """Any video file."""
    weights: Path | None = None
    """Weights of a training run, or of scenebias localize or detect: these find segments or boxes."""
    backbone: AnyBackbone | None = None
    """The network of --pretrained. With weights of a network of your own code: package.module:function, which makes it;
    no file alone runs code."""
    pretrained: PretrainedName | None = None
    """Look with the weights that torchvision publishes of --backbone, trained on Kinetics-400: downloaded, or its file
    that --weights names."""
    mask: Path | None = None
    """Masks of its humans, which are then hidden too: JHMDB's .mat, an .npz or .npy, a .json of boxes, or a folder of
    .png; as tools/make_shards.py --masks explains them. Weights of data that were packed with --focus person need
    them: the same square is cut from the video."""
    mask_fps: float | None = None
    """Frame rate at which the masks were drawn, where it is not that of the video; JHMDB's .mat files: 25."""
    fill: Fill = "frame_mean"
    """What hides the humans."""
    height: int | None = None
    """Rows that frames are scaled to before the crop, best those of the shards that the weights were trained on; by
    default in proportion to 128 for an input of 112."""
    batch_size: int = 8
    """Windows at a time."""
    frames_shown: int = 16
    """With weights that find boxes: frames that are looked at, spread evenly."""
    json: Path | None = None
    """Also write the numbers to this file."""
    picture: Path | None = None
    """With weights that find boxes: also write these frames with their boxes to this JPEG file."""

    def __post_init__(self) -> None:
        check_network(self.backbone, self.pretrained)
        require_at_least(1, height=self.height, batch_size=self.batch_size, frames_shown=self.frames_shown)
        require_frame_rate(mask_fps=self.mask_fps)


@dataclass(frozen=True, eq=False)
class WithoutHumans:
    """What a model says of the same video with its humans hidden."""

    probability_A: NDArray[np.float64]
    person_share: float
    """Share of the frames in which the mask shows a person, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a video: probabilities are means of softmax over its windows."""

    classes: tuple[str, ...]
    window_count: int
    probability_A: NDArray[np.float64]
    without_humans: WithoutHumans | None
    crop: Crop | None = None
    """The part of the video that it is about; None: all of it."""

    @property
    def top(self) -> list[int]:
        """The most probable actions, at most five, the first the most probable."""
        return np.argsort(-self.probability_A, kind="stable")[:SHOWN].tolist()

    def summary(self) -> dict[str, Any]:
        """All of it as JSON values. ``surviving_share`` is the score of the predicted action without humans over that
        with them."""
        columns = {"probability": self.probability_A}
        hidden: dict[str, Any] = {}
        if self.without_humans is not None:
            hidden_A = columns["probability_without_humans"] = self.without_humans.probability_A
            hidden = {
                "action_without_humans": self.classes[int(hidden_A.argmax())],
                "surviving_share": float(hidden_A[self.top[0]] / self.probability_A[self.top[0]]),
                "person_share": self.without_humans.person_share,
            }
        top = [
            {"action": self.classes[action]} | {name: float(values_A[action]) for name, values_A in columns.items()}
            for action in self.top
        ]
        cut = {} if self.crop is None else {"crop": asdict(self.crop)}
        return {"windows": self.window_count, "top": top, **hidden, **cut}


def predict_video(
    video: Path,
    loaded: LoadedModel,
    *,
    height: int,
    batch_size: int = 8,
    mask_NHW: NDArray[np.bool_] | None = None,
    fill: Fill = "frame_mean",
    focus: Focus = WHOLE_FRAMES,
) -> Prediction:
    """Look at all windows of ``video``, scaled to ``height`` rows, with a mask also at those without its humans.

    ``focus`` says what of each frame is looked at, as it was when the data of the model were packed; around people
    only where there is a mask.

    Raises:
        BrokenClipError: it cannot be decoded.
    """
    transform = loaded.transform
    clip = transform.clip
    first_frame = 0
    crop = _crop(video, mask_NHW, focus.margin) if focus.on == "person" else None
    person_share = 0.0 if mask_NHW is None else float(mask_NHW.any(axis=(1, 2)).mean())
    if crop is not None and mask_NHW is not None:
        mask_NHW = crop.cut(mask_NHW)
    probabilities, hidden_probabilities = [], []
    for frames_NHWC in _pieces(video, height, batch_size * clip.frames * clip.stride, crop):
        if first_frame and len(frames_NHWC) < clip.span:
            break  # no whole window is left; a clip that has none at all loops
        clip_BTHWC = transform(frames_NHWC)
        probabilities.append(loaded.window_probabilities(clip_BTHWC))
        if mask_NHW is not None:
            piece_NHW = mask_NHW[first_frame : first_frame + len(frames_NHWC)]
            mask_BTHW = transform.masks(resize_masks(piece_NHW, frames_NHWC.shape[1:3]))
            sample_B = torch.zeros(len(clip_BTHWC), dtype=torch.int64)
            hidden_BTHWC = mask_out_humans(clip_BTHWC, mask_BTHW, fill, sample_B=sample_B, seed=0, epoch=0)
            hidden_probabilities.append(loaded.window_probabilities(hidden_BTHWC))
        first_frame += len(frames_NHWC)
    without_humans = None
    if mask_NHW is not None:
        hidden_A = np.concatenate(hidden_probabilities).mean(axis=0)
        without_humans = WithoutHumans(hidden_A, person_share)
    probability_BA = np.concatenate(probabilities)
    return Prediction(loaded.classes, len(probability_BA), probability_BA.mean(axis=0), without_humans, crop)


def _crop(video: Path, mask_NHW: NDArray[np.bool_] | None, margin: float) -> Crop:
    with open_video(video) as opened:
        info = opened.info
    return person_crop(mask_NHW, info.height, info.width, info.aspect, margin)


def _pieces(video: Path, height: int, frame_count: int, crop: Crop | None) -> Iterator[NDArray[np.uint8]]:
    """The video in pieces of so many frames, so that a long one does not fill the memory."""
    with open_video(video) as opened:
        frames = (frame.rgb(height, crop) for frame in opened.frames())
        while piece := list(islice(frames, frame_count)):
            yield np.stack(piece)


def read_mask(video: Path, mask: Path, mask_fps: float | None = None) -> NDArray[np.bool_]:
    """The human masks of every frame of ``video``, bool (N, H, W) at its own size, from any file that packing reads.

    Raises:
        BrokenClipError: the video cannot be decoded.
        UserError: the masks cannot be read, or are not as many or as large as its frames.
    """
    source = _mask_source(mask, mask_fps)
    entry = ClipEntry(name=mask.name if mask.is_dir() else mask.stem, path=video, class_name="")
    if mask.is_file() and source.files(entry) != (mask,):
        raise UserError(f"{mask}: {source.files(entry)[0].name} beside it has the same name; move one of them away")
    with open_video(video) as opened:
        frame_count = sum(1 for _ in opened.frames())
        info = opened.info
    mask_NHW = source.load(entry, frame_count, info.height, info.width, info.fps)
    if mask_NHW is None:
        raise UserError(f"{mask}: holds no .png pictures; give the folder that holds one a frame")
    return mask_NHW


def _mask_source(mask: Path, mask_fps: float | None) -> MaskFolder:
    folder = mask.parent
    if mask.is_dir():
        return PngMasks(folder, mask_fps)
    if not mask.is_file():
        raise UserError(f"--mask {mask}: no such file; give the masks of the video's humans")
    if mask.suffix == ".mat":
        return JhmdbMasks(folder, mask_fps or JHMDB_FPS)
    if mask.suffix in NumpyMasks.suffixes:
        return NumpyMasks(folder, mask_fps)
    if mask.suffix in BoxMasks.suffixes:
        return BoxMasks(folder, mask_fps)
    raise UserError(f"--mask {mask}: of no known kind; give a .mat, .npz, .npy or .json file, or a folder of .png")


def stored_height(transform: ClipTransform) -> int:
    """Rows in proportion to the 128 that packed frames have for an input of 112, a multiple of 16 as packing asks."""
    return 16 * -(-transform.clip.size * 128 // (112 * 16))


def print_prediction(console: Console, title: str, prediction: Prediction) -> None:
    """A table of the most probable actions, and what is left of the first without the humans."""
    columns = {"probability": prediction.probability_A}
    if prediction.without_humans is not None:
        columns["humans hidden"] = prediction.without_humans.probability_A
    rows = [
        (prediction.classes[action], *(f"{100 * values_A[action]:.1f} %" for values_A in columns.values()))
        for action in prediction.top
    ]
    console.print(number_table(title, ("action", *columns), rows))
    if prediction.without_humans is not None:
        numbers = prediction.summary()
        console.print(
            f"{100 * numbers['surviving_share']:.0f} % of the score of {numbers['top'][0]['action']} survives without"
            f" the humans, who are in {100 * numbers['person_share']:.0f} % of the frames; the model then says"
            f" {numbers['action_without_humans']}",
            markup=False,
            highlight=False,
        )


def main(config: PredictConfig) -> None:
    """What happens in a video: its most probable actions, or where the weights find segments or boxes, those.

    With --mask also how much of the most probable action's score survives without the humans.
    """
    weights = needed_weight_file(config.weights, config.pretrained, config.backbone)
    metadata = read_metadata(weights)
    try:
        if "box_detector" in metadata.parts:
            _tell_boxes(config, weights)
        elif "segment_detector" in metadata.parts:
            _tell_segments(config, weights)
        else:
            _tell_actions(config, weights, metadata.focus)
    except BrokenClipError as error:
        raise UserError(f"{config.video}: {error}; give another video") from error


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tell_boxes(config: PredictConfig, weights: Path) -> None:
    _refuse_mask(config, weights)
    loaded = load_detector(weights, _device(), config.backbone)
    seen = boxes_in_video(
        config.video,
        loaded,
        height=config.height or stored_height(ClipTransform(loaded.clip)),
        frames=config.frames_shown,
        batch_size=config.batch_size,
    )
    found = seen.found
    rows = [
        {"frame": frame, "time_s": frame / seen.fps, "action": loaded.classes[label], "box": box, "score": score}
        for frame, label, box, score in zip(
            found.frame_N.tolist(), found.label_N.tolist(), found.box_N4.tolist(), found.scores.tolist(), strict=True
        )
    ]
    title = f"{config.video}, {len(seen.frame_K)} frames: boxes of a score of {SURE} or more"
    cells = [
        (str(row["frame"]), f"{row['time_s']:.1f}", row["action"], ", ".join(f"{side:.0f}" for side in row["box"]),
         f"{100 * row['score']:.1f} %")
        for row in rows
        if row["score"] >= SURE
    ]  # fmt: skip
    header = ("frame", "at s", "action", "left, top, right, bottom", "score")
    Console(soft_wrap=True).print(number_table(title, header, cells))
    if config.json is not None:
        _, rows_high, columns, _ = seen.frame_KHW3.shape
        write_output(config.json, {"video": str(config.video), "height": rows_high, "width": columns, "boxes": rows})
    if config.picture is not None:
        write_output(config.picture, jpeg(seen.sheet(loaded.classes, SURE)))


def _refuse_mask(config: PredictConfig, weights: Path) -> None:
    if config.mask is not None:
        raise UserError(f"{weights} hold a detector, which hides nobody: leave out --mask")


def _tell_segments(config: PredictConfig, weights: Path) -> None:
    _refuse_mask(config, weights)
    localizer = load_localizer(weights, _device(), config.backbone)
    height = config.height or stored_height(ClipTransform(localizer.clip))
    found, duration_s = find_in_video(config.video, localizer, height)
    rows = [
        {"action": localizer.classes[label], "start_s": start_s, "end_s": end_s, "probability": score}
        for label, start_s, end_s, score in zip(
            found.label_N.tolist(), found.start_s_N.tolist(), found.end_s_N.tolist(), found.scores.tolist(), strict=True
        )
    ]
    shown = sorted((row for row in rows if row["probability"] >= SURE), key=lambda row: row["start_s"])
    title = f"{config.video}, {duration_s:.1f} s: segments of a probability of {SURE} or more"
    cells = [
        (row["action"], f"{row['start_s']:.1f}", f"{row['end_s']:.1f}", f"{100 * row['probability']:.1f} %")
        for row in shown
    ]
    Console(soft_wrap=True).print(number_table(title, ("action", "from s", "to s", "probability"), cells))
    if config.json is not None:
        write_output(config.json, {"video": str(config.video), "duration_s": duration_s, "segments": rows})


def _tell_actions(config: PredictConfig, weights: Path, focus: Focus) -> None:
    loaded = load_model(weights, _device(), config.backbone)
    if focus.on == "person" and config.mask is None:
        raise UserError(
            f"{weights} were trained on {focus}, and nothing tells where those of {config.video} are: give their"
            " masks as --mask"
        )
    prediction = predict_video(
        config.video,
        loaded,
        height=config.height or stored_height(loaded.transform),
        batch_size=config.batch_size,
        mask_NHW=None if config.mask is None else read_mask(config.video, config.mask, config.mask_fps),
        fill=config.fill,
        focus=focus,
    )
    if prediction.crop is not None and not prediction.crop.on_person:
        print(f"{config.mask} shows no person: the centre of the frame is looked at")
    count = prediction.window_count
    print_prediction(Console(soft_wrap=True), f"{config.video}, {count} window{'s' * (count != 1)}", prediction)
    if config.json is not None:
        write_output(config.json, {"video": str(config.video), **prediction.summary()})


COMMAND = Command(
    main=main,
    options=PredictConfig,
    writes=("json", "picture"),
    example="python -m scenebias.predict $DATA/jhmdb/videos/golf/Ariya_Swing_golf_f_cm_np1_fr_bad_0.mp4 "
    "--weights runs/jhmdb-debias/weights.safetensors "
    "--mask $DATA/jhmdb/masks/golf/Ariya_Swing_golf_f_cm_np1_fr_bad_0.mat",
)

if __name__ == "__main__":
    COMMAND.run()
