"""The report as a browser, a parser and the disk see it; error map, curves, confusion picture."""

import base64
import io
import json
import os
import re
import select
import shutil
import subprocess
import time
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from seg import report
from seg.classes import CAMVID, ClassTable
from seg.files import InputError
from seg.metrics import confusion
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
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)


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
        {'preset': 'article', 'aug_dict': {'zoom_range': 0.05}},
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
        if tag not in ('meta', 'img', 'input', 'path', 'br'):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def pictures(page):
    """[(alt, PIL image)] of a report, decoded."""
    return [
        (img['alt'], Image.open(io.BytesIO(base64.b64decode(img['src'].split(',')[1]))))
        for img in page.all('img')
    ]


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
    assert labels == ids and len(set(ids)) == len(ids) == 4 * 6


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
    shown = pictures(Tags(page))
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


def test_void_predicted_has_its_column(tmp_path):
    counts = np.array([[4, 0, 4], [0, 4, 0]])
    report.Report(tmp_path / 'r.html', TABLE).write(counts)
    assert 'road predicted as no class: 50.0 %' in str(Tags(tmp_path / 'r.html').all('td'))
    report.Report(tmp_path / 'r.html', TABLE).write(counts * [1, 1, 0])
    assert 'no class' not in Tags(tmp_path / 'r.html').text


def test_nothing_is_fetched(page):
    """No address, no script, no style sheet or font from elsewhere."""
    text, read = re.sub('base64,[^"]*', '', page.read_text('utf-8')), Tags(page)
    assert not re.search(r'https?:|//[a-z]|@import|url\(|javascript:', text)
    for _, attrs in read.tags:
        assert all(attrs[k].startswith('data:image/') for k in ('src', 'href') if k in attrs)
        assert not [k for k in attrs if k.startswith('on')]
    assert not {'script', 'link', 'iframe', 'object'} & {tag for tag, _ in read.tags}
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


def test_written_whole_or_not_at_all(tmp_path):
    (tmp_path / 'r.html').write_text('old')
    with pytest.raises(RecursionError):
        loop = []
        loop.append(loop)
        try:
            report.Report(tmp_path / 'r.html', TABLE).write(np.eye(2), {'x': loop})
        except ValueError as e:  # json: circular reference
            raise RecursionError from e
    assert [p.name for p in tmp_path.iterdir()] == ['r.html']
    assert (tmp_path / 'r.html').read_text() == 'old'
    with pytest.raises(InputError, match='r.html'):
        report.Report(tmp_path / 'none' / 'r.html', TABLE).write(np.eye(2))


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
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    deep.save(tmp_path / 'deep.png')
    expected = report.error_map(image, label, label, CAMVID)
    for same in (tmp_path / 'a.png', grey[..., None], grey, tmp_path / 'deep.png'):
        found = report.error_map(same, label, label, CAMVID).astype(int)
        assert np.abs(found - expected).max() <= 1


# ------------------------------------------------------------------------ pictures


def test_error_map():
    image = np.full((1, 5, 3), 200, np.uint8)
    truth, index = np.array([[0, 0, 1, 255, 2]], np.uint8), np.array([[0, 2, 0, 0, 255]], np.uint8)
    right, wrong, void, nothing, missed = report.error_map(image, truth, index, TABLE)[0].tolist()
    assert right == [90, 90, 90] and void == nothing == list(report.IGNORED)
    assert wrong == missed and wrong[0] > 200 > 60 > wrong[2]
    dark = report.error_map(image * 0, truth, index, TABLE)[0]
    assert dark[1, 0] > 150 and dark[0].max() == 0  # an error in the dark shows as well


def test_curves_as_png(tmp_path):
    report.curves_png(HISTORY, tmp_path / 'curves.png')
    picture = np.asarray(Image.open(tmp_path / 'curves.png'))
    assert picture.shape == (600, 960, 3)
    for name in ('train', 'val'):
        drawn = (picture == report.LINES[name]).all(-1)
        assert drawn[:300, :480].sum() > 100 and drawn[300:, :480].sum() > 100
    report.curves_png({'loss': [1.0]}, tmp_path / 'one.png')  # one epoch: a dot
    one = np.asarray(Image.open(tmp_path / 'one.png'))
    assert one.shape == (300, 480, 3) and (one == report.LINES['train']).all(-1).sum() > 20
    report.curves_png({}, tmp_path / 'none.png')


def test_curves_run_through_their_points():
    (title, ys, xs, [(_, [train]), (_, [val])]), *_ = report._panels(HISTORY, 400, 250)
    assert title == 'Loss' and [text for _, text in xs] == ['1', '2', '3']
    (y0, low), (y1, high) = ys[0], ys[-1]
    assert float(low) <= 0.9 and float(high) >= 2.1
    for (x, y), value, (mark, _) in zip(train, HISTORY['loss'], xs):
        part = (value - float(low)) / (float(high) - float(low))
        assert x == mark and y == pytest.approx(y0 + (y1 - y0) * part, abs=0.1)
    assert len(val) == 2  # the third is nan


