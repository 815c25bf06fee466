"""Which pictures are kept for validation, or make a fold, so that nothing leaks into training."""

import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from seg import pictures
from seg.files import InputError, deal, file_of, natural, split
from seg.formats import MAX_PIXELS, open_picture
from seg.pairing import split_of


def hold_out(pairs, settings):
    """([(train pairs, val pairs)], notes): one, of settings.val_split, or settings.folds of them,
    where each pair is in one val. What belongs together is not divided, for a network that has seen
    the next frame, slice or tile of a validation picture scores what it knows by heart: whole
    groups by the names before their last number; where neighbours look alike and there are few
    groups, the last in order, or blocks. InputError for more folds than that gives."""
    share, seed, folds = settings.val_split, settings.seed, settings.folds
    paths = _without_place(pairs) if folds else {pair: pair[0] for pair in pairs}
    what = f'{folds} folds' if folds else 'validation'

    def group(pair):
        return str(paths[pair].parent / re.sub(r'[\W_]*\d+$', '', paths[pair].stem))

    def refuse_few(found, what):
        if folds and found < folds:
            mend = f'--folds {found} divides them' if found > 1 else 'add more'
            raise InputError(f'--folds {folds}: expected as many {what}, found {found}; {mend}')

    def parts(key, what):
        refuse_few(len({*map(key, pairs)}), what)
        held = deal(pairs, folds, seed, key) if folds else [split(pairs, share, seed, key)[1]]
        return [_apart(pairs, part) for part in held]

    count, ordered = len({*map(group, pairs)}), sorted(pairs, key=lambda pair: natural(paths[pair]))
    alike = _alike([pair[0] for pair in ordered])
    stacks = any(file_of(image) != image for image, _ in pairs)
    if count >= (2 if stacks else 4 if alike else 10) and 2 * count <= len(pairs):
        first = Path(group(pairs[0])).name
        note = f'{what}: whole groups, of {count} that the names tell, the first {first}...'
        return parts(group, 'groups of pictures by name'), [note]
    if not alike:
        stems = {image.stem for image, _ in pairs}
        unique = len(stems) == len(pairs)  # else in the folders of patients, or of pictures
        lots = parts(
            lambda p: paths[p].stem if unique else '/'.join(paths[p].parts[-3:]), 'pictures'
        )
        note = (
            f'{what}: {len(lots[0][1])} of {len(pairs)} pictures, chosen at random; where several'
        )
        note += ' show one scene or patient, scores are too good: name those GROUP-NUMBER'
        return lots, [note]
    n, total = min(max(round(len(pairs) * share), 1), len(pairs) - 1), len(pairs)
    cuts = [total * i // folds for i in range(folds + 1)] if folds else [total - n, total]
    refuse_few(total, 'pictures')
    place = f'{what} are blocks of {cuts[1]} or so' if folds else f'{what} is the last {n}'
    note = f'neighbours look alike, as frames of a video and slices do: {place} in order'
    note += '; the first of them still look like pictures of the training'
    return [_apart(ordered, ordered[a:b]) for a, b in pairwise(cuts)], [note]


def _apart(pairs, part):
    """(pairs without those of part, those), in their order."""
    part = {*part}
    return [p for p in pairs if p not in part], [p for p in pairs if p in part]


def _without_place(pairs):
    """{pair: its image's path below what all have in common, without folders such as train and val
    where it is still another's}: the same on every machine, and of a video in both."""
    whole = {pair: Path(os.path.abspath(pair[0])) for pair in pairs}
    root = os.path.commonpath([path.parent for path in whole.values()] or ['/'])
    named = {pair: path.relative_to(root) for pair, path in whole.items()}
    short = {
        pair: Path(*(part for part in path.parts[:-1] if not split_of([part])), path.name)
        for pair, path in named.items()
    }
    return short if len({*short.values()}) == len(pairs) else named


def _alike(paths):
    """Whether neighbours differ by less than 0.6 of what pictures far apart do, as 16x16 greys:
    0.1 to 0.3 for frames of CamVid, 0.6 for every tenth, 0.9 to 1.1 for single pictures."""
    n = len(paths)
    if n < 6:
        return False

    @cache
    def small(i):
        picture = Image.fromarray(pictures.viewable(paths[i % n]))
        return np.asarray(picture.convert('L').resize((16, 16)), float)

    def apart(i, step):
        return np.abs(small(i) - small((i + step) % n)).mean()

    try:
        width, height = open_picture(paths[0], decode=False).size
        if width * height > MAX_PIXELS:  # nobody films these
            return False
        most = 20 if width * height < 1 << 22 else 6  # of large ones fewer, for time
        places = np.linspace(0, n - 2, min(most, n - 1)).astype(int).tolist()
        near, far = (np.median([apart(i, step) for i in places]) for step in (1, n // 2))
    except InputError:  # a damaged picture: it is named elsewhere
        return False
    return near < 0.6 * far
