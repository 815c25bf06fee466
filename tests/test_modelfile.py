"""Model files: whole, plain, with what travels inside, and refused where they bring code."""

import json
import os
import subprocess
import sys
import zipfile
from contextlib import suppress

import h5py
import keras
import numpy as np
import pytest

from model import ModelCheckpoint, load_model, save_model, unet
from seg.classes import CAMVID, class_table
from seg.files import InputError
from seg.modelfile import About, load_file
from seg.passive import LIMIT
from seg.sizes import SizeRule

pytestmark = pytest.mark.usefixtures('shallow')

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


def test_weights_of_a_pattern_are_the_mean_of_its_models(tmp_path, capsys):
    rng, nets = np.random.default_rng(0), []
    for i in range(3):
        nets.append(unet(input_size=(16, 16, 3), filters=1))
        for w in nets[-1].weights:
            w.assign(rng.random(w.shape))
        save_model(nets[-1], tmp_path / f'm{i}.hdf5')
    mean = unet(str(tmp_path / 'm?.hdf5'), input_size=(16, 16, 3), filters=1)
    assert 'the mean of' in capsys.readouterr().out
    for found, *each in zip(mean.weights, *(net.weights for net in nets), strict=True):
        np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-6)
    one = unet(str(tmp_path / 'm2*'), input_size=(16, 16, 3), filters=1)
    np.testing.assert_array_equal(one.weights[0], nets[2].weights[0])
    assert 'the mean of' not in capsys.readouterr().out
    with pytest.raises(InputError, match='x.: expected model files of this pattern, found none'):
        unet(str(tmp_path / 'x*'), input_size=(16, 16, 3), filters=1)


def test_load_model_names_what_is_no_model(tmp_path):
    (tmp_path / 'm.hdf5').write_text('hello')
    with pytest.raises(InputError, match='could not open'):
        load_model(tmp_path / 'm.hdf5')
    with pytest.raises(InputError, match='expected a trained model'):
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
    with pytest.raises(InputError, match='may run code') as e:
        load_model(path)
    assert str(path) in str(e.value) and '\n' not in str(e.value)


@keras.saving.register_keras_serializable('mine')
def plain_function(x):
    return x


def small_model(path, *layers):
    """Written to `path`: (16, 16, 3) -> (16, 16, 4)."""
    inputs = x = keras.Input((16, 16, 3))
    for layer in (*layers, keras.layers.Conv2D(4, 1, name='last')):
        x = layer(x)
    keras.Model(inputs, x).save(path)
    return path


def change_config(path, change):
    """Rewrite the configuration in a model file; change: function of it as Python objects."""
    if path.suffix == '.keras':
        with zipfile.ZipFile(path) as f:
            held = {name: f.read(name) for name in f.namelist()}
        config = json.loads(held['config.json'])
        change(config)
        with zipfile.ZipFile(path, 'w') as f:
            for name, content in (held | {'config.json': json.dumps(config)}).items():
                f.writestr(name, content)
    else:
        with h5py.File(path, 'a') as f:
            config = json.loads(f.attrs['model_config'])
            change(config)
            f.attrs['model_config'] = json.dumps(config)


def refused(path, match):
    """One line that names the file."""
    with pytest.raises(InputError, match=match) as e:
        load_model(path)
    assert str(path) in str(e.value) and '\n' not in str(e.value) and len(str(e.value)) < 500


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
@pytest.mark.parametrize(
    'part, value',
    [
        ('activation', 'mine>plain_function'),
        ('activation', {'module': 'builtins', 'class_name': 'function', 'config': 'eval'}),
        ('activation', {'module': 'os', 'class_name': 'function', 'config': 'system'}),
        ('activation', {'class_name': '__lambda__', 'config': {'code': ''}}),
        ('kernel_initializer', {'module': 'mine', 'class_name': 'Zeros', 'config': {}}),
        ('kernel_initializer', {'class_name': 'mine>Custom', 'config': {}}),
        ('kernel_regularizer', {'module': 'keras.utils', 'class_name': 'get_file', 'config': {}}),
        ('kernel_constraint', {'class_name': 'Lambda', 'config': {}}),
        ('dtype', {'class_name': 'TypeSpec', 'type_spec': 'x', 'serialized': []}),
        ('dtype', {'module': 'keras', 'class_name': ['DTypePolicy'], 'config': {}}),
        ('bias_initializer', [{'deep': [{'class_name': 'TFSMLayer', 'config': {}}]}]),
        ('kernel_initializer', {'class_name': 'StringLookup', 'config': {'vocabulary': 'file'}}),
        (
            'kernel_initializer',
            {'module': 'keras', 'class_name': 'Zeros', 'registered_name': 'mine>Custom'},
        ),
    ],
)
def test_what_stands_inside_a_layer_is_no_code_either(tmp_path, suffix, part, value):
    path = small_model(tmp_path / f'm{suffix}')
    change_config(path, lambda c: c['config']['layers'][-1]['config'].update({part: value}))
    refused(path, 'may run code')


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
def test_models_and_wrappers_inside_are_looked_into(tmp_path, suffix):
    code = keras.layers.Lambda(lambda x: x)
    for layer in (keras.Sequential([keras.Sequential([code])]), keras.layers.TimeDistributed(code)):
        with suppress(AttributeError):
            layer.build((None, 16, 16, 3))
        refused(small_model(tmp_path / f'm{suffix}', layer), 'may run code')


