"""Everything that changes an image, and its label with it: one matrix builder, one warp.

    augmentation = parse('scale=0.75-1.6,flip,jitter=0.2,cutmix@0.5')
    image, label = augmentation.pair(image, label, seed)
    images, one_hot = augmentation.mix(images, one_hot, seed)

Plain TensorFlow functions, for tf.data. A pair function takes and returns (image float32 (H, W, C)
in 0..1, label uint8 (H, W)) of one picture, a mixing function (images (N, H, W, C), one-hot
(N, H, W, K)) of a batch. `seed`, two integers, decides everything that is random. A strength of 0
changes nothing. Labels are moved, dropped (255) or mixed, never computed with.

`aug_dict`, the article's augmentation, is Keras' ImageDataGenerator. Its class checks the arguments
and draws the numbers here; the one affine matrix then moves image (bilinear) and label (nearest).
"""

import inspect
import math
import re
import types
from collections import namedtuple
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from seg.readers import NO_CLASS, InputError, nearest_name

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
DRAW = (
    'theta',
    'tx',
    'ty',
    'shear',
    'zx',
    'zy',
    'flip_horizontal',
    'flip_vertical',
    'channel_shift_intensity',
    'brightness',
)
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
            raise InputError(
                f'augmentation fill_mode={self.fill_mode!r}: expected one of '
                + ', '.join(FILL_MODES)
            )

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


def affine_matrix(
    height,
    width,
    theta=0.0,
    tx=0.0,
    ty=0.0,
    shear=0.0,
    zx=1.0,
    zy=1.0,
    flip_horizontal=0.0,
    flip_vertical=0.0,
    out=None,
):
    """float32 (8,): the projective transform, output (x, y) -> input (x, y), of one draw.

    ImageDataGenerator's chain about the picture's centre: rotation (theta, degrees), shift (tx
    rows, ty columns), shear (degrees), zoom (zx columns, zy rows), then the flips of the result.
    Keras' own apply_affine_transform exchanges rows and columns in the shift and in the centre,
    so that its height shift moves sideways and its rotation turns about a point beside the centre
    of any picture that is not square; here they do as documented. `out`: (height, width) of the
    output where it is another; the two centres are then laid on each other.
    """
    degree = np.pi / 180
    cos, sin = tf.cos(theta * degree), tf.sin(theta * degree)
    shear_sin, shear_cos = tf.sin(shear * degree), tf.cos(shear * degree)
    # rotation @ shear @ zoom in (x, y), the shift rotated with it
    a, b = zx * cos, zy * (-cos * shear_sin - sin * shear_cos)
    d, e = zx * sin, zy * (-sin * shear_sin + cos * shear_cos)
    c, f = cos * ty - sin * tx, sin * ty + cos * tx
    cx, cy = (tf.cast(width, tf.float32) - 1) / 2, (tf.cast(height, tf.float32) - 1) / 2
    ox, oy = (cx, cy) if out is None else ((out[1] - 1) / 2, (out[0] - 1) / 2)
    # A flip of the output: x -> 2 ox - x, which about the centre is a change of sign.
    h, v = 1 - 2 * tf.cast(flip_horizontal, tf.float32), 1 - 2 * tf.cast(flip_vertical, tf.float32)
    a, d, b, e = a * h, d * h, b * v, e * v
    return tf.stack([a, b, c + cx - a * ox - b * oy, d, e, f + cy - d * ox - e * oy, 0.0, 0.0])


def warp(image, label, matrix, fill_mode='nearest', cval=0.0, out=None):
    """Move image and label by one matrix (see affine_matrix); shapes are kept, or become `out`.

    Args: image float32 (H, W, C); label uint8 (H, W); fill_mode: where the picture ends, go on
        with its edge ('nearest'), mirrored ('reflect'), from the other side ('wrap'), or with
        `cval` and label 255, no class ('constant').
    Returns: image by bilinear, label by nearest-neighbour sampling.
    """

    def move(x, interpolation, fill):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=x[None],
            transforms=matrix[None],
            output_shape=out or tf.shape(x)[:2],
            fill_value=fill,
            interpolation=interpolation,
            fill_mode=fill_mode.upper(),
        )[0]

    moved = move(image, 'BILINEAR', cval), move(label[..., None], 'NEAREST', NO_CLASS)[..., 0]
    size = out or label.shape
    return tf.ensure_shape(moved[0], (*size, image.shape[-1])), tf.ensure_shape(moved[1], size)


