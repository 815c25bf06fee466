"""One reader for pictures, whatever kind of file holds them: of any bits, bands and size."""

import math

import numpy as np

from seg.files import InputError
from seg.formats import MAX_PIXELS, Raster, bands_of, open_picture

EIGHT_BITS = None  # the intensity range of a set of 8 bits: its type's
PILLOW_MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}  # by channels


def is_deep(mode):
    """Whether a picture of this PIL mode holds more than 8 bits: integers or floats."""
    return mode[0] in 'IF'


def deep_values(picture, path):
    """float32 (H, W) or (H, W, bands) of a picture of more than 8 bits; InputError where a value is
    not finite."""
    values = np.asarray(picture, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f'{path}: holds values that are not finite; replace the file')
    return values


def sample(path, most):
    """float32 (n, bands): every so many values of a picture of more than 8 bits, about `most`."""
    picture = open_picture(path)
    step = max(1, math.isqrt(picture.size[0] * picture.size[1] // most))
    if isinstance(picture, Raster):  # a large one is not read whole
        rows = range(step // 2, picture.size[1], step)
        values = [picture[y : y + 1, : picture.size[0] : step] for y in rows]
        values = deep_values(np.concatenate(values), path)
    else:
        values = deep_values(picture, path)[::step, ::step]
    return values.reshape(values.shape[0] * values.shape[1], -1)


def read_image(path, channels=3, intensity=EIGHT_BITS):
    """uint8 (H, W, channels) of a picture, upright; uint16 where the file holds more than 8 bits.
    One channel is grey, three are RGB, others bands; alpha is dropped. intensity: (low, high), what
    becomes 0 and 65535 in a set of more than 8 bits, clipped; of each band where these are tuples.
    With EIGHT_BITS a deeper picture is read by its type's range (0..1 for floats up to 1), or
    failing that its own."""
    picture = Picture(path, channels, intensity)
    return picture[: picture.shape[0], : picture.shape[1]]


def open_image(path, channels=3, intensity=EIGHT_BITS, source=None):
    """The same, but of one of more than MAX_PIXELS its Picture, to be read in parts."""
    picture = Picture(path, channels, intensity, source)
    height, width, _ = picture.shape
    return picture if height * width > MAX_PIXELS else picture[:height, :width]


class Picture:
    """A picture that is read in parts: picture[rows, columns], two slices, is what `read_image`
    gives of them. source: a PIL image or Raster, in place of the file's."""

    def __init__(self, path, channels=3, intensity=EIGHT_BITS, source=None):
        self.path, self.channels, self.given = path, channels, source is not None
        self.source = source if self.given else open_picture(path)
        self.deep, self.intensity = is_deep(self.source.mode), intensity
        self.alpha = bands_of(self.source)[1]
        self.shape = *self.source.size[::-1], channels
        self.dtype = np.dtype(np.uint16 if self.deep else np.uint8)
        if not isinstance(self.source, Raster):  # Pillow has it whole
            mode = PILLOW_MODES.get(channels)
            if not self.deep and (channels != 4 or self.source.mode == 'RGBA') and mode:
                self.source = self.source.convert(mode)
            self.source = np.asarray(self.source)
        if self.deep and intensity is None:
            self.intensity = self._own_range()

    def _own_range(self):
        height, width, _ = self.shape
        if height * width > MAX_PIXELS and self.given:
            step = int((height * width / 1e6) ** 0.5)
            values = deep_values(self.source[:height:step, :width:step], self.path)
        elif height * width > MAX_PIXELS:
            values = sample(self.path, 1_000_000)
        else:
            values = deep_values(self.source, self.path)
        low, high = float(values.min()), float(values.max())
        if self.source.dtype.str[1:] == 'u2' or low >= 0 and high <= 1:
            low, high = 0, 65535 if high > 1 else 1
        return low, high

    def __getitem__(self, window):
        values = self.source[window]
        values = self._in_channels(values if values.ndim > 2 else values[..., None])
        if not self.deep:
            return values
        low, high = map(np.float32, self.intensity)
        scaled = np.empty(values.shape, np.uint16)
        for y in range(0, len(values), 256):  # floats of a few rows at a time
            part = deep_values(values[y : y + 256], self.path)
            part = ((part - low) / np.maximum(high - low, 1e-12)).clip(0, 1) * 65535
            scaled[y : y + 256] = part.round()
        return scaled

    def _in_channels(self, values):
        have, wanted = values.shape[-1], self.channels
        if have in (2, 4) and wanted in (1, 3) or self.alpha and have == wanted + 1:
            values, have = values[..., :-1], have - 1
        if have == wanted:
            return values
        if have == 1 and wanted == 3:
            return np.repeat(values, 3, -1)
        if have == 3 and wanted == 1:  # as Pillow's L
            return (values @ np.float32([0.299, 0.587, 0.114])).astype(values.dtype)[..., None]
        found = f'{have} bands, expected {wanted} as in training'
        raise InputError(f'{self.path}: {found}; give pictures of the same bands')


def to_bytes(image):
    """uint8 of an image of whole numbers from 0 to its dtype's largest."""
    return image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)


def to_rgb(image):
    """uint8 (H, W, 3), to look at, of an image (H, W) or (H, W, C): of more than three bands the
    first three, of two the first."""
    image = np.atleast_3d(to_bytes(image))
    image = image[..., :3] if image.shape[-1] > 2 else image[..., :1]
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def viewable(path):
    """uint8 (H, W, 3) of any picture, for looking; more than 8 bits by the picture's own range."""
    picture = open_picture(path)
    if isinstance(picture, Raster) or is_deep(picture.mode):
        own = np.percentile(deep_values(picture, path), (0.5, 99.5))
        return to_rgb(read_image(path, bands_of(picture)[0], tuple(own)))
    return np.asarray(picture.convert('RGB'))
