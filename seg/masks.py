"""What `predict` writes of each picture: colours, indices, probabilities, overlays, objects.

A stack goes out as a stack, NIfTI and DICOM in their own format with their geometry, a GeoTIFF with
its place on earth; every other picture as PNG.
"""

import gzip
import hashlib
import math
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile

from seg import report
from seg.classes import NO_CLASS
from seg.files import (
    MANY,
    MARK,
    InputError,
    file_of,
    folders_of,
    head_of,
    make_folder,
    refuse_folder,
    refuse_foreign,
    suffix_of,
    unique_names,
    whole_file,
    write_csv,
)
from seg.formats import MAX_PIXELS, open_picture, pages_of
from seg.report.pictures import SIDE
from seg.settings import SAVES
from seg.tiles import OnDisk, thinned

OURS = f'{MARK} mask'  # see files.MARKS
GEO = (33550, 33922, 34264, 34735, 34736, 34737)  # tags: where on earth
PIXELS = 'RescaleSlope RescaleIntercept RescaleType WindowCenter WindowWidth PixelPaddingValue'
PIXELS += ' ModalityLUTSequence VOILUTSequence SmallestImagePixelValue LargestImagePixelValue'
LARGE = MAX_PIXELS  # masks of more are TIFF, which is written in parts
SHOWN = 4096  # pixels a side of an overlay, at most
COLUMNS = 'picture class area row column top left bottom right'.split()  # see files.MARKS


class Masks:
    """Writes to a folder what settings.save names: <name>.png colour masks; index/<name>.png, grey
    levels that are class indices; probability/<name>.npz, float16 (H, W, classes); overlay/<name>.
    jpg, or side-by-side/, and legend.png there; objects.csv, a row for each connected region of a
    class.

    Where two pictures have one name, the second's is <name>-2, also when the first was painted
    earlier: a mask tells by a text chunk which picture it is of. files: all that will come, pages
    of a stack in their order; read: more folders that are only read.
    Raises: InputError where the folder cannot be written, pictures are read there, or this program
        did not write what is there.
    """

    def __init__(self, folder, files, classes, settings, read=()):
        self.folder, self.classes, self.settings = Path(folder), classes, settings
        self.left, self.pages, self.objects = Counter(map(file_of, files)), {}, []
        self.written = 0  # masks
        sources = [*self.left]
        pages = [file for file in files if file_of(file) != file]
        self.stacks = {*map(file_of, pages)}
        self.suffix = {source: _suffix(source, source in self.stacks) for source in sources}
        self.names = dict(zip(sources, unique_names(sources, self._occupied)))
        again = [f'{f} as {name}' for f, name in self.names.items() if name != _stem(f)]
        if again:
            more = f' and {len(again) - 5} more' * (len(again) > 5)
            print(f'Pictures of the same name, written as another: {", ".join(again[:5])}{more}')
        named = [self.names[file_of(page)] + _tail(page) for page in pages]
        shown = [f'{name}.x' for name in (*self.names.values(), *named)]
        self.shown_as = dict(zip([*sources, *pages], unique_names(shown)))
        for place in places(folder, settings):
            for source, name in self.names.items():
                end = {'overlay': '.jpg', 'side-by-side': '.jpg', 'probability': '.npz'}
                end = end.get(place.name if place != self.folder else '', self.suffix[source])
                refuse_foreign(place / f'{name}{end}')
        if 'objects' in settings.save:
            refuse_foreign(self.folder / 'objects.csv')
        if 'overlay' in settings.save:
            refuse_foreign(self.shown / 'legend.png')
        make_folders(folder, settings, [*folders_of(files), *read])

    @property
    def shown(self):
        return self.folder / ('side-by-side' if self.settings.side_by_side else 'overlay')

    def _occupied(self, name, file):
        """Whether a mask of that name is there that is another picture's."""
        for place in (self.folder, self.folder / 'index'):
            if made_from(place / f'{name}{self.suffix[file]}') not in ('', source_of(file)):
                return True
        return False

    def __call__(self, painted):
        source = file_of(painted.job.file)
        if source not in self.names:  # one that is scored only
            return
        name, save = self.shown_as[painted.job.file], self.settings.save
        if 'overlay' in save:
            how = self.settings.opacity, self.settings.side_by_side
            picture = overlay_of(painted.image, painted.index, self.classes, *how, side=SIDE)
            report.save_picture(picture, self.shown / f'{name}.jpg')
        if 'probability' in save:
            path = self.folder / 'probability' / f'{name}.npz'
            save_probability(path, painted.output, self.classes, source)
        if 'objects' in save:
            if isinstance(painted.index, OnDisk):
                raise InputError(f'{source}: too large for objects; leave them out of --save')
            self.objects += objects_of(name, np.asarray(painted.index), self.classes)
        self.left[source] -= 1
        number = int(_tail(painted.job.file)[1:]) if painted.job.file != source else 0
        pages = self.pages.setdefault(source, {})
        pages[number] = painted.index
        if self.left[source] == 0:
            self._write(source, self.pages.pop(source))

    def _write(self, source, pages):
        name, suffix, self.written = self.names[source], self.suffix[source], self.written + 1
        if source in self.stacks:  # each in its place, also where some were not asked for
            absent = np.full(next(iter(pages.values())).shape, NO_CLASS, np.uint8)
            pages = {i: pages.get(i, absent) for i in range(len(pages_of(source)))}
        pages = [*pages.values()]
        for kind in ('colour', 'index'):
            if kind not in self.settings.save:
                continue
            path = (self.folder if kind == 'colour' else self.folder / 'index') / f'{name}{suffix}'
            if suffix == '.png':
                index = pages[0]
                save_mask(path, index, self.classes if kind == 'colour' else None, source)
                continue
            write = {'.tif': _tiff, '.dcm': _dicom}.get(suffix, _nifti)
            palette = self.classes.display[:, :3] if kind == 'colour' else None
            with whole_file(path, durable=False) as beside:
                write(beside, source, pages, palette)

    def where(self):
        """Where all of it is, in words."""
        named = [f'{place}/' for place in places(self.folder, self.settings)]
        named += [f'{self.folder}/objects.csv'] * ('objects' in self.settings.save)
        return ' and '.join(named)

    def finish(self):
        """Write stacks that lost a page, and what is of all pictures."""
        for source in [*self.pages]:
            self._write(source, self.pages.pop(source))
        if 'overlay' in self.settings.save:
            report.save_picture(report.legend(self.classes), self.shown / 'legend.png')
        if 'objects' in self.settings.save:
            write_csv(self.folder / 'objects.csv', [COLUMNS, *self.objects])


