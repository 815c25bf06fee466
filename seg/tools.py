"""What labelling tools write into one folder: labelme, COCO, YOLO (exports.py has the others).

Each function takes a Tree and gives a Found, or None where nothing of its tool is there. A tool's
own rule says what lies on top and what is no class; the class names of a whole set stand in one
stable order, what no shape covers first.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from seg import tablefiles
from seg.classes import named_classes, shown
from seg.files import InputError
from seg.shapes import (
    GROUNDS,
    MOST,
    Drawn,
    Legend,
    Shape,
    area,
    bitmap,
    coco_runs,
    fault,
    outside,
    paint,
)
from seg.tree import Found, header_size, kind_of, lines_of, read_any

IGNORED = ('__ignore__',)


class Sheet:
    """Collects the labels of a set that one tool drew, and what is wrong with them."""

    def __init__(self, layout, why, tree):
        self.layout, self.why, self.tree, self.rows = layout, why, tree, []
        self.errors, self.beyond, self.alone = [], [], 0

    def add(self, split, image, file, size, shapes, part=''):
        """One label. Shapes that can not be drawn are an error with file and place."""
        height, width = size
        if not 0 < height <= 2**16 or not 0 < width <= 2**16:
            self.errors.append(f'{file}: a picture of {height}x{width} pixels; label it again')
            return
        good = []
        for i, shape in enumerate(shapes, 1):
            wrong = fault(shape, height, width)
            if wrong:
                name = shown(str(shape.name))
                part_of = f' of {part}' if part else ''
                self.errors.append(f'{file}: shape {i}{part_of}, {name}: {wrong}')
            elif outside(shape, height, width):
                self.beyond.append(f'{file}, shape {i}')
            good += [] if wrong else [shape]
        self.rows.append((split, image, file, (height, width), good, part))

    def image(self, named, file):
        """Path of a picture that a file names, or None, which is an error."""
        found = self.tree.picture(named, file)
        if not found:
            line = f'{file}: names the picture {shown(named)}, which is not in {self.tree.root}'
            self.errors.append(f'{line}; put it there')
        return found

    def found(self, names=(), colours=None):
        """The Found. names: all classes in the tool's order, background first or not at all; those
        that are drawn, sorted, where it has none. colours: {name: (r, g, b)}."""
        drawn = {shape.name for row in self.rows for shape in row[4]} - {None}
        names = [name for name in names if name not in IGNORED]
        grounds = [name for name in (*names, *sorted(drawn)) if name.casefold() in GROUNDS]
        ground = next((name for name in names if name in grounds), 'background')
        rest = [name for name in names if name not in grounds]
        rest += sorted(drawn - {*rest, *grounds})
        if len(rest) > MOST:
            raise InputError(
                f'{self.tree.root}: {len(rest)} classes, at most {MOST} are trained on'
            )
        legend = Legend([ground, *rest])
        legend.places |= dict.fromkeys(grounds, 0)
        splits = {}
        for split, image, file, size, shapes, part in self.rows:
            draw = partial(paint, *size, shapes, legend.places)
            splits.setdefault(split, []).append((image, Drawn(file, draw, legend, part, size)))
        own = [(colours or {}).get(name) for name in legend.names]
        if own[0] is None and None not in own[1:] and (0, 0, 0) not in own:
            own[0] = (0, 0, 0)
        own = own if None not in own and len({*own}) == len(own) else None
        table = named_classes(legend.names, str(self.tree.root), own)
        notes = [f'{self.alone} pictures without a label file are left out'] * bool(self.alone)
        warnings = []
        if self.beyond:
            line = 'shapes that reach out of their picture, cut off there'
            warnings = [f'{line}: {len(self.beyond)} (first: {self.beyond[0]})']
        how = f'{self.layout}: {len(names)} classes named' if names else f'names in {self.layout}'
        return Found(
            self.layout, self.why, splits, table, how, self.errors, warnings, notes, legend
        )


def points_of(values):
    """float32 (n, 2) of points in a file, none where they are no numbers."""
    try:
        return np.array(values, np.float32).reshape(-1, 2)
    except (TypeError, ValueError):
        return np.zeros((0, 2), np.float32)


def labelme(tree):
    files = tree.json_files('labelme')
    if not files:
        return None
    sheet = Sheet('labelme', f'{len(files)} JSON files with shapes', tree)
    used = set()
    for file in files:
        try:
            content = read_any(file)
            if kind_of(content) != 'labelme':
                continue
            image = tree.beside(file) or sheet.image(str(content['imagePath']), file)
            if not image:
                continue
            used.add(image)
            size = content.get('imageHeight'), content.get('imageWidth')
            size = size if all(isinstance(v, int) for v in size) else header_size(image)
            shapes = [_labelme_shape(shape) for shape in content['shapes']]
            sheet.add(tree.split(file), image, file, size, shapes)
        except InputError as e:
            sheet.errors.append(str(e))
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            sheet.errors.append(f'{file}: no labelme file ({type(e).__name__} {e}); draw it again')
    sheet.alone = len({*tree.pictures} - used)
    names = tree.first('labels.txt')
    return sheet.found(tablefiles.read_classes(names).names if names else ())


def _labelme_shape(shape):
    kind = shape.get('shape_type') or 'polygon'
    name = None if shape['label'] in IGNORED else str(shape['label'])
    points = points_of(shape['points'])
    if kind == 'mask':
        return Shape('mask', name, (tuple(map(int, points[0])), partial(bitmap, shape['mask'])))
    kinds = {'linestrip': 'line', 'points': 'point', 'oriented_rectangle': 'polygon'}
    kind = kinds.get(kind, kind)
    if kind not in ('polygon', 'rectangle', 'circle', 'line', 'point'):
        raise InputError(f'a shape of kind {shown(str(kind))}, which no label map has')
    return Shape(kind, name, points)


def coco(tree):
    files = tree.json_files('COCO')
    if not files:
        return None
    sheet = Sheet('COCO', f'{files[0].name} with images and annotations', tree)
    names = {}
    for file in files:
        content = tree.content(file)
        try:
            categories = {c['id']: str(c['name']) for c in content.get('categories', ())}
            groups = {str(c.get('supercategory')) for c in content.get('categories', ())}
            images = {i['id']: i for i in content['images']}
            held = {i: [] for i in images}
            unknown = [a for a in content['annotations'] if a.get('category_id') not in categories]
            for a in content['annotations']:
                held.setdefault(a['image_id'], []).append(a)
            used = {a.get('category_id') for a in content['annotations']}
            # Roboflow's row 0 is the name of all of them
            names |= {
                i: categories[i]
                for i in sorted(categories)
                if i in used or categories[i] not in groups
            }
            if unknown:
                found = unknown[0].get('category_id')
                line = f'{file}: annotation {unknown[0].get("id")} of category {found}'
                have = ', '.join(map(str, [*categories][:9])) or 'none'
                sheet.errors.append(f'{line}, expected one of {have}; export it again')
            lost = [i for i in held if i not in images]
            if lost:
                line = f'{file}: annotations of image {lost[0]}, which is not in images'
                sheet.errors.append(f'{line}; export it again')
            if not images:
                sheet.errors.append(f'{file}: no images in it; export it again')
            split = tree.split(file)
            for i, about in images.items():
                image = sheet.image(str(about['file_name']), file)
                if image:
                    size = int(about['height']), int(about['width'])
                    known = [a for a in held[i] if a.get('category_id') in categories]
                    shapes = []
                    try:
                        shapes = _coco_shapes(known, categories, size, file, sheet)
                    except InputError as e:
                        sheet.errors.append(f'{file}: {shown(str(about["file_name"]))}: {e}')
                    sheet.add(split, image, file, size, shapes, str(about['file_name']))
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            line = f'{file}: no COCO annotations ({type(e).__name__} {e}); export it again'
            sheet.errors.append(line)
    return sheet.found([names[i] for i in sorted(names)])


def _coco_shapes(annotations, categories, size, file, sheet):
    """Shapes of a picture: crowds, which are no class, below all, and the smaller on top."""
    parts = []
    for a in annotations:
        name, drawn = categories[a['category_id']], a.get('segmentation')
        crowd = bool(a.get('iscrowd'))
        name, shapes = None if crowd else name, []
        if isinstance(drawn, dict):
            shapes = [Shape('mask', name, ((0, 0), partial(coco_runs, drawn['counts'], *size)))]
            total = a.get('area') or area(shapes[0])
        else:
            shapes = [Shape('polygon', name, points_of(p)) for p in drawn or ()]
            total = sum(area(s) for s in shapes if len(s.data) > 2)
            if not shapes:
                line = f'{file}: annotation {a.get("id")}: a box without an outline'
                sheet.errors.append(f'{line}; label it with polygons, or take it out')
        parts.append((not crowd, -total, len(parts), shapes))
    return [shape for *_, shapes in sorted(parts) for shape in shapes]


def yolo(tree):
    """Ultralytics' layout: a data.yaml, or images/ beside labels/ of .txt files."""
    yaml = tree.first('data.yaml') or tree.first('dataset.yaml')
    folders = [f for f in tree.text_folders if 'labels' in f.parts]
    if not folders:
        return None
    sheet = Sheet('YOLO', f'labels/ of .txt files{" and " + yaml.name if yaml else ""}', tree)
    names = tablefiles.yolo_names(yaml) if yaml else {}
    if not names:
        listed = tree.first('classes.txt') or tree.first('obj.names')
        names = dict(enumerate(tablefiles.read_classes(listed).names)) if listed else {}
    given = _yolo_splits(yaml, tree) if yaml else {}
    texts, most, boxes = {*tree.texts}, 0, 0
    for image in tree.pictures:
        parts = [*image.parts]
        if 'images' in parts:
            parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
        file = Path(*parts).with_suffix('.txt')
        if file not in texts and len(folders) == 1:
            file = folders[0] / f'{image.stem}.txt'
        split = given.get(image) or (None if given else tree.split(image))
        if split is None or file.parent not in folders:
            continue
        try:
            size, shapes = header_size(image), []
            for number, line in enumerate(lines_of(file) if file in texts else (), 1):
                where = f'{file}, line {number}'
                fields = line.split()
                if not fields:
                    continue
                try:
                    values = [float(v) for v in fields[1:]]
                    c = int(fields[0])
                except ValueError:
                    raise InputError(f'{where}: expected numbers, found {shown(line)}') from None
                boxes += len(values) == 4
                if len(values) == 4:
                    why = 'a box of 4 numbers, of which no outline is known'
                    raise InputError(f'{where}: {why}; export it for segmentation')
                if len(values) % 2 or not 0 <= c < (len(names) or MOST):
                    wanted = f'a class of 0 to {(len(names) or MOST) - 1} and pairs of x, y'
                    found = f'{len(values)} numbers after {c}'
                    raise InputError(f'{where}: expected {wanted}, found {found}; export it again')
                most = max(most, c + 1)
                points = np.round(points_of(values) * size[::-1], 2)
                shapes.append(Shape('polygon', names.get(c, f'class {c}'), points))
            shapes.sort(key=lambda s: -area(s) if len(s.data) else 0)
            sheet.add(split, image, file, size, shapes)
        except InputError as e:
            sheet.errors.append(str(e))
    if not sheet.rows and not sheet.errors:
        return None
    listed = [names[i] for i in sorted(names)] or [f'class {i}' for i in range(most)]
    return sheet.found(listed)


def _yolo_splits(yaml, tree):
    """{picture: split} as a data.yaml has it: folders or list files, below its `path` or itself."""
    content, found = tablefiles.read_yaml(yaml), {}
    for split in ('train', 'val', 'test'):
        entries = content.get(split) or ()
        for entry in [entries] if isinstance(entries, str) else entries:
            places = [yaml.parent / content.get('path', '') / entry, yaml.parent / entry]
            places.append(yaml.parent / re.sub(r'^(\.\./)+', '', entry))  # Roboflow's are one up
            place = next((p.resolve() for p in places if p.exists()), None)
            if place is None:
                line = f'{yaml}: {split}: {shown(entry)}, which is not there'
                raise InputError(f'{line}; mend the path, relative to {yaml.parent}')
            listed = place.suffix == '.txt' and {
                (place.parent / line.strip()).resolve() for line in lines_of(place)
            }
            for image in tree.pictures:
                real = image.resolve()
                if real in listed if listed else real.is_relative_to(place):
                    found.setdefault(image, split)
    return found
