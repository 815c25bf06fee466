"""A run that ends with its time: the clock, the plan, what a resumed run has left."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from PIL import Image

import seg
from main import PRESETS, main
from seg import budget, plan
from seg.runs import find_run, read_progress
from seg.settings import Settings, read_settings
from seg.sources import load

pytestmark = pytest.mark.usefixtures('shallow')


class Clock:
    """time.monotonic and time.perf_counter of a machine whose work takes `slower` times as long
    from half of the budget on."""

    def __init__(self, total, slower):
        self.now, self.total, self.slower = 0.0, total, slower

    def work(self, seconds):
        self.now += seconds * (self.slower if self.now > self.total / 2 else 1)


def simulate(clock, minutes, step, picture, images, after, start):
    """(Budget, rates, steps of each epoch) of a training as Keras' fit calls it, on that clock."""
    patch = pytest.MonkeyPatch()
    patch.setattr(budget.time, 'monotonic', lambda: clock.now)
    patch.setattr(budget.time, 'perf_counter', lambda: clock.now)
    patch.setattr(seg, 'started', 0.0, raising=False)
    settings = Settings(minutes=minutes, epochs=12, schedule='cosine', learning_rate=1.0)
    b = budget.Budget(settings, images, after)
    model = keras.Model()
    model.stop_training, model.optimizer = False, SimpleNamespace(learning_rate=None)
    b.set_model(model)
    b.step = {model: step}
    try:
        clock.work(start)
        b.begin, b.validation = clock.now, picture * images
        b.plan_epochs(picture)
        rates, steps = [], []
        for epoch in range(settings.epochs):
            b.on_epoch_begin(epoch)
            for batch in range(10**6):
                b.on_train_batch_begin(batch)
                rates.append(model.optimizer.learning_rate)
                clock.work(step)
                b.on_train_batch_end(batch)
                if model.stop_training:
                    break
            steps.append(batch + 1)
            clock.work(picture * b.chosen)
            b.on_epoch_end(epoch)
            # one that has ended, however early, has nothing left to resume
            assert (b.state()['epochs'] <= epoch + 1) == model.stop_training
            if model.stop_training:
                break
        clock.work(1.2 * picture * after + 1.5)
        return b, rates, steps
    finally:
        patch.undo()


