"""Losses on logits, which void does not enter; accuracy and mIoU during training.

A loss is a function of (one_hot, output, logits, weights): one-hot (..., n) with n >= 2, the
activated output, the logits behind it where the activation is softmax (or sigmoid) and else None,
and what a pixel of each class counts (n,). One channel is turned into two before, so that every
loss serves it: sigmoid(z) is the second of softmax([0, z]).
"""

import keras
from keras import ops


def _cross_entropy(target, output, logits):
    if logits is None:
        return ops.categorical_crossentropy(target, output)
    return -ops.sum(target * ops.log_softmax(logits), axis=-1)


def _binary_cross_entropy(target, output, logits):
    of = output if logits is None else logits
    return ops.mean(ops.binary_crossentropy(target, of, from_logits=logits is not None), axis=-1)


def _squared_error(target, output, logits):
    return ops.mean(ops.square(target - output), axis=-1)


def _focal(target, output, logits, gamma=2.0):
    """Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017: easy pixels count less."""
    hit = ops.clip(ops.sum(target * output, axis=-1), 0, 1)
    return ops.power(1 - hit, gamma) * _cross_entropy(target, output, logits)


def _mean(per_pixel):
    def loss(one_hot, output, logits, weights):
        target, weight = target_and_weight(one_hot, weights)
        values = per_pixel(target, output, logits)
        return ops.sum(weight * values) / (ops.sum(weight) + 1e-7)

    return loss


def _root_mean_squared(one_hot, output, logits, weights):
    return ops.sqrt(_mean(_squared_error)(one_hot, output, logits, weights) + 1e-7)


def _softmax_cross_entropy(one_hot, output, logits, weights):
    """Cross-entropy by the softmax that is there already, a pass for its value and one for its
    slope; Keras' own computes it anew from the logits, in half as much time again."""
    if logits is None:  # an activation other than softmax
        return _mean(_cross_entropy)(one_hot, output, logits, weights)
    axes = tuple(range(len(one_hot.shape) - 1))
    weight = ops.matmul(one_hot, weights[:, None])

    @ops.custom_gradient
    def total(logits):
        probability = ops.softmax(logits)
        # The log of the sum of exponentials, with no limit where a probability underflows.
        logs = ops.max(logits, -1, keepdims=True) - ops.log(ops.max(probability, -1, keepdims=True))
        value = ops.sum(weight * logs) - ops.sum(weights * ops.sum(one_hot * logits, axes))

        def gradient(*args, upstream=None):
            scale = args[0] if upstream is None else upstream
            return (scale * weight) * probability - one_hot * (scale * weights)

        return value, gradient

    return total(logits) / (ops.sum(weight) + 1e-7)


def _dice(one_hot, output, logits, weights):
    """1 - soft Dice, mean over classes (Milletari et al., "V-Net", 3DV 2016), counted pixels only:
    Keras' Dice reduces to one number before it weights, so that void still moves the network."""
    n, axes = one_hot.shape[-1], tuple(range(len(one_hot.shape) - 1))
    counted = ops.cast(weights > 0, one_hot.dtype)
    share = ops.matmul(one_hot, counted[:, None])
    both = counted * ops.sum(one_hot * output, axes)
    either = counted * ops.sum(one_hot, axes)
    either += ops.matmul(ops.reshape(share, (1, -1)), ops.reshape(output, (-1, n)))[0]
    occurs = ops.cast(either > 0, both.dtype)
    dice = occurs * (2 * both + 1) / (either + 1)
    return 1 - ops.sum(dice) / (ops.sum(occurs) + 1e-7)


def _cross_entropy_and_dice(*args):
    """Both at once: nnU-Net's (Isensee et al., Nature Methods 2021). Dice weighs classes itself."""
    return _softmax_cross_entropy(*args) + _dice(*args)


LOSSES = {
    'categorical_crossentropy': _softmax_cross_entropy,
    'binary_crossentropy': _mean(_binary_cross_entropy),
    'mse': _mean(_squared_error),
    'rmse': _root_mean_squared,
    'focal': _mean(_focal),
    'dice': _dice,
    'crossentropy+dice': _cross_entropy_and_dice,
}


def target_and_weight(one_hot, weights):
    """What a pixel should be, and how much it counts: (..., n) -> (..., n), (...).

    A row of void, or with no class at all, weighs 0; a mixed row weighs its scored part, and its
    target is that part alone.
    """
    # A product of matrices: a sum along the last axis takes thrice as long.
    weight = ops.matmul(one_hot, weights[:, None])
    return one_hot * weights / ops.maximum(weight, 1e-7), weight[..., 0]


def weights_of(classes, n, class_weights=None):
    """What a pixel of each of n classes counts, a tensor (n,): 0 where it is not scored."""
    scored = classes.scored if len(classes) >= n else range(n)
    given = [1.0] * n if class_weights is None else class_weights
    table = [float(given[i]) if i in scored else 0.0 for i in range(n)]
    return ops.convert_to_tensor(table, 'float32')


def one_hot(label, n):
    """uint8 (..., H, W) indices -> tf float32 (..., H, W, n); 255 gives zeros.

    One channel is the two-class net's: 1 foreground, 0 background, -1 no class.
    """
    import tensorflow as tf

    if n > 1:
        return tf.one_hot(label, n)
    return tf.where(label == 255, -1.0, tf.cast(label, tf.float32))[..., None]


