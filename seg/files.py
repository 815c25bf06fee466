"""Files: what is wrong in one line, writing all of one or nothing, finding."""

import csv
import difflib
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import time
import zlib
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

PICTURES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.gif', '.webp')
PICTURES += ('.npy', '.nii', '.nii.gz', '.dcm')
MANY = ('.tif', '.tiff', '.npy', '.nii', '.nii.gz', '.dcm')  # of which one may hold several
VIDEOS = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.mts', '.m2ts')
VIDEOS += ('.wmv', '.flv', '.ogv', '.3gp')
MARK = 'unet-camvid'  # in the first 2048 bytes of every file that this program writes for people
# As it stands in JSON, PNG, JPEG and HTML: the name alone may be that of a folder in a path.
MARKS = (b'{\n "program": "', b'Software\0', b'\xff\xfe\0\r', b'name="generator" content="')
MARKS = tuple(before + MARK.encode() for before in MARKS) + (
    f'{MARK} mask'.encode(),
    b'picture,class,area,row,column',
    b'picture,given,likely,area',
    b'rank,picture,score',
)
_serial = count()


class InputError(ValueError):
    """What a user did wrong, in one line: what was expected, what was found, what to do."""


def is_picture(path):
    """Whether a name ends as those of pictures do."""
    return os.path.basename(path).lower().endswith(PICTURES)


def is_video(path):
    """Whether a name ends as those of videos do."""
    return os.path.basename(path).lower().endswith(VIDEOS)


def natural(path):
    """What sorts paths by their numbers: 2 before 10."""
    return [int(w) if w.isdecimal() else w for w in re.split(r'(\d+)', str(path))]


def suffix_of(path):
    """The suffix in lower case, .nii.gz whole."""
    name = os.path.basename(path).lower()
    return '.nii.gz' if name.endswith('.nii.gz') else os.path.splitext(name)[1]


def file_of(path):
    """The file on disk that a picture's path means: a page of a stack is a path below it."""
    parent = Path(path).parent
    return parent if suffix_of(parent) in MANY and parent.is_file() else Path(path)


def counted(n, what):
    """'1 mask', '2 masks', '1,000 masks'."""
    return f'{n:,} {what}' + ('es' if what.endswith('s') else 's') * (n != 1)


def nearest_name(name, names):
    """'; did you mean X?' where one of `names` is near, else nothing: the end of an error line."""
    near = difflib.get_close_matches(str(name), [str(n) for n in names], 1)
    return f'; did you mean {near[0]}?' if near else ''


def is_ours(path):
    """Whether this program wrote the file, which may then be written anew."""
    head = head_of(path)
    return any(mark in head for mark in MARKS)


def head_of(path):
    """The first 2048 bytes of a file, unpacked; none of one that cannot be read."""
    try:
        with (gzip.open if str(path).endswith('.gz') else open)(path, 'rb') as f:
            return f.read(2048)
    except (OSError, EOFError, zlib.error):
        return b''


def refuse_foreign(path, ours=is_ours):
    """InputError where `path` is there and this program did not write it."""
    there = os.path.isfile(path) or os.path.isdir(path)
    if os.path.lexists(path) and not (there and ours(path)):
        what = 'exists, and this program did not write it'
        raise InputError(f'{path}: {what}; move it away or name another place')


def refuse_folder(folder, read=()):
    """InputError where pictures must not be written to `folder`: it is one of the folders `read`,
    under whatever name, or holds pictures that this program did not write."""
    if not Path(folder).is_dir():
        return
    for place in read:
        if os.path.isdir(place) and os.path.samefile(place, folder):
            raise InputError(f'{folder}: pictures are read there; name another --output')
    for path in sorted(Path(folder).iterdir()):
        if is_picture(path) and path.name[0] != '.':
            refuse_foreign(path)


def folders_of(files):
    """Where files lie, and what they link to."""
    files = [*map(file_of, files)]
    linked = {file.resolve().parent for file in files if file.is_symlink()}
    return {file.parent for file in files} | linked


def check_target(path, ours=is_ours):
    """InputError where `path` could not be written: said before the work of which it is the end."""
    refuse_foreign(path, ours)
    beside = _beside(Path(path))
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long
        beside.touch()
        beside.unlink()
    except (OSError, ValueError) as e:  # ValueError: a name that is none
        raise not_written(path, e) from None


