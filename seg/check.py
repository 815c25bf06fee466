"""The label check: what a data set holds and whether it is fit to train on.

No TensorFlow: a data set is judged in seconds, before an hour is spent on it.
"""

import json
import os
import shlex
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

from seg import classes as tables
from seg import layouts, pictures, readers
from seg.files import InputError, counted
from seg.repair import convert, repair, snapped
from seg.shapes import Drawn
from seg.sources import blends, load
from seg.tablefiles import read_classes, write_classes

size = '{}x{}'.format
VALUE = '  {value:>5} {hex} {percent:12.3f} {files:6}  {class:16} {first_file}, {row}, {column}'


def class_weights(counts, table):
    """Weight 1/ln(1.10 + p) of each class, p its share of the scored pixels; None for a class that
    is void or has no pixel."""
    scored = [n * (role == 'scored') for n, role in zip(counts, table.roles)]
    return [float(1 / np.log(1.1 + n / sum(scored))) if n else None for n in scored]


def examine(data, fast=False):
    """What a DataSet holds, and whether it is fit to train on: a dict fit for JSON, of all that
    format_check shows. fast: on a set that was looked at `fast`; the first error is raised."""
    lost = f'{data.where}: expected train and trainannot in it, found neither'
    lost = [lost] * ('train' not in data.splits and not data.errors)
    say = {'errors': lost + data.errors}
    say |= {'warnings': [*data.warnings], 'notes': [*data.notes]}
    result = {'data': data.where, 'layout': data.layout, 'why': data.why, 'formats': data.formats}
    result |= {'table': data.classes and data.classes.to_dict(), 'table_from': data.classes_from}
    result['input'] = {'size': data.rule and size(data.rule.height, data.rule.width)}
    result['input'] |= {'crops': bool(data.rule) and data.rule.kind == 'tile'}
    result['input'] |= {'channels': data.channels, 'intensity': data.intensity or (0, 255)}
    for side, what in enumerate(('images', 'labels')):
        seen = data.seen(side).values()
        result[f'{what} by size'] = dict(Counter(size(*s.shape) for s in seen))
        result[f'{what} by mode'] = dict(Counter(s.mode for s in seen))
    result |= {'splits': {}, 'values': [], 'classes': [], 'weights': {}}
    for name, pairs in data.splits.items():
        labels = sum(label is not None for _, label in pairs)
        result['splits'][name] = {'images': len(pairs), 'labels': labels}
    held = [_check_values(data, result), _check_classes(data, result)] if data.raws() else []
    for kind, line in chain(*held, _check_sizes(data, fast)):  # 'errors', 'warnings' or 'notes'
        say[kind].append(line)
    for words, found in _odd_files(data, fast).items():
        if found:
            say['warnings'].append(f'{words}: {len(found)} (first: {found[0]})')
    wrong, doubts = len(say['errors']), len(say['warnings'])
    if fast and wrong:
        more = f' (the first of {wrong} errors; `check` names all)' * (wrong > 1)
        raise InputError(say['errors'][0] + more)
    verdict = f'not fit to train, errors: {wrong}' if wrong else 'fit to train'
    verdict += f', warnings: {doubts}' if doubts else ''
    return {'fit': not wrong, 'verdict': verdict} | say | result


def _check_values(data, result):
    """What the label files store, value by value; what of it is no class, or no sure one."""
    table, n, total = data.classes, len(data.classes), data.pixels().sum()
    names = {-1: None} | dict(enumerate(table.names))
    for layout, kind in data.formats.items():
        held = readers.gather(data.raws(), layout)
        classes = readers.meaning(held, kind, table)
        for i, c in enumerate(classes[:1000].tolist()):  # a JPEG holds many thousands
            path, row, column = readers.first_pixel(held, i)
            value = {'layout': layout, 'value': int(held.values[i]), 'files': int(held.files[i])}
            value |= {'hex': tables.hex_of(held.colours[i]), 'class': names.get(c, 'no class')}
            value |= {'percent': float(100 * held.counts[i] / total), 'first_file': str(path)}
            result['values'].append(value | {'row': row, 'column': column})
        if classes.min() < 0:
            yield 'errors', _strangers(held, classes, kind, data)
        plain, trains = {*held.values.tolist()}, {*classes} & {*table.scored} and kind != 'index'
        if 255 in plain <= {0, 255} and n > 2 and not trains:
            line = f'{held.raws[0].path}: labels hold only 0 and 255, but the class table has {n}'
            yield 'errors', f'{line} classes; --num-class 2 trains on them'
        if kind == 'index' and layout != 'bit' and min(plain) == 1:
            line = f'indices start at 1, without class 0, {table.names[0]}'
            yield 'warnings', f'{line}; subtract 1 if they were counted from 1'