def as_two(one_hot, output, logits):
    """One channel as background and foreground; no class, below 0 in one-hot, as no class."""
    if one_hot.shape[-1] > 1:
        return one_hot, output, logits
    known, foreground = ops.cast(one_hot >= 0, one_hot.dtype), ops.maximum(one_hot, 0)
    one_hot = ops.concatenate([known - foreground, foreground], axis=-1)
    output = ops.concatenate([1 - output, output], axis=-1)
    if logits is not None:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return one_hot, output, logits


def _logits_behind(output, activation):
    """The logits of an activated output: those that Keras keeps with it, else up to a constant."""
    logits = getattr(output, '_keras_logits', None)
    if logits is None and activation in ('softmax', 'sigmoid'):
        logits = ops.log(ops.maximum(output, 1e-37))
        if activation == 'sigmoid':
            logits -= ops.log(ops.maximum(1 - output, 1e-37))
    return logits


def make_loss(name, classes, n, activation, class_weights=None, on_logits=True):
    """The loss `name` of LOSSES as Keras takes it: f(one_hot, y_pred) -> a number.

    Args:
        classes: ClassTable; n: the network's channels; class_weights: what a pixel of each class
            counts, default 1.
        activation: the network's last; on_logits: y_pred lacks it yet.
    Raises: ValueError for a name that is none.
    """
    if name not in LOSSES:
        raise ValueError(f'loss: expected one of {", ".join(LOSSES)}, got {name!r}')
    # A loss may take the logits of one activation: of one channel made two, of sigmoid.
    right = 'sigmoid' if n == 1 or name == 'binary_crossentropy' else 'softmax'
    loss = LOSSES[name.replace('binary', 'categorical') if n == 1 else name]

    def masked(one_hot, y_pred):
        y_pred = ops.cast(y_pred, 'float32')  # under bfloat16 the logits are not
        output = keras.activations.get(activation)(y_pred) if on_logits else y_pred
        logits = y_pred if on_logits else _logits_behind(y_pred, activation)
        if activation != right:
            logits, output = None, output + 0.0  # else Keras takes the logits kept with it
        weights = weights_of(classes, max(n, 2), class_weights)
        return loss(*as_two(one_hot, output, logits), weights)

    masked.__name__ = name
    return masked


class Scores(keras.metrics.Metric):
    """Pixel accuracy and mIoU from one confusion count summed over the epoch (see metrics.py).

    activation: of the network, where it is given logits.
    """

    def __init__(self, classes, activation=None, **kwargs):
        super().__init__(name='scores', **kwargs)
        self.classes, self.activation = classes, keras.activations.get(activation)
        self.n = len(classes.scored)
        # jax has no 64-bit integers unless asked; 32 bits hold 12,000 pictures of 360x480.
        self.whole = 'int64' if keras.backend.backend() == 'tensorflow' else 'int32'
        self.counts = self.add_variable((self.n, self.n), 'zeros', dtype=self.whole, name='counts')

    def update_state(self, y_true, y_pred, sample_weight=None):
        truth, output, _ = as_two(y_true, self.activation(y_pred), None)
        # As integers, which sort as floats of 0 and more do: Keras' argmax of floats takes twice
        # the time, for the sake of -0. Over the scored classes only: void can not be an answer.
        output = ops.cast(self._scored(output), 'float32')
        prediction = ops.argmax(ops.view(output, 'int32'), axis=-1)
        # One product of matrices; void is a row of it that is left out. Mixed rows count by shares.
        hot = ops.one_hot(ops.cast(prediction, 'int32'), self.n, dtype=truth.dtype)
        truth, hot = (ops.reshape(x, (-1, x.shape[-1])) for x in (truth, hot))
        counts = ops.einsum('pt,pn->tn', truth, hot)
        counts = ops.round(ops.take(counts, self.classes.scored, axis=0))
        self.counts.assign(self.counts + ops.cast(counts, self.whole))

    def _scored(self, y):
        if self.classes.scored == list(range(self.n)):
            return y[..., : self.n]  # a gather along the last axis takes several times as long
        return ops.take(y, self.classes.scored, axis=-1)

    def result(self):
        counts = ops.cast(self.counts, 'float32')
        hit, row, column = ops.diagonal(counts), ops.sum(counts, 1), ops.sum(counts, 0)
        either = row + column - hit
        seen = ops.cast(either > 0, 'float32')
        return {
            'accuracy': ops.sum(hit) / ops.maximum(ops.sum(row), 1),
            'miou': ops.sum(hit / ops.maximum(either, 1)) / ops.maximum(ops.sum(seen), 1),
        }


def compile_model(model, classes, optimizer, loss=None, class_weights=None, activation=None):
    """Compile with a loss of LOSSES that void does not enter, accuracy and mIoU.

    Args:
        loss: default categorical_crossentropy, or binary_crossentropy for one channel.
        activation: that of the network, where `model` ends before it, at the logits.
    """
    n, on_logits = model.output_shape[-1], activation is not None
    name = loss or ('binary_crossentropy' if n == 1 else 'categorical_crossentropy')
    last = activation or keras.activations.serialize(model.layers[-1].activation)
    loss = make_loss(name, classes, n, last, class_weights, on_logits)
    model.compile(optimizer, loss=loss, metrics=[Scores(classes, activation)])
