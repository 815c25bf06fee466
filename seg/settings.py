"""Each knob once: name, default, type, help, group. Flags, --help, presets, settings.json follow.
Resolved once, in this order: flags, over --config FILE, over the preset, over what the data say.
"""

import argparse
import dataclasses
import math
import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seg.files import InputError, nearest_name, read_json

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / 'weights/camvid-best.hdf5'  # what `--preset best` gave on CamVid


def number(kind, low, high):
    """A parser of numbers from low to high, for argparse, as the next two are."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # also refuses nan
            what = 'a whole number' if kind is int else 'a number'
            wanted = f'expected {what} of {low} to {high if kind is int else f"{high:g}"}'
            raise argparse.ArgumentTypeError(f'{wanted}, found {text}')
        return value

    parse.__name__, parse.metavar = kind.__name__, {int: 'N', float: 'X'}[kind]
    return parse


def one_of(*choices):
    """A parser of one of these words or numbers."""
    words = {str(choice): choice for choice in choices}

    def parse(text):
        if text not in words:
            found = f'expected {" or ".join(words)}, found {text}'
            raise argparse.ArgumentTypeError(found + nearest_name(text, words))
        return words[text]

    shown = ','.join(words)
    parse.metavar = f'{{{shown}}}' if len(shown) < 20 else 'NAME'
    return parse


def height_width(text):
    """'360x480' -> (360, 480)."""
    match = re.fullmatch(r'(\d{1,5})x(\d{1,5})', text.lower())
    sides = tuple(map(int, match.groups())) if match else ()
    if not all(16 <= side <= 8192 for side in sides or [0]):
        wanted = 'HEIGHTxWIDTH as in 360x480, sides of 16 to 8192 pixels'
        raise argparse.ArgumentTypeError(f'expected {wanted}, found {text}')
    return sides


def file_name(*suffixes):
    """A parser of paths with one of these suffixes."""

    def parse(text):
        if Path(text).suffix not in suffixes:
            wanted = ' or '.join(suffixes)
            raise argparse.ArgumentTypeError(
                f'expected a name that ends with {wanted}, found {text}'
            )
        return text

    parse.metavar = 'FILE'
    return parse


def saves(text):
    """'colour,index' -> ('colour', 'index')."""
    names = tuple(word.strip() for word in text.split(','))
    if not {*names} <= {*SAVES}:
        wanted = f'some of {",".join(SAVES)}'
        raise argparse.ArgumentTypeError(f'expected {wanted}, found {text}')
    return names


saves.metavar = 'LIST'
height_width.metavar = 'HxW'
SAVES = ('colour', 'index', 'probability', 'overlay', 'objects')
MINUTES = number(float, 0.2, 10**5)
COUNT, STEPS, SHARE = number(int, 1, 1024), number(int, 1, 10**6), number(float, 0, 1)
EPOCHS = number(int, 0, 10**6)
FOLDS = number(int, 2, 20)
MODEL = file_name('.hdf5', '.h5', '.keras')
LOSSES = ('categorical_crossentropy', 'binary_crossentropy', 'mse', 'rmse', 'focal', 'dice')
ENCODERS = ('none', 'efficientnet-lite0', 'efficientnet-lite2', 'efficientnetv2b0', 'mobilenetv2')
EXPORTS = ('onnx', 'litert', 'savedmodel', 'web')
GROUPS = dict(data='data (only read)', filters='network', loss='training')  # by their first field
GROUPS |= dict(model='the trained model', output='masks')


def knob(default, kind, help, later=False):
    """A field. kind: a parser, a tuple of choices, bool, or the word that --help shows for a text;
    later: whether it may change when a run is resumed."""
    return dataclasses.field(default=default, metadata=dict(kind=kind, help=help, later=later))


@dataclass(frozen=True)
class Settings:
    """Every setting of a run. The defaults are the article's; --help prints the texts."""

    preset: str = knob('article', None, '')
    data: str = knob('CamVid', 'FOLDER', 'pictures and their labels, in any layout')
    images: str = knob(None, 'WHERE', 'pictures of your own: a folder or a pattern ...')
    labels: str = knob(None, 'WHERE', '... and their labels, of the same names')
    val_images: str = knob(None, 'WHERE', 'pictures to validate on ...')
    val_labels: str = knob(None, 'WHERE', '... and their labels')
    train_list: str = knob(None, 'FILE', 'a picture a line, or a picture and its label ...')
    val_list: str = knob(None, 'FILE', '... and those to validate on')
    val_split: float = knob(
        0.2, number(float, 0, 0.99), 'share kept for validation, where no folder is'
    )
    classes: str = knob(None, 'FILE', 'name,r,g,b[,role] a line (default classes.csv by the data)')
    num_class: int = knob(
        None, number(int, 1, 255), 'how many, without a table; 1: one sigmoid channel'
    )
    size: tuple = knob(None, height_width, 'resize pictures to HEIGHTxWIDTH, as 360x480')
    crop: tuple = knob(
        None, height_width, 'learn from crops of this size, of pictures at their own scale'
    )
    resize: str = knob(
        'pad', ('pad', 'stretch'), 'how to reach --size: keep the aspect and pad, or stretch'
    )
    seed: int = knob(1, number(int, 0, 2**32 - 1), 'of all that is random')

    filters: int = knob(64, COUNT, 'channels of level 1; 16 is 15 times faster')
    stride: int = knob(1, (1, 2), '2: work at half resolution inside, a quarter of the arithmetic')
    dilated: bool = knob(False, bool, 'dilated convolutions at the bottom level')
    residual: bool = knob(False, bool, 'the second convolution of each pair adds to the first')
    batch_norm: bool = knob(True, bool, 'normalise after each convolution (default)')
    fusion: str = knob(
        'concat',
        ('concat', 'add'),
        'how skip connections join: concat as in the U-Net, add as in FCN',
    )
    encoder: str = knob('none', ENCODERS, 'a pretrained network in place of the contracting path')
    encoder_weights: str = knob(
        'imagenet', 'FILE', 'of --encoder: imagenet, none, or a file that Keras wrote'
    )
    activation: str = knob(None, ('softmax', 'relu', 'sigmoid'), 'of the output layer')

    loss: str = knob(None, (*LOSSES, 'crossentropy+dice'), 'default categorical_crossentropy')
    class_weights: bool = knob(False, bool, 'rare classes count more: 1/ln(1.10 + their share)')
    border_weights: bool = knob(False, bool, 'narrow gaps between objects count more (U-Net paper)')
    batch_size: int = knob(2, COUNT, 'pictures a step')
    devices: int = knob(1, number(int, 1, 64), 'GPUs here that share each batch', later=True)
    steps: int = knob(100, STEPS, 'steps an epoch')
    epochs: int = knob(20, EPOCHS, 'of --steps each; 0: what --weights gives, scored', later=True)
    minutes: float = knob(None, MINUTES, 'end after so many, with the best that they allow')
    grow: float = knob(
        0.0, SHARE, 'share of the epochs, the first ones, with pictures of half the sides'
    )
    optimizer: str = knob('adam', ('adam', 'muon'), 'muon: fewer steps to the same score')
    learning_rate: float = knob(1e-3, number(float, 0, 1e9), 'of the optimizer')
    encoder_rate: float = knob(0.2, SHARE, "share of it for the encoder's pretrained layers")
    freeze: bool = knob(False, bool, 'leave the encoder as it is; train the decoder alone')
    schedule: str = knob(
        'constant', ('constant', 'cosine'), 'of the rate; cosine: it warms up, then sinks to 0'
    )
    weight_decay: float = knob(0.0, number(float, 0, 10), 'of AdamW; 0 is Adam')
    ema: float = knob(
        0.0,
        number(float, 0, 0.9999),
        'keep an average of the weights, of this momentum, as 0.998; 0: none',
    )
    bfloat16: bool = knob(
        None, bool, 'half precision, the default on GPUs since 2020; for AVX-512 BF16, AMX, too'
    )
    monitor: str = knob(
        'val_loss', ('val_loss', 'val_miou'), 'the score by which the best epoch is kept'
    )
    patience: float = knob(
        0.0, SHARE, 'stop when such a share of the run has brought no gain; 0: never'
    )
    folds: int = knob(None, FOLDS, 'train so many networks, each validated on its own part')
    fold: int = knob(None, number(int, 1, 20), 'of --folds this one alone', later=True)
    augment: str = knob(None, 'LIST', "of those that --help-all lists (default the article's)")
    aug_dict: dict = knob(None, None, "ImageDataGenerator's arguments, where augment is None")
    weights: str = knob(None, 'FILE', 'start from this model; from the mean of those of a pattern')
    teacher: str = knob(None, 'FILE', 'learn also from what this model, a better one, paints')
    changed_data: bool = knob(
        False, bool, '--resume although the data have changed since', later=True
    )
    log: str = knob('log', 'FOLDER', 'where the folders of runs lie', later=True)

    model: str = knob('camvid.hdf5', MODEL, 'the trained model, written or read', later=True)
    output: str = knob(
        None, 'FOLDER', 'where masks go (default: to the run, or predicted/)', later=True
    )
    save: tuple = knob(
        ('colour', 'overlay'),
        saves,
        f'what to write of each picture: some of {",".join(SAVES)}',
        later=True,
    )
    opacity: float = knob(0.5, SHARE, 'of the colours in overlays', later=True)
    side_by_side: bool = knob(False, bool, 'picture and mask instead of overlays', later=True)
    flip: bool = knob(
        False, bool, 'also paint the mirrored picture, take the mean: a bit better', later=True
    )
    tile: tuple = knob(
        None, height_width, 'paint pictures at their own scale, in tiles of this size', later=True
    )
    overlap: int = knob(None, number(int, 0, 4096), 'of tiles, in pixels', later=True)

    def __post_init__(self):
        if self.fold and not self.folds:
            raise InputError(f'--fold {self.fold}: expected --folds beside it; add --folds 5')
        if self.fold and self.fold > self.folds:
            found = f'--fold {self.fold} of --folds {self.folds}'
            raise InputError(f'{found}: expected 1 to {self.folds}; name one of them')


