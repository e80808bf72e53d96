"""Kill tools/make_shards.py at random moments, start it again, and compare the result with an undisturbed run's."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from scenebias.commands import Command
from shards.checks import require_at_least
from shards.packing.journal import read_lines
from shards.system.locks import LOCK_NAME

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LONGEST_RUN_S = 1800
"""Only what hangs takes so long, on the slowest machine."""


@dataclass(frozen=True, kw_only=True)
class KillPacking:
    """How often to kill what."""

    kills: int = 20
    """Kill at least so many times."""
    clips: int = 480
    """Clips that are packed, in shards of 40."""
    processes: int = 1
    """Processes under torchrun; 1: without it."""
    seed: int = 0
    """Seed of the moments."""

    def __post_init__(self) -> None:
        require_at_least(1, kills=self.kills, clips=self.clips, processes=self.processes)


def main(config: KillPacking) -> int:
    """Kill tools/make_shards.py at random moments, start it again, and compare the result with an undisturbed run's.

    Exit status 1 where a byte differs, finished work was done again, or something was left behind.
    """
    generator = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_videos(folder / "videos", config.clips)
        start(folder, "undisturbed", 1).wait(LONGEST_RUN_S)
        expected = content(folder / "undisturbed")
        process = start(folder, "timed", config.processes)
        wait_for_begin(process, folder, "timed")
        begun_s = time.monotonic()
        process.wait(LONGEST_RUN_S)
        packing_s = time.monotonic() - begun_s
        print(f"undisturbed: {packing_s:.1f} s of packing, {len(expected)} files", flush=True)
        kills = problems = round_number = 0
        while kills < config.kills:
            name = f"killed{round_number}"
            round_number += 1
            kills += kill_until_done(folder, name, config.processes, packing_s, generator)
            problems += report_differences(folder, name, expected)
        print(f"{kills} kills in {round_number} rounds, {problems} problems")
        return 1 if problems else 0


def kill_until_done(folder: Path, name: str, processes: int, packing_s: float, generator: random.Random) -> int:
    """Kill the command again and again until it is done before it is killed; returns how often it was killed.

    The moments lie between the begin of packing and a little after its end, were it not disturbed.
    """
    kills = 0
    complete: dict[str, tuple[int, int]] = {}
    while True:
        process = start(folder, name, processes)
        wait_for_begin(process, folder, name)
        if kill_after(process, generator.uniform(0, 1.1) * packing_s, folder):
            kills += 1
            work = folder / f".{name}.packing"
            now = identities([folder / name, work / "dataset"])
            if redone := [shard for shard in complete if now.get(shard) != complete[shard]]:
                raise SystemExit(f"complete shards were written again: {', '.join(redone)}")
            finished = {path.name.removesuffix(".journal") for path in work.glob("journals/*.journal") if is_done(path)}
            complete = {shard: identity for shard, identity in now.items() if shard in finished}
            clips = sum(line.get("clips", 0) for path in work.glob("journals/*.journal") for line in read_lines(path))
            print(f"{name}: killed, {clips} clips done, {len(complete)} shards complete", flush=True)
        elif process.returncode:
            raise SystemExit(f"{name}: exit status {process.returncode}")
        else:
            return kills


def wait_for_begin(process: subprocess.Popen, folder: Path, name: str) -> None:
    """Return when the process has begun to pack, or has ended."""
    lock = folder / f".{name}.packing" / LOCK_NAME
    before_ns = lock.stat().st_mtime_ns if lock.exists() else 0
    while process.poll() is None and (not lock.exists() or lock.stat().st_mtime_ns == before_ns):
        time.sleep(0.01)  # it is opened anew by every start


def kill_after(process: subprocess.Popen, seconds: float, folder: Path) -> bool:
    """Kill a process and all that it has started, unless it ends before; returns whether it was killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LONGEST_RUN_S)
        for pid in processes_of(folder):  # torchrun gives each of its processes a group of its own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while processes_of(folder):
            time.sleep(0.05)
        return True
    return False


def processes_of(folder: Path) -> list[int]:
    """The processes that still run and whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def is_done(journal: Path) -> bool:
    """Whether the last whole line says that the shard is finished."""
    lines = read_lines(journal)
    return bool(lines) and "finished" in lines[-1]


def identities(folders: list[Path]) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every shard."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.glob("shard-*.tar")
    }


def start(folder: Path, name: str, processes: int) -> subprocess.Popen:
    """Start packing in a process group of its own."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [
        *(sys.executable, *(torchrun if processes > 1 else []), str(PROJECT_ROOT / "tools" / "make_shards.py")),
        *("folder", "--root", str(folder / "videos"), "--out", str(folder / name)),
        *("--height", "160", "--samples-per-shard", "40", "--workers", "2"),
    ]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def report_differences(folder: Path, name: str, expected: dict[str, str]) -> int:
    """Print what is not as it must be, and return how much that is."""
    problems = [f"{name}/{file} differs" for file in expected if content(folder / name).get(file) != expected[file]]
    problems += [f"{name}/{file} is too much" for file in content(folder / name).keys() - expected.keys()]
    problems += [f"{path.name} was left behind" for path in folder.glob(f".{name}*")]
    for problem in problems:
        print(problem)
    return len(problems)


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def write_videos(root: Path, clip_count: int) -> None:
    """Write small clips of three classes, two of them broken."""
    for number in range(clip_count):
        path = root / ("jump", "run", "wave")[number % 3] / f"clip{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number in (7, 70):
            path.write_bytes(b"no video")
            continue
        noise = np.random.default_rng(number).integers(0, 256, (10 + number % 7, 6, 8, 3), np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
            for frame in noise.repeat(16, axis=1).repeat(16, axis=2):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


COMMAND = Command(
    main=main,
    options=KillPacking,
    example="python tools/trials/kill_packing.py --kills 20 --processes 2",
)

if __name__ == "__main__":
    COMMAND.run()
