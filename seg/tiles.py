"""Prediction of a picture of any size in overlapping tiles, blended; memory does not grow with it.

Tiles begin at multiples of STEP, where the network's poolings fall as on the whole picture, and
overlap by what it sees beyond a pixel, so that tiled and whole agree (but for a network that takes
means of all that it gets, as those with squeeze-and-excite do).
"""

import math
import tempfile

import numpy as np

from seg.files import not_written
from seg.sizes import STEP

LARGEST_TILE, LARGEST_MAP = 1536, 1 << 28  # pixels a side, bytes of one layer's output
BLEND = 32  # pixels


class OnDisk:
    """An array too large for memory, in a file without a name that goes with the program; written
    row after row, read in parts: array[rows, columns]. file: of an earlier one, which it goes on.
    InputError where the disk is full."""

    def __init__(self, shape, dtype, folder, file=None):
        self.shape, self.dtype, self.folder = tuple(shape), np.dtype(dtype), folder
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        try:
            self.file = file or tempfile.TemporaryFile(dir=folder)
        except OSError as e:
            raise not_written(folder, e) from None
        self.start = self.file.seek(0, 2)

    def append(self, rows):
        try:
            self.file.write(np.ascontiguousarray(rows, self.dtype))
            self.file.flush()
        except OSError as e:
            raise not_written(self.folder, e) from None

    def __getitem__(self, window):  # mapped anew, or all that was ever read would count as memory
        return np.array(np.memmap(self.file, self.dtype, 'r', self.start, self.shape)[window])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)


