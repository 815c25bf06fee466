"""Street scenes drawn with exact labels, in CamVid's folder layout: data that is always at hand.

    python main.py sample

A scene is a small 3-D street seen by a pinhole camera: ground and walls are textured by solving
each pixel's ray, everything else is polygons in metres, painted from far to near. Picture and
label are painted through the same mask, so the label is right to the pixel.

Colours are drawn from palettes that classes share (grey houses, grey roads, grey skies; green
cars, green fences, trees), so that texture, shape and place tell the classes apart, not colour.
"""

import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seg.classes import CAMVID, write_classes
from seg.files import InputError

(SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PERSON, BICYCLIST, VOID, _) = range(
    len(CAMVID)
)

GREY = [(0.30, 0.30, 0.31), (0.45, 0.45, 0.46), (0.58, 0.57, 0.56), (0.70, 0.71, 0.72)]
WARM = [(0.56, 0.34, 0.26), (0.66, 0.46, 0.36), (0.74, 0.64, 0.48), (0.82, 0.76, 0.64)]
GREEN = [(0.24, 0.36, 0.18), (0.34, 0.44, 0.20), (0.46, 0.50, 0.26), (0.20, 0.32, 0.24)]
BLUE = [(0.46, 0.58, 0.70), (0.26, 0.36, 0.52), (0.62, 0.72, 0.80)]
AUTUMN = [(0.62, 0.42, 0.18), (0.58, 0.30, 0.16)]
DARK = [(0.14, 0.14, 0.16), (0.20, 0.17, 0.16)]
VIVID = [(0.72, 0.14, 0.12), (0.84, 0.68, 0.16), (0.16, 0.32, 0.66), (0.88, 0.88, 0.86)]
SKIN = [(0.86, 0.66, 0.54), (0.62, 0.44, 0.32), (0.40, 0.28, 0.20)]

# Light: (sky at the top, sky at the horizon, gain on the ground, sun or not)
LIGHTS = [
    ((0.30, 0.50, 0.80), (0.72, 0.82, 0.90), (1.06, 1.02, 0.94), True),  # clear day
    ((0.46, 0.60, 0.78), (0.84, 0.86, 0.86), (1.00, 1.00, 1.00), True),  # hazy day
    ((0.62, 0.64, 0.68), (0.80, 0.81, 0.82), (0.90, 0.92, 0.96), False),  # overcast
    ((0.52, 0.53, 0.56), (0.66, 0.66, 0.66), (0.78, 0.80, 0.84), False),  # rain coming
    ((0.36, 0.40, 0.60), (0.94, 0.70, 0.50), (0.92, 0.78, 0.68), True),  # dusk
]
CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 18)[:-1]) for f in (np.cos, np.sin)], -1)


