"""augment.py: the contracts of every augmentation, and oracles that share no code with it."""

import re

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.exposure
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from tensorflow.keras.preprocessing.image import ImageDataGenerator

import datapre
import main
from seg import augment, report
from seg.augment import parse
from seg.readers import CAMVID, InputError

PAIR = [
    'scale=0.5',
    'scale=0.75-1.6',
    'rotate=40',
    'shear=20',
    'shift=0.3',
    'flip',
    'vflip',
    'crop=19x23',
    'gamma=1',
    'brightness=0.4',
    'hue=0.5',
    'saturation=1',
    'contrast=1',
    'noise=0.3',
    'channel_shift=0.3',
    'jitter=0.5',
    'augmix=0.3',
    'augmix=1',
    'cutout=0.7',
    'cutout=0.7:void',
    'erasing',
    'erasing=0.9:void',
    'gridmask=0.5',
    'gridmask:void',
    'hide',
    'hide=0.5:void',
    'crop=50x60,scale=0.5,rotate=30,shear=10,shift=0.2,flip,vflip',
    'noise@0.5',
    'scale=0.5,flip,jitter=0.3,augmix@0.5,hide=0.2:void',
]
MIX = ['mixup=0.4', 'mixup=0.01', 'cutmix', 'fmix', 'classmix', 'classmix=1', 'cutmix@0.5,mixup']
CHANGED = {'geometry', 'dropping'}  # families that may change the label
some = settings(max_examples=4, deadline=None, derandomize=True)
sides = st.integers(17, 41)
seeds = st.integers(0, 2**31 - 1)
PALETTE = np.random.default_rng(9).random((256, 3)).astype(np.float32)
PALETTE[255] = 0  # where there is no class, a warp leaves black


def blobs(h, w, seed, classes=6):
    """uint8 (h, w): large regions, so that most pixels are away from edges."""
    noise = np.random.default_rng(seed).random((h, w, classes))
    return scipy.ndimage.gaussian_filter(noise, (4, 4, 0)).argmax(-1).astype(np.uint8)


def pair_of(h, w, seed, channels=3):
    rng = np.random.default_rng(seed)
    label = blobs(h, w, seed)
    label[rng.random((h, w)) < 0.1] = 255
    image = rng.random((h, w, channels)).astype(np.float32)
    image[:2], image[2:4] = 0, 1  # the ends of the range
    return image, label


def apply(text, image, label, seed, k=0):
    image, label = parse(text).pair(tf.constant(image), tf.constant(label), (seed, k))
    return image.numpy(), label.numpy()


def families(text):
    names = (re.split('[=:@]', part)[0] for part in text.split(','))
    return {augment.OPERATIONS[name].family for name in names}


# ---------------------------------------------------------------------------- the contracts


@pytest.mark.parametrize('text', PAIR)
@some
@given(h=sides, w=sides, seed=seeds, channels=st.sampled_from([3, 3, 1]))
def test_pair_contract(text, h, w, seed, channels):
    image, label = pair_of(h, w, seed, channels)
    moved, moved_label = apply(text, image, label, seed)
    size = parse(text).size or (h, w)
    assert moved.shape == (*size, channels) and moved_label.shape == size
    assert moved.dtype == np.float32 and moved_label.dtype == np.uint8
    assert np.isfinite(moved).all() and moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    assert set(np.unique(moved_label)) <= set(np.unique(label)) | {255}
    if not families(text) & CHANGED:
        assert (moved_label == label).all()
    again = apply(text, image, label, seed)
    assert (again[0] == moved).all() and (again[1] == moved_label).all()


@pytest.mark.parametrize('text', PAIR)
def test_pictures_of_a_batch_differ(text):
    image, label = pair_of(33, 41, 1)
    looks = {apply(text, image, label, 5, k)[0].tobytes() for k in range(8)}
    assert len(looks) >= 2 and (len(looks) == 8 or 'flip' in text or '@' in text or 'crop' in text)


@pytest.mark.parametrize('name', [n for n, o in augment.OPERATIONS.items() if o.style != 'size'])
def test_strength_0_is_the_identity(name):
    image, label = pair_of(25, 31, 3)
    if augment.OPERATIONS[name].family == 'mixing':
        one_hot = tf.one_hot([label, label[::-1]], 6)
        images = np.stack([image, 1 - image])
        same, hot = parse(f'{name}=0').mix(tf.constant(images), one_hot, (1, 2))
        assert np.array_equal(same, images) and np.array_equal(hot, one_hot)
    else:
        for options in ('', ':void') if augment.OPERATIONS[name].family == 'dropping' else ('',):
            same, same_label = apply(f'{name}=0{options}', image, label, 1)
            np.testing.assert_allclose(same, image, atol=2e-6)
            assert (same_label == label).all()


