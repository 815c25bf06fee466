"""What may change an image, and its label with it: every name in one table, and who reads it.

    augmentation = parse('scale=0.75-1.6,flip,jitter=0.2,cutmix@0.5')
    augmentation = from_aug_dict(dict(rotation_range=10, horizontal_flip=True))
    image, label = augmentation.pair(image, label, seed)
    images, one_hot = augmentation.mix(images, one_hot, seed)

Each name is a function's in seg/transforms.py, which is imported, and TensorFlow with it, when one
is first called: the command line's help reads the table alone.
"""

import inspect
import re
from collections import namedtuple
from functools import partial
from numbers import Real

from seg.files import InputError, nearest_name

# style of the strength: 'either' -S..S or LOW-HIGH; 'factor' 1/(1+S)..1+S or LOW-HIGH; 'number' S
Operation = namedtuple('Operation', 'family style default high meaning')
OPERATIONS = {
    'scale': Operation('geometry', 'factor', 0.5, 9, 'magnification'),
    'rotate': Operation('geometry', 'either', 10, 180, 'degrees'),
    'shear': Operation('geometry', 'either', 10, 80, 'degrees'),
    'shift': Operation('geometry', 'either', 0.1, 1, 'share of the side'),
    'flip': Operation('geometry', 'number', 0.5, 1, 'probability of mirroring left-right'),
    'vflip': Operation('geometry', 'number', 0.5, 1, 'probability of mirroring upside down'),
    'gamma': Operation('colour', 'factor', 0.5, 9, 'exponent'),
    'brightness': Operation('colour', 'either', 0.2, 1, 'added to 0..1'),
    'hue': Operation('colour', 'either', 0.05, 0.5, 'turns of the colour circle'),
    'saturation': Operation('colour', 'factor', 0.5, 9, 'distance from grey'),
    'contrast': Operation('colour', 'factor', 0.5, 9, 'distance from the mean grey'),
    'noise': Operation('colour', 'number', 0.1, 1, 'largest deviation of Gaussian noise'),
    'channel_shift': Operation('colour', 'either', 0.1, 1, 'added to each channel'),
    'jitter': Operation('colour', 'number', 0.2, 1, 'brightness, contrast and saturation'),
    'augmix': Operation('colour', 'number', 0.3, 1, "severity of AugMix's colour chains"),
    'cutout': Operation('dropping', 'number', 0.5, 2, 'side of a square / shorter side'),
    'erasing': Operation('dropping', 'number', 0.4, 1, 'largest area of a patch of noise'),
    'gridmask': Operation('dropping', 'number', 0.4, 1, 'side / distance of squares'),
    'hide': Operation('dropping', 'number', 0.5, 1, 'probability of hiding each patch'),
    'mixup': Operation('mixing', 'number', 0.4, 100, "alpha of Mixup's Beta"),
    'cutmix': Operation('mixing', 'number', 1, 100, "alpha of CutMix's Beta"),
    'fmix': Operation('mixing', 'number', 1, 100, "alpha of FMix's Beta"),
    'classmix': Operation('mixing', 'number', 0.5, 1, 'share of classes that is pasted'),
}
FAMILIES = {
    'geometry': 'geometry, all in one warp; what the picture does not supply has no class',
    'colour': 'colour, the label untouched',
    'dropping': 'dropping; NAME:void also drops the label there',
    'mixing': 'mixing, within a batch, image and label alike',
}
_STATISTICS = 'it moves images out of 0..1, which prediction would have to repeat'
REFUSED = {  # arguments of ImageDataGenerator without a place here -> (neutral value, why)
    'featurewise_center': (False, _STATISTICS),
    'samplewise_center': (False, _STATISTICS),
    'featurewise_std_normalization': (False, _STATISTICS),
    'samplewise_std_normalization': (False, _STATISTICS),
    'zca_whitening': (False, _STATISTICS),
    'rescale': (None, 'images leave the pipeline in 0..1 already'),
    'preprocessing_function': (None, 'it would change the image without its label'),
    'data_format': ('channels_last', 'channels come last here'),
    'validation_split': (0.0, 'validation has a folder of its own'),
    'interpolation_order': (1, 'images are warped bilinearly, labels nearest-neighbour'),
    'dtype': ('float32', 'images are float32'),
}
FILL_MODES = ('nearest', 'reflect', 'wrap', 'constant')