def _strangers(held, classes, kind, data):
    """One line on the values that are no class, with their likely cause and the remedy; the repair
    only where it would mend them, and make no two classes one."""
    table, bad, lossy = data.classes, np.flatnonzero(classes < 0), any(s.lossy for s in held.raws)
    line = readers.complaint(held, bad[0], kind, table)
    share = held.counts / held.counts.sum()
    line += f' ({len(bad):,} such values, {100 * share[bad].sum():.3g} % of the pixels); '
    if len(bad) > 1000 and not lossy and share[bad].sum() > 0.5:
        return line + 'so many are of pictures: have pictures and labels changed places?'
    if lossy:
        line += 'JPEG smears labels: '
    needed = max(int(snapped(s, kind, table)[1].max()) for s in held.raws)
    if needed > 255:  # numbers have no near ones
        if lossy:
            return line + 'save them as PNG where they were drawn'
        if held.values.min() == 1 and held.values[bad].max() == len(table):
            return line + 'indices start at 1: subtract 1 from every label'
        return line + 'give the number of classes with --num-class, or a table with --classes'
    ends = tables.unpack(np.unique(held.colours[classes >= 0])[:40]).astype(float)
    smooth = bad[:2000][blends(tables.unpack(held.colours[bad[:2000]]), ends)]
    smooth = len(bad) > 2 and held.counts[smooth].sum() > 0.9 * held.counts[bad].sum()
    nearest, distance = readers.snap(held, kind, table)
    distance = distance[bad].max()
    dark = held.values.min() >= 0 and held.values[bad].max() < 64  # too dark to be levels or blends
    solid = (share > 0.001) & (classes != tables.NO_CLASS)
    merged = len(np.unique(nearest[solid])) < solid.sum()
    each = not lossy and (dark or len(bad) <= 6) and solid[bad].all() and merged
    if distance <= 16 and not each:
        line += f'all within {distance} units of a class: '
    elif smooth and not each:
        line += 'blends of two classes, so edges are anti-aliased: '
    elif not lossy:
        number = 'say with --num-class how many numbers there are, or ' if dark else ''
        return line + f'{number}add them to the class table (--classes), or paint them as a class'
    if data.classes_from.startswith('guessed'):
        number = 'if they are numbers, --num-class N; else ' if held.values.min() >= 0 else ''
        return line + f'{number}name the classes with --classes'
    return line + '--repair OUT' + f' --tolerance {needed}' * (needed > 16) + ' snaps them'


def _check_classes(data, result):
    """How often each class occurs, which never does, and the weights that balance them."""
    table, n, train = data.classes, len(data.classes), data.pixels('train')
    pixels = {name: data.class_pixels(name) for name in data.splits}
    shares = {name: 100 * p / p.sum() for name, p in pixels.items() if p.any()}
    files = (data.pixels() > 0).sum(0)
    for i, (name, colour, role) in enumerate(zip(table.names, table.colours, table.roles)):
        about = {'index': i, 'name': name, 'hex': tables.to_hex(colour), 'role': role}
        about['percent'] = {split: float(share[i]) for split, share in shares.items()}
        result['classes'].append(about | {'files': int(files[i])})
    within = ((train > 0) * train.sum(1, keepdims=True)).sum(0)  # of the images that hold a class
    train = train.sum(0)[:n]
    rate = {i: train[i] / within[i] for i in table.scored if train[i]}
    middle = np.median([*rate.values()]) if rate else 0
    result['weights'] = {
        '1/ln(1.10+p)': class_weights(train.tolist(), table),
        'median frequency': [float(middle / rate[i]) if i in rate else None for i in range(n)],
    }
    absent = [i for i in range(n) if not files[i]]
    if absent:
        names = ', '.join(table.names[i] for i in absent[:20])
        kind = 'warnings' if {*absent} & {*table.scored} else 'notes'
        verb = 'is' if len(absent) == 1 else 'are'
        yield kind, f'{len(absent)} of {counted(n, "class")} {verb} unused: {names}'
    late = ', '.join(table.names[i] for i in table.scored if files[i] and not train[i])
    if late:
        yield 'warnings', f'classes that occur only outside the training pictures: {late}'
    share, most = train / max(train.sum(), 1), table.names[train.argmax()]
    if not rate:
        yield 'errors', 'no training pixel has a scored class; is this the right class table?'
    elif share.max() > 0.995:
        line = f'{most} takes {100 * share.max():.2f} % of the training pixels'
        yield 'warnings', f'{line}: a net that paints nothing else would score well'


