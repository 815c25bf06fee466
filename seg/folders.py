"""Pictures and masks in folders of any names, told apart by the words in them; lists of files."""

import os
import re
from collections import defaultdict
from pathlib import Path

from seg import readers, tablefiles
from seg.classes import named_classes
from seg.files import InputError, is_picture, list_pictures
from seg.pairing import (
    bare,
    by_role,
    context,
    match,
    match_files,
    of_classes,
    role_of,
    split_of,
    stem_of,
)
from seg.shapes import Drawn, Legend, merge
from seg.tree import Found, Tree, lines_of


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


def of_masks(tree, layout, why, of, names, errors=()):
    """The Found of pictures with several binary masks each, {picture: [(name, file)]}."""
    legend, splits = Legend(['background', *names]), defaultdict(list)
    for image, masks in sorted(of.items()):
        masks = [(1 + names.index(name), file) for name, file in masks]
        part = f'and {len(masks) - 1} more masks' if masks[1:] else ''
        drawn = Drawn(masks[0][1], merge(masks, readers.binary), legend, part)
        splits[tree.split(image)].append((image, drawn))
    table = named_classes(legend.names, str(tree.root))
    return Found(
        layout, why, dict(splits), table, f'names in {layout}', list(errors)[:5], (), (), legend
    )


def class_folders(tree):
    """Several binary masks a picture: a folder for each class, PICTURE_CLASS, or one an object."""
    images, labels = by_role(tree.root, tree.pictures)
    return merged(tree, images, labels, [tree.root] * 2)


def merged(tree, images, labels, roots):
    """The Found of {split: [picture]} and {split: [mask]} where these are of several a picture."""
    of = {}
    for split, masks in labels.items():
        found = of_classes(roots, images.get(split) or sum(images.values(), []), masks)
        if not found or not _binary([file for some in found.values() for _, file in some]):
            return None
        of |= found
    if not any(some[1:] for some in of.values()):
        return None
    names = sorted({name for some in of.values() for name, _ in some})
    found = of_masks(tree, 'a mask for each class', 'several masks a picture', of, names)
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


def by_words(tree):
    """Whatever the words in names tell apart; None where they do not."""
    path = tree.classes()
    table, how = (tablefiles.read_classes(path), str(path)) if path else (None, '')
    return _listed(tree, table, how) or paired(tree, tree.pictures, '', table, how)


def paired(tree, files, layout, table, how):
    images, labels = by_role(tree.root, files)
    if not images or not labels:
        return None
    splits, errors, used, notes = {}, [], set(), []
    for split, masks in labels.items():
        labels[split], line = _one_folder(tree.root, masks)
        notes += [line] if line and line not in notes else []
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
    return Found(layout or 'two folders', why, splits, table, how, errors, notes=notes)


def _one_folder(root, masks):
    """(labels, note): of the folders of labels that hold the same names, masks and masks_color, the
    one that is no picture for people; InputError where that leaves two."""
    folders = defaultdict(dict)  # name of a folder -> {what it tells apart: label}
    for path in masks:
        parts = path.relative_to(root).parts[:-1]
        role = next((part for part in reversed(parts) if role_of(part)), '')
        folders[role][context(path.relative_to(root)), bare(stem_of(path))] = path
    if len({key for found in folders.values() for key in found}) == len(masks):
        return masks, ''
    shown = re.compile('colou?r|rgb|vi[sz]|overlay|preview', re.IGNORECASE)
    plain = [name for name in folders if not shown.search(name)]
    if len(plain) > 1 and any({*folders[plain[0]]} & {*folders[name]} for name in plain[1:]):
        line = f'{root}: several folders of labels, {plain[0]} and {plain[1]}'
        raise InputError(f'{line}; name one with --images and --labels')
    if len(plain) != 1 or len(folders) < 2:
        return masks, ''
    others = ', '.join(name for name in folders if name not in plain)
    return [*folders[plain[0]].values()], f'labels of {plain[0]}; those of {others} are left out'


def _listed(tree, table, how):
    """By train.txt, val.txt and test.txt in the folder, where these name pictures."""
    lists = {f: split_of([f.stem]) for f in tree.texts if len(f.parts) - len(tree.root.parts) < 3}
    lists = {f: split for f, split in lists.items() if split and f.stem != 'trainval'}
    splits, errors = {}, []
    for file, split in lists.items():
        pairs, wrong = read_list(file, tree)
        splits.setdefault(split, []).extend(pairs)
        errors += wrong
    if not lists or not tree.pictures:
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
        columns = [c for c in re.split(r'[\t,;]|\s+', line) if c]
        columns = columns[:1] + [c for c in columns[1:2] if not c.lstrip('-').isdecimal()]
        found = [_place(c, file, tree) for c in columns]
        found[0] = found[0] or stems[0].get(columns[0])
        if None in found and (whole := _place(line, file, tree) or stems[0].get(line)):
            found = [whole]  # a name with blanks in it
        if None in found:
            lost = columns[found.index(None)]
            errors.append(f'{file}, line {number}: {lost}, which is no picture; fix the path')
            continue
        picture, label = found if len(found) == 2 else (found[0], partner.get(found[0]))
        pairs.append((picture, label))
    bare = [p for p, label in pairs if label is None]
    if bare and split_of([file.stem]) != 'test':
        errors.append(f'{file}: {bare[0]} has no label ({len(bare)} such lines)')
    return [p for p in pairs if p[1] or split_of([file.stem]) == 'test'], errors


def _place(text, file, tree):
    """The picture of a path that a list names, or None."""
    text = text.replace('\\', '/')
    if not is_picture(text):
        return None
    for folder in (file.parent, tree.root, tree.root.parent, Path('/')):
        path = Path(os.path.normpath(folder / text.lstrip('/')))
        if path.is_file():
            return path
    try:  # a path of another machine
        found = tree.picture(text, file)
    except InputError:
        return None
    return found if found and [*found.parts[-2:]] == text.split('/')[-2:] else None
