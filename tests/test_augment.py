"""Augmentation: the contracts of every one, and oracles that share no code with it."""

import inspect
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.exposure
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import ks_2samp, kstest
from tensorflow.keras.preprocessing.image import ImageDataGenerator

import datapre
from main import AUG_ARGS as ARTICLE
from seg import augment, report, transforms
from seg.augment import from_aug_dict, parse
from seg.classes import CAMVID
from seg.files import InputError
from seg.sizes import SizeRule

STRONG = dict(
    rotation_range=40,
    width_shift_range=0.2,
    height_shift_range=0.2,
    shear_range=20,
    zoom_range=0.3,
    horizontal_flip=True,
    vertical_flip=True,
)
SHADES = dict(channel_shift_range=40, brightness_range=(0.6, 1.4))
PAIR = [
    'scale=0.5',
    'scale=0.75-1.6',
    'rotate=40',
    'shear=20',
    'shift=0.3',
    'elastic=4',
    'flip',
    'vflip',
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
    'scale=0.5,rotate=30,shear=10,shift=0.2,flip,vflip',
    'scale=0.5,rotate=30,shear=10,shift=0.2,elastic=3,flip,vflip',
    'noise@0.5',
    'scale=0.5,flip,jitter=0.3,augmix@0.5,hide=0.2:void',
    ARTICLE,
    STRONG,
    STRONG | SHADES | dict(fill_mode='constant', cval=90),
    SHADES,
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


def read(what):
    """The Augmentation of a text of --augment or of an aug_dict."""
    return parse(what) if isinstance(what, str) else from_aug_dict(what)


def apply(what, image, label, seed, k=0):
    image, label = read(what).pair(tf.constant(image), tf.constant(label), (seed, k))
    return image.numpy(), label.numpy()


def families(what):
    if not isinstance(what, str):
        moved, shaded = STRONG.keys() & what.keys(), SHADES.keys() & what.keys()
        return ({'geometry'} if moved else set()) | ({'colour'} if shaded else set())
    names = (re.split('[=:@]', part)[0] for part in what.split(','))
    return {augment.OPERATIONS[name].family for name in names}


# ---------------------------------------------------------------------------- the contracts


@pytest.mark.parametrize('what', PAIR, ids=str)
@some
@given(h=sides, w=sides, seed=seeds, channels=st.sampled_from([3, 3, 1]))
def test_pair_contract(what, h, w, seed, channels):
    image, label = pair_of(h, w, seed, channels)
    moved, moved_label = apply(what, image, label, seed)
    assert moved.shape == (h, w, channels) and moved_label.shape == (h, w)
    assert moved.dtype == np.float32 and moved_label.dtype == np.uint8
    assert np.isfinite(moved).all() and moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    assert set(np.unique(moved_label)) <= set(np.unique(label)) | {255}
    if not families(what) & CHANGED:
        assert (moved_label == label).all()
    again = apply(what, image, label, seed)
    assert (again[0] == moved).all() and (again[1] == moved_label).all()


@pytest.mark.parametrize('what', PAIR, ids=str)
def test_pictures_of_a_batch_differ(what):
    image, label = pair_of(33, 41, 1)
    looks = {apply(what, image, label, 5, k)[0].tobytes() for k in range(8)}
    assert len(looks) >= 2 and (len(looks) == 8 or 'flip' in what or '@' in what)


@pytest.mark.parametrize('name', augment.OPERATIONS)
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


@pytest.mark.parametrize('what', [t for t in PAIR if families(t) == {'geometry'}], ids=str)
@some
@given(h=st.integers(40, 61), w=st.integers(40, 61), seed=seeds)
def test_image_and_label_move_together(what, h, w, seed):
    label = blobs(h, w, seed)
    moved, moved_label = apply(what, PALETTE[label], label, seed)
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


@pytest.mark.parametrize('what', [t for t in PAIR if families(t) & CHANGED], ids=str)
def test_labels_of_16_bits_move_as_those_of_8(what):
    """With a number for each pixel in the upper byte, which goes where its class goes."""
    image, label = pair_of(33, 41, 6)
    upper = np.random.default_rng(2).integers(0, 256, label.shape, np.uint16)
    moved, wide = apply(what, image, label + 256 * upper, 6)
    same, low = apply(what, image, label, 6)
    assert wide.dtype == np.uint16 and (wide % 256 == low).all() and (moved == same).all()
    made = wide == 255  # without a source
    assert np.isin(wide[~made], label + 256 * upper).all()
    _, high = apply(what, image, upper.astype(np.uint8), 6)
    assert (wide // 256 == np.where(made, 0, high)).all()


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


def matrix_by_hand(h, w, theta, tx, ty, shear, zx, zy, flip_h, flip_v):
    """(3, 3), output (row, column, 1) -> input, from the definitions."""
    t, s = np.radians(theta), np.radians(shear)

    def move(r, c):
        return np.array([[1, 0, r], [0, 1, c], [0, 0, 1.0]])

    rotate = np.array([[np.cos(t), np.sin(t), 0], [-np.sin(t), np.cos(t), 0], [0, 0, 1]])
    sheared = np.array([[np.cos(s), 0, 0], [-np.sin(s), 1, 0], [0, 0, 1]])
    zoomed, flipped = np.diag([zy, zx, 1]), np.diag([1 - 2 * flip_v, 1 - 2 * flip_h, 1])
    middle, corner = move((h - 1) / 2, (w - 1) / 2), move(-(h - 1) / 2, -(w - 1) / 2)
    return middle @ rotate @ move(tx, ty) @ sheared @ zoomed @ flipped @ corner


MODES = {
    'nearest': 'nearest',
    'reflect': 'reflect',
    'wrap': 'grid-wrap',
    'constant': 'grid-constant',
}


def by_scipy(x, matrix, mode, order, fill):
    """Every channel of (H, W, C), or (H, W), moved by a matrix of matrix_by_hand."""
    how = dict(order=order, mode=MODES[mode], cval=fill)
    planes = [x] if x.ndim == 2 else np.moveaxis(x, -1, 0)
    moved = [
        scipy.ndimage.affine_transform(plane, matrix[:2, :2], matrix[:2, 2], **how)
        for plane in planes
    ]
    return moved[0] if x.ndim == 2 else np.stack(moved, -1)


@pytest.mark.parametrize('mode', MODES)
def test_warp_against_scipy(mode):
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
        m = matrix_by_hand(43, 58, *draw)
        matrix = transforms.affine_matrix(43, 58, *map(float, draw))
        ours, moved = transforms.warp(tf.constant(image), tf.constant(label), matrix, mode)
        # across the seam of 'wrap', one pixel wide, TensorFlow goes on with the edge
        off = np.abs(ours - by_scipy(image, m, mode, 1, 0.0)) > 1e-3
        assert off.mean() < (0.06 if mode == 'wrap' else 0.002)
        wrong = moved.numpy() != by_scipy(label, m, mode, 0, 255)
        assert wrong.mean() < (0.03 if mode == 'wrap' else 0.005)


@pytest.mark.parametrize('mode', ['nearest', 'reflect'])
def test_warp_against_keras(mode):
    # On a square picture, with the shifts that Keras exchanges exchanged.
    generator, rng = ImageDataGenerator(fill_mode=mode), np.random.default_rng(1)
    image, label = pair_of(41, 41, 5)
    for _ in range(5):
        theta, shear = rng.uniform(-30, 30, 2)
        tx, ty = rng.uniform(-6, 6, 2)
        zx, zy = rng.uniform(0.7, 1.4, 2)
        drawn = dict(theta=theta, tx=tx, ty=ty, shear=shear, zx=zx, zy=zy, flip_horizontal=True)
        theirs = generator.apply_transform(image, drawn)
        matrix = transforms.affine_matrix(41, 41, *map(float, (theta, ty, tx, shear, zx, zy, 1)))
        ours, _ = transforms.warp(tf.constant(image), tf.constant(label), matrix, mode)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def displaced(x, grid, matrix, order, fill):
    """Every channel of (H, W, C), or (H, W), by scipy: the grid enlarged by Pillow's bicubic, then
    a matrix of matrix_by_hand."""
    h, w = x.shape[:2]
    shift = [Image.fromarray(grid[..., i]).resize((w, h), Image.Resampling.BICUBIC) for i in (1, 0)]
    places = np.indices((h, w)) + np.stack(shift)
    places = np.tensordot(matrix[:2, :2], places, 1) + matrix[:2, 2, None, None]
    how = dict(order=order, mode='grid-constant', cval=fill)
    planes = [x] if x.ndim == 2 else np.moveaxis(x, -1, 0)
    moved = [scipy.ndimage.map_coordinates(plane, places, **how) for plane in planes]
    return moved[0] if x.ndim == 2 else np.stack(moved, -1)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 5])
