"""Each knob once: name, default, type, help, group. Flags, --help, presets, settings.json follow.

Resolved once, in this order: flags, over --config FILE, over the preset, over what the data say.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seg.files import InputError, nearest_name, read_json

ROOT = Path(__file__).resolve().parents[1]


# ------------------------------------------------------------------------ types of knobs


def number(kind, low, high):
    """A parser of numbers from low to high, for argparse."""

    def parse(text):
        value = kind(text)
        if not low <= value <= high:  # also refuses nan
            raise argparse.ArgumentTypeError(f'expected {low} to {high}, got {text}')
        return value

    parse.__name__ = kind.__name__
    return parse


def height_width(text):
    """'360x480' -> (360, 480), for argparse."""
    try:
        height, width = (int(side) for side in text.lower().split('x'))
    except ValueError:
        message = f'expected HEIGHTxWIDTH as in 360x480, got {text}'
        raise argparse.ArgumentTypeError(message) from None
    if not (16 <= height <= 8192 and 16 <= width <= 8192):
        raise argparse.ArgumentTypeError(f'expected sides of 16 to 8192 pixels, got {text}')
    return height, width


def file_name(*suffixes):
    """A parser of paths with one of these suffixes, for argparse."""

    def parse(text):
        if Path(text).suffix.lower() not in suffixes:
            message = f'expected a name that ends with {" or ".join(suffixes)}, got {text}'
            raise argparse.ArgumentTypeError(message)
        return text

    return parse


def knob(default, kind, help, later=False):
    """A field. kind: a parser, a tuple of choices, bool, or the word that --help shows for a text;
    later: whether it may change when a run is resumed."""
    return dataclasses.field(default=default, metadata=dict(kind=kind, help=help, later=later))


MODEL_FILE, SHARE = file_name('.hdf5', '.h5', '.keras'), number(float, 0, 1)
LOSSES = ('categorical_crossentropy', 'binary_crossentropy', 'mse', 'rmse', 'focal', 'dice')
GROUPS = {  # the first field of each group: its title
    'data': 'data (only read)',
    'filters': 'network',
    'loss': 'training',
    'model': 'the trained model',
    'output': 'masks',
}


# ------------------------------------------------------------------------ the settings


@dataclass(frozen=True)
class Settings:
    """Every setting of a run. The defaults are the article's; --help prints the texts."""

    preset: str = knob('article', 'NAME', '')
    data: str = knob(
        'CamVid', 'FOLDER', 'folder with train, trainannot, val, valannot, test[, testannot]'
    )
    images: str = knob(None, 'WHERE', 'pictures of your own: a folder or a pattern ...')
    labels: str = knob(None, 'WHERE', '... and their labels, of the same names')
    val_split: float = knob(
        None, number(float, 0.01, 0.99), 'share kept for validation where there is no val folder'
    )
    classes: str = knob(
        None,
        'FILE',
        'class table: name,r,g,b[,role] a line (default: classes.csv beside the data, else what '
        'the labels hold)',
    )
    num_class: int = knob(
        None, number(int, 1, 255), 'number of classes without a table; 1: one sigmoid channel'
    )
    size: tuple = knob(
        None, height_width, "network's input, labels nearest (default the pictures' own size)"
    )
    resize: str = knob(
        'pad', ('pad', 'stretch'), 'to --size: keep the aspect and pad, or stretch (default pad)'
    )
    seed: int = knob(1, number(int, 0, 2**32 - 1), 'of everything random')

    filters: int = knob(
        64, number(int, 1, 1024), 'channels of the first level; 16 is 12 times faster'
    )
    stride: int = knob(
        1,
        (1, 2),
        '2: enter at half resolution, leave at full; a quarter of the arithmetic (default 1)',
    )
    dilated: bool = knob(False, bool, 'dilated convolutions at the bottom level')
    residual: bool = knob(False, bool, 'the second convolution of each pair adds to the first')
    batch_norm: bool = knob(True, bool, 'normalise after each convolution (default)')
    fusion: str = knob('concat', ('concat', 'add'), 'concat: U-Net (default); add: as FCN')
    activation: str = knob(None, ('softmax', 'relu', 'sigmoid'), 'of the output')

    loss: str = knob(
        None, (*LOSSES, 'crossentropy+dice'), 'default categorical_crossentropy; void carries none'
    )
    class_weights: bool = knob(
        False, bool, 'rare classes count more: 1/ln(1.10 + share of the training pixels)'
    )
    batch_size: int = knob(2, number(int, 1, 1024), 'images a step')
    steps: int = knob(100, number(int, 1, 10**6), 'steps an epoch')
    epochs: int = knob(20, number(int, 1, 10**6), 'epochs', later=True)
    optimizer: str = knob(
        'adam',
        ('adam', 'muon'),
        'muon: fewer steps to the same score, each a little slower (default adam)',
    )
    learning_rate: float = knob(1e-3, number(float, 0, 1e9), 'of the optimizer')
    schedule: str = knob(
        'constant',
        ('constant', 'cosine'),
        'of the learning rate; cosine: warm-up, then down to 0 at the end (default constant)',
    )
    weight_decay: float = knob(0.0, number(float, 0, 10), 'of AdamW; 0 is Adam')
    ema: float = knob(
        0.0,
        number(float, 0, 0.9999),
        'score and keep a moving average of the weights, of this momentum: 0.998 is over about '
        '500 steps; 0: the last weights',
    )
    bfloat16: bool = knob(
        False,
        bool,
        'multiply in bfloat16, the file stays float32: a third off a step where the processor '
        '(AVX-512 BF16, AMX) or GPU can',
    )
    monitor: str = knob(
        'val_loss',
        ('val_loss', 'val_miou'),
        'which epoch is best and kept (default val_loss)',
    )
    augment: str = knob(
        None,
        'LIST',
        'augmentations, as in scale=0.75-1.6,flip,jitter (listed below; default the '
        "article's aug_args; none: none)",
    )
    aug_dict: dict = knob(None, None, '')  # ImageDataGenerator's arguments, where augment is None
    weights: str = knob(None, 'FILE', 'start from the weights of this model')
    log: str = knob('log', 'FOLDER', 'TensorBoard and run files', later=True)

    model: str = knob('camvid.hdf5', MODEL_FILE, 'copy of the best model', later=True)
    output: str = knob(
        None,
        'FOLDER',
        "where masks go (default the run's folder; of predict alone predicted/)",
        True,
    )
    opacity: float = knob(0.5, SHARE, 'of the colours in overlays', later=True)
    side_by_side: bool = knob(False, bool, 'picture and mask instead of overlays', later=True)
    flip: bool = knob(
        False, bool, 'average with the mirrored picture: slower, a little better', later=True
    )


