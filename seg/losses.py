"""Losses on logits, which void does not enter; accuracy and mIoU during training.
A loss is a function of (one_hot, output, logits, weights): one-hot (..., n) with n >= 2, the
activated output, the logits behind it, and what a pixel of each class counts (n,). One channel is
turned into two before, so that every loss serves it: sigmoid(z) is the second of softmax([0, z]).
Where devices share a batch its sums go over all of them, see devices.total.
"""

from functools import partial

import keras
import numpy as np
from keras import ops

from seg.devices import replicas, total

W0, SIGMA = 10, 5  # pixels; of the weights in Ronneberger et al., "U-Net", MICCAI 2015


def _mean(per_pixel):
    def loss(one_hot, output, logits, weights):
        target, weight = target_and_weight(one_hot, weights)
        values = per_pixel(target, output, logits)
        value, weight = total([ops.sum(weight * values), ops.sum(weight)])
        return value / (weight + 1e-7)

    return loss


def _focal(target, output, logits):
    """Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017: easy pixels count less."""
    hit = ops.clip(ops.sum(target * output, axis=-1), 0, 1)
    return -ops.square(1 - hit) * ops.sum(target * ops.log_softmax(logits), axis=-1)


def _softmax_cross_entropy(one_hot, output, logits, weights):
    """Cross-entropy by one softmax for value and slope; Keras' own takes half as long again."""
    axes = tuple(range(len(one_hot.shape) - 1))
    weight = ops.matmul(one_hot, weights[:, None])

    @ops.custom_gradient
    def value_of(logits):
        probability = ops.softmax(logits)
        # The log of the sum of exponentials, with no limit where a probability underflows.
        logs = ops.max(logits, -1, keepdims=True) - ops.log(ops.max(probability, -1, keepdims=True))
        value = ops.sum(weight * logs) - ops.sum(weights * ops.sum(one_hot * logits, axes))

        def gradient(*args, upstream=None):
            scale = args[0] if upstream is None else upstream
            return (scale * weight) * probability - one_hot * (scale * weights)

        return value, gradient

    value, counted = total([value_of(logits), ops.sum(weight)])
    return value / (counted + 1e-7)


def _dice(one_hot, output, logits, weights):
    """1 - soft Dice, mean over classes (Milletari et al., "V-Net", 3DV 2016), counted pixels only:
    Keras' Dice reduces to one number before it weights, so that void still moves the network."""
    one_hot, output = (ops.reshape(y, (-1, y.shape[-1])) for y in (one_hot, output))
    counted = ops.cast(weights > 0, one_hot.dtype)
    share = ops.reshape(ops.matmul(one_hot, counted[:, None]), (1, -1))
    both = counted * ops.sum(one_hot * output, 0)
    either = counted * ops.sum(one_hot, 0) + ops.matmul(share, output)[0]
    both, either = total([both, either])
    occurs = ops.cast(either > 0, both.dtype)
    dice = occurs * (2 * both + 1) / (either + 1)
    return 1 - ops.sum(dice) / (ops.sum(occurs) + 1e-7)


_binary = partial(ops.binary_crossentropy, from_logits=True)
_squared_error = _mean(lambda target, output, _: ops.mean(ops.square(target - output), -1))
LOSSES = {
    'categorical_crossentropy': _softmax_cross_entropy,
    'binary_crossentropy': _mean(lambda target, _, logits: ops.mean(_binary(target, logits), -1)),
    'mse': _squared_error,
    'rmse': lambda *args: ops.sqrt(_squared_error(*args) + 1e-7),
    'focal': _mean(_focal),
    'dice': _dice,
    # nnU-Net's (Isensee et al., Nature Methods 2021); Dice weighs classes itself.
    'crossentropy+dice': lambda *args: _softmax_cross_entropy(*args) + _dice(*args),
}


def target_and_weight(one_hot, weights):
    """What a pixel should be, and how much it counts: (..., n) -> (..., n), (...). Void or no class
    at all weighs 0; a mixed row weighs its scored part, and its target is that part alone."""
    # A product of matrices: a sum along the last axis takes thrice as long.
    weight = ops.matmul(one_hot, weights[:, None])
    return one_hot * weights / ops.maximum(weight, 1e-7), weight[..., 0]


def weights_of(classes, n, class_weights=None):
    """What a pixel of each of n classes counts, a tensor (n,): 0 where it is not scored."""
    given = np.ones(n) if class_weights is None else class_weights
    return ops.convert_to_tensor(np.isin(range(n), classes.scored) * given, 'float32')


def border_weight(label, classes):
    """uint8 (H, W): 255 exp(-(d1 + d2)^2 / (2 sigma^2)) on the background, class 0, of a label; d1
    and d2 are the distances in pixels to the nearest and the second nearest object. An object is
    all that hangs together, side by side, of one scored class but the background."""
    from scipy import ndimage

    nearest, reach = np.full((2, *label.shape), np.inf), 18  # pixels; farther off it rounds to 0
    for c in set(classes.scored) - {0}:
        objects = ndimage.label(label == c)[0]
        for i, box in enumerate(ndimage.find_objects(objects), 1):
            window = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
            distance = ndimage.distance_transform_edt(objects[window] != i)
            both = (slice(None), *window)
            nearest[both] = np.sort([*nearest[both], distance], 0)[:2]
    share = np.where(label == 0, np.exp(-(nearest.sum(0) ** 2) / (2 * SIGMA**2)), 0)
    return np.round(255 * share).astype(np.uint8)


