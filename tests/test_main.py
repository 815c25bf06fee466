"""Every verb end to end on drawn scenes, and every mistake in one line."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import main as program
from seg.classes import CAMVID
from seg.settings import FLAGS

ROOT = Path(program.__file__).parent
TINY = ['--filters', '2', '--epochs', '1', '--steps', '2']


@pytest.fixture(scope='module')
def done(drawn, tmp_path_factory):
    """A folder in which the whole job was done, once, with a tiny network."""
    folder = tmp_path_factory.mktemp('done')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert program.main(['--data', str(drawn), *TINY]) == 0
    return folder


@pytest.fixture
def copy(drawn, here):
    """A copy of the drawn data, to be damaged."""
    shutil.copytree(drawn, here / 'data')
    return here / 'data'


def run(capsys, *argv):
    """(exit status, standard output, standard error) of one command line."""
    capsys.readouterr()
    status = program.main([str(a) for a in argv])
    return status, *capsys.readouterr()


def refused(capsys, *argv):
    """The one line on standard error of a command that ends with status 2."""
    status, _, error = run(capsys, *argv)
    assert status == 2
    lines = error.strip().splitlines()
    assert len(lines) == 1 and 'Traceback' not in error, error
    return lines[0]


# ---------------------------------------------------------------------------- the whole job


def test_the_whole_job(done, drawn):
    (log,) = (done / 'log').iterdir()
    masks = sorted((log / 'masks').glob('*.png'))
    assert [m.name for m in masks] == [f'test_{i:04d}.png' for i in range(3)]
    colours = {CAMVID.colours[i] for i in CAMVID.scored}
    for mask in masks:
        picture = Image.open(mask)
        assert picture.mode == 'RGB' and picture.size == (64, 48)
        assert {c for _, c in picture.getcolors()} <= colours
        assert (log / f'masks/overlay/{mask.stem}.jpg').exists()
    saved = json.loads((log / 'settings.json').read_text())
    assert saved['settings']['filters'] == 2 and 'tensorflow' in saved['versions']
    assert sorted(p.name for p in drawn.iterdir()) == sorted(
        ['classes.csv', 'test', 'testannot', 'train', 'trainannot', 'val', 'valannot']
    )  # only read


def test_tensorboard_holds_scalars_and_pictures(done, drawn):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (log,) = (done / 'log').iterdir()
    tags = {}
    for part in ('train', 'validation'):
        events = EventAccumulator(str(log / part), size_guidance={'tensors': 0}).Reload()
        tags[part] = set(events.Tags()['tensors'])
    three = ['epoch_accuracy', 'epoch_loss', 'epoch_miou']
    assert sorted(tags['train']) == [*three, 'learning_rate']
    assert sorted(tags['validation'])[:3] == three and 'iou/Road' in tags['validation']
    others = {tag.split('/')[0] for tag in tags['validation'] - {*three}}
    assert others == {'iou', 'pictures'}
    shown = sorted(tag for tag in tags['validation'] if 'prediction' in tag)
    assert len(shown) == 3  # of 3 images
    for tag, file in zip(shown, sorted((drawn / 'val').iterdir())):
        _, _, png = events.Tensors(tag)[-1].tensor_proto.string_val  # width, height, picture
        picture = np.asarray(Image.open(io.BytesIO(png)))  # 8 times as large
        small = np.asarray(Image.open(file).resize((512, 384), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(picture[:, :512], small)
        colours = CAMVID.palette[np.asarray(Image.open(drawn / 'valannot' / file.name))]
        np.testing.assert_array_equal(picture[4::8, 514 + 4 : 514 + 512 : 8], colours)


def test_tensorboard_holds_the_settings(done):
    """As text, and as what the HParams plugin compares runs by."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    (log,) = (done / 'log').iterdir()
    events = EventAccumulator(str(log), size_guidance={'tensors': 0}).Reload()
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors('settings'))
    assert '| filters | 2 |' in text and '| size | 48x64 |' in text and 'None' not in text
    about = events.SummaryMetadata('_hparams_/session_start_info').plugin_data.content
    held = {
        name: v.string_value
        for name, v in parse_session_start_info_plugin_data(about).hparams.items()
    }
    assert held['filters'] == '2' and held['loss'] == 'categorical_crossentropy'


