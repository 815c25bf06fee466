"""Which label belongs to which picture, by the names of files and folders alone."""

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

from seg.files import MANY, InputError, is_picture, list_pictures, suffix_of

_SPLITS = {
    'train': 'train training tr trainset',
    'val': 'val valid validation dev valset',
    'test': 'test testing ts testset',
}
SPLITS = {word: split for split, words in _SPLITS.items() for word in words.split()}
_IMAGE = (
    'images?|imgs?|pictures?|photos?|rgb|sat|inputs?|originals?|frames?|scans?|volumes?|leftimg8bit'
)
_LABEL = 'masks?|msk|labels?|labelids|labeltrainids|trainids|gt|gtfine|truth|ground[-_ ]?truth'
_LABEL += '|segs?|segmentations?|semantic|annots?|annotations?|ann|anno|manual|targets?|colou?r'
_WORD = f'{_IMAGE}|{_LABEL}|l|p'
_WORD = re.compile(rf'^(?:{_WORD})[-_. ]+|(?:[-_. ]+(?:{_WORD})\d?)+$', re.IGNORECASE)
_LABELS = re.compile(rf'^(?:{_LABEL})[-_. ]|[-_. ](?:{_LABEL}|l|p)\d?$', re.IGNORECASE)
_FUSED = '|'.join(sorted(SPLITS, key=len, reverse=True))
_FUSED = re.compile(rf'({_FUSED})({_IMAGE}|{_LABEL})')
_TOKEN = re.compile(r'[A-Za-z]+|\d+|[^A-Za-z\d]+')


def words_of(part):
    """The words in the name of a folder, in lower case; those of trainannot are train and annot."""
    words = [w.lower() for w in re.findall('[A-Z]+(?![a-z])|[A-Z]?[a-z]+', part)]
    for word in words:
        fused = _FUSED.fullmatch(word)
        yield from fused.groups() if fused else [word]


def split_of(parts):
    """The split that the names of folders say, or None: train, test_images, trainannot, val2017,
    but not "test strips"."""
    for part in parts:
        words = [*words_of(part)]
        known = all(w in SPLITS or w in ('set', 'data', 'dataset') or role_of(w) for w in words)
        if known and split_in(part):
            return split_in(part)
    return None


def split_in(name):
    """The first split among the words of a name, or None."""
    return next((SPLITS[w] for w in words_of(name) if w in SPLITS), None)


def role_of(part):
    """'label', 'image' or None: what the name of a folder says is in it."""
    words = [*words_of(part)]
    for role, known in (('label', _LABEL), ('image', _IMAGE)):
        if any(re.fullmatch(known, word) for word in words) or re.fullmatch(known, part.lower()):
            return role
    return {'x': 'image', 'y': 'label'}.get(part.lower())


def is_label_name(stem):
    """Whether the name of a file says that it is a label: x_mask, label_x, x_L."""
    return bool(_LABELS.search(stem))


def stem_of(path):
    """The name without its suffix, and without that of the picture in a.jpg.png."""
    stem = unicodedata.normalize('NFC', path.stem)
    inner = Path(stem)
    return inner.stem if is_picture(inner) else stem


def bare(stem):
    """A stem without words such as _mask, label_ or _image."""
    return _WORD.sub('', stem) or stem


def context(path):
    """The folders of a path but for those that say what is in them, or which split it is."""
    return tuple(p for p in path.parts[:-1] if not role_of(p) and not split_of([p]))


def _keys(files, others):
    """A key of each file: its stem, without words such as _mask where none of the others has it."""
    stems, exact = [stem_of(p) for p in files], {stem_of(p) for p in others}
    return [stem if stem in exact else bare(stem) for stem in stems]


def _named(files, keys):
    named = {}
    for path, key in zip(files, keys):
        if key in named:
            other = named[key].name if named[key].parent == path.parent else named[key]
            raise InputError(f'{path}: the same name as {other}; take one of them out')
        named[key] = path
    return named


def _affixes(files):
    """Stems without the words and numbers that all of them begin or end with; only whole ones."""
    tokens = [_TOKEN.findall(stem_of(p)) for p in files]
    tokens = [[t.lstrip('0') or '0' if t.isdecimal() else t for t in some] for some in tokens]
    first = last = 0
    shortest = min(map(len, tokens))
    while first < shortest and len({t[first] for t in tokens}) == 1:
        first += 1
    while last < shortest - first and len({t[-1 - last] for t in tokens}) == 1:
        last += 1
    return [''.join(t[first : len(t) - last]) for t in tokens]