@pytest.mark.parametrize('text', [t for t in PAIR if families(t) == {'geometry'}])
@some
@given(h=st.integers(40, 61), w=st.integers(40, 61), seed=seeds)
def test_image_and_label_move_together(text, h, w, seed):
    label = blobs(h, w, seed)
    moved, moved_label = apply(text, PALETTE[label], label, seed)
    inside = scipy.ndimage.maximum_filter(moved_label, 3) == scipy.ndimage.minimum_filter(
        moved_label, 3
    )
    assert inside.mean() > 0.2
    # A sliver of a class can lie between the points where the label is read.
    wrong = np.abs(moved - PALETTE[moved_label]).max(-1)[inside] > 1e-4
    assert wrong.mean() < 0.05


@pytest.mark.parametrize('name', ['cutout', 'erasing', 'gridmask', 'hide'])
def test_dropped_labels(name):
    label = blobs(40, 50, 2)
    image = PALETTE[label] * 0.5 + 0.25
    dropped, kept = apply(name, image, label, 7)
    again, void = apply(f'{name}:void', image, label, 7)
    changed = (dropped != image).any(-1)
    assert 0.02 < changed.mean() < 0.9 and (dropped == again).all()
    assert (kept == label).all()
    assert (void[~changed] == label[~changed]).all() and (void[changed] == 255).all()


def batch_of(n, h, w, seed, classes=6):
    labels = np.stack([blobs(h, w, seed + i, classes) for i in range(n)])
    labels[np.random.default_rng(seed).random(labels.shape) < 0.05] = 255
    return PALETTE[labels], tf.one_hot(labels, classes).numpy()


@pytest.mark.parametrize('text', MIX)
@some
@given(n=st.integers(1, 4), h=sides, w=sides, seed=seeds)
def test_mixing_contract(text, n, h, w, seed):
    images, one_hot = batch_of(n, h, w, seed % 10**6)
    mix = parse(text).mix
    mixed, hot = (x.numpy() for x in mix(tf.constant(images), tf.constant(one_hot), (seed, 0)))
    assert mixed.shape == images.shape and hot.shape == one_hot.shape
    assert mixed.dtype == hot.dtype == np.float32
    assert np.isfinite(mixed).all() and mixed.min() >= 0 and mixed.max() <= 1 + 1e-6
    total = hot.sum(-1)
    assert np.all((total == 0) | (np.abs(total - 1) < 1e-5)) and hot.min() >= 0
    known = total > 0  # painted with its own label's colours, it stays so
    np.testing.assert_allclose(mixed[known], (hot @ PALETTE[:6])[known], atol=1e-5)
    again = mix(tf.constant(images), tf.constant(one_hot), (seed, 0))
    assert np.array_equal(again[0], mixed) and np.array_equal(again[1], hot)


@pytest.mark.parametrize('text', ['mixup', 'cutmix', 'fmix', 'classmix'])
def test_mixing_takes_from_the_others_and_depends_on_the_seed(text):
    images, one_hot = batch_of(3, 32, 40, 4)
    mix = parse(text).mix
    looks = [mix(tf.constant(images), tf.constant(one_hot), (1, k))[0].numpy() for k in range(6)]
    assert len({x.tobytes() for x in looks}) == 6
    assert all(np.mean([(x[i] != images[i]).any() for x in looks]) > 0.5 for i in range(3))


@pytest.mark.parametrize('text', ['mixup', 'cutmix', 'fmix', 'classmix'])
def test_mixing_two_classes_in_one_channel(text):
    labels = np.stack([blobs(32, 40, i, 2) for i in range(2)]).astype(np.float32)[..., None]
    labels[:, :4] = -1  # no class
    mixed, hot = parse(text).mix(tf.constant(labels), tf.constant(labels), (3, 1))
    hot, known = hot.numpy(), hot.numpy() >= 0
    assert (hot[~known] == -1).all() and hot.max() <= 1 and (known[:, 4:]).all()
    assert not known[:, :4].any() or text == 'classmix'
    np.testing.assert_allclose(hot[known], mixed.numpy()[known], atol=1e-6)
    assert (hot != labels).any()