def apply_draw(image, label, draw, fill_mode='nearest', cval=0.0):
    """What ImageDataGenerator does with one draw (the values of DRAW), to image and label.

    image float32 (H, W, C) in 0..255, label uint8 (H, W) -> the same. The warp, then channel
    shift (clipped to the image's own range, as Keras does), then brightness (a factor).
    """
    size = tf.shape(image)
    image, label = warp(
        image, label, affine_matrix(size[0], size[1], *tf.unstack(draw[:8])), fill_mode, cval
    )
    shift, brightness = draw[8], draw[9]
    image = tf.cond(
        shift == 0,
        lambda: image,
        lambda: tf.clip_by_value(image + shift, tf.reduce_min(image), tf.reduce_max(image)),
    )
    image = tf.cond(
        brightness == 1, lambda: image, lambda: tf.clip_by_value(image * brightness, 0.0, 255.0)
    )
    return image, label


# ---------------------------------------------------------------------------- geometry, one warp


def spread(u, strength, factor=False):
    """u in 0..1 -> a value in the strength's range.

    A range (low, high) is itself. A number s means -s..s, or for a factor 1/(1+s)..1+s. Factors
    are spread evenly in their logarithm, so that halving is as likely as doubling.
    """
    if not isinstance(strength, tuple):
        strength = (1 / (1 + strength), 1 + strength) if factor else (-strength, strength)
    low, high = map(math.log, strength) if factor else strength
    value = low + u * (high - low)
    return tf.exp(value) if factor else value


def geometry(
    image, label, seed, crop=None, scale=0.0, rotate=0.0, shear=0.0, shift=0.0, flip=0.0, vflip=0.0
):
    """Pair function: crop, scale, rotation, shear, translation and flips in one warp.

    What no source pixel supplies is black with label 255. AlexNet's crops and flips (Krizhevsky
    et al. 2012); scale and window as in DeepLab's and FC-DenseNet's training.

    Args:
        crop: (height, width) in pixels of a window at a random place, the new size; None keeps it.
        scale: factor of magnification; the window lies anywhere on the scaled picture.
        rotate, shear: degrees, either way, about the centre.
        shift: share of each side, either way.
        flip, vflip: probability of mirroring left-right, upside down.
    """
    u = tf.random.stateless_uniform((8,), seed)
    out, zoom = crop or tuple(label.shape), 1 / spread(u[0], scale, True)

    def place(v, t, side, window):
        slack, move = tf.abs(side - zoom * window), side * spread(t, shift)
        if scale == rotate == shear == 0:  # whole pixels, so that a crop copies, not interpolates
            return tf.floor(v * (slack + 1)) - slack / 2 + tf.round(move)
        return (v - 0.5) * slack + move

    height, width = tf.unstack(tf.cast(tf.shape(label), tf.float32))
    mirrored = tf.random.stateless_uniform((2,), tf.random.fold_in(seed, 1)) < (flip, vflip)
    matrix = affine_matrix(
        height,
        width,
        spread(u[5], rotate),
        place(u[1], u[2], height, out[0]),
        place(u[3], u[4], width, out[1]),
        spread(u[6], shear),
        zoom,
        zoom,
        mirrored[0],
        mirrored[1],
        out,
    )
    return warp(image, label, matrix, 'constant', out=out)


# ---------------------------------------------------------------------------- colour


def _linear(image, contrast=1.0, saturation=1.0, brightness=0.0):
    """Saturation, contrast, brightness as one matrix and an offset: x @ m + t, clipped."""
    channels = image.shape[-1]
    grey = tf.constant([0.299, 0.587, 0.114] if channels == 3 else [1 / channels] * channels)
    mean = tf.tensordot(tf.reduce_mean(image, (0, 1)), grey, 1)
    m = contrast * (saturation * tf.eye(channels) + (1 - saturation) * grey[:, None])
    changed = tf.reshape(tf.reshape(image, (-1, channels)) @ m, tf.shape(image))
    changed = tf.clip_by_value(changed + (1 - contrast) * mean + brightness, 0.0, 1.0)
    return tf.ensure_shape(changed, image.shape)


def gamma(image, label, seed, strength):
    """Pair: image ** g, g = 1/(1+strength)..1+strength; power-law transform (Poynton 1998)."""
    g = spread(tf.random.stateless_uniform((), seed), strength, True)
    return tf.exp(g * tf.math.log(image)), label  # five times as fast as tf.pow; log 0 -> 0


def brightness(image, label, seed, strength):
    """Pair: adds -strength..strength, as tf.image.random_brightness (Howard 2013)."""
    shift = spread(tf.random.stateless_uniform((), seed), strength)
    return tf.clip_by_value(image + shift, 0.0, 1.0), label


def hue(image, label, seed, strength):
    """Pair: turns the hue by -strength..strength of the circle (Szegedy et al. 2015); RGB only."""
    turn = spread(tf.random.stateless_uniform((), seed), strength)
    if image.shape[-1] != 3:
        return image, label
    return tf.clip_by_value(tf.image.adjust_hue(image, turn), 0.0, 1.0), label


