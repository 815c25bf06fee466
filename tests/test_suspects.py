"""Labels that a network contradicts: planted errors against hand-made probabilities, and loops."""

import base64
import csv
import io
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import seg
from seg import report, suspects
from seg.classes import CAMVID, TWO_CLASSES, ClassTable
from seg.evaluate import Score, conclude
from seg.files import InputError, is_ours
from seg.modelfile import About
from seg.predict import Job, Painted, jobs_of, run
from seg.settings import Settings
from seg.sizes import SizeRule
from seg.suspects import COLUMNS, Suspects

ROAD, CAR, TREE = 3, 8, 5


def painted(truth, index, sure=0.9, name='a.png', n=13, size=None):
    """Of a network that gives `index` the probability `sure` (a number or (H, W)) and shares the
    rest evenly."""
    sure = np.broadcast_to(np.float32(sure), index.shape)[..., None]
    output = np.where(np.arange(n) == index[..., None], sure, (1 - sure) / (n - 1))
    image = np.zeros((*truth.shape, 3), np.uint8)
    return Painted(Job(name, None, lambda: truth, 'label'), image, np.float32(output), index)


def looked_at(*pictures, classes=CAMVID, **options):
    look = Suspects(classes, **options)
    for picture in pictures:
        look(picture)
    return look.entries


def street():
    """(truth, index): right but for a rim of a pixel around one car, and one car that is missing in
    the label."""
    index = np.full((60, 80), ROAD, np.uint8)
    index[10:20, 10:30] = index[30:42, 50:66] = CAR
    truth = index.copy()
    truth[9:21, 9:31] = CAR
    truth[30:42, 50:66] = ROAD
    return truth, index


def test_a_missing_object_is_found_and_rims_are_not():
    (entry,) = looked_at(painted(*street()))
    place = [entry[side] for side in ('top', 'left', 'bottom', 'right')]
    assert place == [30, 50, 42, 66] and entry['area'] == 12 * 16
    assert (entry['given'], entry['likely']) == ('Road', 'Car') and entry['picture'] == 'a.png'
    assert (entry['row'], entry['column']) == (36, 58)
    assert entry['confidence'] == pytest.approx(0.9, abs=1e-6)


def test_void_and_doubt_are_no_suspects():
    truth, index = street()
    truth[30:42, 50:66] = 11
    assert looked_at(painted(truth, index)) == []
    truth, _ = street()
    sure = np.where((index == CAR) & (truth == ROAD), 0.5, 0.9)  # less than cars have elsewhere
    assert looked_at(painted(truth, index, sure)) == []
    assert len(looked_at(painted(truth, index, 0.5))) == 1  # no less


def test_the_surer_and_the_larger_come_first():
    truth, index = street()
    sure = np.full(truth.shape, 0.9)
    sure[30:42, 50:66] = 0.95
    small = index.copy()
    small[30:42, 50:62] = ROAD
    entries = looked_at(
        painted(truth, small, 0.9, 'small'),
        painted(truth, index, 0.9, 'plain'),
        painted(truth, index, sure, 'sure'),
    )
    assert [entry['picture'] for entry in entries] == ['sure', 'plain', 'small']


def test_a_moved_object_is_one_entry():
    """Two objects of the same classes far apart are two."""
    index = np.full((60, 80), ROAD, np.uint8)
    index[10:30, 10:30] = index[40:46, 60:66] = CAR
    truth = np.full_like(index, ROAD)
    truth[10:30, 20:40] = CAR
    first, second = looked_at(painted(truth, index))
    assert [first[side] for side in ('top', 'left', 'bottom', 'right')] == [10, 10, 30, 40]
    assert first['area'] == 2 * 20 * 10 and second['area'] == 36


def test_one_channel():
    truth, index = np.zeros((2, 30, 40), np.uint8)
    index[5:15, 5:15], truth[20:28, 30:38] = 1, 1
    sure = np.where(index, 0.8, 0.1).astype(np.float32)[..., None]
    made = painted(truth, index)._replace(output=sure)
    other, one = looked_at(made, classes=TWO_CLASSES)
    assert (one['given'], one['likely'], one['area']) == ('Background', 'Foreground', 100)
    assert (other['given'], other['likely']) == ('Foreground', 'Background')
    assert one['confidence'] == pytest.approx(0.8) and other['confidence'] == pytest.approx(0.9)


