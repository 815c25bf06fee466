"""Several devices learn what one learns; several processes begin and end together."""

import json
import os
import socket
import threading
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import model
from datapre import Stream, read_pairs
from main import main
from seg import devices, hosts
from seg.check import load_fit
from seg.classes import CAMVID
from seg.files import InputError
from seg.losses import LOSSES, compile_model, make_loss
from seg.runs import find_run, read_progress
from seg.settings import Settings
from seg.speed import make_optimizer, quicken

pytestmark = pytest.mark.usefixtures('shallow')

N = len(CAMVID)


@pytest.fixture(scope='module')
def two():
    """TensorFlow's strategy of the two parts of the processor that conftest.py has made."""
    place, _ = devices.place(Settings(devices=2))
    return place


def uneven(rng, n=4, side=8):
    """n pictures and one-hots, of which the second half is void but for a few pixels."""
    label = rng.integers(0, 11, (n, side, side))
    label[n // 2 :, 1:] = 11
    label[0, 0, :2] = 255
    one_hot = (label[..., None] == np.arange(N)).astype('float32')
    return rng.random((n, side, side, 3), np.float32), one_hot


def test_a_loss_that_devices_share_is_that_of_the_whole_batch(two):
    x, y = uneven(np.random.default_rng(0))
    start = np.random.default_rng(1).normal(size=(3, 3, 3, N)).astype('float32')
    with two.scope():
        kernel = tf.Variable(start)
    one = tf.Variable(start)

    def value_and_slope(variable, loss, x, y):
        with tf.GradientTape() as tape:
            value = loss(y, tf.nn.conv2d(x, variable, 1, 'SAME'))
        return value, tape.gradient(value, variable)

    def half(array):
        parts = iter(np.split(array, 2))
        return two.engine.experimental_distribute_values_from_function(
            lambda context: tf.constant(next(parts))
        )

    for name in LOSSES:
        loss = make_loss(name, CAMVID, N, 'softmax', np.linspace(0.5, 2, N))
        expected = value_and_slope(one, loss, x, y)
        found = two.engine.run(value_and_slope, (kernel, loss, half(x), half(y)))
        for a, b in zip(expected, found):  # Keras sums gradients over devices
            np.testing.assert_allclose(a, two.engine.reduce('SUM', b, None), rtol=2e-4, atol=1e-6)


def small(pretrained_weights, input_size, num_class, **options):
    """A network that is built in no time."""
    h = i = keras.Input(input_size)
    for name in 'abc':
        h = layers.Conv2D(4, 3, padding='same', use_bias=False, name=name)(h)
        h = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(h))
    h = layers.Activation('softmax', dtype='float32')(layers.Conv2D(num_class, 1)(h))
    return quicken(keras.Model(i, h))


@pytest.mark.parametrize('optimizer', ['adam', 'muon'])
def test_devices_learn_what_one_learns_batch_norm_too(two, optimizer):
    x, y = uneven(np.random.default_rng(2))
    batches = tf.data.Dataset.from_tensors((x, y)).repeat()
    settings = Settings(optimizer=optimizer, weight_decay=0.1)
    results = []
    for place in (devices.ALONE, two):
        keras.utils.set_random_seed(0)
        with place.scope():
            net = small(None, (8, 8, 3), N)
            net = keras.Model(net.inputs, net.layers[-1].input)
            rate = keras.optimizers.schedules.CosineDecay(0.05, 8)
            optimizer = make_optimizer(net, settings, rate)
            optimizer.shares = [1, 0.5] * len(net.trainable_variables)
            compile_model(net, CAMVID, optimizer, 'crossentropy+dice', activation='softmax')
        history = net.fit(batches, epochs=4, steps_per_epoch=1, verbose=0).history
        results.append([*history.values(), *net.get_weights()])
    assert results[0][0][0] > results[0][0][-1]
    for one, several in zip(*results):
        np.testing.assert_allclose(one, several, rtol=1e-3, atol=2e-5)


