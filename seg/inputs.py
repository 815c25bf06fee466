"""What a network gets of a set's pictures, decided once: size rule, channels, range of values."""

import numpy as np

from seg import pictures
from seg.files import MANY, InputError, suffix_of
from seg.formats import open_picture
from seg.sizes import STEP, SizeRule

LARGE = 1 << 20  # pixels; of larger pictures, and of several sizes, a network learns by crops
CROP = 384  # pixels a side, as many as CamVid's 360x480


def rule_of(settings, data):
    """The SizeRule of the images; None where there is none."""
    seen = data.seen(0, 'train', 'val') or data.seen(0)  # others may be of any size
    sizes = {g.shape for g in seen.values()}
    if settings.crop and settings.size:
        raise InputError('--crop and --size: expected one of them, crops or resized pictures')
    if settings.crop:
        return SizeRule('tile', *(-(-side // STEP) * STEP for side in settings.crop))
    if settings.size:
        high, wide = settings.size
        if sizes and all((h - w) * (high - wide) < 0 for h, w in sizes):
            h, w = next(iter(sizes))
            line = f'--size {high}x{wide} is {high} high and {wide} wide, but pictures are {h}x{w}'
            data.warnings.append(f'{line}: --size {wide}x{high}, if width came first')
        return SizeRule(settings.resize, *settings.size)
    if not sizes:
        return None
    (h, w), (most_h, most_w) = min(sizes), max(sizes)
    if len(sizes) == 1 and h * w <= LARGE:
        if min(h, w) < 16:
            found = f'pictures are {h}x{w} pixels; a network takes sides of 16 or more'
            data.errors.append(f'{found}: add --size, as --size 256x256')
        return SizeRule('whole', h, w)
    side = np.median([min(size) for size in sizes]) // STEP * STEP
    side = int(min(max(side, 2 * STEP), CROP))
    found = f'pictures of {h}x{w}' + f' to {most_h}x{most_w}' * (len(sizes) > 1)
    how = f'learned by crops of {side}x{side} at their own scale, painted whole or in tiles'
    data.notes.append(f'{found}: {how}; --crop names another size, --size resizes them instead')
    return SizeRule('tile', side, side)


def _is_alpha(path):
    """Whether the last band is what it is said to be: opaque or clear nearly everywhere. GDAL and
    tifffile call any fourth band alpha, such as near infrared."""
    last = np.asarray(open_picture(path))[..., -1]
    most = np.iinfo(last.dtype).max if last.dtype.kind in 'iu' else 1
    return np.isin(last, (0, most)).mean() > 0.95


def _channels_of(data):
    """How many channels the images have: bands, without alpha where that is one."""
    images = data.seen(0)
    said = [p for p, g in images.items() if g.alpha and g.mode != 'LA' and suffix_of(p) in MANY]
    try:
        bands = said and not all(map(_is_alpha, said[:: -(-len(said) // 8)]))
    except InputError:  # a damaged one is named elsewhere
        bands = False
    found = {}
    for path, g in images.items():
        found.setdefault(g.bands - (g.alpha and not bands), path)
    if {*found} <= {1, 3}:
        return max(found, default=3)
    if len(found) > 1:
        (few, a), (many, b) = sorted(found.items())[:2]
        data.errors.append(f'{a}: {few} bands, but {b} has {many}; save all of them alike')
    return max(found)


def _range_of(values, axis):
    """(low, high) of values (n, bands), of all or, with axis 0, of each band: that of 10, 12, 14 or
    16 bits which they fill, else what all but a few at either end lie in."""
    low, high = np.percentile(values, (0.5, 99.5), axis)
    if axis is None and values.min() >= 0 and (values % 1 == 0).all():
        for top in (2**bits - 1 for bits in (10, 12, 14, 16)):
            if 0.98 * top <= values.max() <= top and high > top / 4:
                return 0.0, float(top)
    ends = low.tolist(), np.maximum(high, low + 1e-6).tolist()
    return tuple(tuple(end) if isinstance(end, list) else end for end in ends)


def decide(settings, data):
    """{'rule', 'channels', 'intensity'} of the images; of more than 8 bits the (low, high) of all
    values but for a few at either end, of each band by itself where they are no colours."""
    images, intensity = data.seen(0), pictures.EIGHT_BITS
    channels = _channels_of(data)
    cut = [p for p, g in images.items() if g.cut]
    if cut and np.percentile(pictures.viewable(cut[0]), 99.5) < 64:
        line = '16 bits a colour, of which 8 are read, and too dark for them'
        data.errors.append(f'{cut[0]}: {line}; save it with 8 bits a colour, its range stretched')
    deep = [p for p, g in images.items() if pictures.is_deep(g.mode)]
    shallow = [p for p, g in images.items() if not pictures.is_deep(g.mode)]
    if deep and shallow:
        data.errors.append(f'{shallow[0]}: 8 bits, but {deep[0]} has more; save all of them alike')
    elif deep:
        samples = []
        for path in deep[:: -(-len(deep) // 32)]:  # at most 32 pictures, 100,000 values of each
            try:
                samples.append(pictures.sample(path, 100_000)[:, :channels])
            except InputError as e:
                data.errors.append(str(e))
                data.looked[path] = str(e)
        values = np.concatenate(
            [s for s in samples if s.shape[1] == samples[0].shape[1]] or [[[0]]]
        )
        intensity = _range_of(values, 0 if channels not in (1, 3) else None)
    return {'channels': channels, 'intensity': intensity, 'rule': rule_of(settings, data)}