@some
@given(h=st.integers(30, 90), w=st.integers(30, 90), seed=seeds)
def test_elastic_warp_against_scipy(dtype, channels, h, w, seed):
    rng = np.random.default_rng(seed)
    image = scipy.ndimage.gaussian_filter(rng.random((h, w, channels), np.float32), (1, 1, 0))
    label = rng.integers(0, np.iinfo(dtype).max, (h, w), dtype, endpoint=True)
    grid = rng.normal(0, 6, (3, 3, 2)).astype(np.float32)
    draw = rng.uniform(-40, 40), *rng.uniform(-9, 9, 2), rng.uniform(-20, 20)
    draw += (*rng.uniform(0.6, 1.5, 2), *rng.integers(0, 2, 2))
    matrix = transforms.affine_matrix(h, w, *map(float, draw))
    warp = tf.function(transforms.elastic_warp)  # as in tf.data
    ours, moved = warp(tf.constant(image), tf.constant(label), matrix, tf.constant(grid))
    m = matrix_by_hand(h, w, *draw)
    # TensorFlow reads the bicubic weights from a table of 1,024: places differ by 0.01 pixels
    np.testing.assert_allclose(ours, displaced(image, grid, m, 1, 0.0), atol=0.02)
    assert (
        moved.dtype == dtype and (moved != displaced(label, grid, m, 0, 255)).numpy().mean() < 0.04
    )
    assert (moved == 255).numpy().mean() > 0.01