# ---------------------------------------------------------------------------- oracles


def matrix_by_hand(h, w, theta, tx, ty, shear, zx, zy, flip_h, flip_v, out=None):
    """(3, 3), output (row, column, 1) -> input, from the definitions."""
    t, s = np.radians(theta), np.radians(shear)

    def move(r, c):
        return np.array([[1, 0, r], [0, 1, c], [0, 0, 1.0]])

    rotate = np.array([[np.cos(t), np.sin(t), 0], [-np.sin(t), np.cos(t), 0], [0, 0, 1]])
    sheared = np.array([[np.cos(s), 0, 0], [-np.sin(s), 1, 0], [0, 0, 1]])
    oh, ow = out or (h, w)
    zoomed, flipped = np.diag([zy, zx, 1]), np.diag([1 - 2 * flip_v, 1 - 2 * flip_h, 1])
    middle, corner = move((h - 1) / 2, (w - 1) / 2), move(-(oh - 1) / 2, -(ow - 1) / 2)
    return middle @ rotate @ move(tx, ty) @ sheared @ zoomed @ flipped @ corner


MODES = {
    'nearest': 'nearest',
    'reflect': 'reflect',
    'wrap': 'grid-wrap',
    'constant': 'grid-constant',
}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('out', [None, (30, 71)])
def test_warp_against_scipy(mode, out):
    rng = np.random.default_rng(len(mode))
    image, label = pair_of(43, 58, 2)
    for _ in range(4):
        draw = (
            rng.uniform(-40, 40),
            *rng.uniform(-9, 9, 2),
            rng.uniform(-20, 20),
            *rng.uniform(0.6, 1.5, 2),
            rng.random() < 0.5,
            rng.random() < 0.5,
        )
        m = matrix_by_hand(43, 58, *draw, out=out)

        def by_scipy(x, order, fill, m=m):
            return scipy.ndimage.affine_transform(
                x, m[:2, :2], m[:2, 2], out or (43, 58), order=order, mode=MODES[mode], cval=fill
            )

        matrix = augment.affine_matrix(43, 58, *map(float, draw), out=out)
        ours, moved = augment.warp(tf.constant(image), tf.constant(label), matrix, mode, out=out)
        # across the seam of 'wrap', one pixel wide, TensorFlow goes on with the edge
        off = np.abs(ours[..., 0] - by_scipy(image[..., 0], 1, 0.0)) > 1e-3
        assert off.mean() < (0.06 if mode == 'wrap' else 0.002)
        wrong = moved.numpy() != by_scipy(label, 0, 255)
        assert wrong.mean() < (0.03 if mode == 'wrap' else 0.005)


def test_warp_against_keras():
    # On a square picture, with the shifts that Keras exchanges exchanged.
    generator, rng = ImageDataGenerator(fill_mode='nearest'), np.random.default_rng(1)
    image, label = pair_of(41, 41, 5)
    for _ in range(5):
        theta, shear = rng.uniform(-30, 30, 2)
        tx, ty = rng.uniform(-6, 6, 2)
        zx, zy = rng.uniform(0.7, 1.4, 2)
        drawn = dict(theta=theta, tx=tx, ty=ty, shear=shear, zx=zx, zy=zy, flip_horizontal=True)
        theirs = generator.apply_transform(image, drawn)
        matrix = augment.affine_matrix(41, 41, *map(float, (theta, ty, tx, shear, zx, zy, 1)))
        ours, _ = augment.warp(tf.constant(image), tf.constant(label), matrix)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_geometry_means_what_it_says():
    image, label = pair_of(24, 36, 8)
    flipped = apply('flip=1,vflip=1', image, label, 1)
    np.testing.assert_allclose(flipped[0], image[::-1, ::-1], atol=1e-6)
    assert (flipped[1] == label[::-1, ::-1]).all()
    for k in range(20):  # a crop is a window of the picture, found where the label says
        window, cut = apply('crop=9x12', image, label, 1, k)
        places = [
            (y, x)
            for y in range(16)
            for x in range(25)
            if np.allclose(image[y : y + 9, x : x + 12], window, atol=1e-5)
        ]
        assert len(places) == 1
        ((y, x),) = places
        assert (label[y : y + 9, x : x + 12] == cut).all()
    _, small = apply('scale=0.5-0.5', image, label * 0, 1)
    assert [np.sum((small != 255).any(axis)) for axis in (1, 0)] == [12, 18]
    _, moved = apply('shift=0.5-0.5', image, label, 1)
    assert (moved[:12, :18] == label[12:, 18:]).all() and (moved[12:] == 255).all()
    leaning = [(apply('shear=45', image, label * 0, 1, k)[1] != 255).mean() for k in range(20)]
    assert max(leaning) > 0.95 and min(leaning) < 0.92
    larger, around = apply('crop=31x40', image, label, 1)
    assert (around != 255).sum() == (label != 255).sum()
    assert np.isclose(larger.sum(), image.sum(), rtol=1e-5)
    turned = [apply('rotate=90-90', x, y, 1) for x, y in [pair_of(21, 21, 1)]][0]
    x, y = pair_of(21, 21, 1)
    assert any(
        np.allclose(turned[0], np.rot90(x, k), atol=1e-4)
        and (turned[1] == np.rot90(y, k)).mean() > 0.9
        for k in (1, 3)
    )


