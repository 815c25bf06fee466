"""The report as a browser, a parser and the disk see it; its figures; pictures written to disk."""

import base64
import errno
import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
import xml.etree.ElementTree as ET
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from seg import report
from seg.classes import CAMVID, TWO_CLASSES, VIVID, ClassTable, numbered_classes
from seg.files import InputError, is_ours
from seg.metrics import confusion, scores
from seg.report import figures, pictures
from seg.scenes import draw_scene
from seg.settings import Settings, effective
from seg.sizes import SizeRule

TABLE = ClassTable(
    ('road', 'void', '天空'), ((255, 0, 0), (0, 0, 0), (0, 0, 255)), ('scored', 'void', 'scored')
)
HISTORY = {
    'loss': [2.0, 1.2, 0.9],
    'val_loss': [2.1, 1.5, float('nan')],
    'accuracy': [0.4, 0.6, 0.7],
    'val_accuracy': [0.3, 0.5, 0.6],
    'miou': [0.1, 0.2, 0.3],
    'val_miou': [0.1, 0.2, 0.25],
    'learning_rate': [1e-3, 5e-4, 1e-4],
}


def blurred(label, k):
    """A prediction that is worse the larger k is: shifted by k pixels, void painted as Road."""
    return np.roll(np.where(label == 11, 3, label), k, 1).astype(np.uint8)


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    """(report of 14 drawn scenes, image 0 the best; {name: its confusion count})."""
    path = tmp_path_factory.mktemp('report') / 'report.html'
    made, counts = report.Report(path, CAMVID), {}
    for k in (4, 0, 8, 1, 6, 2, 7, 3, 5, 13, 9, 12, 10, 11):
        image, label = draw_scene(k, (60, 80))
        index = blurred(label, 3 * k)
        counts[f'frame {k}.png'] = confusion(label, index, CAMVID)
        made.add(f'frame {k}.png', image, label, index)
    made.write(
        sum(counts.values()),
        {'Model': 'log/1-fast/best.hdf5', 'Data': 'CamVid'},
        {
            'Settings': {'preset': 'fast', 'aug_dict': {'zoom_range': 0.05}},
            'Tools': {'keras': '3.15'},
        },
        HISTORY,
        'val',
        ['Road takes everything.'],
        [('input', '60x80', 'no time for more')],
    )
    return path, counts


@pytest.fixture
def page(streets):
    return streets[0]


def cells_of(k, size=(40, 50)):
    """A noisy picture, its label of two classes and a prediction, for any k others."""
    rng = np.random.default_rng(k)
    rows, columns = np.indices(size)
    label = ((rows - 20) ** 2 + (columns - 20 - k) ** 2 < 120).astype(np.uint8)
    image = rng.integers(0, 60, (*size, 3)) + 120 * label[..., None]
    return image.astype(np.uint8), label, np.roll(label, k % 5, 1)


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    """The report of three pictures of two classes."""
    path = tmp_path_factory.mktemp('report') / 'report.html'
    made, counts = report.Report(path, TWO_CLASSES), 0
    for k in range(3):
        image, label, index = cells_of(k)
        counts = counts + confusion(label, index, TWO_CLASSES)
        made.add(f'cell {k}.png', image, label, index)
    made.write(counts, split='test')
    return path