@some
@example(h=20, w=31, seed=1, x=0, y=0)
@given(h=sides, w=sides, seed=seeds, x=st.integers(-9, 9), y=st.integers(-9, 9))
def test_displaced_by_whole_pixels_is_copied(h, w, seed, x, y):
    (image, label), beyond = pair_of(h, w, seed), [(9, 9), (9, 9)]
    grid, same = np.full((3, 3, 2), (x, y), np.float32), tf.constant([1.0, 0, 0, 0, 1, 0, 0, 0])
    ours, moved = transforms.elastic_warp(tf.constant(image), tf.constant(label), same, grid)
    window = slice(9 + y, 9 + y + h), slice(9 + x, 9 + x + w)
    copied = np.pad(image, [*beyond, (0, 0)])[window]
    np.testing.assert_allclose(ours, copied, atol=1e-4 if x or y else 0)
    assert (moved.numpy() == np.pad(label, beyond, constant_values=255)[window]).all()


def test_shift_flip_and_rotation_do_as_documented():
    label = np.zeros((9, 13), np.uint8)
    label[2, 3] = 7
    image = tf.zeros((9, 13, 3))

    def moved(**draw):
        matrix = transforms.affine_matrix(9, 13, **draw)
        return np.argwhere(transforms.warp(image, tf.constant(label), matrix)[1]).tolist()

    assert moved(tx=1) == [[1, 3]] and moved(ty=2) == [[2, 1]]  # rows; columns
    assert moved(flip_x=1) == [[2, 9]] and moved(flip_y=1) == [[6, 3]]
    assert moved(theta=180) == [[6, 9]]  # about the centre


# ---------------------------------------------------------------------------- ImageDataGenerator's

