"""One reader for labels, whatever kind of file holds them.

Everything that reads a label, for training, scoring or looking, reads it here: `read_raw` says what
a file stores, `recognise` what that means over a whole set, `to_classes` makes class indices of it.
"""

import os
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from seg.classes import NO_CLASS, TWO_CLASSES, hex_of, lookup, pack, to_hex, unique_labels, unpack
from seg.files import InputError
from seg.formats import Raster, bands_of, open_picture
from seg.pictures import is_deep
from seg.shapes import Drawn

LAYOUTS = {
    '1': 'bit',
    'P': 'palette',
    'RGB': 'rgb',
    'L': 'grey',
    '8': 'grey',
    '8x3': 'rgb',
}  # of modes; deep ones are grey
# How each layout can be read; where two readings serve alike, the first is taken. code: as the
# class table's codes say; instances: a number an object; name: drawn from a tool's file, by name.
PLAIN = ['0/255', 'code', 'index', 'colour', 'index x 255', 'instances']
KINDS = {'bit': ['index', 'colour'], 'grey': PLAIN, 'rgb': PLAIN, 'drawn': ['name']}
KINDS['palette'] = ['colour', 'grey', 'code', 'index']
WHITE_FIRST = TWO_CLASSES.colours[::-1]

# What one label file stores. values: grey value, palette index, or for rgb the grey value (-1 for a
# colour); colours: packed; index: of the first pixel; inverse: the label as places in values, or
# None where it is not kept; sample: a grid of hashes to compare labels by.
FIELDS = 'path layout mode lossy shape values colours index inverse counts sample'
RawLabel = namedtuple('RawLabel', FIELDS)
# What many store as one: each (value, colour) once, the most frequent first; files: how many have
# it; owner: place in `raws` of the first, index: of its first pixel there.
Held = namedtuple('Held', 'raws values colours owner index counts files')


