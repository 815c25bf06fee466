"""What pretraining gains where labels are few: `transfer` beside `fast`, equal minutes each.

    python bench/few.py CAMVID [SET ...]

Sets: camvid-20, camvid-60, camvid-367 (of the training pictures, evenly spaced; all 101 validation
pictures), cells (30 drawn grey pictures of 512x512, two classes) and shapes (30 in colour, five
classes), both with 30 others for validation. The two trainings of a set run side by side, a core
each. Results are kept in bench/notes.md.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from compare import one_run
from PIL import Image, ImageDraw, ImageFilter

EPOCHS, SIDE = 4, 512
STEPS = {'transfer': 200, 'fast': 535}  # an epoch of 360x480: ten minutes in all on one core


def noise(rng, scale, strength):
    """A smooth random field of SIDE x SIDE, its features `scale` pixels wide."""
    n = SIDE // scale + 2
    field = Image.fromarray(rng.normal(0, 1, (n, n)).astype('float32'))
    return strength * np.asarray(field.resize((SIDE, SIDE), Image.BICUBIC))


def cells(seed):
    """(picture, label): cells a little darker than what is between them, each with a thin membrane,
    among rings that are none; class 1 is a cell with its membrane."""
    rng = np.random.default_rng(seed)
    label, edges = Image.new('L', (SIDE, SIDE)), Image.new('F', (SIDE, SIDE))
    inside, outline, rings = ImageDraw.Draw(label), ImageDraw.Draw(edges), ImageDraw.Draw(edges)
    for _ in range(rng.integers(20, 45)):
        (x, y), r = rng.integers(0, SIDE, 2), rng.integers(12, 40)
        angle = np.linspace(0, 2 * np.pi, 40)
        wobble = r * (1 + 0.15 * np.sin(angle * rng.integers(2, 5) + rng.uniform(0, 6)))
        points = np.stack([x + wobble * np.cos(angle), y + 0.7 * wobble * np.sin(angle)], -1)
        inside.polygon([tuple(p) for p in points], fill=1)
        outline.line([tuple(p) for p in points], fill=-0.10, width=2)
    for _ in range(rng.integers(10, 30)):
        (x, y), r = rng.integers(0, SIDE, 2), rng.integers(4, 40)
        rings.ellipse([x - r, y - r, x + r, y + r], outline=-0.10, width=2)
    picture = 0.55 + noise(rng, 64, 0.08) + noise(rng, 4, 0.04) + np.asarray(edges)
    picture -= 0.05 * np.asarray(label) + np.asarray(label) * noise(rng, 8, 0.03)
    return grey(rng, picture), np.asarray(label)


def grey(rng, picture):
    picture = Image.fromarray((np.clip(picture, 0, 1) * 255).astype('uint8'))
    picture = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5))))
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype('uint8')


def shapes(seed):
    """(picture, label): discs, squares, triangles and stars (1 to 4) of any colour on a ground of
    any other; their form alone tells them apart."""
    rng = np.random.default_rng(seed)
    ground = (
        rng.uniform(0.2, 0.8, 3) + noise(rng, 64, 0.1)[..., None] + noise(rng, 6, 0.05)[..., None]
    )
    picture, label = ground, np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(12, 30)):
        kind, (x, y), r = rng.integers(1, 5), rng.integers(0, SIDE, 2), rng.uniform(12, 45)
        corners = {1: 40, 2: 4, 3: 3, 4: 10}[kind]
        angle = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + rng.uniform(0, 6)
        radius = np.where(np.arange(corners) % 2, 0.45, 1.0) * r if kind == 4 else r
        points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], -1)
        mask = Image.new('L', (SIDE, SIDE))
        ImageDraw.Draw(mask).polygon([tuple(p) for p in points], fill=1)
        mask = np.asarray(mask) > 0
        picture = np.where(
            mask[..., None], rng.uniform(0.1, 0.9, 3) + noise(rng, 5, 0.06)[..., None], picture
        )
        label[mask] = kind
    return np.stack([grey(rng, picture[..., i]) for i in range(3)], -1), label


def draw(folder, kind):
    """30 training and 30 validation pairs in CamVid's layout."""
    for split, first in ('train', 0), ('val', 1000):
        for part in (split, f'{split}annot'):
            (folder / part).mkdir(parents=True)
        for i in range(30):
            for part, pixels in zip((split, f'{split}annot'), kind(first + i)):
                Image.fromarray(pixels).save(folder / part / f'{i:02}.png')


def share(folder, camvid, n):
    """A data set of links: n of CamVid's training pictures, evenly spaced, and all of val."""
    for split in ('train', 'val'):
        names = sorted(p.name for p in (camvid / split).iterdir())
        if split == 'train':
            names = [names[i] for i in np.linspace(0, len(names) - 1, n).round().astype(int)]
        for part in (split, f'{split}annot'):
            (folder / part).mkdir(parents=True)
            for name in names:
                (folder / part / name).symlink_to(camvid / part / name)


def measure(name, camvid):
    """{preset: (val mIoU of the best epoch in percent, seconds)} of one set."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if name in ('cells', 'shapes'):
            draw(folder, {'cells': cells, 'shapes': shapes}[name])
        else:
            share(folder, camvid, int(name.split('-')[1]))
        pixels = 360 * 480 if name.startswith('camvid') else SIDE * SIDE

        def run(preset):
            steps = round(STEPS[preset] * 360 * 480 / pixels)
            flags = f'--preset {preset} --epochs {EPOCHS} --steps {steps}'
            curve, seconds = one_run(folder, flags, 1)
            return max(curve), seconds

        with ThreadPoolExecutor(2) as pool:
            return dict(zip(STEPS, pool.map(run, STEPS)))


def main(camvid, *names):
    print('| pictures | transfer | fast | minutes |\n|---|---|---|---|')
    for name in names or ('camvid-20', 'camvid-60', 'camvid-367', 'cells', 'shapes'):
        found = measure(name, Path(camvid).resolve())
        minutes = ' and '.join(f'{seconds / 60:.1f}' for _, seconds in found.values())
        scores = ' | '.join(f'{miou:.1f}' for miou, _ in found.values())
        print(f'| {name} | {scores} | {minutes} |', flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:]) if sys.argv[1:] else sys.exit(__doc__)
