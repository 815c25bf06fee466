"""The page of `export --to web` in headless Chromium beside Keras: masks, time, size.

    python bench/web.py CAMVID [MODEL ...]      (default: the network that comes along)

Ten validation pictures, of their own 360x480 and scaled to 960x1280, one after another: pixels of
the class that `predict` gives; the time that the page shows, from pixels to mask, on one thread.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from seg import cli

cli.quiet_tensorflow()
import numpy as np
from browser import Browser
from PIL import Image

from seg.export import _some
from seg.files import list_pictures
from seg.folds import load_models
from seg.predict import jobs_of, paint
from seg.settings import SHIPPED
from seg.web import to_web


def beside(name, files, browser, folder):
    """Print a line for each size of the pictures."""
    model, page = load_models(name), folder / f'{Path(name).stem}.html'
    to_web(model, page)
    begin = time.perf_counter()
    browser.open(page, 1280)
    browser.until("said[0] == 'ready'")
    ready = time.perf_counter() - begin
    print(f'{name}: {page.stat().st_size / 1e6:.1f} MB, ready after {ready:.1f} s')
    for size in ((480, 360), (1280, 960)):
        alike, times, keras = [], [], []
        for file in files:
            picture = Image.open(file).convert('RGB').resize(size, Image.Resampling.BICUBIC)
            picture.save(folder / 'picture.png')
            found = browser.choose(folder / 'picture.png')
            times.append(browser.js('shown.ms'))
            begin = time.perf_counter()
            (painted,) = paint(model, jobs_of(model, [(folder / 'picture.png', None)]))
            keras.append(1000 * (time.perf_counter() - begin))
            alike.append(100 * (found == painted.index).mean())
        times = f'{np.median(times):.0f} ms (Keras, with reading, {np.median(keras):.0f})'
        print(
            f'  {size[1]}x{size[0]}: {np.mean(alike):.4f} % alike, least {min(alike):.4f}; {times}'
        )


def main(camvid, *names):
    files = _some(list_pictures(Path(camvid) / 'val'), 10)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(Path(folder) / 'chromium')
        print(browser('Browser.getVersion')['product'])
        for name in names or [SHIPPED]:
            beside(name, files, browser, Path(folder))
        browser.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
