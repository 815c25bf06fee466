"""Every kind of label file reads alike, what is none is named; pictures of any depth.

Oracles are PIL and what the files were made from.
"""

import os
import resource
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from labelled import FIVE, colour, corner, palette_picture, photo, png, save, scene
from PIL import Image

from seg.classes import CAMVID, TWO_CLASSES, ClassTable, numbered_classes
from seg.files import InputError
from seg.pictures import EIGHT_BITS, read_image, to_bytes, viewable
from seg.readers import contradictions, open_picture, read_label, read_raws, recognise

# ---------------------------------------------------------------------------- reading


def formats_of(table, *files):
    return recognise(read_raws(files), table)[0]


FORMATS = {
    'index.png': lambda a: Image.fromarray(a),
    'index.bmp': lambda a: Image.fromarray(a),
    'index.tif': lambda a: Image.fromarray(a),
    'palette.png': lambda a: palette_picture(a, FIVE.colours),
    'palette_without_meaning.png': lambda a: palette_picture(a, [(9, i, 250) for i in range(5)]),
    'palette_other_order.png': lambda a: palette_picture(4 - a, FIVE.colours[::-1]),
    'palette.bmp': lambda a: palette_picture(a, FIVE.colours),
    'palette_grey.png': lambda a: palette_picture(4 - a, [(4 - i,) * 3 for i in range(5)]),
    'rgb.png': lambda a: Image.fromarray(FIVE.palette[a]),
    'rgb.bmp': lambda a: Image.fromarray(FIVE.palette[a]),
    'rgb.tiff': lambda a: Image.fromarray(FIVE.palette[a]),
    'rgba.png': lambda a: Image.fromarray(FIVE.palette[a]).convert('RGBA'),
    'grey_as_rgb.png': lambda a: Image.fromarray(np.stack([a] * 3, -1)),
    'sixteen.png': lambda a: Image.fromarray(a.astype(np.uint16)),
    'sixteen.tif': lambda a: Image.fromarray(a.astype(np.uint16)),
    'thirtytwo.tif': lambda a: Image.fromarray(a.astype(np.int32)),
    'float.tif': lambda a: Image.fromarray(a.astype(np.float32)),
    'grey_alpha.png': lambda a: Image.fromarray(a).convert('LA'),
}


@pytest.mark.parametrize('name', FORMATS)
def test_every_format_reads_as_the_same_indices(tmp_path, name):
    truth = scene()
    FORMATS[name](truth).save(tmp_path / name)
    label = read_label(tmp_path / name, FIVE)
    assert label.dtype == np.uint8 and (label == truth).all()
    formats = formats_of(FIVE, tmp_path / name)
    assert (read_label(tmp_path / name, FIVE, formats) == truth).all()


@pytest.mark.parametrize('form', ['1', 'L', 'RGB', 'P', 'I;16', '0/1'])
def test_two_class_masks(tmp_path, form):
    truth = scene(2)
    mask = truth if form == '0/1' else truth * 255
    mask = Image.fromarray(mask.astype(np.uint16) if form == 'I;16' else mask)
    mask = mask if form in ('0/1', 'I;16') else mask.convert(form)
    mask.save(tmp_path / 'm.png')
    assert (read_label(tmp_path / 'm.png', TWO_CLASSES) == truth).all()
    odd = ClassTable(('a', 'b'), ((0, 0, 9), (255, 0, 0)), ('scored',) * 2)  # other colours
    if form != 'P':
        assert (read_label(tmp_path / 'm.png', odd) == truth).all()


def test_255_is_no_class(tmp_path):
    truth = scene()
    truth[:5] = 255
    Image.fromarray(truth).save(tmp_path / 'a.png')
    assert (read_label(tmp_path / 'a.png', FIVE) == truth).all()
    two = scene(2)
    two[:20] = 255  # more of it than of the foreground
    Image.fromarray(two).save(tmp_path / 'b.png')
    assert (read_label(tmp_path / 'b.png', TWO_CLASSES) == two).all()
    sparse = np.full((20, 20), 255, np.uint8)
    sparse[3, 3:6] = 0, 1, 2
    Image.fromarray(sparse).save(tmp_path / 'c.png')
    assert (read_label(tmp_path / 'c.png', CAMVID) == sparse).all()


