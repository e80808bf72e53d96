import json
from dataclasses import replace

import pytest

from shards.errors import UserError
from shards.format.focus import WHOLE_FRAMES, Focus
from shards.format.manifest import AbsentClip, Manifest, ShardRecord

SHARD = ShardRecord(name="shard-000000.tar", bytes=10240, samples=3, masks=2, scenes=3, sha256="0" * 64)
MANIFEST = Manifest(
    dataset="ucf101",
    split="1",
    subset="train",
    classes=("jöuer", "run"),
    class_counts=(2, 1),
    frame_height=128,
    quality=85,
    provenance={"seed": 0, "mask_scale": 0.5},
    missing=(AbsentClip(name="run/a", class_name="run", reason="not found"),),
    broken=(AbsentClip(name="run/b", class_name="run", reason="cut short"),),
    shards=(SHARD,),
    focus=Focus("person", 1.3),
)


def test_manifest_comes_back_as_it_was(tmp_path):
    MANIFEST.save(tmp_path)
    loaded = Manifest.load(tmp_path)
    assert loaded == MANIFEST
    assert loaded.digest == MANIFEST.digest
    assert loaded.sample_count == 3


def test_a_manifest_that_does_not_tell_the_focus_is_of_whole_frames(tmp_path):
    MANIFEST.save(tmp_path)
    path = tmp_path / "manifest.json"
    value = json.loads(path.read_text())
    assert value.pop("focus") == {"on": "person", "margin": 1.3}
    path.write_text(json.dumps(value))
    older = Manifest.load(tmp_path)
    assert older == replace(MANIFEST, focus=WHOLE_FRAMES)
    assert older.digest == MANIFEST.digest  # which was made without it, too
    older.save(tmp_path)
    assert json.loads(path.read_text()) == value
    for damaged in ({"on": "dogs"}, {"on": "person", "margin": "wide"}, {"of": "person"}, "person", None):
        path.write_text(json.dumps(value | {"focus": damaged}))
        with pytest.raises(UserError, match="lacks or misnames a field, or one is damaged"):
            Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"split": "2"},
        {"classes": ("run", "jöuer")},
        {"shards": (replace(SHARD, sha256="1" * 64),)},
    ],
)
def test_digest_tells_data_sets_apart(change):
    assert replace(MANIFEST, **change).digest != MANIFEST.digest


def test_the_same_content_packed_elsewhere_has_the_same_digest():
    elsewhere = replace(
        MANIFEST,
        provenance={"root": "/elsewhere"},
        broken=(AbsentClip(name="run/a", class_name="run", reason="no frames"),),
    )
    assert elsewhere.digest == MANIFEST.digest


def test_absent_manifest_means_no_packed_data_set(tmp_path):
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"not a packed data set.*run tools/make_shards\.py"):
            Manifest.load(directory)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda value: "{", "not JSON"),
        (lambda value: "[]", "format version None"),
        (lambda value: json.dumps(value | {"format_version": 1}), "format version 1"),
        (lambda value: json.dumps({name: value[name] for name in value if name != "classes"}), "classes"),
        (lambda value: json.dumps(value | {"colour": 1}), "colour"),
        (lambda value: json.dumps(value | {"shards": [{"name": "x"}]}), "lacks or misnames a field"),
        (lambda value: json.dumps(value | {"shards": [value["shards"][0] | {"samples": "12"}]}), "samples is '12'"),
        (lambda value: json.dumps(value | {"shards": 7}), "not iterable"),
        (lambda value: json.dumps(value | {"frame_height": None}), "frame_height is None"),
        (lambda value: json.dumps(value | {"classes": ["run", 7]}), r"classes is \('run', 7\)"),
        (lambda value: json.dumps(value | {"class_counts": [3]}), "1 class_counts of 2 classes"),
    ],
)
def test_damaged_manifests_are_named_with_a_remedy(tmp_path, change, complaint):
    MANIFEST.save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(change(json.loads(path.read_bytes())))
    with pytest.raises(UserError, match=complaint) as raised:
        Manifest.load(tmp_path)
    assert str(path) in str(raised.value)
    assert "tools/make_shards.py" in str(raised.value)
