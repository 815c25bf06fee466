"""Wrong results that once were, as a user met them: through the command line alone."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from test_main import ROOT, TINY, refused, run
from test_own_data import shapes

import main as program
from seg.classes import CAMVID

pytestmark = pytest.mark.usefixtures('shallow', 'here')


def history(run_folder):
    with np.load(run_folder / 'state.npz') as saved:
        return json.loads(str(saved['progress']))['history']


def pairs(folder, count, size=(32, 40), seed=0, values=2):
    """Pictures whose brightness is their label; own/images and own/masks."""
    rng = np.random.default_rng(seed)
    for part in ('images', 'masks'):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        blocks = rng.integers(0, values, (4, 5))
        label = np.kron(blocks, np.ones((size[0] // 4, size[1] // 5))).astype(np.uint8)
        noise = rng.normal(0, 5, label.shape)
        image = (label * (200 // (values - 1)) + 20 + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(np.stack([image] * 3, -1)).save(folder / f'images/{i}.png')
        Image.fromarray(label).save(folder / f'masks/{i}.png')
    return ['--images', folder / 'images', '--labels', folder / 'masks', '--val-split', '0.3']


# ---------------------------------------------------------------------------- one channel


@pytest.mark.parametrize('loss', ['categorical_crossentropy', 'focal', 'crossentropy+dice'])
def test_one_channel_learns(loss, capsys):
    own = pairs(Path('own'), 8)
    flags = '--num-class 1 --filters 4 --epochs 2 --steps 30 --learning-rate 0.01'.split()
    assert run(capsys, 'train', *own, *flags, '--loss', loss)[0] == 0
    (folder,) = Path('log').iterdir()
    losses = history(folder)['loss']
    assert losses[0] > 0.01 and losses[1] < 0.7 * losses[0]
    status, _, _ = run(capsys, 'evaluate', *own, '--num-class', '1')
    assert status == 0 and json.loads(Path('scores.json').read_text())['miou'] > 0.9


def test_one_channel_heeds_class_weights(capsys):
    own = pairs(Path('own'), 8)
    for mask in Path('own/masks').iterdir():  # foreground is rare
        label = np.asarray(Image.open(mask)).copy()
        label[8:] = 0
        Image.fromarray(label).save(mask)
    first = []
    for flag in ('--class-weights', '--no-class-weights'):
        log = ['--log', flag.strip('-')]
        assert run(capsys, 'train', *own, *TINY, '--num-class', '1', flag, *log)[0] == 0
        first.append(history(next(Path(flag.strip('-')).iterdir()))['loss'][0])
    assert abs(first[0] - first[1]) > 1e-3 * first[0]


def test_border_weights_change_the_loss_alone(capsys):
    """At a rate of 0, so that both trainings see the same network all along."""
    shapes(Path('own'), count=6)
    own = ['--images', 'own/images', '--labels', 'own/masks', '--size', '64x64']
    past = []
    for flag in ('--border-weights', '--no-border-weights'):
        log, rate = ['--log', flag.strip('-')], ['--learning-rate', '0']
        assert run(capsys, 'train', *own, *TINY, flag, *log, *rate)[0] == 0
        past.append(history(next(Path(flag.strip('-')).iterdir())))
    assert abs(past[0]['loss'][0] - past[1]['loss'][0]) > 1e-4
    for name in ('accuracy', 'miou', 'val_loss', 'val_miou'):
        assert past[0][name] == past[1][name]


# ---------------------------------------------------------------------------- one size rule


@pytest.mark.parametrize('flags', [['--size', '64x64'], ['--size', '48x96', '--num-class', '5']])
def test_validation_in_training_is_evaluate_to_the_last_digit(flags, capsys):
    """Pictures in three shapes, none of them the network's."""
    shapes(Path('own'), count=9)
    own = ['--images', 'own/images', '--labels', 'own/masks', '--val-split', '0.4']
    flags = [f for f in flags if f not in ('--num-class', '5')]
    train = ['--filters', '4', '--epochs', '2', '--steps', '20', '--monitor', 'val_miou']
    assert run(capsys, 'train', *own, *flags, *train)[0] == 0
    (folder,) = Path('log').iterdir()
    assert run(capsys, 'evaluate', *own)[0] == 0
    scores = json.loads(Path('scores.json').read_text())
    past = history(folder)
    assert scores['miou'] == max(past['val_miou']) and scores['split'] == 'val'
    assert scores['accuracy'] == past['val_accuracy'][int(np.argmax(past['val_miou']))]


