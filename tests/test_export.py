"""Exports: each file against Keras by the engines that others run it with, and predict by ONNX."""

import json
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image
from test_main import refused, run

from model import load_model, save_model, unet
from seg import export
from seg.classes import CAMVID, TWO_CLASSES, ClassTable, class_table
from seg.export import EXPORTS, at_size, describe, to_onnx
from seg.files import InputError
from seg.folds import Average, load_models
from seg.modelfile import About, at_any_size
from seg.pictures import read_image
from seg.predict import jobs_of, paint
from seg.runtimes import open_onnx
from seg.settings import EXPORTS as NAMES
from seg.sizes import SizeRule

pytestmark = pytest.mark.usefixtures('shallow')

SIZE, RNG = (48, 64), np.random.default_rng(0)


def network(size=(*SIZE, 3), n=13, seed=3, **options):
    """A U-Net as after a training: its batch norms have statistics, its logits lie around 0."""
    keras.utils.set_random_seed(seed)
    model, rng = unet(None, size, n, filters=2, **options), np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = rng.uniform(0.5, 2, (4, *layer.gamma.shape))
            layer.set_weights(values * np.array([[1], [1], [0.2], [1]]))
    logits = keras.Model(model.inputs, model.layers[-1].input)
    found = np.asarray(logits(rng.random((1, *size), np.float32)), np.float32)
    scores, times = model.get_layer('scores'), 2 / found.std((0, 1, 2)).mean()
    scores.kernel.assign(scores.kernel * times)
    scores.bias.assign(-times * np.median(found, (0, 1, 2)))
    return model


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with m.hdf5, a model of 48x64, and m.onnx, its export, and free.onnx."""
    folder = tmp_path_factory.mktemp('made')
    model = network()
    model.about = replace(model.about, settings={'seed': 7, 'val_split': 0.3})
    save_model(model, folder / 'm.hdf5')
    model = load_model(folder / 'm.hdf5')
    to_onnx(model, folder / 'm.onnx')
    to_onnx(model, folder / 'free.onnx', 'free')
    return folder


@pytest.fixture
def model(made, here):
    """m.hdf5 beside the test, and a picture p.png."""
    (here / 'm.hdf5').write_bytes((made / 'm.hdf5').read_bytes())
    Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), np.uint8)).save('p.png')
    return load_model('m.hdf5')


def by_onnx(path, batch, output='probabilities'):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run([output], {'image': batch})[0]


def by_litert(path, batch, output='output_0'):
    lite = tf.lite.Interpreter(str(path))
    lite.resize_tensor_input(lite.get_input_details()[0]['index'], batch.shape)
    return lite.get_signature_runner()(image=batch)[output]


def by_savedmodel(path, batch, output):
    return tf.saved_model.load(str(path)).signatures['serve'](tf.constant(batch))[output].numpy()


ENGINES = {'onnx': ('m.onnx', by_onnx), 'litert': ('m.tflite', by_litert)}
ENGINES |= {'savedmodel': ('m_savedmodel', by_savedmodel)}


@pytest.mark.parametrize(
    'to, size', [('onnx', SIZE), ('litert', (64, 96)), ('savedmodel', (64, 96))]
)
def test_each_format_gives_what_keras_gives(to, size, model, drawn, capsys):
    more = [] if size == SIZE else ['--size', 'free']
    status, out, error = run(capsys, 'export', 'm.hdf5', '--to', to, '--data', drawn, *more)
    name, engine = ENGINES[to]
    assert status == 0 and not error and f'{name}: ' in out and '3 pictures of' in out
    batch = RNG.random((1, *size, 3), np.float32)
    wanted = (at_any_size(model) if more else model).predict_on_batch(batch)
    assert np.ptp(wanted) > 0.5  # or the next would hold for a dead network
    known = json.loads(Path(f'{name}.json').read_text('utf-8'))
    np.testing.assert_allclose(engine(name, batch, known['output']), wanted, atol=1e-4)
    assert [entry['name'] for entry in known['classes']] == [*CAMVID.names]
    assert known['size']['height'] == (None if more else 48) and known['layout'] == 'NHWC'
    assert {p.name for p in Path().iterdir()} == {'m.hdf5', 'p.png', name, f'{name}.json'}


def test_what_a_network_says_of_itself():
    table = ClassTable(
        ('a', 'b', '天'), ((0, 0, 0), (9, 8, 7), (1, 2, 3)), ('void', *['scored'] * 2)
    )
    model = network((48, 64, 4), 3, classes=table)
    model.about = replace(model.about, intensity=(10.0, 900.0))
    found = json.loads(json.dumps(describe(model)))
    assert found['classes'][2] == {'name': '天', 'colour': [1, 2, 3], 'role': 'scored'}
    assert found['classes'][0]['role'] == 'void' and found['intensity'] == [10, 900]
    assert found['size'] == {'rule': 'pad', 'height': 48, 'width': 64, 'multiple': 1}
    assert found['channels'] == 4 and found['activation'] == 'softmax'
    assert describe(at_any_size(model))['size']['multiple'] == 32
    two = describe(network(n=1))  # black and white, but painted so that people see it
    assert two['activation'] == 'sigmoid' and [e['colour'] for e in two['classes']] == [
        [0, 0, 0],
        [0, 190, 255],
    ]


def test_another_size_is_the_network_without_its_own_on_a_padded_picture():
    model = network()
    sized = at_size(model, (40, 72))
    assert sized.input_shape == (None, 40, 72, 3) and sized.about.rule == SizeRule('pad', 40, 72)
    batch = RNG.random((2, 40, 72, 3), np.float32)
    padded = np.pad(batch, ((0, 0), (0, 24), (0, 24), (0, 0)))
    wanted = at_any_size(model).predict_on_batch(padded)[:, :40, :72]
    np.testing.assert_allclose(sized.predict_on_batch(batch), wanted, atol=1e-5)
    tiled = at_any_size(model)
    assert at_size(tiled, (64, 64)).about.rule == SizeRule('pad', 64, 64)


def test_predict_evaluate_and_next_by_onnx_are_those_by_keras(made, drawn, here, capsys):
    found = {}
    for name in ('m.hdf5', 'm.onnx'):
        file = ['--model', made / name]
        options = ['--save', 'index', '--flip', '--output', f'{name}.out']
        assert run(capsys, 'predict', drawn / 'test', *file, *options)[0] == 0
        masks = [np.asarray(Image.open(p)) for p in sorted(Path(f'{name}.out').rglob('*.png'))]
        assert run(capsys, 'evaluate', drawn, *file)[0] == 0
        assert run(capsys, 'next', drawn / 'train', *file)[0] == 0
        found[name] = np.array(masks), json.loads(Path('scores.json').read_text())['miou']
        found[name] += (Path('next.csv').read_bytes(),)
    assert found['m.hdf5'][0].shape == (3, *SIZE) and len(np.unique(found['m.hdf5'][0])) > 2
    assert (found['m.hdf5'][0] == found['m.onnx'][0]).mean() > 0.9995
    assert found['m.hdf5'][1] == pytest.approx(found['m.onnx'][1], abs=1e-3)
    assert found['m.hdf5'][2] == found['m.onnx'][2]


def test_tiles_by_onnx(made, here, capsys):
    Image.fromarray(RNG.integers(0, 256, (200, 230, 3), np.uint8)).save('large.png')
    words = ['predict', 'large.png', '--tile', '128x128', '--save', 'index']
    line = refused(capsys, *words, '--model', made / 'm.onnx')
    assert 'm.onnx' in line and '--size free' in line
    for name in ('m.hdf5', 'free.onnx'):
        status, *said = run(capsys, *words, '--model', made / name, '--output', name.split('.')[0])
        assert status == 0, said
    one, other = (np.asarray(Image.open(next(Path(n).rglob('*.png')))) for n in ('m', 'free'))
    assert one.shape == (200, 230) and (one == other).mean() > 0.9995


@pytest.mark.parametrize('channels, n', [(1, 1), (4, 3)])
def test_grey_bands_and_sixteen_bits(channels, n, here):
    """The two-class network with one channel, and bands of a range of their own."""
    table = TWO_CLASSES if n == 1 else class_table(3)
    model = network((32, 32, channels), n, classes=table)
    model.about = replace(model.about, intensity=(100.0, 3000.0))
    import tifffile

    pixels = RNG.integers(0, 4000, (32, 32, channels)).astype(np.uint16)
    tifffile.imwrite('p.tif', pixels[..., 0] if channels == 1 else pixels)
    to_onnx(model, 'm.onnx')
    again = open_onnx('m.onnx')
    assert again.about == replace(model.about, settings={}, versions={})
    ours, theirs = (
        next(paint(each, jobs_of(each, [('p.tif', None)]), keep=np.float32))
        for each in (model, again)
    )
    assert ours.image.dtype == np.uint16 and np.ptp(ours.output) > 0.1
    np.testing.assert_allclose(ours.output, theirs.output, atol=2e-3)
    assert (ours.index == theirs.index).mean() > 0.995


def test_what_was_trained_in_bfloat16_is_exported_in_float32():
    keras.config.set_dtype_policy('mixed_bfloat16')
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy('float32')
    assert model.layers[1].compute_dtype == 'bfloat16'
    plain = at_size(model)
    assert {layer.compute_dtype for layer in plain.layers} == {'float32'}
    batch = RNG.random((1, *SIZE, 3), np.float32)
    wanted = network().predict_on_batch(batch)
    np.testing.assert_allclose(plain.predict_on_batch(batch), wanted, atol=0.1)


def test_a_file_that_gives_something_else_is_not_left(model, drawn, capsys, monkeypatch):
    def other(model, path, size, pictures):
        to_onnx(network(seed=4), path)

    monkeypatch.setitem(EXPORTS, 'onnx', EXPORTS['onnx']._replace(write=other))
    line = refused(capsys, 'export', 'm.hdf5', '--to', 'onnx', '--data', drawn)
    assert 'largest difference' in line and 'nothing is written' in line
    assert {p.name for p in Path().iterdir()} == {'m.hdf5', 'p.png'}


@pytest.mark.parametrize('to', ['onnx', 'litert'])
def test_int8(to, model, drawn, capsys):
    name = f'm-int8{EXPORTS[to].suffix}'
    words = ['export', 'm.hdf5', '--to', to, '--int8', '--data', drawn]
    status, out, error = run(capsys, *words)
    assert status == 0 and not error and 'points lost, on the val split, 3 images' in out
    (line,) = (line for line in out.splitlines() if line.startswith('mIoU'))
    if to == 'onnx':
        held = onnx.load(name)
        assert 'QuantizeLinear' in {node.op_type for node in held.graph.node}
        assert {p.key for p in held.metadata_props} >= {'about', 'classes', 'size'}
        engine = by_onnx
    else:
        lite = tf.lite.Interpreter(name)
        assert np.int8 in {tensor['dtype'] for tensor in lite.get_tensor_details()}
        engine = by_litert
    batch = read_image(drawn / 'train/train_0000.png')[None] / np.float32(255)
    gap = np.abs(engine(name, batch) - model.predict_on_batch(batch))
    assert 1e-4 < gap.max() and gap.mean() < 0.05, (gap.max(), gap.mean(), line)


def test_int8_wants_labelled_pictures(model, capsys):
    line = refused(capsys, 'export', 'm.hdf5', '--to', 'onnx', '--int8')
    assert '--int8' in line and '--data' in line and 'CamVid' in line
    line = refused(capsys, 'export', 'm.hdf5', '--to', 'savedmodel', '--int8')
    assert '--to onnx' in line and '--to litert' in line


def as_text(suffix):
    """A Kind whose file, or folder, says `text`, and which nothing runs."""

    def write(model, path, size, pictures):
        if suffix[0] != '.':
            path.mkdir()
        (path if suffix[0] == '.' else path / 'a').write_text(f'{model.input_shape}')

    return export.Kind(suffix, write, None, False, 'y')


def test_a_file_of_somebody_else_is_left_alone(model, capsys, monkeypatch):
    """And one of our own is written anew, so long as it is as it was."""
    monkeypatch.setitem(EXPORTS, 'onnx', as_text('.onnx'))
    file, words = Path('m.onnx'), ['export', 'm.hdf5', '--to', 'onnx']
    assert run(capsys, *words)[0] == 0
    ours = file.read_bytes()
    for text in (b'mine', ours + b'1'):
        file.write_bytes(text)
        assert 'm.onnx: exists, and this program did not' in refused(capsys, *words)
        assert file.read_bytes() == text
    file.write_bytes(ours)
    about = Path('m.onnx.json').rename('kept')
    assert 'did not write it' in refused(capsys, *words)
    about.rename('m.onnx.json').write_text('{"sha256": "mine"}')
    assert 'did not write it' in refused(capsys, *words) and file.read_bytes() == ours
    file.unlink()
    assert 'm.onnx.json: exists' in refused(capsys, *words) and not file.exists()
    Path('m.onnx.json').unlink()
    for size in ('32x32', 'free'):
        assert run(capsys, *words, '--size', size)[0] == 0
        assert ('32' in file.read_text()) == (size != 'free')
    before = file.read_bytes()
    assert run(capsys, *words, '--size', '64x32')[0] == 0
    file.write_bytes(before)  # as a kill between the JSON and the file leaves it
    assert run(capsys, *words)[0] == 0 and file.read_bytes() != before
    Path('out').mkdir()
    assert run(capsys, *words, '--output', 'out')[0] == 0  # a folder: into it
    assert sorted(p.name for p in Path('out').iterdir()) == ['m.onnx', 'm.onnx.json']


def test_a_folder_of_somebody_else_is_left_alone(model, capsys, monkeypatch):
    monkeypatch.setitem(EXPORTS, 'savedmodel', as_text('_savedmodel'))
    words = ['export', 'm.hdf5', '--to', 'savedmodel']
    mine = Path('m_savedmodel/mine.txt')
    mine.parent.mkdir()
    mine.write_text('mine')
    assert 'm_savedmodel: exists' in refused(capsys, *words) and mine.exists()
    for size in ('32x32', 'free'):
        assert run(capsys, *words, '--size', size, '--output', 'new')[0] == 0
    assert 'None' in Path('new/a').read_text() and Path('new.json').exists()
    mine.rename('new/mine.txt')
    assert run(capsys, *words, '--output', 'new')[0] == 0  # a folder of somebody's: into it
    there = ['a', 'm_savedmodel', 'm_savedmodel.json', 'mine.txt']
    assert sorted(p.name for p in Path('new').iterdir()) == there
    assert not [*Path().glob('.*')]


def test_a_run_and_its_folds(model, capsys):
    """Folds become one network that gives their mean; the file is called after the run."""
    files = [Path(f'log/run7/fold{i}/best.hdf5') for i in (1, 2)]
    for seed, file in enumerate(files, 5):
        file.parent.mkdir(parents=True)
        save_model(network(seed=seed), file)
    status, out, _ = run(capsys, 'export', 'log/run7/fold*/best.hdf5', '--to', 'onnx')
    assert status == 0 and 'run7.onnx' in out and '4 drawn scenes' in out
    batch = RNG.random((1, *SIZE, 3), np.float32)
    several = load_models('log/run7/fold*/best.hdf5')
    assert isinstance(several, Average)
    wanted = several.predict_on_batch(batch)
    np.testing.assert_allclose(by_onnx('run7.onnx', batch), wanted, atol=1e-4)
    assert describe(at_size(several))['activation'] == 'softmax'


def test_several_onnx_files_are_averaged(made, here):
    for name in ('a', 'b'):
        Path(f'{name}.onnx').write_bytes((made / 'm.onnx').read_bytes())
    several, one = load_models('?.onnx'), open_onnx('a.onnx')
    batch = RNG.random((1, *SIZE, 3), np.float32)
    assert isinstance(several, Average)
    np.testing.assert_allclose(several.predict_on_batch(batch), one.predict_on_batch(batch))


def foreign(path, **said):
    """An ONNX file of a network of ours with other metadata."""
    picture = onnx.helper.make_tensor_value_info('image', 1, ['n', 48, 64, 13])
    output = onnx.helper.make_tensor_value_info('probabilities', 1, ['n', 48, 64, 13])
    node = onnx.helper.make_node('Softmax', ['image'], ['probabilities'])
    graph = onnx.helper.make_graph([node], 'any', [picture], [output])
    whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])
    onnx.helper.set_model_props(whole, said)
    onnx.save(whole, path)


FITS = {'reach': 'null', 'widest': '3'}
GOOD = json.dumps({'classes': CAMVID.to_dict(), 'rule': {'kind': 'pad'}})


@pytest.mark.parametrize(
    'said, word',
    [
        ({}, 'without them'),
        ({'about': '{'}, 'damaged'),
        ({'about': GOOD}, 'damaged'),  # and no more
        ({'about': GOOD, 'reach': '"far"', 'widest': '1'}, 'damaged'),
        ({'about': GOOD, 'reach': '[]', 'widest': '{}'}, 'damaged'),
        ({'about': GOOD.replace('pad', 'any'), 'reach': '1', 'widest': '1'}, 'rule'),
        (
            {'about': json.dumps({**json.loads(GOOD), 'classes': TWO_CLASSES.to_dict()}), **FITS},
            'class table of 2',
        ),
    ],
)
def test_an_onnx_file_of_somebody_else(said, word, here):
    foreign('f.onnx', **said)
    with pytest.raises(InputError, match=word) as error:
        open_onnx('f.onnx')
    assert '\n' not in str(error.value) and 'f.onnx' in str(error.value)


def test_one_with_our_metadata_is_taken(here):
    foreign('f.onnx', about=GOOD, **FITS)
    assert open_onnx('f.onnx').about == About(CAMVID, SizeRule('pad', 48, 64))


@pytest.mark.parametrize(
    'words, wanted',
    [
        ('export none.hdf5 --to onnx', ['none.hdf5', 'no such file']),
        ('export p.png --to onnx', ['p.png', '.hdf5']),
        ('export bad.hdf5 --to onnx', ['bad.hdf5', 'expected a Keras model']),
        ('export m.hdf5', ['--to']),
        ('export m.hdf5 --to onxn', ['onxn', 'onnx']),
        ('export m.onnx --to litert', ['m.onnx', '.hdf5']),
        ('export m.hdf5 --to onnx --size 8x8', ['16', '8x8']),
        ('export m.hdf5 --to onnx --size any', ['any']),
        ('export m.hdf5 --to onnx --output m.bin', ['m.bin', '.onnx']),
        ('export m.hdf5 --to onnx --output no/m.onnx', ['no/m.onnx']),
        ('export m.hdf5 --to onnx --data nowhere', ['nowhere']),
        ('export odd.keras --to onnx --size 64x64', ['one size alone', '--size']),
        ('predict p.png --model none.onnx', ['none.onnx', 'no such file']),
        ('predict p.png --model bad.onnx', ['bad.onnx', 'expected an ONNX file']),
        ('predict p.png --model m.tflite', ['m.tflite', '.onnx']),
        ('train --model m.onnx', ['m.onnx', '.hdf5']),
        ('sample --model m.onnx', ['m.onnx', '.hdf5']),
    ],
)
def test_what_users_do_wrong_is_told_in_one_line(words, wanted, model, capsys):
    for name in ('bad.hdf5', 'bad.onnx', 'm.tflite'):
        Path(name).write_text('nothing')
    picture = keras.Input((16, 16, 3))
    flat = keras.layers.Dense(768)(keras.layers.Flatten()(picture))
    keras.Model(picture, keras.layers.Reshape((16, 16, 3))(flat)).save('odd.keras')
    before = {*Path().iterdir()}
    line = refused(capsys, *words.split())
    for word in wanted:
        assert word in line, line
    assert {*Path().iterdir()} == before


@pytest.mark.parametrize('package', ['tf2onnx', 'onnx', 'onnxruntime'])
def test_a_package_that_is_missing(package, made, model, capsys, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, package, None)
    monkeypatch.setattr('seg.web.runtime_files', lambda _: pytest.fail('it fetches 33 MB first'))
    for kind in ('onnx', 'web'):
        line = refused(capsys, 'export', 'm.hdf5', '--to', kind)
        assert 'pip install onnx tf2onnx onnxruntime' in line and package in line
    if package == 'onnxruntime':
        line = refused(capsys, 'predict', 'p.png', '--model', made / 'm.onnx')
        assert '`pip install onnxruntime`' in line


def test_a_full_disk_and_a_converter_that_fails(model, drawn, capsys, monkeypatch):
    def full(*args):
        raise OSError(ENOSPC, 'No space left on device')

    def fail(*args):
        raise KeyError('node')

    words, before = ['export', 'm.hdf5', '--to', 'litert', '--data', drawn], {*Path().iterdir()}
    for broken, word in (
        (full, 'the disk is full'),
        (fail, "cannot be exported to litert (KeyError: 'node')"),
    ):
        monkeypatch.setitem(EXPORTS, 'litert', EXPORTS['litert']._replace(write=broken))
        assert word in refused(capsys, *words)
        assert {*Path().iterdir()} == before


def test_another_backend_is_told(model, capsys, monkeypatch):
    monkeypatch.setattr(export.keras.backend, 'backend', lambda: 'jax')
    monkeypatch.setattr('main.trained_model', lambda s: (model, Path(s.model)))
    assert 'KERAS_BACKEND=jax' in refused(capsys, 'export', 'm.hdf5', '--to', 'onnx')


def test_the_command_line_knows_each_format():
    assert {*NAMES} == {*EXPORTS}


def test_settings_are_as_any_model_has_them(made):
    """So that evaluate by ONNX takes the pictures of its training apart as training did."""
    assert open_onnx(made / 'm.onnx').about == load_model(made / 'm.hdf5').about
    assert load_model(made / 'm.hdf5').about.settings['seed'] == 7
