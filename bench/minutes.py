"""Five drawn data sets of the kinds that people bring, for `python main.py FOLDER --minutes N`.

    python bench/minutes.py FOLDER

Draws into FOLDER: cells (two classes, grey), colours (five classes, pictures of three sizes), few
(12 pictures of five classes), many (400 small pictures of five classes) and membranes (a stack of
30 slices, its membranes in black as ISBI's are). None has a validation part.
"""

import sys
from pathlib import Path

import numpy as np
from few import SIDE, cells, grey, noise
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree


def membranes(seed):
    """(picture, label) of 512x512: the seams between the nearest and second nearest of many points,
    dark lines among dark blobs that are none; label 255 is inside of a cell, 0 a membrane."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, SIDE, (110, 2))
    field = np.stack([noise(rng, 24, 8) for _ in range(2)])
    place = (np.indices((SIDE, SIDE)) + field).transpose(1, 2, 0)
    nearest, second = np.moveaxis(cKDTree(points).query(place, 2)[0], -1, 0)
    seam = second - nearest < rng.uniform(4, 7)
    picture = 0.6 + noise(rng, 32, 0.08) + noise(rng, 4, 0.05) - 0.25 * seam
    rows, columns = np.indices((SIDE, SIDE))
    for _ in range(60):
        (y, x), r = rng.integers(0, SIDE, 2), rng.uniform(3, 9)
        picture -= 0.25 * (np.hypot(rows - y, columns - x) < r)
    return grey(rng, picture), np.where(seam, 0, 255).astype(np.uint8)


def coloured(seed):
    """(picture, label): discs, squares, triangles and stars of four hues, each a class, of any
    brightness and under a light of any tint, among grey ones that are none."""
    rng = np.random.default_rng(seed)
    hues = np.array([(1, 1, 1), (1, 0.55, 0.5), (0.55, 1, 0.6), (0.55, 0.65, 1), (1, 0.95, 0.45)])
    label, picture = np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE, 3), 0.5)
    picture += (noise(rng, 64, 0.1) + noise(rng, 6, 0.05))[..., None]
    for _ in range(rng.integers(20, 40)):
        kind, (x, y), r = rng.integers(0, 5), rng.integers(0, SIDE, 2), rng.uniform(8, 45)
        corners = rng.integers(3, 12)
        angle = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + rng.uniform(0, 6)
        radius = np.where(np.arange(corners) % 2, rng.uniform(0.5, 1), 1.0) * r
        points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], -1)
        mask = Image.new('L', (SIDE, SIDE))
        ImageDraw.Draw(mask).polygon([tuple(p) for p in points], fill=1)
        mask = np.asarray(mask) > 0
        tone = rng.uniform(0.35, 0.9) * hues[kind] + rng.normal(0, 0.06, 3)
        picture = np.where(mask[..., None], tone + noise(rng, 5, 0.06)[..., None], picture)
        label[mask] = kind
    picture = picture * rng.uniform(0.8, 1.1, 3)
    return np.stack([grey(rng, picture[..., i]) for i in range(3)], -1), label


def save(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def pair(folder, i, picture, label):
    save(folder / 'images', f'{i:03}.png', picture)
    save(folder / 'masks', f'{i:03}.png', label)


def main(folder):
    for i in range(40):
        pair(folder / 'cells', i, *cells(i))
    for i in range(60):
        h, w = [(240, 320), (320, 240), (400, 400)][i % 3]
        picture, label = coloured(i)
        pair(folder / 'colours', i, picture[:h, :w], label[:h, :w])
    for i in range(12):
        picture, label = coloured(500 + i)
        pair(folder / 'few', i, picture[:384], label[:384])
    for i in range(400):
        picture, label = coloured(1000 + i)
        pair(folder / 'many', i, picture[:192, :256], label[:192, :256])
    slices = [membranes(i) for i in range(30)]
    for name, parts in zip(('train-volume', 'train-labels'), zip(*slices)):
        (folder / 'membranes').mkdir(exist_ok=True)
        first, *rest = map(Image.fromarray, parts)
        first.save(folder / f'membranes/{name}.tif', save_all=True, append_images=rest)


if __name__ == '__main__':
    main(Path(sys.argv[1])) if sys.argv[1:] else sys.exit(__doc__)
