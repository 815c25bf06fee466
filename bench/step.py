"""A training step: the article's graph at Keras' defaults against ours, and other U-Nets beside.

    python bench/step.py [FILTERS ...]            (default 16)

Two pictures of 368x480, 13 classes, batch norm on all, steps with loss, metrics and Adam. Each
candidate is a process of its own; they take turns, five rounds, and the median is printed, with the
arithmetic of a step (three times that of the forward convolutions) against that of NumPy's sgemm.
keras-unet-collection and MONAI (torch) stand beside where they are installed.
"""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402

SIZE, CLASSES, ROUNDS = (368, 480), 13, 5


def article(filters):
    """The article's graph: up-sampling, then a 2x2 convolution; Keras' loss and accuracy."""
    import keras
    from keras import layers

    def convs(x, level):
        for _ in (1, 2):
            x = layers.Conv2D(filters << level, 3, padding='same', kernel_initializer='he_normal')(
                x
            )
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    x = inputs = keras.Input((*SIZE, 3))
    skips = []
    for level in range(4):
        skips.append(convs(x, level))
        x = layers.MaxPooling2D()(skips[-1])
    x = convs(x, 4)
    for level in reversed(range(4)):
        x = layers.Conv2D(
            filters << level, 2, padding='same', activation='relu', kernel_initializer='he_normal'
        )(layers.UpSampling2D()(x))
        x = convs(layers.Concatenate()([skips[level], x]), level)
    model = keras.Model(inputs, layers.Conv2D(CLASSES, 1, activation='softmax')(x))
    model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
    return model


def ours(filters):
    """As training has it: on the logits."""
    from model import unet

    import keras  # isort: skip

    from seg.losses import compile_model

    model = unet(num_class=CLASSES, input_size=(*SIZE, 3), filters=filters)
    logits = keras.Model(model.inputs, model.layers[-1].input)
    compile_model(logits, model.about.classes, keras.optimizers.Adam(), activation='softmax')
    return logits


def collection(filters):
    """keras-unet-collection's unet_2d of the same widths."""
    import keras
    from keras_unet_collection.models import unet_2d

    model = unet_2d(
        (*SIZE, 3),
        [filters << i for i in range(5)],
        CLASSES,
        batch_norm=True,
        pool=True,
        unpool=False,
        output_activation='Softmax',
    )
    model.compile(keras.optimizers.Adam(), 'categorical_crossentropy', metrics=['accuracy'])
    return model


def keras_step(build, filters, x, y):
    model = build(filters)  # first: model.py sets up TensorFlow before it is imported
    import tensorflow as tf

    x, y = tf.constant(x), tf.constant(y)
    return lambda: model.train_on_batch(x, y)


def monai_step(filters, x, y):
    """MONAI's BasicUNet of the same widths, channels last in memory, which is torch's fast form."""
    import torch
    from monai.networks.nets import BasicUNet

    widths = [filters << i for i in range(5)] + [filters]
    model = BasicUNet(
        spatial_dims=2, in_channels=3, out_channels=CLASSES, features=widths, norm='batch'
    ).to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.Adam(model.parameters()), torch.nn.CrossEntropyLoss()
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    y = torch.from_numpy(y.argmax(-1))

    def step():
        optimizer.zero_grad()
        out = model(x)
        loss(out, y).backward()
        optimizer.step()
        (out.detach().argmax(1) == y).float().mean().item()

    return step


CANDIDATES = {
    'article': lambda *a: keras_step(article, *a),
    'ours': lambda *a: keras_step(ours, *a),
    'keras-unet-collection': lambda *a: keras_step(collection, *a),
    'MONAI': monai_step,
}


def forward_flops(model):
    """Multiplications and additions of the convolutions, one picture forward."""
    import keras

    total = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)):
            tensor = (
                layer.input if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output
            )
            total += 2 * int(np.prod(tensor.shape[1:3])) * int(np.prod(layer.kernel.shape))
    return total


def sgemm(n=2048, repeats=5):
    """GFLOP/s of NumPy's float32 matrix product on all cores, the best of a few."""
    a, seconds = np.random.default_rng(0).random((n, n), np.float32), []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / min(seconds[1:]) / 1e9


def work(name, filters):
    """A candidate's process: a step for each line that comes in, its seconds out."""
    rng = np.random.default_rng(0)
    x = rng.random((2, *SIZE, 3), np.float32)
    y = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, (2, *SIZE))]
    step = CANDIDATES[name](filters, x, y)
    for _ in range(3):
        step()
    print('ready', flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        step()
        print(time.perf_counter() - begin, flush=True)


def measure(filters):
    beside = {'keras-unet-collection': 'keras_unet_collection', 'MONAI': 'monai'}
    names = ['article', 'ours'] + [n for n, p in beside.items() if importlib.util.find_spec(p)]
    workers = {}
    for name in names:  # one after the other, so that none warms up beside another
        workers[name] = subprocess.Popen(
            [sys.executable, __file__, 'work', name, str(filters)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while line := workers[name].stdout.readline():
            if line == 'ready\n':
                break
        else:
            sys.exit(f'{name} failed')
    seconds = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            for _ in range(1 if filters > 32 else 3):
                print(file=worker.stdin, flush=True)
                seconds[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {name: float(np.median(s)) for name, s in seconds.items()}


def main(widths):
    print(
        '| filters | network | s a step | of the article | GFLOP/s | of sgemm |\n'
        + '|---' * 6
        + '|'
    )
    for filters in widths:
        speed, seconds = sgemm(), measure(filters)
        flops = 2 * 3 * forward_flops(ours(filters)) / 1e9
        for name, s in seconds.items():
            rate = f'{flops / s:.0f} | {flops / s / speed:.2f}' if name == 'ours' else ' | '
            print(
                f'| {filters} | {name} | {s:.3f} | {s / seconds["article"]:.2f} | {rate} |',
                flush=True,
            )


if __name__ == '__main__':
    if sys.argv[1:2] == ['work']:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(a) for a in sys.argv[1:]] or [16])
