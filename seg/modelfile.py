"""Model files: saved whole, opened by plain Keras, refused where they bring code."""

import json
import zipfile
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import h5py
import keras
import numpy as np

from seg.classes import ClassTable, numbered_classes
from seg.files import InputError, whole_file
from seg.readers import EIGHT_BITS
from seg.sizes import SizeRule


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


def plain_network(model):
    """A network of the same layers and weights in float32, whatever it was trained in, so that it
    runs anywhere; without compile settings, which plain Keras could not read."""

    def in_float32(layer):
        return layer.from_config(layer.get_config() | {'dtype': 'float32'})

    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    if any(layer.compute_dtype != 'float32' for layer in model.layers):
        plain = keras.models.clone_model(plain, clone_function=in_float32)
        plain.set_weights(model.get_weights())
    plain.about = model.about
    return plain


def save_model(model, path):
    """Write a model, its `about` inside, to `path` (.hdf5, .h5 or .keras), whole or not at all."""
    plain, about = plain_network(model), json.dumps(asdict(model.about), ensure_ascii=False)
    with whole_file(path, replace=True) as beside:
        plain.save(beside, include_optimizer=False)
        if beside.suffix == '.keras':
            with zipfile.ZipFile(beside, 'a') as f:
                f.writestr('about', about)
        else:
            with h5py.File(beside, 'a') as f:
                f['about'] = about


def _read(path, *names):
    """The first of these texts that a model file holds: members of a zip, or what an HDF5 file has
    as a dataset or attribute; None without."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as f:
            return next((f.read(n) for n in names if n in f.namelist()), None)
    with h5py.File(path) as f:
        held = {**f.attrs, **{n: f[n][()] for n in names if n in f}}
        return next((held[n] for n in names if n in held), None)


def read_about(path):
    """About of a model file; None where it holds none. Raises whatever a damaged file raises."""
    text = _read(path, 'about', 'class_table', 'class_table.json')  # the last two: older files
    held = json.loads(text) if text else {}
    if 'rule' not in held:  # the class table alone, as files had it first
        return About(ClassTable.from_dict(held)) if held else None
    held['classes'], held['rule'] = ClassTable.from_dict(held['classes']), SizeRule(**held['rule'])
    held['intensity'] = held['intensity'] and tuple(map(float, held['intensity']))
    return About(**{f.name: held[f.name] for f in fields(About) if f.name in held})


# Layers that run code which the file brings, or that something outside it brings.
CODE = {'Lambda', 'TFSMLayer', 'TorchModuleWrapper', 'JaxLayer', 'FlaxLayer', '__lambda__'}


def refuse_code(path):
    """InputError where the configuration names anything but Keras' own, passive layers: Keras
    refuses a Lambda in safe mode only, and finds custom objects by name in what is imported."""
    places = (keras, keras.layers, keras.initializers)

    def check(part):
        name, home = part.get('class_name'), part.get('module')
        if not isinstance(name, str):
            return part
        if home:
            foreign = name == 'function' or home.split('.')[0] not in ('keras', 'builtins')
        else:  # older files name no module
            known = name == 'Functional' or name.startswith('__')
            foreign = not known and not any(hasattr(place, name) for place in places)
        if foreign or name in CODE:
            where = f' of {home}' if home else ''
            raise InputError(f'{path} not opened: {name!r}{where} runs code from outside Keras')
        return part

    json.loads(_read(path, 'config.json', 'model_config'), object_hook=check)


def load_model(path):
    """A keras.Model, not compiled, of our file or any other with one picture in and one map out;
    its `about` has numbered classes where the file holds none. Raises InputError."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such model; `python main.py` trains one, or use --model')
    try:
        refuse_code(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        about = read_about(path)
    except InputError:
        raise
    except Exception as e:
        why = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected a Keras model, could not open it ({why})') from None
    shapes = [tuple(tensor.shape[1:]) for tensor in (*model.inputs, *model.outputs)]
    fits = [len(shape) for shape in shapes] == [3, 3] and shapes[0][2] in (1, 3)
    if not fits or shapes[1][2] not in range(1, 256):
        raise InputError(f'{path}: {shapes}, expected a picture of 1 or 3 channels in, a map out')
    (height, width, _), (*_, n) = shapes
    about = about or About(numbered_classes(n))
    if n != len(about.classes) and (n, len(about.classes)) != (1, 2):
        raise InputError(f'{path}: {n} channels, but a class table of {len(about.classes)}')
    if height and width:  # a free one keeps every picture's own size
        about = replace(about, rule=SizeRule(about.rule.kind, height, width))
    model.about = about
    return model


def load_weights(model, path):
    """Take the weights of a model file over, layer by layer, but for the head of other classes,
    which one line tells; or all that a weights file holds. InputError where they do not fit."""
    try:
        whole = _read(path, 'config.json', 'model_config')
    except Exception:
        whole = None
    if not whole:
        return load_file(model, path)
    source = load_model(path)
    head = ('scores',) if source.about.classes.names != model.about.classes.names else ()
    left = take_over(model, source, head)
    if left:
        layers = f'{len(left)} of {len(model.layers)} layers, {left[0]} first'
        raise InputError(f'{path}: weights do not fit; other filters or encoder? ({layers})')
    if head:
        n = len(source.about.classes)
        print(f'{path}: all taken over but its head, which is for {n} other classes')


def load_file(model, path):
    """Put what a weights file of the same layers holds into `model`; else InputError."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such weights file')
    try:
        model.load_weights(path)
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
