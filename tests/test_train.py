"""What a training keeps, when it stops, and what it learns in which order."""

import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from datapre import sample_index
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
    guard = train.Guard(Settings(), None, tmp_path, 3)
    guard.on_epoch_end(0, {'val_loss': 1.0})
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
        train.State(tmp_path / 'state.npz', None).load(model)
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
    assert state.load(model) == 1
    assert again.best == 0.5 and state.history['val_loss'] == [0.5]
