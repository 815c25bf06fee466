"""A training step of presets on a GPU: by engine, arithmetic, XLA, pictures a step and devices.

    python bench/gpu.py [--presets fast transfer] [--batches 2 8 32] [--size 360x480] [--steps 50]

Each is a process of its own, one after another: a step with loss, metrics and optimizer on batches
that are in memory, 12 classes; after ten steps, the median of three times `--steps`. float32 is
meant exactly; tf32 is what GPUs from Ampere on make of it where nobody objects. A row says `fails`
where that process did, and its last line. `bench/gpu.sh` runs this and whole trainings.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path[0] = str(Path(__file__).resolve().parents[1])

CLASSES, WARM, ROUNDS = 12, 10, 3
KINDS = 'float32', 'tf32', 'bfloat16'


def work(preset, kind, xla, batch, devices, size, steps):
    """A row's process: prints the seconds of a step."""
    from seg import cli

    batch, devices, steps = int(batch), int(devices), int(steps)
    cli.quiet_tensorflow(devices)
    import keras
    import numpy as np
    import tensorflow as tf

    if kind == 'float32' and keras.backend.backend() == 'jax':
        import jax

        jax.config.update('jax_default_matmul_precision', 'highest')
    tf.config.experimental.enable_tensor_float_32_execution(kind != 'float32')
    from main import NETWORK, PRESETS
    from model import unet
    from seg import train
    from seg.devices import place
    from seg.losses import compile_model
    from seg.speed import make_optimizer

    chosen = PRESETS[preset] | dict(bfloat16=kind == 'bfloat16', batch_size=batch, devices=devices)
    where, settings = place(train.Settings(**chosen))
    height, width = map(int, size.split('x'))
    network = {name: getattr(settings, name) for name in NETWORK}
    with train.prepared(settings, where):
        model = unet(None, (height, width, 3), CLASSES, **network)
    with where.scope():
        logits = keras.Model(model.inputs, model.layers[-1].input)
        optimizer = make_optimizer(logits, settings, settings.learning_rate)
        compile_model(logits, model.about.classes, optimizer, settings.loss, activation='softmax')
    if keras.backend.backend() == 'tensorflow':
        logits.jit_compile = xla == 'xla'
    rng = np.random.default_rng(0)
    x = rng.random((batch, height, width, 3), np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (batch, height, width))]
    batches = tf.data.Dataset.from_tensors((x, y)).repeat().prefetch(2)
    times = []
    with where.running():
        logits.fit(batches, steps_per_epoch=WARM, verbose=0)
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            logits.fit(batches, steps_per_epoch=steps, verbose=0)
            times.append((time.perf_counter() - begin) / steps)
    print('seconds', float(np.median(times)))


def rows(args):
    """(engine, kind, XLA) of the rows: on jax XLA always compiles, across devices never."""
    for engine in args.engines:
        for kind in KINDS:
            for xla in ['xla'] if engine == 'jax' else ['plain', 'xla']:
                if args.devices == 1 or engine == 'jax' or xla == 'plain':
                    yield engine, kind, xla


def main(args):
    print('| preset | engine | arithmetic | XLA | devices | batch | s a step | pictures a second |')
    print('|---' * 8 + '|')
    for preset in args.presets:
        for batch in args.batches:
            for engine, kind, xla in rows(args):
                row = [preset, kind, xla, str(batch), str(args.devices), args.size, str(args.steps)]
                how = dict(capture_output=True, text=True)
                env = os.environ | {'KERAS_BACKEND': engine}
                done = subprocess.run([sys.executable, __file__, 'work', *row], env=env, **how)
                found = [line for line in done.stdout.splitlines() if line.startswith('seconds ')]
                cells = 'fails', (done.stderr.strip().splitlines() or [''])[-1][:80]
                if found:
                    seconds = float(found[0].split()[1])
                    cells = f'{seconds:.4f}', f'{batch / seconds:.1f}'
                shown = [preset, engine, kind, xla, args.devices, batch, *cells]
                print('| ' + ' | '.join(map(str, shown)) + ' |', flush=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['work']:
        work(*sys.argv[2:])
    else:
        p = argparse.ArgumentParser()
        p.add_argument('--presets', nargs='+', default=['fast', 'transfer'])
        p.add_argument('--engines', nargs='+', default=['tensorflow', 'jax'])
        p.add_argument('--batches', nargs='+', type=int, default=[2, 8, 32])
        p.add_argument('--devices', type=int, default=1)
        p.add_argument('--size', default='360x480')
        p.add_argument('--steps', type=int, default=50)
        main(p.parse_args())
