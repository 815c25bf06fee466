"""What may change an image, and its label with it: every name in one table, and who reads it.
parse('scale=0.75-1.6,flip,cutmix@0.5').pair(image, label, seed) changes one picture, .mix a batch.
Each name is a function's in seg/transforms.py, imported, and TensorFlow with it, at its first call.
"""

import inspect
import re
from collections import namedtuple
from functools import partial
from numbers import Real

from seg.files import InputError, nearest_name

# Functions: pair(image, label, seed), and mix(images, one_hot, seed) or None.
Augmentation = namedtuple('Augmentation', 'pair mix', defaults=[None])
# style of the strength S: '+-' is -S..S or LOW-HIGH, 'x' is 1/(1+S)..1+S or LOW-HIGH, '' is S
Operation = namedtuple('Operation', 'family style default high meaning')
OPERATIONS = {
    'scale': Operation('geometry', 'x', 0.5, 9, 'magnification'),
    'rotate': Operation('geometry', '+-', 10, 180, 'degrees'),
    'shear': Operation('geometry', '+-', 10, 80, 'degrees'),
    'shift': Operation('geometry', '+-', 0.1, 1, 'share of the side'),
    'elastic': Operation('geometry', '', 10, 100, 'deviation in pixels of a 3x3 grid of shifts'),
    'flip': Operation('geometry', '', 0.5, 1, 'probability of mirroring left-right'),
    'vflip': Operation('geometry', '', 0.5, 1, 'probability of mirroring upside down'),
    'gamma': Operation('colour', 'x', 0.5, 9, 'exponent'),
    'brightness': Operation('colour', '+-', 0.2, 1, 'added to 0..1'),
    'hue': Operation('colour', '+-', 0.05, 0.5, 'turns of the colour circle'),
    'saturation': Operation('colour', 'x', 0.5, 9, 'distance from grey'),
    'contrast': Operation('colour', 'x', 0.5, 9, 'distance from the mean grey'),
    'noise': Operation('colour', '', 0.1, 1, 'largest deviation of Gaussian noise'),
    'channel_shift': Operation('colour', '+-', 0.1, 1, 'added to each channel'),
    'jitter': Operation('colour', '', 0.2, 1, 'brightness, contrast and saturation'),
    'augmix': Operation('colour', '', 0.3, 1, "severity of AugMix's colour chains"),
    'cutout': Operation('dropping', '', 0.5, 2, 'side of a square / shorter side'),
    'erasing': Operation('dropping', '', 0.4, 1, 'largest area of a patch of noise'),
    'gridmask': Operation('dropping', '', 0.4, 1, 'side / distance of squares'),
    'hide': Operation('dropping', '', 0.5, 1, 'probability of hiding each patch'),
    'mixup': Operation('mixing', '', 0.4, 100, "alpha of Mixup's Beta"),
    'cutmix': Operation('mixing', '', 1, 100, "alpha of CutMix's Beta"),
    'fmix': Operation('mixing', '', 1, 100, "alpha of FMix's Beta"),
    'classmix': Operation('mixing', '', 0.5, 1, 'share of classes that is pasted'),
}
FAMILIES = {
    'geometry': 'geometry, all in one warp; what the picture does not supply has no class',
    'colour': 'colour, the label untouched',
    'dropping': 'dropping; NAME:void also drops the label there',
    'mixing': 'mixing, within a batch, image and label alike',
}
_STATISTICS = 'featurewise_center samplewise_center zca_whitening'.split()
_STATISTICS += ['featurewise_std_normalization', 'samplewise_std_normalization']
_WHY = 'it moves images out of 0..1, which prediction would have to repeat'
REFUSED = dict.fromkeys(_STATISTICS, (False, _WHY)) | {  # name -> (neutral value, why)
    'rescale': (None, 'images leave the pipeline in 0..1 already'),
    'preprocessing_function': (None, 'it would change the image without its label'),
    'data_format': ('channels_last', 'channels come last here'),
    'validation_split': (0.0, 'validation has a folder of its own'),
    'interpolation_order': (1, 'images are warped bilinearly, labels nearest-neighbour'),
    'dtype': ('float32', 'images are float32'),
}
CHANCE = r'(@(0?\.\d+|[01](\.0*)?))?'
FILL_MODES = ('nearest', 'reflect', 'wrap', 'constant')


def help_text():
    """The grammar and every name with its default, range and meaning."""
    text = """NAME[=STRENGTH][@PROBABILITY],... with
  S: a number, 0 changes nothing; +-S: -S to S, or LOW-HIGH; xS: a factor from
  1/(1+S) to 1+S, or LOW-HIGH"""
    for family, title in FAMILIES.items():
        text += f'\n{title}'
        for name, o in OPERATIONS.items():
            start, span = f'{name}={o.default}', f'{o.style}0 to {o.high}'
            text += f'\n  {start:20} {span:10} {o.meaning}' if o.family == family else ''
    return text


def _perform(steps, x, y, seed):
    from seg.transforms import perform

    return perform(steps, x, y, seed)


def _strength(name, text):
    """What stands behind NAME=; InputError with what was expected."""
    o, number = OPERATIONS[name], r'([+-]?(?:\d+\.?\d*|\.\d+))'
    spans = {'+-': (-o.high, o.high), 'x': (1 / (1 + o.high), 1 + o.high), '': (1, 0)}
    low, high = spans[o.style]  # of LOW-HIGH
    match = re.fullmatch(f'{number}(?:-{number})?', text)
    value = match and (tuple(map(float, match.groups())) if match[2] else float(match[1]))
    if match and (low <= value[0] <= value[1] <= high if match[2] else 0 <= value <= o.high):
        return value
    span = f'0 to {o.high}' + (f', or LOW-HIGH from {low:g} to {high:g}' if o.style else '')
    raise InputError(f'--augment {name}={text}: expected {span} ({o.meaning})')


