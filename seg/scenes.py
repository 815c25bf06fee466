"""Street scenes drawn with exact labels, in CamVid's folder layout: data that is always at hand.
A scene is a small 3-D street seen by a pinhole camera: ground and walls are textured by solving
each pixel's ray, everything else is polygons in metres, painted from far to near, picture and label
through the same mask. Classes share palettes: texture, shape and place tell them apart, not colour.
"""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seg.classes import CAMVID
from seg.files import InputError, make_folder, not_written
from seg.tablefiles import write_classes

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PERSON, BICYCLIST, VOID = range(12)

GREY = [(0.30, 0.30, 0.31), (0.45, 0.45, 0.46), (0.58, 0.57, 0.56), (0.70, 0.71, 0.72)]
WARM = [(0.56, 0.34, 0.26), (0.66, 0.46, 0.36), (0.74, 0.64, 0.48), (0.82, 0.76, 0.64)]
GREEN = [(0.24, 0.36, 0.18), (0.34, 0.44, 0.20), (0.46, 0.50, 0.26), (0.20, 0.32, 0.24)]
LEAVES = [*GREEN, *GREEN, (0.62, 0.42, 0.18), (0.58, 0.30, 0.16)]
BLUE = [(0.46, 0.58, 0.70), (0.26, 0.36, 0.52), (0.62, 0.72, 0.80)]
DARK = [(0.14, 0.14, 0.16), (0.20, 0.17, 0.16)]
BLACK, WHITE, RED = (0.08, 0.08, 0.08), (0.88, 0.88, 0.86), (0.72, 0.14, 0.12)
YELLOW, COBALT = (0.84, 0.68, 0.16), (0.16, 0.32, 0.66)
VIVID = [RED, YELLOW, COBALT, WHITE]

LIGHTS = [  # sky at the top, sky at the horizon, gain on the ground
    ((0.30, 0.50, 0.80), (0.72, 0.82, 0.90), (1.06, 1.02, 0.94)),  # clear day
    ((0.62, 0.64, 0.68), (0.80, 0.81, 0.82), (0.90, 0.92, 0.96)),  # overcast
    ((0.52, 0.53, 0.56), (0.66, 0.66, 0.66), (0.78, 0.80, 0.84)),  # rain coming
    ((0.36, 0.40, 0.60), (0.94, 0.70, 0.50), (0.92, 0.78, 0.68)),  # dusk
]


def disc(x, y, radius):
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], -1)


