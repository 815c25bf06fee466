"""The functions that seg/augment.py's table names; "there" in their descriptions is the paper.
f(image, label, seed, ...) changes one picture, float32 (H, W, C) in 0..1, and its label, uint8 or
uint16 (H, W); f(images, one_hot, seed, ...) mixes a batch, (N, H, W, C) and (N, H, W, K). Both
return the two; `seed`, two integers, decides everything that is random. No class is 255.
"""

import math
from functools import partial
from numbers import Integral

import numpy as np
import tensorflow as tf

from seg.classes import NO_CLASS

_uniform, _fold = tf.random.stateless_uniform, tf.random.fold_in
_clip = partial(tf.clip_by_value, clip_value_min=0.0, clip_value_max=1.0)


def perform(steps, x, y, seed):
    """An image and label, or a batch, after steps [(name of a function below, its arguments, the
    probability that it is called, its stream of random numbers, or None for those of `seed`)]."""
    for name, arguments, probability, stream in steps:
        own = seed if stream is None else _fold(seed, stream)
        changed, same = partial(globals()[name], x, y, own, **arguments), lambda x=x, y=y: (x, y)
        here = probability == 1 or _uniform((), _fold(own, 9)) < probability
        x, y = changed() if here is True else tf.cond(here, changed, same)
    return x, y


def _axes(label):
    """Pixel numbers down a column and along a row, height and width, all float32."""
    height, width = tf.unstack(tf.cast(tf.shape(label), tf.float32))
    return tf.range(height), tf.range(width), height, width


def affine_matrix(height, width, theta=0, tx=0, ty=0, shear=0, zx=1, zy=1, flip_x=0, flip_y=0):
    """float32 (8,): the projective transform, output (x, y) -> input (x, y), of one draw of Keras:
    rotation (theta, degrees) about the centre, shift (tx rows, ty columns, which Keras exchanges),
    shear (degrees), zoom (zx columns, zy rows), then flips (x: left-right)."""
    theta, shear = theta * (np.pi / 180), shear * (np.pi / 180)
    cos, sin, shear_cos, shear_sin = tf.cos(theta), tf.sin(theta), tf.cos(shear), tf.sin(shear)
    zx *= 1 - 2 * tf.cast(flip_x, tf.float32)  # about the centre, a flip is a zoom of -1
    zy *= 1 - 2 * tf.cast(flip_y, tf.float32)
    # rotation @ shear @ zoom in (x, y), the shift rotated with it
    a, b = zx * cos, zy * (-cos * shear_sin - sin * shear_cos)
    d, e = zx * sin, zy * (-sin * shear_sin + cos * shear_cos)
    c, f = cos * ty - sin * tx, sin * ty + cos * tx
    cx, cy = (tf.cast(width, tf.float32) - 1) / 2, (tf.cast(height, tf.float32) - 1) / 2
    return tf.stack([a, b, c + cx - a * cx - b * cy, d, e, f + cy - d * cx - e * cy, 0.0, 0.0])


def warp(image, label, matrix, fill_mode='nearest', cval=0.0):
    """Image (bilinear) and label (nearest) moved by an affine_matrix. fill_mode: beyond its edge a
    picture goes on with it ('nearest'), mirrored ('reflect'), from the other side ('wrap'), or as
    `cval` with label 255, no class ('constant')."""
    how = dict(transforms=matrix[None], output_shape=tf.shape(label), fill_mode=fill_mode.upper())
    move, y = partial(tf.raw_ops.ImageProjectiveTransformV3, **how), label[None, ..., None]
    y = y if label.dtype == tf.uint8 else tf.cast(y, tf.int32)  # it does not take uint16
    x = move(images=image[None], interpolation='BILINEAR', fill_value=cval)[0]
    y = tf.cast(move(images=y, interpolation='NEAREST', fill_value=NO_CLASS), label.dtype)
    return tf.ensure_shape(x, image.shape), tf.ensure_shape(y[0, ..., 0], label.shape)