def components(pairs):
    """{frozenset of (row, column)}: by flooding, 8 neighbours, -1 is none."""
    left, found = {(y, x) for y, x in np.argwhere(pairs >= 0).tolist()}, set()
    while left:
        todo, piece = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            piece.add((y, x))
            around = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            same = {p for p in around if pairs[p] == pairs[y, x]}
            left -= same
            todo += same
        found.add(frozenset(piece))
    return found


def radius(piece):
    """Distance of its innermost pixel to the nearest that is outside."""
    ys, xs = zip(*piece)
    around = [
        (y, x) for y in range(min(ys) - 1, max(ys) + 2) for x in range(min(xs) - 1, max(xs) + 2)
    ]
    outside = np.array([p for p in around if p not in piece])
    return max(np.hypot(*(outside - p).T).min() for p in piece)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_regions_are_those_of_a_flood(seed):
    rng = np.random.default_rng(seed)
    index, truth = (
        np.kron(rng.integers(0, 3, (4, 5)), np.ones((4, 4))).astype(np.uint8) for _ in '12'
    )
    index[rng.random(index.shape) < 0.1] = 0
    likely, chance = rng.random((2, *index.shape)).astype(np.float32)
    wrong = (index != truth) & (likely > 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspects, 'near', lambda a, b: False)  # nothing is merged
        found = suspects.regions(wrong, index, truth, likely, chance)
    wanted = components(np.where(wrong, index.astype(int) * 4 + truth, -1))
    wanted = {piece for piece in wanted if radius(piece) >= 2}
    pieces, objects = [], [components(a.astype(int)) for a in (index, truth)]
    for region in found:
        inside = np.argwhere(region.mask) + [side.start for side in region.box]
        pieces.append(frozenset(map(tuple, inside.tolist())))
        rows, columns = inside.T
        assert {*index[rows, columns]} == {region.likely} and {*truth[rows, columns]} == {
            region.given
        }
        assert region.area == len(inside)
        assert region.confidence == pytest.approx(likely[rows, columns].mean(), rel=1e-5)
        margin = (likely - chance)[rows, columns].mean()
        of = [next(o for o in things if pieces[-1] <= o) for things in objects]
        share = max(len(inside) / len(o) for o in of)
        expected = radius(pieces[-1]) * margin**2 * share**0.5
        assert region.score == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert {*pieces} == wanted and len(pieces) == len(wanted)
    scores = [region.score for region in found]
    assert scores == sorted(scores, reverse=True)


def test_thresholds_are_the_mean_confidence_of_each_class_so_far():
    rng, look = np.random.default_rng(0), Suspects(CAMVID)
    sums, counts = np.zeros(11), np.zeros(11)
    for _ in range(3):
        truth = rng.integers(0, 13, (20, 30)).astype(np.uint8)
        made = painted(
            truth, rng.integers(0, 11, truth.shape).astype(np.uint8), rng.random(truth.shape)
        )
        look(made)
        for (y, x), c in np.ndenumerate(truth):
            if c < 11:
                sums[c] += made.output[y, x, c]
                counts[c] += 1
    assert np.allclose(look.sums[:, :11], [sums, counts]) and not look.sums[:, 11:255].any()


def test_only_so_many_are_kept_and_memory_is_flat():
    truth, index = street()
    peaks, look = [], Suspects(CAMVID, keep=5)
    tracemalloc.start()
    for k in range(200):
        look(painted(truth, index, 0.9 + 0.0004 * (k * 37 % 200), f'{k}'))
        if k in (20, 199):
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    best = sorted(range(200), key=lambda k: -(k * 37 % 200))[:5]
    assert [entry['picture'] for entry in look.entries] == [str(k) for k in best]
    assert peaks[1] < peaks[0] + 1e5


def net_of(height, width):
    """A network that paints what is white as cars and what is black as road, pixel by pixel."""
    inputs = keras.Input((height, width, 3))
    conv = keras.layers.Conv2D(13, 1, activation='softmax')
    net = keras.Model(inputs, conv(inputs))
    kernel, bias = np.zeros((1, 1, 3, 13)), np.full(13, -9.0)
    kernel[..., CAR], bias[CAR], bias[ROAD] = 2, -3, 0
    conv.set_weights([kernel, bias])
    net.about = About(CAMVID, SizeRule('pad', height, width))
    return net


