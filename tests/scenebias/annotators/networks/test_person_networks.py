import re
from functools import cached_property

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import _api, get_model, get_model_weights

from scenebias.annotators.networks.options import MASK_NETWORKS, MaskNetworkConfig
from scenebias.annotators.networks.person_networks import open_mask_network
from shards.errors import UserError

CPU = torch.device("cpu")
SIDE = 64  # as small as makes sense: the networks are large
INSTANCE = [name for name in MASK_NETWORKS if name.startswith("maskrcnn")]
FAST = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", *INSTANCE]
PROPOSALS = 16  # not 1000, for speed


def patchy_frames(count, height=96, width=128):
    """Frames of large coloured patches."""
    patches = np.random.default_rng(height).integers(0, 256, (count, height // 16, width // 16, 3), dtype=np.uint8)
    return list(patches.repeat(16, axis=1).repeat(16, axis=2))


FRAMES = [*patchy_frames(2), *patchy_frames(1, 128, 80)]


def random_semantic(name, person):
    """A seeded network that sees people in about half of the pixels of patchy frames."""
    second = {"aux_loss": True} if name.startswith("deeplabv3") else {}
    model = get_model(name, weights=None, weights_backbone=None, num_classes=21, **second)
    last = model.classifier.low_classifier if name.startswith("lraspp") else model.classifier[-1]
    image_NCHW = get_model_weights(name).DEFAULT.transforms(resize_size=SIDE)(
        torch.from_numpy(np.stack(patchy_frames(8))).permute(0, 3, 1, 2)
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(image_NCHW)  # the statistics of batch norm: without them every pixel gets the same scores
        score_NKHW = model.eval()(image_NCHW)["out"]
        others_NHW = torch.cat([score_NKHW[:, :person], score_NKHW[:, person + 1 :]], dim=1).amax(dim=1)
        last.bias[person] += (others_NHW - score_NKHW[:, person]).median()
    return model


def random_instance(name, person):
    """A seeded network that takes some of its proposals for people, some for things, with patchy masks.

    Scores spread around 0.5.
    """
    model = get_model(
        name, weights=None, weights_backbone=None, num_classes=91, min_size=SIDE, max_size=2 * SIDE
    ).eval()
    thin_out(model)
    heads = model.roi_heads
    heads.score_thresh = 1.0  # no masks yet
    features = []
    hook = heads.box_predictor.register_forward_hook(lambda _, given, __: features.append(given[0]))
    with torch.no_grad():
        model([torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in patchy_frames(4)])
        hook.remove()
        heads.box_predictor.bbox_pred.weight *= 0.1
        score = heads.box_predictor.cls_score
        kept = score.weight[person : person + 2].clone()
        score.weight.zero_()
        score.bias.zero_()
        score.weight[person : person + 2] = kept
        # A probability is above 1/2 where the score exceeds the log of the 90 others' sum, about log(90).
        quantile = (features[0].flatten(start_dim=1) @ kept.T).quantile(0.2, dim=0)
        score.bias[person : person + 2] = np.log(90) - quantile
        heads.mask_predictor.mask_fcn_logits.weight *= 0.1
    return model


def thin_out(model):
    model.rpn._post_nms_top_n = {"training": PROPOSALS, "testing": PROPOSALS}


def published_state(name, model):
    """The state dict under the names of the published file: that of the first Mask R-CNN is of torchvision 0.3."""
    tensors = dict(model.state_dict())
    if name != "maskrcnn_resnet50_fpn":
        return tensors
    old = {}
    for key, tensor in tensors.items():
        if "num_batches_tracked" in key:  # its batch norm was frozen
            continue
        key = re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", key)
        key = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", key)
        key = re.sub(r"mask_head\.(\d)\.0\.", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}.", key)
        old[key] = tensor
    assert len(old.keys() - tensors.keys()) == 2 * (8 + 1 + 4), "weights and biases of FPN, RPN and mask head"
    return old


class Trained:
    """A seeded network in the published format, and as torchvision itself has it."""

    def __init__(self, name, folder):
        self.name = name
        self.weights = get_model_weights(name).DEFAULT
        self.person = self.weights.meta["categories"].index("person")
        torch.manual_seed(0)
        self.reference = (random_instance if name in INSTANCE else random_semantic)(name, self.person)
        self.state = published_state(name, self.reference)
        self.path = folder / self.weights.url.rpartition("/")[2]
        if name == "maskrcnn_resnet50_fpn":  # which torchvision builds otherwise for its weights
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_api, "load_state_dict_from_url", lambda url, **_: dict(self.state))
                self.reference = get_model(name, weights=self.weights, min_size=SIDE, max_size=2 * SIDE).eval()
            thin_out(self.reference)
        if name in INSTANCE:
            self.reference.roi_heads.score_thresh = 0.2  # not torchvision's 0.05, for speed

    @cached_property
    def network(self):
        """The network as we open it by default."""
        return self.open()

    def open(self, **options):
        """Open it with weights from a file, or where it is large "downloaded" from memory."""
        small = self.name in ("lraspp_mobilenet_v3_large", "maskrcnn_resnet50_fpn")
        if small and not self.path.exists():
            torch.save(self.state, self.path, _use_new_zipfile_serialization=self.name != "maskrcnn_resnet50_fpn")
        config = MaskNetworkConfig(**{"mask_weights": self.path if small else None, "mask_input_side": SIDE} | options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.hub, "load_state_dict_from_url", self.fetch)
            network = open_mask_network(self.name, config, CPU)
        if self.name in INSTANCE:
            thin_out(network.model)
        return network

    def fetch(self, url, **options):
        assert url == self.weights.url
        assert options["weights_only"]
        assert options["check_hash"]
        return self.state

    def masks(self, frame, score=0.5, threshold=0.5):
        """The mask of one frame by torchvision's documented use of its network."""
        image_CHW = torch.from_numpy(frame).permute(2, 0, 1)
        with torch.inference_mode():
            if self.name in INSTANCE:
                [found] = self.reference([self.weights.transforms()(image_CHW)])
                people = (found["labels"] == self.person) & (found["scores"] > score)
                return (found["masks"][people, 0] > threshold).any(dim=0).numpy()
            scores = self.reference(self.weights.transforms(resize_size=SIDE)(image_CHW[None]))["out"]
            return (interpolate(scores, frame.shape[:2], mode="bilinear").argmax(1)[0] == self.person).numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Function from the name of a network to its `Trained`."""
    made = {}
    folder = tmp_path_factory.mktemp("weights")
    return lambda name: made[name] if name in made else made.setdefault(name, Trained(name, folder))


def differing(masks, others):
    """Share of pixels."""
    return np.mean([np.mean(mask != other) for mask, other in zip(masks, others, strict=True)])


@pytest.mark.parametrize("name", [*FAST, "deeplabv3_resnet50"])
def test_masks_are_those_of_torchvision(trained, name):
    known = trained(name)
    masks = list(known.network.masks(FRAMES))
    for mask, frame in zip(masks, FRAMES, strict=True):
        assert mask.dtype == bool
        assert mask.shape == frame.shape[:2]
    assert 0.05 < np.mean([mask.mean() for mask in masks]) < 0.95, "the test needs masks that are not all the same"
    assert differing(masks[:1], masks[1:2]) > 0.01
    assert differing(masks, [known.masks(frame) for frame in FRAMES]) < 1e-3


@pytest.mark.parametrize("name", FAST)
def test_a_frame_gets_the_mask_that_it_gets_alone(trained, name):
    network = trained(name).network
    frames = [FRAMES[2], FRAMES[0], FRAMES[1]]
    alone = [mask for frame in frames for mask in network.masks([frame])]
    assert differing(network.masks(frames), alone) == 0
    network.batch_size = 2  # as on a GPU
    try:
        batched = list(network.masks(frames))
        assert differing(batched[1:2], network.masks(frames[1:2])) == 0, "of another frame in the batch"
    finally:
        network.batch_size = 1
    # Convolutions of another shape sum in another order: at most a few pixels on an edge flip.
    assert differing(batched, alone) < 1e-3


def test_thresholds_decide_who_counts_and_which_pixels(trained):
    known = trained("maskrcnn_resnet50_fpn")
    [mask] = known.open(mask_score=0.3, mask_threshold=0.7).masks(FRAMES[:1])
    assert differing([mask], [known.masks(FRAMES[0], 0.3, 0.7)]) < 1e-3
    assert differing([mask], [known.masks(FRAMES[0], 0.5, 0.7)]) > 1e-2
    assert differing([mask], [known.masks(FRAMES[0], 0.3, 0.5)]) > 1e-2


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "maskrcnn_resnet50_fpn"])
def test_numbers_that_overflow_are_no_empty_masks(monkeypatch, trained, name):
    network = trained(name).network
    norm = next(module for module in network.model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    monkeypatch.setitem(norm._parameters, "weight", torch.full_like(norm.weight, 1e38))
    with pytest.raises(UserError, match=rf"{name} gives numbers that are not finite; .*\.pth, as --mask-weights"):
        list(network.masks(FRAMES[:1]))


@pytest.mark.parametrize("name", INSTANCE)
def test_nobody_gives_an_empty_mask(monkeypatch, trained, name):
    network = trained(name).network
    monkeypatch.setattr(network.model.roi_heads, "score_thresh", 1.0)
    [mask] = network.masks(FRAMES[:1])
    assert mask.shape == FRAMES[0].shape[:2]
    assert not mask.any()


def test_batch_norm_of_the_first_mask_rcnn_has_no_epsilon_as_in_torchvision(trained):
    known = trained("maskrcnn_resnet50_fpn")
    ours, theirs = (
        {key: module.eps for key, module in model.named_modules() if hasattr(module, "eps")}
        for model in (known.network.model, known.reference)
    )
    assert ours == theirs
    assert set(ours.values()) == {0.0}


def test_the_input_side_scales_what_the_network_sees(trained):
    known = trained("lraspp_mobilenet_v3_large")
    shapes = []
    for side in (32, 64, None):
        network = known.open(mask_input_side=side)
        network.model.register_forward_pre_hook(lambda _, images: shapes.append(tuple(images[0].shape)))
        list(network.masks(FRAMES[:1]))
    assert shapes == [(1, 3, 32, 42), (1, 3, 64, 85), (1, 3, 520, 693)]


def test_settings_tell_what_decides_the_masks(trained):
    settings = trained("lraspp_mobilenet_v3_large").open(mask_every=3, mask_input_side=None).settings()
    assert settings | {"weights_sha256": ""} == {
        "network": "lraspp_mobilenet_v3_large",
        "weights_sha256": "",
        "every": 3,
        "batch": 1,
        "precision": "float32",
        "input_side": 520,
    }
    other = trained("maskrcnn_resnet50_fpn").network.settings()
    assert (other["score"], other["threshold"], other["input_side"]) == (0.5, 0.5, SIDE)
    assert len({settings["weights_sha256"], other["weights_sha256"], ""}) == 3


def test_people_have_a_class_in_all_weights():
    """Guards the categories of torchvision, which the networks rely on."""
    for name in MASK_NETWORKS:
        categories = get_model_weights(name).DEFAULT.meta["categories"]
        assert len(categories) == (91 if name in INSTANCE else 21)
        assert categories[1 if name in INSTANCE else 15] == "person"


def test_weights_of_another_network_are_refused(trained):
    trained("lraspp_mobilenet_v3_large").open()
    path = trained("lraspp_mobilenet_v3_large").path
    with pytest.raises(UserError, match=r"--mask-weights .*tensors do not fit deeplabv3_mobilenet_v3_large .*\.pth$"):
        open_mask_network("deeplabv3_mobilenet_v3_large", MaskNetworkConfig(mask_weights=path), CPU)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mask_score", 1.0),
        ("mask_score", -0.1),
        ("mask_threshold", 1.5),
        ("mask_threshold", float("nan")),
        ("mask_every", 0),
        ("mask_batch", 0),
        ("mask_input_side", 31),
    ],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=rf"{option} must be at least .*, got {value}"):
        MaskNetworkConfig(**{option: value})
