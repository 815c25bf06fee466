"""What changes an image, and its label with it: the functions that seg/augment.py's table names.

A pair function takes and returns (image float32 (H, W, C) in 0..1, label uint8 (H, W)) of one
picture, a mixing function (images (N, H, W, C), one-hot (N, H, W, K)) of a batch. All are plain
TensorFlow, for tf.data. `seed`, two integers, decides everything that is random. Labels are moved,
dropped (255) or mixed, never computed with.
"""

import math
from functools import partial
from numbers import Integral

import numpy as np
import tensorflow as tf

from seg.classes import NO_CLASS


def perform(steps, x, y, seed):
    """The steps of an Augmentation, one after another, upon an image and label or a batch.

    Args: steps: [(name of a function below, its arguments, the probability that it is called, its
        stream of random numbers)]; stream None takes `seed` as it is.
    """
    for name, arguments, probability, stream in steps:
        own = seed if stream is None else tf.random.fold_in(seed, stream)
        changed = partial(globals()[name], x, y, own, **arguments)
        if probability == 1:
            x, y = changed()
        else:
            here = tf.random.stateless_uniform((), tf.random.fold_in(own, 9)) < probability
            x, y = tf.cond(here, changed, lambda x=x, y=y: (x, y))
    return x, y


# ---------------------------------------------------------------------------- geometry, one warp


def affine_matrix(
    height, width, theta=0, tx=0, ty=0, shear=0, zx=1, zy=1, flip_horizontal=0, flip_vertical=0
):
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
    shape, mode = tf.shape(label), fill_mode.upper()
    common = dict(transforms=matrix[None], output_shape=shape, fill_mode=mode)

    def move(x, **how):
        moved = tf.raw_ops.ImageProjectiveTransformV3(images=x[None], **common, **how)
        return tf.ensure_shape(moved[0], x.shape)

    image = move(image, interpolation='BILINEAR', fill_value=cval)
    return image, move(label[..., None], interpolation='NEAREST', fill_value=NO_CLASS)[..., 0]


def keras_draw(generator, height, width, seed):
    """float32 (10,): one draw of an ImageDataGenerator, distributed as its get_random_transform's.

    affine_matrix's eight from theta on, then the channel shift (of 0..255) and the brightness.
    """
    g, u = generator, tf.random.stateless_uniform((10,), seed)

    def shift(limit, u, side):
        """Keras takes an int or a list for equally likely values, a float for a range."""
        numbers = np.arange(limit) if isinstance(limit, Integral) and limit > 0 else limit
        numbers = np.asarray(numbers if np.size(numbers) else 0, np.float32)
        unit = side if np.max(numbers) < 1 else 1.0  # shares of the side, or pixels
        if numbers.ndim == 0:
            return (2 * u - 1) * numbers * unit
        numbers = np.concatenate([numbers, -numbers])
        return tf.gather(numbers, tf.cast(u * len(numbers), tf.int32)) * unit

    turn, lean, shade = g.rotation_range, g.shear_range, g.channel_shift_range
    zoom, light = g.zoom_range, g.brightness_range or (1, 1)
    low, high = np.float32([(-turn, turn), (-lean, lean), zoom, zoom, (-shade, shade), light]).T
    theta, shear, zx, zy, *colour = tf.unstack(low + u[:6] * (high - low))
    tx, ty = shift(g.height_shift_range, u[6], height), shift(g.width_shift_range, u[7], width)
    mirrors = 0.5 * bool(g.horizontal_flip), 0.5 * bool(g.vertical_flip)
    flips = tf.cast(u[8:] < mirrors, tf.float32)
    return tf.stack([theta, tx, ty, shear, zx, zy, flips[0], flips[1], *colour])


def image_data_generator(image, label, seed, generator):
    """Pair: what an ImageDataGenerator draws, done to image and label alike.

    One warp, the channel shift, clipped to the image's own range, and the brightness, a factor.
    """
    g, size = generator, tf.unstack(tf.cast(tf.shape(label), tf.float32))
    draw = keras_draw(g, *size, seed)
    ranges = g.rotation_range, g.shear_range, g.width_shift_range, g.height_shift_range
    zooms, flips = np.subtract(g.zoom_range, 1), (g.horizontal_flip, g.vertical_flip)
    if any(np.any(x) for x in (*ranges, zooms, flips)):
        matrix = affine_matrix(*size, *tf.unstack(draw[:8]))
        image, label = warp(image, label, matrix, g.fill_mode, g.cval / 255)
    if g.channel_shift_range:
        low, high = tf.reduce_min(image), tf.reduce_max(image)
        image = tf.clip_by_value(image + draw[8] / 255, low, high)
    if g.brightness_range:
        image = tf.clip_by_value(image * draw[9], 0.0, 1.0)
    return image, label


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