@how(max_examples=40, deadline=None)
@given(st.floats(2, 40), st.floats(0.02, 1), st.floats(0.002, 0.2), st.integers(1, 300), st.data())
def test_a_run_ends_with_its_time(minutes, step, picture, images, data):
    total = 60 * minutes
    after = data.draw(st.integers(0, int(0.08 * total / picture)))
    clock = Clock(total, 1)
    _, rates, steps = simulate(clock, minutes, step, picture, images, after, 25)
    assert abs(clock.now - total) < 0.05 * total + step
    assert len(steps) >= 3 and max(rates) == pytest.approx(1, abs=0.1)
    last = rates[len(rates) // 4 :]
    assert last == sorted(last, reverse=True)
    assert last[-1] < 0.01 + 3 / len(rates)  # the cosine has ended


@how(max_examples=40, deadline=None)
@given(st.floats(3, 40), st.floats(0.02, 0.5), st.floats(0.002, 0.05), st.floats(1, 2.5))
def test_it_does_so_on_a_machine_that_slows_down(minutes, step, picture, slower):
    clock = Clock(60 * minutes, slower)
    _, rates, _ = simulate(clock, minutes, step, picture, 50, 50, 25)
    assert abs(clock.now - 60 * minutes) < 0.1 * 60 * minutes
    assert rates[-1] < 0.01 + 3 / len(rates)


def test_of_many_pictures_some_are_validated():
    b, _, steps = simulate(Clock(180, 1), 3, 0.1, 0.05, 5000, 0, 25)
    assert b.chosen < 200 and len(steps) == b.epochs
    b, _, _ = simulate(Clock(180, 1), 3, 0.1, 0.05, 20, 0, 25)
    assert b.chosen == 20


SMALL = '--filters 2 --encoder none --stride 2 --size 48x64 --augment flip --no-bfloat16'.split()


@pytest.fixture(scope='module')
def timed(drawn, tmp_path_factory):
    """The folder in which `main.py FOLDER --minutes 0.5` has run, stopped after its first epoch and
    resumed, and the two outputs."""
    from seg import train

    folder, patch = tmp_path_factory.mktemp('timed'), pytest.MonkeyPatch()
    patch.chdir(folder)

    class Stop(train.State):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    patch.setattr(train, 'State', Stop)
    assert main([str(drawn), '--minutes', '0.5', *SMALL]) == 130
    patch.undo()
    patch.chdir(folder)
    yield folder
    patch.undo()


def test_a_folder_is_planned_and_resumed_within_its_time(timed, drawn, capsys):
    run = find_run('log')
    before = read_progress(run)['clock']
    assert before['epochs'] >= 3 and 0 < before['used'] < 30
    rows = json.loads((run / 'plan.json').read_text())['plan']
    assert {'network', 'input', 'batch', 'augment', 'steps'} <= {row[0] for row in rows}
    assert main(['--resume']) == 0
    after = read_progress(run)['clock']
    assert before['used'] < after['used'] < 30 * 1.5  # graphs are built twice, beside other tests
    assert after['begin'] == before['begin'] and after['steps'] > before['steps']
    out = capsys.readouterr().out
    assert 'Plan for 0.5 minutes' in out and 'python main.py predict' in out
    page = (run / 'report.html').read_text()
    assert all(word in page for row in rows for word in row[:2])
    rates = read_progress(run)['history']['learning_rate']
    assert rates[-1] < 0.05 * PRESETS['auto']['learning_rate']


def test_config_repeats_the_plan(timed, drawn, capsys):
    run = find_run('log')
    first = read_settings(run / 'settings.json')
    assert first['preset'] == 'auto' and first['minutes'] == 0.5
    assert main(['train', '--config', str(run / 'settings.json'), '--minutes', '0.2']) == 0
    again = find_run('log')
    assert again != run
    assert read_settings(again / 'settings.json') == first | {'minutes': 0.2}
    assert main(['--resume', str(again)]) == 0 and 'has finished' in capsys.readouterr().out


def test_a_timed_run_ends_with_its_time_for_good(timed, drawn, capsys):
    run, *_ = runs = sorted(Path('log').iterdir())
    if read_progress(run)['epoch'] < 2:
        assert main(['--resume', str(run)]) == 0
    before = read_progress(run)
    assert main(['--resume', str(run)]) == 0 and 'has finished' in capsys.readouterr().out
    assert read_progress(run) == before
    assert main(['--resume', str(run), '--epochs', '50']) == 2
    assert '--epochs changes nothing: it ends after its 0.5 minutes' in capsys.readouterr().err
    assert main(['train', str(drawn), '--minutes', '0.3', '--folds', '2', *SMALL]) == 2
    assert '--minutes 0.3: expected 0.4 or more for 2 folds' in capsys.readouterr().err
    assert sorted(Path('log').iterdir()) == runs


def test_minutes_or_steps(capsys):
    assert main(['train', '--minutes', '1', '--steps', '3']) == 2
    assert '--minutes and --steps' in capsys.readouterr().err


def pictures(folder, n, colours, upright, size=(64, 96)):
    """n pictures and labels of two classes, the second a disc; upright: always in the lower half.
    The DataSet of them."""
    rng, (h, w) = np.random.default_rng(0), size
    rows, columns = np.indices(size)
    for i in range(n):
        y, x = rng.integers(h * 5 // 8 if upright else h // 8, h * 7 // 8), rng.integers(8, w - 8)
        label = np.hypot(rows - y, columns - x) < h // 8
        bright = 100 * (label[..., None] if colours == 3 else label)
        picture = rng.integers(0, 99, (*size, 3) if colours == 3 else size) + bright
        for part, pixels in ('images', picture), ('labels', label):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f'{i:02}.png')
    return load(Settings(data=str(folder)))


@pytest.mark.parametrize('upright', [True, False])
def test_streets_have_an_upper_end_and_cells_have_none(tmp_path, upright):
    data = pictures(tmp_path, 40, 3, upright)
    assert plan.has_up(data) == upright


AUTO = Settings(**PRESETS['auto'] | {'preset': 'auto'})


def planned(monkeypatch, data, given=(), faster=1.0, half=0.5, **settings):
    monkeypatch.setattr(plan, 'speed', lambda kind: (half if kind == 'bfloat16' else 1) / faster)
    return plan.plan(replace(AUTO, **settings), given, data)


def test_the_plan_follows_data_time_and_machine(tmp_path, monkeypatch):
    upright = pictures(tmp_path / 'upright', 40, 3, True)
    lying = pictures(tmp_path / 'lying', 20, 3, False, (320, 352))
    grey = pictures(tmp_path / 'grey', 40, 1, False)
    s, data, rows = planned(monkeypatch, upright)
    assert s.encoder == 'efficientnet-lite0' and s.stride == 1 and s.bfloat16
    assert s.size is s.crop is None and data.rule == upright.rule and 'vflip' not in s.augment
    assert all(len(row) == 3 for row in rows)
    s, *_ = planned(monkeypatch, grey, half=0.9)
    assert s.encoder == 'none' and s.stride == 2 and 'vflip' in s.augment and not s.bfloat16
    s, data, _ = planned(monkeypatch, upright, faster=0.026)
    assert s.size == (data.rule.height, data.rule.width) and s.size[0] < 64 and s.crop is None
    s, data, _ = planned(monkeypatch, upright, faster=0.045)
    assert s.size is None and s.grow == plan.GROW and data.rule == upright.rule
    s, *_ = planned(monkeypatch, upright, {'size'}, faster=0.045, size=(48, 64))
    assert s.size == (48, 64) and not s.grow
    s, *_ = planned(monkeypatch, lying, faster=0.045)
    assert not s.grow
    s, data, _ = planned(monkeypatch, lying, faster=0.04)
    assert s.size is None and data.rule.kind == 'tile' and data.rule.height == 256
    s, data, _ = planned(monkeypatch, upright, faster=0.02)  # time for few steps
    assert s.encoder == 'none' and s.stride == 2
    s, *_ = planned(monkeypatch, upright, faster=50)
    assert s.batch_size == 4
    said = {'encoder': 'none', 'size': (32, 48), 'batch_size': 3}
    s, *_ = planned(monkeypatch, upright, said, faster=0.04, **said)
    assert (s.encoder, s.size, s.batch_size, s.crop) == ('none', (32, 48), 3, None)


def test_the_speed_of_the_machine_is_a_number():
    assert all(0 < plan.speed(kind) < math.inf for kind in ('float32', 'bfloat16'))


def test_folds_share_the_time(tmp_path, monkeypatch):
    from seg import folds

    for name in ('publish', 'check_place', '_score'):
        monkeypatch.setattr(folds, name, lambda *_: None)
    monkeypatch.setattr(folds, 'read_progress', lambda _: {'best': 1.0})
    monkeypatch.setattr(budget.time, 'monotonic', lambda: 77.0)
    monkeypatch.setattr(seg, 'started', 0.0, raising=False)
    minutes, begun = [], []

    def one(settings, data, run):
        minutes.append(settings.minutes)
        begun.append(seg.started)
        (run / 'best.hdf5').touch()
        if len(minutes) == 2:
            raise KeyboardInterrupt

    data = SimpleNamespace(splits={}, classes=(), in_fold=lambda i: None)
    settings = Settings(minutes=12.0, folds=4, log=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        folds.in_folds(settings, data, None, one)
    (run,) = tmp_path.iterdir()
    folds.in_folds(settings, data, run, one)
    folds.in_folds(read_fold(run, 4), data, run / 'fold4', one)  # is done
    assert minutes == [3.0] * 5  # the second one twice
    assert begun == [0.0, 77.0, 77.0, 77.0, 77.0]


def read_fold(run, i):
    return Settings(**read_settings(run / f'fold{i}/settings.json'))
