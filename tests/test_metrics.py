"""Scores: every figure against a brute-force count and scikit-learn, every corner by hand."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as oracle

from seg.classes import CAMVID, ClassTable, indices_to_colours
from seg.files import MARK, InputError
from seg.metrics import (
    confusion,
    evaluate_masks,
    format_scores,
    scores,
    warnings,
    write_scores,
)
from seg.readers import read_raws, recognise

# Void in the middle: the scored classes are not the first n indices.
TABLE = ClassTable(
    ('road', 'void', '天空', 'tree'),
    ((9, 9, 9), (0, 0, 0), (1, 2, 3), (0, 99, 0)),
    ('scored', 'void', 'scored', 'scored'),
)
ROAD, VOID, SKY, TREE, NONE = 0, 1, 2, 3, 255


def array(*values):
    return np.array(values, np.uint8)


def by_hand(truth, prediction, table=TABLE):
    """Per-class figures by a loop over pixels: no confusion matrix, no shared code."""
    kept = [(int(t), int(p)) for t, p in zip(truth.flat, prediction.flat) if t in table.scored]
    figures = {key: [] for key in ('iou', 'f1', 'precision', 'recall', 'share')}
    for c in table.scored:
        hit = sum(t == p == c for t, p in kept)
        false = sum(p == c != t for t, p in kept)
        missed = sum(t == c != p for t, p in kept)
        absent = hit + false + missed == 0
        for key, part, whole in (
            ('iou', hit, hit + false + missed),
            ('f1', 2 * hit, 2 * hit + false + missed),
            ('precision', hit, hit + false),
            ('recall', hit, hit + missed),
        ):
            figures[key].append(math.nan if absent else part / whole if whole else 0)
        figures['share'].append((hit + missed) / len(kept) if kept else math.nan)
    return figures, kept


def images(classes):
    """Truth and prediction of one shape; runs of few classes: absent and single ones are common."""
    some = st.lists(st.sampled_from(classes), min_size=1, max_size=3)
    plane = some.flatmap(lambda held: st.lists(st.sampled_from(held), min_size=24, max_size=24))
    return plane.map(lambda values: np.array(values, np.uint8).reshape(4, 6))


@settings(max_examples=150, deadline=None)
@given(
    images([ROAD, VOID, SKY, TREE, NONE]),
    images([ROAD, SKY, TREE]),
    st.booleans(),
    images([ROAD, VOID, SKY, TREE, NONE]),
)
def test_every_figure_is_the_brute_force_one(truth, prediction, masks, mask):
    prediction = mask if masks else prediction
    counts = confusion(truth, prediction, TABLE, other=masks)
    result, (expected, kept) = scores(counts), by_hand(truth, prediction)
    assert counts.dtype == np.int64 and counts.sum() == len(kept) == result['pixels']
    for key, values in expected.items():
        np.testing.assert_allclose(result[key], values, rtol=1e-12)
    t, p = np.array(kept).reshape(-1, 2).T
    if not len(kept):
        assert all(math.isnan(result[k]) for k in ('miou', 'accuracy', 'class_accuracy', 'fw_iou'))
        return
    labels = TABLE.scored + [NONE]
    p = np.where(np.isin(p, TABLE.scored), p, NONE)
    occurs = np.unique(t)
    seen = [c for c in TABLE.scored if c in t or c in p]
    options = dict(labels=labels, zero_division=0)
    assert (counts == oracle.confusion_matrix(t, p, labels=labels)[:3, : counts.shape[1]]).all()
    assert result['classes'] == len(seen)
    for key, value in (
        ('accuracy', oracle.accuracy_score(t, p)),
        ('class_accuracy', oracle.recall_score(t, p, labels=occurs, average='macro')),
        ('miou', oracle.jaccard_score(t, p, labels=seen, average='macro', zero_division=0)),
        ('fw_iou', oracle.jaccard_score(t, p, average='weighted', **options)),
        ('f1', oracle.f1_score(t, p, average=None, **options)[:3]),
        ('precision', oracle.precision_score(t, p, average=None, **options)[:3]),
        ('recall', oracle.recall_score(t, p, average=None, **options)[:3]),
    ):
        np.testing.assert_allclose(np.nan_to_num(result[key]), value, rtol=1e-12, err_msg=key)


def test_counts_sum_over_images():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 12, (2, 5, 20, 30)).astype(np.uint8)
    prediction[prediction == 11] = 3
    whole = confusion(truth, prediction, CAMVID)
    assert (whole == sum(confusion(t, p, CAMVID) for t, p in zip(truth, prediction))).all()


def test_worked_example():
    """Road 4 pixels, 3 found; sky 2, both found; tree 2, one found; void counts nowhere."""
    truth = array(ROAD, ROAD, ROAD, ROAD, SKY, SKY, TREE, TREE, VOID, NONE)
    found = array(ROAD, ROAD, ROAD, TREE, SKY, SKY, TREE, ROAD, SKY, ROAD)
    result = scores(confusion(truth, found, TABLE))
    assert result['iou'].tolist() == [3 / 5, 1, 1 / 3]
    assert result['f1'].tolist() == [6 / 8, 1, 2 / 4]
    assert result['precision'].tolist() == [3 / 4, 1, 1 / 2]
    assert result['recall'].tolist() == [3 / 4, 1, 1 / 2]
    assert result['share'].tolist() == [0.5, 0.25, 0.25]
    assert result['miou'] == pytest.approx((3 / 5 + 1 + 1 / 3) / 3)
    assert result['fw_iou'] == pytest.approx(0.5 * 3 / 5 + 0.25 + 0.25 / 3)
    assert result['accuracy'] == 6 / 8 and result['class_accuracy'] == pytest.approx(2.25 / 3)
    assert result['pixels'] == 8 and result['classes'] == 3


def test_zero_hits_count_zero():
    """Sky is in the truth and never found: 0, in the mean too."""
    result = scores(confusion(array(ROAD, ROAD, SKY, TREE), array(ROAD, ROAD, TREE, TREE), TABLE))
    assert result['iou'].tolist() == [1, 0, 0.5] and result['miou'] == 0.5
    assert result['precision'][1] == result['recall'][1] == result['f1'][1] == 0


def test_class_absent_from_both_is_absent():
    """No sky anywhere: nan, and the mean is over the other two."""
    result = scores(confusion(array(ROAD, ROAD, TREE, TREE), array(ROAD, ROAD, TREE, ROAD), TABLE))
    assert math.isnan(result['iou'][1]) and result['share'][1] == 0
    assert result['miou'] == pytest.approx((2 / 3 + 1 / 2) / 2) and result['classes'] == 2
    assert 'over the 2 of 3 classes' in format_scores(result, TABLE)


def test_class_predicted_but_not_true_counts_zero():
    """One false sky pixel makes sky a class with IoU 0, but class accuracy is over true classes."""
    result = scores(confusion(array(ROAD, ROAD, TREE), array(ROAD, SKY, TREE), TABLE))
    assert result['iou'].tolist() == [0.5, 0, 1] and result['miou'] == 0.5
    assert result['class_accuracy'] == 0.75


def test_void_predicted_is_a_miss():
    truth, mask = array(ROAD, ROAD, ROAD, TREE), array(ROAD, VOID, NONE, TREE)
    with pytest.raises(ValueError, match='none of the scored'):
        confusion(truth, mask, TABLE)
    counts = confusion(truth, mask, TABLE, other=True)
    assert counts.tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 1, 0]]
    result = scores(counts)
    assert result['iou'][0] == result['recall'][0] == 1 / 3 and result['precision'][0] == 1
    assert result['accuracy'] == 0.5 and result['share'][0] == 0.75


def test_nothing_to_score():
    result = scores(confusion(array(VOID, NONE), array(ROAD, SKY), TABLE))
    assert result['pixels'] == 0 and math.isnan(result['miou']) and np.isnan(result['iou']).all()
    assert 'absent' in format_scores(result, TABLE)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match='shape'):
        confusion(array(ROAD, ROAD), array(ROAD), TABLE)


def test_as_many_classes_as_a_label_can_hold():
    n = 255
    table = ClassTable(
        tuple(map(str, range(n))), tuple((i, 0, 0) for i in range(n)), ('scored',) * n
    )
    truth = np.arange(n, dtype=np.uint8)
    assert (confusion(truth, truth[::-1], table) == np.eye(n)[::-1]).all()
    assert confusion(truth, np.full(n, 255, np.uint8), table, other=True)[:, n].sum() == n


def test_table_lines_up_for_chinese_names():
    text = format_scores(scores(confusion(array(ROAD, SKY), array(ROAD, SKY), TABLE)), TABLE)
    head, road, sky, tree, means = text.splitlines()
    assert head.split() == 'class share % IoU % F1 (Dice) % precision % recall %'.split()
    assert road.split() == ['road', '50.00', '100.0', '100.0', '100.0', '100.0']
    assert len(road) == len(sky) + 2 == len(tree)  # two characters of double width
    assert means.startswith('mIoU 100.0 %   pixel accuracy 100.0 %')


def test_scores_file(tmp_path):
    counts = confusion(array(ROAD, ROAD, TREE), array(ROAD, NONE, TREE), TABLE, other=True)
    write_scores(tmp_path / 'scores.json', counts, TABLE, split='val', images=1)
    read = json.loads((tmp_path / 'scores.json').read_text('utf-8'))
    assert read['split'] == 'val' and read['miou'] == 0.75 and read['pixels'] == 3
    assert read['class']['road']['iou'] == 0.5 and read['class']['天空']['iou'] is None
    assert read['confusion'] == counts.tolist()
    assert [*read][0] == 'program' and read['program'] == MARK
    assert [p.name for p in tmp_path.iterdir()] == ['scores.json']
    write_scores(tmp_path / 'scores.json', counts * 0, TABLE)
    assert json.loads((tmp_path / 'scores.json').read_text('utf-8'))['miou'] is None
    with pytest.raises(TypeError):  # what can not be written leaves the old file
        write_scores(tmp_path / 'scores.json', counts, TABLE, split=object())
    assert json.loads((tmp_path / 'scores.json').read_text('utf-8'))['pixels'] == 0
    (tmp_path / 'mine.json').write_text('{"miou": 1}')
    with pytest.raises(InputError, match='mine.json: exists, and this program did not write it'):
        write_scores(tmp_path / 'mine.json', counts, TABLE)
    assert (tmp_path / 'mine.json').read_text() == '{"miou": 1}'


# ------------------------------------------------------------------------ folders of masks


def score_masks(folder, pairs, table=TABLE, each=None):
    """evaluate_masks with the label formats that the labels alone tell."""
    formats = recognise(read_raws([label for _, label in pairs]), table)[0]
    return evaluate_masks(folder, pairs, table, formats, each)


@pytest.fixture
def folder(tmp_path):
    """Writes {name: label} as images (empty files: only their names count) and labels."""

    def write(labels, what='labels', colour=False):
        (tmp_path / what).mkdir()
        for name, label in labels.items():
            picture = indices_to_colours(label, TABLE) if colour else label
            Image.fromarray(picture).save(tmp_path / what / f'{name}.png')
        return [
            (tmp_path / 'images' / f'{name}.png', tmp_path / what / f'{name}.png')
            for name in labels
        ]

    return write


def drawn(count=3, size=(12, 16)):
    rng = np.random.default_rng(0)
    return {f'a{i}': rng.choice(array(ROAD, SKY, TREE, VOID), size) for i in range(count)}


@pytest.mark.parametrize('colour', [False, True])
def test_masks_of_another_program(folder, tmp_path, colour):
    truth = drawn()
    made = {name: np.where(label == TREE, VOID, label) for name, label in truth.items()}
    pairs = folder(truth)
    folder({f'{name}_pred': label for name, label in made.items()}, 'masks', colour)
    calls = []
    counts = score_masks(tmp_path / 'masks', pairs, each=lambda *call: calls.append(call))
    expected = sum(confusion(truth[n], made[n], TABLE, other=True) for n in truth)
    trees = sum((label == TREE).sum() for label in truth.values())
    assert (counts == expected).all() and counts[2, 3] == trees > 0
    assert scores(counts)['iou'].tolist() == [1, 1, 0]
    for name, (file, path, t, p) in zip(truth, calls, strict=True):
        assert file == f'{name}.png' and path == tmp_path / 'images' / file
        assert (t == truth[name]).all() and (p == made[name]).all()


def test_masks_are_read_as_masks_and_labels_as_labels(folder, tmp_path):
    """Each has a format of its own; that of the labels is the whole data set's, where it is known.

    Colours stored in a palette of another order: one label alone would pass as indices.
    """

    def reversed_palette(label):
        picture = Image.fromarray((3 - label).astype(np.uint8)).convert('P')
        picture.putpalette([v for colour in TABLE.colours[::-1] for v in colour])
        return picture

    truth = {'a0': np.full((4, 4), ROAD, np.uint8)}
    pairs = folder(truth, 'masks')
    (tmp_path / 'labels').mkdir()
    reversed_palette(truth['a0']).save(tmp_path / 'labels' / 'a0.png')
    pairs = [(pairs[0][0], tmp_path / 'labels' / 'a0.png')]
    counts = evaluate_masks(tmp_path / 'masks', pairs, TABLE, {'palette': 'colour'})
    assert counts[0, 0] == 16 == counts.sum()


def test_masks_that_do_not_fit(folder, tmp_path):
    truth = drawn()
    pairs = folder(truth)
    folder({'a0': truth['a0'], 'a1': truth['a1'][:-1], 'other': truth['a2']}, 'masks')
    with pytest.raises(InputError, match=r'masks: expected one mask a2.png .*found none'):
        score_masks(tmp_path / 'masks', pairs)
    with pytest.raises(InputError, match=r'a1.png: 11x16 pixels, but its label .*a1.png has 12x16'):
        score_masks(tmp_path / 'masks', pairs[:2])
    Image.fromarray(truth['a0']).save(tmp_path / 'masks' / 'a0.tif')
    with pytest.raises(InputError, match='a0.png, a0.tif'):
        score_masks(tmp_path / 'masks', pairs[:1])
    Image.fromarray(truth['a0'] + 50).save(tmp_path / 'masks' / 'a1.png')
    with pytest.raises(InputError, match=r'masks/a1.png: value 5\d'):
        score_masks(tmp_path / 'masks', pairs[1:2])


def test_a_hundred_masks_take_two_seconds(tmp_path):
    """101 pairs of 360x480, as CamVid's val split; the best of three: the cores are shared."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 12, (9, 12)).astype(np.uint8)
    for name in ('labels', 'masks'):
        (tmp_path / name).mkdir()
        label = np.kron(blocks, np.ones((40, 40), np.uint8))
        for i in range(101):
            Image.fromarray(np.roll(label, i, 1)).save(tmp_path / name / f'{i}.png')
    pairs = [(tmp_path / f'{i}.png', tmp_path / 'labels' / f'{i}.png') for i in range(101)]
    spent = []
    while not spent or min(spent) > 2 and len(spent) < 3:
        start = time.perf_counter()
        counts = score_masks(tmp_path / 'masks', pairs, CAMVID)
        spent.append(time.perf_counter() - start)
    assert scores(counts)['miou'] == 1 and min(spent) < 2


