"""Drawn scenes: decided by their seed, labelled to the pixel, hard enough to be worth learning."""

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from seg import scenes
from seg.classes import CAMVID
from seg.files import InputError
from seg.scenes import draw_camvid, draw_scene
from seg.settings import Settings
from seg.sources import load
from seg.tablefiles import read_classes

SCORED = CAMVID.scored


@pytest.fixture(scope='module')
def drawn():
    """36 scenes: images (36, 120, 160, 3), labels (36, 120, 160)."""
    images, labels = zip(*(draw_scene(seed) for seed in range(36)), strict=True)
    return np.stack(images), np.stack(labels)


def test_seed_decides():
    image, label = draw_scene(3)
    again, label_again = draw_scene(3)
    other, label_other = draw_scene(4)
    assert (image == again).all() and (label == label_again).all()
    assert (image != other).mean() > 0.5 and (label != label_other).mean() > 0.05


@pytest.mark.parametrize('size', [(48, 64), (90, 160), (360, 480)])
def test_any_size_shows_the_same_street(size):
    image, label = draw_scene(5, size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert label.shape == size and label.dtype == np.uint8
    if size[0] * 4 == size[1] * 3:
        small = np.asarray(Image.fromarray(draw_scene(5)[1]).resize(size[::-1], Image.NEAREST))
        assert (small == label).mean() > 0.85


def test_every_class_is_there(drawn):
    labels = drawn[1]
    assert labels.max() <= CAMVID.names.index('Void')
    share = np.bincount(labels.ravel(), minlength=len(CAMVID)) / labels.size
    assert (share[SCORED] > 0.007).all(), share.round(4)
    assert share[CAMVID.names.index('Void')] > 0.002
    occurs = np.array([[(label == i).sum() >= 10 for i in SCORED] for label in labels]).mean(0)
    assert (occurs > 0.7).all(), occurs.round(2)


def test_poles_are_two_pixels_wide(drawn):
    """Most pole pixels have a pole neighbour to their left or right."""
    pole = np.pad(drawn[1] == CAMVID.names.index('Pole'), ((0, 0), (0, 0), (1, 1)))
    beside = (pole[..., :-2] | pole[..., 2:])[pole[..., 1:-1]]
    assert beside.mean() > 0.9


def test_label_borders_lie_on_image_edges(drawn):
    """Moving the labels by one pixel, whichever way, must fit the image's edges less well."""
    images, labels = drawn[0].astype(float), drawn[1]
    for axis in (1, 2):
        step = np.abs(np.diff(images, axis=axis)).sum(-1)
        border = np.diff(labels.astype(int), axis=axis) != 0
        inner = (slice(None), slice(2, -2), slice(2, -2))
        fit = [step[inner][np.roll(border, by, axis)[inner]].mean() for by in (-1, 0, 1)]
        assert fit[1] > 1.25 * max(fit[0], fit[2]) and fit[1] > 3 * step.mean(), fit


def test_every_paint_stroke_reaches_both(monkeypatch):
    """Painted in the classes' own colours, without shade and haze, the image is the label."""
    paint = scenes.Scene.paint

    def plain(self, mask, label, *_, **__):
        self.gain = np.ones(3)
        paint(self, mask, label, np.array(CAMVID.colours[label]) / 255)

    monkeypatch.setattr(scenes.Scene, 'paint', plain)
    monkeypatch.setattr(scenes, 'expose', lambda s: (s.image * 255).round().astype(np.uint8))
    for seed in range(4):
        image, label = draw_scene(seed)
        assert (image == CAMVID.palette[label]).all()


def test_colour_and_height_do_not_give_the_class_away(drawn):
    images, labels = drawn
    row = np.broadcast_to(np.arange(120)[None, :, None, None], (*labels.shape, 1))
    features = np.concatenate([images, row], -1)
    model = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)  # one thread
    model.fit(features[:24].reshape(-1, 4)[::13], labels[:24].ravel()[::13])
    guess, truth = model.predict(features[24:].reshape(-1, 4)[::4]), labels[24:].ravel()[::4]
    known = truth != CAMVID.names.index('Void')
    same, either = guess == truth, lambda i: ((guess == i) | (truth == i)) & known
    iou = [(same & (truth == i)).sum() / max(1, either(i).sum()) for i in SCORED]
    assert 0.1 < np.mean(iou) < 0.35, np.round(iou, 2)


def test_folder_layout(tmp_path):
    counts = {'train': 3, 'val': 1, 'test': 2}
    folder = draw_camvid(tmp_path / 'data', **counts, size=(48, 64), seed=7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['data']
    seen = set()
    for split, count in counts.items():
        names = sorted(p.name for p in (folder / split).iterdir())
        assert len(names) == count
        assert names == sorted(p.name for p in (folder / f'{split}annot').iterdir())
        for name in names:
            image, label = (Image.open(folder / d / name) for d in (split, f'{split}annot'))
            assert (image.mode, label.mode) == ('RGB', 'L')
            assert image.size == label.size == (64, 48)
            assert np.asarray(label).max() <= 11
            seen.add(image.tobytes())
    assert len(seen) == sum(counts.values())
    again = draw_camvid(tmp_path / 'again', **counts, size=(48, 64), seed=7)
    for path in folder.rglob('*.png'):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes()


def test_the_class_table_comes_along(tmp_path):
    """The scenes are not called as CamVid's frames are; their labels alone would be anybody's."""
    folder = draw_camvid(tmp_path / 'data', 2, 1, 1, size=(48, 64))
    assert read_classes(folder / 'classes.csv') == CAMVID
    data = load(Settings(data=str(folder)))
    assert data.classes == CAMVID and data.warnings == data.errors == []
    (folder / 'classes.csv').unlink()
    assert 'Void' not in load(Settings(data=str(folder))).classes.names


def test_what_exists_is_kept(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'note.txt').write_text('x')
    with pytest.raises(InputError, match='mine'):
        draw_camvid(tmp_path / 'mine', 1, 1, 1)
    assert [p.name for p in tmp_path.rglob('*')] == ['mine', 'note.txt']
    (tmp_path / '.new.part' / 'train').mkdir(parents=True)  # left by a run that was killed
    draw_camvid(tmp_path / 'new', 1, 1, 1, (48, 64))
    assert not (tmp_path / '.new.part').exists()
    (tmp_path / 'empty').mkdir()
    assert (draw_camvid(tmp_path / 'empty', 1, 0, 0, (48, 64)) / 'train').is_dir()


def test_interrupted_leaves_no_half_set(tmp_path, monkeypatch):
    def stop(seed, size):
        if seed[1]:
            raise KeyboardInterrupt
        return draw_scene(seed, size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scenes, 'draw_scene', stop)
        draw_camvid(tmp_path / 'data', 2, 1, 1, (48, 64))
    assert not list(tmp_path.iterdir())
    draw_camvid(tmp_path / 'data', 1, 1, 1, (48, 64))
    assert len(list((tmp_path / 'data' / 'train').iterdir())) == 1
