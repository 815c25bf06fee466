"""What labelling tools write into one folder: labelme, COCO, YOLO (toolfiles.py has the others).

Each function takes a Tree and gives a Found, or None where nothing of its tool is there. A tool's
own rule says what lies on top and what is no class; the class names of a whole set stand in one
stable order, what no shape covers first.
"""

from collections import Counter
from functools import partial

import numpy as np

from seg import tablefiles
from seg.classes import GROUNDS, named_classes, shown
from seg.files import InputError
from seg.pairing import split_in, split_of
from seg.shapes import (
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

    def image(self, named, file, split=None):
        """Path of a picture that a file names, or None, which is an error."""
        try:
            found = self.tree.picture(named, file, split)
        except InputError as e:
            self.errors.append(str(e))
            return None
        if not found:
            line = f'{file}: names the picture {shown(named)}, which is not in {self.tree.root}'
            self.errors.append(f'{line}; put it there')
        return found

    def found(self, names=(), colours=None):
        """The Found. names: all classes in the tool's order, background first or not at all; those
        that are drawn, sorted, where it has none. colours: {name: (r, g, b)}."""
        drawn = {shape.name for row in self.rows for shape in row[4]} - {None}
        names = [name for name in dict.fromkeys(names) if name not in IGNORED]
        grounds = [name for name in (*names, *sorted(drawn)) if name.casefold() in GROUNDS]
        ground = next((name for name in names if name in grounds), 'background')
        rest = [name for name in names if name not in grounds]
        rest += sorted(drawn - {*rest, *grounds})
        if len(rest) > MOST:
            raise InputError(
                f'{self.tree.root}: {len(rest)} classes, at most {MOST} are trained on'
            )
        if self.rows and not rest and not self.errors:
            self.errors.append(f'{self.tree.root}: no shape of any class in it; label something')
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
        notes = [f'pictures without labels, left out: {self.alone}'] * bool(self.alone)
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
            sheet.errors.append(str(e) if str(file) in str(e) else f'{file}: {e}')
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            sheet.errors.append(f'{file}: no labelme file ({type(e).__name__} {e}); draw it again')
    sheet.alone = len({*tree.pictures} - used)
    names = tree.first('labels.txt')
    return sheet.found(tablefiles.read_classes(names).names if names else ())


def _labelme_shape(shape):
    kind = shape.get('shape_type') or 'polygon'
    if not isinstance(shape['label'], (str, int)) or not str(shape['label']).strip():
        raise InputError('a shape without a label; name its class')
    name = None if shape['label'] in IGNORED else str(shape['label'])
    points = points_of(shape['points'])
    if kind == 'mask':
        return Shape('mask', name, (tuple(map(int, points[0])), partial(bitmap, shape['mask'])))
    kinds = {'linestrip': 'line', 'points': 'point', 'oriented_rectangle': 'polygon'}
    kinds |= {'rotation': 'polygon'}
    kind = kinds.get(kind, kind)
    if kind not in ('polygon', 'rectangle', 'circle', 'line', 'point'):
        line = f'a shape of kind {shown(str(kind))}, which no label map has'
        raise InputError(f'{line}; draw it as a polygon')
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
            categories = {c['id']: str(c['name']) for c in content['categories']}
            groups = {str(c.get('supercategory')) for c in content['categories']}
            images = {str(i['id']): i for i in content['images']}
            held = {i: [] for i in images}
            if any('segments_info' in a for a in content['annotations']):
                line = f'{file}: panoptic annotations, which are not read'
                sheet.errors.append(f'{line}; export instances, or semantic masks')
                continue
            unknown = [a for a in content['annotations'] if a.get('category_id') not in categories]
            for a in content['annotations']:
                held.setdefault(str(a['image_id']), []).append(a)
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
            said = split_of(file.relative_to(tree.root).parts[:-1]) or split_in(file.stem)
            for i, about in images.items():
                image = sheet.image(str(about['file_name']).split('?')[0], file, said)
                if image:
                    split = said or tree.split(image)
                    size = header_size(image)
                    if about.get('height') and about.get('width'):
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
            if [*map(int, drawn.get('size') or size)] != [*size]:
                found = '{}x{} pixels for a picture of '.format(*drawn['size'])
                found += '{}x{}; export it again'.format(*size)
                raise InputError(f'annotation {a.get("id")}: a mask of {found}')
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
    files = [f for f in tree.texts if 'labels' in _lower(f.relative_to(tree.root).parts[:-1])]
    files = [f for f in files if f.stem.lower() not in ('classes', 'readme')]
    if not any(map(_is_yolo, files)):
        return None
    yaml = next((f for f in tree.files if _is_yolo_yaml(f)), None)
    sheet = Sheet('YOLO', f'labels/ of .txt files{" and " + yaml.name if yaml else ""}', tree)
    names = tablefiles.yolo_names(yaml) if yaml else {}
    if not names:
        listed = tree.first('classes.txt') or tree.first('obj.names')
        names = dict(enumerate(tablefiles.read_classes(listed).names)) if listed else {}
    given = _yolo_splits(yaml, tree, sheet) if yaml else {}
    most, partners = 0, _yolo_partners(tree, files)
    known = {*files}
    for image, file in partners.items():
        split = given.get(image) or (None if given else tree.split(image))
        if split is None:
            sheet.alone += 1
            continue
        try:
            size, shapes = header_size(image), []
            for number, line in enumerate(lines_of(file) if file in known else (), 1):
                if line.strip():
                    c, points = _yolo_line(f'{file}, line {number}', line, names)
                    most, points = max(most, c + 1), np.round(points * size[::-1], 2)
                    shapes.append(Shape('polygon', names.get(c, f'class {c}'), points))
            shapes.sort(key=lambda s: -area(s))
            sheet.add(split, image, file, size, shapes)
        except InputError as e:
            sheet.errors.append(str(e))
    lost = sorted(known - {*partners.values()})
    if lost:
        line = f'{lost[0]}: no picture of this name'
        sheet.errors.append(f'{line} ({len(lost)} such files); put it there, or take them out')
    return sheet.found([names[i] for i in sorted(names)] or [f'class {i}' for i in range(most)])


def _lower(parts):
    return [part.lower() for part in parts]


def _is_yolo(file):
    """Whether a text holds lines of numbers that begin with a whole one."""
    try:
        fields = next((line.split() for line in lines_of(file) if line.strip()), ['no'])
        return fields[0].isdecimal() and len([float(v) for v in fields]) > 4
    except (InputError, ValueError):
        return False


def _is_yolo_yaml(file):
    try:
        return file.suffix in ('.yaml', '.yml') and 'names' in tablefiles.read_yaml(file)
    except InputError:
        return file.name in ('data.yaml', 'dataset.yaml')


def _yolo_partners(tree, files):
    """{picture: its text, which may be missing}: images/ for labels/ in the path, or where no path
    has that, the folder of pictures that shares most names with the one of texts."""
    places = {tuple(_lower(f.parts[:-1])): f.parent for f in files}
    pictures = [p for p in tree.pictures if 'labels' not in _lower(p.parts[-3:-1])]
    found = {}
    for image in pictures:
        parts = _lower(image.parts[:-1])
        if 'images' in parts:
            parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
            place = places.get(tuple(parts))
            if place:
                found[image] = place / f'{image.stem}.txt'
    if found or len(places) > 1:
        return found
    (place,), stems = places.values(), {f.stem for f in files}
    shared = Counter(p.parent for p in pictures if p.stem in stems).most_common(1)
    folder = shared[0][0] if shared else None
    return {p: place / f'{p.stem}.txt' for p in pictures if p.parent == folder}


def _yolo_line(where, line, names):
    """(class, points of 0..1) of a line of a label; InputError for what is no polygon."""
    try:
        c, values = int(line.split()[0]), [float(v) for v in line.split()[1:]]
    except ValueError:
        raise InputError(f'{where}: expected numbers, found {shown(line)}') from None
    if len(values) == 4:
        why = 'a box of 4 numbers, of which no outline is known'
        raise InputError(f'{where}: {why}; export it for segmentation')
    fits = c in names if names else 0 <= c < MOST
    if len(values) % 2 or len(values) < 6 or not fits:
        wanted = f'a class of 0 to {max(names, default=MOST - 1)} and three or more pairs of x, y'
        found = f'{len(values)} numbers after {c}'
        raise InputError(f'{where}: expected {wanted}, found {found}; export it again')
    return c, points_of(values)


def _yolo_splits(yaml, tree, sheet):
    """{picture: split} as a data.yaml has it: folders or list files, below its `path` or itself."""
    content, found = tablefiles.read_yaml(yaml), {}
    base = content.get('path') if isinstance(content.get('path'), str) else ''
    for split in ('train', 'val', 'test'):
        entries = content.get(split) or ()
        for entry in [entries] if isinstance(entries, str) else entries:
            entry = str(entry).replace('\\', '/')
            places = [yaml.parent / base / entry, yaml.parent / entry]
            tail = entry.split('/')  # made elsewhere, or Roboflow's, which are one folder up
            places += [yaml.parent / '/'.join(tail[i:]) for i in range(1, len(tail))]
            place = next((p.resolve() for p in places if p.exists()), None)
            if place is None and split != 'test':
                line = f'{yaml}: {split}: {shown(entry)}, which is not there'
                raise InputError(f'{line}; fix the path, relative to {yaml.parent}')
            if place is None:
                continue
            listed = place.suffix == '.txt' and {
                (place.parent / line.strip()).resolve() for line in lines_of(place)
            }
            for image in tree.pictures:
                real = image.resolve()
                if real in listed if listed else real.is_relative_to(place):
                    found.setdefault(image, split)
    return found