def geometry(image, label, seed, scale=0.0, rotate=0.0, shear=0.0, shift=0.0, flip=0.0, vflip=0.0):
    """Pair: scale, rotation, shear, translation and flips in one warp.

    What no source pixel supplies is black with label 255. Flips as AlexNet's (Krizhevsky et al.
    2012); scale as DeepLab's and FC-DenseNet's: the window lies anywhere on the scaled picture.
    """
    u = tf.random.stateless_uniform((8,), seed)
    zoom = 1 / spread(u[0], scale, True)

    def place(v, t, side):
        move = side * spread(t, shift)
        if scale == rotate == shear == 0:  # whole pixels are copied, not interpolated
            return tf.round(move)
        return (v - 0.5) * tf.abs(side - zoom * side) + move

    height, width = tf.unstack(tf.cast(tf.shape(label), tf.float32))
    turn, lean = spread(u[5], rotate), spread(u[6], shear)
    y, x = place(u[1], u[2], height), place(u[3], u[4], width)
    flips = tf.random.stateless_uniform((2,), tf.random.fold_in(seed, 1)) < (flip, vflip)
    matrix = affine_matrix(height, width, turn, y, x, lean, zoom, zoom, *tf.unstack(flips))
    return warp(image, label, matrix, 'constant')


# ---------------------------------------------------------------------------- colour


def _linear(image, contrast=1.0, saturation=1.0, brightness=0.0):
    """Saturation, contrast, brightness as one matrix and an offset: x @ m + t, clipped."""
    channels = image.shape[-1]
    grey = tf.constant([0.299, 0.587, 0.114] if channels == 3 else [1 / channels] * channels)
    mean = tf.tensordot(tf.reduce_mean(image, (0, 1)), grey, 1)
    m = contrast * (saturation * tf.eye(channels) + (1 - saturation) * grey[:, None])
    changed = tf.tensordot(image, m, 1) + (1 - contrast) * mean + brightness
    return tf.clip_by_value(changed, 0.0, 1.0)


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
    factors = spread(u[:2], strength, True)
    return _linear(image, factors[0], factors[1], spread(u[2], strength)), label


def point_operations(values, counts, level):
    """PIL's autocontrast, equalize, posterize, solarize of values that are already a table's.

    Args: values int32 (..., 256): what each of 256 levels has become; counts float32 (..., 256):
        how many pixels have each level; level float32 (..., 1, 1): 0..10.
    Returns: float32 (4, ..., 256) of 0..255.
    """
    size, rows = tf.size(values), tf.reshape(values, (-1, 256))
    place = tf.reshape(rows + 256 * tf.range(size // 256)[:, None], (-1,))
    present = tf.math.unsorted_segment_sum(tf.reshape(counts, (-1,)), place, size)
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
    """Pair: AugMix (Hendrycks et al. 2020), a blend of chains of PIL's colour operations.

    Three chains of one to three operations, blended by Dirichlet(1) weights and then with the
    picture by Beta(1, 1). Its geometric operations are left out, for blended labels would follow
    no class. strength: the paper's severity / 10 (0.3 there). Such chains are tables of 256
    levels, so all of it is worked out on tables and the picture is read through one.
    """
    channels, size = image.shape[-1], 256 * image.shape[-1]
    place = tf.cast(tf.round(image * 255), tf.int32) + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(place, (-1,)), None, size, size, tf.float32)
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

    strength: its largest share of the area (the paper's 0.4); the least is 0.02, height / width 0.3
    to 1 / 0.3, where that fits. The paper erases every other picture: erasing@0.5.
    """
    u, (y, x, height, width) = tf.random.stateless_uniform((4,), seed), _axes(label)
    area = spread(u[0], (min(0.02, strength), strength)) * height * width
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
    rows, columns = (y / distance + u[1]) % 1 < strength, (x / distance + u[2]) % 1 < strength
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
    others, their_hot = _partners(seed, images, one_hot)
    share = _beta(seed, strength, tf.shape(images)[0])[:, None, None, None]
    single = one_hot.shape[-1] == 1  # the two-class net's channel, -1 where there is no class
    mixed = share * one_hot + (1 - share) * their_hot
    for y in (one_hot, their_hot):
        known = y >= 0 if single else tf.reduce_any(y > 0, -1, keepdims=True)
        mixed = tf.where(known, mixed, -1.0 if single else 0.0)
    return share * images + (1 - share) * others, mixed


def cutmix(images, one_hot, seed, strength):
    """Mixing: CutMix (Yun et al. 2019), a rectangle of another picture with its label.

    strength: alpha (the paper's 1); the rectangle has 1 - lambda of the area, lambda of Beta(alpha,
    alpha), the picture's own shape and a centre anywhere, so that the edge may cut it.
    """
    n = tf.shape(images)[0]
    half = tf.sqrt(1 - _beta(seed, strength, n))[:, None] / 2
    u = tf.random.stateless_uniform((2, n, 1), seed)
    y, x, height, width = _axes(images[0, ..., 0])
    rows = tf.abs((y + 0.5) / height - u[0]) < half
    mask = rows[:, :, None] & (tf.abs((x + 0.5) / width - u[1]) < half)[:, None, :]
    return _paste(mask, _partners(seed, images, one_hot), images, one_hot)


def fmix(images, one_hot, seed, strength):
    """Mixing: FMix (Harris et al. 2020), blobs of another picture with their label.

    The blobs are where low-frequency noise (spectrum / f³) is highest, 1 - lambda of the area.
    strength: alpha of lambda's Beta(alpha, alpha); the paper's is 1.
    """
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
