"""How the files of a data set lie: one function for each layout recognises itself.

`find_layout` asks all of them. Where none of the named ones fits, the words in the names of folders
and files (train, images, masks, _label, ...) say what is a picture, what a label and which go
together.
"""

import csv
import difflib
import os
import re
from collections import Counter, defaultdict
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from seg import readers, tablefiles
from seg.classes import ClassTable, numbered_classes
from seg.files import PICTURES, InputError, list_pictures
from seg.pairing import by_role, match, match_files, of_classes, split_of, stem_of
from seg.shapes import Drawn, Legend, merge
from seg.tools import TOOLS, Found, header_size, kind_of, lines_of, read_any

MOST_FILES = 500_000
SKIPPED = ('__MACOSX', 'testpred', 'SegmentationObject', 'SegmentationClassVisualization')
KNOWN = {  # what stands in the folder of each layout, for those that none fits
    "CamVid's folders (train, trainannot)": 'train trainannot val valannot',
    'two folders (images, masks)': 'images masks',
    'Pascal VOC (JPEGImages, SegmentationClass)': 'JPEGImages SegmentationClass ImageSets',
    'Cityscapes (leftImg8bit, gtFine)': 'leftImg8bit gtFine',
    'labelme (.json beside the pictures)': 'json',
    'COCO (a .json with images and annotations)': 'annotations json',
    'YOLO (data.yaml, images, labels)': 'images labels data.yaml',
    'nnU-Net (imagesTr, labelsTr)': 'imagesTr labelsTr dataset.json',
}
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


class Tree:
    """The files of a folder and of those in it, without hidden ones, sorted."""

    def __init__(self, root):
        self.root, self.files, self._contents, self.damaged = Path(root), [], {}, []
        for folder, below, names in os.walk(root, followlinks=True):
            below[:] = sorted(n for n in below if n[0] != '.' and n not in SKIPPED)
            if len(Path(folder).relative_to(root).parts) > 8:
                below[:] = []
            self.files += [Path(folder) / name for name in sorted(names) if name[0] != '.']
            if len(self.files) > MOST_FILES:
                raise InputError(f'{root}: more than {MOST_FILES} files; name a folder within it')
        self.files.sort()

    def _of(self, *suffixes):
        return [f for f in self.files if f.suffix.lower() in suffixes]

    @cached_property
    def pictures(self):
        return self._of(*PICTURES)

    @cached_property
    def texts(self):
        return self._of('.txt')

    @cached_property
    def text_folders(self):
        return sorted({f.parent for f in self.texts})

    @cached_property
    def by_name(self):
        found = defaultdict(list)
        for path in self.pictures:
            found[path.name.casefold()].append(path)
        return found

    @cached_property
    def _by_stem(self):
        return {path.with_suffix(''): path for path in reversed(self.pictures)}

    def beside(self, file):
        """The picture of the same stem beside a file, or None."""
        return self._by_stem.get(file.with_suffix(''))

    def picture(self, named, file):
        """The picture that `file` names by a path, of which folders may have changed; or None. Of
        several of that name the one whose path is most like."""
        parts = re.split(r'[\\/]', named.strip())
        wanted = [part.casefold() for part in (*file.parts[:-1], *parts[:-1])]
        found = self.by_name.get(parts[-1].casefold(), ())
        return max(found, key=lambda p: self._likeness(p, parts, wanted), default=None)

    def _likeness(self, path, parts, wanted):
        tail = [part.casefold() for part in path.parts]
        same = 0
        for a, b in zip(reversed(tail), [p.casefold() for p in reversed(parts)]):
            if a != b:
                break
            same += 1
        return same, len({*tail} & {*wanted})

    @cached_property
    def _json_kinds(self):
        """{folder: kinds of its JSON files}, by the first three of them."""
        kinds, seen = defaultdict(set), Counter()
        for path in self._of('.json'):
            seen[path.parent] += 1
            if seen[path.parent] < 4:
                try:
                    kinds[path.parent].add(kind_of(self.content(path)))
                except InputError as e:
                    self.damaged.append(str(e))
        return kinds

    def json_files(self, kind):
        """JSON files of the folders that hold this kind; of whole data sets those alone that are
        of it, for of labels a damaged one counts, too."""
        files = [f for f in self._of('.json') if kind in self._json_kinds[f.parent]]
        if kind in ('COCO', 'Label Studio'):
            return [f for f in files if self._is(f, kind)]
        return [f for f in files if f.name not in ('meta.json', 'dataset_meta.json')]

    def _is(self, file, kind):
        try:
            return kind_of(self.content(file)) == kind
        except InputError:
            return False

    def content(self, file):
        """What a JSON file holds; the large ones are kept, for they are asked for again."""
        if file not in self._contents:
            content = read_any(file)
            if file.stat().st_size < 1 << 20:
                return content
            self._contents[file] = content
        return self._contents[file]

    def first(self, name):
        """The file of this name that lies highest, or None."""
        found = [f for f in self.files if f.name.casefold() == name]
        return min(found, key=lambda f: len(f.parts), default=None)

    def beside_name(self, stem):
        """The picture of this stem that lies highest, or None."""
        found = [p for p in self.pictures if p.stem == stem]
        return min(found, key=lambda p: len(p.parts), default=None)

    def split(self, file):
        """Which split the folders and, of a JSON file, the name say; train where they say none."""
        if not file.is_relative_to(self.root):
            return 'train'
        *parts, name = file.relative_to(self.root).parts
        return split_of([*parts, Path(name).stem] if file.suffix == '.json' else parts) or 'train'

    def classes(self):
        """Path of the class table that lies highest, or None."""
        folders = sorted({f.parent for f in self.files}, key=lambda f: (len(f.parts), f))
        return tablefiles.find_classes(self.root, *folders[:200])


