"""Folders as labelling tools leave them in the wild, each once read wrongly or refused.

The writers are those of test_tools.py and test_layouts.py; each case changes what they wrote.
"""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
import test_tools as tools
from labelled import photo, scene
from PIL import Image
from test_layouts import label, number, patients, picture, voc
from test_tools import COCO, H, W, read, spoil

from seg.check import examine
from seg.files import InputError
from seg.settings import Settings
from seg.sources import find_pictures, load


def errors_of(folder):
    try:
        return load(Settings(data=str(folder)), fast=False).errors
    except InputError as e:
        return [str(e)]


def two_splits(root, bare=True):
    """COCO with a file a split, pictures of the same names in a folder a split."""
    for split, first in (('train', 0), ('val', 5)):
        images, annotations = [], []
        for k in range(3):
            picture(root / split / f'{k}.png', first + k)
            name = f'{k}.png' if bare else f'{split}/{k}.png'
            images.append({'id': k, 'file_name': name, 'height': 48, 'width': 64})
            mask = scene(2, seed=first + k) == 1
            drawn = {'size': [48, 64], 'counts': tools.runs_of(mask.T.ravel())}
            annotations.append(
                {'id': k, 'image_id': k, 'category_id': 1, 'segmentation': drawn, 'iscrowd': 0}
            )
        content = {'images': images, 'annotations': annotations}
        content['categories'] = [{'id': 1, 'name': 'box'}]
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


@pytest.mark.parametrize('bare', [True, False])
def test_pictures_of_one_name_in_two_splits(tmp_path, bare):
    two_splits(tmp_path, bare)
    data = load(Settings(data=str(tmp_path)), fast=False)
    assert data.errors == [] and [len(p) for p in data.splits.values()] == [3, 3]
    for image, drawn in data.pairs():
        truth = scene(2, seed=number(image))
        np.testing.assert_array_equal(drawn.plane(), truth)
        assert image.parent.name in drawn.path.name


def test_pictures_that_nothing_tells_apart_are_refused(tmp_path):
    two_splits(tmp_path)
    for split in ('train', 'val'):
        (tmp_path / split).rename(tmp_path / f'cam{len(split)}')
    (line, *_) = errors_of(tmp_path)
    assert 'names the picture 0.png, and there are' in line and 'cam3' in line


def test_a_picture_stands_in_one_split(tmp_path):
    two_splits(tmp_path, bare=False)
    everything = [json.loads(p.read_text()) for p in sorted(tmp_path.glob('annotations/*'))]
    both = {'images': [], 'annotations': [], 'categories': everything[0]['categories']}
    for i, content in enumerate(everything):
        both['images'] += [image | {'id': image['id'] + 10 * i} for image in content['images']]
        both['annotations'] += [
            a | {'image_id': a['image_id'] + 10 * i} for a in content['annotations']
        ]
    (tmp_path / 'annotations' / 'all.json').write_text(json.dumps(both))
    data = load(Settings(data=str(tmp_path)))
    assert len({image for image, _ in data.pairs()}) == len(data.pairs()) == 6 or data.errors
    assert data.errors and 'has two labels' in data.errors[0]
    for path in tmp_path.glob('annotations/instances_*'):
        path.rename(path.with_name(path.name.replace('_train', '_a').replace('_val', '_b')))
    assert any('has two labels' in line for line in errors_of(tmp_path))


def test_a_list_that_holds_the_other(tmp_path):
    voc(tmp_path)
    lists = tmp_path / 'ImageSets' / 'Segmentation'
    (lists / 'train.txt').write_text(''.join(f'2007_{k:06}\n' for k in range(6)) + '2007_000000\n')
    data = load(Settings(data=str(tmp_path)))
    assert [len(p) for p in data.splits.values()] == [4, 2] and data.errors == []
    assert any('listed twice, or in another split: 3' in note for note in data.notes)


@pytest.mark.parametrize('stray', ['labels/classes.txt', 'labels/readme.txt', 'images/notes.txt'])
def test_a_stray_text_is_no_yolo(tmp_path, stray):
    for k in range(5):
        picture(tmp_path / f'images/{k}.png', k)
        label(tmp_path / f'labels/{k}.png', k)
    (tmp_path / stray).write_text('car and road, 3 of them\n')
    data, found = read(tmp_path)
    assert data.layout == 'two folders' and len(found) == 5
    np.testing.assert_array_equal(found['3'], scene(seed=3))