DRAW = 'theta tx ty shear zx zy flip_horizontal flip_vertical channel_shift_intensity brightness'
ARGUMENTS = [
    dict(),
    dict(rotation_range=30),
    dict(height_shift_range=0.2),
    dict(height_shift_range=1.0),
    dict(height_shift_range=3.5),
    dict(height_shift_range=4),
    dict(height_shift_range=[-3, 5, 8]),
    dict(width_shift_range=0.9),
    dict(width_shift_range=1),
    dict(width_shift_range=(-0.2, 0.1)),
    dict(width_shift_range=[7]),
    dict(shear_range=20),
    dict(zoom_range=0.3),
    dict(zoom_range=[0.5, 0.9]),
    dict(zoom_range=[1, 1]),
    dict(horizontal_flip=True),
    dict(vertical_flip=True),
    dict(channel_shift_range=20),
    dict(brightness_range=(0.5, 1.5)),
    ARTICLE,
    STRONG | SHADES,
]


@pytest.fixture(scope='module')
def our_draws():
    """(600, arguments, 10)."""
    generators = [ImageDataGenerator(**a) for a in ARGUMENTS]
    return over_draws(
        lambda s: tf.stack([transforms.keras_draw(g, 36.0, 48.0, s) for g in generators]), 600
    )


@pytest.mark.parametrize('i', range(len(ARGUMENTS)), ids=map(str, ARGUMENTS))
def test_draws_are_distributed_as_keras(our_draws, i):
    generator, neutral = ImageDataGenerator(**ARGUMENTS[i]), (0, 0, 0, 0, 1, 1, 0, 0, 0, 1)
    drawn = [generator.get_random_transform((36, 48, 3), seed) for seed in range(600)]
    for column, (name, same) in enumerate(zip(DRAW.split(), neutral)):
        theirs = np.array([same if d[name] is None else d[name] for d in drawn], np.float32)
        ours = our_draws[:, i, column]
        assert ks_2samp(ours, theirs).pvalue > 0.003, name
        values = np.unique(theirs)
        if len(values) < 20:  # neutral, flipped, or one of a list
            np.testing.assert_allclose(np.unique(ours), values, rtol=1e-6, err_msg=name)
        else:
            assert values[0] - 0.05 * np.ptp(values) < ours.min(), name
            assert values[-1] + 0.05 * np.ptp(values) > ours.max(), name


def test_parameters_are_drawn_independently(our_draws):
    assert np.abs(np.corrcoef(our_draws[:, -1].T) - np.eye(10)).max() < 0.15


def test_an_array_of_shifts_is_a_list_of_them():
    generator = ImageDataGenerator(height_shift_range=np.array([2, 9]))
    assert from_aug_dict(dict(height_shift_range=np.array([2, 9]))).mix is None
    shifts = over_draws(lambda s: transforms.keras_draw(generator, 36.0, 48.0, s), 60)[:, 1]
    assert set(shifts) == {-9, -2, 2, 9}


@pytest.mark.parametrize('mode', augment.FILL_MODES)
def test_aug_dict_does_to_image_and_label_what_it_draws(mode, monkeypatch):
    draws, keras_draw = [], transforms.keras_draw
    monkeypatch.setattr(
        transforms, 'keras_draw', lambda *a: draws.append(keras_draw(*a)) or draws[-1]
    )
    image, label = pair_of(43, 58, 2)
    image = 0.25 + image / 2  # so that an image's own range is not 0..1
    for k in range(4):
        ours, moved = apply(STRONG | SHADES | dict(fill_mode=mode, cval=90), image, label, 3, k)
        m = matrix_by_hand(43, 58, *(draw := draws.pop().numpy())[:8])
        shade = dict(channel_shift_intensity=draw[8], brightness=draw[9])
        expected = by_scipy(image * 255, m, mode, 1, 90)
        expected = ImageDataGenerator().apply_transform(expected, shade) / 255
        off = np.abs(ours - expected) > 2.5 / 255  # Keras rounds to whole values
        assert off.mean() < (0.06 if mode == 'wrap' else 0.002)
        wrong = moved != by_scipy(label, m, mode, 0, 255)
        assert wrong.mean() < (0.03 if mode == 'wrap' else 0.005)
    assert (moved == 255).mean() > 0.15 or mode != 'constant'