def test_grey_colours_in_a_colour_mask(tmp_path):
    """CamVid's Sky is grey and its Void black: a mask of both alone is no grey index picture."""
    truth = np.where(scene(2) == 1, 0, 11).astype(np.uint8)
    Image.fromarray(CAMVID.palette[truth]).save(tmp_path / 'a.png')
    assert (read_label(tmp_path / 'a.png', CAMVID) == truth).all()
    Image.new('RGB', (8, 8)).save(tmp_path / 'black.png')  # Void as a colour, Sky as an index
    Image.fromarray(CAMVID.palette[scene(11)]).save(tmp_path / 'scene.png')
    Image.fromarray(np.stack([scene(11)] * 3, -1)).save(tmp_path / 'grey.png')
    black = tmp_path / 'black.png'
    for other, value in (('scene.png', 11), ('grey.png', 0)):  # the rest of the set decides
        formats = formats_of(CAMVID, black, tmp_path / other)
        assert (read_label(black, CAMVID, formats) == value).all()
    assert (read_label(black, CAMVID) == 0).all()


def test_grey_levels_of_the_table(tmp_path):
    grey = ClassTable(tuple('abc'), ((0,) * 3, (128,) * 3, (255,) * 3), ('scored',) * 3)
    truth = scene(3)
    Image.fromarray(grey.palette[truth][..., 0]).save(tmp_path / 'a.png')
    assert (read_label(tmp_path / 'a.png', grey) == truth).all()
    truth[truth == 1] = 0  # 0 and 255: 255 as no class would leave nothing but the first class
    Image.fromarray(grey.palette[truth][..., 0]).save(tmp_path / 'a.png')
    assert (read_label(tmp_path / 'a.png', grey) == truth).all()


def test_one_value_alone_is_an_index(tmp_path):
    """Black is the colour of CamVid's Void, but neither zeros nor one palette entry tell that."""
    zeros = np.zeros((4, 4), np.uint8)
    Image.fromarray(zeros).save(tmp_path / 'grey.png')
    palette_picture(zeros, [(0, 0, 0), (128, 0, 0)]).save(tmp_path / 'palette.png')
    for name in ('grey.png', 'palette.png'):
        assert (read_label(tmp_path / name, CAMVID) == 0).all()


def four_bit_tiff(path):
    tags = {256: 4, 257: 2, 258: 4, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}
    body = b''.join(struct.pack('<HHII', tag, 3, 1, value) for tag, value in tags.items())
    head = struct.pack('<2sHI', b'II', 42, 12) + b'\x01\x21\x01\x21'
    path.write_bytes(head + struct.pack('<H', len(tags)) + body + struct.pack('<I', 0))


