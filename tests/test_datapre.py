"""Batches: the right file, the right transform, the right class for every pixel."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from tensorflow.keras.preprocessing.image import ImageDataGenerator

import datapre
from datapre import (
    Pairs,
    adjustData,
    eval_batches,
    labelVisualize,
    sample_index,
    saveResult,
    testGenerator,
    train_batches,
    trainGenerator,
    valGenerator,
)
from seg import augment
from seg.augment import DRAW, Draws, affine_matrix, apply_draw, warp
from seg.classes import CAMVID
from seg.files import InputError, pair_files
from seg.readers import read_label

testGenerator.__test__ = False  # not one of pytest's
AUG = dict(
    rotation_range=0.2,
    width_shift_range=0.05,
    height_shift_range=0.05,
    shear_range=0.05,
    zoom_range=0.05,
    horizontal_flip=True,
    vertical_flip=True,
    fill_mode='nearest',
)


def smooth(shape, seed=0):
    noise = np.random.default_rng(seed).random(shape, 'float32') * 255
    return ndimage.gaussian_filter(noise, (2, 2, 0))


def pairs_of(folder, split='train', **kwargs):
    return Pairs(pair_files(folder / split, folder / f'{split}annot'), CAMVID, **kwargs)


# ---------------------------------------------------------------------------- the warp


@pytest.mark.parametrize('mode', ['nearest', 'reflect'])
@pytest.mark.parametrize(
    'draw',
    [
        dict(tx=5.3),
        dict(ty=-4.2),
        dict(theta=30),
        dict(zx=0.7, zy=1.2),
        dict(shear=20),
        dict(theta=-25, tx=3, ty=-2, shear=10, zx=0.8, zy=1.1, flip_horizontal=1, flip_vertical=1),
    ],
)
def test_warp_is_keras_apply_transform(draw, mode):
    """On a square picture, where Keras' exchange of rows and columns is in the shift alone."""
    x = smooth((41, 41, 3))
    exchanged = draw | {'tx': draw.get('ty', 0), 'ty': draw.get('tx', 0)}
    expected = ImageDataGenerator(fill_mode=mode).apply_transform(x, exchanged)
    ours, _ = warp(
        tf.constant(x), tf.zeros((41, 41), tf.uint8), affine_matrix(41, 41, **draw), mode
    )
    away = slice(12, -12) if mode == 'reflect' else slice(None)
    np.testing.assert_allclose(ours.numpy()[away, away], expected[away, away], atol=2e-3)


@pytest.mark.parametrize(
    'draw',
    [
        dict(theta=35),
        dict(shear=25),
        dict(zx=0.6, zy=1.3),
        dict(theta=20, shear=10, zx=0.9, zy=0.8, tx=4, ty=-6),
    ],
)
def test_warp_of_an_oblong_picture_is_scipys_about_the_true_centre(draw):
    """The matrix written out from ImageDataGenerator's documentation, in (row, column)."""
    x = smooth((37, 61, 3))
    d = {'theta': 0, 'shear': 0, 'zx': 1, 'zy': 1, 'tx': 0, 'ty': 0} | draw
    t, s = np.deg2rad(d['theta']), np.deg2rad(d['shear'])
    rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    linear = rotation @ [[1, -np.sin(s)], [0, np.cos(s)]] @ np.diag([d['zx'], d['zy']])
    offset = rotation @ [d['ty'], d['tx']]
    linear, offset = linear[::-1, ::-1], offset[::-1]  # (x, y) to (row, column)
    centre = np.array([18, 30])
    expected = np.stack(
        [
            ndimage.affine_transform(
                x[..., c], linear, centre + offset - linear @ centre, order=1, mode='nearest'
            )
            for c in range(3)
        ],
        -1,
    )
    ours, _ = warp(tf.constant(x), tf.zeros((37, 61), tf.uint8), affine_matrix(37, 61, **draw))
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_shift_and_flip_do_as_documented():
    label = np.zeros((9, 13), np.uint8)
    label[2, 3] = 7
    image = tf.zeros((9, 13, 3))

    def moved(**draw):
        return np.argwhere(
            warp(image, tf.constant(label), affine_matrix(9, 13, **draw))[1]
        ).tolist()

    assert moved(tx=1) == [[1, 3]] and moved(ty=2) == [[2, 1]]  # rows; columns
    assert moved(flip_horizontal=1) == [[2, 9]] and moved(flip_vertical=1) == [[6, 3]]
    assert moved(theta=180) == [[6, 9]]  # about the centre


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(augment.FILL_MODES),
    st.integers(0, 10**6),
    st.integers(16, 40),
    st.integers(16, 40),
    st.data(),
)
def test_no_label_is_invented_and_none_is_lost(mode, seed, height, width, data):
    """Over every geometric argument: the values of the source only; 255 under constant alone."""
    strength = lambda top: data.draw(st.floats(0, top))  # noqa: E731
    aug = dict(
        rotation_range=strength(180),
        width_shift_range=strength(0.9),
        height_shift_range=strength(0.9),
        shear_range=strength(80),
        zoom_range=strength(0.9),
        horizontal_flip=data.draw(st.booleans()),
        vertical_flip=data.draw(st.booleans()),
        channel_shift_range=strength(50),
        fill_mode=mode,
        cval=strength(255),
    )
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 3, 9, 11], (height, width)).astype(np.uint8)
    image = rng.random((height, width, 3), 'float32') * 255
    draws = Draws(aug)
    moved, out = apply_draw(
        tf.constant(image), tf.constant(label), draws.draw(image.shape, seed), mode, draws.cval
    )
    assert out.dtype == tf.uint8 and out.shape == label.shape
    assert set(np.unique(out)) <= set(np.unique(label)) | ({255} if mode == 'constant' else set())
    assert np.isfinite(moved).all() and -1e-3 <= np.min(moved) and np.max(moved) <= 255.001


