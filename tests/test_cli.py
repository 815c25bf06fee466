"""The command line under terminals, settings and paths of all kinds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from test_main import ROOT, TINY, refused, run

from main import main
from model import load_model
from seg.cli import Lasting

FULL = Path('/dev/full')


pytestmark = pytest.mark.usefixtures('shallow', 'here')


def in_shell(line, **environment):
    """(exit status, standard error) of a line of shell in which $MAIN is the program."""
    done = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', line],
        env=os.environ | {'MAIN': f'{sys.executable} {ROOT / "main.py"}'} | environment,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def test_a_stream_that_nobody_reads_any_more_is_written_on():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as stream:
        lasting = Lasting(stream)
        print('one', file=lasting, flush=True)
        print('two' * 100_000, file=lasting)  # more than its buffer
    assert lasting.lost is None


def test_a_training_goes_on_where_its_output_is_closed_after_a_line(drawn):
    status, error = in_shell(f'$MAIN train --data {drawn} {" ".join(TINY)} 2>&1 | head -1 > line')
    assert status == 0 and not error
    assert Path('line').read_text().count('\n') == 1 and Path('camvid.hdf5').is_file()


@pytest.mark.parametrize('closed', ['>&-', '2>&-', '>&- 2>&- <&-'])
def test_closed_streams(drawn, closed):
    assert in_shell(f'$MAIN check {drawn} {closed}') == (0, '')


def test_no_file_takes_the_number_of_a_closed_stream(drawn):
    """TensorFlow writes to number 2, whatever that is."""
    status, _ = in_shell(f'$MAIN predict {drawn}/test/test_0000.png >&- 2>&- <&-')
    assert status == 0 and len(list(Path('predicted').rglob('test_0000.*'))) == 2


@pytest.mark.skipif(not FULL.exists(), reason='no /dev/full')
def test_output_that_is_lost_is_told_in_one_line(drawn):
    status, error = in_shell(f'$MAIN check {drawn} > /dev/full')
    assert status == 2 and error.count('\n') == 1 and 'No space left' in error


def test_help_into_head():
    assert in_shell('$MAIN --help | head -1 > line') == (0, '')


def test_a_users_keras_settings_change_no_network(drawn, here):
    """Channels first, half precision, and a backend for another program; and no library says
    anything on the whole way, of which a file gets plain lines."""
    settings = {'floatx': 'float16', 'epsilon': 0.1, 'backend': 'torch'}
    (here / 'keras.json').write_text(json.dumps(settings | {'image_data_format': 'channels_first'}))
    flags = f'--data {drawn} {" ".join(TINY)} --batch-size 2'
    for model, home, verb in (('a.hdf5', here, ''), ('b.hdf5', here / 'none', 'train')):
        line = f'unset KERAS_BACKEND; $MAIN {verb} {flags} --model {model} > out'
        assert in_shell(line, KERAS_HOME=str(home)) == (0, ''), Path('out').read_text()
        assert not re.search(rb'[^\x20-\xff\n]', Path('out').read_bytes())
    one, other = map(keras.models.load_model, ('a.hdf5', 'b.hdf5'))
    assert one.input_shape == (None, 48, 64, 3) and {w.dtype for w in one.weights} == {'float32'}
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('backend', ['torch', 'numpy', 'nonsense'])
def test_a_backend_that_can_not_serve(drawn, backend):
    status, error = in_shell(f'$MAIN predict {drawn}/test > out', KERAS_BACKEND=backend)
    assert status == 2 and error.count('\n') == 1 and f'KERAS_BACKEND={backend}' in error


def test_a_keras_json_that_keras_refuses(drawn, here):
    (here / 'keras.json').write_text('{"floatx": "int8"}')
    status, error = in_shell(f'$MAIN predict {drawn}/test > out', KERAS_HOME=str(here))
    assert status == 2 and error.count('\n') == 1 and 'keras.json' in error


def test_paths_of_any_bytes(drawn, capsys):
    """All of them work but a folder of TensorFlow's, which one line tells."""
    odd = os.fsdecode(b'caf\xe9')
    os.symlink(drawn, odd)
    Path('pictures').mkdir()
    os.symlink(drawn / 'test/test_0000.png', f'pictures/{odd}.png')
    own = ['--data', odd, '--model', f'{odd}.hdf5']
    assert run(capsys, 'train', *own, *TINY)[0] == 0
    assert load_model(f'{odd}.hdf5').about.settings['data'] == odd
    assert run(capsys, 'predict', 'pictures', *own[2:])[0] == 0
    assert len(list(Path('predicted').rglob(f'{odd}.*'))) == 2
    line = refused(capsys, 'train', *own, *TINY, '--log', odd)
    assert r'caf\udce9' in line and 'UTF-8' in line


def test_what_a_file_says_reaches_the_terminal_as_one_line_of_text(capsys):
    """A name that would set the window's title and clear the screen."""
    inputs = keras.Input((16, 16, 3))
    layer = keras.layers.Conv2D(4, 1, name='\x1b]0;title\x07\x1b[2J\nmain.py: done')
    path = Path('\x1b[2J\nm.keras')
    keras.Model(inputs, keras.layers.Flatten()(layer(inputs))).save(path)
    line = refused(capsys, 'predict', 'x.png', '--model', path)
    assert line.isprintable() and r'\x1b[2J\nm.keras' in line
    Path('m.hdf5').write_text('no model')
    assert refused(capsys, 'predict', 'x.png', '--model', 'm.hdf5').isprintable()


@pytest.mark.parametrize('words', [['evaluate', '--masks', ''], ['predict', ''], ['--data='], ['']])
def test_an_unset_variable_is_no_name(words, capsys):
    assert main(words) == 2
    assert 'found nothing; is a variable unset?' in capsys.readouterr().err


@pytest.mark.parametrize('flags', [['--images', 'a', '--labels', 'b'], ['--data', 'a']])
def test_a_folder_beside_flags_that_name_one_is_asked_about(tmp_path, monkeypatch, capsys, flags):
    """`--class-weights 1,2,5` takes no value: what stands there was taken for a folder and lost."""
    monkeypatch.chdir(tmp_path)
    assert main(['train', *flags, '--class-weights', '1,2,5']) == 2
    assert '1,2,5 and --' in capsys.readouterr().err
