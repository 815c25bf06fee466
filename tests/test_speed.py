"""Faster kernels and Muon: what they compute is what Keras computes."""

import keras
import numpy as np
import pytest

from model import unet
from seg import speed
from seg.classes import CAMVID
from seg.losses import compile_model
from seg.settings import Settings
from seg.speed import Adam, Muon, make_optimizer, quicken

pytestmark = pytest.mark.usefixtures('shallow')

N = len(CAMVID)


def one_hot(label, n=N):
    return (label[..., None] == np.arange(n)).astype('float32')


def compiled(net, learning_rate, **how):
    compile_model(net, CAMVID, make_optimizer(net, Settings(**how), learning_rate))
    return net


def test_fused_batch_norm_is_keras_batch_norm():
    tf = pytest.importorskip('tensorflow')
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(3, 2, (2, 3, 5, 4)).astype('float32'))
    r = rng.normal(size=(2, 3, 5, 4)).astype('float32')
    results = []
    for change in (lambda net: net, quicken):
        layer = keras.layers.BatchNormalization(momentum=0.9)
        change(keras.Model(i := keras.Input(x.shape[1:]), layer(i)))
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
    for size in ((7, 9), (None, None)):
        for change in (lambda net: net, quicken):
            i = keras.Input((*size, 3))
            net = change(keras.Model(i, keras.layers.Cropping2D(((1, 2), (0, 3)))(i)))
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = net(x)
                loss = tf.reduce_sum(y**3)
            results.append([y, tape.gradient(loss, x)])
    for stock, *others in zip(*results):
        for sliced in others:
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
    monkeypatch.setattr(speed, '_avx2_alone', lambda: True)
    x = tf.random.stateless_normal(shape, (1, 2))
    kernel = np.random.default_rng(0).normal(size=(size, size, shape[-1], filters))
    results = []
    for change in (lambda net: net, quicken):
        layer = keras.layers.Conv2D(filters, size, padding='same', dilation_rate=rate)
        change(keras.Model(i := keras.Input(x.shape[1:]), layer(i)))
        layer.kernel.assign(kernel)

        def learn(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(y**2)
            return y, *tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])

        any_size = tf.TensorSpec((None, None, None, shape[-1]))
        results += [learn(x), tf.function(learn, input_signature=[any_size])(x)]
    for stock, _, *own in zip(*results):
        for found in own:
            np.testing.assert_allclose(stock, found, rtol=1e-4, atol=1e-4 * np.abs(stock).max())


@pytest.mark.parametrize('shape', [(40, 7), (7, 40), (16, 16)])
def test_muon_by_gram_matrix_is_keras_muon(shape):
    x = np.random.default_rng(0).normal(size=shape).astype('float32')
    x[:, 2] = x[:, 3]  # and with less than full rank
    stock, own = (
        o(0.1).zeropower_via_newtonschulz5(keras.ops.array(x), 5)
        for o in (keras.optimizers.Muon, Muon)
    )
    np.testing.assert_allclose(stock, own, atol=2e-5)


RATES = keras.optimizers.schedules.CosineDecay(0.01, 6, warmup_target=0.1, warmup_steps=2)


@pytest.mark.parametrize('rate, decay', [(RATES, None), (RATES, 0.1), (0.1, None)])
@pytest.mark.parametrize('own', [Adam, Muon])
def test_adam_by_one_kernel_is_keras_adam(own, rate, decay):
    """Of Muon those variables that are no kernels; a share of the rate is a rate of its own. Keras
    rounds 1 - 0.999 elsewhere: the moves differ by 2e-5 of their size."""
    optimizers = [kind(rate, weight_decay=decay) for kind in (own, keras.optimizers.Adam)]
    optimizers += [keras.optimizers.Adam(0.025)] * (rate == 0.1)
    optimizers[0].shares = [1, 0.25]
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 3, 4)).astype('float32')
    held = [[keras.Variable(value) for value in start] for _ in optimizers]
    for step in range(6):
        gradients = rng.normal(size=(2, 3, 4)).astype('float32')
        for optimizer, variables in zip(optimizers, held):
            if step == 3 and rate == 0.1:  # as a callback does
                optimizer.learning_rate = float(optimizer.learning_rate) / 2
            optimizer.apply([keras.ops.array(g) for g in gradients], variables)
    ours, whole, *quarter = held
    np.testing.assert_allclose(ours[0], whole[0], atol=1e-5)
    for variables in quarter:
        np.testing.assert_allclose(ours[1], variables[1], atol=1e-5)
    assert np.abs(ours[0] - start[0]).max() > 0.1


def test_muon_moves_kernels_by_orthogonal_matrices_and_the_rest_by_adam():
    """The update of a kernel has singular values near 1 (.7 to 1.2 by five steps of Newton-Schulz)
    times rate x 0.2 x sqrt(longer side); first and last layer move as under Adam, by the rate."""
    net = unet(num_class=N, input_size=(64, 64, 3), filters=2, classes=CAMVID)
    compiled(net, 0.01, optimizer='muon')
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
    compiled(net, 0.1, optimizer=optimizer, weight_decay=0.5)
    before = {v.path: v.numpy() for v in net.trainable_variables}
    void = np.full((1, 16, 16), 11)  # which gives no gradient
    net.train_on_batch(np.zeros((1, 16, 16, 3), 'float32'), one_hot(void))
    for v in net.trainable_variables:
        share = 0.95 if v.path.endswith('kernel') else 1
        np.testing.assert_allclose(v.numpy(), before[v.path] * share, atol=1e-6)


def test_a_processor_of_which_numpy_says_nothing(monkeypatch):
    """np.show_config leaves out what it does not find."""
    for config in ({}, {'SIMD Extensions': {'baseline': ['SSE']}}):
        monkeypatch.setattr(speed.np, 'show_config', lambda mode, config=config: config)
        assert not speed._avx2_alone()
        unet(input_size=(16, 16, 3), filters=1)


@pytest.mark.parametrize('kind, near', [('float32', 1e-5), ('mixed_bfloat16', 0.02)])
@pytest.mark.parametrize('stride, size, sides', [(1, 3, (6, 7)), (1, 5, (9, 8)), (2, 3, (8, 7))])
def test_a_depthwise_layer_learns_as_tensorflows(kind, near, stride, size, sides):
    tf = pytest.importorskip('tensorflow')
    rng, strides = np.random.default_rng(0), (1, stride, stride, 1)
    x = tf.constant(rng.normal(size=(2, *sides, 3)), tf.float32)
    options = dict(strides=stride, padding='same', use_bias=False, dtype=kind)
    inputs, layer = keras.Input((*sides, 3)), keras.layers.DepthwiseConv2D(size, **options)
    model, kernel = quicken(keras.Model(inputs, layer(inputs))), layer.kernel.value
    found, r = [], None
    for convolve in (lambda: model(x), lambda: tf.nn.depthwise_conv2d(x, kernel, strides, 'SAME')):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.cast(convolve(), tf.float32)
        r = rng.normal(size=y.shape).astype('float32') if r is None else r
        found.append([y, *tape.gradient(y, [x, kernel], r)])
    for ours, true in zip(*found):
        np.testing.assert_allclose(ours, true, atol=near * np.abs(true).max())