def test_crops_reach_every_place_equally():
    ramp = tf.constant(np.arange(5 * 6).reshape(5, 6, 1), tf.float32)
    label = tf.zeros((5, 6), tf.uint8)
    corners = over_draws(lambda s: parse('crop=3x4').pair(ramp, label, s)[0][0, 0, 0], 400)
    found, counts = np.unique(corners.round().astype(int), return_counts=True)
    assert list(found) == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert counts.min() > 20  # of 44 expected


def test_geometry_is_one_warp(monkeypatch):
    calls, warp = [], augment.warp
    monkeypatch.setattr(augment, 'warp', lambda *a, **k: calls.append(1) or warp(*a, **k))
    apply(
        'crop=19x23,scale=0.5,rotate=30,shear=10,shift=0.2,flip,vflip,noise', *pair_of(25, 31, 1), 1
    )
    assert len(calls) == 1


def test_colour_against_skimage_and_pil():
    image = skimage.color.hsv2rgb(np.random.default_rng(3).random((30, 37, 3)) ** 0.7)
    image = (image * 255).round().astype(np.uint8)
    x, label = image.astype(np.float32) / 255, np.zeros((30, 37), np.uint8)
    picture = Image.fromarray(image)

    def ours(text):
        return apply(text, x, label, 1)[0]

    np.testing.assert_allclose(
        ours('gamma=1.7-1.7'), skimage.exposure.adjust_gamma(x, 1.7), atol=1e-5
    )
    np.testing.assert_allclose(
        ours('gamma=0.6-0.6'), skimage.exposure.adjust_gamma(x, 0.6), atol=1e-5
    )
    for turn in (0.2, -0.4):
        hsv = skimage.color.rgb2hsv(x)
        hsv[..., 0] = (hsv[..., 0] + turn) % 1
        np.testing.assert_allclose(
            ours(f'hue={turn}-{turn}'), skimage.color.hsv2rgb(hsv), atol=1e-4
        )
    lighter = np.asarray(picture.point(lambda v: v + 51)) / 255
    np.testing.assert_allclose(ours('brightness=0.2-0.2'), lighter, atol=1e-5)
    for f in (0.5, 1.8):  # PIL works in whole numbers, and with a whole mean
        for name, theirs in (
            ('contrast', ImageEnhance.Contrast),
            ('saturation', ImageEnhance.Color),
        ):
            expected = np.asarray(theirs(picture).enhance(f), np.float32) / 255
            np.testing.assert_allclose(ours(f'{name}={f}-{f}'), expected, atol=2.5 / 255)


def test_noise_and_shifts_have_the_size_they_say():
    grey, label = np.full((60, 70, 3), 0.5, np.float32), np.zeros((60, 70), np.uint8)
    deviations = [apply('noise=0.1', grey, label, 1, k)[0].std() for k in range(60)]
    assert max(deviations) < 0.103 and 0.04 < np.mean(deviations) < 0.06
    shifts = [apply('channel_shift=0.3', grey, label, 1, k)[0] - 0.5 for k in range(100)]
    assert np.ptp(shifts, axis=(1, 2)).max() < 1e-6
    values = np.array(shifts)[:, 0, 0]
    assert 0.27 < np.abs(values).max() <= 0.3 and np.abs(np.corrcoef(values.T)[0, 1]) < 0.3