def test_a_configuration_beside_the_one_that_keras_reads_does_not_count(tmp_path):
    path = small_model(tmp_path / 'm.hdf5', keras.layers.Lambda(lambda x: x))
    good = small_model(tmp_path / 'good.hdf5')
    with h5py.File(path, 'a') as f, h5py.File(good) as other:
        f['model_config'] = other.attrs['model_config']
    refused(path, "'Lambda' is none of")


def test_a_file_of_two_formats_is_checked_as_what_is_opened(tmp_path):
    code = [keras.layers.Lambda(lambda x: x)]
    good, bad = {}, {}
    for suffix in ('.hdf5', '.keras'):
        good[suffix] = small_model(tmp_path / f'good{suffix}').read_bytes()
        bad[suffix] = small_model(tmp_path / f'bad{suffix}', *code).read_bytes()
    for name, content, match in (
        ('a.hdf5', bad['.hdf5'] + good['.keras'], "'Lambda' is none of"),
        ('b.keras', bad['.hdf5'] + good['.keras'], 'does not begin as a zip'),
        ('c.keras', good['.hdf5'] + bad['.keras'], 'does not begin as a zip'),
        ('d.keras', good['.keras'] + bad['.keras'], "'Lambda' is none of"),
        ('e.hdf5', good['.keras'].ljust(1 << 16, b'\0') + bad['.hdf5'], 'does not begin as HDF5'),
        ('f.hdf5', good['.keras'], 'does not begin as HDF5'),
        ('g.keras', good['.hdf5'], 'does not begin as a zip'),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, match)
    (tmp_path / 'h.hdf5').write_bytes(good['.hdf5'] + bad['.keras'])  # to Keras this is HDF5
    assert load_model(tmp_path / 'h.hdf5').output_shape == (None, 16, 16, 4)


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
def test_a_model_of_stock_layers_is_opened(tmp_path, suffix):
    """Layers that ours has not, those of keras.applications among them, and models inside."""
    layers = keras.layers
    x = inputs = keras.Input((16, 16, 3))
    separable = layers.SeparableConv2D(4, 3, padding='same', activation='relu')
    inner = keras.Sequential([separable, layers.LayerNormalization()])
    inner.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1.0, 9)), 'mse')
    x = layers.Rescaling([1.0, 2, 3])(x)
    x = layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3])(x)
    x = layers.Add()([inner(x), layers.Conv2D(4, 1, kernel_regularizer='l2')(x)])
    x = layers.DepthwiseConv2D(3, padding='same', depthwise_constraint='max_norm')(x)
    squeezed = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Activation('hard_sigmoid')(squeezed)])
    x = layers.TimeDistributed(layers.Dense(4))(layers.Dropout(0.5)(x))
    x = layers.Reshape((16, 16, 4))(
        layers.Bidirectional(layers.LSTM(2, return_sequences=True))(layers.Reshape((256, 4))(x))
    )
    x = x * 2.0 if suffix == '.keras' else x  # Keras cannot open that itself from HDF5
    model = keras.Model(inputs, layers.Softmax()(x))
    model.compile(loss=lambda y, p: p)  # what it was trained with is not opened
    model.save(tmp_path / f'm{suffix}', include_optimizer=False)
    opened = load_model(tmp_path / f'm{suffix}')
    picture = np.random.default_rng(0).random((1, 16, 16, 3), 'float32')
    np.testing.assert_allclose(
        opened.predict_on_batch(picture), model.predict_on_batch(picture), atol=1e-6
    )