FIELDS = {f.name: f for f in dataclasses.fields(Settings)}
FLAGS = [name for name, f in FIELDS.items() if f.metadata['kind']]
# What --help shows without a verb, and what of the verbs; --help-all shows the rest, too.
FIRST = {*'data images labels size filters epochs minutes weights model output'.split()}
COMMON = {*'classes num_class encoder class_weights batch_size steps learning_rate'.split()}
COMMON |= FIRST | {'augment', 'folds'}


def _flag(name, on=True):
    return ('--' if on else '--no-') + name.replace('_', '-')


def add_flags(parser, names, shown=FLAGS):
    """Give an argparse parser the flags of these fields, in their groups; help is of those `shown`
    alone."""
    title, groups = '', {}
    for name, f in FIELDS.items():
        title = GROUPS.get(name, title)
        if name not in names:
            continue
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        kind, text = f.metadata['kind'], f.metadata['help']
        if isinstance(kind, tuple):
            listed = ': ' + ', '.join(map(str, kind))
            kind = one_of(*kind)
            text += listed * (kind.metavar == 'NAME')
        if f.default is not None and kind is not bool:
            default = ','.join(f.default) if isinstance(f.default, tuple) else f.default
            text += f' (default {default})'
        if kind is bool:
            options = {'action': argparse.BooleanOptionalAction}
        else:
            options = {'metavar': kind} if isinstance(kind, str) else {'type': kind}
            options = {'metavar': getattr(kind, 'metavar', None)} | options
        text = text if name in shown else argparse.SUPPRESS
        groups[title].add_argument(_flag(name), help=text, **options)


