"""The class table: names, colours and roles; colours <-> indices.

No TensorFlow here, so that a data set is checked in seconds.
"""

import re
from collections import namedtuple
from dataclasses import asdict, dataclass

import numpy as np

from seg.files import InputError

NO_CLASS = 255  # a pixel that no source pixel supplies: an empty one-hot row
Unique = namedtuple('Unique', 'values index inverse counts')
MOST_NAME = 100  # characters of a class' name
# What a name may not hold: control characters, line ends, what turns text about, half characters.
UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
GROUNDS = ('background', '_background_', '__background__', 'bg')  # what no shape covers
VIVID = (0, 190, 255)  # a foreground that is grey; seldom in street scenes, stains or grey pictures
VOID_NAMES = ('void', 'unlabelled', 'unlabeled', 'ignore', 'ignored', 'unknown', "don't care")


@dataclass(frozen=True)
class ClassTable:
    """Name, colour and role ('scored' or 'void') of each class index."""

    names: tuple
    colours: tuple  # (r, g, b) of 0..255, all different
    roles: tuple
    codes: tuple = ()  # (value in label files, class or 255) of each, where they are no indices

    def __len__(self):
        return len(self.names)

    @property
    def scored(self):
        """Indices that count in the loss and in the scores, ascending."""
        return [i for i, role in enumerate(self.roles) if role == 'scored']

    @property
    def numbered(self):
        """Whether its colours are those that we give: they say nothing of what labels mean."""
        return self.colours == numbered_classes(len(self)).colours

    @property
    def all_grey(self):
        return all(len({*colour}) == 1 for colour in self.colours)

    @property
    def palette(self):
        """uint8 (256, 3): the colour of every label value; black where there is no class."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    @property
    def ground(self):
        """Index of the background, which pictures show through: of that name, or of two classes the
        black one; None without one."""
        scored = self.scored
        named = [i for i in scored if self.names[i].casefold() in GROUNDS]
        black = [i for i in scored if self.colours[i] == (0, 0, 0) and len(scored) == 2]
        return next(iter(named + black), None)

    @property
    def display(self):
        """uint8 (256, 4), RGBA: the palette as people see it, the background transparent; a grey
        foreground of two classes is vivid."""
        palette = np.c_[self.palette, np.full(256, 255, np.uint8)]
        front = [i for i in self.scored if i != self.ground]
        if len(front) == 1 and len({*self.colours[front[0]]}) == 1:
            palette[front[0], :3] = VIVID
        if self.ground is not None:
            palette[self.ground, 3] = 0
        return palette

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, d, where='class table of the model'):
        """Of what `to_dict` gave and a file kept; InputError where a CSV would be refused."""
        columns = [d.get(c) if isinstance(d, dict) else None for c in ('names', 'colours', 'roles')]
        listed = all(isinstance(column, (list, tuple)) for column in columns)
        if not listed or len({*map(len, columns)}) > 1:
            found = [len(c) if isinstance(c, (list, tuple)) else 'no list' for c in columns]
            found = '{}, {} and {}'.format(*found)
            raise InputError(f'{where}: expected as many names as colours and roles, found {found}')
        rows = [(f'{where}, class {i}', *c) for i, c in enumerate(zip(*columns))]
        return checked_table(rows, where, d.get('codes', ()))


# Colours as the SegNet demo paints them. The files hold 0..11; the article counts 13 classes.
CAMVID = ClassTable(
    tuple('Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian'.split())
    + ('Bicyclist', 'Void', '(never occurs)'),
    ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0))
    + ((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0))
    + ((255, 255, 255),),
    ('scored',) * 11 + ('void',) * 2,
)
# Its frames are called after four videos; labels of 0..11 alone may be anybody's.
CAMVID_FRAME = re.compile('(0001TP|0006R0|0016E5|Seq05VD)_')
TWO_CLASSES = ClassTable(('Background', 'Foreground'), ((0,) * 3, (255,) * 3), ('scored',) * 2)


def class_table(num_class):
    """The table that the article's own functions mean: CamVid's for 12 or 13, else numbered."""
    if num_class in (12, 13):
        return ClassTable(*(column[:num_class] for column in asdict(CAMVID).values()))
    return numbered_classes(num_class)


def numbered_classes(num_class):
    """Classes without names, in Pascal VOC's colours; one or two are background and foreground."""
    if num_class <= 2:
        return TWO_CLASSES
    index = np.arange(num_class)
    rgb = [sum((index >> (3 * bit + c) & 1) << (7 - bit) for bit in range(8)) for c in range(3)]
    return coloured_classes(np.stack(rgb, -1), tuple(f'class {i}' for i in index))


def named_classes(names, where, colours=None):
    """Classes of these names, in these colours or Pascal VOC's, void if their name says so;
    InputError, which `where` begins, for names that no table takes."""
    colours = colours or numbered_classes(max(len(names), 3)).colours
    roles = ['void' if str(name).casefold() in VOID_NAMES else 'scored' for name in names]
    rows = zip([where] * len(names), names, map(list, colours), roles)
    return checked_table([*rows], where)


def coloured_classes(rgb, names=None):
    """Classes of the colours (n, 3), none of them void; without names they are called so."""
    colours = tuple(map(tuple, rgb.tolist()))
    return ClassTable(names or tuple(map(to_hex, colours)), colours, ('scored',) * len(colours))


