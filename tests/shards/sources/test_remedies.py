"""What a refusal advises, done, is enough: the same source then lists its clips."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.packing.clip_preparation import PackConfig
from shards.packing.pack import pack
from shards.sources import CsvSource, FolderSource
from tests.shards.sources.files import touch

CSV_REMEDIES = {
    "two clips are called 'run/a', .* so rename or remove one": ("a.mp4,run\na.mp4,run\n", "a.mp4,run\n"),
    "label 'Run' differs .* write both alike": ("a.mp4,run\nb.mp4,Run\n", "a.mp4,run\nb.mp4,run\n"),
    "has more cells than the header; correct it": ("a.mp4,run,7\n", "a.mp4,run\n"),
    "has fewer cells than the header; correct it": ("a.mp4\n", "a.mp4,run\n"),
    "a label without '/'; correct it": ("a.mp4,run/fast\n", "a.mp4,run fast\n"),
    "are all quotes closed, and those in a cell doubled": ('a.mp4,"run\n', 'a.mp4,"run"\n'),
    "has no rows; write one a clip below the header": ("\n", "a.mp4,run\n"),
    "end 3 must be greater than start 3": (
        "path,label,start,end\na.mp4,run,3,3\n",
        "path,label,start,end\na.mp4,run,3,4\n",
    ),
    "start must be a frame number from 0, found '1.5'": (
        "path,label,start\na.mp4,run,1.5\n",
        "path,label,start\na.mp4,run,1\n",
    ),
    "column 'Split' must be written 'split'": ("path,label,Split\na.mp4,run,x\n", "path,label,split\na.mp4,run,x\n"),
    "its columns must be path,label": ("path;label\na.mp4;run\n", "path,label\na.mp4,run\n"),
}


@pytest.mark.parametrize("sentence", CSV_REMEDIES)
def test_a_csv_file_that_is_corrected_as_advised_is_read(tmp_path, sentence):
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    wrong, right = (text if text.startswith("path") else f"path,label\n{text}" for text in CSV_REMEDIES[sentence])
    source = CsvSource(file=tmp_path / "list.csv")
    source.file.write_text(wrong)
    with pytest.raises(UserError, match=sentence):
        source.listing()
    source.file.write_text(right)
    assert source.listing().clips


def test_a_csv_file_of_a_spreadsheet_is_read_once_it_is_saved_as_utf8(tmp_path):
    touch(tmp_path / "a.mp4")
    source = CsvSource(file=tmp_path / "list.csv")
    source.file.write_text("path,label\na.mp4,run\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"byte 0 is not UTF-8\); give a CSV file in UTF-8"):
        source.listing()
    source.file.write_text("path,label\na.mp4,run\n", encoding="utf-8-sig")
    assert source.listing().clips


FOLDER_REMEDIES: dict[str, Callable[[Path], object]] = {
    "folder 'run' differs .* write both alike": lambda root: (root / "Run").rename(root / "walk"),
    "are of one class, whose name they write differently; put their videos into one": (
        lambda root: (root / "jump " / "c.mp4").rename(root / "jump" / "c.mp4")
    ),
    "two clips are called 'hop/d', .* so rename or remove one": lambda root: (root / "hop/d.avi").unlink(),
}


def test_folders_that_are_put_right_as_advised_are_read(tmp_path):
    names = ("Run/a.mp4", "run/a.mp4", "jump/b.mp4", "jump /c.mp4", "hop/d.mp4", "hop/d.avi")
    touch(*(tmp_path / name for name in names))
    for sentence, mend in FOLDER_REMEDIES.items():
        with pytest.raises(UserError, match=sentence):
            FolderSource(root=tmp_path).listing()
        mend(tmp_path)
    assert len(FolderSource(root=tmp_path).listing().clips) == 5


def test_what_strict_packing_advises_step_by_step_ends_in_a_data_set(tmp_path, write_video, quadrants):
    root, config = tmp_path / "videos", PackConfig(height=32, workers=1)
    touch(root / "stray.mp4", root / "run/broken.mp4")
    write_video(root / "run/a.mp4", quadrants(4))
    (tmp_path / "classes.txt").write_text("run\nwalk\n")
    source = FolderSource(root=root, classes=tmp_path / "classes.txt")
    steps: dict[str, Callable[[], object]] = {
        "not read: stray.mp4; .* move them elsewhere": lambda: (root / "stray.mp4").rename(tmp_path / "stray.mp4"),
        "classes without any clip: walk; .* leave the classes out": lambda: source.classes.write_text("run\n"),
        r"broken: run/broken \(empty file\); replace or remove the videos": (root / "run/broken.mp4").unlink,
    }
    for sentence, mend in steps.items():
        with pytest.raises(UserError, match=f"--strict: {sentence}"):
            pack(source.listing(), tmp_path / "out", config, strict=True)
        mend()
    assert pack(source.listing(), tmp_path / "out", config, strict=True).packed_count == 1