def parse(text):
    """'scale=0.75-1.6,flip,jitter=0.2,cutmix@0.5' -> Augmentation, geometry first, in one warp, the
    rest in the order written; '' or 'none' changes nothing. InputError for a name that is none
    (with the nearest), or a strength out of range."""
    geometric, pairs, mixes, seen, text = {}, [], [], set(), ''.join(text.split())
    for part in text.split(',') if text not in ('', 'none') else ():
        match = re.fullmatch('([^=@:]*)(=[^@:]*)?(:[^@]*)?(@.*)?', part)
        name, strength, void, probability = match.groups('')
        if name not in OPERATIONS:
            hint = nearest_name(name, OPERATIONS) or '; --help-all lists them'
            raise InputError(f'--augment {name!r}: there is no such augmentation{hint}')
        o = OPERATIONS[name]
        voids = ('', ':void') if o.family == 'dropping' else ('',)
        for expected, met in {
            f'{name} once': name not in seen,
            ':void after cutout, erasing, gridmask or hide alone': void in voids,
            'no @, for geometry is one warp': o.family != 'geometry' or not probability,
            'a probability of 0 to 1 after @': re.fullmatch(CHANCE, probability),
        }.items():
            if not met:
                raise InputError(f'--augment {part}: expected {expected}')
        seen.add(name)
        strength = _strength(name, strength[1:]) if strength else o.default
        if o.family == 'geometry':
            geometric[name] = strength
            continue
        steps, stream = (mixes, 101) if o.family == 'mixing' else (pairs, 11)
        arguments = {'strength': strength} | ({'void': True} if void else {})
        probability = float(probability[1:] or 1) if strength else 0
        steps.append((name, arguments, probability, stream + len(steps)))
    if geometric:
        pairs.insert(0, ('geometry', geometric, 1, None))
    return Augmentation(partial(_perform, pairs), partial(_perform, mixes) if mixes else None)


def from_aug_dict(aug_dict):
    """Arguments of Keras' ImageDataGenerator, the article's augmentation -> Augmentation. They mean
    what they mean there, where images are of 0..255, and move the label too; None or empty changes
    nothing. InputError for one that is unknown, refused or out of range."""
    if not aug_dict:
        return Augmentation(partial(_perform, ()))
    import numpy as np
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    known = inspect.signature(ImageDataGenerator).parameters
    for name, value in aug_dict.items():
        several = name.startswith(('width', 'height', 'zoom', 'brightness')) and np.iterable(value)
        numbers = value if several else [value]
        finite = all(isinstance(n, Real) and np.isfinite(n) for n in numbers)
        wrong = None
        if name not in known:
            wrong = f'no argument of ImageDataGenerator{nearest_name(name, known)}'
        elif name in REFUSED and value not in (REFUSED[name][0], None, False):
            wrong = f'refused: {REFUSED[name][1]}'
        elif name == 'fill_mode' and value not in (None, *FILL_MODES):
            wrong = f'expected one of {", ".join(FILL_MODES)}'
        elif (name == 'cval' or name.endswith('_range')) and not (finite or value is None):
            wrong = 'expected finite numbers'  # Keras would fail in the middle of a training
        if wrong:
            raise InputError(f'augmentation {name}={value!r}: {wrong}')
    try:
        generator = ImageDataGenerator(**{k: v for k, v in aug_dict.items() if v is not None})
    except (ValueError, TypeError) as e:
        raise InputError(f'augmentation: {" ".join(str(e).split())}') from None
    step = 'image_data_generator', {'generator': generator}, 1, 11
    return Augmentation(partial(_perform, [step]))


def preview_cells(pairs, num_class, text='', seed=1):
    """[(caption, image uint8, label uint8)]: the first of two pairs [(image uint8 (H, W, C), label
    uint8 (H, W))] as it is, then under each augmentation of `text`, or every one there is, mixed
    with the second: of six draws, the one that changes most, or of a mixture the median."""
    import numpy as np

    from seg import losses

    images, labels = map(np.stack, zip(*pairs))
    images, one_hot = images / np.float32(255), losses.one_hot(labels, num_class)
    cells = [('untouched', *pairs[0])]
    for part in text.split(',') if text else [f'{n}={o.default}' for n, o in OPERATIONS.items()]:
        augmentation, draws = parse(part), []
        for k in range(6):
            if augmentation.mix:
                _, *draw = batch_cells(*augmentation.mix(images, one_hot, (seed, k)))[0]
            else:
                image, label = augmentation.pair(images[0], labels[0], (seed, k))
                draw = np.round(image * 255).astype(np.uint8), np.asarray(label)
            draws.append(draw)
        draws.sort(key=lambda draw: np.abs(draw[0] - np.float32(pairs[0][0])).mean())
        cells.append((part.strip(), *draws[3 if augmentation.mix else -1]))
    return cells


def batch_cells(images, one_hot, first=0):
    """A batch of training as cells: [('sample k', image uint8, label uint8)], k from `first`; the
    label is the largest class where labels are mixed."""
    import numpy as np

    from seg.classes import NO_CLASS

    images, one_hot = np.round(images * 255).astype(np.uint8), np.asarray(one_hot)
    labels = np.where(one_hot.any(-1), one_hot.argmax(-1), NO_CLASS)
    if one_hot.shape[-1] == 1:
        labels = np.where(one_hot < 0, NO_CLASS, one_hot >= 0.5)[..., 0]
    captions = [f'sample {k}' for k in range(first, first + len(images))]
    return list(zip(captions, images, labels.astype(np.uint8)))
