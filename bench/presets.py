"""A step, a prediction and the peak memory of the presets, side by side.

    python bench/presets.py [PRESET ...]            (default fast transfer)

Two pictures of 360x480 a step, one a prediction, 12 classes, as training and `predict` have them.
Each preset is a process of its own; they take turns, seven rounds; the medians, and the memory of
a process that has trained and predicted (TensorFlow alone takes about 0.5 GB of it).
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402

SIZE, CLASSES, ROUNDS = (360, 480), 12, 7


def work(preset):
    """A preset's process: for each line that comes in the seconds of a step and of a prediction."""
    from main import NETWORK, PRESETS
    from model import unet

    import keras  # isort: skip

    from seg.losses import compile_model
    from seg.settings import Settings
    from seg.speed import make_optimizer

    settings = Settings(**PRESETS[preset])
    model = unet(None, (*SIZE, 3), CLASSES, **{name: getattr(settings, name) for name in NETWORK})
    logits = keras.Model(model.inputs, model.layers[-1].input)
    optimizer = make_optimizer(logits, settings, settings.learning_rate)
    classes = model.about.classes
    compile_model(logits, classes, optimizer, settings.loss, activation='softmax')
    rng = np.random.default_rng(0)
    x = rng.random((2, *SIZE, 3), np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (2, *SIZE))]

    def seconds(do, *arrays):
        begin = time.perf_counter()
        do(*arrays)
        return time.perf_counter() - begin

    def both():
        return seconds(logits.train_on_batch, x, y), seconds(model.predict_on_batch, x[:1])

    for _ in range(3):
        both()
    print(model.count_params(), flush=True)
    for _ in sys.stdin:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kilobytes on Linux
        print(*both(), peak, flush=True)


def main(names):
    workers, found = {}, {name: [] for name in names}
    for name in names:  # one after the other, so that none warms up beside another
        command = [sys.executable, __file__, 'work', name]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers[name] = subprocess.Popen(command, **pipes)
        parameters = workers[name].stdout.readline()
        print(f'{name}: {int(parameters):,} parameters')
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            print(file=worker.stdin, flush=True)
            found[name].append([float(v) for v in worker.stdout.readline().split()])
    print('| preset | s a step | s a prediction | peak memory, GB |\n|---|---|---|---|')
    for name, rows in found.items():
        step, prediction, peak = np.median(rows, axis=0)
        print(f'| {name} | {step:.3f} | {prediction:.3f} | {peak:.2f} |')
        workers[name].stdin.close()
        workers[name].wait()


if __name__ == '__main__':
    work(sys.argv[2]) if sys.argv[1:2] == ['work'] else main(sys.argv[1:] or ['fast', 'transfer'])