def test_image_and_label_move_together():
    """A picture painted with its own label's colours stays so painted, away from edges."""
    label = np.kron(np.random.default_rng(0).integers(0, 11, (5, 7)), np.ones((12, 12))).astype(
        'uint8'
    )
    image = CAMVID.palette[label].astype('float32')
    draws = Draws(
        dict(
            rotation_range=40,
            shear_range=20,
            zoom_range=0.3,
            width_shift_range=0.2,
            height_shift_range=0.2,
            horizontal_flip=True,
            vertical_flip=True,
        )
    )
    for seed in range(20):
        moved, out = apply_draw(
            tf.constant(image), tf.constant(label), draws.draw(image.shape, seed)
        )
        flat = ndimage.generic_filter(out.numpy(), np.ptp, 5) == 0  # one class around
        off = np.abs(moved.numpy() - CAMVID.palette[out.numpy()]).max(-1) > 1.5
        assert (
            off[flat].mean() < 0.002
        )  # slivers that the nearest pixel misses, at the picture's edge
        assert flat.mean() > 0.4


# ---------------------------------------------------------------------------- the draws


@pytest.mark.parametrize(
    'extra',
    [
        {},
        dict(channel_shift_range=20, brightness_range=(0.5, 1.5)),
        dict(width_shift_range=[-3, 5], zoom_range=[0.8, 1]),
    ],
)
def test_draws_are_kerass_own(extra):
    aug, shape = AUG | extra, (36, 48, 3)
    for seed in range(10):
        expected = ImageDataGenerator(**aug).get_random_transform(shape, seed)
        drawn = Draws(aug).draw(shape, seed)
        for name, value in zip(DRAW, drawn):
            if expected[name] is not None:
                assert value == pytest.approx(expected[name], rel=1e-6), name


def test_draws_do_not_touch_numpys_global_stream():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    Draws(AUG).draw((36, 48, 3), 1)
    assert (np.random.get_state()[1] == before).all()


def test_brightness_and_channel_shift_are_keras():
    x = smooth((20, 24, 3)).round()
    for draw in (dict(brightness=1.4), dict(brightness=0.3), dict(channel_shift_intensity=30.0)):
        expected = ImageDataGenerator().apply_transform(x, draw)
        vector = [draw.get(name, i) for name, i in zip(DRAW, augment.IDENTITY)]
        ours, _ = apply_draw(
            tf.constant(x), tf.zeros((20, 24), tf.uint8), tf.constant(vector, tf.float32)
        )
        np.testing.assert_allclose(ours, expected, atol=1.01)  # Keras rounds to whole values


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
    with pytest.raises(InputError, match=f'{name}=.*refused: .{{10}}'):
        Draws({name: value.get(name, True)})


def test_every_argument_of_keras_is_known_here():
    """Each works or is refused; zca_epsilon alone does nothing without zca_whitening."""
    import inspect

    works = {
        'rotation_range',
        'width_shift_range',
        'height_shift_range',
        'brightness_range',
        'shear_range',
        'zoom_range',
        'channel_shift_range',
        'fill_mode',
        'cval',
        'horizontal_flip',
        'vertical_flip',
        'zca_epsilon',
    }
    assert set(inspect.signature(ImageDataGenerator).parameters) == works | set(augment.REFUSED)


@pytest.mark.parametrize(
    'aug, message',
    [
        (dict(rotation_rage=5), 'did you mean rotation_range'),
        (dict(fill_mode='edge'), 'nearest, refl'),
        (dict(zoom_range=(1, 2, 3)), 'zoom_range'),
        (dict(brightness_range=3), 'brightness_range'),
    ],
)
def test_wrong_arguments_are_named(aug, message):
    with pytest.raises(InputError, match=message):
        Draws(aug)