def read_settings(path):
    """{name: value} of a settings.json, checked as the flags are; InputError for what is none."""
    content = read_json(path)
    content = content.get('settings', content)
    if not isinstance(content, dict):
        raise InputError(f'{path}: settings: expected an object of names and values')
    unknown = [name for name in content if name not in FIELDS]
    if unknown:
        near = nearest_name(unknown[0], FIELDS)
        raise InputError(f'{path}: {unknown[0]!r} is no setting{near}')
    if not isinstance(content.get('aug_dict') or {}, dict):
        raise InputError(f'{path}: aug_dict: expected arguments of ImageDataGenerator')
    words = []
    for name, value in content.items():
        if '\0' in str(value):
            raise InputError(f'{path}: {name}: expected a text, found one with a zero byte in it')
        if name in FLAGS and isinstance(value, bool):
            words.append(_flag(name, value))
        elif name in FLAGS and value is not None:
            words_in = ',' if FIELDS[name].metadata['kind'] is saves else 'x'
            value = words_in.join(map(str, value)) if isinstance(value, list) else value
            words.append(f'{_flag(name)}={value}')

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            message = ' '.join(message.split()).removeprefix('argument ')
            raise InputError(f'{path}: {message}')

    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    add_flags(parser, FLAGS)
    kept = {k: v for k, v in content.items() if v is not None or FIELDS[k].default is None}
    return kept | vars(parser.parse_args(words))


