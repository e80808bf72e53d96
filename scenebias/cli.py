"""The command ``scenebias``: every program of the package under one name.

``scenebias pretrain …`` is ``python -m scenebias.pretrain …``. Each program is imported when it is asked for, and
nothing else: the list of all is there at once.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast

from scenebias.cuda_builds import best_build
from scenebias.utf8_mode import enter_utf8_mode

if TYPE_CHECKING:
    from scenebias.commands import Command


class Program(NamedTuple):
    """Where a program is, and what it does."""

    module: str
    """The module that has its ``COMMAND``."""
    summary: str
    """The first line of the docstring of its ``main``."""


PROGRAMS: Mapping[str, Program] = {
    "pack": Program(
        "scenebias.data.make_shards", "Pack videos, human masks and scene labels into a data set of shards."
    ),
    "inspect": Program(
        "scenebias.data.inspect_shards",
        "Say what is in a packed data set, check every byte of it, or make a page to look at it.",
    ),
    "splice": Program(
        "scenebias.data.splice",
        "Join clips of packed data sets to long videos, to localise actions in real ones.",
    ),
    "pretrain": Program(
        "scenebias.pretrain",
        "Pretrain a video model to recognise the action, and (unless --objective baseline) to ignore the scene.",
    ),
    "transfer": Program(
        "scenebias.transfer.command",
        "Tune pretrained weights on other data sets, and measure how well they serve them.",
    ),
    "localize": Program(
        "scenebias.localize.command",
        "Train detectors of segments on pretrained backbones, and measure how well they find actions in long videos.",
    ),
    "detect": Program(
        "scenebias.detect.command",
        "Train detectors of boxes on pretrained backbones, and measure how well they find actors and their actions.",
    ),
    "evaluate": Program(
        "scenebias.evaluate",
        "Accuracy of trained weights: mean softmax over the windows of a clip, every clip counted once.",
    ),
    "bias": Program(
        "scenebias.bias.command",
        "Scene bias of a data set: how well its scenes alone tell the action (RESOUND; Choi et al. 2019).",
    ),
    "predict": Program(
        "scenebias.predict",
        "What happens in a video: its most probable actions, or where the weights find segments or boxes, those.",
    ),
    "import-weights": Program(
        "scenebias.import_weights",
        "Turn weights of torchvision, of 3D-ResNets-PyTorch or of the code released with the paper into a weight file.",
    ),
    "export": Program(
        "scenebias.export", "Write weights as an ONNX file, or as a folder for the Hugging Face Hub with a model card."
    ),
    "import-detections": Program(
        "scenebias.annotators.sdn_detections",
        "Write the detections of SDN as one file of boxes a clip, for make_shards --masks.",
    ),
    "demo": Program(
        "scenebias.study.demo",
        "Render a world, pretrain a baseline and two debiased models, transfer them to new actions, and measure all.",
    ),
    "study": Program(
        "scenebias.study.command",
        "Does debiasing help? Pretrain with and without it, on rendered worlds and on JHMDB; measure; write a report.",
    ),
    "coarse-masks": Program(
        "scenebias.study.coarse_masks",
        "Pretrain with true and with spoilt human masks, and measure on usual and on swapped scenes what that costs.",
    ),
    "render": Program(
        "scenebias.demo.render",
        "Render a procedural world of people who act in places, to try scene-debiased pretraining in.",
    ),
    "render-takes": Program(
        "scenebias.demo.render_takes",
        "Render long takes, in which people of the demo world act several times, to localise and detect actions in.",
    ),
    "bench": Program(
        "scenebias.benchmark.loading.command",
        "Measure how fast training data comes, beside other ways to feed the same clips.",
    ),
    "gpu-check": Program(
        "scenebias.benchmark.gpu_check.command",
        "Check everything that needs a GPU, on this machine, and say what to do about what is wrong.",
    ),
    "bench-pack": Program(
        "scenebias.benchmark.packing", "Measure how fast film strips are packed, beside ffmpeg on the same videos."
    ),
    "bench-train": Program(
        "scenebias.benchmark.training.command",
        "Measure a training step: debiasing beside the baseline, the trainer beside bare torch, memory, two processes.",
    ),
    "completion": Program(
        "scenebias.completion",
        "Print the script that makes a shell complete programs and options: source <(scenebias completion bash).",
    ),
}
"""Every program by its name."""


def command(name: str) -> "Command":
    """The program of that name."""
    return cast("Command", import_module(PROGRAMS[name].module).COMMAND)


def start(name: str, arguments: Sequence[str] | None = None, called: str | None = None) -> NoReturn:
    """Import the program of that name and run it. Ctrl-C meanwhile ends it with a word, as it does later on."""
    try:
        program = command(name)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("nvidia", "nvidia.dali"):
            raise
        print(f"error: DALI is not installed: pip install -e '.[{best_build().extra}]'", file=sys.stderr)
        sys.exit(2)
    program.run(arguments, name=called)


def overview() -> str:
    """What ``--help`` shows."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {program.summary}" for name, program in PROGRAMS.items()]
    return "\n".join(
        [
            "usage: scenebias PROGRAM [OPTIONS]",
            "",
            "Pretrain video models that recognise the action, not the scene.",
            "",
            "programs:",
            *lines,
            "",
            "scenebias PROGRAM --help tells the options of each; scenebias --version the version.",
        ]
    )


def _print(text: str) -> None:
    """Print ``text``; where that fails, end as every program does."""
    try:
        print(text, flush=True)
    except OSError:
        from scenebias.commands import end_unprinted

        end_unprinted("\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program that ``arguments`` (``sys.argv`` when None) begin with, and exit with its status; 2 for none."""
    if arguments is None:
        enter_utf8_mode()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in PROGRAMS:
        start(name, rest, f"scenebias {name}")
    if name == "--version":
        _print(f"scenebias {version('scenebias')}")
        sys.exit(0)
    if name in ("", "-h", "--help"):
        _print(overview())
        sys.exit(0 if name else 2)
    nearest = difflib.get_close_matches(name, PROGRAMS, n=1, cutoff=0)[0]
    print(f"error: there is no program {name}: did you mean scenebias {nearest}?", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
