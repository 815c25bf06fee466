"""Labels: the class table, colours <-> indices, what a label file may hold, pairing.

No TensorFlow here, so that a data set is checked in seconds. Everything that reads a label, for
training, scoring or looking, reads it through `read_label`.
"""

import csv
import difflib
import hashlib
import os
import re
import shutil
import unicodedata
import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

NO_CLASS = 255  # a pixel that no source pixel supplies: an empty one-hot row
PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
MAX_PIXELS = 2**26  # 8192 x 8192; a file that declares more is refused before memory is taken
warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter limit
CLASS_FILES = ('classes.csv', 'class_dict.csv', 'label_colors.txt')
VOID_NAMES = ('void', 'unlabelled', 'unlabeled', 'ignore', 'ignored', 'unknown', "don't care")


class InputError(ValueError):
    """What a user did wrong, in one line: what was expected, what was found, what to do."""


@contextmanager
def whole_file(path, durable=True):
    """Gives a path beside `path` to write to and moves that into place: all of it or nothing.

    A save that is killed, or finds the disk full, leaves the old file. InputError where it fails.
    durable: on the disk before the old file goes, so that a power cut is survived too.
    """
    path = Path(path)
    beside = path.with_name(f'.{path.stem}.part{path.suffix}')
    try:
        yield beside
        if durable:
            with open(beside, 'rb+') as f:
                os.fsync(f.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as e:  # h5py and zipfile report a full disk as either
        full = shutil.disk_usage(path.parent).free < 1 << 20 if path.parent.is_dir() else False
        why = 'the disk is full' if full else ' '.join(str(e).split())[:150]
        raise InputError(
            f'{path}: could not be written, {why}; free space on '
            f'{path.parent.resolve()} or name another place'
        ) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def nearest_name(name, names):
    """'; did you mean X?' where one of `names` is near, else nothing: the end of an error line."""
    near = difflib.get_close_matches(str(name), [str(n) for n in names], 1)
    return f'; did you mean {near[0]}?' if near else ''


@dataclass(frozen=True)
class ClassTable:
    """Name, colour and role ('scored' or 'void') of each class index."""

    names: tuple
    colours: tuple  # (r, g, b) of 0..255, all different
    roles: tuple

    def __len__(self):
        return len(self.names)

    @property
    def scored(self):
        """Indices that count in the loss and in the scores, ascending."""
        return [i for i, role in enumerate(self.roles) if role == 'scored']

    @property
    def palette(self):
        """uint8 (256, 3): the colour of every label value; black where there is no class."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, d):
        return cls(tuple(d['names']), tuple(map(tuple, d['colours'])), tuple(d['roles']))


# Colours as the SegNet demo paints them. The files hold 0..11; the article counts 13 classes.
_CAMVID = [
    ('Sky', (128, 128, 128)),
    ('Building', (128, 0, 0)),
    ('Pole', (192, 192, 128)),
    ('Road', (128, 64, 128)),
    ('Pavement', (60, 40, 222)),
    ('Tree', (128, 128, 0)),
    ('SignSymbol', (192, 128, 128)),
    ('Fence', (64, 64, 128)),
    ('Car', (64, 0, 128)),
    ('Pedestrian', (64, 64, 0)),
    ('Bicyclist', (0, 128, 192)),
    ('Void', (0, 0, 0)),
    ('(never occurs)', (255, 255, 255)),
]
CAMVID = ClassTable(*zip(*_CAMVID), roles=('scored',) * 11 + ('void',) * 2)
TWO_CLASSES = ClassTable(
    ('Background', 'Foreground'), ((0, 0, 0), (255, 255, 255)), ('scored', 'scored')
)


def class_table(num_class):
    """The table for a number of classes alone: CamVid's for 12 or 13, else numbered ones."""
    if num_class in (12, 13):
        return ClassTable(*(f[:num_class] for f in (CAMVID.names, CAMVID.colours, CAMVID.roles)))
    if num_class <= 2:
        return TWO_CLASSES
    return numbered_classes(num_class)


def numbered_classes(num_class):
    """Classes without names, in the bit-shuffled colours of Pascal VOC, which stay apart."""
    index = np.arange(num_class)
    rgb = [
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for channel in range(3)
    ]
    names = tuple(f'class {i}' for i in index)
    return ClassTable(names, tuple(map(tuple, np.stack(rgb, -1).tolist())), ('scored',) * num_class)


# ------------------------------------------------------------------------ class table files


def read_classes(path):
    """ClassTable of a `classes.csv` (name,r,g,b[,role]), Kaggle's `class_dict.csv` (name,r,g,b) or
    CamVid's `label_colors.txt` (r g b name).

    Indices follow the lines. A class without a role is void if its name says so, else scored.
    Raises: InputError with the line number.
    """
    try:
        lines = Path(path).read_text('utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise InputError(f'{path}: expected UTF-8 text; save the class table as UTF-8') from None
    except OSError as e:
        raise InputError(f'{path}: can not read the class table ({e.strerror})') from None
    comma = next((c for c in ',;' if any(c in line for line in lines)), None)
    columns, classes = ['name', 'r', 'g', 'b', 'role'] if comma else ['r', 'g', 'b', 'name'], []
    for number, line in enumerate(lines, 1):
        row = next(csv.reader([line], delimiter=comma)) if comma else line.split(None, 3)
        row = [field.strip() for field in row]
        if not any(row):
            continue
        if not classes and {'name', 'r', 'g', 'b'} <= {field.lower() for field in row}:
            columns = [field.lower() for field in row]
            continue
        where, found = f'{path}, line {number}', dict(zip(columns, row))
        name = found.get('name')
        try:
            colour = tuple(int(found[c]) for c in 'rgb')
        except (KeyError, ValueError):
            colour = (-1,)
        if not name or min(colour) < 0 or max(colour) > 255:
            raise InputError(
                f'{where}: expected {",".join(columns)} with r, g, b of 0..255, '
                f'found {line.strip()!r}'
            )
        role = found.get('role') or ('void' if name.lower() in VOID_NAMES else 'scored')
        if role not in ('scored', 'void'):
            raise InputError(f'{where}: expected role scored or void, found {role!r}')
        for what, value, i in (('name', name, 0), ('colour', colour, 1)):
            if value in [c[i] for c in classes]:
                raise InputError(
                    f'{where}: {what} {to_hex(value) if i else value} is in the table '
                    'twice; each class needs its own'
                )
        classes.append((name, colour, role))
    if not 0 < len(classes) < 256:
        found = len(classes) or 'an empty table'
        raise InputError(f'{path}: expected 1 to 255 classes, found {found}')
    if all(role == 'void' for *_, role in classes):
        raise InputError(f'{path}: every class is void; give one at least the role scored')
    return ClassTable(*zip(*classes))


def find_classes(*folders):
    """Path of the first class table (CLASS_FILES) in these folders, or None."""
    return next((p for f in folders for n in CLASS_FILES if (p := Path(f) / n).is_file()), None)


def write_classes(path, table):
    """Write `classes.csv`; InputError where the file exists or can not be written."""
    try:
        with open(path, 'x', encoding='utf-8', newline='') as f:
            rows = [(n, *c, r) for n, c, r in zip(table.names, table.colours, table.roles)]
            csv.writer(f).writerows([('name', 'r', 'g', 'b', 'role'), *rows])
    except OSError as e:
        raise InputError(f'{path}: class table not written ({e.strerror}); name another') from None


# ------------------------------------------------------------------------ colours <-> indices

Unique = namedtuple('Unique', 'values index inverse counts')


def _pack(rgb):
    """Colours (..., 3) -> integers 0xRRGGBB, which sort as the colours do."""
    rgb = np.asarray(rgb)
    packed = rgb[..., 0].astype(np.int32)
    for channel in (1, 2):  # in place: a picture may be large
        packed <<= 8
        packed |= rgb[..., channel]
    return packed


def _unpack(packed):
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)


def _runs(flat):
    """(values, index, counts, run, lengths): np.unique of a flat array over its runs of equal
    values, a tenth as many as pixels in a label; values[run] repeated by lengths is the array."""
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]][: flat.size])
    values, first, run = np.unique(flat[starts], return_index=True, return_inverse=True)
    lengths = np.diff(starts, append=flat.size)
    counts = np.bincount(run, lengths, len(values)).astype(np.int64)
    return values, starts[first], counts, run, lengths


