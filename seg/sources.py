"""What a data set on disk is: layout, pairs, classes, label format, size, channels, intensity.

All of it is decided here, once for the whole set; check, training and scoring take the DataSet.
"""

import hashlib
import re
from collections import namedtuple
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from seg import classes as tables
from seg import folders, layouts, pictures, readers
from seg.files import (
    InputError,
    file_of,
    is_pattern,
    is_picture,
    is_video,
    list_pictures,
    shown_in,
)
from seg.formats import BANDS, MAX_PIXELS, bands_of, open_picture, pages_of
from seg.holdout import hold_out
from seg.inputs import decide
from seg.pairing import without_labels
from seg.shapes import Drawn
from seg.sizes import SizeRule
from seg.tablefiles import find_classes, read_classes

FAST_LABELS = 500  # labels read before a training starts; each is checked again when it is used
NUMBERS = {'index', 'grey', 'index x 255'}  # readings by which the order of classes counts
KEPT_BYTES = 512 << 20  # of labels read then, which training need not decode again
# shape (H, W); bands: with alpha; alpha: whether the last is said to be that
Glance = namedtuple('Glance', 'shape mode turned top digest cut bands alpha')


@dataclass(frozen=True)
class DataSet:
    """A data set as it is meant."""

    where: str
    layout: str  # what it is called, and
    why: str  # how it was told
    splits: dict  # name -> [(image path, label path or None)]
    looked: dict = field(default_factory=dict)  # path -> RawLabel, Glance, or what is wrong with it
    classes: tables.ClassTable | None = None
    classes_from: str = 'the model'
    formats: dict = field(default_factory=dict)  # layout -> how it is read, see readers.recognise
    paged: bool = False  # whether pages of a file are bands of one picture
    rule: SizeRule | None = None  # None: no picture can be read
    channels: int = 3
    intensity: tuple | None = pictures.EIGHT_BITS
    errors: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    folds: list = field(default_factory=list)  # [(train pairs, val pairs)] of all but test

    def pairs(self, *names):
        """[(image path, label path or None)] of these splits or of all."""
        return [pair for name in names or self.splits for pair in self.splits.get(name, ())]

    def in_fold(self, i):
        """The same with the i-th fold, from 1, for validation."""
        return replace(self, splits=self.splits | dict(zip(('train', 'val'), self.folds[i - 1])))

    def seen(self, side, *names):
        """{path: RawLabel or Glance} of their images (side 0) or labels (1) that can be read."""
        found = {pair[side]: self.looked.get(pair[side], '') for pair in self.pairs(*names)}
        return {path: what for path, what in found.items() if not isinstance(what, str)}

    def raws(self, *names):
        """RawLabels of their labels that were read."""
        return [s for s in self.seen(1, *names).values() if isinstance(s, readers.RawLabel)]

    def pixels(self, *names):
        """int64 (labels, n + 1): pixels of each class in each label read; the last of no class."""
        n, rows = len(self.classes), []
        for raw in self.raws(*names):
            classes = readers.meaning(raw, self.formats[raw.layout], self.classes)
            classes = np.where(classes < 0, n, classes.clip(max=n))
            rows.append(np.bincount(classes, raw.counts, n + 1))
        return np.array(rows, np.int64).reshape(-1, n + 1)

    def class_pixels(self, name):
        """int64 (n + 1,): the same, summed over a split."""
        return self.pixels(name).sum(0)

    def scored(self):
        """(split, pairs) to score: test where it is labelled, else val, else all there is."""
        for name in ('test', 'val', 'train'):
            pairs = [pair for pair in self.pairs(name) if pair[1]]
            if pairs:
                return name, pairs
        raise InputError(f'{self.where}: no labels to score against (testannot or valannot)')


