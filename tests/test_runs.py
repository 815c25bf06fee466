"""Runs: what one owns, what it was begun with, going on with it; nothing replaced but our own."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from labelled import touch
from PIL import Image
from test_main import ROOT, TINY, refused, run

import main as program
from model import load_model, save_model
from seg import runs, train
from seg.files import InputError, locked
from seg.scenes import draw_camvid
from seg.settings import Settings

pytestmark = pytest.mark.usefixtures('shallow', 'here')


@pytest.fixture(scope='module')
def once(drawn, tmp_path_factory):
    """A folder in which a run of one epoch was done on data/, a copy of the drawn scenes."""
    folder = tmp_path_factory.mktemp('once')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(drawn, 'data')
        assert program.main(['--data', 'data', *TINY]) == 0
    return folder


@pytest.fixture
def done(once, here):
    """A copy of it, in which the test is; the run's folder."""
    shutil.copytree(once, here, dirs_exist_ok=True)
    (folder,) = Path('log').iterdir()
    return folder


def held(*folders):
    """{file: content} of all files."""
    files = [p for folder in folders for p in Path(folder).rglob('*')]
    return {p: p.read_bytes() for p in files if p.is_file()}


# ---------------------------------------------------------------------------- the data of a run


@dataclass
class Data:
    splits: dict
    classes: object = ('sky', 'road')


def test_data_that_changed_are_named(tmp_path):
    files = [Path(f'{i}.png') for i in range(20)]
    for file in files:
        file.write_bytes(file.name.encode() * 100_000)
    train, val = [(p, files[-1]) for p in files[:9]], [(p, files[-1]) for p in files[9:12]]
    runs.check_data(tmp_path, Data({'train': train, 'val': val, 'test': []}))
    runs.check_data(tmp_path, Data({'train': train, 'val': val, 'test': [(files[15], None)]}))
    late = files[0].stat()
    os.utime(files[0], (late.st_atime, late.st_mtime + 100))  # copied, not changed
    runs.check_data(tmp_path, Data({'train': train, 'val': val}))

    for place in (0, 499_999):  # of the same size
        content = bytearray(b'3.png' * 100_000)
        content[place] ^= 1
        files[3].write_bytes(content)
        with pytest.raises(InputError, match=r'it was begun \(changed: 3.png\); .*--changed-data'):
            runs.check_data(tmp_path, Data({'train': train, 'val': val}))
    new = [(p, files[-1]) for p in files[12:19]]
    more = Data({'train': [*train, val[0], *new], 'val': val[2:]})
    with pytest.raises(InputError) as e:
        runs.check_data(tmp_path, more)
    line = str(e.value)
    assert 'new: 12.png, 13.png, 14.png, 15.png, 16.png and 2 more' in line
    assert 'gone: 10.png' in line and 'in another split: 9.png' in line and 'changed: 3.p' in line
    other = Data({'train': train, 'val': val}, ('road', 'sky'))
    with pytest.raises(InputError, match='changed: 3.png, the class table'):
        runs.check_data(tmp_path, other)
    runs.check_data(tmp_path, more, changed=True)
    runs.check_data(tmp_path, more)  # what was said once holds from then on


def test_going_on_after_the_data_changed(done, capsys):
    label = Path('data/trainannot/train_0003.png')
    pixels = np.array(Image.open(label))
    pixels[:9] = 0
    Image.fromarray(pixels).save(label)
    before = held(done, '.')
    line = refused(capsys, '--resume')
    assert str(label) in line and 'train_0002' not in line and '--changed-data' in line
    assert {p: c for p, c in held(done, '.').items() if p.name != 'lock'} == {
        p: c for p, c in before.items() if p.name != 'lock'
    }
    status, out, _ = run(capsys, 'train', '--resume', '--changed-data', '--epochs', '2')
    assert status == 0 and f'goes on with other data (changed: {label})' in out
    Path('data/train/train_0000.png').unlink(), Path('data/trainannot/train_0000.png').unlink()
    line = refused(capsys, 'train', '--resume', '--epochs', '3')  # it held for that change alone
    assert 'gone: ' in line and 'train_0000' in line and str(label) not in line


