"""The network as a function: what `predict` writes, to the bit, from whatever holds a picture."""

import itertools
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from labelled import small_network
from PIL import Image

import main as program
from model import save_model
from seg import Segmenter, folds
from seg.classes import CAMVID, TWO_CLASSES
from seg.files import InputError
from seg.modelfile import About
from seg.scenes import draw_scene
from seg.sizes import SizeRule

ROOT = Path(program.__file__).parent
SIZE = (48, 64)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Model files: two of three channels, one of grey, one of any size, one of 16 bits."""
    folder = tmp_path_factory.mktemp('models')
    save_model(small_network(3, 13, SIZE, seed=1), folder / 'one.hdf5')
    save_model(small_network(3, 13, SIZE, seed=2), folder / 'two.hdf5')
    save_model(small_network(1, 1, SIZE), folder / 'grey.hdf5')
    save_model(small_network(3, 13), folder / 'free.keras')
    deep = small_network(1, 1, SIZE)
    deep.about = About(TWO_CLASSES, SizeRule('pad', *SIZE), (-1000.0, 3000.0))
    save_model(deep, folder / 'deep.hdf5')
    with pytest.MonkeyPatch.context() as patch:  # each file is opened once for all
        patch.setattr(folds, 'load_models', cache(folds.load_models))
        yield folder


@pytest.fixture
def pictures(here):
    """{name: path} of pictures of many kinds, which lie in a folder of their own."""
    (here / 'in').mkdir()
    image = Image.fromarray(draw_scene(1, (61, 83))[0])
    rng = np.random.default_rng(0)
    turned = image.getexif()
    turned[0x0112] = 6
    held = {'plain.png': image, 'small.jpg': image.resize((64, 48)), 'grey.png': image.convert('L')}
    held |= {'alpha.png': image.convert('RGBA'), 'palette.png': image.convert('P')}
    held['deep.png'] = Image.fromarray(rng.integers(0, 2**16, (50, 60), np.uint16))
    for name, picture in held.items():
        picture.save(here / 'in' / name)
    image.save(here / 'in/turned.jpg', exif=turned)
    return {path.stem: path for path in (here / 'in').iterdir()}


def predicted(model, *words, save='colour,index,overlay,probability'):
    """The folder of what `predict` wrote."""
    assert program.main(['predict', 'in', '--model', str(model), '--save', save, *words]) == 0
    return Path('predicted') / (model.parent.name if '*' in model.name else model.stem)


@pytest.mark.parametrize(
    'name, words, options',
    [
        ('one.hdf5', [], {}),
        ('one.hdf5', ['--tile', '32x32', '--overlap', '0'], {'tile': (32, 32), 'overlap': 0}),
        ('free.keras', ['--tile', '32x64'], {'tile': (32, 64)}),
        ('*[eo].hdf5', [], {}),
        ('grey.hdf5', ['--flip'], {'flip': True}),
    ],
)
def test_masks_are_those_of_predict(files, pictures, name, words, options):
    model = files / name
    made = predicted(model, *words)
    segmenter = Segmenter(model, **options)
    for stem, path in pictures.items():
        with Image.open(path) as held:
            array = np.asarray(held)
            raw = stem not in ('palette', 'turned')  # arrays know of neither
            from_array = segmenter(array) if raw else None
            from_picture = segmenter(held)
        result = segmenter(str(path), probabilities=True)
        index = np.asarray(Image.open(made / f'index/{stem}.png'))
        assert result.index.dtype == np.uint8 and (result.index == index).all()
        assert (from_picture.index == index).all() and from_picture.probabilities is None
        assert from_array is None or (from_array.index == index).all()
        with np.load(made / f'probability/{stem}.npz') as known:
            kept = result.probabilities
            assert kept.dtype == np.float32 and kept.shape == (*index.shape, len(segmenter.classes))
            expected = known['probability']
            assert (kept[..., -expected.shape[-1] :].astype(np.float16) == expected).all()
        places = {'colour': f'{stem}.png', 'index': f'index/{stem}.png'}
        for kind, place in (places | {'overlay': f'overlay/{stem}.jpg'}).items():
            result.save(Path('out') / place, kind)
            assert (Path('out') / place).read_bytes() == (made / place).read_bytes()


def test_several_are_read_as_they_are_asked_for(files, pictures):
    segmenter, read = Segmenter(files / 'one.hdf5'), []

    def endless():
        for path in itertools.cycle(sorted(pictures.values())):
            read.append(path)
            yield path

    results = segmenter(endless())
    first = [next(results) for _ in range(10)]
    assert [result.file for result in first] == read[:10] and len(read) < 15
    results.close()
    frames = np.stack([draw_scene(i, SIZE)[0] for i in range(3)])
    for batch in (frames, list(frames), [Image.fromarray(frame) for frame in frames]):
        for frame, result in zip(frames, segmenter(batch), strict=True):
            assert (result.index == segmenter(frame).index).all()
            assert (result.image == frame).all()
    assert [str(result.file) for result in segmenter(frames)] == [f'picture {i}' for i in (1, 2, 3)]
    assert [*segmenter([])] == []


def test_several_networks_are_averaged(files, pictures):
    path = pictures['plain']
    both = [Segmenter(files / name)(path, True).probabilities for name in ('one.hdf5', 'two.hdf5')]
    found = Segmenter(str(files / '*[eo].hdf5'))(path, probabilities=True).probabilities
    np.testing.assert_allclose(found, (both[0] + both[1]) / 2, atol=1e-6)


def test_arrays_of_other_types(files):
    image = draw_scene(3, SIZE)[0]
    segmenter = Segmenter(files / 'one.hdf5')
    index = segmenter(image).index
    for array in (image * np.uint16(257), image / 255, (image / 255).astype(np.float32)):
        assert (segmenter(array).index == index).mean() > 0.999
    assert (segmenter(np.asfortranarray(image)).index == index).all()  # of other strides
    assert (segmenter(image[..., :1]).index == segmenter(image[..., 0]).index).all()
    deep = Segmenter(files / 'deep.hdf5')
    values = np.random.default_rng(0).integers(-2000, 4000, SIZE)
    np.save(files / 'v.npy', values.astype(np.int16))
    expected = deep(files / 'v.npy').index
    for kind in (np.int16, np.int64, np.float32):
        assert (deep(values.astype(kind)).index == expected).all()


def test_what_a_result_knows(files, pictures):
    result = Segmenter(files / 'one.hdf5')(pictures['plain'], probabilities=True)
    assert result.classes.names == CAMVID.names and result.image.shape == (61, 83, 3)
    shares = result.shares
    assert sum(shares.values()) == pytest.approx(1) and [*shares.values()] == sorted(
        shares.values(), reverse=True
    )
    for name, share in shares.items():
        assert share == (result.index == CAMVID.names.index(name)).mean()
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-5)
    assert result.overlay().size == (498, 366)  # enlarged, as by `predict`
    assert result.overlay(side_by_side=True).size == (998, 366)
    result.save('a.csv')
    rows = Path('a.csv').read_text('utf-8-sig').splitlines()
    assert rows[0].startswith('picture,class,area') and rows[1].startswith('plain,')
    result.save('a.npz')
    with np.load('a.npz') as held:
        assert (held['probability'] == result.probabilities).all()


def test_mistakes_are_one_line(files, pictures, here):
    segmenter = Segmenter(files / 'one.hdf5')
    image = draw_scene(3, SIZE)[0]
    (here / 'in/text.png').write_text('no picture')
    for wrong, said in (
        ('missing.jpg', 'missing.jpg: expected a picture, found no such file'),
        ('in', 'found a folder'),
        ('in/text.png', 'not a picture'),
        (image.astype(np.int64), 'picture 1: expected uint8, uint16, or floats of 0 to 1, found'),
        (image.astype(float), 'found float64, '),
        (image.transpose(2, 0, 1), r'picture 1: expected a path.* found an array of shape \(3, 48'),
        (np.zeros((0, 5, 3), np.uint8), 'declares 0x5 pixels'),
        (np.zeros((48, 64, 5), np.uint8), '5 bands, expected 3 as in training'),
        (np.full((48, 64), np.nan), 'found float64'),
        ([None], 'picture 1: expected a path'),
        ([image, 7], 'picture 2: expected a path'),
        (None, 'NoneType: expected pictures'),
    ):
        with pytest.raises(InputError, match=said) as error:
            found = segmenter(wrong)
            [*found] if not hasattr(found, 'index') else None
        assert '\n' not in str(error.value)
    for options, said in (
        ({'tile': (5, 5)}, r'tile \(5, 5\): expected \(height, width\)'),
        ({'tile': 512}, 'tile 512: expected'),
        ({'model': 'none.hdf5'}, 'none.hdf5: expected a trained model'),
        ({'model': 'none*.hdf5'}, 'expected model files of this pattern'),
    ):
        with pytest.raises(InputError, match=said):
            Segmenter(**{'model': files / 'one.hdf5'} | options)
    result = segmenter(image)
    for path, kind, said in (
        ('a.gif', None, 'expected one of colour .png'),
        ('a.jpg', 'colour', 'found colour .jpg'),
        ('a.npz', None, 'probabilities=True'),
        ('in/plain.png', None, 'did not write it'),
    ):
        with pytest.raises(InputError, match=said):
            result.save(path, kind)


def test_naming_it_imports_nothing():
    """Neither NumPy nor TensorFlow before it is used; and other names are no attributes."""
    code = (
        'import sys, seg\nassert not {"numpy", "tensorflow"} & {*sys.modules}\n'
        'from seg import Segmenter\nassert "tensorflow" not in sys.modules\n'
        'assert not hasattr(seg, "segmentor")'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_the_notebook_runs(tmp_path, monkeypatch):
    """As committed, in a kernel of its own; a tiny training in place of a minute's."""
    nbformat, nbclient = map(pytest.importorskip, ('nbformat', 'nbclient'))
    notebook = nbformat.read(ROOT / 'docs/quickstart.ipynb', 4)
    nbformat.validate(notebook)
    assert not any(cell.get('outputs') for cell in notebook.cells)
    monkeypatch.setenv('QUICKSTART', '--steps 2 --epochs 1 --filters 2')
    monkeypatch.setenv('QUICKSTART_SCENES', '4')
    monkeypatch.setenv('QUICKSTART_FOLDER', str(tmp_path / 'work'))
    how = dict(timeout=120, resources={'metadata': {'path': str(ROOT / 'docs')}})
    nbclient.NotebookClient(notebook, **how).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    assert sum('image/png' in output.get('data', {}) for output in outputs) == 3
    text = ''.join(output.get('text', '') for output in outputs)
    assert 'mIoU' in text and 'Wrote' in text and '(240, 320, 13)' in text
    assert os.listdir(tmp_path) == ['work'] and (tmp_path / 'work/mine.png').exists()
