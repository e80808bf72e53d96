"""A picture to paint a scene on, in coordinates from 0 (left, top) to 1 (right, bottom)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = Sequence[int] | NDArray[np.float64]
Point = tuple[float, float]


class Canvas:
    """Paints shapes, gradients and textures; every random choice comes from ``rng``."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.image = Image.new("RGB", (width, height))
        self._draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.width, y * self.height) for x, y in points]

    def _rows(self, top: float, bottom: float) -> tuple[int, int]:
        first, last = (round(np.clip(edge, 0, 1) * self.height) for edge in (top, bottom))
        return first, last

    def vary(self, colour: Colour, spread: float = 22.0) -> tuple[int, int, int]:
        """A colour near ``colour``: lighter or darker by up to twice ``spread``, each channel by up to ``spread``."""
        change = self.rng.uniform(-spread, spread) + self.rng.uniform(-spread, spread, 3)
        red, green, blue = np.clip(np.asarray(colour) + change, 0, 255).astype(int).tolist()
        return red, green, blue

    def gradient(self, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
        """Fill a band across the picture, one colour running into the other."""
        first, last = self._rows(top, bottom)
        share = np.linspace(0, 1, max(last - first, 1))[:, None, None]
        band = np.asarray(upper) * (1 - share) + np.asarray(lower) * share
        band = np.broadcast_to(band, (len(share), self.width, 3)).astype(np.uint8)
        self.image.paste(Image.fromarray(np.ascontiguousarray(band)), (0, first))

    def texture(self, top: float, bottom: float, strength: float, cells: tuple[int, int]) -> None:
        """Lighten and darken a band by smooth noise of ``cells`` (columns, rows)."""
        first, last = self._rows(top, bottom)
        if last <= first:
            return
        noise = Image.fromarray(self.rng.uniform(-strength, strength, (cells[1], cells[0])).astype(np.float32))
        smooth = np.asarray(noise.resize((self.width, last - first), Image.Resampling.BICUBIC))[..., None]
        band = np.asarray(self.image.crop((0, first, self.width, last))).astype(np.float32) + smooth
        self.image.paste(Image.fromarray(np.clip(band, 0, 255).astype(np.uint8)), (0, first))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        if right > left and bottom > top:
            self._draw.rectangle(self._pixels([(left, top), (right, bottom)]), fill=tuple(colour))

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._pixels(points), fill=tuple(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float = 0.006) -> None:
        """Draw connected lines; ``width`` is in picture heights."""
        self._draw.line(
            self._pixels(points), fill=tuple(colour), width=max(1, round(width * self.height)), joint="curve"
        )

    def ellipse(self, x: float, y: float, radius: float, colour: Colour, flatness: float = 1.0) -> None:
        """Fill an ellipse of ``radius`` picture heights across; ``flatness`` is its height over its width."""
        centre_x, centre_y = x * self.width, y * self.height
        across, down = radius * self.height, radius * self.height * flatness
        box = (centre_x - across, centre_y - down, centre_x + across, centre_y + down)
        self._draw.ellipse(box, fill=tuple(colour))

    def ring(
        self, x: float, y: float, radius: float, colour: Colour, flatness: float = 1.0, width: float = 0.008
    ) -> None:
        """Draw the outline of an ellipse."""
        centre_x, centre_y = x * self.width, y * self.height
        across, down = radius * self.height, radius * self.height * flatness
        box = (centre_x - across, centre_y - down, centre_x + across, centre_y + down)
        self._draw.ellipse(box, outline=tuple(colour), width=max(1, round(width * self.height)))

    def blobs(self, count: int, x: Point, y: Point, radius: Point, colour: Colour, flatness: float = 1.0) -> None:
        """Scatter ellipses of like colours over a range of places."""
        for _ in range(count):
            place = self.rng.uniform(*x), self.rng.uniform(*y)
            self.ellipse(*place, self.rng.uniform(*radius), self.vary(colour, 10), flatness)

    def ridge(self, base: float, height: float, colour: Colour, points: int = 9) -> None:
        """A jagged skyline that rises up to ``height`` above ``base``."""
        x = np.linspace(-0.05, 1.05, points)
        y = base - height * self.rng.uniform(0.15, 1, points)
        self.polygon([(-0.05, base), *zip(x.tolist(), y.tolist(), strict=True), (1.05, base)], colour)

    def soften(self, radius: float) -> None:
        """Blur everything painted so far; ``radius`` is in picture heights."""
        self.image = self.image.filter(ImageFilter.GaussianBlur(radius * self.height))
        self._draw = ImageDraw.Draw(self.image)

    def glow(self, points: Sequence[Point], colour: Colour, strength: float) -> None:
        """Add light inside a polygon, with soft edges."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._pixels(points), fill=round(255 * strength))
        mask = mask.filter(ImageFilter.GaussianBlur(0.02 * self.height))
        self.image.paste(Image.new("RGB", self.image.size, tuple(colour)), mask=mask)
        self._draw = ImageDraw.Draw(self.image)
