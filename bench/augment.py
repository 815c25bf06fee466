"""Pairs a second of every augmentation, beside the article's pipeline and albumentations.

    python bench/augment.py        (`pip install albumentations` first, to have it beside)

All do the article's job: from decoded 360x480 pictures and labels to batches of two, images float32
of 0..1 and one-hot labels of 12 classes. `batches` is that whole job, ours in tf.data on all cores,
albumentations in a Python loop; `alone` is the operation by itself, one pair after another, ours on
float32, albumentations on uint8. Candidates take turns, five times each; the median is printed.
"""

import importlib.util
import itertools
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
import tensorflow as tf
from tensorflow.keras.preprocessing.image import ImageDataGenerator

import datapre
from main import AUG_ARGS
from seg import augment
from seg.scenes import draw_scene
from seg.sizes import SizeRule

SIZE, CLASSES, REPEATS, BATCHES = (360, 480), 12, 5, 10
WARP = 'scale=0.75-1.6,rotate=10,shear=10,shift=0.1,flip'
COLOUR = 'gamma=0.5,brightness=0.2,contrast=0.5,saturation=0.5,hue=0.05'
TEXTS = [WARP, COLOUR, *augment.OPERATIONS]


class Memory(datapre.Pairs):
    """Eight scenes, as datapre.Pairs gives them once they are decoded."""

    cropped = borders = False
    rule, dtype, data = SizeRule('whole', *SIZE), np.uint8, SimpleNamespace(channels=3)

    def __init__(self):
        self.pairs = [draw_scene(i, SIZE) for i in range(8)]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        return self.pairs[i]


def the_article(memory):
    """Two zipped generators and the one-hot loop; from arrays, as its folders cost decoding."""
    images = np.stack([image for image, _ in memory.pairs])
    labels = np.stack([label for _, label in memory.pairs])[..., None]
    flows = [ImageDataGenerator(**AUG_ARGS).flow(x, batch_size=2, seed=1) for x in (images, labels)]
    for image, mask in zip(*flows):
        one_hot = np.zeros((*mask.shape[:3], CLASSES))
        for i in range(CLASSES):
            one_hot[mask[..., 0] == i, i] = 1
        yield image / 255, one_hot


def ours(memory, augmentation):
    return iter(datapre.train_batches(memory, 2, CLASSES, augmentation))


def alone(memory, text):
    """(function of k, pairs that it does)."""
    augmentation = augment.parse(text)
    images = tf.constant(np.stack([image for image, _ in memory.pairs[:2]]), tf.float32) / 255
    labels = tf.constant(np.stack([label for _, label in memory.pairs[:2]]))
    one_hot = tf.one_hot(labels, CLASSES)
    if augmentation.mix:
        return tf.function(lambda k: augmentation.mix(images, one_hot, tf.stack([1, k]))), 2
    return tf.function(lambda k: augmentation.pair(images[0], labels[0], tf.stack([1, k]))), 1


def theirs():
    """{text: albumentations' nearest}; empty where it is not installed."""
    if not importlib.util.find_spec('albumentations'):
        return {}
    import albumentations as a

    warp = a.Affine(
        scale=(0.75, 1.6),
        rotate=(-10, 10),
        shear=(-10, 10),
        p=1,
        fill_mask=255,
        translate_percent=(-0.1, 0.1),
    )
    light = dict(brightness_limit=(0, 0), contrast_limit=(0, 0), p=1)
    hsv = dict(hue_shift_limit=(0, 0), sat_shift_limit=(0, 0), val_shift_limit=(0, 0), p=1)
    look = {
        'gamma': a.RandomGamma((67, 150), p=1),
        'brightness': a.RandomBrightnessContrast(**light | dict(brightness_limit=0.2)),
        'contrast': a.RandomBrightnessContrast(**light | dict(contrast_limit=(-0.33, 0.5))),
        'saturation': a.ColorJitter((1, 1), (1, 1), (0.67, 1.5), (0, 0), p=1),
        'hue': a.HueSaturationValue(**hsv | dict(hue_shift_limit=18)),
    }
    found = look | {
        WARP: a.Compose([warp, a.HorizontalFlip(p=0.5)]),
        COLOUR: a.Compose(list(look.values())),
        'scale': a.Affine(scale=(0.67, 1.5), p=1, fill_mask=255),
        'rotate': a.Affine(rotate=(-10, 10), p=1, fill_mask=255),
        'shear': a.Affine(shear=(-10, 10), p=1, fill_mask=255),
        'shift': a.Affine(translate_percent=(-0.1, 0.1), p=1, fill_mask=255),
        'flip': a.HorizontalFlip(p=0.5),
        'vflip': a.VerticalFlip(p=0.5),
        'noise': a.GaussNoise(std_range=(0, 0.1), p=1),
        'channel_shift': a.RGBShift(25, 25, 25, p=1),
        'jitter': a.ColorJitter((0.83, 1.2), (0.83, 1.2), (0.83, 1.2), (0, 0), p=1),
        'cutout': a.CoarseDropout((1, 1), (0.5, 0.5), (0.375, 0.375), p=1),
        'erasing': a.Erasing(scale=(0.02, 0.4), ratio=(0.3, 3.3), fill='random', p=1),
        'gridmask': a.GridDropout(ratio=0.4, unit_size_range=(154, 360), random_offset=True, p=1),
    }
    return {text: f if isinstance(f, a.Compose) else a.Compose([f]) for text, f in found.items()}


