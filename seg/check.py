"""The label check: what a data set holds and whether it is fit to train on; and the repair.

    python main.py check FOLDER
    python main.py check FOLDER --repair OUT

No TensorFlow: a data set is judged in seconds, before an hour is spent on it.
"""

import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from seg.classes import (
    TWO_CLASSES,
    find_classes,
    hex_of,
    numbered_classes,
    read_classes,
    to_hex,
    unpack,
    write_classes,
)
from seg.files import InputError, list_pictures, whole_file
from seg.readers import (
    RawLabel,
    complaint,
    gather,
    is_deep,
    meaning,
    read_raw,
    read_raws,
    recognise,
    snap,
)
from seg.sources import blends, guess_classes, load, pixels_of


def _few(lines):
    """The first five lines, and how many more there are."""
    return lines[:5] + [f'... and {len(lines) - 5} more such files'] * (len(lines) > 5)


def class_weights(counts, table):
    """Weight 1/ln(1.10 + p) of each class, p its share of the scored pixels; None for a class that
    is void or has no pixel."""
    scored = [i for i in table.scored if counts[i]]
    total = sum(counts[i] for i in scored)
    return [
        float(1 / np.log(1.1 + counts[i] / total)) if i in scored else None
        for i in range(len(table))
    ]


def examine(data, fast=False):
    """What a DataSet holds, and whether it is fit to train on.

    Args: fast: what `train` runs first, on a set that was looked at `fast`; the first error is
        raised.
    Returns: dict fit for JSON: fit, verdict, errors, warnings, notes, data, layout, table,
        table_from, formats, input, splits, images and labels by size and mode, values, classes,
        weights, seconds.
    """
    started = time.perf_counter()
    say = {'errors': [*data.errors], 'warnings': [*data.warnings], 'notes': [*data.notes]}
    if 'train' not in data.splits:
        say['errors'].insert(0, f'{data.where}: expected train and trainannot in it, found neither')
    result = {'values': [], 'classes': [], 'weights': {}}
    if data.raws():
        _check_values(data, say, result['values'])
        _check_kinds(data, say)
        _check_classes(data, say, result)
    _check_sizes(data, say, fast)
    _check_images(data, say)
    if not fast:
        _check_twins(data, say)
    elif say['errors']:
        raise InputError(say['errors'][0])
    pairs = [*chain(*data.splits.values())]
    for what, paths in (('images', [i for i, _ in pairs]), ('labels', [a for _, a in pairs if a])):
        seen = [s for p in paths if not isinstance(s := data.looked.get(p, ''), str)]
        result[f'{what} by size'] = dict(Counter('{}x{}'.format(*s.shape) for s in seen))
        result[f'{what} by mode'] = dict(Counter(s.mode for s in seen))
    wrong, doubts = len(say['errors']), len(say['warnings'])
    verdict = f'not fit to train, errors: {wrong}' if wrong else 'fit to train'
    verdict += f', warnings: {doubts}' if doubts else ''
    rule = data.rule and f'{data.rule.height}x{data.rule.width}'
    return {
        'fit': not wrong,
        'verdict': verdict,
        **say,
        'data': data.where,
        'layout': data.layout,
        'table': data.classes and data.classes.to_dict(),
        'table_from': data.classes_from,
        'formats': data.formats,
        'input': {'size': rule, 'channels': data.channels, 'intensity': data.intensity or (0, 255)},
        'splits': {
            s: {'images': len(p), 'labels': sum(a is not None for _, a in p)}
            for s, p in data.splits.items()
        },
        **result,
        'seconds': round(time.perf_counter() - started, 2),
    }