@pytest.mark.parametrize('low, high', [(0, 1), (0.9, 2.1), (1e-5, 1e-3), (3, 3), (0, 0), (-2, 7e4)])
def test_ticks_are_few_and_hold_all(low, high):
    ticks = report._ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0]) and ticks[1] > ticks[0]


def test_confusion_picture():
    counts = np.array([[50, 50], [0, 100]])
    picture = report.confusion_picture(counts, TABLE)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    colour = picture[-8 - 34 * 2 + 3 :: 34, -8 - 34 * 2 + 3 :: 34][:2, :2].astype(int)
    assert (colour[1, 0] == 255).all()  # nothing there
    assert colour[1, 1, 2] > colour[1, 1, 0] and colour[0, 1, 0] > colour[0, 1, 2]  # blue, orange
    assert colour[1, 1, 0] < colour[0, 0, 0]  # the more, the stronger
    assert report.confusion_picture(np.zeros((2, 3)), TABLE).size
    assert report.confusion_picture(np.eye(11) * 7, CAMVID).shape[0] < 500


# ------------------------------------------------------------------------ in a browser


class Browser:
    """Headless Chromium over its debugging pipe: the DevTools protocol with the stdlib alone."""

    def __init__(self, folder):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        self.process = subprocess.Popen(  # the pipe is the browser's descriptors 3 and 4
            [
                'bash',
                '-c',
                f'exec "$@" 3<&{commands} 4>&{answers}',
                'bash',
                CHROMIUM,
                '--headless',
                '--no-sandbox',
                '--disable-gpu',
                '--disable-quic',
                '--no-first-run',
                '--disable-sync',
                '--disable-background-networking',
                '--disable-component-update',
                '--disable-dev-shm-usage',
                '--remote-debugging-pipe',
                f'--user-data-dir={folder}',
            ],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.number, self.buffer, self.events, self.session = 0, b'', [], {}
        target = self('Target.createTarget', url='about:blank')['targetId']
        opened = self('Target.attachToTarget', targetId=target, flatten=True)
        self.session = {'sessionId': opened['sessionId']}
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self(f'{domain}.enable')

    def __call__(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params, **self.session}
        os.write(self.commands, json.dumps(message).encode() + b'\0')
        answer = self.wait(lambda answer: answer.get('id') == self.number)
        assert 'error' not in answer, answer
        return answer['result']

    def wait(self, wanted):
        end = time.monotonic() + 60
        while True:
            message, found, rest = self.buffer.partition(b'\0')
            if found:
                self.buffer, message = rest, json.loads(message)
                self.events.append(message)
                if wanted(message):
                    return message
            else:
                assert select.select([self.answers], [], [], end - time.monotonic())[0], 'no answer'
                self.buffer += os.read(self.answers, 1 << 20)

    def open(self, path, width, scheme='light'):
        self(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self(
            'Emulation.setEmulatedMedia',
            features=[{'name': 'prefers-color-scheme', 'value': scheme}],
        )
        self.events = []
        self('Page.navigate', url=path.as_uri())
        if not any(e.get('method') == 'Page.loadEventFired' for e in self.events):
            self.wait(lambda e: e.get('method') == 'Page.loadEventFired')

    def js(self, expression):
        answer = self('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.commands)
        os.close(self.answers)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip('chromium is not installed')
    opened = Browser(tmp_path_factory.mktemp('chromium'))
    yield opened
    opened.close()


SHOWN = """[...document.querySelectorAll('fieldset')].map(f => [...f.querySelectorAll('img')]
    .filter(i => i.getBoundingClientRect().width > 0).map(i => i.alt))"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_in_chromium(page, browser, width, scheme):
    browser.open(page, width, scheme)
    assert browser.js('document.documentElement.scrollWidth') <= width
    decoded = browser.js('[...document.images].map(i => i.complete && i.naturalWidth)')
    assert decoded == [80] * 24
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
    bad = [
        e
        for e in browser.events
        if e.get('method')
        in ('Runtime.exceptionThrown', 'Log.entryAdded', 'Runtime.consoleAPICalled')
    ]
    asked = [
        e['params']['request']['url']
        for e in browser.events
        if e.get('method') == 'Network.requestWillBeSent'
    ]
    assert bad == [] and {url.split(':')[0] for url in asked} <= {'file', 'data'}


def test_long_names_do_not_overflow(browser, tmp_path):
    table = ClassTable(('x' * 60, '天' * 40), ((1, 2, 3), (4, 5, 6)), ('scored', 'scored'))
    made, label = report.Report(tmp_path / 'r.html', table), np.zeros((90, 4), np.uint8)
    made.add('f' * 200 + '.png', np.zeros((90, 4, 3), np.uint8), label, label)
    made.write(np.eye(2), {'k' * 99: 'v' * 999}, split='s' * 99, warnings=['w' * 99])
    browser.open(tmp_path / 'r.html', 390)
    assert browser.js('document.documentElement.scrollWidth') <= 390


def test_text_has_contrast(page, browser):
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
    for scheme in ('light', 'dark'):
        browser.open(page, 1280, scheme)
        worst = browser.js(measure)
        assert 4.5 <= worst[0] < 99, (scheme, worst)
