"""Data sets as they are downloaded: CamVid, Pascal VOC, Cityscapes, KITTI, ADE20K and others."""

import csv
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from seg import readers, tablefiles
from seg.classes import ClassTable, named_classes, numbered_classes
from seg.files import InputError, is_picture
from seg.folders import of_masks, of_sources, paired
from seg.pairing import split_in
from seg.shapes import (
    Drawn,
    Legend,
    merge,
)
from seg.tree import Found, header_size, lines_of

CITYSCAPES = (
    ('road', 7, (128, 64, 128)),
    ('sidewalk', 8, (244, 35, 232)),
    ('building', 11, (70, 70, 70)),
    ('wall', 12, (102, 102, 156)),
    ('fence', 13, (190, 153, 153)),
    ('pole', 17, (153, 153, 153)),
    ('traffic light', 19, (250, 170, 30)),
    ('traffic sign', 20, (220, 220, 0)),
    ('vegetation', 21, (107, 142, 35)),
    ('terrain', 22, (152, 251, 152)),
    ('sky', 23, (70, 130, 180)),
    ('person', 24, (220, 20, 60)),
    ('rider', 25, (255, 0, 0)),
    ('car', 26, (0, 0, 142)),
    ('truck', 27, (0, 0, 70)),
    ('bus', 28, (0, 60, 100)),
    ('train', 31, (0, 80, 100)),
    ('motorcycle', 32, (0, 0, 230)),
    ('bicycle', 33, (119, 11, 32)),
)
VOC = 'background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse'
VOC += ' motorbike person pottedplant sheep sofa train tvmonitor'
VOC = ClassTable(tuple(VOC.split()), numbered_classes(21).colours, ('scored',) * 21)


def cityscapes_table(ids):
    """Cityscapes' 19 classes (cityscapesscripts, helpers/labels.py): of trainIds, or of `ids`
    0..33, of which the others are no class."""
    names, numbers, colours = zip(*CITYSCAPES)
    place = {number: i for i, number in enumerate(numbers)}
    codes = tuple((i, place.get(i, 255)) for i in range(34)) if ids else ()
    return ClassTable(names, colours, ('scored',) * 19, codes)


def labelme_json(tree):
    """labelme's *_json folders: img.png, label.png, and the names of that picture's numbers."""
    rows = []
    for label in (p for p in tree.pictures if p.name == 'label.png'):
        image, listed = label.with_name('img.png'), label.with_name('label_names.txt')
        if image.is_file() and listed.is_file():
            rows.append((image, label, [n.strip() for n in lines_of(listed) if n.strip()]))
    if not rows:
        return None
    names = sorted({name for *_, listed in rows for name in listed if name[0] != '_'})
    legend, splits = Legend(['background', *names]), defaultdict(list)
    for image, label, listed in rows:
        values = [legend.places.get(name, 0) for name in listed]
        draw = partial(_renumbered, label, values)
        splits[tree.split(image)].append((image, Drawn(label, draw, legend)))
    table = named_classes(legend.names, str(tree.root))
    why, how = 'img.png and label.png in each folder', 'label_names.txt of each picture'
    return Found('labelme', why, dict(splits), table, how, legend=legend)


def _renumbered(path, values):
    raw = readers.read_raw(path)
    if raw.values.max() >= len(values):
        raise InputError(f'value {raw.values.max()}, but label_names.txt has {len(values)} names')
    return np.array(values, np.uint8)[raw.values][raw.inverse]


def camvid(tree):
    """train, trainannot, val, valannot, test[, testannot]: the article's."""
    names = {p.name for p in tree.root.iterdir() if p.is_dir()}
    if not any(f'{split}annot' in names for split in ('train', 'val', 'test')):
        return None
    found = {s: (tree.root / s, tree.root / f'{s}annot') for s in ('train', 'val', 'test')}
    found = of_sources("CamVid's folders", {s: pair for s, pair in found.items() if s in names})
    path = tablefiles.find_classes(tree.root)
    return found._replace(
        why='train and trainannot',
        classes=path and tablefiles.read_classes(path),
        classes_from=str(path),
    )