# ---------------------------------------------------------------------------- two at once


def test_a_run_that_is_training_is_left_alone(done, capsys):
    before = held(done)
    with locked(done, ''):
        line = refused(capsys, 'train', '--resume')
        assert str(done) in line and 'training in it' in line and held(done) == before
        status, out, _ = run(capsys, 'train', '--data', 'data', *TINY)
        notes = [line for line in out.splitlines() if 'trains too' in line]
        assert status == 0 and len(notes) == 1  # both want camvid.hdf5
        assert str(done) in notes[0] and 'camvid.hdf5' in notes[0] and '--model' in notes[0]
        _, out, _ = run(capsys, 'train', '--data', 'data', *TINY, '--model', 'other.hdf5')
        assert 'trains too' not in out
    assert run(capsys, 'train', '--resume', done)[0] == 0
    assert 'trains too' not in run(capsys, 'train', '--data', 'data', *TINY)[1]


def test_a_run_that_trains_can_not_be_resumed_until_it_ends_or_is_killed(drawn, here, capsys):
    flags = ['train', '--data', drawn, '--filters', '2', '--steps', '2', '--epochs', '1000']
    program = [sys.executable, ROOT / 'tests/shallow.py', *flags]
    other = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    while not list(here.glob('log/*/state.npz')) and other.poll() is None:
        time.sleep(0.05)
    (folder,) = Path('log').iterdir()
    assert 'training in it' in refused(capsys, 'train', '--resume', folder)
    other.kill(), other.wait()
    settings = json.loads((folder / 'settings.json').read_text())
    settings['settings']['epochs'] = 1
    (folder / 'settings.json').write_text(json.dumps(settings))
    assert run(capsys, 'train', '--resume', folder)[0] == 0


@pytest.mark.parametrize('grow', ['0', '0.5'])
def test_resume(grow, drawn, here, capsys):
    """Stopped after one epoch of two and resumed: the state of the run that was not stopped."""
    flags = ['train', '--data', drawn, '--filters', '2', '--steps', '2', '--grow', grow, '--epochs']
    assert run(capsys, *flags, '2', '--log', 'whole', '--model', 'whole.hdf5')[0] == 0
    from seg import guard, train

    class Stop(train.State):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise guard.Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, 'State', Stop)
        status, out, _ = run(capsys, *flags, '2', '--log', 'parts', '--model', 'parts.hdf5')
    assert status == 130 and '--resume parts' in out
    assert run(capsys, 'train', '--log', 'parts', '--resume')[0] == 0
    states = [np.load(next(Path(log).glob('*/state.npz'))) for log in ('whole', 'parts')]
    a, b = (json.loads(str(s['progress'])) for s in states)
    assert a['epoch'] == b['epoch'] == 2
    np.testing.assert_allclose(a['history']['val_loss'], b['history']['val_loss'], rtol=1e-4)
    for name in states[0]:
        if name != 'progress':
            np.testing.assert_allclose(states[0][name], states[1][name], atol=1e-4)
    line = refused(capsys, '--log', 'parts', '--resume', '--filters', '4')
    assert 'filters is 2 there and 4 here' in line


def test_a_training_that_does_not_learn_ends_with_the_likely_cause(
    drawn, here, capsys, monkeypatch
):
    monkeypatch.setattr('seg.guard.FEW', 10)
    flags = ['train', '--data', drawn, *TINY, '--epochs', '12', '--learning-rate', '1e-9']
    flags += ['--steps', '2']
    line = refused(capsys, *flags)
    assert 'after epoch 6' in line and 'one class everywhere' in line and 'learning rate' in line


# ---------------------------------------------------------------------------- damaged runs