def _check_sizes(data, fast):
    """Labels unlike their images, images unlike each other, sides that the network pads."""
    images, labels, rule, unequal = data.seen(0), data.seen(1), data.rule, []
    for image, label in data.pairs():
        a, b = images.get(image), labels.get(label)
        if a and b and a.shape != b.shape:
            turn = ', for EXIF turns the image' if a.turned and a.shape == b.shape[::-1] else ''
            line = f'{label}: label of {size(*b.shape)}, but {image} has {size(*a.shape)} pixels'
            unequal.append(f'{line}{turn}; make them the same')
    yield from (('errors', line) for line in unequal)
    sizes = Counter(a.shape for a in images.values())
    if rule and rule.fixed and (rule.height, rule.width) in sizes:
        for side, word in ((rule.height, 'rows'), (rule.width, 'columns')):
            if side % 16:
                padded = -(-side // 16) * 16
                yield 'notes', f'{side} {word} are padded to {padded} in the model, then cropped'


def _odd_files(data, fast):
    """{what is odd: [files]}: depth, EXIF, modes that lose something; pictures twice."""
    images, (low, high) = data.seen(0), data.intensity or (0, 255)
    top = max((a.top for a in images.values()), default=0)
    deep = f'images of more than 8 bits, read by one range for all, {np.min(low):g} to '
    deep += f'{np.max(high):g}' + ' (of each band its own)' * isinstance(low, tuple)
    deep += f' of at most {top:g}' if top else ''
    odd = {
        'EXIF turns images upright; their labels must be drawn upright': lambda a: a.turned,
        deep: lambda a: data.intensity and pictures.is_deep(a.mode),
        'CMYK images, converted to RGB': lambda a: a.mode == 'CMYK',
        'images with alpha, which is dropped': lambda a: a.alpha and data.channels < a.bands,
        'images of 16 bits a colour, of which the upper 8 are read': lambda a: a.cut,
    }
    odd = {words: [p for p, a in images.items() if is_so(a)] for words, is_so in odd.items()}
    raws = {s.path: s for s in data.raws()}
    odd['JPEG or WebP labels, whose values are smeared; save PNG'] = [
        p for p, s in raws.items() if s.lossy
    ]
    odd['labels of one single value'] = [p for p, s in raws.items() if len(s.values) == 1]
    if fast:
        return odd
    splits, same = {i: name for name, p in data.splits.items() for i, _ in p}, {}
    for path, a in images.items():
        same.setdefault((a.digest, a.shape, a.mode), []).append(path)
    for twins in same.values():
        if len(twins) > 1:
            across = len({splits[path] for path in twins}) > 1
            words = f'the same image {"in two splits" if across else "twice in one split"}'
            odd.setdefault(words, []).append(f'{twins[0]} and {twins[-1]}')
    drawn = [(i, a) for i, a in data.pairs() if i in images and a in raws]
    drawn = [(i, a) for i, a in drawn if len(raws[a].values) > 1][:1000]
    grid = np.array([raws[label].sample for _, label in drawn])
    odd['labels nearly equal, though their images differ'] = [
        f'{label} and {drawn[j][1]}'
        for i, (image, label) in enumerate(drawn)
        for j in i + 1 + np.flatnonzero((grid[i + 1 :] == grid[i]).mean(1) > 0.995)
        if images[drawn[j][0]].digest != images[image].digest
    ]
    return odd


def load_fit(settings, needed=('train', 'val')):
    """The DataSet that `settings` name, looked at fast; InputError where it is not fit to train on.
    Its warnings are printed."""
    data = load(settings)
    print(f'{data.where}: {data.layout} ({data.why})')
    for line in [*examine(data, fast=True)['warnings'], *data.notes]:
        print(f'Note: {line}')
    if 'val' in needed and not (data.splits.get('val') or data.folds):
        raise InputError('no validation pictures; keep some of the training ones: --val-split 0.2')
    return data


def _folders_of(root, out):
    """(folder of pictures, folder of labels) of a data set in two folders; (None, root) of one in
    CamVid's, or of labels alone. InputError where they lie together, or `out` lies in it."""
    try:
        found = layouts.find_layout(root)
    except InputError:
        return None, root
    pairs = [pair for pair in sum(found.splits.values(), []) if pair[1]]
    drawn = not pairs or any(isinstance(label, Drawn) for _, label in pairs)
    if drawn or found.layout == "CamVid's folders":
        return None, root
    if Path(root).resolve() in Path(out).resolve().parents:
        wanted = 'a folder beside it, for what lies in it counts as its pictures and labels'
        raise InputError(f'--repair {out}: lies in {root}; name {wanted}')
    places = [Path(os.path.commonpath([path.parent for path in side])) for side in zip(*pairs)]
    if places[0] == places[1] or places[0] in places[1].parents or places[1] in places[0].parents:
        wanted = "name the labels alone, by --labels FOLDER, or a pattern as '*_mask.png'"
        raise InputError(f'--repair: pictures and labels lie together in {root}; {wanted}')
    return places


def tell(settings, flags):
    """The verb check: print what a data set holds; 0 fit to train, 1 not. Or repair its labels."""
    if 'repair' in flags:
        table, out = settings.classes and read_classes(settings.classes), flags['repair']
        table = table or settings.num_class and tables.numbered_classes(settings.num_class)
        labels, images = settings.labels, settings.images
        if not labels:
            images, labels = _folders_of(settings.data, out)
        done = repair(labels, out, table, flags.get('tolerance', 16))
        told = '{out}: {converted} pixels renumbered, {snapped} set to the nearest class'
        for d in done:
            print(told.format_map(d))
        print(f'Wrote {counted(len(done), "label")} to {out}/')
        if images:
            places = f'--images {shlex.quote(str(images))} --labels {shlex.quote(str(out))}'
            print(f'Next: python main.py check {places}')
        return 0
    data = load(settings, fast=False)
    if 'convert' in flags:
        out = flags['convert']
        count = counted(convert(data, out), 'picture')
        print(f"Wrote {count} and their labels to {out}/, in CamVid's layout")
        print(f'Next: python main.py {shlex.quote(out)}')
        return 0
    result = examine(data)
    as_json = flags.get('json')
    print(json.dumps(result, ensure_ascii=False, indent=2) if as_json else format_check(result))
    if 'write_classes' in flags and data.classes:
        write_classes(flags['write_classes'], data.classes)
        told = f'Wrote {flags["write_classes"]}: edit it, then name it with --classes'
        print(told, file=sys.stderr if as_json else sys.stdout)
    return 0 if result['fit'] else 1


def format_check(result):
    """A check for people; its last line is the verdict."""
    r, lines = result, ['{data}: {layout} ({why})'.format_map(result)]
    for name, s in r['splits'].items():
        lines.append(f'  {name:6}{s["images"]} images, {s["labels"]} labels')
    for what in ('images by size', 'images by mode', 'labels by size', 'labels by mode'):
        lines.append(f'  {what}: ' + ', '.join(f'{k} ({v})' for k, v in [*r[what].items()][:8]))
    lines.append('  read as: ' + ', '.join(f'{a} files: {b}' for a, b in r['formats'].items()))
    fed, crops, channels, (low, high) = r['input'].values()
    fed = ('crops of ' * crops + fed) if fed else 'none'
    several = isinstance(low, tuple)
    ends = [', '.join(f'{v:g}' for v in (end if several else [end])) for end in (low, high)]
    fed += f', {channels} channels, values {" to ".join(ends)}'
    lines += [f'  network input: {fed}', f'  class table: {r["table_from"]}', '']
    lines.append('  value colour   % of pixels  files  class            first file, row, column')
    for v in r['values'][:40]:
        shown = {'value': '' if v['value'] < 0 else v['value']}
        shown['class'] = tables.shown(v['class'] or '(none)', 24)
        lines.append(VALUE.format_map(v | shown))
    lines += [f'  ... and {len(r["values"]) - 40} more'] * (len(r['values']) > 40)
    if r['classes']:
        heads = ''.join(f'{s + " %":>10}' for s in r['classes'][0]['percent'])
        lines += ['', f'  {"class":26}{heads}' + ''.join(f'{w:>18}' for w in r['weights'])]
    for i, c in enumerate(r['classes']):
        shares = ''.join(f'{p:10.3f}' for p in c['percent'].values())
        weights = ('-' if w[i] is None else f'{w[i]:.3f}' for w in r['weights'].values())
        weights = ''.join(f'{w:>18}' for w in weights) + ' void' * (c['role'] == 'void')
        name = tables.shown(c['name'], 24)
        lines.append(f'  {i:3} {c["hex"]} {name:14}{shares}{weights}')
    for word, found in (('note', r['notes']), ('warning', r['warnings']), ('ERROR', r['errors'])):
        lines += [f'  {word}: {line}' for line in found]
    lines = [tables.shown(line, len(line)) for line in lines]  # file names may hold anything
    return '\n'.join([*lines, f'Verdict: {r["verdict"]}.'])