def voc(tree):
    """Pascal VOC, and CVAT's segmentation masks and labelme's conversion in its folders."""
    folders = {
        f.parent
        for f in tree.files
        if f.parent.name in ('SegmentationClass', 'SegmentationClassPNG')
    }
    folders = {f for f in folders if any(p.parent == f for p in tree.pictures)}
    pictures = {p.parent for p in tree.pictures if p.parent.name == 'JPEGImages'}
    if not folders or not pictures:
        return None
    labels = max(folders)
    images = next((p for p in pictures if p.parent == labels.parent), min(pictures))
    return _voc(tree, images, labels)


def _voc(tree, images, labels):
    x = {p.stem: p for p in tree.pictures if p.parent == images}
    y = {p.stem: p for p in tree.pictures if p.parent == labels}
    lists = {}
    for file in tree.texts:
        if file.parent.name == 'Segmentation':
            lists[file.stem.lower()] = [_listed(line, x) for line in lines_of(file) if line.strip()]
    splits, errors = {}, []
    for name, stems in lists.items():
        split = split_in(name)
        if name == 'trainval' and {'train', 'val'} & {*lists}:
            continue
        split = split or 'train'
        lost = [s for s in stems if Path(s).name not in x or Path(s).name not in y]
        if lost and split != 'test':
            what = 'picture' if Path(lost[0]).name not in x else 'label'
            line = f'{images.parent}: ImageSets/Segmentation/{name}.txt lists {lost[0]}, which has'
            errors.append(f'{line} no {what} ({len(lost)} such lines); put it there')
        found = [Path(s).name for s in stems if Path(s).name in x]
        splits[split] = splits.get(split, []) + [
            (x[s], y.get(s)) for s in found if s in y or split == 'test'
        ]
    taken = {image for pairs in splits.values() for image, _ in pairs}
    if not splits:
        splits = {'train': [(x[s], y[s]) for s in x if s in y]}
    notes = []
    alone = [p for s, p in x.items() if s in y and p not in taken] if taken else []
    if alone:
        notes.append(f'{len(alone)} labelled pictures are in no list and left out')
    if not any(splits.values()):
        alone = min({*x} - {*y}, default='')
        raise InputError(f'{labels}: no label has the name of a picture in {images} ({alone})')
    path = tablefiles.find_classes(tree.root, labels.parent, labels)
    table, how = (tablefiles.read_classes(path), str(path)) if path else (None, '')
    if not path and all(_voc_name(s) for s in y):
        table, how = VOC, "Pascal VOC's, whose file names these are"
    why = f'{images.name} and {labels.name}'
    return Found('Pascal VOC', why, splits, table, how, errors, (), notes)


def _listed(line, stems):
    """The stem that a line of a list names, perhaps quoted, with a suffix, or a number behind."""
    line = line.strip().strip('"')
    whole = Path(line).stem if is_picture(line) else line
    return whole if whole in stems else Path(line.split()[0]).name


def _voc_name(stem):
    return re.fullmatch(r'20(07|08|09|10|11|12)_\d{6}', stem)