def _find(settings):
    """(DataSet that `settings` name, of which only the pairs are known yet; Found)."""
    images, labels, root = settings.images, settings.labels, Path(settings.data)
    if bool(images) != bool(labels):
        missing = '--labels' if images else '--images'
        raise InputError(f'expected both --images and --labels, {missing} is missing')
    if bool(settings.val_images) != bool(settings.val_labels):
        missing = '--val-labels' if settings.val_images else '--val-images'
        raise InputError(f'expected both --val-images and --val-labels, {missing} is missing')
    if images:
        found = layouts.of_two('train', images, labels)
        where = f'{images}, {labels}'
    elif settings.train_list:
        found, where = folders.of_lists(root, {'train': settings.train_list}), str(root)
    else:
        found, where = layouts.find_layout(root), str(root)
    splits, errors, notes = dict(found.splits), [*found.errors], [*found.notes]
    more = settings.val_images and layouts.of_two('val', settings.val_images, settings.val_labels)
    more = more or settings.val_list and folders.of_lists(root, {'val': settings.val_list})
    if more:
        splits['val'] = more.splits['val']
        errors += more.errors
        taken = {image for image, _ in splits['val']}
        splits['train'] = [pair for pair in splits.get('train', ()) if pair[0] not in taken]
    errors += _once_each(splits, notes)
    errors += _pages(splits)
    other = found.layout != "CamVid's folders" and {*splits} in ({'val'}, {'test'})
    if other and any(label for _, label in sum(splits.values(), [])):
        (name,) = splits  # there is nothing else to learn from
        notes.append(f'all of it lies in {name}, by its names; taken for training')
        splits = {'train': splits[name]}
    about = dict(errors=few(errors), warnings=[*found.warnings], notes=notes)
    if settings.folds:
        if splits.get('val'):
            notes.append(f'train and val together are divided into {settings.folds} folds')
        splits['train'] = [*splits.get('train', ()), *splits.pop('val', ())]
        about['folds'], lines = hold_out(splits['train'], settings)
        notes += lines
    elif 'val' not in splits and settings.val_split and len(splits.get('train', ())) > 1:
        ((splits['train'], splits['val']),), lines = hold_out(splits['train'], settings)
        notes += lines
    order = [name for name in ('train', 'val', 'test') if name in splits]
    splits = {name: splits[name] for name in order}
    about['paged'] = any(len(pages_of(image)) > 1 for image, _ in sum(splits.values(), []))
    return DataSet(where, found.layout, found.why, splits, **about), found


def _once_each(splits, notes):
    """Takes pictures that stand in several splits out of all but the last of train, val, test; one
    line for each that stands in one split with two labels."""
    seen = {}
    for name in ('test', 'val', 'train'):
        kept = []
        for image, label in splits.get(name, ()):
            if image not in seen:
                seen[image] = name, label
                kept.append((image, label))
            elif seen[image][0] == name and seen[image][1] != label:
                yield f'{image}: has two labels, {seen[image][1]} and {label}; take one out'
        twice = len(splits.get(name, ())) - len(kept)
        if twice:
            notes.append(f'pictures of {name} that are listed twice, or in another split: {twice}')
            splits[name] = kept


def _pages(splits):
    """Puts the pages of stacks in the place of their files, picture and label alike; where a label
    is one picture, the pages are its picture's bands. A line for each pair that fits neither."""
    labelled = [pair for pair in sum(splits.values(), []) if pair[1]]
    whole = any(len(pages_of(label)) == 1 < len(pages_of(image)) for image, label in labelled)
    for pairs in splits.values():
        several = []
        for image, label in pairs:
            pages, labels = pages_of(image), pages_of(label) if label else []
            if label and len(pages) != len(labels) and (len(labels) > 1 or len(pages) > BANDS):
                line = f'{image}: {len(pages)} pages, but {label} has {len(labels)}'
                yield f'{line}; make them the same'
            together = len(labels) <= 1 and (whole or len(pages) == 1)
            several += [(image, label)] if together else zip(pages, labels or [None] * len(pages))
        pairs[:] = several


