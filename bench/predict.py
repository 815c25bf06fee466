"""Prediction: speed against bare predict_on_batch, and peak memory over many pictures.

    python bench/predict.py [REPEATS]

A 16-filter network at 360x480. Speed: 30 pictures decoded, predicted, written as masks, overlays,
against the network alone on pictures in memory, one at a time, alternating, medians. Memory: peak
of a process that predicts 20 pictures and of one that predicts 233.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from seg.scenes import draw_camvid


def pictures(folder, count):
    """`count` pictures of 360x480: 30 drawn ones, again and again under other names."""
    from PIL import Image

    drawn = sorted(Path(folder, 'data/test').iterdir())
    many = Path(folder, f'{count}')
    many.mkdir()
    for i in range(count):
        Image.open(drawn[i % len(drawn)]).save(many / f'{i:03}.png')
    return sorted(many.iterdir())


def memory(folder, count):
    """Peak resident memory, MB, of a process that predicts `count` pictures."""
    command = [sys.executable, __file__, 'peak', str(folder), str(count)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def paint(model, files, folder):
    """What `python main.py predict` does once the model is open."""
    from seg.masks import Masks
    from seg.predict import jobs_of, run
    from seg.settings import Settings

    masks = Masks(folder, files, model.about.classes, Settings())
    run(model, jobs_of(model, [(file, None) for file in files]), [masks])


def peak(folder, count):
    from model import load_model

    files = sorted(Path(folder, str(count)).iterdir())
    paint(load_model(Path(folder) / 'm.hdf5'), files, Path(folder) / f'out{count}')
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(repeats=5):
    from model import save_model, unet
    from seg.pictures import read_image

    with tempfile.TemporaryDirectory() as folder:
        draw_camvid(Path(folder) / 'data', train=0, val=0, test=30, size=(360, 480))
        model = unet(filters=16)
        save_model(model, Path(folder) / 'm.hdf5')
        files = pictures(folder, 30)
        arrays = [read_image(f)[None] / np.float32(255) for f in files]
        seconds = {'bare': [], 'ours': []}
        for repeat in range(repeats + 1):  # the first warms up
            begin = time.perf_counter()
            for x in arrays:
                model.predict_on_batch(x)
            middle = time.perf_counter()
            paint(model, files, Path(folder) / 'out')
            end = time.perf_counter()
            if repeat:
                seconds['bare'].append(middle - begin)
                seconds['ours'].append(end - middle)
        bare, ours = (float(np.median(s)) / len(files) for s in seconds.values())
        print(
            f'\nseconds a picture, median of {repeats}: bare {bare:.3f}, with reading and writing '
            f'{ours:.3f}, speed {100 * bare / ours:.0f} %'
        )
        for count in (20, 233):
            pictures(folder, count)
        few, many = (memory(folder, count) for count in (20, 233))
        print(
            f'peak memory: 20 pictures {few:.0f} MB, 233 pictures {many:.0f} MB, '
            f'{many - few:.0f} MB more'
        )


if __name__ == '__main__':
    if sys.argv[1:2] == ['peak']:
        peak(sys.argv[2], int(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:2]))