def test_shades_are_keras(monkeypatch):
    image, label = pair_of(20, 24, 3)
    image = (50 + 150 * image).round()
    monkeypatch.setattr(transforms, 'warp', None)  # colour alone moves nothing
    for shade in (dict(brightness=1.9), dict(brightness=0.3), dict(channel_shift_intensity=-30.0)):
        value = shade.get('brightness')
        aug = dict(brightness_range=(value, value)) if value else dict(channel_shift_range=30)
        draw = tf.constant([0.0] * 8 + [shade.get('channel_shift_intensity', 0.0), value or 1.0])
        monkeypatch.setattr(transforms, 'keras_draw', lambda *a, draw=draw: draw)
        ours, same = apply(aug, image / np.float32(255), label, 1)
        expected = ImageDataGenerator().apply_transform(image, shade)
        atol = 1.001 if value else 1e-3  # Keras takes whole values of a brighter image
        np.testing.assert_allclose(ours * 255, expected, atol=atol)
        assert (same == label).all()


@pytest.mark.parametrize(
    'nothing',
    [None, {}, dict(fill_mode='wrap', cval=7), dict(zoom_range=0), dict(channel_shift_range=None)],
    ids=str,
)
def test_nothing_drawn_is_no_warp(nothing, monkeypatch):
    monkeypatch.setattr(transforms, 'warp', None)
    image, label = (tf.constant(x) for x in pair_of(11, 14, 1))
    same = from_aug_dict(nothing).pair(image, label, (1, 2))
    assert same[0] is image and same[1] is label and from_aug_dict(nothing).mix is None


def test_flips_and_whole_shifts_copy_pixels():
    image, label = pair_of(24, 37, 8)
    copies = {}
    for k in range(16):
        flipped, moved = apply(dict(horizontal_flip=True, vertical_flip=True), image, label, 1, k)
        v, h = next(
            (v, h)
            for v in (1, -1)
            for h in (1, -1)
            if (flipped == image[::v, ::h]).all() and (moved == label[::v, ::h]).all()
        )
        copies[v, h] = k
        rows = dict(height_shift_range=[5], fill_mode='constant', cval=255)
        shifted, moved = apply(rows, image, label, 1, k)
        up = (moved[-5:] == 255).all() and (shifted[-5:] == 1).all()
        inside, source = (slice(-5), slice(5, None))[:: 1 if up else -1]
        assert (shifted[inside] == image[source]).all() and (moved[inside] == label[source]).all()
        assert np.isin(apply('shift=0.3,flip', image, label, 1, k)[0], [0, *image.flat]).all()
    assert len(copies) == 4


@settings(deadline=None, max_examples=12, derandomize=True)
@given(st.sampled_from(augment.FILL_MODES), seeds, sides, sides, st.data())
def test_no_label_is_invented(mode, seed, height, width, data):
    """Over every argument: the values of the source only; 255 under 'constant' alone."""
    tops = dict(rotation_range=180, width_shift_range=0.9, height_shift_range=0.9, shear_range=80)
    tops |= dict(zoom_range=0.9, channel_shift_range=50, cval=255)
    aug = {name: data.draw(st.floats(0, top)) for name, top in tops.items()}
    aug |= dict(horizontal_flip=data.draw(st.booleans()), vertical_flip=data.draw(st.booleans()))
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 3, 9, 11], (height, width)).astype(np.uint8)
    image = rng.random((height, width, 3), np.float32)
    moved, out = apply(aug | dict(fill_mode=mode), image, label, seed)
    assert set(np.unique(out)) <= set(np.unique(label)) | ({255} if mode == 'constant' else set())
    assert np.isfinite(moved).all() and -1e-5 <= moved.min() and moved.max() <= 1 + 1e-5


