"""A trained network as a function of pictures, for programs of one's own.

    from seg import Segmenter

    segmenter = Segmenter('camvid.hdf5')
    result = segmenter('photo.jpg')       # or a PIL picture, or an array
    result.index                          # uint8 (H, W): which of result.classes.names
    result.shares                         # {'Road': 0.31, 'Building': 0.24, ...}
    result.overlay().show()
    result.save('photo.png')              # colours; photo.jpg the overlay, photo.npz probabilities
    for result in segmenter(sorted(Path('photos').glob('*.jpg'))):
        print(result.file, result.shares)

Masks are those of `python main.py predict`, by the same code.
"""

from argparse import ArgumentTypeError
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import numpy as np
from PIL import Image, ImageOps

from seg.classes import ClassTable
from seg.cli import quiet_tensorflow
from seg.files import InputError, make_folder, write_csv
from seg.formats import BANDS, Raster, raster_fault
from seg.masks import COLUMNS, objects_of, overlay_of, save_mask, save_probability
from seg.predict import job_of, paint, ready
from seg.report import save_picture
from seg.report.pictures import SIDE
from seg.settings import Settings, height_width

KINDS = {  # of what Result.save writes: the suffixes it may have; the first kind is a suffix' own
    'colour': ('.png',),
    'overlay': ('.jpg', '.jpeg', '.png'),
    'index': ('.png',),
    'probability': ('.npz',),
    'objects': ('.csv',),
}


@dataclass(frozen=True, eq=False)
class Result:
    """What a network says of a picture.

    file: Path of the picture, or 'picture 1' of the first that is none; image: uint8 or uint16
    (H, W, C) as it was read; index: uint8 (H, W), the most probable of the scored classes;
    classes: their ClassTable: names, colours, roles; probabilities: float32 (H, W, classes), or
    None where nobody asked for them."""

    file: Path
    image: np.ndarray
    index: np.ndarray
    classes: ClassTable
    probabilities: np.ndarray | None = None

    @property
    def shares(self):
        """{name: share of the picture's pixels} of the classes found, the largest first."""
        counts = np.bincount(self.index.ravel(), minlength=len(self.classes)) / self.index.size
        found = np.argsort(-counts, kind='stable').tolist()
        return {self.classes.names[i]: float(counts[i]) for i in found if counts[i]}

    def overlay(self, opacity=0.5, side_by_side=False):
        """PIL picture: the colours of the classes over the picture, or beside it, and a legend."""
        how = opacity, side_by_side
        return Image.fromarray(overlay_of(self.image, self.index, self.classes, *how, side=SIDE))

    def save(self, path, kind=None):
        """Write a file, whole or not at all. kind: a key of KINDS, by default as the suffix says:
        .png the classes' colours, .jpg the overlay, .npz probabilities, .csv a row for each
        connected region. InputError where it can not be written, or somebody else's is there."""
        path = Path(path)
        suffix = path.suffix.lower()
        kind = kind or next((kind for kind in KINDS if suffix in KINDS[kind]), None)
        if suffix not in KINDS.get(kind, ()):
            wanted = ', '.join(f'{kind} {" ".join(ends)}' for kind, ends in KINDS.items())
            raise InputError(f'{path}: expected one of {wanted}; found {kind or "none"} {suffix}')
        make_folder(path.parent)
        if kind == 'overlay':
            save_picture(np.asarray(self.overlay()), path)
        elif kind == 'probability' and self.probabilities is None:
            raise InputError(f'{path}: none were kept; call the segmenter with probabilities=True')
        elif kind == 'probability':
            save_probability(path, self.probabilities, self.classes, self.file)
        elif kind == 'objects':
            write_csv(path, [COLUMNS, *objects_of(self.file.stem, self.index, self.classes)])
        else:
            save_mask(path, self.index, self.classes if kind == 'colour' else None, self.file)