# ---------------------------------------------------------------------------- streams


def test_stream_is_the_serial_computation_whatever_runs_beside_it(drawn):
    pairs, stop = pairs_of(drawn), threading.Event()

    def disturb():
        while not stop.is_set():
            np.random.random(100)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        batches = list(train_batches(pairs, 2, 13, AUG, seed=5).take(7))
    finally:
        stop.set()
        thread.join()
    draws = Draws(AUG)
    for k in range(14):
        image, label = pairs[sample_index(k, len(pairs), 5)]
        word = np.random.SeedSequence((5, k)).generate_state(1)[0]
        image, label = apply_draw(tf.cast(image, tf.float32), label, draws.draw(image.shape, word))
        np.testing.assert_allclose(batches[k // 2][0][k % 2], image / 255, atol=1e-6)
        np.testing.assert_array_equal(tf.argmax(batches[k // 2][1][k % 2], -1), label)


def test_stream_starts_anywhere_and_each_pass_is_a_permutation(drawn):
    pairs = pairs_of(drawn)
    whole = list(train_batches(pairs, 2, 13, AUG).take(6))
    for (x, y), (a, b) in zip(whole[3:], train_batches(pairs, 2, 13, AUG, start=6)):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)
    n = len(pairs)
    passes = [[sample_index(k, n, 1) for k in range(p * n, p * n + n)] for p in (0, 1)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(n)) and passes[0] != passes[1]


def test_beyond_the_memory_budget_pictures_are_read_again(drawn, monkeypatch):
    cached = list(train_batches(pairs_of(drawn), 2, 13, AUG).take(3))
    monkeypatch.setattr(datapre, 'CACHE_BYTES', 48 * 64 * 4 * 2)
    pairs = pairs_of(drawn)
    assert len(pairs.cache) == 2 < len(pairs)
    for (x, y), (a, b) in zip(cached, train_batches(pairs, 2, 13, AUG)):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)


def test_eval_batches_are_every_pair_once_untouched(drawn):
    files = pair_files(drawn / 'val', drawn / 'valannot')
    batches = list(eval_batches(pairs_of(drawn, 'val'), 2, 13))
    assert [len(x) for x, _ in batches] == [2, 1]
    for (image, label), x, y in zip(
        files, np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
    ):
        np.testing.assert_allclose(x, np.asarray(Image.open(image)) / 255, atol=1e-6)
        np.testing.assert_array_equal(y, np.eye(13)[np.asarray(Image.open(label))])


# ---------------------------------------------------------------------------- the article's names


def test_train_and_val_generator(drawn, tmp_path):
    common = dict(
        image_color_mode='rgb',
        label_color_mode='rgb',
        image_save_prefix='image',
        label_save_prefix='label',
        flag_multi_class=True,
    )
    train = trainGenerator(
        batch_size=2,
        aug_dict=AUG,
        train_path=f'{drawn}/',
        image_folder='train',
        label_folder='trainannot',
        save_to_dir=None,
        **common,
    )
    x, y = next(iter(train))
    assert (
        x.shape == (2, 48, 64, 3)
        and y.shape == (2, 48, 64, 13)
        and x.dtype == y.dtype == tf.float32
    )
    assert 0 <= np.min(x) and 0.5 < np.max(x) <= 1
    np.testing.assert_array_equal(tf.reduce_sum(y, -1), 1)
    val = valGenerator(
        batch_size=2,
        aug_dict={},
        val_path=f'{drawn}/',
        image_folder='val',
        label_folder='valannot',
        save_to_dir=str(tmp_path / 'out'),
        **common,
    )
    x, y = next(iter(val))
    saved = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert saved[:1] == ['image_000000.png'] and 'label_000001.png' in saved
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'out/label_000001.png')), tf.argmax(y[1], -1)
    )
    np.testing.assert_allclose(
        np.asarray(Image.open(tmp_path / 'out/image_000000.png')) / 255, x[0], atol=1e-6
    )