def shown(text, most=40):
    """A text as a terminal may show it: at most so many characters, what is unprintable escaped."""
    text = text if len(text) <= most else f'{text[: most - 1]}…'
    return UNPRINTABLE.sub(lambda c: ascii(c[0])[1:-1], text)


def checked_table(classes, where, codes=()):
    """ClassTable of (place in its file, name, colour, role) of each class; InputError with the
    place of what is wrong."""
    if not 0 < len(classes) < 256:
        found = len(classes) or 'an empty table'
        raise InputError(f'{where}: expected 1 to 255 classes, found {found}')
    taken = set()
    for place, name, colour, role in classes:
        fine = isinstance(name, str) and name.strip() and not UNPRINTABLE.search(name)
        if not fine or len(name) > MOST_NAME:
            wanted = f'a name of 1 to {MOST_NAME} printable characters'
            raise InputError(f'{place}: expected {wanted}, found {shown(str(name)) or "none"}')
        of_three = isinstance(colour, (list, tuple)) and len(colour) == 3
        if not of_three or not all(type(v) is int and 0 <= v < 256 for v in colour):
            raise InputError(f'{place}: expected r, g, b of 0..255, found {shown(str(colour))}')
        if role not in ('scored', 'void'):
            raise InputError(f'{place}: expected role scored or void, found {shown(repr(role))}')
        for mark in (f'name {shown(name)}', name), (f'colour {to_hex(colour)}', to_hex(colour)):
            if mark in taken:
                line = f'{place}: {mark[0]} is in the table twice; each class needs its own'
                raise InputError(line)
            taken.add(mark)
    _, names, colours, roles = zip(*classes)
    if {*roles} == {'void'}:
        raise InputError(f'{where}: every class is void; give one at least the role scored')
    try:
        codes = tuple((int(value), int(index)) for value, index in codes)
    except (TypeError, ValueError):
        codes = ((-1, 0),)
    known = {*range(len(classes)), NO_CLASS}
    if any(not 0 <= value < 2**16 or index not in known for value, index in codes):
        raise InputError(f'{where}: expected codes of pixel values and class indices')
    return ClassTable(names, tuple(map(tuple, colours)), roles, codes)


def pack(rgb):
    """Colours (..., 3) -> integers 0xRRGGBB, which sort as the colours do."""
    rgb = np.asarray(rgb)
    packed = rgb[..., 0].astype(np.int32)
    for channel in (1, 2):  # in place: a picture may be large
        packed <<= 8
        packed |= rgb[..., channel]
    return packed


def unpack(packed):
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1)


def unique_labels(label):
    """What a label holds: np.unique with everything, for indices and for colours alike.

    label: integers, any shape; or colours (H, W, 3) of uint8. Returns Unique: values ascending,
    (n,) or colours (n, 3); index (n,) of the first occurrence in the flattened label; inverse
    (H, W), so that values[inverse] is the label; counts (n,) of pixels."""
    label = np.asarray(label)
    colour = label.ndim == 3 and label.shape[-1] == 3
    plane = pack(label) if colour else label
    flat = plane.ravel()  # sorted by its runs of equal values, a tenth as many as pixels
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]][: flat.size])
    values, first, run = np.unique(flat[starts], return_index=True, return_inverse=True)
    lengths = np.diff(starts, append=flat.size)
    counts = np.bincount(run, lengths, len(values)).astype(np.int64)
    run = run.astype(np.uint8 if len(values) <= 256 else np.uint32)
    inverse = np.repeat(run, lengths).reshape(plane.shape)
    values = unpack(values).astype(np.uint8) if colour else values
    return Unique(values, starts[first], inverse, counts)


def to_hex(colour):
    """(128, 0, 64) -> '#800040'."""
    return '#{:02X}{:02X}{:02X}'.format(*map(int, colour))


def hex_of(packed):
    return f'#{packed:06X}' if packed >= 0 else 'no colour'


def from_hex(text):
    """'#800040' -> (128, 0, 64); InputError for anything else."""
    if not re.fullmatch('#?[0-9a-fA-F]{6}', text):
        raise InputError(f'colour {text!r}: expected #RRGGBB')
    return tuple(bytes.fromhex(text.lstrip('#')))


def indices_to_colours(label, table):
    """uint8 (..., H, W) class indices -> uint8 (..., H, W, 3) colours; 255, no class, is black."""
    return table.palette.take(label, axis=0)


def lookup(packed, table):
    """Class index of each packed colour, -1 where it is none's."""
    keys = pack(table.colours)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
    return np.where(keys[order][place] == packed, order[place], -1)


def to_index(probability, table):
    """Probabilities (H, W, C) -> uint8 (H, W): the most probable of the scored classes. One channel
    is the two-class net's: 1 above 0.5. An index map passes unchanged."""
    probability = np.asarray(probability)
    if probability.ndim == 2:
        return probability.astype(np.uint8)
    if probability.shape[-1] == 1:
        return (probability[..., 0] > 0.5).astype(np.uint8)
    return np.array(table.scored, np.uint8)[probability[..., table.scored].argmax(-1)]
