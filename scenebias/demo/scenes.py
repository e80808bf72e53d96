"""The scenes of the demo world: procedural pictures of places, and the soft labels that a scene classifier would give.

A scene class is a painter: each call paints another instance, with its own palette, layout and light. The classes are
named after their Places365 categories.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenebias.demo.canvas import Canvas
from shards.format.sample import SCENE_COUNT


def _sky(canvas: Canvas, horizon: float) -> None:
    """Clear, overcast or at sunset, with clouds or the sun."""
    rng = canvas.rng
    upper, lower = [
        ((88, 150, 222), (190, 220, 240)),
        ((160, 170, 182), (208, 212, 216)),
        ((96, 90, 150), (246, 178, 128)),
    ][rng.choice(3, p=[0.55, 0.25, 0.2])]
    canvas.gradient(0, horizon, canvas.vary(upper), canvas.vary(lower, 15))
    if rng.uniform() < 0.3:
        canvas.ellipse(rng.uniform(), rng.uniform(0.05, 0.8 * horizon), rng.uniform(0.03, 0.06), (255, 244, 205))
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, 1), rng.uniform(0.03, 0.7 * horizon)
        canvas.blobs(6, (x - 0.08, x + 0.08), (y - 0.02, y + 0.02), (0.02, 0.06), canvas.vary((238, 238, 242), 8), 0.5)


def _beach(canvas: Canvas) -> None:
    rng = canvas.rng
    horizon, shore = rng.uniform(0.26, 0.4), rng.uniform(0.5, 0.64)
    _sky(canvas, horizon)
    if rng.uniform() < 0.4:
        canvas.ridge(horizon, rng.uniform(0.04, 0.12), canvas.vary((92, 118, 120)))
    sea = canvas.vary((34, 128, 168), 30)
    canvas.gradient(horizon, shore, sea, canvas.vary((112, 200, 205)))
    canvas.texture(horizon, shore, 16, (6, 14))
    for y in np.linspace(horizon + 0.05, shore, rng.integers(2, 5)):
        x = np.linspace(0, 1, 12)
        wave = y + 0.012 * np.sin(x * rng.uniform(8, 20) + rng.uniform(0, 6))
        canvas.line(
            list(zip(x.tolist(), wave.tolist(), strict=True)),
            canvas.vary((232, 243, 245), 8),
            rng.uniform(0.006, 0.018),
        )
    canvas.gradient(shore, 1, canvas.vary((206, 178, 132)), canvas.vary((236, 212, 164)))
    canvas.texture(shore, 1, 10, (40, 24))
    for _ in range(rng.integers(0, 4)):
        _parasol(canvas, rng.uniform(0.02, 0.98), rng.uniform(shore, 0.8), rng.uniform(0.07, 0.13))
    if rng.uniform() < 0.5:
        _palm(
            canvas,
            rng.choice([rng.uniform(0, 0.2), rng.uniform(0.8, 1)]),
            rng.uniform(0.62, 0.8),
            rng.uniform(0.4, 0.6),
        )


def _parasol(canvas: Canvas, x: float, y: float, size: float) -> None:
    colour = canvas.vary(canvas.rng.uniform(40, 235, 3))
    canvas.line([(x, y), (x, y - 2 * size)], (120, 100, 80), 0.012)
    canvas.polygon([(x - size, y - 1.4 * size), (x, y - 2.4 * size), (x + size, y - 1.4 * size)], colour)
    canvas.polygon(
        [(x - size / 3, y - 1.4 * size), (x, y - 2.4 * size), (x + size / 3, y - 1.4 * size)], (240, 236, 226)
    )


def _palm(canvas: Canvas, x: float, y: float, height: float) -> None:
    top = (x + canvas.rng.uniform(-0.08, 0.08), y - height)
    canvas.line([(x, y), ((x + top[0]) / 2 + 0.01, y - height / 2), top], canvas.vary((128, 98, 66)), 0.028)
    for angle in np.linspace(-0.5, 3.6, 8):
        tip = (top[0] + 0.13 * np.cos(angle), top[1] - 0.09 * np.sin(angle) + 0.05)
        canvas.line(
            [top, ((top[0] + tip[0]) / 2, top[1] - 0.05 * np.sin(angle) - 0.02), tip], canvas.vary((48, 118, 56)), 0.022
        )


def _forest(canvas: Canvas) -> None:
    rng = canvas.rng
    ground = rng.uniform(0.56, 0.7)
    leaf = canvas.vary([(60, 118, 48), (96, 128, 44), (176, 122, 42), (42, 92, 62)][rng.integers(4)], 14)
    canvas.gradient(0, ground, np.add(leaf, 50).clip(0, 255), np.multiply(leaf, 0.75))
    canvas.texture(0, ground, 30, (16, 10))
    canvas.gradient(ground, 1, canvas.vary((84, 86, 46)), canvas.vary((116, 98, 62)))
    canvas.texture(ground, 1, 22, (36, 16))
    bark = canvas.vary([(92, 70, 50), (60, 50, 44), (190, 184, 170)][rng.choice(3, p=[0.5, 0.3, 0.2])], 14)
    for depth in (0.5, 0.75, 1.0):
        tone = np.multiply(bark, 0.6 + 0.4 * depth) + 35 * (1 - depth)
        for _ in range(rng.integers(3, 7)):
            x, foot = rng.uniform(0, 1), ground + 0.16 * (depth - 0.5) + rng.uniform(-0.02, 0.02)
            width = rng.uniform(0.016, 0.045) * depth
            sway = rng.uniform(-0.03, 0.03)
            trunk = [(x - width, foot), (x - 0.7 * width + sway, 0), (x + 0.7 * width + sway, 0), (x + width, foot)]
            canvas.polygon(trunk, canvas.vary(tone, 8))
        canvas.blobs(14, (0, 1), (-0.04, 0.3 / depth - 0.1), (0.04, 0.11), np.multiply(leaf, 0.7 + 0.4 * depth), 0.7)
    canvas.blobs(int(rng.integers(4, 14)), (0, 1), (ground, 0.8), (0.02, 0.06), np.multiply(leaf, 0.9), 0.6)
    if rng.uniform() < 0.4:
        x = rng.uniform(0.1, 0.7)
        canvas.glow([(x, 0), (x + 0.14, 0), (x + 0.3, 0.8), (x + 0.05, 0.8)], (255, 250, 200), 0.28)


def _street(canvas: Canvas) -> None:
    rng = canvas.rng
    kerb = rng.uniform(0.58, 0.68)
    _sky(canvas, kerb)
    x = -0.02
    while x < 1:
        width, top = rng.uniform(0.13, 0.3), rng.uniform(0, 0.3)
        wall = canvas.vary(
            [(150, 88, 70), (186, 168, 140), (128, 132, 140), (206, 196, 182), (104, 84, 78)][rng.integers(5)]
        )
        canvas.box(x, top, x + width, kerb, wall)
        window = canvas.vary([(70, 84, 104), (238, 214, 142)][rng.integers(2)], 16)
        columns = int(rng.integers(2, 5))
        pane = 0.5 * width / columns
        for y in np.arange(top + 0.04, kerb - 0.2, rng.uniform(0.1, 0.14)):
            for left in x + (np.arange(columns) + 0.25) * width / columns:
                canvas.box(left, y, left + pane, y + 0.06, canvas.vary(window, 8))
        shop = canvas.vary(rng.uniform(30, 210, 3))
        canvas.box(x + 0.01, kerb - 0.13, x + width - 0.01, kerb, (52, 58, 66))
        canvas.box(x + 0.005, kerb - 0.16, x + width - 0.005, kerb - 0.11, shop)
        x += width
    road = kerb + rng.uniform(0.1, 0.15)
    canvas.gradient(kerb, road, canvas.vary((168, 164, 158), 12), canvas.vary((184, 180, 174), 12))
    canvas.gradient(road, 1, canvas.vary((92, 92, 96), 14), canvas.vary((70, 70, 74), 14))
    canvas.texture(road, 1, 8, (50, 30))
    mark = canvas.vary((226, 222, 200), 14)
    start = rng.uniform(-0.2, 0)
    for left in np.arange(start, 1, rng.uniform(0.17, 0.26)):
        canvas.polygon([(left, 0.9), (left + 0.1, 0.9), (left + 0.09, 0.925), (left - 0.015, 0.925)], mark)
    for _ in range(rng.integers(0, 3)):
        _car(canvas, rng.uniform(0.02, 0.8), road + 0.02, canvas.vary(rng.uniform(20, 230, 3)))


def _car(canvas: Canvas, x: float, y: float, colour: tuple[int, int, int]) -> None:
    canvas.polygon(
        [(x + 0.03, y - 0.08), (x + 0.06, y - 0.15), (x + 0.15, y - 0.15), (x + 0.19, y - 0.08)], (60, 72, 84)
    )
    canvas.box(x, y - 0.09, x + 0.22, y - 0.01, colour)
    canvas.ellipse(x + 0.05, y - 0.01, 0.028, (24, 24, 26))
    canvas.ellipse(x + 0.17, y - 0.01, 0.028, (24, 24, 26))


def _snowfield(canvas: Canvas) -> None:
    rng = canvas.rng
    horizon = rng.uniform(0.36, 0.52)
    _sky(canvas, horizon + 0.02)
    if rng.uniform() < 0.75:
        canvas.ridge(horizon, rng.uniform(0.12, 0.3), canvas.vary((138, 152, 176), 18), int(rng.integers(6, 12)))
        canvas.ridge(horizon, rng.uniform(0.06, 0.14), canvas.vary((206, 216, 230), 12), int(rng.integers(5, 10)))
    canvas.gradient(horizon, 1, canvas.vary((214, 224, 238), 12), canvas.vary((240, 244, 250), 8))
    canvas.texture(horizon, 1, 12, (7, 9))
    for _ in range(rng.integers(0, 9)):
        x, y = rng.uniform(0, 1), rng.uniform(horizon, horizon + 0.16)
        size = 0.1 + 0.9 * (y - horizon)
        green = canvas.vary((38, 74, 62), 12)
        for level in range(3):
            top, half = y - size * (1 - 0.25 * level), size * (0.14 + 0.07 * level)
            canvas.polygon([(x - half, top + 0.45 * size), (x, top), (x + half, top + 0.45 * size)], green)
            canvas.polygon(
                [(x - half / 2, top + 0.2 * size), (x, top), (x + half / 3, top + 0.2 * size)], (226, 234, 242)
            )
    if rng.uniform() < 0.5:
        canvas.blobs(70, (0, 1), (0, 1), (0.003, 0.009), (250, 250, 252))


def _gymnasium(canvas: Canvas) -> None:
    rng = canvas.rng
    floor = rng.uniform(0.56, 0.68)
    wall = canvas.vary([(206, 196, 172), (172, 192, 204), (222, 220, 212), (186, 170, 146)][rng.integers(4)], 14)
    canvas.gradient(0, floor, wall, np.multiply(wall, 0.86))
    stripe = canvas.vary(rng.uniform(30, 200, 3))
    canvas.box(0, floor - rng.uniform(0.12, 0.22), 1, floor, stripe)
    if rng.uniform() < 0.6:
        for left in np.arange(rng.uniform(-0.1, 0.05), 1, rng.uniform(0.18, 0.28)):
            canvas.box(left, 0.05, left + 0.12, 0.17, canvas.vary((226, 238, 242), 8))
    if rng.uniform() < 0.6:
        x = rng.uniform(0, 0.8)
        for rung in np.linspace(0.16, floor - 0.02, 9):
            canvas.line([(x, rung), (x + 0.16, rung)], (150, 104, 60), 0.012)
        for post in (x, x + 0.08, x + 0.16):
            canvas.line([(post, 0.14), (post, floor)], (122, 82, 48), 0.012)
    if rng.uniform() < 0.7:
        x, y = rng.uniform(0.12, 0.88), rng.uniform(0.14, 0.24)
        canvas.box(x - 0.08, y - 0.09, x + 0.08, y + 0.05, (240, 240, 238))
        canvas.box(x - 0.03, y - 0.03, x + 0.03, y + 0.03, (206, 70, 52))
        canvas.ring(x, y + 0.06, 0.045, (224, 96, 40), 0.35, 0.014)
    wood = canvas.vary((202, 148, 90), 24)
    canvas.gradient(floor, 1, np.multiply(wood, 0.88), wood)
    for edge in np.linspace(-0.6, 1.6, rng.integers(18, 28)):
        canvas.line([(0.5 + (edge - 0.5) * 0.55, floor), (edge, 1)], np.multiply(wood, 0.84).astype(int), 0.004)
    paint = canvas.vary([(240, 240, 236), (58, 92, 170), (190, 60, 52)][rng.integers(3)], 10)
    canvas.ring(rng.uniform(0.2, 0.8), rng.uniform(0.8, 0.95), rng.uniform(0.2, 0.4), paint, 0.34, 0.014)
    canvas.line([(rng.uniform(-0.3, 0.6), floor), (rng.uniform(-0.3, 0.9), 1)], paint, 0.014)


def _stage(canvas: Canvas) -> None:
    rng = canvas.rng
    floor = rng.uniform(0.64, 0.76)
    backdrop = canvas.vary([(30, 24, 40), (24, 34, 62), (56, 22, 30), (20, 20, 22)][rng.integers(4)], 10)
    canvas.gradient(0, floor, backdrop, np.add(backdrop, 22))
    curtain = np.array(canvas.vary([(158, 26, 34), (112, 20, 58), (40, 44, 112), (30, 92, 70)][rng.integers(4)], 16))
    reach = rng.uniform(0.14, 0.3)
    folds = int(rng.integers(4, 8))
    for fold in range(folds):
        tone = curtain * (0.62 + 0.38 * np.sin(2.4 * fold) ** 2)
        near, far = reach * fold / folds, reach * (fold + 1) / folds
        canvas.polygon([(near, 0), (far, 0), (0.8 * far, floor + 0.03), (0.8 * near, floor + 0.03)], tone.astype(int))
        canvas.polygon(
            [(1 - near, 0), (1 - far, 0), (1 - 0.8 * far, floor + 0.03), (1 - 0.8 * near, floor + 0.03)],
            tone.astype(int),
        )
    for x in np.arange(0, 1, 0.1):
        canvas.ellipse(x + 0.05, 0.02, 0.08, (curtain * rng.uniform(0.8, 1.0)).astype(int), 0.7)
    wood = canvas.vary([(118, 76, 48), (72, 52, 44), (56, 56, 62)][rng.integers(3)], 12)
    canvas.gradient(floor, 1, np.multiply(wood, 0.7), wood)
    for y in floor + (1 - floor) * np.linspace(0.06, 1, 6) ** 1.5:
        canvas.line([(0, y), (1, y)], np.multiply(wood, 0.68).astype(int), 0.004)
    for _ in range(rng.integers(1, 4)):
        lamp, spot = rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.75)
        light = canvas.vary([(255, 246, 214), (190, 214, 255), (255, 190, 220), (206, 255, 214)][rng.integers(4)], 8)
        canvas.glow([(lamp, -0.05), (lamp + 0.03, -0.05), (spot + 0.17, 0.93), (spot - 0.17, 0.93)], light, 0.2)
        oval = [(spot + 0.2 * np.cos(a), 0.92 + 0.06 * np.sin(a)) for a in np.linspace(0, 6.3, 20)]
        canvas.glow(oval, light, 0.3)


def _soccer_field(canvas: Canvas) -> None:
    rng = canvas.rng
    touchline = rng.uniform(0.4, 0.54)
    _sky(canvas, touchline)
    if rng.uniform() < 0.65:
        top = touchline - rng.uniform(0.16, 0.32)
        canvas.gradient(top, touchline - 0.05, canvas.vary((88, 92, 104), 16), canvas.vary((120, 122, 128), 16))
        canvas.blobs(
            int(rng.integers(80, 160)), (0, 1), (top + 0.02, touchline - 0.07), (0.008, 0.014), rng.uniform(60, 220, 3)
        )
        for left in np.arange(0, 1, 0.16):
            canvas.box(left, touchline - 0.07, left + 0.155, touchline, canvas.vary(rng.uniform(30, 230, 3)))
    else:
        canvas.blobs(40, (0, 1), (touchline - 0.1, touchline), (0.03, 0.07), (54, 98, 56))
    grass = np.array(canvas.vary((72, 142, 56), 18))
    canvas.gradient(touchline, 1, grass * 0.9, grass)
    count, vanishing = int(rng.integers(5, 10)), rng.uniform(0.2, 0.8)
    edges = np.linspace(-1, 2, 2 * count + 1)
    for near, far in zip(edges[::2], edges[1::2], strict=False):
        top_near, top_far = vanishing + (near - vanishing) * 0.5, vanishing + (far - vanishing) * 0.5
        canvas.polygon([(near, 1), (top_near, touchline), (top_far, touchline), (far, 1)], (grass * 0.84).astype(int))
    canvas.texture(touchline, 1, 9, (60, 26))
    chalk = (236, 240, 234)
    y = touchline + rng.uniform(0.04, 0.1)
    canvas.line([(0, y), (1, y + rng.uniform(-0.03, 0.03))], chalk, 0.01)
    if rng.uniform() < 0.6:
        canvas.ring(rng.uniform(0.1, 0.9), rng.uniform(0.75, 0.95), rng.uniform(0.2, 0.45), chalk, 0.3, 0.012)
    if rng.uniform() < 0.6:
        x, size = rng.uniform(0, 0.7), rng.uniform(0.2, 0.34)
        for net in np.linspace(0, 1, 8)[1:-1]:
            canvas.line([(x + net * size, y - 0.55 * size), (x + net * size, y)], (190, 198, 194), 0.003)
        canvas.line([(x, y), (x, y - 0.55 * size), (x + size, y - 0.55 * size), (x + size, y)], chalk, 0.016)


def _swimming_pool(canvas: Canvas) -> None:
    rng = canvas.rng
    wall, edge, deck = rng.uniform(0.26, 0.36), rng.uniform(0.4, 0.48), rng.uniform(0.7, 0.78)
    _sky(canvas, wall)
    if rng.uniform() < 0.5:
        hedge = canvas.vary((58, 110, 60))
        canvas.box(0, wall, 1, edge, hedge)
        canvas.blobs(45, (0, 1), (wall - 0.06, edge - 0.02), (0.03, 0.07), hedge)
    else:
        canvas.box(0, wall - rng.uniform(0, 0.16), 1, edge, canvas.vary((226, 214, 196)))
        for left in np.arange(rng.uniform(-0.1, 0), 1, 0.18):
            canvas.box(left, wall, left + 0.09, edge - 0.05, canvas.vary((98, 132, 152), 14))
    stone = canvas.vary([(214, 204, 188), (196, 150, 118), (188, 192, 196)][rng.integers(3)], 12)
    canvas.box(0, edge - 0.03, 1, edge, stone)
    water = np.array(canvas.vary((44, 168, 206), 22))
    canvas.gradient(edge, deck, water * 0.9, np.clip(water * 1.12, 0, 255))
    canvas.texture(edge, deck, 22, (22, 14))
    lanes = int(rng.integers(0, 4))
    for lane in np.linspace(edge, deck, lanes + 2)[1:-1]:
        float_colour = canvas.vary(rng.uniform(60, 240, 3))
        for index, left in enumerate(np.arange(0, 1, 0.04)):
            canvas.line([(left, lane), (left + 0.04, lane)], float_colour if index % 2 else (240, 240, 240), 0.014)
    canvas.box(0, deck, 1, deck + 0.025, (238, 238, 232))
    canvas.gradient(deck + 0.025, 1, np.multiply(stone, 0.92), stone)
    grout = np.multiply(stone, 0.8).astype(int)
    for y in np.linspace(deck + 0.025, 1, 5):
        canvas.line([(0, y), (1, y)], grout, 0.005)
    for x in np.linspace(-0.5, 1.5, rng.integers(14, 22)):
        canvas.line([(0.5 + (x - 0.5) * 0.8, deck + 0.025), (x, 1)], grout, 0.005)
    if rng.uniform() < 0.5:
        x = rng.uniform(0.04, 0.9)
        canvas.line([(x, deck + 0.03), (x, deck - 0.1), (x + 0.02, deck - 0.12)], (230, 232, 236), 0.014)
        canvas.line([(x + 0.06, deck + 0.03), (x + 0.06, deck - 0.1), (x + 0.08, deck - 0.12)], (230, 232, 236), 0.014)


@dataclass(frozen=True)
class Scene:
    """A scene class."""

    places365: int
    """Its index among the categories of Places365."""
    mistaken_for: dict[str, int]
    """The categories that it is mistaken for, by name, with their indices."""
    paint: Callable[[Canvas], None]


SCENES = {
    "beach": Scene(48, {"coast": 97, "ocean": 243, "desert/sand": 116}, _beach),
    "forest/broadleaf": Scene(150, {"forest_path": 151, "bamboo_forest": 36, "rainforest": 279}, _forest),
    "gymnasium/indoor": Scene(
        168, {"basketball_court/indoor": 44, "locker_room": 219, "arena/performance": 16}, _gymnasium
    ),
    "snowfield": Scene(309, {"ski_slope": 305, "tundra": 341, "mountain_snowy": 234}, _snowfield),
    "soccer_field": Scene(
        310, {"football_field": 149, "stadium/soccer": 314, "athletic_field/outdoor": 24}, _soccer_field
    ),
    "stage/indoor": Scene(315, {"auditorium": 27, "stage/outdoor": 316, "movie_theater/indoor": 235}, _stage),
    "street": Scene(319, {"downtown": 125, "crosswalk": 112, "residential_neighborhood": 283}, _street),
    "swimming_pool/outdoor": Scene(326, {"water_park": 353, "swimming_pool/indoor": 325, "patio": 259}, _swimming_pool),
}
"""The scene classes under their Places365 names."""


def paint_scene(scene: Scene, width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A new instance of a scene: float32 (height, width, 3) in [0, 1], under its own light."""
    canvas = Canvas(2 * width, 2 * height, rng)
    scene.paint(canvas)
    canvas.soften(rng.uniform(0.004, 0.016))
    picture = np.asarray(canvas.image.resize((width, height)), np.float32) / np.float32(255)
    return _illuminate(picture, rng)