def thinned(picture, most):
    """A copy of every k-th pixel, `most` a side at most, of an array (H, W, ...) or of a picture
    that is read in parts."""
    height, width = picture.shape[:2]
    step = -(-max(height, width) // most)
    band = -(-1024 // step) * step if step > 1 else height  # of files in strips or tiles
    bands = (picture[y : y + band, 0:width] for y in range(0, height, band))
    return np.concatenate([band[::step, ::step].copy() for band in bands])


def fields(model):
    """[(pixels between neighbours, how many pixels beyond its own one may depend on, channels)] of
    the layers of a network, by their kernels, strides and dilations."""
    found = {}
    for layer in model.layers:
        ends = [found[id(t)] for node in layer._inbound_nodes for t in node.input_tensors]
        step, reach = ends[0][0] if ends else 1, max([end[1] for end in ends], default=0)
        size = getattr(layer, 'kernel_size', None) or getattr(layer, 'pool_size', (1,))
        stride = getattr(layer, 'strides', (1,))[0]
        if 'Transpose' in type(layer).__name__:
            step /= stride
            reach += (size[0] - 1) * step
        else:
            reach += (size[0] - 1) / 2 * getattr(layer, 'dilation_rate', (1,))[0] * step
            step *= stride
        found[id(layer.output)] = step, reach, layer.output.shape[-1]
    return [*found.values()]


def extent(model):
    """(pixels beyond its own that one may depend on, values of the widest layer for each pixel) of
    a network, or the most of several; (inf, 128) where that can not be told."""
    if hasattr(model, 'networks'):
        return tuple(map(max, zip(*map(extent, model.networks))))
    if hasattr(model, 'extent'):  # of an exported file, which says it
        return model.extent
    try:
        known = fields(model)
        if any(getattr(layer, 'layers', None) for layer in model.layers):
            raise KeyError
    except (KeyError, AttributeError, IndexError):  # of networks inside, of layers used twice
        return math.inf, 128
    return max(reach for _, reach, _ in known), max(c / step**2 for step, _, c in known)


def plan(model, tile=None, overlap=None, large=False):
    """((h, w) of tiles, overlap), multiples of STEP: what is given, else tiles as large as memory
    allows, that overlap by twice the network's reach, where tiled and whole are the same; at most
    by a third of them, by half of what is given, of large pictures by a twelfth: there that takes
    1.2 times as long as the whole would, a third 2.3 times."""
    reach, widest = extent(model)
    most = 12 if large else 2 if tile else 3
    if tile is None:
        side = min(math.isqrt(int(LARGEST_MAP / 4 / widest)), LARGEST_TILE) // STEP * STEP
        tile = (max(side, 256),) * 2
    tile = tuple(-(-side // STEP) * STEP for side in tile)
    if overlap is None:
        overlap = math.ceil(min(2 * reach + BLEND, min(tile) // most))
    return tile, min(-(-overlap // STEP) * STEP, min(tile) - STEP)


def spread(length, tile, overlap):
    """(side, [first pixel]) of the fewest tiles along a side, all alike and no larger than need be;
    the last ends with the picture, as padded to a multiple of STEP."""
    whole = -(-length // STEP)
    count = max(1, math.ceil((whole * STEP - overlap) / (tile - overlap)))
    side = -(-(whole + (count - 1) * overlap // STEP) // count)
    return side * STEP, [i * (whole - side) // max(count - 1, 1) * STEP for i in range(count)]


def parts(starts, side):
    """[(first pixel, end, pixels shared with the next)] of what is used of each tile along a side.
    Two that overlap share BLEND pixels in the middle, where each knows most."""
    found, first = [], starts[0]
    for start, after in zip(starts, starts[1:]):
        both = start + side - after
        share = min(both, BLEND)
        begin = after + (both - share) // 2
        found.append((first, begin + share, share))
        first = begin
    return [*found, (first, starts[-1] + side, 0)]


def ramp(n):
    """float32 (n,): what the latter of two tiles counts where they are blended."""
    return (np.arange(n, dtype=np.float32) + 0.5) / max(n, 1)


class Canvas:
    """Puts a picture's tiles together, a row of them after another.

    emit: function(top, left, probabilities (h, w, n)), called with each part that is done."""

    def __init__(self, shape, tile, overlap, emit):
        self.shape, self.emit = shape[:2], emit
        self.sides, self.starts = zip(*(spread(n, t, overlap) for n, t in zip(shape, tile)))
        self.parts = [*map(parts, self.starts, self.sides)]
        self.above = self.below = self.before = None  # what the tile after shares of those before

    def __len__(self):
        return len(self.starts[0]) * len(self.starts[1])

    def windows(self, picture):
        """((i, j), tile of the picture (h, w, C)) of each, beyond the edge as the edge."""
        (high, wide), (height, width) = self.sides, self.shape
        for i, top in enumerate(self.starts[0]):
            rows = picture[top : min(top + high, height), 0:width]  # a file's strips once
            for j, left in enumerate(self.starts[1]):
                part = rows[:, left : left + wide]
                missing = (0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)
                yield (i, j), np.pad(part, missing, 'edge') if np.any(missing) else part

    def add(self, place, output):
        """The network's output (h, w, n) for a tile; in the order of `windows`."""
        (i, j), (height, width), (rows, columns) = place, self.shape, self.parts
        (top, bottom, down), (left, right, across) = rows[i], columns[j]
        y, x = top - self.starts[0][i], left - self.starts[1][j]
        output = output if output.flags.writeable else output.copy()
        output = output[y : y + bottom - top, x : x + right - left]
        up, before = rows[i - 1][2] if i else 0, columns[j - 1][2] if j else 0
        output[:up] *= ramp(up)[:, None, None]
        output[bottom - top - down :] *= ramp(down)[::-1, None, None]
        output[:, :before] *= ramp(before)[:, None]
        output[:, right - left - across :] *= ramp(across)[::-1, None]
        if j == 0:
            shape = down, columns[-1][1], output.shape[-1]
            self.above, self.below = self.below, np.zeros(shape, np.float32)
        self.below[:, left:right] += output[bottom - top - down :]
        output = output[: bottom - top - down]
        if j:
            output[:, :before] += self.before
        self.before = output[:, right - left - across :].copy()
        output = output[:, : right - left - across]
        if i:
            output[:up] += self.above[:, left : left + output.shape[1]]
        self.emit(top, left, output[: height - top, : width - left])
