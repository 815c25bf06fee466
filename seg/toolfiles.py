"""What labelling tools export on demand: CVAT's XML, Label Studio's JSON, Supervisely's."""

import math
import re
from functools import partial
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
from PIL import ImageColor

from seg.classes import shown
from seg.files import InputError
from seg.pairing import split_in
from seg.shapes import Shape, bitmap, brush
from seg.tools import Sheet, points_of
from seg.tree import header_size, read_any, results_of


def cvat(tree):
    files = [f for f in tree.files if f.suffix == '.xml' and _is_cvat(f)]
    if not files:
        return None
    sheet, names, colours = Sheet('CVAT', f'{files[0].name} with images', tree), [], {}
    for file in files:
        try:
            root = ElementTree.parse(file).getroot()
        except ElementTree.ParseError as e:
            sheet.errors.append(f'{file}: damaged XML ({e}); export it again')
            continue
        for label in root.iter('label'):
            name = label.findtext('name')
            if name and name not in names:
                names.append(name)
            if name and label.findtext('color'):
                colours[name] = _colour(label.findtext('color'))
        if root.find('track') is not None:
            line = f'{file}: tracks of a video, which are not read'
            sheet.errors.append(f'{line}; export it as "CVAT for images"')
        for about in root.iter('image'):
            said = split_in(about.get('subset') or '')
            image = sheet.image(about.get('name', ''), file, said)
            if not image:
                continue
            try:
                shapes = [(int(e.get('z_order') or 0), i, e) for i, e in enumerate(about)]
                shapes = [_cvat_shape(e) for _, _, e in sorted(shapes, key=lambda s: s[:2])]
                size = int(about.get('height')), int(about.get('width'))
                shapes = [s for s in shapes if s]
                sheet.add(said or tree.split(image), image, file, size, shapes, about.get('name'))
            except InputError as e:
                sheet.errors.append(f'{file}: {shown(about.get("name"))}: {e}')
            except (TypeError, ValueError, AttributeError) as e:
                line = f'{file}: {shown(about.get("name"))}: no CVAT shape ({e}); export it again'
                sheet.errors.append(line)
    return sheet.found(names, colours)


def _colour(text):
    """(r, g, b) of a colour's name or number, or None."""
    try:
        return ImageColor.getrgb(str(text))[:3]
    except ValueError:
        return None


def _is_cvat(path):
    with open(path, 'rb') as f:
        head = f.read(4096)
    return b'<annotations' in head and b'<annotation>' not in head


def _cvat_shape(e):
    name, tag = e.get('label'), e.tag
    if tag in ('polygon', 'polyline', 'points'):
        points = points_of([p.split(',') for p in e.get('points', '').split(';') if p])
        if tag == 'points':
            return None
        return Shape({'polyline': 'line'}.get(tag, tag), name, points)
    if tag == 'box':
        corners = [float(e.get(k)) for k in ('xtl', 'ytl', 'xbr', 'ybr')]
        return _box(name, *corners, float(e.get('rotation') or 0))
    if tag == 'ellipse':
        x, y, rx, ry = (float(e.get(k)) for k in ('cx', 'cy', 'rx', 'ry'))
        return _ellipse(name, x, y, rx, ry, float(e.get('rotation') or 0))
    if tag == 'mask':
        left, top, width, height = (int(float(e.get(k))) for k in 'left top width height'.split())
        runs = np.array([int(v) for v in e.get('rle').split(',')], np.int64)
        if runs.sum() != width * height:
            found = f'runs of {runs.sum()} pixels for a mask of {height}x{width}'
            raise InputError(f'{found}; export it again')

        def mask():
            return np.repeat(np.arange(len(runs)) % 2 > 0, runs).reshape(height, width)

        return Shape('mask', name, ((left, top), mask))
    return None


def _box(name, x0, y0, x1, y1, degrees=0.0):
    """A rectangle, turned clockwise about its centre."""
    if not degrees:
        return Shape('rectangle', name, points_of([x0, y0, x1, y1]))
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return Shape('polygon', name, _turned(corners, corners.mean(0), degrees))


def _ellipse(name, x, y, rx, ry, degrees=0.0):
    if not degrees:
        return Shape('ellipse', name, points_of([x - rx, y - ry, x + rx, y + ry]))
    angle = np.linspace(0, 2 * np.pi, 73)[:-1]
    around = np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], -1)
    return Shape('polygon', name, _turned(around, (x, y), degrees))


