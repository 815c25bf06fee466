"""Scores from one confusion count, by SegNet's protocol: the one the CamVid literature uses.
Counts are summed over every image and divided once; every pixel whose truth is a scored class
counts once, the others are dropped. A prediction is the most probable of the scored classes. A
class with no hit counts 0 in every mean; one in neither truth nor prediction is absent: nan (null
in JSON), and no part of a mean. losses.Scores computes the same during training.
"""

import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np

from seg.files import InputError, list_pictures, write_json
from seg.formats import pages_of
from seg.readers import in_threads, read_label, read_raws, recognise

MEANS = {'miou': 'mIoU', 'accuracy': 'pixel accuracy', 'class_accuracy': 'class accuracy'}
MEANS |= {'fw_iou': 'frequency-weighted IoU'}
COLUMNS = {'share': 'share', 'iou': 'IoU', 'f1': 'F1 (Dice)', 'precision': 'precision'}
COLUMNS |= {'recall': 'recall'}


def confusion(truth, prediction, table, other=False):
    """int64 (n, n) counts over the n scored classes, rows truth, columns prediction.

    truth, prediction: uint8 class indices of one shape; pixels whose truth is not scored are
    dropped. A prediction that is no scored class raises ValueError, for forgiving it flatters;
    with `other` it is counted, in a last column of its own: (n, n + 1)."""
    if truth.shape != prediction.shape:
        raise ValueError(f'truth of shape {truth.shape}, prediction of {prediction.shape}')
    n = len(table.scored)
    place = np.full(256, n, np.uint16)  # of each index among the scored; n: none of them
    place[table.scored] = np.arange(n)
    cell = place[truth] * (n + 1) + place[prediction]  # below 2**16: there are 255 classes at most
    counts = np.bincount(cell.ravel(), minlength=(n + 1) ** 2).reshape(n + 1, n + 1)[:n]
    if counts[:, n].any() and not other:
        raise ValueError('a pixel of a scored class is predicted as none of the scored classes')
    return counts if other else counts[:, :n]


def scores(counts):
    """Scores of a confusion count (n, n) or (n, n + 1): floats 0..1, per-class arrays (n,).

    iou = diagonal / (row + column - diagonal), miou its mean, fw_iou its mean weighted by share;
    f1, the Dice coefficient, = 2 diagonal / (row + column); precision = diagonal / column; recall
    = diagonal / row, class_accuracy its mean over the classes of the truth; share = row / pixels;
    accuracy = hits / pixels. classes: how many occur in truth or prediction, which miou is over."""
    counts = np.asarray(counts, np.float64)
    hit, row, column = np.diag(counts), counts.sum(1), counts[:, : len(counts)].sum(0)
    seen, occurs, pixels = row + column > 0, row > 0, row.sum() or np.nan

    def ratio(part, whole):  # 0 where a class that occurs has nothing to divide by
        return np.where(seen, part / np.maximum(whole, 1), np.nan)

    iou, recall = ratio(hit, row + column - hit), ratio(hit, row)
    result = {
        'miou': iou[seen].sum() / (seen.sum() or np.nan),
        'accuracy': hit.sum() / pixels,
        'class_accuracy': recall[occurs].sum() / (occurs.sum() or np.nan),
        'fw_iou': (row * iou)[seen].sum() / pixels,
    }
    result |= {'classes': int(seen.sum()), 'pixels': int(row.sum()), 'share': row / pixels}
    result |= {'iou': iou, 'f1': ratio(2 * hit, row + column)}
    return result | {'precision': ratio(hit, column), 'recall': recall}


def evaluate_masks(folder, pairs, classes, formats, each=None):
    """Confusion count (n, n + 1) of masks that any program made, against the labels of the pairs:
    void, or nothing, on a scored pixel is a miss, in the last column.

    folder: with a mask (index or colour) for each image, of its name but for an ending such as
    _mask or _pred; InputError with the file that is missing, unreadable or of another size.
    each: called with (image file's name, its path, truth, index) of every image, in order."""
    masks = _masks(folder, pairs)
    kinds, counts = recognise(read_raws(masks), classes)[0], 0

    def read(pair, mask):
        truth, index = read_label(pair[1], classes, formats), read_label(mask, classes, kinds)
        same_size(mask, index, pair[1], truth)
        return truth, index

    for (image, _), painted in zip(pairs, in_threads(read, pairs, masks)):
        counts = counts + confusion(*painted, classes, other=True)
        if each:
            each(Path(image).name, image, *painted)
    return counts


def _masks(folder, pairs):
    """The mask file of each pair; InputError for the first that is missing or there twice."""
    exact, bare, masks = defaultdict(list), defaultdict(list), []
    ending = re.compile('[-_.](pred|prediction|mask|label|seg|out|output)s?$', re.IGNORECASE)
    for file in (page for path in list_pictures(folder) for page in pages_of(path)):
        stem = unicodedata.normalize('NFC', file.stem)
        exact[stem].append(file)
        bare[ending.sub('', stem)].append(file)
    for pair in pairs:
        image, label = (unicodedata.normalize('NFC', Path(path).stem) for path in pair)
        found = exact[image] or exact[label] or bare[image]
        if len(found) != 1:
            found = ', '.join(p.name for p in found) or 'none of that name'
            wanted = f'one mask {image}.png for {pair[0]}'
            raise InputError(f'{folder}: expected {wanted}, found {found}')
        masks += found
    return masks


