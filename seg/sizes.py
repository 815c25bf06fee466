"""The size rule: how a picture becomes the network's input, and the output its size again.
One rule for training, validation, prediction and evaluation; the model file holds it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg.classes import NO_CLASS

STEP = 32  # a network without a size of its own gets sides that this divides


def resize(array, size, resample):
    """(H, W) or (H, W, C) of uint8, uint16 or float32 -> the same of `size` (h, w), by PIL."""
    if array.shape[:2] == tuple(size):
        return array
    if array.dtype == np.uint8 and array.shape[2:] in ((), (3,)):
        return np.asarray(Image.fromarray(array).resize(size[::-1], resample))
    if array.ndim == 3:
        return np.stack([resize(plane, size, resample) for plane in np.moveaxis(array, -1, 0)], -1)
    plane = Image.fromarray(np.ascontiguousarray(array, np.float32)).resize(size[::-1], resample)
    if array.dtype.kind == 'f':
        return np.asarray(plane)
    return np.asarray(plane).round().clip(0, np.iinfo(array.dtype).max).astype(array.dtype)


@dataclass(frozen=True)
class SizeRule:
    """kind 'pad': scaled to fit into height x width, its aspect kept; the rest goes on with the
    picture's edge and has no class. 'stretch': scaled to it whatever the aspect. 'whole': the
    training pictures have just that size; others are padded. 'tile': trained on crops of that size.
    There, and without height and width, every picture keeps its own size, padded to a multiple of
    STEP."""

    kind: str = 'pad'
    height: int | None = None
    width: int | None = None

    @property
    def fixed(self):
        """Whether the network's input has one size."""
        return bool(self.height and self.width and self.kind != 'tile')

    def input_size(self, shape):
        """(h, w) of the network's input for a picture of `shape`."""
        if self.fixed:
            return self.height, self.width
        return tuple(-(-side // STEP) * STEP for side in shape[:2])

    def inner_size(self, shape):
        """(h, w) that the picture itself takes of that input, from its upper left corner."""
        height, width = self.input_size(shape)
        if self.kind == 'stretch' and self.fixed:
            return height, width
        scale = min(height / shape[0], width / shape[1]) if self.fixed else 1
        return tuple(max(1, round(side * scale)) for side in shape[:2])

    def _fit(self, array, resample, **padding):
        small = resize(array, self.inner_size(array.shape), resample)
        height, width = self.input_size(array.shape)
        pads = [(0, height - small.shape[0]), (0, width - small.shape[1]), (0, 0)]
        return np.pad(small, pads[: array.ndim], **padding) if np.any(pads) else small

    def image(self, image):
        """(H, W, C) -> the network's input of it, of the same dtype, anti-aliased."""
        return self._fit(image, Image.Resampling.LANCZOS, mode='edge')

    def label(self, label):
        """uint8 (H, W) -> the label of that input, nearest-neighbour."""
        return self._fit(label, Image.Resampling.NEAREST, constant_values=NO_CLASS)

    def crop(self, output, shape):
        """The part of a network's output (h, w, ...) that is the picture of `shape`."""
        h, w = self.inner_size(shape)
        return output[:h, :w]
