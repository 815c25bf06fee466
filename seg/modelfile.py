"""Model files: saved whole, opened by plain Keras, refused where they bring code."""

import io
import json
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path

import h5py
import keras
import numpy as np

from seg.classes import ClassTable, numbered_classes, shown
from seg.files import InputError, counted, whole_file
from seg.formats import BANDS, MAX_PIXELS
from seg.readers import EIGHT_BITS
from seg.sizes import SizeRule

# Whatever a user's keras.json says: it would change every network that is built from here on.
keras.config.set_image_data_format('channels_last')
keras.config.set_floatx('float32')
keras.config.set_epsilon(1e-7)

KINDS = ('pad', 'stretch', 'whole', 'tile')  # of size rules
ABOUT = ('about', 'class_table', 'class_table.json')  # the last two: in older files, classes alone
LIMIT = 1 << 22  # bytes of a configuration or of About; Keras' largest networks take a third
LARGEST = MAX_PIXELS << 5  # values of one layer's output: 8 GB
EXPANSION = 16  # times its size on disk is what a file may take of memory; weights compress little

# What a file may be made of: layers that only compute, and what stands in their configurations.
LAYERS = """
    Functional Model Sequential InputLayer Identity Activation ReLU LeakyReLU PReLU ELU Softmax
    Dense EinsumDense Embedding Masking Flatten Reshape Permute RepeatVector Rescaling Resizing
    CenterCrop Normalization BatchNormalization LayerNormalization GroupNormalization
    RMSNormalization UnitNormalization SpectralNormalization Add Subtract Multiply Average Maximum
    Minimum Concatenate Dot Attention AdditiveAttention MultiHeadAttention GroupQueryAttention
    Dropout AlphaDropout GaussianDropout GaussianNoise ActivityRegularization TimeDistributed
    Bidirectional RNN SimpleRNN LSTM GRU StackedRNNCells SimpleRNNCell LSTMCell GRUCell RandomFlip
    RandomRotation RandomTranslation RandomZoom RandomCrop RandomBrightness RandomContrast
    TrueDivide Divide Power Negative Mean Sum GetItem AbsMaxQuantizer
    __keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__
"""
DIMENSIONS = 'Conv ConvLSTM SeparableConv DepthwiseConv MaxPooling AveragePooling GlobalMaxPooling'
DIMENSIONS += ' GlobalAveragePooling AdaptiveMaxPooling AdaptiveAveragePooling UpSampling Cropping'
DIMENSIONS += ' ZeroPadding SpatialDropout'
LAYERS = {*LAYERS.split(), *(f'{name}{n}D' for name in DIMENSIONS.split() for n in (1, 2, 3))}
LAYERS |= {f'Conv{n}DTranspose' for n in (1, 2, 3)}
PARTS = 'initializers regularizers constraints dtype_policies'
PARTS += ' losses metrics optimizers optimizers.schedules'  # of a model inside that was compiled
PARTS = {f'keras.{part}': attrgetter(part)(keras) for part in PARTS.split()}
HOMES = {'keras', 'keras.layers', 'keras.models', 'keras.quantizers', 'keras.src.ops.numpy', *PARTS}
HOMES |= {'keras.src.models.functional', 'keras.src.models.sequential'}
FUNCTIONS = (keras.activations, keras.losses, keras.metrics)  # what a name alone may mean


@dataclass(frozen=True)
class About:
    """What a program needs beside the network; it travels inside the model file as JSON."""

    classes: ClassTable
    rule: SizeRule = SizeRule()
    intensity: tuple | None = EIGHT_BITS  # of its training set, see readers.read_image
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


def _declared(file):
    """Bytes of all data sets of an open HDF5 file, as far as it says."""
    sizes = []

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            sizes.append((item.size or 0) * item.dtype.itemsize)

    file.visititems(note)
    return sum(sizes)


def _of_hdf5(file, name):
    """The text that an HDF5 file holds as one attribute, where Keras has its configuration, or
    else data set; None without."""
    if name in file.attrs:
        item = file.attrs.get_id(name)
        return file.attrs[name] if item.shape == () and item.dtype.itemsize <= LIMIT else b''
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):  # others lead to other files
        return None
    item = file[name]
    inside = isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual
    return item[()] if inside and item.shape == () and item.dtype.itemsize <= LIMIT else b''


