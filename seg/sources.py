"""What a data set on disk is: layout, pairs, classes, label format, size, channels, intensity.

All of it is decided here, once for the whole set; check, training and scoring take the DataSet.
"""

import hashlib
import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from seg.classes import (
    CAMVID,
    CAMVID_FRAME,
    NO_CLASS,
    TWO_CLASSES,
    ClassTable,
    class_table,
    find_classes,
    numbered_classes,
    read_classes,
    to_hex,
    unpack,
)
from seg.files import InputError, list_pictures, match_files, split
from seg.readers import (
    EIGHT_BITS,
    RawLabel,
    deep_values,
    gather,
    header,
    is_deep,
    is_grey,
    meaning,
    open_picture,
    read_raw,
    recognise,
)
from seg.sizes import SizeRule

FAST_LABELS = 500  # labels read before a training starts; each is checked again when it is used
KEPT_BYTES = 512 << 20  # of labels read then, which training need not decode again
SPLITS = ('train', 'val', 'test')
Glance = namedtuple('Glance', 'shape mode turned top digest')


@dataclass(frozen=True)
class DataSet:
    """A data set as it is meant."""

    where: str
    layout: str
    splits: dict  # name -> [(image path, label path or None)]
    looked: dict  # path -> RawLabel, Glance, or what is wrong with the file
    classes: ClassTable | None
    classes_from: str
    formats: dict  # layout of a label file -> how it is read, see readers.recognise
    rule: SizeRule | None  # None: the pictures differ in size and --size is not given
    channels: int = 3
    intensity: tuple | None = EIGHT_BITS
    errors: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def raws(self, *names):
        """RawLabels of the labels that were read, of these splits or of all."""
        labels = [a for name in names or self.splits for _, a in self.splits.get(name, ())]
        found = [self.looked.get(a) for a in labels]
        return [raw for raw in found if isinstance(raw, RawLabel)]

    def class_pixels(self, name):
        """int64 (n + 1,): pixels of each class in the labels of a split that were read; the last
        are those of no class."""
        zero = np.zeros(len(self.classes) + 1, np.int64)
        return sum((pixels_of(raw, self.classes, self.formats) for raw in self.raws(name)), zero)

    def scored(self):
        """(split, pairs) to score: test where it is labelled, else val, else all there is."""
        for name in reversed(SPLITS):
            pairs = [pair for pair in self.splits.get(name, ()) if pair[1]]
            if pairs:
                return name, pairs
        raise InputError(f'{self.where}: no labels to score against (testannot or valannot)')


def pixels_of(raw, table, formats):
    """int64 (n + 1,): pixels of each class in one label; the last are those of no class."""
    n = len(table)
    classes = meaning(raw.values, raw.colours, formats[raw.layout], table)
    classes = np.where((classes < 0) | (classes > n), n, classes)
    return np.bincount(classes, raw.counts, n + 1).astype(np.int64)


# ------------------------------------------------------------------------ layout and pairs


def _find(settings):
    """(where, layout, {split: (image source, label source or None)}) that `settings` name."""
    images, labels, data = settings.images, settings.labels, Path(settings.data)
    if images or labels:
        if not (images and labels):
            missing = '--labels' if images else '--images'
            raise InputError(f'expected both --images and --labels, {missing} is missing')
        return f'{images}, {labels}', 'two folders', {'train': (images, labels)}
    found = {s: (data / s, data / f'{s}annot') for s in SPLITS if (data / s).is_dir()}
    found = {s: (i, a if a.is_dir() or s != 'test' else None) for s, (i, a) in found.items()}
    if not found:
        held = sorted(p.name for p in data.iterdir()) if data.is_dir() else ['no such folder']
        raise InputError(
            f'{data}: expected train and trainannot in it, found '
            f'{", ".join(held[:9]) or "nothing"}; name folders of your own with --images and '
            '--labels'
        )
    return str(data), "CamVid's folders", found


def _pair(sources, settings):
    """({split: pairs}, [complaints]) of the sources."""
    pairs, complaints = {}, []
    for name, (images, labels) in sources.items():
        try:
            if labels:
                pairs[name], wrong = match_files(images, labels)
                complaints += wrong
            else:
                pairs[name] = [(p, None) for p in list_pictures(images)]
        except InputError as e:
            complaints.append(str(e))
            pairs[name] = []
    if 'val' not in pairs and settings.val_split and len(pairs.get('train', ())) > 1:
        pairs['train'], pairs['val'] = split(pairs['train'], settings.val_split, settings.seed)
    return pairs, complaints


# ------------------------------------------------------------------------ looking at the files