def help_text():
    """The grammar and every name with its default, range and meaning."""
    lines = [
        'NAME[=STRENGTH][@PROBABILITY],... with',
        '  S: a number, 0 changes nothing; +-S: -S to S, or LOW-HIGH; xS: a factor from',
        '  1/(1+S) to 1+S, or LOW-HIGH',
    ]
    for family, title in FAMILIES.items():
        lines.append(title)
        for name, o in OPERATIONS.items():
            if o.family == family:
                span = {'either': '+-', 'factor': 'x', 'number': ''}[o.style] + f'0 to {o.high}'
                lines.append(f'  {f"{name}={o.default}":20} {span:10} {o.meaning}')
    return '\n'.join(lines)


class Augmentation:
    """What `parse` or `from_aug_dict` has read: pair(image, label, seed), a pair function, and
    mix(images, one_hot, seed), a mixing function or None. Args: their steps, see `perform`.
    """

    def __init__(self, pairs=(), mixes=()):
        self.pair = partial(_perform, pairs)
        self.mix = partial(_perform, mixes) if mixes else None


def _perform(steps, x, y, seed):
    from seg.transforms import perform  # and TensorFlow with it

    return perform(steps, x, y, seed)


def _strength(name, text):
    """What stands behind NAME=; InputError with what was expected."""
    o, number = OPERATIONS[name], r'[+-]?(?:\d+\.?\d*|\.\d+)'
    spans = {'either': (-o.high, o.high), 'factor': (1 / (1 + o.high), 1 + o.high)}
    low, high = spans.get(o.style, (1, 0))  # a 'number' has no LOW-HIGH
    match = re.fullmatch(rf'({number})(?:-({number}))?', text)
    value = match and (tuple(map(float, match.groups())) if match[2] else float(match[1]))
    if match and (low <= value[0] <= value[1] <= high if match[2] else 0 <= value <= o.high):
        return value
    expected = f'0 to {o.high}' + (f', or LOW-HIGH from {low:g} to {high:g}' if low < high else '')
    raise InputError(f'--augment {name}={text}: expected {expected} ({o.meaning})')


def parse(text):
    """'scale=0.75-1.6,flip,jitter=0.2,cutmix@0.5' -> Augmentation; '' or 'none' changes nothing.

    Geometry comes first, in one warp; the rest follows in the order written.
    Raises: InputError for a name that is none (with the nearest), or a strength out of range.
    """
    geometric, pairs, mixes, seen, text = {}, [], [], set(), ''.join(text.split())
    for part in text.split(',') if text not in ('', 'none') else ():
        groups = re.fullmatch('([^=@:]*)(?:=([^@:]*))?(:[^@]*)?(?:@(.*))?', part).groups()
        name, strength, void, probability = groups
        if name not in OPERATIONS:
            hint = nearest_name(name, OPERATIONS) or '; --help lists them'
            raise InputError(f'--augment {name!r}: there is no such augmentation{hint}')
        o, expected = OPERATIONS[name], None
        if name in seen:
            expected = f'{name} once'
        elif void not in (None, ':void') or void and o.family != 'dropping':
            expected = ':void after cutout, erasing, gridmask or hide alone'
        elif probability is not None and o.family == 'geometry':
            expected = 'no @, for geometry is one warp'
        elif not re.fullmatch(r'0?\.\d+|[01](\.0*)?', '1' if probability is None else probability):
            expected = 'a probability of 0 to 1 after @'
        if expected:
            raise InputError(f'--augment {part}: expected {expected}')
        seen.add(name)
        strength = o.default if strength is None else _strength(name, strength)
        if o.family == 'geometry':
            geometric[name] = strength
            continue
        steps, stream = (mixes, 101) if o.family == 'mixing' else (pairs, 11)
        arguments = {'strength': strength} | ({'void': True} if void else {})
        probability = float(probability or 1) if strength else 0
        steps.append((name, arguments, probability, stream + len(steps)))
    return Augmentation([('geometry', geometric, 1, None)] * bool(geometric) + pairs, mixes)


