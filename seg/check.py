"""The label check: what a data set holds and whether it is fit to train on; and the repair.

    python main.py check FOLDER
    python main.py check FOLDER --repair OUT

No TensorFlow: a data set is judged in seconds, before an hour is spent on it.
"""

import hashlib
import os
import time
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from seg.readers import (
    CAMVID,
    NO_CLASS,
    TWO_CLASSES,
    ClassTable,
    InputError,
    Stored,
    _complaint,
    _formats,
    _header,
    _hex,
    _match,
    _meaning,
    _merge,
    _snap,
    _stored,
    _survey,
    _unpack,
    find_classes,
    list_pictures,
    numbered_classes,
    open_picture,
    read_classes,
    split,
    to_hex,
    whole_file,
)

FAST_LABELS = 500  # labels that the fast check reads; each is checked again when it is used
Glance = namedtuple('Glance', 'shape mode turned top digest')


def _glance(path, whole):
    """Glance of an image: its header, and with `whole` its largest value and its pixels' hash."""
    picture = open_picture(path) if whole else _header(path)
    turned, deep = picture.info['turned'], picture.mode[0] in 'IF'
    swap = turned > 4 and not whole and picture.format != 'TIFF'  # Pillow has swapped that one's
    shape = picture.size if swap else picture.size[::-1]
    top = float(np.max(picture)) if whole and deep else 0
    digest = hashlib.sha1(picture.tobytes()).hexdigest() if whole else ''
    picture.close()
    return Glance(shape, picture.mode, turned > 1, top, digest)


def _try(read, path):
    try:
        return read(path)
    except InputError as e:
        return str(e)


def _few(lines):
    """The first five lines, and how many more there are."""
    return lines[:5] + [f'... and {len(lines) - 5} more such files'] * (len(lines) > 5)


def _sources(folder, images, labels):
    """{split: (image source, label source or None)} of a CamVid folder, or of images and labels."""
    if images and labels and not folder:
        return {'train': (images, labels)}
    if images or labels or not folder:
        raise InputError('expected a folder in CamVid layout, or both --images and --labels')
    folder = Path(folder)
    if not (folder / 'train').is_dir():
        held = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else ['no such folder']
        raise InputError(
            f'{folder}: expected train and trainannot in it, found '
            f'{", ".join(held[:9]) or "nothing"}; name folders of your own with '
            '--images and --labels'
        )
    found = {s: (folder / s, folder / f'{s}annot') for s in ('train', 'val', 'test')}
    return {
        s: (i, None if s == 'test' and not a.is_dir() else a)
        for s, (i, a) in found.items()
        if i.is_dir()
    }


def _blends(colours, ends):
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
    order = np.argsort(-held.counts, kind='stable')
    values, colours, share = (a[order] for a in (held.values, held.colours, held.counts))
    share, ranked = share / share.sum(), values.tolist()
    if len({*ranked}) == len(ranked) and min(ranked) >= 0:  # one colour a value, none but greys
        top = max([v for v in ranked if v != NO_CLASS], default=1)
        soft = len(ranked) > 8 and top > 128 and {*ranked[:2]} == {0, 255}
        if {*ranked} <= {0, 255} or top <= 1 or soft:
            return TWO_CLASSES, 'two classes, of values 0 and 1 or 0 and 255'
        drawn = all(s.layout == 'palette' for s in held.stored) and len({*colours}) == len(ranked)
        if drawn and sorted(ranked) == [*range(len(ranked))]:
            return _coloured(_unpack(colours[np.argsort(values)])), 'palette indices'
        if top < 3 * len(ranked) or top > 255:
            return numbered_classes(min(top, 254) + 1), f'indices, of which the largest is {top}'
    ends, share = _unpack(colours[:255]), share[:255]
    if len(ends) > 2 and {*map(tuple, ends.tolist())} <= {*CAMVID.colours}:
        return CAMVID, "CamVid's, whose colours these are"
    near = np.array([i > 0 and np.abs(ends[:i] - c).max(1).min() < 9 for i, c in enumerate(ends)])
    mixed = _blends(ends, ends[(share > 0.01) & ~near][:40])
    if len(colours) > 255 or near.any() or (mixed & (share < 0.001)).sum() > 2:
        main = ends[(share > 0.005) & ~near & ~mixed]
        main = np.unique(main if len(main) else ends[:1], axis=0)
        return _coloured(main), f'guessed from the {len(main)} main of {len(colours)} colours'
    return _coloured(np.unique(ends, axis=0)), f'one for each of {len(ends)} colours'