def find_layout(root):
    """The Found of a folder; InputError where no layout fits it, or two do."""
    root = Path(root)
    if not root.is_dir():
        line = f'{root}: expected a folder of pictures and labels, found no such folder'
        hint = '`main.py download` fetches CamVid, `main.py sample` needs none'
        raise InputError(f'{line}; name yours, {hint}')
    tree = Tree(root)
    found = [f for layout in (*TOOLS, *LAYOUTS) if (f := layout(tree))]
    if len(found) > 1:
        both = ' and '.join(f'{f.layout} ({f.why})' for f in found[:2])
        raise InputError(f'{root}: two layouts in one folder, {both}; name a folder with one')
    found = found[0] if found else class_folders(tree) or by_words(tree)
    if found:
        return found
    if tree.damaged:
        raise InputError(tree.damaged[0])
    held = sorted(p.name for p in root.iterdir() if p.name[0] != '.')
    words = ' '.join(held)
    near = sorted(KNOWN, key=lambda k: -difflib.SequenceMatcher(None, words, KNOWN[k]).ratio())
    line = f'{root}: expected pictures and their labels, found {", ".join(held[:9]) or "nothing"}'
    near = f'the nearest layouts are {near[0]} and {near[1]}'
    raise InputError(f'{line}; {near}; --images and --labels name any two folders')


def of_sources(layout, sources):
    """The Found of {split: (images, labels)}, two folders or patterns each. Of test the labels may
    be missing."""
    splits, errors = {}, []
    for name, (images, labels) in sources.items():
        splits[name] = []
        try:
            if name == 'test' and not labels.is_dir():
                splits[name] = [(p, None) for p in list_pictures(images)]
            else:
                splits[name], wrong = match_files(images, labels)
                errors += wrong
        except InputError as e:
            errors.append(str(e))
    return Found(layout, 'images and labels', splits, errors=errors)


