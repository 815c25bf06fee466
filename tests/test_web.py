"""The page that segments pictures: its masks beside those of Keras, its words, whence its parts."""

import base64
import io
import json
import re
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_main import refused, run

from model import save_model, unet
from seg import web
from seg.classes import ClassTable
from seg.files import InputError, is_ours
from seg.modelfile import About
from seg.predict import jobs_of, paint
from seg.scenes import draw_scene
from seg.settings import Settings
from seg.sizes import SizeRule, resize

HERE = Path(web.__file__).parent
WORDS = json.loads((HERE / 'words.json').read_text('utf-8'))
TABLE = ClassTable(
    ('ground', 'void </script>', '天空', 'tree & bush'),
    ((128, 64, 128), (0, 0, 0), (70, 130, 180), (40, 160, 60)),
    ('scored', 'void', 'scored', 'scored'),
)


def network(shape, rule, classes=TABLE, seed=1):
    """An untrained network of two filters that finds each class as often as any other."""
    keras.utils.set_random_seed(seed)
    one = len(classes) == 2
    made = unet(None, shape, 1 if one else len(classes), filters=2, classes=classes)
    made.about = About(classes, rule)
    head = made.get_layer('scores')
    grey = draw_scene(0, [side or 64 for side in shape[:2]])[0].mean(-1, keepdims=True) / 255
    scene = np.repeat(grey, shape[2], -1)[None]
    logits = keras.Model(made.input, head.output).predict(scene, verbose=0)
    head.bias.assign(-np.median(logits, (0, 1, 2)))
    return made


# ------------------------------------------------------------------------ without a browser


def packed(path, files):
    with tarfile.open(path, 'w:gz') as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """What npm would fetch, small; the cache is empty and npm is not there."""
    made = packed(tmp_path / 'made.tgz', {file: file.encode() for file in web.RUNTIME})
    monkeypatch.setattr(web, 'INTEGRITY', web.integrity_of(made))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    return made


def fake_npm(tmp_path, script):
    """An `npm` that notes its call and then does `script`."""
    (tmp_path / 'bin').mkdir(exist_ok=True)
    file = tmp_path / 'bin' / 'npm'
    file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
    file.chmod(0o755)


def test_npm_fetches_once(package, tmp_path):
    fake_npm(tmp_path, f'/bin/cp {package} onnxruntime-web.tgz')
    for _ in range(2):
        found = web.runtime_files()
        assert found == {name: file.encode() for file, name in web.RUNTIME.items()}
    assert (tmp_path / 'calls').read_text().splitlines() == [f'pack {web.PACKAGE}']
    cached = tmp_path / 'cache/unet-camvid' / f'onnxruntime-web-{web.VERSION}.tgz'
    cached.write_bytes(cached.read_bytes()[:-1])  # a damaged one is fetched anew
    assert web.runtime_files() == found and cached.read_bytes() == package.read_bytes()


def test_what_npm_can_not_fetch(package, tmp_path):
    with pytest.raises(InputError, match='install Node.js, .*--runtime FILE'):
        web.runtime_files()
    fake_npm(tmp_path, 'echo "npm error network\n no answer" >&2; exit 1')
    with pytest.raises(InputError, match='could not fetch .*network no answer'):
        web.runtime_files()
    other = packed(tmp_path / 'other.tgz', {file: b'another' for file in web.RUNTIME})
    fake_npm(tmp_path, f'/bin/cp {other} onnxruntime-web.tgz')
    with pytest.raises(InputError, match='another'):
        web.runtime_files()
    assert not [*(tmp_path / 'cache').rglob('*.tgz')]


def test_runtime_that_a_user_names(package, tmp_path):
    assert web.runtime_files(package)['wasm'].endswith(b'.wasm')
    other = packed(tmp_path / 'other.tgz', {file: b'another' for file in web.RUNTIME})
    for file, line in ((other, 'found another file'), (tmp_path / 'none.tgz', 'no such file')):
        with pytest.raises(InputError, match=line):
            web.runtime_files(file)


