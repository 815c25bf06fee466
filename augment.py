"""Everything that changes an image, and its label with it: one matrix builder, one warp.

The article's augmentation is Keras' ImageDataGenerator. Its class checks the arguments and draws
the numbers here; one affine matrix then moves image (bilinear) and label (nearest) together, so
that no label value is ever invented. Plain TensorFlow functions, for tf.data.
"""

import inspect
import types

import numpy as np
import tensorflow as tf
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from labels import NO_CLASS, InputError, nearest_name

_STATISTICS = 'it moves images out of 0..1, which prediction would have to repeat'
REFUSED = {  # arguments of ImageDataGenerator that have no place here -> (neutral value, why)
    'featurewise_center': (False, _STATISTICS),
    'samplewise_center': (False, _STATISTICS),
    'featurewise_std_normalization': (False, _STATISTICS),
    'samplewise_std_normalization': (False, _STATISTICS),
    'zca_whitening': (False, _STATISTICS),
    'rescale': (None, 'images leave the pipeline in 0..1 already'),
    'preprocessing_function': (None, 'it would change the image without its label'),
    'data_format': ('channels_last', 'channels come last here'),
    'validation_split': (0.0, 'validation has a folder of its own'),
    'interpolation_order': (1, 'images are warped bilinearly, labels nearest-neighbour'),
    'dtype': ('float32', 'images are float32'),
}
FILL_MODES = ('nearest', 'reflect', 'wrap', 'constant')
DRAW = ('theta', 'tx', 'ty', 'shear', 'zx', 'zy', 'flip_horizontal', 'flip_vertical',
        'channel_shift_intensity', 'brightness')  # fmt: skip
IDENTITY = (0, 0, 0, 0, 1, 1, 0, 0, 0, 1)


class Draws:
    """The random transforms of ImageDataGenerator(**aug_dict), reproducible one by one.

    Args: aug_dict: arguments of ImageDataGenerator; None or empty draws the identity.
    Raises: InputError for an argument that is unknown, refused or out of range.
    """

    def __init__(self, aug_dict):
        aug_dict = dict(aug_dict or {})
        known = inspect.signature(ImageDataGenerator).parameters
        for name, value in aug_dict.items():
            if name not in known:
                raise InputError(
                    f'augmentation {name!r} is no argument of ImageDataGenerator'
                    + nearest_name(name, known)
                )
            neutral, why = REFUSED.get(name, (value, ''))
            if value != neutral and value not in (None, False):
                raise InputError(f'augmentation {name}={value!r} is refused: {why}')
        try:
            self.generator = ImageDataGenerator(**aug_dict)
        except (ValueError, TypeError) as e:
            raise InputError(f'augmentation: {" ".join(str(e).split())}') from None
        self.fill_mode, self.cval = self.generator.fill_mode, float(self.generator.cval)
        if self.fill_mode not in FILL_MODES:
            raise InputError(f'augmentation fill_mode={self.fill_mode!r}: expected one of '
                             + ', '.join(FILL_MODES))  # fmt: skip

    def draw(self, shape, seed):
        """float32 (10,), the values of DRAW for an image of shape (H, W, ...).

        Keras draws from NumPy's global stream, which any other thread disturbs; here the same
        code runs on a stream of its own, so that a seed gives one draw whatever runs beside it.
        """
        own = types.SimpleNamespace(random=np.random.RandomState(seed), max=np.max)
        code = ImageDataGenerator.get_random_transform.__code__
        drawn = types.FunctionType(code, {'np': own})(self.generator, shape, None)
        values = [drawn[name] for name in DRAW]
        return np.array([i if v is None else v for i, v in zip(IDENTITY, values)], np.float32)


def affine_matrix(height, width, theta=0.0, tx=0.0, ty=0.0, shear=0.0, zx=1.0, zy=1.0,
                  flip_horizontal=0.0, flip_vertical=0.0):  # fmt: skip
    """float32 (8,): the projective transform, output (x, y) -> input (x, y), of one draw.

    ImageDataGenerator's chain about the picture's centre: rotation (theta, degrees), shift (tx
    rows, ty columns), shear (degrees), zoom (zx columns, zy rows), then the flips of the result.
    Keras' own apply_affine_transform exchanges rows and columns in the shift and in the centre,
    so that its height shift moves sideways and its rotation turns about a point beside the centre
    of any picture that is not square; here they do as documented.
    """
    degree = np.pi / 180
    cos, sin = tf.cos(theta * degree), tf.sin(theta * degree)
    shear_sin, shear_cos = tf.sin(shear * degree), tf.cos(shear * degree)
    # rotation @ shear @ zoom in (x, y), the shift rotated with it
    a, b = zx * cos, zy * (-cos * shear_sin - sin * shear_cos)
    d, e = zx * sin, zy * (-sin * shear_sin + cos * shear_cos)
    c, f = cos * ty - sin * tx, sin * ty + cos * tx
    cx, cy = (tf.cast(width, tf.float32) - 1) / 2, (tf.cast(height, tf.float32) - 1) / 2
    # A flip of the output: x -> 2 cx - x, which about the centre is a change of sign.
    h, v = 1 - 2 * tf.cast(flip_horizontal, tf.float32), 1 - 2 * tf.cast(flip_vertical, tf.float32)
    a, d, b, e = a * h, d * h, b * v, e * v
    return tf.stack([a, b, c + cx - a * cx - b * cy, d, e, f + cy - d * cx - e * cy, 0.0, 0.0])


def warp(image, label, matrix, fill_mode='nearest', cval=0.0):
    """Move image and label by one matrix (see affine_matrix); shapes are kept.

    Args: image float32 (H, W, C); label uint8 (H, W); fill_mode: where the picture ends, go on
        with its edge ('nearest'), mirrored ('reflect'), from the other side ('wrap'), or with
        `cval` and label 255, no class ('constant').
    Returns: image by bilinear, label by nearest-neighbour sampling.
    """

    def move(x, interpolation, fill):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=x[None], transforms=matrix[None], output_shape=tf.shape(x)[:2], fill_value=fill,
            interpolation=interpolation, fill_mode=fill_mode.upper())[0]  # fmt: skip

    moved = move(image, 'BILINEAR', cval), move(label[..., None], 'NEAREST', NO_CLASS)[..., 0]
    return tf.ensure_shape(moved[0], image.shape), tf.ensure_shape(moved[1], label.shape)


def apply_draw(image, label, draw, fill_mode='nearest', cval=0.0):
    """What ImageDataGenerator does with one draw (the values of DRAW), to image and label.

    image float32 (H, W, C) in 0..255, label uint8 (H, W) -> the same. The warp, then channel
    shift (clipped to the image's own range, as Keras does), then brightness (a factor).
    """
    size = tf.shape(image)
    image, label = warp(image, label, affine_matrix(size[0], size[1], *tf.unstack(draw[:8])),
                        fill_mode, cval)  # fmt: skip
    shift, brightness = draw[8], draw[9]
    low, high = tf.reduce_min(image), tf.reduce_max(image)
    image = tf.cond(shift == 0, lambda: image, lambda: tf.clip_by_value(image + shift, low, high))
    image = tf.cond(brightness == 1, lambda: image,
                    lambda: tf.clip_by_value(image * brightness, 0.0, 255.0))  # fmt: skip
    return image, label