class Tags(HTMLParser):
    """Collects the tags; fails where one is closed that is not open."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.stack, self.text = [], [], ''
        self.feed(path.read_text('utf-8'))
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ('meta', 'img', 'input', 'br'):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1])))


def data_of(path):
    """What the script of a report is given."""
    (text,) = re.findall('id="data">(.*?)</script>', path.read_text('utf-8'))
    return json.loads(text)


def names_of(path):
    return [card['name'] for card in data_of(path)['cards']]


def test_report_says_what_it_is(page):
    read = Tags(page)
    for text in (
        'Scores on the validation images (not a test score)',
        'Road takes everything.',
        '14 images',
        'log/1-fast/best.hdf5',
        'F1 (Dice)',
        'SignSymbol',
        'mIoU',
        'precision',
        '{"zoom_range": 0.05}',
        '3.15',
        'Confusion',
        'Learning rate',
        'no time for more',
    ):
        assert text in read.text, text
    assert read.all('html') == [{'lang': 'en'}] and len(read.all('h1')) == 1
    assert {a.get('scope') for a in read.all('th')} == {'row', 'col'}
    labels, ids = ([a[k] for a in read.all(tag)] for tag, k in (('label', 'for'), ('input', 'id')))
    assert labels == ids and len(ids) == 6  # one switch for all pictures
    ids = [attrs['id'] for _, attrs in read.tags if 'id' in attrs]
    assert len(ids) == len(set(ids))
    head = page.read_bytes()[:512]
    assert head.startswith(b'<!doctype html>') and b'content="unet-camvid"' in head
    assert is_ours(page)


def test_class_table_by_hand(tmp_path):
    """road: 6 of 8 found and 2 of the other claimed, so IoU 6/10; the sky 5/9."""
    report.Report(tmp_path / 'r.html', TABLE).write(np.array([[6, 2], [2, 5]]))
    text = (tmp_path / 'r.html').read_text('utf-8')
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', text, re.S)
    cells = [re.findall('<td.*?>(.*?)</td>', row) for row in rows]
    assert cells[:2] == [
        ['53.3', '60.0', '75.0', '75.0', '75.0'],
        ['46.7', '55.6', '71.4', '71.4', '71.4'],
    ]
    assert re.findall('class="bar" style="--v:(.*?)%"', text) == ['60.0', '55.6']
    means = re.findall('<dd>(.*?) %</dd>', text)
    assert means == ['57.8', '73.3', '73.2', '57.9']


@pytest.mark.parametrize(
    'split, title',
    [
        ('test', 'Scores on the test images'),
        ('val', '(not a test score)'),
        ('train', '(not a test score)'),
        ('my <street>', 'Scores on my <street>'),
    ],
)
def test_split_is_named(tmp_path, split, title):
    report.Report(tmp_path / 'r.html', TABLE).write(np.eye(2), split=split)
    read = Tags(tmp_path / 'r.html')
    assert title in read.text
    assert ('not a test score' in read.text) == (split in ('val', 'train'))


def test_every_picture_is_there_the_worst_first(streets):
    page, counts = streets
    cards = data_of(page)['cards']
    mious = {name: scores(count)['miou'] for name, count in counts.items()}
    assert [card['name'] for card in cards] == sorted(mious, key=mious.get)
    assert cards[-1]['name'] == 'frame 0.png' and len(cards) == 14
    for card in cards:
        count = counts[card['name']]
        cells = [[i, j, int(count[i, j])] for i, j in zip(*np.nonzero(count))]
        assert card['cells'] == cells and card['miou'] == pytest.approx(mious[card['name']])
        assert card['accuracy'] == pytest.approx(np.trace(count) / count.sum())


def test_layers_of_a_picture(page):
    """The picture as it is, maps a whole number of times larger, so that lines are thin."""
    (card,) = (card for card in data_of(page)['cards'] if card['name'] == 'frame 8.png')
    image, label = draw_scene(8, (60, 80))
    index = blurred(label, 24)
    assert card['size'] == [80, 60] and decoded(card['picture']).size == (80, 60)
    assert np.abs(np.asarray(decoded(card['picture'])).astype(int) - image).mean() < 12
    large = [a.repeat(6, 0).repeat(6, 1) for a in (label, index)]
    assert large[0].shape == (360, 480)
    for kind, wanted in (
        ('truth', CAMVID.palette[large[0]]),
        ('prediction', CAMVID.palette[large[1]]),
        ('errors', report.errors(*large, CAMVID)),
        ('lines', report.layer(large[1], CAMVID, 0)),
    ):
        found = np.asarray(decoded(card[kind]).convert('RGBA'))
        seen = np.dstack([wanted, wanted[..., 0] * 0 + 255]) if wanted.shape[2] == 3 else wanted
        assert (found[..., 3] == seen[..., 3]).all(), kind
        assert (found == seen)[seen[..., 3] > 0].all(), kind


def test_of_two_classes_the_background_is_transparent(cells):
    for card in data_of(cells)['cards']:
        _, label, index = cells_of(int(card['name'][5]))
        for kind, a in (('truth', label), ('prediction', index)):
            rgba = np.asarray(decoded(card[kind]))[5::10, 5::10]
            assert (rgba[..., 3] == 255 * a).all() and (rgba[a > 0, :3] == VIVID).all()
        lines, large = np.asarray(decoded(card['lines']))[..., 3], index.repeat(10, 0).repeat(10, 1)
        assert lines.any() and not lines[large == 0].any()


def test_of_too_many_images_those_between_are_not_even_read(tmp_path):
    label = np.array([[0, 0, 2, 2]], np.uint8)
    made, image = report.Report(tmp_path / 'r.html', TABLE, keep=1), np.zeros((1, 4, 3), np.uint8)
    made.add('best', image, label, label)
    made.add('worst', image, label, 2 - label)
    made.add('between', tmp_path / 'none.png', label, label * 0)
    with pytest.raises(InputError, match='none.png'):
        made.add('better', tmp_path / 'none.png', label, label)
    made.write(np.eye(2))
    assert names_of(tmp_path / 'r.html') == ['worst', 'best']
    assert '2 of 4 images can be looked at' in Tags(tmp_path / 'r.html').text


def test_images_without_a_scored_pixel_are_not_shown(tmp_path):
    made = report.Report(tmp_path / 'r.html', TABLE)
    label = np.zeros((4, 5), np.uint8)
    made.add('a', np.zeros((4, 5, 3), np.uint8), label, label)
    made.add('nothing to score', np.zeros((4, 5, 3), np.uint8), label + 1, label)
    made.write(np.eye(2))
    assert names_of(tmp_path / 'r.html') == ['a'] and '2 images' in Tags(tmp_path / 'r.html').text


def test_nothing_at_all_still_writes(tmp_path):
    report.Report(tmp_path / 'r.html', TABLE).write(np.zeros((2, 2), int))
    assert '–' in Tags(tmp_path / 'r.html').text


def test_classes_that_do_not_occur_are_told(tmp_path):
    report.Report(tmp_path / 'r.html', TABLE).write(np.array([[4, 0], [0, 0]]))
    assert '1 of 2 classes occur in neither' in Tags(tmp_path / 'r.html').text


def test_nothing_is_fetched(page):
    """No address, no style sheet or font from elsewhere, and no script but our own."""
    text, read = page.read_text('utf-8'), Tags(page)
    text = re.sub('base64,[^"]*|xmlns(:xlink)?="[^"]*"', '', text)
    assert not re.search(r'https?:|//[a-z]|@import|url\((?!#)|javascript:|fetch|XMLHttp', text)
    for _, attrs in read.tags:
        links = [attrs[k] for k in ('src', 'href', 'xlink:href') if k in attrs]
        assert all(link.startswith(('data:image/', '#')) for link in links)
        assert not [k for k in attrs if k.startswith('on')]
    assert not {'link', 'iframe', 'object', 'foreignobject'} & {tag for tag, _ in read.tags}
    (script,) = re.findall('<script>(.*?)</script>', text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text


def test_names_are_text_and_never_markup(tmp_path):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\''
    table = ClassTable((evil, '天空'), ((1, 2, 3), (4, 5, 6)), ('scored', 'scored'))
    made = report.Report(tmp_path / 'r.html', table)
    label = np.zeros((4, 5), np.uint8)
    made.add(evil, np.zeros((4, 5, 3), np.uint8), label, label)
    made.add('街道\udcff.png', np.zeros((4, 5, 3), np.uint8), label, 1 - label)
    facts = {evil: {evil: evil}}
    made.write(np.array([[3, 1], [1, 3]]), {evil: evil}, facts, split=evil, warnings=[evil])
    read = Tags(tmp_path / 'r.html')
    assert len(read.all('script')) == 2 and len(read.all('img')) == 5  # those of the template
    assert all(set(img) == {'class'} for img in read.all('img'))
    assert read.text.count(evil) >= 8 and '天空' in read.text and '街道' in read.text
    assert evil in names_of(tmp_path / 'r.html')


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'r.html'
    report.Report(path, TABLE).write(np.eye(2), split='old')
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match='[Cc]ircular'):
        report.Report(path, TABLE).write(np.eye(2), facts={'x': {'x': loop}}, split='new')

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch, pytest.raises(InputError, match='No space left'):
        patch.setattr(Path, 'write_bytes', full)
        report.Report(path, TABLE).write(np.eye(2), split='new')
    assert list(tmp_path.iterdir()) == [path]
    assert 'Scores on old' in path.read_text('utf-8')
    report.Report(path, TABLE).write(np.eye(2), split='new')
    assert 'Scores on new' in path.read_text('utf-8')
    with pytest.raises(InputError, match='r.html'):
        report.Report(tmp_path / 'none' / 'r.html', TABLE).write(np.eye(2))


def test_a_page_of_somebody_else_stays(tmp_path):
    (tmp_path / 'r.html').write_text('<!doctype html>mine')
    with pytest.raises(InputError, match='did not write it'):
        report.Report(tmp_path / 'r.html', TABLE).write(np.eye(2))
    assert (tmp_path / 'r.html').read_text() == '<!doctype html>mine'


def test_memory_is_flat_and_the_file_small(tmp_path):
    """Noisy images of 360x480, each worse than all before: every one is encoded."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (360, 480, 3), np.uint8)
    truth = rng.integers(0, 12, (360, 480)).astype(np.uint8)
    made, peaks = report.Report(tmp_path / 'r.html', CAMVID, keep=6), []
    tracemalloc.start()
    for k in range(24):
        index = np.where(rng.random(truth.shape) < k / 30, 0, truth).astype(np.uint8)
        index[index == 11] = 0
        made.add(f'{k}.png', noise, truth, index)
        if k in (13, 23):
            peaks.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    made.write(confusion(truth, index, CAMVID))
    written = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    size = os.path.getsize(tmp_path / 'r.html')
    assert len(names_of(tmp_path / 'r.html')) == 12
    assert size < 15e6  # noise: nothing compresses less, and the number of images plays no part
    assert abs(peaks[1] - peaks[0]) < 2e6 and peaks[1] < 1.2 * size and written < 7 * size


