"""What a network learns from another: targets by hand, and where its labels say nothing."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_main import refused, run

from model import load_model, save_model, unet
from seg.classes import class_table, numbered_classes
from seg.export import to_onnx
from seg.files import InputError
from seg.scenes import draw_scene
from seg.sizes import SizeRule
from seg.teacher import Teacher

HOW = '--filters 2 --stride 2 --steps 40 --epochs 1 --augment flip --optimizer muon'.split()


def saved(path, size, n, seed=0):
    """An untrained network whose head is stretched, so that it is sure of what it paints."""
    keras.utils.set_random_seed(seed)
    classes = class_table(13) if n == 13 else numbered_classes(max(n, 2))
    model = unet(None, (*size, 3), n, filters=2, classes=classes)
    head = model.get_layer('scores')
    head.set_weights([20 * w for w in head.get_weights()])
    save_model(model, path)
    return model


@pytest.mark.parametrize('n', [1, 5])
@pytest.mark.parametrize('size', [(64, 48), (50, 70)])
def test_targets_are_half_of_each(n, size, here):
    """At the size it was made for and at another, with pixels of no class."""
    model = saved('t.hdf5', (64, 48), n)
    rng = np.random.default_rng(0)
    images = rng.random((2, *size, 3), np.float32)
    label = rng.integers(0, max(n, 2), (2, *size))
    label[:, :9] = 255
    hot = np.where(label == 255, -1, label)[..., None] if n == 1 else label[..., None] == range(n)
    hot = hot.astype(np.float32)
    batches = tf.data.Dataset.from_tensors((images, hot))
    teacher = Teacher('t.hdf5', data_like(model, size), n, 'm.hdf5')
    ((same, target),) = teacher.batches(batches, size).as_numpy_iterator()
    larger = np.zeros((2, 64, 96, 3), np.float32)
    larger[:, : size[0], : size[1]] = images
    free = unet(None, (None, None, 3), n, filters=2, classes=model.about.classes)
    free.set_weights(model.get_weights())
    one = model if size == (64, 48) else free
    painted = one.predict(images if one is model else larger, verbose=0)[:, : size[0], : size[1]]
    wanted = np.where(hot < 0, painted, (hot + painted) / 2)
    assert (same == images).all() and target.shape == hot.shape
    np.testing.assert_allclose(target, wanted, atol=1e-5)
    if n > 1:  # what a pixel counts by its border weight stays
        batches = tf.data.Dataset.from_tensors((images, 5 * hot))
        ((_, heavy),) = teacher.batches(batches, size).as_numpy_iterator()
        np.testing.assert_allclose(heavy[:, 9:], 5 * wanted[:, 9:], atol=1e-4)


def data_like(model, size, **other):
    about = model.about
    how = dict(classes=about.classes, channels=3, intensity=about.intensity)
    return SimpleNamespace(**how | other, rule=SizeRule('pad', *size))


@pytest.mark.parametrize(
    'name, n, other, word',
    [
        ('t.hdf5', 1, {}, 'by 1 outputs .* found .* by 2 outputs'),
        ('t.hdf5', 2, {'channels': 1}, 'of 1 channels, .* of 3 channels'),
        ('t.hdf5', 2, {'intensity': (0, 4095)}, 'values .0, 4095., as the data, found .* None'),
        ('t.hdf5', 2, {'classes': numbered_classes(3)}, '3 classes .* found 2 classes'),
        ('t.onnx', 2, {}, 'found an export'),
        ('?.hdf5', 2, {}, '--model would write over it'),
    ],
)
def test_what_can_not_teach(name, n, other, word, here):
    model = saved('t.hdf5', (32, 32), 2)
    if name == 't.onnx':
        pytest.importorskip('onnxruntime')
        to_onnx(load_model('t.hdf5'), Path(name))
    target = 't.hdf5' if name == '?.hdf5' else 'm.hdf5'
    with pytest.raises(InputError, match=word) as error:
        Teacher(name, data_like(model, (32, 32), **other), n, target)
    assert f'--teacher {name}: ' in str(error.value) and '\n' not in str(error.value)


def test_it_learns_where_labels_say_nothing(drawn, here, capsys):
    """Of labels that are void nearly everywhere: closer to the teacher than what has none."""
    for split, count in (('train', 8), ('val', 3)):
        for i in range(count):
            image, label = draw_scene(i + 50 * (split == 'val'), (48, 64))
            label[:, 4:] = 11
            for part, pixels in (('', image), ('annot', label)):
                Path(f'data/{split}{part}').mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(f'data/{split}{part}/{i}.png')
    model = saved('t.hdf5', (48, 64), 13, seed=3)
    x = np.stack([draw_scene(i, (48, 64))[0] for i in range(90, 94)]) / np.float32(255)
    scored = model.about.classes.scored
    painted = model.predict(x, verbose=0)[..., scored].argmax(-1)
    alike = []
    for more in ([], ['--teacher', 't.hdf5']):
        how = ['train', 'data', *HOW, *more, '--model', 'm.hdf5', '--classes', 'camvid.csv']
        Path('camvid.csv').write_text(
            ''.join(f'{n},{r},{g},{b}{",void" * (i > 10)}\n' for i, (n, (r, g, b)) in rows(model))
        )
        status, out, err = run(capsys, *how)
        assert status == 0, out + err
        found = load_model('m.hdf5').predict(x, verbose=0)[..., scored].argmax(-1)
        alike.append((found == painted).mean())
    assert alike[1] > alike[0] + 0.2, alike


def rows(model):
    classes = model.about.classes
    return enumerate(zip(classes.names, classes.colours))


def test_a_teacher_of_something_else_is_refused(drawn, here, capsys):
    saved('t.hdf5', (48, 64), 5)
    line = refused(capsys, 'train', drawn, *HOW, '--teacher', 't.hdf5')
    assert '--teacher t.hdf5: expected 13 classes (' in line and 'found 5 classes' in line
    assert 'no such file' in refused(capsys, 'train', drawn, *HOW, '--teacher', 'none.hdf5')
    assert not Path('log').exists()