def same_size(path, index, label_path, truth):
    """InputError where a prediction, or its picture, and the label differ in size."""
    if index.shape[:2] != truth.shape[:2]:
        ours, theirs = ('{}x{}'.format(*a.shape) for a in (index, truth))
        line = f'{path}: {ours} pixels, but its label {label_path} has {theirs}'
        raise InputError(f'{line}; make them the same')


def format_scores(result, table):
    """The table people read, a line for each class, in percent; the means below it."""
    names = [table.names[i] for i in table.scored]
    wide = [sum(unicodedata.east_asian_width(c) in 'WF' for c in name) for name in names]
    width = max(15, *(len(name) + w for name, w in zip(names, wide))) + 1
    lines = [f'{"class":{width}}' + ''.join(f'{title + " %":>12}' for title in COLUMNS.values())]
    for i, name in enumerate(names):
        cells = (f'{100 * result[key][i]:.{1 + (key == "share")}f}' for key in COLUMNS)
        cells = ''.join(f'{cell.replace("nan", "absent"):>12}' for cell in cells)
        lines.append(f'{name:{width - wide[i]}}{cells}')
    means = '   '.join(f'{name} {100 * result[key]:.1f} %' for key, name in MEANS.items())
    if result['classes'] < len(names):
        means += f'   (over the {result["classes"]} of {len(names)} classes that occur)'
    return '\n'.join([*lines, means])


def write_scores(path, counts, table, **about):
    """scores.json, whole or not at all: `about` (split, model, ...), the scores, the counts."""
    result = {key: np.where(np.isnan(x), None, x).tolist() for key, x in scores(counts).items()}
    rows = zip(*(result.pop(key) for key in COLUMNS))
    classes = {table.names[i]: dict(zip(COLUMNS, row)) for i, row in zip(table.scored, rows)}
    write_json(path, about | result | {'class': classes, 'confusion': np.asarray(counts).tolist()})


def warnings(counts, table, val_losses=(), epochs=5):
    """Signs of a network that learns nothing: lines with the likely causes in order, mostly none.
    counts: of confusion; val_losses: of all epochs so far; epochs: how many are several."""
    counts, lines, n = np.asarray(counts, np.float64), [], len(counts)
    names, share = [table.names[i] for i in table.scored], 100 * counts / max(counts.sum(), 1)
    truth, painted = share.sum(1), share[:, :n].sum(0)
    top, found = painted.argmax(), (np.diag(share) >= truth / 2).all()
    if painted[top] > 99.5 and not found:  # found: the truth itself is so one-sided
        lines.append(
            f'{names[top]} takes {painted[top]:.1f} % of the predicted pixels and has '
            f'{truth[top]:.1f} % of the labelled ones. Likely causes: too few steps yet; a '
            'learning rate too high (try a tenth); labels read wrongly (see `check`); classes out '
            'of balance'
        )
    never = [f'{names[i]} ({truth[i]:.1f} %' for i in range(n) if truth[i] > 1 and not painted[i]]
    if never:
        lines.append(
            f'Never predicted: {"), ".join(never)} of the labelled pixels). Likely causes: too few '
            'steps yet; rare in training (class weights help); labelled otherwise in training'
        )
    losses = [loss for loss in val_losses if loss == loss]
    last = losses[-epochs - 1 :]
    # Flat to the digit, or flat without ever having fallen: slow progress late in a run is neither.
    flat = 0.01 if losses and min(losses) > 0.98 * losses[0] else 1e-4
    if len(last) > epochs and max(last) - min(last) <= flat * abs(last[-1]):
        lines.append(
            f'val_loss has not moved for {epochs} epochs ({last[-1]:.4g}). Likely causes: a '
            'learning rate too high, at which the network got stuck (try a tenth); one too low; '
            'labels that do not fit the images (see `check`)'
        )
    return lines


def hopeless(counts, mious, losses, epochs=5):
    """A line on a training that can not reach anything, with the likely causes, mostly '': for
    `epochs` it has answered no better than with one class everywhere, and its loss has not moved.
    counts: of confusion; mious, losses: of validation and of training, of all epochs so far."""
    truth = np.asarray(counts, np.float64).sum(1)
    constant = truth.max() / max(truth.sum() * (truth > 0).sum(), 1)  # mIoU of the commonest class
    before, last = losses[:-epochs], losses[-epochs:]
    if not before or max(mious[-epochs:]) > 1.1 * constant + 0.01 or min(last) < 0.98 * min(before):
        return ''
    return (
        f'for {epochs} epochs it has painted no better than one class everywhere would (val mIoU '
        f'{100 * mious[-1]:.1f} %), and its loss has not moved ({losses[-1]:.4g}). Likely causes: '
        'a learning rate too high, at which the network got stuck (try a tenth); one too low; '
        'labels that do not fit the images (see `check`)'
    )
