"""Batches: the right file, the right transform, the right class for every pixel."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from labelled import FIVE, pair_files, photo, scene, write_set
from PIL import Image
from scipy import ndimage

import datapre
from datapre import (
    Pairs,
    Stream,
    adjustData,
    labelVisualize,
    read_pairs,
    sample_index,
    saveResult,
    testGenerator,
    train_batches,
    trainGenerator,
    valGenerator,
)
from main import AUG_ARGS as AUG
from seg import augment, pictures, readers
from seg.classes import CAMVID, numbered_classes
from seg.files import InputError
from seg.losses import border_weight
from seg.readers import read_label, read_raws, recognise
from seg.settings import Settings
from seg.sizes import SizeRule
from seg.sources import DataSet, load

testGenerator.__test__ = False  # not one of pytest's
ARTICLE = augment.from_aug_dict(AUG)
WHOLE = SizeRule('whole', 48, 64)


def smooth(shape, seed=0):
    noise = np.random.default_rng(seed).random(shape, 'float32') * 255
    return ndimage.gaussian_filter(noise, (2, 2, 0))


def pairs_of(folder, split='train', rule=WHOLE, classes=CAMVID, **kwargs):
    files = pair_files(folder / split, folder / f'{split}annot')
    formats = recognise(read_raws([label for _, label in files]), classes)[0]
    room, looked = kwargs.pop('room', None), kwargs.pop('looked', {})
    data = DataSet('', '', '', {'train': files}, looked, classes, '', formats, rule, **kwargs)
    return Pairs(data, 'train', rule, room)


def counted(monkeypatch, *modules):
    """The paths of labels that `modules` decode from now on."""
    seen = []
    for module in modules:
        real = module.read_raw
        monkeypatch.setattr(module, 'read_raw', lambda p, real=real: (seen.append(p), real(p))[1])
    return seen


# ---------------------------------------------------------------------------- pairs


@pytest.mark.parametrize(
    'rule', [None, WHOLE, SizeRule('pad', 40, 80), SizeRule('stretch', 32, 32), SizeRule()]
)
@pytest.mark.parametrize('channels', [1, 3])
def test_pairs_are_files_by_the_rule(drawn, rule, channels):
    pairs = pairs_of(drawn, rule=rule, channels=channels)
    assert len(pairs) == 8 and pairs.dtype == np.uint8
    for (image, label), (image_path, label_path) in zip(pairs, pairs.pairs, strict=True):
        picture = Image.open(image_path).convert('L' if channels == 1 else 'RGB')
        expected = np.asarray(picture).reshape(48, 64, channels), np.asarray(Image.open(label_path))
        assert expected[1].max() < 12  # stored as indices
        if rule:
            expected = rule.image(expected[0]), rule.label(expected[1])
        for got, wanted in zip((image, label), expected):
            assert got.dtype == np.uint8 and got.shape == wanted.shape and (got == wanted).all()


def unlike(folder):
    """Pair 2 is of another size than the others."""
    write_set(folder)
    photo(2, (40, 64)).save(folder / 'train' / '2.png')
    Image.fromarray(scene(size=(40, 64))).save(folder / 'trainannot' / '2.png')


def odd_label(folder):
    write_set(folder)
    Image.fromarray(scene(size=(48, 60))).save(folder / 'trainannot' / '2.png')


def odd_value(folder):
    write_set(folder)
    Image.fromarray(scene() * np.uint8(2)).save(folder / 'trainannot' / '2.png')


def no_picture(folder):
    write_set(folder)
    (folder / 'train' / '2.png').write_bytes(b'')


PAD, STRETCH = SizeRule('pad', 32, 32), SizeRule('stretch', 48, 64)


@pytest.mark.parametrize(
    'build, rules, words',
    [
        (unlike, [WHOLE], r'train/2.png: 40x64 pixels, expected 48x64 as .*0.png; --size'),
        (odd_label, [WHOLE], r'annot/2.png: 48x60 pixels, expected 48x64'),
        (odd_label, [None, PAD, STRETCH], r'annot/2.png: 48x60 .*48x64 as its image .*train/2.png'),
        (odd_value, [None, WHOLE, PAD], r'annot/2.png: value [68] .*0..4'),
        (no_picture, [None, WHOLE, PAD], r'train/2.png: empty'),
    ],
)
def test_a_pair_that_can_not_be_used(tmp_path, build, rules, words):
    """Named at once where it is kept, else when it is read: tf.data would bury the line."""
    build(tmp_path)
    for rule in rules:
        with pytest.raises(InputError, match=words):
            pairs_of(tmp_path, rule=rule, classes=numbered_classes(5))
        pairs = pairs_of(tmp_path, rule=rule, classes=numbered_classes(5), room=[0])
        assert pairs.error is None and len(pairs[1]) == 2
        with pytest.raises(InputError, match=words) as e:
            pairs[2]
        assert pairs.error is e.value


def test_validation_pairs_are_every_pair_once_untouched(drawn):
    """Whatever the size that is trained at: they are painted and scored at their own."""
    for size in (None, (32, 32)):
        train, val = read_pairs(load(Settings(data=str(drawn), size=size)))
        assert train.rule.input_size(()) == (size or (48, 64)) and val.rule is None
        assert [len(p) for p in (train, val)] == [8, 3] and train.data.classes == CAMVID
        assert [path.name for path, _ in val.pairs] == [f'val_{i:04}.png' for i in range(3)]
        for (image, label), files in zip(val, val.pairs, strict=True):
            assert (image == np.asarray(Image.open(files[0]))).all()
            assert (label == np.asarray(Image.open(files[1]))).all()


def test_a_label_is_decoded_once(tmp_path, monkeypatch):
    """The check before a training has read them; the training does not do it again."""
    folder = write_set(tmp_path, n=6)
    decoded = counted(monkeypatch, readers)
    data = load(Settings(data=str(folder)))
    train, val = read_pairs(data)
    labels = [label for pairs in (train, val) for _, label in pairs.pairs]
    assert sorted(decoded) == sorted(labels) and len(labels) == 8
    for pairs, first in ((train, 0), (val, 6)):
        for i, (_, label) in enumerate(pairs):
            assert (label == scene(seed=first + i)).all()
    assert len(decoded) == 8
    assert all(raw.inverse is None for raw in data.raws())  # not in memory twice


def test_training_and_validation_share_the_memory(tmp_path, monkeypatch):
    folder, size = write_set(tmp_path, n=6), 48 * 64 * 4  # bytes of an image and its label
    for room, kept in ((20, (6, 2)), (7, (6, 1)), (6, (6, 0)), (4, (4, 0)), (0, (0, 0))):
        monkeypatch.setattr(datapre, 'CACHE_BYTES', size * room)
        pairs = read_pairs(load(Settings(data=str(folder))))
        assert tuple(len(p.cache) for p in pairs) == kept
        held = [a.nbytes for p in pairs for pair in p.cache.values() for a in pair]
        assert sum(held) <= datapre.CACHE_BYTES
        for part, first in zip(pairs, (0, 6)):  # what is beyond is read when it is wanted
            for i, (image, label) in enumerate(part):
                assert (image == np.asarray(photo(first + i))).all()
                assert (label == scene(seed=first + i)).all()


def test_a_large_set_is_not_all_decoded_at_the_start(tmp_path, monkeypatch):
    folder, read = write_set(tmp_path, n=200), []
    data, real = load(Settings(data=str(folder))), pictures.read_image

    def slowly(path, *args):  # as a picture of some size takes
        read.append(path)
        threading.Event().wait(0.005)
        return real(path, *args)

    monkeypatch.setattr(pictures, 'read_image', slowly)
    monkeypatch.setattr(datapre.os, 'cpu_count', lambda: 2)  # threads that read ahead
    monkeypatch.setattr(datapre, 'CACHE_BYTES', 48 * 64 * 4 * 10)
    train, val = read_pairs(data)
    assert [len(p.cache) for p in (train, val)] == [10, 0]
    assert len(read) < 40


def test_a_deep_set_is_trained_on_by_one_range(tmp_path):
    """Pictures of 16 bits reach the network as they are to each other, and not black."""
    levels = (200, 20_000, 40_000, 60_000, 30_000, 10_000)
    write_set(tmp_path)
    for path in tmp_path.glob('*[nl]/*.png'):
        Image.fromarray(np.full((48, 64), levels[int(path.stem)], np.uint16)).save(path)
    data = load(Settings(data=str(tmp_path)))
    train, val = read_pairs(data)
    low, high = data.intensity
    assert train.dtype == val.dtype == np.uint16 and (low, high) == (200, 60_000)
    batches = train_batches(train, 4, 5)
    for k, image in enumerate(next(iter(batches))[0]):
        level = levels[sample_index(k, 4, 1)]
        np.testing.assert_allclose(image, (level - low) / (high - low), atol=2e-5)
        assert image.shape == (48, 64, 1)
    for image, level in zip((pair[0] for pair in val), levels[4:]):
        assert np.abs(image / 65535 - (level - low) / (high - low)).max() < 2e-5


def test_a_float_set_is_not_black(tmp_path):
    write_set(tmp_path)
    for path in tmp_path.glob('*[nl]/*.png'):
        path.unlink()
        values = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
        Image.fromarray(values).save(path.with_suffix('.tif'))
    train, _ = read_pairs(load(Settings(data=str(tmp_path))))
    x, _ = next(iter(train_batches(train, 4, 5)))
    assert np.allclose(np.mean(x), 0.5, atol=0.01) and np.max(x) > 0.99


def test_a_set_of_two_depths(tmp_path):
    """The article's functions look at no set as a whole: they make all as deep as the first."""
    for first, dtype in ((0, np.uint16), (1, np.uint8)):
        folder = write_set(tmp_path / str(first), n=2)
        deep = np.full((48, 64), 51 * 257, np.uint16)
        Image.fromarray(deep).save(folder / 'train' / f'{first}.png')
        Image.new('L', (64, 48), 51).save(folder / 'train' / f'{1 - first}.png')
        pairs = pairs_of(folder, classes=FIVE)
        assert pairs.dtype == dtype and {image.dtype for image, _ in pairs} == {np.dtype(dtype)}
        x, _ = next(iter(train_batches(pairs, 2, 5)))
        np.testing.assert_allclose(x, 0.2, atol=1e-6)