@pytest.fixture
def pair(tmp_path):
    """A picture of two cars, and its label, in which one is missing."""
    index = np.full((120, 160), ROAD, np.uint8)
    index[20:40, 20:60] = index[60:84, 100:132] = CAR
    Image.fromarray(np.where(index == CAR, 255, 0).astype(np.uint8)).convert('RGB').save(
        tmp_path / 'a.png'
    )
    index[60:84, 100:132] = ROAD
    Image.fromarray(index).save(tmp_path / 'a_label.png')
    return tmp_path / 'a.png', tmp_path / 'a_label.png'


def entries_of(net, pair, **options):
    look, score = Suspects(CAMVID), Score(CAMVID)
    jobs = look.watch(jobs_of(net, [pair, (pair[0], None)], {'grey': 'index'}))
    run(net, jobs, [score, look], Settings(**options))
    return look.entries


@pytest.mark.parametrize('options', [{}, {'save': ('probability',)}])
@pytest.mark.parametrize('sides', [(None, None), (60, 80), (128, 160)])
def test_places_are_the_pictures_own_at_any_scale_of_the_network(pair, sides, options):
    (entry,) = entries_of(net_of(*sides), pair, **options)
    found = [entry[side] for side in ('top', 'left', 'bottom', 'right')]
    assert np.abs(np.subtract(found, [60, 100, 84, 132])).max() <= (2 if sides[0] == 60 else 0)
    assert entry['area'] == pytest.approx(24 * 32, rel=0.3 if sides[0] == 60 else 0)
    assert abs(entry['row'] - 72) <= 1 and abs(entry['column'] - 116) <= 1


def test_a_picture_much_smaller_than_the_networks_input(tmp_path):
    index = np.full((12, 16), ROAD, np.uint8)
    index[9:, 13:] = CAR
    image = Image.fromarray(np.where(index == CAR, 255, 0).astype(np.uint8)).convert('RGB')
    image.save(tmp_path / 'a.png')
    Image.fromarray(np.full_like(index, ROAD)).save(tmp_path / 'b.png')
    Image.fromarray(index).save(tmp_path / 'c.png')
    pairs = [(tmp_path / 'a.png', tmp_path / name) for name in ('c.png', 'b.png')]
    net, look = net_of(192, 256), Suspects(CAMVID)
    run(net, look.watch(jobs_of(net, pairs, {'grey': 'index'})), [look])
    (entry,) = look.entries
    found = [entry[side] for side in ('top', 'left', 'bottom', 'right')]
    assert np.abs(np.subtract(found, [9, 13, 12, 16])).max() <= 1
    assert report.outlined(*entry['crop']).shape == (150, 200, 3)


@pytest.mark.parametrize('most', [1 << 21, 4000])
@pytest.mark.parametrize('save', ['colour', 'probability'])
def test_tiles_give_what_the_whole_gives(pair, monkeypatch, most, save):
    (whole,) = entries_of(net_of(None, None), pair)
    monkeypatch.setattr(suspects, 'MOST', most)  # every third pixel
    (tiled,) = entries_of(net_of(None, None), pair, tile=(64, 64), overlap=32, save=(save,))
    near = 0 if most > 4000 else 3
    for name in ('top', 'left', 'bottom', 'right', 'row', 'column'):
        assert abs(tiled[name] - whole[name]) <= near, name
    assert tiled['confidence'] == pytest.approx(whole['confidence'], abs=0.003)
    assert tiled['area'] == pytest.approx(whole['area'], rel=0.2 if near else 1e-9)


def test_a_label_of_another_size_is_told_in_tiles_as_well(pair, monkeypatch):
    Image.open(pair[1]).resize((100, 90), Image.Resampling.NEAREST).save(pair[1])
    monkeypatch.setattr(seg, 'skipped', [])
    assert entries_of(net_of(None, None), pair, tile=(64, 64), overlap=32) == []
    assert len(seg.skipped) == 1 and '120x160 pixels, but its label' in seg.skipped[0]