def cityscapes(tree):
    """leftImg8bit/SPLIT/TOWN/*_leftImg8bit.png beside gtFine/.../*_labelIds or _labelTrainIds."""
    labels = {}
    for path in tree.pictures:
        match = re.fullmatch(r'(.+)_gt(Fine|Coarse)_label(Train)?Ids', path.stem)
        if match and (match[2] == 'Fine' or match[1] not in labels):
            labels.setdefault(match[1], {})[bool(match[3])] = path
    images = {}
    for path in tree.pictures:
        match = re.fullmatch('(.+)_leftImg8bit', path.stem)
        if match:
            images[match[1]] = path
    if not labels or not images:
        return None
    trained = all(True in found for found in labels.values())
    which = '_labelTrainIds' if trained else '_labelIds'
    splits, errors = defaultdict(list), []
    for key, path in images.items():
        label = labels.get(key, {}).get(trained)
        split = tree.split(path)
        if label is None and split != 'test':
            errors.append(f'{path}: no label {key}_gtFine{which}.png; put it there')
        elif label or split == 'test':
            splits[split].append((path, label))
    alone = sorted({*labels} - {*images})
    if alone:
        path = next(iter(labels[alone[0]].values()))
        errors.append(f'{path}: no picture {alone[0]}_leftImg8bit.png ({len(alone)} such files)')
    if all(label is None or not _scored_city(label) for _, label in splits.get('test', ())):
        splits['test'] = [(path, None) for path, _ in splits.get('test', ())]
    splits = {name: pairs for name, pairs in splits.items() if pairs}
    table, how = cityscapes_table(not trained), "Cityscapes' 19 classes"
    return Found('Cityscapes', f'*{which}.png', splits, table, how, errors)


def _scored_city(path):
    """Whether a label of the test towns holds anything: those that are given away are empty."""
    try:
        held = {*readers.read_raw(path).values.tolist()}
    except InputError:
        return True
    return bool(held - {0, 1, 2, 3, 255})


def kitti(tree):
    """KITTI's semantics: training/image_2 beside training/semantic, in Cityscapes' ids."""
    folder = next((f.parent for f in tree.pictures if f.parent.name == 'semantic'), None)
    images = folder and folder.with_name('image_2')
    if not folder or not images.is_dir():
        return None
    y = {p.name: p for p in tree.pictures if p.parent == folder}
    x = {p.name: p for p in tree.pictures if p.parent == images}
    errors = [f'{x[n]}: no label {folder / n}; put it there' for n in sorted({*x} - {*y})][:1]
    splits = {'train': [(x[n], y[n]) for n in sorted({*x} & {*y})]}
    tests = [(p, None) for p in tree.pictures if p.parent.parts[-2:] == ('testing', 'image_2')]
    splits |= {'test': tests} if tests else {}
    how = "Cityscapes' 19 classes"
    return Found('KITTI', 'image_2 and semantic', splits, cityscapes_table(True), how, errors)


def synthia(tree):
    """SYNTHIA: RGB/ beside GT/LABELS/, 16-bit RGB whose first channel is the class."""
    labels = [p for p in tree.pictures if p.parent.parts[-2:] == ('GT', 'LABELS')]
    images = {(p.parent.parent, p.stem): p for p in tree.pictures if p.parent.name == 'RGB'}
    if not labels or not images:
        return None
    names = ['void', *'sky building road sidewalk fence vegetation pole car'.split()]
    names += ['traffic sign', 'pedestrian', 'bicycle', 'motorcycle', 'parking slot', 'road work']
    names += 'traffic light,terrain,rider,truck,bus,train,wall,lane marking'.split(',')
    legend, splits, errors = Legend(names), defaultdict(list), []
    for path in labels:
        image = images.get((path.parents[2], path.stem))
        if image:
            drawn = Drawn(path, partial(readers.first_channel, path), legend)
            splits[tree.split(path)].append((image, drawn))
        else:
            errors.append(f'{path}: no picture of this name in RGB; put it there')
    table = named_classes(names, str(tree.root))
    return Found(
        'SYNTHIA', 'RGB and GT/LABELS', dict(splits), table, 'SYNTHIA', errors[:5], (), (), legend
    )