def saturation(image, label, seed, strength):
    """Pair: away from grey by the factor 1/(1+strength)..1+strength (Howard 2013)."""
    factor = spread(tf.random.stateless_uniform((), seed), strength, True)
    return _linear(image, saturation=factor), label


def contrast(image, label, seed, strength):
    """Pair: away from the mean grey by the factor 1/(1+strength)..1+strength (Howard 2013)."""
    factor = spread(tf.random.stateless_uniform((), seed), strength, True)
    return _linear(image, contrast=factor), label


def noise(image, label, seed, strength):
    """Pair: adds Gaussian noise of deviation 0..strength, one for the picture (Bishop 1995)."""
    deviation = strength * tf.random.stateless_uniform((), tf.random.fold_in(seed, 1))
    noisy = image + deviation * tf.random.stateless_normal(tf.shape(image), seed)
    return tf.clip_by_value(noisy, 0.0, 1.0), label


def channel_shift(image, label, seed, strength):
    """Pair: adds -strength..strength to each channel by itself (cf. Krizhevsky et al. 2012)."""
    shift = spread(tf.random.stateless_uniform((image.shape[-1],), seed), strength)
    return tf.clip_by_value(image + shift, 0.0, 1.0), label


def jitter(image, label, seed, strength):
    """Pair: saturation, contrast and brightness at once, each of `strength` (Howard 2013)."""
    u = tf.random.stateless_uniform((3,), seed)
    return _linear(
        image, spread(u[0], strength, True), spread(u[1], strength, True), spread(u[2], strength)
    ), label


