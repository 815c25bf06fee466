"""The size rule, by what it promises: aspect, padding, nothing invented, the way back."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from seg.classes import NO_CLASS
from seg.sizes import STEP, SizeRule, resize

SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 90))
SIDES = st.integers(16, 80)
DTYPES = st.sampled_from([np.uint8, np.uint16, np.float32])
KINDS = st.sampled_from(['pad', 'stretch', 'whole'])


def noise(shape, dtype=np.uint8, seed=0):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    return (np.random.default_rng(seed).random(shape) * top).astype(dtype)


@settings(max_examples=150, deadline=None)
@given(KINDS, SIDES, SIDES, SHAPES, st.sampled_from([1, 3]), DTYPES)
@example('pad', 16, 80, (90, 1), 3, np.uint8)  # a side of less than a pixel
@example('whole', 48, 64, (48, 64), 3, np.uint16)
def test_rules_with_a_size(kind, height, width, shape, channels, dtype):
    rule, image = SizeRule(kind, height, width), noise((*shape, channels), dtype)
    label = np.random.default_rng(1).choice(np.array([0, 3, 7, 254], np.uint8), shape)
    h, w = rule.inner_size(shape)
    assert rule.input_size(shape) == (height, width)
    assert 1 <= h <= height and 1 <= w <= width
    if kind == 'stretch':
        assert (h, w) == (height, width)
    else:  # the aspect, to a pixel, and no larger picture would fit
        assert abs(h - shape[0] * w / shape[1]) <= 1 or abs(w - shape[1] * h / shape[0]) <= 1
        assert h == height or w == width
    small, drawn = rule.image(image), rule.label(label)
    assert small.shape == (height, width, channels) and small.dtype == dtype
    assert drawn.shape == (height, width) and drawn.dtype == np.uint8
    inner, inside = rule.crop(small, shape), rule.crop(drawn, shape)
    assert inner.shape == (h, w, channels) and inside.shape == (h, w)
    assert {*np.unique(inside)} <= {*np.unique(label)}  # no value that was not there
    assert (drawn[h:] == NO_CLASS).all() and (drawn[:, w:] == NO_CLASS).all()
    assert (small[h:] == small[h - 1]).all() and (small[:, w:] == small[:, w - 1 : w]).all()
    if shape == (height, width):
        assert (inner == image).all() and (inside == label).all()


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from([1, 3]), DTYPES)
def test_pictures_of_the_whole_size_pass_unchanged(height, width, channels, dtype):
    image, label = noise((height, width, channels), dtype), noise((height, width))
    for kind in ('whole', 'pad', 'stretch'):
        rule = SizeRule(kind, height, width)
        assert (rule.image(image) == image).all() and rule.image(image).dtype == dtype
        assert (rule.label(label) == label).all()
        assert (rule.crop(image, (height, width)) == image).all()


@settings(max_examples=100, deadline=None)
@given(SHAPES, st.sampled_from([1, 3]), DTYPES)
def test_without_a_size_pictures_are_padded_to_a_multiple(shape, channels, dtype):
    rule, image, label = SizeRule(), noise((*shape, channels), dtype), noise(shape)
    size = rule.input_size(shape)
    assert STEP == 32 and rule.inner_size(shape) == shape
    assert all(side % 32 == 0 and 0 <= side - own < 32 for side, own in zip(size, shape))
    padded, drawn = rule.image(image), rule.label(label)
    assert padded.shape == (*size, channels) and drawn.shape == size
    assert (rule.crop(padded, shape) == image).all() and (rule.crop(drawn, shape) == label).all()
    assert (drawn[shape[0] :] == NO_CLASS).all() and (drawn[:, shape[1] :] == NO_CLASS).all()
    assert (padded[-1, -1] == image[-1, -1]).all() or size == shape


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(['pad', 'stretch']), SIDES, SIDES, SHAPES)
def test_a_label_pixel_is_the_one_beneath_its_centre(kind, height, width, shape):
    """Rows and columns that carry their own number tell where each output pixel comes from."""
    rule = SizeRule(kind, height, width)
    h, w = rule.inner_size(shape)
    for axis, n in ((0, h), (1, w)):
        number = np.indices(shape)[axis].astype(np.uint8)
        got = rule.crop(rule.label(number), shape).astype(int)
        got = got[:, 0] if axis == 0 else got[0]
        centre = (np.arange(n) + 0.5) * shape[axis] / n
        assert ((got <= centre + 1e-6) & (centre - 1e-6 <= got + 1)).all()


@pytest.mark.parametrize('kind', ['pad', 'stretch'])
@pytest.mark.parametrize('size', [(32, 48), (64, 64), (80, 40)])
def test_image_and_label_stay_one_upon_the_other(kind, size):
    """A picture of its own label, at half scale and double: alike but where cells meet."""
    rule, shape = SizeRule(kind, *size), (60, 80)
    label = np.kron([[0, 2, 1], [3, 1, 2]], np.ones((30, 27), int))[:, :80].astype(np.uint8)
    image = np.repeat(label[..., None] * np.uint8(80), 3, -1)
    small = rule.crop(rule.image(image), shape)[..., 0].astype(int)
    drawn = rule.crop(rule.label(label), shape).astype(int)
    flat = np.ones(drawn.shape, bool)  # pixels whose neighbours are of their class
    for axis in (0, 1):
        for by in range(-3, 4):
            flat &= np.roll(drawn, by, axis) == drawn
    assert flat.mean() > 0.2
    assert np.abs(small - 80 * drawn)[flat].max() <= 20  # ringing, no other class


def test_pictures_are_made_small_without_aliases():
    checks = (np.indices((64, 96)).sum(0) % 2).astype(np.uint8)[..., None] * np.uint8(255)
    small = SizeRule('pad', 16, 24).image(checks)
    assert np.abs(small.astype(int) - 127).max() <= 2


@pytest.mark.parametrize('channels', [(), (1,), (2,), (3,), (12,)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_resize_is_pils(channels, dtype):
    """Each plane as PIL makes it: bytes of bytes, else of floats, rounded and clipped."""
    array = noise((20, 30, *channels), dtype)
    array[5:9, 5:9] = 0
    array[9:14, 5:9] = 1 if dtype == np.float32 else np.iinfo(dtype).max
    for how in (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.NEAREST):
        got = resize(array, (33, 13), how)
        assert got.shape == (33, 13, *channels) and got.dtype == dtype
        planes = np.moveaxis(array.reshape(20, 30, -1), -1, 0)
        planes = planes if dtype == np.uint8 else planes.astype(np.float32)
        planes = [np.ascontiguousarray(plane) for plane in planes]
        planes = [np.asarray(Image.fromarray(p).resize((13, 33), how)) for p in planes]
        expected = np.stack(planes, -1).reshape(got.shape)
        if dtype == np.uint16:
            expected = expected.round().clip(0, 65535)
        assert (got == expected).all()
    assert resize(array, (20, 30), Image.Resampling.LANCZOS) is array
