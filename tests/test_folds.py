"""Cross-validation and the mean of networks, against counts and means made by hand."""

import json
import os
import shutil
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_main import refused, run

import main as program
from seg import guard, holdout, train
from seg.classes import CAMVID
from seg.files import InputError, deal
from seg.runs import read_progress
from seg.settings import Settings

pytestmark = pytest.mark.usefixtures('shallow')

TINY = ['--filters', '2', '--steps', '3', '--epochs', '2', '--learning-rate', '0.03']
FOLDS = [*TINY, '--folds', '3']


@pytest.fixture(scope='module')
def once(drawn, tmp_path_factory):
    """A folder with data/, 11 pictures without test ones, and a run of three folds on them."""
    folder = tmp_path_factory.mktemp('folds')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(drawn, 'data', ignore=shutil.ignore_patterns('test*'))
        assert program.main(['train', 'data', *FOLDS]) == 0
    return folder


@pytest.fixture
def done(once, here):
    """A copy of it, in which the test is; the run's folder."""
    shutil.copytree(once, here, dirs_exist_ok=True)
    (folder,) = Path('log').iterdir()
    return folder


def val_of(fold):
    """The names of the pictures on which a fold was validated."""
    held = json.loads((fold / 'data.json').read_text())
    return {p for p, what in held.items() if what.startswith('val') and 'annot' not in p}


def weights_of(path):
    return [w.numpy() for w in keras.models.load_model(path).weights]


def count_by_hand(network, pictures):
    """Confusion count of a model's file, by plain Keras and NumPy."""
    model, counts = keras.models.load_model(network), np.zeros((11, 11), int)
    for file in pictures:
        image = np.asarray(Image.open(file)) / np.float32(255)
        truth = np.asarray(Image.open(file.parent.parent / f'{file.parent.name}annot' / file.name))
        painted = model.predict_on_batch(image[None])[0, ..., :11].argmax(-1)
        np.add.at(counts, (truth[truth < 11], painted[truth < 11]), 1)
    return counts


def miou(counts):
    hit = np.diag(counts)
    with np.errstate(invalid='ignore'):
        return np.nanmean(hit / (counts.sum(0) + counts.sum(1) - hit))


# ---------------------------------------------------------------------------- parts


def pairs_of(names, root='data'):
    return [(Path(root, name + '.png'), Path(root, name + '.txt')) for name in names]


NAMES = st.dictionaries(st.sampled_from('abcdefghijklmnop'), st.integers(1, 6), min_size=1)


@given(NAMES, st.integers(2, 6), st.integers(0, 9), st.booleans(), st.randoms())
def test_every_picture_is_in_one_part_and_no_group_is_divided(groups, folds, seed, alike, random):
    names = [f'{g}_{i}' for g, count in groups.items() for i in range(count)]
    random.shuffle(names)
    pairs, settings = pairs_of(names), Settings(folds=folds, seed=seed)
    grouped = 2 * len(groups) <= len(names) and len(groups) >= (4 if alike else 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holdout, '_alike', lambda paths: alike)
        if folds > (len(groups) if grouped else len(names)):
            with pytest.raises(InputError, match=f'--folds {folds}: expected as many .* found'):
                holdout.hold_out(pairs, settings)
            return
        parts, _ = holdout.hold_out(pairs, settings)
        moved, _ = holdout.hold_out(pairs_of(names, '/another/place'), settings)
    assert len(parts) == folds
    assert sorted(p for _, val in parts for p in val) == sorted(pairs)
    assert all(val and sorted(fit + val) == sorted(pairs) for fit, val in parts)
    stems = [[p.stem for p, _ in val] for _, val in parts]
    assert stems == [[p.stem for p, _ in val] for _, val in moved]
    sizes = [*map(len, stems)]
    assert max(sizes) - min(sizes) <= (max(groups.values()) if grouped else 1)
    if grouped:
        kinds = [{stem[0] for stem in part} for part in stems]
        assert sum(map(len, kinds)) == len(groups)
    elif alike:
        places = [sorted(sorted(names).index(stem) for stem in part) for part in stems]
        assert all(place == [*range(place[0], place[-1] + 1)] for place in places)


def test_large_groups_are_dealt_first():
    pairs = pairs_of([f'{group}_{i}' for group in 'abcd' for i in range(2)])
    pairs += pairs_of([f'large_{i}' for i in range(8)])
    for seed in range(9):
        parts = deal(pairs, 2, seed, lambda pair: pair[0].stem.split('_')[0])
        assert [*map(len, parts)] == [8, 8]