def point_operations(values, counts, level):
    """PIL's autocontrast, equalize, posterize, solarize of values that are already a table's.

    Args: values int32 (..., 256): what each of 256 levels has become; counts float32 (..., 256):
        how many pixels have each level; level float32 (..., 1, 1): 0..10.
    Returns: float32 (4, ..., 256) of 0..255.
    """
    shape = tf.shape(values)
    flat = tf.reshape(values, (-1, 256)) + 256 * tf.range(tf.size(values) // 256)[:, None]
    present = tf.math.unsorted_segment_sum(
        tf.reshape(counts, (-1,)), tf.reshape(flat, (-1,)), tf.size(values)
    )
    present = tf.reshape(present, shape)
    v, grid = tf.cast(values, tf.float32), tf.range(256, dtype=tf.float32)
    low = tf.reduce_min(tf.where(present > 0, grid, 255.0), -1, keepdims=True)
    high = tf.reduce_max(tf.where(present > 0, grid, 0.0), -1, keepdims=True)
    auto = tf.where(high > low, tf.math.divide_no_nan((v - low) * 255, high - low), v)
    last = tf.reduce_sum(tf.where(grid == high, present, 0.0), -1, keepdims=True)
    step = tf.floor((tf.reduce_sum(present, -1, keepdims=True) - last) / 255)
    below = tf.cumsum(present, -1, exclusive=True)
    table = tf.where(step > 0, tf.math.divide_no_nan(tf.floor(step / 2) + below, step), grid)
    equal = tf.gather(tf.floor(table), values, batch_dims=values.shape.rank - 1)
    width = 2.0 ** (4 + tf.floor(level * 0.4))
    posterized = tf.floor(v / width) * width
    solarized = tf.where(v < 256 - 25.6 * level, v, 255 - v)
    return tf.clip_by_value(tf.floor(tf.stack([auto, equal, posterized, solarized])), 0.0, 255.0)


def augmix(image, label, seed, strength):
    """Pair: AugMix (Hendrycks et al. 2020), a blend of chains of PIL's colour operations.

    Three chains of one to three operations, blended by Dirichlet(1) weights and then with the
    picture by Beta(1, 1). Its geometric operations are left out, for blended labels would follow
    no class. strength: the paper's severity / 10 (0.3 there). Such chains are tables of 256
    levels, so all of it is worked out on tables and the picture is read through one.
    """
    if not strength:
        return image, label
    channels = image.shape[-1]
    level = tf.cast(tf.round(image * 255), tf.int32)
    place = level + 256 * tf.range(channels)
    counts = tf.math.bincount(
        tf.reshape(place, (-1,)),
        minlength=256 * channels,
        maxlength=256 * channels,
        dtype=tf.float32,
    )
    counts = tf.tile(tf.reshape(counts, (1, channels, 256)), (3, 1, 1))
    u = tf.random.stateless_uniform((3, 9), seed)
    values = tf.tile(tf.range(256)[None, None], (3, channels, 1))
    for i in range(3):
        severity = 0.1 + u[:, i] * (10 * strength - 0.1)
        results = point_operations(values, counts, severity[:, None, None])
        chosen = tf.cast(u[:, 3 + i] * 4, tf.int32)
        result = tf.gather(tf.transpose(results, (1, 0, 2, 3)), chosen, batch_dims=1)
        active = (i < 1 + tf.floor(3 * u[:, 6]))[:, None, None]
        values = tf.where(active, tf.cast(result, tf.int32), values)
    weights = -tf.math.log(1 - u[:, 7])
    mixed = tf.tensordot(weights / tf.reduce_sum(weights), tf.cast(values, tf.float32), 1)
    change = u[0, 8] * (mixed - tf.range(256, dtype=tf.float32)) / 255  # (C, 256)
    changed = image + tf.gather(tf.reshape(change, (-1,)), place)
    return tf.clip_by_value(changed, 0.0, 1.0), label


# ---------------------------------------------------------------------------- information dropping


def _drop(image, label, mask, void, fill=0.0):
    """Fill where `mask` (H, W); with `void` the label there becomes 255, else it is kept."""
    m = tf.cast(mask, tf.float32)[..., None]
    image = image * (1 - m) + fill * m
    return image, tf.where(mask, tf.constant(NO_CLASS, tf.uint8), label) if void else label


def _axes(label):
    """Pixel numbers down a column and along a row, height and width, all float32."""
    height, width = tf.unstack(tf.cast(tf.shape(label), tf.float32))
    return tf.range(height), tf.range(width), height, width


def cutout(image, label, seed, strength, void=False):
    """Pair: Cutout (DeVries and Taylor 2017), a black square of side strength x the shorter side.

    Its centre lies anywhere, so that it may hang over the edge.
    """
    u, (y, x, height, width) = tf.random.stateless_uniform((2,), seed), _axes(label)
    half = strength * tf.minimum(height, width) / 2
    rows, columns = (tf.abs(y + 0.5 - u[0] * height) < half), tf.abs(x + 0.5 - u[1] * width) < half
    return _drop(image, label, rows[:, None] & columns, void)


def erasing(image, label, seed, strength, void=False):
    """Pair: Random Erasing (Zhong et al. 2020), a rectangle of noise within the picture.

    strength: its largest area as a share of the picture's (the paper's 0.4); the least is 0.02 and
    height / width 0.3 to 1 / 0.3, where that fits. The paper erases every other picture:
    erasing@0.5.
    """
    u, (y, x, height, width) = tf.random.stateless_uniform((4,), seed), _axes(label)
    least = min(0.02, strength)
    area = (least + u[0] * (strength - least)) * height * width
    low, high = tf.maximum(0.3, area / width**2), tf.minimum(1 / 0.3, height**2 / area)
    ratio = low * (tf.maximum(high, low) / low) ** u[1]  # tall to wide, of those that fit
    h = tf.minimum(tf.round(tf.sqrt(area * ratio)), height)
    w = tf.minimum(tf.round(tf.sqrt(area / ratio)), width)
    top, left = tf.floor(u[2] * (height - h + 1)), tf.floor(u[3] * (width - w + 1))
    mask = ((y >= top) & (y < top + h))[:, None] & ((x >= left) & (x < left + w))
    fill = tf.random.stateless_uniform(tf.shape(image), tf.random.fold_in(seed, 1))
    return _drop(image, label, mask, void, fill)


def gridmask(image, label, seed, strength, void=False):
    """Pair: GridMask (Chen et al. 2020), black squares on a grid, a share of strength² in all.

    strength: side of a square / distance of squares, 1 - r in the paper (0.4 there). The distance
    is 0.43 to 1 of the shorter side, its 96 to 224 of 224 pixels.
    """
    u, (y, x, height, width) = tf.random.stateless_uniform((3,), seed), _axes(label)
    distance = (96 + u[0] * (224 - 96)) / 224 * tf.minimum(height, width)
    rows = (y / distance + u[1]) % 1 < strength
    columns = (x / distance + u[2]) % 1 < strength
    return _drop(image, label, rows[:, None] & columns, void)


def hide(image, label, seed, strength, void=False):
    """Pair: Hide-and-Seek (Singh and Lee 2017), each patch of a grid hidden with this probability.

    Patches are 1/14 to 1/4 of the shorter side (its 16 to 56 of 224 pixels), filled with the
    picture's mean colour (there the data set's). The paper's strength is 0.5.
    """
    u, (y, x, height, width) = tf.random.stateless_uniform((), seed), _axes(label)
    side = tf.minimum(height, width) / (4 + tf.floor(u * 11))
    rows, columns = tf.cast(y / side, tf.int32), tf.cast(x / side, tf.int32)
    shape = (rows[-1] + 1, columns[-1] + 1)
    cells = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, 1)) < strength
    mask = tf.gather(tf.gather(cells, rows), columns, axis=1)
    return _drop(image, label, mask, void, tf.reduce_mean(image, (0, 1)))


# ---------------------------------------------------------------------------- mixing, of a batch


