"""Losses from their definitions; what void and no class do to them."""

import keras
import numpy as np
import pytest
from keras import ops

from model import unet
from seg import losses
from seg.classes import CAMVID, TWO_CLASSES, ClassTable
from seg.losses import (
    LOSSES,
    Scores,
    border_weight,
    compile_model,
    make_loss,
    target_and_weight,
    weights_of,
)

pytestmark = pytest.mark.usefixtures('shallow')

N = len(CAMVID)


def one_hot(label, n=N):
    return (label[..., None] == np.arange(n)).astype('float32')


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
    compile_model(net, CAMVID, 'adam', name)
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


@pytest.mark.parametrize('name', LOSSES)
def test_one_channel_learns_under_every_loss(name):
    """Its loss is that of the two channels [0, z] with softmax; no class gives no gradient."""
    import tensorflow as tf

    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, (2, 3, 4))
    label[0, 0] = 255
    z = tf.Variable(rng.normal(0, 2, (2, 3, 4, 1)).astype('float32'))
    weights = [0.5, 3.0]
    one = np.where(label == 255, -1, label).astype('float32')[..., None]
    with tf.GradientTape() as tape:
        loss = make_loss(name, TWO_CLASSES, 1, 'sigmoid', weights)(ops.convert_to_tensor(one), z)
    slope = np.abs(tape.gradient(loss, z).numpy()[..., 0])
    assert (slope[label == 255] == 0).all() and (slope[label < 255] > 0).all()
    pair = ops.concatenate([ops.zeros_like(z), z], -1)
    of_two = 'categorical_crossentropy' if name == 'binary_crossentropy' else name
    two = make_loss(of_two, TWO_CLASSES, 2, 'softmax', weights)(one_hot(label, 2), pair)
    assert float(loss) == pytest.approx(float(two), rel=1e-5)
    p = 1 / (1 + np.exp(-z.numpy()[..., 0].astype(float)))
    if name in ('binary_crossentropy', 'categorical_crossentropy'):  # the definition, weighted
        known, w = label < 255, np.where(label == 1, 3, 0.5)
        cross = -np.log(np.where(label == 1, p, 1 - p))
        assert float(loss) == pytest.approx((w * cross)[known].sum() / w[known].sum(), rel=1e-5)


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
    compile_model(net, CAMVID, 'adam', name, class_weights)

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
    """Cross-entropy is taken on the logits: a probability that underflows has a gradient."""
    net = unet(input_size=(16, 16, 3), filters=1, batch_norm=False)
    scores = net.get_layer('scores')
    scores.bias.assign(np.eye(N)[5] * 300.0)
    x = np.zeros((1, 16, 16, 3), 'float32')
    loss = net.train_on_batch(x, one_hot(np.zeros((1, 16, 16), int)))[0]
    assert loss == pytest.approx(300, rel=1e-5)
    assert float(scores.bias[0]) > 0 and float(scores.bias[5]) < 300


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid', 'relu'])
@pytest.mark.parametrize('name', LOSSES)
def test_a_loss_on_logits_is_the_loss_on_the_output(name, activation):
    """Training sees the logits, validation what the file gives."""
    rng = np.random.default_rng(5)
    y = one_hot(rng.integers(0, 13, (2, 3, 4)))
    z = ops.convert_to_tensor(rng.normal(0, 2, (2, 3, 4, N)).astype('float32'))
    on_logits = make_loss(name, CAMVID, N, activation)
    on_output = make_loss(name, CAMVID, N, activation, on_logits=False)
    output = np.asarray(keras.activations.get(activation)(z))
    assert float(on_logits(y, z)) == pytest.approx(float(on_output(y, output)), rel=1e-4)