def box(x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def line(colour, points, width):
    """The parts of a figure that make a line: straight bars from point to point."""
    bars = []
    for a, b in pairwise(np.array(points)):
        across = (b - a)[::-1] * (-1, 1) / np.hypot(*(b - a)) * width / 2
        bars.append((colour, np.array([a + across, b + across, b - across, a - across])))
    return bars


class Scene:
    """Camera, canvas and light; in metres, x right of the road's middle, y up, z ahead."""

    def __init__(self, seed, size):
        self.rng = rng = np.random.default_rng(seed)
        self.h, self.w = size
        self.focal = self.h * rng.uniform(0.85, 1.1)  # pixels
        self.vanish = self.w * rng.uniform(0.38, 0.62), self.h * rng.uniform(0.42, 0.56)
        self.u = (np.arange(self.w)[None] + 0.5 - self.vanish[0]) / self.focal  # rays: x / z
        self.v = (np.arange(self.h)[:, None] + 0.5 - self.vanish[1]) / self.focal  # -y / z
        self.eye, self.side = rng.uniform((1.4, -1.5), (2.3, 1.5))  # y and x of the camera
        self.zenith, self.haze, self.gain = np.float32(LIGHTS[rng.integers(len(LIGHTS))])
        self.clear = rng.uniform(50, 250)  # metres until the haze has swallowed 63 %
        self.half, self.end = rng.uniform((2.7, 35), (3.7, 90))  # half the road, the view's end
        self.image = np.zeros((self.h, self.w, 3), np.float32)
        self.label = np.full((self.h, self.w), VOID, np.uint8)
        self.fine, self.leaf, self.soft = self.noise(120), self.noise(50), self.noise(9)

    def noise(self, rows):
        """Smooth noise (H, W) of -1..1 in lumps of 1 / rows of the height."""
        cells = self.rng.uniform(-1, 1, (rows, rows * 3 // 2)).astype(np.float32)
        return np.asarray(Image.fromarray(cells).resize((self.w, self.h), Image.BICUBIC))

    def pick(self, *palettes):
        """A colour near one of the palettes' colours."""
        tint, tone = self.rng.uniform(-0.06, 0.06, 3), self.rng.uniform(-0.06, 0.06)
        return np.clip(self.rng.choice(np.concatenate(palettes)) + tint + tone, 0.03, 0.97)

    def paint(self, mask, label, colour, shade=1.0, z=0.0):
        """Colours and labels the mask (H, W); shade and z may have a value for each pixel."""
        colour = colour * np.expand_dims(shade, -1) * self.gain
        haze = 1 - np.exp(-np.expand_dims(z, -1) / self.clear)
        self.image[mask] = colour + (self.haze - colour) * haze
        self.label[mask] = label

    def topmost(self, polygons):
        """uint8 (H, W): which polygon, a triple of x, y and z, is seen, from 1; 0 for none."""
        canvas = Image.new('L', (self.w, self.h))
        draw = ImageDraw.Draw(canvas)
        for i, (x, y, z) in enumerate(polygons, 1):
            rays = np.stack([(x - self.side) / z, (self.eye - y) / z], -1)
            draw.polygon((rays * self.focal + self.vanish).ravel().tolist(), fill=i)
        return np.asarray(canvas)

    def solid(self, label, x, z, parts, grain=0.08):
        """Paints a thing at (x, z): pairs of colour and polygon, the last on top, whose points are
        to the right, up and, where they have three coordinates, ahead."""
        colours, polygons = zip(*parts)
        placed = [(x + right, up, z + sum(ahead)) for right, up, *ahead in (p.T for p in polygons)]
        seen = self.topmost(placed)
        mask = seen > 0
        shade = 1 + grain * (self.fine[mask] + self.leaf[mask])
        self.paint(mask, label, np.array(colours)[seen[mask] - 1], shade, z)

    def wall(self, a, z, low, high, top):
        """A wall's mask (H, W) and its pixels' a (metres along it, low to high), y and z (N)."""
        y = self.eye - self.v * z
        mask = (a > low) & (a < high) & (y > -0.02) & (y < top)
        return mask, *(np.broadcast_to(value, mask.shape)[mask] for value in (a, y, z))


def sky(s):
    blend = np.clip(1 - s.v / s.v[0], 0, 1)[..., None] ** 1.3
    colour = s.zenith * (1 - blend) + s.haze * blend
    cloud = np.clip(s.noise(4) + 0.5 * s.soft + 0.25 * s.noise(20) + s.rng.uniform(-0.6, 0.5), 0, 1)
    white = (s.haze.mean() + 0.06 - colour) * cloud[..., None] * s.rng.uniform(0.4, 0.9)
    light = (colour + white).reshape(-1, 3) / s.gain  # which paint applies
    s.paint(np.ones((s.h, s.w), bool), SKY, light)


def ground(s):
    below, z, _ = np.broadcast_arrays(s.v > s.eye / 400, s.eye / s.v.clip(s.eye / 400), s.u)
    x = s.u * z + s.side
    off = np.abs(x)
    light = 1 + 0.07 * s.fine + 0.05 * s.soft
    joint = ((x % 1.2 < 0.09) | (z % 1.2 < 0.1)) * np.exp(-z / 15)
    lines = (off < 0.08 + z / s.focal / 2) & (z % 5 < 3)
    asphalt = s.pick(GREY[:3] * 3, WARM[:1])
    for where, label, colour, shade in (
        (True, PAVEMENT, s.pick(GREY[1:], WARM), 1.03 - 0.27 * joint),
        (off < s.half + 0.22, PAVEMENT, asphalt + 0.18, 1.0),
        (off < s.half, ROAD, asphalt, 1.0),
        ((off < s.half) & lines, ROAD, s.pick([YELLOW], [WHITE] * 3), 1 + 0.12 * s.leaf),
    ):
        mask = below & where
        s.paint(mask, label, colour, (light * shade)[mask], z[mask])


def house(s, x, width, z0, z1):
    """A building with windows, and doors or a shop: its front, then its wall along the street."""
    rng = s.rng
    height = rng.choice([rng.uniform(4.5, 9), rng.uniform(9, 17)], p=[0.65, 0.35])
    wall = s.pick(GREY, GREY, WARM, WARM, WARM, BLUE[:1], GREEN[2:3])
    roof, trim = s.pick(DARK, GREY[:2], WARM[:2]), s.pick(GREY[2:], [WHITE], DARK)
    glass, entry = s.pick(DARK, BLUE, GREY[:2]), s.pick(VIVID, DARK, GREEN, GREY)
    bay, floor, opening, start = rng.uniform((1.8, 2.7, 0.2, 0), (3.4, 3.3, 0.31, 50))
    shop, along = rng.random() < 0.4, (x - s.side) / s.u
    front = s.wall(s.u * z0 + s.side, z0, *sorted([x, x + width]), height)
    flank = s.wall(along, along, z0, z1, height)
    for light, (mask, a, y, z) in ((0.9, front), (1.0, flank)):
        a = a + start
        column, storey = np.floor(a / bay), np.floor(y / floor)
        right, up = np.abs(a / bay - column - 0.5), np.abs(y / floor - storey - 0.55)
        upper = (storey >= shop) & ((storey + 1) * floor < height)
        chance = np.sin((column * 7 + storey * 3 + start) * 12.9) ** 2  # no two windows alike
        low = (y < floor * 0.75) & (a % 2.4 > 0.3) if shop else (y < 2.1) & (a % (bay * 3) < 1)
        colour = np.multiply.outer(1 + 0.1 * s.fine[mask], wall)
        for where, what, shade in (
            ((storey + 1) * floor > height, roof, 1.0),
            (upper & (right < opening + 0.04) & (up < 0.31), trim, 1.0),
            (upper & (right < opening) & (right > 0.03) & (up < 0.27), glass, 0.75 + 0.6 * chance),
            ((y < floor) & shop, entry, 0.9),
            (low, glass if shop else entry, 0.95 + 0.15 * s.leaf[mask]),
        ):
            colour = np.where(where[:, None], np.multiply.outer(shade, what), colour)
        s.paint(mask, BUILDING, colour, light, z)


def tree(s, x, z):
    """A trunk and a crown of many lumps, lit from above."""
    leaves, lumps = s.pick(LEAVES), s.rng.normal(0, 0.42, (40, 2)).clip(-0.8, 0.8)
    height, radius = s.rng.uniform((2.2, 1.2), (3.6, 2.0))
    parts = line(s.pick(DARK, GREY[:2], WARM[:1]), [(0, 0), (0.1, height)], 0.34)
    for right, up in lumps[np.argsort(lumps[:, 1])]:
        parts.append((leaves * (0.9 + 0.3 * up), disc(right, up + 0.6, 0.3) * radius + (0, height)))
    s.solid(TREE, x, z, parts, grain=0.3)


def fence(s, x, z0, z1, height):
    """Slats along the street; the dark between them is Fence as well."""
    pitch, share = s.rng.uniform((0.3, 0.25), (0.5, 0.6))
    along = (x - s.side) / s.u
    mask, _, y, z = s.wall(along, along, z0, z1, height)
    slat = (z % pitch < pitch * share) | (np.abs(y - 0.92 * height) < 0.07)
    shade = np.where(slat, 0.95, 0.4) + 0.1 * s.fine[mask]
    s.paint(mask, FENCE, s.pick(GREEN, GREY[2:], WARM[2:], [WHITE]), shade, z)


def walls(s):
    """What closes the view, then houses and gardens on both sides, from far to near."""
    rng, plots = s.rng, []
    for x in np.arange(-0.8 * s.end, 0.8 * s.end, 10):
        house(s, x, rng.uniform(5, 15), s.end, s.end)
    for side in (-1, 1):
        x = side * (s.half + rng.uniform(2.2, 4.5))
        ends = np.cumsum([rng.uniform(3, 8), *rng.uniform(6, 15, 15)])
        plots += [(z0, z1, x, side) for z0, z1 in pairwise(ends) if z0 < s.end]
    for z0, z1, x, side in sorted(plots, reverse=True):
        if rng.random() < 0.58:
            house(s, x, 12 * side, z0, z1)
        else:
            for z in np.linspace(z1, z0, 4):
                tree(s, x + side * rng.uniform(2, 5), z)
            fence(s, x, z0, z1, rng.uniform(1.1, 1.9))


def car(s, x, z, yaw):
    """A car at any yaw: black tyres, a body and a tapered cabin of glass under a roof."""
    colour, glass = s.pick(GREY, VIVID, BLUE, GREEN[2:], DARK), s.pick(DARK, DARK, BLUE[1:2])
    end, slope, roof = s.rng.uniform((1.85, 0.05, 1.4), (2.3, 0.5, 1.8))
    parts = []
    for paint, *rings in (  # from, to, half the width, height of the lower and the upper edge
        (np.array(BLACK), (0.4 - end, end - 0.4, 0.76, 0), (0.4 - end, end - 0.4, 0.76, 0.3)),
        (colour, (-end, end, 0.86, 0.25), (-end, end, 0.86, 0.9)),
        (glass, (slope - end, end - 0.6, 0.82, 0.9), (2 * slope - end, end - 1.3, 0.65, roof)),
    ):
        corners = [box(-wide, back, wide, ahead) for back, ahead, wide, _ in rings]
        turned = corners @ np.array([(np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw))])
        low, high = (np.insert(c, 1, ring[3], axis=1) for c, ring in zip(turned, rings))
        faces = np.stack([low, np.roll(low, -1, 0), np.roll(high, -1, 0), high], 1)
        distance = np.linalg.norm(faces.mean(1) - (s.side - x, s.eye, -z), axis=1)
        for i in np.argsort(-distance)[1:]:  # the farthest is never seen; ends, then flanks
            parts.append((paint * (0.78, 0.9)[i % 2], faces[i]))
        parts.append((colour * 1.12, high))
    s.solid(CAR, x, z, parts)


def person(s, x, z):
    coat, legs = s.pick(WARM, BLUE, DARK, VIVID, VIVID), s.pick(DARK, BLUE[1:2], GREY[:1])
    skin, hair = s.pick(WARM), s.pick(DARK, WARM[:1], GREY[2:])
    foot, hand, wide, hem = s.rng.uniform((0.11, 0.26, 0.22, 0.5), (0.37, 0.5, 0.27, 0.85))
    arms = [(-hand, 0.8), (-wide, 1.42), (wide, 1.42), (hand, 0.8)]
    parts = line(legs, [(-foot, 0), (0, 0.85), (foot, 0)], 0.2) + line(coat * 0.8, arms, 0.14)
    parts += line(coat, [(0, hem), (0, 1.47)], 2 * wide)
    parts += [(hair, disc(0, 1.66, 0.15)), (skin, disc(s.rng.uniform(-0.05, 0.05), 1.62, 0.12))]
    s.solid(PERSON, x, z, parts)


def bicyclist(s, x, z):
    """Rider and bicycle from the side, shortened by the angle they ride at."""
    shirt, trousers = s.pick(WARM, BLUE, VIVID, VIVID), s.pick(DARK, BLUE[1:2], GREY)
    metal, skin, helmet = s.pick(VIVID, GREY, DARK), s.pick(WARM), s.pick(VIVID, DARK, GREY)
    turn = s.rng.choice([-1, 1]) * s.rng.uniform(0.6, 1.0)
    frame = [(0.55, 0.35), (0.4, 0.95), (-0.25, 0.87), (-0.1, 0.4), (-0.55, 0.35)]
    leg, arm = [(-0.22, 0.98), (0.14, 0.74), (0.0, 0.32)], [(0.12, 1.4), (0.42, 1.03)]
    wheels = (BLACK, 0.36), (GREY[2], 0.26)
    parts = [(tyre, disc(hub, 0.35, r)) for tyre, r in wheels for hub in (-0.55, 0.55)]
    parts += line(metal, frame, 0.09) + line(trousers, leg, 0.18)
    parts += line(shirt, [(-0.26, 0.86), (0.17, 1.46)], 0.32) + line(shirt * 0.85, arm, 0.13)
    parts += [(helmet, disc(0.26, 1.7, 0.15)), (skin, disc(0.3, 1.62, 0.12))]
    s.solid(BICYCLIST, x, z, [(colour, shape * (turn, 1)) for colour, shape in parts])


def pole(s, x, z, height=None):
    """A sign's pole or a lamp post, two pixels wide at least (at 120 rows)."""
    width = max(s.rng.uniform(0.2, 0.3), 2.2 / 120 * s.h / s.focal * z)
    colour, top = s.pick(GREY[:2], DARK, GREEN[3:]), height or s.rng.uniform(4.5, 8)
    s.solid(POLE, x, z, line(colour * 0.75, [(0, 0), (0, top)], width))


def sign(s, x, z):
    """A traffic sign, signboard or traffic light on a pole."""
    height, radius = s.rng.uniform((2.2, 0.42), (3.2, 0.58))
    kinds = (  # outline, colour of its rim, of its face and of the mark on it, the mark
        (disc(0, 0, 1), RED, WHITE, BLACK, box(-0.35, -0.3, 0.35, 0.3)),
        (disc(0, 0, 1), WHITE, COBALT, WHITE, box(-0.2, -0.6, 0.2, 0.6)),
        (box(-1.5, -0.8, 1.5, 0.8), WHITE, s.pick(VIVID, GREEN), WHITE, box(-1, -0.1, 0.7, 0.2)),
        (box(-0.65, -1.5, 0.65, 1.2), BLACK, BLACK, (1, 0.15, 0.1), disc(0, 0.6, 0.4)),
    )
    outline, rim, face, ink, mark = kinds[s.rng.integers(len(kinds))]
    parts = (rim, outline), (face, outline * 0.8), (ink, mark)
    pole(s, x, z, height + radius)
    s.solid(SIGN, x, z, [(colour, shape * radius + (0, height)) for colour, shape in parts])


def furnish(s):
    """What is on the pavements, then what is on the road, each from far to near."""
    rng, half, things = s.rng, s.half, []
    for kind, least, most, z0, z1, inner, outer in (
        (pole, 2, 3, 6, 24, 0.3, 0.7),  # how many, z from and to, metres from the kerb
        (sign, 2, 3, 6, 15, 0.3, 1.0),
        (tree, 1, 3, 10, 30, 0.7, 1.2),
        (person, 3, 5, 5, 13, 0.6, 2.2),
        (bicyclist, 1, 3, 5, 11, -3, -0.4),
    ):
        for near, far in pairwise(np.linspace(z0, z1, rng.integers(least, most + 1) + 1)):
            x = rng.choice([-1, 1]) * (half + rng.uniform(inner, outer))
            z = max(rng.uniform(near, far), abs(x - s.side) * 2 * s.focal / s.w + 0.8)  # in view
            things.append((outer < 0, kind, x, z))
    for z in np.arange(rng.uniform(6, 10), 35, rng.uniform(7, 10)):
        x = rng.choice([-1, 1]) * rng.choice([half - 1, half - 1, 0.4 * half])  # parked or driving
        turn = rng.choice([rng.normal(0, 0.04), rng.uniform(-1.2, 1.2)], p=[0.9, 0.1])
        things.append((True, car, x, z, np.pi * (x > 0) + turn))  # on the left, as in Cambridge
    for _, kind, *place in sorted(things, key=lambda thing: (thing[0], -thing[3])):
        kind(s, *place)


def bonnet(s):
    """Our own car's bonnet, which CamVid leaves void."""
    middle, height = s.rng.uniform((-0.2, -0.05), (0.2, 0.08))  # or out of view
    mask = s.v > s.v[-1] - height + 0.2 * (s.u - middle) ** 2
    s.paint(mask, VOID, s.pick(GREY, DARK, VIVID), 0.9 + 0.3 * s.soft[mask])


def expose(s):
    """The camera: exposure, white balance, tone curve, dark corners, lens, sensor noise."""
    rng = s.rng
    image = np.clip(s.image * rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3), 0.01, 1)
    image = image ** rng.uniform(0.85, 1.15) * (1 - 0.18 * (s.u**2 + s.v**2))[..., None]
    image = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(0.35 * (s.h / 120) ** 0.5))
    return (image + rng.normal(0, rng.uniform(1, 4), s.image.shape)).clip(0, 255).astype(np.uint8)


