"""Labels: the class table, colours <-> indices, what a label file may hold, pairing, the check.

No TensorFlow here, so that a data set is checked in seconds. Everything that reads a label, for
training, scoring or looking, reads it through `read_label`.
"""

import csv
import difflib
import hashlib
import os
import re
import time
import unicodedata
import warnings
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
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
    ('Sky', (128, 128, 128)), ('Building', (128, 0, 0)), ('Pole', (192, 192, 128)),
    ('Road', (128, 64, 128)), ('Pavement', (60, 40, 222)), ('Tree', (128, 128, 0)),
    ('SignSymbol', (192, 128, 128)), ('Fence', (64, 64, 128)), ('Car', (64, 0, 128)),
    ('Pedestrian', (64, 64, 0)), ('Bicyclist', (0, 128, 192)), ('Void', (0, 0, 0)),
    ('(never occurs)', (255, 255, 255)),
]  # fmt: skip
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
            raise InputError(f'{where}: expected {",".join(columns)} with r, g, b of 0..255, '
                             f'found {line.strip()!r}')  # fmt: skip
        role = found.get('role') or ('void' if name.lower() in VOID_NAMES else 'scored')
        if role not in ('scored', 'void'):
            raise InputError(f'{where}: expected role scored or void, found {role!r}')
        for what, value, i in (('name', name, 0), ('colour', colour, 1)):
            if value in [c[i] for c in classes]:
                raise InputError(f'{where}: {what} {to_hex(value) if i else value} is in the table '
                                 'twice; each class needs its own')  # fmt: skip
        classes.append((name, colour, role))
    if not 0 < len(classes) < 256:
        raise InputError(f'{path}: expected 1 to 255 classes, found {len(classes) or "an empty table"}')
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
    r, g, b = np.moveaxis(np.asarray(rgb), -1, 0).astype(np.int32)
    return r << 16 | g << 8 | b


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


def from_hex(text):
    """'#800040' -> (128, 0, 64); InputError for anything else."""
    if not re.fullmatch('#?[0-9a-fA-F]{6}', text):
        raise InputError(f'colour {text!r}: expected #RRGGBB')
    return tuple(bytes.fromhex(text.lstrip('#')))


def indices_to_colours(label, table):
    """uint8 (..., H, W) class indices -> uint8 (..., H, W, 3) colours; 255, no class, is black."""
    return table.palette[label]


def _lookup(packed, table):
    """Class index of each packed colour, -1 where it is none's."""
    keys = _pack(table.colours)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
    return np.where(keys[order][place] == packed, order[place], -1)


def colours_to_indices(rgb, table):
    """uint8 (H, W, 3) colours -> (uint8 (H, W) indices, bool (H, W) known); unknown ones are 255."""
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
            rawmode = str(picture.tile[0][3]) if picture.tile else ''
            picture.load()
            turned = _orientation(picture)
            ImageOps.exif_transpose(picture, in_place=True)
            picture.info.update(rawmode=rawmode, turned=turned)
            return picture
    except (OSError, SyntaxError, ValueError, EOFError) as e:
        raise InputError(f'{path}: damaged ({e}); replace the file or take it out') from None


def _orientation(picture):
    """EXIF orientation, 1 upright; not asked of a PNG without, which would have to be decoded."""
    return picture.getexif().get(0x0112, 1) if picture.format != 'PNG' or 'exif' in picture.info else 1


def _header(path):
    """PIL image whose header alone is read: size and mode, but no pixel yet."""
    try:
        picture = Image.open(path)
        pages = picture.n_frames if picture.format == 'TIFF' else 1
    except FileNotFoundError:
        raise InputError(f'{path}: expected a picture, found no such file') from None
    except Image.DecompressionBombError:
        raise InputError(f'{path}: declares more than {MAX_PIXELS} pixels; cut it up') from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as e:
        reason = f'can not be read ({e})'
        if isinstance(e, UnidentifiedImageError):
            reason = 'not a picture' if os.path.getsize(path) else 'empty, 0 bytes'
        raise InputError(f'{path}: {reason}; replace the file or take it out') from None
    if picture.width * picture.height > MAX_PIXELS or pages > 1:
        picture.close()
        what = f'{pages} pages' if pages > 1 else f'{picture.height}x{picture.width} pixels'
        raise InputError(f'{path}: declares {what}, expected one picture of at most {MAX_PIXELS} '
                         'pixels; cut it up')  # fmt: skip
    return picture


# What a label file stores, before it means classes. layout: 'bit', 'grey', 'palette' or 'rgb';
# values: grey value, palette index, or for rgb the grey value (-1 for a colour); colours: packed.
Stored = namedtuple('Stored', 'path layout mode lossy shape values colours index counts run lengths '
                    'sample')