def find_pictures(paths, channels=3, paged=False):
    """Files, folders and globs -> picture files, or pages of them, without the labels among them;
    of the folder of a data set its test pictures, or all. Pages are bands where they were in
    training (paged), or are as many as a network of more than three channels has. InputError for
    what matches none."""
    found = [(file, pages_of(file)) for file in _find_files(paths)]
    return [
        page for file, pages in found for page in ([file] if len(pages) == channels > 3 else pages)
    ]


def _find_files(paths):
    found = []
    for path in map(Path, paths):
        if file_of(path).is_file():  # or a page of one
            found.append(path)
            continue
        inside = path.is_dir() and any(map(is_picture, path.iterdir()))
        if path.is_dir() and not inside:
            try:
                splits = layouts.find_layout(path).splits
                found += [image for image, _ in splits.get('test') or sum(splits.values(), [])]
                continue
            except InputError:
                pass
        files = list_pictures(path, 'a picture, a folder or a pattern')
        found += without_labels(files) if path.is_dir() else files
    return [*dict.fromkeys(found)]


def find_videos(paths):
    """([videos: Paths, or the numbers of cameras], the other paths) of what is named to be painted;
    a folder or glob may hold videos, pictures or both. InputError for a video that is not there."""
    videos, others = [], []
    for path in map(Path, paths):
        if re.fullmatch(r'\d{1,2}', str(path)) and not path.exists():
            videos.append(int(path.name))
            continue
        if is_video(path) and not is_pattern(path) and not path.exists():
            raise InputError(f'{path}: expected a video, found nothing')
        inside = shown_in(path)
        found = [path] if path.is_file() and is_video(path) else sorted(filter(is_video, inside))
        videos += found
        if not found or any(map(is_picture, inside)):
            others.append(path)
    return [*dict.fromkeys(videos)], others


def _look_at(path, label, whole):
    """RawLabel of a label, Glance of an image, of its header alone unless `whole`; or what is wrong
    with the file."""
    try:
        drawn = isinstance(path, Drawn)
        if drawn and not label and path.size:
            return Glance(path.size, 'drawn', False, 0, '', False, 1, False)
        if label or drawn:
            return readers.read_raw(path)
        picture = open_picture(path, decode=whole)
        turned = picture.info['turned']
        swap = turned > 4 and not whole and picture.format != 'TIFF'  # Pillow has swapped that one
        shape = picture.size if swap else picture.size[::-1]
        small = whole and shape[0] * shape[1] <= MAX_PIXELS
        digest = hashlib.sha1(picture.tobytes()).hexdigest() if small else str(path)
        cut = picture.mode in ('RGB', 'RGBA') and ';16' in picture.info['rawmode']
        deep = small and pictures.is_deep(picture.mode)
        top = float(pictures.deep_values(picture, path).max()) if deep else 0
        return Glance(shape, picture.mode, turned > 1, top, digest, cut, *bands_of(picture))
    except InputError as e:
        return str(e)


def few(lines):
    """The first five lines, and how many more there are."""
    return lines[:5] + [f'... and {len(lines) - 5} more such files'] * (len(lines) > 5)