def elastic_warp(image, label, matrix, grid):
    """warp(..., 'constant') of pixels that are first displaced: by `grid`, float32 (N, M, 2), x and
    y in pixels, enlarged to the picture's size as tf.image.resize does (bicubic, Keys 1981)."""
    y, x, height, width = _axes(label)
    shift, row = tf.image.resize(grid, tf.shape(label), 'bicubic'), tf.shape(label)[1] + 2
    x, y = x + shift[..., 0], y[:, None] + shift[..., 1]
    a, b, c, d, e, f = tf.unstack(matrix[:6])
    # Around the picture a border, one pixel wide, stands for all that lies beyond.
    place = (a * x + b * y + c, width), (d * x + e * y + f, height)
    x, y = (tf.clip_by_value(1 + t, 0.0, side + 1) for t, side in place)

    def read(values, y, x, fill, taps=(0,)):
        bordered = tf.pad(values, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
        bordered = tf.reshape(bordered, (-1, values.shape[-1]))
        place = tf.cast(y, tf.int32) * row + tf.cast(x, tf.int32)
        return [tf.gather(bordered, place + tap) for tap in taps]

    (moved,) = read(label[..., None], tf.floor(y + 0.5), tf.floor(x + 0.5), NO_CLASS)
    top, left = tf.minimum(tf.floor(y), height), tf.minimum(tf.floor(x), width)
    v, u = (y - top)[..., None], (x - left)[..., None]
    p, q, r, s = read(image, top, left, 0.0, (0, 1, row, row + 1))
    upper, lower = p + u * (q - p), r + u * (s - r)
    image = tf.ensure_shape(upper + v * (lower - upper), image.shape)
    return image, tf.ensure_shape(moved[..., 0], label.shape)


def keras_draw(generator, height, width, seed):
    """float32 (10,): one draw of an ImageDataGenerator, distributed as its get_random_transform's:
    affine_matrix's eight from theta on, then the channel shift (of 0..255) and the brightness."""
    g, u = generator, _uniform((10,), seed)

    def shift(limit, u, side):  # a float is a range, an int or a list are equally likely values
        values = np.arange(limit) if isinstance(limit, Integral) and limit > 0 else limit
        values = np.asarray(values if np.size(values) else 0, np.float32)
        unit = side if np.max(values) < 1 else 1.0  # shares of the side, or pixels
        if values.ndim == 0:
            return (2 * u - 1) * values * unit
        values = np.concatenate([values, -values])
        return tf.gather(values, tf.cast(u * len(values), tf.int32)) * unit

    turn, lean, shade = g.rotation_range, g.shear_range, g.channel_shift_range
    zoom, light = g.zoom_range, g.brightness_range or (1, 1)
    low, high = np.float32([(-turn, turn), (-lean, lean), zoom, zoom, (-shade, shade), light]).T
    theta, shear, zx, zy, *colour = tf.unstack(low + u[:6] * (high - low))
    tx, ty = shift(g.height_shift_range, u[6], height), shift(g.width_shift_range, u[7], width)
    mirrors = 0.5 * bool(g.horizontal_flip), 0.5 * bool(g.vertical_flip)
    flips = tf.unstack(tf.cast(u[8:] < mirrors, tf.float32))
    return tf.stack([theta, tx, ty, shear, zx, zy, *flips, *colour])


def image_data_generator(image, label, seed, generator):
    """What an ImageDataGenerator draws: one warp, then the image's channel shift and brightness."""
    g, size = generator, _axes(label)[2:]
    draw = keras_draw(g, *size, seed)
    moves = g.rotation_range, g.shear_range, g.width_shift_range, g.height_shift_range
    moves += np.subtract(g.zoom_range, 1), g.horizontal_flip, g.vertical_flip
    if any(map(np.any, moves)):
        matrix = affine_matrix(*size, *tf.unstack(draw[:8]))
        image, label = warp(image, label, matrix, g.fill_mode, g.cval / 255)
    if g.channel_shift_range:
        image = tf.clip_by_value(image + draw[8] / 255, tf.reduce_min(image), tf.reduce_max(image))
    return (_clip(image * draw[9]) if g.brightness_range else image), label


def spread(u, strength, factor=False):
    """u in 0..1 -> a value in the strength's range: (low, high), or of a number s, -s..s, for a
    factor 1/(1+s)..1+s, whose logarithm is spread evenly: halving is as likely as doubling."""
    if not isinstance(strength, tuple):
        strength = (1 / (1 + strength), 1 + strength) if factor else (-strength, strength)
    low, high = map(math.log, strength) if factor else strength
    value = low + u * (high - low)
    return tf.exp(value) if factor else value


def geometry(image, label, seed, scale=0, rotate=0, shear=0, shift=0, elastic=0, flip=0, vflip=0):
    """One warp, black with label 255 where there is no source. Flips as AlexNet's (Krizhevsky et
    al. 2012); scale as DeepLab's and FC-DenseNet's, the window anywhere on the scaled picture;
    elastic as U-Net's (Ronneberger et al. 2015): a 3x3 grid of Gaussian displacements."""
    u, (height, width) = _uniform((8,), seed), _axes(label)[2:]
    zoom = 1 / spread(u[0], scale, True)

    def place(v, t, side):
        move = side * spread(t, shift)
        whole = scale == rotate == shear == 0  # then pixels are copied, not interpolated
        return tf.round(move) if whole else (v - 0.5) * tf.abs(side - zoom * side) + move

    draw = spread(u[5], rotate), place(u[1], u[2], height), place(u[3], u[4], width)
    flips = tf.unstack(_uniform((2,), _fold(seed, 1)) < (flip, vflip))
    matrix = affine_matrix(height, width, *draw, spread(u[6], shear), zoom, zoom, *flips)
    if elastic:
        grid = elastic * tf.random.stateless_normal((3, 3, 2), _fold(seed, 2))
        return elastic_warp(image, label, matrix, grid)
    return warp(image, label, matrix, 'constant')


def _linear(image, contrast=1.0, saturation=1.0, brightness=0.0):
    """Saturation, contrast, brightness as one matrix and an offset, clipped."""
    channels = image.shape[-1]
    grey = tf.constant([0.299, 0.587, 0.114] if channels == 3 else [1 / channels] * channels)
    mean = tf.tensordot(tf.reduce_mean(image, (0, 1)), grey, 1)
    matrix = contrast * (saturation * tf.eye(channels) + (1 - saturation) * grey[:, None])
    return _clip(tf.tensordot(image, matrix, 1) + (1 - contrast) * mean + brightness)


def gamma(image, label, seed, strength):
    """image ** g, g = 1/(1+strength)..1+strength: the power-law transform (Poynton 1998)."""
    g = spread(_uniform((), seed), strength, True)
    return tf.exp(g * tf.math.log(image)), label  # five times as fast as tf.pow; log 0 -> 0


def brightness(image, label, seed, strength):
    """Adds -strength..strength, as tf.image.random_brightness (Howard 2013)."""
    return _clip(image + spread(_uniform((), seed), strength)), label


def hue(image, label, seed, strength):
    """Turns the hue by -strength..strength of the circle (Szegedy et al. 2015); RGB only."""
    turn = spread(_uniform((), seed), strength)
    return (_clip(tf.image.adjust_hue(image, turn)) if image.shape[-1] == 3 else image), label


def saturation(image, label, seed, strength):
    """Away from grey by the factor 1/(1+strength)..1+strength (Howard 2013)."""
    return _linear(image, saturation=spread(_uniform((), seed), strength, True)), label


def contrast(image, label, seed, strength):
    """Away from the mean grey by the factor 1/(1+strength)..1+strength (Howard 2013)."""
    return _linear(image, contrast=spread(_uniform((), seed), strength, True)), label


def noise(image, label, seed, strength):
    """Adds Gaussian noise of deviation 0..strength, one for the picture (Bishop 1995)."""
    deviation = strength * _uniform((), _fold(seed, 1))
    return _clip(image + deviation * tf.random.stateless_normal(tf.shape(image), seed)), label


def channel_shift(image, label, seed, strength):
    """Adds -strength..strength to each channel by itself (cf. Krizhevsky et al. 2012)."""
    return _clip(image + spread(_uniform((image.shape[-1],), seed), strength)), label


def jitter(image, label, seed, strength):
    """Saturation, contrast and brightness at once, each of `strength` (Howard 2013)."""
    u = _uniform((3,), seed)
    factors = tf.unstack(spread(u[:2], strength, True))
    return _linear(image, *factors, spread(u[2], strength)), label


def point_operations(values, counts, level):
    """float32 (4, ..., 256): PIL's autocontrast, equalize, posterize, solarize of values, int32
    (..., 256), what each level has become before; counts, float32, are its pixels; level 0..10."""
    start = tf.reshape(tf.range(0, tf.size(values), 256), tf.shape(values[..., :1]))
    present = tf.math.unsorted_segment_sum(counts, start + values, tf.size(values))
    present = tf.reshape(present, tf.shape(values))
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
    """AugMix (Hendrycks et al. 2020): three chains of one to three of PIL's colour operations, here
    tables of 256 levels, blended by Dirichlet(1) weights and then with the picture by Beta(1, 1);
    strength is severity / 10 (0.3 there). Blended geometry would leave no class to a label."""
    channels, size = image.shape[-1], 256 * image.shape[-1]
    place = tf.cast(tf.round(image * 255), tf.int32) + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(place, (-1,)), None, size, size, tf.float32)
    counts = tf.tile(tf.reshape(counts, (1, channels, 256)), (3, 1, 1))
    values = tf.tile(tf.range(256)[None, None], (3, channels, 1))
    u = _uniform((3, 9), seed)
    for i in range(3):
        severity, chosen = 0.1 + u[:, i] * (10 * strength - 0.1), tf.cast(u[:, 3 + i] * 4, tf.int32)
        results = point_operations(values, counts, severity[:, None, None])
        result = tf.gather(tf.transpose(results, (1, 0, 2, 3)), chosen, batch_dims=1)
        active = (i < 1 + tf.floor(3 * u[:, 6]))[:, None, None]
        values = tf.where(active, tf.cast(result, tf.int32), values)
    weights = -tf.math.log(1 - u[:, 7])
    mixed = tf.tensordot(weights / tf.reduce_sum(weights), tf.cast(values, tf.float32), 1)
    change = u[0, 8] * (mixed - tf.range(256, dtype=tf.float32)) / 255  # (C, 256)
    return _clip(image + tf.gather(tf.reshape(change, (-1,)), place)), label