def test_logits_far_apart_still_learn():
    """No clip between the loss and the logits: a hopeless pixel's gradient is whole."""
    import tensorflow as tf

    z = tf.Variable(np.eye(N)[5].astype('float32').reshape(1, 1, 1, N) * 300)
    loss = make_loss('categorical_crossentropy', CAMVID, N, 'softmax')
    with tf.GradientTape() as tape:
        value = loss(one_hot(np.zeros((1, 1, 1), int)), z)
    slope = tape.gradient(value, z).numpy().ravel()
    assert float(value) == pytest.approx(300) and slope[0] == pytest.approx(-1)


@pytest.mark.parametrize('n, table', [(1, TWO_CLASSES), (2, TWO_CLASSES), (N, CAMVID)])
def test_scores_in_training_are_those_of_the_count(n, table):
    from seg.metrics import confusion, scores

    rng = np.random.default_rng(6)
    label = rng.choice([*range(len(table)), 255], (2, 9, 8)).astype(np.uint8)
    z = rng.normal(0, 2, (2, 9, 8, n)).astype('float32')
    y = np.where(label == 255, -1, label.astype('float32'))[..., None] if n == 1 else None
    metric = Scores(table, 'sigmoid' if n == 1 else 'softmax')
    metric.update_state(ops.convert_to_tensor(one_hot(label, n) if y is None else y), z)
    index = z[..., 0] > 0 if n == 1 else z[..., table.scored].argmax(-1)
    counts = confusion(label, index.astype(np.uint8), table)
    np.testing.assert_array_equal(metric.counts, counts)
    result = {k: float(v) for k, v in metric.result().items()}
    assert result['miou'] == pytest.approx(scores(counts)['miou'], rel=1e-5)
    assert result['accuracy'] == pytest.approx(scores(counts)['accuracy'], rel=1e-5)


# ---------------------------------------------------------------------------- border weights

CELLS = ClassTable(
    ('ground', 'cell', 'void', 'nucleus'),
    ((0, 0, 0), (9, 9, 9), (5, 5, 5), (7, 7, 7)),
    ('scored', 'scored', 'void', 'scored'),
)


def objects_by_hand(label, classes):
    """[(row, column), ...] of each object: from pixel to neighbour, of four, of its class."""
    left = {p for p in np.ndindex(*label.shape) if label[p] in classes}
    while left:
        found = [left.pop()]
        for y, x in found:
            for p in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if p in left and label[p] == label[y, x]:
                    left.remove(p)
                    found.append(p)
        yield found


@pytest.mark.parametrize('seed', range(6))
def test_border_weights_are_the_papers_formula(seed):
    """By loops over pixels and objects; void and no class are neither object nor background."""
    rng = np.random.default_rng(seed)
    label = np.zeros((31, 44), np.uint8)
    for value in rng.choice([0, 1, 1, 1, 2, 3, 255], 3 * seed):
        (y, x), (h, w) = rng.integers(0, (28, 41)), rng.integers(1, 9, 2)
        label[y : y + h, x : x + w] = value
    objects, expected = list(objects_by_hand(label, (1, 3))), np.zeros(label.shape)
    for y, x in np.argwhere(label == 0):
        distances = sorted(min(np.hypot(y - r, x - c) for r, c in one) for one in objects)
        if len(distances) > 1:
            expected[y, x] = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 5**2))
    weight = border_weight(label, CELLS)
    assert weight.dtype == np.uint8 and (weight.any() or not seed)
    assert np.abs(10 / 255 * weight - expected).max() <= 10 / 255 / 2 + 1e-9


def test_the_gap_between_touching_cells_weighs_most():
    label = np.zeros((40, 90), np.uint8)
    label[10:20, 5:15] = label[10:20, 16:26] = 1  # a pixel apart
    label[25:35, 5:15] = 1
    assert (border_weight(label[22:], CELLS) == 0).all()  # one alone
    weight = border_weight(label, CELLS)
    gap, inside = weight[11:19, 15], weight[label == 1]
    assert (gap == round(255 * np.exp(-4 / 50))).all() and (gap == weight.max()).all()
    assert (inside == 0).all() and (weight[:, 50:] == 0).all() and weight[22, 10] > 50
    corner = np.kron(np.eye(2, dtype=np.uint8), np.ones((6, 6), np.uint8))  # two, by sides
    assert border_weight(corner, CELLS).any()


