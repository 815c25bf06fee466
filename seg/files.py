"""Files: what is wrong in one line, writing all of one or nothing, finding, pairing by name.

Knows nothing of labels, networks or settings.
"""

import difflib
import glob
import hashlib
import json
import os
import re
import shutil
import time
import unicodedata
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
MARK = 'unet-camvid'  # stands at the head of every file that this program writes for people
HEAD = 2048  # bytes in which it stands
_serial = count()


class InputError(ValueError):
    """What a user did wrong, in one line: what was expected, what was found, what to do."""


def nearest_name(name, names):
    """'; did you mean X?' where one of `names` is near, else nothing: the end of an error line."""
    near = difflib.get_close_matches(str(name), [str(n) for n in names], 1)
    return f'; did you mean {near[0]}?' if near else ''


# ------------------------------------------------------------------------ writing


def is_ours(path):
    """Whether this program wrote the file, which may then be written anew."""
    with open(path, 'rb') as f:
        return MARK.encode() in f.read(HEAD)


def refuse_foreign(path):
    """InputError where `path` is there and this program did not write it."""
    if os.path.lexists(path) and not (Path(path).is_file() and is_ours(path)):
        raise InputError(
            f'{path}: exists, and this program did not write it; move it away or name another place'
        )


@contextmanager
def whole_file(path, durable=True, replace=False):
    """Gives a path beside `path` to write to and moves that into place: all of it or nothing.

    A save that is killed, or finds the disk full, leaves the old file. The path beside is this
    call's own, so that two programs may write the same file at once.

    Args:
        durable: on the disk before the old file goes, so that a power cut is survived too.
        replace: replace a file whoever wrote it; else only one that carries MARK.
    Raises: InputError where it fails, or `path` is a file that this program did not write.
    """
    path = Path(path)
    if not replace:
        refuse_foreign(path)
    beside = path.with_name(f'.{path.stem}.{os.getpid()}-{next(_serial)}.part{path.suffix}')
    try:
        yield beside
        if durable:
            with open(beside, 'rb+') as f:
                os.fsync(f.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as e:  # h5py and zipfile report a full disk as either
        full = shutil.disk_usage(path.parent).free < 1 << 20 if path.parent.is_dir() else False
        why = 'the disk is full' if full else ' '.join(str(e).split())[:150]
        raise InputError(
            f'{path}: could not be written, {why}; free space on {path.parent.resolve()} or name '
            'another place'
        ) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_parts(folder):
    """Remove what saves that were killed left in `folder`, an hour ago or earlier."""
    for part in Path(folder).glob('.*.part*'):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def write_json(path, content, replace=False):
    """`content` as JSON, whole or not at all; `program` is its first key."""
    text = json.dumps({'program': MARK} | content, indent=1, ensure_ascii=False, allow_nan=False)
    with whole_file(path, replace=replace) as beside:
        beside.write_text(text + '\n', 'utf-8')


def read_json(path):
    """The object in a JSON file of at most 16 MB; InputError where there is none."""
    try:
        if os.path.getsize(path) > 1 << 24:
            raise ValueError('longer than 16 MB')
        content = json.loads(Path(path).read_text('utf-8'))
        if not isinstance(content, dict):
            raise ValueError('no object')
        return content
    except (OSError, ValueError, RecursionError) as e:
        reason = getattr(e, 'strerror', None) or ' '.join(str(e).split())[:100]
        raise InputError(f'{path}: expected a JSON file of settings ({reason})') from None


def make_folder(path):
    """The folder, made where it is missing; InputError where that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, 'Permission denied')
    except OSError as e:
        raise InputError(
            f'{path}: cannot write there ({e.strerror}); name another with --output'
        ) from None
    return Path(path)


# ------------------------------------------------------------------------ finding pictures


def list_pictures(source):
    """Sorted picture files of a folder or glob pattern; InputError where there are none.

    Hidden files (.DS_Store, ._x.png) and files of other kinds (Thumbs.db) are passed over.
    """
    source = Path(source)
    wild = next((i for i, part in enumerate(source.parts) if set(part) & set('*?[')), None)
    if source.is_dir():
        found = source.iterdir()
    elif wild is not None:
        found = Path(*source.parts[:wild]).glob(str(Path(*source.parts[wild:])))
    else:
        what = 'no such folder'
        if source.is_symlink():
            what = 'a symbolic link that leads nowhere or in a circle'
        elif source.exists():
            what = 'a file'
        raise InputError(f'{source}: expected a folder of pictures, found {what}')
    pictures = [p for p in found if p.suffix.lower() in PICTURES and p.name[0] != '.']
    files = sorted(p for p in pictures if not p.is_dir())
    if not files:
        raise InputError(f'{source}: expected pictures ({" ".join(PICTURES)}), found none')
    lost = next((p for p in files if not p.is_file()), None)
    if lost:
        raise InputError(f'{lost}: a symbolic link that leads nowhere or in a circle; take it out')
    return files


def find_pictures(paths):
    """Files, folders and globs -> picture files; InputError for what matches none."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            files += list_pictures(path)
        elif path.is_file():
            files.append(path)
        else:
            found = [Path(f) for f in sorted(glob.glob(str(path), recursive=True))]
            found = [f for f in found if f.suffix.lower() in PICTURES]
            if not found:
                raise InputError(f'{path}: expected a picture, a folder or a glob, found nothing')
            files += found
    return files


def unique_names(files, occupied=lambda name, file: False):
    """The stem of each file; what would be the same file name, on any disk, gets -2, -3, ...

    occupied: whether a name is another's already.
    """
    stems = [Path(file).stem for file in files]
    taken, seen, names = {stem.casefold() for stem in stems}, set(), []
    for stem, file in zip(stems, files):
        name, number = stem, 2
        while (
            name.casefold() in seen
            or (name != stem and name.casefold() in taken)
            or occupied(name, file)
        ):
            name, number = f'{stem}-{number}', number + 1
        seen.add(name.casefold())
        names.append(name)
    return names


# ------------------------------------------------------------------------ pairing

_WORD = 'masks?|labels?|labelids|trainids|l|gt|gtfine|seg|segmentation|annot|annotations?'
_WORD += '|images?|img|colou?r|rgb|sat|leftimg8bit'
_WORD = re.compile(rf'^(?:{_WORD})[-_. ]|(?:[-_. ](?:{_WORD}))+$', re.IGNORECASE)


def match_files(images, labels):
    """([(image, label)], [complaints]): files of two sources whose stems are the same, or are when
    words such as _mask, _label, _L or _image are taken off."""
    files, complaints = [list_pictures(images), list_pictures(labels)], []
    if files[0] == files[1]:
        raise InputError(f'{images}: images and labels are the same files; name two sources')
    label_files = set(files[1])
    files[0] = [p for p in files[0] if p not in label_files]  # '*.png' beside '*_mask.png'
    stems = [[unicodedata.normalize('NFC', p.stem) for p in f] for f in files]
    keyed = [{}, {}]
    for side, other in ((0, 1), (1, 0)):
        exact = set(stems[other])
        for path, stem in zip(files[side], stems[side]):
            key = stem if stem in exact else _WORD.sub('', stem) or stem
            if key in keyed[side]:
                raise InputError(
                    f'{path}: the same name as {keyed[side][key].name}, which of the two is meant? '
                    'take one out'
                )
            keyed[side][key] = path
    for side, what in ((0, f'label in {labels}'), (1, f'image in {images}')):
        ours, theirs = keyed[side], keyed[1 - side]
        alone = sorted(set(ours) - set(theirs))
        for key in alone[:1]:
            folded = {k.casefold(): k for k in theirs}
            near = difflib.get_close_matches(key, theirs, 1) or [None]
            near, case = folded.get(key.casefold(), near[0]), key.casefold() in folded
            complaints.append(
                f'{ours[key]}: no {what} of the same name'
                + (f' ({len(alone)} such files in {(images, labels)[side]})' if alone[1:] else '')
                + (f'; the nearest name is {theirs[near].name}' if near else '')
                + (', which differs in upper and lower case: rename one' if case else '')
            )
    return [(keyed[0][k], keyed[1][k]) for k in sorted(set(keyed[0]) & set(keyed[1]))], complaints


def pair_files(image_folder, label_folder):
    """[(image path, label path)] by file stem, in name order, of two folders or glob patterns.

    A label may be called as its image and _mask, _label, _L, _gt and the like.
    Raises: InputError names who lacks a partner, and the nearest name.
    """
    pairs, complaints = match_files(image_folder, label_folder)
    if complaints:
        raise InputError(complaints[0])
    return pairs


def split(pairs, fraction, seed=0):
    """(train pairs, val pairs), by a hash of each name: the same on every machine and, but for a
    few at the border, after more files have come."""
    if not 0 < fraction < 1 or len(pairs) < 2:
        raise InputError(
            f'validation split {fraction} of {len(pairs)} pairs: expected a fraction between 0 and '
            '1 and two pairs at least'
        )
    hashed = {p: hashlib.md5(f'{seed}:{p[0].stem}'.encode()).digest() for p in pairs}
    count = min(max(round(len(pairs) * fraction), 1), len(pairs) - 1)
    val = set(sorted(pairs, key=hashed.get)[:count])
    return [p for p in pairs if p not in val], [p for p in pairs if p in val]