def _glance(path, whole):
    """Glance of an image: its header, and with `whole` its largest value and its pixels' hash."""
    picture = open_picture(path) if whole else header(path)
    turned = picture.info['turned']
    swap = turned > 4 and not whole and picture.format != 'TIFF'  # Pillow has swapped that one's
    shape = picture.size if swap else picture.size[::-1]
    top = float(deep_values(picture, path).max()) if whole and is_deep(picture.mode) else 0
    digest = hashlib.sha1(picture.tobytes()).hexdigest() if whole else ''
    picture.close()
    return Glance(shape, picture.mode, turned > 1, top, digest)


def _try(read, path):
    try:
        return read(path)
    except InputError as e:
        return str(e)


def _look(pairs, fast, notes):
    """{path: RawLabel, Glance or what is wrong} of every file; fast: of FAST_LABELS labels at most,
    spread over the set, and no image decoded."""
    images = [i for p in pairs.values() for i, _ in p]
    labels = [a for p in pairs.values() for _, a in p if a]
    read = labels[:: max(-(-len(labels) // FAST_LABELS), 1)] if fast else labels
    if len(read) < len(labels):
        notes.append(f'{len(read)} of {len(labels)} labels read, spread over the set')
    looked, kept, unread = {}, 0, set(labels) - set(read)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, raw in zip(read, pool.map(partial(_try, read_raw), read)):
            if isinstance(raw, RawLabel):
                kept += raw.inverse.nbytes
                raw = raw if fast and kept < KEPT_BYTES else raw._replace(inverse=None)
            looked[path] = raw
        rest = [*images, *sorted(unread)]
        looked |= zip(rest, pool.map(partial(_try, partial(_glance, whole=not fast)), rest))
    return looked


# ------------------------------------------------------------------------ classes


def blends(colours, ends):
    """Which colours (k, 3) lie between two of the ends (m, 3): the pixels of a smoothed edge."""
    found = np.zeros(len(colours), bool)
    for i, a in enumerate(ends):
        for b in ends[i + 1 :]:
            t = (colours - a) @ (b - a) / ((b - a) @ (b - a))
            found |= (np.abs(colours - a - np.outer(t, b - a)).max(1) < 3) & (t > 0) & (t < 1)
    return found


def _coloured(rgb):
    """Classes named after their colours, none of them void."""
    colours = tuple(map(tuple, rgb.tolist()))
    return ClassTable(tuple(map(to_hex, colours)), colours, ('scored',) * len(colours))


def guess_classes(held):
    """(ClassTable, how) for labels (Held) without a table: 0/255, indices, grey levels far apart,
    or one class for each colour; of a blurred set ('guessed from ...') for each main colour."""
    order = np.argsort(-held.counts, kind='stable')
    values, colours, share = (a[order] for a in (held.values, held.colours, held.counts))
    share, ranked = share / share.sum(), values.tolist()
    if len({*ranked}) == len(ranked) and min(ranked) >= 0:  # one colour a value, none but greys
        top = max([v for v in ranked if v != NO_CLASS], default=1)
        soft = len(ranked) > 8 and top > 128 and {*ranked[:2]} == {0, 255}
        if {*ranked} <= {0, 255} or top <= 1 or soft:
            return TWO_CLASSES, 'two classes, of values 0 and 1 or 0 and 255'
        drawn = all(s.layout == 'palette' for s in held.raws) and len({*colours}) == len(ranked)
        if drawn and sorted(ranked) == [*range(len(ranked))]:
            return _coloured(unpack(colours[np.argsort(values)])), 'palette indices'
        if top < 3 * len(ranked) or top > 255:
            return numbered_classes(min(top, 254) + 1), f'indices, of which the largest is {top}'
    ends, share = unpack(colours[:255]), share[:255]
    vivid = [c for c in map(tuple, ends.tolist()) if len({*c}) > 1]  # greys are anybody's
    if len(vivid) > 5 and {*map(tuple, ends.tolist())} <= {*CAMVID.colours}:
        return CAMVID, "CamVid's, whose colours these are"
    near = np.array([i > 0 and np.abs(ends[:i] - c).max(1).min() < 9 for i, c in enumerate(ends)])
    mixed = blends(ends, ends[(share > 0.01) & ~near][:40])
    if len(colours) > 255 or near.any() or (mixed & (share < 0.001)).sum() > 2:
        main = ends[(share > 0.005) & ~near & ~mixed]
        main = np.unique(main if len(main) else ends[:1], axis=0)
        return _coloured(main), f'guessed from the {len(main)} main of {len(colours)} colours'
    return _coloured(np.unique(ends, axis=0)), f'one for each of {len(ends)} colours'


def _is_camvid(pairs, held):
    """Grey labels of 0..12 whose pictures are called as CamVid's frames are; a wrong value or two
    are then a fault, not a class. Labels alone do not tell: twelve classes may be anybody's."""
    names = [image.name for p in pairs.values() for image, _ in p]
    frames = sum(CAMVID_FRAME.match(name) is not None for name in names)
    own = held.counts[np.isin(held.values, [*range(13), NO_CLASS])].sum()
    grey = all(s.layout == 'grey' for s in held.raws)
    return grey and frames > 0.9 * len(names) and own > 0.99 * held.counts.sum()


def _decide_classes(settings, pairs, raws, warnings):
    """(ClassTable or None, where it is from): of a file, CamVid's, of --num-class, or guessed."""
    folders = [settings.data]
    if settings.images:
        folders = [settings.labels, Path(settings.labels).parent, settings.images]
    path, n = settings.classes or find_classes(*folders), settings.num_class
    held = gather(raws) if raws else None
    if path:
        table, how = read_classes(path), str(path)
    elif held and _is_camvid(pairs, held):
        table, how = class_table(n) if n in (12, 13) else CAMVID, "CamVid's"
    elif n:
        return numbered_classes(n), '--num-class'
    elif held:
        table, how = guess_classes(held)
        warnings.append(f'no class table: {how}; --write-classes writes one to edit')
    else:
        return None, 'no labels'
    if n and n != len(table) and (n, len(table)) != (1, 2):
        raise InputError(
            f'--num-class {n}, but {how} has {len(table)} classes; leave --num-class out, or name '
            'another table with --classes'
        )
    return table, how


# ------------------------------------------------------------------------ pictures


def _decide_pictures(settings, glances, errors):
    """(rule, channels, intensity) of the images: {path: Glance}."""
    sizes, rule = {g.shape for g in glances.values()}, None
    if settings.size:
        rule = SizeRule(settings.resize, *settings.size)
    elif len(sizes) == 1:
        rule = SizeRule('whole', *next(iter(sizes)))
    channels = 1 if glances and all(is_grey(g.mode) for g in glances.values()) else 3
    deep = [p for p, g in glances.items() if is_deep(g.mode)]
    if not deep:
        return rule, channels, EIGHT_BITS
    shallow = next((p for p, g in glances.items() if not is_deep(g.mode)), None)
    if shallow:
        errors.append(
            f'{shallow}: 8 bits, but {deep[0]} has more; one intensity range serves a whole set: '
            'save all of them alike'
        )
        return rule, channels, EIGHT_BITS
    samples = []
    for path in deep[:: -(-len(deep) // 32)]:  # at most 32 pictures, 100,000 values of each
        try:
            values = deep_values(open_picture(path), path).ravel()
            samples.append(values[:: -(-len(values) // 100_000)])
        except InputError as e:
            errors.append(str(e))
    low, high = np.percentile(np.concatenate(samples or [np.zeros(1)]), (0.5, 99.5))
    return rule, channels, (float(low), float(max(high, low + 1e-6)))


def load(settings, fast=True, classes=None, prefer=None):
    """The DataSet that `settings` name.

    Args:
        fast: look at every header and at most FAST_LABELS labels; else at every pixel.
        classes, prefer: the class table and the label formats of a model that is to be scored.
    Raises: InputError where there is no such data set or its class table is wrong; what is wrong
        with files is in `errors`.
    """
    errors, warnings, notes = [], [], []
    where, layout, sources = _find(settings)
    pairs, complaints = _pair(sources, settings)
    errors += complaints
    if 'val' not in pairs:
        warnings.append('no validation pictures: add a val folder, or --val-split 0.2')
    looked = _look(pairs, fast, notes)
    wrong = [e for e in looked.values() if isinstance(e, str)]
    errors += wrong[:5] + [f'... and {len(wrong) - 5} more such files'] * (len(wrong) > 5)
    raws = [s for s in looked.values() if isinstance(s, RawLabel)]
    table, how = classes, 'the model'
    if classes is None:
        table, how = _decide_classes(settings, pairs, raws, warnings)
    formats, doubts = recognise(raws, table, prefer) if raws else ({}, [])
    warnings += doubts
    images = [i for p in pairs.values() for i, _ in p]
    glances = {p: looked[p] for p in images if isinstance(looked.get(p), Glance)}
    rule, channels, intensity = _decide_pictures(settings, glances, errors)
    return DataSet(
        where,
        layout,
        pairs,
        looked,
        table,
        how,
        formats,
        rule,
        channels,
        intensity,
        errors,
        warnings,
        notes,
    )
