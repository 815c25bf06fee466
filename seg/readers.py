"""One reader for pictures and one for labels, whatever kind of file holds them.

Everything that reads a label, for training, scoring or looking, reads it here: `read_raw` says what
a file stores, `recognise` what that means over a whole set, `to_classes` makes class indices of it.
"""

import os
import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seg.classes import (
    NO_CLASS,
    TWO_CLASSES,
    hex_of,
    lookup,
    pack,
    runs,
    to_hex,
    unpack,
)
from seg.files import InputError

MAX_PIXELS = 2**26  # 8192 x 8192; a file that declares more is refused before memory is taken
warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter limit
EIGHT_BITS = None  # the intensity range of a set of 8 bits: its type's


# ------------------------------------------------------------------------ pictures


def open_picture(path):
    """PIL image, fully decoded and upright (EXIF); InputError names a file that is none.

    Its info['rawmode'] says how the file stores it: PIL makes 8 bits of other depths silently.
    """
    picture = header(path)
    try:
        with picture:
            rawmode = picture.tile[0][3] if picture.tile else ''  # or a tuple that begins with it
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            picture.info['rawmode'] = rawmode if isinstance(rawmode, str) else str(rawmode[0])
            return picture
    except Exception as e:  # what a damaged file raises depends on where it is damaged
        raise InputError(f'{path}: damaged ({e}); replace the file or take it out') from None


def header(path):
    """PIL image of which the header alone is read; its info['turned'] is the EXIF orientation."""
    try:
        picture = Image.open(path)
        pages = picture.n_frames if picture.format == 'TIFF' else 1
        asked = picture.format != 'PNG' or 'exif' in picture.info  # else it decodes a PNG to look
        turned = picture.info['turned'] = picture.getexif().get(0x0112, 1) if asked else 1
    except FileNotFoundError:
        raise InputError(f'{path}: expected a picture, found no such file') from None
    except Image.DecompressionBombError:
        raise InputError(f'{path}: declares more than {MAX_PIXELS} pixels; cut it up') from None
    except Exception as e:
        reason = f'can not be read ({e})'
        if isinstance(e, UnidentifiedImageError):
            reason = 'not a picture' if os.path.getsize(path) else 'empty, 0 bytes'
        raise InputError(f'{path}: {reason}; replace the file or take it out') from None
    fault = ''
    if picture.width * picture.height > MAX_PIXELS:
        size = f'{picture.height}x{picture.width}'
        fault = f'declares {size} pixels, but at most {MAX_PIXELS} are read; cut it up'
    elif pages > 1:
        fault = f'holds {pages} pages, expected one; save each as a file'
    elif turned > 4 and picture.info.get('compression') == 'raw':  # Pillow 13 scrambles its rows
        fault = 'a TIFF that an EXIF tag turns; turn the picture itself'
    if fault:
        picture.close()
        raise InputError(f'{path}: {fault}')
    return picture


def is_deep(mode):
    """Whether a picture of this PIL mode holds more than 8 bits: integers or floats."""
    return mode[0] in 'IF'


def is_grey(mode):
    return mode in ('1', 'L', 'LA', 'La') or is_deep(mode)


def deep_values(picture, path):
    """float32 (H, W) of a picture of more than 8 bits; InputError where a value is not finite."""
    values = np.asarray(picture, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f'{path}: holds values that are not finite; replace the file')
    return values


def read_image(path, channels=3, intensity=EIGHT_BITS):
    """(H, W, channels) of a picture, upright, as whole numbers from 0 to its dtype's largest.

    Args:
        channels: 1 makes it grey, 3 makes it RGB; alpha is dropped.
        intensity: (low, high), the range of values of a set of more than 8 bits: they become
            uint16, 0 at `low` and 65535 at `high`, clipped. EIGHT_BITS says that the set has 8
            bits; a deeper picture is then read by its type's range (0..1 for floats up to 1),
            or failing that its own.
    Returns: uint8, or uint16 where the file holds more than 8 bits.
    """
    picture = open_picture(path)
    if not is_deep(picture.mode):
        image = np.asarray(picture.convert('L' if channels == 1 else 'RGB'))
        return image[..., None] if channels == 1 else image
    values = deep_values(picture, path)
    if intensity is not None:
        low, high = intensity
    else:
        low, high = values.min(), values.max()
        if picture.mode.startswith('I;16') or low >= 0 and high <= 1:
            low, high = 0, 65535 if high > 1 else 1
    scaled = ((values - low) / max(high - low, 1e-12)).clip(0, 1) * 65535
    return np.repeat(scaled.round().astype(np.uint16)[..., None], channels, -1)


def to_bytes(image):
    """uint8 of an image of whole numbers from 0 to its dtype's largest."""
    return image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)


def viewable(path):
    """uint8 (H, W, 3) of any picture, for looking; more than 8 bits by the picture's own range."""
    picture = open_picture(path)
    if not is_deep(picture.mode):
        return np.asarray(picture.convert('RGB'))
    values = deep_values(picture, path)
    return to_bytes(read_image(path, 3, np.percentile(values, (0.5, 99.5))))