def _check_values(data, say, values):
    """What the label files store, value by value, and which of it is no class."""
    raws, table = data.raws(), data.classes
    n, total = len(table), sum(s.counts.sum() for s in raws)
    for layout, kind in data.formats.items():
        held = gather([s for s in raws if s.layout == layout])
        classes = meaning(held.values, held.colours, kind, table)
        for i in np.argsort(-held.counts, kind='stable')[:1000]:  # a JPEG holds many thousands
            s, c = held.raws[held.owner[i]], classes[i]
            y, x = divmod(int(held.index[i]), s.shape[1])
            values.append(
                {
                    'layout': layout,
                    'value': int(held.values[i]),
                    'hex': hex_of(held.colours[i]),
                    'class': None if c < 0 else table.names[c] if c < n else 'no class',
                    'percent': 100 * float(held.counts[i] / total),
                    'files': int(held.files[i]),
                    'first_file': str(s.path),
                    'row': y,
                    'column': x,
                }
            )
        say['errors'] += _strangers(held, classes, kind, table)
        _check_two_classes(held, classes, kind, table, say['errors'])
        low = int(held.values.min())
        if kind == 'index' and layout != 'bit' and low >= 1:
            say['warnings'].append(
                f'indices start at {low}, so class 0, {table.names[0]}, never occurs; '
                'subtract 1 if they were counted from 1'
            )


def _check_two_classes(held, classes, kind, table, errors):
    """Masks of 0 and 255 under a larger table; 0/255 beside 0/1."""
    plain, n = {*held.values.tolist()}, len(table)
    trains = kind != 'index' and {*classes} & {*table.scored}
    if 255 in plain <= {0, 255} and n > 2 and not trains:
        errors.append(
            f'{held.raws[0].path}: labels hold only 0 and 255, masks of two classes, but the class '
            f'table has {n}; --num-class 2 trains on them, --repair makes them 0 and 1'
        )
    both = any({1, 255} <= {*s.values.tolist()} for s in held.raws)
    if {1, 255} <= plain <= {0, 1, 255} and n <= 2 and not both:
        a, b = (next(s.path for s in held.raws if v in s.values) for v in (1, 255))
        errors.append(
            f'{b}: values 0 and 255, but {a}: 0 and 1; is 255 foreground or no class? repair the '
            'one kind apart from the other'
        )


def _check_kinds(data, say):
    """Label files of several kinds, lossy ones, those of one value."""
    raws = data.raws()
    kinds = Counter(s.layout for s in raws)
    if len(kinds) > 1:
        found = ', '.join(f'{k} {layout}' for layout, k in kinds.items())
        say['warnings'].append(f'labels of several kinds, each read as its own: {found}')
    for words, files in (
        ('JPEG labels, which JPEG smears; save PNG', [s.path for s in raws if s.lossy]),
        ('labels of one single value', [s.path for s in raws if len(s.values) == 1]),
    ):
        if files:
            say['warnings'].append(f'{words}: {len(files)} (first: {files[0]})')


def _check_classes(data, say, result):
    """How often each class occurs, which never does, and the weights that balance them."""
    table, warn, n = data.classes, say['warnings'].append, len(data.classes)
    counts = {name: data.class_pixels(name) for name in data.splits}
    within, files = np.zeros(n), np.zeros(n, int)  # pixels of the training images that hold a class
    for name in data.splits:
        for raw in data.raws(name):
            held = pixels_of(raw, table, data.formats)
            files += held[:n] > 0
            within += (held[:n] > 0) * held.sum() * (name == 'train')
    everywhere = sum(counts.values())[:n]
    train = counts.get('train', everywhere * 0)[:n]
    for i, (name, colour, role) in enumerate(zip(table.names, table.colours, table.roles)):
        share = {s: 100 * float(c[i] / c.sum()) for s, c in counts.items() if c.any()}
        about = {'index': i, 'name': name, 'hex': to_hex(colour), 'role': role}
        result['classes'].append(about | {'percent': share, 'files': int(files[i])})
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
    s, i, weight = held.raws[held.owner[bad[0]]], bad[0], held.counts[bad]
    line = complaint(s, held.values[i], held.colours[i], held.index[i], kind, table)
    share = 100 * weight.sum() / held.counts.sum()
    line += f' ({len(bad)} such values, {share:.3g} % of the pixels); '
    if any(s.lossy for s in held.raws):
        line += 'JPEG smears labels: --repair snaps them'
    elif kind in ('0/255', 'colour'):
        known = np.unique(classes[(classes >= 0) & (classes < len(table))])
        ends = np.array((TWO_CLASSES if kind == '0/255' else table).colours, float)
        ends = ends if kind == '0/255' else ends[known][:40]
        smooth = weight[:2000][blends(unpack(held.colours[bad[:2000]]), ends)].sum()
        distance = snap(held.values[bad], held.colours[bad], kind, table)[1].max()
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


