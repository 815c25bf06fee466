"""Model files: whole, plain, with what travels inside, and refused where they bring code."""

import json
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from model import ModelCheckpoint, load_model, save_model, unet
from seg.classes import CAMVID, class_table
from seg.files import InputError
from seg.modelfile import About
from seg.sizes import SizeRule

N = len(CAMVID)


def one_hot(label, n=N):
    return (label[..., None] == np.arange(n)).astype('float32')


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
def test_file_opens_in_plain_keras_without_this_repository(tmp_path, suffix):
    net = unet(input_size=(20, 24, 3), filters=2)
    x = np.random.default_rng(0).random((1, 20, 24, 3), 'float32')
    expected = net.predict_on_batch(x)
    path = tmp_path / f'camvid{suffix}'
    save_model(net, path)
    assert os.listdir(tmp_path) == [path.name]
    np.save(tmp_path / 'x.npy', x)
    script = (
        f'import keras, numpy\nm = keras.models.load_model({str(path)!r})\n'
        'numpy.save("y.npy", m.predict(numpy.load("x.npy")))'
    )
    subprocess.run(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    )
    np.testing.assert_allclose(np.load(tmp_path / 'y.npy'), expected, atol=1e-6)
    assert load_model(path).about.classes == CAMVID


def test_a_network_trained_in_bfloat16_is_saved_in_float32(tmp_path):
    x = np.random.default_rng(0).random((1, 20, 24, 3), 'float32')
    keras.config.set_dtype_policy('mixed_bfloat16')
    try:
        net = unet(input_size=(20, 24, 3), filters=2, stride=2)
    finally:
        keras.config.set_dtype_policy('float32')
    net.train_on_batch(x, one_hot(np.ones((1, 20, 24), int)))
    save_model(net, tmp_path / 'm.keras')
    opened = load_model(tmp_path / 'm.keras')
    assert {layer.compute_dtype for layer in opened.layers} == {'float32'}
    assert {layer.compute_dtype for layer in net.layers} == {'bfloat16', 'float32'}
    for a, b in zip(net.get_weights(), opened.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(net.predict_on_batch(x), opened.predict_on_batch(x), atol=0.02)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    net = unet(input_size=(16, 16, 3), filters=1)
    path = tmp_path / 'm.hdf5'
    save_model(net, path)
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(InputError, match='could not be written'):
        save_model(net, path)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ['m.hdf5']


def test_checkpoint_takes_hdf5_and_keeps_the_best(tmp_path):
    path = tmp_path / 'camvid.hdf5'
    checkpoint = ModelCheckpoint(str(path), monitor='val_loss', verbose=0, save_best_only=True)
    net = unet(input_size=(16, 16, 3), filters=1)
    checkpoint.set_model(net)
    checkpoint.on_epoch_end(0, {'val_loss': 1.0})
    first = path.read_bytes()
    net.get_layer('scores').bias.assign(np.ones(N))
    checkpoint.on_epoch_end(1, {'val_loss': 2.0})
    assert path.read_bytes() == first
    checkpoint.on_epoch_end(2, {'val_loss': 0.5})
    assert float(load_model(path).get_layer('scores').bias[0]) == 1


def test_pretrained_weights(tmp_path):
    net = unet(input_size=(16, 16, 3), filters=1)
    save_model(net, tmp_path / 'm.hdf5')
    again = unet(str(tmp_path / 'm.hdf5'), input_size=(16, 16, 3), filters=1)
    for a, b in zip(net.weights, again.weights):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match='do not fit'):
        unet(str(tmp_path / 'm.hdf5'), input_size=(16, 16, 3), filters=2)
    with pytest.raises(InputError, match='no such weights'):
        unet(str(tmp_path / 'none.hdf5'), input_size=(16, 16, 3), filters=1)


def test_load_model_names_what_is_no_model(tmp_path):
    (tmp_path / 'm.hdf5').write_text('hello')
    with pytest.raises(InputError, match='could not open'):
        load_model(tmp_path / 'm.hdf5')
    with pytest.raises(InputError, match='no such model'):
        load_model(tmp_path / 'other.hdf5')


def test_a_model_of_somebody_else_has_numbered_classes(tmp_path):
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs)).save(tmp_path / 'm.keras')
    assert load_model(tmp_path / 'm.keras').about.classes.names == class_table(4).names