FIELDS = {f.name: f for f in dataclasses.fields(Settings)}
FLAGS = [name for name, f in FIELDS.items() if f.metadata['kind'] and name != 'preset']


def flag(name):
    return '--' + name.replace('_', '-')


def add_flags(parser, names):
    """Give an argparse parser the flags of these fields, in their groups."""
    group, unit = None, {'int': 'N', 'float': 'X', 'height_width': 'HxW'}
    for name in FIELDS:
        group = GROUPS.get(name, group)
        if name not in names:
            continue
        title = next((g for g in parser._action_groups if g.title == group), None)
        title = title or parser.add_argument_group(group)
        kind, text, options = FIELDS[name].metadata['kind'], FIELDS[name].metadata['help'], {}
        if kind is bool:
            options['action'] = argparse.BooleanOptionalAction
        elif isinstance(kind, str):
            options['metavar'] = kind
        elif isinstance(kind, tuple):
            options |= dict(choices=kind, type=type(kind[0]))
        else:
            options |= dict(type=kind, metavar=unit.get(kind.__name__, 'FILE'))
        default = FIELDS[name].default
        if 'default' not in text and default is not None and kind is not bool:
            text += f' (default {default})'
        title.add_argument(flag(name), help=text, **options)


def as_flags(settings):
    """A dict of settings as a command line, so that a file is checked as the flags are."""
    words = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else flag(name).replace('--', '--no-', 1))
        elif value is not None:
            value = 'x'.join(map(str, value)) if isinstance(value, list | tuple) else value
            words.append(f'{flag(name)}={value}')
    return words


def read_settings(path):
    """{name: value} of a settings.json; InputError for a name or a value that is none."""
    content = read_json(path)
    content = content.get('settings', content)
    content.pop('program', None)
    unknown = [name for name in content if name not in FIELDS]
    if unknown:
        raise InputError(f'{path}: {unknown[0]!r} is no setting{nearest_name(unknown[0], FIELDS)}')
    if not isinstance(content.get('aug_dict') or {}, dict):
        raise InputError(f'{path}: aug_dict: expected arguments of ImageDataGenerator')

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise InputError(f'{path}: {message}')

    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    add_flags(parser, FLAGS)
    read = vars(parser.parse_args(as_flags({n: v for n, v in content.items() if n in FLAGS})))
    return {name: read.get(name, content[name]) for name in content}


def resolve(flags, presets, preset):
    """Settings: flags {name: value}, over the file that flags['config'] names, over the preset."""
    config = read_settings(flags['config']) if 'config' in flags else {}
    name = flags.get('preset') or config.get('preset') or preset
    if name not in presets:
        raise InputError(f'preset {name!r}: expected one of {", ".join(presets)}')
    given = {k: v for k, v in flags.items() if k in FIELDS}
    return Settings(**(presets[name] | config | given | {'preset': name}))


# ------------------------------------------------------------------------ versions


def requirements():
    """(name, installed version or None, requirement) of each line of requirements.txt."""
    from packaging.requirements import Requirement

    for line in (ROOT / 'requirements.txt').read_text('utf-8').splitlines():
        if line and not line.startswith('#'):
            required = Requirement(line)
            try:
                yield required.name, version(required.name), required
            except PackageNotFoundError:
                yield required.name, None, required


def versions():
    """{package: installed version or None} of requirements.txt."""
    return {name: found for name, found, _ in requirements()}


def version_note():
    """One line where a package is missing or outside the tested versions, else ''."""
    wrong = [
        f'{name} {found or "missing"} (tested: {required.specifier})'
        for name, found, required in requirements()
        if found is None or not required.specifier.contains(found, prereleases=True)
    ]
    what = 'Note: outside the tested versions: ' + ', '.join(wrong)
    return what + '; `pip install -r requirements.txt` mends it.' if wrong else ''