def test_ema_keeps_and_scores_the_average_of_the_weights(drawn, here, monkeypatch):
    from seg import train

    seen = []

    class Watch(train.Guard):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            seen.append([w.numpy() for w in self.model.weights])

    monkeypatch.setattr(train, 'Guard', Watch)
    flags = [*TINY, '--epochs', '2', '--steps', '3', '--ema', '0.2']
    assert program.main(['train', '--data', str(drawn), *flags]) == 0
    average, averages = seen[0], []
    for step, weights in enumerate(seen):
        momentum = min(0.2, step / (9 + step))  # 0, 0.1, 0.18, 0.2, ...
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, weights)]
        averages.append(average)
    with np.load(next(here.glob('log/*/state.npz'))) as saved:
        losses = json.loads(str(saved['progress']))['history']['val_loss']
    best = 3 * int(np.argmin(losses)) + 2  # the last step of the epoch that is kept
    model = keras.models.load_model('camvid.hdf5')
    for weight, mean in zip(model.weights, averages[best]):  # batch norm's statistics, too
        np.testing.assert_allclose(weight.numpy(), mean, rtol=1e-4, atol=1e-6)
    assert any(np.abs(m - w).max() > 1e-4 for m, w in zip(averages[best], seen[best]))

    losses_of = []  # what was scored is it, too: the mean of each picture's mean
    for file in sorted((drawn / 'val').iterdir()):
        x = np.asarray(Image.open(file))[None] / np.float32(255)
        y = np.asarray(Image.open(drawn / 'valannot' / file.name))
        p = np.take_along_axis(model.predict_on_batch(x)[0], np.int64(y)[..., None], -1)
        losses_of.append(-np.log(p[..., 0][np.isin(y, CAMVID.scored)]).mean())
    assert np.isclose(np.mean(losses_of), min(losses), rtol=1e-3)


# ---------------------------------------------------------------------------- a run owns its model


def stopped_after_one_epoch(monkeypatch):
    from seg import guard, train

    class Stop(train.State):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise guard.Interrupted

    monkeypatch.setattr(train, 'State', Stop)


def test_resuming_a_after_b_loses_neither(drawn, capsys):
    flags = ['--data', drawn, '--filters', '2', '--steps', '2', '--epochs', '2']
    with pytest.MonkeyPatch.context() as patch:
        stopped_after_one_epoch(patch)
        assert run(capsys, *flags, '--seed', '1')[0] == 130
    (a,) = Path('log').iterdir()
    time.sleep(1.1)  # names of runs are to the second
    assert run(capsys, 'train', *flags, '--seed', '2', '--filters', '3')[0] == 0
    b = next(r for r in Path('log').iterdir() if r != a)
    of_b = keras.models.load_model('camvid.hdf5').get_weights()
    assert run(capsys, '--resume', a)[0] == 0
    again = keras.models.load_model(b / 'best.hdf5').get_weights()
    assert all((x == y).all() for x, y in zip(of_b, again, strict=True))
    assert keras.models.load_model(a / 'best.hdf5').count_params() != sum(w.size for w in of_b)
    assert run(capsys, 'evaluate', '--data', drawn, '--model', a / 'best.hdf5')[0] == 0
    mine, reported = (json.loads(p.read_text()) for p in (Path('scores.json'), a / 'scores.json'))
    assert mine['confusion'] == reported['confusion']
    assert not list(Path('.').glob('camvid.2*'))  # both runs have theirs: no more copies


