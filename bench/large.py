"""Large pictures: tiles against the whole, cost and memory of a picture of 600 megapixels, crops.

    python bench/large.py agree MODEL [TILE [OVERLAP]]
    python bench/large.py predict MODEL [REPEATS]
    python bench/large.py crops [FOLDER]

agree: a picture of 2560x3072 made of drawn scenes, painted whole and in tiles: share of pixels of
the interior (64 from the edge) whose class is the same, near the seams and elsewhere.
predict: a drawn TIFF of 20,000x30,000 pixels: seconds a megapixel against painting a picture of one
megapixel whole, alternating with five parts of the large one, medians; then the whole command, its
time and peak memory.
crops: pairs a second of crops of 256x256 from sixty drawn pictures of 6000x4000 (in FOLDER, made
where it is not there) against those from sixty of 360x480, alternating, medians; and peak memory of
a training of 50 steps on the large ones.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import tifffile
from PIL import Image

from seg.scenes import draw_scene


def mosaic(height, width, seed=0, cell=(500, 750), kinds=12):
    """(image, label) of drawn scenes side by side."""
    drawn = [draw_scene(seed * kinds + i, cell) for i in range(kinds)]
    pick = np.random.default_rng(seed)
    down, across = -(-height // cell[0]), -(-width // cell[1])
    grid = pick.integers(0, kinds, (down, across))
    return [
        np.vstack([np.hstack([drawn[k][side] for k in row]) for row in grid])[:height, :width]
        for side in (0, 1)
    ]


def network(path):
    from seg.modelfile import at_any_size, load_model

    model = load_model(path)
    return at_any_size(model) if model.about.rule.fixed else model


def index(model, image, tile, overlap=None):
    from seg.predict import Job, paint
    from seg.settings import Settings

    job = Job(Path('x'), lambda: image, None, None)
    [painted] = paint(model, [job], Settings(tile=tile, overlap=overlap))
    return painted.index


def agree(path, tile=None, overlap=None):
    from seg.tiles import Canvas, fields, plan

    model, image = network(path), mosaic(2560, 3072)[0]
    tile, overlap = tile and (int(tile),) * 2, overlap and int(overlap)
    tile, overlap = plan(model, tile, overlap)
    differ = index(model, image, (3072, 3072)) != index(model, image, tile, overlap)
    canvas = Canvas(image.shape, tile, overlap, None)
    near = np.zeros(differ.shape, bool)
    for axis, parts in enumerate(canvas.parts):
        for first, _, _ in parts[1:]:
            near[(slice(None),) * axis + (slice(max(first - 16, 0), first + 48),)] = True
    inner = slice(64, -64), slice(64, -64)
    differ, near = differ[inner], near[inner]
    print(f'reach {max(far for _, far, _ in fields(model)):.0f}, {len(canvas)} tiles of', end=' ')
    print(f'{canvas.sides[0]}x{canvas.sides[1]}, overlap {overlap}:', end=' ')
    print(f'{100 * (1 - differ.mean()):.3f} % equal; differ near seams', end=' ')
    print(f'{100 * differ[near].mean():.3f} %, elsewhere {100 * differ[~near].mean():.3f} %')


def peak_of(command, folder=None):
    """Peak resident memory, GB, of a command, which must succeed."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'{command} failed')
    return usage.ru_maxrss / 1e6


