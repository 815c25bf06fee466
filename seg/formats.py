"""Opening whatever holds pictures: Pillow's kinds, and rasters of any depth, bands and pages.

A file of several pictures (a TIFF stack, a NIfTI volume, frames of DICOM, an array) is a folder of
them: `pages_of('stack.tif')` gives the paths stack.tif/stack-0.tif, ..., which open as files do.
"""

import logging
import math
import os
import warnings
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from seg.files import MANY, InputError, file_of, suffix_of

MAX_PIXELS = 2**26  # 8192 x 8192; more is read from TIFF and .npy alone, which open in parts
MAX_SIDE = 2**20
BANDS = 16  # at most
FORMATS = ('PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'PPM')  # an EPS would be a program
PILLOWS = [np.dtype(d) for d in 'bool uint8 uint16 int16 int32 float32'.split()]
UNPACKING = Lock()
logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # it prints what it doubts
TURNED = 'a TIFF that an EXIF tag turns; turn the picture itself'
warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter limit


@dataclass(frozen=True)
class Raster:
    """Pictures that Pillow can not read, of one file. Looks like Pillow's pictures where readers
    ask; np.asarray gives the values, (H, W), or (H, W, bands).

    read: function(page, rows, columns) -> array (h, w, bands) of two slices of a page."""

    path: object
    format: str
    pages: int
    height: int
    width: int
    bands: int
    dtype: np.dtype
    read: object
    page: int = 0
    info: dict = field(default_factory=lambda: {'turned': 1, 'rawmode': ''})

    @property
    def size(self):
        return self.width, self.height

    @property
    def mode(self):
        """'8' for what a byte holds, else 'I', integers, or 'F', floats, as Pillow's, and bands."""
        kind = '8' if self.dtype in (np.uint8, bool) else 'F' if self.dtype.kind == 'f' else 'I'
        return kind + f'x{self.bands}' * (self.bands > 1)

    def __getitem__(self, window):
        try:
            values = self.read(self.page, *window)
        except Exception as e:  # of data that are cut off, or packed as nobody here can unpack
            why = ' '.join(str(e).split())[:150]
            mend = 'replace the file or take it out'
            mend = '`pip install imagecodecs`' if 'imagecodecs' in why else mend
            raise InputError(f'{self.path}: damaged ({why}); {mend}') from None
        values = values.view(np.uint8) if values.dtype == bool else values
        return values[..., 0] if self.bands == 1 else values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[slice(self.height), slice(self.width)], dtype)

    def tobytes(self):
        return np.asarray(self).tobytes()

    def as_bands(self):
        """Its pages as bands of one picture."""

        def read(page, *window):
            return np.concatenate([self.read(i, *window) for i in range(self.pages)], -1)

        info = self.info | {'pillow': False}
        return replace(self, pages=1, bands=self.bands * self.pages, read=read, info=info)


def pages_of(path):
    """Paths of the pictures that a file holds: itself, or those of its pages."""
    if suffix_of(path) not in MANY:
        return [path]
    try:
        raster = _raster(path)
    except Exception:  # whoever opens it says so
        return [path]
    n = raster.pages if raster else 1
    if n == 1:
        return [path]
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix)]
    return [path / f'{stem}-{i:0{len(str(n - 1))}}{suffix[:4]}' for i in range(n)]


def open_picture(path, decode=True):
    """PIL image, upright, or without `decode` its header, or a Raster; InputError names a file that
    is none. info['turned']: its EXIF orientation; info['rawmode']: how the file stores it, for PIL
    makes 8 bits of other depths silently."""
    file, page, fault = path, 0, ''
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for its other end
            file = file_of(path)
            if file == path:
                raise FileNotFoundError
            page = int(path.stem.rpartition('-')[2])
        raster = _raster(file)
        if raster and page >= raster.pages:
            raise FileNotFoundError
        if raster and file == path and raster.pages > 1:
            if raster.pages * raster.bands > BANDS:
                raise InputError(f'{path}: holds {raster.pages} pages, expected one')
            raster = raster.as_bands()
        if raster and not _is_pillows(raster):
            fault = raster_fault(raster)
            picture = replace(raster, page=page)
        else:
            picture, fault = _pillow(file, raster.info['places'][page] if raster else 0, decode)
    except InputError:
        raise
    except Image.DecompressionBombError:
        fault = f'declares more than {MAX_PIXELS} pixels; cut it up, or save it as TIFF'
    except FileNotFoundError:
        found = 'a folder, device or pipe' if os.path.exists(path) else 'no such file'
        if os.path.islink(path) and not os.path.exists(path):
            found = 'a symbolic link that leads nowhere'
        fault = f'expected a picture, found {found}'
    except ImportError as e:
        fault = f'read by {e.name}, which is not installed; `pip install {e.name}`'
    except Exception as e:  # what a damaged file raises depends on where it is damaged
        why = ' '.join(str(e).split())[:150]
        fault = 'not a picture' if isinstance(e, UnidentifiedImageError) else f'damaged ({why})'
        fault = fault if os.path.getsize(file) else 'empty, 0 bytes'
        fault += '; replace the file or take it out'
    if fault:
        raise InputError(f'{path}: {fault}')
    return picture