@pytest.mark.parametrize(
    'num_class, values', [(1, (0, 255)), (2, (0, 255)), (2, (0, 1)), (13, (0, 255))]
)
@pytest.mark.parametrize('suffix', ['png', 'tif', 'bmp'])
@pytest.mark.parametrize('mode', ['grayscale', 'rgb'])
def test_two_classes(tmp_path, num_class, values, suffix, mode):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 20, 16)).astype(np.uint8)
    for folder in ('image', 'label'):
        (tmp_path / folder).mkdir()
    for i, mask in enumerate(masks):
        Image.fromarray(rng.integers(0, 255, (20, 16), np.uint8)).save(
            tmp_path / f'image/{i}.{suffix}'
        )
        stored = Image.fromarray(np.array(values, np.uint8)[mask])
        (stored.convert('RGB') if mode == 'rgb' else stored).save(tmp_path / f'label/{i}.{suffix}')
    x, y = next(
        iter(
            trainGenerator(
                2,
                {},
                tmp_path,
                'image',
                'label',
                mode,
                mode,
                num_class=num_class,
                flag_multi_class=False,
            )
        )
    )
    order = [sample_index(k, 2, 1) for k in (0, 1)]
    assert x.shape[-1] == (3 if mode == 'rgb' else 1)
    expected = masks[order][..., None]
    if num_class != 1:
        expected = np.concatenate([1 - expected, expected], -1)
    np.testing.assert_array_equal(y, expected)


def test_one_channel_marks_no_class(drawn):
    y = datapre.one_hot(tf.constant([[0, 1, 255]], tf.uint8), 1)
    np.testing.assert_array_equal(y, [[[0], [1], [-1]]])
    np.testing.assert_array_equal(
        datapre.one_hot(tf.constant([[2, 255]], tf.uint8), 3), [[[0, 0, 1], [0, 0, 0]]]
    )


def test_test_generator_and_save_result_keep_names(drawn, tmp_path):
    images = testGenerator(test_path=str(drawn / 'test'))
    assert images.names == [f'test_{i:04d}.png' for i in range(3)]
    assert [x.shape for x in images] == [(1, 48, 64, 3)] * 3
    small = testGenerator(drawn / 'test', target_size=(32, 40), as_gray=True)
    assert next(iter(small)).shape == (1, 32, 40, 1)
    probability = np.random.default_rng(0).random((3, 8, 9, 13), 'float32')
    assert saveResult(tmp_path / 'a', iter(probability), names=images.names) == 3
    assert saveResult(f'{tmp_path}/b/', probability) == 3
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == images.names
    assert sorted(p.name for p in (tmp_path / 'b').iterdir()) == [
        f'{i}_predict.png' for i in range(3)
    ]
    for i, p in enumerate(probability):  # void is never painted
        mask = np.asarray(Image.open(tmp_path / f'b/{i}_predict.png'))
        np.testing.assert_array_equal(mask, CAMVID.palette[p[..., :11].argmax(-1)])


def test_adjust_data_is_the_articles_loop():
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (2, 6, 5, 3)).astype('float32')
    mask = rng.integers(0, 14, (2, 6, 5, 3)).astype('float32')
    expected = np.zeros((2, 6, 5, 13))
    for i in range(13):
        expected[mask[..., 0] == i, i] = 1
    x, y = adjustData(img, mask, True, 13)
    np.testing.assert_allclose(x, img / 255)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(adjustData(img[0], mask[0], True, 13)[1], expected[0])
    _, two = adjustData(img, np.where(mask > 6, 255, 0), False, 2)
    np.testing.assert_array_equal(two, mask > 6)


def test_label_visualize():
    label = np.array([[0, 1], [2, 12]])
    colours = np.array(CAMVID.colours)
    np.testing.assert_allclose(labelVisualize(13, colours, label), colours[label] / 255)
    np.testing.assert_allclose(labelVisualize(13, colours, label[..., None]), colours[label] / 255)


def test_sixteen_bit_and_jpeg_images(tmp_path):
    deep = (np.arange(20 * 16).reshape(20, 16) * 200).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / 'a.png')
    np.testing.assert_allclose(
        datapre.read_image(tmp_path / 'a.png')[..., 1], deep / 257, atol=0.51
    )
    Image.fromarray(smooth((20, 16, 3)).astype('uint8')).save(tmp_path / 'b.jpg')
    assert datapre.read_image(tmp_path / 'b.jpg', size=(8, 4)).shape == (8, 4, 3)
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / 'c.tif')
    with pytest.raises(InputError, match=r'c\.tif.*not finite'):
        datapre.read_image(tmp_path / 'c.tif')


@pytest.mark.camvid
def test_every_camvid_pixel_keeps_its_class(camvid):
    """The article's arguments on real labels: all pixels in one class, shares as in the files."""
    pairs = Pairs(pair_files(camvid / 'val', camvid / 'valannot')[:6], CAMVID)
    stored = sum(np.bincount(read_label(p, CAMVID).ravel(), minlength=13) for _, p in pairs.pairs)
    _, y = next(iter(train_batches(pairs, 6, 13, AUG)))
    np.testing.assert_array_equal(tf.reduce_sum(y, -1), 1)
    shares = np.asarray(tf.reduce_mean(y, (0, 1, 2)))
    np.testing.assert_allclose(shares, stored / stored.sum(), atol=0.02)