def of_lists(root, lists):
    """The Found of {split: list file}."""
    tree, splits, errors = Tree(root), {}, []
    for name, file in lists.items():
        splits[name], wrong = read_list(Path(file), tree)
        errors += wrong
    path = tree.classes()
    table = path and tablefiles.read_classes(path)
    return Found('list files', ', '.join(lists.values()), splits, table, str(path), errors)


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
            lists[file.stem.lower()] = [line.split()[0] for line in lines_of(file) if line.strip()]
    splits, errors = {}, []
    for name, stems in lists.items():
        split = split_of([name])
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
    table = ClassTable(
        tuple(names), numbered_classes(len(names)).colours, ('void', *['scored'] * 22)
    )
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
    notes = ['its train folder holds no defect: what is in test is divided; add --data for others']
    table = ClassTable(('good', 'defect'), ((0, 0, 0), (255, 255, 255)), ('scored',) * 2)
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
                image = tree.beside_name(row['ImageID'])
                if not found:
                    errors.append(f'{path}: names the mask {row["MaskPath"]}, which is not there')
                elif image:
                    of[image].append((spoken.get(row['LabelName'], row['LabelName']), found[0]))
    names = sorted({name for masks in of.values() for name, _ in masks})
    return _of_masks(tree, 'Open Images', 'a .csv of masks', of, names, errors)


def _of_masks(tree, layout, why, of, names, errors=()):
    """The Found of pictures with several binary masks each, {picture: [(name, file)]}."""
    legend, splits = Legend(['background', *names]), defaultdict(list)
    for image, masks in sorted(of.items()):
        masks = [(1 + names.index(name), file) for name, file in masks]
        part = f'and {len(masks) - 1} more masks' if masks[1:] else ''
        drawn = Drawn(masks[0][1], merge(masks, readers.binary), legend, part)
        splits[tree.split(image)].append((image, drawn))
    given = numbered_classes(max(len(names) + 1, 3)).colours[: len(names) + 1]
    table = ClassTable(('background', *names), given, ('scored',) * (len(names) + 1))
    return Found(
        layout, why, dict(splits), table, f'names in {layout}', list(errors)[:5], (), (), legend
    )


def class_folders(tree):
    """Several binary masks a picture: a folder for each class, PICTURE_CLASS, or one an object."""
    images, labels = by_role(tree.root, tree.pictures)
    of = {}
    for split, masks in labels.items():
        found = of_classes(tree.root, images.get(split) or sum(images.values(), []), masks)
        if not found or not _binary([file for some in found.values() for _, file in some]):
            return None
        of |= found
    if not any(some[1:] for some in of.values()):
        return None
    names = sorted({name for some in of.values() for name, _ in some})
    found = _of_masks(tree, 'a mask for each class', 'several masks a picture', of, names)
    alone = [p for some in images.values() for p in some if p not in of]
    notes = [f'{len(alone)} pictures without a mask are left out'] if alone else []
    return found._replace(notes=notes)


