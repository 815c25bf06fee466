"""The network's shape, its losses and its files."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from model import (
    LOSSES,
    ModelCheckpoint,
    Muon,
    _fused,
    _products,
    _sliced,
    compile_model,
    load_model,
    save_model,
    target_and_weight,
    unet,
    weights_of,
)
from seg.classes import CAMVID, class_table
from seg.files import InputError

N = len(CAMVID)


def one_hot(label, n=N):
    return (label[..., None] == np.arange(n)).astype('float32')


# ---------------------------------------------------------------------------- the network


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(16, 16), (17, 16), (31, 47), (48, 64), (100, 75)])
def test_output_has_the_inputs_size(size, stride):
    net = unet(num_class=3, input_size=(*size, 3), filters=1, stride=stride)
    assert net.output_shape == (None, *size, 3)
    y = net.predict_on_batch(np.random.default_rng(0).random((2, *size, 3), 'float32'))
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-5)


def test_360_rows_are_padded_to_368_evenly_and_cropped_back():
    net = unet(num_class=2, input_size=(360, 480, 3), filters=1)
    assert net.get_layer('pad').output.shape[1:3] == (368, 480)
    assert net.get_layer('pad').padding == net.get_layer('crop').cropping == ((4, 4), (0, 0))


def test_five_levels_four_skips_doubling_filters():
    net = unet(input_size=(32, 48, 3), filters=2)
    names = [layer.name for layer in net.layers]
    assert [n for n in names if n.startswith('concat')] == [
        'concat4',
        'concat3',
        'concat2',
        'concat1',
    ]
    assert [n for n in names if n.startswith('pool')] == ['pool1', 'pool2', 'pool3', 'pool4']
    for level in range(1, 5):
        skip, up = net.get_layer(f'concat{level}').input
        assert skip.shape == up.shape == (None, 32 >> level - 1, 48 >> level - 1, 2 << level - 1)
    assert net.get_layer('bottom5_conv2').filters == 32
    plain = unet(input_size=(32, 32, 3), filters=64, num_class=2, batch_norm=False)
    convs = [w for w in plain.weights if w.name == 'kernel' and w.shape[:2] == (3, 3)]
    assert len(convs) == 18
    assert 31_000_000 < plain.count_params() < 31_100_000  # the paper's net


def test_stride_2_enters_at_half_resolution_and_the_convolutions_sum_to_a_quarter():
    net = unet(input_size=(360, 480, 3), filters=2, stride=2)
    assert net.get_layer('stem_conv').output.shape == (None, 180, 240, 2)
    assert net.get_layer('pad').output.shape[1:3] == (192, 240)
    assert net.get_layer('scores').output.shape[1:3] == (360, 480)
    assert net.get_layer('concat1').output.shape[1:3] == (192, 240)


def test_dilated_bottom_and_residual_pairs():
    net = unet(input_size=(32, 32, 3), filters=2, dilated=True, residual=True)
    bottom = [net.get_layer(f'bottom5_conv{i}').dilation_rate[0] for i in (1, 2)]
    assert bottom == [2, 4]
    pairs = [layer for layer in net.layers if layer.name.endswith('_residual')]
    assert len(pairs) == 9
    for pair in pairs:
        entry, body = pair.input
        assert entry.shape == body.shape


def test_fused_batch_norm_is_keras_batch_norm():
    tf = pytest.importorskip('tensorflow')
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(3, 2, (2, 3, 5, 4)).astype('float32'))
    r = rng.normal(size=(2, 3, 5, 4)).astype('float32')
    results = []
    for layer in (
        keras.layers.BatchNormalization(momentum=0.9),
        _fused(keras.layers.BatchNormalization(momentum=0.9)),
    ):
        layer.build(x.shape)
        layer.gamma.assign([0.5, 1, 2, -1])
        layer.beta.assign([0, 1, -1, 2])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * r)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        results.append([y, *gradients, *layer.get_weights(), layer(x, training=False)])
    for stock, fused in zip(*results):
        np.testing.assert_allclose(stock, fused, atol=2e-5)


def test_sliced_crop_is_keras_cropping():
    tf = pytest.importorskip('tensorflow')
    x = tf.random.stateless_normal((2, 7, 9, 3), (1, 2))
    results = []
    for wrap in (lambda layer: layer, _sliced):
        net = keras.Model(
            i := keras.Input((7, 9, 3)), wrap(keras.layers.Cropping2D(((1, 2), (0, 3))))(i)
        )
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x)
            loss = tf.reduce_sum(y**3)
        results.append([y, tape.gradient(loss, x)])
    for stock, sliced in zip(*results):
        np.testing.assert_array_equal(stock, sliced)


@pytest.mark.parametrize(
    'shape, filters, size, rate',
    [
        ((2, 6, 9, 32), 32, 3, 1),
        ((1, 12, 15, 40), 30, 3, 2),
        ((1, 5, 4, 30), 40, 3, 4),
        ((2, 4, 5, 64), 16, 1, 1),
    ],
)
def test_convolution_by_products_is_keras_convolution(monkeypatch, shape, filters, size, rate):
    tf = pytest.importorskip('tensorflow')
    monkeypatch.setattr('model._avx2_alone', lambda: True)
    x = tf.random.stateless_normal(shape, (1, 2))
    kernel = np.random.default_rng(0).normal(size=(size, size, shape[-1], filters))
    results = []
    for wrap in (lambda layer: layer, _products):
        layer = wrap(keras.layers.Conv2D(filters, size, padding='same', dilation_rate=rate))
        layer.build(x.shape)
        layer.kernel.assign(kernel)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])])
    for stock, own in zip(*results):
        np.testing.assert_allclose(stock, own, rtol=1e-4, atol=1e-4 * np.abs(stock).max())


@pytest.mark.parametrize('shape', [(40, 7), (7, 40), (16, 16)])
def test_muon_by_gram_matrix_is_keras_muon(shape):
    x = np.random.default_rng(0).normal(size=shape).astype('float32')
    x[:, 2] = x[:, 3]  # and with less than full rank
    stock, own = (
        o(0.1).zeropower_via_newtonschulz5(keras.ops.array(x), 5)
        for o in (keras.optimizers.Muon, Muon)
    )
    np.testing.assert_allclose(stock, own, atol=2e-5)


def test_muon_moves_kernels_by_orthogonal_matrices_and_the_rest_by_adam():
    """The update of a kernel has singular values near 1 (.7 to 1.2 by five steps of Newton-Schulz)
    times rate x 0.2 x sqrt(longer side); first and last layer move as under Adam, by the rate."""
    net = unet(num_class=N, input_size=(64, 64, 3), filters=2, classes=CAMVID)
    compile_model(net, CAMVID, learning_rate=0.01, optimizer='muon')
    before = {v.path: v.numpy() for v in net.trainable_variables}
    rng = np.random.default_rng(0)
    net.train_on_batch(
        rng.random((2, 64, 64, 3), np.float32), one_hot(rng.integers(0, 11, (2, 64, 64)))
    )
    for v in net.trainable_variables:
        moved = v.numpy() - before[v.path]
        if v.path.endswith('kernel') and v.path.split('/')[0] not in ('down1_conv1', 'scores'):
            matrix = moved.reshape(-1, moved.shape[-1])
            singular = np.linalg.svd(matrix, compute_uv=False) / (0.002 * max(matrix.shape) ** 0.5)
            assert singular[0] < 1.3 and np.median(singular) > 0.6, v.path
        else:
            assert np.abs(moved).max() < 0.0101, v.path


@pytest.mark.parametrize('optimizer', ['adam', 'muon'])
def test_weight_decay_shrinks_kernels_alone(optimizer):
    net = unet(num_class=N, input_size=(16, 16, 3), filters=1)
    compile_model(net, CAMVID, learning_rate=0.1, weight_decay=0.5, optimizer=optimizer)
    before = {v.path: v.numpy() for v in net.trainable_variables}
    void = np.full((1, 16, 16), 11)  # which gives no gradient
    net.train_on_batch(np.zeros((1, 16, 16, 3), 'float32'), one_hot(void))
    for v in net.trainable_variables:
        share = 0.95 if v.path.endswith('kernel') else 1
        np.testing.assert_allclose(v.numpy(), before[v.path] * share, atol=1e-6)


def test_fusion_add_and_no_batch_norm():
    net = unet(input_size=(32, 32, 3), filters=2, fusion='add', batch_norm=False)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds.count('Add') == 4 and 'Concatenate' not in kinds
    assert 'BatchNormalization' not in kinds
    assert net.get_layer('down1_conv1').use_bias


def test_he_initialisation():
    net = unet(input_size=(32, 32, 3), filters=16, batch_norm=False)
    kernel = np.asarray(net.get_layer('bottom5_conv2').kernel)
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.05)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(input_size=(15, 32, 3)),
        dict(fusion='sum'),
        dict(stride=3),
        dict(input_size=(None, None, 3)),
        dict(loss='huber'),
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match='expected'):
        unet(**{'input_size': (32, 32, 3), 'filters': 1} | wrong)


# ---------------------------------------------------------------------------- losses


def numpy_loss(name, t, p, w, focal_p=None):
    """Each loss from its definition, over the counted pixels only; Keras clips at 1e-7."""
    t, p = t[w > 0].astype(float), p[w > 0].astype(float)
    if 'cross' in name or name == 'focal':
        p = p.clip(1e-7, 1 - 1e-7)
    with np.errstate(divide='ignore', invalid='ignore'):
        cross = -(t * np.log(p)).sum(-1)
    if name == 'categorical_crossentropy':
        return cross.mean()
    if name == 'binary_crossentropy':
        return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    if name == 'focal':
        return ((1 - (t * focal_p[w > 0].clip(0, 1)).sum(-1)) ** 2 * cross).mean()
    if name == 'dice':
        return 1 - np.mean((2 * (t * p).sum(0) + 1) / (t.sum(0) + p.sum(0) + 1))
    error = ((t - p) ** 2).mean()
    return np.sqrt(error) if name == 'rmse' else error


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid', 'relu'])
@pytest.mark.parametrize('name', LOSSES)
def test_loss_is_its_definition_and_void_gives_no_gradient(name, activation):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    label = rng.integers(0, 12, (2, 6, 5))  # 11 is void
    label[0, 0, :3] = 255  # no class at all
    label[1, 2, 2:] = 12  # the 13th class is void too
    logits = tf.Variable(rng.normal(0, 2, (2, 6, 5, N)).astype('float32'))
    inputs = keras.Input((6, 5, N))
    net = keras.Model(inputs, keras.layers.Activation(activation, name=activation)(inputs))
    compile_model(net, CAMVID, name)
    with tf.GradientTape() as tape:
        output = net(logits)
        loss = net.compute_loss(y=one_hot(label), y_pred=output)
    counted = label < 11
    probability = np.asarray(output)
    if activation != 'softmax' and name in ('categorical_crossentropy', 'focal'):
        probability = probability / probability.sum(-1, keepdims=True)  # as Keras defines it
    hit = np.asarray(output) if name == 'focal' else None
    if name == 'crossentropy+dice':
        shares = probability / probability.sum(-1, keepdims=True)
        expected = numpy_loss(
            'categorical_crossentropy', one_hot(label), shares, counted
        ) + numpy_loss('dice', one_hot(label), probability, counted)
    else:
        expected = numpy_loss(name, one_hot(label), probability, counted, hit)
    # relu says 0 and more than 1, where float32 clips no finer than 6e-8
    assert float(loss) == pytest.approx(expected, rel=2e-2 if activation == 'relu' else 1e-3)
    gradient = np.abs(tape.gradient(loss, logits)).sum(-1)
    assert (gradient[~counted] == 0).all()
    if activation != 'relu':  # a negative score has none there, by design
        assert (gradient[counted] > 0).all()
    assert (gradient[counted] > 0).any()


@pytest.mark.parametrize('name', ['categorical_crossentropy', 'rmse', 'dice'])
def test_a_batch_of_void_alone_is_finite_and_moves_nothing(name):
    net = unet(input_size=(16, 16, 3), filters=1, loss=name, batch_norm=False)
    before = [np.array(w) for w in net.trainable_weights]
    x = np.random.default_rng(0).random((1, 16, 16, 3), 'float32')
    loss = net.train_on_batch(x, one_hot(np.full((1, 16, 16), 11)))
    assert np.isfinite(loss[0])
    for a, b in zip(before, net.trainable_weights):
        np.testing.assert_allclose(a, np.asarray(b), atol=1e-7)


def test_single_channel_no_class_gives_no_gradient():
    import tensorflow as tf

    y = np.array([1, 0, -1, 1], 'float32').reshape(1, 2, 2, 1)
    logits = tf.Variable(np.zeros((1, 2, 2, 1), 'float32'))
    with tf.GradientTape() as tape:
        weights = weights_of(class_table(1), 1)
        loss = LOSSES['binary_crossentropy'](ops.convert_to_tensor(y), ops.sigmoid(logits), weights)
    assert float(loss) == pytest.approx(np.log(2), rel=1e-5)
    assert (tape.gradient(loss, logits).numpy().ravel() != 0).tolist() == [True, True, False, True]


def test_mixed_rows_mix_their_weights():
    weights = np.ones(N)
    weights[3] = 4
    y = np.zeros((1, 3, N), 'float32')
    y[0, 0, [0, 3]] = 0.25, 0.75  # Sky and Road
    y[0, 1, [0, 11]] = 0.4, 0.6  # Sky and void
    y[0, 2, 11] = 1
    weights = weights_of(CAMVID, N, weights)
    target, weight = target_and_weight(ops.convert_to_tensor(y), weights)
    np.testing.assert_allclose(weight, [[0.25 + 3, 0.4, 0]], rtol=1e-6)
    share = 0.25 / (0.25 + 3)
    np.testing.assert_allclose(
        np.asarray(target)[0, :, :4:3], [[share, 1 - share], [1, 0], [0, 0]], rtol=1e-6
    )


@pytest.mark.parametrize('name', ['categorical_crossentropy', 'crossentropy+dice'])
def test_cross_entropy_of_mixed_and_weighted_rows_is_its_definition(name):
    """Value and slope, against NumPy and against differences."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    y = rng.dirichlet(np.ones(N), (2, 3, 4)).astype('float32')
    y[0, 0] = np.eye(N)[11]  # void
    y[1, 2] = 0  # no class at all
    class_weights = rng.uniform(0.5, 4, N)
    counted = np.where(np.arange(N) < 11, class_weights, 0)
    net = keras.Model(
        i := keras.Input((3, 4, N)), keras.layers.Activation('softmax', name='softmax')(i)
    )
    compile_model(net, CAMVID, name, class_weights=class_weights)

    def expected(logits):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        total = -(counted * y * np.log(p)).sum() / (counted * y).sum()
        if name == 'crossentropy+dice':
            mask = counted > 0
            both = (mask * y * p).sum((0, 1, 2))
            share = (mask * y).sum(-1, keepdims=True)
            either = (mask * y + share * p).sum((0, 1, 2))
            total += 1 - np.mean((2 * both + 1) / (either + 1))
        return total

    logits = rng.normal(0, 2, (2, 3, 4, N))
    variable = tf.Variable(logits.astype('float32'))
    with tf.GradientTape() as tape:
        loss = net.compute_loss(y=ops.convert_to_tensor(y), y_pred=net(variable))
    assert float(loss) == pytest.approx(expected(logits), rel=1e-5)
    gradient = tape.gradient(loss, variable).numpy()
    for place in [(0, 0, 1, 11), (0, 1, 2, 3), (1, 1, 0, 7), (1, 2, 0, 0), (1, 0, 3, 12)]:
        step = np.zeros_like(logits)
        step[place] = 1e-4
        slope = (expected(logits + step) - expected(logits - step)) / 2e-4
        assert gradient[place] == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_saturated_softmax_still_learns():
    """Cross-entropy is taken on the logits: -log of a probability that underflows has a gradient."""
    net = unet(input_size=(16, 16, 3), filters=1, batch_norm=False)
    scores = net.get_layer('scores')
    scores.bias.assign(np.eye(N)[5] * 300.0)
    x = np.zeros((1, 16, 16, 3), 'float32')
    loss = net.train_on_batch(x, one_hot(np.zeros((1, 16, 16), int)))[0]
    assert loss == pytest.approx(300, rel=1e-5)
    assert float(scores.bias[0]) > 0 and float(scores.bias[5]) < 300


# ---------------------------------------------------------------------------- files


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
    assert load_model(path).class_table == CAMVID


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
        unet(str(tmp_path / 'm.hdf5'), input_size=(16, 16, 3), filters=1, num_class=5)
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
    assert load_model(tmp_path / 'm.keras').class_table.names == class_table(4).names


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
