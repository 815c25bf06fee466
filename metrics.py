"""Scores from one confusion count, by SegNet's protocol: the one the CamVid literature uses.

Counts are summed over every image and divided once. Pixels whose truth is void (or no class) are
dropped; a prediction is the most probable of the scored classes; a class that is never hit counts
0 in the mean, one that occurs in neither truth nor prediction is absent (nan) and reported so.
"""

import numpy as np


def confusion(truth, prediction, table):
    """int64 (n, n) counts over the n scored classes, rows truth, columns prediction.

    Args:
        truth, prediction: uint8 class indices of one shape. Pixels whose truth is not scored are
            dropped. A prediction outside the scored classes raises ValueError: forgiving it would
            flatter.
        table: ClassTable.
    """
    n = len(table.scored)
    place = np.full(256, n, np.int64)
    place[table.scored] = np.arange(n)
    t, p = place[truth.ravel()], place[prediction.ravel()]
    kept = t < n
    if (p[kept] == n).any():
        raise ValueError('a pixel of a scored class is predicted as none of the scored classes')
    return np.bincount(t[kept] * n + p[kept], minlength=n * n).reshape(n, n)


def scores(counts):
    """Scores of a confusion count (n, n), as a dict of floats 0..1 and per-class arrays (n,).

    iou = diagonal / (row + column - diagonal); miou is its sum over n, absent classes left out of
    both; accuracy = hits / pixels; class_accuracy = mean of hits / row over classes that occur.
    """
    counts = np.asarray(counts, np.float64)
    hit, row, column = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        iou = hit / (row + column - hit)
        recall = hit / row
        share = row / row.sum()
        accuracy = hit.sum() / row.sum()
    seen, occurs = row + column > 0, row > 0
    return {
        'miou': float(iou[seen].mean()) if seen.any() else float('nan'),
        'accuracy': float(accuracy),
        'class_accuracy': float(recall[occurs].mean()) if occurs.any() else float('nan'),
        'iou': iou,
        'recall': recall,
        'share': share,
        'pixels': int(row.sum()),
    }


def format_scores(result, table):
    """The table people read: class, share of the truth, IoU; then the means, in percent."""
    lines = [f'{"class":<16}{"share %":>9}{"IoU %":>8}']
    for i, share, iou in zip(table.scored, result['share'], result['iou']):
        value = 'absent' if np.isnan(iou) else f'{100 * iou:.1f}'
        lines.append(f'{table.names[i]:<16}{100 * share:>9.2f}{value:>8}')
    lines.append(
        f'mIoU {100 * result["miou"]:.1f} %   pixel accuracy {100 * result["accuracy"]:.1f} %   '
        f'class accuracy {100 * result["class_accuracy"]:.1f} %'
    )
    return '\n'.join(lines)
