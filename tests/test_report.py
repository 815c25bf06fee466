"""The report as a browser, a parser and the disk see it; its figures; pictures written to disk."""

import base64
import errno
import io
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg import report
from seg.classes import CAMVID, ClassTable, numbered_classes
from seg.files import InputError, is_ours
from seg.metrics import confusion
from seg.report import figures, pictures
from seg.scenes import draw_scene

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
def page(tmp_path_factory):
    """The report of nine drawn scenes, image 0 the best."""
    path = tmp_path_factory.mktemp('report') / 'report.html'
    made, counts = report.Report(path, CAMVID, keep=3), 0
    for k in (4, 0, 8, 1, 6, 2, 7, 3, 5):
        image, label = draw_scene(k, (60, 80))
        index = blurred(label, 3 * k)
        counts = counts + confusion(label, index, CAMVID)
        made.add(f'frame {k}.png', image, label, index)
    made.write(
        counts,
        {'preset': 'article', 'aug_dict': {'zoom_range': 0.05}, 'left_out': None, 'zero': 0},
        {'keras': '3.15'},
        HISTORY,
        'val',
        ['Road takes everything.'],
    )
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
        if tag not in ('meta', 'img', 'input'):
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


def shown_in(page):
    """[(alt, PIL image)] of a report, decoded."""
    return [(img['alt'], decoded(img['src'])) for img in page.all('img')]


def test_report_says_what_it_is(page):
    read = Tags(page)
    for text in (
        'Scores on the validation images (not a test score)',
        'Road takes everything.',
        '9 images',
        'SignSymbol',
        'mIoU',
        'precision',
        '{"zoom_range": 0.05}',
        '3.15',
        'Confusion',
        'Learning rate',
        'Worst images',
        'Best images',
    ):
        assert text in read.text, text
    assert read.all('html') == [{'lang': 'en'}] and len(read.all('h1')) == 1
    assert {a.get('scope') for a in read.all('th')} == {'row', 'col'}
    labels, ids = ([a[k] for a in read.all(tag)] for tag, k in (('label', 'for'), ('input', 'id')))
    assert labels == ids and len(ids) == 4 * 6
    ids = [attrs['id'] for _, attrs in read.tags if 'id' in attrs]
    assert len(ids) == len(set(ids))
    assert 'left_out' not in read.text and 'zero' in read.text
    head = page.read_bytes()[:512]
    assert head.startswith(b'<!doctype html>') and b'content="unet-camvid"' in head
    assert is_ours(page)


