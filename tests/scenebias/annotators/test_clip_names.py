"""Annotations are found under the names of their clips, in any normal form of them."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from scenebias.annotators import open_mask_source, open_scene_source
from scenebias.annotators.clip_names import lookup_names
from shards.format.sample import SCENE_COUNT
from shards.sources import ClipEntry
from tools.trials.ready_samples import write_samples

NAME = "prénom/éa"
ENTRY = ClipEntry(NAME, Path("x.mp4"), "prénom")
ONE_HOT_S = np.eye(1, SCENE_COUNT, 7)[0]
FORMS = list(product(("NFC", "NFD"), repeat=2))


def written(forms: tuple[str, str]) -> str:
    return "/".join(normalize(form, part) for form, part in zip(forms, NAME.split("/"), strict=True))


def test_a_plain_name_is_looked_up_alone_and_another_in_all_forms():
    assert list(lookup_names("run/a")) == ["run/a"]
    assert next(lookup_names(NAME)) == NAME
    assert set(lookup_names(NAME)) == {written(forms) for forms in FORMS}
    kinetics = set(lookup_names("jouer/é1234567890_000001_000011"))
    assert {normalize("NFD", "jouer/é1234567890"), "jouer/é1234567890"} < kinetics


@pytest.mark.parametrize("forms", FORMS)
def test_masks_are_found_in_every_form(tmp_path, forms):
    path = tmp_path / f"{written(forms)}.npz"
    path.parent.mkdir()
    np.savez(path, masks=np.ones((2, 4, 4), bool))
    assert open_mask_source(tmp_path, (ENTRY,)).load(ENTRY, 2, 4, 4, 25.0) is not None


@pytest.mark.parametrize("forms", FORMS)
def test_masks_of_a_packed_data_set_are_found_in_every_form(tmp_path, synthetic_sample, forms):
    sample = synthetic_sample(0)
    name = written(forms)
    info = replace(sample.info, name=name, class_name=name.split("/")[0])
    write_samples(tmp_path / "packed", [replace(sample, info=info)], (info.class_name,))
    assert open_mask_source(tmp_path / "packed", (ENTRY,)).files(ENTRY)


@pytest.mark.parametrize("kind", ["npz", "npy", "json"])
@pytest.mark.parametrize("forms", FORMS)
def test_scene_labels_are_found_in_every_form(tmp_path, forms, kind):
    path = tmp_path / f"labels.{kind}"
    if kind == "npz":
        np.savez(path, clips=np.array([written(forms)]), probs=ONE_HOT_S[np.newaxis])
    elif kind == "json":
        path.write_text(json.dumps({written(forms): 7}))
    else:
        class_name, clip = written(forms).split("/")
        np.save(path, {class_name: {clip: {"probs": ONE_HOT_S, "pred_cls": []}}})
    assert open_scene_source(path, (ENTRY,)).vector(ENTRY).argmax() == 7