def _turned(points, centre, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((points - centre) @ np.array([[c, s], [-s, c]]) + centre).astype(np.float32)


def label_studio(tree):
    files = tree.json_files('Label Studio')
    if not files:
        return None
    sheet = Sheet('Label Studio', f'{files[0].name} with tasks', tree)
    for file in files:
        for number, task in enumerate(tree.content(file), 1):
            place = f'{file}: task {number}'
            try:
                image = _studio_image(task, file, sheet)
                results = _studio_results(task)
                if results is None:  # skipped, or not labelled yet
                    sheet.alone += 1
                elif image:
                    size, shapes = header_size(image), []
                    for r in results:
                        if 'original_width' in r:
                            size = int(r['original_height']), int(r['original_width'])
                            shapes += _studio_shapes(r, size)
                    part = f'task {number}'
                    sheet.add(tree.split(image), image, file, size, shapes, part)
            except InputError as e:
                sheet.errors.append(f'{place}: {e}')
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
                line = f'{place}: no Label Studio task ({type(e).__name__} {e}); export it again'
                sheet.errors.append(line)
    return sheet.found()


def _studio_image(task, file, sheet):
    """Path of a task's picture, which it names by an address, a local path behind ?d=, or under
    `upload` with eight more characters before."""
    data = task.get('data', task)
    texts = [v for v in data.values() if isinstance(v, str)]
    named = next((v for v in texts if re.search(r'\.\w{3,4}($|\?)', v[-300:])), None)
    if not named:
        raise InputError('names no picture; export it as JSON')
    parts = urlsplit(named)
    named = parse_qs(parts.query).get('d', [unquote(parts.path)])[0]
    plain = re.sub(r'^[0-9a-f]{8}-', '', named.split('/')[-1])
    if not sheet.tree.by_name.get(named.split('/')[-1].casefold()):
        named = plain
    return sheet.image(named, file)


def _studio_results(task):
    """What was drawn for a task; None where nobody has finished it. Of several annotations the
    ground truth, or the last that holds something."""
    if 'data' not in task:  # JSON-MIN
        drawn = [results_of(value) for value in task.values() if results_of(value)]
        return sum(drawn, []) if drawn else None
    done = task.get('annotations') or task.get('completions') or ()
    done = [d for d in done if not d.get('was_cancelled')]
    best = [d for d in done if d.get('ground_truth')] or [d for d in done if d['result']] or done
    return best[-1]['result'] if best else None


def _studio_shapes(result, size):
    """The shape of a result with a label, by what it holds: percents of the picture's size."""
    value, (height, width) = result.get('value', result), size
    names = next((value[k] for k in value if k.endswith('labels') and value[k]), None)
    if not names:  # a choice, a text, or the outline of one that stands again with its label
        return []
    name, turned = str(names[0]), float(value.get('rotation') or 0)
    if 'rle' in value:
        return [Shape('mask', name, ((0, 0), partial(brush, value['rle'], *size)))]
    if 'points' in value:
        points = np.round(points_of(value['points']) * (width / 100, height / 100), 2)
        return [Shape('polygon', name, points)]
    if 'x' not in value:
        return []
    x, y = round(value['x'] * width / 100, 2), round(value['y'] * height / 100, 2)
    if 'radiusX' in value:
        rx, ry = value['radiusX'] * width / 100, value['radiusY'] * height / 100
        return [_ellipse(name, x, y, rx, ry, turned)]
    if 'width' not in value:  # a key point
        return []
    w, h = round(value['width'] * width / 100, 2), round(value['height'] * height / 100, 2)
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    if not turned:
        return [_box(name, x, y, x + w, y + h)]
    return [Shape('polygon', name, _turned(corners, (x, y), turned))]  # about its first corner


def supervisely(tree):
    files = tree.json_files('Supervisely')
    if not files:
        return None
    sheet, names, colours = Sheet('Supervisely', 'ann/*.json with objects', tree), [], {}
    meta = [file for file in tree.files if file.name == 'meta.json']
    for file in meta:
        content = read_any(file)
        listed = content.get('classes') if isinstance(content, dict) else None
        for c in listed if isinstance(listed, list) else ():
            if isinstance(c, dict) and c.get('title'):
                names.append(str(c['title']))
                colours[names[-1]] = _colour(c.get('color'))
    known = {*tree.pictures}
    for file in files:
        try:
            content = read_any(file)
            named = file.name.removesuffix('.json')
            own = file.parent.with_name('img') / named
            image = own if own in known else sheet.image(f'img/{named}', file)
            if not image:
                continue
            size = int(content['size']['height']), int(content['size']['width'])
            shapes = [_supervisely_shape(o) for o in content['objects']]
            unknown = [s.name for s in shapes if s and names and s.name not in names]
            if unknown:
                line = f'{file}: class {shown(unknown[0])}, which is not in {meta[0]}'
                sheet.errors.append(f'{line}; export it again')
                continue
            sheet.add(tree.split(file), image, file, size, [s for s in shapes if s])
        except InputError as e:
            sheet.errors.append(str(e))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
            line = f'{file}: no Supervisely annotation ({type(e).__name__} {e}); export it again'
            sheet.errors.append(line)
    return sheet.found(names, colours)


def _supervisely_shape(o):
    kind, name = o.get('geometryType') or o.get('shape') or 'polygon', str(o['classTitle'])
    if kind == 'bitmap':
        origin = tuple(map(int, o['bitmap']['origin']))
        return Shape('mask', name, (origin, partial(bitmap, o['bitmap']['data'], packed=True)))
    if kind not in ('polygon', 'rectangle', 'line', 'point'):
        return None
    points = points_of(o['points']['exterior'])
    if kind == 'polygon':
        holes = tuple(points_of(hole) for hole in o['points'].get('interior', ()))
        return Shape('polygon', name, points, holes)
    return Shape(kind, name, points)