def overlay_of(image, index, classes, opacity=0.5, side_by_side=False, side=1):
    """uint8 (h, w, 3), SHOWN pixels a side at most and `side` at least: a picture (H, W, C) of 8 or
    16 bits with the colours of its classes (H, W) over it, or beside it."""
    image, index = report.as_rgb(thinned(image, SHOWN)), thinned(index, SHOWN)
    rgb, index = report.enlarged(image, index, side=side)
    if side_by_side:
        return report.side_by_side(rgb, report.in_colours(index, classes))
    return report.overlay(rgb, index, classes, opacity)


def save_mask(path, index, classes, source=None):
    """Write a label map (H, W) as PNG: in its classes' colours, or where these are None as grey
    levels that are indices."""
    picture = report.mask(index, classes) if classes else index
    report.save_picture(picture, path, source_of(source) if source else '')


def save_probability(path, probability, classes, source=''):
    """Write class probabilities (H, W, n) and the classes' names as .npz."""
    values = {OURS: str(source), 'classes': np.array(classes.names)}
    with whole_file(path, durable=False) as beside:
        np.savez_compressed(beside, **values, probability=probability)


def _stem(file):
    return file.name[: len(file.name) - len(suffix_of(file))]


def _tail(page):
    """What a page's name has behind its stack's: -007."""
    return page.stem.removeprefix(_stem(file_of(page)))


def _ours(file):
    return f'{OURS} {source_of(file)}'


def made_from(mask):
    """source_of the picture that a mask of this program is of; '' of any other file, or none."""
    known = re.search(rb'(?:Source\0|unet-camvid mask )([0-9a-f]{40})', head_of(mask))
    return known[1].decode() if known else ''


def source_of(file):
    """What a mask says of the picture that it is of: a hash of its path."""
    return hashlib.sha1(os.fsencode(Path(file).resolve())).hexdigest()


def _suffix(file, stack):
    """How the masks of a picture's file end."""
    suffix = suffix_of(file)
    if suffix in ('.nii', '.nii.gz', '.dcm'):
        return suffix
    if suffix in MANY and not stack:
        try:
            width, height = open_picture(file, decode=False).size
            stack = width * height > LARGE
            if not stack and suffix != '.npy':
                with tifffile.TiffFile(file) as tiff:
                    stack = GEO[3] in tiff.pages.first.tags
        except Exception:  # whoever reads it says so
            pass
    return '.tif' if stack else '.png'


