"""How many of 40 wrong labels 'Labels to look at' finds, among its first 40.

    python bench/suspects.py [SEEDS [streets or cells]]

Drawn streets of 120x160 (160 to train on, 64 to score) and drawn cells of 160x160 (30 and 30, two
classes). In the labels to be scored 40 objects are made wrong, in turn: another object's class, the
class of what is around it, or the object moved by 10 pixels. Twice: with clean labels to train on,
and with as many wrong ones a picture there, as in cross-validation. An entry hits where it names
the class of a planted error's object and most of its box lies in that one's. One core, about four
minutes each; results are kept in bench/notes.md.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from few import draw
from PIL import Image
from scipy import ndimage
from touching import ROOT, touching

sys.path.insert(0, str(ROOT))
from seg.classes import CAMVID, TWO_CLASSES
from seg.scenes import BICYCLIST, CAR, FENCE, PERSON, SIGN, TREE, VOID, draw_camvid

COUNT = 40  # planted, and entries looked at
STREET = TREE, SIGN, FENCE, CAR, PERSON, BICYCLIST
FLAGS = '--filters 16 --steps 160 --epochs 6 --optimizer muon --learning-rate 5e-3'
FLAGS += ' --schedule cosine --class-weights --augment scale=0.9-1.1,flip,brightness=0.1'


def objects(label, kinds, least=60):
    """Masks of the connected regions of these classes, of `least` pixels and a tenth of the
    picture at most."""
    for c in kinds:
        pieces, n = ndimage.label(label == c)
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)
        for i in range(1, n + 1):
            if least <= sizes[i] <= label.size / 10:
                yield c, pieces == i


def spoil(label, kinds, how, rng):
    """(the label with one of its objects made wrong, that object's class), or None where that can
    not be. how, of 3: another class, missing, moved."""
    found = [*objects(label, kinds)]
    if not found:
        return None
    c, mask = found[rng.integers(len(found))]
    ring = label[ndimage.binary_dilation(mask, iterations=3) & (label != c) & (label != VOID)]
    if not len(ring):
        return None
    wrong, new = np.bincount(ring).argmax(), label.copy()
    if how == 0 and len(kinds) > 1:
        wrong = rng.choice([k for k in kinds if k not in (c, wrong)])
    new[mask] = wrong
    if how == 2:
        angle = rng.uniform(0, 2 * np.pi)
        moved = ndimage.shift(mask.astype('u1'), (10 * np.sin(angle), 10 * np.cos(angle)), order=0)
        new[moved > 0] = c
    return new, c


def plant(folder, kinds, count, seed):
    """Make `count` places of a folder's labels wrong; {file name: [(changed, class of object)]}."""
    rng, planted, n = np.random.default_rng(seed), {}, 0
    files = sorted(folder.iterdir())
    while n < count:
        file = files[rng.integers(len(files))]
        label = np.asarray(Image.open(file))
        made = spoil(label, kinds, n % 3, rng)
        before = planted.setdefault(file.name, [])
        if made and not any(((made[0] != label) & changed).any() for changed, _ in before):
            before.append((made[0] != label, made[1]))
            Image.fromarray(made[0]).save(file)
            n += 1
    return planted


def hit(row, planted, names):
    """The place among a picture's planted errors of the one that a row of suspects.csv means: with
    the object's class for one of the two, and more than half of its box in that one's; or None."""
    top, left, bottom, right = (int(row[side]) for side in ('top', 'left', 'bottom', 'right'))
    for i, (changed, c) in enumerate(planted):
        (box,) = ndimage.find_objects(changed.astype(int))
        inside = np.zeros_like(changed)
        inside[box] = True
        named = names[c] in (row['given'], row['likely'])
        if named and inside[top:bottom, left:right].mean() > 0.5:
            return i


def measure(data, kinds, names, noisy, seed):
    """(planted errors found by the first 40 entries, how many of these hit one) of labels like
    those in `data`, CamVid's layout."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copytree(data, folder / 'data')
        planted = plant(folder / 'data/valannot', kinds, COUNT, seed)
        if noisy:
            share = [len([*(data / split).iterdir()]) for split in ('train', 'val')]
            plant(folder / 'data/trainannot', kinds, COUNT * share[0] // share[1], seed + 100)
        train = ['train', '--seed', str(seed), *FLAGS.split()]
        for argv in train, ['evaluate']:
            subprocess.run(
                [sys.executable, ROOT / 'main.py', *argv, '--data', 'data'],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ | {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'},
            )
        with open(folder / 'suspects.csv', encoding='utf-8-sig', newline='') as f:
            rows = [*csv.DictReader(f)][:COUNT]
        files = [Path(row['picture']).name for row in rows]
        hits = [hit(row, planted.get(file, []), names) for row, file in zip(rows, files)]
        hits = [found for found in zip(files, hits) if found[1] is not None]
        return len({*hits}), len(hits)


def main(seeds=2, only=None):
    print('| labels | trained on | seed | planted | found | entries that hit |')
    print('|---|---|---|---|---|---|')
    for seed in range(1, seeds + 1):
        for name, kinds in {'streets': STREET, 'cells': (1,)}.items():
            if only not in (None, name):
                continue
            with tempfile.TemporaryDirectory() as folder:
                data, names = Path(folder) / 'data', CAMVID.names
                if name == 'streets':
                    draw_camvid(data, train=160, val=64, test=0, size=(120, 160), seed=seed)
                    for empty in 'test', 'testannot':
                        (data / empty).rmdir()
                else:
                    draw(data, touching)
                    names = TWO_CLASSES.names
                for noisy in False, True:
                    found = measure(data, kinds, names, noisy, seed)
                    what = 'labels as wrong' if noisy else 'clean labels'
                    cells = (name, what, seed, COUNT, *found)
                    print(f'| {" | ".join(map(str, cells))} |', flush=True)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