def unique_labels(label):
    """What a label holds: np.unique with everything, for indices and for colours alike.

    Args: label: integers, any shape; or colours (H, W, 3) of uint8.
    Returns: Unique(values, index, inverse, counts): values ascending, (n,) or colours (n, 3);
        index (n,) of the first occurrence in the flattened label, divmod(index, W) being (row,
        column); inverse (H, W), so that values[inverse] is the label; counts (n,) of pixels.
    """
    label = np.asarray(label)
    colour = label.ndim == 3 and label.shape[-1] == 3
    plane = _pack(label) if colour else label
    values, index, counts, run, lengths = _runs(plane.ravel())
    inverse = np.repeat(run, lengths).reshape(plane.shape)
    return Unique(_unpack(values).astype(np.uint8) if colour else values, index, inverse, counts)


def to_hex(colour):
    """(128, 0, 64) -> '#800040'."""
    return '#{:02X}{:02X}{:02X}'.format(*map(int, colour))


def _hex(packed):
    return to_hex(_unpack(packed)) if packed >= 0 else 'no colour'


def from_hex(text):
    """'#800040' -> (128, 0, 64); InputError for anything else."""
    if not re.fullmatch('#?[0-9a-fA-F]{6}', text):
        raise InputError(f'colour {text!r}: expected #RRGGBB')
    return tuple(bytes.fromhex(text.lstrip('#')))