def from_aug_dict(aug_dict):
    """The article's augmentation: arguments of Keras' ImageDataGenerator -> Augmentation.

    They mean what they mean there, where images are of 0..255, and move the label too. None or
    empty changes nothing. Raises: InputError for one that is unknown, refused or out of range.
    """
    if not aug_dict:
        return Augmentation()
    import numpy as np
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    known = inspect.signature(ImageDataGenerator).parameters
    for name, value in aug_dict.items():
        if name not in known:
            nearest = nearest_name(name, known)
            raise InputError(f'augmentation {name!r} is no argument of ImageDataGenerator{nearest}')
        if name in REFUSED and value not in (REFUSED[name][0], None, False):
            raise InputError(f'augmentation {name}={value!r} is refused: {REFUSED[name][1]}')
    given = {name: value for name, value in aug_dict.items() if value is not None}
    try:
        generator = ImageDataGenerator(**given)
    except (ValueError, TypeError) as e:
        raise InputError(f'augmentation: {" ".join(str(e).split())}') from None
    mode, modes = generator.fill_mode, ', '.join(FILL_MODES)
    if mode not in FILL_MODES:
        raise InputError(f'augmentation fill_mode={mode!r}: expected one of {modes}')
    for name, value in given.items():  # Keras itself would fail in the middle of a training
        several = name.startswith(('width', 'height', 'zoom', 'brightness')) and np.ndim(value) > 0
        numbers = value if several else [value]
        finite = all(isinstance(n, Real) and np.isfinite(n) for n in numbers)
        if not finite and (name == 'cval' or name.endswith('_range')):
            raise InputError(f'augmentation {name}={value!r}: expected finite numbers')
    return Augmentation([('image_data_generator', {'generator': generator}, 1, 11)])


def preview_cells(pairs, num_class, text='', seed=1):
    """One picture under each augmentation of `text` by itself, or under every one there is.

    Args: pairs: two pairs (image uint8 (H, W, C), label uint8 (H, W)) of one size; the first is
        shown, the second is what it is mixed with.
    Returns: [(caption, image uint8, label uint8)], the untouched picture first. Of six draws
        the one that changes most is shown, or for mixing, the median.
    """
    import numpy as np

    images, labels = (np.stack(x) for x in zip(*pairs))
    images = images / np.float32(255)
    one_hot = np.float32(labels[..., None] == np.arange(num_class))
    if num_class == 1:  # 1 foreground, 0 background, -1 no class
        one_hot = np.where(labels > 1, -1, np.float32(labels))[..., None]
    cells = [('untouched', *pairs[0])]
    for part in text.split(',') if text else [f'{n}={o.default}' for n, o in OPERATIONS.items()]:
        augmentation, draws = parse(part), []
        for k in range(6):
            if augmentation.mix:
                _, image, label = batch_cells(*augmentation.mix(images, one_hot, (seed, k)))[0]
            else:
                image, label = augmentation.pair(images[0], labels[0], (seed, k))
                image = np.round(image * 255).astype(np.uint8)
            draws.append((np.abs(image - np.float32(pairs[0][0])).mean(), k, image, label))
        image, label = sorted(draws)[3 if augmentation.mix else -1][2:]
        cells.append((part.strip(), image, np.asarray(label)))
    return cells


def batch_cells(images, one_hot, first=0):
    """A batch of training as cells: [('sample k', image uint8, label uint8)], k from `first`.

    Where labels are mixed, the largest class is shown.
    """
    import numpy as np

    from seg.classes import NO_CLASS

    images, one_hot = np.round(images * 255).astype(np.uint8), np.asarray(one_hot)
    if one_hot.shape[-1] == 1:
        labels = np.where(one_hot < 0, NO_CLASS, one_hot >= 0.5)[..., 0]
    else:
        labels = np.where(one_hot.any(-1), one_hot.argmax(-1), NO_CLASS)
    captions = [f'sample {k}' for k in range(first, first + len(images))]
    return list(zip(captions, images, labels.astype(np.uint8)))
