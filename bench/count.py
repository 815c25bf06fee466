"""What the confusion count costs: a training step at 16 filters with it and without.

    python bench/count.py [REPEATS]

Two pictures of 360x480, 13 classes; the same network compiled twice, alternating, medians.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import tensorflow as tf

from model import unet
from seg.classes import CAMVID
from seg.losses import Scores, make_loss


def main(repeats=7):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.random((2, 360, 480, 3), 'float32'))
    y = tf.one_hot(rng.integers(0, 12, (2, 360, 480)), 13)
    scores, step = Scores(CAMVID), unet(filters=16)
    loss = make_loss('categorical_crossentropy', CAMVID, 13, 'softmax', on_logits=False)
    step.compile(keras.optimizers.Adam(), loss=loss)
    output = tf.constant(step.predict_on_batch(x))
    count = tf.function(lambda: scores.update_state(y, output))
    seconds = {'step': [], 'count': []}
    for repeat in range(repeats + 2):  # the first two build the graphs
        a = time.perf_counter()
        step.train_on_batch(x, y)
        b = time.perf_counter()
        for _ in range(5):
            count()
        c = time.perf_counter()
        if repeat > 1:
            seconds['step'].append(b - a)
            seconds['count'].append((c - b) / 5)
    a, b = (1000 * float(np.median(s)) for s in seconds.values())
    print(f'milliseconds, median of {repeats}: step {a:.0f}, count {b:.1f}, {100 * b / a:.1f} %')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]))