def test_point_operations_against_pil():
    rng = np.random.default_rng(5)
    image = (40 + 150 * rng.beta(2, 5, (50, 60, 3))).astype(np.uint8)
    for level in (1.0, 3.0, 7.0):
        theirs = (
            lambda x: ImageOps.autocontrast(x),
            lambda x: ImageOps.equalize(x),
            lambda x, level=level: ImageOps.posterize(x, 4 - int(level * 4 / 10)),
            lambda x, level=level: ImageOps.solarize(x, 256 - int(level * 256 / 10)),
        )
        counts = np.stack([np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)])

        def tables(values, counts=counts, level=level):
            x = tf.constant(values, tf.int32), tf.constant(counts, tf.float32)
            return augment.point_operations(*x, tf.fill((1, 1), np.float32(level))).numpy()

        for first in (None, 3, 1):  # alone, and upon another
            start = Image.fromarray(image)
            values = np.tile(np.arange(256), (3, 1))
            if first is not None:
                start, values = theirs[first](start), tables(values)[first].astype(int)
            for table, f in zip(tables(values), theirs):
                ours = np.stack([table[c][image[..., c]] for c in range(3)], -1)
                assert np.abs(ours - np.asarray(f(start), np.float32)).max() <= 1


def test_augmix_is_a_change_of_levels():
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.float32) / 255
    changed = [apply('augmix=0.3', image, np.zeros((40, 50), np.uint8), 1, k)[0] for k in range(40)]
    assert np.mean([np.abs(x - image).mean() for x in changed]) > 0.02
    for x in changed[:5]:
        for c in range(3):
            level = (image[..., c] * 255).round().astype(int)
            means = np.bincount(level.ravel(), x[..., c].ravel()) / np.maximum(
                np.bincount(level.ravel()), 1
            )
            np.testing.assert_allclose(x[..., c], means[level], atol=1e-5)


def over_draws(function, n=1000):
    """function(seed) over n seeds, in one graph."""
    run = tf.function(
        lambda: tf.map_fn(
            lambda k: function(tf.stack([17, k])), tf.range(n), fn_output_signature=tf.float32
        )
    )
    return run().numpy()


@pytest.mark.parametrize(
    'name, strength', [('cutout', 0.6), ('erasing', 0.4), ('gridmask', 0.4), ('hide', 0.5)]
)
def test_dropped_share(name, strength):
    h, w = 48, 64
    image, label = tf.ones((h, w, 1)), tf.zeros((h, w), tf.uint8)

    def share(seed):
        _, dropped = parse(f'{name}={strength}:void').pair(image, label, seed)
        return tf.reduce_mean(tf.cast(dropped == 255, tf.float32))

    shares, rng = over_draws(share), np.random.default_rng(0)
    if name == 'cutout':  # DeVries and Taylor's code
        expected = []
        for _ in range(4000):
            y, x, half = rng.integers(h), rng.integers(w), int(strength * h) // 2
            ys, xs = np.clip([y - half, y + half], 0, h), np.clip([x - half, x + half], 0, w)
            expected.append(np.ptp(ys) * np.ptp(xs) / (h * w))
        expected = np.mean(expected)
    elif name == 'erasing':  # area evenly between 0.02 and s_h
        expected = (0.02 + strength) / 2
        assert 0.015 < shares.min() < 0.03 and 0.38 < shares.max() < 0.42
    else:
        expected = strength**2 if name == 'gridmask' else strength
    assert abs(shares.mean() - expected) < 0.015


@pytest.mark.parametrize('name, least, most', [('gridmask=0.5', 24, 56), ('hide=0.5', 8, 28)])
def test_sizes_of_squares_are_the_papers(name, least, most):
    label, sides = np.zeros((112, 112), np.uint8), []  # half of 224 pixels
    for k in range(30):
        void = apply(f'{name}:void', np.ones((112, 112, 1), np.float32), label, 2, k)[1] == 255
        edges = np.flatnonzero((np.diff(void, axis=1)).any(0))
        sides += [np.diff(edges).min()] if len(edges) > 2 else []
    assert least - 1 <= min(sides) <= least + 3 and most - 6 <= max(sides) <= most + 1