def test_draws_follow_from_the_seed_alone():
    image, label = pair_of(20, 24, 1)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first = apply(STRONG | SHADES, image, label, 4, 7)
    assert (np.random.get_state()[1] == before).all()
    tf.random.set_seed(5)
    pair, seed = from_aug_dict(STRONG | SHADES).pair, tf.constant([4, 7], tf.int64)
    again = tf.function(lambda: pair(tf.constant(image), tf.constant(label), seed))()
    np.testing.assert_allclose(again[0], first[0], atol=1e-5)
    assert (again[1] == first[1]).numpy().all()


@pytest.mark.parametrize('name', augment.REFUSED)
def test_what_has_no_place_is_refused_with_the_reason(name):
    value = {
        'rescale': 1 / 255,
        'preprocessing_function': abs,
        'data_format': 'channels_first',
        'validation_split': 0.2,
        'interpolation_order': 3,
        'dtype': 'float16',
    }
    with pytest.raises(InputError, match=f'augmentation {name}=.*refused: .{{10}}'):
        from_aug_dict({name: value.get(name, True)})
    from_aug_dict({name: augment.REFUSED[name][0]})


def test_every_argument_of_keras_is_known_here():
    """Each works or is refused; zca_epsilon alone does nothing without zca_whitening."""
    works = STRONG | SHADES | dict(fill_mode='wrap', cval=0, zca_epsilon=1)
    arguments = set(inspect.signature(ImageDataGenerator).parameters)
    assert arguments == works.keys() | augment.REFUSED.keys()


@pytest.mark.parametrize(
    'aug, message',
    [
        (dict(rotation_rage=5), 'did you mean rotation_range'),
        (dict(fill_mode='edge'), "fill_mode='edge': expected one of nearest, reflect, wrap, const"),
        (dict(zoom_range=(1, 2, 3)), 'zoom_range'),
        (dict(zoom_range=(1, 'b')), 'zoom_range'),
        (dict(brightness_range=3), 'brightness_range'),
        (dict(brightness_range=('a', 'b')), 'brightness_range=.*expected finite numbers'),
        (dict(rotation_range='wide'), "rotation_range='wide': expected finite numbers"),
        (dict(shear_range=[1, 2]), r'shear_range=\[1, 2\]: expected finite'),
        (dict(width_shift_range=[[1], [2]]), 'width_shift_range=.*expected finite'),
        (dict(height_shift_range=float('nan')), 'height_shift_range=nan'),
        (dict(cval='black'), "cval='black'"),
    ],
)
def test_wrong_arguments_are_named(aug, message):
    with pytest.raises(InputError, match=message) as e:
        from_aug_dict(aug)
    assert str(e.value).startswith('augmentation') and '\n' not in str(e.value)


# ---------------------------------------------------------------------------- geometry and colour


def test_geometry_means_what_it_says():
    image, label = pair_of(24, 36, 8)
    flipped = apply('flip=1,vflip=1', image, label, 1)
    assert (flipped[0] == image[::-1, ::-1]).all()
    assert (flipped[1] == label[::-1, ::-1]).all()
    _, small = apply('scale=0.5-0.5', image, label * 0, 1)
    assert [np.sum((small != 255).any(axis)) for axis in (1, 0)] == [12, 18]
    _, moved = apply('shift=0.5-0.5', image, label, 1)
    assert (moved[:12, :18] == label[12:, 18:]).all() and (moved[12:] == 255).all()
    leaning = [(apply('shear=45', image, label * 0, 1, k)[1] != 255).mean() for k in range(20)]
    assert max(leaning) > 0.95 and min(leaning) < 0.92
    turned = [apply('rotate=90-90', x, y, 1) for x, y in [pair_of(21, 21, 1)]][0]
    x, y = pair_of(21, 21, 1)
    assert any(
        np.allclose(turned[0], np.rot90(x, k), atol=1e-4)
        and (turned[1] == np.rot90(y, k)).mean() > 0.9
        for k in (1, 3)
    )


def test_scaled_pictures_show_every_place():
    ramp = tf.constant(np.arange(48.0)[:, None, None] + np.zeros((48, 48, 1)), tf.float32)
    label = tf.zeros((48, 48), tf.uint8)
    tops = over_draws(lambda s: parse('scale=2-2').pair(ramp, label, s)[0][0, 0, 0], 300)
    assert tops.min() < 2 and 21 < tops.max() < 25 and 10 < tops.mean() < 13.5