class Segmenter:
    """A trained network, or the mean of several, as a function of pictures.

    Args:
        model: path of a model file, or a glob of several, as `--model`.
        flip: whether to average with the mirrored picture: a bit better, twice the time.
        tile: (height, width) of tiles in which pictures are painted at their own scale.
        overlap: of these, in pixels.
    Raises: InputError, a ValueError of one line, as the command's errors.
    """

    def __init__(self, model, flip=False, tile=None, overlap=None):
        quiet_tensorflow(None)
        from seg.folds import load_models

        try:
            tile = tile and height_width('{}x{}'.format(*tile))
        except (ArgumentTypeError, TypeError, IndexError) as e:
            raise InputError(f'tile {tile}: expected (height, width) in pixels ({e})') from None
        if not isinstance(overlap, (int, NoneType)):
            raise InputError(f'overlap {overlap!r}: expected a whole number of pixels')
        self.settings = Settings(flip=bool(flip), tile=tile, overlap=overlap)
        self.model = ready(load_models(model), self.settings)
        self.classes = self.model.about.classes

    def __call__(self, pictures, probabilities=False):
        """Result of one picture; an iterator of Results of several, in their order, which reads two
        or three ahead of what it gives, so that there may be any number.

        pictures: a path, a PIL picture or an array (H, W) or (H, W, channels), or an iterable of
            such. Arrays are uint8, uint16, or floats of 0 to 1; where the network has learned from
            pictures of more than 8 bits any numbers, by their range, but uint8, as from a file, by
            its own.
        probabilities: whether to keep them, 4 bytes a pixel and class.
        """
        if isinstance(pictures, (str, Path, Image.Image)) or getattr(pictures, 'ndim', 4) < 4:
            (result,) = self._results([pictures], probabilities)
            return result
        if not isinstance(pictures, Iterable):
            raise InputError(f'{type(pictures).__name__}: expected pictures; pass a path or array')
        return self._results(pictures, probabilities)

    def _results(self, pictures, probabilities):
        jobs = (self._job(picture, i) for i, picture in enumerate(pictures, 1))
        keep = np.float32 if probabilities else None
        for job, image, output, index in paint(self.model, jobs, self.settings, keep):
            image, index = image[:, :], np.asarray(index)  # of large ones read whole
            if probabilities and output.shape[-1] < len(self.classes):  # one sigmoid
                output = np.concatenate([1 - output, output], -1)
            kept = output if probabilities else None
            yield Result(job.file, image, index, self.classes, kept)

    def _job(self, picture, number):
        if isinstance(picture, (str, Path)):
            return job_of(self.model, picture)
        name = f'picture {number}'
        if isinstance(picture, Image.Image):
            try:
                return job_of(self.model, name, ImageOps.exif_transpose(picture))
            except (OSError, SyntaxError) as e:  # it is decoded here
                raise InputError(f'{name}: damaged ({e}); replace it') from None
        try:
            array = np.asarray(picture)
        except (TypeError, ValueError):
            array = np.empty(0)
        return job_of(self.model, name, self._opened(array, name))

    def _opened(self, array, name):
        """A PIL picture or Raster of an array, as of a file that holds it."""
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        bands = array.shape[2] if array.ndim == 3 else 1
        if array.ndim not in (2, 3) or not 0 < bands <= BANDS:
            found = f'an array of shape {array.shape}' if array.size else 'something else'
            wanted = f'a path, a PIL picture, or an array (H, W) or (H, W, 1 to {BANDS} channels)'
            raise InputError(f'{name}: expected {wanted}, found {found}')
        ranged = self.model.about.intensity is not None
        plain = array.dtype in (np.uint8, np.uint16) or array.dtype.kind == 'f'
        if array.dtype.kind == 'f' and not ranged and array.size:
            plain = 0 <= array.min() and array.max() <= 1
        if not plain and not (ranged and array.dtype.kind in 'iuf'):
            ends = f', {array.min()} to {array.max()}' if array.size else ''
            wanted = 'uint8, uint16, or floats of 0 to 1'
            raise InputError(f'{name}: expected {wanted}, found {array.dtype}{ends}')
        about = (*array.shape[:2], bands, array.dtype)
        raster = Raster(
            name, 'ARRAY', 1, *about, lambda page, *window: np.atleast_3d(array[window])
        )
        if fault := raster_fault(raster):
            raise InputError(f'{name}: {fault}')
        if array.dtype == np.uint8 and bands <= 4:
            return Image.fromarray(np.ascontiguousarray(array))
        return raster
