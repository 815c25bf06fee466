"""What labelling tools write, read against label maps that are made by other routes.

Each writer draws pictures and one tool's files of known masks; the truth is those masks, placed by
slices, by scikit-image's polygons, or by run lengths written here.
"""

import base64
import io
import json
import re
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled import photo
from PIL import Image, ImageDraw
from skimage.draw import ellipse, polygon2mask

from seg import shapes, sources
from seg.check import examine
from seg.classes import NO_CLASS
from seg.files import InputError
from seg.readers import read_label
from seg.settings import Settings
from seg.sources import load
from seg.tablefiles import read_classes

H, W = 48, 64
NAMES = ['background', 'ant', 'bee', 'cat']


def boxes(seed):
    """[(class, x0, y0, x1, y1)], both ends within, in the order in which they lie."""
    rng = np.random.default_rng(seed)
    for c in (1, 2, 3, 1):
        x, y = rng.integers(0, W - 24), rng.integers(0, H - 18)
        w, h = rng.integers(6, 22), rng.integers(5, 16)
        yield c, int(x), int(y), int(x + w), int(y + h)


def painted(rows):
    label = np.zeros((H, W), np.uint8)
    for c, x0, y0, x1, y1 in rows:
        label[y0 : y1 + 1, x0 : x1 + 1] = c
    return label


def ring(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def by_size(rows):
    """The rule of COCO and YOLO: the smaller lies on top."""
    return sorted(rows, key=lambda r: -(r[3] - r[1]) * (r[4] - r[2]))


def png64(mask, mode='L'):
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).convert(mode).save(file, 'PNG')
    return file.getvalue()


def runs_of(flat):
    """Run lengths that begin with background."""
    lengths, value = [0], 0
    for v in flat.astype(int).tolist():
        if v != value:
            lengths.append(0)
            value = v
        lengths[-1] += 1
    return lengths


def squeezed(counts):
    """COCO's compressed text, written from its definition: five bits a character from '0' on, the
    sixth where more follow, from the third number on the difference to the last but one."""
    text = ''
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = not (value == 0 and not bits & 16 or value == -1 and bits & 16)
            text += chr((bits | 32 if more else bits) + 48)
            if not more:
                break
    return text


def packed_brush(mask):
    """Label Studio's RLE of RGBA bytes, written run by run with sizes of 4, 8, 16 and 20 bits."""
    flat = np.repeat(mask.ravel()[:, None] * 255, 4, 1).ravel()
    bits = f'{flat.size:032b}' + f'{7:05b}' + ''.join(f'{n - 1:04b}' for n in (4, 8, 16, 16))
    i = 0
    while i < flat.size:
        n = 1
        while i + n < flat.size and flat[i + n] == flat[i] and n < 65536:
            n += 1
        size = 0 if n <= 16 else 1 if n <= 256 else 2
        bits += '1' + f'{size:02b}' + format(n - 1, f'0{(4, 8, 16)[size]}b') + f'{flat[i]:08b}'
        i += n
    bits += '0' * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def names_of(n=5):
    return [f'p{i}' for i in range(n)]


def save_photos(folder, suffix='.png'):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names_of()):
        photo(i).save(folder / f'{name}{suffix}')


def labelme(folder):
    save_photos(folder, '.jpg')
    truth = {}
    for i, name in enumerate(names_of()):
        rows = [*boxes(i)]
        found, drawn = painted(rows), []
        for k, (c, *box) in enumerate(rows):
            shape = {'label': NAMES[c], 'points': ring(*box), 'shape_type': 'polygon'}
            if k == 1:
                shape |= {'points': [box[:2], box[2:]], 'shape_type': 'rectangle'}
            if k == 2:
                x0, y0, x1, y1 = box
                mask = np.random.default_rng(i).random((y1 - y0 + 1, x1 - x0 + 1)) > 0.5
                data = base64.b64encode(png64(mask)).decode()
                shape |= {'points': [box[:2], box[2:]], 'shape_type': 'mask', 'mask': data}
                found = painted(rows[:2])
                found[y0 : y1 + 1, x0 : x1 + 1][mask] = c
            if k == 3:
                found[box[1] : box[3] + 1, box[0] : box[2] + 1] = c
            drawn.append(shape | {'group_id': k, 'flags': {}, 'description': ''})
        drawn.append({'label': '__ignore__', 'points': ring(0, 0, 3, 2), 'shape_type': 'polygon'})
        found[:3, :4] = NO_CLASS
        about = {'version': '5.5.0', 'flags': {}, 'imagePath': f'{name}.jpg', 'imageData': None}
        about |= {'shapes': drawn, 'imageHeight': H, 'imageWidth': W}
        (folder / f'{name}.json').write_text(json.dumps(about))
        truth[name] = found
    return truth


