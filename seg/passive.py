"""What a model file may hold, before Keras opens it: layers that only compute, and no more than its
size on disk lets expect. A file may come from anybody."""

import io
import json
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import h5py
import keras

from seg.files import InputError
from seg.formats import BANDS, MAX_PIXELS

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


def read_parts(path):
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


def planned(text, zipped):
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


def refuse_unfit(path, network, held):
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