def test_a_video_in_train_and_val_is_one_group(monkeypatch):
    monkeypatch.setattr(holdout, '_alike', lambda paths: True)
    pairs = pairs_of([f'train/{v}_{i}' for v in 'abcd' for i in range(1, 9, 2)])
    pairs += pairs_of([f'val/{v}_{i}' for v in 'abcd' for i in range(2, 9, 2)])
    parts, _ = holdout.hold_out(pairs, Settings(folds=4))
    kinds = sorted({p.stem[0] for p, _ in val} for _, val in parts)
    assert sorted(map(sorted, kinds)) == [['a'], ['b'], ['c'], ['d']]
    names = [f'{split}/{i}' for split in ('train', 'val') for i in range(9)]  # not one video
    parts, _ = holdout.hold_out(pairs_of(names), Settings(folds=2))
    assert [{p.parent.name for p, _ in val} for _, val in parts] == [{'train'}, {'val'}]


# ---------------------------------------------------------------------------- runs


def test_a_run_of_folds(done):
    folds = [done / f'fold{i}' for i in (1, 2, 3)]
    parts = [*map(val_of, folds)]
    pictures = {str(p) for name in ('train', 'val') for p in Path('data', name).iterdir()}
    assert set.union(*parts) == pictures and sum(map(len, parts)) == len(pictures) == 11
    for i, fold in enumerate(folds, 1):
        saved = json.loads((fold / 'settings.json').read_text())['settings']
        assert saved['fold'] == i and saved['folds'] == 3
        assert list(fold.rglob('events*')) and read_progress(fold)['epoch'] == 2
    whole = json.loads((done / 'settings.json').read_text())['settings']
    assert whole['folds'] == 3 and whole['fold'] is None
    best = min(folds, key=lambda fold: min(read_progress(fold)['history']['val_loss']))
    assert Path('camvid.hdf5').read_bytes() == (best / 'best.hdf5').read_bytes()
    assert [p.name for p in Path().glob('*.hdf5')] == ['camvid.hdf5']  # no other was kept
    assert 'out of fold' in (done / 'report.html').read_text()


def test_out_of_fold_scores_are_those_of_networks_that_have_not_seen_the_picture(done, capsys):
    folds = [done / f'fold{i}' for i in (1, 2, 3)]
    by_hand = [count_by_hand(fold / 'best.hdf5', sorted(map(Path, val_of(fold)))) for fold in folds]
    found = json.loads((done / 'scores.json').read_text())
    each = [*map(miou, by_hand)]
    assert found['split'] == 'out of fold' and found['images'] == 11
    np.testing.assert_array_equal(found['confusion'], sum(by_hand))
    np.testing.assert_allclose(found['folds'], each)
    np.testing.assert_allclose(found['miou'], miou(sum(by_hand)))
    np.testing.assert_allclose(found['mean'], statistics.mean(each))
    np.testing.assert_allclose(found['deviation'], statistics.stdev(each))

    for fold, counts in zip(folds, by_hand):  # one of them, on its own part
        status, out, _ = run(capsys, 'evaluate', 'data', '--model', fold / 'best.hdf5')
        alone = json.loads(Path('scores.json').read_text())
        assert status == 0 and alone['split'] == 'val' and 'networks' not in out
        np.testing.assert_array_equal(alone['confusion'], counts)
        history = read_progress(fold)['history']
        assert alone['miou'] == history['val_miou'][np.argmin(history['val_loss'])]
    status, out, _ = run(capsys, 'evaluate', 'data', '--model', f'{done}/fold*/best.hdf5')
    again = json.loads(Path('scores.json').read_text())
    assert status == 0 and '3 networks: each picture is scored by the network that' in out
    assert again['confusion'] == found['confusion'] and again['folds'] == found['folds']


def test_other_data_are_scored_by_the_mean(done, drawn, capsys):
    pattern = f'{done}/fold*/best.hdf5'
    assert run(capsys, 'predict', drawn / 'test', '--model', pattern, '--save', 'index')[0] == 0
    counts = np.zeros((11, 11), int)
    for file in (drawn / 'test').iterdir():
        truth = np.asarray(Image.open(drawn / 'testannot' / file.name))
        index = np.asarray(Image.open(f'predicted/{done.name}/index/{file.name}'))
        np.add.at(counts, (truth[truth < 11], index[truth < 11]), 1)
    for name in ('test', 'testannot'):  # in another folder, and in that of the training
        shutil.copytree(drawn / name, Path('other', name))
        shutil.copytree(drawn / name, Path('data', name))
    for data in ('other', 'data'):
        status, out, _ = run(capsys, 'evaluate', data, '--model', pattern)
        assert status == 0 and '3 networks: each picture is scored by the mean of them' in out
        found = json.loads(Path('scores.json').read_text())
        np.testing.assert_array_equal(found['confusion'], counts)
        assert found['split'] == 'test' and 'folds' not in found