def test_a_run_goes_on_with_another_number_of_devices(drawn, here, capsys, monkeypatch):
    """Two epochs on one device; one on two, the next on one again."""
    monkeypatch.setattr(model, 'unet', small)
    flags = f'train --data {drawn} --steps 3 --batch-size 4 --ema 0.9 --optimizer muon'.split()
    flags += ['--learning-rate', '0.01', '--schedule', 'constant']
    assert main([*flags, '--epochs', '2', '--log', 'one']) == 0
    assert main([*flags, '--epochs', '1', '--devices', '2']) == 0
    assert 'Batches of 4 are shared among 2 devices' in capsys.readouterr().out
    assert main(['train', '--resume', '--epochs', '2', '--devices', '1']) == 0
    one, two = (read_progress(find_run(log))['history'] for log in ('one', 'log'))
    for name in ('loss', 'val_loss'):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3)
    assert len({*one['loss']}) == 2
    keras.models.load_model('camvid.hdf5')


def test_processes_share_the_samples_of_a_batch(drawn, monkeypatch):
    settings = Settings(data=str(drawn), batch_size=4, augment='flip,brightness')
    pairs, _ = read_pairs(load_fit(settings))
    stream, parts = Stream(pairs, settings, N), []
    whole = next(iter(stream.batches(8)))
    for rank in (0, 1):
        monkeypatch.setattr(hosts, 'joined', hosts.Hosts(['a', 'b'], rank))
        parts.append(next(iter(stream.batches(8))))
    for array, *halves in zip(whole, *parts):
        for rank, part in enumerate(halves):
            np.testing.assert_array_equal(array[rank::2], part)


@pytest.mark.parametrize(
    'settings, wanted',
    [
        (dict(devices=3, batch_size=6), '--devices 3: expected 1 to 2, found 2'),
        (dict(devices=2, batch_size=5), '--batch-size 5: expected a multiple of 2'),
    ],
)
def test_devices_that_are_not_there_and_batches_that_they_can_not_share(settings, wanted):
    with pytest.raises(InputError, match=wanted):
        devices.place(Settings(**settings))


@pytest.mark.parametrize(
    'name, capability, said, half, line',
    [
        ('A100', (8, 0), None, True, 'A100 in bfloat16, --no-bfloat16: float32, by XLA'),
        ('A100', (8, 0), False, False, 'A100 in float32, multiplied as TF32, by XLA'),
        ('V100', (7, 0), None, False, 'V100 in float32, by XLA'),
        ('V100', (7, 0), True, True, 'V100 in bfloat16, by XLA'),
    ],
)
def test_a_gpu_says_in_what_it_multiplies(monkeypatch, capsys, name, capability, said, half, line):
    found = 'GPU', ['GPU:0', 'GPU:1'], name, capability
    monkeypatch.setattr(devices, '_of_tensorflow', lambda: found)
    place, settings = devices.place(Settings(bfloat16=said))
    assert settings.bfloat16 is half and place.count == 1
    assert capsys.readouterr().out.splitlines() == [
        f'Trains on 1 x {line}',
        '2 GPUs are here: --devices 2 shares each batch among them',
    ]
    assert devices.bfloat16_is_fast() is (capability >= (8, 0))
    assert devices.place(replace(settings, bfloat16=None))[1].bfloat16 is (capability >= (8, 0))


def test_without_a_gpu_nothing_is_said_or_changed(capsys):
    place, settings = devices.place(Settings())
    assert (place.count, settings.bfloat16, capsys.readouterr().out) == (1, False, '')
    assert devices.bfloat16_is_fast() is None


# ---------------------------------------------------------------------------- several machines


@pytest.mark.parametrize(
    'backend, flags, wanted',
    [
        ('tensorflow', dict(hosts='a,b'), 'tensorflow trains on one machine'),
        ('jax', dict(hosts='a'), 'two machines or more'),
        ('jax', dict(hosts='a,b c'), 'two machines or more'),
        ('jax', dict(hosts='127.0.0.1:1,127.0.0.1', process=2), '--process 2 of 2: expected'),
        ('jax', dict(hosts='127.0.0.1:1,127.0.0.1'), 'say --process 0 on the first'),
        ('jax', dict(process=1), 'expected --hosts beside it'),
    ],
)
def test_hosts_that_can_not_be(monkeypatch, backend, flags, wanted):
    monkeypatch.setenv('KERAS_BACKEND', backend)
    monkeypatch.setattr(hosts.importlib.util, 'find_spec', lambda name: name)
    with pytest.raises(InputError, match=wanted):
        hosts.find(flags)