def coco(folder, masks=None):
    """Polygons; one mask as counts, one as text; a crowd; ids with gaps; nested picture folder."""
    save_photos(folder / 'images', '.png')
    images, annotations, truth = [], [], {}
    for i, name in enumerate(names_of()):
        images.append({'id': 10 * i, 'file_name': f'{name}.png', 'height': H, 'width': W})
        rows = by_size(boxes(i))
        label = np.zeros((H, W), np.uint8)
        label[:4, :5] = NO_CLASS
        for k, (c, x0, y0, x1, y1) in enumerate(rows):
            label[y0 : y1 + 1, x0 : x1 + 1] = c
            mask = np.zeros((H, W), bool)
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
            drawn = [np.ravel(ring(x0, y0, x1, y1)).tolist()]
            if k:
                counts = runs_of(mask.T.ravel())
                drawn = {'size': [H, W], 'counts': counts if k == 1 else squeezed(counts)}
            a = {'id': len(annotations), 'image_id': 10 * i, 'category_id': 7 * c, 'iscrowd': 0}
            area = (x1 - x0) * (y1 - y0)
            annotations.append(a | {'segmentation': drawn, 'area': area, 'bbox': []})
        crowd = np.zeros((H, W), bool)
        crowd[:4, :5] = True
        a = {'id': len(annotations), 'image_id': 10 * i, 'category_id': 7, 'iscrowd': 1}
        drawn = {'size': [H, W], 'counts': runs_of(crowd.T.ravel())}
        annotations.append(a | {'segmentation': drawn, 'area': 5})
        truth[name] = label
    categories = [{'id': 7 * c, 'name': NAMES[c], 'supercategory': 'animal'} for c in (3, 1, 2)]
    categories.append({'id': 0, 'name': 'animal', 'supercategory': 'none'})
    (folder / 'annotations').mkdir()
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (folder / 'annotations' / 'instances_default.json').write_text(json.dumps(content))
    return truth


def yolo(folder):
    save_photos(folder / 'train' / 'images')
    (folder / 'train' / 'labels').mkdir()
    truth = {}
    for i, name in enumerate(names_of()):
        lines = [
            f'{c - 1} ' + ' '.join(f'{x / W:.6f} {y / H:.6f}' for x, y in ring(*box))
            for c, *box in boxes(i)
        ]
        (folder / 'train' / 'labels' / f'{name}.txt').write_text('\n'.join(lines))
        truth[name] = painted(by_size(boxes(i)))
    (folder / 'data.yaml').write_text(
        'train: ../train/images\nnc: 3\nnames:\n  0: ant\n  1: bee\n  2: cat\n'
    )
    return truth


def cvat(folder):
    save_photos(folder / 'images')
    root, truth = ElementTree.Element('annotations'), {}
    ElementTree.SubElement(root, 'version').text = '1.1'
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task'), 'labels'
    )
    for c in (1, 2, 3):
        label = ElementTree.SubElement(labels, 'label')
        ElementTree.SubElement(label, 'name').text = NAMES[c]
        ElementTree.SubElement(label, 'color').text = f'#{c:02x}8040'
    for i, name in enumerate(names_of()):
        image = ElementTree.SubElement(
            root, 'image', id=str(i), name=f'{name}.png', width=str(W), height=str(H)
        )
        rows = [*boxes(i)]
        for k, (c, x0, y0, x1, y1) in enumerate(rows):
            about = {'label': NAMES[c], 'z_order': str(-k)}  # the last drawn lies below
            if k % 3 == 0:
                points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in ring(x0, y0, x1, y1))
                ElementTree.SubElement(image, 'polygon', points=points, **about)
            elif k == 1:
                corners = dict(xtl=x0, ytl=y0, xbr=x1, ybr=y1)
                corners = {side: f'{v:.2f}' for side, v in corners.items()}
                ElementTree.SubElement(image, 'box', **corners, **about)
            else:
                h, w = y1 - y0 + 1, x1 - x0 + 1
                place = dict(left=str(x0), top=str(y0), width=str(w), height=str(h))
                runs = ', '.join(map(str, [0, h * w]))
                ElementTree.SubElement(image, 'mask', rle=runs, **place, **about)
        truth[name] = painted(rows[::-1])
    ElementTree.ElementTree(root).write(folder / 'annotations.xml')
    return truth


