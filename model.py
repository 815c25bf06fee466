"""The U-Net: five levels, four skips, a class for every pixel; compile, save, load.

    from model import *
    model = unet(num_class=13)

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, with 'same' convolutions and batch norm. Stock Keras layers and keras.ops only, so
that every backend trains it and plain `keras.models.load_model` opens the file.
"""

import json
import os
import zipfile
from pathlib import Path

# Off by default on processors without AVX-512, where it halves a step; TensorFlow asks when imported.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

import h5py
import keras
import numpy as np
from keras import layers, ops
from keras.callbacks import TensorBoard

from seg.readers import ClassTable, InputError, class_table, whole_file

__all__ = ['ModelCheckpoint', 'TensorBoard', 'load_model', 'save_model', 'unet']
LEVELS = 5


# ---------------------------------------------------------------------------- the network


def unet(
    pretrained_weights=None,
    input_size=(360, 480, 3),
    num_class=13,
    filters=64,
    batch_norm=True,
    fusion='concat',
    activation=None,
    loss=None,
    learning_rate=1e-3,
    classes=None,
    stride=1,
    dilated=False,
    residual=False,
):
    """A compiled five-level U-Net whose output has exactly the input's height and width.

    Args:
        pretrained_weights: path of a model or weights file to start from.
        input_size: (height, width, channels), 16 pixels or more a side. Sides that 16 does not
            divide are padded with zeros inside the model and cropped back.
        num_class: output channels; 1 is the two-class net with one sigmoid channel.
        filters: channels of the first level; each level down doubles them.
        batch_norm: normalise after every 3x3 convolution (its bias is dropped then).
        fusion: 'concat', the U-Net, or 'add', as FCN fuses.
        activation: of the output: 'softmax' (default), 'relu', or 'sigmoid' (default of 1 class).
        loss: a key of LOSSES; default categorical_crossentropy, or binary_crossentropy for
            1 class. Void pixels carry none.
        learning_rate: of Adam.
        classes: ClassTable; default `labels.class_table(num_class)`.
        stride: 2 enters at half resolution and leaves through a transposed convolution, at a
            quarter of the cost: three quarters of a step are spent on the finest level.
        dilated: the bottom's convolutions, at rates 2 and 4, see nearly the whole picture
            (Chen et al., "Rethinking Atrous Convolution", 2017).
        residual: each pair's second convolution adds to its first (He et al., CVPR 2016).

    Returns: keras.Model, (N, H, W, channels) in 0..1 -> (N, H, W, num_class).
    Raises: ValueError for arguments out of range; InputError for weights that do not fit.
    """
    height, width, channels = input_size
    if not height or not width or min(height, width) < 16:
        raise ValueError(f'input_size: expected sides of 16 pixels or more, got {input_size}')
    if fusion not in ('concat', 'add'):
        raise ValueError(f"fusion: expected 'concat' or 'add', got {fusion!r}")
    if stride not in (1, 2):
        raise ValueError(f'stride: expected 1 or 2, got {stride!r}')
    classes = classes or class_table(num_class)
    activation = activation or ('sigmoid' if num_class == 1 else 'softmax')

    def conv(x, filters, name, size=3, **options):
        x = _products(
            layers.Conv2D(
                filters,
                size,
                padding='same',
                use_bias=not batch_norm,
                kernel_initializer='he_normal',
                name=name,
                **options,
            )
        )(x)
        if batch_norm:  # Keras' momentum of .99 lags behind in runs of a few hundred steps
            x = _fused(layers.BatchNormalization(momentum=0.9, name=name.replace('conv', 'norm')))(
                x
            )
        return x

    def two_convs(x, level, name, rates=(1, 1)):
        for i, rate in enumerate(rates, 1):
            entry, x = x, conv(x, filters << level, f'{name}_conv{i}', dilation_rate=rate)
            if residual and i == 2:
                x = layers.Add(name=f'{name}_residual')([entry, x])
            x = layers.ReLU(name=f'{name}_relu{i}')(x)
        return x

    x = inputs = keras.Input(input_size, name='image')
    if stride == 2:  # 6x6 at stride 2 sees what 3x3 sees of the picture's 2x2 blocks
        x = layers.ReLU(name='stem_relu')(conv(x, filters, 'stem_conv', 6, strides=2))
    # Four poolings halve the sides, so the padded ones are multiples of 16: 360 rows become 368.
    (top, bottom), (left, right) = pads = [
        (-s % 16 // 2, -s % 16 - -s % 16 // 2) for s in x.shape[1:3]
    ]
    if any((top, bottom, left, right)):
        x = layers.ZeroPadding2D(pads, name='pad')(x)
    skips = []
    for level in range(LEVELS - 1):
        x = two_convs(x, level, f'down{level + 1}')
        skips.append(x)
        x = layers.MaxPooling2D(name=f'pool{level + 1}')(x)
    x = two_convs(x, LEVELS - 1, f'bottom{LEVELS}', (2, 4) if dilated else (1, 1))
    for level in reversed(range(LEVELS - 1)):
        x = layers.Conv2DTranspose(
            filters << level,
            2,
            strides=2,
            kernel_initializer='he_normal',
            name=f'upconv{level + 1}',
        )(x)
        fuse = layers.Concatenate if fusion == 'concat' else layers.Add
        x = fuse(name=f'{fusion}{level + 1}')([skips[level], x])
        x = two_convs(x, level, f'up{level + 1}')
    crop = None
    if any((top, bottom, left, right)):
        crop = _sliced(layers.Cropping2D(pads, name='crop'))
    if stride == 2:
        x = crop(x) if crop else x
        x = layers.Conv2DTranspose(num_class, 2, strides=2, name='scores')(x)
        if height % 2 or width % 2:
            x = layers.Cropping2D(((0, height % 2), (0, width % 2)), name='crop_odd')(x)
    else:
        x = layers.Conv2D(num_class, 1, name='scores')(x)
        x = crop(x) if crop else x
    # Last, so that the loss finds the logits behind it; float32 under mixed precision too.
    outputs = layers.Activation(activation, dtype='float32', name=activation)(x)
    model = keras.Model(inputs, outputs, name='unet')
    compile_model(model, classes, loss, learning_rate)
    if pretrained_weights:
        load_weights(model, pretrained_weights)
    return model


def _fused(layer):
    """A BatchNormalization trained by TensorFlow's one kernel, where that is the backend.

    Keras 3 computes it from a dozen operations, which cost a tenth to a quarter of a step. The layer
    itself stays Keras' own, so that files name no other.
    """
    plain = layer.call

    def call(x, training=None, mask=None):
        if not training or not layer.trainable:
            return plain(x, training=training, mask=mask)
        from tensorflow import raw_ops, shape, zeros

        y, mean, variance, *_ = raw_ops.FusedBatchNormV3(
            x=x,
            scale=layer.gamma.value,
            offset=layer.beta.value,
            mean=zeros(0),
            variance=zeros(0),
            epsilon=layer.epsilon,
            is_training=True,
        )
        n = ops.cast(ops.prod(shape(x)[:-1]), variance.dtype)  # it divides by n - 1, Keras by n
        for old, new in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance * (n - 1) / n),
        ):
            old.assign(old * layer.momentum + ops.stop_gradient(new) * (1 - layer.momentum))
        return y

    if keras.backend.backend() == 'tensorflow':
        layer.call = call
    return layer