def test_the_last_run_is_the_last_begun_whatever_the_clock_says(monkeypatch):
    made = []
    for hours in (9, 8, 5):  # a clock set back, twice
        now = time.gmtime(1e9 + 3600 * hours)
        monkeypatch.setattr(time, 'strftime', lambda form, now=now: f'{now.tm_hour:02}')
        made.append(runs.new_run(Settings(), Data({})))
        os.utime(made[-1] / 'settings.json', (1e9 + 3600 * hours,) * 2)
    assert runs.find_run('log') == made[-1]
    assert len({*made}) == 3 and runs.find_run('log', made[0].name) == made[0]
    os.utime(made[1] / 'settings.json')
    (made[2] / 'settings.json').write_text('{"number": []')  # no longer to be told
    assert runs.find_run('log') == made[1]


def damage(state, name):
    with np.load(state) as saved:
        values = dict(saved)
    progress = json.loads(str(values['progress']))
    if name == 'cut':
        return state.write_bytes(state.read_bytes()[:-100])
    if name == 'gone wrong':
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 255
        return state.write_bytes(content)
    if name == 'link':
        return state.unlink(), state.symlink_to('nothing')
    if name == 'folder':
        return state.unlink(), state.mkdir()
    if name == 'pipe':
        return state.unlink(), os.mkfifo(state)
    if name in ('nan', 'shape', 'text'):
        bad = {'nan': values['v0'] * np.nan, 'shape': values['v0'][..., :1], 'text': np.array('x')}
        values['v0'] = bad[name]
    elif name == 'missing':
        del values['v1']
    elif name == 'of a larger network':
        values['v999'] = values['v0']
    else:
        progress |= json.loads(name)
    return np.savez(state, **values | {'progress': np.array(json.dumps(progress))})


FORMS = ['cut', 'gone wrong', 'link', 'folder', 'nan', 'shape', 'text', 'missing']
FORMS += ['of a larger network', '{"epoch": "1"}', '{"epoch": -1}', '{"epoch": 7}']
FORMS += ['{"best": "x"}', '{"best": [1]}', '{"history": 3}', '{"history": {"loss": ["x"]}}']


@pytest.mark.parametrize('name', [*FORMS, 'pipe'] if hasattr(os, 'mkfifo') else FORMS)
def test_a_damaged_state_is_one_line_and_changes_nothing(name, done, capsys):
    damage(done / 'state.npz', name)
    before = held(done, '.')
    line = refused(capsys, '--resume')
    assert 'state.npz: expected the state of this training' in line and 'anew' in line
    assert {p: c for p, c in held(done, '.').items() if p.name != 'lock'} == {
        p: c for p, c in before.items() if p.name != 'lock'
    }


def test_settings_are_not_written_before_the_state_is_read(done, capsys):
    damage(done / 'state.npz', '{"history": 3}')
    before = (done / 'settings.json').read_bytes()
    refused(capsys, 'train', '--resume', '--epochs', '9')
    assert (done / 'settings.json').read_bytes() == before


SETTINGS = ['{', '[]', '"x"', '{"settings": []}', '{"settings": {"nothing": 1}}', '\udcff']
SETTINGS += ['{"settings": {"epochs": "x"}}', '{"settings": {"epochs": NaN}}']
SETTINGS += ['{"settings": {"size": [1, 2, 3]}}', '{"settings": {"aug_dict": [1]}}']


@pytest.mark.parametrize('content', SETTINGS)
def test_damaged_settings_are_one_line(content, done, capsys):
    (done / 'settings.json').write_bytes(content.encode('utf-8', 'surrogateescape'))
    assert 'settings.json: ' in refused(capsys, '--resume')


def test_a_run_whose_state_has_gone_keeps_its_model(done, capsys):
    (done / 'state.npz').unlink()
    best = (done / 'best.hdf5').read_bytes()
    assert run(capsys, 'train', '--resume')[0] == 0
    (kept,) = done.glob('best.2*.hdf5')
    assert kept.read_bytes() == best