def large_tiff(path, height=20_000, width=30_000):
    values = tifffile.memmap(path, shape=(height, width, 3), dtype=np.uint8, photometric='rgb')
    for y in range(0, height, 500):
        values[y : y + 500] = mosaic(500, width, y // 500 % 4)[0]
    values.flush()


def predict(path, repeats=5):
    with tempfile.TemporaryDirectory() as folder:
        large, out = Path(folder, 'large.tif'), Path(folder, 'out')
        # In processes of their own: a child's peak memory begins with its parent's.
        subprocess.run([sys.executable, __file__, 'draw', large], check=True)
        command = [sys.executable, ROOT / 'main.py', 'predict', large, '--model', path]
        start = time.perf_counter()
        peak = peak_of([*command, '--output', out])
        seconds = time.perf_counter() - start
        print(
            f'the command: {seconds:.0f} s, {seconds / 600:.3f} s a megapixel, peak {peak:.2f} GB'
        )
        subprocess.run([sys.executable, __file__, 'pace', path, large, str(repeats)], check=True)


def pace(path, large, repeats):
    from seg.pictures import Picture
    from seg.tiles import plan

    model, picture = network(path), Picture(Path(large))
    how = plan(model, large=True)
    one, times = picture[0:1024, 0:1024], {'whole': [], 'tiles': []}
    for i in range(-1, int(repeats)):  # once to warm up
        part = picture[i % 3 * 4000 : i % 3 * 4000 + 4500, 6000:12000]
        for name, image, tiles in (('whole', one, ((1024, 1024),)), ('tiles', part, how)):
            start = time.perf_counter()
            index(model, image, *tiles)
            seconds = time.perf_counter() - start
            if i >= 0:
                times[name].append(seconds / image.shape[0] / image.shape[1] * 1e6)
    whole, tiles = (float(np.median(t)) for t in times.values())
    print(f'tiles of {how[0][0]}, overlap {how[1]}: s a megapixel {whole:.3f} whole,', end=' ')
    print(f'{tiles:.3f} in tiles, {tiles / whole:.2f} times')


def write_set(folder, n, size):
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True)
    for i in range(n):
        image, label = mosaic(*size, i % 20)
        Image.fromarray(np.roll(image, i, 1)).save(folder / f'images/{i}.png', compress_level=1)
        Image.fromarray(np.roll(label, i, 1)).save(folder / f'labels/{i}.png', compress_level=1)


def crops(folder=None):
    with tempfile.TemporaryDirectory() as own:
        large, small = Path(folder or own, 'large'), Path(folder or own, 'small')
        if not large.exists():
            write_set(large, 60, (4000, 6000))
            write_set(small, 60, (360, 480))
        flags = '--crop 256x256 --preset fast --num-class 13 --steps 25 --epochs 2'.split()
        train = ['train', '--data', large, *flags, '--val-split', '0.02']
        start = time.perf_counter()
        peak = peak_of([sys.executable, ROOT / 'main.py', *train], own)
        print(f'training: peak {peak:.2f} GB, {time.perf_counter() - start:.0f} s', flush=True)
        subprocess.run([sys.executable, __file__, 'speed', large, small, own], check=True)


def speed(large, small, own, repeats=5):
    from datapre import Stream, read_pairs
    from main import PRESETS
    from seg.settings import Settings
    from seg.sources import load

    streams = {}
    for place in map(Path, (large, small)):
        settings = Settings(**PRESETS['fast'] | dict(data=str(place), crop=(256, 256)))
        start = time.perf_counter()
        data = load(settings)
        batches = Stream(read_pairs(data, own)[0], settings, len(data.classes)).batches()
        streams[place.name] = iter(batches)
        print(f'{place.name}: ready after {time.perf_counter() - start:.0f} s', flush=True)
    times = {name: [] for name in streams}
    for i in range(-2, repeats):
        for name, batches in streams.items():
            start = time.perf_counter()
            for _ in range(100):
                next(batches)
            if i >= 0:
                times[name].append(200 / (time.perf_counter() - start))
    rates = {name: float(np.median(t)) for name, t in times.items()}
    print({name: round(rate) for name, rate in rates.items()}, 'pairs a second', end=', ')
    print(f'{rates["large"] / rates["small"]:.2f}')


if __name__ == '__main__':
    verbs = dict(agree=agree, predict=predict, crops=crops, draw=large_tiff, pace=pace, speed=speed)
    verbs[sys.argv[1]](*sys.argv[2:])