def test_class_table_by_hand(tmp_path):
    """road: 6 of 8 found and 2 of the other claimed, so IoU 6/10; the sky 5/9."""
    report.Report(tmp_path / 'r.html', TABLE).write(np.array([[6, 2], [2, 5]]))
    text = (tmp_path / 'r.html').read_text('utf-8')
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', text, re.S)
    cells = [re.findall('<td.*?>(.*?)</td>', row) for row in rows]
    assert cells == [
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


def test_worst_and_best_are_kept(page):
    shown = shown_in(Tags(page))
    names = [alt.removeprefix('Image of ') for alt, _ in shown if alt.startswith('Image')]
    assert names[0] in ('frame 8.png', 'frame 7.png', 'frame 6.png')
    assert len(set(names)) == 6 and names[3] == 'frame 0.png'
    assert sorted(alt.split(' of ')[0] for alt, _ in shown) == sorted(
        ['Image', 'Truth', 'Prediction', 'Error'] * 6
    )
    found = {alt: np.asarray(picture.convert('RGB')) for alt, picture in shown}
    image, label = draw_scene(0, (60, 80))
    assert (found['Truth of frame 0.png'] == CAMVID.palette[label]).all()
    assert (found['Prediction of frame 0.png'] == CAMVID.palette[blurred(label, 0)]).all()
    assert np.abs(found['Image of frame 0.png'].astype(int) - image).mean() < 8
    error = report.error_map(image, label, blurred(label, 0), CAMVID)
    assert np.abs(found['Error of frame 0.png'].astype(int) - error).mean() < 8


def test_images_between_are_not_even_read(tmp_path):
    label = np.array([[0, 0, 2, 2]], np.uint8)
    made, image = report.Report(tmp_path / 'r.html', TABLE, keep=1), np.zeros((1, 4, 3), np.uint8)
    made.add('best', image, label, label)
    made.add('worst', image, label, 2 - label)
    made.add('between', tmp_path / 'none.png', label, label * 0)
    with pytest.raises(InputError, match='none.png'):
        made.add('better', tmp_path / 'none.png', label, label)
    made.write(np.eye(2))
    assert [alt for alt, _ in shown_in(Tags(tmp_path / 'r.html'))][::4] == [
        'Image of worst',
        'Image of best',
    ]


def test_few_images_are_shown_once(tmp_path):
    made = report.Report(tmp_path / 'r.html', TABLE)
    label = np.zeros((4, 5), np.uint8)
    made.add('a', np.zeros((4, 5, 3), np.uint8), label, label)
    made.add('nothing to score', np.zeros((4, 5, 3), np.uint8), label + 1, label)
    made.write(np.eye(2))
    read = Tags(tmp_path / 'r.html')
    assert len(read.all('img')) == 4 and 'Best images' not in read.text and '2 images' in read.text


def test_nothing_at_all_still_writes(tmp_path):
    report.Report(tmp_path / 'r.html', TABLE).write(np.zeros((2, 2), int))
    assert '–' in Tags(tmp_path / 'r.html').text


def test_classes_that_do_not_occur_are_told(tmp_path):
    report.Report(tmp_path / 'r.html', TABLE).write(np.array([[4, 0], [0, 0]]))
    assert '1 of 2 classes occur in neither' in Tags(tmp_path / 'r.html').text


def test_nothing_is_fetched(page):
    """No address, no script, no style sheet or font from elsewhere."""
    text, read = page.read_text('utf-8'), Tags(page)
    text = re.sub('base64,[^"]*|xmlns(:xlink)?="[^"]*"', '', text)
    assert not re.search(r'https?:|//[a-z]|@import|url\((?!#)|javascript:', text)
    for _, attrs in read.tags:
        links = [attrs[k] for k in ('src', 'href', 'xlink:href') if k in attrs]
        assert all(link.startswith(('data:image/', '#')) for link in links)
        assert not [k for k in attrs if k.startswith('on')]
    assert not {'script', 'link', 'iframe', 'object', 'foreignobject'} & {
        tag for tag, _ in read.tags
    }
    assert "default-src 'none'" in text


def test_names_are_text_and_never_markup(tmp_path):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\''
    table = ClassTable((evil, '天空'), ((1, 2, 3), (4, 5, 6)), ('scored', 'scored'))
    made = report.Report(tmp_path / 'r.html', table)
    label = np.zeros((4, 5), np.uint8)
    made.add(evil, np.zeros((4, 5, 3), np.uint8), label, label)
    made.add('街道\udcff.png', np.zeros((4, 5, 3), np.uint8), label, 1 - label)
    made.write(np.array([[3, 1], [1, 3]]), {evil: evil}, {evil: evil}, split=evil, warnings=[evil])
    read = Tags(tmp_path / 'r.html')
    assert not read.all('script') and len(read.all('img')) == 8
    assert all(set(img) == {'src', 'alt', 'width', 'height'} for img in read.all('img'))
    assert read.text.count(evil) >= 8 and '天空' in read.text and '街道' in read.text
    assert f'Image of {evil}' in [img['alt'] for img in read.all('img')]


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'r.html'
    report.Report(path, TABLE).write(np.eye(2), split='old')
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match='[Cc]ircular'):
        report.Report(path, TABLE).write(np.eye(2), {'x': loop}, split='new')

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
    made, peaks = report.Report(tmp_path / 'r.html', CAMVID), []
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
    assert len(Tags(tmp_path / 'r.html').all('img')) == 4 * 12
    assert size < 15e6  # noise: nothing compresses less, and the number of images plays no part
    assert abs(peaks[1] - peaks[0]) < 2e6 and peaks[1] < 1.2 * size and written < 4 * size