def test_out_of_fold_scores_of_data_that_changed_are_refused(done, capsys):
    for name in ('train', 'trainannot'):
        shutil.copy(f'data/{name}/train_0001.png', f'data/{name}/train_0090.png')
    pattern = f'{done}/fold*/best.hdf5'
    line = refused(capsys, 'evaluate', 'data', '--model', pattern)
    assert '/best.hdf5: expected the pictures of its training, found others' in line
    status, out, _ = run(capsys, 'evaluate', 'data', '--model', pattern, '--val-split', '0')
    assert status == 0 and 'by the mean' in out
    line = refused(capsys, 'train', '--resume', '--changed-data')
    assert 'from one fold to another' in line
    assert 'train_0090.png' in refused(capsys, 'train', '--resume')


@pytest.mark.parametrize('flags', [[], ['--flip'], ['--tile', '64x64']], ids=' '.join)
def test_the_mean_is_that_of_separate_probabilities(flags, done, capsys):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (100, 130, 3), np.uint8)).save('photo.png')
    shutil.copy('data/val/val_0001.png', '.')
    how = ['photo.png', 'val_0001.png', '--save', 'probability,index', *flags]
    for i in (1, 2, 3):
        model = ['--model', done / f'fold{i}/best.hdf5', '--output', f'alone{i}']
        assert run(capsys, 'predict', *how, *model)[0] == 0
    assert run(capsys, 'predict', *how, '--model', f'{done}/fold[1-3]/best.hdf5')[0] == 0
    for name in ('photo', 'val_0001'):
        alone = [np.load(f'alone{i}/probability/{name}.npz')['probability'] for i in (1, 2, 3)]
        mean = np.mean([p.astype(float) for p in alone], 0)
        out = Path('predicted', done.name)
        found = np.load(out / f'probability/{name}.npz')['probability']
        np.testing.assert_allclose(found, mean, atol=2e-3)
        assert all(np.abs(p - mean).max() > 0.02 for p in alone)
        index = np.asarray(Image.open(out / f'index/{name}.png'))
        top = np.sort(mean[..., :11], -1)
        sure = top[..., -1] - top[..., -2] > 5e-3
        assert sure.any() and (index == mean[..., :11].argmax(-1))[sure].all()


def test_one_fold_alone_is_that_of_the_whole(done, here, capsys):
    (here / 'alone').mkdir()
    shutil.move('data', 'alone/data')
    os.chdir('alone')
    status, out, _ = run(capsys, 'train', 'data', *FOLDS, '--fold', '2')
    (folder,) = Path('log').iterdir()
    assert status == 0 and [p.name for p in folder.glob('fold*')] == ['fold2']
    assert 'Still to be trained: fold 1, 3' in out and not (folder / 'scores.json').exists()
    there = here / done / 'fold2'
    for mine, theirs in zip(
        weights_of(folder / 'fold2/best.hdf5'), weights_of(there / 'best.hdf5')
    ):
        assert mine.tobytes() == theirs.tobytes()
    assert Path('camvid.hdf5').read_bytes() == (folder / 'fold2/best.hdf5').read_bytes()
    for i in (1, 3):  # the others, from other machines
        shutil.copytree(here / done / f'fold{i}', folder / f'fold{i}')
    status, out, _ = run(capsys, 'train', '--resume')
    assert status == 0 and 'Fold 2 of 3 has been trained already' in out
    found, whole = (json.loads((f / 'scores.json').read_text()) for f in (folder, here / done))
    assert found['confusion'] == whole['confusion']


