"""How files lie in a folder: every layout is recognised, and each picture gets its own label.

A picture carries its number in its first pixel, its label in the boxes of `scene`, so that a wrong
partner is seen.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import test_tools
from labelled import index, photo, scene
from PIL import Image

from main import main
from seg import known, pairing
from seg.check import examine
from seg.classes import CAMVID, NO_CLASS, numbered_classes
from seg.files import InputError
from seg.readers import read_label
from seg.settings import Settings
from seg.sources import find_pictures, load

pytestmark = pytest.mark.usefixtures('shallow')


def picture(path, k, size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(photo(k, size)).copy()
    pixels[:8, :8] = 10 * k
    Image.fromarray(pixels).save(path, **({'quality': 100} if path.suffix == '.jpg' else {}))


def label(path, k, make=index):
    path.parent.mkdir(parents=True, exist_ok=True)
    make(k).save(path)


def number(path):
    """Which picture this is."""
    return round(np.asarray(Image.open(path).convert('RGB'))[2:6, 2:6].mean() / 10)


def pairs_by(images, labels, make=index, splits=('train', 'val', 'test')):
    """Files by patterns of {s} split and {n} number: three training, two other ones a split."""

    def write(root):
        k = 0
        for split in splits:
            for _ in range(3 if split == splits[0] else 2):
                picture(root / images.format(s=split, n=k), k)
                label(root / labels.format(s=split, n=k), k, make)
                k += 1
        return {i: scene(seed=i) for i in range(k)}

    return write


def colours(k):
    """Pascal VOC's: a palette of its colours, a border of 255."""
    plane = scene(seed=k)
    plane[0] = NO_CLASS
    p = Image.fromarray(plane).convert('P')
    p = Image.fromarray(plane)
    p.putpalette(numbered_classes(256 - 1).palette.tobytes())
    return p


def border(k):
    plane = scene(seed=k)
    plane[0] = NO_CLASS
    return plane


def voc(root):
    for k in range(6):
        picture(root / f'JPEGImages/2007_{k:06}.jpg', k)
        label(root / f'SegmentationClass/2007_{k:06}.png', k, colours)
        label(root / f'SegmentationObject/2007_{k:06}.png', k + 9)
    picture(root / 'JPEGImages/2007_000009.jpg', 9)  # most of VOC's pictures have no label
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    for split, some in (('train', range(4)), ('val', (4, 5)), ('trainval', range(6))):
        (lists / f'{split}.txt').write_text(''.join(f'2007_{k:06}\n' for k in some))
    return {k: border(k) for k in range(6)}


def cvat_masks(root):
    palette = {0: (0, 0, 0), 1: (250, 50, 83), 2: (51, 221, 255), 3: (9, 9, 9), 4: (61, 61, 245)}
    names = dict(enumerate(['background', 'cat', 'dog', 'pole', 'tree']))

    def paint(k):
        return Image.fromarray(np.array([*palette.values()], np.uint8)[scene(seed=k)])

    for k in range(6):
        picture(root / f'JPEGImages/{k}.jpg', k)
        label(root / f'SegmentationClass/{k}.png', k, paint)
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'default.txt').write_text('\n'.join(map(str, range(6))))
    rows = [f'{names[c]}:{",".join(map(str, rgb))}::' for c, rgb in palette.items()]
    (root / 'labelmap.txt').write_text('# label:color_rgb:parts:actions\n' + '\n'.join(rows))
    return {k: scene(seed=k) for k in range(6)}


IDS = np.array([0, 7, 11, 26, 24], np.uint8)  # void, road, building, car, person
TRAINED = np.array([255, 0, 2, 13, 11], np.uint8)


