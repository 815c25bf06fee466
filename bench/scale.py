"""How the cost of a training step grows with filters, picture size and batch size.

    python bench/scale.py [PLOT.svg]

One factor at a time about 16 filters, 360x480, two pictures a step; each point is a process of its
own, median of five steps after three. Memory is the process's peak, about 0.6 GB of which is
TensorFlow. GFLOP/s counts three times the forward convolutions, against NumPy's sgemm in this run.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
from step import forward_flops, sgemm  # noqa: E402  which puts our modules on the path

BASE = {'filters': 16, 'size': (360, 480), 'batch': 2}
FACTORS = {
    'filters': [8, 16, 32, 64],
    'size': [(180, 240), (360, 480), (720, 960)],
    'batch': [1, 2, 4, 8],
}


def point(filters, size, batch):
    from model import unet  # first: it sets up TensorFlow before that is imported

    import tensorflow as tf  # isort: skip

    rng = np.random.default_rng(0)
    model = unet(num_class=13, input_size=(*size, 3), filters=filters)
    x = tf.constant(rng.random((batch, *size, 3), np.float32))
    y = tf.one_hot(rng.integers(0, 13, (batch, *size)), 13)
    seconds = []
    for _ in range(8):
        begin = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - begin)
    unit = 1 << 20 if sys.platform == 'darwin' else 1 << 10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024
    print(
        json.dumps([float(np.median(seconds[3:])), memory, 3 * batch * forward_flops(model) / 1e9])
    )


def plot(results, path):
    """Seconds a step over each factor, both logarithmic, as SVG."""
    w, h, parts = 250, 220, []
    low, high = (np.log2(f(s for _, _, s, *_ in results)) for f in (min, max))
    for k, factor in enumerate(FACTORS):
        rows = [(v, s) for f, v, s, *_ in results if f == factor]
        across, up = (w - 70) / (len(rows) - 1), (h - 80) / (high - low)
        dots = [
            (k * w + 40 + i * across, h - 40 - (np.log2(s) - low) * up)
            for i, (_, s) in enumerate(rows)
        ]
        parts.append(f'<text x="{k * w + w / 2}" y="20" font-weight="bold">{factor}</text>')
        parts.append(
            '<polyline fill="none" stroke="#1f77b4" stroke-width="2" points="'
            + ' '.join(f'{x:.0f},{y:.0f}' for x, y in dots)
            + '"/>'
        )
        for (x, y), (value, s) in zip(dots, rows):
            name = 'x'.join(map(str, value)) if factor == 'size' else value
            parts.append(
                f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="#1f77b4"/>'
                f'<text x="{x:.0f}" y="{y - 8:.0f}">{s:.2f} s</text>'
                f'<text x="{x:.0f}" y="{h - 16}">{name}</text>'
            )
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * w} {h}" '
        'font-family="sans-serif" '
        f'font-size="11" text-anchor="middle"><rect width="{3 * w}" height="{h}" fill="white"/>'
        f'{"".join(parts)}</svg>\n',
        'utf-8',
    )


def main(path=None):
    speed, measured, results = sgemm(), {}, []
    print(f'sgemm {speed:.0f} GFLOP/s\n')
    print(
        '| filters | size | batch | s a step | peak GB | GFLOP/s | of sgemm |\n' + '|---' * 7 + '|'
    )
    for factor, values in FACTORS.items():
        for value in values:
            args = BASE | {factor: value}
            key = json.dumps(args)
            if key not in measured:
                done = subprocess.run(
                    [sys.executable, __file__, 'point', key],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                measured[key] = s, memory, flops = json.loads(done.stdout.splitlines()[-1])
                print(
                    f'| {args["filters"]} | {"x".join(map(str, args["size"]))} | {args["batch"]} '
                    f'| {s:.3f} | {memory:.1f} | {flops / s:.0f} | {flops / s / speed:.2f} |',
                    flush=True,
                )
            results.append((factor, value, *measured[key]))
    if path:
        plot(results, path)


if __name__ == '__main__':
    if sys.argv[1:2] == ['point']:
        point(**json.loads(sys.argv[2]))
    else:
        main(*sys.argv[1:2])
