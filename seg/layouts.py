"""Which layout a folder has: one function for each, in the modules below, recognises itself."""

import difflib
import os
from glob import glob
from pathlib import Path

from seg.files import InputError, list_pictures
from seg.folders import by_words, class_folders, merged, of_sources
from seg.known import (
    ade20k,
    camvid,
    cityscapes,
    kitti,
    labelme_json,
    mvtec,
    open_images,
    synthia,
    vistas,
    voc,
)
from seg.pairing import holds_pictures, two_lists
from seg.toolfiles import cvat, label_studio, supervisely
from seg.tools import coco, labelme, yolo
from seg.tree import Found, Tree

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
TOOLS = (labelme, coco, yolo, cvat, label_studio, supervisely)
LAYOUTS = (
    labelme_json,
    camvid,
    voc,
    cityscapes,
    kitti,
    synthia,
    mvtec,
    open_images,
    vistas,
    ade20k,
)


def of_two(split, images, labels):
    """The Found of two folders or patterns, or of pictures and a tool's file, as one split."""
    if os.path.isabs(images) != os.path.isabs(labels):
        images, labels = os.path.abspath(images), os.path.abspath(labels)
    place, found = Path(labels), None
    try:
        if place.is_file() or place.suffix in ('.json', '.xml', '.txt'):
            files = [place] if place.is_file() else glob(labels, recursive=True)
        else:
            only = place.is_dir() and (images == labels or not holds_pictures(place))
            files = Tree(place).files if only else ()
        if files:
            pictures = Tree(images).pictures if Path(images).is_dir() else list_pictures(images)
            tree = Tree.of([*pictures, *map(Path, files)])
            found = next((f for tool in TOOLS if (f := tool(tree))), None)
        if not found:
            pictures, masks = two_lists(images, labels)
            tree = Tree.of([*pictures, *masks])
            roots = [p if Path(p).is_dir() else tree.root for p in (images, labels)]
            found = cityscapes(tree) or merged(tree, {split: pictures}, {split: masks}, roots)
    except InputError as e:
        return Found('two folders', 'images and labels', {split: []}, errors=[str(e)])
    if not found:
        return of_sources('two folders', {split: (images, labels)})
    return found._replace(splits={split: sum(found.splits.values(), [])})


def find_layout(root):
    """The Found of a folder; InputError where no layout fits it, or two do."""
    root = Path(root)
    if not root.is_dir():
        found = 'a file' if root.exists() else 'no such folder'
        line = f'{root}: expected a folder of pictures and labels, found {found}'
        hint = '`python main.py download` fetches CamVid, `python main.py sample` draws pictures'
        raise InputError(f'{line}; name yours, or {hint}')
    tree = Tree(root)
    found = [f for tool in TOOLS if (f := tool(tree))]  # what masks beside were made from
    found = found or [f for layout in LAYOUTS if (f := layout(tree))]
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
    places = sorted({p.parent for p in tree.pictures})
    if len(places) == 2:
        near = (
            f'if these are pictures and labels: --images {places[0]} --labels {places[1]}, or the'
        )
        raise InputError(f'{line}; {near} other way round')
    if not tree.pictures:
        near = '`python main.py download` fetches CamVid, `python main.py sample` draws pictures'
    raise InputError(f'{line}; {near}; --images and --labels name any two folders')
