"""Image/label pairs a second: the article's two zipped ImageDataGenerators against ours.

    python bench/pipeline.py [REPEATS]

Same arguments, 24 drawn scenes of 360x480 in CamVid's layout, batches of two with one-hot labels
of 13 classes, files read and augmented in full on both sides (after a first pass, ours has them in
memory, as in any training). Alternating repeats, medians, in one process.
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
sys.path.insert(0, str(Path(__file__).parents[1]))
warnings.filterwarnings('ignore')

import numpy as np
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from datapre import trainGenerator
from main import AUG_ARGS
from seg.scenes import draw_camvid

PAIRS = {'article': 30, 'ours': 400}  # a repeat takes a few seconds on each side


def article(folder):
    """The pipeline as the article has it: one generator each, one seed, one-hot in a loop."""
    flows = [
        ImageDataGenerator(**AUG_ARGS).flow_from_directory(
            folder,
            classes=[name],
            class_mode=None,
            color_mode='rgb',
            target_size=(360, 480),
            batch_size=2,
            seed=1,
        )
        for name in ('train', 'trainannot')
    ]
    for image, label in zip(*flows):
        label = label[..., 0]
        one_hot = np.zeros(label.shape + (13,))
        for i in range(13):
            one_hot[label == i, i] = 1
        yield image / 255, one_hot


def main(repeats=5):
    with tempfile.TemporaryDirectory() as folder:
        draw_camvid(Path(folder) / 'data', train=24, val=0, test=0, size=(360, 480))
        data = f'{folder}/data'
        streams = {
            'article': article(data),
            'ours': iter(trainGenerator(2, AUG_ARGS, data, 'train', 'trainannot')),
        }
        rates = {name: [] for name in streams}
        for repeat in range(repeats + 1):  # the first warms up
            for name, stream in streams.items():
                begin = time.perf_counter()
                for _ in range(PAIRS[name] // 2):
                    image, label = next(stream)
                seconds = time.perf_counter() - begin
                assert label.shape == (2, 360, 480, 13)
                if repeat:
                    rates[name].append(PAIRS[name] / seconds)
    a, o = (float(np.median(rates[name])) for name in ('article', 'ours'))
    print(
        f'pairs a second, 360x480, median of {repeats}: article {a:.1f}, ours {o:.1f}, '
        f'ratio {o / a:.1f}'
    )
    return o / a


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]))
