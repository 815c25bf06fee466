"""Model files: saved whole, opened by plain Keras, refused where they bring code."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass, field, fields, replace
from glob import glob
from itertools import repeat
from pathlib import Path

import h5py
import keras
import numpy as np

from seg.classes import ClassTable, numbered_classes, shown
from seg.files import InputError, counted, is_pattern, whole_file
from seg.formats import BANDS, MAX_PIXELS
from seg.passive import planned, read_parts, refuse_code, refuse_unfit
from seg.pictures import EIGHT_BITS
from seg.sizes import SizeRule

# Whatever a user's keras.json says: it would change every network that is built from here on.
keras.config.set_image_data_format('channels_last')
keras.config.set_floatx('float32')
keras.config.set_epsilon(1e-7)

KINDS = ('pad', 'stretch', 'whole', 'tile')  # of size rules


@dataclass(frozen=True)
class About:
    """What a program needs beside the network; it travels inside the model file as JSON."""

    classes: ClassTable
    rule: SizeRule = SizeRule()
    intensity: tuple | None = EIGHT_BITS  # of its training set, see pictures.read_image
    formats: dict = field(default_factory=dict)  # how that set's labels were read
    run: str = ''  # the name of the run's folder
    settings: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    paged: bool = False  # see sources.DataSet


def plain_network(model, apart=False):
    """A network of the same layers and weights in float32, whatever it was trained in, so that it
    runs anywhere; without compile settings, which plain Keras could not read. apart: with weights
    of its own, where those are on several devices."""

    def in_float32(layer):
        return layer.from_config(layer.get_config() | {'dtype': 'float32'})

    plain = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if apart or any(layer.compute_dtype != 'float32' for layer in model.layers):
        plain = keras.models.clone_model(plain, clone_function=in_float32)
        plain.set_weights(model.get_weights())
    plain.about = model.about
    return plain


def at_any_size(model):
    """The same network for pictures of any sides that 32 divides, painted at their own scale; of
    one that pads and crops for one size. InputError where it is another kind of network."""
    if hasattr(model, 'networks'):  # a folds.Average
        return type(model)([*map(at_any_size, model.networks)], model.files)
    if hasattr(model, 'file'):  # a seg.runtimes.Exported
        mend = 'leave --tile out, or export it with --size free'
        raise InputError(f'{model.file}: was exported for pictures of one size; {mend}')

    def without_size(layer):
        if isinstance(layer, keras.layers.InputLayer):
            return layer
        config = layer.get_config()
        config |= {'padding': 0} if isinstance(layer, keras.layers.ZeroPadding2D) else {}
        config |= {'cropping': 0} if isinstance(layer, keras.layers.Cropping2D) else {}
        return layer.from_config(config)

    picture = keras.Input((None, None, model.input_shape[-1]))
    try:
        plain = keras.Model(model.inputs[0], model.outputs[0])  # not compiled: that is copied, too
        free = keras.models.clone_model(plain, picture, clone_function=without_size)
        free.set_weights(model.get_weights())
    except Exception as e:  # of layers that need to know the size
        why = ' '.join(str(e).split())[:150]
        raise InputError(
            f'this network takes one size alone ({why}); leave --tile out, or --size'
        ) from None
    free.about = replace(model.about, rule=SizeRule('tile', *model.input_shape[1:3]))
    return free


def save_model(model, path):
    """Write a model, its `about` inside, to `path` (.hdf5, .h5 or .keras), whole or not at all."""
    plain, about = (
        plain_network(model),
        json.dumps(asdict(model.about)),
    )  # ASCII: paths of any bytes
    with whole_file(path, replace=True) as beside:
        plain.save(beside, include_optimizer=False)
        if beside.suffix == '.keras':
            with zipfile.ZipFile(beside, 'a') as f:
                f.writestr('about', about)
        else:
            with h5py.File(beside, 'a') as f:
                f['about'] = about


def read_about(path):
    """About of a model file; None where it holds none. InputError where it holds another than
    `save_model` writes; a damaged file raises whatever it raises."""
    return about_of(read_parts(path)[1], path)


def about_of(text, path):
    """About of its JSON, or None; see `read_about`."""
    held = {} if text is None else json.loads(text)
    if isinstance(held, dict) and 'rule' not in held:  # older: the class table alone
        return About(ClassTable.from_dict(held, path)) if held else None

    def expect(name, fits, what):
        if not fits:
            found = repr(held.get(name) if isinstance(held, dict) else held)[:60]
            raise InputError(f'{path}: {name}: expected {what}, found {found}; take another model')

    expect('about', isinstance(held, dict), 'an object')
    held = {f.name: held[f.name] for f in fields(About) if f.name in held}
    for name in held.keys() & {'classes', 'rule', 'formats', 'settings', 'versions'}:
        expect(name, isinstance(held[name], dict), 'an object')
    run, pair, rule = held.get('run', ''), held.get('intensity'), SizeRule(**held['rule'])
    sides = rule.height, rule.width
    small = all(type(side) is int and side > 0 for side in sides) and math.prod(sides) <= MAX_PIXELS
    small = small or sides == (None, None)
    expect('rule', rule.kind in KINDS and small, f'one of {", ".join(KINDS)} and two sides')
    expect('paged', isinstance(held.get('paged', False), bool), 'true or false')
    expect('run', isinstance(run, str) and '/' not in run and '\\' not in run, 'the name of a run')
    if pair is not None:  # of all, or of each band
        ends = (
            [end if isinstance(end, list) else [end] for end in pair]
            if isinstance(pair, list) and len(pair) == 2
            else []
        )
        numbers = [type(v) in (int, float) for end in ends for v in end]
        fits = ends and all(numbers) and 0 < len(ends[0]) == len(ends[1]) <= BANDS
        fits = fits and all(-1e300 < a < b < 1e300 for a, b in zip(*ends))
        expect('intensity', fits, 'low and high')
        held['intensity'] = tuple(
            tuple(map(float, end)) if isinstance(end, list) else float(end) for end in pair
        )
    return About(**held | {'classes': ClassTable.from_dict(held['classes'], path), 'rule': rule})


def described(path, about):
    """A line on a model: its file, its classes, when it was trained and on what."""
    names = [about.classes.names[i] for i in about.classes.scored]
    some = ', '.join(names[:5]) + ', ...' * (len(names) > 5)
    line = f'{path}: {counted(len(names), "class")} ({some})'
    day, held = about.run[:8], (about.settings.get(name) for name in ('images', 'data'))
    data = next((f' on {name}' for name in held if name), '')
    if day.isdecimal():
        data = f' {day[:4]}-{day[4:6]}-{day[6:]}{data}'
    return shown(line + f', trained{data}' * bool(data), 500)


def load_model(path):
    """A keras.Model, not compiled, of our file or any other with one picture in and one map out;
    its `about` has numbered classes where the file holds none. Raises InputError."""
    if not Path(path).is_file():
        found = 'a folder' if Path(path).is_dir() else 'no such file'
        line = f'{path}: expected a trained model, found {found}'
        raise InputError(f'{line}; name one with --model, or train one: python main.py FOLDER')
    try:
        text, _, held = read_parts(path)
        config = json.loads(text)
        config.pop('compile_config', None)  # not read where nothing is compiled
        refuse_code(path, config)
        refuse_unfit(path, planned(text, Path(path).suffix == '.keras'), held)
        about = read_about(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except InputError:
        raise
    except Exception as e:
        why = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected a Keras model, could not open it ({why})') from None
    model.about = fitting(about, model.input_shape, model.output_shape[-1], path)
    return model


def fitting(about, shape, n, path):
    """`about`, or None, as a network with inputs of this shape and n channels of output needs it;
    InputError where its classes do not fit."""
    about, (height, width) = about or About(numbered_classes(n)), shape[1:3]
    if n != len(about.classes) and (n, len(about.classes)) != (1, 2):
        raise InputError(f'{path}: {n} channels, but a class table of {len(about.classes)}')
    if height and width:  # a free one keeps every picture's own size
        return replace(about, rule=SizeRule(about.rule.kind, height, width))
    return about


def load_weights(model, path):
    """Take the weights of a model file over: all, but for a head of other classes, or the encoder
    alone of one that has another decoder, either of which a line tells; of a weights file all; of
    the files that a pattern names their mean (Wortsman et al., "Model soups", ICML 2022), which
    serves where they went on from the same weights. Returns whether they are the whole of this
    network; InputError where they do not fit."""
    files, sums, whole = model_files(path), repeat(0), True
    for file in files:
        whole = _load_one(model, file) and whole
        sums = [s + w / len(files) for s, w in zip(sums, map(np.float64, model.get_weights()))]
    if len(files) > 1:
        model.set_weights(sums)
        print(f'Weights: the mean of {", ".join(map(str, files))}')
    return whole


def model_files(path):
    """[path], or the files that a pattern names, sorted; InputError where there are none."""
    if Path(path).is_file() or not is_pattern(path):
        return [path]
    files = [Path(file) for file in sorted(glob(str(path), recursive=True))]
    if not files:
        line = f'{path}: expected model files of this pattern, found none'
        raise InputError(f'{line}; `python main.py train --folds 5` trains some')
    return files


def _load_one(model, path):
    try:
        whole = read_parts(path)[0]
    except InputError:
        raise
    except Exception:
        whole = None
    if not whole:
        load_file(model, path)
        return True
    source = load_model(path)
    taken, left = weights_for(model, source)
    same = source.about.classes.names == model.about.classes.names
    head = set() if same else {'scores'}
    if {*left} - head:
        encoder = _shared_encoder(model, source)
        if not encoder or encoder & {*left}:
            layers = f'{len(left)} of {len(model.layers)} layers, {left[0]} first'
            line = f'{path}: its weights do not fit this network ({layers})'
            raise InputError(f'{line}; give it the same --filters, --encoder and --stride')
        taken = {name: values for name, values in taken.items() if name in encoder}
        line = 'its encoder alone; the same --filters and --stride would take all of it'
        print(f'Weights of {path}: {line}')
    elif head:
        n = len(source.about.classes)
        print(f'Weights of {path}: all but the last layer, which is for {n} other classes')
    for name in {*taken} - head:
        model.get_layer(name).set_weights(taken[name])
    return not (left or head)


def _shared_encoder(*networks):
    """Names of the layers of the pretrained encoder that two networks have, one of them maybe fewer
    of its blocks; none where theirs are two."""
    from seg.encoders import encoder_layers  # which needs this module

    if not all(any(layer.name == 'normalise' for layer in n.layers) for n in networks):
        return set()
    a, b = ({layer.name for layer in encoder_layers(n) if layer.weights} for n in networks)
    return a & b if a <= b or b <= a else set()


def load_file(model, path):
    """Put what a weights file of the same layers holds into `model`; else InputError."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such weights file')
    try:
        read_parts(path)  # refuses bombs
        model.load_weights(path)
    except InputError:
        raise
    except Exception as e:
        why = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected weights of {model.name}; do not fit ({why})') from None