def _drop(image, label, mask, void, fill=0.0):
    """Fill where `mask` (H, W); with `void` the label there becomes 255, else it is kept."""
    m = tf.cast(mask, tf.float32)[..., None]
    label = tf.where(mask, tf.constant(NO_CLASS, label.dtype), label) if void else label
    return image * (1 - m) + fill * m, label


def cutout(image, label, seed, strength, void=False):
    """Cutout (DeVries and Taylor 2017): a black square of strength x the shorter side, anywhere."""
    u, (y, x, height, width) = _uniform((2,), seed), _axes(label)
    half = strength * tf.minimum(height, width) / 2
    rows, columns = tf.abs(y + 0.5 - u[0] * height) < half, tf.abs(x + 0.5 - u[1] * width) < half
    return _drop(image, label, rows[:, None] & columns, void)


def erasing(image, label, seed, strength, void=False):
    """Random Erasing (Zhong et al. 2020): a rectangle of noise within the picture, 0.02 to strength
    of its area (0.4 there), 0.3 to 1 / 0.3 times as high as wide where that fits."""
    u, (y, x, height, width) = _uniform((4,), seed), _axes(label)
    area = spread(u[0], (min(0.02, strength), strength)) * height * width
    low, high = tf.maximum(0.3, area / width**2), tf.minimum(1 / 0.3, height**2 / area)
    ratio = low * (tf.maximum(high, low) / low) ** u[1]  # tall to wide, of those that fit
    h = tf.minimum(tf.round(tf.sqrt(area * ratio)), height)
    w = tf.minimum(tf.round(tf.sqrt(area / ratio)), width)
    top, left = tf.floor(u[2] * (height - h + 1)), tf.floor(u[3] * (width - w + 1))
    mask = ((y >= top) & (y < top + h))[:, None] & ((x >= left) & (x < left + w))
    return _drop(image, label, mask, void, _uniform(tf.shape(image), _fold(seed, 1)))