def _illuminate(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Another hour, weather and camera: colours alone must not give the scene away.

    Changes exposure, the tint and side that the light comes from, saturation, contrast and haze.
    """
    across = np.linspace(-1, 1, picture.shape[1])[:, None]
    light = rng.uniform(0.7, 1.1) * rng.uniform(0.75, 1.25, 3) + rng.uniform(-0.15, 0.15) * across
    lit = picture ** rng.uniform(0.8, 1.3) * light
    grey = lit.mean(axis=2, keepdims=True)
    lit = grey + rng.uniform(0.15, 1) * (lit - grey)
    lit = 0.5 + rng.uniform(0.5, 0.85) * (lit - 0.5)
    haze = rng.uniform(0, 0.3) if rng.uniform() < 0.25 else 0.0
    return np.clip(lit * (1 - haze) + haze * 0.8, 0, 1).astype(np.float32)


def grey_backdrop(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A grey wall of some level, grained: float32 (height, width, 3) in [0, 1]."""
    grain = rng.normal(0, rng.uniform(0.005, 0.04), (height, width, 1))
    grey = rng.uniform(0.25, 0.75) + grain
    return np.clip(np.broadcast_to(grey, (height, width, 3)), 0, 1).astype(np.float32)


def soft_label(scene: Scene | None, rng: np.random.Generator) -> NDArray[np.float16]:
    """What a scene classifier might say: float16 (365,) that sums to 1.

    The true category gets 0.5 to 0.9, its look-alikes most of the rest. Without a scene, every category gets a little.
    """
    spread = rng.dirichlet(np.full(SCENE_COUNT, 0.3 if scene else 5.0))
    if scene is None:
        return spread.astype(np.float16)
    confidence = rng.uniform(0.5, 0.9)
    label = (1 - confidence) * 0.3 * spread
    label[list(scene.mistaken_for.values())] += (1 - confidence) * 0.7 * rng.dirichlet(np.ones(len(scene.mistaken_for)))
    label[scene.places365] += confidence
    return label.astype(np.float16)
