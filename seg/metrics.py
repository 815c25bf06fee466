"""Scores from one confusion count, by SegNet's protocol: the one the CamVid literature uses.

Counts are integers, summed over every image and divided once; every pixel whose truth is a scored
class counts once, unweighted, the others are dropped. A prediction is the most probable of the
scored classes. model.Scores computes the same during training.

What the corners count: a class with no hit counts 0, in its own figures and in every mean. A class
in neither truth nor prediction is absent: nan (null in JSON), and no part of a mean, for 0/0 says
nothing about it; how many classes a mean is over is told with it. Void predicted on a scored
pixel, which only masks of other programs hold, is a miss.
"""

import os
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from seg.files import InputError, list_pictures, write_json
from seg.readers import read_label, read_raws, recognise

MEANS = {
    'miou': 'mIoU',
    'accuracy': 'pixel accuracy',
    'class_accuracy': 'class accuracy',
    'fw_iou': 'frequency-weighted IoU',
}
COLUMNS = {'share': 'share', 'iou': 'IoU', 'f1': 'F1', 'precision': 'precision', 'recall': 'recall'}


def confusion(truth, prediction, table, other=False):
    """int64 (n, n) counts over the n scored classes, rows truth, columns prediction.

    Args:
        truth, prediction: uint8 class indices of one shape. Pixels whose truth is not scored are
            dropped. A prediction that is no scored class raises ValueError: forgiving it flatters.
        table: ClassTable.
        other: such predictions are counted instead, in a last column of their own: (n, n + 1).
    """
    if truth.shape != prediction.shape:
        raise ValueError(f'truth of shape {truth.shape}, prediction of {prediction.shape}')
    n = len(table.scored)
    place = np.full(256, n, np.uint16)  # of each index among the scored; n: none of them
    place[table.scored] = np.arange(n)
    cell = place[truth] * (n + 1) + place[prediction]  # below 2**16: there are 255 classes at most
    counts = np.bincount(cell.ravel(), minlength=(n + 1) ** 2).reshape(n + 1, n + 1)[:n]
    if other:
        return counts
    if counts[:, n].any():
        raise ValueError('a pixel of a scored class is predicted as none of the scored classes')
    return counts[:, :n]


def scores(counts):
    """Scores of a confusion count (n, n) or (n, n + 1): floats 0..1, per-class arrays (n,).

    iou = diagonal / (row + column - diagonal), miou its mean, fw_iou its mean weighted by share;
    f1, the Dice coefficient, = 2 diagonal / (row + column); precision = diagonal / column; recall
    = diagonal / row, class_accuracy its mean over the classes of the truth; share = row / pixels;
    accuracy = hits / pixels. classes: how many occur in truth or prediction, which miou is over.
    """
    counts = np.asarray(counts, np.float64)
    n = len(counts)
    hit, row, column = np.diag(counts), counts.sum(1), counts[:, :n].sum(0)
    seen, occurs, pixels = row + column > 0, row > 0, row.sum()

    def ratio(part, whole):  # 0 where a class that occurs has nothing to divide by
        return np.where(seen, part / np.maximum(whole, 1), np.nan)

    def mean(values):
        return float(values.mean()) if len(values) else float('nan')

    iou, recall = ratio(hit, row + column - hit), ratio(hit, row)
    return {
        'miou': mean(iou[seen]),
        'accuracy': float(hit.sum() / pixels) if pixels else float('nan'),
        'class_accuracy': mean(recall[occurs]),
        'fw_iou': float((row * iou)[seen].sum() / pixels) if pixels else float('nan'),
        'classes': int(seen.sum()),
        'pixels': int(pixels),
        'share': row / pixels if pixels else np.full(n, np.nan),
        'iou': iou,
        'f1': ratio(2 * hit, row + column),
        'precision': ratio(hit, column),
        'recall': recall,
    }


def evaluate_masks(folder, pairs, classes, formats, each=None):
    """Confusion count (n, n + 1) of masks that any program made, against labels.

    Masks can not be asked for the most probable scored class: where one says void, or nothing, on
    a scored pixel, that is a miss and counted in the last column.

    Args:
        folder: with a mask (index or colour) for each image, of its file name but for the suffix
            and an ending such as _mask or _pred.
        pairs: [(image path, label path)]; classes: ClassTable; formats: of the labels, as
            readers.recognise has it.
        each: called with (image file's name, its path, truth, index) of every image, in order.
    Raises: InputError with the file that is missing, can not be read or has another size.
    """
    masks = _masks(folder, pairs)
    kinds = formats, recognise(read_raws(masks), classes)[0]

    def read(item):
        (_, label), mask = item
        truth, index = (read_label(p, classes, k) for p, k in zip((label, mask), kinds))
        same_size(mask, index, label, truth)
        return truth, index, confusion(truth, index, classes, other=True)

    counts = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(pairs), 16):  # a few at a time: memory stays flat
            some = list(zip(pairs, masks))[start : start + 16]
            for ((image, _), _), (truth, index, count) in zip(some, pool.map(read, some)):
                counts = counts + count
                if each:
                    each(Path(image).name, image, truth, index)
    return counts