def test_image_may_be_a_path_or_grey(tmp_path):
    image, label = draw_scene(1, (48, 64))
    Image.fromarray(image).save(tmp_path / 'a.png')
    grey = np.asarray(Image.fromarray(image).convert('L'))
    expected = np.repeat(grey[..., None], 3, -1)
    for same in (grey[..., None], grey):
        assert np.array_equal(report.as_rgb(same), expected)
    for same in (tmp_path / 'a.png', str(tmp_path / 'a.png'), image):
        assert np.array_equal(report.as_rgb(same), image)
    Image.fromarray(grey.astype(np.uint16) * 5).save(tmp_path / 'deep.png')  # dark: 2 % of 16 bits
    found = report.as_rgb(tmp_path / 'deep.png')
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    assert np.percentile(found, 99) > 200  # the darkness is stretched


# ------------------------------------------------------------------------ pictures


def test_errors():
    truth, index = np.array([[0, 0, 1, 255, 2]], np.uint8), np.array([[0, 2, 0, 0, 255]], np.uint8)
    right, wrong, void, nothing, missed = report.errors(truth, index, TABLE)[0].tolist()
    assert right[3] == 0 and void == nothing == [*pictures.IGNORED, 255]
    assert wrong == missed and wrong[:3] == [*pictures.WRONG] and 150 < wrong[3] < 255


def test_what_is_not_scored_has_a_grey_of_its_own():
    """Neither Sky's, nor one of the darkened picture below, up to 0.45 of white."""
    greys = [c for c in CAMVID.colours if len({*c}) == 1]
    assert min(abs(np.subtract(pictures.IGNORED, c)).max() for c in greys) > 40
    assert min(pictures.IGNORED) > 0.45 * 255 + 40


def test_side_by_side():
    red, blue = (np.full((3, 4, 3), c, np.uint8) for c in ((255, 0, 0), (0, 0, 255)))
    row = report.side_by_side(red, blue, red)[1].tolist()
    white = [[255] * 3] * 2
    assert row == [[255, 0, 0]] * 4 + white + [[0, 0, 255]] * 4 + white + [[255, 0, 0]] * 4


def test_overlay():
    """Colours between which runs a white line, on the first pixels behind a border."""
    index = np.array([[0, 0, 2, 2]] * 2 + [[0, 0, 0, 0]], np.uint8)
    line = np.array([[0, 0, 1, 0]] * 2 + [[0, 0, 1, 1]], bool)
    image = np.full((3, 4, 3), 100, np.uint8)
    made = [report.overlay(image, index, TABLE, opacity) for opacity in (0.0, 0.5, 1.0)]
    assert all((picture[line] == 255).all() for picture in made)
    assert (made[0][~line] == 100).all()
    assert (made[2][~line] == TABLE.palette[index][~line]).all()
    half = (100 + TABLE.palette[index].astype(float)) / 2
    assert np.abs(made[1] - half)[~line].max() <= 1


