"""Clean copies of a data set: its labels snapped to classes, or all of it in CamVid's layout."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from seg import readers
from seg.classes import ClassTable
from seg.files import (
    InputError,
    file_of,
    list_pictures,
    not_written,
    suffix_of,
    unique_names,
    whole_file,
)
from seg.formats import open_picture
from seg.pairing import holds_pictures
from seg.sources import guess_classes
from seg.tablefiles import find_classes, read_classes, write_classes


def _refuse_full(out):
    if out.is_file() or out.is_dir() and any(out.iterdir()):
        raise InputError(f'{out}: exists and is not an empty folder; name a new one')


def _make(out, parts):
    try:
        for part in parts:
            (out / part).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f'{out}: cannot write there ({e.strerror}); name another') from None


def _save(classes, table, path):
    """An index PNG with the classes' colours as its palette: it reads the same by any table."""
    with whole_file(path, durable=False) as beside:
        clean = Image.fromarray(classes)
        clean.putpalette(table.palette.tobytes())
        clean.save(beside)


def convert(data, out):
    """Write a DataSet in CamVid's layout to `out`, which is not there or empty: pictures as they
    are, index PNGs of the labels, classes.csv. Returns how many pictures; InputError, before
    anything is written, where the data have errors."""
    out = Path(out)
    _refuse_full(out)
    if data.errors:
        raise InputError(data.errors[0])
    jobs = []
    for split, pairs in data.splits.items():
        names = unique_names([image for image, _ in pairs])
        jobs += [(split, name, *pair) for name, pair in zip(names, pairs)]
    parts = {split + end for split in data.splits for end in ('', 'annot')}
    _make(out, sorted(parts))
    table = data.classes

    def copy(job):
        split, name, image, label = job
        try:
            if file_of(image) != image:  # a page of a stack
                picture = open_picture(image)
                if picture.mode in ('P', 'CMYK'):
                    picture = picture.convert('RGB')
                picture = np.asarray(picture)
                tifffile.imwrite(out / split / f'{name}.tif', picture, compression='zlib')
            else:
                shutil.copyfile(image, out / split / (name + suffix_of(image)))
        except OSError as e:
            raise not_written(out / split / name, e) from None
        if label:
            classes = readers.to_classes(readers.read_raw(label), table, data.formats)
            _save(classes, table, out / f'{split}annot' / f'{name}.png')

    plain = ClassTable(table.names, table.colours, table.roles)  # the labels hold indices now
    write_classes(out / 'classes.csv', plain)
    return len([*readers.in_threads(copy, jobs)])


def repair(labels, out, table=None, tolerance=16):
    """Clean index PNGs, their palette the classes' colours, of labels of any format, a folder, a
    pattern or CamVid's *annot, in a folder `out` that is not there or empty. table: ClassTable;
    default a class table file beside the labels, else what they hold. tolerance: largest difference
    of a channel up to which a colour that is no class takes the nearest class of its file's.
    Returns: [{'file', 'out', 'converted', 'snapped'}]: pixels now stored as another number, and
        those that were not exactly a class.
    Raises: InputError, before anything is written, where a value is farther from every class."""
    out, labels = Path(out), Path(labels)
    parts = [s for s in ('trainannot', 'valannot', 'testannot') if (labels / s).is_dir()] or ['']
    jobs = {}
    for part in parts:
        place = labels / part
        files = list_pictures(place if holds_pictures(place) else place / '**' / '*')
        base = place if place.is_dir() else os.path.commonpath([p.parent for p in files])
        jobs |= {p: (out / part / p.relative_to(base)).with_suffix('.png') for p in files}
    _refuse_full(out)
    twice = [target.stem for target, k in Counter(jobs.values()).items() if k > 1]
    if twice:
        raise InputError(f'{labels}: two labels are called {twice[0]}; take one out')
    stored, path = readers.read_raws(jobs), find_classes(labels, labels.parent)
    how = ''
    if not table and path:
        table = read_classes(path)
    elif not table:
        table, how = guess_classes(readers.gather(stored))
    kinds = readers.recognise(stored, table)[0]
    for line in readers.contradictions(stored, table, kinds):
        raise InputError(line)
    if how.startswith('guessed'):
        raise InputError(f'{labels}: classes {how}; --write-classes, edit it, then --classes')
    for s in stored:
        held, kind = readers.gather([s]), kinds[s.layout]
        distance = snapped(held, kind, table)[1]
        if distance.max() > tolerance:
            line = readers.complaint(held, distance.argmax(), kind, table)
            raise InputError(f'{line}; beyond --tolerance {tolerance}')
    _make(out, {target.parent.relative_to(out) for target in jobs.values()})

    def rewrite(path):
        raw = readers.read_raw(path)
        classes, distance = snapped(raw, kinds[raw.layout], table)
        _save(classes.astype(np.uint8)[raw.inverse], table, jobs[path])
        moved, far = (int(raw.counts[m].sum()) for m in (raw.values != classes, distance > 0))
        return {'file': str(path), 'out': str(jobs[path]), 'converted': moved, 'snapped': far}

    return list(readers.in_threads(rewrite, [*jobs]))


def snapped(stored, kind, table):
    """(class of each stored value, distance): strangers take the nearest class of the file's."""
    classes = readers.meaning(stored, kind, table)
    nearest, far = readers.snap(stored, kind, table)
    only = np.unique(nearest[far < 9])  # a blend of two can look like a third
    nearest, far = readers.snap(stored, kind, table, only)
    return np.where(classes < 0, nearest, classes), np.where(classes < 0, far, 0)