def cityscapes(root, trained=False):
    k, truth = 0, {}
    for split, towns in (('train', ('aachen', 'bochum')), ('val', ('lindau',))):
        for town in towns:
            for _ in range(2):
                stem = f'{town}_{k:06}_000019'
                picture(root / f'leftImg8bit/{split}/{town}/{stem}_leftImg8bit.png', k)
                fine = f'gtFine/{split}/{town}/{stem}_gtFine'
                label(
                    root / f'{fine}_labelIds.png',
                    k,
                    lambda k: Image.fromarray(IDS[scene(5, seed=k)]),
                )
                label(root / f'{fine}_color.png', k, colours)
                label(root / f'{fine}_instanceIds.png', k + 5)
                if trained:
                    made = lambda k: Image.fromarray(TRAINED[scene(5, seed=k)])  # noqa: E731
                    label(root / f'{fine}_labelTrainIds.png', k, made)
                (root / f'{fine}_polygons.json').write_text('{"objects": [], "imgHeight": 48}')
                truth[k] = TRAINED[scene(5, seed=k)]
                k += 1
    return truth


def kitti(root):
    for k in range(5):
        picture(root / f'training/image_2/{k:06}_10.png', k)
        label(
            root / f'training/semantic/{k:06}_10.png',
            k,
            lambda k: Image.fromarray(IDS[scene(5, seed=k)]),
        )
        label(root / f'training/semantic_rgb/{k:06}_10.png', k, colours)
        label(root / f'training/instance/{k:06}_10.png', k + 3)
    picture(root / 'testing/image_2/000000_10.png', 9)
    return {k: TRAINED[scene(5, seed=k)] for k in range(5)}


def roboflow(root):
    write = pairs_by('{s}/p{n}_jpg.rf.{n:032x}.jpg', '{s}/p{n}_jpg.rf.{n:032x}_mask.png')
    truth = write(root)
    for split in ('train', 'val', 'test'):
        rows = ''.join(f'{i}, {name}\n' for i, name in enumerate(('background', *'abcd')))
        (root / split / '_classes.csv').write_text('Pixel Value, Class\n' + rows)
    (root / 'val').rename(root / 'valid')
    return truth


def ade20k(root):
    for split, some in (('training', range(4)), ('validation', (4, 5))):
        for k in some:
            stem = f'ADE_{split[:-3] if split == "validationx" else split[:5]}_{k:08}'
            stem = f'ADE_{"train" if split == "training" else "val"}_{k:08}'
            picture(root / f'images/{split}/{stem}.jpg', k)
            label(root / f'annotations/{split}/{stem}.png', k)
    return {k: scene(seed=k) - np.uint8(1) for k in range(6)}  # 0, other, becomes 255


def labelme_json(root):
    """labelme_json_to_dataset's folders, where a number is a class of that picture alone."""
    names = ['_background_', 'a', 'b', 'c', 'd']
    for k in range(4):
        order = np.random.default_rng(k).permutation(4) + 1
        places = np.r_[0, order].astype(np.uint8)  # class -> number in this picture
        folder = root / f'p{k}_json'
        picture(folder / 'img.png', k)
        label(folder / 'label.png', k, lambda k, p=places: Image.fromarray(p[scene(seed=k)]))
        label(folder / 'label_viz.png', k, colours)
        listed = [names[int(np.flatnonzero(places == i)[0])] for i in range(5)]
        (folder / 'label_names.txt').write_text('\n'.join(listed))
    return {k: scene(seed=k) for k in range(4)}


def nnunet(root):
    for k in range(5):
        picture(root / f'imagesTr/case_{k:03}_0000.png', k)
        label(root / f'labelsTr/case_{k:03}.png', k)
    picture(root / 'imagesTs/case_009_0000.png', 9)
    labels = {name: i for i, name in enumerate(('background', *'abcd'))}
    (root / 'dataset.json').write_text(json.dumps({'labels': labels, 'numTraining': 5}))
    return {k: scene(seed=k) for k in range(5)}


def binary(k, c):
    return Image.fromarray((scene(seed=k) == c).astype(np.uint8) * 255)