def test_overlay_of_two_classes_leaves_the_background():
    image, label, _ = cells_of(3)
    for table in (TWO_CLASSES, ClassTable(('cell', 'bg'), ((9, 9, 9), (8, 8, 8)), ('scored',) * 2)):
        index = label if table is TWO_CLASSES else 1 - label
        made, inside = report.overlay(image, index, table), label > 0
        assert (made[~inside] == image[~inside]).all()
        rim = inside & ~ndimage.binary_erosion(inside)
        assert (made[rim] == VIVID).all()
        mixed = (image.astype(float) + VIVID) / 2
        assert np.abs(made - mixed)[inside & ~rim].max() <= 1


def test_lines_grow_with_the_picture():
    index = np.zeros((40, 3000), np.uint8)
    index[:, 1500:] = 2
    small, large = (report.layer(a, TABLE, 0)[20, :, 3] > 0 for a in (index[:, 1300:1700], index))
    assert small.sum() == 1 and large.sum() > 5


@pytest.mark.parametrize(
    'shape, larger', [((48, 64), 8), ((20, 480), 1), ((479, 5), 2), ((9, 900), 1)]
)
def test_small_pictures_are_enlarged(shape, larger):
    label = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)
    image, made = report.enlarged(np.repeat(label[..., None], 3, -1), label)
    assert (made == label.repeat(larger, 0).repeat(larger, 1)).all()
    assert image.shape == (*made.shape, 3)


def test_mask_of_two_classes_holds_indices_under_a_palette(tmp_path):
    _, label, _ = cells_of(3)
    report.save_picture(report.mask(label, TWO_CLASSES), tmp_path / 'a.png', 'x')
    with Image.open(tmp_path / 'a.png') as picture:
        assert picture.mode == 'P' and (np.asarray(picture) == label).all()
        rgba = np.asarray(picture.convert('RGBA'))
    assert (rgba[..., 3] == 255 * label).all() and (rgba[label > 0, :3] == VIVID).all()
    green = ClassTable(('none', 'leaf'), ((0, 0, 0), (0, 128, 0)), ('scored',) * 2)
    picture = report.mask(label, green)
    assert (np.asarray(picture.convert('RGB'))[label > 0] == (0, 128, 0)).all()
    both = ClassTable(('road', 'sky'), ((1, 0, 0), (0, 0, 1)), ('scored',) * 2)
    assert (report.mask(label, both) == both.palette[label]).all()


def test_legend_names_what_is_painted():
    """A swatch of each class' colour, of two classes the foreground's alone."""
    for table, names in ((CAMVID, CAMVID.scored), (TWO_CLASSES, [1])):
        found = {tuple(c) for c in report.legend(table).reshape(-1, 3).tolist()}
        colours = {tuple(c) for c in table.display[names, :3].tolist()}
        assert colours <= found
    assert (0, 0, 0) in found and not report.legend(TWO_CLASSES)[:, 240:].min() < 255
    many = report.legend(numbered_classes(200))
    assert many.shape[1] == pictures.SIDE and many.shape[0] > 200


@pytest.mark.parametrize('width', [120, 480, 1920])
def test_legend_has_every_scored_class(width):
    strip = report.legend(CAMVID, width)
    assert strip.dtype == np.uint8 and strip.shape[1:] == (width, 3)
    assert report.legend(CAMVID, width) is strip  # drawn once
    tops, at = [], {}
    for i, colour in enumerate(CAMVID.colours[:11]):
        ys, xs = np.nonzero((strip == colour).all(-1))
        assert len(ys) >= 49, CAMVID.names[i]
        tops.append(ys.min())
        at[i] = xs.min()
    assert tops == sorted(tops) and (len(set(tops)) > 1) == (width < 1920)
    assert (strip.max(-1) < 60).any(0)[at[0] + 12 :].any()  # names, in black


def test_preview_page():
    image, label = draw_scene(2, (60, 80))
    label = np.where(label == 3, 10, 0).astype(np.uint8)  # every index between would be a mixture
    cells = [('one', image, label), ('two', image[:30, :, :1], label[:30])]
    page = report.preview_page(cells, CAMVID, 40)
    assert page.dtype == np.uint8 and page.shape == (2 * (30 + 36) + 16, 124 + 32, 3)
    middle = page[34:64, 16 + 42 : 16 + 82].reshape(-1, 3)
    assert set(map(tuple, middle.tolist())) == {CAMVID.colours[0], CAMVID.colours[10]}
    assert (page[:34] < 100).any()  # the caption
    left = page[34:64, 16:56].astype(float)
    small = image.reshape(30, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(left - small).mean() < 6


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_pictures_are_ours_and_others_stay(tmp_path, suffix):
    path, picture = tmp_path / f'a.{suffix}', np.full((40, 50, 3), (200, 30, 60), np.uint8)
    Image.fromarray(picture).save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match='did not write it'):
        report.save_picture(picture, path)
    assert path.read_bytes() == before
    path.unlink()
    report.save_picture(picture // 2, path)
    report.save_picture(picture, path, 'from there')  # our own may be replaced
    assert Image.open(path).info.get('Source') == ('from there' if suffix == 'png' else None)
    assert is_ours(path) and list(tmp_path.iterdir()) == [path]
    assert np.abs(np.asarray(Image.open(path)).astype(int) - picture).max() <= 3


# ------------------------------------------------------------------------ fonts and imports


def test_import_is_cheap_and_latin_needs_no_matplotlib():
    code = """if True:
        import sys
        from seg import report
        from seg.classes import CAMVID
        report.legend(CAMVID, 480)
        print({'matplotlib', 'jinja2', 'tensorflow', 'keras'} & set(sys.modules))"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n', done


def test_font_has_the_characters():
    """Cyrillic, which DejaVu has and Pillow's own font has not; matplotlib brings DejaVu along."""
    font = pictures.find_font('Дорога и небо')
    boxes = {bytes(font.getmask(c)) for c in '\uffff\ufffe'}
    drawn = {bytes(font.getmask(c)) for c in 'Дорганеб'}
    assert len(drawn) == 8 and not drawn & boxes
    assert isinstance(pictures.find_font('Road').path, io.BytesIO)  # Pillow's own


def test_no_font_is_told_once(monkeypatch, capsys):
    from matplotlib.font_manager import fontManager

    dejavu = [font for font in fontManager.ttflist if font.name == 'DejaVu Sans']
    monkeypatch.setattr(fontManager, 'ttflist', dejavu)
    pictures.find_font.cache_clear()
    table = ClassTable(('天空', '道路', 'é'), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), ('scored',) * 3)
    for width in (200, 300):
        assert report.legend(table, width).shape[1] == width
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert '天空' in report.to_svg(report.confusion_figure(np.eye(3), table))
        assert report.to_array(report.confusion_figure(np.eye(3), table)).size
    said = capsys.readouterr().out
    assert said.count('\n') == 1 and 'install' in said
    pictures.find_font.cache_clear()