def test_yolo_takes_no_other_pictures(tmp_path):
    truth = tools.yolo(tmp_path)
    for folder in ('preview', 'masks', 'to_label'):
        picture(tmp_path / folder / 'p0.png', 9)
        picture(tmp_path / folder / 'new.png', 9)
    (tmp_path / 'data.yaml').rename(tmp_path / 'bugs-seg.yaml')
    text = (tmp_path / 'bugs-seg.yaml').read_text()
    (tmp_path / 'bugs-seg.yaml').write_text(f'{text}test: ../test/images\npath: [a]\n')
    data, found = read(tmp_path)
    assert {*found} == {*truth} and list(data.classes.names) == tools.NAMES
    assert all(image.parent.name == 'images' for image, _ in data.pairs())
    (tmp_path / 'train' / 'labels' / 'other.txt').write_text('1 0 0 1 0 1 1\n')
    assert any('other.txt: no picture of this name' in e for e in errors_of(tmp_path))


def test_yolo_in_other_cases_and_places(tmp_path):
    truth = tools.yolo(tmp_path)
    (tmp_path / 'train' / 'images').rename(tmp_path / 'train' / 'Images')
    (tmp_path / 'train' / 'labels').rename(tmp_path / 'train' / 'Labels')
    text = 'train: D:\\sets\\bugs\\train\\Images\nnames: {0: ant, 1: bee, 2: cat, 5: dog}\n'
    (tmp_path / 'data.yaml').write_text(text)
    data, found = read(tmp_path)
    assert {*found} == {*truth} and list(data.classes.names) == [*tools.NAMES, 'dog']


def studio(folder, change):
    tools.label_studio(folder)
    spoil(folder / 'project-1.json', change)
    return read(folder)


def apart(tasks):
    """A result of the outline and one of the label, as <Labels> with <Polygon> give."""
    for task in tasks:
        results = task['annotations'][0]['result']
        for r in [*results]:
            key = next(k for k in r['value'] if k.endswith('labels'))
            names = r['value'].pop(key)
            r['type'] = key.removesuffix('labels')
            results.append(r | {'type': 'labels', 'value': r['value'] | {'labels': names}})


def test_label_studio_in_the_wild(tmp_path):
    truth = tools.label_studio(tmp_path / 'truth')
    _, found = studio(tmp_path / 'apart', apart)
    for name, plane in truth.items():
        np.testing.assert_array_equal(found[name], plane)

    def rename(tasks):
        for i, task in enumerate(tasks):
            name = f'/data/local-files/?d=set/upload/p{i}.png'
            task['data'] = {'image': name if i % 2 else f'/data/upload/3/1a2b3c4d-p{i}.png'}
            task['annotations'][0]['result'].append({'type': 'choices', 'value': {'choices': []}})

    _, found = studio(tmp_path / 'named', rename)
    np.testing.assert_array_equal(found['p1'], truth['p1'])

    def unlabelled(tasks):
        tasks[0]['annotations'] = []
        tasks[1]['annotations'][0]['was_cancelled'] = True
        tasks[2]['annotations'].append({'id': 99, 'result': []})

    data, found = studio(tmp_path / 'left', unlabelled)
    assert {*found} == {'p2', 'p3', 'p4'} and any('left out: 2' in n for n in data.notes)
    np.testing.assert_array_equal(found['p2'], truth['p2'])