def class_folders(root):
    for k in range(4):
        picture(root / f'images/{k}.png', k)
        for c, name in enumerate(('bar', 'disk', 'hut', 'oak'), 1):
            label(root / f'masks/{name}/{k}.png', k, lambda k, c=c: binary(k, c))
    return {k: scene(seed=k) for k in range(4)}


def class_suffixes(root):
    for k in range(4):
        picture(root / f'images/s_{k}.png', k)
        for c, name in enumerate(('bar', 'disk', 'hut', 'oak'), 1):
            if c != 2 or k:  # not every picture has every class
                label(root / f'masks/s_{k}_{name}.png', k, lambda k, c=c: binary(k, c))
    truth = {k: scene(seed=k) for k in range(4)}
    truth[0][truth[0] == 2] = 0
    return truth


def one_an_object(root):
    """The Data Science Bowl's: a folder a picture, a mask an object."""
    for k in range(4):
        picture(root / f'{k:08x}/images/{k:08x}.png', k)
        for c in (1, 2, 3):
            label(root / f'{k:08x}/masks/{c * 7 + k:08x}.png', k, lambda k, c=c: binary(k, c))
    return {k: np.isin(scene(seed=k), (1, 2, 3)).astype(np.uint8) for k in range(4)}


def vistas(root):
    for split, some in (('training', range(3)), ('validation', (3, 4))):
        for k in some:
            picture(root / f'{split}/images/a{k}.jpg', k)
            for version in ('v1.2', 'v2.0'):
                made = colours if version == 'v2.0' else lambda k: index(k + 7)
                label(root / f'{split}/{version}/labels/a{k}.png', k, made)
                label(root / f'{split}/{version}/instances/a{k}.png', k + 5)
    for version in ('v1.2', 'v2.0'):
        names = [{'name': f'x--{c}', 'readable': c, 'evaluate': c != 'e'} for c in 'abcde']
        for i, entry in enumerate(names):
            entry['color'] = list(map(int, numbered_classes(5).colours[i]))
        (root / f'config_{version}.json').write_text(json.dumps({'labels': names}))
    return {k: border(k) for k in range(5)}


def synthia(root):
    import tensorflow as tf

    for k in range(4):
        picture(root / f'RGB/{k:07}.png', k)
        deep = np.stack([scene(5, seed=k)] * 3, -1).astype(np.uint16)
        deep[..., 1] = 300 + k  # instances
        (root / 'GT' / 'LABELS').mkdir(parents=True, exist_ok=True)
        tf.io.write_file(str(root / f'GT/LABELS/{k:07}.png'), tf.io.encode_png(deep))
    return {k: scene(5, seed=k) for k in range(4)}


def mvtec(root):
    for k in range(6):
        kind = ('good', 'cut', 'hole')[k % 3]
        picture(root / f'test/{kind}/{k:03}.png', k)
        if kind != 'good':
            label(root / f'ground_truth/{kind}/{k:03}_mask.png', k, lambda k: binary(k, 1))
    picture(root / 'train/good/000.png', 9)
    return {k: (scene(seed=k) == 1).astype(np.uint8) * (k % 3 > 0) for k in range(6)}


def open_images(root):
    rows = []
    for k in range(4):
        picture(root / f'images/{k:016x}.jpg', k)
        for c, name in enumerate(('/m/01', '/m/02', '/m/03', '/m/04'), 1):
            mask = f'{k:016x}_m0{c}_{c:08x}.png'
            label(root / 'masks' / mask, k, lambda k, c=c: binary(k, c))
            rows.append((mask, f'{k:016x}', name))
    with open(root / 'train-annotations-object-segmentation.csv', 'w', newline='') as f:
        csv.writer(f).writerows([('MaskPath', 'ImageID', 'LabelName'), *rows])
    with open(root / 'class-descriptions-boxable.csv', 'w', newline='') as f:
        csv.writer(f).writerows([(f'/m/0{c}', name) for c, name in enumerate('abcd', 1)])
    return {k: scene(seed=k) for k in range(4)}


