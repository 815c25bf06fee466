"""Fast training: a pass over any built model, whose layers stay Keras' own in files; Adam and
Muon."""

import keras
import numpy as np
from keras import layers, ops

from seg.devices import replicas, total
from seg.encoders import encoder_layers

if keras.backend.backend() == 'tensorflow':
    import tensorflow as tf


def quicken(model):
    """Give the layers of a model TensorFlow's faster kernels, where that is the backend."""
    if keras.backend.backend() == 'tensorflow':
        products, gpu = _avx2_alone(), tf.config.list_physical_devices('GPU')
        for layer in model.layers:
            if type(layer) is layers.DepthwiseConv2D and not gpu:
                _learn_in_float32(layer)
            elif isinstance(layer, layers.BatchNormalization):
                _fuse(layer)
            elif isinstance(layer, layers.Cropping2D):
                _slice(layer)
            elif products and type(layer) is layers.Conv2D:
                _multiply(layer)
    return model


def _fuse(layer):
    """A BatchNormalization trained by TensorFlow's one kernel: Keras 3 computes it from a dozen
    operations, which cost a tenth to a quarter of a step. Where devices share a batch its
    statistics are those of the whole, as on jax; Keras' `synchronized` would go into the file."""
    plain = type(layer).call.__get__(layer)

    def call(x, training=None, mask=None):
        if not training or not layer.trainable or len(x.shape) != 4:
            return plain(x, training=training, mask=mask)
        gamma, beta = layer.gamma.value, layer.beta.value
        if (share := replicas()) > 1:
            whole = tf.cast(x, tf.float32)
            parts = [tf.reduce_mean(p, (0, 1, 2)) for p in (whole, tf.square(whole))]
            mean, square = tf.unstack(total(tf.stack(parts) / share))
            new = mean, variance = mean, tf.maximum(square - tf.square(mean), 0)
            y = tf.nn.batch_normalization(whole, mean, variance, beta, gamma, layer.epsilon)
            y = tf.cast(y, x.dtype)
        else:
            fused = tf.compat.v1.nn.fused_batch_norm
            y, mean, variance = fused(x, gamma, beta, epsilon=layer.epsilon)
            n = tf.cast(tf.size(x, tf.int64) // x.shape[-1], variance.dtype)  # it divides by n - 1
            new = mean, variance * ((n - 1) / n)
        for old, value in zip((layer.moving_mean, layer.moving_variance), new):
            change = (1 - layer.momentum) * tf.stop_gradient(value)
            old.assign(layer.momentum * old.value + change)
        return y

    layer.call = call


def _slice(layer):
    """A Cropping2D by TensorFlow's slice: its gradient takes a tenth of a strided slice's time."""
    (top, _), (left, _) = layer.cropping
    _, height, width, _ = layer.output.shape
    if height and width:
        layer.call = lambda x: tf.slice(x, [0, top, left, 0], [-1, height, width, -1])


def _learn_in_float32(layer):
    """A DepthwiseConv2D without bias whose gradients are computed in float32: oneDNN's of bfloat16
    take two to four times as long. That of a picture at stride 1 is a convolution itself, in a
    fifth of the time."""
    strides, rates, padding = (1, *layer.strides, 1), layer.dilation_rate, layer.padding.upper()
    plain = layer.use_bias or layer.activation is not keras.activations.linear
    if plain or layer.data_format != 'channels_last' or rates != (1, 1):
        return

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(dy):
            full = [tf.cast(value, tf.float32) for value in (x, kernel, dy)]
            if strides == (1, 1, 1, 1) and padding == 'SAME' and kernel.shape[0] % 2:
                back = tf.reverse(kernel, [0, 1])
                dx = tf.nn.depthwise_conv2d(dy, back, strides, padding)
            else:
                dx = tf.nn.depthwise_conv2d_backprop_input(
                    tf.shape(x), full[1], full[2], strides, padding
                )
            dw = tf.nn.depthwise_conv2d_backprop_filter(
                full[0], kernel.shape, full[2], strides, padding
            )
            return tf.cast(dx, x.dtype), tf.cast(dw, kernel.dtype)

        return tf.nn.depthwise_conv2d(x, kernel, strides, padding), gradient

    layer.call = lambda x: convolve(x, layer.kernel.value)


def _avx2_alone():
    """Whether this is a processor with AVX2 but without AVX-512, and there is no GPU."""
    found = ' '.join(np.show_config(mode='dicts').get('SIMD Extensions', {}).get('found', []))
    avx2 = 'AVX2' in found or 'X86_V3' in found  # NumPy has two ways to say it
    avx512 = 'AVX512' in found or 'X86_V4' in found
    return avx2 and not avx512 and not tf.config.list_physical_devices('GPU')


def _multiply(layer):
    """A Conv2D that learns by a product of matrices for each tap of its kernel: from 32 to 16
    channels on, oneDNN's gradient takes 1.4 to 5 times as long without AVX-512."""
    rows, columns, channels, filters = layer.kernel.shape
    kind, rates = (layer.padding, layer.strides, layer.groups), layer.dilation_rate
    odd = rows % 2 and columns % 2  # an even kernel is padded by more on one side
    if kind != ('same', (1, 1), 1) or channels * filters < 32 * 16 or not odd:
        return

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(dy):
            mirrored = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            dx = tf.nn.conv2d(dy, mirrored, 1, 'SAME', dilations=rates)
            return dx, _kernel_gradient(x, dy, kernel.shape, rates)

        return tf.nn.conv2d(x, kernel, 1, 'SAME', dilations=rates), gradient

    layer.convolution_op = lambda x, kernel: convolve(x, tf.convert_to_tensor(kernel))


def _kernel_gradient(x, dy, kernel_shape, rates):
    """Gradient of a 'same' convolution's kernel: for each tap x.T @ dy, pictures and pixels in one
    axis. Their borders padded, every displacement is a shift of it, which copies nothing."""
    rows, columns, channels, filters = kernel_shape
    up, left = rates[0] * (rows // 2), rates[1] * (columns // 2)
    width = (x.shape[2] or tf.shape(x)[2]) + 2 * left
    x = tf.reshape(tf.pad(x, [[0, 0], [up] * 2, [left] * 2, [0, 0]]), [-1, channels])
    dy = tf.reshape(tf.pad(dy, [[0, 0], [0, 2 * up], [0, 2 * left], [0, 0]]), [-1, filters])
    count = tf.shape(dy)[0] - 2 * (up * width + left)
    dy, size, taps = dy[:count], tf.stack([count, channels]), []
    for row, column in np.ndindex(rows, columns):
        shift = row * rates[0] * width + column * rates[1]
        taps.append(tf.matmul(tf.slice(x, [shift, 0], size), dy, transpose_a=True))
    return tf.reshape(tf.stack(taps), kernel_shape)


class Once:
    """An optimizer that computes its rate and Adam's powers once a step, where Keras does it for
    every variable, and moves a variable by Adam with TensorFlow's one kernel, where that is the
    backend: a training begins in two thirds of the time. `shares`: for each variable the share of
    the rate at which it learns. Its classes tell Adam's two decay rates, `betas()`, and the moments
    of variable i, `moments(i)`, the second of which is None where it does not move by Adam."""

    shares = rate = powers = None

    def apply(self, grads, trainable_variables=None):
        try:
            self.rate = ops.cast(self.learning_rate, 'float32')  # a tensor, no variable
            step = ops.cast(self.iterations + 1, 'float32')
            self.powers = tuple(ops.power(beta, step) for beta in self.betas())
            super().apply(grads, trainable_variables)
        finally:
            self.rate = self.powers = None

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self.rate is None else self.rate

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        rate = learning_rate * self.shares[i] if self.shares else learning_rate
        m, v = self.moments(i)
        if v is None or keras.backend.backend() != 'tensorflow':
            return super().update_step(gradient, variable, rate)
        (beta1, beta2), (power1, power2) = self.betas(), self.powers
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.value.handle,
            v=v.value.handle,
            beta1_power=power1,
            beta2_power=power2,
            lr=rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class Adam(Once, keras.optimizers.Adam):
    def betas(self):
        return self.beta_1, self.beta_2

    def moments(self, i):
        return self._momentums[i], self._velocities[i]


class Muon(Once, keras.optimizers.Muon):
    """Keras' Muon (Jordan et al., 2024) for kernels as matrices (taps x channels in, channels out);
    the rest, depthwise kernels and the first and last layer are AdamW's (Liu et al., "Muon is
    Scalable", 2025), at the same rate."""

    # Keras' Muon assigns variables plainly, once for each device that shares a batch; both kinds
    # decay alike here.
    _apply_weight_decay = keras.optimizers.Optimizer._apply_weight_decay

    def betas(self):
        return self.adam_beta_1, self.adam_beta_2

    def moments(self, i):
        return self.momentums[i], self.adam_velocities[i]

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 or variable.path.split('/')[0] in self.exclude_layers

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign(m, self.momentum * m + gradient)
        g = ops.reshape(gradient + self.momentum * m, (-1, variable.shape[-1]))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(g, self.ns_steps))
        self.assign_sub(variable, ops.reshape(update, variable.shape))

    def zeropower_via_newtonschulz5(self, x, steps):
        """Keras' iteration on the shorter side's Gram matrix: less than half the time."""
        tall = x.shape[0] > x.shape[1]
        x = x / (ops.norm(x) + 1e-7)
        gram = ops.matmul(ops.transpose(x), x) if tall else ops.matmul(x, ops.transpose(x))
        identity = factor = ops.eye(gram.shape[0], dtype=x.dtype)
        for i in range(steps):
            p = self.muon_a * identity + self.muon_b * gram + self.muon_c * ops.matmul(gram, gram)
            factor = ops.matmul(p, factor) if i else p
            if i + 1 < steps:
                gram = ops.matmul(p, ops.matmul(gram, p))
        return ops.matmul(x, factor) if tall else ops.matmul(factor, x)


def make_optimizer(model, settings, learning_rate):
    """Adam, or AdamW where weights decay, or Muon, as `settings` say."""
    decay = settings.weight_decay
    if settings.optimizer == 'muon':
        kernels = [layer for layer in model.layers if hasattr(layer, 'kernel')]
        deep = [k.name for k in kernels if isinstance(k, layers.DepthwiseConv2D)]
        deep += [kernels[0].name, kernels[-1].name]
        optimizer = Muon(learning_rate, exclude_layers=deep, weight_decay=decay or None)
    else:
        optimizer = Adam(learning_rate, weight_decay=decay or None)
    if settings.encoder != 'none' and settings.encoder_weights != 'none':
        encoder = {w.path for layer in encoder_layers(model) for w in layer.weights}
        slow = settings.encoder_rate
        optimizer.shares = [slow if w.path in encoder else 1 for w in model.trainable_weights]
    optimizer.exclude_from_weight_decay(var_names=['gamma', 'beta', 'bias'])
    return optimizer