class Scene:
    """Camera, canvas and light of one scene; world axes are x right, y up, z ahead, in metres.

    The road's middle is x = bend * z**2: the street curves, the camera looks straight ahead.
    """

    def __init__(self, seed, size):
        self.rng = rng = np.random.default_rng(seed)
        self.h, self.w = size
        self.focal = self.h * rng.uniform(0.85, 1.1)  # pixels
        self.horizon = self.h * rng.uniform(0.42, 0.56)
        self.vanish = self.w * rng.uniform(0.38, 0.62)
        self.eye = rng.uniform(1.4, 2.3)
        self.bend = rng.choice([0, rng.uniform(-0.012, 0.012)])
        self.side = rng.uniform(-1.5, 1.5)  # of the camera on the road
        self.u = (np.arange(self.w) + 0.5 - self.vanish)[None] / self.focal  # rays: x / z
        self.v = (np.arange(self.h) + 0.5 - self.horizon)[:, None] / self.focal  # -y / z
        *light, sun = LIGHTS[rng.integers(len(LIGHTS))]
        self.zenith, self.haze, self.gain = np.float32(light)
        self.clear = rng.uniform(50, 250)  # metres until the haze has swallowed 63 %
        self.sun = rng.choice([-1, 1]) if sun else 0  # the side it stands on, 0 behind clouds
        self.half = half = rng.uniform(2.7, 3.7)  # of the road's width
        self.fronts = {side: side * (half + rng.uniform(2.2, 4.5)) for side in (-1, 1)}  # houses' x
        self.end = rng.uniform(35, 90)  # where houses close the view
        z = rng.uniform(10, 25)
        self.turning = (rng.choice([-1, 1, 0, 0, 0]), z, z + rng.uniform(6, 9))  # side road, or 0
        self.image = np.zeros((self.h, self.w, 3), np.float32)
        self.label = np.full((self.h, self.w), VOID, np.uint8)
        self.fine, self.leaf, self.soft = self.noise(120), self.noise(50), self.noise(9)

    def noise(self, rows):
        """Smooth noise (H, W) of -1..1 in lumps of 1 / rows of the height."""
        cells = self.rng.uniform(-1, 1, (rows, rows * 3 // 2)).astype(np.float32)
        return np.asarray(Image.fromarray(cells).resize((self.w, self.h), Image.BICUBIC))

    def pick(self, *palettes, spread=0.06):
        """A colour near one of the palettes' colours."""
        colours = [colour for palette in palettes for colour in palette]
        tint, tone = self.rng.uniform(-spread, spread, 3), self.rng.uniform(-spread, spread)
        return np.clip(colours[self.rng.integers(len(colours))] + tint + tone, 0.03, 0.97)

    def paint(self, mask, label, colour, shade=1.0, z=0.0, alpha=1.0):
        """Colours and labels the mask. Colour (3), and shade, z (for the haze) and alpha, are
        constants, maps (H, W) or lists (N) of the mask's N pixels."""
        at = np.flatnonzero(mask)

        def column(value):
            value = np.asarray(value)
            return value.reshape(-1)[at, None] if value.ndim == 2 else value.reshape(-1, 1)

        colour = colour.reshape(-1, 3)[at] if np.ndim(colour) == 3 else np.asarray(colour)
        colour = colour * column(shade) * self.gain
        colour = colour + (self.haze - colour) * (1 - np.exp(column(z) / -self.clear))
        pixels = self.image.reshape(-1, 3)
        pixels[at] = pixels[at] * (1 - column(alpha)) + colour * column(alpha)
        self.label.reshape(-1)[at] = label

    def project(self, points):
        """World (N, 3) -> pixels (N, 2)."""
        x, y, z = np.asarray(points, float).T
        u, v = (x - self.side + self.bend * z**2) / z, (self.eye - y) / z
        return np.stack([u * self.focal + self.vanish, v * self.focal + self.horizon], -1)

    def mask(self, points):
        """Bool (H, W): the pixels of a polygon in the world."""
        canvas = Image.new('L', (self.w, self.h))
        ImageDraw.Draw(canvas).polygon(self.project(points).ravel().tolist(), fill=1)
        return np.asarray(canvas).view(bool)

    def flat(self, label, colour, x, z, points, shade=1.0):
        """Paints an upright polygon that faces the camera; points (N, 2) are right and up of
        (x, z)."""
        points = np.asarray(points, float)
        world = np.column_stack([x + points[:, 0], points[:, 1], np.full(len(points), z)])
        self.paint(self.mask(world), label, colour, shade, z)

    def shadow(self, x, z, radius, length=None, strength=0.55):
        """Darkens the ground below a thing; the ground keeps its label."""
        ring = np.column_stack(
            [x + CIRCLE[:, 0] * radius, 0 * CIRCLE[:, 0], z + CIRCLE[:, 1] * (length or radius)]
        )
        if ring[:, 2].min() > 1:
            mask = self.mask(ring) & ((self.label == ROAD) | (self.label == PAVEMENT))
            self.image.reshape(-1, 3)[np.flatnonzero(mask)] *= strength

    def wall(self, x):
        """The upright wall along the street at x: its z for each column (1, W), its y (H, W)."""
        x = x - self.side
        with np.errstate(all='ignore'):
            root = np.sqrt(self.u**2 - 4 * self.bend * x)
            z = np.stack([2 * x / (self.u + root), 2 * x / (self.u - root)])
            z = np.where(z > 0, z, np.inf).min(0)  # nan and behind: never hit
            return z, self.eye - self.v * z

    def stretch(self, x, z0, z1, top):
        """The wall at x between z0 and z1: mask (H, W), and the z and y (N) of its pixels."""
        z, y = self.wall(x)
        mask = (z > z0) & (z < z1) & (y > -0.02) & (y < top)
        return mask, np.broadcast_to(z, mask.shape)[mask], y[mask]


def bar(x0, y0, x1, y1, width):
    """The corners of a straight bar between two points."""
    along = np.array([x1 - x0, y1 - y0])
    across = np.array([-along[1], along[0]]) / np.hypot(*along) * width / 2
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return [a + across, b + across, b - across, a - across]


def box(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


UNIT = box(0, 0, 1, 1)


def disc(x, y, radius):
    return CIRCLE * radius + (x, y)


def sky(s):
    """Gradient and clouds."""
    blend = np.clip(1 - s.v / s.v[0], 0, 1)[..., None] ** 1.3
    colour = s.zenith * (1 - blend) + s.haze * blend
    cloud = np.clip(s.noise(4) + 0.5 * s.soft + 0.25 * s.noise(20) + s.rng.uniform(-0.6, 0.5), 0, 1)
    white = s.haze * 0.4 + 0.6 * s.haze.mean() + 0.06
    colour = colour + (white - colour) * cloud[..., None] * s.rng.uniform(0.4, 0.9)
    s.paint(np.ones((s.h, s.w), bool), SKY, colour / s.gain)  # it is the light


def ground(s):
    """Asphalt with its markings, kerbs, pavements, perhaps a side road and a crossing."""
    with np.errstate(divide='ignore'):
        z = np.where(s.v > 0, s.eye / s.v, np.inf)
    below = np.broadcast_to(z < 400, (s.h, s.w))
    z = np.broadcast_to(np.minimum(z, 400), (s.h, s.w))
    x = s.u * z + s.side - s.bend * z**2
    (side, z0, z1), half, rng = s.turning, s.half, s.rng
    road = (np.abs(x) < half) | ((x * side > 0) & (z > z0) & (z < z1))
    shade = 1 + 0.07 * s.fine + 0.05 * s.soft
    if s.sun:  # the houses on its side throw their shadow over the street
        shade = shade * np.where(x * s.sun > rng.uniform(-1, 5), 0.68, 1.0)
    slab = (x % 1.2 < 0.09) | (z % 1.2 < 0.1)  # joints of the paving
    paving = shade * np.where(slab, 1 - 0.25 * np.exp(-z / 15), 1.03)
    s.paint(below, PAVEMENT, s.pick(GREY[1:], WARM), paving, z)
    asphalt = s.pick(GREY[:3] * 3, WARM[:1], spread=0.04)
    tyre = 1 - 0.08 * np.exp(-((np.abs(np.abs(x) - half / 2) - 0.8) ** 2) * 6)
    s.paint(below & road, ROAD, asphalt, shade * tyre, z)
    kerb = (np.abs(x) >= half) & (np.abs(x) < half + 0.22) & ~road
    s.paint(below & kerb, PAVEMENT, asphalt + 0.18, shade, z)
    lines = (np.abs(x) < 0.08 + z / s.focal / 2) & (z % 5 < 3)
    if rng.random() < 0.6:
        lines |= np.abs(np.abs(x) - half + 0.35) < 0.06 + z / s.focal / 3
    if rng.random() < 0.35:
        start = rng.uniform(6, 14)
        lines |= (z > start) & (z < start + 3) & (x % 1.2 < 0.6)
    paint = (0.88, 0.88, 0.86) if rng.random() < 0.75 else (0.86, 0.72, 0.30)
    s.paint(below & lines & road, ROAD, paint, shade * (1 + 0.12 * s.leaf), z)


def house(s):
    """The look of one building; metres."""
    rng = s.rng
    return SimpleNamespace(
        height=rng.uniform(4.5, 9) if rng.random() < 0.65 else rng.uniform(9, 17),
        colour=s.pick(GREY, GREY, WARM, WARM, WARM, BLUE[:1], GREEN[2:3]),
        glass=s.pick(DARK, BLUE, GREY[:2]),
        trim=s.pick(GREY[2:], VIVID[3:], DARK),
        roof=s.pick(DARK, GREY[:2], WARM[:2]),
        front=s.pick(VIVID, DARK, GREEN, GREY),
        peak=rng.choice([0, rng.uniform(1, 2.4)]),
        brick=rng.random() < 0.6,
        pitch=rng.uniform(1.8, 3.4),  # metres from window to window
        open=rng.uniform(0.4, 0.62),  # of that is window
        floor=rng.uniform(2.7, 3.3),
        shop=rng.random() < 0.4,
        lit=rng.uniform(0, 0.5) if s.gain[0] < 0.95 else 0,
        offset=rng.uniform(0, 50),
    )


def facade(s, mask, a, y, z, look, shade):
    """Paints a building's wall where mask says; metres a along it, y up, z away, each (N)."""
    a = a + look.offset
    far = np.exp(-z / 25)  # joints and bricks fade with distance
    light = shade * (1 + 0.04 * s.soft[mask])
    wall, top = y < look.height, look.height - 0.35
    colour = np.empty((len(a), 3), np.float32)

    def put(where, what, gain=1.0):
        colour[where] = (what * np.broadcast_to(light * gain, a.shape)[:, None])[where]

    put(~wall, look.roof, 1 + 0.2 * far * (y % 0.5 < 0.15))
    joint = (y % 0.3 < 0.07) | ((a + np.floor(y / 0.3) % 2 * 0.35) % 0.7 < 0.07)
    put(wall, look.colour, 1 + 0.05 * s.fine[mask] + look.brick * (0.05 - 0.3 * far * joint))
    column, level = a % look.pitch / look.pitch, y % look.floor / look.floor
    across, storey = np.abs(column - 0.5), np.floor(y / look.floor)
    upper = wall & (storey >= look.shop) & ((storey + 1) * look.floor < look.height + 0.25)
    put(upper & (across < look.open / 2 + 0.04) & (np.abs(level - 0.55) < 0.31), look.trim)
    pane = upper & (across < look.open / 2) & (np.abs(level - 0.55) < 0.27)
    pane &= (across > 0.03) & (np.abs(level - 0.55) > 0.025)
    which = np.floor(a / look.pitch) * 7 + storey * 3 + look.offset  # no two windows alike
    put(pane, look.glass, 0.75 + 0.35 * np.sin(which * 12.9) ** 2 + 0.25 * level)
    colour[pane & (np.sin(which * 78.2) ** 2 < look.lit)] = (1.0, 0.84, 0.5)
    put(wall & (y > top), look.trim, 0.9)  # cornice
    low = wall & (y < look.floor)
    if look.shop:
        put(low, look.front, 0.9)
        show = low & (y > 0.5) & (y < look.floor * 0.72) & (a % 2.4 > 0.3)
        put(show, look.glass * 0.9 + 0.08, 1 + 0.15 * s.leaf[mask])
        put(low & (y > look.floor * 0.8) & (np.abs(a % 4.8 - 2.4) < 1.5), look.trim)  # name
    else:
        put(low & (y < 2.1) & (a % (look.pitch * 3) < 1.0), look.front, 0.9)  # doors
    s.paint(mask, BUILDING, colour, z=z)


def front(s, look, x0, x1, z, shade=0.9):
    """The wall of a building that faces the camera, from x0 to x1."""
    x, y = s.u * z + s.side - s.bend * z**2, s.eye - s.v * z
    mask = (x > x0) & (x < x1) & (y > -0.05) & (y < look.height + look.peak)
    x, y = (np.broadcast_to(value, mask.shape)[mask] for value in (x, y))
    facade(s, mask, x, y, np.full(len(x), z), look, shade)


def crown(s, x, y, z, radius, colour):
    """A leafy crown: a few round lumps with ragged rims, lit from above."""
    rng = s.rng
    (u, v), r = s.project([(x, y, z)])[0], radius * s.focal / z
    rows, cols = (
        slice(*np.clip([c - 1.6 * r, c + 1.6 * r], 0, n).astype(int))
        for c, n in ((v, s.h), (u, s.w))
    )
    right, down = (np.arange(s.w)[None, cols] - u) / r, (np.arange(s.h)[rows, None] - v) / r
    dx, dy, size = rng.uniform((-0.6, -0.5, 0.45), (0.6, 0.5, 0.7), (5, 3)).T[..., None, None]
    d = ((right - dx) ** 2 + (down - dy) ** 2) / size**2  # (5 lumps, h, w)
    light = np.take_along_axis((dy - down) / size + 0 * d, d.argmin(0)[None], 0)[0]
    texture = 0.6 * s.leaf[rows, cols] + 0.5 * s.fine[rows, cols]
    inside = d.min(0) + 0.45 * texture < 1
    mask = np.zeros((s.h, s.w), bool)
    mask[rows, cols] = inside
    shade = 0.85 + 0.22 * light + 0.07 * s.sun * right + 0.42 * texture
    s.paint(mask, TREE, colour, shade[inside].clip(0.3, 1.6), z)


def tree(s, x, z, size=1.0, colour=None):
    """Trunk and crown, both Tree."""
    rng = s.rng
    height, radius = rng.uniform(2.2, 3.6) * size, rng.uniform(1.3, 2.1) * size
    s.shadow(x, z, radius * 0.8, strength=0.75)
    bark = s.pick(DARK, GREY[:2], WARM[:1])
    s.flat(TREE, bark, x, z, bar(0, 0, 0.1, height, 0.34 * size), 0.9 + 0.2 * s.fine)
    colour = s.pick(GREEN, GREEN, AUTUMN[:1] + GREEN) if colour is None else colour
    crown(s, x, height + radius * 0.55, z, radius, colour)


def hedge(s, x, z0, z1, height, colour):
    """A leafy wall along the street."""
    mask, z, y = s.stretch(x, z0, z1, height * (1 + 0.12 * s.leaf))
    shade = 0.75 + 0.32 * s.leaf[mask] + 0.3 * s.fine[mask] + 0.12 * y / height
    s.paint(mask, TREE, colour, shade, z)


def fence(s, x, z0, z1):
    """Slats, railings or mesh along the street; what shows between is Fence as well."""
    rng = s.rng
    height, colour = rng.uniform(1.2, 1.9), s.pick(GREEN, GREY[2:], WARM[2:], VIVID[3:])
    kind, pitch = rng.integers(3), rng.uniform(0.3, 0.5)
    mask, z, y = s.stretch(x, z0, z1, height)
    solid = (z % pitch < pitch * (0.6, 0.35, 0.25)[kind]) | (z % 2.4 < 0.2)
    solid |= (np.abs(y - 0.92 * height) < 0.07) | (np.abs(y - 0.2 * height) < 0.06)
    if kind == 2:  # mesh of slanting wires
        solid |= ((z + y) % 0.5 < 0.14) | ((z - y) % 0.5 < 0.14)
    shade = np.where(solid, 0.95 + 0.1 * s.fine[mask], 0.35)
    s.paint(mask, FENCE, colour, shade, z, np.where(solid, 1, (0.9, 0.75, 0.7)[kind]))


def walls(s):
    """Both rows of houses and the gaps between them, from far to near."""
    rng, rows = s.rng, []
    turning, start, stop = s.turning
    for side in (-1, 1):
        z = rng.uniform(3, 8)
        while z < s.end:
            if side == turning and start <= z < stop:
                z = stop
            end = z + rng.uniform(6, 15)
            if side == turning and z < start < end:
                end = start
            kind = rng.choice(['house', 'fence', 'hedge'], p=[0.58, 0.30, 0.12])
            rows.append((z, end, side, kind))
            z = end
    for z0, z1, side, kind in sorted(rows, key=lambda row: -row[0]):
        x = s.fronts[side]
        if kind == 'house':
            look = house(s)
            front(s, look, *sorted([x, x + side * 12]), z0)
            mask, z, y = s.stretch(x, z0, z1, look.height + look.peak)
            facade(s, mask, z, y, z, look, (0.72, 1.0, 1.05)[1 - side * s.sun])
            continue
        hedge(s, x + side * 3, z0 - 3, z1 + 3, rng.uniform(1.2, 3), s.pick(GREEN, GREEN, AUTUMN))
        for z in np.sort(rng.uniform(z0, z1, rng.integers(1, 3)))[::-1]:
            tree(s, x + side * rng.uniform(2, 5), z, rng.uniform(0.8, 1.5))
        if kind == 'fence':
            fence(s, x, z0, z1)
        else:
            hedge(s, x, z0, z1, rng.uniform(0.9, 1.8), s.pick(GREEN))


def backdrop(s):
    """What closes the view: far houses and trees around the vanishing point."""
    x = -0.8 * s.end
    while x < 0.8 * s.end:
        width, z = s.rng.uniform(6, 20), s.end + s.rng.uniform(0, 15)
        if s.rng.random() < 0.6:
            front(s, house(s), x, x + width, z)
        else:
            colour = s.pick(GREEN)
            for offset in s.rng.uniform(0, width, 2):
                tree(s, x + offset, z, 1.8, colour)
        x += width * 0.8


def car(s, x, z, yaw):
    """A car at any yaw, a tapered cabin on a body; windows, lamps and wheels are Car too."""
    rng = s.rng
    colour, glass = s.pick(GREY, VIVID, BLUE, GREEN[2:], DARK), s.pick(DARK, DARK, BLUE[1:2])
    van, end, wide = rng.random() < 0.2, rng.uniform(1.85, 2.3), 0.86
    rear, roof = (0.05, rng.uniform(1.9, 2.2)) if van else (0.35, rng.uniform(1.4, 1.6))
    sin, cos = np.sin(yaw), np.cos(yaw)

    def corners(back, ahead, wide, y):  # (4, 3): back left, front left, front right, back right
        a, b = np.array([back, ahead, ahead, back]), np.array([-1, -1, 1, 1]) * wide
        return np.stack([x + a * sin + b * cos, np.full(4, y), z + a * cos - b * sin], 1)

    def part(face, colour, shade, points=UNIT):  # points (N, 2) of 0..1 across and up the face
        (p, q), (a, b, c, d) = np.array(points).T[..., None], face
        world = (a * (1 - p) + b * p) * (1 - q) + (d * (1 - p) + c * p) * q
        s.paint(s.mask(world), CAR, colour, shade * (1 + 0.05 * s.fine), z)

    s.shadow(x, z, 1.1 + 1.2 * abs(sin), 1.1 + 1.2 * abs(cos), 0.5)
    body = corners(-end, end, wide, 0.28), corners(-end, end, wide, 0.9)
    cabin = (
        corners(rear - end, end - 0.6, wide * 0.95, 0.88),
        corners(rear + 0.3 - end, end - 1.3, wide * 0.75, roof),
    )
    for low, high in (body, cabin):
        faces = [(i, np.stack([low[i], low[i - 3], high[i - 3], high[i]])) for i in range(4)]
        faces.sort(key=lambda face: -np.hypot(*(face[1].mean(0)[[0, 2]] - (s.side, 0))))
        for i, face in faces[1:]:  # the farthest is never seen
            if low is cabin[0]:
                part(face, colour, 0.9)
                part(face, glass, 1.05, box(0.08, 0.12, 0.92, 0.85))
            elif i % 2 == 0:  # the long sides
                part(face, colour, 0.85)
                for hub in (0.2, 0.8):
                    for radius, grey in ((0.36, 0.07), (0.18, 0.5)):
                        wheel = CIRCLE * (radius / end / 2, radius / 0.62) + (hub, 0.1)
                        part(face, (grey,) * 3, 1.0, wheel)
            else:  # front and rear
                for left in (0, 0.86):
                    part(face, (0.06,) * 3, 1.0, box(left, -0.45, left + 0.14, 0.1))  # tyres
                part(face, colour, 0.78)
                for left in (0, 0.82):
                    lamp = (0.95, 0.94, 0.85) if i == 1 else (0.75, 0.08, 0.08)
                    part(face, lamp, 1.0, box(left, 0.5, left + 0.18, 0.88))
                part(face, (0.9, 0.85, 0.5), 1.0, box(0.34, 0.2, 0.66, 0.45))  # number plate
        part(high, colour, 1.12)


def person(s, x, z):
    """Someone standing or walking, seen from any side."""
    rng = s.rng
    k = rng.uniform(0.95, 1.12)
    coat, legs = s.pick(WARM, BLUE, DARK, VIVID, VIVID), s.pick(DARK, BLUE[1:2], GREY[:1])
    skin, hair = s.pick(SKIN, spread=0.04), s.pick(DARK, WARM[:1], GREY[2:])
    step, swing, wide = rng.uniform(0.04, 0.3), rng.uniform(0.02, 0.25), rng.uniform(0.23, 0.29)

    def part(colour, points, shade=1.0):
        s.flat(PERSON, colour, x, z, np.asarray(points) * k, shade)

    s.shadow(x, z, 0.4, 0.3)
    for sign in (-1, 1):
        part(legs, bar(sign * 0.09, 0.85, sign * (0.07 + step), 0.06, 0.2), 0.85 + 0.15 * sign)
        part((0.1, 0.1, 0.1), box(sign * (0.07 + step) - 0.1, 0, sign * (0.07 + step) + 0.12, 0.1))
        part(coat, bar(sign * wide * 0.9, 1.38, sign * (wide + swing), 0.82, 0.13), 0.8)
        part(skin, disc(sign * (wide + swing), 0.78, 0.07))
    hem = rng.choice([0.8, 0.8, 0.5])  # jacket or coat
    back = [(-wide, hem), (wide, hem), (wide, 1.4), (0.1, 1.5), (-0.1, 1.5), (-wide, 1.4)]
    part(coat, back, 1 + 0.15 * s.leaf)
    if rng.random() < 0.4:
        part(s.pick(VIVID, DARK), box(wide - 0.06, 0.7, wide + 0.26, 1.05))  # bag
    part(hair, disc(0, 1.66, 0.145))
    part(skin, disc(rng.uniform(-0.05, 0.05), 1.62, 0.115))


def bicyclist(s, x, z):
    """Rider and bicycle from the side, shortened by the angle they ride at."""
    rng = s.rng
    turn = rng.choice([-1, 1]) * rng.uniform(0.6, 1.0)
    shirt, trousers = s.pick(WARM, BLUE, VIVID, VIVID), s.pick(DARK, BLUE[1:2], GREY)
    metal, skin = s.pick(VIVID, GREY, DARK), s.pick(SKIN, spread=0.04)

    def part(colour, points, shade=1.0):
        s.flat(BICYCLIST, colour, x, z, np.asarray(points) * (turn, 1), shade)

    s.shadow(x, z, 0.9 * abs(turn), 0.3)
    for hub in (-0.55, 0.55):
        part((0.06, 0.06, 0.06), disc(hub, 0.35, 0.36))
        part(s.pick(GREY[1:3], spread=0.03), disc(hub, 0.35, 0.26), 1 + 0.3 * s.fine)
        part((0.1, 0.1, 0.1), disc(hub, 0.35, 0.06))
    frame = [
        (-0.55, 0.35, -0.1, 0.4),
        (-0.1, 0.4, -0.25, 0.9),
        (-0.25, 0.85, 0.4, 0.85),
        (-0.1, 0.4, 0.4, 0.85),
        (0.55, 0.35, 0.38, 1.0),
    ]
    for line in frame:
        part(metal, bar(*line, 0.09))
    pedal = rng.uniform(-0.08, 0.12)
    part(trousers, bar(-0.22, 0.98, 0.14, 0.72 + pedal, 0.2))
    part(trousers, bar(0.14, 0.74 + pedal, 0.0, 0.3 + pedal, 0.15), 0.85)
    back = [(-0.38, 0.9), (-0.1, 0.88), (0.28, 1.34), (0.14, 1.52), (-0.05, 1.5)]
    part(shirt, back, 1 + 0.15 * s.leaf)
    part(shirt, bar(0.16, 1.4, 0.42, 1.06, 0.13), 0.85)
    part(skin, disc(0.28, 1.64, 0.14))
    helmet = [(0.12, 1.66), (0.46, 1.68), (0.4, 1.82), (0.2, 1.84)]
    part(s.pick(VIVID, DARK, GREY), helmet)


def pole(s, x, z, height, width=0.2, colour=None):
    """An upright pole, two pixels wide at least (at 120 rows)."""
    width = max(width, 2.2 / 120 * s.h / s.focal * z)
    colour = s.pick(GREY[:2], DARK, GREEN[3:]) if colour is None else colour
    s.flat(POLE, colour, x, z, box(-width / 2, 0, width / 2, height), 0.75)
    s.flat(POLE, colour, x, z, box(-width / 2, 0, -width / 8, height), 1.35)  # it is round
    return width, colour


def lamp(s, x, z):
    """A street lamp whose arm reaches over the road."""
    height, reach = s.rng.uniform(4.5, 8), -np.sign(x) * s.rng.uniform(0.8, 1.8)
    width, colour = pole(s, x, z, height, s.rng.uniform(0.24, 0.34))
    s.flat(POLE, colour, x, z, bar(0, height, reach, height + 0.35, width * 0.9))
    s.flat(POLE, colour * 0.6, x, z, box(reach - 0.35, height + 0.22, reach + 0.35, height + 0.5))


def sign(s, x, z):
    """A traffic sign, signboard or traffic light on a pole."""
    rng = s.rng
    top, r = rng.uniform(2.2, 3.2), rng.uniform(0.42, 0.58)
    pole(s, x, z, top + r)

    def part(colour, points):
        s.flat(SIGN, colour, x, z, points)

    white, red, blue, yellow = VIVID[3], VIVID[0], VIVID[2], VIVID[1]
    kind = rng.integers(6)
    if kind == 0:  # a limit
        part(red, disc(0, top, r))
        part(white, disc(0, top, r * 0.72))
        part(DARK[0], box(-r * 0.35, top - r * 0.3, r * 0.35, top + r * 0.3))
    elif kind == 1:  # a warning
        for colour, k in ((red, r * 1.2), (white, r * 0.72)):
            part(colour, [(-k, top - k * 0.6), (k, top - k * 0.6), (0, top + k)])
    elif kind == 2:  # a mandatory direction
        part(white, disc(0, top, r))
        part(blue, disc(0, top, r * 0.88))
        part(white, bar(-r * 0.4, top - r * 0.3, r * 0.4, top + r * 0.3, r * 0.3))
    elif kind == 3:  # a direction board
        ground_colour = s.pick([blue, yellow, white], GREEN, WARM[:1])
        part(white, box(-r * 1.5, top - r * 0.8, r * 1.5, top + r * 0.8))
        part(ground_colour, box(-r * 1.4, top - r * 0.7, r * 1.4, top + r * 0.7))
        for y in (-0.3, 0.25):
            part(white, box(-r, top + r * y, r * rng.uniform(0.3, 1.1), top + r * (y + 0.2)))
    elif kind == 4:  # parking
        part(blue, box(-r * 0.9, top - r * 0.9, r * 0.9, top + r * 0.9))
        part(white, box(-r * 0.4, top - r * 0.6, -r * 0.1, top + r * 0.6))
        part(white, disc(r * 0.1, top + r * 0.25, r * 0.35))
    else:  # a traffic light
        part((0.08, 0.08, 0.08), box(-r * 0.65, top - r * 1.5, r * 0.65, top + r * 1.2))
        on = rng.integers(3)
        for i, colour in enumerate([(0.2, 0.9, 0.5), (1.0, 0.7, 0.1), (1.0, 0.15, 0.1)]):
            glow = np.array(colour) * (1.0 if i == on else 0.25)
            part(glow, disc(0, top + r * (0.82 * i - 1), r * 0.36))


def clutter(s, x, z):
    """Something that belongs to no class: a bin, a box, a bench."""
    colour, (wide, high) = s.pick(GREY, GREEN, WARM, DARK), s.rng.uniform((0.25, 0.5), (0.7, 1.1))
    s.shadow(x, z, wide, 0.4)
    s.flat(VOID, colour, x, z, box(-wide, 0, wide, high), 0.9 + 0.1 * s.fine)
    s.flat(VOID, colour * 0.7, x, z, box(-wide * 1.08, high * 0.85, wide * 1.08, high))


def furnish(s):
    """Pavements first, then what stands on the road, each from far to near."""
    rng, half = s.rng, s.half

    def spot(z0, z1, inner, outer):
        """A place on the pavement, far enough ahead to be in view."""
        x = rng.choice([-1, 1]) * (half + rng.uniform(inner, outer))
        return x, max(rng.uniform(z0, z1), abs(x - s.side) * 2 * s.focal / s.w + 0.8)

    def scatter(kind, low, high, z0, z1, inner, outer):  # evenly in depth: less hides less
        steps = np.linspace(z0, z1, rng.integers(low, high + 1) + 1)
        return [(kind, *spot(*pair, inner, outer)) for pair in pairwise(steps)]

    things = (
        scatter(lamp, 2, 3, 6, 24, 0.3, 0.7)
        + scatter(sign, 2, 3, 6, 15, 0.3, 1.0)
        + scatter(person, 3, 5, 5, 13, 0.6, 2.2)
        + scatter(tree, 1, 3, 10, 30, 0.7, 1.2)
        + scatter(clutter, 0, 2, 7, 18, 0.6, 2.0)
        + scatter(bicyclist, 0, 1, 5, 10, 0.8, 1.6)
    )
    for kind, x, z in sorted(things, key=lambda thing: -thing[2]):
        kind(s, x, z)
    if rng.random() < 0.6:  # a railing at the kerb
        side, z0 = rng.choice([-1, 1]), rng.uniform(5, 14)
        fence(s, side * (half + 0.15), z0, z0 + rng.uniform(5, 12))
    traffic, moving = [], []
    for side in (-1, 1):  # parked at the kerb
        z = rng.uniform(6, 18)
        while z < 35 and rng.random() < 0.62:
            yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.03)
            traffic.append((car, side * (half - 1.0), z, yaw))
            z += rng.uniform(5.5, 10)
    if rng.random() < 0.6:  # driving, on the left as in Cambridge
        side = rng.choice([-1, 1])
        moving.append((car, side * half * 0.4, rng.uniform(9, 30), 0 if side < 0 else np.pi))
    if rng.random() < 0.2:  # turning
        yaw = rng.uniform(0.3, 0.7) * np.pi * rng.choice([-1, 1])
        moving.append((car, rng.uniform(-1.5, 1.5), rng.uniform(9, 16), yaw))
    for one in moving:
        if all(abs(one[2] - other[2]) > 5 for other in traffic):  # cars do not run into cars
            traffic.append(one)
    for kind, most, count in ((bicyclist, 10, rng.integers(1, 3)), (person, 11, rng.integers(2))):
        for _ in range(count):
            traffic.append((kind, rng.uniform(-0.85, 0.85) * half, rng.uniform(5, most)))
    for kind, *place in sorted(traffic, key=lambda thing: -thing[2]):
        kind(s, *place)


def bonnet(s):
    """Our own car's bonnet, which CamVid leaves void."""
    (x, y), wide = (s.w * s.rng.uniform(0.35, 0.65), s.h * s.rng.uniform(0.93, 0.98)), s.w * 0.6
    row, col = np.mgrid[: s.h, : s.w]
    mask = row > y + ((col - x) / wide) ** 2 * s.h * 0.12
    s.paint(mask, VOID, s.pick(GREY, DARK, VIVID), 0.7 + 3 * (row - y) / s.h)


def expose(s):
    """The camera: exposure, white balance, tone curve, dark corners, lens, sensor noise."""
    rng = s.rng
    image = np.clip(s.image * rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3), 0.01, 1)
    image = image ** rng.uniform(0.85, 1.15) * (1 - 0.18 * (s.u**2 + s.v**2))[..., None]
    image = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8))
    image = np.asarray(
        image.filter(ImageFilter.GaussianBlur(0.35 * (s.h / 120) ** 0.5)), np.float32
    )
    image = image + rng.normal(0, rng.uniform(1, 4), image.shape)
    return image.clip(0, 255).astype(np.uint8)