# ------------------------------------------------------------------------ figures


SVG = '{http://www.w3.org/2000/svg}'


def numbers(text):
    return [float(n) for n in re.findall(r'-?[\d.]+(?:e-?\d+)?', text)]


def matrix_of(svg):
    """(percent (n, m), nan where there is none; RGBA (n, m, 4); names) as the SVG shows them."""
    root = ET.fromstring(svg)
    (image,) = root.iter(SVG + 'image')
    a, b, c, d, left, top = numbers(image.get('transform'))
    assert b == c == 0
    cells = np.asarray(
        decoded(image.get('{http://www.w3.org/1999/xlink}href')).convert('RGBA')
    ).astype(int)
    percent, names = np.full(cells.shape[:2], np.nan), []
    for text in root.iter(SVG + 'text'):
        if text.text.isdecimal() and 'middle' in text.get('style'):
            i = int((float(text.get('y')) - top) // d)
            j = int((float(text.get('x')) - left) // a)
            assert np.isnan(percent[i, j])
            percent[i, j] = int(text.text)
        else:
            names.append(text.text)
    return percent, cells, names


def test_confusion_by_hand():
    counts = np.array([[90, 9, 1, 0], [25, 150, 0, 75], [0, 0, 0, 0]])
    table = ClassTable(
        ('road', 'void', '天空', '$x_1$'),
        ((1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)),
        ('scored', 'void', 'scored', 'scored'),
    )
    percent, cells, names = matrix_of(report.to_svg(report.confusion_figure(counts, table)))
    none = np.nan
    wanted = [[90, 9, 1, none], [10, 60, none, 30], [none] * 4]
    assert np.array_equal(percent, wanted, equal_nan=True)
    scored = ['road', '天空', '$x_1$']
    assert names == [*scored, 'no class', *scored, 'truth', 'prediction']
    red, _, blue, alpha = np.moveaxis(cells, -1, 0)
    assert (blue > red)[[0, 1], [0, 1]].all() and (red > blue)[[0, 0, 1, 1], [1, 2, 0, 3]].all()
    assert not alpha[np.isnan(percent)].any()
    assert alpha[0, 0] > alpha[1, 1] and alpha[1, 3] > alpha[1, 0] > alpha[0, 1] > alpha[0, 2] > 9


@pytest.mark.parametrize('n', [2, 11, 25])
def test_confusion_of_any_count(n):
    rng = np.random.default_rng(n)
    counts = rng.integers(0, 1000, (n, n + 1)) ** 2 * (rng.random((n, n + 1)) < 0.5)
    counts[:, n] = 0  # nothing predicted as no class: no column for it
    counts[0] = 0
    table = numbered_classes(n)
    percent, cells, names = matrix_of(report.to_svg(report.confusion_figure(counts, table)))
    share = 100 * counts[:, :n] / np.maximum(counts.sum(1), 1)[:, None]
    wanted = np.where(share >= 0.5, share.round(), np.nan)
    assert cells.shape == (n, n, 4) and np.array_equal(percent, wanted, equal_nan=True)
    assert 'no class' not in names


def test_confusion_of_many_classes():
    svg = report.to_svg(report.confusion_figure(np.eye(60), numbered_classes(60)))
    percent, cells, _ = matrix_of(svg)
    assert np.isnan(percent).all() and cells.shape == (60, 60, 4)  # colours alone
    assert (cells[..., 3] > 0).sum() == 60 and len(svg) < 200_000
    assert report.to_array(report.confusion_figure(np.eye(60), numbered_classes(60))).size < 2e7


def luminance(rgb):
    c = np.asarray(rgb) / 255
    return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def test_numbers_in_cells_have_contrast():
    """WCAG AA, 4.5 to 1, of a number on its cell, however full, on the card of both schemes."""
    css = Path(figures.__file__).with_name('report.html').read_text('utf-8')
    schemes = [re.findall(rf'--{name}: #(\w+)', css) for name in ('card', 'ink')]
    hues = [re.search(rf'--{name}: ([\d ]+);', css)[1].split() for name in ('hit', 'miss')]
    for share in (1, 5, 10, 25, 50, 75, 90, 99, 100):
        counts = np.array([[share, 100 - share], [100 - share, share]])
        *_, opacity = figures.matrix_of(counts, TABLE)
        for card, ink in zip(*schemes):
            card, ink = (
                np.array([int(v * (6 // len(v)), 16) >> s & 255 for s in (16, 8, 0)])
                for v in (card, ink)
            )
            for hue, alpha in zip(hues, opacity[0]):
                below = luminance(np.float64(hue) * alpha + card * (1 - alpha))
                low, high = sorted((below, luminance(ink)))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (share, card)


def curve_of(svg, key):
    """([[(epoch, value), ...] of each unbroken run], [(epoch, value) of each dot]) of a line, read
    off the ticks of its panel."""
    root = ET.fromstring(svg)
    (axes,) = (g for g in root.iter(SVG + 'g') for line in g if line.get('id') == key)
    (line,) = (g for g in axes if g.get('id') == key)
    xs, ys = [], []
    for tick in axes.iter(SVG + 'g'):
        text, path = tick.find(f'./{SVG}g/{SVG}text'), tick.find(f'./{SVG}g/{SVG}path')
        if text is not None and path is not None and 'end' in text.get('style'):
            ys.append((numbers(path.get('d'))[1], float(text.text)))  # of the line of the grid
        elif text is not None and 'middle' in text.get('style') and text.text.isdecimal():
            xs.append((float(text.get('x')), float(text.text)))
    assert len(ys) >= 2 and all(value == int(value) for _, value in xs)
    value_of = np.polynomial.Polynomial.fit(*zip(*ys), 1)
    dots = [(float(use.get('x')), float(use.get('y'))) for use in line.iter(SVG + 'use')]
    path = line.find(f'./{SVG}path')
    runs = [] if path is None else [numbers(run) for run in path.get('d').split('M')[1:]]
    runs = [list(zip(run[::2], run[1::2])) for run in runs]
    one = len(xs) == 1  # epoch, and any scale will do
    epoch_of = (lambda x: xs[0][1]) if one else np.polynomial.Polynomial.fit(*zip(*xs), 1)
    assert all(np.abs(np.subtract(dots, point)).sum(1).min() < 0.1 for r in runs for point in r)
    read = [[(epoch_of(x), value_of(y)) for x, y in points] for points in (*runs, dots)]
    return read[:-1], read[-1]


def test_curves_run_through_their_points():
    svg = report.to_svg(report.curves_figure(HISTORY))
    for key, values in HISTORY.items():
        (run,), dots = curve_of(svg, key)
        wanted = [(k, v) for k, v in enumerate(values, 1) if v == v]
        assert np.allclose(run, wanted, rtol=1e-3, atol=1e-6), key
        assert np.allclose(dots, wanted, rtol=1e-3, atol=1e-6), key
    found = [text.text for text in ET.fromstring(svg).iter(SVG + 'text')]
    titles = [text for text in found if text in figures.PANELS.values()]
    assert titles == ['Loss', 'Pixel accuracy', 'mIoU', 'Learning rate']
    assert found.count('train') == found.count('val') == 3


def test_curves_break_at_gaps():
    history = {'val_loss': [3.0, 2.5, None, 2.0, float('nan'), 1.5, 1.0, 0.5]}
    runs, dots = curve_of(report.to_svg(report.curves_figure(history)), 'val_loss')
    assert [round(x) for x, _ in dots] == [1, 2, 4, 6, 7, 8]  # 4 stands alone: a dot
    assert [[round(x) for x, _ in run] for run in runs if len(run) > 1] == [[1, 2], [6, 7, 8]]


def test_curves_of_one_epoch_show_a_dot():
    svg = report.to_svg(report.curves_figure({'loss': [1.5], 'miou': [0.25], 'val_miou': []}))
    for key, value in (('loss', 1.5), ('miou', 0.25)):
        _, ((epoch, found),) = curve_of(svg, key)
        assert epoch == 1 and found == pytest.approx(value, abs=1e-3)
    assert 'Learning rate' not in svg.partition('<g')[2] and '>val<' not in svg


def test_no_curves_at_all(tmp_path):
    assert report.curves_figure({}).axes == [] == report.curves_figure({'loss': []}).axes
    report.to_png(report.curves_figure({}), tmp_path / 'none.png')
    report.Report(tmp_path / 'r.html', TABLE).write(np.eye(2), history={})
    assert 'Training, by epoch' not in Tags(tmp_path / 'r.html').text


def test_figure_as_png_and_array(tmp_path):
    report.to_png(report.curves_figure(HISTORY), tmp_path / 'curves.png')
    assert is_ours(tmp_path / 'curves.png')
    picture = np.asarray(Image.open(tmp_path / 'curves.png'))
    array = report.to_array(report.curves_figure(HISTORY))
    assert array.dtype == np.uint8 and np.array_equal(picture, array)
    height, width = (side // 2 for side in picture.shape[:2])
    assert picture.shape[2] == 3 and width > height > 200 and (picture[0] == 255).all()
    for colour in (figures.TRAIN, figures.VAL):
        drawn = (picture == list(bytes.fromhex(colour[1:]))).all(-1)
        assert drawn[:height, :width].sum() > 100 and drawn[height:, :width].sum() > 100


def test_svg_is_made_for_a_page():
    """The same bytes each time, one element, named for those who hear it, nothing behind it."""
    for make in (
        lambda: report.curves_figure(HISTORY),
        lambda: report.confusion_figure(np.eye(2), TABLE),
    ):
        svg = report.to_svg(make())
        assert svg == report.to_svg(make()) and svg.startswith('<svg ')
        root = ET.fromstring(svg)
        assert root.tag == SVG + 'svg' and root.get('role') == 'img' and root.get('aria-label')
        assert not list(root.iter(SVG + 'metadata')) and '#ffffff' not in svg
        inks = [text.get('style') for text in root.iter(SVG + 'text')]
        assert inks and not any('fill' in style for style in inks)  # the page's own colour


# ------------------------------------------------------------------------ settings


def test_settings_that_had_a_say():
    given = asdict(Settings(filters=16, augment='flip', images='a', labels='b', class_weights=True))
    network = SimpleNamespace(classes=CAMVID, rule=SizeRule('pad', 48, 64), settings=given)
    chosen, default = effective(network)
    assert chosen == {
        'images': 'a',
        'labels': 'b',
        'num_class': 13,
        'size': '48x64',
        'filters': 16,
        'activation': 'softmax',
        'loss': 'categorical_crossentropy',
        'class_weights': 'yes',
        'augment': 'flip',
    }
    assert default['batch_norm'] == 'yes' and default['epochs'] == 20
    for name in (
        'data',
        'encoder_rate',
        'opacity',
        'minutes',
        'aug_dict',
    ):  # switched off or no say
        assert name not in default
    more = asdict(Settings(encoder='mobilenetv2', loss='dice', num_class=1, aug_dict={'a': 1}))
    network = SimpleNamespace(classes=TWO_CLASSES, rule=SizeRule('tile', 8, 8), settings=more)
    chosen, default = effective(network)
    assert chosen['loss'] == 'dice' and chosen['activation'] == 'sigmoid' and 'size' not in chosen
    assert default['encoder_rate'] == 0.2 and default['data'] == 'CamVid' and default['preset']
    network.settings = {}  # of a file without
    assert effective(network) == ({}, {})


# ------------------------------------------------------------------------ in a browser


SHOWN = """[...document.querySelectorAll('#cards figure')].map(f => [...f.querySelectorAll('img')]
    .filter(i => i.getBoundingClientRect().width > 0).map(i => i.className))"""
NAMES = "[...document.querySelectorAll('#cards figcaption b')].map(b => b.textContent)"
LAYERS = {
    'compare': ['truth', 'prediction'],
    'picture': ['picture'],
    'truth': ['truth'],
    'prediction': ['prediction'],
    'overlay': ['picture', 'prediction', 'lines'],
    'errors': ['picture', 'errors'],
}


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
@pytest.mark.parametrize('kind', ['streets', 'cells'])
def test_in_chromium(streets, cells, browser, kind, width, scheme):
    browser.open(streets[0] if kind == 'streets' else cells, width, scheme)
    assert browser.js('document.documentElement.scrollWidth') <= width
    shown = 12 if kind == 'streets' else 3
    for view in LAYERS:
        browser.click(f'[for=view-{view}]')
        assert browser.js(SHOWN) == [LAYERS[view]] * shown
        boxes = browser.js("""[...document.querySelectorAll('main *')]
            .filter(e => !e.closest('.scroll')).map(e => e.getBoundingClientRect())
            .filter(r => r.width > 1).filter(r => r.left < 0 || r.right > innerWidth).length""")
        assert boxes == 0
    loaded = browser.js("""Promise.all([...document.querySelectorAll('#cards img')].map(
        i => i.decode().then(() => i.naturalWidth)))""")
    assert len(loaded) == 5 * shown and {*loaded} == ({80, 480} if kind == 'streets' else {50, 500})
    if kind == 'streets':
        ink, text = browser.js("""['body', 'svg text'].map(e => document.querySelector(e))
            .map((e, i) => getComputedStyle(e)[i ? 'fill' : 'color'])""")
        assert ink == text  # the curves follow the scheme
        assert browser.js("document.querySelector('svg').clientWidth") >= 400
    background = browser.js('getComputedStyle(document.body).backgroundColor')
    assert (sum(map(int, re.findall(r'\d+', background))) < 150) == (scheme == 'dark')
    browser.is_quiet()


@pytest.mark.parametrize('width', [1280, 390])
def test_one_switch_for_all_pictures(page, browser, width):
    """By mouse or finger and by keyboard, on the page and in what is enlarged."""
    browser.open(page, width)
    assert browser.js(SHOWN) == [LAYERS['compare']] * 12
    left, right = browser.js("""['truth', 'prediction'].map(kind =>
        document.querySelector('#cards .' + kind).getBoundingClientRect().x)""")
    assert left < right
    for view, top in (('overlay', 'lines'), ('errors', 'errors'), ('picture', 'picture')):
        browser.click(f'[for=view-{view}]')
        centre = browser.js("""(r => document.elementFromPoint(r.x + 90, r.y + 90).className)
            (document.querySelector('#cards figure .picture').getBoundingClientRect())""")
        assert centre == top  # a filter or opacity may not lift what is below
    for view in ('truth', 'prediction'):
        browser.press('ArrowRight')
        assert browser.js(SHOWN) == [LAYERS[view]] * 12
    browser.is_quiet()


def test_pages_and_orders(streets, browser):
    page, counts = streets
    worst = names_of(page)
    browser.open(page, 1280)
    assert browser.js(NAMES) == worst[:12]
    browser.click('#after')
    assert browser.js(NAMES) == worst[12:]
    assert browser.js("document.querySelector('#where').textContent") == '13 to 14 of 14'
    enabled = "['#before', '#after'].map(b => !document.querySelector(b).disabled)"
    assert browser.js(enabled) == [True, False]
    for order, wanted in (
        ('best', worst[::-1]),
        ('name', sorted(counts, key=lambda name: int(name[6:-4]))),
    ):
        browser.js(f"""{{ const order = document.querySelector('#order'); order.value = '{order}'
            order.dispatchEvent(new Event('change')) }}""")
        assert browser.js(NAMES) == wanted[:12] and browser.js(enabled) == [False, True]
    browser.is_quiet()


def test_a_picture_is_enlarged(page, browser):
    worst = names_of(page)
    browser.open(page, 1280)
    browser.click('#cards figure:nth-child(2) button')
    large = """(d => d.open && [d.querySelector('b').textContent, ...[...d.querySelectorAll('img')]
        .filter(i => i.getBoundingClientRect().height > 300).map(i => i.className)])
        (document.querySelector('dialog'))"""
    assert browser.js(large) == [worst[1], 'truth', 'prediction']
    browser.click('dialog [for=view-overlay]')
    assert browser.js(large) == [worst[1], *LAYERS['overlay']]
    browser.click('#last')
    browser.press('ArrowLeft')  # round the corner
    browser.press('ArrowLeft')
    assert browser.js(large) == [worst[12], *LAYERS['overlay']]
    browser.press('Escape')
    browser.js('new Promise(done => setTimeout(done, 50))')  # the event comes later
    assert browser.js(large) is False and browser.js(NAMES) == worst[12:]
    assert browser.js(SHOWN) == [LAYERS['overlay']] * 2  # the switch is back, as it was left
    assert browser.js("document.activeElement.closest('figure').innerText").startswith(worst[12])
    browser.press('Enter')
    assert browser.js(large)[0] == worst[12]
    browser.click('#close')
    assert browser.js(large) is False
    browser.is_quiet()


def test_classes_are_sorted(page, browser):
    browser.open(page, 1280)
    column = """[...document.querySelector('.classes').tBodies[0].rows]
        .map(row => row.cells[{}].textContent)"""
    before = {k: browser.js(column.format(k)) for k in (0, 2)}
    place = [float(x) if x != '–' else -1 for x in before[2]]
    browser.click('.classes th:nth-child(3) button')
    assert browser.js(column.format(2)) == [
        before[2][i] for i in np.argsort(-np.array(place), kind='stable')
    ]
    state = "document.querySelector('.classes th:nth-child(3)').getAttribute('aria-sort')"
    assert browser.js(state) == 'descending'
    browser.press('Enter')
    numbers = [float(x) if x != '–' else -1 for x in browser.js(column.format(2))]
    assert numbers == sorted(place) and browser.js(state) == 'ascending'
    rows = dict(zip(browser.js(column.format(0)), browser.js(column.format(2))))
    assert rows == dict(zip(before[0], before[2]))  # a row stays together
    browser.click('.classes th:nth-child(1) button')
    assert browser.js(column.format(0)) == sorted(before[0]) and browser.js(state) is None
    browser.is_quiet()


def test_a_cell_of_the_confusion_shows_its_pictures(streets, browser):
    page, counts = streets
    browser.open(page, 1280)
    total = sum(counts.values())
    names = [CAMVID.names[i] for i in CAMVID.scored]
    some = np.sum([count[:, :11] > 0 for count in counts.values()], 0)
    i, j = next((i, j) for i, j in np.argwhere((some > 1) & (some < 12)).tolist() if i != j)
    held = {name: int(count[i, j]) for name, count in counts.items() if count[i, j]}

    def check():
        assert browser.js("document.querySelector('#where').textContent") == (
            f'1 to {len(held)} of {len(held)} with {names[i]} painted as {names[j]}'
        )
        found = browser.js(NAMES)
        assert [held[name] for name in found] == sorted(held.values(), reverse=True)
        assert {*found} == {*held}
        text = browser.js("document.querySelector('#cards figcaption span').textContent")
        assert f'{max(held.values()):,} pixels {names[i]} painted as {names[j]}' in text

    td = f'.confusion tbody tr:nth-child({i + 1}) td:nth-of-type({j + 1})'
    share = f'{100 * total[i, j] / total[i].sum():.1f} %'
    title = browser.js(f"document.querySelector('{td}').title")
    assert title == f'{names[i]} painted as {names[j]}: {share}, {total[i, j]:,} pixels'
    browser.click(td)
    check()
    browser.click('#all')
    assert browser.js(NAMES) == names_of(page)[:12]
    browser.js('document.querySelector(\'.confusion td[tabindex="0"]\').focus()')
    for _ in range(i):
        browser.press('ArrowDown')
    for _ in range(j):
        browser.press('ArrowRight')
    browser.press('Enter')
    check()
    assert browser.js('document.activeElement.id') == 'all'
    assert browser.js("document.querySelectorAll('[aria-selected]').length") == 1
    browser.press('Enter')
    assert browser.js(NAMES) == names_of(page)[:12]
    browser.is_quiet()


def test_long_names_do_not_overflow(browser, tmp_path):
    table = ClassTable(('x' * 60, '天' * 40), ((1, 2, 3), (4, 5, 6)), ('scored', 'scored'))
    made, label = report.Report(tmp_path / 'r.html', table), np.zeros((90, 4), np.uint8)
    made.add('f' * 200 + '.png', np.zeros((90, 4, 3), np.uint8), label, label)
    long = {'k' * 99: 'v' * 999}
    made.write(np.eye(2), long, {'k': long}, split='s' * 99, warnings=['w' * 99])
    browser.open(tmp_path / 'r.html', 390)
    assert browser.js('document.documentElement.scrollWidth') <= 390


def test_text_has_contrast(page, cells, browser):
    """WCAG AA, 4.5 to 1, of every text on what is painted below it, in both schemes."""
    measure = """(() => {
        const rgba = s => [...s.match(/[\\d.]+/g).map(Number), 1].slice(0, 4)
        const lum = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 :
            ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0)
        const over = (a, b) => b.map((v, i) => i < 3 ? a[i] * a[3] + v * (1 - a[3]) : 1)
        let worst = [99]
        for (const e of document.querySelectorAll('main *')) {
            if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue
            let layers = []
            for (let p = e; p; p = p.parentElement)
                layers.push(rgba(getComputedStyle(p).backgroundColor))
            const base = layers.reverse().reduce((b, a) => over(a, b), [255, 255, 255, 1])
            const style = getComputedStyle(e)
            const ink = rgba(e.closest('svg') ? style.fill : style.color)
            const [hi, lo] = [lum(ink), lum(base)].sort((a, b) => b - a)
            const ratio = (hi + .05) / (lo + .05)
            if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 120)]
        }
        return worst })()"""
    for scheme, path in itertools.product(('light', 'dark'), (page, cells)):
        browser.open(path, 1280, scheme)
        worst = browser.js(measure)
        assert 4.5 <= worst[0] < 99, (scheme, worst)
