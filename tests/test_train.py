"""What a training keeps, when it stops, and what it learns in which order."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from datapre import sample_index
from seg import guard as guards
from seg import modelfile, runs, train
from seg.files import InputError
from seg.settings import Settings


@pytest.mark.parametrize('monitor, kept', [('val_loss', [2, 1]), ('val_miou', [2, 3])])
def test_the_best_epoch_is_of_the_lowest_loss_or_the_highest_miou(tmp_path, monitor, kept):
    saved, value = [], 0
    best = train.Best(None, tmp_path, Settings(monitor=monitor))
    best.save = lambda path: saved.append(value)
    best.set_model(keras.Sequential([keras.Input((1,))]))
    for epoch, value in enumerate((2, 3, 1)):
        best.on_epoch_end(epoch, {monitor: value})
    assert saved == kept


@pytest.mark.parametrize('loss', [float('nan'), float('inf')])
def test_a_validation_loss_that_is_no_number_stops(tmp_path, loss):
    guard = guards.Guard(Settings(), None, tmp_path, 3)
    guard.validation = SimpleNamespace(counts=np.eye(2))
    guard.on_epoch_end(0, {'val_loss': 1.0, 'val_miou': 1.0, 'loss': 1.0})
    with pytest.raises(InputError, match='validation loss is (nan|inf) after epoch 2'):
        guard.on_epoch_end(1, {'val_loss': loss})


def test_the_cosine_ends_with_the_run():
    """Loshchilov and Hutter, "SGDR", ICLR 2017: half of the rate half-way, 0 at the end."""
    settings = Settings(schedule='cosine', learning_rate=0.5, steps=50, epochs=8)
    rate = [float(train.learning_rate(settings)(step)) for step in range(401)]
    assert rate[0] == pytest.approx(0.05) and rate[20] == max(rate) == pytest.approx(0.5)
    assert rate[210] == pytest.approx(0.25) and rate[400] == pytest.approx(0, abs=1e-7)
    assert train.learning_rate(Settings(learning_rate=0.5)) == 0.5


def test_each_seed_has_its_own_order_of_each_pass():
    orders = {
        tuple(sample_index(k, 20, seed) for k in range(first, first + 20))
        for seed in (1, 2)
        for first in (0, 20)
    }
    assert len(orders) == 4 and all(sorted(order) == [*range(20)] for order in orders)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path('evil'),)


def test_no_state_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile('sgd', 'mse')
    model.optimizer.build(model.trainable_variables)
    evil, count = np.array([Evil()], object), len(model.weights + model.optimizer.variables)
    np.savez('state.npz', progress=evil)
    with pytest.raises(InputError):
        runs.read_progress(tmp_path)
    values = {f'v{i}': evil for i in range(count)}
    np.savez('state.npz', progress='{"epoch": 0, "best": null, "history": {}}', **values)
    assert runs.read_progress(tmp_path)['epoch'] == 0
    with pytest.raises(InputError):
        train.State(tmp_path / 'state.npz', None).load(model, tmp_path / 'state.npz')
    assert not Path('evil').exists()
    pickle.loads(pickle.dumps(Evil()))  # it would have
    assert Path('evil').exists()


def test_models_are_opened_in_keras_safe_mode(tmp_path, monkeypatch):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)]).save(tmp_path / 'm.keras')
    asked, load = [], keras.models.load_model

    def note(path, **how):
        asked.append(how)
        return load(path, **how)

    monkeypatch.setattr(keras.models, 'load_model', note)
    modelfile.load_model(tmp_path / 'm.keras')
    assert asked and all(how['safe_mode'] is True and how['compile'] is False for how in asked)


def test_a_resumed_run_remembers_its_best(tmp_path):
    def begin():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile('sgd', 'mse')
        model.optimizer.build(model.trainable_variables)
        best = train.Best(None, tmp_path, Settings())
        state = train.State(tmp_path / 'state.npz', best)
        state.set_model(model)
        return model, best, state

    _, best, state = begin()
    best.best = 0.5
    state.on_epoch_end(0, {'loss': 1.0, 'val_loss': 0.5})
    (tmp_path / 'best.hdf5').touch()
    model, again, state = begin()
    assert state.load(model, state.path) == 1
    assert again.best == 0.5 and state.history['val_loss'] == [0.5]


def guarded(tmp_path, values, total=12, minute=60, **settings):
    """(Guard, epoch at which it ends the training or None) of these val mIoUs, a minute each."""
    from seg import metrics

    how = dict(monitor='val_miou', epochs=total, patience=0.34) | settings
    guard, now = guards.Guard(Settings(**how), None, tmp_path, 3), 0.0
    counts = np.diag([900, 100])
    guard.validation, guard.history = SimpleNamespace(counts=counts), {}
    guard.set_model(SimpleNamespace(stop_training=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, 'hopeless', lambda *_: '')
        for epoch, value in enumerate(values):
            patch.setattr(guards.time, 'monotonic', lambda now=now: now)
            now += minute
            logs = {'val_loss': 1 - value, 'val_miou': value, 'loss': 1.0}
            guard.on_epoch_end(epoch, logs)
            for name, x in logs.items():
                guard.history.setdefault(name, []).append(x)
            if guard.model.stop_training:
                guard.on_train_end()
                return epoch + 1
    return None


def test_a_training_that_wins_nothing_more_ends(tmp_path, capsys):
    flat = [0.3, 0.5, 0.6] + 9 * [0.6002]
    assert guarded(tmp_path, flat) == 8  # five epochs after the third
    assert 'after epoch 8 of 12' in capsys.readouterr().out
    assert guarded(tmp_path, flat, monitor='val_loss') == 8
    assert guarded(tmp_path, flat, schedule='cosine') == 8
    assert guarded(tmp_path, flat, schedule='cosine', total=20) is None  # before two thirds
    assert guarded(tmp_path, flat, patience=0.0) is None
    assert guarded(tmp_path, flat, patience=0.6) == 11
    assert guarded(tmp_path, flat, minute=6) is None  # nobody gains by it
    assert guarded(tmp_path, [0.05 * i for i in range(12)]) is None


def test_a_training_that_can_reach_nothing_ends():
    from seg.metrics import hopeless, scores

    one = np.array([[900, 0], [100, 0]])  # all painted as the first class
    stuck = [scores(one)['miou']] * 9
    assert 'learning rate' in hopeless(one, stuck, [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert not hopeless(one, stuck, [1.0] * 5)  # too early to say
    assert not hopeless(one, stuck, [1.0 - 0.01 * i for i in range(9)])  # it still learns
    assert not hopeless(one, [0.8] * 9, [1.0] * 9)
    assert hopeless(one, [0.1] * 9, [1.0] * 9)
