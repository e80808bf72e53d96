"""``python -m scenebias.demo.render``: render the demo world as ordinary video files.

They lie as `scenebias.demo.writing` says; a name is ``<action>/<clip>``, and the truth of a clip is its action, scene
and instance.
"""

from dataclasses import dataclass
from functools import partial

from scenebias.commands import Command
from scenebias.demo.world import SPLITS, ClipPlan, WorldConfig, plan_clip, render_clip
from scenebias.demo.writing import WorldFolder, write_world

_CLIPS_PER_TASK = 16


@dataclass(frozen=True, kw_only=True)
class RenderConfig(WorldConfig, WorldFolder):
    """The world, and where to put it."""

    def __post_init__(self) -> None:
        WorldConfig.__post_init__(self)
        WorldFolder.__post_init__(self)


def _truth_of(plan: ClipPlan) -> dict[str, str | int | None]:
    return {"action": plan.action, "scene": plan.scene, "instance": plan.instance}


def render_world(config: RenderConfig) -> None:
    """Render a procedural world of people who act in places, to try scene-debiased pretraining in."""
    plans = {split: [plan_clip(config, split, i) for i in range(config.clip_count(split))] for split in SPLITS}
    render = partial(render_clip, config)
    write_world(config, plans, render, _truth_of, fps=config.fps, unit="clips", at_a_time=_CLIPS_PER_TASK)


COMMAND = Command(
    main=render_world,
    options=RenderConfig,
    example="python -m scenebias.demo.render --seed 1 --out runs/demo/world",
)

if __name__ == "__main__":
    COMMAND.run()