def gridmask(image, label, seed, strength, void=False):
    """GridMask (Chen et al. 2020): a grid of black squares, strength = side / distance (1 - r = 0.4
    there), the distance 0.43 to 1 of the shorter side (96 to 224 of 224 pixels there)."""
    u, (y, x, height, width) = _uniform((3,), seed), _axes(label)
    distance = (96 + u[0] * (224 - 96)) / 224 * tf.minimum(height, width)
    rows, columns = (y / distance + u[1]) % 1 < strength, (x / distance + u[2]) % 1 < strength
    return _drop(image, label, rows[:, None] & columns, void)


def hide(image, label, seed, strength, void=False):
    """Hide-and-Seek (Singh and Lee 2017): patches of 1/14 to 1/4 of the shorter side (16 to 56 of
    224 pixels there) get the picture's mean colour with probability `strength` (0.5 there)."""
    u, (y, x, height, width) = _uniform((), seed), _axes(label)
    side = tf.minimum(height, width) / (4 + tf.floor(u * 11))
    rows, columns = tf.cast(y / side, tf.int32), tf.cast(x / side, tf.int32)
    cells = _uniform((rows[-1] + 1, columns[-1] + 1), _fold(seed, 1)) < strength
    mask = tf.gather(tf.gather(cells, rows), columns, axis=1)
    return _drop(image, label, mask, void, tf.reduce_mean(image, (0, 1)))