def _partners(seed, *batches):
    """Each batch rolled by one random number of places, so that none meets itself."""
    n = tf.shape(batches[0])[0]
    u = tf.random.stateless_uniform((), tf.random.fold_in(seed, 1))
    places = 1 + tf.cast(u * tf.cast(n - 1, tf.float32), tf.int32)
    return [tf.roll(x, places, 0) for x in batches]


def _beta(seed, strength, n):
    """float32 (n,) of Beta(strength, strength)."""
    g = tf.random.stateless_gamma((n, 2), tf.random.fold_in(seed, 2), strength, dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(g[:, 0], g[:, 0] + g[:, 1]), tf.float32)


def _paste(mask, mixed, images, one_hot):
    """The partners' pixels where `mask` (N, H, W), image and one-hot alike."""
    m = tf.cast(mask, tf.float32)[..., None]
    return m * mixed[0] + (1 - m) * images, m * mixed[1] + (1 - m) * one_hot


def mixup(images, one_hot, seed, strength):
    """Mixing: Mixup (Zhang et al. 2018), lambda x one + (1 - lambda) x another picture.

    strength: alpha of lambda's Beta(alpha, alpha); the paper's are 0.1 to 0.4. A pixel that has
    no class in one of the two gets none.
    """
    if not strength:
        return images, one_hot
    others, their_hot = _partners(seed, images, one_hot)
    share = _beta(seed, strength, tf.shape(images)[0])[:, None, None, None]
    single = one_hot.shape[-1] == 1  # the two-class net's channel, -1 where there is no class
    known = [
        y >= 0 if single else tf.reduce_any(y > 0, -1, keepdims=True) for y in (one_hot, their_hot)
    ]
    mixed = tf.where(
        known[0] & known[1], share * one_hot + (1 - share) * their_hot, -1.0 if single else 0.0
    )
    return share * images + (1 - share) * others, mixed


def cutmix(images, one_hot, seed, strength):
    """Mixing: CutMix (Yun et al. 2019), a rectangle of another picture with its label.

    strength: alpha (the paper's 1); the rectangle has 1 - lambda of the area, lambda of Beta(alpha,
    alpha), the picture's own shape and a centre anywhere, so that the edge may cut it.
    """
    if not strength:
        return images, one_hot
    n, h, w = tf.unstack(tf.shape(images)[:3])
    half = tf.sqrt(1 - _beta(seed, strength, n))[:, None] / 2
    u = tf.random.stateless_uniform((2, n, 1), seed)
    rows, columns = (
        tf.abs((tf.range(tf.cast(side, tf.float32)) + 0.5) / tf.cast(side, tf.float32) - v) < half
        for side, v in ((h, u[0]), (w, u[1]))
    )
    mask = rows[:, :, None] & columns[:, None, :]
    return _paste(mask, _partners(seed, images, one_hot), images, one_hot)


