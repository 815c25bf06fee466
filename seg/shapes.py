"""What labelling tools store instead of pictures: shapes and runs of pixels -> label maps.

One rasteriser for all of them, that of labelme (its shape.py, on Pillow): an outline belongs to its
shape, lines are 10 pixels wide, points 11 across. A label's shapes are painted in order, so that
the last lies on top; who reads a tool's file puts them into the tool's order.
"""

import base64
import io
import os
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from seg.classes import GROUNDS, NO_CLASS
from seg.files import InputError

# kind: polygon, rectangle, circle, ellipse, line, point or mask; name: of its class, None for no
# class; data: points (n, 2) of x, y; of a mask ((x, y) of its corner, function giving bool (h, w))
Shape = namedtuple('Shape', 'kind name data holes', defaults=((),))
LEAST = {'polygon': 3, 'rectangle': 2, 'circle': 2, 'ellipse': 2, 'line': 2, 'point': 1}
LINE, DOT = 10, 5  # labelme's: width of a line, radius of a point
MOST = 254  # classes, for 255 is none


class Legend:
    """The names that labels of a set are drawn by, the first what no shape covers; and which class
    each of them is."""

    def __init__(self, names):
        self.names, self.classes = names, np.arange(256, dtype=np.uint8)
        self.places = {name: i for i, name in enumerate(names)} | {None: NO_CLASS}

    def map_to(self, table, where):
        """Draw by the classes of this table, found by name; InputError for one that it lacks."""
        known = {name.casefold(): i for i, name in enumerate(table.names)}
        known |= {name: i for i, name in enumerate(table.names)}
        for i, name in enumerate(self.names):
            same = GROUNDS if name.casefold() in GROUNDS else [name, name.casefold()]
            found = next((known[s] for s in same if s in known), None)
            if found is None:
                have = ', '.join(table.names[:20])
                raise InputError(f'{where}: no class {name} among {have}; name it in the table')
            self.classes[i] = found


class Drawn:
    """A label that is drawn from a tool's file, where a path stands otherwise.

    path: the file, for messages and checksums; part: what of it; draw: function that gives the
    label, uint8 (H, W), as places in the legend's names; size: (H, W) where the file says it."""

    def __init__(self, path, draw, legend, part='', size=None):
        self.path, self.draw, self.legend, self.part = Path(path), draw, legend, part
        self.size = size

    def __str__(self):
        return f'{self.path} ({self.part})' if self.part else str(self.path)

    def __fspath__(self):
        return str(self.path)

    def __lt__(self, other):
        return str(self) < str(other)

    @property
    def name(self):
        return self.path.name

    def plane(self):
        """uint8 (H, W): class indices, 255 for no class; InputError where it can not be drawn."""
        return self.legend.classes[self.draw()]


def fault(shape, height, width):
    """What is wrong with a shape of points in a picture of this size, or ''; what lies outside of
    it is cut off, a shape that does so wholly is of another picture."""
    if shape.kind == 'mask':
        return ''
    points, least = np.asarray(shape.data), LEAST[shape.kind]
    if len(points) < least:
        return f'a {shape.kind} of {len(points)} points, expected {least} or more; draw it again'
    if not np.isfinite(points).all():
        return 'a point that is no number; draw it again'
    low, high = points.min(0), points.max(0)
    if shape.kind == 'circle':
        reach = np.hypot(*(points[1] - points[0]))
        low, high = points[0] - reach, points[0] + reach
    if (high < 0).any() or low[0] > width or low[1] > height:
        at = ', '.join(f'{v:g}' for v in points[0])
        return f'all of it outside the picture of {height}x{width} pixels, first at x, y = {at}'
    return ''


def outside(shape, height, width):
    """Whether points of a shape lie more than two pixels outside of the picture."""
    points = np.asarray(shape.data if shape.kind != 'mask' else [(0, 0)])
    return (points < -2).any() or (points > (width + 2, height + 2)).any()


def paint(height, width, shapes, places):
    """uint8 (H, W) label of shapes, each over those before it; places: {name: value}."""
    picture = Image.new('L', (width, height))
    draw = ImageDraw.Draw(picture)
    for shape in shapes:
        value = places[shape.name]
        if shape.kind == 'mask':
            (x, y), mask = shape.data
            mask = Image.fromarray(mask())
            picture.paste(value, (x, y, x + mask.width, y + mask.height), mask)
        elif shape.holes:
            mask = Image.new('1', picture.size)
            cut = ImageDraw.Draw(mask)
            _outline(cut, shape, 1)
            for hole in shape.holes:
                cut.polygon([*map(tuple, hole)], fill=0, outline=0)
            picture.paste(value, (0, 0, width, height), mask)
        else:
            _outline(draw, shape, value)
    return np.asarray(picture)