def test_coco_in_the_wild(tmp_path):
    truth = tools.coco(tmp_path)
    extra = {'images': [{'id': 1, 'file_name': 'p0.png'}], 'annotations': [{'caption': 'a'}]}
    for i in range(4):  # sorted before the one that counts, and no labels
        (tmp_path / 'annotations' / f'captions_{i}.json').write_text(json.dumps(extra))

    def loosen(c):
        for image in c['images']:
            image.pop('height')
            image['id'] = str(image['id'])
            image['file_name'] += '?raw=1'
        c['categories'].append({'id': 99, 'name': 'ant'})

    spoil(tmp_path / COCO, loosen)
    data, found = read(tmp_path)
    assert list(data.classes.names) == tools.NAMES and data.errors == []
    for name, plane in truth.items():
        np.testing.assert_array_equal(found[name], plane)
    spoil(tmp_path / COCO, lambda c: c['annotations'][1]['segmentation'].update(size=[W, H]))
    assert any('a mask of 64x48 pixels for a picture of 48x64' in e for e in errors_of(tmp_path))
    spoil(tmp_path / COCO, lambda c: c['annotations'][0].update(segments_info=[]))
    assert any('panoptic annotations, which are not read' in e for e in errors_of(tmp_path))


def test_names_that_differ_in_case_stay_two(tmp_path):
    tools.labelme(tmp_path)
    spoil(tmp_path / 'p0.json', lambda c: c['shapes'][3].update(label='Ant'))
    data, found = read(tmp_path)
    assert list(data.classes.names) == ['background', 'Ant', 'ant', 'bee', 'cat']
    assert (found['p0'] == 1).any() and (found['p0'] == 2).any()


def test_labelme_in_the_wild(tmp_path):
    """A name that says test, other JSON before, converted folders beside, names of macOS."""
    truth = tools.labelme(tmp_path)
    for suffix in ('.jpg', '.json'):
        (tmp_path / f'p0{suffix}').rename(tmp_path / f'test_0{suffix}')
    spoil(tmp_path / 'test_0.json', lambda c: c.update(imagePath='..\\a\\test_0.jpg'))
    for i in range(4):
        (tmp_path / f'a{i}.json').write_text('{"lr": 0.1}')
    (tmp_path / 'config.json').write_text('{"lr": 0.1}')
    folder = tmp_path / 'p1_json'
    picture(folder / 'img.png', 1)
    label(folder / 'label.png', 1)
    (folder / 'label_names.txt').write_text('_background_\na\nb\nc\nd')
    name = unicodedata.normalize('NFD', 'é')
    (tmp_path / 'p2.jpg').rename(tmp_path / f'{name}.jpg')
    spoil(tmp_path / 'p2.json', lambda c: c.update(imagePath='é.jpg'))
    data, found = read(tmp_path)
    assert data.errors == [] and {*data.splits} == {'train', 'val'} and len(found) == 5
    np.testing.assert_array_equal(found['test_0'], truth['p0'])
    np.testing.assert_array_equal(found[name], truth['p2'])
    spoil(tmp_path / 'p3.json', lambda c: c['shapes'][0].update(label=None))
    assert any('p3.json: a shape without a label' in e for e in errors_of(tmp_path))
    spoil(tmp_path / 'p3.json', lambda c: c['shapes'][0].update(label='x', shape_type='cube'))
    assert any('p3.json: a shape of kind cube' in e for e in errors_of(tmp_path))


def test_supervisely_in_the_wild(tmp_path):
    truth = tools.supervisely(tmp_path)
    shutil.copytree(tmp_path / 'ds0', tmp_path / 'ds1')  # the same names, another label
    for path in (tmp_path / 'ds1' / 'ann').iterdir():
        spoil(path, lambda c: c.update(objects=c['objects'][:1]))
    spoil(
        tmp_path / 'ds0/ann/p0.png.json',
        lambda c: c['objects'].append({'classTitle': 'ant', 'geometryType': 'graph', 'nodes': {}}),
    )
    data = load(Settings(data=str(tmp_path)), fast=False)
    assert data.errors == [] and len(data.pairs()) == 10
    for image, drawn in data.pairs():
        assert drawn.path.parents[1] == image.parents[1]
        if image.parents[1].name == 'ds0':
            np.testing.assert_array_equal(drawn.plane(), truth[image.stem])
    (tmp_path / 'meta.json').write_text('[]')
    assert load(Settings(data=str(tmp_path))).errors == []