def _beside(path):
    return path.with_name(f'.{path.stem[:50]}.{os.getpid()}-{next(_serial)}.part{path.suffix}')


def not_written(path, error):
    """The InputError of a file or folder that `error` kept from being written."""
    number, why = getattr(error, 'errno', None), ' '.join(str(error).split())[:150]
    room, parent = 1, Path(path).parent
    if number is None and parent.is_dir():  # h5py, zipfile and Pillow may leave it out
        room = shutil.disk_usage(parent).free >> 20
    if number == errno.ENOSPC or not room:
        why = 'the disk is full (No space left)'
    return InputError(f'{path}: could not be written, {why}; name another place')


@contextmanager
def whole_file(path, durable=True, replace=False):
    """Gives a path beside `path` to write to and moves that into place: all of it or nothing, so
    that a save that is killed leaves the old file and two programs may write the same at once.
    durable: it survives a power cut, too; replace: a file whoever wrote it, else only one of ours.
    InputError where it fails, or `path` is somebody else's."""
    path = Path(path)
    if not replace:
        refuse_foreign(path)
    beside = _beside(path)
    try:
        yield beside
        if durable:
            with open(beside, 'rb+') as f:
                os.fsync(f.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as e:
        raise not_written(path, e) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path):
    """The same for a folder, which takes the place of one that is there."""
    path = Path(path)
    beside, old = _beside(path), _beside(path)
    try:
        yield beside
        if path.is_dir():
            os.replace(path, old)
        os.replace(beside, path)
    except OSError as e:
        raise not_written(path, e) from None
    finally:
        if old.is_dir() and not path.exists():
            os.replace(old, path)
        for folder in (beside, old):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder, doing):
    """Hold the lock of a folder; InputError where another program has it, which is `doing` what it
    locks for. The system takes it from a program that ends in whatever way."""
    try:
        file = open(Path(folder) / 'lock', 'a')
    except OSError as e:
        raise not_written(Path(folder) / 'lock', e) from None
    with file:
        if not _lock(file) and not time.sleep(0.1) and not _lock(file):  # `is_locked` is brief
            raise InputError(f'{folder}: another program is {doing}; wait for it, or end it first')
        yield


def _lock(file):
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a disk without locks
        pass
    return True


def is_locked(folder):
    try:
        with locked(folder, ''):
            return False
    except InputError:
        return True


def copy_whole(source, target, replace=False):
    """Copy a file whole or not at all, see `whole_file`."""
    with whole_file(target, durable=replace, replace=replace) as beside:
        shutil.copyfile(source, beside)


def remove_parts(folder):
    """Remove what saves that were killed left in `folder`, an hour ago or earlier."""
    for part in Path(folder).glob('.*.part*'):
        ours = re.fullmatch(r'\..+\.\d+-\d+\.part(\.\w+)?', part.name)
        with suppress(OSError):
            if ours and time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def write_json(path, content, replace=False):
    """`content` as JSON, whole or not at all; `program` is its first key, but where `replace` says
    that none but this call may replace it."""
    mark = {} if replace else {'program': MARK}
    text = json.dumps(mark | content, indent=1, ensure_ascii=False, allow_nan=False)
    with whole_file(path, replace=replace) as beside:
        beside.write_text(text + '\n', 'utf-8', 'surrogatepass')  # file names may be no text


def write_csv(path, rows):
    """Rows as CSV, whole or not at all; MARKS has to know how its first row begins."""
    with whole_file(path, durable=False) as beside:
        with open(beside, 'w', encoding='utf-8-sig', errors='surrogateescape', newline='') as f:
            csv.writer(f).writerows(rows)  # the mark at its beginning is for Excel


def read_json(path, most=1 << 24, what='settings'):
    """The object in a JSON file of at most 16 MB; InputError where there is none."""
    try:
        with open(path, 'rb') as f:
            content = json.loads(f.read(most))
        if isinstance(content, dict):
            return content
        reason = 'no object'
    except (OSError, ValueError, RecursionError) as e:
        reason = getattr(e, 'strerror', None) or ' '.join(str(e).split())[:100]
    raise InputError(f'{path}: expected a JSON file of {what} ({reason})')