@pytest.mark.parametrize('kill', [guard.Interrupted, OSError])
def test_after_a_kill_only_what_is_missing_is_trained(kill, done, here, capsys, monkeypatch):
    whole = here / done
    (here / 'again').mkdir()
    shutil.move('data', 'again/data')
    os.chdir('again')
    begun, fit = [], train.fit

    def noted(*args):
        begun.append(args[4].name)
        fit(*args)

    class Killed(train.State):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if self.path.parent.name == 'fold2':
                raise kill

    monkeypatch.setattr(train, 'fit', noted)
    with monkeypatch.context() as patch:
        patch.setattr(train, 'State', Killed)
        if kill is OSError:
            with pytest.raises(OSError):
                run(capsys, 'train', 'data', *FOLDS)
        else:
            status, out, _ = run(capsys, 'train', 'data', *FOLDS)
            (folder,) = Path('log').iterdir()
            assert status == 130 and f'--resume {folder}\n' in out
    (folder,) = Path('log').iterdir()
    assert begun == ['fold1', 'fold2'] and not Path('camvid.hdf5').exists()
    assert read_progress(folder / 'fold2')['epoch'] == 1
    first = {p: p.stat().st_mtime_ns for p in (folder / 'fold1').rglob('*')}
    status, out, _ = run(capsys, 'train', '--resume')
    assert status == 0 and begun == ['fold1', 'fold2', 'fold2', 'fold3']
    assert first == {p: p.stat().st_mtime_ns for p in (folder / 'fold1').rglob('*')}
    for i in (1, 2, 3):
        pair = (weights_of(f / f'fold{i}/best.hdf5') for f in (folder, whole))
        for mine, theirs in zip(*pair):
            np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert json.loads((folder / 'scores.json').read_text())['images'] == 11
    assert run(capsys, 'train', '--resume')[0] == 0 and len(begun) == 4
    if kill is OSError:  # once is enough for more epochs
        return
    assert run(capsys, 'train', '--resume', '--epochs', '3')[0] == 0 and len(begun) == 7
    assert {read_progress(folder / f'fold{i}')['epoch'] for i in (1, 2, 3)} == {3}
    assert json.loads((folder / 'settings.json').read_text())['settings']['epochs'] == 3
    assert run(capsys, 'train', '--resume', folder / 'fold2', '--epochs', '4')[0] == 0
    assert begun[7:] == ['fold2'] and [*folder.parent.iterdir()] == [folder]


def test_the_whole_job_paints_in_each_fold(drawn, here, capsys):
    flags = [*TINY, '--folds', '2', '--epochs', '1', '--output', 'out']
    status, out, _ = run(capsys, '--data', drawn, *flags)
    (folder,) = Path('log').iterdir()
    assert status == 0
    for i in (1, 2):
        assert len(list(Path(f'out/fold{i}').glob('*.png'))) == 3
        scores = json.loads((folder / f'fold{i}/scores.json').read_text())
        assert scores['split'] == 'test' and (folder / f'fold{i}/report.html').exists()
    assert json.loads((folder / 'scores.json').read_text())['split'] == 'out of fold'
    (folder / 'fold2/done.json').unlink()  # killed while it painted
    shutil.rmtree('out')
    assert run(capsys, '--resume')[0] == 0
    assert [p.name for p in Path('out').iterdir()] == ['fold2']


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--fold', '2'], ['--fold 2', '--folds']),
        (['--folds', '3', '--fold', '4'], ['--fold 4 of --folds 3', '1 to 3']),
        (['--folds', '1'], ['--folds', '2 to 20']),
        (['--folds', '12'], ['--folds 12', 'pictures', 'found 11', '--folds 11']),
        (['--folds', '3', '--model', 'a*.hdf5'], ['a*.hdf5', 'one file', 'pattern']),
        (['--model', 'a*.hdf5'], ['a*.hdf5', 'one file', 'pattern']),
    ],
)
def test_what_can_not_be_trained(flags, words, drawn, here, capsys):
    line = refused(capsys, 'train', drawn, *TINY, *flags)
    assert all(word in line for word in words), line
    assert not Path('log').exists()


def test_networks_that_do_not_fit_one_another(done, drawn, capsys):
    assert 'none' in refused(capsys, 'predict', drawn / 'test', '--model', 'no/fold*/best.hdf5')
    assert run(capsys, 'train', drawn, *TINY, '--size', '32x32', '--model', 'small.hdf5')[0] == 0
    shutil.copy('small.hdf5', done / 'fold4.hdf5')
    shutil.copy(done / 'fold1/best.hdf5', done / 'fold3.hdf5')
    line = refused(capsys, 'predict', drawn / 'test', '--model', f'{done}/fold*.hdf5')
    assert all(word in line for word in ('fold3.hdf5', 'fold4.hdf5', 'other size rule')), line


def test_a_pattern_of_one_is_that_model(done, drawn, capsys):
    assert run(capsys, 'predict', drawn / 'test', '--model', f'{done}/fold1/b*.hdf5')[0] == 0
    assert len(list(Path('predicted/fold1').glob('*.png'))) == 3


def test_colours_of_classes_are_camvids():
    assert len(CAMVID.scored) == 11  # what the counts by hand rely on