BAD_LABELS = {
    'index outside': (
        save(lambda: corner(scene(), 7)),
        ['value 7', 'row 7, column 9', '0..4', 'nearest is 4'],
    ),
    'unknown colour': (
        save(lambda: corner(FIVE.palette[scene()], (199, 33, 30))),
        ['#C7211E', 'row 7, column 9', 'wall', '3 units'],
    ),
    'alpha': (
        save(lambda: corner(np.dstack([FIVE.palette[scene()], scene() * 0 + 255]), 100)),
        ['alpha 100', 'row 7, column 9'],
    ),
    'cmyk': (lambda p: colour(0).convert('CMYK').save(p, 'TIFF'), ['CMYK']),
    '16-bit rgb': (lambda p: png(p, 3, 2, 16, 2, [bytes(range(18))] * 2), ['RGB;16B']),
    '4-bit tiff': (four_bit_tiff, ['4 bits a pixel']),
    '4-bit grey': (lambda p: png(p, 4, 2, 4, 0, [b'\x01\x21'] * 2), ['4 bits a pixel']),
    'fractions': (
        lambda p: Image.fromarray(scene() / np.float32(2)).save(p, 'TIFF'),
        ['fractions'],
    ),
    'negative': (lambda p: Image.fromarray(scene() - np.int32(1)).save(p, 'TIFF'), ['value -1']),
    'instance ids': (
        save(lambda: corner(scene().astype(np.uint16), 26001)),
        ['value 26001', 'row 7, column 9'],
    ),
    'pages': (
        lambda p: Image.fromarray(scene()).save(
            p, 'TIFF', save_all=True, append_images=[Image.fromarray(scene())]
        ),
        ['2 pages'],
    ),
    'zero bytes': (lambda p: p.write_bytes(b''), ['0 bytes']),
    'text': (lambda p: p.write_text('hello'), ['not a picture']),
    'bomb': (lambda p: png(p, 60000, 60000, 8, 0, [b'']), ['declares more than 67108864']),
    'smaller bomb': (lambda p: png(p, 9000, 9000, 8, 0, [b'']), ['9000x9000']),
}