def one_hot(label, n):
    """uint8 (..., H, W) indices -> tf float32 (..., H, W, n): zeros of 255, in one channel -1. Of
    uint16, a class + 256 times its border_weight, a row times 1 + w0 * border_weight / 255."""
    import tensorflow as tf

    if label.dtype == 'uint16':
        label = tf.cast(label, tf.int32)
        border = tf.cast(label // 256, tf.float32)[..., None]
        return tf.one_hot(label % 256, n) * (1 + W0 / 255 * border)
    if n > 1:
        return tf.one_hot(label, n)
    return tf.where(label == 255, -1.0, tf.cast(label, tf.float32))[..., None]


def as_two(one_hot, output, logits):
    """One channel as background and foreground; no class, below 0 in one-hot, as no class."""
    if one_hot.shape[-1] > 1:
        return one_hot, output, logits
    if logits is not None:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    both, output = (ops.concatenate([1 - y, y], axis=-1) for y in (one_hot, output))
    return ops.where(one_hot < 0, 0.0, both), output, logits


def _logits_behind(output, activation, wanted):
    """The logits whose `wanted`, softmax or sigmoid, is the output, up to a constant; what another
    activation gives is taken for shares, clipped as by Keras."""
    if activation == wanted and hasattr(output, '_keras_logits'):
        return output._keras_logits

    least = 1e-37 if activation == wanted else 1e-7
    if wanted == 'sigmoid':
        return ops.log(ops.clip(output, least, 1)) - ops.log(ops.clip(1 - output, least, 1))
    total = ops.maximum(ops.sum(output, axis=-1, keepdims=True), 1e-7)
    return ops.log(ops.clip(output / total, least, 1))


def make_loss(name, classes, n, activation, class_weights=None, on_logits=True):
    """The loss `name` of LOSSES as Keras takes it, f(one_hot, y_pred) -> a number, for n channels;
    activation: the network's last, which y_pred lacks `on_logits`; class_weights: what a pixel of
    each class counts, default 1. ValueError for a name that is none."""
    if name not in LOSSES:
        raise ValueError(f'loss: expected one of {", ".join(LOSSES)}, found {name!r}')
    wanted = 'sigmoid' if n == 1 or name == 'binary_crossentropy' else 'softmax'
    loss = LOSSES[name.replace('binary', 'categorical') if n == 1 else name]

    def masked(one_hot, y_pred):
        y_pred = ops.cast(y_pred, 'float32')  # under bfloat16 the logits are not
        output = keras.activations.get(activation)(y_pred) if on_logits else y_pred
        known = on_logits and activation == wanted
        logits = y_pred if known else _logits_behind(output, activation, wanted)
        weights = weights_of(classes, max(n, 2), class_weights)
        # Keras sums those of all devices.
        return loss(*as_two(one_hot, output, logits), weights) / replicas()

    masked.__name__ = name
    return masked


class Scores(keras.metrics.Metric):
    """Pixel accuracy and mIoU from one confusion count summed over the epoch (see metrics.py);
    activation: of the network, where it is given logits; weighted: rows of one-hot may be above 1,
    whose pixels count once all the same."""

    def __init__(self, classes, activation=None, weighted=False):
        super().__init__(name='scores')
        self.activation, self.weighted = keras.activations.get(activation), weighted
        self.scored, self.n = classes.scored, len(classes.scored)
        # jax has no 64-bit integers unless asked; 32 bits hold 12,000 pictures of 360x480.
        self.whole = 'int64' if keras.backend.backend() == 'tensorflow' else 'int32'
        self.counts = self.add_variable((self.n, self.n), 'zeros', dtype=self.whole, name='counts')

    def update_state(self, y_true, y_pred, sample_weight=None):
        truth, output, _ = as_two(y_true, self.activation(y_pred), None)
        if self.weighted:
            truth = truth / ops.maximum(ops.sum(truth, -1, keepdims=True), 1)
        # The scored classes only: void can not be an answer. A gather takes several times as long.
        first = self.scored == list(range(self.n))
        output = output[..., : self.n] if first else ops.take(output, self.scored, axis=-1)
        # Integers sort as floats of 0 and more do; Keras' argmax of floats takes twice the time.
        prediction = ops.argmax(ops.view(ops.cast(output, 'float32'), 'int32'), axis=-1)
        # One product of matrices; void is a row of it that is left out. Mixed rows count by shares.
        hot = ops.one_hot(ops.cast(prediction, 'int32'), self.n, dtype=truth.dtype)
        truth, hot = (ops.reshape(x, (-1, x.shape[-1])) for x in (truth, hot))
        counts = ops.round(ops.take(ops.einsum('pt,pn->tn', truth, hot), self.scored, axis=0))
        self.counts.assign(self.counts + ops.cast(counts, self.whole))

    def result(self):
        counts = ops.cast(self.counts, 'float32')
        hit = ops.diagonal(counts)
        either = ops.sum(counts, 0) + ops.sum(counts, 1) - hit
        seen = ops.sum(ops.cast(either > 0, 'float32'))
        miou = ops.sum(hit / ops.maximum(either, 1)) / ops.maximum(seen, 1)
        return {'accuracy': ops.sum(hit) / ops.maximum(ops.sum(counts), 1), 'miou': miou}


def compile_model(
    model, classes, optimizer, loss=None, class_weights=None, activation=None, weighted=False
):
    """Compile with accuracy, mIoU and a loss of LOSSES, by default cross-entropy (binary for one
    channel); activation: that of the network, where `model` ends before it, at the logits;
    weighted: whether rows of one-hot may be above 1."""
    n = model.output_shape[-1]
    name = loss or ('binary_crossentropy' if n == 1 else 'categorical_crossentropy')
    last = activation or keras.activations.serialize(model.layers[-1].activation)
    loss = make_loss(name, classes, n, last, class_weights, activation is not None)
    model.compile(optimizer, loss=loss, metrics=[Scores(classes, activation, weighted)])