def weighted_rows():
    """(label, what each pixel weighs, the one-hot rows of both as training gets them)."""
    rng = np.random.default_rng(7)
    label = rng.choice([*range(N), 255], (2, 6, 5)).astype(np.uint8)
    border = np.where(label == 255, 0, rng.integers(0, 256, label.shape, np.uint16))
    return label, 1 + border * 10 / 255, losses.one_hot(label + 256 * border, N)


def test_one_hot_of_weighted_labels():
    label, weight, rows = weighted_rows()
    np.testing.assert_allclose(rows, one_hot(label) * weight[..., None], rtol=1e-6)
    assert rows.dtype == 'float32' and np.max(rows) > 3
    full = losses.one_hot(np.array([[5 + 255 * 256, 255]], np.uint16), N)
    np.testing.assert_allclose(full, [[11 * np.eye(N)[5], np.zeros(N)]])


def test_weighted_cross_entropy_is_its_definition():
    rng = np.random.default_rng(8)
    label, weight, rows = weighted_rows()
    z, of_class = rng.normal(0, 2, (*label.shape, N)), rng.uniform(0.5, 4, N)
    loss = make_loss('categorical_crossentropy', CAMVID, N, 'softmax', of_class)
    total = count = 0
    for place in np.argwhere(label < 11):
        scores, c = z[*place], label[*place]
        w = weight[*place] * of_class[c]
        total -= w * np.log(np.exp(scores[c]) / np.exp(scores).sum())
        count += w
    assert float(loss(rows, z.astype('float32'))) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid', 'relu'])
@pytest.mark.parametrize('name', LOSSES)
def test_a_pixel_of_weight_w_is_w_pixels(name, activation):
    """Under every loss: value and slope are those of the pixels written down so many times."""
    import tensorflow as tf

    rng = np.random.default_rng(9)
    y = rng.dirichlet(np.ones(N), 60).astype('float32')  # mixed
    y[:40] = one_hot(rng.integers(0, N, 40))
    y[40:45] = 0
    times, of_class = rng.integers(1, 6, 60), rng.uniform(0.5, 4, N)
    loss = make_loss(name, CAMVID, N, activation, of_class)
    z = tf.Variable(rng.normal(0, 2, (60, N)).astype('float32'))
    with tf.GradientTape(persistent=True) as tape:
        weighted = loss(tf.constant(y * times[:, None].astype('float32')), z)
        repeated = loss(tf.repeat(y, times, axis=0), tf.repeat(z, times, axis=0))
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-5)
    slopes = [tf.convert_to_tensor(tape.gradient(value, z)) for value in (weighted, repeated)]
    np.testing.assert_allclose(*slopes, rtol=1e-3, atol=1e-6)
    assert np.abs(slopes[0]).max() > 1e-4


@pytest.mark.parametrize('table', [CAMVID, CELLS])
def test_scores_are_the_same_with_weights(table):
    rng = np.random.default_rng(10)
    n, scores = len(table), [Scores(table, 'softmax', w) for w in (False, True)]
    y, z = rng.dirichlet(np.ones(n), (2, 9, 8)).astype('float32'), rng.normal(0, 2, (2, 9, 8, n))
    y[:, :5] = one_hot(rng.choice([*range(n), 255], (2, 5, 8)), n)
    for metric, weight in zip(scores, (1, rng.uniform(1, 11, (2, 9, 8, 1)))):
        metric.update_state(ops.convert_to_tensor(y * weight), ops.convert_to_tensor(z))
    assert np.sum(scores[0].counts) > 60
    np.testing.assert_array_equal(scores[0].counts, scores[1].counts)