def test_three_lines_of_plain_keras_open_the_result(done):
    script = (
        'import keras, numpy\nmodel = keras.models.load_model("camvid.hdf5")\n'
        'print(model.predict(numpy.zeros((1, 48, 64, 3)), verbose=0).shape)'
    )
    out = subprocess.run([sys.executable, '-c', script], cwd=done, capture_output=True, text=True)
    assert out.stdout.strip() == '(1, 48, 64, 13)', out.stderr


def test_the_articles_main2(drawn, here):
    """Its script with only the two module names, fit and predict(steps=) changed."""
    shutil.copytree(drawn, here / 'CamVid')
    (here / 'main2.py').write_text("""
from model import *
from datapre import *
import warnings
warnings.filterwarnings("ignore")

aug_args = dict(rotation_range=0.2, width_shift_range=0.05, height_shift_range=0.05,
                shear_range=0.05, zoom_range=0.05, horizontal_flip=True, vertical_flip=True,
                fill_mode='nearest')
train_gene = trainGenerator(batch_size=2, aug_dict=aug_args, train_path='CamVid/',
                            image_folder='train', label_folder='trainannot',
                            image_color_mode='rgb', label_color_mode='rgb',
                            image_save_prefix='image', label_save_prefix='label',
                            flag_multi_class=True, save_to_dir=None)
val_gene = valGenerator(batch_size=2, aug_dict=aug_args, val_path='CamVid/', image_folder='val',
                        label_folder='valannot', image_color_mode='rgb', label_color_mode='rgb',
                        image_save_prefix='image', label_save_prefix='label',
                        flag_multi_class=True, save_to_dir=None)
tensorboard = TensorBoard(log_dir='./log')
model = unet(num_class=13, input_size=(48, 64, 3), filters=2)
model_checkpoint = ModelCheckpoint('camvid.hdf5', monitor='val_loss', verbose=1, save_best_only=True)
history = model.fit(train_gene, steps_per_epoch=2, epochs=2, verbose=1,
                    callbacks=[model_checkpoint, tensorboard],
                    validation_data=val_gene, validation_steps=2)
model.load_weights('camvid.hdf5')
test_gene = testGenerator(test_path='CamVid/test')
results = model.predict(test_gene, steps=3, verbose=1)
saveResult('CamVid/testpred/', results)
""")
    out = subprocess.run(
        [sys.executable, 'main2.py'],
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    )
    assert out.returncode == 0, out.stderr[-2000:]
    assert sorted(p.name for p in (here / 'CamVid/testpred').iterdir()) == [
        f'{i}_predict.png' for i in range(3)
    ]
    assert (here / 'camvid.hdf5').exists() and list((here / 'log').rglob('events*'))


# ---------------------------------------------------------------------------- verbs


def test_help_names_every_flag_and_answers_at_once():
    seconds, out = [], {}
    for flag in ('--help', '--help', '--help', '--help-all'):
        begin = time.perf_counter()
        out[flag] = subprocess.run(
            [sys.executable, ROOT / 'main.py', flag], capture_output=True, text=True
        )
        seconds.append(time.perf_counter() - begin)
        assert out[flag].returncode == 0 and not out[flag].stderr
    for word in ('train', 'predict', 'evaluate', 'sample', '--filters', '--resume', '--data'):
        assert word in out['--help'].stdout
    for name in FLAGS:
        assert '--' + name.replace('_', '-') in out['--help-all'].stdout
    assert min(seconds) < 1  # 0.1 s on an idle machine; TensorFlow alone would take several