def label_studio(folder):
    save_photos(folder / 'upload')
    tasks, truth = [], {}
    for i, name in enumerate(names_of()):
        rows, result = [*boxes(i)], []
        for k, (c, x0, y0, x1, y1) in enumerate(rows):
            points = [[100 * x / W, 100 * y / H] for x, y in ring(x0, y0, x1, y1)]
            value, kind = {'points': points, 'polygonlabels': [NAMES[c]]}, 'polygonlabels'
            if k == 1:
                mask = np.zeros((H, W), bool)
                mask[y0 : y1 + 1, x0 : x1 + 1] = True
                value = {'format': 'rle', 'rle': packed_brush(mask), 'brushlabels': [NAMES[c]]}
                kind = 'brushlabels'
            if k == 2:
                value = dict(x=points[0][0], y=points[0][1], rotation=0)
                value |= dict(width=100 * (x1 - x0) / W, height=100 * (y1 - y0) / H)
                value, kind = value | {'rectanglelabels': [NAMES[c]]}, 'rectanglelabels'
            about = {'original_width': W, 'original_height': H, 'type': kind}
            result.append(about | {'value': value, 'from_name': 'tag', 'to_name': 'image'})
        data = {'image': f'/data/upload/1/{name}.png'}
        tasks.append({'id': i, 'data': data, 'annotations': [{'id': i, 'result': result}]})
        truth[name] = painted(rows)
    (folder / 'project-1.json').write_text(json.dumps(tasks))
    return truth


def supervisely(folder):
    save_photos(folder / 'ds0' / 'img')
    (folder / 'ds0' / 'ann').mkdir()
    truth = {}
    for i, name in enumerate(names_of()):
        objects, label = [], np.zeros((H, W), np.uint8)
        for k, (c, x0, y0, x1, y1) in enumerate(boxes(i)):
            about = {'classTitle': NAMES[c], 'geometryType': 'polygon'}
            if k == 1:
                mask = np.random.default_rng(i).random((y1 - y0 + 1, x1 - x0 + 1)) > 0.5
                mask[0, 0] = True
                data = base64.b64encode(zlib.compress(png64(mask, '1'))).decode()
                about |= {'geometryType': 'bitmap', 'bitmap': {'data': data, 'origin': [x0, y0]}}
                label[y0 : y1 + 1, x0 : x1 + 1][mask] = c
            else:
                inner = [ring(x0 + 2, y0 + 2, x1 - 2, y1 - 2)] if k == 2 else []
                about['points'] = {'exterior': ring(x0, y0, x1, y1), 'interior': inner}
                kept = label[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1].copy()
                label[y0 : y1 + 1, x0 : x1 + 1] = c
                if inner:
                    label[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1] = kept
            objects.append(about)
        content = {'size': {'height': H, 'width': W}, 'objects': objects, 'tags': []}
        (folder / 'ds0' / 'ann' / f'{name}.png.json').write_text(json.dumps(content))
        truth[name] = label
    classes = [{'title': NAMES[c], 'color': f'#0{c}0{c}FF', 'shape': 'any'} for c in (1, 2, 3)]
    (folder / 'meta.json').write_text(json.dumps({'classes': classes}))
    return truth


WRITERS = {f.__name__: f for f in (labelme, coco, yolo, cvat, label_studio, supervisely)}
CALLED = dict(labelme='labelme', coco='COCO', yolo='YOLO', cvat='CVAT')
CALLED |= dict(label_studio='Label Studio', supervisely='Supervisely')


def read(folder, **settings):
    """(DataSet, {stem: label}) of a folder."""
    data = load(Settings(data=str(folder), **settings), fast=False)
    return data, {
        image.stem: read_label(label, data.classes, data.formats) for image, label in data.pairs()
    }


@pytest.mark.parametrize('tool', WRITERS)
def test_a_folder_of_each_tool(tmp_path, tool):
    truth = WRITERS[tool](tmp_path)
    data, found = read(tmp_path)
    assert data.layout == CALLED[tool] and data.errors == []
    assert list(data.classes.names) == NAMES
    assert {*found} == {*truth}
    for name, label in truth.items():
        np.testing.assert_array_equal(found[name], label)
    assert {*data.splits} == {'train', 'val'} and len(data.splits['val']) == 1
    assert examine(data)['fit']