def resolve(flags, presets):
    """Settings: flags {name: value}, over the file that flags['config'] names, over the preset."""
    config = read_settings(flags['config']) if 'config' in flags else {}
    name = str(flags.get('preset') or config.get('preset') or Settings.preset)
    if name not in presets:
        wanted = f'expected {" or ".join(presets)}, found {name}'
        raise InputError(f'--preset: {wanted}{nearest_name(name, presets)}')
    given = {k: v for k, v in flags.items() if k in FIELDS}
    chosen = Settings(**(presets[name] | config | given | {'preset': name}))
    if chosen.border_weights and chosen.num_class == 1:
        wanted = 'expected two classes or more, found --num-class 1; try --num-class 2'
        raise InputError(f'--border-weights: {wanted}')
    if 'encoder_weights' in flags and chosen.encoder == 'none':
        raise InputError('--encoder-weights changes nothing without --encoder; name one')
    if not chosen.epochs and (chosen.minutes or not chosen.weights):
        wanted = 'expected --weights and no minutes beside it, for nothing is learned'
        raise InputError(f'--epochs 0: {wanted}')
    if 'minutes' in flags and 'steps' in flags:
        raise InputError('--minutes and --steps: expected one of them, the time or the steps')
    return chosen


def effective(network):
    """({name: value} of settings that a network, a modelfile.About, was trained with; the same of
    those at their defaults), as people read them: what was left open as it came to be, and nothing
    that has no say in its training or that another setting switches off."""
    given, rule = network.settings, network.rule
    one = given.get('num_class') == 1
    came = dict(num_class=len(network.classes), activation='sigmoid' if one else 'softmax')
    came |= dict(loss=('binary' if one else 'categorical') + '_crossentropy')
    came |= dict(size=(rule.height, rule.width) if rule.fixed else None)
    off = {*'changed_data log model output save opacity side_by_side flip tile overlap'.split()}
    instead = dict(augment='aug_dict', images='data', minutes='steps')
    off |= {other for name, other in instead.items() if given.get(name) is not None}
    if given.get('encoder', 'none') == 'none':
        off |= {'encoder_weights', 'encoder_rate', 'freeze'}
    chosen, default = {}, {}
    for name in [name for name in FIELDS if name in given and name not in off]:
        value = came.get(name) if given[name] is None else given[name]
        where = default if value == FIELDS[name].default else chosen
        if isinstance(value, (list, tuple)):
            value = 'x'.join(map(str, value))
        if value is not None:
            where[name] = {True: 'yes', False: 'no'}[value] if isinstance(value, bool) else value
    return chosen, default


def versions():
    """{package: installed version or None} of requirements.txt."""
    found = {}
    for required in _requirements():
        try:
            found[required.name] = version(required.name)
        except PackageNotFoundError:
            found[required.name] = None
    return found


def own_version():
    """The version of this program."""
    return tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))['project']['version']


def version_note():
    """One line where a package is missing or outside the tested versions, else ''."""
    found = versions()
    wrong = [
        f'{r.name} {found[r.name] or "missing"} (tested: {r.specifier})'
        for r in _requirements()
        if not found[r.name] or not r.specifier.contains(found[r.name], prereleases=True)
    ]
    mend = '; `pip install -r requirements.txt` fixes it.'
    return f'Note: outside the tested versions: {", ".join(wrong)}{mend}' if wrong else ''


def _requirements():
    from packaging.requirements import Requirement

    lines = (ROOT / 'requirements.txt').read_text('utf-8').splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith('#')]