def _read(path):
    """(configuration, about, bytes of weights) of a model file, the first two JSON, or None
    without; read as what Keras takes it for, by its suffix, which its first bytes must say too: a
    file may be HDF5 and zip at once. InputError where it would take far more memory than disk."""
    path, zipped = Path(path), Path(path).suffix == '.keras'
    with open(path, 'rb') as f:
        begin = f.read(8)
    if not begin.startswith(b'PK\3\4' if zipped else b'\x89HDF\r\n\x1a\n'):
        raise ValueError(f'it does not begin as {"a zip" if zipped else "HDF5"} does')

    def refuse_bomb(size, what, limit):
        if size > limit:
            found = f'declares {size / 1e6:,.0f} MB of {what}'
            raise InputError(f'{path}: {found}, expected {limit / 1e6:,.0f} MB at most; not opened')

    most = EXPANSION * path.stat().st_size + LIMIT
    if zipped:
        with zipfile.ZipFile(path) as f:
            held = {info.filename: info.file_size for info in f.infolist()}
            weights = sum(info.file_size for info in f.infolist())
            refuse_bomb(weights, 'contents', most)
            names = {'config.json', *ABOUT} & {*held}
            refuse_bomb(max((held[name] for name in names), default=0), 'configuration', LIMIT)
            texts = {name: f.read(name) for name in names}
            config = texts.get('config.json')
            if 'model.weights.h5' in held:
                with h5py.File(io.BytesIO(f.read('model.weights.h5'))) as inner:
                    weights = _declared(inner)
    else:
        with h5py.File(path) as f:
            texts = {name: _of_hdf5(f, name) for name in ABOUT}
            config = _of_hdf5(f, 'model_config')
            weights = _declared(f)
    about = next((texts[name] for name in ABOUT if texts.get(name) is not None), None)
    refuse_bomb(max(len(config or ''), len(about or '')), 'configuration', LIMIT)
    refuse_bomb(weights, 'weights', most)
    return config, about, weights


def read_about(path):
    """About of a model file; None where it holds none. InputError where it holds another than
    `save_model` writes; a damaged file raises whatever it raises."""
    return about_of(_read(path)[1], path)


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


def _is_passive(part):
    """Whether what a dict of a configuration names is one of Keras' own that only compute."""
    name, home, config = (part.get(key) for key in ('class_name', 'module', 'config'))
    if not isinstance(name, str) or not isinstance(home or '', str):
        return False
    if name == 'function':
        named = isinstance(config, str) and any(hasattr(place, config) for place in FUNCTIONS)
        return named and home in ('builtins', 'keras.activations', 'keras.losses', 'keras.metrics')
    if home and home not in HOMES:
        return False
    return name in LAYERS or any(isinstance(getattr(p, name, None), type) for p in PARTS.values())


def refuse_code(path, config):
    """InputError where a configuration names anything but Keras' own, passive layers: Keras
    refuses a Lambda in safe mode only, and finds custom objects by name in what is imported."""
    waiting, custom = [config], keras.saving.get_custom_objects()
    while waiting:
        part, foreign = waiting.pop(), None
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            if 'class_name' in part and not _is_passive(part):
                foreign = part['class_name']
                foreign = part.get('config') if foreign == 'function' else foreign
        elif isinstance(part, str) and part in custom:
            foreign = part
        if foreign is not None:
            found, layers = repr(foreign)[:60], "Keras' layers that only compute"
            raise InputError(f'{path} not opened: {found} is none of {layers}, it may run code')


def _planned(text, zipped):
    """The network of a configuration, no memory taken for its weights. On a thread of its own, for
    Keras remembers, thread by thread, the weights to which it has yet to give memory."""

    def uncompiled(part):  # an optimizer would take its own
        return {key: value for key, value in part.items() if key != 'compile_config'}

    def build():
        config = json.loads(text, object_hook=uncompiled)
        with keras.StatelessScope(initialize_variables=False):
            if zipped:
                return keras.saving.deserialize_keras_object(config)
            kind = keras.Sequential if config['class_name'] == 'Sequential' else keras.Model
            return kind.from_config(config['config'])

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(build).result()


