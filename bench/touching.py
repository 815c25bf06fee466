"""What `--border-weights` gains on cells that touch: objects found one by one, with and without.

    python bench/touching.py [SEEDS]

30 training pictures of 160x160, as many to validate on and as many to count on, drawn: grey cells,
gaps of one or two pixels between them. The same network and steps, 800 of four, a few minutes
on one core, one after the other. An object is found where a piece of the prediction, all of one
class that hangs together, and a piece of the truth have an IoU of more than a half. Results are
kept in bench/notes.md.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from few import draw, grey, noise
from PIL import Image
from scipy import ndimage

ROOT, SIDE = Path(__file__).resolve().parents[1], 160
FLAGS = '--filters 8 --batch-size 4 --epochs 4 --steps 200 --optimizer muon --learning-rate 5e-3'
FLAGS += ' --schedule cosine --augment elastic=4,flip,vflip,brightness=0.1'


def touching(seed):
    """(picture, label): cells are the pixels nearest to one of many random points, up to a radius,
    without a seam where two points are equally near; class 1 is a cell."""
    rng = np.random.default_rng(seed)
    steps = np.arange(8, SIDE, 20)
    points = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2) + rng.normal(0, 4, (64, 2))
    points = points[rng.random(64) < 0.85]
    field = np.stack([noise(rng, 12, 2)[:SIDE, :SIDE] for _ in range(2)])  # so that seams are bent
    place = (np.indices((SIDE, SIDE)) + field)[:, None] - points.T[..., None, None]
    nearest, second = np.sort(np.hypot(*place), 0)[:2]
    label = (nearest < 13) & (second - nearest > rng.uniform(1.5, 2.5))
    texture = 0.45 + noise(rng, 64, 0.06) + noise(rng, 5, 0.04)
    return grey(rng, texture[:SIDE, :SIDE] + 0.2 * label), label.astype(np.uint8)


def found(truth, mask):
    """(objects of the truth, pieces of the mask, how many of them match)."""
    (a, n), (b, m) = ndimage.label(truth), ndimage.label(mask)
    both = np.histogram2d(a.ravel(), b.ravel(), (range(n + 2), range(m + 2)))[0]
    either = both.sum(1, keepdims=True) + both.sum(0) - both
    return np.array([n, m, (both / either > 0.5)[1:, 1:].sum()])


def run(data, flags, seed):
    """Those of all test pictures, by a network trained with `flags`."""
    with tempfile.TemporaryDirectory() as folder:
        train = ['train', '--data', data, '--seed', str(seed), *FLAGS.split(), *flags]
        for argv in train, ['predict', data / 'test', '--output', 'masks']:
            subprocess.run(
                [sys.executable, ROOT / 'main.py', *argv],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ | {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'},
            )
        counts = 0
        for i in range(30):
            mask = np.asarray(Image.open(Path(folder, f'masks/{i:02}.png')).convert('RGB'))
            counts += found(touching(2000 + i)[1], mask.any(-1))
    return counts


def main(seeds=3):
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        draw(data, touching)
        (data / 'test').mkdir()
        for i in range(30):
            Image.fromarray(touching(2000 + i)[0]).save(data / f'test/{i:02}.png')
        print('| | seed | objects | pieces | found | F1 |\n|---|---|---|---|---|---|')
        for seed in range(1, seeds + 1):
            for flags in [], ['--border-weights']:
                n, m, hit = run(data, flags, seed)
                name, f1 = ' '.join(flags) or 'without', 200 * hit / (n + m)
                print(f'| {name} | {seed} | {n} | {m} | {hit} | {f1:.1f} |', flush=True)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]))
