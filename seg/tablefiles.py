"""The files that class tables come in: ours, Kaggle's, CamVid's, and those of labelling tools.

Each is told by what it holds. Rows of (place, name, colour, role, value) come out of it; a file
without colours gets Pascal VOC's, one without values counts its rows from 0.
"""

import csv
import json
import re
from contextlib import suppress
from pathlib import Path

import yaml

from seg.classes import (
    MOST_NAME,
    VOID_NAMES,
    checked_table,
    from_hex,
    numbered_classes,
    shown,
)
from seg.files import InputError, is_picture

CLASS_FILES = ('classes.csv', 'class_dict.csv', 'label_colors.txt', 'labelmap.txt')
CLASS_FILES += ('class_names.txt', 'labels.txt', 'obj.names', 'codes.txt', '_classes.csv')
CLASS_FILES += ('classes.txt', 'dataset_meta.json', 'meta.json', 'dataset.json', 'classes.json')
CLASS_FILES += ('data.yaml',)
MOST_BYTES = 1 << 20
HEADS = {  # what a column is called in lower case, of letters alone
    'name': 'name names class classes classname classnames label labels labelname category title',
    'r': 'r red',
    'g': 'g green',
    'b': 'b blue',
    'hex': 'hex color colour rgb hexcolor',
    'value': 'value id idx index pixelvalue classid labelid trainid classindex number',
    'role': 'role',
}
HEADS = {word: column for column, words in HEADS.items() for word in words.split()}
LABELMAP = re.compile(r'([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*')
TEMPLATE = 'name,r,g,b'


def find_classes(*folders):
    """Path of the first class table (CLASS_FILES) in these folders, or None."""
    for path in (Path(folder) / name for folder in folders for name in CLASS_FILES):
        if not path.is_file():
            continue
        if path.suffix in ('.json', '.yaml') or path.name in ('labels.txt', 'classes.txt'):
            try:  # names that other things have, too
                names = read_classes(path).names
            except InputError:
                continue
            if any(map(is_picture, names)):  # a list of files
                continue
        return path
    return None


def read_classes(path):
    """ClassTable of a file: `classes.csv` (name,r,g,b[,role]; comma, semicolon or tab; a header in
    any order), Kaggle's `class_dict.csv`, CamVid's `label_colors.txt` (r g b name), CVAT's
    `labelmap.txt` (name:r,g,b::), one name a line, Roboflow's `_classes.csv` (value, name), or the
    JSON and YAML of Supervisely, Datumaro, Mapillary, COCO and YOLO. InputError with the line.
    A class without a role is void if its name says so, else scored."""
    text = _text(path)
    if Path(path).suffix == '.json' or text.lstrip()[:1] in ('{', '['):
        rows = _of_json(path, text)
    elif Path(path).suffix in ('.yaml', '.yml'):
        rows = [(f'{path}, name {i}', name, None, '', i) for i, name in yolo_names(path).items()]
    else:
        rows = _of_lines(path, text)
    given = numbered_classes(max(len(rows), 3)).colours
    classes, codes = [], []
    for i, (place, name, colour, role, value) in enumerate(rows):
        role = role or ('void' if str(name).lower() in VOID_NAMES else 'scored')
        classes.append((place, name, list(given[i]) if colour is None else colour, role.lower()))
        codes.append((i if value is None else value, i))
        if not 0 <= codes[-1][0] < 2**16:
            raise InputError(f'{place}: expected a pixel value of 0 to 65535, found {value}')
    if len({*dict(codes)}) < len(codes):
        twice = next(v for v, _ in codes if sum(v == other for other, _ in codes) > 1)
        raise InputError(f'{path}: value {twice} is in the table twice; each class needs its own')
    return checked_table(classes, path, () if all(v == i for v, i in codes) else tuple(codes))