def _beta(images, seed, strength):
    """float32 (N,): each picture's lambda, of Beta(strength, strength)."""
    shape = tf.shape(images)[0], 2
    g = tf.random.stateless_gamma(shape, _fold(seed, 2), strength, dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(g[:, 0], g[:, 0] + g[:, 1]), tf.float32)


def _partner(batch, seed):
    """The batch rolled by a random number of places, so that no picture meets itself."""
    others = tf.cast(tf.shape(batch)[0] - 1, tf.float32)
    return tf.roll(batch, 1 + tf.cast(_uniform((), _fold(seed, 1)) * others, tf.int32), 0)


def _blend(share, images, one_hot, seed):
    """share, numbers or a mask, x each picture + (1 - share) x its partner; one-hots alike."""
    share = tf.cast(share, tf.float32)
    return tuple(share * x + (1 - share) * _partner(x, seed) for x in (images, one_hot))


def mixup(images, one_hot, seed, strength):
    """Mixup (Zhang et al. 2018): lambda x one + (1 - lambda) x another picture, and so the labels
    where both have a class; lambda of Beta(strength, strength), strength 0.1 to 0.4 there."""
    share = _beta(images, seed, strength)[:, None, None, None]
    mixed, labels = _blend(share, images, one_hot, seed)
    single = one_hot.shape[-1] == 1  # the two-class net's channel, -1 where there is no class
    for y in (one_hot, _partner(one_hot, seed)):
        known = y >= 0 if single else tf.reduce_any(y > 0, -1, keepdims=True)
        labels = tf.where(known, labels, -1.0 if single else 0.0)
    return mixed, labels


def cutmix(images, one_hot, seed, strength):
    """CutMix (Yun et al. 2019): a rectangle of another picture, of its shape and 1 - lambda of its
    area, centred anywhere; lambda of Beta(strength, strength), strength 1 there."""
    u, (y, x, height, width) = _uniform((2, tf.shape(images)[0], 1), seed), _axes(images[0, ..., 0])
    half = tf.sqrt(1 - _beta(images, seed, strength))[:, None] / 2
    rows = tf.abs((y + 0.5) / height - u[0]) < half
    columns = tf.abs((x + 0.5) / width - u[1]) < half
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return _blend(~inside, images, one_hot, seed)


def fmix(images, one_hot, seed, strength):
    """FMix (Harris et al. 2020): as CutMix, but blobs, where low-frequency noise is highest."""
    n, h, w = tf.unstack(tf.shape(images)[:3])
    y, x = tf.range(h), tf.range(w // 2 + 1)
    fy, fx = (tf.cast(f, tf.float32) for f in (tf.minimum(y, h - y)[:, None] / h, x / w))
    frequency = tf.maximum(tf.sqrt(fy**2 + fx**2), 1 / tf.cast(tf.maximum(h, w), tf.float32))
    spectrum = tf.random.stateless_normal((2, n, h, w // 2 + 1), seed) / frequency**3
    field = tf.signal.irfft2d(tf.complex(spectrum[0], spectrum[1]), (h, w))
    step = tf.maximum(1, tf.minimum(h, w) // 64)  # every pixel's rank is not needed for a quantile
    ranked = tf.sort(tf.reshape(field[:, ::step, ::step], (n, -1)))
    count = tf.shape(ranked)[1]
    place = tf.cast(_beta(images, seed, strength) * tf.cast(count, tf.float32), tf.int32)
    level = tf.gather(ranked, tf.minimum(place, count - 1), batch_dims=1)[:, None, None]
    return _blend((field <= level)[..., None], images, one_hot, seed)


def classmix(images, one_hot, seed, strength):
    """ClassMix (Olsson et al. 2021): all pixels of some of another picture's classes, a share of
    `strength` (0.5 there), by its label, there by a network's guess."""
    y = _partner(one_hot, seed)
    if y.shape[-1] == 1:  # background and foreground; -1 is neither
        y = tf.cast(tf.concat([(y >= 0) & (y < 0.5), y >= 0.5], -1), tf.float32)
    present = tf.reduce_max(y, (1, 2)) > 0.5  # (N, K)
    rank = tf.argsort(tf.argsort(tf.where(present, _uniform(tf.shape(present), seed), 2.0)))
    count = tf.floor(strength * tf.reduce_sum(tf.cast(present, tf.float32), 1, keepdims=True) + 0.5)
    chosen = tf.cast(tf.cast(rank, tf.float32) < count, tf.float32)
    inside = tf.einsum('nhwk,nk->nhw', y, chosen)[..., None] > 0.5
    return _blend(~inside, images, one_hot, seed)