def objects_of(name, index, classes):
    """Rows of objects.csv of a label map: connected regions (8 neighbours) of each class but the
    background."""
    from skimage.measure import label, regionprops

    rows = []
    for c in classes.scored:
        if c == classes.ground or not (index == c).any():
            continue
        for region in regionprops(label(index == c)):
            place = [f'{value:.1f}' for value in region.centroid]
            rows.append([name, classes.names[c], int(region.area), *place, *region.bbox])
    return rows


def _tiff(path, source, pages, palette):
    """Pages as one TIFF, with the place on earth that its source has; in colours by a palette."""
    tags = []
    if suffix_of(source) in ('.tif', '.tiff'):
        with tifffile.TiffFile(source) as tiff:
            held = tiff.pages.first.tags
            tags = [(t.code, t.dtype, t.count, t.value, True) for c in GEO if (t := held.get(c))]
    how = dict(description=_ours(source), compression='zlib', metadata=None)
    how['photometric'] = 'minisblack' if palette is None else 'palette'
    if palette is not None:
        how['colormap'] = palette.T.astype(np.uint16) * 257
    large = math.prod(pages[0].shape) * len(pages) > 1 << 31
    with tifffile.TiffWriter(path, bigtiff=large) as out:
        for index in pages:
            if not isinstance(index, OnDisk):
                out.write(index, extratags=tags, **how)
                continue
            h, w = index.shape
            cells = (
                index[y : min(y + 512, h), x : min(x + 512, w)]
                for y in range(0, h, 512)
                for x in range(0, w, 512)
            )
            plain = dict(shape=(h, w), dtype=np.uint8, tile=(512, 512), extratags=tags)
            out.write(cells, maxworkers=1, **plain, **how)  # threads would take all of them in


def _nifti(path, source, pages, palette):
    """Slices as a volume with the source's affine and spacing."""
    import nibabel

    before = nibabel.load(source)
    header = before.header.copy()
    header.set_data_dtype(np.uint8)
    header['descrip'], header['cal_min'], header['cal_max'] = _ours(source).encode(), 0, 0
    header.set_slope_inter(1, 0)
    volume = np.stack(pages, -1).swapaxes(0, 1)
    content = nibabel.Nifti1Image(volume, before.affine, header).to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)


def _dicom(path, source, pages, palette):
    """The source's file with class indices for its pixels: patient, place and spacing stay."""
    import pydicom

    mask, frames = pydicom.dcmread(source), np.stack(pages)
    mask.preamble = _ours(source).encode().ljust(128, b'\0')
    for name in PIXELS.split():  # what was said of the old values
        mask.pop(name, None)
    mask.set_pixel_data(frames if len(frames) > 1 else frames[0], 'MONOCHROME2', 8)
    mask.SOPInstanceUID = mask.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    series = [str(mask.get('SeriesInstanceUID', '')), OURS]  # one of its own, the same for all
    mask.SeriesInstanceUID = pydicom.uid.generate_uid(entropy_srcs=series)
    mask.ImageType, mask.SeriesDescription = ['DERIVED', 'SECONDARY'], OURS
    mask.save_as(path)


def places(folder, settings):
    """Folders that masks of a run go to."""
    folder, shown = Path(folder), 'side-by-side' if settings.side_by_side else 'overlay'
    own = {'colour': '.', 'index': 'index', 'probability': 'probability', 'overlay': shown}
    return [folder / own[kind] for kind in SAVES if kind in settings.save and kind in own]


def make_folders(folder, settings, read):
    """Make the folders that masks of a run go to; InputError where they are among those `read`."""
    where = dict.fromkeys([Path(folder), *places(folder, settings)])
    for place in where:
        refuse_folder(place, [settings.data, *read])
    for place in where:
        make_folder(place)


def output_of(settings):
    """settings.output; of a fold, its folder there."""
    if not (settings.output and settings.fold):
        return settings.output
    return Path(settings.output, f'fold{settings.fold}')


def check_output(data, settings):
    """InputError, before a training, where its masks can not go to settings.output."""
    if settings.output:
        files = [path for pair in data.pairs() for path in pair if path]
        make_folders(output_of(settings), settings, folders_of(files))