def test_jax_is_not_installed(monkeypatch):
    monkeypatch.setenv('KERAS_BACKEND', 'jax')
    monkeypatch.setattr(hosts.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='pip install jax'):
        hosts.find(dict(hosts='a,b'))


def test_a_machine_knows_itself_and_the_environment_names_them_too(monkeypatch):
    monkeypatch.setenv('KERAS_BACKEND', 'jax')
    monkeypatch.setattr(hosts.importlib.util, 'find_spec', lambda name: name)
    flags = dict(hosts='192.0.2.1:5000, 127.0.0.1', epochs=3)  # the first is nobody's, RFC 5737
    found = hosts.find(flags)
    assert (found.rank, found.count, found.host, found.port) == (1, 2, '192.0.2.1', 5000)
    assert flags == {'epochs': 3} and hosts.find({}) is None
    for name, value in dict(JOB_ADDRESSES='h:77', NUM_PROCESSES='3', PROCESS_ID='2').items():
        monkeypatch.setenv(f'KERAS_DISTRIBUTION_{name}', value)
    found = hosts.find({})
    assert (found.rank, found.count, found.host, found.port) == (2, 3, 'h', 77)


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def test_processes_meet_and_strangers_are_shown_the_door(monkeypatch, capsys):
    names, said, heard = [f'127.0.0.1:{free_port()}', '127.0.0.1', '127.0.0.1'], ['log/é', 1], []
    monkeypatch.setattr(hosts, 'WAIT', 20)
    first, *others = (hosts.Hosts(names, rank) for rank in range(3))
    end = hosts.time.monotonic() + 20
    waiting = threading.Thread(target=first._welcome, args=(said, end))
    waiting.start()
    while True:
        try:
            stranger = socket.create_connection(('127.0.0.1', first.port), 5)
            break
        except OSError:
            pass
    stranger.sendall(b'GET / HTTP/1.1\n')
    assert stranger.makefile('rb').read() == b''
    with pytest.raises(InputError, match='does not take this one'):
        hosts.Hosts(names[:2], 1)._knock(end)  # it names two machines
    calls = [threading.Thread(target=lambda o=o: heard.append(o._knock(end))) for o in others]
    for thread in calls:
        thread.start()
    for thread in (*calls, waiting):
        thread.join(20)
    assert heard == [said, said] and {*first.peers} == {1, 2}

    ended = []  # one says that it is done, the other is killed
    monkeypatch.setattr(os, '_exit', ended.append)
    others[0].peers[0][0].sendall(b'done\n')
    first._watch(1, first.peers[1][1])
    assert not ended
    others[1].peers[0][1].close()
    others[1].peers[0][0].close()
    first._watch(2, first.peers[2][1])
    assert ended == [2]
    assert 'process 2 (127.0.0.1) has ended' in capsys.readouterr().err


def test_a_machine_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(hosts, 'WAIT', 0)
    names = [f'127.0.0.1:{free_port()}', 'gpu2']
    with pytest.raises(InputError, match=r'process 1 \(gpu2\) has not come in 0 seconds'):
        hosts.Hosts(names, 0)._welcome([], 0)
    with pytest.raises(InputError, match='does not answer in 0 seconds'):
        hosts.Hosts(names, 1)._knock(0)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        names[0] = f'127.0.0.1:{taken.getsockname()[1]}'
        with pytest.raises(InputError, match='cannot be listened at'):
            hosts.Hosts(names, 0)._welcome([], 0)


def test_other_data_than_process_0_has(monkeypatch):
    monkeypatch.setattr(hosts, 'told', lambda data: json.dumps('theirs').encode())
    with pytest.raises(InputError, match='expected what process 0 has'):
        hosts.same('data', 'ours')
    hosts.same('data', 'theirs')