def lists(root):
    for k in range(5):
        picture(root / f'photos/{k}.png', k)
        label(root / f'drawn/x{9 - k}.png', k)
    row = 'photos/{0}.png {1}/drawn/x{2}.png\n'
    (root / 'train.txt').write_text(''.join(row.format(k, root, 9 - k) for k in range(3)))
    (root / 'val.txt').write_text(''.join(row.format(k, root, 9 - k) for k in (3, 4)))
    return {k: scene(seed=k) for k in range(5)}


def patients(root):
    k = 0
    for patient in ('patient_01', 'patient_02', 'patient_03'):
        for i in range(2):
            picture(root / patient / 'images' / f'{i:03}.png', k)
            label(root / patient / 'masks' / f'{i:03}.png', k)
            k += 1
    return {i: scene(seed=i) for i in range(k)}


WRITERS = {
    "CamVid's": pairs_by('{s}/{n}.png', '{s}annot/{n}.png'),
    'split/images, split/masks': pairs_by('{s}/images/{n}.png', '{s}/masks/{n}.png'),
    'images/split, labels/split': pairs_by('images/{s}/{n}.png', 'labels/{s}/{n}.png'),
    "Kaggle's CamVid": pairs_by('{s}/{n}.png', '{s}_labels/{n}_L.png'),
    'train_images, train_masks': pairs_by('{s}_images/{n}.png', '{s}_masks/{n}.png'),
    'images, masks': pairs_by('images/{n}.png', 'masks/{n}.png', splits=('',)),
    'img, ann': pairs_by('img/{n}.jpg', 'ann/{n}.png', splits=('',)),
    'Images and GroundTruth': pairs_by(
        'Training_Input/i{n}.jpg', 'Training_GroundTruth/i{n}_segmentation.png', splits=('',)
    ),
    'one folder': pairs_by('{n}.jpg', '{n}_mask.png', splits=('',)),
    'image_n and mask_n': pairs_by('image_{n}.png', 'mask_{n}.png', splits=('',)),
    'towns': pairs_by('images/{s}/{n}.png', 'masks/{s}/{n}.png', splits=('rome', 'paris')),
    'patients': patients,
    'VOC': voc,
    'CVAT masks': cvat_masks,
    'Cityscapes': cityscapes,
    'Cityscapes, trainIds': lambda root: cityscapes(root, True),
    'KITTI': kitti,
    'Roboflow': roboflow,
    'ADE20K': ade20k,
    'nnU-Net': nnunet,
    'labelme, *_json': labelme_json,
    'Vistas': vistas,
    'SYNTHIA': synthia,
    'MVTec': mvtec,
    'Open Images': open_images,
    'a folder a class': class_folders,
    'a suffix a class': class_suffixes,
    'a mask an object': one_an_object,
    'lists': lists,
}


@pytest.mark.parametrize('layout', WRITERS)
def test_each_picture_has_its_own_label(tmp_path, layout):
    truth = WRITERS[layout](tmp_path)
    data = load(Settings(data=str(tmp_path)), fast=False)
    assert data.errors == [] and {'train', 'val'} <= {*data.splits}
    seen = set()
    for image, path in data.pairs():
        if path is None:
            assert data.splits['test'] and (image, None) in data.splits['test']
            continue
        found, k = read_label(path, data.classes, data.formats), number(image)
        np.testing.assert_array_equal(found, truth[k], str(image))
        seen.add(k)
    assert seen == {*truth}
    assert examine(data)['fit']


EACH = WRITERS | test_tools.WRITERS  # of which some stand for the rest, of their kind
SOME = {'patients', 'VOC', 'MVTec', 'nnU-Net', 'a mask an object', 'lists', 'labelme', 'coco'}
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in sorted({*EACH} - SOME)]