class Parts(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_page_holds_all_and_loads_nothing(package, tmp_path):
    path, model = tmp_path / 'scenes.html', network((48, 64, 3), SizeRule('pad', 48, 64))
    model.about = replace(model.about, settings={'data': '/home/jane/secret'})
    web.to_web(model, path, runtime=package)
    page = path.read_text('utf-8')
    assert is_ours(path)
    assert '://' not in page  # no address at all
    tags = Parts(page).tags
    links = [a[name] for _, a in tags for name in ('src', 'href', 'data', 'action') if name in a]
    assert links == ['data:,']  # the icon that a browser would ask a server for
    policy = next(a['content'] for _, a in tags if a.get('http-equiv'))
    assert policy.startswith("default-src 'none';") and 'connect-src' not in policy
    assert 'http' not in policy and "'unsafe-eval'" not in policy
    assert [a['id'] for _, a in tags if a.get('type') == 'application/gzip'] == [
        *web.RUNTIME.values(),
        'network',
    ]
    held, x = web.open_web(path), np.random.default_rng(0).random((1, 48, 64, 3), np.float32)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(held.predict_on_batch(x), expected, atol=1e-5)
    assert held.about == About(TABLE, SizeRule('pad', 48, 64))  # the page may go to anybody


@pytest.mark.parametrize(
    'about, channels', [(dict(intensity=(0.0, 4095.0)), 1), (dict(intensity=None), 4)]
)
def test_pictures_that_no_browser_opens(package, tmp_path, about, channels):
    model = network((32, 32, channels), SizeRule())
    model.about = About(TABLE, **about)
    with pytest.raises(InputError, match='8 bits, which browsers open.*--to onnx'):
        web.to_web(model, tmp_path / 'a.html', runtime=package)


def test_export_writes_the_page(package, here, capsys):
    """The verb, with what it takes for a page alone."""
    save_model(network((32, 48, 3), SizeRule('pad', 32, 48)), 'm.hdf5')
    options = ['--to', 'web', '--runtime', package, '--title', '街景 <1>']
    status, out, error = run(capsys, 'export', 'm.hdf5', *options)
    assert (status, error) == (0, '') and 'the same class for 100.000 %' in out
    assert '<h1>街景 &lt;1&gt;</h1>' in Path('m.html').read_text('utf-8')
    line = refused(capsys, 'export', 'm.hdf5', '--to', 'onnx', '--runtime', package)
    assert line == 'main.py: --runtime: expected --to web, found --to onnx'


def test_both_languages_say_the_same():
    english, chinese = WORDS['en'], WORDS['zh']
    assert [*english] == [*chinese]
    for key, text in english.items():
        holes = [sorted(re.findall(r'\{\w+\}', said)) for said in (text, chinese[key])]
        assert holes[0] == holes[1], key
        assert re.search('[\u4e00-\u9fff]', chinese[key]), key
    page, script = ((HERE / name).read_text('utf-8') for name in ('page.html', 'page.js'))
    used = {*re.findall(r'data-word="(\w+)"', page), *re.findall(r'words\.en\.(\w+)', page)}
    used |= {*re.findall(r"(?:say|tell)\(\s*'(\w+)'", script)}
    used |= {*re.findall(r"(?:dataset\.word = |said = \[)'(\w+)'", script)}
    used |= {'colour', 'index', 'overlay'}
    used |= {'frames', 'done'}  # of one line that chooses
    assert used == {*english}


# ------------------------------------------------------------------------ in a browser


@pytest.fixture(scope='module')
def runtime():
    try:
        web.runtime_files()
    except InputError as e:
        pytest.skip(str(e))


def page_of(model, folder):
    web.to_web(model, folder / 'scenes.html')
    return folder / 'scenes.html'


@pytest.fixture(scope='module')
def scenes(runtime, browser, tmp_path_factory):
    """(model of 48x64 pixels, its page)."""
    model = network((48, 64, 3), SizeRule('pad', 48, 64))
    return model, page_of(model, tmp_path_factory.mktemp('page'))


def opened(browser, page, width=1280, scheme='light', language='en-GB'):
    agent = browser('Browser.getVersion')['userAgent']
    browser('Emulation.setUserAgentOverride', userAgent=agent, acceptLanguage=language)
    browser.open(page, width, scheme)
    browser.until("said[0] == 'ready'")


def by_keras(model, file, **options):
    (found,) = paint(model, jobs_of(model, [(Path(file), None)]), Settings(**options))
    return found.index


def same(browser, model, file, **options):
    expected, found = by_keras(model, file, **options), browser.choose(file)
    assert found.shape == expected.shape and (found == expected).mean() >= 0.999
    return found


def pictures(folder):
    """Pictures of the network's size and of others, of every kind that browsers and Pillow open."""
    for name, k, size in (('exact', 0, (48, 64)), ('large', 1, (150, 211)), ('tall', 2, (97, 40))):
        Image.fromarray(draw_scene(k, size)[0]).save(folder / f'{name}.png')
        yield folder / f'{name}.png'
    tiny = Image.open(folder / 'large.png').resize((21, 17))
    for name, picture in (
        ('tiny', tiny),
        ('grey', tiny.convert('L')),
        ('palette', Image.open(folder / 'large.png').quantize(20)),
        ('opaque', Image.open(folder / 'tall.png').convert('RGBA')),
    ):
        picture.save(folder / f'{name}.png')
        yield folder / f'{name}.png'
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture = Image.open(folder / 'large.png')
    picture.save(folder / 'turned.jpg', exif=exif, quality=100, subsampling=0)
    yield folder / 'turned.jpg'


def test_masks_are_those_of_keras(scenes, browser, tmp_path):
    model, page = scenes
    opened(browser, page)
    found = [{*same(browser, model, file).flat} for file in pictures(tmp_path)]
    assert set.union(*found) == {*TABLE.scored}  # or any page would be right
    assert browser.faults() == [] and browser.asked() <= {'file', 'data', 'blob'}


def test_one_channel_of_grey_stretched(runtime, browser, tmp_path):
    table = ClassTable(('no', 'yes'), ((0, 0, 0), (255, 255, 255)), ('scored', 'scored'))
    model = network((48, 64, 1), SizeRule('stretch', 48, 64), table)
    opened(browser, page_of(model, tmp_path))
    found = [{*same(browser, model, file).flat} for file in [*pictures(tmp_path)][1:4]]
    assert set.union(*found) == {0, 1}


def test_any_size_in_tiles(runtime, browser, tmp_path, monkeypatch):
    """Tiles of 64 pixels with an overlap of 32, on the page as by `predict`."""
    monkeypatch.setattr(web, 'TILE', 64)
    monkeypatch.setattr(web, 'OVERLAP', 32)
    model = network((None, None, 3), SizeRule('tile', 64, 64))
    opened(browser, page_of(model, tmp_path))
    for file in [*pictures(tmp_path)][:2]:
        found = same(browser, model, file, tile=(64, 64), overlap=32)
    assert len(np.unique(found)) > 1


def test_what_is_saved(scenes, browser, tmp_path):
    model, page = scenes
    opened(browser, page)
    image, _ = draw_scene(5, (60, 90))
    Image.fromarray(image).save(tmp_path / 'street.1.png')
    index = same(browser, model, tmp_path / 'street.1.png')
    saved = tmp_path / 'saved'
    browser('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(saved))
    names = {'colour': 'street.1.png', 'index': 'street.1-index.png'}
    names |= {'overlay': 'street.1-overlay.jpg'}
    for kind, name in names.items():
        browser.js("$('opacity').value = 25; $('opacity').oninput({target: $('opacity')})")
        browser.js(f"$('{kind}').click()")
        browser.until(lambda name=name: (saved / name).exists())
    with Image.open(saved / names['index']) as grey, Image.open(saved / names['colour']) as rgb:
        assert (grey.mode, rgb.mode) == ('L', 'RGB')
        np.testing.assert_array_equal(grey, index)
        np.testing.assert_array_equal(rgb, TABLE.palette[index])
    mixed = 0.75 * image + 0.25 * TABLE.palette[index]
    difference = np.abs(np.asarray(Image.open(saved / names['overlay'])) - mixed)
    assert difference.mean() < 8  # JPEG; twice the opacity would be 20
    rows = browser.js("""[...document.querySelectorAll('li')].map(row =>
        [row.querySelector('span').textContent, row.querySelector('output').textContent])""")
    shares = [100 * (index == c).mean() for c in TABLE.scored]
    assert rows == [[TABLE.names[c], f'{s:.1f} %'] for c, s in zip(TABLE.scored, shares)]


def test_drop_paste_and_what_is_no_picture(scenes, browser, tmp_path):
    model, page = scenes
    opened(browser, page)
    data = io.BytesIO()
    Image.fromarray(draw_scene(7, (40, 40))[0]).save(data, 'png')
    (tmp_path / 'a.png').write_bytes(data.getvalue())
    expected = by_keras(model, tmp_path / 'a.png')
    make = f"""(() => {{ const files = new DataTransfer()
        const bytes = Uint8Array.from(atob('{base64.b64encode(data.getvalue()).decode()}'),
            c => c.charCodeAt(0))
        files.items.add(new File([bytes], 'a.png', {{type: 'image/png'}})); return files }})()"""
    for event in (
        f"new DragEvent('drop', {{dataTransfer: {make}}})",
        f"new ClipboardEvent('paste', {{clipboardData: {make}}})",
    ):
        browser.js(f'shown = null; document.dispatchEvent({event})')
        browser.until("shown && said[0] == 'done'")
        assert (browser.mask() == expected).mean() >= 0.999
    (tmp_path / 'note.png').write_text('no picture')
    browser.choose(tmp_path / 'note.png')
    assert browser.js("$('status').textContent").startswith('note.png: expected a picture')
    browser.js("document.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))")
    assert browser.js("$('status').textContent").startswith('Expected a picture file')
    assert browser.js("paint(null, 10000, 9000, 'a.png')") is False
    assert '10000 × 9000 pixels, expected at most 67' in browser.js("$('status').textContent")
    assert browser.faults() == []


def test_the_last_of_two_pictures_counts(scenes, browser, tmp_path):
    model, page = scenes
    opened(browser, page)
    for k, side in enumerate((64, 48)):
        Image.fromarray(draw_scene(k, (side, side))[0]).save(tmp_path / f'{k}.png')
    text = [base64.b64encode((tmp_path / f'{k}.png').read_bytes()).decode() for k in range(2)]
    browser.js(f"""for (const [k, text] of {text}.entries()) {{
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0))
        openFile(new File([bytes], k + '.png')) }}""")
    browser.until("shown && said[0] == 'done'")
    assert browser.js('[shown.name, shown.width, $("photo").width]') == ['1.png', 48, 48]
    assert (browser.mask() == by_keras(model, tmp_path / '1.png')).mean() >= 0.999


def test_camera(scenes, browser):
    """Chromium's drawn camera: frames are painted until it is stopped, and the last one stays."""
    _, page = scenes
    opened(browser, page)
    browser.js("$('camera').click()")
    browser.until("said[0] == 'frames' && latest > 2")
    assert browser.js("$('camera').textContent") == WORDS['en']['stop']
    browser.js("$('camera').click()")
    browser.until("said[0] == 'done' && !$('tools').disabled")
    size = browser.js('[shown.width, shown.height]')
    assert size == browser.js('[$("photo").width, $("photo").height]')
    assert browser.js('shown.counts.reduce((a, b) => a + b)') == size[0] * size[1]
    assert browser.js("$('camera').textContent") == WORDS['en']['camera']
    browser.js("""navigator.mediaDevices.getUserMedia = () =>
        Promise.reject(new Error('none there')); $('camera').click()""")
    browser.until("$('status').textContent.includes('does not start (none there)')")


def test_a_network_that_does_not_start(package, browser, tmp_path):
    """Of a runtime that is none: said so, and no picture waits for it."""
    model = network((48, 64, 3), SizeRule('pad', 48, 64))
    web.to_web(model, tmp_path / 'a.html', runtime=package)
    Image.new('RGB', (40, 40)).save(tmp_path / 'a.png')
    browser.open(tmp_path / 'a.html', 1280)
    browser.until("said[0] == 'noStart'")
    browser.choose(tmp_path / 'a.png')
    assert 'does not start in this browser' in browser.js("$('status').textContent")


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_looks(scenes, browser, tmp_path, width, scheme):
    """In Chinese, then in English: nothing overflows, and text has contrast."""
    _, page = scenes
    opened(browser, page, width, scheme, 'zh-CN')
    assert browser.js("$('choose').textContent") == WORDS['zh']['choose']
    Image.fromarray(draw_scene(1, (90, 120))[0]).save(tmp_path / ('long' * 50 + '.png'))
    for language in ('zh', 'en'):
        assert browser.js('document.documentElement.lang') == language
        browser.choose(tmp_path / ('long' * 50 + '.png'))
        assert browser.js('document.documentElement.scrollWidth') <= width
        assert 4.5 <= browser.contrast()[0] < 99, browser.contrast()
        wide = browser.js("$('view').getBoundingClientRect().width")
        assert wide == browser.js("$('mask').clientWidth") > 0.6 * min(width, 900)
        shown = browser.js('document.body.innerText')
        assert ('图片' in shown) == (language == 'zh')
        browser.js("$('language').click()")


# ------------------------------------------------------------------------ engine.js by itself


@pytest.fixture(scope='module')
def engine(browser, tmp_path_factory):
    """The functions of engine.js, in a page."""
    page = tmp_path_factory.mktemp('engine') / 'engine.html'
    page.write_text(f'<script>{(HERE / "engine.js").read_text("utf-8")}</script>')
    return page


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def test_resizing_is_pillows(engine, browser):
    browser.open(engine, 800)

    @settings(max_examples=60, deadline=None)
    @given(SIDES, SIDES, st.sampled_from([1, 3]), st.booleans(), st.integers(0, 99))
    def check(old, new, channels, bytes_, seed):
        rng, lanczos = np.random.default_rng(seed), 'LANCZOS' if bytes_ else 'BILINEAR'
        kind = np.uint8 if bytes_ else np.float32
        values = (rng.integers(0, 256, (*old, channels)) / (1 if bytes_ else 255)).astype(kind)
        array = 'Uint8ClampedArray' if bytes_ else 'Float32Array'
        found = browser.js(f"""[...resize({array}.from({values.ravel().tolist()}), {[*old]},
            {channels}, {[*new]}, {lanczos})]""")
        expected = resize(values, new, Image.Resampling[lanczos])
        found = np.array(found, kind).reshape(*new, channels)
        exact = 0 if PIL.__version__ >= '13' else 1  # Pillow 12 takes the sides in another order
        np.testing.assert_allclose(found, expected, rtol=0, atol=exact if bytes_ else 2e-7)

    check()


def test_size_rule_is_pythons(engine, browser):
    browser.open(engine, 800)

    @settings(max_examples=80, deadline=None)
    @given(st.sampled_from(['pad', 'stretch', 'whole', 'tile']), SIDES, SIDES)
    def check(kind, size, shape):
        rule = SizeRule(kind, *(None, None) if kind == 'tile' else size)
        about = {'size': {'rule': kind, 'height': rule.height, 'width': rule.width}}
        about['size']['multiple'] = 32
        found = browser.js(f'about = {json.dumps(about)}; fit({[*shape]})')
        assert found == [[*rule.input_size(shape)], [*rule.inner_size(shape)]]

    check()