def test_one_order_of_classes_over_the_whole_set(tmp_path):
    """A picture without some classes, read alone or scored by a table of another order."""
    truth = labelme(tmp_path)
    for path in tmp_path.glob('p[1-4].json'):
        content = json.loads(path.read_text())
        content['shapes'] = [s for s in content['shapes'] if s['label'] == 'cat']
        path.write_text(json.dumps(content))
    data, found = read(tmp_path)
    assert list(data.classes.names) == NAMES and found['p1'].max() == 3
    np.testing.assert_array_equal(found['p0'], truth['p0'])
    (tmp_path / 'own.csv').write_text('cat,9,0,0\nbackground,0,0,0\nbee,0,9,0\nant,0,0,9\n')
    _, again = read(tmp_path, classes=str(tmp_path / 'own.csv'))
    own = np.array([1, 3, 2, 0] + [NO_CLASS] * 252, np.uint8)
    np.testing.assert_array_equal(again['p0'], own[truth['p0']])
    (tmp_path / 'own.csv').write_text('background,0,0,0\nbee,0,9,0\nant,0,0,9\n')
    with pytest.raises(InputError, match='no class cat'):
        read(tmp_path, classes=str(tmp_path / 'own.csv'))


@given(st.integers(0, 10**6))
def test_polygons_fill_what_scikit_image_fills(seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 20)))
    reach = rng.uniform(30, 60, len(angle))
    points = np.stack([64 + reach * np.cos(angle), 64 + reach * np.sin(angle)], -1)
    found = shapes.paint(128, 128, [shapes.Shape('polygon', 'a', points)], {'a': 1}) > 0
    theirs = polygon2mask((128, 128), points[:, ::-1])
    p = np.argwhere(found != theirs)[:, None, ::-1].astype(float)  # only along the outline
    a, b = points, np.roll(points, 1, 0)
    along = (((p - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)).clip(0, 1)
    away = np.hypot(*np.moveaxis(p - a - along[..., None] * (b - a), -1, 0)).min(1)
    assert away.max(initial=0) < 2


def test_shapes_of_labelme():
    """circle, line, point and holes against scikit-image and slices."""
    places = {'a': 1}
    disc = shapes.paint(99, 99, [shapes.Shape('circle', 'a', [(50, 40), (50, 65)])], places)
    theirs = np.zeros((99, 99), bool)
    theirs[ellipse(40, 50, 25.5, 25.5)] = True
    assert ((disc > 0) != theirs).sum() < 40
    line = shapes.paint(60, 60, [shapes.Shape('line', 'a', [(5, 30), (50, 30)])], places)
    assert (line.any(1).sum(), line.any(0).sum()) == (shapes.LINE, 46)
    dot = shapes.paint(60, 60, [shapes.Shape('point', 'a', [(30, 20)])], places)
    assert dot.any(1).sum() == dot.any(0).sum() == 2 * shapes.DOT + 1 and dot[20, 30]


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 9))
def test_runs(flat, width):
    flat = np.array(flat + [False] * (-len(flat) % width))
    mask = flat.reshape(-1, width)
    counts = runs_of(mask.T.ravel())
    for given_counts in (counts, squeezed(counts)):
        np.testing.assert_array_equal(shapes.coco_runs(given_counts, *mask.shape), mask)
    np.testing.assert_array_equal(shapes.brush(packed_brush(mask), *mask.shape), mask)


