"""Video: frames a second against the network's own, memory over its length, and every frame there.

    python bench/video.py [MODEL] [FRAMES]

By default the model that comes along and 300 frames of 360x480: a window that slides over a wider
drawn scene, H.264 at 25 frames a second. The network's own speed is that of predict_on_batch on
frames in memory, one at a time, and two side by side, as `predict` has them; before and after.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import numpy as np

from seg.scenes import draw_scene


def draw(path, count):
    """A video of `count` frames; the last few of them, float32 (1, H, W, 3)."""
    scene, kept = draw_scene(0, (480, 640))[0], []
    with av.open(str(path), 'w') as out:
        stream = out.add_stream('libx264', rate=25, options={'preset': 'veryfast'})
        stream.width, stream.height, stream.pix_fmt = 480, 360, 'yuv420p'
        for i in range(count):
            x = round(80 - 80 * np.cos(i / 40))
            image = np.ascontiguousarray(scene[60:420, x : x + 480])
            kept = [*kept[-29:], image[None] / np.float32(255)]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        out.mux(stream.encode(None))
    return kept


def times(path):
    """Seconds of each frame, decoded again, as Fractions."""
    with av.open(str(path)) as file:
        base = file.streams.video[0].time_base
        base = Fraction(base.numerator, base.denominator)  # of version 19 on it is none of Python's
        return [frame.pts * base for frame in file.decode(video=0)]


def resident():
    """MB of memory that this process holds."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def own(model, arrays):
    """Frames a second of the network alone: one at a time, two side by side."""
    begin = time.perf_counter()
    for array in arrays:
        model.predict_on_batch(array)
    middle = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(model.predict_on_batch, arrays))
    end = time.perf_counter()
    return len(arrays) / (middle - begin), len(arrays) / (end - middle)


def main(model=None, count=300):
    from seg import video
    from seg.cli import quiet_tensorflow
    from seg.settings import SHIPPED, Settings

    quiet_tensorflow()
    from seg.folds import load_models

    network = load_models(model or SHIPPED)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'street.mp4'
        arrays = draw(source, int(count))
        network.predict_on_batch(arrays[0])
        alone, memory = [own(network, arrays)], {}

        class Watched(video.Film):
            def __call__(self, painted):
                super().__call__(painted)
                number = int(painted.job.file.stem[-6:])
                memory[number] = resident(), time.perf_counter()

        video.Film = Watched
        films = video.Films(network, [source], Path(folder) / 'out', Settings(save=('overlay',)))
        begin = time.perf_counter()
        films.paint()
        seconds = time.perf_counter() - begin
        alone.append(own(network, arrays))
        made = Path(folder) / 'out/street.mp4'
        same = times(made) == times(source)
        size = made.stat().st_size / 1e6
    one, two = np.mean(alone, 0)
    (early, since), (late, until) = memory[min(50, int(count))], memory[int(count)]
    rate = (int(count) - 50) / (until - since)
    print(f'network alone, frames a second: {one:.1f} one at a time, {two:.1f} two side by side')
    print(f'video: {rate:.1f} from frame 50 on ({100 * rate / two:.0f} % of two side by side), ')
    print(f'  {int(count) / seconds:.1f} of the whole, {seconds:.1f} s, {size:.1f} MB')
    print(f'resident memory: {early:.0f} MB at frame 50, {late:.0f} MB at frame {count}')
    print(f'frames: {len(memory)} of {count}, times {"equal" if same else "NOT equal"}')


if __name__ == '__main__':
    main(*sys.argv[1:])
