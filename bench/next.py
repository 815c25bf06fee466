"""What labelling the pictures that `next` chooses gains over labelling any.

    python bench/next.py [SEEDS [even or uneven]]

200 drawn pictures of 96x128: four frames of each of 50 streets, or, as where a few videos are long,
15 of each of 10 and one of 50 more. A network learns from 10 of them; then 20 more are labelled: at
random, the 20 of the highest entropy, or those that `next` chooses; and it learns anew, in as many
steps: 500 of two. Val mIoU of 40 other streets, percent, and how many streets the 20 are of. One
core, three to six minutes a seed; results are kept in bench/notes.md.
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from touching import ROOT

sys.path.insert(0, str(ROOT))
from seg.runs import find_run, read_progress
from seg.scenes import draw_scene

SIZE, POOLS = (96, 128), {'even': [4] * 50, 'uneven': [15] * 10 + [1] * 50}  # frames of a street
FLAGS = '--filters 8 --epochs 1 --steps 500 --optimizer muon --learning-rate 5e-3'
FLAGS += ' --schedule cosine --class-weights --augment scale=0.9-1.1,flip,brightness=0.1'


def frames(seed, counts):
    """(picture, label) of each: windows of a street that differ by up to 8 pixels and by noise."""
    for k, count in enumerate(counts):
        picture, label = draw_scene((7, seed, k), (SIZE[0] + 8, SIZE[1] + 8))
        rng = np.random.default_rng((seed, k))
        for _ in range(count):
            y, x = rng.integers(0, 9, 2)
            window = slice(y, y + SIZE[0]), slice(x, x + SIZE[1])
            noisy = picture[window] + rng.normal(0, 3, (*SIZE, 3))
            yield noisy.clip(0, 255).astype(np.uint8), label[window]


def run(folder, *argv):
    subprocess.run(
        [sys.executable, ROOT / 'main.py', *argv],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'},
    )


def learned(folder, pool, chosen, seed):
    """val mIoU, percent, of a network trained in `folder` on these of the pool."""
    splits = {'train': {f'{i:03}': pool[i] for i in chosen}}
    splits['val'] = {f'val {k}': draw_scene((9, seed, k), SIZE) for k in range(40)}
    for split, pairs in splits.items():
        for i, part in enumerate((split, f'{split}annot')):
            (folder / 'data' / part).mkdir(parents=True)
            for name, pair in pairs.items():
                Image.fromarray(pair[i]).save(folder / 'data' / part / f'{name}.png')
    run(folder, 'train', '--data', 'data', '--seed', str(seed), *FLAGS.split())
    return 100 * read_progress(find_run(folder / 'log'))['history']['val_miou'][-1]


def measure(seed, counts):
    """{way: (val mIoU, streets)} of one seed."""
    pool, rng = [*frames(seed, counts)], np.random.default_rng(seed)
    street = np.repeat(np.arange(len(counts)), counts)
    first, *others = np.split(rng.permutation(len(pool)), [10, 30])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        found = {'the 10': (learned(folder, pool, first, seed), len({*street[first]}))}
        (folder / 'pool').mkdir()
        for i in np.concatenate(others):
            Image.fromarray(pool[i][0]).save(folder / f'pool/{i:03}.png')
        run(folder, 'next', 'pool', '--count', '200')
        with open(folder / 'next.csv', encoding='utf-8-sig', newline='') as f:
            rows = [
                (int(Path(row['picture']).stem), float(row['score'])) for row in csv.DictReader(f)
            ]
    ways = {'20 at random': others[0].tolist()}
    ways['20 of the highest entropy'] = [i for i, _ in sorted(rows, key=lambda row: -row[1])[:20]]
    ways['20 of next'] = [i for i, _ in rows[:20]]
    for way, chosen in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            miou = learned(Path(folder), pool, [*first, *chosen], seed)
            found[way] = miou, len({*street[chosen]})
    return found


def main(seeds=3, *names):
    print('| pool | learned from | seed | streets added | val mIoU |\n|---|---|---|---|---|')
    for name in names or POOLS:
        for seed in range(1, seeds + 1):
            for way, (miou, streets) in measure(seed, POOLS[name]).items():
                print(f'| {name} | {way} | {seed} | {streets} | {miou:.1f} |', flush=True)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