def weights_for(model, source):
    """({name: weights} of source's layers that fit those of the same name, kernels that see the
    picture adapted to its channels; [names of the layers for which there are none])."""
    found, left = {}, []
    there = {layer.name: layer.get_weights() for layer in source.layers}
    channels = source.input_shape[-1], model.input_shape[-1]
    for layer in (layer for layer in model.layers if layer.weights):
        values, shapes = there.get(layer.name, []), [tuple(w.shape) for w in layer.weights]
        kernels = [values[0].shape, shapes[0]] if values else []
        if {*map(len, kernels)} == {4} and tuple(k[2] for k in kernels) == channels:
            values[0] = for_channels(values[0], channels[1])
        if [v.shape for v in values] == shapes:
            found[layer.name] = values
        else:
            left.append(layer.name)
    return found, left


def for_channels(kernel, channels):
    """A first kernel (rows, columns, c, filters) for another number of channels: its sum spread
    over fewer, or each repeated in turn and divided; grey in all of them gives what it gave."""
    c = kernel.shape[2]
    if channels < c:
        return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    turn = np.arange(channels) % c
    return kernel[:, :, turn] / np.bincount(turn)[turn][:, None]


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint that takes .hdf5 as well, and always leaves a whole file."""

    def __init__(self, filepath, *args, **kwargs):
        super().__init__(str(filepath).replace('.hdf5', '.h5'), *args, **kwargs)
        self.filepath = str(filepath)  # Keras' save and load accept the extension

    def _save_model(self, epoch, batch, logs):
        path = self._get_file_path(epoch, batch, logs)
        if self._should_save_model(epoch, batch, logs, path):
            (self.model.save_weights if self.save_weights_only else self.save)(path)

    def save(self, path):
        save_model(self.model, path)