def _look(data, fast):
    """Fill data.looked; fast: FAST_LABELS labels at most, spread over the set, no image decoded."""
    images, labels = ([pair[i] for pair in data.pairs() if pair[i]] for i in (0, 1))
    read = labels[:: -(-len(labels) // FAST_LABELS) or 1] if fast else labels
    if len(read) < len(labels):
        data.notes.append(f'{len(read)} of {len(labels)} labels read, spread over the set')
    paths, kept = [*read, *images, *sorted({*labels} - {*read})], 0
    is_label = [i < len(read) for i in range(len(paths))]
    how = partial(_look_at, whole=not fast)
    for path, what in zip(paths, readers.in_threads(how, paths, is_label)):
        if isinstance(what, readers.RawLabel):
            kept += what.inverse.nbytes
            what = what if fast and kept < KEPT_BYTES else what._replace(inverse=None)
        data.looked[path] = what
    data.errors.extend(what for what in data.looked.values() if isinstance(what, str))


def blends(colours, ends):
    """Which colours (k, 3) lie between two of the ends (m, 3): the pixels of a smoothed edge."""
    found = np.zeros(len(colours), bool)
    for i, a in enumerate(ends):
        for b in ends[i + 1 :]:
            t = (colours - a) @ (b - a) / ((b - a) @ (b - a))
            found |= (np.abs(colours - a - np.outer(t, b - a)).max(1) < 3) & (t > 0) & (t < 1)
    return found


def guess_classes(held):
    """(ClassTable, how) for labels (Held) without a table: 0/255, indices, grey levels far apart,
    or one class for each colour; of a blurred set ('guessed from ...') for each main colour."""
    drawn = all(s.layout == 'palette' for s in held.raws)
    lossy = any(s.lossy for s in held.raws)
    grey = held.colours == (held.colours & 255) * 0x10101
    coloured = drawn and not grey[held.values != tables.NO_CLASS].all()
    border = (held.values == tables.NO_CLASS) & ((held.colours < 0) | coloured)
    keep = ~border if drawn and not border.all() else slice(None)  # no class, as in grey labels
    values, colours, counts = held.values[keep].tolist(), held.colours[keep], held.counts[keep]
    ends, share = tables.unpack(colours[:255]), (counts / counts.sum())[:255]
    camvids = (tables.lookup(colours[:255], tables.CAMVID) >= 0).all()
    if camvids and (np.ptp(ends, axis=1) > 0).sum() > 5:  # greys are anybody's
        return tables.CAMVID, "CamVid's, whose colours these are"
    few = False
    if len({*values}) == len(values) and min(values) >= 0:  # one colour a value, none but greys
        top = max([v for v in values if v != tables.NO_CLASS], default=1)
        over = 256 - min([v for v in values if v], default=256)  # of 255 times an index in 8 bits
        if {0, 255} < {*values} and over < min(3 * len(values), 64) and not (lossy or drawn):
            table = tables.numbered_classes(over + 1)
            return table, f'indices times 255, in 8 bits; the largest is {over}'
        soft = len(values) > 8 and top > 128 and {*values[:2]} == {0, 255}
        if {*values} <= {0, 255} or top <= 1 or soft:
            return tables.TWO_CLASSES, 'two classes, of values 0 and 1 or 0 and 255'
        if drawn and sorted(values) == [*range(len(values))] == [*range(len({*colours}))]:
            entries = tables.unpack(colours[np.argsort(values)])
            return tables.coloured_classes(entries), 'palette indices'
        small = top < 64 and not coloured  # nobody draws levels too dark to see
        if small or top < 3 * len(values) or top > 255:
            return tables.numbered_classes(min(top, 254) + 1), f'indices; the largest is {top}'
        few = len(values) <= 8 and not lossy
    near = np.array([i > 0 and np.abs(ends[:i] - c).max(1).min() < 9 for i, c in enumerate(ends)])
    mixed = blends(ends, ends[(share > 0.01) & ~near][:40])
    total, how = len(colours), 'one for each of'
    if not few and (total > 255 or near.any() or (mixed & (share < 0.001)).sum() > 2):
        main = ends[(share > 0.005) & ~near & ~mixed]
        ends = main if len(main) else ends[:1]
        how = f'guessed from the {len(ends)} main of'
    return tables.coloured_classes(np.unique(ends, axis=0)), f'{how} {total} colours'


def _decide_classes(settings, data, found):
    """(ClassTable or None, where it is from): of a file, CamVid's, of --num-class, or guessed."""
    raws, n, camvid, path = data.raws(), settings.num_class, False, settings.classes
    if settings.images and not path:
        path = find_classes(settings.labels, Path(settings.labels).parent, settings.images)
    if raws:  # CamVid's tell by their frames' names: twelve classes alone may be anybody's
        held = readers.gather(raws)
        frames = [bool(tables.CAMVID_FRAME.match(image.name)) for image, _ in data.pairs()]
        own = held.counts[np.isin(held.values, [*range(13), tables.NO_CLASS])].sum()
        camvid = np.mean(frames) > 0.9 and own > 0.99 * held.counts.sum()  # the rest is a fault
        camvid &= all(s.layout == 'grey' for s in raws)
    if path:
        table, how = read_classes(path), str(path)
    elif found.classes:
        table, how = found.classes, found.classes_from
    elif camvid:
        table, how = tables.class_table(12 if n == 12 else 13), "CamVid's"
    elif n:
        return tables.numbered_classes(n), '--num-class'
    elif raws:
        table, how = guess_classes(held)
        more = 'if there are more, --num-class N; ' if how.startswith('indices') else ''
        data.warnings.append(
            f'no class table: {how}; {more}--write-classes FILE writes one to edit'
        )
        if how.startswith('indices') and readers.are_instances(raws):
            line = 'numbers of objects, it seems, and not of classes: each lies in one small place'
            data.warnings.append(f'{line}; --num-class 1 makes them foreground')
    else:
        return None, 'no labels'
    if n and n != len(table) and (n, len(table)) != (1, 2):
        line = f'--num-class {n}, but {how} has {len(table)} classes'
        raise InputError(f'{line}; leave --num-class out, or name another table with --classes')
    return table, how


def _refuse_others(settings, found, classes):
    """InputError where the data's own class table gives other names to the numbers in labels than
    the model to be scored does. A model without names takes any."""
    path = settings.images and find_classes(settings.labels, Path(settings.labels).parent)
    table = read_classes(path) if path else found.classes
    nameless = all(re.match('class [0-9]+$|#|Background$|Foreground$', n) for n in classes.names)
    if table and table.names != classes.names and not nameless:
        theirs, ours = (', '.join(names[:9]) for names in (table.names, classes.names))
        line = f'{path or found.classes_from}: classes {theirs}, but the model has {ours}'
        raise InputError(f'{line}; score it with the table that it was trained on, by --classes')


def load(settings, fast=True, classes=None, prefer=None):
    """The DataSet that `settings` name; InputError where there is none or its class table is wrong.
    What is wrong with files is in its `errors`. fast: look at headers and FAST_LABELS labels, not
    at every pixel. classes, prefer: class table and label formats of a model to be scored."""
    (data, found), how = _find(settings), 'the model'
    if found.legend:
        table = classes or settings.classes and read_classes(settings.classes) or found.classes
        found.legend.map_to(table, data.where)
    if 'val' not in data.splits and not data.folds:
        data.warnings.append('no validation pictures: add a val folder, or --val-split 0.2')
    _look(data, fast)
    if classes is None:
        classes, how = _decide_classes(settings, data, found)
    elif settings.classes and read_classes(settings.classes) != classes:
        raise InputError(f'{settings.classes}: other classes than the model has; leave it out')
    elif settings.num_class and (settings.num_class, len(classes)) != (1, 2):
        if settings.num_class != len(classes):
            found = f'--num-class {settings.num_class}, but the model has {len(classes)} classes'
            raise InputError(f'{found}; leave it out')
    raws = data.raws()
    many = [len(raw.values) for raw in raws] if how.startswith('indices') else []
    if many and np.median(many) > 64 and not readers.are_instances(raws):
        line = f'{raws[0].path}: {many[0]} values, as many as pictures have'
        data.errors.append(f'{line}; have pictures and labels changed places?')
    formats, doubts = readers.recognise(raws, classes, prefer)
    if how == 'the model' and not settings.classes and NUMBERS & {*formats.values()}:
        _refuse_others(settings, found, classes)
    data.warnings.extend(doubts)
    data.errors.extend(readers.contradictions(raws, classes, formats) if raws else ())
    inputs = decide(settings, data)
    return replace(data, classes=classes, classes_from=how, formats=formats, **inputs)