def _is_camvid(held, stored):
    """Grey labels of 0..12 with void in them; a wrong value or two are then a fault, not a class."""
    own = np.isin(held.values, [*range(13), NO_CLASS])
    return (
        all(s.layout == 'grey' for s in stored)
        and {*held.values.tolist()} & {11, 12}
        and held.counts[own].sum() > 0.99 * held.counts.sum()
    )


def _coloured(rgb):
    """Classes named after their colours, none of them void."""
    colours = tuple(map(tuple, rgb.tolist()))
    return ClassTable(tuple(map(to_hex, colours)), colours, ('scored',) * len(colours))


def class_weights(counts, table):
    """Weight 1/ln(1.10 + p) of each class, p its share of the scored pixels; None for a class that
    is void or has no pixel."""
    scored = [i for i in table.scored if counts[i]]
    total = sum(counts[i] for i in scored)
    return [
        float(1 / np.log(1.1 + counts[i] / total)) if i in scored else None
        for i in range(len(table))
    ]


def check(
    folder=None,
    images=None,
    labels=None,
    table=None,
    val_split=None,
    seed=0,
    size=None,
    two_class=False,
    fast=False,
):
    """What a data set holds, and whether it is fit to train on.

    Args:
        folder: CamVid layout: train, trainannot, val, valannot[, test[, testannot]].
        images, labels: instead, two folders or glob patterns (split 'train').
        table: ClassTable; default a class table file beside the data, else what the labels hold.
        val_split, seed: where there is no val, this fraction of train; see `split`.
        size: what pictures will be resized to, so that they may differ.
        fast: what `train` runs first: every pair and header, at most FAST_LABELS labels, no image
            decoded; the first error is raised.

    Returns: dict fit for JSON: fit, verdict, errors, warnings, notes, data, table, table_from,
        format (for `read_label`), splits, images and labels by size and mode, values, classes,
        weights, seconds.
    Raises: InputError where there is no such data set or its class table is wrong.
    """
    started, pairs, looked = time.perf_counter(), {}, {}
    say = {'errors': [], 'warnings': [], 'notes': []}
    for name, (image_source, label_source) in _sources(folder, images, labels).items():
        try:
            if label_source:
                pairs[name], complaints = _match(image_source, label_source)
                say['errors'] += complaints
            else:
                pairs[name] = [(p, None) for p in list_pictures(image_source)]
        except InputError as e:
            say['errors'].append(str(e))
            pairs[name] = []
    if 'val' not in pairs and val_split and len(pairs['train']) > 1:
        pairs['train'], pairs['val'] = split(pairs['train'], val_split, seed)
    if 'val' not in pairs:
        say['warnings'].append('no validation pictures: add a val folder, or --val-split 0.2')

    files = {
        'images': [i for p in pairs.values() for i, _ in p],
        'labels': [a for p in pairs.values() for _, a in p if a],
    }
    every = files['labels']
    read = every[:: max(-(-len(every) // FAST_LABELS), 1)] if fast else every
    if len(read) < len(every):
        say['notes'].append(f'{len(read)} of {len(every)} labels read, spread over the set')
    glance, rest = partial(_glance, whole=not fast), {*every} - {*read}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for reader, todo in ((_survey, read), (glance, [*files['images'], *rest])):
            looked |= zip(todo, pool.map(partial(_try, reader), todo))
    say['errors'] += _few([e for e in looked.values() if isinstance(e, str)])
    looked = {p: s for p, s in looked.items() if not isinstance(s, str)}
    stored = [looked[p] for p in read if p in looked]

    result, how = {'format': {}, 'values': [], 'classes': [], 'weights': {}}, 'given'
    if table is None and stored:
        held = _merge(stored)
        path = find_classes(*([folder] if folder else [labels, Path(labels).parent, images]))
        if path:
            table, how = read_classes(path), str(path)
        elif folder and _is_camvid(held, stored):
            table, how = CAMVID, "CamVid's"
        else:
            table, how = guess_classes(held)
            say['warnings'].append(f'no class table: {how}; --write-classes writes one to edit')
    if stored:
        _check_labels(result, say, stored, looked, pairs, table, two_class)
    _check_images(say, looked, pairs, size, fast)
    if fast and say['errors']:
        raise InputError(say['errors'][0])
    for what, paths in files.items():
        seen = [looked[p] for p in paths if p in looked]
        result[f'{what} by size'] = dict(Counter('{}x{}'.format(*s.shape) for s in seen))
        result[f'{what} by mode'] = dict(Counter(s.mode for s in seen))
    wrong, doubts = len(say['errors']), len(say['warnings'])
    verdict = f'not fit to train, errors: {wrong}' if wrong else 'fit to train'
    verdict += f', warnings: {doubts}' if doubts else ''
    splits = {
        s: {'images': len(p), 'labels': sum(a is not None for _, a in p)} for s, p in pairs.items()
    }
    data = str(folder or f'{images}, {labels}')
    return {
        'fit': not wrong,
        'verdict': verdict,
        **say,
        'data': data,
        'table': table and table.to_dict(),
        'table_from': how,
        'splits': splits,
        **result,
        'seconds': round(time.perf_counter() - started, 2),
    }


def _check_labels(result, say, stored, looked, pairs, table, two_class):
    """What the labels hold: format, values, classes, weights."""
    n, warn, total = len(table), say['warnings'].append, sum(s.counts.sum() for s in stored)
    result['format'], doubts = _formats(stored, table, two_class)
    say['warnings'] += doubts
    for layout, kind in result['format'].items():
        held = _merge([s for s in stored if s.layout == layout])
        classes = _meaning(held.values, held.colours, kind, table)
        for i in np.argsort(-held.counts, kind='stable')[:1000]:  # a JPEG holds many thousands
            s, c = held.stored[held.owner[i]], classes[i]
            y, x = divmod(int(held.index[i]), s.shape[1])
            result['values'].append(
                {
                    'layout': layout,
                    'value': int(held.values[i]),
                    'hex': _hex(held.colours[i]),
                    'class': None if c < 0 else table.names[c] if c < n else 'no class',
                    'percent': 100 * float(held.counts[i] / total),
                    'files': int(held.files[i]),
                    'first_file': str(s.path),
                    'row': y,
                    'column': x,
                }
            )
        say['errors'] += _strangers(held, classes, kind, table)
        plain = {*held.values.tolist()}
        trains = kind != 'index' and {*classes} & {*table.scored}
        if 255 in plain <= {0, 255} and n > 2 and not trains:
            say['errors'].append(
                f'{held.stored[0].path}: labels hold only 0 and 255, masks of two classes, but the '
                f'class table has {n}; --num-class 2 trains on them, --repair makes them 0 and 1'
            )
        both = any({1, 255} <= {*s.values.tolist()} for s in held.stored)
        if {1, 255} <= plain <= {0, 1, 255} and n <= 2 and not both:
            a, b = (next(s.path for s in held.stored if v in s.values) for v in (1, 255))
            say['errors'].append(
                f'{b}: values 0 and 255, but {a}: 0 and 1; is 255 foreground or '
                'no class? repair the one kind apart from the other'
            )
        if kind == 'index' and layout != 'bit' and min(plain) >= 1:
            warn(
                f'indices start at {min(plain)}, so class 0, {table.names[0]}, never occurs; '
                'subtract 1 if they were counted from 1'
            )
    modes = Counter(s.layout for s in stored)
    if len(modes) > 1:
        found = ', '.join(f'{k} {layout}' for layout, k in modes.items())
        warn(f'labels of several kinds, each read as its own: {found}')
    for words, files in (
        ('JPEG labels, which JPEG smears; save PNG', [s.path for s in stored if s.lossy]),
        ('labels of one single value', [s.path for s in stored if len(s.values) == 1]),
    ):
        if files:
            warn(f'{words}: {len(files)} (first: {files[0]})')

    counts = {name: np.zeros(n + 1, np.int64) for name in pairs}  # pixels; the last is no class
    within, files = np.zeros(n), np.zeros(n, int)  # pixels of the training images that hold a class
    for name, s in ((name, looked[a]) for name, p in pairs.items() for _, a in p if a in looked):
        if isinstance(s, Stored):
            classes = _meaning(s.values, s.colours, result['format'][s.layout], table)
            classes[(classes < 0) | (classes > n)] = n
            held = np.bincount(classes, s.counts, n + 1).astype(np.int64)
            counts[name] += held
            files += held[:n] > 0
            within += (held[:n] > 0) * held.sum() * (name == 'train')
    train, everywhere = counts['train'][:n], sum(counts.values())[:n]
    for i, (name, colour, role) in enumerate(zip(table.names, table.colours, table.roles)):
        share = {s: 100 * float(c[i] / c.sum()) for s, c in counts.items() if c.any()}
        result['classes'].append(
            {
                'index': i,
                'name': name,
                'hex': to_hex(colour),
                'role': role,
                'percent': share,
                'files': int(files[i]),
            }
        )
    absent = [table.names[i] for i in range(n) if not everywhere[i]]
    late = [table.names[i] for i in table.scored if everywhere[i] and not train[i]]
    if absent:
        scored = {table.names[i] for i in table.scored} & {*absent}
        (warn if scored else say['notes'].append)(
            f'classes that never occur: {", ".join(absent[:20])} ({len(absent)} of {n})'
        )
    if late:
        warn(f'classes that occur only outside the training pictures: {", ".join(late)}')
    if not train[table.scored].any():
        say['errors'].append('no training pixel has a scored class; is this the right class table?')
    elif train.max() > 0.995 * train.sum():
        warn(
            f'{table.names[train.argmax()]} takes {100 * train.max() / train.sum():.2f} % of the '
            'training pixels: a net that paints nothing else would score well'
        )
    rate = train / np.maximum(within, 1)
    seen = [i for i in table.scored if train[i]]
    middle = np.median(rate[seen]) if seen else 0
    result['weights'] = {
        '1/ln(1.10+p)': class_weights(train.tolist(), table),
        'median frequency': [float(middle / rate[i]) if i in seen else None for i in range(n)],
    }


def _strangers(held, classes, kind, table):
    """One error line on the values that are no class, with their likely cause and the remedy."""
    bad = np.flatnonzero(classes < 0)
    if not len(bad):
        return []
    bad = bad[np.argsort(-held.counts[bad], kind='stable')]
    s, i, weight = held.stored[held.owner[bad[0]]], bad[0], held.counts[bad]
    line = _complaint(s, held.values[i], held.colours[i], held.index[i], kind, table)
    share = 100 * weight.sum() / held.counts.sum()
    line += f' ({len(bad)} such values, {share:.3g} % of the pixels); '
    if any(s.lossy for s in held.stored):
        line += 'JPEG smears labels: --repair snaps them'
    elif kind in ('0/255', 'colour'):
        known = np.unique(classes[(classes >= 0) & (classes < len(table))])
        ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours, float)
        ends = ends if kind == '0/255' else ends[known][:40]
        smooth = weight[:2000][_blends(_unpack(held.colours[bad[:2000]]), ends)].sum()
        distance = _snap(held.values[bad], held.colours[bad], kind, table)[1].max()
        if distance <= 16:
            line += f'all within {distance} units of a class: --repair snaps them'
        elif len(bad) > 2 and smooth > 0.9 * weight.sum():
            line += 'blends of two classes, so edges are anti-aliased: --repair snaps them'
        else:
            line += 'add it to the class table (--classes), or paint it as a class'
    elif held.values.min() == 1 and held.values[bad].max() == len(table):
        line += 'indices start at 1: subtract 1 from every label'
    else:
        line += 'give the number of classes with --num-class, or a class table with --classes'
    return [line]


def _check_images(say, looked, pairs, size, fast):
    """Sizes, modes, EXIF, duplicates, labels alike."""
    splits = {i: name for name, p in pairs.items() for i, _ in p}
    looks, warn, unequal = {p: looked[p] for p in splits if p in looked}, say['warnings'].append, []
    for image, label in chain(*pairs.values()):
        a, b = looked.get(image), looked.get(label)
        if a and b and a.shape != b.shape:
            turn = ', for EXIF turns the image' if a.turned and a.shape == b.shape[::-1] else ''
            size_a, size_b = ('{}x{}'.format(*g.shape) for g in (a, b))
            unequal.append(
                f'{label}: label of {size_b}, but {image} has {size_a} pixels{turn}; '
                'make them the same'
            )
    say['errors'] += _few(unequal)
    sizes = Counter(a.shape for a in looks.values())
    if len(sizes) > 1 and not size:
        odd = next(p for p, a in looks.items() if a.shape == min(sizes, key=sizes.get))
        most = '{}x{}'.format(*max(sizes, key=sizes.get))
        say['errors' if fast else 'warnings'].append(
            f'{odd}: one of {len(sizes)} sizes of images; --size {most} resizes all, labels nearest'
        )
    for axis, word in ((0, 'rows'), (1, 'columns')):
        for extent in sorted({s[axis] for s in (sizes if len(sizes) < 4 and not size else ())}):
            if extent % 16:
                say['notes'].append(
                    f'{extent} {word} are padded to {-(-extent // 16) * 16} inside '
                    'the model, which crops its output'
                )
    for words, is_so in (
        ('EXIF turns images upright; their labels must be drawn upright', lambda a: a.turned),
        ('images of 16 bits, read as value / 257', lambda a: a.mode[0] in 'IF'),
        ('CMYK images, converted to RGB', lambda a: a.mode == 'CMYK'),
        ('images with alpha, which is dropped', lambda a: a.mode in ('RGBA', 'LA', 'PA')),
    ):
        files = [p for p, a in looks.items() if is_so(a)]
        if files:
            top = max(looks[p].top for p in files)
            most = f', the largest value {top:g}' if top else ''
            warn(f'{words}: {len(files)} (first: {files[0]}){most}')
    if fast:
        return
    same = {}
    for p, a in looks.items():
        same.setdefault((a.digest, a.shape, a.mode), []).append(p)
    for across, what in ((True, 'in two splits'), (False, 'twice in one split')):
        twins = [g for g in same.values() if g[1:] and (len({splits[p] for p in g}) > 1) == across]
        if twins:
            a, b = twins[0][0], twins[0][-1]  # in the order of the splits: of two splits, if any
            warn(f'the same image {what}: {a} and {b} ({len(twins)} such)')
    drawn = [
        (looks[i].digest, looked[a])
        for i, a in chain(*pairs.values())
        if i in looks and a in looked and len(looked[a].values) > 1
    ][:1000]
    grid = np.array([s.sample for _, s in drawn])
    alike = [
        (a, drawn[i + 1 + j][1])
        for i, (d, a) in enumerate(drawn)
        for j in np.flatnonzero((grid[i + 1 :] == grid[i]).mean(1) > 0.995)
        if drawn[i + 1 + j][0] != d
    ]
    if alike:
        names = ' and '.join(str(s.path) for s in alike[0])
        warn(f'labels nearly equal, though their images differ: {names} ({len(alike)} such pairs)')


def format_check(result):
    """A check for people; its last line is the verdict."""
    r, lines = result, [result['data']]
    for name, s in r['splits'].items():
        lines.append(f'  {name:6}{s["images"]} images, {s["labels"]} labels')
    for what in ('images by size', 'images by mode', 'labels by size', 'labels by mode'):
        lines.append(f'  {what}: ' + ', '.join(f'{k} ({v})' for k, v in [*r[what].items()][:8]))
    lines.append('  read as: ' + ', '.join(f'{a} files: {b}' for a, b in r['format'].items()))
    lines += [f'  class table: {r["table_from"]}', '']
    lines.append('  value colour   % of pixels  files  class            first file, row, column')
    for v in r['values'][:40]:
        lines.append(
            '  {:>5} {} {:12.3f} {:6}  {:16} {}, {}, {}'.format(
                '' if v['value'] < 0 else v['value'],
                v['hex'],
                v['percent'],
                v['files'],
                v['class'] or '(none)',
                v['first_file'],
                v['row'],
                v['column'],
            )
        )
    lines += [f'  ... and {len(r["values"]) - 40} more'] * (len(r['values']) > 40)
    if r['classes']:
        heads = ''.join(f'{s + " %":>10}' for s in r['classes'][0]['percent'])
        lines += ['', f'  {"class":26}{heads}' + ''.join(f'{w:>18}' for w in r['weights'])]
    for i, c in enumerate(r['classes']):
        shares = ''.join(f'{p:10.3f}' for p in c['percent'].values())
        weights = ('-' if w[i] is None else f'{w[i]:.3f}' for w in r['weights'].values())
        weights = ''.join(f'{w:>18}' for w in weights) + ' void' * (c['role'] == 'void')
        lines.append(f'  {i:3} {c["hex"]} {c["name"]:14}{shares}{weights}')
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

    Returns: [{'file', 'out', 'converted', 'snapped'}]: pixels now stored as another number, and
        those that were not exactly a class.
    Raises: InputError, before anything is written, where a value is farther from every class.
    """
    parts = [s for s in ('trainannot', 'valannot', 'testannot') if (Path(labels) / s).is_dir()]
    jobs = [
        (p, Path(out) / part / f'{p.stem}.png')
        for part in parts or ['']
        for p in list_pictures(Path(labels) / part if part else labels)
    ]
    if Path(out).is_file() or Path(out).is_dir() and any(Path(out).iterdir()):
        raise InputError(f'{out}: exists and is not an empty folder; name a new one')
    twice = [p.stem for p, k in Counter(target for _, target in jobs).items() if k > 1]
    if twice:
        raise InputError(f'{labels}: two labels are called {twice[0]}; take one out')
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stored = list(pool.map(_survey, [p for p, _ in jobs]))
        if table is None:
            path = find_classes(labels, Path(labels).parent)
            table, how = (read_classes(path), '') if path else guess_classes(_merge(stored))
            if how.startswith('guessed'):
                raise InputError(
                    f'{labels}: no class table, and classes {how} are not certain; '
                    '--write-classes, edit it, then --classes'
                )
        kinds = _formats(stored, table, two_class)[0]
        for s in stored:
            distance = _snapped(s, kinds[s.layout], table)[1]
            if distance.max() > tolerance:
                i = distance.argmax()
                line = _complaint(s, s.values[i], s.colours[i], s.index[i], kinds[s.layout], table)
                raise InputError(f'{line}; beyond --tolerance {tolerance}')
        try:
            return list(pool.map(lambda job: _rewrite(*job, kinds, table), jobs))
        except OSError as e:
            raise InputError(f'{out}: can not write there ({e.strerror}); name another') from None


def _snapped(s, kind, table):
    """(class of each stored value, distance): strangers take the nearest class of the file's."""
    classes, distance = _meaning(s.values, s.colours, kind, table), np.zeros(len(s.values), int)
    nearest, far = _snap(s.values, s.colours, kind, table)
    only, bad = np.unique(nearest[far < 9]), classes < 0  # a blend of two can look like a third
    classes[bad], distance[bad] = _snap(s.values[bad], s.colours[bad], kind, table, only)
    return classes, distance


def _rewrite(path, target, kinds, table):
    """Write one label beside its target, then rename."""
    s = _stored(path)
    classes, distance = _snapped(s, kinds[s.layout], table)
    label = np.repeat(classes.astype(np.uint8)[s.run], s.lengths).reshape(s.shape)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, durable=False) as part:
        Image.fromarray(label).save(part)
    moved, snapped = (int(s.counts[m].sum()) for m in (s.values != classes, distance > 0))
    return {'file': str(path), 'out': str(target), 'converted': moved, 'snapped': snapped}