def test_erased_rectangles_are_tall_and_wide():
    image, label = tf.ones((60, 60, 1)), tf.zeros((60, 60), tf.uint8)

    def ratio(seed):
        gone = tf.cast(parse('erasing=0.2:void').pair(image, label, seed)[1] == 255, tf.float32)
        sides = [tf.reduce_sum(tf.reduce_max(gone, axis)) for axis in (1, 0)]
        return tf.math.log(sides[0] / sides[1])

    ratios = np.exp(over_draws(ratio, 300))
    assert 0.25 < ratios.min() < 0.4 and 2.5 < ratios.max() < 4  # rounded to whole pixels
    assert 0.8 < np.median(ratios) < 1.25


@pytest.mark.parametrize('name', ['mixup=0.4', 'cutmix=1', 'fmix=1', 'classmix=0.5'])
def test_mixing_ratio(name):
    h, w = 30, 40
    images = tf.stack([tf.zeros((h, w, 1)), tf.ones((h, w, 1))])
    labels = tf.constant(np.arange(h * w).reshape(h, w) % 10)  # ten classes of one size
    one_hot = tf.one_hot([labels, labels], 10)
    shares = over_draws(
        lambda seed: tf.reduce_mean(parse(name).mix(images, one_hot, seed)[0], (1, 2, 3))
    )
    shares = np.concatenate([shares[:, 0], 1 - shares[:, 1]])  # what came from the other
    rng = np.random.default_rng(0)
    if name == 'classmix=0.5':
        np.testing.assert_allclose(shares, 0.5, atol=1e-6)
        return
    if name == 'cutmix=1':  # rand_bbox of Yun et al.
        expected = []
        for lam in rng.beta(1, 1, 4000):
            cut_w, cut_h = int(w * np.sqrt(1 - lam)), int(h * np.sqrt(1 - lam))
            x, y = rng.integers(w), rng.integers(h)
            xs = np.clip([x - cut_w // 2, x + cut_w // 2], 0, w)
            ys = np.clip([y - cut_h // 2, y + cut_h // 2], 0, h)
            expected.append(np.ptp(xs) * np.ptp(ys) / (h * w))
        mean, deviation = np.mean(expected), np.std(expected)
    else:
        alpha = float(name.split('=')[1])
        mean, deviation = 0.5, rng.beta(alpha, alpha, 100000).std()
    assert abs(shares.mean() - mean) < 0.03 and abs(shares.std() - deviation) < 0.025


def test_fmix_makes_few_blobs():
    images = tf.stack([tf.zeros((64, 80, 1)), tf.ones((64, 80, 1))])
    one_hot = tf.ones((2, 64, 80, 1))
    pieces = [
        scipy.ndimage.label(augment.fmix(images, one_hot, (1, k), 1)[0].numpy()[0, ..., 0])[1]
        for k in range(20)
    ]
    assert np.median(pieces) <= 6  # white noise makes hundreds


def test_probability():
    image, label = tf.fill((8, 8, 3), 0.5), tf.zeros((8, 8), tf.uint8)
    hit = over_draws(
        lambda s: tf.reduce_max(tf.abs(parse('noise@0.25').pair(image, label, s)[0] - 0.5))
    )
    assert abs((hit > 0).mean() - 0.25) < 0.04


def test_operations_draw_independently():
    image = tf.repeat(tf.constant([0.4, 0.6])[None, :, None], 4, 0)  # dark on the left
    label = tf.zeros((4, 2), tf.uint8)

    def look(text):
        def look(seed):
            x = parse(text).pair(image, label, seed)[0]
            return tf.stack([x[0, 0, 0] - x[0, 1, 0], tf.reduce_mean(x)])

        return np.corrcoef(over_draws(look, 500).T)[0, 1]

    for text in ('flip,brightness=0.3', 'flip,brightness=0.2@0.5', 'vflip,flip,channel_shift=0.3'):
        assert abs(look(text)) < 0.15

    def mean(text):
        return over_draws(lambda s: tf.reduce_mean(parse(text).pair(image, label, s)[0]), 500)

    once, twice = mean('brightness=0.2'), mean('brightness=0.2,gamma=1')
    assert abs(np.corrcoef(once, twice - once)[0, 1]) < 0.5


# ---------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    'text, words',
    [
        ('scael=1', "'scael': there is no such augmentation; did you mean scale?"),
        ('flip,cutmixx', 'did you mean cutmix?'),
        ('qqq', '--help lists them'),
        ('flip,', "''"),
        ('rotate=200', 'expected 0 to 180, or LOW-HIGH from -180 to 180 (degrees)'),
        ('rotate=abc', 'expected 0 to 180'),
        ('rotate=', 'expected 0 to 180'),
        ('rotate=20-10', 'expected 0 to 180'),
        ('scale=0.05-1', 'LOW-HIGH from 0.1 to 10'),
        ('noise=nan', 'expected 0 to 1'),
        ('noise=0.1-0.2', 'expected 0 to 1'),
        ('mixup=-1', 'expected 0 to 100'),
        ('crop', 'as in crop=256x256'),
        ('crop=0x5', 'HEIGHTxWIDTH'),
        ('flip:void', ':void after cutout, erasing, gridmask or hide alone'),
        ('cutout:viod', ':void after cutout'),
        ('noise@1.5', 'a probability of 0 to 1'),
        ('noise@', 'a probability of 0 to 1'),
        ('a\nb=@:', "'ab'"),
        ('rotate@0.5', 'no @'),
        ('noise,noise', 'noise once'),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(InputError) as e:
        parse(text)
    assert words in str(e.value)
    assert str(e.value).startswith('--augment ') and '\n' not in str(e.value)


def test_grammar():
    a = parse(' scale=0.75-1.6, flip ,jitter=0.2,cutmix@0.5,hide=.3:void@0.7,brightness=-0.1--0.05')
    assert a.mix and a.size is None
    assert parse('crop=5x7').size == (5, 7) and parse('flip').mix is None
    image, label = pair_of(20, 25, 1)
    for nothing in ('', 'none'):
        assert (apply(nothing, image, label, 1)[0] == image).all()
    darker = apply('brightness=-0.1--0.05', image, label, 1)[0] - image
    assert -0.1001 <= darker.min() < -0.049 and darker.max() <= 0


def test_help_names_everything():
    lines = augment.help_text().split('\n')
    for name, o in augment.OPERATIONS.items():
        (line,) = [x for x in lines if x.split()[:1] and x.split()[0].split('=')[0] == name]
        assert o.meaning in line
        if o.default:
            parse(line.split()[0])  # the defaults are in range
    if hasattr(main, 'AUGMENTATIONS'):
        assert main.AUGMENTATIONS.strip() == augment.help_text()
    for name, o in augment.OPERATIONS.items():
        if o.function:
            assert any(year in o.function.__doc__ for year in ('199', '201', '202')), name


class Stub:
    """Ten drawn pairs, as datapre.Pairs gives them."""

    size, input_size = (24, 32), (24, 32, 3)

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return (pair_of(24, 32, i)[0] * 255).astype(np.uint8), blobs(24, 32, i)


def test_training_stream_follows_from_seed_and_place():
    def stream(seed=4, start=0, text='scale=0.5,flip,cutmix', n=4):
        batches = datapre.train_batches(Stub(), 2, 6, None, seed, start, augmentation=parse(text))
        return [(x.numpy(), y.numpy()) for x, y in batches.take(n)]

    whole, resumed = stream(), stream(start=4, n=2)
    for (x, y), (x2, y2) in zip(whole[2:], resumed):
        assert (x == x2).all() and (y == y2).all()
    assert (whole[0][0] != stream(seed=5, n=1)[0][0]).any()
    assert (whole[0][0] != stream(text='scale=0.5,flip', n=1)[0][0]).any()  # mixed
    assert stream(seed=2**32 - 1, start=2**40, n=1)[0][0].shape == (2, 24, 32, 3)
    ((x, y),) = stream(text='crop=16x20,fmix', n=1)
    assert x.shape == (2, 16, 20, 3) and y.shape == (2, 16, 20, 6)


# ---------------------------------------------------------------------------- the preview


def test_preview():
    pairs = [((PALETTE[blobs(48, 64, i)] * 255).astype(np.uint8), blobs(48, 64, i)) for i in (1, 2)]
    cells = augment.preview_cells(pairs, 6)
    captions = [caption.split('=')[0] for caption, _, _ in cells]
    assert captions == ['untouched', *augment.OPERATIONS]
    for caption, image, label in cells:
        assert image.dtype == label.dtype == np.uint8 and image.shape[:2] == label.shape
        assert caption == 'untouched' or image.shape != (48, 64, 3) or (image != pairs[0][0]).any()
    page = report.preview_page(cells, CAMVID, 64)
    assert page.dtype == np.uint8 and page.shape[2] == 3
    named = augment.preview_cells(pairs, 6, 'flip,classmix=1')
    assert [c for c, _, _ in named] == ['untouched', 'flip', 'classmix=1']
    assert (named[1][1] == pairs[0][0][:, ::-1]).all() and (
        named[1][2] == pairs[0][1][:, ::-1]
    ).all()
    assert (named[2][2] == pairs[1][1]).all()
    two = [(image, np.where(label == 5, 255, label > 1).astype(np.uint8)) for image, label in pairs]
    (_, _, label), (_, image, mixed) = augment.preview_cells(two, 1, 'classmix=1')
    # where the other has a class, its pixels are pasted
    assert (mixed == np.where(two[1][1] == 255, label, two[1][1])).all()
    one_hot = tf.one_hot([pairs[0][1], np.where(pairs[1][1] == 1, 255, pairs[1][1])], 6)
    cells = augment.batch_cells(np.stack([p[0] for p in pairs]) / np.float32(255), one_hot, 8)
    assert [c for c, _, _ in cells] == ['sample 8', 'sample 9']
    assert (cells[0][1] == pairs[0][0]).all() and (cells[0][2] == pairs[0][1]).all()
    assert ((cells[1][2] == 255) == (pairs[1][1] == 1)).all()


# ---------------------------------------------------------------------------- the article's names


def test_centre_crops():
    image = np.random.default_rng(0).integers(0, 255, (11, 14, 3), np.uint8)
    mask = image[..., 0]
    for size, (top, left, h, w) in {
        6: (3, 4, 6, 6),
        (11, 14): (0, 0, 11, 14),
        (4, 7): (4, 4, 4, 7),
    }.items():
        window = image[top : top + h, left : left + w]
        cut, cut_mask = augment.CenterCrop_npy(size)(image, mask)
        assert (cut == window).all() and (cut_mask == window[..., 0]).all()
        cut, cut_mask = augment.CenterCrop_npy(size)(image, image)
        assert (cut_mask == window).all()
        pictures = Image.fromarray(image), Image.fromarray(mask)
        cut, cut_mask = augment.CenterCrop(size)(*pictures)
        assert (np.asarray(cut) == window).all() and (np.asarray(cut_mask) == window[..., 0]).all()
        assert (np.asarray(augment.SingleCenterCrop(size)(pictures[0])) == window).all()
    for too_large in (12, (11, 15), 0):
        with pytest.raises(ValueError, match='at most the picture, 11x14'):
            augment.CenterCrop_npy(too_large)(image, mask)
        with pytest.raises(ValueError, match='at most the picture, 11x14'):
            augment.CenterCrop(too_large)(*pictures)
    with pytest.raises(ValueError, match='size of its image'):
        augment.CenterCrop_npy(3)(image, mask[1:])
    with pytest.raises(ValueError, match='size of its image'):
        augment.CenterCrop(3)(pictures[0], pictures[1].crop((0, 0, 5, 5)))


def test_random_brightness_of_a_batch():
    images = np.full((5, 4, 6, 3), 0.5, np.float32)
    changed = augment.random_brightness(images, 0.3, seed=1)
    assert changed.dtype == np.float32 and np.ptp(changed, axis=(1, 2, 3)).max() == 0
    shifts = changed[:, 0, 0, 0] - 0.5
    assert len(set(shifts)) == 5 and 0 < np.abs(shifts).max() <= 0.3
    assert (changed == augment.random_brightness(images, 0.3, seed=1)).all()
    whole = augment.random_brightness(np.full((5, 4, 6, 3), 250, np.uint8), 0.3, seed=1)
    assert whole.dtype == np.uint8 and whole.max() == 255 and whole.min() < 250


def test_show_images(tmp_path):
    tiles = [np.full((4, 6, 3), 0.2), np.full((5, 6), 1.0), np.full((4, 6, 1), 7, np.uint8)]
    sheet = np.asarray(augment.show_images(tiles, columns=2, path=tmp_path / 'sheet.png'))
    assert sheet.shape == (10, 12, 3)
    assert (
        (sheet[:4, :6] == 51).all() and (sheet[:5, 6:] == 255).all() and (sheet[5:9, :6] == 7).all()
    )
    assert (np.asarray(Image.open(tmp_path / 'sheet.png')) == sheet).all()