def _binary(files):
    """Whether masks hold two values at most; a few of them are read."""
    for path in files[:: -(-len(files) // 6)]:
        try:
            if len(readers.read_raw(path).values) > 2:
                return False
        except InputError:
            return False
    return True


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
    version = config.stem.removeprefix('config').strip('_')
    keep = [
        p
        for p in tree.pictures
        if p.parent.name == 'images' or p.parent.name == 'labels' and version in (*p.parts, '')
    ]
    table = tablefiles.read_classes(config)
    return _paired(tree, keep, 'Mapillary Vistas', table, str(config))


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
    return _paired(tree, named, 'ADE20K', table, str(listed or '150 numbers, 0 no class'))


def by_words(tree):
    """Whatever the words in names tell apart; None where they do not."""
    path = tree.classes()
    table, how = (tablefiles.read_classes(path), str(path)) if path else (None, '')
    return _listed(tree, table, how) or _paired(tree, tree.pictures, '', table, how)


def _paired(tree, files, layout, table, how):
    images, labels = by_role(tree.root, files)
    if not images or not labels:
        return None
    splits, errors, used = {}, [], set()
    for split in sorted(images, key=str):
        masks = labels.get(split) or labels.get(None) or []
        where = [
            os.path.commonpath([p.parent for p in some]) if some else tree.root
            for some in (images[split], masks or sum(labels.values(), []))
        ]
        if not masks and split == 'test':
            splits[split] = [(p, None) for p in images[split]]
            continue
        try:
            pairs, wrong = match(images[split], masks, where)
        except InputError as e:
            errors.append(str(e))
            continue
        shared = split not in labels and len(images) > 1
        errors += [line for line in wrong if not (shared and ': no image in ' in line)]
        used |= {label for _, label in pairs}
        splits[split or 'train'] = splits.get(split or 'train', []) + pairs
    alone = [p for some in labels.values() for p in some if p not in used]
    if alone and not errors:
        errors.append(f'{alone[0]}: a label without a picture ({len(alone)} such files)')
    if not any(splits.values()):
        raise InputError(errors[0])
    shown = [os.path.relpath(p.parent, tree.root) for p in (*images.values(),)[0][:1]]
    shown += [os.path.relpath(alone.parent, tree.root) for alone in (*labels.values(),)[0][:1]]
    why = (
        f'pictures in {shown[0]}, labels in {shown[1]}'
        if shown[0] != shown[1]
        else ('pictures and labels in one folder, by their names')
    )
    return Found(layout or 'two folders', why, splits, table, how, errors)


def _listed(tree, table, how):
    """By train.txt, val.txt and test.txt in the folder, where these name pictures."""
    lists = {f: split_of([f.stem]) for f in tree.texts if len(f.parts) - len(tree.root.parts) < 3}
    lists = {f: split for f, split in lists.items() if split and f.stem != 'trainval'}
    splits, errors = {}, []
    for file, split in lists.items():
        pairs, wrong = read_list(file, tree)
        if pairs:
            splits.setdefault(split, []).extend(pairs)
            errors += wrong
    if not splits:
        return None
    why = ', '.join(f.name for f in lists)
    return Found('list files', why, splits, table, how, errors)


def read_list(file, tree):
    """([(picture, label or None)], [complaints]) of a list: a picture a line, or a picture and its
    label, as paths from the list's folder, the data's, or one above, or names without suffix."""
    images, labels = by_role(tree.root, tree.pictures)
    images, labels = (sum(found.values(), []) for found in (images, labels))
    stems = [{stem_of(p): p for p in reversed(some)} for some in (images, labels)]
    partner = {}
    if images and labels:
        try:
            partner = dict(match(images, labels, (tree.root, tree.root))[0])
        except InputError:
            pass
    pairs, errors = [], []
    for number, line in enumerate(lines_of(file), 1):
        line = line.strip()
        if not line or line[0] == '#':
            continue
        columns = [line] if _place(line, file, tree) else re.split(r'[\t,;]|\s+', line)
        found = [_place(c.strip(), file, tree) for c in columns if c.strip()][:2]
        if columns[0] and not found[0]:
            found[0] = stems[0].get(columns[0].strip())
        if None in found:
            lost = columns[found.index(None)]
            errors.append(f'{file}, line {number}: {lost}, which is no picture; mend the path')
            continue
        picture, label = found if len(found) == 2 else (found[0], partner.get(found[0]))
        pairs.append((picture, label))
    bare = [p for p, label in pairs if label is None]
    if bare and split_of([file.stem]) != 'test':
        errors.append(f'{file}: {bare[0]} has no label ({len(bare)} such lines)')
    return [p for p in pairs if p[1] or split_of([file.stem]) == 'test'], errors


def _place(text, file, tree):
    """The picture of a path that a list names, or None."""
    for folder in (file.parent, tree.root, tree.root.parent):
        path = Path(os.path.normpath(folder / text.lstrip('/')))
        if path.suffix.lower() in PICTURES and path.is_file():
            return path
    path = Path(text)
    return (
        path if path.is_absolute() and path.suffix.lower() in PICTURES and path.is_file() else None
    )


LAYOUTS = (camvid, voc, cityscapes, kitti, synthia, mvtec, open_images, vistas, ade20k)