def _products(layer):
    """A Conv2D that learns by a product of matrices for each tap of its kernel, where that is faster:
    without AVX-512, oneDNN's own gradient of the kernel takes one and a half to five times as long
    from 32 to 32 channels on. Elsewhere, and for the other layers, TensorFlow's own.
    """
    plain = layer.convolution_op

    def convolution_op(x, kernel):
        channels, filters = x.shape[-1], layer.filters
        if channels * filters < 32 * 32 or layer.strides != (1, 1):
            return plain(x, kernel)
        import tensorflow as tf

        rates, (rows, columns) = layer.dilation_rate, layer.kernel_size

        @tf.custom_gradient
        def convolve(x, kernel):
            def gradient(dy):
                mirrored = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
                dx = tf.nn.conv2d(dy, mirrored, 1, 'SAME', dilations=rates)
                # Of the two that meet at each tap, the one with fewer channels is moved.
                still, moved, sign = (x, dy, -1) if filters < channels else (dy, x, 1)
                reach = [rates[0] * (rows // 2), rates[1] * (columns // 2)]
                padded = tf.pad(moved, [[0, 0], [reach[0]] * 2, [reach[1]] * 2, [0, 0]])
                size = [-1, *x.shape[1:3], moved.shape[-1]]
                still = tf.reshape(still, [-1, still.shape[-1]])
                taps = []
                for i in range(rows):
                    for j in range(columns):
                        at = [
                            reach[0] + sign * (i * rates[0] - reach[0]),
                            reach[1] + sign * (j * rates[1] - reach[1]),
                        ]
                        there = tf.reshape(tf.slice(padded, [0, *at, 0], size), [-1, size[-1]])
                        pair = (still, there) if sign < 0 else (there, still)
                        taps.append(tf.matmul(*pair, transpose_a=True))
                return dx, tf.reshape(tf.stack(taps), kernel.shape)

            return tf.nn.conv2d(x, kernel, 1, 'SAME', dilations=rates), gradient

        return convolve(x, tf.convert_to_tensor(kernel))

    if keras.backend.backend() == 'tensorflow' and _avx2_alone():
        layer.convolution_op = convolution_op
    return layer


def _avx2_alone():
    """Whether this is a processor with AVX2 but without AVX-512, and there is no GPU."""
    import tensorflow as tf

    found = ' '.join(np.show_config(mode='dicts')['SIMD Extensions']['found'])  # two ways to say it
    return (
        ('AVX2' in found or 'X86_V3' in found)
        and not ('AVX512' in found or 'X86_V4' in found)
        and not tf.config.list_physical_devices('GPU')
    )


def _sliced(layer):
    """A Cropping2D by TensorFlow's slice, whose gradient takes a tenth of a strided slice's time."""
    (top, bottom), (left, right) = layer.cropping

    def call(x):
        from tensorflow import slice

        size = [-1, x.shape[1] - top - bottom, x.shape[2] - left - right, -1]
        return slice(x, [0, top, left, 0], size)

    if keras.backend.backend() == 'tensorflow':
        layer.call = call
    return layer


# ---------------------------------------------------------------------------- losses


def _cross_entropy(target, output):
    return ops.categorical_crossentropy(target, output)


def _binary_cross_entropy(target, output):
    return ops.mean(ops.binary_crossentropy(target, output), axis=-1)


def _squared_error(target, output):
    return ops.mean(ops.square(target - output), axis=-1)


def _focal(target, output, gamma=2.0):
    """Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017: easy pixels count less."""
    hit = ops.sum(target * output, axis=-1)
    return ops.power(1 - ops.clip(hit, 0, 1), gamma) * _cross_entropy(target, output)


def _mean(per_pixel):
    def loss(one_hot, output, weights):
        target, weight = target_and_weight(one_hot, weights)
        return ops.sum(weight * per_pixel(target, output)) / (ops.sum(weight) + 1e-7)

    return loss


def _root_mean_squared(one_hot, output, weights):
    return ops.sqrt(_mean(_squared_error)(one_hot, output, weights) + 1e-7)


def _softmax_cross_entropy(one_hot, output, weights):
    """Cross-entropy by the softmax that is there already, a pass for its value and one for its slope;
    Keras' own computes it anew from the logits, in half as much time again."""
    logits = getattr(output, '_keras_logits', None)
    if logits is None:  # an activation other than softmax
        return _mean(_cross_entropy)(one_hot, output, weights)
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


def _dice(one_hot, output, weights):
    """1 - soft Dice, mean over classes (Milletari et al., "V-Net", 3DV 2016), counted pixels only:
    Keras' Dice reduces to one number before it weights, so that void still moves the network."""
    n, axes = one_hot.shape[-1], tuple(range(len(one_hot.shape) - 1))
    target, counted = one_hot, ops.cast(weights > 0, one_hot.dtype)
    if n == 1:
        target, share = ops.maximum(one_hot, 0), ops.cast(one_hot >= 0, one_hot.dtype)
    else:
        share = ops.matmul(one_hot, counted[:, None])
    both = counted * ops.sum(target * output, axes)
    either = counted * ops.sum(target, axes)
    either += ops.matmul(ops.reshape(share, (1, -1)), ops.reshape(output, (-1, n)))[0]
    occurs = ops.cast(either > 0, both.dtype)
    dice = occurs * (2 * both + 1) / (either + 1)
    return 1 - ops.sum(dice) / (ops.sum(occurs) + 1e-7)


def _cross_entropy_and_dice(one_hot, output, weights):
    """Both at once: nnU-Net's (Isensee et al., Nature Methods 2021). Dice weighs classes itself."""
    return _softmax_cross_entropy(one_hot, output, weights) + _dice(one_hot, output, weights)


LOSSES = {
    'categorical_crossentropy': _softmax_cross_entropy,
    'binary_crossentropy': _mean(_binary_cross_entropy),
    'mse': _mean(_squared_error),
    'rmse': _root_mean_squared,
    'focal': _mean(_focal),
    'dice': _dice,
    'crossentropy+dice': _cross_entropy_and_dice,
}


ON_LOGITS = {
    ('softmax', 'categorical_crossentropy'),
    ('softmax', 'focal'),
    ('softmax', 'crossentropy+dice'),
    ('sigmoid', 'binary_crossentropy'),
}


def weights_of(classes, n, class_weights=None):
    """What a pixel of each of `n` output channels counts, a tensor (n,): 0 where it is not scored."""
    table = [0.0] * n
    for i in classes.scored if n > 1 else [0]:
        table[i] = 1.0 if class_weights is None else float(class_weights[i])
    return ops.convert_to_tensor(table, 'float32')


def target_and_weight(one_hot, weights):
    """What a pixel should be, and how much it counts: (..., n) -> (..., n), (...).

    A row of void, or with no class at all, weighs 0; a mixed row weighs its scored part, and its
    target is that part alone. With one channel, no class is a target below 0.
    """
    if one_hot.shape[-1] == 1:
        return ops.maximum(one_hot, 0), ops.cast(one_hot[..., 0] >= 0, one_hot.dtype)
    weighted = one_hot * weights
    # A product of matrices: a sum along the last axis takes thrice as long.
    weight = ops.matmul(one_hot, weights[:, None])
    return weighted / ops.maximum(weight, 1e-7), weight[..., 0]


class Scores(keras.metrics.Metric):
    """Pixel accuracy and mIoU from one confusion count summed over the epoch (see metrics.py)."""

    def __init__(self, classes, **kwargs):
        super().__init__(name='scores', **kwargs)
        self.classes = classes
        self.n = len(classes.scored)
        # jax has no 64-bit integers unless asked; 32 bits hold 12,000 pictures of 360x480.
        self.whole = 'int64' if keras.backend.backend() == 'tensorflow' else 'int32'
        self.counts = self.add_variable((self.n, self.n), 'zeros', dtype=self.whole, name='counts')

    def update_state(self, y_true, y_pred, sample_weight=None):
        rows = self.classes.scored
        if y_true.shape[-1] == 1:
            truth = ops.concatenate([(y_true >= 0) & (y_true <= 0.5), y_true > 0.5], axis=-1)
            truth, rows, prediction = ops.cast(truth, 'float32'), [0, 1], y_pred[..., 0] > 0.5
        else:  # argmax over the scored classes only: void can not be an answer
            # As integers, which sort as floats of 0 and more do: Keras' argmax of floats takes twice
            # the time, for the sake of -0.
            truth = y_true
            prediction = ops.argmax(ops.view(self._scored(y_pred), 'int32'), axis=-1)
        # One product of matrices; void is a row of it that is left out. Mixed rows count by shares.
        hot = ops.one_hot(ops.cast(prediction, 'int32'), self.n, dtype=truth.dtype)
        counts = ops.einsum(
            'pt,pn->tn', ops.reshape(truth, (-1, truth.shape[-1])), ops.reshape(hot, (-1, self.n))
        )
        counts = ops.round(ops.take(counts, rows, axis=0))
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


class Muon(keras.optimizers.Muon):
    """Keras' Muon (Jordan et al., 2024), which takes matrices, for the kernels of convolutions too.

    A kernel is a matrix of (taps x channels in, channels out); the first and the last layer,
    normalisation and biases are AdamW's, at the same rate (Liu et al., "Muon is Scalable", 2025).
    """

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 or variable.path.split('/')[0] in self.exclude_layers

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign(m, self.momentum * m + gradient)
        g = ops.reshape(gradient + self.momentum * m, (-1, variable.shape[-1]))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(g, self.ns_steps))
        self.assign_sub(variable, ops.reshape(update, variable.shape))

    def zeropower_via_newtonschulz5(self, x, steps):
        """Keras' iteration, carried out on the shorter side's Gram matrix: less than half the time."""
        tall = x.shape[0] > x.shape[1]
        x = x / (ops.norm(x) + 1e-7)
        y = ops.transpose(x)
        gram = ops.matmul(y, x) if tall else ops.matmul(x, y)
        identity = factor = ops.eye(gram.shape[0], dtype=x.dtype)
        for _ in range(steps):
            p = self.muon_a * identity + self.muon_b * gram + self.muon_c * ops.matmul(gram, gram)
            factor, gram = ops.matmul(p, factor), ops.matmul(p, ops.matmul(gram, p))
        return ops.matmul(x, factor) if tall else ops.matmul(factor, x)


def compile_model(
    model,
    classes,
    loss=None,
    learning_rate=1e-3,
    class_weights=None,
    weight_decay=0.0,
    optimizer='adam',
    ema=0.0,
):
    """Compile with Adam, or AdamW where weights decay, or Muon; a loss of LOSSES that void does not
    enter, accuracy and mIoU. ema: momentum of an average of the weights that the optimizer keeps
    (Polyak and Juditsky, 1992); batch norm's statistics are then averaged over as many steps.

    Returns: the Scores metric, whose `counts` after a validation are its confusion count.
    """
    loss = loss or (
        'binary_crossentropy' if model.output_shape[-1] == 1 else 'categorical_crossentropy'
    )
    if loss not in LOSSES:
        raise ValueError(f'loss: expected one of {", ".join(LOSSES)}, got {loss!r}')

    def masked(y_true, y_pred):
        if (model.layers[-1].name, loss) not in ON_LOGITS:
            y_pred = y_pred + 0.0  # else Keras takes sigmoid for softmax by the logits behind it
        weights = weights_of(classes, y_true.shape[-1], class_weights)
        return LOSSES[loss](y_true, y_pred, weights)

    masked.__name__ = loss
    model.class_table = classes
    scores = Scores(classes)
    averaging = dict(use_ema=True, ema_momentum=ema) if ema else {}
    for layer in model.layers if ema else ():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = ema
    if optimizer == 'muon':
        kernels = [layer.name for layer in model.layers if hasattr(layer, 'kernel')]
        optimizer = Muon(
            learning_rate,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay,
            exclude_layers=[kernels[0], kernels[-1]],
            **averaging,
        )
    else:
        optimizer = keras.optimizers.Adam(
            learning_rate, weight_decay=weight_decay or None, **averaging
        )
    optimizer.exclude_from_weight_decay(var_names=['gamma', 'beta', 'bias'])
    model.compile(optimizer, loss=masked, metrics=[scores])
    return scores


# ---------------------------------------------------------------------------- files


def save_model(model, path):
    """Write the model to `path` (.hdf5, .h5 or .keras) whole or not at all.

    Written beside and moved into place: a save that is killed leaves the old file. Without
    optimizer and compile settings, so that plain `keras.models.load_model` opens it, and in float32
    whatever it was trained in, so that it runs anywhere; the class table travels inside.
    """
    stock = Path(path).suffix == '.keras'
    table = json.dumps(model.class_table.to_dict())
    # Without compile settings: a new Model around the same layers has none.
    plain = keras.Model(model.inputs, model.outputs, name=model.name)
    if any(layer.compute_dtype != 'float32' for layer in model.layers):
        plain = keras.models.clone_model(
            plain,
            clone_function=lambda layer: layer.from_config(
                layer.get_config() | {'dtype': 'float32'}
            ),
        )
        plain.set_weights(model.get_weights())
    with whole_file(path) as beside:
        plain.save(beside, **({} if stock else {'include_optimizer': False}))
        if stock:
            with zipfile.ZipFile(beside, 'a') as f:
                f.writestr('class_table.json', table)
        else:
            with h5py.File(beside, 'a') as f:
                f.attrs['class_table'] = table


def _read_class_table(path):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as f:
            table = f.read('class_table.json') if 'class_table.json' in f.namelist() else None
    else:
        with h5py.File(path) as f:
            table = f.attrs.get('class_table')
    return ClassTable.from_dict(json.loads(table)) if table else None


# Layers that run code which the file brings, or that something outside it brings.
CODE = {'Lambda', 'TFSMLayer', 'TorchModuleWrapper', 'JaxLayer', 'FlaxLayer', '__lambda__'}


def _refuse_code(path):
    """InputError where the file's configuration names anything but Keras' own, passive layers.

    Keras refuses a Lambda in safe mode only, and finds custom objects by name in what is imported.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as f:
            config = json.loads(f.read('config.json'))
    else:
        with h5py.File(path) as f:
            config = json.loads(f.attrs['model_config'])
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            name, home = part.get('class_name'), part.get('module')
            stock = (
                str(name).startswith('__')
                or name == 'Functional'
                or any(
                    hasattr(place, str(name)) for place in (keras, keras.layers, keras.initializers)
                )
            )
            foreign = home.split('.')[0] not in ('keras', 'builtins') if home else not stock
            if isinstance(name, str) and (name in CODE or foreign or name == 'function' and home):
                raise InputError(
                    f'{path}: holds {name!r} ({home or "no module"}), which runs code '
                    'from outside Keras; such a model is not opened'
                )


def load_model(path):
    """A model file of ours or any other Keras model with one picture in and one map out.

    Returns: keras.Model, not compiled, with its `class_table` (numbered classes where the file
    holds none). Raises: InputError.
    """
    if not Path(path).is_file():
        raise InputError(
            f'{path}: no such model file; train one with `python main.py` or name '
            'another with --model'
        )
    try:
        _refuse_code(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        model.class_table = _read_class_table(path) or class_table(model.output_shape[-1])
    except InputError:
        raise
    except Exception as e:
        raise InputError(
            f'{path}: expected a Keras model, could not open it ({" ".join(str(e).split())[:150]})'
        ) from None
    return model


def load_weights(model, path):
    """Put the weights of a model or weights file into `model`; InputError where they do not fit."""
    if not Path(path).is_file():
        raise InputError(f'{path}: no such weights file')
    try:
        model.load_weights(path)
    except Exception as e:
        raise InputError(
            f'{path}: these weights do not fit this network (another number of '
            f'classes or filters?): {" ".join(str(e).split())[:150]}'
        ) from None


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint that takes .hdf5 as well, and always leaves a whole file."""

    def __init__(self, filepath, *args, **kwargs):
        # Keras' own refuses the extension, though its save and load accept it.
        filepath = str(filepath)
        stand_in = filepath[:-5] + '.h5' if filepath.endswith('.hdf5') else filepath
        super().__init__(stand_in, *args, **kwargs)
        self.filepath = filepath

    def _save_model(self, epoch, batch, logs):
        path = self._get_file_path(epoch, batch, logs)
        if self._should_save_model(epoch, batch, logs, path):
            if self.save_weights_only:
                self.model.save_weights(path, overwrite=True)
            else:
                save_model(self.model, path)