def _outline(draw, shape, value):
    points = [tuple(map(float, point)) for point in shape.data]
    if shape.kind == 'polygon':
        draw.polygon(points, fill=value, outline=value)
    elif shape.kind in ('rectangle', 'ellipse'):
        corners = [*map(min, *points), *map(max, *points)]
        getattr(draw, shape.kind)(corners, fill=value, outline=value)
    elif shape.kind == 'line':
        draw.line(points, fill=value, width=LINE)
    else:
        (x, y), reach = points[0], DOT
        if shape.kind == 'circle':
            reach = float(np.hypot(x - points[1][0], y - points[1][1]))
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=value, outline=value)


def area(shape):
    """Pixels of a polygon or mask, about: what is smaller lies on top in COCO and YOLO."""
    if shape.kind == 'mask':
        return int(shape.data[1]().sum())
    x, y = np.asarray(shape.data, float).T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def coco_runs(counts, height, width):
    """bool (H, W) of COCO's run lengths, column by column and background first: a list, or its
    compressed text (LEB128-like, each from the third on the difference to the last but one;
    pycocotools, maskApi.c). InputError where they are of another size."""
    if isinstance(counts, str):
        counts = _leb(counts.encode('latin-1', 'replace'))
    counts = np.asarray(counts, np.int64).ravel()
    if (counts < 0).any() or counts.sum() != height * width:
        found = f'runs of {counts.sum()} pixels for a mask of {height}x{width}'
        raise InputError(f'{found}; export it again')
    return np.repeat(np.arange(len(counts)) % 2 > 0, counts).reshape(width, height).T


def _leb(text):
    counts, i = [], 0
    while i < len(text):
        value, shift, more = 0, 0, True
        while more:
            if i == len(text):
                raise InputError('runs that are cut off; export it again')
            c = text[i] - 48
            value |= (c & 31) << shift
            more, i, shift = c & 32, i + 1, shift + 5
            if not more and c & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def brush(runs, height, width):
    """bool (H, W) of Label Studio's brush: the packed RLE of @thi.ng/rle-pack over RGBA bytes, of
    which the fourth counts. InputError where it is of another size."""
    try:
        bits = ''.join(f'{byte:08b}' for byte in bytes(runs))
        place = 0

        def take(n):
            nonlocal place
            place += n
            return int(bits[place - n : place], 2)

        total, word = take(32), take(5) + 1
        sizes = [take(4) + 1 for _ in range(4)]
        if total != height * width * 4:
            found = f'a brush of {total // 4} pixels for a picture of {height}x{width}'
            raise InputError(f'{found}; export it again')
        out, i = np.zeros(total, np.uint8), 0
        while i < total:
            same = take(1)
            n = take(sizes[take(2)]) + 1
            out[i : i + n] = take(word) if same else [take(word) for _ in range(n)]
            i += n
    except (TypeError, ValueError):
        raise InputError('a brush that is cut off; export it again') from None
    return out.reshape(height, width, 4)[..., 3] > 0


def bitmap(text, packed=False):
    """bool (h, w) of a mask as base64 of a PNG, `packed` with zlib before (Supervisely); labelme's
    without. InputError where it is damaged."""
    try:
        data = base64.b64decode(text)
        if packed:
            data = zlib.decompressobj().decompress(data, 1 << 26)
        with Image.open(io.BytesIO(data), formats=['PNG']) as picture:
            if picture.width * picture.height > 2**26:
                raise ValueError('too large')
            last = picture.getchannel('A') if 'A' in picture.mode else picture
            return np.asarray(last.convert('L') if last.mode == '1' else last) > 0
    except Exception as e:  # whatever a damaged one raises
        raise InputError(f'a mask that is damaged ({e}); draw it again') from None


def merge(masks, read):
    """A function that gives the label of several binary masks, [(value, file)], the last on top.
    read(file): bool (H, W)."""

    def draw():
        label, first = None, masks[0][1]
        for value, file in masks:
            mask = read(file)
            label = np.zeros(mask.shape, np.uint8) if label is None else label
            if mask.shape != label.shape:
                sizes = '{}x{}, {} has {}x{}'.format(*mask.shape, os.fspath(first), *label.shape)
                raise InputError(f'{file}: a mask of {sizes} pixels; make them the same')
            label[mask] = value
        return label

    return draw