def their_batches(memory, transform):
    while True:
        done = [transform(image=image, mask=label) for image, label in memory.pairs[:2]]
        images = np.stack([d['image'] for d in done]).astype(np.float32) / 255
        labels = np.stack([d['mask'] for d in done])
        yield images, (labels[..., None] == np.arange(CLASSES)).astype(np.float32)


def seconds(step, times):
    step()  # warm: traced, buffers filled
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def main():
    memory, others = Memory(), theirs()
    article = the_article(memory)
    operations, k, times = {text: alone(memory, text) for text in TEXTS}, itertools.count(), {}

    def measure(name, step, count, per):
        times.setdefault(name, []).append(seconds(step, count) / per)

    def measure_ours(name, augmentation):
        # A fresh stream: one that waits for its turn would go on filling its buffers.
        batches = ours(memory, augmentation)
        next(batches), next(batches), next(batches)
        measure((name, 'batches'), lambda: next(batches), BATCHES, 2)

    for _ in range(REPEATS):
        measure(('article', 'batches'), lambda: next(article), BATCHES, 2)
        measure_ours('aug_args', augment.from_aug_dict(AUG_ARGS))
        for text in ('', *TEXTS):
            measure_ours(text, augment.parse(text))
        for text in TEXTS:
            f, per = operations[text]
            measure((text, 'alone'), lambda f=f: f(tf.constant(next(k))), BATCHES, per)
            if text in others:
                batches = their_batches(memory, others[text])
                pair = dict(zip(('image', 'mask'), memory.pairs[0]))
                measure((text, 'their batches'), lambda b=batches: next(b), BATCHES, 2)
                measure((text, 'their alone'), partial(others[text], **pair), BATCHES, 1)
    median = {name: np.median(t) for name, t in times.items()}

    print(
        f'{platform.processor() or platform.machine()}, {os.cpu_count()} cores, tensorflow '
        f'{tf.__version__}; {SIZE[0]}x{SIZE[1]}, median of {REPEATS}'
    )
    article = 1 / median['article', 'batches']
    for name, title in (
        ('article', "the article's pipeline"),
        ('aug_args', 'ours, its aug_args'),
        ('', 'ours, no augmentation'),
    ):
        print(f'{title:32}{1 / median[name, "batches"]:8.1f} pairs/s')
    print(f'\n{"":32}{"batches, pairs/s":>26}{"alone, ms":>22}')
    print(f'{"":32}{"ours":>8}{"x article":>10}{"albument.":>10}{"ours":>12}{"albument.":>10}')
    for text in TEXTS:
        label = {WARP: 'composed warp', COLOUR: 'colour set'}.get(text, text)
        rate = 1 / median[text, 'batches']
        line = f'{label:32}{rate:8.1f}{rate / article:10.1f}'
        other = text in others
        line += f'{1 / median[text, "their batches"]:10.1f}' if other else f'{"-":>10}'
        line += f'{1000 * median[text, "alone"]:12.2f}'
        print(line + (f'{1000 * median[text, "their alone"]:10.2f}' if other else f'{"-":>10}'))
    slower = [text for text in TEXTS if 1 / median[text, 'batches'] < article]
    print('Slower than the article: ' + (', '.join(slower) or 'none'))
    return 1 if slower else 0


if __name__ == '__main__':
    sys.exit(main())
