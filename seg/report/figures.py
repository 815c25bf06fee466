"""Training curves and the confusion matrix by matplotlib: a figure as PNG, inline SVG or array."""

import io
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from seg.files import MARK
from seg.report.pictures import find_font, save_picture

PANELS = dict(loss='Loss', accuracy='Pixel accuracy', miou='mIoU', learning_rate='Learning rate')
TRAIN, VAL, GRID = '#8390a2', '#3b82f6', '#80808050'
HIT, MISS = (59, 130, 246), (234, 88, 12)  # blue, orange
FEW = 25  # classes; more get small cells without numbers


def curves_figure(history):
    """A panel each for loss, pixel accuracy, mIoU and learning rate by epoch, of {'loss': [of each
    epoch], 'val_loss': [...], ...}; nan or None is a gap, and what is missing gets no panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 5.4))  # a layout that is computed takes half of the time to draw
    places = dict(left=0.06, right=0.99, bottom=0.05, top=0.95, wspace=0.2, hspace=0.3)
    figure.set_label('Loss, pixel accuracy, mIoU and learning rate by epoch')
    for panel, axes in zip(PANELS, figure.subplots(2, 2, gridspec_kw=places).flat):
        for key, name, colour in ((panel, 'train', TRAIN), (f'val_{panel}', 'val', VAL)):
            values = np.array(history.get(key) or [], float)
            if len(values):  # dots, as no line shows a value between two gaps
                axes.plot(np.arange(len(values)) + 1, values, '.-', gid=key, label=name, c=colour)
        axes.set_title(PANELS[panel], loc='left', fontsize=10)
        axes.yaxis.set_major_formatter('{x:g}')
        axes.locator_params('x', integer=True, min_n_ticks=1)
        axes.grid(axis='y', color=GRID)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=9)
        if not axes.lines:
            axes.remove()
        elif panel != 'learning_rate':  # the legend beside the title, where no curve runs
            axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return figure


def matrix_of(counts, table):
    """(names of the rows, truth; of the columns, prediction; share (n, m) of the pixels of a row;
    opacity (n, m) of its cell) of metrics.confusion's counts, (n, n) or, with a column for no
    class, (n, n + 1)."""
    counts, rows = np.asarray(counts, float), [table.names[i] for i in table.scored]
    columns = rows + ['no class'] * bool(counts[:, len(rows) :].any())
    share = counts[:, : len(columns)] / np.maximum(counts.sum(1, keepdims=True), 1)
    # The root shows a few percent of wrong ones as well; on 0.7 a number is still readable.
    return rows, columns, share, 0.7 * np.where(np.eye(*share.shape), share, share**0.5)


def confusion_figure(counts, table):
    """metrics.confusion's counts, each row in percent of its pixels."""
    from matplotlib.figure import Figure

    rows, columns, share, opacity = matrix_of(counts, table)
    few = len(rows) <= FEW
    cell, size = (0.42, 9) if few else (0.15, 7)  # inches, points
    figure = Figure(figsize=(cell * len(columns), cell * len(rows)))
    figure.set_label('Confusion matrix: percent of the pixels of each true class')
    axes = figure.add_axes((0, 0, 1, 1))
    colour = np.where(np.eye(*share.shape)[..., None], HIT, MISS) / 255
    axes.imshow(np.dstack([colour, opacity]), interpolation='none')
    axes.set_title('prediction', fontsize=10)
    axes.set_ylabel('truth')
    file = find_font(''.join(table.names)).path  # none: Pillow's own does, and matplotlib's as well
    style = {'font': Path(file)} if isinstance(file, str) else {}
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(len(names)), names, fontsize=size, parse_math=False, **style)
        axis.set_ticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.tick_params('x', labeltop=True, labelbottom=False, labelrotation=90)
    axes.tick_params(which='both', length=0)
    axes.grid(which='minor', color=GRID)
    axes.spines[:].set_color(GRID)
    for i, j in np.argwhere(share >= 0.005) if few else ():
        axes.text(j, i, f'{100 * share[i, j]:.0f}', ha='center', va='center', fontsize=size)
    return figure


def to_array(figure):
    """A figure as uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(_saved(figure, 'png'))).convert('RGB'))


def to_png(figure, path):
    """Write a figure as PNG, whole or not at all."""
    save_picture(to_array(figure), path)


def to_svg(figure):
    """A figure as an <svg> element for HTML: text stays text, in the colour of the page; equal
    figures give equal bytes."""
    about = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))  # none of it
    data = _saved(figure, 'svg', transparent=True, metadata=about).decode()
    svg = re.sub(r'<g id="[\w.]+_\d+"', '<g', data)  # axes_1 would be in every figure of a page
    return f'<svg role="img" aria-label="{figure.get_label()}"' + svg.partition('<svg')[2]


def _saved(figure, kind, **options):
    """The bytes that matplotlib writes."""
    from matplotlib import rc_context

    data, settings = io.BytesIO(), {'svg.fonttype': 'none', 'svg.hashsalt': MARK}
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # find_font has told
        figure.savefig(data, format=kind, dpi=120, bbox_inches='tight', **options)
    return data.getvalue()
