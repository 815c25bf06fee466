"""Crops in training, tiles in prediction, and what is written of large pictures and stacks."""

import csv
import json

import keras
import numpy as np
import pytest
import scipy.ndimage
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import main as program
from datapre import Pairs
from model import unet
from seg.classes import numbered_classes
from seg.files import InputError
from seg.formats import pages_of
from seg.losses import border_weight
from seg.modelfile import About, at_any_size, load_model, save_model
from seg.predict import Job, jobs_of, paint
from seg.scenes import draw_scene
from seg.settings import Settings
from seg.sizes import STEP, SizeRule
from seg.sources import load
from seg.tiles import BLEND, Canvas, OnDisk, fields, parts, plan, ramp, spread
from tests.labelled import photo, scene
from tests.test_formats import dicom

pytestmark = pytest.mark.usefixtures('shallow')

TINY = '--filters 2 --steps 2 --epochs 1'.split()


@given(st.integers(1, 4000), st.integers(1, 12), st.integers(0, 11))
def test_tiles_cover_a_side_and_no_more(length, tile, overlap):
    tile, overlap = tile * STEP, min(overlap, tile - 1) * STEP
    side, starts = spread(length, tile, overlap)
    whole = -(-length // STEP) * STEP
    assert starts[0] == 0 and starts[-1] + side == whole and side <= max(tile, STEP)
    assert all(start % STEP == 0 for start in starts)
    fewest = max(1, -(-(whole - overlap) // (tile - overlap)))
    assert len(starts) == fewest
    total = np.zeros(whole)
    found, share = parts(starts, side), 0
    for start, (first, end, after) in zip(starts, found, strict=True):
        assert start <= first < end <= start + side
        # what is left out at a border within the picture: half of what overlaps but the blend
        assert first == 0 or first - start >= (overlap - BLEND) // 2
        assert end == whole or start + side - end >= (overlap - BLEND) // 2
        weight = np.ones(end - first)
        weight[:share] *= ramp(share)
        weight[end - first - after :] *= ramp(after)[::-1]
        total[first:end] += weight
        share = after
    assert np.allclose(total, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 5), st.integers(0, 1))
def test_a_canvas_gives_each_pixel_once(height, width, tile, overlap):
    """Through a network that changes nothing, a picture comes back as it is."""
    picture = np.random.default_rng(height).random((height, width, 2), np.float32)
    seen, found = np.zeros((height, width), int), np.empty_like(picture)

    def emit(top, left, part):
        window = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
        seen[window] += 1
        found[window] = part

    canvas = Canvas(picture.shape, (tile * STEP,) * 2, overlap * STEP, emit)
    beyond = np.pad(picture, ((0, 200), (0, 200), (0, 0)), 'edge')
    for n, (place, part) in enumerate(canvas.windows(picture), 1):
        assert part.shape == (*canvas.sides, 2) and n <= len(canvas)
        y, x = (starts[i] for starts, i in zip(canvas.starts, place))
        assert (part == beyond[y : y + part.shape[0], x : x + part.shape[1]]).all()
        canvas.add(place, part.copy())
    assert (seen == 1).all() and np.abs(found - picture).max() < 1e-6


def test_an_array_on_disk(tmp_path):
    array = np.random.default_rng(0).integers(0, 9, (50, 40, 3)).astype(np.uint16)
    disk = OnDisk(array.shape, array.dtype, tmp_path)
    for part in np.split(array, [7, 30]):
        disk.append(part)
    after = OnDisk((3,), np.uint8, tmp_path, disk.file)
    after.append(np.arange(3))
    assert np.asarray(after).tolist() == [0, 1, 2]
    assert disk.nbytes == array.nbytes and (np.asarray(disk) == array).all()
    assert (disk[3:9, 5:7] == array[3:9, 5:7]).all() and not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match='could not be written'):
        OnDisk((4, 4), np.uint8, tmp_path / 'none')


def free_network(**options):
    keras.utils.set_random_seed(1)
    model = unet(None, (None, None, 3), 5, filters=2, **options)
    model.about = About(numbered_classes(5), SizeRule('tile', 64, 64))
    kernel, bias = model.get_layer('scores').get_weights()
    model.get_layer('scores').set_weights([100 * kernel, bias])  # else all classes are alike
    return model


@pytest.mark.parametrize('options', [{}, {'stride': 2}, {'dilated': True}])
def test_how_far_a_pixel_is_seen(options):
    """One pixel changed, through weights that let nothing cancel out."""
    model = free_network(**options)
    for layer in model.layers:
        if hasattr(layer, 'kernel'):
            layer.set_weights([np.full(w.shape, 0.05) for w in layer.get_weights()])
    logits = keras.Model(model.input, model.layers[-1].input)
    side, reach = 1024, max(far for _, far, _ in fields(model))
    picture = np.full((1, side, 32, 3), 0.5, np.float32)
    before = np.asarray(logits(picture))
    farthest = 0
    for place in range(side // 2, side // 2 + 32, 5):
        picture[0, place] = 5
        rows = np.flatnonzero((np.asarray(logits(picture)) != before).any((0, 2, 3)))
        farthest = max(farthest, place - rows[0], rows[-1] - place)
        picture[0, place] = 0.5
    assert 0.6 * reach < farthest <= reach + 16


def test_what_tiles_a_network_takes(monkeypatch):
    monkeypatch.setattr('model.LEVELS', 5)
    small, large = free_network(), unet(None, (None, None, 3), 5, filters=64)
    (a, _), (b, _) = plan(small)[0], plan(large)[0]
    assert b < a == 1536 and b % STEP == 0
    reach = max(far for _, far, _ in fields(small))
    assert plan(small, (2048, 2048))[1] == -(-int(2 * reach + BLEND) // STEP) * STEP
    assert plan(small, (256, 256))[1] == 128 and plan(small, (256, 256), None, True)[1] == 32
    assert plan(small)[1] < 1536 // 3 and plan(small, None, None, True)[1] == 1536 // 12
    assert plan(small, (100, 200), 40) == ((128, 224), 64)
    assert plan(small, (64, 64), 99) == ((64, 64), 32)
    assert plan(small, (256, 256), 0) == ((256, 256), 0)


def painted(model, image, **options):
    [result] = paint(model, [Job('x', lambda: image, None, None)], Settings(**options), np.float16)
    return result.output.astype(np.float32), result.index


@pytest.mark.parametrize('flip', [False, True])
def test_tiled_and_whole_agree(flip):
    model, image = free_network(), draw_scene(3, (448, 640))[0]
    whole, index = painted(model, image, tile=(1024, 1024), flip=flip)
    overlap = 2 * int(max(far for _, far, _ in fields(model))) + BLEND
    tiled, found = painted(model, image, tile=(416, 416), overlap=overlap, flip=flip)
    assert whole.shape == tiled.shape == (*image.shape[:2], 5)
    assert np.abs(whole - tiled).max() < 1e-3 and (index == found).mean() > 0.9999
    apart = painted(model, image, tile=(416, 416), overlap=0, flip=flip)[0]
    assert np.abs(whole - apart).max() > 0.01


def test_a_network_of_one_size_at_any(tmp_path):
    """Its padding goes, its weights stay: as if it had been built without a size."""
    keras.utils.set_random_seed(2)
    fixed = unet(None, (40, 56, 3), 5, filters=2)
    fixed.about = About(numbered_classes(5), SizeRule('whole', 40, 56))
    free = at_any_size(fixed)
    assert free.input_shape == (None, None, None, 3) and free.about.rule.kind == 'tile'
    other = unet(None, (None, None, 3), 5, filters=2)
    other.set_weights(fixed.get_weights())
    image = draw_scene(0, (64, 96))[0][None] / np.float32(255)
    assert np.abs(np.asarray(free(image)) - np.asarray(other(image))).max() < 1e-5
    save_model(free, tmp_path / 'm.hdf5')
    again = load_model(tmp_path / 'm.hdf5')
    assert again.about.rule == SizeRule('tile', 40, 56) and again.input_shape[1] is None
    picture = keras.Input((16, 16, 3))
    flat = keras.layers.Dense(768)(keras.layers.Flatten()(picture))
    odd = keras.Model(picture, keras.layers.Reshape((16, 16, 3))(flat))
    odd.about = About(numbered_classes(3))
    with pytest.raises(InputError, match='leave --tile out'):
        at_any_size(odd)


def write_mixed(folder, sizes=((70, 90), (96, 64), (120, 100), (40, 50)), n=5):
    for i, size in enumerate(sizes * 2):
        for part in ('images', 'labels'):
            (folder / part).mkdir(parents=True, exist_ok=True)
        photo(i, size).save(folder / f'images/{i}.png')
        Image.fromarray(scene(n, size, i)).save(folder / f'labels/{i}.png')
    return folder


def crops_of(folder, room=None, **options):
    data = load(Settings(data=str(folder), val_split=0, **options))
    assert data.rule.kind == 'tile' and not data.errors
    disk = folder if room else None
    return Pairs(data, 'train', data.rule, room, disk)


def test_crops_are_places_in_pictures(tmp_path):
    pairs = crops_of(write_mixed(tmp_path), crop=(64, 64))
    on_disk = crops_of(tmp_path, [0], crop=(64, 64))
    assert all(isinstance(part, OnDisk) for pair in on_disk.cache.values() for part in pair)
    starts = set()
    for k in range(60):
        image, label = pairs.sample(k, 1)
        assert image.shape == (64, 64, 3) and label.shape == (64, 64)
        for a, b in zip((image, label), on_disk.sample(k, 1), strict=True):
            assert (a == b).all()
        found = 0
        for i in range(len(pairs)):
            whole, truth = pairs[i]
            inside = min(64, whole.shape[0]), min(64, whole.shape[1])
            views = np.lib.stride_tricks.sliding_window_view(whole[..., 0], inside)
            match = (views == image[: inside[0], : inside[1], 0]).all((2, 3))
            for y, x in np.argwhere(match):
                window = slice(y, y + inside[0]), slice(x, x + inside[1])
                assert (truth[window] == label[: inside[0], : inside[1]]).all()
                assert (label[inside[0] :] == 255).all() and (label[:, inside[1] :] == 255).all()
                found, starts = found + 1, starts | {(i, y, x)}
        assert found == 1
    assert len(starts) > 30
    assert (pairs.sample(7, 1)[0] == crops_of(tmp_path, crop=(64, 64)).sample(7, 1)[0]).all()
    assert any((pairs.sample(k, 1)[0] != pairs.sample(k, 2)[0]).any() for k in range(8))


def test_a_third_of_the_crops_holds_a_rare_class(tmp_path):
    for part in ('images', 'labels'):
        (tmp_path / part).mkdir()
    for i in range(2):
        label = np.zeros((800, 800), np.uint8)
        label[100 + i, 700] = 1
        photo(i, (800, 800)).save(tmp_path / f'images/{i}.png')
        Image.fromarray(label).save(tmp_path / f'labels/{i}.png')
    pairs = crops_of(tmp_path, crop=(64, 64))
    held = np.mean([(pairs.sample(k, 3)[1] == 1).any() for k in range(600)])
    assert 0.27 < held < 0.40  # by chance alone 0.007


def test_the_default_is_crops_where_pictures_differ_or_are_large(tmp_path):
    mixed = load(Settings(data=str(write_mixed(tmp_path / 'a'))))
    assert mixed.rule == SizeRule('tile', 64, 64)
    assert any('40x50 to 120x100' in line and '--crop' in line for line in mixed.notes)
    for part in ('images', 'labels'):
        (tmp_path / 'b' / part).mkdir(parents=True)
        for i in range(3):
            picture = np.zeros((1100, 1000), np.uint8)
            picture[i] = i
            Image.fromarray(picture).save(tmp_path / f'b/{part}/{i}.png')
    large = load(Settings(data=str(tmp_path / 'b')))
    assert large.rule == SizeRule('tile', 384, 384)
    assert load(Settings(data=str(tmp_path / 'b'), size=(32, 32))).rule == SizeRule('pad', 32, 32)


def run(*argv):
    assert program.main([*map(str, argv)]) == 0


def test_training_on_crops_and_scoring_in_tiles_are_one(here, capsys):
    """The score after the epoch is that of `evaluate`, to the last digit, tile by tile."""
    write_mixed(here / 'data')
    how = '--tile', '64x64', '--overlap', '32'
    run('--data', 'data', '--crop', '64x64', *TINY, *how, '--model', 'm.hdf5')
    state = np.load(next(here.glob('log/*/state.npz')))
    history = json.loads(str(state['progress']))['history']
    run('evaluate', 'data', '--model', 'm.hdf5', *how)
    assert json.loads((here / 'scores.json').read_text())['miou'] == history['val_miou'][-1]
    model = keras.models.load_model('m.hdf5', compile=False)
    assert model.input_shape == (None, None, None, 3)
    run('predict', 'data/images', '--model', 'm.hdf5', '--output', 'out', *how)
    for i, size in enumerate(((70, 90), (96, 64), (120, 100), (40, 50))):
        assert np.asarray(Image.open(here / f'out/{i}.png')).shape[:2] == size
    run('train', '--resume', '--epochs', '2')
    assert program.main(['train', 'data', '--crop', '64x64', '--size', '64x64', *TINY]) == 2
    assert '--crop' in capsys.readouterr().err


def test_a_model_of_one_size_paints_at_its_own_scale_when_asked(here, drawn):
    run('train', '--data', drawn, *TINY, '--model', 'm.hdf5')
    Image.fromarray(draw_scene(0, (150, 200))[0]).save('x.png')
    run('predict', 'x.png', '--model', 'm.hdf5', '--tile', '64x96', '--save', 'index')
    model = at_any_size(load_model('m.hdf5'))
    [result] = paint(model, jobs_of(model, [('x.png', None)]), Settings(tile=(64, 96)))
    assert (np.asarray(Image.open('predicted/m/index/x.png')) == result.index).all()
    assert not (here / 'predicted/m/x.png').exists()


def volumes(here):
    """ISBI's kind of set: a stack of pictures, a stack of labels."""
    pictures = [np.asarray(photo(i, (48, 64)).convert('L')) for i in range(6)]
    labels = [(scene(2, seed=i) * 255).astype(np.uint8) for i in range(6)]
    (here / 'data').mkdir()
    for name, stack in (('volume', pictures), ('labels', labels)):
        tifffile.imwrite(f'data/train-{name}.tif', np.stack(stack), photometric='minisblack')
    tifffile.imwrite('data/test-volume.tif', np.stack(pictures[:4]), photometric='minisblack')
    return pictures


def test_stack_in_stack_out(here):
    pictures = volumes(here)
    data = load(Settings(data='data'))
    assert [len(data.splits[s]) for s in ('train', 'val', 'test')] == [5, 1, 4]
    assert data.channels == 1 and not data.errors and len(data.classes) == 2
    run('data', *TINY, '--model', 'm.hdf5')
    masks = next(here.glob('log/*/masks'))
    with tifffile.TiffFile(masks / 'test-volume.tif') as out:
        assert len(out.pages) == 4 and out.pages.first.photometric == 3
        table = out.pages.first.colormap
        assert (table[:, 1] // 257 == load_model('m.hdf5').about.classes.display[1, :3]).all()
    run(
        'predict', 'data/test-volume.tif', '--model', 'm.hdf5', '--output', 'out', '--save', 'index'
    )
    stack = tifffile.imread('out/index/test-volume.tif')
    assert stack.shape == (4, 48, 64)
    model = load_model('m.hdf5')
    for i, picture in enumerate(pictures[:4]):
        Image.fromarray(picture).save('one.png')
        [result] = paint(model, jobs_of(model, [('one.png', None)]))
        assert (result.index == stack[i]).all()
    run(
        'predict', 'data/test-volume.tif', '--model', 'm.hdf5', '--output', 'out', '--save', 'index'
    )
    tifffile.imwrite('out/index/test-volume.tif', stack)  # somebody else's
    again = ['predict', 'data/test-volume.tif', '--model', 'm.hdf5', '--output', 'out']
    assert program.main([*again, '--save', 'index']) == 2
    assert (tifffile.imread('out/index/test-volume.tif') == stack).all()


def test_geometry_of_volumes_and_maps_is_kept(here):
    nibabel, pydicom = pytest.importorskip('nibabel'), pytest.importorskip('pydicom')
    affine = np.array([[0, 2, 0, 5], [-1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    for split, n in (('Tr', 2), ('Ts', 1)):
        for part in ('images', 'labels')[: 2 if split == 'Tr' else 1]:
            (here / f'data/{part}{split}').mkdir(parents=True)
            for k in range(n):
                volume = np.stack([scene(2, seed=9 * k + i) for i in range(6)], -1).swapaxes(0, 1)
                values = volume.astype(np.int16) * (900 if part == 'images' else 1)
                image = nibabel.Nifti1Image(values, affine)
                nibabel.save(image, f'data/{part}{split}/case_{k}.nii.gz')
    run('data', *TINY, '--model', 'm.hdf5')
    out = nibabel.load(next(here.glob('log/*/masks/case_0.nii.gz')))
    assert out.shape == (64, 48, 6) and np.allclose(out.affine, affine)
    assert out.get_data_dtype() == np.uint8
    source = nibabel.load('data/imagesTs/case_0.nii.gz')
    assert np.allclose(out.header.get_zooms(), source.header.get_zooms())
    keras.utils.set_random_seed(3)
    model = unet(None, (48, 64, 1), 2, filters=2)
    kernel, bias = model.get_layer('scores').get_weights()
    model.get_layer('scores').set_weights([100 * kernel, bias])  # decided, and not all alike
    model.about = About(numbered_classes(2), SizeRule('whole', 48, 64), (0.0, 900.0))
    save_model(model, 'n.hdf5')
    run('predict', 'data/imagesTs', '--model', 'n.hdf5', '--output', 'vol')
    found = np.asarray(nibabel.load('vol/case_0.nii.gz').dataobj)
    pages = pages_of(here / 'data/imagesTs/case_0.nii.gz')
    for k, result in enumerate(paint(model, jobs_of(model, [(page, None) for page in pages]))):
        assert (found[:, :, k].T == result.index).all()
    assert len({*found.ravel().tolist()}) == 2
    run('predict', *pages[4:], '--model', 'n.hdf5', '--output', 'part', '--save', 'index')
    part = np.asarray(nibabel.load('part/index/case_0.nii.gz').dataobj)
    assert (part[:, :, :4] == 255).all() and (part[:, :, 4:] == found[:, :, 4:]).all()
    dicom(here / 'ct.dcm', scene(2).astype(np.int16) * 900)
    tifffile.imwrite(
        'map.tif',
        scene(2) * 255,
        photometric='minisblack',
        extratags=[(33550, 'd', 3, (2.0, 2.0, 0.0), True), (34735, 'H', 4, (1, 1, 0, 0), True)],
    )
    run('predict', 'ct.dcm', 'map.tif', '--model', 'n.hdf5', '--output', 'out', '--save', 'index')
    before, after = pydicom.dcmread('ct.dcm'), pydicom.dcmread('out/index/ct.dcm')
    assert after.pixel_array.shape == (48, 64) and after.BitsAllocated == 8
    for name in ('PixelSpacing', 'ImagePositionPatient', 'PatientID'):
        assert after[name] == before[name]
    assert after.SOPInstanceUID != before.SOPInstanceUID
    [result] = paint(model, jobs_of(model, [('ct.dcm', None)]))
    assert (after.pixel_array == result.index).all()
    with tifffile.TiffFile('out/index/map.tif') as out:
        assert out.pages.first.tags.valueof(33550) == (2.0, 2.0, 0.0)
        assert out.pages.first.tags.valueof(34735) == (1, 1, 0, 0)


def test_each_kind_that_is_saved(here, drawn, capsys):
    run('train', '--data', drawn, *TINY, '--model', 'm.hdf5')
    kinds = 'colour,index,probability,overlay,objects'
    files = sorted((drawn / 'test').iterdir())
    run('predict', drawn / 'test', '--model', 'm.hdf5', '--output', 'out', '--save', kinds)
    classes = load_model('m.hdf5').about.classes
    rows = list(csv.DictReader((here / 'out/objects.csv').open(encoding='utf-8-sig')))
    for file in files:
        index = np.asarray(Image.open(f'out/index/{file.stem}.png'))
        colour = np.asarray(Image.open(f'out/{file.name}'))
        assert (colour == classes.palette[index]).all()
        with np.load(f'out/probability/{file.stem}.npz') as held:
            probability, names = held['probability'].astype(float), held['classes'].tolist()
        assert names == [*classes.names] and np.abs(probability.sum(-1) - 1).max() < 5e-3
        chosen = np.take_along_axis(probability, index[..., None].astype(int), -1)[..., 0]
        assert (chosen > probability[..., classes.scored].max(-1) - 1e-3).all()
        assert (here / f'out/overlay/{file.stem}.jpg').exists()
        expected = []
        for c in classes.scored:
            regions, n = scipy.ndimage.label(index == c, np.ones((3, 3)))
            areas = scipy.ndimage.sum_labels(index == c, regions, range(1, n + 1))
            expected += [(classes.names[c], int(area)) for area in areas]
        found = [(r['class'], int(r['area'])) for r in rows if r['picture'] == file.stem]
        assert sorted(found) == sorted(expected)
    run('predict', drawn / 'test', '--model', 'm.hdf5', '--output', 'out', '--save', kinds)
    (here / 'out/objects.csv').write_text('mine')
    assert program.main(f'predict --data {drawn} --output out --save objects'.split()) == 2
    assert (here / 'out/objects.csv').read_text() == 'mine'
    assert program.main('predict x.png --save colours'.split()) == 2
    assert 'colour,index' in capsys.readouterr().err


def test_a_large_picture_in_bounded_memory(here, monkeypatch):
    """The way of pictures that do not fit: read, painted and written in parts."""
    model = free_network()
    save_model(model, 'm.hdf5')
    image, lap = draw_scene(1, (300, 400))[0], ('--overlap', '32')
    tifffile.imwrite('x.tif', image, photometric='rgb', compression='zlib', tile=(64, 64))
    run('predict', 'x.tif', '--model', 'm.hdf5', '--output', 'a', '--tile', '128x128', *lap)
    for module in ('pictures', 'predict', 'formats'):
        monkeypatch.setattr(f'seg.{module}.MAX_PIXELS', 9999)
    run('predict', 'x.tif', '--model', 'm.hdf5', '--output', 'b', '--tile', '128x128', *lap)
    monkeypatch.setattr('seg.masks.LARGE', 9999)
    monkeypatch.setattr('seg.masks.SHOWN', 128)
    run('predict', 'x.tif', '--model', 'm.hdf5', '--output', 'c', '--tile', '128x128', *lap)
    colours = np.asarray(Image.open('a/x.png'))
    assert (np.asarray(Image.open('b/x.png')) == colours).all()
    assert (np.asarray(Image.open('c/x.tif').convert('RGB')) == colours).all()
    assert Image.open('c/overlay/x.jpg').size == (500, 375)  # every fourth pixel, 5 times as large
    for kind in ('probability', 'objects'):
        command = f'predict x.tif --model m.hdf5 --output d --tile 128x128 --save {kind}'
        assert program.main(command.split()) == 2


def test_bands_of_training_and_prediction(here):
    """Four bands, the last called alpha as GDAL and tifffile do, of which each value counts."""
    for part in ('images', 'labels'):
        (here / 'data' / part).mkdir(parents=True)
    for i in range(5):
        label = scene(3, seed=i)
        near = np.uint8([20, 240, 120])[label]
        bands = np.dstack([np.asarray(photo(i)), near])
        tifffile.imwrite(f'data/images/{i}.tif', bands, photometric='rgb')
        Image.fromarray(label).save(f'data/labels/{i}.png')
    data = load(Settings(data='data'))
    assert data.channels == 4 and not data.errors and data.intensity is None
    run('data', *TINY, '--model', 'm.hdf5')
    assert load_model('m.hdf5').input_shape[-1] == 4
    run('predict', 'data/images', '--model', 'm.hdf5', '--output', 'out')
    for i in range(5):  # as alpha it is left out
        bands = tifffile.imread(f'data/images/{i}.tif')
        bands[..., 3] = 255
        tifffile.imwrite(f'data/images/{i}.tif', bands, photometric='rgb')
    assert load(Settings(data='data')).channels == 3
    for i in range(5):  # pages of one picture each are bands where the label is one
        pages = np.random.default_rng(i).integers(0, 4095, (13, 48, 64)).astype(np.uint16)
        tifffile.imwrite(f'data/images/{i}.tif', pages, photometric='minisblack')
    data = load(Settings(data='data'))
    assert data.channels == 13 and len(data.intensity[0]) == 13 and not data.errors
    run('data', *TINY, '--model', 'n.hdf5')
    run('predict', 'data/images', '--model', 'n.hdf5', '--output', 'out2')
    assert sorted(p.name for p in here.glob('out2/*.png')) == [f'{i}.png' for i in range(5)]
    assert load_model('n.hdf5').about.intensity == data.intensity
    tifffile.imwrite('data/images/0.tif', pages[:5], photometric='minisblack')
    [line] = load(Settings(data='data')).errors
    assert '5 bands' in line and '13' in line


def test_border_weights_of_crops_are_those_of_the_whole_picture(tmp_path):
    """Of an object beyond a crop's edge, too."""
    write_mixed(tmp_path, ((90, 90),), n=3)
    data = load(Settings(data=str(tmp_path), val_split=0, crop=(64, 64)))
    plain = Pairs(data, 'train', data.rule)
    heavy = Pairs(data, 'train', data.rule, borders=True)
    for k in range(20):
        (image, label), (same, weighted) = plain.sample(k, 1), heavy.sample(k, 1)
        assert weighted.dtype == np.uint16 and (image == same).all()
        assert (weighted % 256 == label).all()
    assert (heavy[0][1] // 256 == border_weight(plain[0][1], data.classes)).all()