def test_the_file(tmp_path, capsys):
    truth, index = street()
    look = Suspects(CAMVID)
    look(painted(truth, index, name='straße\udcff, "x".png'))
    look.write(tmp_path / 'suspects.csv', 'val', 'r.html')
    assert 'Labels to look at: 1, in' in capsys.readouterr().out
    how = dict(encoding='utf-8-sig', errors='surrogateescape', newline='')
    with open(tmp_path / 'suspects.csv', **how) as f:
        (row,) = csv.DictReader(f)
    assert [*row] == COLUMNS and row['picture'] == 'straße\udcff, "x".png'
    assert row['likely'] == 'Car' and row['confidence'] == '0.900' and row['area'] == '192'
    assert is_ours(tmp_path / 'suspects.csv')
    Suspects(CAMVID).write(tmp_path / 'suspects.csv', 'train')
    assert 'none, in' in capsys.readouterr().out
    assert (tmp_path / 'suspects.csv').read_text('utf-8-sig') == ','.join(COLUMNS) + '\n'
    (tmp_path / 'suspects.csv').write_text('mine')
    with pytest.raises(InputError, match='did not write it'):
        look.write(tmp_path / 'suspects.csv')


@pytest.mark.parametrize('right, told', [(79, True), (81, False)])
def test_what_a_network_that_has_learned_little_lists_is_told_to_be_its_own(
    right, told, tmp_path, capsys
):
    look = Suspects(CAMVID)
    about = dict(split='val', images=1, of='m.hdf5', data='d')
    counts = np.diag([right] * 11) + np.roll(np.diag([100 - right] * 11), 1, 1)
    conclude(counts, CAMVID, about, tmp_path / 'scores.json', None, look)
    assert 'its own errors' not in capsys.readouterr().out  # there are none
    look(painted(*street()))
    conclude(counts, CAMVID, about, tmp_path / 'scores.json', None, look)
    assert (f'right on {right} % of the pixels' in capsys.readouterr().out) == told


def test_the_report_shows_the_first_forty(tmp_path):
    truth, index = street()
    evil = '"><script>alert(1)</script>'
    names = (*CAMVID.names[:CAR], evil, *CAMVID.names[CAR + 1 :])
    classes = ClassTable(names, CAMVID.colours, CAMVID.roles)
    look = Suspects(classes)
    for k in range(45):
        look(painted(truth, index, 0.9 + 0.001 * k, f'{evil}{k}.png'))
    made = report.Report(tmp_path / 'r.html', classes)
    made.write(np.eye(11), look=look.entries)
    text = (tmp_path / 'r.html').read_text('utf-8')
    assert evil not in text
    text = text.partition('Labels to look at')[2]
    assert text.count('<figure>') == 40 and '30 more' in text  # folded away
    assert text.index('44.png') < text.index('43.png') and '4.png' in text and '>0.png' not in text
    uris = [part.split('"')[0] for part in text.split('src="data:image/jpeg;base64,')[1:]]
    assert len(uris) == 40 and max(map(len, uris)) < 20_000
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uris[0]))).convert('RGB')).astype(
        int
    )
    line = np.abs(picture - report.pictures.OUTLINE).sum(-1) < 150
    rows, columns = (np.flatnonzero(line.mean(axis) > 0.2)[[0, -1]] for axis in (1, 0))
    # 16 pixels around the car's 12x16, or to the edge at row 60 and column 80: 44x46, as 200 wide
    scale = 200 / 46
    assert picture.shape == (round(44 * scale), 200, 3)
    assert np.abs(rows - [16 * scale, 28 * scale]).max() < 3
    assert np.abs(columns - [16 * scale, 32 * scale]).max() < 3
    assert [entry['crop'] is None for entry in look.entries] == [False] * 40 + [True] * 5
    made.write(np.eye(11))
    assert 'Labels to look at' not in (tmp_path / 'r.html').read_text('utf-8')


def test_outlined_is_the_picture_but_for_a_line_around():
    rng = np.random.default_rng(1)
    image, mask = rng.integers(0, 99, (50, 100, 3)).astype(np.uint8), np.zeros((25, 50), bool)
    mask[10:15, 20:30] = True
    made = report.outlined(image, mask, 200)
    line = (made == report.pictures.OUTLINE).all(-1)
    assert made.shape == (100, 200, 3) and not line[40:60, 80:120].any()
    around = np.zeros_like(line)
    around[38:62, 78:122] = True
    assert line[38:62, 80:120].any() and not line[~around].any()
    assert line[39, 80:120].all() and line[60, 80:120].all() and line[40:60, 79].all()