def _check_sizes(data, say, fast):
    """Labels unlike their images, images unlike each other, sides that the network pads."""
    unequal = []
    for image, label in chain(*data.splits.values()):
        a, b = data.looked.get(image), data.looked.get(label)
        if isinstance(a, str) or isinstance(b, str) or None in (a, b) or a.shape == b.shape:
            continue
        turn = ', for EXIF turns the image' if a.turned and a.shape == b.shape[::-1] else ''
        size_a, size_b = ('{}x{}'.format(*g.shape) for g in (a, b))
        unequal.append(
            f'{label}: label of {size_b}, but {image} has {size_a} pixels{turn}; make them the same'
        )
    say['errors'] += _few(unequal)
    looks = _images(data)
    sizes = Counter(a.shape for a in looks.values())
    if not data.rule and sizes:
        odd = next(p for p, a in looks.items() if a.shape == min(sizes, key=sizes.get))
        most = '{}x{}'.format(*max(sizes, key=sizes.get))
        say['errors' if fast else 'warnings'].append(
            f'{odd}: one of {len(sizes)} sizes of images; --size {most} resizes all, labels nearest'
        )
    elif data.rule and (data.rule.height, data.rule.width) in sizes:
        for side, word in ((data.rule.height, 'rows'), (data.rule.width, 'columns')):
            if side % 16:
                say['notes'].append(
                    f'{side} {word} are padded to {-(-side // 16) * 16} inside the model, which '
                    'crops its output'
                )


def _images(data):
    """{path: Glance} of the images that can be read."""
    images = [i for i, _ in chain(*data.splits.values())]
    return {i: g for i in images if not isinstance(g := data.looked.get(i, ''), str)}


def _check_images(data, say):
    """EXIF, depth, modes that lose something."""
    looks = _images(data)
    low, high = data.intensity or (0, 255)
    for words, is_so in (
        ('EXIF turns images upright; their labels must be drawn upright', lambda a: a.turned),
        (
            f'images of more than 8 bits, read by one range for all, {low:g} to {high:g}',
            lambda a: is_deep(a.mode) and data.intensity,
        ),
        ('CMYK images, converted to RGB', lambda a: a.mode == 'CMYK'),
        ('images with alpha, which is dropped', lambda a: a.mode in ('RGBA', 'LA', 'PA')),
    ):
        files = [p for p, a in looks.items() if is_so(a)]
        if files:
            top = max(looks[p].top for p in files)
            most = f', the largest value {top:g}' if top else ''
            say['warnings'].append(f'{words}: {len(files)} (first: {files[0]}){most}')