def indices_to_colours(label, table):
    """uint8 (..., H, W) class indices -> uint8 (..., H, W, 3) colours; 255, no class, is black."""
    return table.palette.take(label, axis=0)


def _lookup(packed, table):
    """Class index of each packed colour, -1 where it is none's."""
    keys = _pack(table.colours)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
    return np.where(keys[order][place] == packed, order[place], -1)


def colours_to_indices(rgb, table):
    """uint8 (H, W, 3) colours -> (uint8 (H, W) indices, 255 unknown; bool (H, W) known)."""
    values, _, _, run, lengths = _runs(_pack(rgb).ravel())
    index = np.repeat(_lookup(values, table)[run], lengths).reshape(rgb.shape[:-1])
    return np.where(index < 0, NO_CLASS, index).astype(np.uint8), index >= 0


# ------------------------------------------------------------------------ reading


def open_picture(path):
    """PIL image, fully decoded and upright (EXIF); InputError names a file that is none.

    Its info['rawmode'] says how the file stores it: PIL makes 8 bits of other depths silently.
    """
    picture = _header(path)
    try:
        with picture:
            rawmode = picture.tile[0][3] if picture.tile else ''  # or a tuple that begins with it
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            picture.info['rawmode'] = rawmode if isinstance(rawmode, str) else str(rawmode[0])
            return picture
    except Exception as e:  # what a damaged file raises depends on where it is damaged
        raise InputError(f'{path}: damaged ({e}); replace the file or take it out') from None


def _header(path):
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
        fault = (
            f'declares {picture.height}x{picture.width} pixels, but at most {MAX_PIXELS} are '
            'read; cut it up'
        )
    elif pages > 1:
        fault = f'holds {pages} pages, expected one; save each as a file'
    elif turned > 4 and picture.info.get('compression') == 'raw':  # Pillow 13 scrambles its rows
        fault = 'a TIFF that an EXIF tag turns; turn the picture itself'
    if fault:
        picture.close()
        raise InputError(f'{path}: {fault}')
    return picture


# What a label file stores, before it means classes. layout: 'bit', 'grey', 'palette' or 'rgb';
# values: grey value, palette index, or for rgb the grey value (-1 for a colour); colours: packed.
Stored = namedtuple(
    'Stored', 'path layout mode lossy shape values colours index counts run lengths sample'
)