@keras.saving.register_keras_serializable('mine')
class Custom(keras.layers.Layer):
    def call(self, x):
        return x


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
@pytest.mark.parametrize(
    'layer',
    [
        lambda: keras.layers.Lambda(lambda x: x * 2),
        Custom,
        lambda: keras.layers.Activation(plain_function),
    ],
)
def test_a_model_that_brings_code_is_refused(tmp_path, suffix, layer):
    inputs = keras.Input((16, 16, 3))
    path = tmp_path / f'm{suffix}'
    keras.Model(inputs, layer()(keras.layers.Conv2D(4, 1)(inputs))).save(path)
    with pytest.raises(InputError, match='runs code') as e:
        load_model(path)
    assert str(path) in str(e.value) and '\n' not in str(e.value)


@keras.saving.register_keras_serializable('mine')
def plain_function(x):
    return x


def test_a_model_of_stock_layers_is_opened(tmp_path):
    """Layers that ours has not: separable convolutions, a nested model, a sum."""
    inputs = keras.Input((16, 16, 3))
    inner = keras.Sequential(
        [
            keras.layers.SeparableConv2D(4, 3, padding='same', activation='relu'),
            keras.layers.LayerNormalization(),
        ]
    )
    both = keras.layers.Add()([inner(inputs), keras.layers.Conv2D(4, 1)(inputs)])
    outputs = keras.layers.Softmax()(both)
    model = keras.Model(inputs, outputs)
    for suffix in ('.keras', '.hdf5'):
        model.save(tmp_path / f'm{suffix}')
        assert load_model(tmp_path / f'm{suffix}').output_shape == (None, 16, 16, 4)


@pytest.mark.parametrize('suffix', ['.hdf5', '.h5', '.keras'])
def test_what_travels_inside_comes_back(tmp_path, suffix):
    net = unet(input_size=(16, 24, 1), filters=1, num_class=12)
    net.about = About(
        *(class_table(12), SizeRule('stretch', 16, 24), (3.5, 4095.0), {'palette': 'grey'}),
        *('20260101-run', {'filters': 1}, {'keras': '3'}),
    )
    save_model(net, tmp_path / f'm{suffix}')
    assert load_model(tmp_path / f'm{suffix}').about == net.about


def test_a_file_with_the_class_table_alone_is_read(tmp_path):
    """As the first version wrote it, weights/camvid-fast.hdf5 among them."""
    net = unet(input_size=(16, 24, 3), filters=1)
    save_model(net, tmp_path / 'm.hdf5')
    with h5py.File(tmp_path / 'm.hdf5', 'a') as f:
        del f['about']
        f.attrs['class_table'] = json.dumps(CAMVID.to_dict())
    about = load_model(tmp_path / 'm.hdf5').about
    assert about.classes == CAMVID and about.rule == SizeRule('pad', 16, 24)
    assert about.intensity is None


@pytest.mark.parametrize('n', [12, 13])
def test_twelve_or_thirteen_channels_of_somebody_are_not_camvids(tmp_path, n):
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Conv2D(n, 1)(inputs)).save(tmp_path / 'm.keras')
    classes = load_model(tmp_path / 'm.keras').about.classes
    assert classes.names[0] == 'class 0' and len(classes.scored) == n


@pytest.mark.parametrize(
    'build',
    [
        lambda: (keras.Input((16, 16, 4)), lambda x: keras.layers.Conv2D(3, 1)(x)),
        lambda: (keras.Input((16, 16, 3)), lambda x: keras.layers.Flatten()(x)),
        lambda: (keras.Input((16,)), lambda x: keras.layers.Dense(3)(x)),
        lambda: (
            [keras.Input((16, 16, 3)), keras.Input((16, 16, 3))],
            lambda x: keras.layers.Add()(x),
        ),
        lambda: (
            keras.Input((16, 16, 3)),
            lambda x: [keras.layers.Conv2D(3, 1)(x), keras.layers.Conv2D(3, 1)(x)],
        ),
    ],
)
def test_a_network_that_cannot_serve_is_refused_in_one_line(tmp_path, build):
    inputs, layers = build()
    keras.Model(inputs, layers(inputs)).save(tmp_path / 'm.keras')
    with pytest.raises(InputError, match='expected') as e:
        load_model(tmp_path / 'm.keras')
    assert '\n' not in str(e.value)
