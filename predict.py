"""Pictures in, masks and scores out: what a trained model is for."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import report
from datapre import make_folder, read_image
from labels import indices_to_colours, read_label
from metrics import confusion, scores


def predictions(model, files, flip=False):
    """Yield (file, image uint8 (H, W, C), index uint8 (H, W)) of each, at the picture's own size.

    A picture of another size is scaled to fit the model's, keeping its aspect, the rest padded
    with its edge; the class probabilities are scaled back before the most probable is taken.
    The next picture is read while this one is computed. Raises InputError that names the file.
    """
    height, width, channels = model.input_shape[1:]
    color_mode = 'grayscale' if channels == 1 else 'rgb'

    def read(file):
        image = read_image(file, color_mode)
        scale = min(height / image.shape[0], width / image.shape[1])
        h, w = (max(1, round(s * scale)) for s in image.shape[:2])
        small = image
        if (h, w) != image.shape[:2]:
            small = Image.fromarray(image.squeeze()).resize((w, h), Image.Resampling.LANCZOS)
            small = np.asarray(small).reshape(h, w, channels)
        pads = ((0, height - h), (0, width - w), (0, 0))
        return image, (h, w), np.pad(small, pads, 'edge')[None] / np.float32(255)

    with ThreadPoolExecutor(1) as pool:
        ahead = deque(pool.submit(read, f) for f in files[:2])
        for i, file in enumerate(files):
            image, (h, w), batch = ahead.popleft().result()
            if i + 2 < len(files):
                ahead.append(pool.submit(read, files[i + 2]))
            probability = keras.ops.convert_to_numpy(model.predict_on_batch(batch))[0, :h, :w]
            yield file, image, most_probable(probability, image.shape[:2], model.class_table)


def most_probable(probability, size, classes):
    """Probabilities (h, w, C) -> uint8 index (H, W) of `size`, scaled bilinearly class by class.

    One class after another, so that a large picture needs two of its planes and not C.
    """
    if probability.shape[-1] == 1:
        probability, scored = np.concatenate([1 - probability, probability], -1), [0, 1]
    else:
        scored = classes.scored
    index = np.full(size, scored[0], np.uint8)
    best = None
    for c in scored:
        plane = probability[..., c]
        if plane.shape != tuple(size):
            plane = np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        if best is None:
            best = plane.copy()
        else:
            better = plane > best
            index[better] = c
            np.maximum(best, plane, out=best)
    return index


def predict_files(model, files, output, opacity=0.5):
    """Write <name>.png colour masks to `output`, overlays with a legend to output/overlay/.

    Streams: predict, save, forget. Returns the number of masks.
    """
    masks, overlays = make_folder(output), make_folder(Path(output) / 'overlay')
    classes, bar = model.class_table, keras.utils.Progbar(len(files), unit_name='image')

    def write(file, image, index):
        report.save_picture(indices_to_colours(index, classes), masks / f'{file.stem}.png')
        rgb = np.ascontiguousarray(np.broadcast_to(image, (*index.shape, 3)))
        shown = np.vstack([report.overlay(rgb, index, classes, opacity),
                           report.legend(classes, rgb.shape[1])])  # fmt: skip
        report.save_picture(shown, overlays / f'{file.stem}.jpg')

    with ThreadPoolExecutor(1) as pool:
        waiting = deque()
        for i, result in enumerate(predictions(model, files)):
            waiting.append(pool.submit(write, *result))
            if len(waiting) > 2:
                waiting.popleft().result()
            bar.update(i + 1)
        for written in waiting:
            written.result()
    return len(files)


def evaluate(model, pairs, two_class=False):
    """Confusion count and scores of a model over [(image path, label path)], at the labels' size."""
    classes, counts = model.class_table, 0
    bar = keras.utils.Progbar(len(pairs), unit_name='image')
    truth = dict(pairs)
    for i, (file, _, index) in enumerate(predictions(model, list(truth))):
        counts = counts + confusion(read_label(truth[file], classes, two_class), index, classes)
        bar.update(i + 1)
    return counts, scores(counts)