def _refuse_unfit(path, network, held):
    """InputError where a planned network is larger than a machine's memory or its file's weights,
    of `held` bytes, or is none with one picture in and one map out."""
    shapes = [tuple(tensor.shape[1:]) for tensor in (*network.inputs, *network.outputs)]
    fits = [len(shape) for shape in shapes] == [3, 3] and shapes[0][2] in range(1, BANDS + 1)
    if not fits or shapes[1][2] not in range(1, 256):
        raise InputError(
            f'{path}: {shapes}, expected a picture of 1 to {BANDS} channels in, a map out'
        )
    kinds = [tensor.dtype for tensor in (*network.inputs, *network.outputs)]
    if not all('float' in kind for kind in kinds):
        raise InputError(f'{path}: {kinds}, expected floats in, 0..1, and floats out')
    if any(size not in (None, side) for side, size in zip(shapes[0][:2], shapes[1]) if side):
        raise InputError(f'{path}: {shapes}, expected a map of the size of the picture')
    layers, sizes = [network], [math.prod(side or 1 for side in shapes[0][:2]) << 5]  # pixels
    for layer in layers:  # grows by those of models inside
        layers += getattr(layer, 'layers', ())
        maps = keras.tree.flatten(getattr(layer, 'output', ()))
        sizes += [math.prod(side or 1 for side in tensor.shape) for tensor in maps]
    count = sum(math.prod(weight.shape) for weight in network.weights)
    if max(sizes) > LARGEST or count > held:
        found = f'{count:,} weights (of {held:,} bytes), a layer of {max(sizes):,} values'
        raise InputError(f'{path}: declares {found}: too many to be true; not opened')


def load_model(path):
    """A keras.Model, not compiled, of our file or any other with one picture in and one map out;
    its `about` has numbered classes where the file holds none. Raises InputError."""
    if not Path(path).is_file():
        found = 'a folder' if Path(path).is_dir() else 'no such file'
        line = f'{path}: expected a trained model, found {found}'
        raise InputError(f'{line}; name one with --model, or train one: python main.py FOLDER')
    try:
        text, _, held = _read(path)
        config = json.loads(text)
        config.pop('compile_config', None)  # not read where nothing is compiled
        refuse_code(path, config)
        _refuse_unfit(path, _planned(text, Path(path).suffix == '.keras'), held)
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
    """Take the weights of a model file over, layer by layer, but for the head of other classes,
    which one line tells; or all that a weights file holds. InputError where they do not fit."""
    try:
        whole = _read(path)[0]
    except InputError:
        raise
    except Exception:
        whole = None
    if not whole:
        return load_file(model, path)
    source = load_model(path)
    head = ('scores',) if source.about.classes.names != model.about.classes.names else ()
    left = take_over(model, source, head)
    if left:
        layers = f'{len(left)} of {len(model.layers)} layers, {left[0]} first'
        line = f'{path}: its weights do not fit this network ({layers})'
        raise InputError(f'{line}; give it the same --filters, --encoder and --stride')
    if head:
        n = len(source.about.classes)
        print(f'Weights of {path}: all but the last layer, which is for {n} other classes')


def load_file(model, path):
    """Put what a weights file of the same layers holds into `model`; else InputError."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such weights file')
    try:
        _read(path)  # refuses bombs
        model.load_weights(path)
    except InputError:
        raise
    except Exception as e:
        why = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected weights of {model.name}; do not fit ({why})') from None


def take_over(model, source, but=()):
    """Give each layer the weights of source's layer of the same name, a kernel that sees another
    number of channels adapted; the names of those that `source` has no weights for."""
    left, there = [], {layer.name: layer.get_weights() for layer in source.layers}
    first = next(layer for layer in model.layers if layer.weights)
    for layer in (layer for layer in model.layers if layer.name not in but):
        values = there.get(layer.name, [])
        if layer is first and values and len(values[0].shape) == 4:
            values[0] = for_channels(values[0], layer.kernel.shape[2])
        if [v.shape for v in values] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(values)
        else:
            left.append(layer.name)
    return left


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