# ------------------------------------------------------------------------ collapse


GOOD = np.array([[900, 20, 10], [10, 300, 5], [5, 5, 80]])
FALLING = [1.0, 0.7, 0.5, 0.42, 0.40, 0.399, 0.398, 0.3979]


def test_guard_is_silent_on_a_good_model():
    assert warnings(GOOD, TABLE, FALLING) == []
    assert warnings(GOOD, TABLE) == [] and warnings(GOOD * 0, TABLE) == []
    assert warnings(np.array([[9990, 2, 0], [1, 7, 0], [0, 0, 0]]), TABLE) == []  # so is the truth


def test_guard_names_a_single_class():
    counts = np.array([[600, 0, 0], [300, 0, 0], [99, 0, 1]])
    first, second = warnings(counts, TABLE, FALLING)
    assert first.startswith('road takes 99.9 % of the predicted pixels') and 'causes' in first
    assert (
        second.startswith('Never predicted: 天空 (30.0 % of the labelled pixels)')
        and 'causes' in second
    )


def test_guard_names_a_class_that_is_never_predicted():
    counts = np.array([[600, 40, 0], [30, 300, 0], [15, 15, 0]])
    (line,) = warnings(counts, TABLE)
    assert (
        line.startswith('Never predicted: tree (3.0 % of the labelled pixels)') and '\n' not in line
    )
    counts[2] = (5, 4, 0)  # below 1 %
    assert warnings(counts, TABLE) == []