def _stored(path):
    """Stored of one label file; InputError where its pixels can not be labels."""
    picture = open_picture(path)
    mode, rawmode, lossy = picture.mode, picture.info['rawmode'], picture.format in ('JPEG', 'MPO')
    if mode in ('RGBA', 'LA'):
        alpha = np.asarray(picture.getchannel('A'))
        if alpha.min() < 255:
            y, x = np.argwhere(alpha < 255)[0]
            raise InputError(
                f'{path}: alpha {alpha[y, x]} at row {y}, column {x}; a label has to '
                'be opaque: save it without alpha'
            )
        picture = picture.convert(mode[:-1])
    layout = {'1': 'bit', 'P': 'palette', 'RGB': 'rgb'}.get(picture.mode, 'grey')
    plane = np.asarray(picture)
    if (layout == 'grey' and picture.mode not in ('L', 'F') and picture.mode[0] != 'I') or (
        ';16' in rawmode and layout == 'rgb' or 'LA;16' in rawmode
    ):
        raise InputError(
            f'{path}: a label of mode {mode} ({rawmode}); expected grey, palette or '
            'RGB of 8 bits, or 16-bit grey'
        )
    if rawmode in ('L;2', 'L;4') and plane.any():  # PIL multiplies the values: index 1 becomes 17
        raise InputError(
            f'{path}: {rawmode[2]} bits a pixel, in which an index and a grey level '
            'look alike; save it with 8 bits'
        )
    flat = (_pack(plane) if layout == 'rgb' else plane).ravel()
    values, index, counts, run, lengths = _runs(flat)
    if values.dtype.kind == 'f' and not (np.isfinite(values) & (values % 1 == 0)).all():
        raise InputError(f'{path}: holds fractions; expected whole class indices')
    colours = values = values.astype(np.int64)
    if layout == 'rgb':
        values = np.where(values == (values & 255) * 0x10101, values & 255, -1)
    elif layout == 'palette':
        palette = np.zeros((256, 3), np.uint8)
        entries = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
        palette[: len(entries)] = entries
        colours = _pack(palette)[values].astype(np.int64)
    else:
        colours = np.where((values >= 0) & (values < 256), values * 0x10101, -1)
    return Stored(
        path,
        layout,
        mode,
        lossy,
        plane.shape[:2],
        values,
        colours,
        index,
        counts,
        run,
        lengths,
        None,
    )


def _meaning(values, colours, kind, table):
    """Class of each stored value under one reading; 255 no class, -1 not to be read so."""
    if kind == '0/255':
        return np.select([values == 0, values == 255], [0, 1], -1)
    if kind == 'colour':
        return _lookup(colours, table)
    if kind == 'grey':  # a grey palette written by an optimiser: its grey is the index
        values = np.where(colours == (colours & 255) * 0x10101, colours & 255, -1)
    known = (values >= 0) & ((values < len(table)) | (values == NO_CLASS))
    return np.where(known, values, -1)


def _decide(layout, values, colours, counts, table, two_class):
    """(kind, doubt): the reading of one layout under which all the values are classes, or failing
    that most pixels; where two serve, the first in the order below, and `doubt` says so."""
    two_class = two_class or len(table) <= 2
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
    meanings = {kind: _meaning(values, colours, kind, table) for kind in kinds}

    def merit(kind):  # 255 read as "no class" is allowed, but speaks for nothing
        m = meanings[kind]
        scored = m >= 0 if len(table) > NO_CLASS else (m >= 0) & (m != NO_CLASS)
        return bool((m >= 0).all()), int(counts[scored].sum())

    best = max(kinds, key=merit)
    rivals = [k for k in kinds if merit(k) == merit(best) and (meanings[k] != meanings[best]).any()]
    doubt = ''
    if rivals and merit(best)[0] and layout in ('palette', 'rgb'):
        doubt = (
            f'{layout} labels can be read as {best} and as {rivals[0]}: read as {best}; '
            'save index PNGs where that is wrong'
        )
    return best, doubt


def _formats(stored, table, two_class=False):
    """({layout: kind}, [doubts]) over all of a data set's labels together."""
    found = {}
    for layout in sorted({s.layout for s in stored}):
        held = _merge([s for s in stored if s.layout == layout])
        found[layout] = _decide(layout, held.values, held.colours, held.counts, table, two_class)
    return {k: kind for k, (kind, _) in found.items()}, [d for _, d in found.values() if d]


def _merge(stored):
    """Stored of many files as one: each (value, colour) once, with counts summed."""
    values, colours, counts = (
        np.concatenate([getattr(s, f) for s in stored]) for f in ('values', 'colours', 'counts')
    )
    keys, first, inverse = np.unique(
        values * 2**25 + colours, return_index=True, return_inverse=True
    )
    files = np.bincount(inverse, minlength=len(keys))
    owner = np.repeat(np.arange(len(stored)), [len(s.values) for s in stored])[first]
    index = np.concatenate([s.index for s in stored])[first]
    summed = np.bincount(inverse, counts, len(keys)).astype(np.int64)
    return Held(stored, values[first], colours[first], summed, files, owner, index)