@pytest.mark.parametrize('name', BAD_LABELS)
def test_what_is_no_label_is_named(tmp_path, name):
    write, words = BAD_LABELS[name]
    path = tmp_path / '标签 1.png'
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as e:
        read_label(path, FIVE)
    assert all(w in str(e.value) for w in [*words, str(path)]), e.value
    assert '\n' not in str(e.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_truncated(tmp_path):
    for name in ('a.png', 'a.jpg', 'a.bmp', 'a.tif'):
        photo().save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=f'{name}: (damaged|can not be read|not a picture)'):
            open_picture(tmp_path / name)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif(tmp_path, orientation):
    """Upright is what the tag says: undoing a rotation that PIL made gives the picture back."""
    upright = Image.fromarray(np.kron(scene(5, (12, 18)), np.full((8, 8), 50, np.uint8)))
    T = Image.Transpose
    undo = [
        None,
        T.FLIP_LEFT_RIGHT,
        T.ROTATE_180,
        T.FLIP_TOP_BOTTOM,
        T.TRANSPOSE,
        T.ROTATE_90,
        T.TRANSVERSE,
        T.ROTATE_270,
    ][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ('a.png', 'a.jpg', 'raw.tif', 'lzw.tif'):
        how = {'compression': 'tiff_lzw'} if name[0] == 'l' else {}
        stored = upright if undo is None else upright.transpose(undo)
        stored.save(tmp_path / name, exif=exif, **how)
        if name[0] == 'r' and orientation > 4:  # Pillow scrambles it
            with pytest.raises(InputError, match='raw.tif.*turn'):
                open_picture(tmp_path / name)
            continue
        got = open_picture(tmp_path / name)
        assert got.size == upright.size
        assert np.abs(np.asarray(got, int) - np.asarray(upright, int)).mean() < 3


def test_speed(tmp_path):
    """A third of what two idle cores do, for this one may be busy."""
    label = np.kron(scene(5, (60, 80)), np.ones((6, 6), np.uint8))
    table = numbered_classes(32)
    label = (label + np.arange(480) // 60 * 4).clip(max=31).astype(np.uint8)
    rates = {}
    for name, picture in (('index', label), ('colour', table.palette[label])):
        Image.fromarray(picture).save(tmp_path / f'{name}.png')
        files = [tmp_path / f'{name}.png'] * 100
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            read = pool.map(lambda f: read_label(f, table), files)
            assert all((a == label).all() for a in read)
        rates[name] = 100 / (time.perf_counter() - start)
    assert rates['index'] > 200 and rates['colour'] > 50, rates


# ---------------------------------------------------------------------------- one reading of a set


def reversed_palette(label):
    """The table's colours in an order of their own: entry 4 is the colour of class 0."""
    return palette_picture(4 - label, FIVE.colours[::-1])


def swapped_palette(label):
    """Indices; entries 0 and 1 happen to have the colours of classes 1 and 0, the others none's."""
    return palette_picture(
        label, [FIVE.colours[1], FIVE.colours[0], *[(9, 9, i) for i in range(3)]]
    )


@pytest.mark.parametrize('store, kind', [(reversed_palette, 'colour'), (swapped_palette, 'index')])
def test_a_part_of_a_set_reads_as_the_whole(tmp_path, store, kind):
    """Palette files that hold one class or two can be read in two ways; the whole set in one."""
    labels = [scene(), np.zeros((8, 8), np.uint8), np.full((8, 8), 4, np.uint8), scene(2)]
    files = [tmp_path / f'{i}.png' for i in range(4)]
    for file, label in zip(files, labels):
        store(label).save(file)
    formats = formats_of(FIVE, *files)
    assert formats == {'palette': kind}
    for file, label in zip(files, labels):
        prefer, doubts = recognise(read_raws([file]), FIVE, prefer=formats)
        assert prefer == formats and doubts == []
        assert (read_label(file, FIVE, prefer) == label).all()
    alone = [(read_label(f, FIVE) == label).all() for f, label in zip(files, labels)]
    assert not all(alone)  # without what was found before it would go wrong


def test_what_was_found_before_does_not_bend_what_is_plain(tmp_path):
    palette_picture(scene(), [(9, i, 250) for i in range(5)]).save(tmp_path / 'index.png')
    reversed_palette(scene()).save(tmp_path / 'palette.png')
    Image.fromarray(FIVE.palette[scene()]).save(tmp_path / 'rgb.png')
    Image.fromarray(scene()).save(tmp_path / 'grey.png')
    for name, prefer, formats in (
        ('index.png', {'palette': 'colour'}, {'palette': 'index'}),
        ('rgb.png', {'rgb': 'index'}, {'rgb': 'colour'}),
        ('grey.png', {'grey': 'colour'}, {'grey': 'index'}),
        ('palette.png', {'rgb': 'index'}, {'palette': 'colour'}),
    ):
        assert recognise(read_raws([tmp_path / name]), FIVE, prefer)[0] == formats
    Image.new('RGB', (8, 8)).save(tmp_path / 'black.png')  # CamVid's Void as a colour
    for kind, value in (('colour', 11), ('index', 0)):
        formats = recognise(read_raws([tmp_path / 'black.png']), CAMVID, {'rgb': kind})[0]
        assert formats == {'rgb': kind}
        assert (read_label(tmp_path / 'black.png', CAMVID, formats) == value).all()


# ---------------------------------------------------------------------------- whose number is it?


def rows(*classes):
    """ClassTable of 'name #RRGGBB' each."""
    names, colours = zip(*(c.split(' #') for c in classes))
    colours = tuple(tuple(bytes.fromhex(c)) for c in colours)
    return ClassTable(names, colours, ('scored',) * len(names))


WHITE_FIRST = rows('road #FFFFFF', 'ground #000000')
STORES = {  # a mask of two classes (0, 1) in every kind of file
    '0/255': lambda a: Image.fromarray(a * np.uint8(255)),
    '0/1': lambda a: Image.fromarray(a),
    '0/1 of 16 bits': lambda a: Image.fromarray(a.astype(np.uint16)),
    '0/255 of 16 bits': lambda a: Image.fromarray(a * np.uint16(255)),
    '1 bit': lambda a: Image.fromarray(a * np.uint8(255)).convert('1'),
    'RGB 0/255': lambda a: Image.fromarray(np.stack([a * np.uint8(255)] * 3, -1)),
    'RGB 0/1': lambda a: Image.fromarray(np.stack([a] * 3, -1)),
    'grey palette': lambda a: Image.fromarray(a * np.uint8(255)).convert('P'),
    'palette': lambda a: palette_picture(a, [(0, 0, 0), (255, 255, 255)]),
    'palette, white first': lambda a: palette_picture(1 - a, [(255, 255, 255), (0, 0, 0)]),
}


@pytest.mark.parametrize('white', ['first', 'last'])
@pytest.mark.parametrize('store', STORES)
def test_the_rows_colour_decides(tmp_path, store, white):
    """What is white in the label is the white row, wherever that stands in the table."""
    truth, files = [scene(2), np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)], []
    table, road = (WHITE_FIRST, 0) if white == 'first' else (rows('a #000000', 'b #FFFFFF'), 1)
    for i, label in enumerate(truth):
        files.append(tmp_path / f'{i}.png')
        STORES[store](label).save(files[-1])
    raws = read_raws(files)
    formats, _ = recognise(raws, table)
    assert [*contradictions(raws, table, formats)] == []
    for file, label in zip(files, truth):
        assert (read_label(file, table, formats) == np.where(label == 1, road, 1 - road)).all()


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 1, 0, 2), (1, 0, 3, 2)])
@pytest.mark.parametrize('greys', [(0, 1, 2, 3), (0, 8, 12, 15), (0, 85, 170, 255)])
def test_a_table_of_greys_says_which_is_which(tmp_path, greys, order):
    """Rows in any order, and 255 no class where no row has it."""
    table = rows(*(f'class{greys[k]} #{greys[k] * 0x10101:06X}' for k in order))
    truth = np.array(greys, np.uint8)[scene(4)]
    truth[:4] = 255
    for name, store in (
        ('L', truth),
        ('RGB', np.stack([truth] * 3, -1)),
        ('I;16', truth.astype(np.uint16)),
    ):
        Image.fromarray(store).save(tmp_path / 'a.png')
        label = read_label(tmp_path / 'a.png', table, formats_of(table, tmp_path / 'a.png'))
        named = np.array([int(n[5:]) for n in table.names] + [255] * 252)
        assert (named[label] == truth).all(), name