def match(pictures, masks, where):
    """([(picture, label)], [complaints]) of two lists of files whose stems are the same, or are
    when words such as _mask, _label, _L or _image are taken off, or else what all of one list have
    in common. where: (of pictures, of labels), for complaints."""
    both = (pictures, masks), (masks, pictures)
    keys = [_keys(*sides) for sides in both]
    twice = any(len({*k}) < len(k) for k in keys)  # the same names for several patients or towns
    if twice and pictures and masks:
        keys = [
            [(*context(p), key) for p, key in zip(files, k)]
            for files, k in zip((pictures, masks), keys)
        ]
        for side in (0, 1):  # folders that all have tell nothing apart
            common = [
                len({k[i] for k in keys[side]}) == 1 for i in range(min(map(len, keys[side])))
            ]
            cut = common.index(False) if False in common else len(common) - 1
            keys[side] = ['/'.join(k[cut:]) for k in keys[side]]
    if not {*keys[0]} & {*keys[1]} and min(len(pictures), len(masks)) > 1:
        cut = [_affixes(files) for files in (pictures, masks)]
        if {*cut[0]} == {*cut[1]} and all(len({*k}) == len(k) for k in cut):
            keys = cut
    x, y = (_named(*named) for named in zip((pictures, masks), keys))
    complaints = []
    for ours, theirs, what in ((x, y, f'label in {where[1]}'), (y, x, f'image in {where[0]}')):
        alone = sorted(ours.keys() - theirs.keys())
        if alone:
            more = f' ({len(alone)} such files)' if alone[1:] else ''
            same = [name for name in theirs if name.casefold() == alone[0].casefold()]
            near = same or difflib.get_close_matches(alone[0], theirs, 1)
            hint = f'; the nearest name is {theirs[near[0]].name}' if near else ''
            hint += ', which differs in upper and lower case: rename one' if same else ''
            lost = os.path.islink(ours[alone[0]]) and not os.path.exists(ours[alone[0]])
            link = 'a symbolic link that leads nowhere, and ' * lost
            complaints.append(f'{ours[alone[0]]}: {link}no {what} of the same name{more}{hint}')
    return [(x[k], y[k]) for k in sorted(x.keys() & y.keys())], complaints


def two_lists(images, labels):
    """(pictures, labels) of two folders or patterns; of one folder for both, by what its names
    say. A folder without pictures stands for all that is in it."""
    pictures, masks = (
        list_pictures(p) if holds_pictures(p) else list_pictures(Path(p) / '**' / '*')
        for p in (images, labels)
    )
    if pictures == masks:
        masks = [p for p in masks if is_label_name(stem_of(p))]
        if not masks or len(masks) == len(pictures):
            raise InputError(f'{images}: images and labels are the same files; name two sources')
    found = set(masks)
    pictures = [p for p in pictures if p not in found]  # '*.png' beside '*_mask.png'
    if not pictures:
        raise InputError(f'{images}: holds labels alone; name pictures')
    return pictures, masks


def holds_pictures(source):
    """Whether a folder has pictures in itself; true of what is no folder."""
    source = Path(source)
    return not source.is_dir() or any(map(is_picture, source.iterdir()))


def match_files(images, labels):
    """`match` of two folders or patterns, see `two_lists`, or of two files."""
    if Path(images).is_file() and Path(labels).is_file():
        return [(Path(images), Path(labels))], []
    return match(*two_lists(images, labels), (images, labels))


def without_labels(files):
    """The pictures of one folder: without x_mask where there is an x beside it."""
    stems = {stem_of(p) for p in files}
    label = [is_label_name(s) and bare(s) != s and bare(s) in stems for s in map(stem_of, files)]
    return [p for p, is_label in zip(files, label) if not is_label]


def by_role(root, files):
    """({split or None: [picture]}, the same of labels) of the files below a folder, by the words in
    the names of folders, or of files where folders say nothing."""
    images, labels, roles = defaultdict(list), defaultdict(list), {}
    stems = {(p.parent, stem_of(p)) for p in files}
    for path in files:
        parts = path.relative_to(root).parts[:-1]
        role = next((r for part in reversed(parts) if (r := role_of(part))), None)
        stem = stem_of(path)
        if role != 'label' and is_label_name(stem):
            beside = (path.parent, bare(stem)) in stems and bare(stem) != stem
            role = 'label' if beside or not role else role
        roles[path] = role
    if 'image' not in roles.values() and None not in roles.values():  # all in "annotations"
        roles = {p: 'label' if is_label_name(stem_of(p)) else None for p in files}
    for path, role in roles.items():
        split = split_of(path.relative_to(root).parts[:-1])
        if suffix_of(path) in MANY:  # train-volume.tif
            split = split or SPLITS.get(bare(stem_of(path)).lower())
        (labels if role == 'label' else images)[split].append(path)
    return images, labels


def below_role(root, path):
    """The folders below the one that says that labels or pictures are in it, but for splits."""
    parts = path.parts[:-1] if root is None else path.relative_to(root).parts[:-1]
    roles = [i for i, part in enumerate(parts) if role_of(part)]
    parts = parts[roles[-1] + 1 :] if roles else parts
    return tuple(p for p in parts if not split_of([p]))


def of_classes(roots, pictures, masks):
    """{picture: [(class, mask)]} where masks lie in a folder for each class, or are called
    PICTURE_CLASS, or several lie by a single picture, all of one class; {} where they do none."""
    named = {stem_of(p): p for p in pictures}
    of = defaultdict(list)
    below = [any(below_role(r, p) for p in some) for r, some in zip(roots, (pictures, masks))]
    if below == [False, True]:
        for mask in masks:
            stem = stem_of(mask)
            picture = named.get(stem) or named.get(bare(stem))
            if not picture:
                return {}
            of[picture].append(('/'.join(below_role(roots[1], mask)) or 'foreground', mask))
        return of
    if len(masks) <= len(pictures):
        return {}
    for mask in masks:
        stem = stem_of(mask)
        cuts = [m.start() for m in re.finditer('[-_. ]', stem)]
        cut = next((i for i in reversed(cuts) if stem[:i] in named), None)
        if cut is None:
            break
        word = bare('x' + stem[cut:])[2:].strip('-_. ')
        of[named[stem[:cut]]].append((re.sub(r'^\d+$', '', word) or 'foreground', mask))
    else:
        return of
    groups, alone = defaultdict(list), Counter(context(p) for p in pictures)
    for mask in masks:
        groups[context(mask)].append(mask)
    if max(alone.values()) > 1 or {*groups} - {*alone}:
        return {}
    found = {context(p): p for p in pictures}
    return {found[c]: [('foreground', m) for m in group] for c, group in groups.items()}