def test_image_may_be_a_path_or_grey(tmp_path):
    image, label = draw_scene(1, (48, 64))
    Image.fromarray(image).save(tmp_path / 'a.png')
    grey = np.asarray(Image.fromarray(image).convert('L'))
    expected = report.error_map(image, label, label, CAMVID)
    for same in (tmp_path / 'a.png', str(tmp_path / 'a.png'), grey[..., None], grey):
        found = report.error_map(same, label, label, CAMVID).astype(int)
        assert np.abs(found - expected).max() <= 1
    Image.fromarray(grey.astype(np.uint16) * 5).save(tmp_path / 'deep.png')  # dark: 2 % of 16 bits
    found = report.error_map(tmp_path / 'deep.png', label, label, CAMVID)[label != 11]
    assert np.corrcoef(found.ravel(), expected[label != 11].ravel())[0, 1] > 0.98
    assert np.percentile(found, 99) > 100  # of 0.45 * 255: the darkness is stretched


# ------------------------------------------------------------------------ pictures


def test_error_map():
    image = np.full((1, 5, 3), 200, np.uint8)
    truth, index = np.array([[0, 0, 1, 255, 2]], np.uint8), np.array([[0, 2, 0, 0, 255]], np.uint8)
    right, wrong, void, nothing, missed = report.error_map(image, truth, index, TABLE)[0].tolist()
    assert right == [90, 90, 90] and void == nothing == list(pictures.IGNORED)
    assert wrong == missed and wrong[0] > 200 > 60 > wrong[2]
    dark = report.error_map(image * 0, truth, index, TABLE)[0]
    assert dark[1, 0] > 150 and dark[0].max() == 0  # an error in the dark shows as well


def test_side_by_side():
    red, blue = (np.full((3, 4, 3), c, np.uint8) for c in ((255, 0, 0), (0, 0, 255)))
    row = report.side_by_side(red, blue, red)[1].tolist()
    white = [[255] * 3] * 2
    assert row == [[255, 0, 0]] * 4 + white + [[0, 0, 255]] * 4 + white + [[255, 0, 0]] * 4


def test_overlay():
    index = np.array([[0, 2]], np.uint8)
    image = np.full((1, 2, 3), 100, np.uint8)
    assert report.overlay(image, index, TABLE, 0.0).tolist() == image.tolist()
    assert report.overlay(image, index, TABLE, 1.0).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    half = report.overlay(image, index, TABLE).astype(int)
    assert np.abs(half - [[[177.5, 50, 50], [50, 50, 177.5]]]).max() <= 1


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