def test_two_trainings_side_by_side(drawn, tmp_path):
    flags = ['--data', drawn, '--filters', '2', '--steps', '2', '--epochs', '6']
    both = [
        subprocess.Popen(
            [sys.executable, ROOT / 'tests/shallow.py', 'train', *flags, '--seed', str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    out = [p.communicate(timeout=300) for p in both]
    assert [p.returncode for p in both] == [0, 0], out
    runs = sorted(Path('log').iterdir())
    assert len(runs) == 2
    models = [keras.models.load_model(r / 'best.hdf5').get_weights() for r in runs]
    assert any((x != y).any() for x, y in zip(*models, strict=True))
    keras.models.load_model('camvid.hdf5')
    assert not list(Path('.').glob('.*part*'))


def test_a_finished_run_goes_on_with_more_epochs_and_another_output(drawn, capsys):
    flags = ['--data', drawn, '--filters', '2', '--steps', '2', '--schedule', 'cosine']
    assert run(capsys, *flags, '--epochs', '1')[0] == 0
    (folder,) = Path('log').iterdir()
    status, out, _ = run(capsys, '--resume', '--epochs', '3', '--output', 'elsewhere')
    assert status == 0 and '3 epochs instead of 1' in out and 'cosine' in out
    assert len(history(folder)['loss']) == 3 and len(list(Path('elsewhere').glob('*.png'))) == 3
    assert json.loads((folder / 'settings.json').read_text())['settings']['epochs'] == 3


# ---------------------------------------------------------------------------- labels and classes


def test_a_palette_means_the_same_in_every_split(capsys):
    """Its order is not the table's, and the validation labels hold one colour alone."""
    colours = {'red': (255, 0, 0), 'green': (0, 255, 0), 'blue': (0, 0, 255)}
    Path('data').mkdir()
    rows = [f'{name},{",".join(map(str, c))}' for name, c in colours.items()]
    Path('data/classes.csv').write_text('name,r,g,b\n' + '\n'.join(rows) + '\n')
    palette = [0, 0, 255, 255, 0, 0, 0, 255, 0]  # 0 is blue, 1 red, 2 green
    rng = np.random.default_rng(0)
    for split, top in (('train', 3), ('val', 1)):
        for part in (split, f'{split}annot'):
            Path('data', part).mkdir()
        for i in range(3):
            label = Image.fromarray(rng.integers(0, top, (16, 16)).astype(np.uint8), 'P')
            label.putpalette(palette)
            label.save(f'data/{split}annot/{i}.png')
            Image.new('RGB', (16, 16)).save(f'data/{split}/{i}.png')
    Path('masks').mkdir()
    for i in range(3):
        Image.new('RGB', (16, 16), colours['blue']).save(f'masks/{i}.png')
    status, _, _ = run(capsys, 'evaluate', '--data', 'data', '--masks', 'masks')
    scores = json.loads(Path('scores.json').read_text())
    assert status == 0 and scores['accuracy'] == 1 and scores['class']['blue']['iou'] == 1


@pytest.mark.parametrize('flags', [[], ['--num-class', '12'], ['--num-class', '13']])
def test_twelve_classes_of_ones_own_are_not_camvids(flags, capsys):
    rng = np.random.default_rng(0)
    for part in ('train', 'trainannot', 'val', 'valannot'):
        Path('data', part).mkdir(parents=True)
    for split in ('train', 'val'):
        for i in range(3):
            label = rng.permutation(np.arange(16 * 18) % 12).reshape(16, 18).astype(np.uint8)
            Image.fromarray(label).save(f'data/{split}annot/{i}.png')
            image = rng.integers(0, 255, (16, 18, 3), np.uint8)
            Image.fromarray(image).save(f'data/{split}/{i}.png')
    status, out, _ = run(capsys, 'check', 'data', '--json', *flags)
    classes = json.loads(out)['classes']
    assert status == 0 and 'Sky' not in out and len(classes) == int(flags[-1] if flags else 12)
    assert {c['role'] for c in classes} == {'scored'}
    assert run(capsys, 'train', '--data', 'data', *TINY, *flags)[0] == 0


@pytest.mark.camvid
def test_camvid_is_camvid(camvid, capsys):
    status, out, _ = run(capsys, 'check', camvid, '--json')
    classes = json.loads(out)['classes']
    assert [c['name'] for c in classes][:2] == ['Sky', 'Building'] and len(classes) == 13
    assert [c['role'] for c in classes] == ['scored'] * 11 + ['void'] * 2


def test_a_table_and_a_number_that_disagree(drawn, capsys):
    Path('three.csv').write_text('a,255,0,0\nb,0,255,0\nc,0,0,255\n')
    line = refused(
        capsys, 'train', '--data', drawn, *TINY, '--classes', 'three.csv', '--num-class', '2'
    )
    assert '--num-class 2' in line and 'three.csv' in line and '3 classes' in line


# ---------------------------------------------------------------------------- pictures


def seen(picture):
    """Mean brightness of a picture as the program reads it: an overlay without colours."""
    shown = next(Path('predicted').rglob(f'overlay/{picture}.jpg'))
    return float(np.asarray(Image.open(shown).convert('L'))[:16].mean())


@pytest.mark.parametrize('kind', ['float', '16 bits'])
def test_deep_pictures_keep_their_brightness(kind, capsys):
    """Four dark ones and four bright ones: none is scaled by itself, none is black."""
    for part in ('images', 'masks'):
        Path('own', part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        level = (0.25, 0.9)[i % 2] + rng.uniform(-0.05, 0.05, (32, 40))
        deep = level.astype(np.float32) if kind == 'float' else (level * 40_000).astype(np.uint16)
        Image.fromarray(deep).save(f'own/images/{i}.tif')
        Image.fromarray(np.full((32, 40), i % 2, np.uint8)).save(f'own/masks/{i}.png')
    own = ['--images', 'own/images', '--labels', 'own/masks', '--val-split', '0.3']
    assert run(capsys, 'train', *own, *TINY, '--num-class', '2')[0] == 0
    assert run(capsys, 'predict', 'own/images', '--opacity', '0')[0] == 0
    dark, bright = ([seen(i) for i in some] for some in ((0, 2, 4), (1, 3, 5)))
    assert max(dark) < min(bright) - 80 and min(bright) > 180
    assert max(dark) < 60


def test_predict_overwrites_no_picture_that_it_did_not_write(capsys):
    Image.new('RGB', (48, 32), (9, 9, 9)).save('photo.jpg')
    Image.new('RGB', (48, 32), (200, 9, 9)).save('photo.png')
    before = Path('photo.png').read_bytes()
    line = refused(capsys, 'predict', 'photo.jpg', '--output', '.')
    assert 'photo.png' in line and Path('photo.png').read_bytes() == before


def test_pictures_of_one_name_in_two_calls(capsys):
    for folder, colour in (('a', (9, 9, 9)), ('b', (250, 250, 250))):
        Path(folder).mkdir()
        Image.new('RGB', (48, 32), colour).save(f'{folder}/photo.png')
        assert run(capsys, 'predict', folder)[0] == 0
    assert len([p for p in Path('predicted').rglob('photo*.png')]) == 2


def test_predict_takes_images(drawn, capsys):
    Path('mine').mkdir()
    Image.new('RGB', (48, 32)).save('mine/only.png')
    status, out, _ = run(capsys, 'predict', '--images', 'mine')
    assert status == 0 and '1 mask' in out
    assert len([p for p in Path('predicted').rglob('only.png')]) == 1


# ---------------------------------------------------------------------------- the command line


def test_sample_with_a_preset_stays_on_the_drawn_scenes(capsys, drawn, here):
    os.symlink(drawn, here / 'sample')
    Path('camvid.hdf5').write_text('mine')
    status, out, error = run(capsys, 'sample', '--preset', 'fast', *TINY)
    assert status == 0, error
    assert Path('sample.hdf5').exists() and Path('camvid.hdf5').read_text() == 'mine'
    (folder,) = Path('log').iterdir()
    settings = json.loads((folder / 'settings.json').read_text())['settings']
    assert settings['data'] == 'sample' and settings['optimizer'] == 'muon'


@pytest.mark.parametrize(
    'argv, words',
    [
        (['evaluate', '--images', 'X'], ['--labels']),
        (['preview', '--page', 'out'], ['--page', '.png']),
        (['train', '--model', 'best'], ['--model', '.hdf5']),
    ],
)
def test_what_once_was_a_traceback(argv, words, drawn, capsys):
    data = [] if '--images' in argv else ['--data', drawn]
    line = refused(capsys, *argv, *data, *(TINY if argv[0] == 'train' else []))
    for word in words:
        assert word in line


def test_a_model_without_a_size(drawn, capsys):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding='same', activation='softmax')(inputs)
    keras.Model(inputs, x).save('free.keras')
    status, _, _ = run(capsys, 'predict', drawn / 'test', '--model', 'free.keras')
    assert status == 0
    (mask, *_) = sorted(Path('predicted').rglob('test_0000.png'))
    assert Image.open(mask).size == (64, 48)


def test_where_stdout_is_no_terminal_and_no_file(drawn, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', out)
    assert program.main(['check', str(drawn)]) == 0
    assert 'Verdict: fit to train' in out.getvalue()


def test_a_processor_of_which_numpy_finds_nothing(monkeypatch):
    from model import unet

    monkeypatch.setattr(np, 'show_config', lambda mode: {'SIMD Extensions': {'baseline': []}})
    unet(input_size=(16, 16, 3), filters=1)


def test_config_repeats_a_run_and_flags_go_over_it(drawn, capsys):
    assert run(capsys, 'train', '--data', drawn, *TINY, '--seed', '5', '--size', '32x48')[0] == 0
    (folder,) = Path('log').iterdir()
    config = ['--config', folder / 'settings.json', '--log', 'again']
    assert run(capsys, 'train', *config, '--epochs', '2')[0] == 0
    (again,) = Path('again').iterdir()
    first, second = (
        json.loads((f / 'settings.json').read_text())['settings'] for f in (folder, again)
    )
    assert {k for k in first if first[k] != second[k]} == {'epochs', 'log'}
    assert history(folder)['loss'][0] == pytest.approx(history(again)['loss'][0], rel=1e-5)
    Path('wrong.json').write_text('{"filtres": 3}')
    assert 'did you mean filters' in refused(capsys, 'train', '--config', 'wrong.json')
    Path('wrong.json').write_text('{"filters": 0}')
    assert 'wrong.json' in refused(capsys, 'train', '--config', 'wrong.json')


def test_what_belongs_to_another_run_or_to_the_user_stays(drawn, capsys):
    flags = ['train', '--data', drawn, *TINY]
    hidden = Path('.thesis.part1.txt')
    hidden.write_text('mine')
    os.utime(hidden, (0, 0))
    assert run(capsys, *flags, '--model', 'm.hdf5')[0] == 0
    assert hidden.read_text() == 'mine'
    (folder,) = Path('log').iterdir()
    held = {p.name: p.read_bytes() for p in folder.glob('*.*') if p.is_file()}
    assert 'in the folder of a run' in refused(capsys, *flags, '--model', folder / 'best.hdf5')
    assert 'its folder is missing' in refused(capsys, *flags, '--model', 'no/where.hdf5')
    settings = folder / 'settings.json'
    model = ['--data', drawn, '--model', 'm.hdf5']
    assert 'did not write' in refused(capsys, 'evaluate', *model, '--scores', settings)
    assert held == {p.name: p.read_bytes() for p in folder.glob('*.*') if p.is_file()}
    assert run(capsys, 'train', '--resume', folder, '--model', 'other.hdf5')[0] == 0
    assert Path('other.hdf5').read_bytes() == (folder / 'best.hdf5').read_bytes()


@pytest.mark.parametrize(
    'content',
    ['{"settings": []}', '{"settings": {"preset": ["fast"]}}', '{"filters": "many"}', '[]', '{'],
)
def test_a_config_that_is_none(content, capsys):
    Path('c.json').write_text(content)
    refused(capsys, 'preview', '--config', 'c.json')


def test_nothing_in_a_config_is_the_default(drawn, capsys):
    names = ('filters', 'steps', 'epochs', 'monitor', 'fusion', 'model', 'log', 'seed', 'ema')
    Path('c.json').write_text(json.dumps(dict.fromkeys(names)))
    assert run(capsys, 'train', '--config', 'c.json', '--data', drawn, *TINY)[0] == 0
    (folder,) = Path('log').iterdir()
    saved = json.loads((folder / 'settings.json').read_text())['settings']
    assert saved['monitor'] == 'val_loss' and saved['fusion'] == 'concat' and saved['seed'] == 1


def test_a_picture_named_twice_is_painted_once(drawn, capsys):
    test = drawn / 'test'
    status, out, _ = run(capsys, 'predict', test, test / 'test_0000.png')
    assert status == 0 and '3 masks' in out
    assert len([p for p in Path('predicted').rglob('test_*.png')]) == 3
