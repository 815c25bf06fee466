"""Pictures in, masks and scores out, through a small true model."""

import re
import tracemalloc

import keras
import numpy as np
import pytest
from PIL import Image

import seg
from model import unet
from seg import predict, report
from seg.classes import CAMVID, TWO_CLASSES
from seg.evaluate import Score
from seg.files import InputError, unique_names
from seg.masks import Masks
from seg.metrics import confusion, evaluate_masks, scores
from seg.modelfile import About
from seg.predict import jobs_of, paint
from seg.readers import read_raws, recognise
from seg.report import Report
from seg.scenes import draw_scene
from seg.settings import Settings
from seg.sizes import SizeRule

SIZE = (48, 64)


@pytest.fixture(scope='module')
def model():
    keras.utils.set_random_seed(1)
    return unet(num_class=13, input_size=(*SIZE, 3), filters=2)


@pytest.fixture
def pairs(tmp_path):
    """Four scenes, the last of another size."""
    made = []
    for k, size in enumerate((SIZE, SIZE, SIZE, (60, 100))):
        image, label = draw_scene(k, size)
        made.append((tmp_path / f'{k}.jpg', tmp_path / f'{k}_label.png'))
        Image.fromarray(image).save(made[-1][0], quality=95)
        Image.fromarray(label).save(made[-1][1])
    return made


def predictions(model, files, flip=False):
    """(file, image, index) of each."""
    for painted in paint(model, jobs_of(model, [(f, None) for f in files]), Settings(flip=flip)):
        yield painted.job.file, painted.image, painted.index


def evaluate(model, pairs, flip=False, each=None):
    formats = recognise(read_raws([label for _, label in pairs]), model.about.classes)[0]
    score = Score(model.about.classes, each)
    predict.run(model, jobs_of(model, pairs, formats), [score], Settings(flip=flip))
    return score.counts, scores(score.counts)


def predict_files(model, files, folder, **options):
    masks = Masks(folder, files, model.about.classes, Settings(**options))
    return predict.run(model, jobs_of(model, [(f, None) for f in files]), [masks])


def probability(model, file):
    return model.predict_on_batch(np.asarray(Image.open(file))[None] / np.float32(255))[0]


def most_probable(p):
    return p[..., CAMVID.scored].argmax(-1)


def test_prediction_is_over_the_scored_classes(model, pairs):
    for (file, image, index), (wanted, _) in zip(
        predictions(model, [p for p, _ in pairs]), pairs, strict=True
    ):
        assert file == wanted and index.dtype == np.uint8 and index.shape == image.shape[:2]
        assert index.max() < 11
        if index.shape == SIZE:
            assert (index == most_probable(probability(model, file))).all()


def test_flip_is_the_mean_of_both(model, pairs):
    file = pairs[0][0]
    image = np.asarray(Image.open(file))
    mirrored = model.predict_on_batch(image[None, :, ::-1] / np.float32(255))[0, :, ::-1]
    expected = most_probable((probability(model, file) + mirrored) / 2)
    ((_, _, index),) = predictions(model, [file], flip=True)
    assert (index == expected).mean() > 0.999
    ((_, _, plain),) = predictions(model, [file])
    assert (index != plain).any()


def test_flip_makes_a_mirrored_picture_a_mirrored_mask(model, pairs, tmp_path):
    """Also where the picture is scaled and padded."""
    wide = pairs[3][0]
    image = np.asarray(Image.open(wide))
    Image.fromarray(image).save(tmp_path / 'a.png')
    Image.fromarray(image[:, ::-1]).save(tmp_path / 'b.png')
    files = [tmp_path / 'a.png', tmp_path / 'b.png']
    a, b = (index for *_, index in predictions(model, files, flip=True))
    assert a.shape == (60, 100) and (a == b[:, ::-1]).mean() > 0.97


def test_evaluate_is_one_count_of_all(model, pairs):
    calls = []
    counts, result = evaluate(model, pairs, each=lambda *call: calls.append(call))
    expected = 0
    for (_, label), (_, _, index) in zip(pairs, predictions(model, [p for p, _ in pairs])):
        expected = expected + confusion(np.asarray(Image.open(label)), index, CAMVID)
    assert (counts == expected).all() and result['miou'] == scores(expected)['miou']
    assert [call[0] for call in calls] == [image.name for image, _ in pairs]
    flipped, _ = evaluate(model, pairs, flip=True)
    assert (flipped != counts).any() and flipped.sum() == counts.sum()


def test_masks_written_score_as_the_model_does(model, pairs, tmp_path):
    """predict, then evaluate of the folder, equals evaluate of the model."""
    predict_files(model, [p for p, _ in pairs], tmp_path / 'out')
    page = Report(tmp_path / 'report.html', CAMVID)
    formats = recognise(read_raws([label for _, label in pairs]), CAMVID)[0]
    counts = evaluate_masks(tmp_path / 'out', pairs, CAMVID, formats, page.add)
    expected, _ = evaluate(model, pairs)
    assert (counts[:, :-1] == expected).all() and not counts[:, -1].any()
    page.write(counts, split='test')
    assert '4 images' in (tmp_path / 'report.html').read_text('utf-8')