def _text(path):
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError('it is no regular file')
        with open(path, 'rb') as f:
            text = f.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise OSError(f'it has more than {MOST_BYTES} bytes')
        return text.decode('utf-16' if text[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig')
    except (OSError, UnicodeError) as e:
        raise InputError(f'{path}: expected a class table as UTF-8 text ({e})') from None


def _of_lines(path, text):
    lines = [(f'{path}, line {i}', line) for i, line in enumerate(text.splitlines(), 1)]
    for place, line in lines:
        if len(line) > 10 * MOST_NAME:
            raise InputError(f'{place}: {len(line)} characters, expected {TEMPLATE}')
    lines = [(place, line.strip()) for place, line in lines if line.strip()]
    if lines and LABELMAP.fullmatch([*lines, *lines][lines[0][1].startswith('#')][1]):
        return [_labelmap_row(*line) for line in lines if not line[1].startswith('#')]
    separator = next((c for c in '\t,;' if c in text), None)
    if separator == '\t' and not re.search(r'\t\s*\d+\s*\t', text):
        separator = None  # CamVid's own file, too, has a tab before the name
    if not separator and not any(line[0].isdecimal() for _, line in lines):
        names = [(place, name) for place, name in lines if name != '__ignore__']  # labelme's -1
        return [(place, name, None, '', None) for place, name in names]
    columns, rows = None if separator else 'r g b name'.split(), []
    for place, line in lines:
        row = next(csv.reader([line], delimiter=separator)) if separator else line.split(None, 3)
        row = [field.strip() for field in row]
        if not any(row):
            continue
        heads = [HEADS.get(re.sub('[^a-z]', '', field.lower())) for field in row]
        if not rows and 'name' in heads and {'r', 'hex', 'value'} & {*heads}:
            columns = heads
            continue
        rows.append(_row(place, line, row, columns or _columns(row)))
    return rows


def _columns(row):
    """What the columns of a row without a header are."""
    if len(row) == 2:
        return ['value', 'name'] if row[0].isdecimal() else ['name', 'hex']
    if len(row) > 4 and row[0].isdecimal() and not row[1].isdecimal():
        return ['value', 'name', 'r', 'g', 'b', 'role']
    return ['name', 'r', 'g', 'b', 'role']


def _row(place, line, row, columns):
    found = dict.fromkeys(HEADS.values(), '') | {c: v for c, v in zip(columns, row) if c}
    rgb, colour = [found[c] for c in 'rgb'], None
    wrong = InputError(f'{place}: expected {TEMPLATE} with r, g, b of 0..255, found {shown(line)}')
    if any(rgb) or 'value' not in columns and not found['hex']:
        if not all(part.isdecimal() for part in rgb):
            raise wrong
        colour = [*map(int, rgb)]
    elif found['hex']:
        try:
            colour = list(from_hex(found['hex']))
        except InputError:
            raise wrong from None
    value = found['value']
    if not found['name'] or value and not value.isdecimal():
        raise wrong
    return place, found['name'], colour, found['role'], int(value) if value else None


def _labelmap_row(place, line):
    match = LABELMAP.fullmatch(line)
    if not match:
        raise InputError(f'{place}: expected name:r,g,b:parts:actions, found {shown(line)}')
    name, *rgb = match.groups()
    return place, name.strip(), [*map(int, rgb)], '', None


def _of_json(path, text):
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f'{path}: expected a class table as JSON ({e})') from None
    d = content if isinstance(content, dict) else {}
    listed = next((d[k] for k in ('classes', 'labels', 'categories') if k in d), content)
    names, colours = d.get('label_map', listed), d.get('segmentation_colors') or []
    if names is d and Path(path).name in ('meta.json', 'dataset.json'):  # of anything
        names = None
    rows = []
    if isinstance(names, dict) and names:  # {id: name}, {name: id} or {name: colour}
        for key, value in names.items():
            if str(key).isdecimal() and isinstance(value, str):
                i = int(key)
                colour = colours[i] if i < len(colours) else None
                rows.append((f'{path}, {shown(str(key))}', value, colour, '', i))
            else:
                number = value if isinstance(value, int) else None
                colour = None if isinstance(value, int) else value
                rows.append((f'{path}, {shown(str(key))}', key, colour, '', number))
        return sorted(rows, key=lambda row: -1 if row[4] is None else row[4])
    for i, entry in enumerate(names if isinstance(names, list) else ()):
        place = f'{path}, class {i}'
        if isinstance(entry, str):
            rows.append((place, entry, None, '', None))
            continue
        entry = entry if isinstance(entry, dict) else {}
        name = next((entry[k] for k in ('title', 'readable', 'name') if k in entry), None)
        colour = entry.get('color')
        if isinstance(colour, str):
            colour = list(from_hex(colour))
        rows.append((place, name, colour, 'void' if entry.get('evaluate') is False else '', None))
    if not rows:
        raise InputError(f'{path}: expected a class table, found no names in it')
    return rows


def yolo_names(path):
    """{index: name} of a data.yaml; InputError where it is none."""
    names = read_yaml(path).get('names')
    names = {str(i): n for i, n in enumerate(names)} if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(i.isdecimal() for i in names):
        raise InputError(f'{path}: expected names, a list or 0: name, 1: name ...')
    return {int(i): str(names[i]) for i in sorted(names, key=int)}


def read_yaml(path):
    """The mapping in a YAML file of at most 1 MB; InputError where there is none."""
    try:
        content = yaml.load(_text(path), yaml.BaseLoader)  # texts, lists and mappings alone
    except (yaml.YAMLError, RecursionError) as e:
        raise InputError(f'{path}: expected YAML ({" ".join(str(e).split())[:150]})') from None
    if not isinstance(content, dict):
        raise InputError(f'{path}: expected YAML of names and paths')
    return content


def write_classes(path, table):
    """Write `classes.csv`; InputError where the file exists or can not be written."""
    rows = [(n, *c, r) for n, c, r in zip(table.names, table.colours, table.roles)]
    head = ('name', 'r', 'g', 'b', 'role')
    if table.codes:  # of a class with several values, its first
        value = {c: v for v, c in reversed(table.codes)}
        rows = [(*row, value.get(i, '')) for i, row in enumerate(rows)]
        head = (*head, 'value')
    try:
        with open(path, 'x', encoding='utf-8', newline='') as f:
            csv.writer(f).writerows([head, *rows])
    except OSError as e:
        if not isinstance(e, FileExistsError):
            with suppress(OSError):  # a part of it would stand in the way next time
                Path(path).unlink(missing_ok=True)
        raise InputError(f'{path}: class table not written ({e.strerror}); name another') from None