def make_folder(path):
    """The folder, made where it is missing; InputError where that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, 'Permission denied')
    except OSError as e:
        raise InputError(f'{path}: not writable ({e.strerror}); name another --output') from None
    return Path(path)


def is_pattern(path):
    """Whether a path is a glob that names several."""
    return bool({*'*?['} & {*str(path)})


def shown_in(source):
    """What is in a folder, or fits a glob pattern, but for hidden files (.DS_Store, ._x.png)."""
    source, found = Path(source), ()
    if source.is_dir():
        found = [*source.iterdir()]
    elif is_pattern(source):  # '**' is any folders, or all in them, but within a name one '*'
        parts = [p if p == '**' else re.sub(r'\*+', '*', p) for p in source.parts]
        parts += ['*'] if parts[-1] == '**' else []
        found = [*Path(source.anchor).glob('/'.join(parts).lstrip('/'))]
        found += [
            p for folder in found if '**' not in parts and folder.is_dir() for p in folder.iterdir()
        ]
    named = {*source.parts}
    return [p for p in found if not any(part[0] == '.' for part in {*p.parts} - named)]


def list_pictures(source, expected='a folder or a pattern of pictures'):
    """Sorted picture files of a folder or glob pattern, without other kinds (Thumbs.db);
    InputError where there are none, or a link leads nowhere."""
    source, found = Path(source), shown_in(source)
    files = sorted(p for p in found if is_picture(p) and not p.is_dir())
    if source.is_file() and suffix_of(source) in MANY:
        files = [source]
    if source.is_symlink() and not source.exists():
        raise InputError(f'{source}: a symbolic link that leads nowhere; name another')
    if not files:
        what = 'a file' if source.is_file() else 'nothing'
        what += '; --train-list takes lists' if source.suffix == '.txt' else ''
        if is_pattern(source) or source.is_dir():
            what = f'none ({" ".join(PICTURES)})'
            other = {suffix_of(p) for p in found if p.is_file()} & {'.npz', '.mat'}
            what += f'; save the arrays in {other.pop()} files as .npy' if other else ''
        raise InputError(f'{source}: expected {expected}, found {what}')
    return files


def unique_names(files, occupied=lambda name, file: False):
    """The stem of each file; what would be the same file name, on any disk, gets -2, -3, ...;
    occupied: whether a name is another's already."""
    stems = [Path(str(file).removesuffix('.gz')).stem for file in files]
    names = {}  # {folded: name}
    reserved, free = {stem.casefold() for stem in stems}, {}  # {folded: its first free number}
    for stem, file in zip(stems, files):
        name, folded = stem, stem.casefold()
        first = free.get(folded, 2)
        while f'{folded}-{first}' in names:  # the next of its name need not look there again
            first += 1
        free[folded] = first
        others = (f'{stem}-{i}' for i in count(first) if f'{folded}-{i}' not in reserved)
        while name.casefold() in names or occupied(name, file):
            name = next(others)
        names[name.casefold()] = name
    return [*names.values()]


def split(pairs, fraction, seed=0, group=lambda pair: pair[0].stem):
    """(train pairs, val pairs), by a hash of each group: the same on every machine and, but for a
    few at the border, after more files have come. A group, by default a name, is never divided."""
    n = len(pairs)
    if not 0 < fraction < 1 or n < 2:
        raise InputError(f'validation fraction {fraction} of {n} pairs: expected 0 to 1 of 2 pairs')
    val = set()
    for held in _by_lot(pairs, seed, group):
        if not val or len(val) + len(held) <= min(max(round(n * fraction), 1), n - 1):
            val |= {*held}
    return [p for p in pairs if p not in val], [p for p in pairs if p in val]


def deal(pairs, count, seed, group):
    """`count` parts of pairs, about equal, by the same hash; a group is never divided: from the
    largest on, each goes to the part that has the fewest pairs yet."""
    parts = [[] for _ in range(count)]
    for held in sorted(_by_lot(pairs, seed, group), key=len, reverse=True):
        min(parts, key=len).extend(held)
    return parts


def _by_lot(pairs, seed, group):
    """[pairs of a group], in the order of the groups' hashes."""
    groups = {}
    for pair in pairs:
        groups.setdefault(group(pair), []).append(pair)
    hashed = {key: hashlib.md5(f'{seed}:{key}'.encode()).digest() for key in groups}
    return [groups[key] for key in sorted(groups, key=hashed.get)]