def _masks(folder, pairs):
    """The mask file of each pair; InputError for the first that is missing or there twice."""
    exact, ending = {}, {}
    for file in list_pictures(folder):
        stem = unicodedata.normalize('NFC', file.stem)
        exact.setdefault(stem, []).append(file)
        bare = re.sub('[-_.](pred|prediction|mask|label|seg|out|output)s?$', '', stem, flags=re.I)
        ending.setdefault(bare, []).append(file)
    masks = []
    for image, label in pairs:
        stem, other = (unicodedata.normalize('NFC', Path(p).stem) for p in (image, label))
        found = exact.get(stem) or exact.get(other) or ending.get(stem, [])
        if len(found) != 1:
            names = ', '.join(p.name for p in found) or 'none of that name'
            raise InputError(f'{folder}: expected one mask {stem}.png for {image}, found {names}')
        masks += found
    return masks


def same_size(path, index, label_path, truth):
    """InputError where a prediction and its label differ in size."""
    if index.shape != truth.shape:
        raise InputError(
            '{}: {}x{} pixels, but its label {} has {}x{}; scores need the same size'.format(
                path, *index.shape, label_path, *truth.shape
            )
        )


def format_scores(result, table):
    """The table people read, a line for each class, in percent; the means below it."""
    names = [table.names[i] for i in table.scored]
    wide = [sum(unicodedata.east_asian_width(c) in 'WF' for c in name) for name in names]
    width = max(15, *(len(name) + w for name, w in zip(names, wide))) + 1
    lines = [f'{"class":{width}}' + ''.join(f'{title + " %":>12}' for title in COLUMNS.values())]
    for i, name in enumerate(names):
        cells = [f'{100 * result[key][i]:.{1 + (key == "share")}f}' for key in COLUMNS]
        cells = [cell.replace('nan', 'absent') for cell in cells]
        lines.append(f'{name:{width - wide[i]}}' + ''.join(f'{cell:>12}' for cell in cells))
    means = '   '.join(f'{name} {100 * result[key]:.1f} %' for key, name in MEANS.items())
    if result['classes'] < len(names):
        means += f'   (over the {result["classes"]} of {len(names)} classes that occur)'
    return '\n'.join([*lines, means])


def write_scores(path, counts, table, **about):
    """scores.json, whole or not at all: `about` (split, model, ...), the scores, the counts."""
    result = {
        k: np.where(np.isnan(v), None, v) if isinstance(v, np.ndarray) else v
        for k, v in scores(counts).items()
    }
    result = {k: None if v != v else v for k, v in result.items() if k not in COLUMNS} | {
        'class': {
            table.names[i]: {k: result[k][row] for k in COLUMNS}
            for row, i in enumerate(table.scored)
        }
    }
    write_json(path, about | result | {'confusion': np.asarray(counts).tolist()})


def warnings(counts, table, val_losses=(), epochs=5):
    """Signs of a network that learns nothing: lines with the likely causes in order, mostly none.

    Args: counts: of confusion; val_losses: of all epochs so far; epochs: how many are several.
    """
    counts, lines, n = np.asarray(counts, np.float64), [], len(counts)
    names = [table.names[i] for i in table.scored]
    row, column, total = counts.sum(1), counts[:, :n].sum(0), max(counts.sum(), 1)
    top, found = column.argmax(), (np.diag(counts) >= row / 2).all()
    if column[top] > 0.995 * total and not found:  # found: the truth itself is so one-sided
        lines.append(
            f'{names[top]} takes {100 * column[top] / total:.1f} % of the predicted pixels and has '
            f'{100 * row[top] / total:.1f} % of the truth. Likely causes: too few steps yet; a '
            'learning rate too high (try a tenth); labels read wrongly (`python main.py check`); '
            'classes out of balance'
        )
    never = [
        f'{names[i]} {100 * row[i] / total:.1f} %'
        for i in range(n)
        if row[i] > 0.01 * total and not column[i]
    ]
    if never:
        lines.append(
            f'{", ".join(never)} of the truth never predicted. Likely causes: too few steps yet; '
            'rare in training (class weights help); labelled otherwise in training'
        )
    losses = [v for v in val_losses if v == v]
    last, first = losses[-epochs - 1 :], losses[0] if losses else 0
    # Flat to the digit, or flat without ever having fallen: slow progress late in a run is neither.
    still = (0.01 if min(losses, default=0) > 0.98 * first else 1e-4) * abs(last[-1] if last else 0)
    if len(last) > epochs and max(last) - min(last) <= still:
        lines.append(
            f'val_loss has not moved for {epochs} epochs ({last[-1]:.4g}). Likely causes: a '
            'learning rate too high, at which the network got stuck (try a tenth); one too low, or '
            'decayed to nothing; labels that do not fit the images (`python main.py check`)'
        )
    return lines
