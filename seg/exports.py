"""What labelling tools export on demand: CVAT's XML, Label Studio's JSON, Supervisely's."""

import math
import re
from functools import partial
from xml.etree import ElementTree

import numpy as np

from seg.classes import from_hex, shown
from seg.files import InputError
from seg.pairing import split_of
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
                colours[name] = from_hex(label.findtext('color'))
        for about in root.iter('image'):
            image = sheet.image(about.get('name', ''), file)
            if not image:
                continue
            try:
                shapes = [(int(e.get('z_order') or 0), i, e) for i, e in enumerate(about)]
                shapes = [_cvat_shape(e) for _, _, e in sorted(shapes, key=lambda s: s[:2])]
                size = int(about.get('height')), int(about.get('width'))
                part, split = about.get('name'), (about.get('subset') or '').lower()
                split = split_of([split]) or tree.split(image)
                sheet.add(split, image, file, size, [s for s in shapes if s], part)
            except InputError as e:
                sheet.errors.append(f'{file}: {shown(about.get("name"))}: {e}')
            except (TypeError, ValueError, AttributeError) as e:
                line = f'{file}: {shown(about.get("name"))}: no CVAT shape ({e}); export it again'
                sheet.errors.append(line)
    return sheet.found(names, colours)


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
                data = task.get('data', task)
                named = next(
                    str(v)
                    for v in data.values()
                    if re.search(r'\.\w{3,4}($|\?)', str(v)[-200:]) and isinstance(v, str)
                )
                done = task.get('annotations') or task.get('completions')
                done = [d for d in done or () if not d.get('was_cancelled')]
                results = done[-1]['result'] if done else []
                for value in () if 'data' in task else task.values():
                    results = results or results_of(value)
                image = sheet.image(named.split('?')[0].split('=')[-1], file)
                if not image:
                    continue
                size, shapes = None, []
                for r in results:
                    size = int(r['original_height']), int(r['original_width'])
                    shapes += _studio_shapes(r, size)
                sheet.add(tree.split(image), image, file, size or header_size(image), shapes, named)
            except StopIteration:
                sheet.errors.append(f'{place}: names no picture; export it as JSON')
            except InputError as e:
                sheet.errors.append(f'{place}: {e}')
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
                line = f'{place}: no Label Studio task ({type(e).__name__} {e}); export it again'
                sheet.errors.append(line)
    return sheet.found()


def _studio_shapes(result, size):
    value = result.get('value', result)
    kind = result.get('type') or next((k for k in value if k.endswith('labels')), '')
    height, width = size
    names = value.get(kind) or []
    name = str(names[0]) if names else 'background'
    if kind == 'brushlabels':
        return [Shape('mask', name, ((0, 0), partial(brush, value['rle'], *size)))]
    if kind == 'polygonlabels':
        points = np.round(points_of(value['points']) * (width / 100, height / 100), 2)
        return [Shape('polygon', name, points)]
    x, y = round(value.get('x', 0) * width / 100, 2), round(value.get('y', 0) * height / 100, 2)
    turned = float(value.get('rotation') or 0)
    if kind == 'rectanglelabels':
        w, h = round(value['width'] * width / 100, 2), round(value['height'] * height / 100, 2)
        corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        if not turned:
            return [_box(name, x, y, x + w, y + h)]
        return [Shape('polygon', name, _turned(corners, (x, y), turned))]  # about its first corner
    if kind == 'ellipselabels':
        rx, ry = value['radiusX'] * width / 100, value['radiusY'] * height / 100
        return [_ellipse(name, x, y, rx, ry, turned)]
    return []  # a choice, a text: nothing that is drawn


def supervisely(tree):
    files = tree.json_files('Supervisely')
    if not files:
        return None
    sheet, names, colours = Sheet('Supervisely', 'ann/*.json with objects', tree), [], {}
    meta = tree.first('meta.json')
    if meta:
        for c in read_any(meta).get('classes', ()):
            names.append(str(c.get('title')))
            colours[names[-1]] = from_hex(str(c.get('color', '#000000')))
    for file in files:
        try:
            content = read_any(file)
            named = file.name.removesuffix('.json')
            image = sheet.image(f'img/{named}', file)
            if not image:
                continue
            size = int(content['size']['height']), int(content['size']['width'])
            shapes = [_supervisely_shape(o) for o in content['objects']]
            unknown = [s.name for s in shapes if s and names and s.name not in names]
            if unknown:
                line = f'{file}: class {shown(unknown[0])}, which is not in {meta}'
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
    points = points_of(o['points']['exterior'])
    if kind == 'polygon':
        holes = tuple(points_of(hole) for hole in o['points'].get('interior', ()))
        return Shape('polygon', name, points, holes)
    if kind in ('rectangle', 'line', 'point'):
        return Shape(kind, name, points)
    return None