def _stored(path):
    """Stored of one label file; InputError where its pixels can not be labels."""
    picture = open_picture(path)
    mode, rawmode, lossy = picture.mode, picture.info['rawmode'], picture.format in ('JPEG', 'MPO')
    if mode in ('RGBA', 'LA'):
        alpha = np.asarray(picture.getchannel('A'))
        if alpha.min() < 255:
            y, x = np.argwhere(alpha < 255)[0]
            raise InputError(f'{path}: alpha {alpha[y, x]} at row {y}, column {x}; a label has to be '
                             'opaque: save it without alpha')  # fmt: skip
        picture = picture.convert(mode[:-1])
    layout = {'1': 'bit', 'P': 'palette', 'RGB': 'rgb'}.get(picture.mode, 'grey')
    plane = np.asarray(picture)
    if (layout == 'grey' and picture.mode not in ('L', 'F') and picture.mode[0] != 'I') or (
        ';16' in rawmode and layout == 'rgb' or 'LA;16' in rawmode
    ):
        raise InputError(f'{path}: a label of mode {mode} ({rawmode}); expected grey, palette or RGB '
                         'of 8 bits, or 16-bit grey')  # fmt: skip
    if rawmode in ('L;2', 'L;4') and plane.any():  # PIL multiplies the values: index 1 becomes 17
        raise InputError(f'{path}: {rawmode[2]} bits a pixel, in which an index and a grey level '
                         'look alike; save it with 8 bits')  # fmt: skip
    values, index, counts, run, lengths = _runs((_pack(plane) if layout == 'rgb' else plane).ravel())
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
        colours = values.clip(0, 255) * 0x10101
    return Stored(path, layout, mode, lossy, plane.shape[:2], values, colours, index, counts, run,
                  lengths, None)  # fmt: skip


def _meaning(values, colours, kind, table):
    """Class of each stored value under one reading; 255 no class, -1 not to be read so."""
    if kind == '0/255':
        return np.select([values == 0, values == 255], [0, 1], -1)
    if kind == 'colour':
        return np.where(values > 255, -1, _lookup(colours, table))
    if kind == 'grey':  # a grey palette written by an optimiser: its grey is the index
        values = np.where(colours == (colours & 255) * 0x10101, colours & 255, -1)
    known = (values >= 0) & ((values < len(table)) | (values == NO_CLASS))
    return np.where(known, values, -1)


def _decide(layout, values, colours, counts, table, two_class):
    """(kind, doubt): the reading of one layout under which all the values are classes, or failing
    that most pixels; where two serve, the first in the order below, and `doubt` says so."""
    two_class = two_class or len(table) <= 2
    kinds = {'bit': ['index'], 'grey': ['index', 'colour'], 'rgb': ['index', 'colour'],
             'palette': ['colour', 'grey', 'index']}[layout]  # fmt: skip
    if layout in ('grey', 'rgb') and two_class:
        kinds = ['0/255', *kinds]
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
        doubt = (f'{layout} labels can be read as {best} and as {rivals[0]}: read as {best}; '
                 'save index PNGs where that is wrong')  # fmt: skip
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
    keys, first, inverse = np.unique(values * 2**24 + colours, return_index=True,
                                     return_inverse=True)  # fmt: skip
    files = np.bincount(inverse, minlength=len(keys))
    owner = np.repeat(np.arange(len(stored)), [len(s.values) for s in stored])[first]
    index = np.concatenate([s.index for s in stored])[first]
    summed = np.bincount(inverse, counts, len(keys)).astype(np.int64)
    return Held(stored, values[first], colours[first], summed, files, owner, index)


Held = namedtuple('Held', 'stored values colours counts files owner index')


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
        return values.clip(0, len(table) - 1), np.full(len(values), 256)
    ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours)
    allowed = np.arange(len(ends)) if only is None or not len(only) else only
    nearest, least = np.zeros(len(values), int), np.full(len(values), 256)
    for i in allowed:
        distance = np.abs(_unpack(colours) - ends[i]).max(-1)
        nearest[distance < least], least = i, np.minimum(distance, least)
    return nearest, np.where(values > 255, 256, least)