def fmix(images, one_hot, seed, strength):
    """Mixing: FMix (Harris et al. 2020), blobs of another picture with their label.

    The blobs are where low-frequency noise (spectrum / f³) is highest, 1 - lambda of the area.
    strength: alpha of lambda's Beta(alpha, alpha); the paper's is 1.
    """
    if not strength:
        return images, one_hot
    n, h, w = tf.unstack(tf.shape(images)[:3])
    y, x = tf.range(h), tf.range(w // 2 + 1)
    fy = tf.cast(tf.minimum(y, h - y) / h, tf.float32)
    frequency = tf.sqrt(fy[:, None] ** 2 + tf.cast(x / w, tf.float32) ** 2)
    frequency = tf.maximum(frequency, 1 / tf.cast(tf.maximum(h, w), tf.float32))
    spectrum = tf.random.stateless_normal((2, n, h, w // 2 + 1), seed) / frequency**3
    field = tf.signal.irfft2d(tf.complex(spectrum[0], spectrum[1]), (h, w))
    step = tf.maximum(1, tf.minimum(h, w) // 64)  # every pixel's rank is not needed for a quantile
    ranked = tf.sort(tf.reshape(field[:, ::step, ::step], (n, -1)))
    place = tf.cast(_beta(seed, strength, n) * tf.cast(tf.shape(ranked)[1], tf.float32), tf.int32)
    place = tf.minimum(place, tf.shape(ranked)[1] - 1)
    mask = field > tf.gather(ranked, place, batch_dims=1)[:, None, None]
    return _paste(mask, _partners(seed, images, one_hot), images, one_hot)


def classmix(images, one_hot, seed, strength):
    """Mixing: ClassMix (Olsson et al. 2021), all pixels of some classes of another picture.

    strength: the share of the classes present there that are pasted; the paper's is 0.5. It
    takes the classes from a network's guess, here they are the label's.
    """
    mixed = _partners(seed, images, one_hot)
    y = mixed[1]
    if y.shape[-1] == 1:  # background and foreground; -1 is neither
        y = tf.cast(tf.concat([(y >= 0) & (y < 0.5), y >= 0.5], -1), tf.float32)
    present = tf.reduce_max(y, (1, 2)) > 0.5  # (N, K)
    u = tf.random.stateless_uniform(tf.shape(present), seed)
    rank = tf.argsort(tf.argsort(tf.where(present, u, 2.0)))
    count = tf.floor(strength * tf.reduce_sum(tf.cast(present, tf.float32), 1, keepdims=True) + 0.5)
    chosen = tf.cast(tf.cast(rank, tf.float32) < count, tf.float32)
    mask = tf.einsum('nhwk,nk->nhw', y, chosen) > 0.5
    return _paste(mask, mixed, images, one_hot)


# ---------------------------------------------------------------------------- the command line's

# style of the strength: 'either' -S..S or LOW-HIGH; 'factor' 1/(1+S)..1+S or LOW-HIGH; 'number' S
Operation = namedtuple('Operation', 'function family style default high meaning')
OPERATIONS = {
    'crop': Operation(None, 'geometry', 'size', None, 8192, 'window of pixels at a random place'),
    'scale': Operation(None, 'geometry', 'factor', 0.5, 9, 'magnification'),
    'rotate': Operation(None, 'geometry', 'either', 10, 180, 'degrees'),
    'shear': Operation(None, 'geometry', 'either', 10, 80, 'degrees'),
    'shift': Operation(None, 'geometry', 'either', 0.1, 1, 'share of the side'),
    'flip': Operation(None, 'geometry', 'number', 0.5, 1, 'probability of mirroring left-right'),
    'vflip': Operation(None, 'geometry', 'number', 0.5, 1, 'probability of mirroring upside down'),
    'gamma': Operation(gamma, 'colour', 'factor', 0.5, 9, 'exponent'),
    'brightness': Operation(brightness, 'colour', 'either', 0.2, 1, 'added to 0..1'),
    'hue': Operation(hue, 'colour', 'either', 0.05, 0.5, 'turns of the colour circle'),
    'saturation': Operation(saturation, 'colour', 'factor', 0.5, 9, 'distance from grey'),
    'contrast': Operation(contrast, 'colour', 'factor', 0.5, 9, 'distance from the mean grey'),
    'noise': Operation(noise, 'colour', 'number', 0.1, 1, 'largest deviation of Gaussian noise'),
    'channel_shift': Operation(channel_shift, 'colour', 'either', 0.1, 1, 'added to each channel'),
    'jitter': Operation(jitter, 'colour', 'number', 0.2, 1, 'brightness, contrast and saturation'),
    'augmix': Operation(augmix, 'colour', 'number', 0.3, 1, "severity of AugMix's colour chains"),
    'cutout': Operation(cutout, 'dropping', 'number', 0.5, 2, 'side of a square / shorter side'),
    'erasing': Operation(erasing, 'dropping', 'number', 0.4, 1, 'largest area of a patch of noise'),
    'gridmask': Operation(gridmask, 'dropping', 'number', 0.4, 1, 'side / distance of squares'),
    'hide': Operation(hide, 'dropping', 'number', 0.5, 1, 'probability of hiding each patch'),
    'mixup': Operation(mixup, 'mixing', 'number', 0.4, 100, "alpha of Mixup's Beta"),
    'cutmix': Operation(cutmix, 'mixing', 'number', 1, 100, "alpha of CutMix's Beta"),
    'fmix': Operation(fmix, 'mixing', 'number', 1, 100, "alpha of FMix's Beta"),
    'classmix': Operation(classmix, 'mixing', 'number', 0.5, 1, 'share of classes that is pasted'),
}
FAMILIES = {
    'geometry': 'geometry, all in one warp; what the picture does not supply has no class',
    'colour': 'colour, the label untouched',
    'dropping': 'dropping; NAME:void also drops the label there',
    'mixing': 'mixing, within a batch, image and label alike',
}


def help_text():
    """The grammar and every name with its default, range and meaning: main.py's help has it too."""
    lines = [
        'NAME[=STRENGTH][@PROBABILITY],... with',
        '  S: a number, 0 changes nothing; +-S: -S to S, or LOW-HIGH; xS: a factor from',
        '  1/(1+S) to 1+S, or LOW-HIGH',
    ]
    for family, title in FAMILIES.items():
        lines.append(title)
        for name, o in OPERATIONS.items():
            if o.family == family:
                default = name + (f'={o.default}' if o.default else '=HxW')
                sign = {'either': '+-', 'factor': 'x'}.get(o.style, '')
                span = f'{sign}0 to {o.high}' if o.default else ''
                lines.append(f'  {default:20} {span:10} {o.meaning}')
    return '\n'.join(lines)


def _strength(name, text):
    """What stands behind NAME=; InputError with what was expected."""
    o, number = OPERATIONS[name], r'[+-]?(?:\d+\.?\d*|\.\d+)'
    if o.style == 'size':
        expected = 'HEIGHTxWIDTH in pixels, as in crop=256x256'
        match = re.fullmatch(r'(\d{1,5})x(\d{1,5})', text)
        value = match and tuple(map(int, match.groups()))
        fits = match and all(1 <= side <= o.high for side in value)
    else:
        low, high = {
            'either': (-o.high, o.high),
            'factor': (1 / (1 + o.high), 1 + o.high),
            'number': (1, 0),
        }[o.style]
        expected = f'0 to {o.high}'
        expected += f', or LOW-HIGH from {low:g} to {high:g}' if low < high else ''
        match = re.fullmatch(rf'({number})(?:-({number}))?', text)
        value = match and (tuple(map(float, match.groups())) if match[2] else float(match[1]))
        fits = match and (low <= value[0] <= value[1] <= high if match[2] else 0 <= value <= o.high)
    if not fits:
        raise InputError(f'--augment {name}={text}: expected {expected} ({o.meaning})')
    return value


class Augmentation:
    """What `parse` has read.

    text: as it was written; size: (H, W) where a crop changes it, else None;
    pair(image, label, seed), a pair function; mix(images, one_hot, seed), a mixing function, or
    None. Geometry comes first, in one warp; the rest follows in the order written.
    """

    def __init__(self, text, geometric, pairs, mixes):
        self.text, self.size = text, geometric.get('crop')
        self._geometric, self._pairs = geometric, pairs
        self.mix = partial(self._chain, mixes, 101) if mixes else None

    def pair(self, image, label, seed):
        if self._geometric:
            image, label = geometry(image, label, seed, **self._geometric)
        return self._chain(self._pairs, 11, image, label, seed)

    def _chain(self, chosen, first, x, y, seed):
        for i, (function, probability) in enumerate(chosen):
            own = tf.random.fold_in(seed, first + i)
            if probability == 1:
                x, y = function(x, y, own)
                continue
            here = tf.random.stateless_uniform((), tf.random.fold_in(own, 9)) < probability
            x, y = tf.cond(here, partial(function, x, y, own), lambda x=x, y=y: (x, y))
        return x, y


def parse(text):
    """'scale=0.75-1.6,flip,jitter=0.2,cutmix@0.5' -> Augmentation; '' or 'none' changes nothing.

    Raises: InputError for a name that is none (with the nearest), or a strength out of range.
    """
    geometric, pairs, mixes, seen, text = {}, [], [], set(), ''.join(text.split())
    for part in text.split(',') if text not in ('', 'none') else ():
        name, strength, void, probability = re.fullmatch(
            '([^=@:]*)(?:=([^@:]*))?(:[^@]*)?(?:@(.*))?', part
        ).groups()
        if name not in OPERATIONS:
            hint = nearest_name(name, OPERATIONS) or '; --help lists them'
            raise InputError(f'--augment {name!r}: there is no such augmentation{hint}')
        o, expected = OPERATIONS[name], None
        if name in seen:
            expected = f'{name} once'
        elif void not in (None, ':void') or void and o.family != 'dropping':
            expected = ':void after cutout, erasing, gridmask or hide alone'
        elif probability is not None and o.family == 'geometry':
            expected = 'no @, for geometry is one warp'
        elif not re.fullmatch(r'0?\.\d+|[01](\.0*)?', '1' if probability is None else probability):
            expected = 'a probability of 0 to 1 after @'
        elif strength is None and o.style == 'size':
            expected = f'a size, as in {name}=256x256'
        if expected:
            raise InputError(f'--augment {part}: expected {expected}')
        seen.add(name)
        strength = o.default if strength is None else _strength(name, strength)
        if o.family == 'geometry':
            geometric[name] = strength
        else:
            function = partial(o.function, strength=strength, **({'void': True} if void else {}))
            (mixes if o.family == 'mixing' else pairs).append((function, float(probability or 1)))
    return Augmentation(text, geometric, pairs, mixes)


def preview_cells(pairs, num_class, text='', seed=1):
    """One picture under each augmentation of `text` by itself, or under every one there is.

    Args: pairs: two pairs (image uint8 (H, W, C), label uint8 (H, W)) of one size; the first is
        shown, the second is what it is mixed with.
    Returns: [(caption, image uint8, label uint8)], the untouched picture first. Of six draws
        the one that changes most is shown, or for mixing, the median.
    """
    images = tf.constant(np.stack([image for image, _ in pairs]), tf.float32) / 255
    labels = tf.constant(np.stack([label for _, label in pairs]))
    half = f'{labels.shape[1] // 2}x{labels.shape[2] // 2}'
    one_hot = tf.one_hot(labels, num_class)
    if num_class == 1:  # 1 foreground, 0 background, -1 no class
        one_hot = tf.where(labels == NO_CLASS, -1.0, tf.cast(labels, tf.float32))[..., None]
    cells = [('untouched', *pairs[0])]
    for part in (
        text.split(',')
        if text
        else [f'{name}={o.default or half}' for name, o in OPERATIONS.items()]
    ):
        augmentation, draws = parse(part), []
        for k in range(6):
            if augmentation.mix:
                mixed = augmentation.mix(images, one_hot, (seed, k))
                _, image, label = batch_cells(*mixed)[0]
            else:
                image, label = augmentation.pair(images[0], labels[0], (seed, k))
                image = np.round(image * 255).astype(np.uint8)
            change = 0 if augmentation.size else np.abs(image - np.float32(pairs[0][0])).mean()
            draws.append((change, k, image, label))
        image, label = sorted(draws)[3 if augmentation.mix else -1][2:]
        cells.append((part.strip(), image, np.asarray(label)))
    return cells


def batch_cells(images, one_hot, first=0):
    """A batch of training as cells: [('sample k', image uint8, label uint8)], k from `first`.

    Where labels are mixed, the largest class is shown.
    """
    images, one_hot = np.round(images * 255).astype(np.uint8), np.asarray(one_hot)
    if one_hot.shape[-1] == 1:
        labels = np.where(one_hot < 0, NO_CLASS, one_hot >= 0.5)[..., 0]
    else:
        labels = np.where(one_hot.any(-1), one_hot.argmax(-1), NO_CLASS)
    return [
        (f'sample {first + i}', image, label.astype(np.uint8))
        for i, (image, label) in enumerate(zip(images, labels))
    ]


# ---------------------------------------------------------------------------- the article's names


def _centre(size, height, width):
    """(left, top, right, bottom) of the window of `size` in the middle."""
    h, w = (size, size) if np.isscalar(size) else size
    if not (0 < h <= height and 0 < w <= width):
        raise InputError(f'crop of {h}x{w}: expected at most the picture, {height}x{width}')
    top, left = math.ceil((height - h) / 2), math.ceil((width - w) / 2)
    return left, top, left + w, top + h


class SingleCenterCrop:
    """SingleCenterCrop(size)(img): the middle of a PIL picture; size an int or (height, width)."""

    def __init__(self, size):
        self.size = size

    def __call__(self, img):
        return img.crop(_centre(self.size, img.height, img.width))


class CenterCrop(SingleCenterCrop):
    """CenterCrop(size)(img, mask): the middle of a PIL picture and of its mask of the same size.

    Raises: InputError (a ValueError) for a crop larger than the picture, and for sizes unlike.
    """

    def __call__(self, img, mask):
        if img.size != mask.size:
            raise InputError(f'mask of {mask.size}: expected the size of its image, {img.size}')
        return super().__call__(img), super().__call__(mask)


class CenterCrop_npy(SingleCenterCrop):
    """CenterCrop_npy(size)(img, mask): the same for arrays (H, W, C), masks (H, W) or (H, W, K)."""

    def __call__(self, img, mask):
        if img.shape[:2] != mask.shape[:2]:
            raise InputError(f'mask of {mask.shape}: expected the size of its image, {img.shape}')
        left, top, right, bottom = _centre(self.size, *img.shape[:2])
        return img[top:bottom, left:right], mask[top:bottom, left:right]


def random_brightness(images, max_delta=0.2, seed=None):
    """A batch (N, H, W, C), each picture brighter or darker by its own -max_delta..max_delta.

    uint8 stays uint8 of 0..255; floats are of 0..1. Both are clipped.
    """
    images = np.asarray(images)
    shift = np.random.default_rng(seed).uniform(-max_delta, max_delta, (len(images), 1, 1, 1))
    if images.dtype == np.uint8:
        return (images + 255 * shift).round().clip(0, 255).astype(np.uint8)
    return (images + shift).clip(0, 1).astype(images.dtype)


def show_images(images, columns=4, path=None):
    """A PIL picture with all `images` in rows of `columns`, saved under `path` where it is given.

    images: arrays (H, W, C) or (H, W), uint8 of 0..255 or floats of 0..1. A notebook shows what is
    returned; elsewhere call its show().
    """
    tiles = [np.squeeze(x) for x in images]
    tiles = [x if x.dtype == np.uint8 else np.uint8((x * 255).round().clip(0, 255)) for x in tiles]
    h, w = (max(x.shape[i] for x in tiles) for i in (0, 1))
    sheet = Image.new('RGB', (w * min(columns, len(tiles)), h * -(-len(tiles) // columns)))
    for i, x in enumerate(tiles):
        sheet.paste(Image.fromarray(x), (i % columns * w, i // columns * h))
    if path:
        sheet.save(path)
    return sheet
