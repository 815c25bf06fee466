"""What a run decides for itself where nobody has said: network, input, batch and augmentation, by
the data, the time and the machine. Why is measured in bench/notes.md."""

import time
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from seg import devices, hosts
from seg.inputs import rule_of
from seg.readers import read_label
from seg.sizes import STEP

STEPS = 2000  # fewer gain less from large pictures than more from small ones
GROW, LARGE = 0.4, 400  # or so much of the time is spent on half of the sides, then as many steps
LEAST = 0.5  # of a side that pictures are shrunk to for that, where crops would not do
ENOUGH = 600  # steps from which on the pretrained encoder, a slower one, is ahead
CROP = 256  # pixels that the sides of crops have at least
MANY = 6000  # steps, from which on larger batches are worth their time
START = 35  # seconds, of which nothing can be said: TensorFlow, two graphs, the report
# Seconds of a step but for its pixels, and of a pixel, where `speed` is 1
COSTS = {'none': (0.05, 0.55e-6), 'efficientnet-lite0': (0.1, 1.6e-6)}
ENCODER, FULL = 'efficientnet-lite0', dict(stride=1, residual=False)  # as `transfer` has them


def speed(kind):
    """How long a convolution and its gradients take here, two cores with AVX-512 being 1."""
    import keras
    import tensorflow as tf

    def slopes(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.nn.conv2d(x, kernel, 1, 'SAME')
        return tape.gradient(y, [x, kernel], y)

    if keras.backend.backend() == 'jax':
        import jax

        convolve = partial(keras.ops.conv, padding='same')
        slopes = jax.jit(lambda *both: jax.vjp(convolve, *both)[1](convolve(*both)))
    rng, times = np.random.default_rng(0), []
    shapes = (2, 176, 240, 16), (3, 3, 16, 16)
    x, kernel = (keras.ops.cast(rng.normal(size=s), kind) for s in shapes)
    for _ in range(12):
        begin = time.perf_counter()
        for part in slopes(x, kernel):
            float(keras.ops.cast(part[0, 0, 0, 0], 'float32'))  # computed, on a GPU too
        times.append(time.perf_counter() - begin)
    return min(times) / 0.0074


def has_up(data, most=64, apart=0.15):
    """Whether the pictures have an upper and a lower end, as streets have and cells have not: the
    labels' classes but the commonest lie more in one half, by `apart` on average."""
    pairs = data.pairs('train')
    halves = np.zeros((2, 256), np.int64)
    for _, label in pairs[:: -(-len(pairs) // most)]:
        label = read_label(label, data.classes, data.formats)
        middle = len(label) // 2
        for i, half in enumerate((label[:middle], label[len(label) - middle :])):
            halves[i] += np.bincount(half.ravel(), minlength=256)
    held = halves[:, data.classes.scored]
    rarer = np.delete(held, held.sum(0).argmax(), 1)
    rarer = rarer[:, rarer.sum(0) > 0]
    return bool(rarer.size) and np.abs(rarer[0] / rarer.sum(0) - 0.5).mean() > apart


def plan(settings, given, data):
    """Settings as they are to be, the DataSet with their size rule, and rows of (what, decision,
    why). given: names that somebody has said; they are left alone."""
    rows = []

    def decide(what, decision, why, **values):
        nonlocal settings
        said = [f'--{name}'.replace('_', '-') for name in values if name in given]
        if said:
            decision, why = f'as {said[0]} says', ''
        else:
            settings = replace(settings, **values)
        rows.append((what, decision, why))

    plain, half = speed('float32'), speed('bfloat16')
    quick, why = plain > 1.3 * half, f'takes {half / plain:.0%} of the time of float32 here'
    if (known := devices.bfloat16_is_fast()) is not None:
        quick, why = known, 'as this GPU does best'
    decide('arithmetic', 'bfloat16' if quick else 'float32', why * quick, bfloat16=quick)
    pace = 0.3 * plain + 0.7 * half if settings.bfloat16 else plain  # not all is convolutions
    up, shrinks = has_up(data), data.rule.kind != 'tile'
    share = 1 if settings.fold else settings.folds or 1
    seconds = 0.9 * (60 * settings.minutes / share - START)
    h, w = data.rule.height, data.rule.width
    least = LEAST if up and shrinks else min(CROP / min(h, w), 1)

    def room(encoder):
        """(steps of whole pictures that fit, share of their sides for STEPS of them, steps then)"""
        start, pixel = (pace * cost for cost in COSTS.get(encoder, COSTS['none']))
        whole = pixel * h * w * settings.batch_size
        share = min(max((seconds / STEPS - start) / whole, 0) ** 0.5, 1)
        few = start + whole * max(share, least) ** 2
        return max(seconds / (start + whole), 0), share, max(seconds / few, 0)

    steps = room(ENCODER)[-1]
    if data.channels == 3 and steps >= ENOUGH:
        why = f'learned from photographs; {ENOUGH} steps or more fit'
        decide('network', 'EfficientNet-Lite0 encoder', why, encoder=ENCODER, **FULL)
    else:
        why = f'the pretrained encoder would take {steps:,.0f} steps, too few'
        if data.channels != 3:
            why = f'photographs teach little about {data.channels} channel'
            why += 's' * (data.channels > 1)
        decide('network', 'U-Net from scratch', why, encoder='none')
    why = 'classes lie at certain heights' if up else 'classes lie at all heights alike'
    augment = settings.augment + ',vflip' * (not up)
    decide('augment', augment, why, augment=augment)
    steps, shrink, _ = room(settings.encoder)
    grows = up and shrinks and LARGE / (1 - GROW) < steps < STEPS
    why = (
        f'whole ones have time for only {steps:,.0f} steps'
        if shrink <= 0.9
        else 'there is time for it'
    )
    how = dict(size=settings.size, crop=settings.crop)
    if grows:
        why = f'at half the sides for the first {GROW:.0%} of the time: more steps'
        decide('input', f'{h}x{w}', why, **how, grow=GROW)
    elif shrink > 0.9 or not (up and shrinks) and max(h, w) <= CROP:
        decide('input', f'{h}x{w}', why, **how)
    elif up and shrinks:
        size = tuple(round(side * max(shrink, LEAST)) for side in (h, w))
        decide('input', 'shrunk to {}x{}'.format(*size), why, **how | dict(size=size))
    else:
        crop = tuple(max(int(side * shrink) // STEP * STEP, min(CROP, side)) for side in (h, w))
        decide('input', 'crops of {}x{}'.format(*crop), why, **how | dict(crop=crop))
    more = steps > MANY
    why = 'there is time for larger ones' if more else 'for more steps'
    share = settings.devices * hosts.count()
    size = -(-(2 << more) // share) * share
    decide('batch', f'{size} pictures', why, batch_size=size)
    settings = hosts.settings_of(hosts.told_json(asdict(settings)))
    return settings, replace(data, rule=rule_of(settings, data)), rows