# ---------------------------------------------------------------------------- bombs


def without_memory(*args, **kwargs):
    raise AssertionError('memory taken')


def test_a_file_that_declares_a_large_text_is_refused_unread(tmp_path, monkeypatch):
    small_model(tmp_path / 'm.keras')
    for name, size, ballast in (
        ('config.json', 40 * LIMIT, b''),
        ('about', 40 * LIMIT, b''),
        ('about', 2 * LIMIT, os.urandom(1 << 20)),
    ):
        path = tmp_path / f'{len(ballast)}{name}.keras'
        with zipfile.ZipFile(tmp_path / 'm.keras') as f:
            held = {inside: f.read(inside) for inside in f.namelist()}
        held |= {name: b'[' * size, 'ballast': ballast}
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as f:
            for inside, content in held.items():
                f.writestr(inside, content)
        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, 'read', without_memory)
            refused(path, r'declares \d')
    path = small_model(tmp_path / 'm.hdf5')
    with h5py.File(path, 'a') as f:
        f['about'] = '[' * 2 * LIMIT
    refused(path, r'declares \d')
    with h5py.File(path, 'a') as f:
        del f['about']
        f.attrs['model_config'] = '[' * 2 * LIMIT
    refused(path, r'declares \d')
    with h5py.File(path, 'a') as f:
        f.attrs['model_config'] = '[' * 100_000
    refused(path, 'could not open')


def test_weights_larger_than_their_file_are_refused_unread(tmp_path):
    path = small_model(tmp_path / 'm.hdf5')
    with h5py.File(path, 'a') as f:
        f.create_dataset('model_weights/more', (1 << 30,), 'f4')  # takes no place on the disk
    refused(path, 'declares 4,295 MB of weights')
    with pytest.raises(InputError, match='declares 4,295 MB of weights'):
        load_file(keras.Sequential(), path)


@pytest.mark.parametrize('suffix', ['.hdf5', '.keras'])
@pytest.mark.parametrize(
    'layer, part, value',
    [
        (0, 'batch_shape', [None, 200_000, 200_000, 3]),
        (0, 'batch_shape', [None, None, 1 << 40, 3]),
        (1, 'filters', 10**9),
        (1, 'kernel_size', [30_000, 30_001]),
        (2, 'size', [100_000, 100_000]),
    ],
)
def test_a_network_that_no_machine_holds_is_refused_before_it_is_built(
    tmp_path, monkeypatch, suffix, layer, part, value
):
    layers = keras.layers
    around = layers.UpSampling2D(2), layers.MaxPooling2D(2)
    path = small_model(tmp_path / f'm{suffix}', layers.Conv2D(3, 3, padding='same'), *around)

    def change(config):
        config['config']['layers'][layer]['config'][part] = value
        for other in config['config']['layers']:
            other.pop('build_config', None)
        if part == 'size':
            config['config']['layers'][3]['config'] |= {'pool_size': value, 'strides': value}

    change_config(path, change)
    monkeypatch.setattr(keras.models, 'load_model', without_memory)
    refused(path, 'too many to be true')


def test_what_was_refused_takes_no_memory_later(tmp_path):
    """Keras would give it to the weights that it was told of when it builds the next network."""
    path = small_model(tmp_path / 'm.keras')
    huge = {'kernel_size': [1999, 1999], 'padding': 'same'}
    change_config(path, lambda c: c['config']['layers'][1]['config'].update(huge))
    refused(path, 'too many to be true')
    assert load_model(small_model(tmp_path / 'n.keras')).count_params() == 16
    from keras.src.backend.common.global_state import get_global_attribute

    assert not get_global_attribute('uninitialized_variables')


# ---------------------------------------------------------------------------- what travels inside


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
    """As the first version wrote it."""
    net = unet(input_size=(16, 24, 3), filters=1)
    save_model(net, tmp_path / 'm.hdf5')
    with h5py.File(tmp_path / 'm.hdf5', 'a') as f:
        del f['about']
        f.attrs['class_table'] = json.dumps(CAMVID.to_dict())
    about = load_model(tmp_path / 'm.hdf5').about
    assert about.classes == CAMVID and about.rule == SizeRule('pad', 16, 24)
    assert about.intensity is None