# ------------------------------------------------------------------------ what a label file stores

# layout: 'bit', 'grey', 'palette' or 'rgb'; values: grey value, palette index, or for rgb the grey
# value (-1 for a colour); colours: packed; index: of the first pixel; inverse: the label as places
# in values, or None where it is not kept; sample: a grid of hashes to compare labels by.
RawLabel = namedtuple(
    'RawLabel', 'path layout mode lossy shape values colours index counts inverse sample'
)


def read_raw(path):
    """RawLabel of one label file; InputError where its pixels can not be labels."""
    picture = open_picture(path)
    mode, rawmode, lossy = picture.mode, picture.info['rawmode'], picture.format in ('JPEG', 'MPO')
    if mode in ('RGBA', 'LA'):
        alpha = np.asarray(picture.getchannel('A'))
        if alpha.min() < 255:
            y, x = np.argwhere(alpha < 255)[0]
            raise InputError(
                f'{path}: alpha {alpha[y, x]} at row {y}, column {x}; a label has to be opaque: '
                'save it without alpha'
            )
        picture = picture.convert(mode[:-1])
    layout = {'1': 'bit', 'P': 'palette', 'RGB': 'rgb'}.get(picture.mode, 'grey')
    plane = np.asarray(picture)
    odd = layout == 'grey' and picture.mode != 'L' and not is_deep(picture.mode)
    if odd or ';16' in rawmode and layout == 'rgb' or 'LA;16' in rawmode:
        raise InputError(
            f'{path}: a label of mode {mode} ({rawmode}); expected grey, palette or RGB of 8 bits, '
            'or 16-bit grey'
        )
    if rawmode in ('L;2', 'L;4') and plane.any():  # PIL multiplies the values: index 1 becomes 17
        raise InputError(
            f'{path}: {rawmode[2]} bits a pixel, in which an index and a grey level look alike; '
            'save it with 8 bits'
        )
    values, index, counts, run, lengths = runs((pack(plane) if layout == 'rgb' else plane).ravel())
    if values.dtype.kind == 'f' and not (np.isfinite(values) & (values % 1 == 0)).all():
        raise InputError(f'{path}: holds fractions; expected whole class indices')
    colours = values = values.astype(np.int64)
    if layout == 'rgb':
        values = np.where(values == (values & 255) * 0x10101, values & 255, -1)
    elif layout == 'palette':
        palette = np.zeros((256, 3), np.uint8)
        entries = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
        palette[: len(entries)] = entries
        colours = pack(palette)[values].astype(np.int64)
    else:
        colours = np.where((values >= 0) & (values < 256), values * 0x10101, -1)
    small = np.uint8 if len(values) <= 256 else np.uint32
    inverse = np.repeat(run.astype(small), lengths).reshape(plane.shape[:2])
    h, w = inverse.shape
    held = colours[inverse[np.arange(32)[:, None] * h // 32, np.arange(48) * w // 48]]
    sample = (held.ravel() * 2654435761 >> 24).astype(np.uint8)
    return RawLabel(
        path, layout, mode, lossy, (h, w), values, colours, index, counts, inverse, sample
    )


# What the labels of many files store as one: each (value, colour) once, counts summed; files: how
# many have it; owner: place in `raws` of the first, index: its first pixel there.
Held = namedtuple('Held', 'raws values colours counts files owner index')


def gather(raws):
    """Held of many RawLabels."""
    values, colours, counts = (
        np.concatenate([getattr(s, f) for s in raws]) for f in ('values', 'colours', 'counts')
    )
    keys, first, inverse = np.unique(
        values * 2**25 + colours, return_index=True, return_inverse=True
    )
    files = np.bincount(inverse, minlength=len(keys))
    owner = np.repeat(np.arange(len(raws)), [len(s.values) for s in raws])[first]
    index = np.concatenate([s.index for s in raws])[first]
    summed = np.bincount(inverse, counts, len(keys)).astype(np.int64)
    return Held(raws, values[first], colours[first], summed, files, owner, index)


# ------------------------------------------------------------------------ what it means


def meaning(values, colours, kind, table):
    """Class of each stored value under one reading; 255 no class, -1 not to be read so."""
    if kind == '0/255':
        return np.select([values == 0, values == 255], [0, 1], -1)
    if kind == 'colour':
        return lookup(colours, table)
    if kind == 'grey':  # a grey palette written by an optimiser: its grey is the index
        values = np.where(colours == (colours & 255) * 0x10101, colours & 255, -1)
    known = (values >= 0) & ((values < len(table)) | (values == NO_CLASS))
    return np.where(known, values, -1)


def _decide(layout, held, table, prefer):
    """(kind, doubt): the reading of one layout under which all the values are classes, or failing
    that most pixels; where two serve, the first in the order below, and `doubt` says so."""
    two_class, values, colours = len(table) <= 2, held.values, held.colours
    kinds = {
        'bit': ['index'],
        'grey': ['index', 'colour'],
        'rgb': ['index', 'colour'],
        'palette': ['colour', 'grey', 'index'],
    }[layout]
    if layout in ('grey', 'rgb') and two_class:
        kinds = ['0/255', *kinds]
    if layout == 'rgb' and values.min() < 0:
        kinds = ['colour']  # one pixel that is not grey tells
    if layout == 'palette' and len(np.unique(colours)) < 2 and not two_class:
        kinds = kinds[::-1]  # one colour alone does not tell an order of colours
    if layout in ('palette', 'rgb') and prefer in kinds:
        kinds = [prefer, *(k for k in kinds if k != prefer)]
    meanings = {kind: meaning(values, colours, kind, table) for kind in kinds}

    def merit(kind):  # 255 read as "no class" is allowed, but speaks for nothing
        m = meanings[kind]
        scored = m >= 0 if len(table) > NO_CLASS else (m >= 0) & (m != NO_CLASS)
        return bool((m >= 0).all()), int(held.counts[scored].sum())

    best = max(kinds, key=merit)
    rivals = [k for k in kinds if merit(k) == merit(best) and (meanings[k] != meanings[best]).any()]
    doubt = ''
    if rivals and merit(best)[0] and layout in ('palette', 'rgb') and best != prefer:
        doubt = (
            f'{layout} labels can be read as {best} and as {rivals[0]}: read as {best}; '
            'save index PNGs where that is wrong'
        )
    return best, doubt


def recognise(raws, table, prefer=None):
    """How labels are meant: ({layout: 'index', '0/255', 'colour' or 'grey'}, [doubts]).

    One file can be read in two ways (all black: the first class, or the class that is painted
    black); all files together hardly ever. prefer: what was found before, in training, which
    decides where palette or RGB files alone do not.
    """
    found = {}
    for layout in sorted({s.layout for s in raws}):
        held = gather([s for s in raws if s.layout == layout])
        found[layout] = _decide(layout, held, table, (prefer or {}).get(layout))
    return {k: kind for k, (kind, _) in found.items()}, [d for _, d in found.values() if d]


def read_raws(files):
    """RawLabel of each file, without the label itself, for `recognise`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda p: read_raw(p)._replace(inverse=None), files))


def snap(values, colours, kind, table, only=None):
    """(nearest class, its distance) of stored values: the largest difference of a channel. `only`
    limits the classes. An index has no near ones: distance 256."""
    if kind in ('index', 'grey'):
        return values.clip(0, len(table) - 1), np.full(values.shape, 256)
    ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours)
    allowed = np.arange(len(ends)) if only is None or not len(only) else only
    distance = np.stack([np.abs(unpack(colours) - ends[i]).max(-1) for i in allowed])
    return allowed[distance.argmin(0)], np.where(colours < 0, 256, distance.min(0))


def complaint(raw, value, colour, index, kind, table):
    """What is wrong with one stored value of a RawLabel, in one line."""
    y, x = divmod(int(index), raw.shape[1])
    nearest, distance = (int(a) for a in snap(np.array(value), np.array(colour), kind, table))
    if kind == 'colour' or raw.layout == 'rgb' and value < 0:
        name = f'{table.names[nearest]} {to_hex(table.colours[nearest])}'
        return (
            f'{raw.path}: colour {hex_of(colour)} at row {y}, column {x} is no class; nearest is '
            f'{name}, {distance} units away'
        )
    expected = f'class indices 0..{len(table) - 1} (255 is no class)'
    expected = '0 and 255' if kind == '0/255' else expected
    return (
        f'{raw.path}: value {value} ({hex_of(colour)}) at row {y}, column {x}; expected '
        f'{expected}; nearest is {nearest}, {table.names[nearest]}'
    )


def to_classes(raw, table, formats):
    """uint8 (H, W) class indices of a RawLabel, values below len(table), or 255 for no class.

    Raises: InputError with file, value or colour, first pixel (row, column) and the nearest class.
    """
    kind = formats.get(raw.layout) or recognise([raw], table)[0][raw.layout]
    classes = meaning(raw.values, raw.colours, kind, table)
    if classes.min() < 0:
        i = np.where(classes < 0, raw.index, raw.counts.sum()).argmin()
        line = complaint(raw, raw.values[i], raw.colours[i], raw.index[i], kind, table)
        raise InputError(line + ('; JPEG smears labels, save as PNG' if raw.lossy else ''))
    return classes.astype(np.uint8)[raw.inverse]


def read_label(path, table, formats=None):
    """One label file as class indices, uint8 (H, W), see `to_classes`.

    Args:
        path: index picture (8 or 16 bits, palette, 1 bit, grey saved as RGB), 0/255 mask, or
            colour mask of the table (RGB, opaque RGBA, or a palette in an order of its own).
        table: ClassTable; with two classes 0/1 and 0/255 both mean background and foreground.
        formats: what `recognise` found over all files; without it this file is judged alone.
    """
    return to_classes(read_raw(path), table, formats or {})