def test_sample_draws_trains_and_never_touches_camvid_hdf5(here, capsys, monkeypatch):
    from seg import scenes

    draw = scenes.draw_camvid
    monkeypatch.setattr(
        scenes,
        'draw_camvid',
        lambda folder, **k: draw(folder, train=4, val=2, test=2, size=(48, 64), seed=k['seed']),
    )
    (here / 'camvid.hdf5').write_text('mine')
    status, out, _ = run(capsys, 'sample', *TINY)
    assert status == 0 and 'mIoU' in out and 'masks/ and log/' in out
    assert (here / 'sample.hdf5').exists() and (here / 'camvid.hdf5').read_text() == 'mine'
    assert len(list(here.glob('log/*-sample/masks/*.png'))) == 2


def test_a_miniature_training_reaches_its_floor(here, capsys):
    """250 steps reach 20 to 24 % mIoU; below the floor something between label and score broke."""
    from seg.runs import find_run, read_progress
    from seg.scenes import draw_camvid

    draw_camvid(here / 'sample', train=64, val=12, test=1, size=(64, 96), seed=3)
    flags = '--preset sample --filters 8 --epochs 2 --steps 125'.split()
    assert run(capsys, 'train', *flags)[0] == 0
    assert read_progress(find_run('log'))['history']['val_miou'][-1] > 0.15


def test_before_any_training_the_weights_that_come_along_are_used(drawn, here, capsys):
    assert program.SHIPPED.stat().st_size < 10e6
    status, out, _ = run(capsys, 'predict', drawn / 'test')
    assert status == 0 and program.SHIPPED.name in out
    assert len(list((here / 'predicted/camvid-best').glob('*.png'))) == 3
    scores = json.loads((program.SHIPPED.parent / 'scores.json').read_text())
    assert scores['split'] == 'val' and scores['images'] == 101


@pytest.mark.camvid
def test_the_weights_that_come_along_score_as_their_file_says(camvid, here, capsys):
    # a part of the pictures, whose scores lie near those of all
    for name in ('val', 'valannot'):
        (here / 'data' / name).mkdir(parents=True)
        for file in sorted((camvid / name).iterdir())[::8]:
            shutil.copy(file, here / 'data' / name)
    status, _, _ = run(capsys, 'evaluate', '--data', 'data')
    found = json.loads((here / 'scores.json').read_text())
    stated = json.loads((program.SHIPPED.parent / 'scores.json').read_text())
    assert status == 0 and abs(found['accuracy'] - stated['accuracy']) < 0.03
    assert abs(found['miou'] - stated['miou']) < 0.06


def test_a_fresh_run_keeps_the_last_model(done, drawn, here, capsys):
    shutil.copy(done / 'camvid.hdf5', here)
    old = (here / 'camvid.hdf5').read_bytes()
    status, out, _ = run(capsys, 'train', '--data', drawn, *TINY, '--seed', '2', '--bfloat16')
    kept = [p for p in here.glob('camvid.*.hdf5')]
    assert status == 0 and len(kept) == 1 and kept[0].read_bytes() == old
    assert kept[0].name in out and (here / 'camvid.hdf5').read_bytes() != old
    model = keras.models.load_model(here / 'camvid.hdf5')
    assert {layer.compute_dtype for layer in model.layers} == {'float32'}
    assert keras.config.dtype_policy().name == 'float32'