CAR = rows('car #FF0000', 'ground #000000')
SKY = rows('sky #4682B4', 'road #804080', 'ground #000000')
UNSURE = {  # name: (table, label of two classes or three -> picture, words)
    '0/1': (CAR, STORES['0/1'], ['value 0', 'ground, #000000', 'number of car']),
    '0/255': (CAR, STORES['0/255'], ['value 0', 'ground', 'number of car']),
    '1 bit': (CAR, STORES['1 bit'], ['value 0', 'ground', 'number of car']),
    'RGB 0/1': (CAR, STORES['RGB 0/1'], ['value 0', 'ground', 'number of car']),
    'white alone': (rows('road #FFFFFF', 'car #FF0000'), STORES['0/255'], ['value 255', 'of road']),
    'white alone, 1 bit': (rows('road #FFFFFF', 'car #FF0000'), STORES['1 bit'], ['of road']),
    'two of three': (SKY, STORES['0/1'], ['value 0', 'ground', 'number of sky']),
    'three': (SKY, Image.fromarray, ['value 0', 'ground', 'number of sky']),
    'palette of other colours': (
        SKY,
        lambda a: palette_picture(a, [(128, 64, 128), (9, 9, 9), (7, 7, 7)]),
        ['value 0', 'road, #804080', 'number of sky'],
    ),
    '255 beside 0 and 1': (
        WHITE_FIRST,
        lambda a: corner(a, 255),
        ['value 255', 'road, #FFFFFF', 'number of no class'],
    ),
}


@pytest.mark.parametrize('name', UNSURE)
def test_where_row_and_value_disagree_it_is_asked(tmp_path, name):
    table, store, words = UNSURE[name]
    store(scene(3 if name in ('three', 'palette of other colours') else 2)).save(tmp_path / 'a.png')
    raws = read_raws([tmp_path / 'a.png'])
    (line,) = contradictions(raws, table, recognise(raws, table)[0])
    assert all(w in line for w in [*words, 'a.png', 'which is it?', 'Order the class table'])
    assert '\n' not in line
    # what the line says, done to the letter: another colour for that row, and nothing is unsure
    told = ((0, 0, 0), (255,) * 3, (128, 64, 128))
    colours = tuple((1, 200, i) if c in told else c for i, c in enumerate(table.colours))
    other = ClassTable(table.names, colours, table.roles)
    assert [*contradictions(raws, other, recognise(raws, other)[0])] == []