def test_displacements_have_the_deviation_they_say():
    """At the nine points, one for each ninth of the picture, by what ramps show there."""
    ramps = np.moveaxis(np.indices((303, 303), np.float32), 0, -1)
    points = np.stack(np.meshgrid(*[[50, 151, 252]] * 2, indexing='ij'), -1).reshape(-1, 2)
    label = tf.zeros((303, 303), tf.uint8)

    def at_points(seed):
        return tf.gather_nd(parse('elastic').pair(tf.constant(ramps), label, seed)[0], points)

    shifts = (over_draws(at_points, 120) - points).reshape(120, 18)
    assert 9.4 < shifts.std() < 10.6 and abs(shifts.mean()) < 0.7
    assert (np.abs(shifts.std(0) - 10) < 2.5).all() and kstest(
        shifts.ravel() / 10, 'norm'
    ).pvalue > 0.01
    assert np.abs(np.corrcoef(shifts.T) - np.eye(18)).max() < 0.4  # each for itself


def test_geometry_is_one_warp(monkeypatch):
    calls = []
    for name in ('warp', 'elastic_warp'):
        warp = getattr(transforms, name)
        count = lambda *a, n=name, f=warp: calls.append(n) or f(*a)  # noqa: E731
        monkeypatch.setattr(transforms, name, count)
    text = 'scale=0.5,rotate=30,shear=10,shift=0.2,flip,vflip,noise'
    for more in ('', ',elastic=0', ',elastic'):
        apply(text + more, *pair_of(25, 31, 1), 1)
    assert calls == ['warp', 'warp', 'elastic_warp']


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
            return transforms.point_operations(*x, tf.fill((1, 1), np.float32(level))).numpy()

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
        scipy.ndimage.label(transforms.fmix(images, one_hot, (1, k), 1)[0].numpy()[0, ..., 0])[1]
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
        ('qqq', '--help-all lists them'),
        ('flip,', "''"),
        ('rotate=200', 'expected 0 to 180, or LOW-HIGH from -180 to 180 (degrees)'),
        ('elastic=101', 'expected 0 to 100 (deviation in pixels'),
        ('rotate=abc', 'expected 0 to 180'),
        ('rotate=', 'expected 0 to 180'),
        ('rotate=20-10', 'expected 0 to 180'),
        ('scale=0.05-1', 'LOW-HIGH from 0.1 to 10'),
        ('noise=nan', 'expected 0 to 1'),
        ('noise=0.1-0.2', 'expected 0 to 1'),
        ('mixup=-1', 'expected 0 to 100'),
        ('crop=5x5', 'there is no such augmentation'),
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
    assert a.mix and parse('flip').mix is None
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
        parse(line.split()[0])  # the defaults are in range
    for name, o in augment.OPERATIONS.items():
        if o.family != 'geometry':
            year = re.search(r'\b(19|20)\d\d\b', getattr(transforms, name).__doc__)
            assert year, f'{name} names no source'