def spoil(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def polygon(shape, points):
    shape['shapes'][0] |= {'points': points, 'shape_type': 'polygon'}


COCO = 'annotations/instances_default.json'
BROKEN = {
    'labelme, cut off': (labelme, 'p2.json', cut, 'p2.json: damaged JSON'),
    'two points': (
        labelme,
        'p2.json',
        lambda p: spoil(p, lambda c: polygon(c, [[1, 1], [5, 5]])),
        'p2.json: shape 1, ant: a polygon of 2 points',
    ),
    'outside': (
        labelme,
        'p2.json',
        lambda p: spoil(p, lambda c: polygon(c, [[90, 1], [99, 5], [95, 9]])),
        'p2.json: shape 1, ant: all of it outside the picture of 48x64',
    ),
    'no such picture': (
        labelme,
        'p2.jpg',
        lambda p: p.unlink(),
        'p2.json: names the picture p2.jpg, which is not in',
    ),
    'mask that is none': (
        labelme,
        'p2.json',
        lambda p: spoil(p, lambda c: c['shapes'][2].update(mask='abcd')),
        'p2.json: a mask that is damaged',
    ),
    'no number': (
        labelme,
        'p2.json',
        lambda p: spoil(p, lambda c: polygon(c, [[1, None], [5, 5], [7, 7]])),
        'p2.json: shape 1, ant: a polygon of 0 points|that is no number',
    ),
    'runs too short': (
        coco,
        COCO,
        lambda p: spoil(p, lambda c: c['annotations'][1]['segmentation'].update(counts=[5, 6])),
        'instances_default.json .p0.png.: runs of 11 pixels for a mask of 48x64',
    ),
    'text cut off': (
        coco,
        COCO,
        lambda p: spoil(p, lambda c: c['annotations'][2]['segmentation'].update(counts='PP')),
        'instances_default.json.*runs that are cut off',
    ),
    'unknown category': (
        coco,
        COCO,
        lambda p: spoil(p, lambda c: c['annotations'][1].update(category_id=99)),
        'annotation 1 of category 99, expected one of 21, 7, 14, 0',
    ),
    'COCO, cut off': (coco, COCO, cut, 'instances_default.json: damaged JSON'),
    'a box of YOLO': (
        yolo,
        'train/labels/p1.txt',
        lambda p: p.write_text('1 0.5 0.5 0.2 0.2\n'),
        'p1.txt, line 1: a box of 4 numbers',
    ),
    'an odd number': (
        yolo,
        'train/labels/p1.txt',
        lambda p: p.write_text('1 0.5 0.5 0.2 0.2 0.4\n'),
        'p1.txt, line 1: expected a class of 0 to 2 and three or more pairs',
    ),
    'class 7 of 3': (
        yolo,
        'train/labels/p1.txt',
        lambda p: p.write_text('7 0.5 0.5 0.2 0.2 0.4 0.4\n'),
        'p1.txt, line 1: expected a class of 0 to 2',
    ),
    'no YAML': (
        yolo,
        'data.yaml',
        lambda p: p.write_text('names: [a, b\n'),
        'data.yaml: expected YAML',
    ),
    'CVAT, cut off': (cvat, 'annotations.xml', cut, 'annotations.xml: damaged XML'),
    'brush cut off': (
        label_studio,
        'project-1.json',
        lambda p: spoil(
            p, lambda c: c[0]['annotations'][0]['result'][1]['value'].update(rle=[0, 0, 1])
        ),
        'project-1.json .*: a brush that is cut off',
    ),
    'class unknown to meta.json': (
        supervisely,
        'ds0/ann/p3.png.json',
        lambda p: spoil(p, lambda c: c['objects'][0].update(classTitle='dog')),
        'p3.png.json: class dog, which is not in .*meta.json',
    ),
    'two layouts': (
        labelme,
        'coco.json',
        lambda p: p.write_text('{"images": [], "annotations": [], "categories": []}'),
        'two layouts in one folder, labelme .* and COCO',
    ),
}


@pytest.mark.parametrize('case', BROKEN)
def test_what_is_broken_is_named_in_one_line(tmp_path, case):
    writer, name, change, words = BROKEN[case]
    writer(tmp_path)
    change(tmp_path / name)
    try:
        data = load(Settings(data=str(tmp_path)), fast=False)
        lines = data.errors
    except InputError as e:
        lines = [str(e)]
    (line,) = [found for found in lines if re.search(words, found)] or [lines]
    assert isinstance(line, str), lines
    assert '\n' not in line and len(lines) == 1


def test_what_reaches_out_of_its_picture_is_cut_off_and_told(tmp_path):
    labelme(tmp_path)
    spoil(tmp_path / 'p2.json', lambda c: polygon(c, [[50, 10], [90, 10], [90, 40], [50, 40]]))
    data, found = read(tmp_path)
    assert data.errors == [] and any('reach out of their picture' in w for w in data.warnings)
    assert (found['p2'][11:39, 63] > 0).any()


def test_a_table_of_each_tool(tmp_path):
    files = {
        'labelmap.txt': '# label:color_rgb:parts:actions\nbackground:0,0,0::\nant:9,0,0::\n',
        'class_names.txt': 'background\nant\n',
        'labels.txt': '__ignore__\nbackground\nant\n',
        'obj.names': 'background\nant\n',
        '_classes.csv': 'Pixel Value, Class\n0, background\n1, ant\n',
        'data.yaml': 'names: [background, ant]\n',
        'meta.json': '{"classes": [{"title": "background", "color": "#000000"},'
        ' {"title": "ant", "color": "#090000"}]}',
        'dataset_meta.json': '{"label_map": {"0": "background", "1": "ant"}}',
        'nnunet.json': '{"labels": {"background": 0, "ant": 1}}',
        'coco.json': '{"categories": [{"id": 1, "name": "background"}, {"id": 2, "name": "ant"}]}',
        'tab.csv': 'background\t0\t0\t0\nant\t9\t0\t0\n',
        'title.csv': 'Class,Red,Green,Blue\nbackground,0,0,0\nant,9,0,0\n',
        'hex.csv': 'background,#000000\nant,#090000\n',
        'id.csv': 'id;name;color\n0;background;#000000\n1;ant;#090000\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        table = read_classes(tmp_path / name)
        assert table.names == ('background', 'ant') and table.codes == (), name
        has_colours = '9,0,0' in text or '#09' in text or '9\t0' in text
        assert not has_colours or table.colours == ((0, 0, 0), (9, 0, 0)), name
    (tmp_path / 'ids.csv').write_text('Name,Value\nbackground,0\nant,38\nbee,75\n')
    assert read_classes(tmp_path / 'ids.csv').codes == ((0, 0), (38, 1), (75, 2))
    (tmp_path / 'role.csv').write_text('a,0,0,0,VOID\nb,9,9,9,Scored\n')
    assert read_classes(tmp_path / 'role.csv').roles == ('void', 'scored')


def test_a_training_looks_at_few_labels_and_at_the_size_of_all(tmp_path, monkeypatch):
    labelme(tmp_path)
    monkeypatch.setattr(sources, 'FAST_LABELS', 2)
    data = load(Settings(data=str(tmp_path)))
    assert data.errors == [] and len(data.raws()) == 2
    for path in tmp_path.glob('*.json'):
        spoil(path, lambda c: c.update(imageWidth=W + 1))
    with pytest.raises(InputError, match='label of 48x65, but .* has 48x64 pixels'):
        examine(load(Settings(data=str(tmp_path))), fast=True)


def test_a_background_by_any_name(tmp_path):
    labelme(tmp_path)
    for path in tmp_path.glob('*.json'):
        spoil(path, lambda c: c['shapes'][0].update(label='Background'))
    data, found = read(tmp_path)
    assert list(data.classes.names) == NAMES and data.errors == []
    (tmp_path / 'own.csv').write_text('ant,9,0,0\nbee,0,9,0\ncat,0,0,9\n')
    with pytest.raises(InputError, match='no class background'):
        read(tmp_path, classes=str(tmp_path / 'own.csv'))


def test_names_that_no_table_takes(tmp_path):
    labelme(tmp_path)
    spoil(tmp_path / 'p0.json', lambda c: c['shapes'][0].update(label='a\x1b[2J' + 'b' * 999))
    with pytest.raises(InputError, match='a name of 1 to 100 printable characters'):
        read(tmp_path)


def test_two_hundred_polygons_by_labelmes_rule():
    """Its shape_to_mask (labelme/utils/shape.py): a polygon of Pillow's, outline and inside."""
    rng, compared = np.random.default_rng(0), 0
    for _ in range(200):
        n = rng.integers(3, 25)
        angle, reach = np.sort(rng.uniform(0, 2 * np.pi, n)), rng.uniform(5, 60, n)
        points = np.stack([64 + reach * np.cos(angle), 64 + reach * np.sin(angle)], -1)
        theirs = Image.fromarray(np.zeros((128, 128), np.uint8))
        ImageDraw.Draw(theirs).polygon(xy=[tuple(p) for p in points], outline=1, fill=1)
        theirs = np.asarray(theirs) > 0
        stored = shapes.Shape('polygon', 'a', points.astype(np.float32))  # as a set keeps them
        found = shapes.paint(128, 128, [stored], {'a': 3}) == 3
        if theirs.sum() > 1000:
            compared += 1
            assert (found & theirs).sum() / (found | theirs).sum() >= 0.99
    assert compared > 50
