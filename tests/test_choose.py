"""Which pictures to label next: entropy by SciPy, the choice by loops, the verb end to end."""

import csv

import keras
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_main import refused, run

from seg.choose import Entropy, apart, choose
from seg.classes import CAMVID, TWO_CLASSES
from seg.files import InputError
from seg.modelfile import About, save_model
from seg.settings import Settings
from seg.sizes import SizeRule


def test_entropy_is_that_of_the_scored_classes():
    """Whole or in parts."""
    output = np.random.default_rng(0).dirichlet(np.ones(13), (10, 14)).astype(np.float32)
    whole, parts = Entropy(CAMVID), Entropy(CAMVID)
    whole(None, None, output)
    for part in output[:4], output[4:, :5], output[4:, 5:]:
        parts(None, None, part)
    expected = scipy.stats.entropy(output[..., :11], axis=-1, base=2).mean()
    assert whole.total / whole.pixels == pytest.approx(expected, rel=1e-5)
    assert (parts.total, parts.pixels) == (pytest.approx(whole.total, rel=1e-5), 140)


def test_entropy_of_one_channel():
    output, found = np.float32([[[0.0], [0.5]], [[0.25], [1.0]]]), Entropy(TWO_CLASSES)
    found(None, None, output)
    expected = sum(scipy.stats.entropy([p, 1 - p], base=2) for p in (0, 0.5, 0.25, 1))
    assert found.total == pytest.approx(expected, rel=1e-6) and found.pixels == 4


def test_a_network_without_any_class_is_no_error():
    found = Entropy(CAMVID)  # the article's ReLU may give nothing but zeros
    found(None, None, np.zeros((2, 2, 13), np.float32))
    assert found.total == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 10**6))
def test_the_choice_is_that_of_a_loop(n, count, seed):
    rng = np.random.default_rng(seed)
    scores, features = rng.random(n), rng.random((n, 3))
    wanted = [max(range(n), key=lambda i: scores[i])]
    while len(wanted) < min(count, n):
        near = {
            i: scores[i] * min(np.hypot.reduce(features[i] - features[j]) for j in wanted)
            for i in range(n)
            if i not in wanted
        }
        wanted.append(max(near, key=near.get))
    assert apart(scores, features, count) == wanted


def test_frames_of_one_scene_are_chosen_last():
    scores = np.array([0.9, 0.89, 0.88, 0.3, 0.2])
    features = np.array([[0.0], [0.0], [0.0], [5.0], [9.0]])
    assert apart(scores, features, 5)[:3] == [0, 4, 3] and len({*apart(scores, features, 5)}) == 5


@pytest.fixture
def net():
    """Sure of what is black or white, unsure of what is grey."""
    inputs = keras.Input((None, None, 3))
    conv = keras.layers.Conv2D(13, 1, activation='softmax')
    made = keras.Model(inputs, conv(inputs))
    kernel, bias = np.zeros((1, 1, 3, 13)), np.full(13, -20.0)
    kernel[..., 0], bias[:2] = 10, (-15, 0)
    conv.set_weights([kernel, bias])
    made.about = About(CAMVID, SizeRule())
    return made


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Six pictures, sure to unsure, the last two alike."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pool').mkdir()
    rng = np.random.default_rng(0)
    for k, share in enumerate((0, 0.1, 0.2, 0.3, 0.9)):
        image = np.where(rng.random((80, 96)) < share, 128, rng.choice([0, 255], (80, 96)))
        image[: 16 * k] = image[: 16 * k] // 2 * 2  # of one kind each, so that none is another
        Image.fromarray(image.astype(np.uint8)).convert('RGB').save(f'pool/{k}.png')
    Image.fromarray(image.astype(np.uint8)).convert('RGB').save('pool/5.png')
    return tmp_path / 'pool'


def chosen():
    with open('next.csv', encoding='utf-8-sig', newline='') as f:
        return [*csv.DictReader(f)]


@pytest.mark.parametrize('options', [{}, {'tile': (32, 32), 'overlap': 0}, {'flip': True}])
def test_the_file_and_the_table(net, pool, capsys, options):
    choose(net, [pool], 4, Settings(**options))
    out, rows = capsys.readouterr().out, chosen()
    assert [row['rank'] for row in rows] == ['1', '2', '3', '4']
    assert rows[0]['picture'] == str(pool / '4.png')  # 5 is the same and comes later
    assert str(pool / '5.png') not in [row['picture'] for row in rows]
    assert 'label these 4 of 6' in out
    for row in rows:
        assert f'{row["score"]:>8}  {row["picture"]}\n' in out
        image = np.asarray(Image.open(row['picture'])) / np.float32(255)
        p = net.predict_on_batch(image[None])[0][..., :11]
        expected = scipy.stats.entropy(p, axis=-1, base=2).mean()
        assert float(row['score']) == pytest.approx(expected, abs=0.0006)
    choose(net, [pool / '*.png'], 20, Settings())  # ours is written anew
    assert len(chosen()) == 6


def test_a_file_of_somebody_else_stays(net, pool):
    (pool.parent / 'next.csv').write_text('mine')
    with pytest.raises(InputError, match='next.csv: exists'):
        choose(net, ['nowhere'], 4, Settings())  # before anything is read
    assert (pool.parent / 'next.csv').read_text() == 'mine'


def test_the_verb(net, pool, capsys):
    save_model(net, 'm.keras')
    status, out, _ = run(
        capsys, 'next', 'pool/0.png', 'pool/4.png', '--model', 'm.keras', '--count', 1
    )
    assert status == 0 and 'pool/4.png' in out and len(chosen()) == 1
    assert 'nowhere' in refused(capsys, 'next', 'nowhere', '--model', 'm.keras')
    assert 'PICTURE' in refused(capsys, 'next')