@pytest.mark.parametrize(
    'part, value',
    [
        ('rule', []),
        ('rule', {'kind': 'crop', 'height': 16, 'width': 16}),
        ('rule', {'kind': 'pad', 'height': 16, 'width': None}),
        ('rule', {'kind': 'pad', 'height': 200_000, 'width': 200_000}),
        ('rule', {'kind': 'pad', 'height': -16, 'width': -16}),
        ('rule', {'kind': 'pad', 'height': 16.5, 'width': 16}),
        ('rule', {'kind': 'pad', 'height': True, 'width': 16}),
        ('rule', {'kind': 'pad', 'depth': 3}),
        ('intensity', [1]),
        ('intensity', 'ab'),
        ('intensity', [3, 3]),
        ('intensity', [0, float('nan')]),
        ('intensity', [0, float('inf')]),
        ('intensity', ['0', '1']),
        ('intensity', [0, 10**400]),
        ('formats', [1]),
        ('settings', 'x' * 100_000),
        ('versions', 3),
        ('run', '../../other'),
        ('run', ['x']),
        ('classes', None),
        (None, 'no object'),
        (None, [1, 2]),
    ],
)
def test_what_travels_inside_is_what_the_program_writes(tmp_path, part, value):
    net = unet(input_size=(16, 24, 3), filters=1)
    save_model(net, path := tmp_path / 'm.hdf5')
    with h5py.File(path, 'a') as f:
        about = json.loads(f['about'][()])
        assert part is None or part in about
        del f['about']
        f['about'] = json.dumps(value if part is None else about | {part: value})
    refused(path, part if isinstance(value, str | list) and part else 'm.hdf5')


def test_an_about_that_leads_to_another_file_is_not_followed(tmp_path):
    net = unet(input_size=(16, 24, 3), filters=1)
    net.about = About(class_table(13), SizeRule('stretch', 16, 24))
    save_model(net, tmp_path / 'there.hdf5')
    with h5py.File(small_model(tmp_path / 'm.hdf5'), 'a') as f:
        f['about'] = h5py.ExternalLink('there.hdf5', '/about')
    assert load_model(tmp_path / 'm.hdf5').about.classes.names == class_table(4).names


@pytest.mark.parametrize('n', [12, 13])
def test_twelve_or_thirteen_channels_of_somebody_are_not_camvids(tmp_path, n):
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Conv2D(n, 1)(inputs)).save(tmp_path / 'm.keras')
    classes = load_model(tmp_path / 'm.keras').about.classes
    assert classes.names[0] == 'class 0' and len(classes.scored) == n


@pytest.mark.parametrize(
    'build',
    [
        lambda: (keras.Input((16, 16, 17)), lambda x: keras.layers.Conv2D(3, 1)(x)),
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
        lambda: (keras.Input((16, 16, 3)), lambda x: keras.layers.Conv2D(256, 1)(x)),
        lambda: (keras.Input((16, 16, 3)), lambda x: keras.layers.Conv2DTranspose(3, 2, 2)(x)),
        lambda: (keras.Input((16, 16, 3)), lambda x: keras.layers.Conv2D(3, 3)(x)),
        lambda: (keras.Input((16, 16, 3), dtype='uint8'), lambda x: keras.layers.Rescaling(1.0)(x)),
        lambda: (keras.Input((16, 16, 3)), lambda x: keras.layers.Identity(dtype='int32')(x)),
    ],
)
def test_a_network_that_cannot_serve_is_refused_in_one_line(tmp_path, build):
    inputs, layers = build()
    keras.Model(inputs, layers(inputs)).save(tmp_path / 'm.keras')
    refused(tmp_path / 'm.keras', 'expected (a picture|a map|floats)')


def test_more_channels_than_classes_are_refused(tmp_path):
    net = unet(input_size=(16, 16, 3), filters=1, num_class=5)
    net.about = About(class_table(4))
    save_model(net, tmp_path / 'm.hdf5')
    refused(tmp_path / 'm.hdf5', '5 channels, but a class table of 4')