def test_help_and_mistakes_need_no_tensorflow():
    code = (
        'import sys; from seg import augment; augment.help_text(); '
        "augment.parse('scale=0.5,cutmix@0.5'); augment.from_aug_dict(None); "
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


class Stub(datapre.Pairs):
    """Ten drawn pairs."""

    rule, data, dtype = SizeRule('whole', 24, 32), SimpleNamespace(channels=3), np.uint8
    cropped = borders = False

    def __init__(self):
        pass

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return (pair_of(24, 32, i)[0] * 255).astype(np.uint8), blobs(24, 32, i)


def test_training_stream_follows_from_seed_and_place():
    def stream(what='scale=0.5,flip,cutmix', seed=4, start=0, n=4):
        batches = datapre.train_batches(Stub(), 2, 6, read(what), seed, start)
        return [(x.numpy(), y.numpy()) for x, y in batches.take(n)]

    whole, resumed = stream(), stream(start=4, n=2)
    for (x, y), (x2, y2) in zip(whole[2:], resumed):
        assert (x == x2).all() and (y == y2).all()
    assert (whole[0][0] != stream(seed=5, n=1)[0][0]).any()
    assert (whole[0][0] != stream('scale=0.5,flip', n=1)[0][0]).any()  # mixed
    assert stream(seed=2**32 - 1, start=2**40, n=1)[0][0].shape == (2, 24, 32, 3)
    image, label = (tf.constant(x) for x in Stub()[datapre.sample_index(3, 10, 4)])
    image = tf.cast(image, tf.float32) / 255
    x, y = stream(STRONG, n=2)[1]
    alone, moved = read(STRONG).pair(image, label, (4, 3))
    np.testing.assert_allclose(x[1], alone, atol=1e-5)
    assert (y[1] == tf.one_hot(moved, 6).numpy()).all()


# ---------------------------------------------------------------------------- the preview


def test_preview():
    pairs = [((PALETTE[blobs(48, 64, i)] * 255).astype(np.uint8), blobs(48, 64, i)) for i in (1, 2)]
    cells = augment.preview_cells(pairs, 6)
    captions = [caption.split('=')[0] for caption, _, _ in cells]
    assert captions == ['untouched', *augment.OPERATIONS]
    for caption, image, label in cells:
        assert image.dtype == label.dtype == np.uint8 and image.shape[:2] == label.shape
        assert image.shape == (48, 64, 3)
        assert caption == 'untouched' or (image != pairs[0][0]).any()
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
        cut, cut_mask = datapre.CenterCrop_npy(size)(image, mask)
        assert (cut == window).all() and (cut_mask == window[..., 0]).all()
        cut, cut_mask = datapre.CenterCrop_npy(size)(image, image)
        assert (cut_mask == window).all()
        pictures = Image.fromarray(image), Image.fromarray(mask)
        cut, cut_mask = datapre.CenterCrop(size)(*pictures)
        assert (np.asarray(cut) == window).all() and (np.asarray(cut_mask) == window[..., 0]).all()
        assert (np.asarray(datapre.SingleCenterCrop(size)(pictures[0])) == window).all()
    for too_large in (12, (11, 15), 0):
        with pytest.raises(ValueError, match='at most the picture, 11x14'):
            datapre.CenterCrop_npy(too_large)(image, mask)
        with pytest.raises(ValueError, match='at most the picture, 11x14'):
            datapre.CenterCrop(too_large)(*pictures)
    with pytest.raises(ValueError, match='size of its image'):
        datapre.CenterCrop_npy(3)(image, mask[1:])
    with pytest.raises(ValueError, match='size of its image'):
        datapre.CenterCrop(3)(pictures[0], pictures[1].crop((0, 0, 5, 5)))


def test_random_brightness_of_a_batch():
    images = np.full((5, 4, 6, 3), 0.5, np.float32)
    changed = datapre.random_brightness(images, 0.3, seed=1)
    assert changed.dtype == np.float32 and np.ptp(changed, axis=(1, 2, 3)).max() == 0
    shifts = changed[:, 0, 0, 0] - 0.5
    assert len(set(shifts)) == 5 and 0 < np.abs(shifts).max() <= 0.3
    assert (changed == datapre.random_brightness(images, 0.3, seed=1)).all()
    whole = datapre.random_brightness(np.full((5, 4, 6, 3), 250, np.uint8), 0.3, seed=1)
    assert whole.dtype == np.uint8 and whole.max() == 255 and whole.min() < 250


def test_show_images(tmp_path):
    tiles = [np.full((4, 6, 3), 0.2), np.full((5, 6), 1.0), np.full((4, 6, 1), 7, np.uint8)]
    sheet = np.asarray(datapre.show_images(tiles, columns=2, path=tmp_path / 'sheet.png'))
    assert sheet.shape == (10, 12, 3)
    assert (
        (sheet[:4, :6] == 51).all() and (sheet[:5, 6:] == 255).all() and (sheet[5:9, :6] == 7).all()
    )
    assert (np.asarray(Image.open(tmp_path / 'sheet.png')) == sheet).all()