def test_cvat_in_the_wild(tmp_path):
    tools.cvat(tmp_path)
    text = (tmp_path / 'annotations.xml').read_text().replace('#018040', 'red')
    (tmp_path / 'annotations.xml').write_text(text)
    data, _ = read(tmp_path)
    assert data.errors == [] and data.classes.colours[1] == (255, 0, 0)
    (tmp_path / 'annotations.xml').write_text(
        '<annotations><track id="0" label="ant"><box frame="0"/></track></annotations>'
    )
    assert 'tracks of a video, which are not read' in errors_of(tmp_path)[0]


def test_a_set_without_any_shape(tmp_path):
    tools.labelme(tmp_path)
    for path in tmp_path.glob('*.json'):
        spoil(path, lambda c: c.update(shapes=[]))
    assert 'no shape of any class in it' in errors_of(tmp_path)[0]


@pytest.mark.parametrize('folder', ['test strips', 'test_2024 samples', 'devices'])
def test_words_in_a_longer_name_are_no_split(tmp_path, folder):
    for k in range(5):
        picture(tmp_path / folder / f'images/{k}.png', k)
        label(tmp_path / folder / f'masks/{k}.png', k)
    assert {*load(Settings(data=str(tmp_path))).splits} == {'train', 'val'}


def test_all_of_it_called_test(tmp_path):
    for k in range(5):
        picture(tmp_path / f'test/images/{k}.png', k)
        label(tmp_path / f'test/masks/{k}.png', k)
    data = load(Settings(data=str(tmp_path)))
    assert {*data.splits} == {'train', 'val'} and any('lies in test' in n for n in data.notes)


@pytest.mark.parametrize('other, rest', [('masks_color', 1), ('labels_viz', 1), ('seg', 0)])
def test_two_folders_of_labels(tmp_path, other, rest):
    for k in range(4):
        picture(tmp_path / f'images/{k}.png', k)
        label(tmp_path / f'masks/{k}.png', k)
        label(tmp_path / f'{other}/{k}.png', k + 9)
    if not rest:
        assert 'several folders of labels, masks and seg' in errors_of(tmp_path)[0]
        return
    data, found = read(tmp_path)
    np.testing.assert_array_equal(found['2'], scene(seed=2))
    assert any(f'those of {other} are left out' in note for note in data.notes)


def test_lists_in_the_wild(tmp_path):
    for k in range(5):
        picture(tmp_path / f'images/{k}.png', k)
        label(tmp_path / f'labels/{k}.png', k)
    (tmp_path / 'train.txt').write_text('images\\0.png labels\\0.png\n/home/x/set/images/1.png\n')
    (tmp_path / 'val.txt').write_text('2 1 1 1\n')  # Oxford Pets: name and numbers
    (tmp_path / 'labels.txt').write_text('labels/0.png\nlabels/1.png\n')
    data = load(Settings(data=str(tmp_path)))
    found = {s: [number(i) for i, _ in p] for s, p in data.splits.items()}
    assert found == {'train': [0, 1], 'val': [2]} and data.errors == []
    assert data.classes.names[0] == 'class 0'
    (tmp_path / 'val.txt').write_text('images/77.png\n')
    assert any(
        'val.txt, line 1: images/77.png, which is no picture' in e for e in errors_of(tmp_path)
    )


def test_voc_lists_with_suffixes_and_blanks(tmp_path):
    for k in range(5):
        picture(tmp_path / f'JPEGImages/my photo {k}.jpg', k)
        label(tmp_path / f'SegmentationClass/my photo {k}.png', k)
    lists = tmp_path / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('"my photo 0"\nmy photo 1.jpg\nmy photo 2\n')
    (lists / 'val.txt').write_text('my photo 3 1\n'.replace(' 1\n', '\n'))
    data = load(Settings(data=str(tmp_path)))
    assert [len(p) for p in data.splits.values()] == [3, 1] and data.errors == []


@pytest.mark.parametrize(
    'name, text',
    [
        ('config.json', '{"lr": 0.1}'),
        ('meta.json', '{"count": 6, "width": 96, "height": 64}'),
        ('dataset.json', '{"owner": "me", "year": 2024}'),
    ],
)
def test_other_files_are_no_class_tables(tmp_path, name, text):
    patients(tmp_path)
    (tmp_path / name).write_text(text)
    data = load(Settings(data=str(tmp_path)), fast=False)
    assert data.errors == [] and data.classes.names[0] == 'class 0'
    assert examine(data)['fit']