def draw_scene(seed, size=(120, 160)):
    """Draws one street scene.

    Args:
        seed: int or sequence of ints; the same seed draws the same street at every size.
        size: (height, width) in pixels, about 4:3; 48x64 is the least that shows the poles.

    Returns: image uint8 (H, W, 3), label uint8 (H, W) of CAMVID's indices 0..11, exact.
    """
    s = Scene(seed, size)
    sky(s)
    ground(s)
    backdrop(s)
    walls(s)
    furnish(s)
    if s.rng.random() < 0.5:
        bonnet(s)
    return expose(s), s.label


def draw_camvid(folder, train=80, val=16, test=24, size=(120, 160), seed=0):
    """Draws a data set in CamVid's layout: train/, trainannot/, val/, valannot/, test/, testannot/.

    Args:
        folder: made here; appears only when it is complete.
        train, val, test: scenes in each split; no two scenes share a seed.
        size: (height, width) in pixels.
        seed: the same seed draws the same files.

    Returns: the folder, a Path.
    Raises: InputError when the folder holds something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'{folder} exists and is not empty; name a new folder or remove it first')
    part = folder.with_name(f'.{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        part.mkdir(parents=True)
        for index, (split, count) in enumerate((('train', train), ('val', val), ('test', test))):
            images, labels = part / split, part / f'{split}annot'
            images.mkdir()
            labels.mkdir()
            for i in range(count):
                image, label = draw_scene((seed, index, i), size)
                Image.fromarray(image).save(images / f'{split}_{i:04d}.png')
                Image.fromarray(label).save(labels / f'{split}_{i:04d}.png')
        write_classes(part / 'classes.csv', CAMVID)
        if folder.exists():
            folder.rmdir()  # the empty one; Windows renames onto nothing that exists
        return part.rename(folder)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(part, ignore_errors=True)
        raise