# ------------------------------------------------------------- the run's own model, and no other


def no_epoch_improves(patch, by=100):
    patch.setattr(train.Validation, 'on_epoch_end', worse(train.Validation.on_epoch_end, by))


def worse(on_epoch_end, by):
    def end(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        logs['val_loss'] += by * (epoch >= 0)  # -1: before the first

    return end


def test_where_the_copy_has_gone_the_run_scores_its_own(done, capsys, monkeypatch):
    no_epoch_improves(monkeypatch)
    Path('camvid.hdf5').unlink()
    best = (done / 'best.hdf5').read_bytes()
    status, out, _ = run(capsys, '--resume', '--epochs', '2')
    assert status == 0 and program.SHIPPED.name not in out and f'{done}/best.hdf5 on the' in out
    assert (done / 'best.hdf5').read_bytes() == best == Path('camvid.hdf5').read_bytes()
    assert json.loads((done / 'scores.json').read_text())['of'] == f'{done}/best.hdf5'
    assert run(capsys, 'evaluate', '--data', 'data')[0] == 0
    assert json.loads(Path('scores.json').read_text())['of'] == 'camvid.hdf5'


def test_where_its_own_has_gone_the_next_epoch_is_the_best(done, capsys, monkeypatch):
    no_epoch_improves(monkeypatch)
    (done / 'best.hdf5').unlink()
    old = Path('camvid.hdf5').read_bytes()
    line = refused(capsys, '--resume')  # all epochs are done
    assert f'{done}/best.hdf5: it is gone' in line and Path('camvid.hdf5').read_bytes() == old
    status, out, _ = run(capsys, '--resume', '--epochs', '2')
    assert status == 0 and program.SHIPPED.name not in out and (done / 'best.hdf5').exists()


# ---------------------------------------------------------------------------- nothing overwritten


def a_data_file(path):
    with h5py.File(path, 'w') as f:
        f['measured'] = np.arange(9)


def a_network(path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)


MODELS = {
    'text.hdf5': lambda p: p.write_text('mine'),
    'data.h5': a_data_file,
    'net.h5': a_network,
    'net.keras': a_network,
    'folder.h5': Path.mkdir,
    'link.h5': lambda p: p.symlink_to('nothing'),
}


@pytest.mark.parametrize('name', MODELS)
def test_a_model_goes_over_no_file_of_another_kind(name, drawn, capsys):
    MODELS[name](Path(name))
    before, link = held('.'), Path(name).is_symlink()
    line = refused(capsys, 'train', '--data', drawn, *TINY, '--model', name)
    assert name in line and held('.') == before and Path(name).is_symlink() == link
    assert not Path('log').exists()  # before the first epoch


def test_pages_and_scores_go_over_no_other_file_and_it_is_said_first(done, capsys, monkeypatch):
    monkeypatch.setattr('seg.evaluate.load', None)  # nothing is begun
    monkeypatch.setattr('seg.check.load_fit', None)
    for name in ('a.json', 'a.html', 'a.png'):
        Path(name).write_text('mine')
    before = held('.')
    for argv in (
        ['evaluate', '--data', 'data', '--scores', 'a.json'],
        ['evaluate', '--data', 'data', '--report', 'a.html'],
        ['evaluate', '--data', 'data', '--scores', 'no/b.json'],
        ['evaluate', '--data', 'data', '--scores', done / 'settings.json'],
        ['preview', '--data', 'data', '--page', 'a.png'],
        ['preview', '--data', 'data', '--page', 'data/train/train_0000.png'],
        ['preview', '--data', 'data', '--page', 'no/b.png'],
    ):
        line = refused(capsys, *argv)
        assert str(argv[-1]) in line and ('did not write' in line or 'could not' in line)
    assert held('.') == before


FOLDERS = ('data', 'data/train', 'data/trainannot', 'link', 'data/val/../test', 'other')


@pytest.mark.parametrize('output', FOLDERS)
def test_no_masks_into_folders_that_are_read(output, done, capsys):
    os.symlink('data/valannot', 'link')
    touch(Path('other/overlay'), 'theirs.jpg')
    before, tree = held('data', 'other'), sorted(Path('data').rglob('*'))
    photo = touch(Path('photos'), 'photo.jpg') / 'photo.jpg'
    Image.new('RGB', (64, 48)).save(photo)
    fresh, again = ['--data', 'data', *TINY], ['predict', photo]
    for argv in (fresh, again):
        logs = sorted(Path('log').iterdir())
        line = refused(capsys, *argv, '--output', output)
        assert output in line and sorted(Path('log').iterdir()) == logs
    assert held('data', 'other') == before and sorted(Path('data').rglob('*')) == tree


def test_masks_that_serve_as_labels_are_not_painted_over(drawn, capsys):
    """Both folders are the program's own work, and read by a training."""
    from seg.runs import find_run

    assert run(capsys, 'predict', drawn / 'train', '--output', 'own')[0] == 0
    own = ['--images', drawn / 'train', '--labels', 'own', '--val-split', '0.3']
    assert run(capsys, 'train', *own, *TINY)[0] == 0 and find_run('log')
    before = held('own')
    line = refused(capsys, 'predict', drawn / 'train', '--output', 'own')
    assert 'own: pictures are read there' in line and held('own') == before


def test_overlays_that_are_read_are_not_replaced(drawn, capsys):
    assert run(capsys, 'predict', drawn / 'test', '--output', 'p')[0] == 0
    before = held('p')
    for mask in Path('p').glob('*.png'):
        mask.unlink()  # else the masks are another picture's
    for source in (['p/overlay'], sorted(Path('p/overlay').iterdir())):
        assert 'p/overlay: pictures are' in refused(capsys, 'predict', *source, '--output', 'p')
    assert {p: c for p, c in before.items() if 'overlay' in p.parts} == held('p')


def test_masks_in_camvid_that_are_somebodys_stay(drawn, capsys):
    shutil.copytree(drawn, 'CamVid')
    Path('CamVid/testpred').mkdir()
    Path('CamVid/testpred/test_0001.png').write_text('mine')
    status, out, _ = run(capsys, *TINY)
    (folder,) = Path('log').iterdir()
    assert status == 0 and 'Note: no copy of the masks' in out and f'to {folder}/masks/' in out
    assert Path('CamVid/testpred/test_0001.png').read_text() == 'mine'
    assert len(list((folder / 'masks').glob('*.png'))) == 3


# ---------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize('number, full', [(28, True), (5, False)])
def test_scenes_on_a_full_disk(number, full, capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image.Image, 'save', fail)
    line = refused(capsys, 'sample', *TINY)
    assert 'sample: could not be written' in line and ('disk is full' in line) == full
    assert not list(Path('.').iterdir())


@pytest.mark.parametrize(
    'kind, text, full',
    [
        (tf.errors.ResourceExhaustedError, 'log/events; No space left on device', True),
        (tf.errors.ResourceExhaustedError, 'out of memory', False),
        (tf.errors.InternalError, '/No space left/x.png', False),
    ],
)
def test_a_disk_that_fills_during_training(kind, text, full, drawn, capsys, monkeypatch):
    def fail(*_):
        raise kind(None, None, text)

    monkeypatch.setattr(train.Board, 'on_epoch_end', fail)
    argv = ['train', '--data', drawn, *TINY]
    if full:
        assert 'the disk is full' in refused(capsys, *argv)
    else:
        with pytest.raises(kind):
            run(capsys, *argv)


def test_scenes_are_drawn_where_there_is_room():
    draw_camvid('made', 1, 1, 1, (48, 64))
    assert [p.name for p in Path('.').iterdir()] == ['made']


# ---------------------------------------------------------------------------- what one begins with

WEIGHTS = ['--data', 'data', '--steps', '2', '--filters', '2', '--model', 'new.hdf5', '--weights']


def test_it_is_said_where_no_epoch_is_better_than_what_weights_gave(done, capsys, monkeypatch):
    words = [*WEIGHTS, 'camvid.hdf5', '--epochs', '1']
    for by, kind in ((100, 'minutes'), (-100, 'steps')):
        with monkeypatch.context() as patch:
            no_epoch_improves(patch, by)
            how = words if kind == 'steps' else [*words[:2], *words[4:], '--minutes', '0.2']
            status, out, _ = run(capsys, 'train', *how)
        assert status == 0
        assert re.search(r'Before the first epoch: validation: loss \d.*mIoU', out)
        assert ('Note: no epoch was better than camvid.hdf5' in out) == (by > 0)
        assert 'of epoch 1' in out  # an epoch of this training is kept all the same


def test_damaged_weights_do_not_pass_as_a_result(done, capsys):
    model = load_model('camvid.hdf5')
    model.set_weights([w * np.nan for w in model.get_weights()])
    save_model(model, 'nan.hdf5')
    for epochs in '01':
        how = [*WEIGHTS, 'nan.hdf5', '--epochs', epochs, '--monitor', 'val_miou']
        assert 'its weights are damaged' in refused(capsys, 'train', *how)
    assert not Path('new.hdf5').exists()


@pytest.mark.parametrize('ema', ['0', '0.9'])
def test_no_epochs_write_and_score_the_mean_of_models(ema, done, capsys):
    shutil.rmtree('data/testannot')  # then val is scored
    run(capsys, 'train', '--data', 'data', *TINY, '--seed', '2', '--model', 'b.hdf5')
    how = [*WEIGHTS, '*.hdf5', '--monitor', 'val_miou', '--ema', ema]
    status, out, _ = run(capsys, *how, '--epochs', '0')
    assert status == 0 and 'of epoch 0 (val mIoU' in out and 'no epoch was' not in out
    nets = [load_model(file) for file in ('camvid.hdf5', 'b.hdf5')]
    for found, a, b in zip(load_model('new.hdf5').weights, *(net.weights for net in nets)):
        np.testing.assert_allclose(found, (np.array(a) + b) / 2, atol=1e-7)
    folder = newest()
    assert (folder / 'report.html').exists() and not (folder / 'curves.png').exists()
    assert runs.read_progress(folder)['history'] == {}
    best = runs.read_progress(folder)['best']
    _, out, _ = run(capsys, 'evaluate', '--model', 'new.hdf5')
    score = json.loads(Path('scores.json').read_text())['miou']
    assert abs(score - best) < 1e-9, (score, best)

    assert 'has finished 0 epochs' in run(capsys, 'train', '--resume')[1]
    status, out, _ = run(capsys, 'train', '--resume', '--epochs', '1')
    assert status == 0 and len(runs.read_progress(folder)['history']['loss']) == 1


def test_no_epochs_of_what_is_not_the_whole_network_are_refused(done, capsys):
    line = refused(capsys, 'train', '--data', 'data', '--epochs', '0')
    assert '--epochs 0: expected --weights' in line
    line = refused(capsys, 'train', *WEIGHTS, 'camvid.hdf5', '--epochs', '0', '--minutes', '1')
    assert '--epochs 0: expected --weights' in line
    Path('classes.csv').write_text('name,r,g,b\n' + ''.join(f'c{i},{i},0,9\n' for i in range(12)))
    other = [*WEIGHTS, 'camvid.hdf5', '--epochs', '0', '--classes', 'classes.csv']
    assert 'weights of the whole of this' in refused(capsys, 'train', *other)
    assert not Path('new.hdf5').exists()


def newest():
    return runs.find_run('log')