def _complaint(path, layout, shape, value, colour, index, kind, table):
    """What is wrong with one stored value, in one line."""
    y, x = divmod(int(index), shape[1])
    nearest, distance = (int(a[0]) for a in _snap(np.array([value]), np.array([colour]), kind, table))
    name, hexed = table.names[nearest], to_hex(_unpack(colour))
    if kind == 'colour' or value < 0:
        return (f'{path}: colour {hexed} at row {y}, column {x} is no class; nearest is {name} '
                f'{to_hex(table.colours[nearest])}, {distance} units away')  # fmt: skip
    expected = ('0 and 255' if kind == '0/255' else
                f'class indices 0..{len(table) - 1} (or 255 for no class)')  # fmt: skip
    return (f'{path}: value {value} ({hexed}) at row {y}, column {x}; expected {expected}; '
            f'nearest is {nearest}, {name}')  # fmt: skip


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
    kind = (format or {}).get(s.layout) or _decide(s.layout, s.values, s.colours, s.counts, table,
                                                   two_class)[0]  # fmt: skip
    classes = _meaning(s.values, s.colours, kind, table)
    if classes.min() < 0:
        i = np.where(classes < 0, s.index, s.counts.sum()).argmin()
        line = _complaint(path, s.layout, s.shape, s.values[i], s.colours[i], s.index[i], kind, table)
        raise InputError(line + ('; JPEG smears labels, save as PNG' if s.lossy else ''))
    return np.repeat(classes.astype(np.uint8)[s.run], s.lengths).reshape(s.shape)


# ------------------------------------------------------------------------ pairing

_WORD = 'masks?|labels?|labelids|trainids|l|gt|gtfine|seg|segmentation|annot|annotations?|images?|img'
_WORD = re.compile(rf'^(?:{_WORD})[-_. ]|(?:[-_. ](?:{_WORD}|colou?r|rgb|sat|leftimg8bit))+$', re.I)


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
        what = ('a symbolic link that leads nowhere or in a circle' if source.is_symlink() else
                'a file' if source.exists() else 'no such folder')  # fmt: skip
        raise InputError(f'{source}: expected a folder of pictures, found {what}')
    files = sorted(p for p in found if p.suffix.lower() in PICTURES and p.name[0] != '.'
                   and not p.is_dir())  # fmt: skip
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
                raise InputError(f'{path}: the same name as {keyed[side][key].name}, which of the '
                                 'two is meant? take one out')  # fmt: skip
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
        raise InputError(f'validation split {fraction} of {len(pairs)} pairs: expected a fraction '
                         'between 0 and 1 and two pairs at least')  # fmt: skip
    hashed = {p: hashlib.md5(f'{seed}:{p[0].stem}'.encode()).digest() for p in pairs}
    count = min(max(round(len(pairs) * fraction), 1), len(pairs) - 1)
    val = set(sorted(pairs, key=hashed.get)[:count])
    return [p for p in pairs if p not in val], [p for p in pairs if p in val]


# ------------------------------------------------------------------------ the check

FAST_LABELS = 500  # labels that the fast check reads; each is checked again when it is used
Glance = namedtuple('Glance', 'shape mode turned top digest')


