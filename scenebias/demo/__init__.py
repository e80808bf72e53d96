"""A procedural world to try scene-debiased action recognition in, with nothing to download."""

from scenebias.demo.world import SPLITS, ClipPlan, RenderedClip, WorldConfig, plan_clip, render_clip

__all__ = ["SPLITS", "ClipPlan", "RenderedClip", "WorldConfig", "plan_clip", "render_clip"]