def test_pictures_to_paint_are_no_labels(tmp_path):
    for k in range(3):
        photo(k).save(tmp_path / f'{k}.jpg')
        Image.fromarray(scene(seed=k)).save(tmp_path / f'{k}_mask.png')
    photo(7).save(tmp_path / 'man_mask.jpg')  # a picture of its own
    names = [p.name for p in find_pictures([tmp_path])]
    assert names == ['0.jpg', '1.jpg', '2.jpg', 'man_mask.jpg']


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    patients(tmp_path)
    for name in ('notes.csv', 'a.json', 'b.xml', 'classes.csv', 'c.png'):
        os.mkfifo(tmp_path / name)
    assert errors_of(tmp_path) == []


def test_what_the_program_wrote_is_no_part_of_the_data(tmp_path):
    patients(tmp_path)
    run = tmp_path / 'log' / '20260101-000000-article'
    picture(run / 'masks' / 'overlay' / '000.png', 1)
    for name in ('settings.json', 'data.json'):
        (run / name).write_text('{}')
    picture(tmp_path / 'predicted' / 'camvid' / '000.png', 1)
    data = load(Settings(data=str(tmp_path)))
    assert data.errors == [] and len(data.pairs()) == 6


def test_pictures_beside_a_data_set(tmp_path):
    """One line each, and no traceback, whatever lies beside."""
    patients(tmp_path / 'D')
    picture(tmp_path / 'photos' / 'a.png', 1)
    picture(tmp_path / 'overlay' / 'a.jpg', 1)
    for line in errors_of(tmp_path):
        assert str(tmp_path) in line


@pytest.mark.parametrize('suffix', ['.png', '.gif'])
def test_a_label_of_two_frames(tmp_path, suffix):
    patients(tmp_path)
    mask = next(tmp_path.glob('*/masks/000.png'))
    frames = [Image.fromarray(scene(seed=k)) for k in (0, 1)]
    mask.unlink()
    frames[0].save(mask.with_suffix(suffix), save_all=True, append_images=frames[1:])
    assert any('holds 2 pages, expected one' in line for line in errors_of(tmp_path))


def test_a_table_in_another_order_than_the_models(tmp_path):
    """Numbers that the data call otherwise than the model does are not scored; colours are."""
    patients(tmp_path)
    names = ['ground', 'wall', 'roof', 'tree', 'sky']
    rows = [f'{name},{9 * i},{i},{i}' for i, name in enumerate(names)]
    (tmp_path / 'classes.csv').write_text('\n'.join(rows))
    model = load(Settings(data=str(tmp_path))).classes
    assert load(Settings(data=str(tmp_path)), classes=model).errors == []
    (tmp_path / 'classes.csv').write_text('\n'.join(rows[::-1]))
    with pytest.raises(InputError, match='tree, roof, wall, ground, but the model has'):
        load(Settings(data=str(tmp_path)), classes=model)
    for path in tmp_path.glob('*/masks/*.png'):
        Image.fromarray(model.palette[np.asarray(Image.open(path))]).save(path)
    assert load(Settings(data=str(tmp_path)), classes=model).errors == []


@pytest.mark.parametrize('lossless', [True, False])
def test_webp_labels(tmp_path, lossless):
    patients(tmp_path)
    for path in tmp_path.glob('*/masks/*.png'):
        with Image.open(path) as mask:
            mask.save(path.with_suffix('.webp'), lossless=lossless)
        path.unlink()
    result = examine(load(Settings(data=str(tmp_path)), fast=False))
    smeared = [line for line in result['warnings'] if 'smeared' in line]
    assert bool(smeared) == (not lossless)


def test_one_source_absolute_and_one_not(tmp_path, monkeypatch):
    for k in range(4):
        picture(tmp_path / f'a/{k}.png', k)
        label(tmp_path / f'b/{k}.png', k)
    monkeypatch.chdir(tmp_path)
    data = load(Settings(images=str(tmp_path / 'a'), labels='b'))
    assert data.errors == [] and len(data.pairs()) == 4