def test_predict_any_size_keeps_size_names_and_orientation(done, here, capsys):
    rng = np.random.default_rng(0)
    (here / '照片 1').mkdir()
    picture = Image.fromarray(rng.integers(0, 255, (70, 50, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(here / '照片 1' / '街.jpg', exif=exif)
    Image.fromarray(rng.integers(0, 255, (20, 90), np.uint8)).save(here / 'grey.tif')
    status, out, _ = run(capsys, 'predict', '照片 1', '*.tif', '--model', done / 'camvid.hdf5')
    assert status == 0 and 'Wrote 2 masks to predicted/camvid/' in out
    assert Image.open(here / 'predicted/camvid/街.png').size == (70, 50)
    assert Image.open(here / 'predicted/camvid/grey.png').size == (90, 20)


def test_predict_maps_a_scaled_picture_back_in_place(here, capsys):
    """A network that paints dark Road and bright Sky: the edge is where it was in the picture."""
    import keras

    from model import save_model
    from seg.modelfile import About

    inputs = keras.Input((48, 64, 3))
    conv = keras.layers.Conv2D(13, 1, activation='softmax', name='softmax')
    net = keras.Model(inputs, conv(inputs))
    kernel = np.zeros((1, 1, 3, 13))
    kernel[..., 0] = 20
    conv.set_weights([kernel, np.eye(13)[3] * 30 - 100 * (np.arange(13) % 3 > 0)])
    net.about = About(CAMVID)
    save_model(net, 'm.keras')
    image = np.zeros((150, 120, 3), np.uint8)
    image[:, 40:] = 255
    Image.fromarray(image).save('tall.png')
    assert run(capsys, 'predict', 'tall.png', '--model', 'm.keras')[0] == 0
    mask = np.asarray(Image.open('predicted/m/tall.png'))
    expected = CAMVID.palette[np.where(image[..., 0] > 0, 0, 3)]
    wrong = (mask != expected).any(-1)
    assert not wrong[:, :36].any() and not wrong[:, 44:].any()


def test_evaluate_prints_the_scores_of_an_oracle(done, drawn, here, capsys):
    # without a folder of the data it was trained on
    status, out, _ = run(capsys, 'evaluate', '--model', done / 'camvid.hdf5')
    assert status == 0 and 'test' in out and 'Bicyclist' in out
    found = Path('scores.json').read_bytes()
    status, out, _ = run(capsys, 'evaluate', '--data', drawn, '--model', done / 'camvid.hdf5')
    assert status == 0 and Path('scores.json').read_bytes() == found
    # the masks that prediction wrote, scored by hand
    hit = total = 0
    for mask in done.glob('log/*/masks/*.png'):
        truth = np.asarray(Image.open(drawn / 'testannot' / mask.name))
        same = (CAMVID.palette[truth] == np.asarray(Image.open(mask))).all(-1)
        hit, total = hit + same[truth < 11].sum(), total + (truth < 11).sum()
    assert f'{100 * hit / total:.1f} %' in next(line for line in out.splitlines() if 'mIoU' in line)


def test_class_weights_are_those_of_the_files(drawn):
    from seg.settings import Settings
    from seg.sources import load
    from seg.train import balanced

    files = (drawn / 'trainannot').iterdir()
    counts = sum(np.bincount(np.asarray(Image.open(p)).ravel(), minlength=13) for p in files)
    share = counts[:11] / counts[:11].sum()
    expected = 1 / np.log(1.1 + share) * (share > 0)
    expected /= (expected * share).sum()
    weights = balanced(load(Settings(data=str(drawn))))
    np.testing.assert_allclose(weights[:11], expected, rtol=1e-6)
    assert weights[11:] == [0, 0]


@pytest.mark.parametrize('flags', [[], ['--no-batch-norm']])
def test_a_learning_rate_out_of_bounds_stops_and_names_the_batch(flags, copy, here, capsys):
    line = refused(
        capsys,
        'train',
        '--data',
        'data',
        '--filters',
        '2',
        '--steps',
        '20',
        '--epochs',
        '1',
        '--learning-rate',
        '1e6',
        *flags,
    )
    assert 'the loss is' in line and 'step ' in line and 'learning rate 1e+06' in line
    named = [p.name for p in (copy / 'train').iterdir() if p.name in line]
    assert len(named) == 2 and not (here / 'camvid.hdf5').exists()


def test_the_guard_names_the_files_of_the_very_batch(drawn):
    from datapre import Stream, read_pairs
    from seg.files import InputError
    from seg.guard import Guard
    from seg.settings import Settings
    from seg.sources import load

    settings = Settings(data=str(drawn), batch_size=3, steps=4, seed=9)
    stream = Stream(read_pairs(load(settings))[0], settings, 13)
    guard = Guard(settings, stream, drawn, 3)
    guard.set_model(type('M', (), {'optimizer': type('O', (), {'learning_rate': 0.5})}))
    guard.on_epoch_begin(1)
    with pytest.raises(InputError) as e:
        guard.on_train_batch_end(2, {'loss': float('nan')})
    images, _ = list(stream.batches().take(7))[-1]  # epoch 2, step 3
    for image in images:
        same = [
            p
            for p, _ in stream.pairs.pairs
            if np.allclose(np.asarray(Image.open(p)) / 255, image, atol=1e-5)
        ]
        assert str(same[0]) in str(e.value)


def test_a_picture_with_nan_is_named_before_training(copy, capsys):
    for image in [p for s in ('train', 'val', 'test') for p in (copy / s).iterdir()]:
        deep = np.asarray(Image.open(image).convert('L')).astype(np.float32)
        if image.name == 'train_0003.png':
            deep[5, 5] = np.nan
        image.unlink()
        Image.fromarray(deep).save(image.with_suffix('.tif'))
    line = refused(capsys, 'train', '--data', 'data', *TINY)
    assert 'train_0003.tif: holds values that are not finite' in line


def test_a_picture_that_vanishes_during_training_is_named(copy, capsys, monkeypatch):
    import datapre
    from seg import train

    monkeypatch.setattr(datapre, 'CACHE_BYTES', 0)
    monkeypatch.setattr(
        train.Guard,
        'on_train_begin',
        lambda *_: [p.unlink() for p in (copy / 'train').glob('*.png')],
    )
    line = refused(capsys, 'train', '--data', 'data', '--filters', '2', '--steps', '50')
    assert 'train_0' in line and 'no such file' in line


def test_ctrl_c_stops_after_the_step_and_says_how_to_go_on(drawn, here):
    import signal

    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / 'tests/shallow.py',
            'train',
            '--data',
            drawn,
            '--filters',
            '2',
            '--epochs',
            '500',
            '--steps',
            '2',
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(here.glob('log/*/state.npz')) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in err
    assert '--resume log/' in out and 'stopping after this step' in err
    assert (here / 'camvid.hdf5').exists()


def test_the_jax_backend_trains_predicts_and_resumes(drawn, here):
    pytest.importorskip('jax')
    for flags in (
        ['train', '--data', drawn, *TINY, '--epochs', '2', '--border-weights'],
        ['train', '--resume'],
        ['predict', drawn / 'test'],
    ):
        out = subprocess.run(
            [sys.executable, ROOT / 'main.py', *flags],
            capture_output=True,
            text=True,
            env=os.environ | {'KERAS_BACKEND': 'jax'},
        )
        assert out.returncode == 0, out.stderr[-2000:]
    assert len(list((here / 'predicted/camvid').glob('*.png'))) == 3


# ---------------------------------------------------------------------------- mistakes


def edit(path, values):
    label = np.array(Image.open(path))
    for (row, column), value in values.items():
        label[row, column] = value
    Image.fromarray(label).save(path)


MISTAKES = {
    'empty folder': (
        lambda d: [p.unlink() for p in (d / 'train').iterdir()],
        ['train', 'found none'],
    ),
    'no label': (lambda d: (d / 'trainannot/train_0003.png').unlink(), ['train_0003.png', 'label']),
    'no image': (lambda d: (d / 'val/val_0001.png').unlink(), ['val_0001.png', 'image']),
    'truncated': (
        lambda d: (d / 'train/train_0002.png').write_bytes(
            (d / 'train/train_0002.png').read_bytes()[:900]
        ),
        ['train_0002.png', 'damaged'],
    ),
    'truncated label': (
        lambda d: (d / 'valannot/val_0002.png').write_bytes(
            (d / 'valannot/val_0002.png').read_bytes()[:100]
        ),
        ['val_0002.png'],
    ),
    'text as png': (lambda d: (d / 'train/train_0001.png').write_text('hello'), ['train_0001.png']),
    'sizes differ': (
        lambda d: Image.new('RGB', (60, 48)).save(d / 'train/train_0004.png'),
        ['train_0004.png', '48x60', '48x64'],
    ),
    'label size': (
        lambda d: Image.new('L', (64, 40)).save(d / 'trainannot/train_0004.png'),
        ['train_0004.png', '40x64'],
    ),
    'label value': (
        lambda d: edit(d / 'trainannot/train_0005.png', {(7, 9): 77}),
        ['trainannot/train_0005.png', '77', 'row 7', 'column 9'],
    ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_broken_data_is_named_and_nothing_is_lost(name, copy, done, here, capsys):
    shutil.copy(done / 'camvid.hdf5', here)
    damage, words = MISTAKES[name]
    damage(copy)
    line = refused(capsys, '--data', 'data', *TINY)
    for word in words:
        assert word in line, line
    assert (here / 'camvid.hdf5').read_bytes() == (done / 'camvid.hdf5').read_bytes()


def test_without_data_one_line_says_how_to_get_it(here, capsys):
    status, _, error = run(capsys)
    assert status == 2 and len(error.strip().splitlines()) == 1
    assert 'CamVid: expected' in error and 'main.py download' in error and 'sample' in error


@pytest.mark.parametrize(
    'argv, words',
    [
        (['trian'], ['trian', 'did you mean train']),
        (['--filtres', '3'], ['--filtres', 'did you mean --filters']),
        (['--filters', '0'], ['--filters', '1 to 1024', '0']),
        (['--epochs', 'many'], ['--epochs', 'many']),
        (['--learning-rate', 'nan'], ['--learning-rate']),
        (['--size', '360'], ['360x480']),
        (['--size', '8x8'], ['16']),
        (['--loss', 'mes'], ['mes', 'did you mean mse']),
        (['--num-class', '-3'], ['--num-class']),
        (['--num-class', '1', '--border-weights'], ['two classes', 'found', '--num-class 2']),
        (['--resume'], ['--resume', 'log']),
        (['predict', 'nowhere.png'], ['nowhere.png']),
    ],
)
def test_wrong_arguments_are_named(argv, words, here, capsys):
    line = refused(capsys, *argv)
    for word in words:
        assert word in line, line


def test_wrong_models_are_named(done, drawn, here, capsys):
    test = str(drawn / 'test')
    assert 'expected a trained model' in refused(capsys, 'predict', test, '--model', 'other.hdf5')
    (here / 'camvid.hdf5').write_text('hello')
    assert 'expected a Keras model' in refused(capsys, 'predict', test)
    (here / 'cut.hdf5').write_bytes((done / 'camvid.hdf5').read_bytes()[:5000])
    assert 'cut.hdf5' in refused(capsys, 'predict', test, '--model', 'cut.hdf5')
    line = refused(
        capsys,
        'train',
        '--data',
        drawn,
        *TINY,
        '--filters',
        '4',
        '--weights',
        done / 'camvid.hdf5',
        '--model',
        'new.hdf5',
    )
    assert 'do not fit' in line


def test_output_that_can_not_be_written(done, drawn, here, capsys):
    (here / 'file').write_text('x')
    line = refused(
        capsys, 'predict', drawn / 'test', '--model', done / 'camvid.hdf5', '--output', 'file'
    )
    assert 'file' in line and '--output' in line
    assert 'file' in refused(capsys, 'train', '--data', drawn, *TINY, '--log', 'file')


def test_version_note(monkeypatch, capsys):
    from seg import settings

    monkeypatch.setattr(settings, 'version', lambda name: '0.1')
    program.main(['check', 'nowhere'])
    error = capsys.readouterr().err.splitlines()
    lines = [line for line in error if 'outside the tested versions' in line]
    assert len(lines) == 1 and 'keras 0.1 (tested: ' in lines[0]


@pytest.mark.camvid
def test_camvid_360_rows(camvid, here, capsys):
    """One step on the real data, and its own pictures predicted at 360x480."""
    (here / 'real').mkdir()
    for name in ('train', 'trainannot', 'val', 'valannot'):
        (here / 'real' / name).symlink_to(camvid / name)
    status, out, _ = run(capsys, 'train', '--data', 'real', *TINY)
    assert status == 0 and '367 training and 101 validation images of 360x480' in out
    picture = next((camvid / 'test').glob('*.png'))
    assert run(capsys, 'predict', picture)[0] == 0
    assert Image.open(here / f'predicted/camvid/{picture.name}').size == (480, 360)
