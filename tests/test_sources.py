"""What a data set on disk is taken for: classes, formats, size, channels and values, once for all.

The sets are drawn here; what they hold is what they were made from.
"""

from pathlib import Path

import numpy as np
import pytest
from labelled import FIVE, corner, index, palette_picture, photo, png, scene, write_set
from PIL import Image

from seg import readers, sources
from seg.check import examine
from seg.classes import CAMVID, NO_CLASS, numbered_classes
from seg.files import InputError
from seg.pictures import EIGHT_BITS, read_image
from seg.readers import RawLabel, read_label
from seg.settings import Settings
from seg.sizes import SizeRule
from seg.sources import load
from seg.tablefiles import write_classes

FRAMES = '0001TP_{:06}.png', '0006R0_f{:05}.png', '0016E5_{:05}.png', 'Seq05VD_f{:05}.png'


def load_set(folder, fast=True, table=None, prefer=None, **settings):
    return load(Settings(data=str(folder), **settings), fast, table, prefer)


def twelve(i):
    """Values 0 to 11, as CamVid's labels hold."""
    return Image.fromarray(scene(12, seed=i))


# ---------------------------------------------------------------------------- layout


def test_layouts(tmp_path):
    folder = write_set(tmp_path / 'set')
    data = load_set(folder)
    assert data.layout == "CamVid's folders" and data.where == str(folder)
    assert {s: len(p) for s, p in data.splits.items()} == {'train': 4, 'val': 2}
    assert data.scored()[0] == 'val' and data.scored()[1] == data.splits['val']
    (folder / 'test').mkdir()
    photo(9).save(folder / 'test' / 'a.png')  # test labels may be missing
    data = load_set(folder)
    assert data.splits['test'] == [(folder / 'test' / 'a.png', None)] and data.errors == []
    assert data.scored()[0] == 'val'
    (folder / 'testannot').mkdir()
    index(9).save(folder / 'testannot' / 'a.png')
    assert load_set(folder).scored() == (
        'test',
        [(folder / 'test' / 'a.png', folder / 'testannot' / 'a.png')],
    )
    own = load(Settings(images=f'{folder}/train', labels=f'{folder}/trainannot', val_split=0.25))
    assert own.layout == 'two folders' and [len(p) for p in own.splits.values()] == [3, 1]
    assert sorted(own.splits['train'] + own.splits['val']) == data.splits['train']
    again = load(Settings(images=f'{folder}/train', labels=f'{folder}/trainannot', val_split=0.25))
    assert again.splits == own.splits


