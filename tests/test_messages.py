"""What the program says: texts that a stranger reads, lines that nothing cuts, files left clean."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from test_main import ROOT, TINY, refused, run

import main as program
from model import save_model, unet
from seg import parser, progress
from seg.classes import CAMVID
from seg.modelfile import About
from seg.sizes import SizeRule

sys.path.insert(0, str(ROOT / 'bench'))
from messages import BAD, messages

pytestmark = pytest.mark.usefixtures('shallow', 'here')


@pytest.fixture(scope='module')
def network():
    keras.utils.set_random_seed(1)
    net = unet(num_class=13, input_size=(48, 64, 3), filters=2)
    about = dict(run='20250102-030405-fast', settings={'data': 'streets'})
    net.about = About(CAMVID, SizeRule('whole', 48, 64), **about)
    return net


@pytest.fixture
def model(network, here):
    save_model(network, 'm.keras')
    return ['--model', 'm.keras']


# ---------------------------------------------------------------------------- words


def test_every_text_is_listed_and_none_of_them_has_a_word_that_puzzles():
    texts = [re.sub(r'{[^{}]*}', '{}', text) for _, _, text in messages()]
    assert 'expected both --images and --labels, {} is missing' in texts
    assert not any('One stream of pictures' in text for text in texts)  # no docstrings
    wrong = [(text, bad) for text in texts for bad in BAD if re.search(bad, text)]
    assert len(texts) > 500 and not wrong


@pytest.mark.parametrize('verb', ['', *parser.VERBS])
def test_help_is_short_and_all_of_it_has_every_flag(verb, capsys):
    words = [verb] * bool(verb)
    own = parser.make_parser(program.PRESETS, program.__doc__).verbs[verb]
    flags = {word for word in own._option_string_actions if word.startswith('--')}
    status, short, error = run(capsys, *words, '--help')
    assert status == 0 and not error and short.count('\n') < 60
    hidden = {flag for flag in flags if flag not in short} - {'--version', '--help-all'}
    assert not hidden or '--help-all' in short
    if hidden:
        _, long, _ = run(capsys, *words, '--help-all')
        assert all(flag in long for flag in hidden)


def test_version_names_what_a_question_should(capsys):
    for verb in ([], ['predict']):
        status, out, _ = run(capsys, *verb, '--version')
        assert status == 0 and out.startswith('unet-camvid ') and out.count('\n') == 1
        assert f'keras {keras.__version__}' in out and f'Python {sys.version.split()[0]}' in out


SLIPS = [
    ('predict --preset fast', '--preset: no such flag of predict; train, preview and sample have'),
    ('predict --batch-size 1 x.png', '--batch-size: no such flag of predict; train, preview and'),
    ('check . --preset fast', '--preset: no such flag of check'),
    ('--epochs 3 predict x.png', '--epochs: no such flag of predict; train and sample have it'),
    ('train --no-flip', '--no-flip: no such flag of train; predict, '),
    ('preview --batch-size 4', '--batch-size changes nothing without --batches'),
    ('preview --filters 4', '--filters: no such flag of preview'),
    ('evaluate --size 64x64', '--size: no such flag of evaluate'),
    ('--masks x', '--masks: no such flag of main.py without a verb; evaluate has it'),
    ('train --epoch 2', '--epoch: no such flag; did you mean --epochs?'),
    ('train --lr 1e-4', '--lr: no such flag; did you mean --learning-rate?'),
    ('train --freeze-encoder', '--freeze-encoder: no such flag; did you mean --freeze?'),
    ('train --input-channels 1', '--input-channels: no such flag; --help-all lists them'),
    ('check a b', 'b: one word too many for check'),
    ('training', 'training: expected a verb or a folder; did you mean train?'),
    ('cels', 'cels: expected a verb or a folder; did you mean cells?'),
    ('photo.png', 'photo.png: a file; to paint it, python main.py predict photo.png'),
    ('predict --output', '--output: expected a value after it'),
    ('next', 'next: expected after it: PICTURE'),
    ('train --model m', '--model: expected a name that ends with .hdf5 or .h5 or .keras, found m'),
    ('predict --model m.pt', '--model: expected a name that ends with .hdf5'),
    ('train --steps 0', '--steps: expected a whole number of 1 to 1000000, found 0'),
    ('train --learning-rate 1e-3x', '--learning-rate: expected a number of 0 to 1e+09, found'),
    ('train --fusion ad', '--fusion: expected concat or add, found ad; did you mean add?'),
    ('--preset fsat', '--preset: expected article or sample or '),
    ('preview --preset fsat', '--preset: expected article or sample or fast or'),
    ('train --dilated=3', '--dilated/--no-dilated: takes no value, found 3'),
    ('check --tolerance 4', '--tolerance changes nothing without --repair'),
    ('check --json --repair out', '--json changes nothing beside --repair'),
    ('evaluate --masks x --model m.keras', '--model changes nothing beside --masks'),
    ('evaluate --masks x --flip', '--flip changes nothing beside --masks'),
    ('predict x.png --data CamVid', '--data changes nothing beside pictures'),
    ('train --data a --images b --labels c', '--data changes nothing beside --images'),
    ('train --resume --config c.json', '--config changes nothing beside --resume'),
    ('train --changed-data', '--changed-data changes nothing without --resume'),
    ('train --encoder-weights none', '--encoder-weights changes nothing without --encoder'),
]


@pytest.mark.parametrize('words, told', SLIPS)
def test_a_slip_is_told_by_its_flag_and_who_has_it(words, told, capsys):
    Path('photo.png').touch()
    Path('cells').mkdir()
    assert f'main.py: {told}' in refused(capsys, *words.split())


def test_two_folders_of_any_names_are_proposed(drawn, capsys):
    for name, source in (('foo', 'train'), ('bar', 'trainannot')):
        Path('cells', name).mkdir(parents=True)
        for file in sorted((drawn / source).iterdir())[:3]:
            (Path('cells', name) / file.name).write_bytes(file.read_bytes())
    line = refused(capsys, 'check', 'cells')
    assert '--images cells/bar --labels cells/foo, or the other way round' in line
    told = re.search(r'--images (\S+) --labels (\S+),', line)
    status, out, _ = run(capsys, 'check', '--images', told[2], '--labels', told[1])
    assert status == 0 and 'Verdict: fit' in out


def test_pictures_and_labels_that_changed_places(drawn, capsys):
    places = ['--images', drawn / 'trainannot', '--labels', drawn / 'train']
    assert 'changed places?' in refused(capsys, 'train', *places, *TINY)
    assert 'changed places?' in run(capsys, 'check', *places)[1]


# ---------------------------------------------------------------------------- bad pictures


def some(drawn, folder='mine'):
    """Four pictures of which two can be read."""
    Path(folder).mkdir()
    names = [p.name for p in sorted((drawn / 'train').iterdir())[:4]]
    for name in names:
        Path(folder, name).write_bytes((drawn / 'train' / name).read_bytes())
    Path(folder, names[1]).write_bytes(Path(folder, names[1]).read_bytes()[:900])
    Path(folder, names[2]).write_text('no picture')
    Path(folder, 'link.png').symlink_to('nowhere.png')
    return names


def skipped(error):
    """Names in the list of what was skipped, which is all that is said."""
    first, *lines = error.splitlines()
    assert first == f'main.py: skipped {len(lines)} picture{"s" * (len(lines) != 1)}:'
    return sorted(Path(line.split(':')[0].strip()).name for line in lines)


@pytest.mark.parametrize('flags', [[], ['--save', 'index,probability', '--tile', '32x32']])
def test_predict_skips_what_is_no_picture_and_paints_the_others(flags, model, drawn, capsys):
    names = some(drawn)
    status, out, error = run(capsys, 'predict', 'mine', *model, *flags)
    assert status == 1 and skipped(error) == ['link.png', *names[1:3]]
    assert 'Wrote 2 masks to predicted/m/' in out
    folder = Path('predicted/m/index' if flags[:1] == ['--save'] else 'predicted/m')
    assert sorted(p.name for p in folder.glob('*.png')) == [names[0], names[3]]
    assert run(capsys, 'predict', 'mine/' + names[0], *model)[0] == 0  # the list was of that call


def test_where_all_are_bad_there_is_one_line(model, drawn, capsys):
    some(drawn)
    for file in [p for p in sorted(Path('mine').iterdir()) if not p.is_symlink()]:
        file.write_bytes(b'')
    assert '(5 such pictures)' in refused(capsys, 'predict', 'mine', *model)


def test_next_skips_them_too(model, drawn, capsys):
    names = some(drawn)
    status, out, error = run(capsys, 'next', 'mine', *model)
    assert status == 1 and skipped(error) == ['link.png', *names[1:3]]
    assert names[0] in out and names[3] in out and 'Wrote next.csv' in out


@pytest.mark.parametrize(
    'side, damage', [('test', 'cut'), ('testannot', 'text'), ('testannot', 'size')]
)
def test_evaluate_scores_the_others(side, damage, model, drawn, capsys):
    """As without the pair, but for the status and the list."""
    shutil.copytree(drawn, 'data')
    bad = Path('data', side, 'test_0001.png')
    if damage == 'cut':
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    elif damage == 'text':
        bad.write_text('no picture')
    else:
        Image.open(bad).resize((32, 24), Image.Resampling.NEAREST).save(bad)
    status, out, error = run(capsys, 'evaluate', 'data', *model)
    assert status == 1 and skipped(error) == ['test_0001.png'] and '2 pictures' in out
    found = json.loads(Path('scores.json').read_text())
    for part in ('test', 'testannot'):
        Path('data', part, 'test_0001.png').unlink()
    assert run(capsys, 'evaluate', 'data', *model)[0] == 0
    assert json.loads(Path('scores.json').read_text()) == found


def test_check_names_all(drawn, capsys):
    shutil.copytree(drawn, 'data')
    files = sorted(Path('data/train').iterdir())[:7]
    for file in files:
        file.write_text('no picture')
    status, out, _ = run(capsys, 'check', 'data')
    assert status == 1 and all(f'ERROR: {file}: not a picture' in out for file in files)
    line = refused(capsys, 'train', '--data', 'data', *TINY)
    assert str(files[0]) in line and 'the first of 7 errors; `check` names all' in line


def test_strips_of_one_pixel(model, capsys):
    sizes = {'row': (64, 1), 'column': (1, 48), 'dot': (1, 1)}
    for name, size in sizes.items():
        Image.new('RGB', size, (90, 90, 90)).save(f'{name}.png')
    for flags in ([], ['--tile', '32x32']):
        assert run(capsys, 'predict', '*.png', *model, *flags)[0] == 0
        for name, size in sizes.items():
            assert Image.open(f'predicted/m/{name}.png').size == size


# ---------------------------------------------------------------------------- what was done


def test_the_model_is_named_and_what_was_written(model, drawn, capsys):
    named = 'Model: m.keras: 11 classes (Sky, Building, Pole, Road, Pavement, ...), trained'
    named += ' 2025-01-02 on streets\n'
    picture = next((drawn / 'test').iterdir())
    _, out, _ = run(capsys, 'predict', picture, *model)
    assert named in out and 'Wrote 1 mask to predicted/m/ and predicted/m/overlay/\n' in out
    _, out, _ = run(capsys, 'evaluate', drawn, *model, '--report')
    assert named in out and 'Wrote scores.json, report.html\n' in out and 'suspects.csv' in out
    assert named in run(capsys, 'next', drawn / 'test', *model)[1]
    _, out, _ = run(capsys, 'preview', '--data', drawn, '--augment', 'flip')
    assert out.splitlines()[-1].startswith('Wrote preview.png: ') and Path('preview.png').is_file()
    _, out, _ = run(capsys, 'check', drawn, '--write-classes', 'c.csv')
    assert 'Wrote c.csv: ' in out
    _, out, _ = run(capsys, 'check', drawn, '--repair', 'clean')
    assert 'Wrote 14 labels to clean/\n' in out
    _, out, _ = run(capsys, 'check', drawn, '--convert', 'set')
    assert 'Wrote 14 pictures and their labels to set/' in out and 'Next: python main.py set' in out


class Terminal(io.StringIO):
    """A terminal that shows what is printed, of 80 columns."""

    def isatty(self):
        return True

    @property
    def screen(self):
        lines, column = [''], 0
        for c in self.getvalue():
            if c == '\r':
                column = 0
            elif c == '\n':
                lines, column = [*lines, ''], 0
            else:
                lines[-1] = lines[-1][:column].ljust(column) + c + lines[-1][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


def test_a_training_says_a_line_an_epoch(drawn, capsys):
    """And on a terminal what it does now, of which nothing stays. For a file see test_cli."""
    flags = ['train', '--data', drawn, *TINY, '--epochs', '2', '--steps', '9']
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'stdout', terminal)
        assert program.main([*map(str, flags)]) == 0
    for drawn_line in ('\rEpoch 1/2, step 1/9', '\rValidating: '):
        assert drawn_line in terminal.getvalue()
    lines = terminal.screen
    assert not any(' left' in line or 'Validating' in line for line in lines)
    epochs = [line for line in lines if line.startswith('Epoch')]
    assert [line[:10] for line in epochs] == ['Epoch 1/2:', 'Epoch 2/2:']
    number = r'loss \d+\.\d{4}, accuracy \d+\.\d %, mIoU \d+\.\d %'
    for line in epochs:
        assert re.search(rf': {number}; validation: {number}(, the best so far)? \(', line)
    assert ', the best so far' in epochs[0]
    assert any(re.match(r'The whole run takes about .* s a step\)\.$', line) for line in lines)
    assert any(re.match(r'Wrote the best model, of epoch [12] \(val loss', line) for line in lines)
    status, out, _ = run(capsys, 'train', '--resume')
    assert status == 0 and 'has finished all 2 epochs' in out
    assert sorted(p.name for p in Path('.').iterdir()) == ['camvid.hdf5', 'log']


def test_best_says_that_it_wants_the_weights_of_transfer(drawn, capsys):
    flags = ['train', '--data', drawn, '--preset', 'best', '--model', 'no/m.hdf5']
    for more, wanted in (([], 1), (['--weights', 'w.hdf5'], 0)):
        _, out, error = run(capsys, *flags, *more)  # ends before the training
        told = 'name its model with --weights, as weights/camvid-transfer.hdf5'
        assert out.count(told) == wanted and 'its folder is missing' in error


def test_a_mistake_stands_below_no_drawn_line(model, drawn, monkeypatch, capsys):
    Path('out.png').mkdir()
    some(drawn)
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stdout', terminal)
    monkeypatch.setattr(sys, 'stderr', terminal)
    assert program.main(['predict', 'mine', *model]) == 1
    assert '\rPainting: ' in terminal.getvalue() and 'Painting' not in ''.join(terminal.screen)
    assert 'main.py: skipped 3 pictures:' in terminal.screen


def test_the_drawn_line_fits_the_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stdout', terminal)
    monkeypatch.setenv('COLUMNS', '20')
    progress.draw('x' * 50, often=0)
    progress.draw('y', often=0)
    assert terminal.screen == ['y']
    progress.draw('z' * 50, often=0)
    progress.say('a line that stays, and is longer than the terminal')
    assert terminal.screen == ['a line that stays, and is longer than the terminal', '']
    assert max(map(len, re.split('[\r\n]', terminal.getvalue())[:-2])) < 20


def test_duration():
    told = [*map(progress.duration, (0.4, 89, 700, 12_000))]
    assert told == ['0 s', '89 s', '12 min', '3 h 20 min']


def test_what_has_no_class_of_the_model_is_not_scored(drawn, capsys):
    for i in range(3):
        for part, value in (('images', 90), ('masks', 255)):
            Path('own', part).mkdir(parents=True, exist_ok=True)
            Image.new('L', (64, 48), value).save(f'own/{part}/{i}.png')
    line = refused(capsys, 'evaluate', 'own', '--model', program.SHIPPED)
    assert 'no labelled pixel is of a class that' in line and not Path('scores.json').exists()


def test_pictures_and_labels_that_have_changed_places(capsys):
    rng = np.random.default_rng(0)
    for i in range(4):
        for part, pixels in (('a', rng.integers(0, 200, (48, 64))), ('b', np.eye(48, 64) * 255)):
            Path(part).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(f'{part}/{i}.png')
    line = refused(capsys, 'train', '--images', 'b', '--labels', 'a')
    assert 'have pictures and labels changed places?' in line and not Path('log').exists()
    assert run(capsys, 'check', '--images', 'a', '--labels', 'b')[0] == 0


def test_without_its_packages_one_line_names_the_environment(tmp_path):
    """As of `python3 main.py` beside `make run`."""
    done = subprocess.run(
        [sys.executable, '-S', '-E', ROOT / 'main.py', 'predict', 'x.png'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert 'is not installed for' in done.stderr and '.venv/bin/activate' in done.stderr