# ---------------------------------------------------------------------------- streams


def test_stream_is_the_serial_computation_whatever_runs_beside_it(drawn):
    pairs, stop = pairs_of(drawn), threading.Event()

    def disturb():
        while not stop.is_set():
            np.random.random(100)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        batches = list(train_batches(pairs, 2, 13, ARTICLE, seed=5).take(7))
    finally:
        stop.set()
        thread.join()
    for k in range(14):
        image, label = pairs[sample_index(k, len(pairs), 5)]
        image, label = ARTICLE.pair(np.float32(image) / 255, label, (5, k))
        np.testing.assert_allclose(batches[k // 2][0][k % 2], image, atol=1e-6)
        np.testing.assert_array_equal(tf.argmax(batches[k // 2][1][k % 2], -1), label)


def test_nothing_is_left_to_tensorflows_tuning(drawn):
    """Its thread sleeps for up to a minute, and the end of a training waited for it."""
    pairs, _ = read_pairs(load(Settings(data=str(drawn))))
    for dataset in (train_batches(pairs, 2, 13), testGenerator(drawn / 'test')):
        assert dataset.options().autotune.enabled is False


def test_stream_starts_anywhere_and_each_pass_is_a_permutation(drawn):
    pairs = pairs_of(drawn)
    whole = list(train_batches(pairs, 2, 13, ARTICLE).take(6))
    for (x, y), (a, b) in zip(whole[3:], train_batches(pairs, 2, 13, ARTICLE, start=6)):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)
    n = len(pairs)
    passes = [[sample_index(k, n, 1) for k in range(p * n, p * n + n)] for p in (0, 1)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(n)) and passes[0] != passes[1]


def test_mixing_draws_from_the_seed_and_the_batchs_first_sample(drawn):
    pairs, mixing = pairs_of(drawn), augment.parse('flip,cutmix')
    for b, (x, y) in enumerate(train_batches(pairs, 2, 13, mixing, seed=3, start=4).take(2)):
        drawn_pairs = []
        for k in (4 + 2 * b, 5 + 2 * b):
            image, label = pairs[sample_index(k, len(pairs), 3)]
            drawn_pairs.append(mixing.pair(np.float32(image) / 255, label, (3, k)))
        images, labels = (np.stack(part) for part in zip(*drawn_pairs))
        images, hot = mixing.mix(images, datapre.one_hot(labels, 13), (3, 4 + 2 * b))
        np.testing.assert_allclose(x, images, atol=1e-6)
        np.testing.assert_allclose(y, hot, atol=1e-6)


def test_without_augmentation_batches_are_the_pairs(drawn):
    pairs = pairs_of(drawn, rule=SizeRule('pad', 48, 80))
    for b, (x, y) in enumerate(train_batches(pairs, 2, 13).take(4)):
        for k in (0, 1):
            image, label = pairs[sample_index(2 * b + k, len(pairs), 1)]
            np.testing.assert_allclose(x[k], image / np.float32(255), atol=1e-6)
            np.testing.assert_array_equal(y[k], label[..., None] == np.arange(13))
            assert not np.any(y[k][:, 64:]) and np.all(np.sum(y[k][:, :64], -1) == 1)  # no class


def test_small_batches_are_those_of_pairs_shrunk_after_their_augmentation(drawn):
    stream = Stream(pairs_of(drawn), Settings(seed=3, augment='flip'), 13)
    assert stream.half() == (32, 32)
    (x, y), (small_x, small_y) = (next(iter(stream.batches(2, s))) for s in (None, (24, 32)))
    blocks = x.numpy().reshape(2, 24, 2, 32, 2, 3).mean((2, 4))
    np.testing.assert_allclose(small_x, blocks, atol=1e-6)
    np.testing.assert_array_equal(small_y, y[:, 1::2, 1::2])  # as PIL's nearest


def test_beyond_the_memory_budget_pictures_are_read_again(drawn, monkeypatch):
    cached = list(train_batches(pairs_of(drawn), 2, 13, ARTICLE).take(3))
    monkeypatch.setattr(datapre, 'CACHE_BYTES', 48 * 64 * 4 * 2)
    pairs = pairs_of(drawn)
    assert len(pairs.cache) == 2 < len(pairs)
    for (x, y), (a, b) in zip(cached, train_batches(pairs, 2, 13, ARTICLE)):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)


def test_the_stream_of_a_run(drawn):
    """What its settings say: batches from any sample on, and the files that they were made of."""
    pairs = pairs_of(drawn)
    for given, augmentation in (
        ({'aug_dict': AUG}, ARTICLE),
        ({'augment': 'flip,jitter', 'aug_dict': AUG}, augment.parse('flip,jitter')),
        ({'augment': 'none', 'aug_dict': AUG}, None),
        ({}, None),
    ):
        stream = Stream(pairs, Settings(batch_size=3, seed=4, **given), 13)
        expected = train_batches(pairs, 3, 13, augmentation, 4, 6)
        for (x, y), (a, b) in zip(stream.batches(6).take(2), expected):
            np.testing.assert_array_equal(x, a)
            np.testing.assert_array_equal(y, b)
    files = [pairs.pairs[sample_index(k, 8, 4)][0] for k in range(6, 12)]
    assert stream.files(6, 6) == files


def test_border_weights_go_where_their_pixels_go(tmp_path):
    """A pixel's row is as large as its weight, whatever the augmentation; validation has none."""
    data = load(Settings(data=str(write_set(tmp_path, n=6)), size=(64, 64)))
    (plain, _), (pairs, val) = read_pairs(data), read_pairs(data, borders=True)
    for (image, label), (same, wide) in zip(plain, pairs, strict=True):
        assert wide.dtype == np.uint16 and (image == same).all() and (wide % 256 == label).all()
        assert (wide // 256 == border_weight(label, data.classes)).all() and wide.max() > 25_600
    assert all(label.dtype == np.uint8 for _, label in val)
    for text in ('none', 'elastic=3,scale,flip,gridmask:void', 'flip,hide:void,mixup'):
        augmentation = augment.parse(text)
        x, y = next(iter(train_batches(pairs, 2, 5, augmentation)))
        drawn = [(*pairs[sample_index(k, 6, 1)], k) for k in (0, 1)]
        drawn = [augmentation.pair(np.float32(i) / 255, w, (1, k)) for i, w, k in drawn]
        images, labels = (np.stack(part) for part in zip(*drawn))
        hot = (labels[..., None] % 256 == np.arange(5)) * (1 + 10 * (labels // 256) / 255)[
            ..., None
        ]
        if augmentation.mix:
            images, hot = augmentation.mix(images, np.float32(hot), (1, 0))
        np.testing.assert_allclose(x, images, atol=1e-6)
        np.testing.assert_allclose(y, hot, rtol=1e-5, atol=1e-6)
        assert np.max(y) > 2


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


def test_train_generator_resizes(drawn):
    """To the size that is asked for, whatever the aspect; labels to the nearest pixel."""
    x, y = next(
        iter(trainGenerator(2, {}, drawn, 'train', 'trainannot', target_size=(32, 40), seed=2))
    )
    files = pair_files(drawn / 'train', drawn / 'trainannot')
    for k in (0, 1):
        image, label = (Image.open(p) for p in files[sample_index(k, 8, 2)])
        image = image.resize((40, 32), Image.Resampling.LANCZOS)
        np.testing.assert_allclose(x[k], np.asarray(image) / 255, atol=1e-6)
        label = label.resize((40, 32), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(tf.argmax(y[k], -1), label)


def test_arguments_that_are_wrong_are_named(drawn, tmp_path):
    given = [2, {}, drawn, 'train', 'trainannot']
    for mode in ({'image_color_mode': 'rgba'}, {'label_color_mode': 'gray'}):
        with pytest.raises(InputError, match="color mode 'r?g.*expected 'rgb' or 'grayscale'"):
            trainGenerator(*given, **mode)
    with pytest.raises(InputError, match='train: expected a folder'):
        trainGenerator(2, {}, tmp_path, *given[3:])


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
    """Of a picture by itself: its type's range; any size that is asked for."""
    deep = (np.arange(20 * 16).reshape(20, 16) * 200).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / 'a.png')
    Image.fromarray(smooth((20, 16, 3)).astype('uint8')).save(tmp_path / 'b.jpg')
    for grey in (True, False):
        a, b = testGenerator(tmp_path, as_gray=grey)
        assert a.shape == b.shape == (1, 20, 16, 1 if grey else 3)
        np.testing.assert_allclose(a[0, ..., -1], deep / 65535, atol=1e-5)
    assert [x.shape for x in testGenerator(tmp_path, target_size=(8, 4))] == [(1, 8, 4, 3)] * 2


@pytest.mark.camvid
def test_every_camvid_pixel_keeps_its_class(camvid):
    """The article's arguments on real labels: all pixels in one class, shares as in the files."""
    files = pair_files(camvid / 'val', camvid / 'valannot')[:6]
    rule = SizeRule('whole', 360, 480)
    data = DataSet('', '', '', {'train': files}, {}, CAMVID, '', {'grey': 'index'}, rule)
    pairs = Pairs(data, 'train', rule)
    stored = sum(np.bincount(read_label(p, CAMVID).ravel(), minlength=13) for _, p in pairs.pairs)
    _, y = next(iter(train_batches(pairs, 6, 13, ARTICLE)))
    np.testing.assert_array_equal(tf.reduce_sum(y, -1), 1)
    shares = np.asarray(tf.reduce_mean(y, (0, 1, 2)))
    np.testing.assert_allclose(shares, stored / stored.sum(), atol=0.02)