Held = namedtuple('Held', 'stored values colours counts files owner index')


def _survey(path):
    """Stored without its runs, and with a grid of samples to compare labels by."""
    s = _stored(path)
    (h, w), y, x = s.shape, np.arange(32)[:, None], np.arange(48)
    spots = (y * h // 32 * w + x * w // 48).ravel()
    held = s.colours[s.run[np.searchsorted(np.cumsum(s.lengths), spots, 'right')]]
    return s._replace(run=None, lengths=None, sample=(held * 2654435761 >> 24).astype(np.uint8))


def recognise(files, table, two_class=False):
    """How a data set's labels are meant: {layout: 'index', '0/255', 'colour' or 'grey'}.

    One file can be read in two ways (all black: the first class, or the class that is painted
    black); all files together hardly ever. Reads every file.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return _formats(list(pool.map(_survey, files)), table, two_class)[0]


def _snap(values, colours, kind, table, only=None):
    """(nearest class, its distance) of stored values: the largest difference of a channel. `only`
    limits the classes. An index has no near ones: distance 256."""
    if kind in ('index', 'grey'):
        return values.clip(0, len(table) - 1), np.full(values.shape, 256)
    ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours)
    allowed = np.arange(len(ends)) if only is None or not len(only) else only
    distance = np.stack([np.abs(_unpack(colours) - ends[i]).max(-1) for i in allowed])
    return allowed[distance.argmin(0)], np.where(colours < 0, 256, distance.min(0))


def _complaint(s, value, colour, index, kind, table):
    """What is wrong with one stored value of Stored `s`, in one line."""
    y, x = divmod(int(index), s.shape[1])
    nearest, distance = (int(a) for a in _snap(np.array(value), np.array(colour), kind, table))
    if kind == 'colour' or s.layout == 'rgb' and value < 0:
        name = f'{table.names[nearest]} {to_hex(table.colours[nearest])}'
        return (
            f'{s.path}: colour {_hex(colour)} at row {y}, column {x} is no class; nearest is '
            f'{name}, {distance} units away'
        )
    expected = f'class indices 0..{len(table) - 1} (255 is no class)'
    expected = '0 and 255' if kind == '0/255' else expected
    return (
        f'{s.path}: value {value} ({_hex(colour)}) at row {y}, column {x}; expected '
        f'{expected}; nearest is {nearest}, {table.names[nearest]}'
    )


def read_label(path, table, two_class=False, format=None):
    """One label file as class indices.

    Args:
        path: index picture (8 or 16 bits, palette, 1 bit, grey saved as RGB), 0/255 mask, or
            colour mask of the table (RGB, opaque RGBA, or a palette in an order of its own).
        table: ClassTable.
        two_class: 0/1 and 0/255 both mean background and foreground, whatever the table.
        format: what `recognise` found over all files; without it this file is judged alone.

    Returns: uint8 (H, W), values below len(table), or 255 for no class.
    Raises: InputError with file, value or colour, first pixel (row, column) and the nearest class.
    """
    s = _stored(path)
    kind = (format or {}).get(s.layout) or _decide(
        s.layout, s.values, s.colours, s.counts, table, two_class
    )[0]
    classes = _meaning(s.values, s.colours, kind, table)
    if classes.min() < 0:
        i = np.where(classes < 0, s.index, s.counts.sum()).argmin()
        line = _complaint(s, s.values[i], s.colours[i], s.index[i], kind, table)
        raise InputError(line + ('; JPEG smears labels, save as PNG' if s.lossy else ''))
    return np.repeat(classes.astype(np.uint8)[s.run], s.lengths).reshape(s.shape)


# ------------------------------------------------------------------------ pairing

_WORD = 'masks?|labels?|labelids|trainids|l|gt|gtfine|seg|segmentation|annot|annotations?'
_WORD += '|images?|img|colou?r|rgb|sat|leftimg8bit'
_WORD = re.compile(rf'^(?:{_WORD})[-_. ]|(?:[-_. ](?:{_WORD}))+$', re.IGNORECASE)


def list_pictures(source):
    """Sorted picture files of a folder or glob pattern; InputError where there are none.

    Hidden files (.DS_Store, ._x.png) and files of other kinds (Thumbs.db) are passed over.
    """
    source = Path(source)
    wild = next((i for i, part in enumerate(source.parts) if set(part) & set('*?[')), None)
    if source.is_dir():
        found = source.iterdir()
    elif wild is not None:
        found = Path(*source.parts[:wild]).glob(str(Path(*source.parts[wild:])))
    else:
        what = (
            'a symbolic link that leads nowhere or in a circle'
            if source.is_symlink()
            else 'a file'
            if source.exists()
            else 'no such folder'
        )
        raise InputError(f'{source}: expected a folder of pictures, found {what}')
    files = sorted(
        p for p in found if p.suffix.lower() in PICTURES and p.name[0] != '.' and not p.is_dir()
    )
    if not files:
        raise InputError(f'{source}: expected pictures ({" ".join(PICTURES)}), found none')
    lost = next((p for p in files if not p.is_file()), None)
    if lost:
        raise InputError(f'{lost}: a symbolic link that leads nowhere or in a circle; take it out')
    return files


def _match(images, labels):
    """([(image, label)], [complaints]): files of two sources whose stems are the same, or are when
    words such as _mask, _label, _L or _image are taken off."""
    files, complaints = [list_pictures(images), list_pictures(labels)], []
    if files[0] == files[1]:
        raise InputError(f'{images}: images and labels are the same files; name two sources')
    files[0] = [p for p in files[0] if p not in set(files[1])]  # '*.png' beside '*_mask.png'
    stems = [[unicodedata.normalize('NFC', p.stem) for p in f] for f in files]
    keyed = [{}, {}]
    for side, other in ((0, 1), (1, 0)):
        exact = set(stems[other])
        for path, stem in zip(files[side], stems[side]):
            key = stem if stem in exact else _WORD.sub('', stem) or stem
            if key in keyed[side]:
                raise InputError(
                    f'{path}: the same name as {keyed[side][key].name}, which of the '
                    'two is meant? take one out'
                )
            keyed[side][key] = path
    for side, what in ((0, f'label in {labels}'), (1, f'image in {images}')):
        ours, theirs = keyed[side], keyed[1 - side]
        alone = sorted(set(ours) - set(theirs))
        for key in alone[:1]:
            folded = {k.casefold(): k for k in theirs}
            near = difflib.get_close_matches(key, theirs, 1) or [None]
            near, case = folded.get(key.casefold(), near[0]), key.casefold() in folded
            complaints.append(
                f'{ours[key]}: no {what} of the same name'
                + (f' ({len(alone)} such files in {(images, labels)[side]})' if alone[1:] else '')
                + (f'; the nearest name is {theirs[near].name}' if near else '')
                + (', which differs in upper and lower case: rename one' if case else '')
            )
    return [(keyed[0][k], keyed[1][k]) for k in sorted(set(keyed[0]) & set(keyed[1]))], complaints


def pair_files(image_folder, label_folder):
    """[(image path, label path)] by file stem, in name order, of two folders or glob patterns.

    A label may be called as its image and _mask, _label, _L, _gt and the like.
    Raises: InputError names who lacks a partner, and the nearest name.
    """
    pairs, complaints = _match(image_folder, label_folder)
    if complaints:
        raise InputError(complaints[0])
    return pairs


def split(pairs, fraction, seed=0):
    """(train pairs, val pairs), by a hash of each name: the same on every machine and, but for a
    few at the border, after more files have come."""
    if not 0 < fraction < 1 or len(pairs) < 2:
        raise InputError(
            f'validation split {fraction} of {len(pairs)} pairs: expected a fraction '
            'between 0 and 1 and two pairs at least'
        )
    hashed = {p: hashlib.md5(f'{seed}:{p[0].stem}'.encode()).digest() for p in pairs}
    count = min(max(round(len(pairs) * fraction), 1), len(pairs) - 1)
    val = set(sorted(pairs, key=hashed.get)[:count])
    return [p for p in pairs if p not in val], [p for p in pairs if p in val]