def mvtec(tree):
    """MVTec AD: test/DEFECT/x.png beside ground_truth/DEFECT/x_mask.png; good ones have no mask."""
    truth = {
        (*p.parts[: p.parts.index('ground_truth')], p.parent.name, p.stem.removesuffix('_mask')): p
        for p in tree.pictures
        if 'ground_truth' in p.parts
    }
    images = [
        p
        for p in tree.pictures
        if {'test', 'train'} & {*p.parts}
        and p not in {*truth.values()}
        and p.parents[1].name in ('test', 'train')
    ]
    if not truth or not any(p.parent.name == 'good' for p in images):
        return None
    legend, pairs, errors = Legend(['good', 'defect']), [], []
    for image in images:
        split = image.parents[1].name
        mask = truth.get((*image.parts[: len(image.parts) - 3], image.parent.name, image.stem))
        if image.parent.name != 'good' and not mask:
            errors.append(f'{image}: no mask in ground_truth; put it there')
            continue
        masks = [(1, mask)] if mask else []
        draw = partial(_blank, image) if not mask else merge(masks, readers.binary)
        if split == 'test' or mask:
            pairs.append((image, Drawn(mask or image, draw, legend, '' if mask else 'no defect')))
    notes = ['its train folder holds no defect, so that the pictures of test are divided']
    table = named_classes(legend.names, str(tree.root), ((0, 0, 0), (255, 255, 255)))
    return Found(
        'MVTec AD',
        'ground_truth and good',
        {'train': pairs},
        table,
        'good and defect',
        errors[:5],
        (),
        notes,
        legend,
    )


def _blank(image):
    return np.zeros(header_size(image), np.uint8)


def open_images(tree):
    """Open Images: masks named IMAGE_LABEL_BOX.png with a .csv of MaskPath and LabelName."""
    lists = []
    for path in tree.files:
        if path.suffix == '.csv':
            with open(path, 'rb') as f:
                head = f.readline(500)
            if b'MaskPath' in head and b'LabelName' in head:
                lists.append(path)
    if not lists:
        return None
    spoken = {}
    for path in tree.files:
        if 'class-descriptions' in path.name:
            with open(path, encoding='utf-8-sig', newline='') as f:
                spoken |= {row[0]: row[1] for row in csv.reader(f) if len(row) > 1}
    of, errors = defaultdict(list), []
    for path in lists:
        with open(path, encoding='utf-8-sig', newline='') as f:
            for row in csv.DictReader(f):
                found = tree.by_name.get(Path(row['MaskPath']).name.casefold())
                image = tree.by_stem.get(row['ImageID'])
                if not found:
                    errors.append(f'{path}: names the mask {row["MaskPath"]}, which is not there')
                elif image:
                    of[image].append((spoken.get(row['LabelName'], row['LabelName']), found[0]))
    names = sorted({name for masks in of.values() for name, _ in masks})
    return of_masks(tree, 'Open Images', 'a .csv of masks', of, names, errors)


def vistas(tree):
    """Mapillary Vistas: SPLIT/images beside SPLIT/v2.0/labels (or v1.2, or of the first edition),
    names and colours in a config.json."""
    config = next(
        (
            f
            for f in tree.files[::-1]
            if f.name.startswith('config') and f.suffix == '.json' and f.parent == tree.root
        ),
        None,
    )
    if not config:
        return None
    try:
        table = tablefiles.read_classes(config)
    except InputError:  # of something else
        return None
    version = config.stem.removeprefix('config').strip('_')
    keep = [
        p
        for p in tree.pictures
        if p.parent.name == 'images' or p.parent.name == 'labels' and version in (*p.parts, '')
    ]
    return paired(tree, keep, 'Mapillary Vistas', table, str(config))


def ade20k(tree):
    """ADE20K's scene parsing: images/training beside annotations/training; 0 is no class."""
    named = [p for p in tree.pictures if re.fullmatch(r'ADE_(train|val|test)_\d{8}', p.stem)]
    if not named:
        return None
    listed = tree.first('objectinfo150.txt')
    names = tablefiles.read_classes(listed).names if listed else ()
    names = names or tuple(f'class {i}' for i in range(1, 151))
    codes = ((0, 255), *((i + 1, i) for i in range(len(names))))
    table = ClassTable(
        names, numbered_classes(len(names) + 1).colours[1:], ('scored',) * len(names), codes
    )
    return paired(tree, named, 'ADE20K', table, str(listed or '150 numbers, 0 no class'))
