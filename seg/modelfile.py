"""Model files: saved whole, opened by plain Keras, refused where they bring code.

What a program needs beside the network travels inside as JSON: the classes, the size rule, the
channels, the intensity range, how labels were read, settings and versions of the training.
"""

import json
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import h5py
import keras

from seg.classes import ClassTable, numbered_classes
from seg.files import InputError, whole_file
from seg.readers import EIGHT_BITS
from seg.sizes import SizeRule


@dataclass(frozen=True)
class About:
    """What a model file says of its network."""

    classes: ClassTable
    rule: SizeRule = SizeRule()
    intensity: tuple | None = EIGHT_BITS  # of its training set, see readers.read_image
    formats: dict = field(default_factory=dict)  # how that set's labels were read
    run: str = ''  # the name of the run's folder
    settings: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)

    def to_json(self):
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """Of a file of ours; what an older one lacks takes its default."""
        d = json.loads(text)
        if 'names' in d:  # the class table alone, as files had it first
            return cls(ClassTable.from_dict(d))
        known = {k: d[k] for k in ('formats', 'run', 'settings', 'versions') if k in d}
        rule, intensity = (
            SizeRule(**d['rule']),
            d['intensity'] and tuple(map(float, d['intensity'])),
        )
        return cls(ClassTable.from_dict(d['classes']), rule, intensity, **known)


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
    """Write the model to `path` (.hdf5, .h5 or .keras) whole or not at all, `model.about` inside.

    Written beside and moved into place: a save that is killed leaves the old file.
    """
    stock, plain = Path(path).suffix == '.keras', plain_network(model)
    with whole_file(path, replace=True) as beside:
        plain.save(beside, **({} if stock else {'include_optimizer': False}))
        if stock:
            with zipfile.ZipFile(beside, 'a') as f:
                f.writestr('about', model.about.to_json())
        else:
            with h5py.File(beside, 'a') as f:
                f['about'] = model.about.to_json()


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
    return About.from_json(text) if text else None


# Layers that run code which the file brings, or that something outside it brings.
CODE = {'Lambda', 'TFSMLayer', 'TorchModuleWrapper', 'JaxLayer', 'FlaxLayer', '__lambda__'}


def refuse_code(path):
    """InputError where the file's configuration names anything but Keras' own, passive layers.

    Keras refuses a Lambda in safe mode only, and finds custom objects by name in what is imported.
    """
    waiting = [json.loads(_read(path, 'config.json', 'model_config'))]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            name, home = part.get('class_name'), part.get('module')
            places = (keras, keras.layers, keras.initializers)
            stock = any(hasattr(place, str(name)) for place in places)
            stock |= str(name).startswith('__') or name == 'Functional'
            foreign = home.split('.')[0] not in ('keras', 'builtins') if home else not stock
            if isinstance(name, str) and (name in CODE or foreign or name == 'function' and home):
                what = f'holds {name!r} ({home or "no module"}), which runs code from outside Keras'
                raise InputError(f'{path}: {what}; such a model is not opened')


def load_model(path):
    """A model file of ours or any other Keras model with one picture in and one map out.

    Returns: keras.Model, not compiled, with its `about` (numbered classes where the file holds
    none). Raises: InputError.
    """
    if not Path(path).is_file():
        train = 'train one with `python main.py` or name another with --model'
        raise InputError(f'{path}: no such model file; {train}')
    try:
        refuse_code(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        about = read_about(path)
    except InputError:
        raise
    except Exception as e:
        reason = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected a Keras model, could not open it ({reason})') from None
    shapes = [tuple(tensor.shape[1:]) for tensor in (*model.inputs, *model.outputs)]
    if list(map(len, shapes)) != [3, 3] or shapes[0][2] not in (1, 3) or not shapes[1][2]:
        wanted = 'one picture of 1 or 3 channels in and one map of classes out'
        raise InputError(f'{path}: a network of {shapes}; expected {wanted}')
    (height, width, _), (*_, n) = shapes
    about = about or About(numbered_classes(n))
    if n != len(about.classes) and (n, len(about.classes)) != (1, 2):
        raise InputError(f'{path}: {n} channels, but a class table of {len(about.classes)}')
    if height and width:  # a free one keeps every picture's own size
        about = replace(about, rule=SizeRule(about.rule.kind, height, width))
    model.about = about
    return model


def load_weights(model, path):
    """Put the weights of a model or weights file into `model`; InputError where they do not fit."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such weights file')
    try:
        model.load_weights(path)
    except Exception as e:
        why = f'(another number of classes or filters?): {" ".join(str(e).split())[:150]}'
        raise InputError(f'{path}: these weights do not fit this network {why}') from None


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint that takes .hdf5 as well, and always leaves a whole file."""

    def __init__(self, filepath, *args, **kwargs):
        # Keras' own refuses the extension, though its save and load accept it.
        filepath = str(filepath)
        stand_in = filepath[:-5] + '.h5' if filepath.endswith('.hdf5') else filepath
        super().__init__(stand_in, *args, **kwargs)
        self.filepath = filepath

    def _save_model(self, epoch, batch, logs):
        path = self._get_file_path(epoch, batch, logs)
        if self._should_save_model(epoch, batch, logs, path):
            (self.model.save_weights if self.save_weights_only else self.save)(path)

    def save(self, path):
        save_model(self.model, path)
