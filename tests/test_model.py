"""The network's shape."""

import numpy as np
import pytest

from model import unet


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(16, 16), (17, 16), (31, 47), (48, 64), (100, 75)])
def test_output_has_the_inputs_size(size, stride):
    net = unet(num_class=3, input_size=(*size, 3), filters=1, stride=stride)
    assert net.output_shape == (None, *size, 3)
    y = net.predict_on_batch(np.random.default_rng(0).random((2, *size, 3), 'float32'))
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-5)


def test_360_rows_are_padded_to_368_evenly_and_cropped_back():
    net = unet(num_class=2, input_size=(360, 480, 3), filters=1)
    assert net.get_layer('pad').output.shape[1:3] == (368, 480)
    assert net.get_layer('pad').padding == net.get_layer('crop').cropping == ((4, 4), (0, 0))


def test_five_levels_four_skips_doubling_filters():
    net = unet(input_size=(32, 48, 3), filters=2)
    names = [layer.name for layer in net.layers]
    assert [n for n in names if n.startswith('concat')] == [
        'concat4',
        'concat3',
        'concat2',
        'concat1',
    ]
    assert [n for n in names if n.startswith('pool')] == ['pool1', 'pool2', 'pool3', 'pool4']
    for level in range(1, 5):
        skip, up = net.get_layer(f'concat{level}').input
        assert skip.shape == up.shape == (None, 32 >> level - 1, 48 >> level - 1, 2 << level - 1)
    assert net.get_layer('bottom5_conv2').filters == 32
    plain = unet(input_size=(32, 32, 3), filters=64, num_class=2, batch_norm=False)
    convs = [w for w in plain.weights if w.name == 'kernel' and w.shape[:2] == (3, 3)]
    assert len(convs) == 18
    assert 31_000_000 < plain.count_params() < 31_100_000  # the paper's net


def test_stride_2_enters_at_half_resolution_and_the_convolutions_sum_to_a_quarter():
    net = unet(input_size=(360, 480, 3), filters=2, stride=2)
    assert net.get_layer('stem_conv').output.shape == (None, 180, 240, 2)
    assert net.get_layer('pad').output.shape[1:3] == (192, 240)
    assert net.get_layer('scores').output.shape[1:3] == (360, 480)
    assert net.get_layer('concat1').output.shape[1:3] == (192, 240)


def test_dilated_bottom_and_residual_pairs():
    net = unet(input_size=(32, 32, 3), filters=2, dilated=True, residual=True)
    bottom = [net.get_layer(f'bottom5_conv{i}').dilation_rate[0] for i in (1, 2)]
    assert bottom == [2, 4]
    pairs = [layer for layer in net.layers if layer.name.endswith('_residual')]
    assert len(pairs) == 9
    for pair in pairs:
        entry, body = pair.input
        assert entry.shape == body.shape


def test_fusion_add_and_no_batch_norm():
    net = unet(input_size=(32, 32, 3), filters=2, fusion='add', batch_norm=False)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds.count('Add') == 4 and 'Concatenate' not in kinds
    assert 'BatchNormalization' not in kinds
    assert net.get_layer('down1_conv1').use_bias


def test_he_initialisation():
    net = unet(input_size=(32, 32, 3), filters=16, batch_norm=False)
    kernel = np.asarray(net.get_layer('bottom5_conv2').kernel)
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.05)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(input_size=(15, 32, 3)),
        dict(fusion='sum'),
        dict(stride=3),
        dict(input_size=(None, 32, 3)),
        dict(loss='huber'),
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match='expected'):
        unet(**{'input_size': (32, 32, 3), 'filters': 1} | wrong)
