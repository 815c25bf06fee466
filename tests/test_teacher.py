"""What a network learns from another: targets by hand, and where its labels say nothing."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_main import refused, run

from model import load_model, save_model, unet
from seg.classes import class_table, numbered_classes
from seg.scenes import draw_scene
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
    data = tf.data.Dataset.from_tensors((images, hot))
    teacher = Teacher('t.hdf5', model.about.classes, 3)
    ((same, target),) = teacher.batches(data, size).as_numpy_iterator()
    larger = np.zeros((2, 64, 96, 3), np.float32)
    larger[:, : size[0], : size[1]] = images
    free = unet(None, (None, None, 3), n, filters=2, classes=model.about.classes)
    free.set_weights(model.get_weights())
    one = model if size == (64, 48) else free
    painted = one.predict(images if one is model else larger, verbose=0)[:, : size[0], : size[1]]
    wanted = np.where(hot < 0, painted, (hot + painted) / 2)
    assert (same == images).all() and target.shape == hot.shape
    np.testing.assert_allclose(target, wanted, atol=1e-5)


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
    assert '--teacher t.hdf5: expected 13 (' in line and 'found 5 classes' in line
    assert 'no such file' in refused(capsys, 'train', drawn, *HOW, '--teacher', 'none.hdf5')
    assert not Path('log').exists()