def _survey(path):
    """Stored without its runs, and with a grid of samples to compare labels by."""
    s = _stored(path)
    spots = (np.arange(32) * s.shape[0] // 32)[:, None] * s.shape[1] + np.arange(48) * s.shape[1] // 48
    held = s.colours[s.run[np.searchsorted(np.cumsum(s.lengths), spots.ravel(), 'right')]]
    return s._replace(run=None, lengths=None, sample=(held * 2654435761 >> 24).astype(np.uint8))


def _glance(path, whole):
    """Glance of one image: its header, and with `whole` its largest value and a hash of its pixels."""
    picture = open_picture(path) if whole else _header(path)
    turned = picture.info.get('turned') or _orientation(picture)
    shape = picture.size if turned > 4 and not whole else picture.size[::-1]
    top = int(np.max(picture)) if whole and picture.mode[0] in 'IF' else 0
    digest = hashlib.sha1(picture.tobytes()).hexdigest() if whole else ''
    picture.close()
    return Glance(shape, picture.mode, turned > 1, top, digest)


def _try(read, path):
    try:
        return read(path)
    except InputError as e:
        return str(e)


def _few(lines, limit=5):
    """The first lines, and how many more there are."""
    return lines[:limit] + [f'... and {len(lines) - limit} more such files'] * (len(lines) > limit)


def _of(files):
    return f'{len(files)} (first: {files[0]})'


def _sources(folder, images, labels):
    """{split: (image source, label source or None)} of a CamVid folder, or of --images, --labels."""
    if images and labels and not folder:
        return {'train': (images, labels)}
    if images or labels or not folder:
        raise InputError('expected a folder in CamVid layout, or both images and labels')
    folder = Path(folder)
    if not (folder / 'train').is_dir():
        held = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else None
        found = 'no such folder' if held is None else f'the folders {", ".join(held) or "(none)"}'
        raise InputError(f'{folder}: expected train and trainannot in it, found {found}; '
                         'name your own with --images and --labels')  # fmt: skip
    sources = {s: (folder / s, folder / f'{s}annot') for s in ('train', 'val', 'test')}
    return {s: (i, None if s == 'test' and not a.is_dir() else a)
            for s, (i, a) in sources.items() if i.is_dir()}  # fmt: skip


def _blends(colours, ends):
    """Which colours (k, 3) lie between two of the ends (m, 3)."""
    found = np.zeros(len(colours), bool)
    for i, a in enumerate(ends):
        for b in ends[i + 1 :]:
            t = (colours - a) @ (b - a) / max((b - a) @ (b - a), 1)
            off = np.abs(colours - a - t[:, None] * (b - a)).max(1)
            found |= (off < 3) & (t > 0) & (t < 1)
    return found


def guess_classes(held):
    """(ClassTable, how) from what labels without a class table hold: 0/255, grey values as indices,
    grey levels far apart, or one class for each colour that is no blur of more frequent ones."""
    order = np.argsort(-held.counts, kind='stable')
    values, colours, counts = held.values[order], held.colours[order], held.counts[order]
    share, rgb = counts / counts.sum(), np.unique(values).size < values.size or values.min() < 0
    if not rgb:
        ranked = values.tolist()
        top = max([v for v in ranked if v != NO_CLASS], default=1)
        clean = set(ranked) <= {0, NO_CLASS} or top <= 1
        if clean or (len(ranked) > 8 and top > 128 and set(ranked[:2]) == {0, 255}):
            return TWO_CLASSES, 'values 0 and 1, or 0 and 255: two classes'
        named = all(s.layout == 'palette' for s in held.stored) and np.unique(colours).size == len(colours)
        if named and sorted(ranked) == list(range(len(ranked))):
            rgb = _unpack(colours[np.argsort(values)]).tolist()
            return _plain(rgb), 'palette indices, in the palette\'s colours'
        if top < 3 * len(ranked) or top > NO_CLASS:
            return numbered_classes(min(top, 254) + 1), f'numbered, the largest index is {top}'
    ends = _unpack(colours[:255])
    if {*map(tuple, ends.tolist())} <= {*CAMVID.colours} and len(colours) > 2:
        return CAMVID, "CamVid's, whose colours these are"
    near = np.array([i and np.abs(ends[:i] - c).max(1).min() < 9 for i, c in enumerate(ends)])
    core = ends[(share[:255] > 0.01) & ~near][:40]
    thin = (share[:255] < 0.001) & _blends(ends, core)
    blurred = len(colours) > 255 or near.any() or thin.sum() >= 3
    keep = ends[(share[:255] > 0.005) & ~near & ~_blends(ends, core[:8])] if blurred else ends
    return _plain(sorted(keep.tolist() or ends[:1].tolist())), (
        f'guessed from the {len(keep)} main of {len(colours)} colours' if blurred else
        f'one class for each of {len(keep)} colours')  # fmt: skip


def _plain(rgb):
    return ClassTable(tuple(map(to_hex, rgb)), tuple(map(tuple, rgb)), ('scored',) * len(rgb))


def class_weights(counts, table):
    """Weight 1/ln(1.10 + p) of each class, p its share of the scored pixels; None for void and for a
    class without pixels."""
    scored = [i for i in table.scored if counts[i]]
    total = sum(counts[i] for i in scored)
    return [float(1 / np.log(1.1 + counts[i] / total)) if i in scored else None
            for i in range(len(table))]  # fmt: skip


def check(folder=None, images=None, labels=None, table=None, val_split=None, seed=0, size=None,
          two_class=False, fast=False):  # fmt: skip
    """What a data set holds, and whether it is fit to train on.

    Args:
        folder: CamVid layout: train, trainannot, val, valannot, test[, testannot].
        images, labels: instead, two folders or glob patterns (split 'train').
        table: ClassTable; default a class table file beside the data, else what labels hold.
        val_split, seed: where there is no val, this fraction of train, see `split`.
        size: what pictures are resized to, so that they may differ.
        fast: what `train` runs first: every pair and header, at most FAST_LABELS labels, no image
            decoded; the first error is raised.

    Returns: dict fit for JSON: fit, verdict, errors, warnings, notes, table, table_from, format
        (for `read_label`), splits, sizes, modes, values, classes, weights, seconds.
    Raises: InputError where there is no such data set.
    """
    started = time.perf_counter()
    errors, warned, notes, pairs = [], [], [], {}
    sources = _sources(folder, images, labels)
    for name, (image_source, label_source) in sources.items():
        try:
            pairs[name], lone = ([(p, None) for p in list_pictures(image_source)], []) \
                if label_source is None else _match(image_source, label_source)  # fmt: skip
            errors += lone
        except InputError as e:
            pairs[name] = []
            errors.append(str(e))
    if 'val' not in pairs and val_split and len(pairs['train']) > 1:
        pairs['train'], pairs['val'] = split(pairs['train'], val_split, seed)
    if not pairs.get('val'):
        warned.append('no validation pictures: a val folder or --val-split 0.2 gives some')

    image_files = [i for p in pairs.values() for i, _ in p]
    label_files = [a for p in pairs.values() for _, a in p if a]
    read = label_files[:: -(-len(label_files) // FAST_LABELS)] if fast and label_files else label_files
    glance = partial(_try, partial(_glance, whole=not fast))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stored = dict(zip(read, pool.map(partial(_try, _survey), read)))
        headers = [p for p in label_files if p not in stored]
        seen = dict(zip(image_files + headers, pool.map(glance, image_files + headers)))
    errors += _few([e for e in (*stored.values(), *seen.values()) if isinstance(e, str)])
    stored, seen = ({p: s for p, s in d.items() if not isinstance(s, str)} for d in (stored, seen))
    if len(read) < len(label_files):
        notes.append(f'labels: {len(read)} of {len(label_files)} read, spread over the set')

    result = {'splits': {}, 'format': {}, 'values': [], 'classes': [], 'weights': {}}
    for name, p in pairs.items():
        result['splits'][name] = {'images': len(p), 'labels': sum(a is not None for _, a in p)}
    how = 'given'
    if stored:
        held = _merge(list(stored.values()))
        if table is None:
            beside = [folder] if folder else [labels, Path(labels).parent, images]
            path = find_classes(*beside)
            if path:
                table, how = read_classes(path), str(path)
            elif folder and held.values.min() >= 0 and held.values[held.values != 255].max(initial=0) in (11, 12):
                table, how = CAMVID, "CamVid's"
            else:
                table, how = guess_classes(held)
                warned.append(f'no class table: {how}; --write-classes writes one to edit')
        _check_labels(result, stored, pairs, table, two_class, how, errors, warned)
    _check_images(seen, stored, pairs, size, fast, errors, warned, notes)
    shapes = {p: s.shape for p, s in (*seen.items(), *stored.items())}
    for what, files in (('images', image_files), ('labels', label_files)):
        files = [p for p in files if p in shapes]
        looked = {**seen, **stored}
        result[f'{what} by size'] = dict(Counter('{}x{}'.format(*shapes[p]) for p in files))
        result[f'{what} by mode'] = dict(Counter(looked[p].mode for p in files))
    if fast and errors:
        raise InputError(errors[0])
    verdict = 'fit to train' if not errors else f'not fit to train: {len(errors)} error(s)'
    if warned and not errors:
        verdict += f', with {len(warned)} warning(s)'
    return {'fit': not errors, 'verdict': verdict, 'errors': errors, 'warnings': warned, 'notes': notes,
            'data': str(folder or f'{images}, {labels}'), 'table': table and table.to_dict(),
            'table_from': how, **result, 'seconds': round(time.perf_counter() - started, 2)}  # fmt: skip


def _check_labels(result, stored, pairs, table, two_class, how, errors, warned):
    """What labels hold: format, values, classes, weights."""
    everything, n = list(stored.values()), len(table)
    result['format'], doubts = _formats(everything, table, two_class)
    warned += doubts
    total = sum(int(s.counts.sum()) for s in everything)
    lossy = [s.path for s in everything if s.lossy]
    for layout, kind in result['format'].items():
        held = _merge([s for s in everything if s.layout == layout])
        classes = _meaning(held.values, held.colours, kind, table)
        where = [(held.stored[o].path, *divmod(int(i), held.stored[o].shape[1]))
                 for o, i in zip(held.owner, held.index)]  # fmt: skip
        for i in np.argsort(-held.counts, kind='stable'):
            c = classes[i]
            result['values'].append({
                'layout': layout, 'value': int(held.values[i]), 'hex': to_hex(_unpack(held.colours[i])),
                'class': None if c < 0 else 'no class' if c >= n else table.names[c],
                'percent': 100 * int(held.counts[i]) / total, 'files': int(held.files[i]),
                'first_file': str(where[i][0]), 'row': where[i][1], 'column': where[i][2],
            })  # fmt: skip
        errors += _strangers(held, classes, kind, table, layout, total, lossy)
        plain = set(held.values.tolist())
        if plain == {0, 255} and n > 2 and not {0, 255} - {*classes.tolist()}:
            pass
        if 255 in plain <= {0, 255} and n > 2 and (kind == 'index' or not {*classes} & {*table.scored}):
            errors.append(
                f'{everything[0].path}: labels hold only 0 and 255, masks of two classes, but the '
                f'class table has {n}; --num-class 2 trains on them, --repair makes them 0 and 1'
            )
        if plain == {0, 1, 255} and n <= 2 and not any(
            {1, 255} <= {*s.values.tolist()} for s in held.stored
        ):
            a, b = (next(s.path for s in held.stored if v in s.values) for v in (1, 255))
            errors.append(f'{b}: values 0 and 255, but {a}: 0 and 1; is 255 foreground or no class? '
                          'repair the one kind apart from the other')  # fmt: skip
        if kind == 'index' and layout != 'bit' and min(plain) >= 1:
            warned.append(f'indices start at {min(plain)}: class 0, {table.names[0]}, never occurs; '
                          'subtract 1 if they were counted from 1')  # fmt: skip
    if lossy and not errors:
        warned.append(f'JPEG labels: {_of(lossy)}; JPEG smears labels, save PNG')
    constant = [s.path for s in everything if len(s.values) == 1]
    if constant:
        warned.append(f'labels of one single value: {_of(constant)}')

    counts = {split: np.zeros(n + 1, np.int64) for split in pairs}
    within, files = np.zeros(n), np.zeros(n, int)  # pixels of the images that hold a class
    for split_name, p in pairs.items():
        for s in (stored[a] for _, a in p if a in stored):
            classes = _meaning(s.values, s.colours, result['format'][s.layout], table)
            classes = np.where((classes < 0) | (classes >= n), n, classes)
            held = np.bincount(classes, s.counts, n + 1).astype(np.int64)
            counts[split_name] += held
            files += held[:n] > 0
            if split_name == 'train':
                within += (held[:n] > 0) * held.sum()
    train, everywhere = counts['train'][:n], sum(counts.values())[:n]
    for i, (name, colour, role) in enumerate(zip(table.names, table.colours, table.roles)):
        share = {s: 100 * float(c[i] / c.sum()) for s, c in counts.items() if c.sum()}
        result['classes'].append({'index': i, 'name': name, 'hex': to_hex(colour), 'role': role,
                                  'percent': share, 'files': int(files[i])})  # fmt: skip
    absent = [table.names[i] for i in range(n) if not everywhere[i]]
    late = [table.names[i] for i in table.scored if everywhere[i] and not train[i]]
    if absent:
        warned.append(f'classes that never occur: {", ".join(absent[:20])} ({len(absent)} of {n})')
    if late:
        warned.append(f'classes that occur only outside the training pictures: {", ".join(late)}')
    if not train[table.scored].any():
        errors.append('no training pixel has a scored class; is this the class table of these labels?')
    elif train.max() > 0.995 * train.sum():
        warned.append(f'{table.names[train.argmax()]} takes {100 * train.max() / train.sum():.2f} % of the '
                      'training pixels: a net that paints nothing else would score well')  # fmt: skip
    if how != 'given' and 'palette' in result['format']:
        notes = f'palette labels, classes {how}'
        warned.append(notes) if not how.endswith(CLASS_FILES) else None
    rate = np.divide(train, within, out=np.zeros(n), where=within > 0)[table.scored]
    middle = np.median(rate[rate > 0]) if rate.any() else 0
    median = dict(zip(table.scored, (float(middle / r) if r else None for r in rate)))
    result['weights'] = {'1/ln(1.10+p)': class_weights(train.tolist(), table),
                         'median frequency': [median.get(i) for i in range(n)]}  # fmt: skip


def _strangers(held, classes, kind, table, layout, total, lossy):
    """One error line on the values that are no class, with their likely cause and remedy."""
    bad = np.flatnonzero(classes < 0)
    if not len(bad):
        return []
    bad = bad[np.argsort(-held.counts[bad], kind='stable')]
    s, i = held.stored[held.owner[bad[0]]], bad[0]
    line = _complaint(s.path, layout, s.shape, held.values[i], held.colours[i], held.index[i], kind, table)
    line += f'; so are {len(bad)} values, {100 * held.counts[bad].sum() / total:.3g} % of all pixels'
    _, distance = _snap(held.values[bad], held.colours[bad], kind, table)
    ends = np.unique(np.array(table.colours)[classes[(classes >= 0) & (classes < len(table))]], axis=0)
    if kind == '0/255':
        ends = np.array(TWO_CLASSES.colours)
    weight = held.counts[bad]
    smooth = _blends(_unpack(held.colours[bad[:2000]]).astype(float), ends[:40].astype(float))
    if lossy:
        return [line + f'; JPEG labels: {_of(lossy)}; JPEG smears labels: --repair snaps them']
    if kind in ('0/255', 'colour') and len(bad) > 2 and weight[:2000][smooth].sum() > 0.9 * weight.sum():
        return [line + '; blends of two classes, so the edges are anti-aliased: --repair snaps them, '
                'or export without smoothing']  # fmt: skip
    if kind in ('0/255', 'colour') and distance.max() <= 16:
        return [line + f'; all within {distance.max()} units of a class: --repair snaps them']
    if kind == 'index' and held.values.min() == 1 and held.values[bad].max() == len(table):
        return [line + '; indices start at 1: subtract 1 from every label']
    if kind == 'index' and {0, 255} <= {*held.values.tolist()} and held.values[bad].max() == 254:
        return [line + '; a mask of 0/255 with soft edges: --num-class 2 --repair snaps them']
    return [line + '; name the class table with --classes']


def _check_images(seen, stored, pairs, size, fast, errors, warned, notes):
    """Sizes, modes, EXIF, duplicates, labels alike."""
    splits = {i: name for name, p in pairs.items() for i, _ in p}
    looks = {p: seen[p] for p in splits if p in seen}
    unequal = []
    for image, label in chain(*pairs.values()):
        a, b = looks.get(image), stored.get(label) or seen.get(label)
        if a and b and a.shape != b.shape:
            turn = ', for EXIF turns the image' if a.turned and a.shape == b.shape[::-1] else ''
            unequal.append(f'{label}: label of {b.shape[0]}x{b.shape[1]}, but {image} has '
                           f'{a.shape[0]}x{a.shape[1]} pixels{turn}; make them the same')  # fmt: skip
    errors += _few(unequal)
    sizes = Counter(a.shape for a in looks.values())
    if len(sizes) > 1 and not size:
        rare = next(p for p, a in looks.items() if a.shape == min(sizes, key=sizes.get))
        line = f'{rare}: images of {len(sizes)} sizes; --size HxW resizes all, as in --size '
        line += '{}x{}'.format(*max(sizes, key=sizes.get))
        (errors if fast else warned).append(line)
    for extent, word in (*((h, 'rows') for h in sorted({s[0] for s in sizes})),
                         *((w, 'columns') for w in sorted({s[1] for s in sizes}))):  # fmt: skip
        if extent % 16 and not size and len(sizes) < 4:
            notes.append(f'{extent} {word} are padded to {-(-extent // 16) * 16} inside the model, which '
                         'crops its output')  # fmt: skip
    kinds = {
        'turned upright, as EXIF says; labels must have been drawn on them upright': lambda a: a.turned,
        'of 16 bits: read as value / 257': lambda a: a.mode[0] in 'IF',
        'CMYK: converted to RGB': lambda a: a.mode == 'CMYK',
        'with alpha: it is dropped': lambda a: a.mode in ('RGBA', 'LA', 'PA'),
    }
    for words, is_so in kinds.items():
        files = [p for p, a in looks.items() if is_so(a)]
        if files:
            deep = [looks[p].top for p in files if looks[p].top]
            words += f', and the largest is {max(deep)}' if deep else ''
            warned.append(f'images {words}: {_of(files)}')
    same = {}
    for p, a in looks.items():
        same.setdefault((a.digest, a.shape, a.mode) if a.digest else p, []).append(p)
    for across, what in ((True, 'in two splits'), (False, 'twice in one split')):
        twins = [g for g in same.values() if len(g) > 1 and (len({splits[p] for p in g}) > 1) == across]
        if twins:
            warned.append(f'the same image {what}: {twins[0][0]} and {twins[0][1]} ({len(twins)} such)')
    if fast:
        return
    drawn = [(i, stored[a]) for i, a in chain(*pairs.values()) if a in stored and i in looks]
    drawn = [(i, s) for i, s in drawn if len(s.values) > 1][:1000]  # all pairs of so many: 0.5 s
    grid = np.array([s.sample for _, s in drawn]).reshape(len(drawn), -1)
    alike = [(i, i + 1 + j) for i in range(len(drawn))
             for j in np.flatnonzero((grid[i + 1 :] == grid[i]).mean(1) > 0.995)]  # fmt: skip
    alike = [(drawn[i], drawn[j]) for i, j in alike
             if looks[drawn[i][0]].digest != looks[drawn[j][0]].digest]  # fmt: skip
    if alike:
        (_, a), (_, b) = alike[0]
        warned.append(f'labels nearly equal, though their images differ: {a.path} and {b.path} '
                      f'({len(alike)} such pairs)')  # fmt: skip


def format_check(result):
    """A check for people; its last line is the verdict."""
    r, lines = result, [result['data']]
    for name, s in r['splits'].items():
        lines.append(f'  {name:6}{s["images"]} images, {s["labels"]} labels')
    for what in ('images', 'labels'):
        for by in ('size', 'mode'):
            found = ', '.join(f'{k} ({v})' for k, v in list(r[f'{what} by {by}'].items())[:8])
            lines.append(f'  {what} by {by}: {found}')
    lines.append('  read as: ' + ', '.join(f'{a} files: {b}' for a, b in r['format'].items()))
    lines.append(f'  class table: {r["table_from"]}')
    if r['values']:
        lines += ['', '  value colour   % of pixels  files  class            first file, row, column']
    for v in r['values'][:40]:
        value = '' if v['value'] < 0 else v['value']
        lines.append(f'  {value!s:>5} {v["hex"]} {v["percent"]:12.3f} {v["files"]:6}  '
                     f'{v["class"] or "(none)":16} {v["first_file"]}, {v["row"]}, {v["column"]}')  # fmt: skip
    if len(r['values']) > 40:
        lines.append(f'  ... and {len(r["values"]) - 40} more')
    if r['classes']:
        heads = ''.join(f'{s + " %":>10}' for s in r['classes'][0]['percent'])
        lines += ['', f'  class {"":20}{heads}  {"  ".join(r["weights"])}']
    for c in r['classes']:
        shares = ''.join(f'{p:10.3f}' for p in c['percent'].values())
        weights = ['-' if w[c['index']] is None else f'{w[c["index"]]:.3f}' for w in r['weights'].values()]
        lines.append(f'  {c["index"]:3} {c["hex"]} {c["name"]:14}{shares}  {weights[0]:>12}  {weights[1]:>16}'
                     + (' void' if c['role'] == 'void' else ''))  # fmt: skip
    lines.append('')
    for word, found in (('note', r['notes']), ('warning', r['warnings']), ('ERROR', r['errors'])):
        lines += [f'  {word}: {line}' for line in found]
    return '\n'.join([*lines, f'Verdict: {r["verdict"]}.'])


# ------------------------------------------------------------------------ repair


def repair(labels, out, table=None, tolerance=16, two_class=False):
    """Clean 8-bit index PNGs of labels of any format.

    Args:
        labels: folder or glob pattern; or a folder in CamVid layout, whose *annot are repaired.
        out: folder to write into; must not exist, or be empty.
        table: ClassTable; default a class table file beside the labels, else what they hold.
        tolerance: largest difference of a channel up to which a colour that is no class takes the
            nearest class of those that its file holds.

    Returns: [{'file', 'out', 'converted', 'snapped'}]: pixels now stored as another number, and of
        these the ones that were not exactly a class.
    Raises: InputError, before anything is written, where a value is farther from every class.
    """
    parts = [s for s in ('trainannot', 'valannot', 'testannot') if (Path(labels) / s).is_dir()]
    sources = {Path(out) / s: list_pictures(Path(labels) / s) for s in parts} or {
        Path(out): list_pictures(labels)
    }
    files = list(chain(*sources.values()))
    if Path(out).is_file() or Path(out).is_dir() and any(Path(out).iterdir()):
        raise InputError(f'{out}: exists and is not an empty folder; name a new one')
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stored = list(pool.map(_survey, files))
        if table is None:
            path = find_classes(labels, Path(labels).parent, files[0].parent)
            table, how = (read_classes(path), '') if path else guess_classes(_merge(stored))
            if how.startswith('guessed'):
                raise InputError(f'{files[0]}: classes {how}; write them to a class table first '
                                 '(--write-classes), look through it, and name it with --classes')  # fmt: skip
        kinds = _formats(stored, table, two_class)[0]
        for s in stored:
            classes, distance = _snapped(s, kinds[s.layout], table)
            if distance.max() > tolerance:
                i = distance.argmax()
                raise InputError(
                    _complaint(s.path, s.layout, s.shape, s.values[i], s.colours[i], s.index[i],
                               kinds[s.layout], table) + f'; beyond --tolerance {tolerance}')  # fmt: skip
        jobs = []
        for folder, found in sources.items():
            targets = [folder / f'{p.stem}.png' for p in found]
            twice = [p for p, k in Counter(targets).items() if k > 1]
            if twice:
                raise InputError(f'{twice[0].stem}: two labels of this name; take one out')
            folder.mkdir(parents=True, exist_ok=True)
            jobs += zip(found, targets)
        return list(pool.map(lambda job: _rewrite(*job, kinds, table), jobs))


def _snapped(s, kind, table):
    """(class of each stored value, distance): strangers take the nearest class the file holds."""
    classes, distance = _meaning(s.values, s.colours, kind, table), np.zeros(len(s.values), int)
    bad = classes < 0
    only = np.unique(classes[~bad & (classes != NO_CLASS)])
    nearest, far = _snap(s.values[bad], s.colours[bad], kind, table, only)
    classes[bad], distance[bad] = nearest, far
    return classes, distance


def _rewrite(path, target, kinds, table):
    s = _stored(path)
    classes, distance = _snapped(s, kinds[s.layout], table)
    beside = target.with_name(f'.{target.name}.part')
    label = np.repeat(classes.astype(np.uint8)[s.run], s.lengths).reshape(s.shape)
    Image.fromarray(label).save(beside, 'PNG')
    os.replace(beside, target)
    moved = s.counts[s.values != classes].sum() if s.layout != 'palette' else s.counts[distance > 0].sum()
    return {'file': str(path), 'out': str(target), 'converted': int(moved),
            'snapped': int(s.counts[distance > 0].sum())}  # fmt: skip