def _check_twins(data, say):
    """The same image twice, labels nearly alike."""
    looks, warn = _images(data), say['warnings'].append
    splits = {i: name for name, p in data.splits.items() for i, _ in p}
    same = {}
    for p, a in looks.items():
        same.setdefault((a.digest, a.shape, a.mode), []).append(p)
    for across, what in ((True, 'in two splits'), (False, 'twice in one split')):
        twins = [g for g in same.values() if g[1:] and (len({splits[p] for p in g}) > 1) == across]
        if twins:
            a, b = twins[0][0], twins[0][-1]  # in the order of the splits: of two splits, if any
            warn(f'the same image {what}: {a} and {b} ({len(twins)} such)')
    drawn = [
        (looks[i].digest, raw)
        for i, a in chain(*data.splits.values())
        if i in looks and isinstance(raw := data.looked.get(a), RawLabel) and len(raw.values) > 1
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


def load_fit(settings, needed=('train', 'val')):
    """The DataSet that `settings` name, looked at fast; InputError where it is not fit to train on.
    Its warnings are printed."""
    data = Path(settings.data)
    if not settings.images and not (data / 'train').is_dir():
        raise InputError(
            f'{data}: expected the folders train, trainannot, val, valannot, found none.\n'
            '`python main.py download` fetches CamVid; `python main.py sample` needs no data; '
            '--data or --images and --labels name your own'
        )
    data = load(settings)
    result = examine(data, fast=True)
    for line in result['warnings']:
        print(f'Note: {line}')
    if 'val' in needed and not data.splits.get('val'):
        raise InputError('no validation pictures; keep some of the training ones: --val-split 0.2')
    return data


def tell(settings, flags):
    """The verb check: print what a data set holds; 0 fit to train, 1 not. Or repair its labels."""
    settings = replace(settings, data=flags.get('folder', settings.data))
    if 'repair' in flags:
        table = read_classes(settings.classes) if settings.classes else None
        if settings.num_class and not table:
            table = numbered_classes(settings.num_class)
        source = settings.labels or settings.data
        done = repair(source, flags['repair'], table, flags['tolerance'])
        for d in done:
            print(f'{d["out"]}: {d["converted"]} pixels converted, {d["snapped"]} snapped')
        print(f'{len(done)} labels written to {flags["repair"]}/')
        return 0
    data = load(settings, fast=False)
    result = examine(data)
    print(
        json.dumps(result, ensure_ascii=False, indent=2)
        if flags.get('json')
        else format_check(result)
    )
    if 'write_classes' in flags and data.classes:
        write_classes(flags['write_classes'], data.classes)
    return 0 if result['fit'] else 1


def format_check(result):
    """A check for people; its last line is the verdict."""
    r, lines = result, [result['data']]
    for name, s in r['splits'].items():
        lines.append(f'  {name:6}{s["images"]} images, {s["labels"]} labels')
    for what in ('images by size', 'images by mode', 'labels by size', 'labels by mode'):
        lines.append(f'  {what}: ' + ', '.join(f'{k} ({v})' for k, v in [*r[what].items()][:8]))
    lines.append('  read as: ' + ', '.join(f'{a} files: {b}' for a, b in r['formats'].items()))
    i = r['input']
    size = i['size'] or 'as --size says'
    lines.append(
        f'  network input: {size}, {i["channels"]} channels, values {i["intensity"][0]:g} to '
        f'{i["intensity"][1]:g}'
    )
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


def repair(labels, out, table=None, tolerance=16):
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
        stored = read_raws([p for p, _ in jobs])
        if table is None:
            path = find_classes(labels, Path(labels).parent)
            table, how = (read_classes(path), '') if path else guess_classes(gather(stored))
            if how.startswith('guessed'):
                raise InputError(
                    f'{labels}: no class table, and classes {how} are not certain; '
                    '--write-classes, edit it, then --classes'
                )
        kinds = recognise(stored, table)[0]
        for s in stored:
            distance = _snapped(s, kinds[s.layout], table)[1]
            if distance.max() > tolerance:
                i = distance.argmax()
                line = complaint(s, s.values[i], s.colours[i], s.index[i], kinds[s.layout], table)
                raise InputError(f'{line}; beyond --tolerance {tolerance}')
        try:
            return list(pool.map(lambda job: _rewrite(*job, kinds, table), jobs))
        except OSError as e:
            raise InputError(f'{out}: can not write there ({e.strerror}); name another') from None


def _snapped(s, kind, table):
    """(class of each stored value, distance): strangers take the nearest class of the file's."""
    classes, distance = meaning(s.values, s.colours, kind, table), np.zeros(len(s.values), int)
    nearest, far = snap(s.values, s.colours, kind, table)
    only, bad = np.unique(nearest[far < 9]), classes < 0  # a blend of two can look like a third
    classes[bad], distance[bad] = snap(s.values[bad], s.colours[bad], kind, table, only)
    return classes, distance


def _rewrite(path, target, kinds, table):
    """Write one label beside its target, then rename."""
    s = read_raw(path)
    classes, distance = _snapped(s, kinds[s.layout], table)
    label = classes.astype(np.uint8)[s.inverse]
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, durable=False) as part:
        Image.fromarray(label).save(part)
    moved, snapped = (int(s.counts[m].sum()) for m in (s.values != classes, distance > 0))
    return {'file': str(path), 'out': str(target), 'converted': moved, 'snapped': snapped}