def in_threads(function, *lists):
    """function of the items of the lists, in order; a few at a time: memory stays flat."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for i in range(0, len(lists[0]), 4 * workers):
            yield from pool.map(function, *(part[i : i + 4 * workers] for part in lists))


def read_raw(path):
    """RawLabel of one label file or Drawn; InputError where its pixels can not be labels."""
    if isinstance(path, Drawn):
        try:
            found = unique_labels(path.plane())
        except InputError as e:
            raise InputError(f'{path}: {e}') from None
        values = found.values.astype(np.int64)
        return _raw(path, 'drawn', 'drawn', False, values, values * 0x10101, found)
    picture = open_picture(path)
    mode, rawmode, fault = picture.mode, picture.info['rawmode'], ''
    lossy = picture.format in ('JPEG', 'MPO')
    if picture.format == 'WEBP':
        with open(path, 'rb') as f:
            lossy = b'VP8L' not in f.read(256)  # the chunk of the lossless kind
    if mode in ('RGBA', 'LA'):
        alpha = np.asarray(picture.getchannel('A'))
        if alpha.min() < 255:
            y, x = np.argwhere(alpha < 255)[0]
            fault = f'alpha {alpha[y, x]} at row {y}, column {x}; save it without alpha'
        picture = picture.convert(mode[:-1])
    layout = LAYOUTS.get(picture.mode, 'grey' if is_deep(mode) and 'x' not in mode else None)
    plane = np.asarray(picture)
    if isinstance(picture, Raster) and not layout:
        found = f'{bands_of(picture)[0]} pages or bands'
        fault = f'{found}; expected one of class indices, or colours of 8 bits'
    elif not layout or 'LA;16' in rawmode or layout == 'rgb' and ';16' in rawmode:
        fault = f'mode {mode} ({rawmode}); expected 8 bits of grey, palette or RGB, or 16-bit grey'
    elif rawmode in ('L;2', 'L;4') and plane.any():  # PIL multiplies: index 1 becomes 17
        fault = f'{rawmode[2]} bits a pixel: is it an index or a grey level? save it with 8 bits'
    if fault:
        raise InputError(f'{path}: {fault}')
    found = unique_labels(plane)
    values = found.values
    if values.dtype.kind == 'f' and (values % 1 != 0).any():
        raise InputError(f'{path}: holds fractions; expected whole class indices')
    colours = values = (pack(values) if layout == 'rgb' else values).astype(np.int64)
    if layout == 'rgb':
        values = np.where(values == (values & 255) * 0x10101, values & 255, -1)
    elif layout == 'palette':
        palette = np.array((picture.getpalette() + [0] * 768)[:768], np.uint8).reshape(256, 3)
        colours = pack(palette).astype(np.int64)
        if colours[NO_CLASS] in colours[:NO_CLASS]:  # it only fills the palette up
            colours[NO_CLASS] = -1
        colours = colours[values]
    else:
        colours = np.where((values >= 0) & (values < 256), values * 0x10101, -1)
    return _raw(path, layout, mode, lossy, values, colours, found)


def _raw(path, layout, mode, lossy, values, colours, found):
    inverse = found.inverse
    h, w = inverse.shape
    held = colours[inverse[np.arange(32)[:, None] * h // 32, np.arange(48) * w // 48]]
    sample = (held.ravel() * 2654435761 >> 24).astype(np.uint8)
    return RawLabel(path, layout, mode, lossy, (h, w), values, colours, *found[1:], sample)


def gather(raws, layout=None):
    """Held of many RawLabels, of those of one layout or of all."""
    raws = [s for s in raws if layout in (None, s.layout)]
    parts = ([getattr(s, f) for s in raws] for f in ('values', 'colours', 'index', 'counts'))
    values, colours, index, counts = map(np.concatenate, parts)
    owner = np.repeat(np.arange(len(raws)), [len(s.values) for s in raws])
    _, first, inverse, files = unique_labels(values * 2**25 + colours)
    counts = np.bincount(inverse, counts).astype(np.int64)
    order = np.argsort(-counts, kind='stable')
    found = (part[first[order]] for part in (values, colours, owner, index))
    return Held(raws, *found, counts[order], files[order])


def first_pixel(held, i):
    """(path, row, column) where stored value i of a Held occurs first."""
    raw = held.raws[held.owner[i]]
    return raw.path, *divmod(int(held.index[i]), raw.shape[1])


def meaning(stored, kind, table):
    """Class of each value of a RawLabel or Held under one reading; 255 no class, -1 none."""
    values, colours, n = stored.values, stored.colours, len(table)
    if kind == '0/255':
        return lookup(colours, TWO_CLASSES)
    if kind == 'colour':
        classes, (raw, *_) = lookup(colours, table), getattr(stored, 'raws', [stored])
        seen = replace(table, colours=table.display[:n, :3])  # as our masks of two classes are
        classes = np.where(classes < 0, lookup(colours, seen), classes)
        border = (classes < 0) & (values == NO_CLASS)
        if raw.layout == 'rgb' and not table.all_grey:  # there white is a colour like others
            border = False
        return np.where(border, NO_CLASS, classes)
    if kind == 'index x 255':  # 8 bits keep 255 of 1, 254 of 2
        return np.where((values == 0) | (values > 256 - n) & (values < 256), -values & 255, -1)
    if kind == 'grey':  # a grey palette written by an optimiser: its grey is the index
        values = np.where(colours == (colours & 255) * 0x10101, colours & 255, -1)
    if kind == 'code':
        known = dict(table.codes) | ({} if NO_CLASS in dict(table.codes) else {NO_CLASS: NO_CLASS})
        return np.array([known.get(v, -1) for v in values.tolist()], np.int64)
    if kind == 'instances':
        return np.where(values < 0, -1, values > 0)
    known = (values >= 0) & ((values < n) | (values == NO_CLASS))
    if kind == 'name':
        return np.where(known, values, -1)
    if table.colours == WHITE_FIRST:  # 0 is black and 1 white all the same
        values = np.where(values < 2, 1 - values, values)
    return np.where(known, values, -1)


def are_instances(raws):
    """Whether numbers stand for objects and not for classes: in each label 1 to some k, not the
    same in all, and each of them lies in one small place."""
    raws = [s for s in raws if s.layout in ('grey', 'rgb') and s.values.min() >= 0]
    tops = [int(s.values.max()) for s in raws]
    listed = [{*s.values.tolist()} - {0} == {*range(1, top + 1)} for s, top in zip(raws, tops)]
    if len(raws) < 2 or np.median(tops) < 4 or np.mean(listed) < 0.9 or len({*tops}) < 2:
        return False
    small = []
    for raw in raws[:: -(-len(raws) // 6)]:
        inverse, (h, w) = read_raw(raw.path).inverse, raw.shape
        for i in np.flatnonzero(raw.values)[:100]:
            rows, columns = np.nonzero(inverse == i)
            small.append(np.ptp(rows) * np.ptp(columns) < h * w / 8)
    return np.mean(small) > 0.8


def recognise(raws, table, prefer=None):
    """How labels are meant: ({layout: one of its KINDS}, [doubts]): the reading under which all
    values are classes, or failing that most pixels. One black file can be read in two ways, all
    files together hardly ever. prefer: what was found in training, which decides where palette or
    RGB files alone do not."""
    formats, doubts = {}, []
    for layout in sorted({s.layout for s in raws}):
        held, before = gather(raws, layout), (prefer or {}).get(layout)
        two_class, ambiguous = len(table) <= 2, layout in ('palette', 'rgb')
        unfit = {'0/255'} if len(table) != 2 or table.colours == WHITE_FIRST else set()
        if {*held.values.tolist()} <= {0, 255} or meaning(held, 'index x 255', table).min() < 0:
            unfit.add('index x 255')
        unfit |= {'index', 'index x 255'} if table.codes else {'code'}
        if len(table) != 2 or held.values.max() < 3 or not are_instances(raws):
            unfit.add('instances')
        kinds = [k for k in KINDS[layout] if k not in unfit]
        tell = {*meaning(held, 'colour', table).tolist()} - {-1, NO_CLASS}
        if layout != 'palette' and not table.numbered and (table.all_grey or len(tell) > 1):
            kinds.sort(key=lambda kind: kind != 'colour')  # the table says which grey is which
        if layout == 'rgb' and held.values.min() < 0:
            kinds = ['colour']  # one pixel that is not grey tells
        if layout == 'palette' and len({*held.colours}) < 2 and not two_class:
            kinds = kinds[::-1]  # one colour alone does not tell an order of colours
        if ambiguous:
            kinds.sort(key=lambda kind, before=before: kind != before)
        found, merit = {kind: meaning(held, kind, table) for kind in kinds}, {}
        for kind, m in found.items():  # 255 read as "no class" is allowed, but speaks for nothing
            merit[kind] = (m >= 0).all(), held.counts[(m >= 0) & (m != NO_CLASS)].sum()
        formats[layout] = best = max(kinds, key=merit.get)
        rivals = [k for k in kinds if merit[k] == merit[best] and (found[k] != found[best]).any()]
        if rivals and merit[best][0] and ambiguous and best != before:
            doubt = f'{layout} labels can be read as {best} and as {rivals[0]}: read as {best}'
            doubts.append(f'{doubt}; save index PNGs where that is wrong')
    return formats, doubts


def contradictions(raws, table, formats):
    """What labels leave open and nobody but their author can tell, in one line each: files of
    several layouts, 0/1 beside 0/255, or a colour of the table on the number of another row."""
    n, counts = len(table), Counter(s.layout for s in raws).most_common()
    if len(counts) > 1:
        first = {s.layout: s.path for s in raws[::-1]}
        found = ', '.join(f'{count} {layout}' for layout, count in counts)
        line = f'{first[counts[-1][0]]}: labels of several kinds, {found}, as {first[counts[0][0]]}'
        yield f'{line}; save all of them alike'
    for layout, kind in formats.items():
        held = gather(raws, layout)
        plain, white = {*held.values.tolist()}, 0xFFFFFF if layout == 'bit' else 0x10101
        both = any({1, 255} <= {*s.values.tolist()} for s in held.raws)
        if {1, 255} <= plain <= {0, 1, 255} and n <= 2 and not both and kind != 'name':
            a, b = (next(s.path for s in held.raws if v in s.values) for v in (1, 255))
            yield f'{b}: 0 and 255, but {a}: 0 and 1; is 255 foreground or no class?'
        colours = held.values * white if layout == 'bit' else held.colours
        read, row = meaning(held, kind, table), lookup(colours, table)
        told = (row >= 0) & (read >= 0) & (row != read) & (not table.numbered)
        if n > 2:  # numbers are usual there, and black of no row but one that is scored tells
            told &= (held.values != NO_CLASS) & np.isin(row, table.scored)
            told &= (colours == 0) | (layout == 'palette')
        for i in np.flatnonzero(told)[:1]:
            path, y, x = first_pixel(held, i)
            name, other = table.names[row[i]], [*table.names, *['no class'] * 256][read[i]]
            line = f'{path}: value {held.values[i]} at row {y}, column {x} has the colour of {name}'
            line += f', {hex_of(colours[i])}, but the number of {other}; which is it? '
            yield f'{line}Order the class table as the values are, or give {name} another colour'


def binary(path):
    """bool (H, W) of a mask of one class: where it is not black, or not index 0."""
    raw = read_raw(path)
    own = (
        raw.colours if raw.layout in ('rgb', 'palette') and (raw.colours == 0).any() else raw.values
    )
    return (own != 0)[raw.inverse]


def first_channel(path):
    """uint8 (H, W): the first channel of a 16-bit RGB PNG, of which Pillow keeps the upper 8 bits
    alone; InputError for another file, or values above 255."""
    import tensorflow as tf

    try:
        plane = tf.io.decode_png(tf.io.read_file(str(path)), dtype=tf.uint16).numpy()[..., 0]
    except tf.errors.OpError as e:
        raise InputError(f'expected a PNG of 16 bits a colour ({e.message[:80]})') from None
    if plane.max(initial=0) > NO_CLASS:
        raise InputError(f'value {plane.max()}, expected classes below {NO_CLASS}')
    return plane.astype(np.uint8)


def read_raws(files):
    """RawLabel of each file, without the label itself, for `recognise`."""
    return list(in_threads(lambda path: read_raw(path)._replace(inverse=None), [*files]))


def snap(stored, kind, table, only=()):
    """(nearest class, largest difference of a channel) of each value of a RawLabel or Held; `only`
    limits the classes. An index has no near ones: distance 256."""
    if kind not in ('0/255', 'colour'):
        return stored.values.clip(0, len(table) - 1), np.full(stored.values.shape, 256)
    ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours)
    only, rgb = only if len(only) else np.arange(len(ends)), unpack(stored.colours)
    distance = np.stack([np.abs(rgb - end).max(-1) for end in ends[only]])
    return only[distance.argmin(0)], np.where(stored.colours < 0, 256, distance.min(0))


def complaint(held, i, kind, table):
    """What is wrong with value i of a Held, in one line."""
    path, y, x = first_pixel(held, i)
    one = held._replace(values=held.values[[i]], colours=held.colours[[i]])
    (c,), (distance,) = snap(one, kind, table)
    value, shown, near = held.values[i], hex_of(held.colours[i]), f'{c}, {table.names[c]}'
    expected = {'0/255': '0 and 255', 'index x 255': f'0 and {257 - len(table)}..255'}
    expected = expected.get(kind, f'0..{len(table) - 1}, or 255 for no class')
    if kind == 'colour' or value < 0 and held.raws[0].layout == 'rgb':
        near = f'{table.names[c]} {to_hex(table.colours[c])}, {distance} units away'
        return f'{path}: colour {shown} at row {y}, column {x} is no class; nearest is {near}'
    found = f'value {value} ({shown}) at row {y}, column {x}'
    return f'{path}: {found}; expected {expected}; nearest is {near}'


def to_classes(raw, table, formats):
    """uint8 (H, W) class indices of a RawLabel, values below len(table), or 255 for no class.
    InputError with file, wrong value or colour, its first pixel (row, column), nearest class."""
    if formats and raw.layout not in formats:  # where a sample of the set was read, without it
        line = f'{raw.path}: a {raw.layout} label, the others are {", ".join(formats)}'
        raise InputError(f'{line}; save all of them alike')
    kind = formats.get(raw.layout) or recognise([raw], table)[0][raw.layout]
    classes = meaning(raw, kind, table)
    if classes.min() < 0:
        held = gather([raw])
        line = complaint(held, (meaning(held, kind, table) < 0).argmax(), kind, table)
        raise InputError(line + ('; JPEG smears labels, save as PNG' if raw.lossy else ''))
    return classes.astype(np.uint8)[raw.inverse]


def read_label(path, table, formats=None):
    """One label file as class indices, uint8 (H, W), see `to_classes`: an index picture (8 or 16
    bits, palette, 1 bit, grey saved as RGB), 0/255 mask of two classes, or colour mask of the table
    (RGB, opaque RGBA, any palette). formats: of `recognise`; else this one is judged alone."""
    return to_classes(read_raw(path), table, formats or {})