@pytest.mark.parametrize(
    'losses, fires',
    [
        ([2.3] * 6, True),
        ([2.3] * 5, False),  # five values, four steps
        ([2.3, 2.301, 2.299, 2.302, 2.298, 2.3], True),  # never fell
        ([2.3, 1.0, 0.5] + [0.3] * 6, True),  # stuck to the digit
        (
            [2.3, 1.0, 0.5, 0.3, 0.2991, 0.2988, 0.2986, 0.2984, 0.2983],
            False,
        ),  # slow, late in a run
        ([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], False),  # moves, if up
        ([math.nan] * 9, False),
    ],
)
def test_guard_watches_val_loss(losses, fires):
    lines = warnings(GOOD, TABLE, losses)
    assert [line[:22] for line in lines] == ['val_loss has not moved'] * fires


# ------------------------------------------------------------------------ during training


def test_keras_metric_counts_the_same():
    keras = pytest.importorskip('keras')
    from seg.losses import Scores

    rng = np.random.default_rng(0)
    truth = rng.choice(array(ROAD, SKY, TREE, VOID, NONE), (4, 6, 7))
    truth[0] = ROAD
    probability = rng.random((4, 6, 7, 4)).astype(np.float32)
    probability[..., VOID] += 1  # most probable, but no answer
    probability[..., SKY] -= 1  # zero hits
    one_hot = (truth[..., None] == np.arange(4)).astype(np.float32)
    scored = np.array(TABLE.scored)
    prediction = scored[probability[..., scored].argmax(-1)].astype(np.uint8)
    metric = Scores(TABLE)
    for part in (slice(0, 2), slice(2, 4)):
        metric.update_state(one_hot[part], probability[part])
    counts = confusion(truth, prediction, TABLE)
    assert (keras.ops.convert_to_numpy(metric.counts) == counts).all()
    result = {k: float(v) for k, v in metric.result().items()}
    assert result == pytest.approx({k: scores(counts)[k] for k in result}, rel=1e-6)
    assert counts[1, 1] == 0 < counts[1].sum()