def test_usual_tables_are_not_asked_about(tmp_path):
    """Void is black in CamVid, whose 0 is Sky; numbers have the colours that we gave them."""
    labels = {'camvid': (CAMVID, scene(12))}
    labels['numbers'] = numbered_classes(200), scene(12) * np.uint8(16)
    labels['ground first'] = FIVE, scene()
    labels['border'] = rows('a #000000', 'b #FFFFFF'), corner(scene(2), 255)
    for name, (table, label) in labels.items():
        picture = label if isinstance(label, Image.Image) else Image.fromarray(label)
        for store in (lambda p: p, lambda p: p.convert('RGB')):
            store(picture).save(tmp_path / 'a.png')
            raws = read_raws([tmp_path / 'a.png'])
            formats, _ = recognise(raws, table)
            assert [*contradictions(raws, table, formats)] == [], name
            assert (read_label(tmp_path / 'a.png', table, formats) == np.asarray(picture)).all()


# ---------------------------------------------------------------------------- 255 in a palette

VOC = numbered_classes(21).colours
BORDERS = {  # name: (palette, class of index 255 in a table of VOC's colours)
    'of its own colour': ([*VOC, *[(i, 1, 2) for i in range(21, 255)], (224, 224, 192)], 255),
    'left out': (VOC, 255),
    'black, as what fills it up': ([*VOC, *[(0, 0, 0)] * 235], 255),
    'white, as what fills it up': ([*VOC, *[(255,) * 3] * 235], 255),
    'the colour of a row': ([*VOC[:9], *[(i, 1, 2) for i in range(9, 255)], VOC[9]], 9),
}


@pytest.mark.parametrize('name', BORDERS)
def test_255_in_a_palette(tmp_path, name):
    palette, border = BORDERS[name]
    truth, border_alone = scene(9), np.full((8, 8), 255, np.uint8)
    truth[:4] = 255
    table = rows(*(f'{i} #{r:02X}{g:02X}{b:02X}' for i, (r, g, b) in enumerate(VOC[::-1])))
    for i, label in enumerate((truth, border_alone)):
        palette_picture(label, palette).save(tmp_path / f'{i}.png')
    formats = formats_of(table, tmp_path / '0.png', tmp_path / '1.png')
    expected = np.where(truth == 255, 255 if border == 255 else 20 - border, 20 - truth.astype(int))
    assert formats == {'palette': 'colour'}
    assert (read_label(tmp_path / '0.png', table, formats) == expected).all()
    assert {*np.unique(read_label(tmp_path / '1.png', table, formats))} == {expected[0, 0]}


@pytest.mark.parametrize('n', [3, 4, 12])
def test_numbers_times_255_that_ran_over(tmp_path, n):
    """uint8 keeps 255 of 1 x 255 and 254 of 2 x 255: the numbers are still to be told."""
    labels, files = [scene(n), scene(2), np.zeros((8, 8), np.uint8)], []
    for i, label in enumerate(labels):
        files.append(tmp_path / f'{i}.png')
        Image.fromarray(label * np.uint8(255)).save(files[-1])
    for table in (numbered_classes(n), CAMVID):
        formats = formats_of(table, *files)
        for file, label in zip(files, labels):
            assert (read_label(file, table, formats) == label).all()


# ---------------------------------------------------------------------------- labels of two kinds


def test_a_file_of_another_kind_than_the_sample(tmp_path):
    """A training reads 500 labels of a large set first; one like none of them is not guessed at."""
    Image.fromarray(scene()).save(tmp_path / 'grey.png')
    palette_picture(scene(), FIVE.colours).save(tmp_path / 'palette.png')
    formats = formats_of(FIVE, tmp_path / 'grey.png')
    with pytest.raises(InputError, match='palette.png: a palette label.*grey.*alike'):
        read_label(tmp_path / 'palette.png', FIVE, formats)
    assert (read_label(tmp_path / 'palette.png', FIVE) == scene()).all()