@pytest.mark.parametrize('layout', [*sorted(SOME), *OTHERS])
def test_a_folder_is_all_one_says(tmp_path, monkeypatch, capsys, layout):
    """Trained on, painted and scored by the folder alone."""
    EACH[layout](tmp_path / 'own')
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    small = '--filters 2 --steps 2 --epochs 1 --augment none'.split()
    assert main(['train', '../own', *small]) == 0
    assert main(['evaluate', '../own']) == 0
    assert json.loads(Path('scores.json').read_text())['images'] > 0
    assert main(['predict', '../own']) == 0
    masks = [p.stem for p in Path('predicted/camvid').glob('*.png')]
    pictures = [p.stem for p in find_pictures(['../own'])]
    assert masks and {*pictures} >= {*masks} or len(masks) == len(pictures)


def test_what_was_learned_from_is_scored_by_what_was_held_out(tmp_path, monkeypatch, capsys):
    """And another folder by all of it."""
    patients(tmp_path / 'own')
    patients(tmp_path / 'other')
    monkeypatch.chdir(tmp_path)
    small = '--filters 2 --steps 1 --epochs 1 --augment none --seed 3 --val-split 0.4'.split()
    assert main(['train', 'own', *small]) == 0
    held_out = len(load(Settings(data='own', seed=3, val_split=0.4)).splits['val'])
    scored = {}
    for folder in ('own', 'other'):
        assert main(['evaluate', folder]) == 0
        scores = json.loads(Path('scores.json').read_text())
        scored[folder] = scores['split'], scores['images']
    assert scored == {'own': ('val', held_out), 'other': ('train', 6)}


def test_what_each_layout_is_called(tmp_path):
    said = {
        'VOC': ('Pascal VOC', 'aeroplane'),
        'CVAT masks': ('Pascal VOC', 'cat'),
        'Cityscapes': ('Cityscapes', 'road'),
        'KITTI': ('KITTI', 'road'),
        'Roboflow': ('two folders', 'a'),
        'nnU-Net': ('two folders', 'a'),
        'Vistas': ('Mapillary Vistas', 'a'),
        'Open Images': ('Open Images', 'a'),
        'lists': ('list files', 'class 1'),
    }
    for layout, (name, among) in said.items():
        folder = tmp_path / layout.replace(' ', '')
        folder.mkdir()
        WRITERS[layout](folder)
        data = load(Settings(data=str(folder)))
        assert data.layout == name and among in data.classes.names, layout


def test_what_no_layout_fits(tmp_path):
    (tmp_path / 'JPEGImages').mkdir()
    photo().save(tmp_path / 'JPEGImages' / 'a.jpg')
    (tmp_path / 'ImageSets').mkdir()
    with pytest.raises(InputError, match='found ImageSets, JPEGImages; the nearest .* Pascal VOC'):
        load(Settings(data=str(tmp_path)))
    with pytest.raises(InputError, match='no such folder'):
        load(Settings(data=str(tmp_path / 'no')))


PATTERNS = {
    'isic': ('ISIC_{:07}.jpg', 'ISIC_{:07}_segmentation.png'),
    'drive': ('{:02}_training.tif', '{:02}_manual1.tif'),
    'nnunet': ('case_{:03}_0000.png', 'case_{:03}.png'),
    'deepglobe': ('{}_sat.jpg', '{}_mask.png'),
    'no separator': ('img{}.png', 'label{}.png'),
    'brackets': ('image ({}).png', 'mask ({}).png'),
    'two suffixes': ('{}.jpg', '{}.jpg.png'),
    'fastai': ('0016E5_{:05}.png', '0016E5_{:05}_P.png'),
    'segments.ai': ('{}.jpg', '{}_label_ground-truth_semantic.png'),
    'kitti road': ('um_{:06}.png', 'um_road_{:06}.png'),
    'dots': ('a.2021.{}.jpg', 'a.2021.{}.png'),
}