def test_of_many_classes_the_legend_names_those_that_fill_most():
    few, many = numbered_classes(24), numbered_classes(200)
    index = np.repeat(np.arange(150, 200, dtype=np.uint8), np.arange(1, 51))[None]
    assert report.to_name(index % 24, few) == tuple(few.scored)
    named = report.to_name(index, many)
    assert named == tuple(range(176, 200))
    assert report.legend(many, 120, named).shape[0] < 24 * 30


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
    report.legend.cache_clear()


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
    for share in (1, 5, 10, 25, 50, 75, 90, 99, 100):
        counts = np.array([[share, 100 - share], [share, 100 - share]])
        _, cells, _ = matrix_of(report.to_svg(report.confusion_figure(counts, TABLE)))
        for card, ink in zip(*schemes):
            card, ink = (
                np.array([int(v * (6 // len(v)), 16) >> s & 255 for s in (16, 8, 0)])
                for v in (card, ink)
            )
            alpha = cells[..., 3:] / 255
            below = luminance(cells[..., :3] * alpha + card * (1 - alpha))
            low, high = np.minimum(below, luminance(ink)), np.maximum(below, luminance(ink))
            assert ((high + 0.05) / (low + 0.05)).min() >= 4.5, (share, card)


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


# ------------------------------------------------------------------------ in a browser


SHOWN = """[...document.querySelectorAll('fieldset')].map(f => [...f.querySelectorAll('img')]
    .filter(i => i.getBoundingClientRect().width > 0).map(i => i.alt))"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_in_chromium(page, browser, width, scheme):
    browser.open(page, width, scheme)
    assert browser.js('document.documentElement.scrollWidth') <= width
    loaded = browser.js('[...document.images].map(i => i.complete && i.naturalWidth)')
    assert loaded == [80] * 24
    ink, text = browser.js("""['body', 'svg text'].map(e => document.querySelector(e))
        .map((e, i) => getComputedStyle(e)[i ? 'fill' : 'color'])""")
    assert ink == text  # figures follow the scheme
    figures_wide = browser.js("[...document.querySelectorAll('svg')].map(s => s.clientWidth)")
    assert len(figures_wide) == 2 and min(figures_wide) >= 400
    boxes = browser.js("""[...document.querySelectorAll('main *')]
        .filter(e => !e.closest('.scroll')).map(e => e.getBoundingClientRect())
        .filter(r => r.width > 1).filter(r => r.left < 0 || r.right > innerWidth).length""")
    assert boxes == 0
    background = browser.js('getComputedStyle(document.body).backgroundColor')
    assert (sum(map(int, re.findall(r'\d+', background))) < 150) == (scheme == 'dark')
    assert [shown[0].split()[0] for shown in browser.js(SHOWN)] == ['Prediction'] * 6
    name = browser.js(SHOWN)[0][0].split(' of ')[1]
    for k, kind in enumerate(('Image', 'Truth', 'Prediction', 'Error')):  # by mouse or finger
        browser.js(f"document.querySelectorAll('label')[{k}].scrollIntoView({{block: 'center'}})")
        x, y = browser.js(f"""(r => [r.x + r.width / 2, r.y + r.height / 2])(
            document.querySelectorAll('label')[{k}].getBoundingClientRect())""")
        for what in ('mousePressed', 'mouseReleased'):
            browser('Input.dispatchMouseEvent', type=what, x=x, y=y, button='left', clickCount=1)
        assert browser.js(SHOWN)[0] == [f'{kind} of {name}']
    for kind in ('Image', 'Truth'):  # by keyboard: round the corner from Error
        for what in ('keyDown', 'keyUp'):
            browser(
                'Input.dispatchKeyEvent',
                type=what,
                key='ArrowRight',
                code='ArrowRight',
                windowsVirtualKeyCode=39,
            )
        assert browser.js(SHOWN)[0] == [f'{kind} of {name}']
    assert [shown[0].split()[0] for shown in browser.js(SHOWN)[1:]] == ['Prediction'] * 5
    assert browser.faults() == [] and browser.asked() <= {'file', 'data'}


def test_long_names_do_not_overflow(browser, tmp_path):
    table = ClassTable(('x' * 60, '天' * 40), ((1, 2, 3), (4, 5, 6)), ('scored', 'scored'))
    made, label = report.Report(tmp_path / 'r.html', table), np.zeros((90, 4), np.uint8)
    made.add('f' * 200 + '.png', np.zeros((90, 4, 3), np.uint8), label, label)
    made.write(np.eye(2), {'k' * 99: 'v' * 999}, split='s' * 99, warnings=['w' * 99])
    browser.open(tmp_path / 'r.html', 390)
    assert browser.js('document.documentElement.scrollWidth') <= 390


def test_text_has_contrast(page, browser):
    """WCAG AA, 4.5 to 1, of every text on what is painted below it, in both schemes."""
    for scheme in ('light', 'dark'):
        browser.open(page, 1280, scheme)
        worst = browser.contrast()
        assert 4.5 <= worst[0] < 99, (scheme, worst)