def draw_scene(seed, size=(120, 160)):
    """One street scene: image uint8 (H, W, 3), exact label uint8 (H, W) of CAMVID's 0..11; `seed`,
    an int or several, decides the street, of any size (height, width) from 48x64 on, about 4:3."""
    s = Scene(seed, size)
    for draw in (sky, ground, walls, furnish, bonnet):
        draw(s)
    return expose(s), s.label


def draw_camvid(folder, train=80, val=16, test=24, size=(120, 160), seed=0):
    """Draws so many scenes of `size` (height, width) in CamVid's layout into the folder, which is
    returned and appears only when it is complete. The same seed draws the same files; no two scenes
    share one. InputError when the folder holds something already."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'{folder} exists and is not empty; name a new folder or remove it first')
    part = folder.with_name(f'.{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        for index, (split, count) in enumerate((('train', train), ('val', val), ('test', test))):
            places = [make_folder(part / name) for name in (split, f'{split}annot')]
            for i in range(count):
                for array, place in zip(draw_scene((seed, index, i), size), places):
                    Image.fromarray(array).save(place / f'{split}_{i:04d}.png')
        write_classes(part / 'classes.csv', CAMVID)
        if folder.exists():
            folder.rmdir()  # the empty one; Windows renames onto nothing that exists
        return part.rename(folder)
    except OSError as e:
        raise not_written(folder, e) from None
    finally:  # after Ctrl-C too
        shutil.rmtree(part, ignore_errors=True)