def bands_of(picture):
    """(bands of a PIL image or Raster, alpha included; whether the last is said to be alpha)."""
    if isinstance(picture, Raster):
        return picture.bands, bool(picture.info.get('alpha'))
    alpha = picture.mode in ('RGBA', 'LA')
    return (1 if Image.getmodebase(picture.mode) == 'L' else 3) + alpha, alpha


def _pillow(file, page, decode):
    """(PIL image, what is wrong with it or '')."""
    with Image.open(file, formats=FORMATS) as picture:
        if page:
            picture.seek(page)
        rawmode = picture.tile[0][3] if picture.tile else ''  # or a tuple that begins with it
        picture.info['rawmode'] = rawmode if isinstance(rawmode, str) else str(rawmode[0])
        asked = picture.format != 'PNG' or 'exif' in picture.info  # else it decodes it to look
        turned = picture.info['turned'] = picture.getexif().get(0x0112, 1) if asked else 1
        w, h = picture.size
        if w * h > MAX_PIXELS:
            most = f'at most {MAX_PIXELS} are read'
            return picture, f'declares {h}x{w} pixels, {most}; cut it up, or save it as TIFF'
        frames = getattr(picture, 'n_frames', 1) if picture.format not in ('MPO', 'TIFF') else 1
        if frames > 1:
            return picture, f'holds {frames} pages, expected one; save each as a file'
        if turned > 4 and picture.info.get('compression') == 'raw':  # Pillow 13 scrambles it
            return picture, TURNED
        if decode:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
    return picture, ''


def _is_pillows(raster):
    """Whether Pillow reads it right, in all its compressions and photometric kinds."""
    small = raster.height * raster.width <= MAX_PIXELS
    return raster.info.get('pillow') and small


def raster_fault(raster):
    """What is wrong with a raster, or ''."""
    h, w, found = raster.height, raster.width, f'{raster.bands} bands'
    if not 0 < min(h, w) <= max(h, w) <= MAX_SIDE:
        return f'declares {h}x{w} pixels, expected sides of 1 to {MAX_SIDE}'
    if raster.dtype.kind not in 'buif':
        return f'holds {raster.dtype}, expected whole numbers or floats'
    if raster.info['turned'] > 1:
        return TURNED
    if raster.info.get('odd'):
        return 'a TIFF with a palette, or white as 0; save it as grey or RGB'
    return '' if raster.bands <= BANDS else f'{found}, expected 1 to {BANDS}'