def test_evaluate_names_what_does_not_fit(model, pairs, monkeypatch):
    """And scores the others."""
    wrong = r'1.jpg: 48x64 pixels, but its label .*60x100'
    expected, _ = evaluate(model, [pairs[i] for i in (0, 2, 3)])
    pairs[1] = pairs[1][0], pairs[3][1]
    monkeypatch.setattr(seg, 'skipped', [])
    assert (evaluate(model, pairs)[0] == expected).all()
    assert len(seg.skipped) == 1 and re.search(wrong, seg.skipped[0])
    with pytest.raises(InputError, match=wrong):
        evaluate(model, pairs[1:2])


def test_one_channel_in_and_out(tmp_path):
    keras.utils.set_random_seed(2)
    model = unet(num_class=1, input_size=(16, 32, 1), filters=2)
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (2, 16, 32)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / 'a.png')
    Image.fromarray(np.where(label > 99, 255, 0).astype(np.uint8)).save(tmp_path / 'a_mask.png')
    pairs = [(tmp_path / 'a.png', tmp_path / 'a_mask.png')]
    counts, _ = evaluate(model, pairs)
    found = model.predict_on_batch(image[None, ..., None] / np.float32(255))[0, ..., 0] > 0.5
    truth = label > 99
    assert counts.tolist() == [
        [(~truth & ~found).sum(), (~truth & found).sum()],
        [(truth & ~found).sum(), (truth & found).sum()],
    ]
    page = Report(tmp_path / 'r.html', model.about.classes)
    assert evaluate(model, pairs, flip=True, each=page.add)[0].sum() == 512
    page.write(counts)
    predict_files(model, [tmp_path / 'a.png'], tmp_path / 'out', side_by_side=True)
    with Image.open(tmp_path / 'out' / 'a.png') as mask:  # the background is transparent
        assert mask.mode == 'P' and (np.asarray(mask) == found).all()
        assert (np.asarray(mask.convert('RGBA'))[..., 3] == 255 * found).all()
    formats = recognise(read_raws([pairs[0][1]]), TWO_CLASSES)[0]
    scored = evaluate_masks(tmp_path / 'out', pairs, TWO_CLASSES, formats)
    assert (scored[:, :-1] == counts).all()  # and it is read as what it means


