"""Weights know which clips they have seen, through all stages, and are not tested on them."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scenebias.models.action_model import ActionModel, ModelConfig
from scenebias.models.heads import AdversaryHead
from scenebias.models.seen_clips import SeenClips, TrainedOn, identity_of, seen_reason
from scenebias.models.weights import (
    WeightsMetadata,
    ensure_unseen,
    load_into,
    load_scene_head,
    load_weights,
    read_metadata,
    save_weights,
)
from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.material import WHOLE_END, Material
from tools.trials.ready_samples import write_samples

KINETICS = TrainedOn(dataset="kinetics", split="mini", subset="train", digest="k")
UCF = TrainedOn(dataset="ucf101", split="1", subset="train", digest="u1")
SEEN_BY_NAME = (KINETICS, UCF)
WEIGHTS = Path("weights.safetensors")
Clip = int | tuple[int, int, int]
"""A video, or one with the first frame and the end of a part of it."""
MakeData = Callable[..., ShardDataset]


@pytest.fixture
def data(tmp_path: Path, synthetic_sample: Callable) -> MakeData:
    """A function that packs clips of these videos into a data set, whose videos need not be known."""

    def make(*clips: Clip, known: bool = True, **names: str) -> ShardDataset:
        samples = []
        for number, clip in enumerate(clips):
            video, *part = (clip,) if isinstance(clip, int) else clip
            sample = synthetic_sample(number, 4, masks=False, scene=False)
            info = replace(
                sample.info,
                name=f"clap/{len(list(tmp_path.iterdir()))}-{number}",
                source_sha256=f"{video:064x}" if known else "",
                source_frames=tuple(part) or None,
            )
            samples.append(replace(sample, info=info))
        folder = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        write_samples(folder, samples, ("clap", "jump", "wave"), **names)
        return ShardDataset.open(folder)

    return make


def after(*stages: ShardDataset, earlier: WeightsMetadata | None = None) -> WeightsMetadata:
    """What weights say of themselves that went through these stages."""
    metadata = earlier or WeightsMetadata(backbone="small3d", classes=("a", "b"), trained_on=())
    for train in stages:
        metadata = replace(
            metadata,
            trained_on=(*metadata.trained_on, identity_of(train)),
            seen_clips=SeenClips.after(metadata.seen_clips, train),
        )
    return metadata


def test_clips_that_were_seen_are_refused_with_their_number_and_names_whatever_the_data_are_called(
    data: MakeData,
) -> None:
    metadata = after(data(1, 2, 3, 4, 5, dataset="one"))
    test = data(9, 5, 4, 8, 3, 2, dataset="another", subset="test")
    message = (
        r"^cannot evaluate on another 1 test: the weights were trained on 4 of its 6 clips"
        r" \(clap/1-1, clap/1-2, clap/1-4 and 1 more\); choose .*, or pass --force to measure it all the same$"
    )
    with pytest.raises(UserError, match=message):
        ensure_unseen(WEIGHTS, metadata, test)
    told = ensure_unseen(WEIGHTS, metadata, test, force=True)
    assert told is not None
    assert re.search(r"^weights.safetensors are measured on .* all the same .* trained on 4 of its 6 clips", told)


def test_the_very_shards_are_called_so(data: MakeData) -> None:
    train = data(1, 2)
    with pytest.raises(UserError, match=r"trained on these very shards \(synthetic 1 train\), 2 of its 2 clips"):
        ensure_unseen(WEIGHTS, after(train), train)


def test_other_clips_under_the_same_name_are_accepted_without_a_word(data: MakeData) -> None:
    names = {"dataset": "csv", "split": "1", "subset": "all"}
    assert ensure_unseen(WEIGHTS, after(data(1, 2, **names)), data(3, 4, **names)) is None
    assert ensure_unseen(WEIGHTS, after(data(1, 2, **names)), data(3, 4, **{**names, "split": "2"})) is None


def test_parts_of_a_video_are_seen_where_they_overlap(data: MakeData) -> None:
    metadata = after(data((1, 0, 10), (1, 30, 40), 2))
    assert ensure_unseen(WEIGHTS, metadata, data((1, 10, 30), (1, 40, 50), 3)) is None
    with pytest.raises(UserError, match="3 of its 4 clips"):
        ensure_unseen(WEIGHTS, metadata, data((1, 9, 11), (1, 12, 14), (2, 5, 6), 1))


def test_what_was_seen_follows_through_stages_and_files(data: MakeData, tmp_path: Path) -> None:
    stages = [data(1, (2, 3, 9)), data(2**63 + 5, dataset="other"), data((2, 7, 12), 4, dataset="third")]
    model, path = ActionModel(ModelConfig("small3d"), 2), tmp_path / "weights.safetensors"
    scene_head = AdversaryHead(model.feature_count, 365, hidden_layers=1)
    metadata = None
    for train in stages:
        metadata = after(train, earlier=metadata)
        save_weights(path, model, metadata, {"scene_head": scene_head})
        loaded, from_load = load_weights(path)
        assert torch.equal(loaded.head[1].weight, model.head[1].weight)
        load_scene_head(path, scene_head)
        for metadata in (load_into(path, model, head=True), read_metadata(path), from_load):
            assert metadata.seen_clips is not None
    for one in (data(1), data((2, 11, 13)), data((2, 4, 5)), data(2**63 + 5), data(4)):
        with pytest.raises(UserError, match="1 of its 1 clips"):
            ensure_unseen(path, metadata, one)
    assert ensure_unseen(path, metadata, data(3, 5, (2, 0, 3), (2, 12, 20))) is None


def test_a_fingerprint_takes_8_bytes_a_whole_video_and_16_a_part_of_one() -> None:
    count = 80_000
    source_N = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    for start, end, size in ((0, WHOLE_END, 8), (5, 9, 16)):
        material = Material(source_N, np.full(count, start), np.full(count, end))
        tensors = SeenClips((), material.joined_with(material)).tensors()
        assert sum(tensor.nbytes for tensor in tensors.values()) == size * count
        again = SeenClips.of_tensors((), tensors).material
        assert again.shared_with(material).all()
        assert material.shared_with(again).all()


@pytest.mark.parametrize("damage", ["dtype", "length", "absent"])
def test_a_damaged_fingerprint_is_refused(data: MakeData, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "weights.safetensors"
    metadata = after(data(1, (2, 3, 9)))
    save_weights(path, ActionModel(ModelConfig("small3d"), 2), metadata)
    description = asdict(replace(metadata, seen_clips=None)) | {"seen_clips": metadata.seen_clips.data}
    tensors = load_file(path)
    name = "seen_clips.part_videos"
    assert name in tensors
    if damage == "absent":
        del tensors[name]
    else:
        tensors[name] = tensors[name].to(torch.int32) if damage == "dtype" else tensors[name].repeat(2)
    save_file(tensors, path, metadata={"scenebias": json.dumps(description)})
    with pytest.raises(UserError, match="its description cannot be read"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (UCF, "trained on these very shards"),
        (replace(UCF, digest="repacked"), "trained on ucf101 1 train$"),
        (replace(UCF, split="2", subset="test", digest="u2"), "ucf101 1 train, which shares videos with ucf101 2 test"),
        (TrainedOn("renamed", "", "", "k"), "these very shards"),
        (replace(UCF, subset="all", digest="whole"), "trained on ucf101 1 train$"),
    ],
)
def test_seen_videos_cannot_test_the_weights(identity: TrainedOn, message: str) -> None:
    reason = seen_reason(SEEN_BY_NAME, identity)
    assert reason is not None
    assert re.search(message, reason)


@pytest.mark.parametrize(
    "identity",
    [
        replace(UCF, subset="test", digest="u1-test"),
        TrainedOn("hmdb51", "1", "test", "h"),
        replace(KINETICS, subset="val", digest="v"),
    ],
)
def test_unseen_videos_are_accepted(identity: TrainedOn) -> None:
    assert seen_reason(SEEN_BY_NAME, identity) is None


def test_weights_of_an_earlier_version_are_compared_by_name_and_that_is_told(data: MakeData) -> None:
    earlier = WeightsMetadata(backbone="small3d", classes=("a", "b"), trained_on=SEEN_BY_NAME)
    doubt = r"the weights do not say which clips of kinetics mini train, ucf101 1 train they have seen"
    for names in ({"subset": "train"}, {"split": "2", "subset": "test"}, {"subset": "all"}):
        test = data(1, **({"dataset": "ucf101", "split": "1"} | names))
        with pytest.raises(UserError, match=rf"cannot evaluate on ucf101 .* \({doubt}, so .*\); .*--force"):
            ensure_unseen(WEIGHTS, earlier, test)
        told = ensure_unseen(WEIGHTS, earlier, test, force=True)
        assert told is not None
        assert "measured on" in told
    told = ensure_unseen(WEIGHTS, earlier, data(1, dataset="ucf101", split="1", subset="test"))
    assert told is not None
    assert re.search(f"^weights.safetensors: {doubt}, so ucf101 1 test is compared with it by name alone$", told)


def test_a_stage_after_weights_of_an_earlier_version_is_known_by_its_clips_and_the_others_by_name(
    data: MakeData,
) -> None:
    earlier = WeightsMetadata(backbone="small3d", classes=("a", "b"), trained_on=(KINETICS,))
    later = after(data(1, 2, dataset="csv"), earlier=earlier)
    with pytest.raises(UserError, match="1 of its 2 clips"):
        ensure_unseen(WEIGHTS, later, data(2, 3, dataset="hmdb51"))
    with pytest.raises(UserError, match="the weights were trained on kinetics mini train "):
        ensure_unseen(WEIGHTS, later, data(3, dataset="kinetics", split="mini"))
    told = ensure_unseen(WEIGHTS, later, data(3, dataset="csv"))
    assert told is not None
    assert "which clips of kinetics mini train they have seen" in told


def test_data_whose_videos_are_not_known_are_compared_by_name_and_that_is_told(data: MakeData) -> None:
    metadata = after(data(1, dataset="csv"))
    with pytest.raises(UserError, match=r"trained on csv 1 train \(which videos the clips of csv 1 train are of is"):
        ensure_unseen(WEIGHTS, metadata, data(2, dataset="csv", known=False))
    told = ensure_unseen(WEIGHTS, metadata, data(2, dataset="csv", subset="test", known=False))
    assert told is not None
    assert "of csv 1 test are of is not known, so it is compared with csv 1 train by name alone" in told
    seen_unknown = after(data(1, dataset="csv", known=False))
    with pytest.raises(UserError, match=r"trained on csv 1 train .*do not say which clips"):
        ensure_unseen(WEIGHTS, seen_unknown, data(2, 3, dataset="csv"))


def test_weights_that_say_nothing_at_all_are_told(data: MakeData) -> None:
    nothing = WeightsMetadata(backbone="small3d", classes=("a", "b"), trained_on=())
    told = ensure_unseen(WEIGHTS, nothing, data(1))
    assert told == "weights.safetensors: the weights do not say what they were trained on"


@pytest.mark.parametrize(("seen", "data_of"), [("hmdb51", "jhmdb"), ("jhmdb", "hmdb51")])
def test_jhmdb_and_hmdb51_are_compared_by_name_as_their_files_differ(data: MakeData, seen: str, data_of: str) -> None:
    """The same videos, encoded anew: split 1 of HMDB51 keeps them apart, a split of JHMDB's own does not."""

    def trained_on(split: str) -> WeightsMetadata:
        train = data(1, 2, dataset=seen, split=split, subset="train")
        return WeightsMetadata(
            backbone="small3d",
            classes=("clap", "jump", "wave"),
            trained_on=(identity_of(train),),
            seen_clips=SeenClips.after(None, train),
        )

    test = data(3, 4, dataset=data_of, split="1", subset="test")
    told = ensure_unseen(WEIGHTS, trained_on("1"), test)
    assert told is not None
    assert "JHMDB's videos are HMDB51's, encoded anew" in told
    with pytest.raises(UserError, match="shares videos with"):
        ensure_unseen(WEIGHTS, trained_on("jhmdb-1"), test)
    with pytest.raises(UserError, match=f"the weights were trained on {seen} 1 train"):
        ensure_unseen(WEIGHTS, trained_on("1"), data(3, dataset=data_of, split="1", subset="train"))