@pytest.mark.parametrize('pattern', PATTERNS)
def test_patterns_of_names(tmp_path, pattern):
    images, masks = PATTERNS[pattern]
    for k in (1, 2, 10, 11, 12):
        picture(tmp_path / 'i' / images.format(k), k)
        label(tmp_path / 'm' / masks.format(k), k)
    pairs, complaints = pairing.match_files(tmp_path / 'i', tmp_path / 'm')
    assert complaints == [] and len(pairs) == 5
    for image, mask in pairs:
        np.testing.assert_array_equal(np.asarray(Image.open(mask)), scene(seed=number(image)))


def test_numbers_are_never_cut_in_two(tmp_path):
    """11 and 12 begin alike, 20 and 30 end alike; and what differs is no pair."""
    for k in (10, 11, 12):
        picture(tmp_path / 'i' / f'a{k}.png', k)
        label(tmp_path / 'm' / f'b{k + 10}.png', k)
    pairs, complaints = pairing.match_files(tmp_path / 'i', tmp_path / 'm')
    assert pairs == [] and len(complaints) == 2


def test_lists_go_over_the_layout(tmp_path):
    pairs_by('images/{n}.png', 'masks/{n}.png', splits=('',))(tmp_path)
    for k in (3, 4, 5):
        picture(tmp_path / f'images/{k}.png', k)
        label(tmp_path / f'masks/{k}.png', k)
    (tmp_path / 'mine.txt').write_text('images/0.png\nimages/1.png\n3\n')
    (tmp_path / 'other.txt').write_text('images/2.png, masks/2.png\n\n# no more\n')
    data = load(
        Settings(
            data=str(tmp_path),
            train_list=str(tmp_path / 'mine.txt'),
            val_list=str(tmp_path / 'other.txt'),
        )
    )
    found = {s: [(number(i), i.stem == p.stem) for i, p in p] for s, p in data.splits.items()}
    assert found == {'train': [(0, True), (1, True), (3, True)], 'val': [(2, True)]}
    (tmp_path / 'other.txt').write_text('images/7.png\n')
    data = load(Settings(data=str(tmp_path), val_list=str(tmp_path / 'other.txt')))
    assert any('other.txt, line 1: images/7.png, which is no picture' in e for e in data.errors)


def test_validation_pictures_by_themselves(tmp_path):
    pairs_by('{s}/images/{n}.png', '{s}/masks/{n}.png')(tmp_path)
    data = load(
        Settings(
            images=f'{tmp_path}/train/images',
            labels=f'{tmp_path}/train/masks',
            val_images=f'{tmp_path}/test/images',
            val_labels=f'{tmp_path}/test/masks',
        )
    )
    assert [number(i) for i, _ in data.splits['val']] == [5, 6]
    with pytest.raises(InputError, match='--val-labels is missing'):
        load(Settings(images='a', labels='b', val_images='c'))


def test_a_set_of_each_kind_is_written_in_camvids_layout(tmp_path, monkeypatch, capsys):
    """check --convert: the same labels come out, and the class table."""
    for layout in ('VOC', 'Cityscapes', 'a folder a class', 'patients'):
        truth = WRITERS[layout](tmp_path / layout)
        out = tmp_path / 'out' / layout
        assert main(['check', str(tmp_path / layout), '--convert', str(out)]) == 0
        data = load(Settings(data=str(out)))
        assert data.layout == "CamVid's folders" and data.errors == []
        assert data.classes_from == str(out / 'classes.csv') and data.classes.codes == ()
        assert len(data.pairs()) == len(truth)
        for image, path in data.pairs():
            found = read_label(path, data.classes, data.formats)
            np.testing.assert_array_equal(found, truth[number(image)])
        assert main(['check', str(tmp_path / layout), '--convert', str(out)]) == 2


def test_camvids_own_table_is_left_alone():
    assert known.cityscapes_table(True).codes and not CAMVID.codes