def test_a_set_without_labels_has_nothing_to_score(tmp_path):
    (tmp_path / 'test').mkdir()
    photo().save(tmp_path / 'test' / 'a.png')
    with pytest.raises(InputError, match='expected pictures and their labels, found test'):
        load_set(tmp_path).scored()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_header_tells_the_upright_size(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ('i', 'm'):
        (tmp_path / part).mkdir()
    for name, how in (('a.png', {}), ('b.jpg', {}), ('c.tif', {'compression': 'tiff_lzw'})):
        photo().save(tmp_path / 'i' / name, exif=exif, **how)
        Image.new('L', (64, 48)).save(tmp_path / 'm' / f'{name[0]}.png')
    settings = Settings(images=str(tmp_path / 'i'), labels=str(tmp_path / 'm'))
    for fast in (True, False):
        looked = load(settings, fast).looked
        glances = [g for p, g in looked.items() if p.parent.name == 'i']
        assert [g.shape for g in glances] == [(64, 48) if orientation > 4 else (48, 64)] * 3
        assert [g.turned for g in glances] == [orientation > 1] * 3


# ---------------------------------------------------------------------------- classes


@pytest.mark.parametrize('name', FRAMES)
def test_camvid_is_known_by_its_frames(tmp_path, name):
    data = load_set(write_set(tmp_path, twelve, name=name))
    assert data.classes == CAMVID and data.classes_from == "CamVid's"
    assert data.warnings == data.errors == []
    assert examine(data, fast=True)['fit']


@pytest.mark.parametrize('name', ['{}.png', 'street_{:05}.png', 'x0001TP_{}.png'])
def test_twelve_classes_of_ones_own_are_ones_own(tmp_path, name):
    """The twelfth is no void: it counts in loss and scores."""
    for most in (12, 11, 13):
        folder = write_set(
            tmp_path / str(most), lambda i, n=most: Image.fromarray(scene(n, seed=i))
        )
        for fast in (True, False):
            data = load_set(folder, fast)
            assert data.classes == numbered_classes(most) and data.classes.scored == [*range(most)]
            (line,) = [w for w in data.warnings if 'class table' in w]
            assert f'the largest is {most - 1}' in line and '--write-classes' in line
    shares = examine(data)['classes']
    assert [c['role'] for c in shares] == ['scored'] * 13 and shares[11]['percent']['train'] > 0


def test_a_few_frames_among_many_are_no_camvid(tmp_path):
    folder = write_set(tmp_path, twelve, n=10)
    for sub in ('train', 'trainannot'):
        (folder / sub / '0.png').rename(folder / sub / FRAMES[0].format(0))
    assert load_set(folder).classes == numbered_classes(12)


def test_a_wrong_value_in_camvid_is_a_fault_and_no_class(tmp_path):
    folder = write_set(tmp_path, twelve, name=FRAMES[0])
    corner(scene(12), 77).save(folder / 'trainannot' / FRAMES[0].format(1))
    data = load_set(folder)
    assert data.classes == CAMVID
    with pytest.raises(InputError, match='0001TP_000001.png: value 77'):
        examine(data, fast=True)


def test_camvids_colours(tmp_path):
    """More than five of its colours that are no greys tell; a class table file goes over all."""
    data = load_set(
        write_set(tmp_path / 'a', lambda i: Image.fromarray(CAMVID.palette[scene(11, seed=i)]))
    )
    assert data.classes == CAMVID and "CamVid's" in data.classes_from
    few = write_set(tmp_path / 'b', lambda i: Image.fromarray(CAMVID.palette[scene(4, seed=i)]))
    data = load_set(few)
    assert {*data.classes.colours} == {*CAMVID.colours[:4]} and len(data.classes.scored) == 4
    frames = write_set(tmp_path / 'c', index, name=FRAMES[2])
    write_classes(frames / 'classes.csv', FIVE)
    data = load_set(frames)
    assert data.classes == FIVE and data.classes_from == str(frames / 'classes.csv')
    assert data.warnings == []
    write_classes(tmp_path / 'other.csv', CAMVID)
    assert load_set(frames, classes=str(tmp_path / 'other.csv')).classes == CAMVID
    (frames / 'classes.csv').unlink()
    given = load_set(frames, table=CAMVID)
    assert given.classes == CAMVID and given.classes_from == 'the model'


CAMVIDS = [c for c in CAMVID.colours if len({*c}) > 1]  # those that are no grey
GREYS = [c for c in CAMVID.colours if len({*c}) == 1]


@pytest.mark.parametrize('colourful', [0, 1, 3, 5, 6, 10])
@pytest.mark.parametrize('kind', ['rgb', 'palette'])
def test_some_of_camvids_colours_are_no_camvid(tmp_path, kind, colourful):
    """Background and cup in white and black, or three reds: their classes are none of CamVid's."""
    table = np.array([*GREYS, *CAMVIDS[:colourful]], np.uint8)

    def label(i):
        index = scene(len(table), seed=i)
        return Image.fromarray(table[index]) if kind == 'rgb' else palette_picture(index, table)

    data = load_set(write_set(tmp_path, label))
    assert (data.classes == CAMVID) == (colourful > 5)
    if colourful <= 5:  # one class for each colour, all of them scored
        assert {*data.classes.colours} == {*map(tuple, table.tolist())}
        assert data.classes.scored == [*range(len(table))]
    for path, label in zip(sorted(tmp_path.glob('*annot/*')), data.pixels().tolist(), strict=True):
        rgb = np.asarray(Image.open(path).convert('RGB'))
        for colour, pixels in zip(data.classes.colours, label):
            assert (rgb == colour).all(-1).sum() == pixels


def apart(data):
    """Whether each value of grey labels is a class of its own, and 255, if so asked, none."""
    held = {}
    for raw in data.raws():
        found = readers.meaning(raw, data.formats[raw.layout], data.classes)
        held |= dict(zip(raw.values.tolist(), found.tolist()))
    return held, len({*held.values()}) == len(held) and min(held.values()) >= 0


@pytest.mark.parametrize('border', [False, True])
@pytest.mark.parametrize(
    'ids',
    [(0, 8, 12, 15), (0, 7, 15, 20), (7, 11, 24, 26), (0, 33), (0, 1, 40), (0, 19, 20, 21, 60)]
    + [(0, 3, 9, 17, 18, 33, 34, 35, 50, 61, 62)],
)
def test_a_few_of_many_numbers_are_numbers(tmp_path, ids, border):
    def label(i):
        label = np.array(ids, np.uint8)[scene(len(ids), seed=i)]
        label[:2] = 255 if border else label[2]
        return Image.fromarray(label)

    data = load_set(write_set(tmp_path, label))
    held, distinct = apart(data)
    assert held == {v: v for v in (*ids, *[255] * border)} and distinct
    assert data.classes == numbered_classes(max(ids) + 1) and data.errors == []
    (line,) = [w for w in data.warnings if 'class table' in w]
    assert f'the largest is {max(ids)}' in line and '--num-class' in line
    result = examine(data)
    assert result['fit'] and not any('--repair' in w for w in result['warnings'])


@pytest.mark.parametrize('n', [3, 4, 9, 20])
def test_numbers_times_255_are_numbers(tmp_path, n):
    data = load_set(
        write_set(tmp_path, lambda i: Image.fromarray(scene(n, seed=i) * np.uint8(255)))
    )
    assert data.classes == numbered_classes(n) and data.formats == {'grey': 'index x 255'}
    assert apart(data)[0] == {-i % 256: i for i in range(n)}
    assert examine(data)['fit'] and f'the largest is {n - 1}' in ''.join(data.warnings)


@pytest.mark.parametrize('levels', [(0, 85, 170, 255), (0, 128, 255), (0, 100, 103, 106)])
def test_grey_levels_stay_classes_of_their_own(tmp_path, levels):
    data = load_set(
        write_set(
            tmp_path,
            lambda i: Image.fromarray(np.array(levels, np.uint8)[scene(len(levels), seed=i)]),
        )
    )
    held, distinct = apart(data)
    assert {*held} == {*levels} and distinct and 255 not in held.values()
    assert len(data.classes) == len(levels) and examine(data)['fit']


@pytest.mark.parametrize('ids', [(0, 1, 2, 3, 4), (0, 1, 2, 3, 20)])
@pytest.mark.parametrize('entry', [(224, 224, 192), (0, 0, 0), (255, 255, 255)])
def test_255_of_a_palette_is_no_class_of_its_own(tmp_path, ids, entry):
    colours = [*numbered_classes(21).colours, *[(9, 9, i) for i in range(21, 255)], entry]

    def label(i):
        label = np.array(ids, np.uint8)[scene(5, seed=i)]
        label[:3] = 255
        return palette_picture(label, colours)

    data = load_set(write_set(tmp_path, label))
    held, distinct = apart(data)
    assert held[255] == 255 and distinct and len(data.classes) == 5
    assert {data.classes.colours[held[i]] for i in ids} == {colours[i] for i in ids}
    assert (data.pixels()[:, -1] == 3 * 64).all()


# ---------------------------------------------------------------------------- of several kinds


def test_labels_that_contradict_each_other_are_an_error_for_all_verbs(tmp_path):
    folder = write_set(tmp_path)
    palette_picture(scene(seed=1), FIVE.colours).save(folder / 'trainannot' / '1.png')
    for fast in (True, False):
        (line,) = load_set(folder, fast, FIVE).errors
        assert 'trainannot/1.png: labels of several kinds, 5 grey, 1 palette' in line


def test_a_number_of_classes_that_disagrees(tmp_path):
    table = write_set(tmp_path / 'a', index)
    write_classes(table / 'classes.csv', FIVE)
    guessed = write_set(tmp_path / 'b', index)
    for folder, words in ((table, 'classes.csv has 5'), (guessed, None)):
        for n in (5, None):
            assert len(load_set(folder, num_class=n).classes) == 5
        if words is None:  # nothing but the number tells: value 4 may be the fourth or the last
            assert load_set(folder, num_class=7).classes == numbered_classes(7)
            continue
        for n in (1, 2, 4, 6, 13, 255):
            with pytest.raises(InputError, match=f'--num-class {n}, but .*{words}') as e:
                load_set(folder, num_class=n)
            assert '\n' not in str(e.value) and '--classes' in str(e.value)
    with pytest.raises(InputError, match='--num-class 4, but .*classes.csv has 5'):
        load_set(guessed, classes=str(table / 'classes.csv'), num_class=4)
    two = write_set(tmp_path / 'c', lambda i: Image.fromarray(scene(2, seed=i)))
    write_classes(two / 'classes.csv', numbered_classes(2))
    for n in (1, 2):  # one channel serves two classes
        assert load_set(two, num_class=n).classes == numbered_classes(2)


def test_a_number_of_classes_that_camvid_has_not(tmp_path):
    folder = write_set(tmp_path, twelve, name=FRAMES[1])
    assert len(load_set(folder, num_class=13).classes) == 13
    with pytest.raises(InputError, match='--num-class 5, but .*13'):
        load_set(folder, num_class=5)


# ---------------------------------------------------------------------------- formats


def test_a_split_of_one_colour_reads_as_the_training_set(tmp_path):
    """Alone it could be index 4 as well as the colour of class 0."""

    def reversed_palette(label):
        return palette_picture(4 - label, FIVE.colours[::-1])

    folder = write_set(tmp_path / 'a', lambda i: reversed_palette(scene(seed=i)))
    formats = load_set(folder, table=FIVE).formats
    assert formats == {'palette': 'colour'}
    flat = write_set(tmp_path / 'b', lambda i: reversed_palette(np.zeros((48, 64), np.uint8)))
    for fast in (True, False):
        data = load_set(flat, fast, FIVE, prefer=formats)
        assert data.formats == formats and data.warnings == []
        assert data.class_pixels('val').tolist() == [2 * 48 * 64, 0, 0, 0, 0, 0]
        for _, label in data.splits['val']:
            assert (read_label(label, FIVE, data.formats) == 0).all()


def test_pixels_of_classes(tmp_path):
    def with_no_class(i):
        label = scene(seed=i)
        label[:7] = NO_CLASS
        return Image.fromarray(label)

    data = load_set(write_set(tmp_path, with_no_class), table=FIVE)
    for name, numbers in (('train', range(4)), ('val', range(4, 6))):
        held = np.concatenate([np.asarray(with_no_class(i)).ravel() for i in numbers])
        counts = np.bincount(held, minlength=256)
        assert data.class_pixels(name).tolist() == [*counts[:5], counts[255]]


# ---------------------------------------------------------------------------- size


def test_the_rule(tmp_path):
    folder = write_set(tmp_path)
    assert load_set(folder).rule == SizeRule('whole', 48, 64)
    assert load_set(folder, size=(32, 40)).rule == SizeRule('pad', 32, 40)
    assert load_set(folder, size=(32, 40), resize='stretch').rule == SizeRule('stretch', 32, 40)
    photo(1, (50, 60)).save(folder / 'val' / '5.png')
    Image.new('L', (60, 50)).save(folder / 'valannot' / '5.png')
    assert load_set(folder).rule == SizeRule('tile', 64, 64)
    assert load_set(folder, crop=(40, 32)).rule == SizeRule('tile', 64, 32)
    assert load_set(folder, size=(32, 40)).rule == SizeRule('pad', 32, 40)


@pytest.mark.parametrize('size', [None, (48, 64), (32, 32)])
@pytest.mark.parametrize('resize', ['pad', 'stretch'])
@pytest.mark.parametrize('at', ['trainannot/1.png', 'valannot/5.png'])
def test_a_label_of_another_size_than_its_image(tmp_path, size, resize, at):
    """Even where all is resized: which pixel of it would be which?"""
    folder = write_set(tmp_path)
    Image.new('L', (60, 48)).save(folder / at)
    for fast in (True, False):
        data = load_set(folder, fast, FIVE, size=size, resize=resize)
        words = rf'{at}: label of 48x60, but .*has 48x64 pixels'
        if fast:
            with pytest.raises(InputError, match=words):
                examine(data, fast=True)
        else:
            result = examine(data)
            assert not result['fit'] and len(result['errors']) == 1
            assert at in result['errors'][0] and '48x60' in result['errors'][0]


# ---------------------------------------------------------------------------- channels and values


def grey_as(mode):
    return lambda i: photo(i).convert('L').convert(mode)


def write_images(folder, picture, suffix='.png'):
    """A set whose image i is picture(i), all of 48x64."""
    write_set(folder)
    for i, path in enumerate(sorted(folder.glob('*[nl]/*.png'))):
        path.unlink()
        picture(i).save(path.with_suffix(suffix))
    return folder


@pytest.mark.parametrize(
    'mode, channels', [('L', 1), ('1', 1), ('LA', 1), ('RGB', 3), ('P', 3), ('RGBA', 3)]
)
def test_channels_are_decided_once(tmp_path, mode, channels):
    folder = write_images(tmp_path, grey_as(mode))
    for fast in (True, False):
        data = load_set(folder, fast)
        assert (data.channels, data.intensity, data.errors) == (channels, EIGHT_BITS, [])
        assert examine(data)['input'] == {
            'size': '48x64',
            'crops': False,
            'channels': channels,
            'intensity': (0, 255),
        }
    photo(0).save(folder / 'val' / '4.png')  # one in colour: all have three
    assert load_set(folder).channels == 3


def ramp(i):
    """uint16 (48, 64): brighter and of a wider range with i, up to 60000."""
    return (np.linspace(200, 10_000 * (i + 1), 48 * 64).reshape(48, 64)).astype(np.uint16)


@pytest.mark.parametrize(
    'dtype, scale, suffix',
    [(np.uint16, 1, '.png'), (np.uint16, 1, '.tif'), (np.int32, 1, '.tif'), (np.float32, 1, '.tif')]
    + [(np.float32, 1 / 60_000, '.tif'), (np.int32, 40, '.tif')],
)
def test_one_range_of_values_for_a_whole_set(tmp_path, dtype, scale, suffix):
    """A dark picture stays darker than a bright one; the range is that of all their values."""
    values = [(ramp(i).astype(float) * scale).astype(dtype) for i in range(6)]
    folder = write_images(tmp_path, lambda i: Image.fromarray(values[i]), suffix)
    expected = np.percentile(np.stack(values), (0.5, 99.5))
    for fast in (True, False):
        data = load_set(folder, fast)
        assert data.errors == [] and data.channels == 1
        assert data.intensity == pytest.approx(tuple(expected), rel=1e-3)
    low, high = data.intensity
    paths = sorted(folder.glob('*[nl]/*'))
    for path, stored in zip(paths, values, strict=True):
        image = read_image(path, 1, data.intensity)[..., 0]
        wanted = 65535 * ((stored.astype(float) - low) / (high - low)).clip(0, 1)
        assert np.abs(image - wanted).max() < 8
    means = [read_image(p, 1, data.intensity).mean() for p in paths]
    assert means == sorted(means) and means[-1] > 5 * means[0] and means[-1] > 20_000  # not black
    warned = [w for w in examine(data)['warnings'] if 'more than 8 bits' in w]
    assert len(warned) == 1 and 'one range for all' in warned[0]


def test_two_flat_pictures_stay_apart(tmp_path):
    """Values of 200 in one file, 60000 in the other: by ranges of their own they were the same."""
    folder = write_images(
        tmp_path, lambda i: Image.fromarray(np.full((48, 64), (200, 60000)[i % 2], np.uint16))
    )
    data = load_set(folder)
    assert data.intensity == (200, 60000)
    read = [read_image(p, 1, data.intensity).max() for p in sorted(folder.glob('train/*.png'))]
    assert read == [0, 65535, 0, 65535]


def test_a_few_hot_pixels_do_not_set_the_range(tmp_path):
    def hot(i):
        values = ramp(0)
        values[3, 5:8] = 65535
        return Image.fromarray(values)

    data = load_set(write_images(tmp_path, hot))
    assert 9_900 < data.intensity[1] <= 10_000


@pytest.mark.parametrize('picture', ['black', 'bytes in 16 bits'])
def test_dark_sets_of_sixteen_bits(tmp_path, picture):
    """8-bit values in 16-bit files are not black, and a black set divides by nothing."""
    drawn = np.where(scene() % 2 == 1, 255, 0).astype(np.uint16) * (picture != 'black')
    data = load_set(write_images(tmp_path, lambda i: Image.fromarray(drawn)))
    image = read_image(data.splits['train'][0][0], 1, data.intensity)
    assert np.isfinite(data.intensity).all() and image.dtype == np.uint16
    assert image.max() == (0 if picture == 'black' else 65535)


@pytest.mark.parametrize('shallow', [0, 3])
def test_eight_and_sixteen_bits_in_one_set(tmp_path, shallow):
    def mixed(i):
        return grey_as('L')(i) if i == shallow else Image.fromarray(ramp(i))

    folder = write_images(tmp_path, mixed)
    for fast in (True, False):
        data = load_set(folder, fast)
        (line,) = data.errors
        assert f'train/{shallow}.png: 8 bits' in line and 'save all of them alike' in line
        assert '\n' not in line
    with pytest.raises(InputError, match='8 bits'):
        examine(load_set(folder), fast=True)


def test_values_that_are_not_finite_are_an_error(tmp_path):
    def broken(i):
        return Image.fromarray(ramp(i).astype(np.float32) * (np.nan if i == 2 else 1))

    data = load_set(write_images(tmp_path, broken, '.tif'))
    assert (
        len(data.errors) == 1 and 'train/2.tif: holds values that are not finite' in data.errors[0]
    )


def test_the_full_look_finds_values_that_are_not_finite_anywhere(tmp_path):
    """The range is taken from a sample of pictures; check reads every one."""
    write_set(tmp_path, n=70)
    for path in tmp_path.glob('*[nl]/*.png'):
        path.unlink()
        values = ramp(0).astype(np.float32)
        values[0, 0] = np.nan if path.stem == '37' else 1
        Image.fromarray(values).save(path.with_suffix('.tif'))
    result = examine(load_set(tmp_path, fast=False))
    assert not result['fit'] and any('37.tif' in line for line in result['errors'])


# ---------------------------------------------------------------------------- looking


def test_fast_reads_few_labels_and_no_image(tmp_path, monkeypatch):
    opened, read = [], []
    open_picture, read_raw = readers.open_picture, readers.read_raw

    def opening(path, decode=True):
        opened.extend([path] * decode)
        return open_picture(path, decode)

    def reading(path):
        read.append(path)
        return read_raw(path)

    monkeypatch.setattr(readers, 'open_picture', opening)
    monkeypatch.setattr(sources, 'open_picture', opening)
    monkeypatch.setattr(readers, 'read_raw', reading)
    monkeypatch.setattr(sources, 'FAST_LABELS', 5)
    data = load_set(write_set(tmp_path, n=18))
    assert sorted(opened) == sorted(read) and 0 < len(read) <= 5  # of the images the headers alone
    assert sum(isinstance(s, RawLabel) for s in data.looked.values()) == len(read)
    assert len(data.looked) == 40 and data.notes == [
        f'{len(read)} of 20 labels read, spread over the set'
    ]
    load_set(tmp_path, fast=False)
    assert len(read) == 20 + len(data.raws()) and len(opened) == 20 + len(read)


def test_what_is_kept_of_labels_is_bounded(tmp_path, monkeypatch):
    folder = write_set(tmp_path, n=10)
    monkeypatch.setattr(sources, 'KEPT_BYTES', 48 * 64 * 3)
    for fast in (True, False):
        raws = load_set(folder, fast).raws()
        kept = sum(raw.inverse.nbytes for raw in raws if raw.inverse is not None)
        assert len(raws) == 12 and (0 < kept <= 48 * 64 * 3 if fast else kept == 0)


def test_one_bad_file_hides_no_other(tmp_path):
    folder = write_set(tmp_path, n=9)
    for i in range(7):
        (folder / 'trainannot' / f'{i}.png').write_bytes(b'')
    data = load_set(folder)
    assert [Path(e.split(':')[0]).name for e in data.errors] == [f'{i}.png' for i in range(7)]
    assert data.classes == numbered_classes(5)


@pytest.mark.parametrize('size', [(15, 15), (1, 64), (64, 1)])
def test_sides_that_no_network_takes_are_not_fit(tmp_path, size):
    for part in ('images', 'labels'):
        (tmp_path / part).mkdir()
        for name in 'ab':
            picture = np.zeros(size, np.uint8)
            picture[0, 0] = 1
            Image.fromarray(picture).save(tmp_path / part / f'{name}.png')
    where = dict(images=str(tmp_path / 'images'), labels=str(tmp_path / 'labels'))
    [line] = load(Settings(**where)).errors
    assert f'{size[0]}x{size[1]}' in line and '--size' in line
    assert load(Settings(**where, size=(32, 32))).errors == []


def smooth_walk(folder, names, jump=()):
    """Pictures of a slow walk through noise, with a leap to another place at each of `jump`."""
    rng, at = np.random.default_rng(0), 0
    field = np.kron(rng.integers(0, 256, (40, 400)), np.ones((4, 8)))
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate(names):
        at = rng.integers(0, 2000) if i in jump else at + 4
        picture = field[:64, at : at + 64].astype(np.uint8)
        Image.fromarray(picture).save(folder / 'images' / f'{name}.png')
        Image.fromarray(np.uint8(picture > 128)).save(folder / 'labels' / f'{name}.png')
    return Settings(images=str(folder / 'images'), labels=str(folder / 'labels'), val_split=0.25)


def parts(settings):
    data = load(settings)
    train, val = ([p.stem for p, _ in data.splits[name]] for name in ('train', 'val'))
    assert sorted(train + val) == sorted(p.stem for p in Path(settings.images).iterdir())
    return train, val, ' '.join(data.notes)


def test_frames_of_one_video_are_divided_once(tmp_path):
    train, val, note = parts(smooth_walk(tmp_path, [f'f{i}' for i in range(1, 21)]))
    assert sorted(val) == sorted(f'f{i}' for i in range(16, 21))
    assert 'neighbours look alike' in note and 'the last 5 in order' in note


def test_slices_of_one_patient_stay_together(tmp_path):
    names = [f'{p}_{i:02}' for p in ('ann', 'ben', 'cy', 'dora', 'eve') for i in range(6)]
    train, val, note = parts(smooth_walk(tmp_path, names, jump=range(0, 30, 6)))
    patients = [{n.split('_')[0] for n in part} for part in (train, val)]
    assert not patients[0] & patients[1] and len(val) == 6
    assert 'whole groups, of 5 that' in note


def test_single_pictures_are_drawn_by_lot(tmp_path):
    """Four kinds of thing by name, none like its neighbour: each kind may stand in both parts."""
    names = [f'{kind}{i}' for kind in ('cat', 'cow', 'dog', 'fox') for i in range(6)]
    train, val, note = parts(smooth_walk(tmp_path, names, jump=range(24)))
    assert len(val) == 6 and len({n[:3] for n in val}) > 1
    assert '6 of 24 pictures, chosen at random' in note


@pytest.mark.parametrize('top, fit', [(65535, True), (4095, False)])
def test_sixteen_bits_a_colour(tmp_path, top, fit):
    """PIL reads the upper eight: enough of a full range, a handful of levels of twelve bits."""
    folder, rng = write_set(tmp_path), np.random.default_rng(0)
    for path in [*folder.glob('train/*.png'), *folder.glob('val/*.png')]:
        rows = rng.integers(0, top + 1, (48, 64 * 3)).astype('>u2')
        png(path, 64, 48, 16, 2, [row.tobytes() for row in rows])
    result = examine(load(Settings(data=str(folder)), fast=False))
    said = ' '.join([*result['errors'], *result['warnings'], *result['notes']])
    assert '16 bits a colour, of which' in said and (not result['errors']) == fit


def cells(i):
    """A number an object: 1 to k, of each picture its own k."""
    rng, label = np.random.default_rng(i), np.zeros((48, 64), np.uint16)
    for k in range(1, rng.integers(6, 14)):
        label[6 * (k // 3) : 6 * (k // 3) + 5, 20 * (k % 3) : 20 * (k % 3) + 12] = k
    return label


@pytest.mark.parametrize('n', [1, 2])
def test_numbers_of_objects_are_offered_as_foreground(tmp_path, n):
    folder = write_set(tmp_path, lambda i: Image.fromarray(cells(i)), n=5)
    data = load_set(folder)
    assert any('--num-class 1 makes them foreground' in line for line in data.warnings)
    data = load_set(folder, num_class=n)
    assert data.errors == [] and data.formats == {'grey': 'instances'}
    for image, path in data.pairs():
        found = read_label(path, data.classes, data.formats)
        np.testing.assert_array_equal(found, cells(int(image.stem)) > 0)
    examine(data, fast=True)


def test_classes_are_no_objects(tmp_path):
    """Scattered ones, and a wrong value of a mask, which stays a fault."""
    data = load_set(write_set(tmp_path / 'a', lambda i: Image.fromarray(scene(5 + i, seed=i))))
    assert not any('foreground' in line for line in data.warnings)
    folder = write_set(tmp_path / 'b', lambda i: Image.fromarray(scene(2, seed=i)))
    corner(scene(2), 7).save(folder / 'trainannot' / '1.png')
    with pytest.raises(InputError, match='1.png: value 7'):
        examine(load_set(folder, num_class=2), fast=True)


def test_width_before_height(tmp_path):
    folder = write_set(tmp_path)  # 48 high, 64 wide
    (line,) = [w for w in load_set(folder, size=(64, 48)).warnings if '--size' in w]
    assert '64 high and 48 wide, but pictures are 48x64: --size 48x64' in line
    for size in ((48, 64), (64, 64), (24, 96)):
        assert not any('--size' in w for w in load_set(folder, size=size).warnings)