def _raster(path):
    """Raster of a file by its first bytes; None of what Pillow reads best."""
    with open(path, 'rb') as f:
        begin = f.read(132)
    if begin[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
        about = os.stat(path)
        return _tiff(path, about.st_mtime_ns, about.st_size)
    if begin.startswith(b'\x93NUMPY'):
        return _npy(path)
    if begin[128:] == b'DICM':
        return _dicom(path)
    if suffix_of(path) in ('.nii', '.nii.gz'):
        return _nifti(path)
    return None


def _by_shape(path, format, shape, dtype, read):
    """Raster of an array of (H, W), (H, W, bands), (bands or pages, H, W), (pages, H, W, bands) or
    (pages, bands, H, W), of which `read(index)` gives a part; bands are at most BANDS."""
    shape = tuple(shape)
    if not 2 <= len(shape) <= 4:
        sides = 'x'.join(map(str, shape))
        raise ValueError(f'an array of {sides}; expected (height, width) and pages or bands')
    last = len(shape) > 2 and shape[-1] <= BANDS < min(shape[-3:-1])
    first = len(shape) == 4 and not last and shape[1] <= BANDS < min(shape[2:])
    if len(shape) == 4 and not last and not first:
        sides = 'x'.join(map(str, shape))
        raise ValueError(f'an array of {sides}, of which no axis is bands, {BANDS} at most')
    h, w = shape[-3:-1] if last else shape[-2:]
    bands = shape[-1] if last else shape[1] if first else 1
    pages = shape[0] if len(shape) == 4 or len(shape) == 3 and not last else 1
    several = len(shape) == 4 or len(shape) == 3 and not last

    def part(page, rows, columns):
        lead = (page,) if several else ()
        if first:
            return np.moveaxis(read((*lead, slice(None), rows, columns)), 0, -1)
        values = read((*lead, rows, columns))
        return values if last else values[..., None]

    return Raster(path, format, pages, h, w, bands, np.dtype(dtype), part)


def _npy(path):
    array = np.load(path, mmap_mode='r', allow_pickle=False)
    return _by_shape(path, 'NPY', array.shape, array.dtype, lambda index: np.array(array[index]))


@lru_cache(4)  # a compressed volume is unpacked whole for each of its slices
def _volume(path, changed):
    import nibabel

    return np.asanyarray(nibabel.load(path).dataobj)


def _nifti(path):
    """Slices of a volume (X, Y, Z) or (X, Y, Z, bands), each (Y, X); as stored, not turned."""
    import nibabel

    volume = nibabel.load(path)
    shape = volume.shape + (1,) * (3 - len(volume.shape))
    if len(shape) > 4 or len(shape) == 4 and shape[3] > BANDS:
        sides = 'x'.join(map(str, shape))
        raise ValueError(f'a volume of {sides}; expected 3 axes, or a fourth of {BANDS} at most')
    scaled = volume.dataobj.slope != 1 or volume.dataobj.inter != 0
    dtype = np.dtype(np.float64) if scaled else volume.get_data_dtype()

    def read(page, rows, columns):
        with UNPACKING:
            values = _volume(path, os.stat(path).st_mtime_ns)
        values = values.reshape(shape)[:, :, page]
        values = values.swapaxes(0, 1)[rows, columns]
        return values.reshape(*values.shape[:2], -1)

    bands = shape[3] if len(shape) > 3 else 1
    return Raster(path, 'NIFTI', shape[2], shape[1], shape[0], bands, dtype, read)


def _dicom(path):
    """Frames of a DICOM file, its values rescaled (to Hounsfield units for CT)."""
    import pydicom

    about = pydicom.dcmread(path, stop_before_pixels=True)
    if not {'Rows', 'Columns', 'BitsAllocated', 'PixelRepresentation'} <= {*about.dir()}:
        raise ValueError('it holds no picture')
    slope, offset = about.get('RescaleSlope', 1), about.get('RescaleIntercept', 0)
    signed = about.PixelRepresentation or slope != 1 or offset != 0
    dtype = np.dtype(np.float32 if signed or about.BitsAllocated > 16 else np.uint16)
    dtype = np.dtype(np.uint8) if about.BitsAllocated <= 8 and not signed else dtype
    pages, bands = int(about.get('NumberOfFrames') or 1), about.SamplesPerPixel

    def read(page, rows, columns):
        from pydicom.pixels import apply_rescale, pixel_array

        values = pixel_array(path, index=page if pages > 1 else None)
        if about.PhotometricInterpretation == 'MONOCHROME1':  # bright is low
            values = 2**about.BitsStored - 1 - values.astype(np.int64)
        values = apply_rescale(values, about).astype(dtype)
        return values.reshape(about.Rows, about.Columns, -1)[rows, columns]

    return Raster(path, 'DICOM', pages, about.Rows, about.Columns, bands, dtype, read)


@lru_cache(256)  # its pages are counted once and not for each of them
def _tiff(path, changed, size_on_disk):
    """Raster of a TIFF's first series: axes but for height, width, channels and samples are pages.
    info: 'pillow', whether Pillow reads it, too; 'alpha', whether its last band is said to be."""
    with tifffile.TiffFile(path) as file:
        series, order = file.series[0].levels[0], file.byteorder
        first, axes, shape, offset = series.keyframe, series.axes, series.shape, series.dataoffset
        places = [page.index if page else None for page in series.pages]
        pages = [page.aspage() for page in file.pages] if len(file.series) > 1 else ()
    pages = [page for page in pages if not page.subfiletype & 5]  # reduced pictures, or masks
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise InputError(f'{path}: holds {len(pages)} pages of several sizes; save each as a file')
    if len(pages) > 1:
        axes, shape, offset = 'I' + first.axes, (len(pages), *first.shape), None
        places = [page.index for page in pages]
    if first.dtype is None:
        raise ValueError(f'{first.bitspersample} bits a sample')
    if axes.endswith('YX') and len(shape) == 3 and shape[-1] <= BANDS < min(shape[:2]):
        axes = 'YXS'  # (height, width, bands), of which a program made pages
        offset = offset if offset is not None else -1
    size, plane = dict(zip(axes, shape)), [a for a in axes if a in 'YX']
    if plane != ['Y', 'X'] or len(size) != len(shape):
        raise ValueError(f'axes {axes}')
    inner, lead = [a for a in axes if a in 'CS'], [a for a in axes if a not in 'YXCS']
    count, bands = (math.prod(size[a] for a in some) for some in (lead, inner))
    info = {'turned': first.tags.valueof('Orientation', 1), 'rawmode': ''}
    info['alpha'] = first.extrasamples[-1:] in ((1,), (2,))
    info |= {'places': places, 'odd': first.photometric not in (1, 2, 6)}
    samples, odd = first.samplesperpixel, first.photometric not in (1, 2)  # a palette, CMYK, YCbCr
    plain = samples == 1 and first.dtype in PILLOWS
    plain |= first.dtype == np.uint8 and (samples == 3 or samples == 4 and info['alpha'])
    apart = len(places) == count and None not in places  # each page is one of the file's
    info['pillow'] = samples == bands and (odd or plain) and apart

    def arrange(array, rows, columns, page=()):
        """(h, w, bands) of an array of all axes, or of a page's."""
        at = dict(zip(lead, page)) | {'Y': rows, 'X': columns}
        part = array[tuple(at.get(a, slice(None)) for a in axes)]
        left = [a for a in axes if a not in lead]
        part = part.transpose([left.index(a) for a in ('Y', 'X', *inner)])
        return np.array(part, first.dtype).reshape(*part.shape[:2], bands)

    def read(page, rows, columns):
        at = np.unravel_index(page, [size[a] for a in lead]) if lead else ()
        if offset == -1:
            return arrange(tifffile.imread(path), rows, columns, at)
        if offset is not None:
            mapped = np.memmap(path, first.dtype.newbyteorder(order), 'r', offset, shape)
            return arrange(mapped, rows, columns, at)
        ahead = [a for a in axes if a not in 'YXS']  # pages of the file, by its axes
        grid = np.arange(len(places)).reshape([size[a] for a in ahead])
        some = grid[tuple(dict(zip(lead, at)).get(a, slice(None)) for a in ahead)]
        with tifffile.TiffFile(path) as file:
            parts = [_segments(file, file.pages[places[i]], rows, columns) for i in np.ravel(some)]
            return np.concatenate(parts, -1)

    return Raster(path, 'TIFF', count, size['Y'], size['X'], bands, first.dtype, read, info=info)


def _segments(file, page, rows, columns):
    """(h, w, samples) of a window of a TIFF page, of which only its strips or tiles are read."""
    page = page.aspage()
    (y0, y1, _), (x0, x1, _) = rows.indices(page.imagelength), columns.indices(page.imagewidth)
    high, wide = page.rowsperstrip, page.imagewidth
    if page.is_tiled:
        high, wide = page.tilelength, page.tilewidth
    high = min(high, page.imagelength)
    down, across = -(-page.imagelength // high), -(-page.imagewidth // wide)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    out = np.full((y1 - y0, x1 - x0, page.samplesperpixel), page.nodata, page.dtype)
    for plane in range(planes):
        for i in range(y0 // high, -(-y1 // high)):
            for j in range(x0 // wide, -(-x1 // wide)):
                k = (plane * down + i) * across + j
                if not page.databytecounts[k]:  # of a sparse file
                    continue
                file.filehandle.seek(page.dataoffsets[k])
                data = file.filehandle.read(page.databytecounts[k])
                segment = page.decode(data, k, jpegtables=page.jpegtables)[0][0]
                top, left = i * high, j * wide
                a, b = max(y0, top), min(y1, top + segment.shape[0])
                c, d = max(x0, left), min(x1, left + segment.shape[1])
                channel = slice(plane, plane + 1) if planes > 1 else slice(None)
                out[a - y0 : b - y0, c - x0 : d - x0, channel] = segment[
                    a - top : b - top, c - left : d - left
                ]
    return out[:: rows.step or 1, :: columns.step or 1]
