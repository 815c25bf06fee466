"""The files of a data set's folder, what they are, and which split their names say."""

import json
import os
import re
import unicodedata
from collections import Counter, defaultdict, namedtuple
from functools import cached_property
from pathlib import Path

from seg import tablefiles
from seg.files import InputError, is_picture
from seg.formats import open_picture
from seg.pairing import split_in, split_of

# splits: {name: [(image path, label path or Drawn)]}; legend: of what is drawn
FIELDS = 'layout why splits classes classes_from errors warnings notes legend'
Found = namedtuple('Found', FIELDS, defaults=(None, '', (), (), (), None))
MOST_FILES = 500_000
SKIPPED = (
    '__MACOSX',
    'testpred',
    'predicted',
    'SegmentationObject',
    'SegmentationClassVisualization',
)


def read_any(path):
    """What a JSON file holds; InputError where it is damaged."""
    try:
        with open(path, 'rb') as f:
            return json.loads(f.read())
    except (OSError, ValueError, RecursionError) as e:
        why, mend = ' '.join(str(e).split())[:100], 'replace the file, or take it out'
        mend = 'save it as UTF-8' if isinstance(e, UnicodeDecodeError) else mend
        raise InputError(f'{path}: damaged JSON ({why}); {mend}') from None


def kind_of(content):
    """Which tool's JSON this is, or ''."""
    if isinstance(content, list):
        for task in (task for task in content[:100] if isinstance(task, dict)):
            tasks = {'annotations', 'completions', 'predictions'} & {*task} and 'data' in task
            if tasks or any(results_of(value) for value in task.values()):
                return 'Label Studio'
        return ''
    keys = {*content} if isinstance(content, dict) else set()
    if {'shapes', 'imagePath'} <= keys:
        return 'labelme'
    if {'images', 'annotations', 'categories'} <= keys:
        return 'COCO'
    if {'objects', 'size'} <= keys:
        return 'Supervisely'
    return ''


def results_of(value):
    """The results that JSON-MIN keeps in a column of its own."""
    fine = isinstance(value, list) and value and isinstance(value[0], dict)
    return value if fine and 'original_width' in value[0] else []


def header_size(path):
    """(height, width) of a picture, upright, from its header."""
    picture = open_picture(path, decode=False)
    turned = picture.info['turned'] > 4 and picture.format != 'TIFF'
    return picture.size if turned else picture.size[::-1]


def lines_of(path):
    """The lines of a text file of UTF-8; InputError where it is none."""
    try:
        return path.read_text('utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f'{path}: expected a text file ({e})') from None


def _plain(name):
    """A name as other disks would have it."""
    return unicodedata.normalize('NFC', name).casefold()


class Tree:
    """The files of a folder and of those in it, without hidden ones, sorted."""

    def __init__(self, root):
        self.root, self.files, self._contents, self.damaged = Path(root), [], {}, []
        for folder, below, names in os.walk(root, followlinks=True):
            below[:] = sorted(n for n in below if n[0] != '.' and n not in SKIPPED)
            if {'settings.json', 'data.json'} <= {*names}:  # a run of ours
                below[:] = names = []
            if len(Path(folder).relative_to(root).parts) > 8:
                below[:] = []
            names = [name for name in sorted(names) if name[0] != '.']
            self.files += [p for name in names if (p := Path(folder) / name).is_file()]
            if len(self.files) > MOST_FILES:
                raise InputError(f'{root}: more than {MOST_FILES} files; name a folder within it')
        self.files.sort()

    @classmethod
    def of(cls, files):
        """The same of these files alone."""
        tree = cls.__new__(cls)
        tree.root = Path(os.path.commonpath([file.parent for file in files]))
        tree.files, tree._contents, tree.damaged = sorted({*files}), {}, []
        return tree

    def _of(self, *suffixes):
        return [f for f in self.files if f.suffix.lower() in suffixes]

    @cached_property
    def pictures(self):
        return [*filter(is_picture, self.files)]

    @cached_property
    def texts(self):
        return self._of('.txt')

    @cached_property
    def by_name(self):
        found = defaultdict(list)
        for path in self.pictures:
            found[_plain(path.name)].append(path)
        return found

    @cached_property
    def _by_stem(self):
        return {(p.parent, _plain(p.stem)): p for p in reversed(self.pictures)}

    def beside(self, file):
        """The picture of the same stem beside a file, or None."""
        return self._by_stem.get((file.parent, _plain(file.stem)))

    def picture(self, named, file, split=None):
        """The picture that `file` names by a path, of which folders may have changed; or None. Of
        several of that name the one whose path is most like what is named, then of the split, then
        nearest to the file; InputError where that tells two of them no more apart."""
        parts = [_plain(part) for part in re.split(r'[\\/]+', named.strip()) if part]
        found = self.by_name.get(parts[-1], ()) if parts else ()
        if len(found) < 2:
            return found[0] if found else None
        near = {*map(_plain, (*file.relative_to(self.root).parts[:-1], file.stem))}

        def likeness(path):
            tail = [*map(_plain, path.relative_to(self.root).parts)]
            same = sum(tail[-i:] == parts[-i:] for i in range(1, 1 + len(parts)))
            beside = len(os.path.commonpath([path.parent, file.parent]))
            agrees = split is not None and split_of(path.relative_to(self.root).parts[:-1]) == split
            return same, agrees, len({*tail[:-1]} & near), beside

        best, other = sorted(found, key=likeness)[:-3:-1]
        if likeness(best) == likeness(other):
            line = f'{file}: names the picture {named}, and there are {other} and {best}'
            raise InputError(f'{line}; say which in the file, or name a folder with one')
        return best

    @cached_property
    def _json_kinds(self):
        """{folder: kinds of its JSON files}, by the first three that are of any kind."""
        kinds, seen = defaultdict(set), Counter()
        for path in self._of('.json'):
            if seen[path.parent] < 3:
                try:
                    kind = kind_of(self.content(path))
                    kinds[path.parent].add(kind)
                    seen[path.parent] += bool(kind)
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

    @cached_property
    def by_stem(self):
        """{stem: the picture that lies highest}."""
        deepest = sorted(self.pictures, key=lambda p: -len(p.parts))
        return {path.stem: path for path in deepest}

    def split(self, file, named=None):
        """Which split a file's folders say, or before them the name of a whole set's file, or what
        the set's file says itself; train where they say none."""
        said = split_in(named or '')
        return said or split_of(file.relative_to(self.root).parts[:-1]) or 'train'

    def classes(self):
        """Path of the class table that lies highest, or None."""
        folders = sorted({f.parent for f in self.files}, key=lambda f: (len(f.parts), f))
        return tablefiles.find_classes(self.root, *folders[:200])
