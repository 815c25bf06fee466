"""Exports beside Keras: what they differ by, their size, the time of a picture, what int8 loses.

    python bench/export.py CAMVID [MODEL ...]      (default: the network that comes along)
    python bench/export.py CAMVID int8 [MODEL ...] (the mIoU of int8 on val, some minutes)

Ten validation pictures, at the size that the model takes and, by the same network at a free size,
at their own, padded to multiples of 32. The largest difference of probabilities and the pixels of
the same class are over all ten. Times: each engine paints four pictures, one at a time, and they
take turns, seven rounds after one that warms up; the median, all in one process, each engine with
as many threads as there are cores. `predict` is what the verb takes, with reading, two pictures in
work at a time.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from seg import cli

cli.quiet_tensorflow()
import numpy as np

from seg import export
from seg.export import EXPORTS, at_size, compare
from seg.folds import load_models
from seg.predict import jobs_of, paint
from seg.settings import SHIPPED, Settings

ROUNDS, PICTURES = 7, 4


def opened(network, folder, name, pictures=()):
    """(Exported, MB) of a network in the format `name`; with pictures in int8."""
    kind = EXPORTS[name]
    path = Path(folder) / f'{len(list(Path(folder).iterdir()))}{kind.suffix}'
    kind.write(network, path, None, pictures)
    return kind.open(path, network), path.stat().st_size / 1e6


def alone(engine, batches):
    for batch in batches:
        engine.predict_on_batch(batch)


def by_verb(engine, jobs):
    for _ in paint(engine, jobs):
        pass


def timed(engines, act, items):
    """{name: median milliseconds an item of act(engine, items)} of engines that take turns."""
    seconds = {name: [] for name in engines}
    for _ in range(ROUNDS + 1):
        for name, engine in engines.items():
            begin = time.perf_counter()
            act(engine, items)
            seconds[name].append(time.perf_counter() - begin)
    each = 1000 / len(items)
    return {name: each * float(np.median(found[1:])) for name, found in seconds.items()}


def beside(name, data, model):
    """Print a line for each engine and size."""
    pairs = export._some(data.pairs('val'), 10)
    for size in (None, 'free'):
        network = at_size(model, size)
        pictures = export._inputs([image for image, _ in pairs], network)
        batches = [export._batch(picture) for picture in pictures[:PICTURES]]
        jobs = jobs_of(network, [(image, None) for image, _ in pairs])
        calibrating = () if size else export._calibrating(data, network)
        with tempfile.TemporaryDirectory() as folder:
            engines, megabytes = {'Keras': network}, {'Keras': 0}
            for kind in ('onnx', 'litert'):
                engines[kind], megabytes[kind] = opened(network, folder, kind)
                if len(calibrating):
                    small = f'{kind} int8'
                    engines[small], megabytes[small] = opened(network, folder, kind, calibrating)
            one, verb = timed(engines, alone, batches), timed(engines, by_verb, jobs)
            for engine, found in engines.items():
                gap, alike = compare(network, found, pictures)
                of = size or '{}x{}'.format(*network.input_shape[1:3])
                line = f'{name} {of:8} {engine:12} {megabytes[engine]:5.1f} MB'
                line += f'  largest difference {gap:.1e}  alike {100 * alike:7.3f} %'
                print(f'{line}  {one[engine]:6.1f} ms, predict {verb[engine]:6.1f}', flush=True)


def main(folder, *names):
    lost, models = 'int8' in names, [n for n in names if n != 'int8'] or [SHIPPED]
    for name in models:
        model = load_models(name)
        data, split, scored = export._data(model, Settings(data=folder), {})
        if not lost:
            beside(name, data, model)
            continue
        network, engines = at_size(model), {}
        with tempfile.TemporaryDirectory() as place:
            pictures = export._calibrating(data, network)
            for kind in ('onnx', 'litert'):
                engines[kind], _ = opened(network, place, kind, pictures)
            for kind, small in engines.items():
                print(f'{name} {kind}')
                export._tell_lost((network, small), data, split, scored)


if __name__ == '__main__':
    main(*sys.argv[1:])
