"""Networks of exported files, in the place of Keras' own: for predict, evaluate, next, and for the
comparison after an export.

    python main.py predict --model camvid.onnx PICTURE
"""

import json
import math
import os
import warnings
from importlib import import_module
from pathlib import Path
from threading import Lock

import numpy as np

from seg.cli import hushed
from seg.files import InputError
from seg.modelfile import about_of, fitting


class Exported:
    """A network as predict.paint wants one. run: function(float32 (n, h, w, channels)) ->
    probabilities (n, h, w, n); extent: see tiles.extent."""

    def __init__(self, file, run, about, input_shape, output_shape, extent=(math.inf, 128)):
        self.file, self.predict_on_batch, self.about, self.extent = file, run, about, extent
        self.input_shape, self.output_shape = input_shape, output_shape

    def make_predict_function(self):
        """Nothing to make."""


def need(what, *packages):
    """InputError where one of the packages that `what` needs is missing."""
    for package in packages:
        try:
            with hushed():
                import_module(package)
        except ImportError as e:
            why = f'{what} needs {package} ({" ".join(str(e).split())[:100]})'
            raise InputError(f'{why}; `pip install {" ".join(packages)}`') from None


def open_onnx(path, like=None):
    """The Exported of an ONNX file that `export` wrote, all of this processor's cores at work.
    InputError for what is none, and without the package onnxruntime."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such file; `python main.py export --to onnx` writes one')
    need(f'{path}:', 'onnxruntime')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = os.cpu_count(), 4
    try:  # of its bytes: one that names other files as parts of it is refused
        content, cpu = Path(path).read_bytes(), ['CPUExecutionProvider']
        session = onnxruntime.InferenceSession(content, options, providers=cpu)
        (picture,), (output,) = session.get_inputs(), session.get_outputs()
        shapes = [[n if isinstance(n, int) else None for n in t.shape] for t in (picture, output)]
        if [len(shape) for shape in shapes] != [4, 4] or picture.type != 'tensor(float)':
            raise ValueError(f'{picture.type} {shapes}')
    except Exception as e:  # whatever onnxruntime makes of a file
        why = ' '.join(str(e).split())[:150]
        raise InputError(f'{path}: expected an ONNX file of a network ({why})') from None
    said = session.get_modelmeta().custom_metadata_map
    if 'about' not in said:
        wanted = 'expected one of `python main.py export --to onnx`, which knows its classes'
        raise InputError(f'{path}: {wanted}, found an ONNX file without them')
    try:
        about = about_of(said['about'], path)
        extent = [json.loads(said[name]) for name in ('reach', 'widest')]
        extent = (math.inf if extent[0] is None else float(extent[0]), max(1.0, float(extent[1])))
        about = fitting(about, shapes[0], shapes[1][-1], path)
    except InputError:
        raise
    except Exception as e:
        why = f'{type(e).__name__}: {" ".join(str(e).split())[:100]}'
        raise InputError(f'{path}: what it says of itself is damaged ({why})') from None

    def run(batch):
        return session.run([output.name], {picture.name: np.asarray(batch, np.float32)})[0]

    return Exported(path, run, about, *map(tuple, shapes), extent)


def open_litert(path, like):
    """The Exported of a LiteRT file, about which `like` knows the rest."""
    import tensorflow as tf

    with warnings.catch_warnings(action='ignore'):  # that it will move to a package of its own
        interpreter = tf.lite.Interpreter(str(path), num_threads=os.cpu_count())
    (picture,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    alone, known = Lock(), []

    def one(image):
        with alone:
            if known != [image.shape]:
                with hushed():  # it tells of its kernels
                    interpreter.resize_tensor_input(picture['index'], (1, *image.shape))
                    interpreter.allocate_tensors()
                known[:] = [image.shape]
            interpreter.set_tensor(picture['index'], image[None])
            interpreter.invoke()
            return interpreter.get_tensor(output['index'])[0]

    def run(batch):
        return np.stack([one(image) for image in np.asarray(batch, np.float32)])

    return Exported(path, run, like.about, like.input_shape, like.output_shape)


def open_savedmodel(path, like):
    """The Exported of a SavedModel, about which `like` knows the rest."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # held, or its variables go

    def run(batch):
        return loaded.serve(np.asarray(batch, np.float32)).numpy()

    return Exported(path, run, like.about, like.input_shape, like.output_shape)
