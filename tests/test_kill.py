"""Trainings killed at random moments: the model file stays whole, resuming ends as if never killed.

SLOW=1 REPEATS=30 python -m pytest tests/test_kill.py
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SHALLOW = Path(__file__).with_name('shallow.py')
FLAGS = [
    'train',
    '--filters',
    '4',
    '--steps',
    '3',
    '--epochs',
    '6',
    '--batch-size',
    '2',
    '--num-class',
    '13',
    '--optimizer',
    'muon',
    '--ema',
    '0.9',
]


def start(folder, *flags):
    return subprocess.Popen(
        [sys.executable, SHALLOW, *flags],
        cwd=folder,
        stdout=open(folder / 'out.log', 'ab'),
        stderr=subprocess.STDOUT,
    )


def final(folder):
    with np.load(next(folder.glob('log/*/state.npz'))) as saved:
        values = {k: saved[k] for k in saved.files if k != 'progress'}
        return json.loads(str(saved['progress'])), values


@pytest.fixture(scope='module')
def uninterrupted(drawn, tmp_path_factory):
    """(final progress and values, seconds from the first model file to the end)."""
    folder = tmp_path_factory.mktemp('whole')
    process = start(folder, *FLAGS, '--data', drawn)
    while not (folder / 'camvid.hdf5').exists() and process.poll() is None:
        time.sleep(0.02)
    begin = time.perf_counter()
    assert process.wait() == 0, (folder / 'out.log').read_text()[-2000:]
    return *final(folder), time.perf_counter() - begin


@pytest.mark.parametrize('repeat', range(int(os.environ.get('REPEATS', 1))))
def test_killed_and_resumed_is_never_killed(uninterrupted, drawn, tmp_path, repeat):
    import keras

    progress, values, seconds = uninterrupted
    rng = random.Random(repeat)
    process = start(tmp_path, *FLAGS, '--data', drawn)
    while (
        not list(tmp_path.glob('log/*/.best.*part*'))
        and not list(tmp_path.glob('log/*/best.hdf5'))
        and process.poll() is None
    ):
        time.sleep(0.002)
    # Every other kill falls into a save; the first is that of the first model file.
    if repeat % 2:
        time.sleep(rng.uniform(0, seconds))
        saves = ('.camvid.*part*', 'log/*/.best.*part*', 'log/*/.state.*part*')
        until = time.perf_counter() + 1
        while (
            process.poll() is None
            and time.perf_counter() < until
            and not any(list(tmp_path.glob(s)) for s in saves)
        ):
            time.sleep(0.001)
    else:
        time.sleep(rng.uniform(0, seconds) * (repeat > 0))
    process.kill()
    process.wait()
    if (tmp_path / 'camvid.hdf5').exists():
        keras.models.load_model(tmp_path / 'camvid.hdf5')
    process = start(tmp_path, 'train', '--resume')
    assert process.wait() == 0, (tmp_path / 'out.log').read_text()[-2000:]
    keras.models.load_model(tmp_path / 'camvid.hdf5')
    resumed, ours = final(tmp_path)
    assert resumed['epoch'] == progress['epoch'] == 6
    assert len(list(tmp_path.glob('log/*'))) == 1
    worst = max(np.abs(values[k].astype(float) - ours[k]).max() for k in values)
    print(f'largest difference {worst:.2g}')
    np.testing.assert_allclose(
        resumed['history']['val_loss'], progress['history']['val_loss'], rtol=1e-3
    )
    assert worst < 1e-3 and np.isclose(resumed['best'], progress['best'], rtol=1e-3)