# ---------------------------------------------------------------------------- pictures

RAMP = np.arange(20 * 16).reshape(20, 16) * 200  # 0 to 63800
DEEP = {  # name: (values, their type's range)
    'png': (RAMP.astype(np.uint16), (0, 65535)),
    'tif': (RAMP.astype(np.uint16), (0, 65535)),
    'int.tif': (RAMP.astype(np.int32) * 3 - 500, (-500, 190_900)),  # of its own: int32 is too wide
    'unit.tif': ((RAMP / 90_000).astype(np.float32), (0, 1)),
    'float.tif': ((RAMP / 7 - 30).astype(np.float32), (-30, 63800 / 7 - 30)),
}


@pytest.mark.parametrize('intensity', [EIGHT_BITS, (200.0, 60000.0), (0.1, 0.5)])
@pytest.mark.parametrize('name', DEEP)
def test_deep_pictures(tmp_path, name, intensity):
    """16 bits of the range given; without one, of the type's; both channels alike."""
    path, (values, own) = tmp_path / f'a.{name}', DEEP[name]
    Image.fromarray(values).save(path)
    low, high = own if intensity == EIGHT_BITS else intensity
    expected = 65535 * ((values.astype(float) - low) / (high - low)).clip(0, 1)
    for channels in (1, 3):
        image = read_image(path, channels, intensity)
        assert image.shape == (20, 16, channels) and image.dtype == np.uint16
        assert np.abs(image - expected[..., None]).max() < 1
    assert (to_bytes(image) == image // 257).all() and to_bytes(image).dtype == np.uint8
    shown = viewable(path)
    assert shown.dtype == np.uint8 and shown.shape == (20, 16, 3)
    assert shown.min() == 0 and shown.max() == 255 and 110 < shown.mean() < 145


def test_one_range_keeps_pictures_apart(tmp_path):
    """Each by its own range, a dark and a bright picture would look the same."""
    for name, value in (('dark', 200), ('bright', 60000)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f'{name}.png')
    for intensity in ((0.0, 60000.0), (0.0, 65535.0), EIGHT_BITS):
        dark, bright = (
            read_image(tmp_path / f'{n}.png', 1, intensity).max().astype(float)
            for n in ('dark', 'bright')
        )
        assert bright / dark == pytest.approx(60000 / 200, rel=0.01)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK'])
def test_pictures_of_eight_bits(tmp_path, mode):
    picture = photo().convert(mode)
    picture.save(tmp_path / 'a', 'TIFF')
    for channels, as_mode in ((1, 'L'), (3, 'RGB')):
        for intensity in (EIGHT_BITS, (10.0, 20.0)):  # a range is for deeper ones
            image = read_image(tmp_path / 'a', channels, intensity)
            assert image.dtype == np.uint8 and to_bytes(image) is image
            expected = np.asarray(picture.convert(as_mode)).reshape(48, 64, channels)
            assert (image == expected).all()
    assert (viewable(tmp_path / 'a') == np.asarray(picture.convert('RGB'))).all()


def test_values_that_are_not_finite(tmp_path):
    for value in (np.nan, np.inf):
        Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / 'c.tif')
        for read in (read_image, viewable):
            with pytest.raises(InputError, match=r'c\.tif.*not finite'):
                read(tmp_path / 'c.tif')


def test_a_pipe_a_loop_and_a_program_are_no_pictures(tmp_path):
    """A pipe would wait for ever, PostScript would start Ghostscript."""
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'loop.png')
    (tmp_path / 'ps.png').write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n')
    (tmp_path / 'folder.png').mkdir()
    for name, found in (
        ('pipe', 'a folder, device or pipe'),
        ('folder', 'a folder, device or pipe'),
        ('loop', 'a symbolic link that leads nowhere'),
        ('ps', 'not a picture'),
    ):
        with pytest.raises(InputError, match=found):
            open_picture(tmp_path / f'{name}.png')