def test_masks_overlays_and_side_by_side(model, pairs, tmp_path):
    files, out = [p for p, _ in pairs], tmp_path / 'out'
    assert predict_files(model, files, out) == 4
    for file, _, index in predictions(model, files):
        mask = np.asarray(Image.open(out / f'{file.stem}.png'))
        assert (mask == CAMVID.palette[index]).all()
        overlay = Image.open(out / 'overlay' / f'{file.stem}.jpg')
        larger = -(-480 // max(index.shape))  # 8 times, or 5
        assert overlay.size == (larger * index.shape[1], larger * index.shape[0])
    legend = np.asarray(Image.open(out / 'overlay' / 'legend.png'))
    assert (legend == report.legend(CAMVID)).all()
    predict_files(model, files[:1], tmp_path / 'two', side_by_side=True)
    picture = np.asarray(Image.open(tmp_path / 'two' / 'side-by-side' / '0.jpg')).astype(int)
    assert picture.shape[1] == 2 * 512 + 2 and not (tmp_path / 'two' / 'overlay').exists()
    assert (tmp_path / 'two' / 'side-by-side' / 'legend.png').exists()
    small = np.asarray(Image.open(files[0]).resize((512, 384)))
    mask = np.asarray(Image.open(out / '0.png')).astype(int).repeat(8, 0).repeat(8, 1)
    assert np.abs(picture[:, :512] - small).mean() < 12 > np.abs(picture[:, -512:] - mask).mean()
    for opacity, same in ((0.0, small), (1.0, mask)):  # but for the lines
        predict_files(model, files[:1], tmp_path / 'o', opacity=opacity)
        picture = np.asarray(Image.open(tmp_path / 'o' / 'overlay' / '0.jpg')).astype(int)
        assert np.median(np.abs(picture - same)) < 12


def test_names():
    names = unique_names(['x/a.png', 'y/a.jpg', 'a-2.png', 'A.png', 'b.png', 'b.tif'])
    assert names == ['a', 'a-3', 'a-2', 'A-4', 'b', 'b-2']
    assert unique_names(['a', 'b']) == ['a', 'b'] and unique_names([]) == []


def test_pictures_of_one_name_keep_their_masks(model, pairs, tmp_path, capsys):
    (tmp_path / 'more').mkdir()
    other = tmp_path / 'more' / '0.png'
    Image.open(pairs[1][0]).save(other)
    predict_files(model, [pairs[0][0], other], tmp_path / 'out')
    assert f'{other} as 0-2\n' in capsys.readouterr().out
    for name, file in (('0', pairs[0][0]), ('0-2', other)):
        ((_, _, index),) = predictions(model, [file])
        mask = np.asarray(Image.open(tmp_path / 'out' / f'{name}.png'))
        assert (mask == CAMVID.palette[index]).all()


def test_a_picture_is_not_overwritten(model, pairs, tmp_path):
    Image.open(pairs[0][0]).save(tmp_path / 'photo.png')
    before = (tmp_path / 'photo.png').read_bytes()
    with pytest.raises(InputError, match='did not write it'):
        predict_files(model, [tmp_path / 'photo.png'], tmp_path)
    assert (tmp_path / 'photo.png').read_bytes() == before


def test_memory_is_flat(model, pairs):
    """Two hundred images hold no more than five do."""
    files, held = [p for p, _ in pairs[:3]], {}
    list(predictions(model, files))
    tracemalloc.start()
    for count in (5, 200):
        tracemalloc.reset_peak()
        for _ in predictions(model, (files * count)[:count]):
            pass
        held[count] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held[200] < held[5] + 1e6


def test_pictures_of_one_name_keep_their_masks_from_call_to_call(model, pairs, tmp_path):
    (tmp_path / 'more').mkdir()
    other = tmp_path / 'more' / '0.jpg'
    Image.open(pairs[1][0]).save(other)
    out = tmp_path / 'out'
    for _ in range(2):  # painted again, a picture finds its own mask
        for file in (pairs[0][0], other):
            predict_files(model, [file], out)
    assert sorted(p.name for p in out.glob('*.png')) == ['0-2.png', '0.png']
    for name, file in (('0', pairs[0][0]), ('0-2', other)):
        ((_, _, index),) = predictions(model, [file])
        assert (np.asarray(Image.open(out / f'{name}.png')) == CAMVID.palette[index]).all()


@pytest.mark.parametrize('there', ['0.png', 'overlay/0.jpg'])
def test_what_the_program_did_not_write_is_not_replaced(model, pairs, tmp_path, there):
    target = tmp_path / 'out' / there
    target.parent.mkdir(parents=True)
    Image.new('RGB', (4, 4)).save(target)
    before = target.read_bytes()
    with pytest.raises(InputError, match='did not write it'):
        predict_files(model, [pairs[0][0]], tmp_path / 'out')
    assert target.read_bytes() == before


def test_a_network_of_any_size(pairs):
    """Its pictures keep their size: padded to what it can halve, and cropped back."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.MaxPooling2D(16)(inputs)
    x = keras.layers.UpSampling2D(16)(keras.layers.Conv2D(13, 1, activation='softmax')(x))
    net = keras.Model(inputs, x)
    net.about = About(CAMVID)
    for _, image, index in predictions(net, [p for p, _ in pairs]):
        h, w = image.shape[:2]
        padded = np.pad(image, ((0, -h % 32), (0, -w % 32), (0, 0)), 'edge')[None] / np.float32(255)
        expected = most_probable(net.predict_on_batch(padded)[0, :h, :w])
        assert index.shape == (h, w) and (index == expected).all()


def stops(net, file, match, flip=False):
    """Painting ends in one line that names the picture."""
    with pytest.raises(InputError, match=match) as e:
        list(predictions(net, [file], flip))
    assert str(file) in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('sides', [(48, 64), (None, None)])
def test_a_network_whose_output_is_larger_is_refused(pairs, sides):
    inputs = keras.Input((*sides, 3))
    x = keras.layers.UpSampling2D(2)(keras.layers.Conv2D(13, 1, activation='softmax')(inputs))
    net = keras.Model(inputs, x)
    net.about = About(CAMVID, SizeRule('pad', *sides))
    stops(net, pairs[0][0], 'the network gives')


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_network_that_gives_no_numbers_paints_nothing(pairs, value):
    inputs = keras.Input((None, None, 3))
    conv = keras.layers.Conv2D(13, 1)
    net = keras.Model(inputs, conv(inputs))
    conv.set_weights([np.zeros((1, 1, 3, 13)), np.array([0.0] * 12 + [value])])
    net.about = About(CAMVID)
    stops(net, pairs[0][0], 'not finite')


def test_a_network_that_fails_at_a_picture_says_so_in_one_line(pairs):
    """Skips that do not meet at sides that 128 does not divide."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.UpSampling2D(128)(keras.layers.MaxPooling2D(128)(inputs))
    x = keras.layers.Conv2D(13, 1)(keras.layers.Concatenate()([x, inputs]))
    net = keras.Model(inputs, x)
    net.about = About(CAMVID)
    stops(net, pairs[3][0], 'the network fails at')


def test_deep_pictures_are_read_by_the_range_of_training(tmp_path):
    """A network that paints what is brighter than half of the range."""
    inputs = keras.Input((16, 16, 1))
    conv = keras.layers.Conv2D(1, 1, activation='sigmoid')
    net = keras.Model(inputs, conv(inputs))
    conv.set_weights([np.full((1, 1, 1, 1), 100.0), np.array([-50.0])])
    net.about = About(TWO_CLASSES, SizeRule('pad', 16, 16), (1000.0, 3000.0))
    values = np.linspace(0, 4095, 256).reshape(16, 16).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / 'a.png')
    ((_, _, index),) = predictions(net, [tmp_path / 'a.png'])
    assert (index == (values > 2000)).all()
