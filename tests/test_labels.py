"""labels.py: every format reads alike, broken data sets are named, clean ones pass.

Oracles are np.unique, PIL and brute force; the scenes are drawn here.
"""

import json
import os
import resource
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import seg.check as C
import seg.readers as L
from seg.classes import CAMVID, TWO_CLASSES, ClassTable
from seg.files import InputError

FIVE = ClassTable(
    ('ground', 'wall', 'roof', 'tree', '天空'),
    ((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (230, 220, 40)),
    ('scored',) * 5,
)


def scene(n=5, size=(48, 64), seed=0):
    """uint8 (H, W): a ground of class 0 and two boxes of every other class."""
    rng, label = np.random.default_rng(seed), np.zeros(size, np.uint8)
    for c in [*range(1, n), *range(1, n)]:
        y, x = rng.integers(0, size[0] - 10), rng.integers(0, size[1] - 14)
        label[y : y + 10, x : x + 14] = c
    return label


def photo(seed=0, size=(48, 64)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def palette_picture(label, colours):
    p = Image.fromarray(label).convert('P')
    p.putdata(label.ravel().tolist()) if not (np.asarray(p) == label).all() else None
    p.putpalette(np.array(colours, np.uint8).ravel().tolist())
    return p


def png(path, width, height, depth, kind, rows):
    """A PNG of any bit depth, by hand: PIL writes only some. `rows` are packed bytes."""

    def chunk(name, data):
        crc = struct.pack('>I', zlib.crc32(name + data))
        return struct.pack('>I', len(data)) + name + data + crc

    head = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(b''.join(b'\0' + r for r in rows))
    Path(path).write_bytes(
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', body) + chunk(b'IEND', b'')
    )


def index(i):
    return Image.fromarray(scene(seed=i))


def colour(i):
    return Image.fromarray(FIVE.palette[scene(seed=i)])


def hard(i):
    return Image.fromarray(scene(2, seed=i) * np.uint8(255))


def soft(picture):
    """Anti-aliased: turned a little, three times as large, and averaged."""
    big = picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.NEAREST)
    return big.rotate(7).resize(picture.size, Image.Resampling.BOX)


def write_set(folder, label=index, n=4, name='{}.png'):
    """Folder in CamVid layout, n training and 2 validation pairs; label(i) draws."""
    k = 0
    for split, count in (('train', n), ('val', 2)):
        for sub in (split, split + 'annot'):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            photo(k).save(folder / split / name.format(k))
            label(k).save(folder / f'{split}annot' / name.format(k))
            k += 1
    return folder


# ---------------------------------------------------------------------------- reading

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
    label = L.read_label(tmp_path / name, FIVE)
    assert label.dtype == np.uint8 and (label == truth).all()
    kinds = L.recognise([tmp_path / name], FIVE)
    assert (L.read_label(tmp_path / name, FIVE, format=kinds) == truth).all()


@pytest.mark.parametrize('form', ['1', 'L', 'RGB', 'P', 'I;16', '0/1'])
def test_two_class_masks(tmp_path, form):
    truth = scene(2)
    mask = truth if form == '0/1' else truth * 255
    mask = Image.fromarray(mask.astype(np.uint16) if form == 'I;16' else mask)
    mask = mask if form in ('0/1', 'I;16') else mask.convert(form)
    mask.save(tmp_path / 'm.png')
    assert (L.read_label(tmp_path / 'm.png', TWO_CLASSES) == truth).all()
    odd = ClassTable(('a', 'b'), ((0, 0, 9), (255, 0, 0)), ('scored',) * 2)  # other colours
    if form != 'P':
        assert (L.read_label(tmp_path / 'm.png', odd) == truth).all()
        assert (L.read_label(tmp_path / 'm.png', CAMVID, two_class=True) == truth).all()


def test_255_is_no_class(tmp_path):
    truth = scene()
    truth[:5] = 255
    Image.fromarray(truth).save(tmp_path / 'a.png')
    assert (L.read_label(tmp_path / 'a.png', FIVE) == truth).all()
    two = scene(2)
    two[:20] = 255  # more of it than of the foreground
    Image.fromarray(two).save(tmp_path / 'b.png')
    assert (L.read_label(tmp_path / 'b.png', TWO_CLASSES) == two).all()
    sparse = np.full((20, 20), 255, np.uint8)
    sparse[3, 3:6] = 0, 1, 2
    Image.fromarray(sparse).save(tmp_path / 'c.png')
    assert (L.read_label(tmp_path / 'c.png', CAMVID) == sparse).all()


def test_grey_colours_in_a_colour_mask(tmp_path):
    """CamVid's Sky is grey and its Void black: a mask of both alone is no grey index picture."""
    truth = np.where(scene(2) == 1, 0, 11).astype(np.uint8)
    Image.fromarray(CAMVID.palette[truth]).save(tmp_path / 'a.png')
    assert (L.read_label(tmp_path / 'a.png', CAMVID) == truth).all()
    Image.new('RGB', (8, 8)).save(tmp_path / 'black.png')  # Void as a colour, Sky as an index
    Image.fromarray(CAMVID.palette[scene(11)]).save(tmp_path / 'scene.png')
    Image.fromarray(np.stack([scene(11)] * 3, -1)).save(tmp_path / 'grey.png')
    black = tmp_path / 'black.png'
    for other, value in (('scene.png', 11), ('grey.png', 0)):  # the rest of the set decides
        kinds = L.recognise([black, tmp_path / other], CAMVID)
        assert (L.read_label(black, CAMVID, format=kinds) == value).all()
    assert (L.read_label(black, CAMVID) == 0).all()


def test_grey_levels_of_the_table(tmp_path):
    grey = ClassTable(tuple('abc'), ((0,) * 3, (128,) * 3, (255,) * 3), ('scored',) * 3)
    truth = scene(3)
    Image.fromarray(grey.palette[truth][..., 0]).save(tmp_path / 'a.png')
    assert (L.read_label(tmp_path / 'a.png', grey) == truth).all()
    truth[truth == 1] = 0  # 0 and 255: 255 as no class would leave nothing but the first class
    Image.fromarray(grey.palette[truth][..., 0]).save(tmp_path / 'a.png')
    assert (L.read_label(tmp_path / 'a.png', grey) == truth).all()


def test_one_value_alone_is_an_index(tmp_path):
    """Black is the colour of CamVid's Void, but neither zeros nor one palette entry tell that."""
    zeros = np.zeros((4, 4), np.uint8)
    Image.fromarray(zeros).save(tmp_path / 'grey.png')
    palette_picture(zeros, [(0, 0, 0), (128, 0, 0)]).save(tmp_path / 'palette.png')
    for name in ('grey.png', 'palette.png'):
        assert (L.read_label(tmp_path / name, CAMVID) == 0).all()


@st.composite
def tables(draw, most=256):
    n = draw(st.integers(1, most))
    packed = draw(st.lists(st.integers(0, 2**24 - 1), min_size=n, max_size=n, unique=True))
    colours = tuple((p >> 16, p >> 8 & 255, p & 255) for p in packed)
    return ClassTable(tuple(map(str, range(n))), colours, ('scored',) * n)


@settings(max_examples=60, deadline=None)
@given(tables(), st.data())
def test_colours_and_back(table, data):
    label = data.draw(arrays(np.uint8, (5, 7), elements=st.integers(0, len(table) - 1)))
    index, known = L.colours_to_indices(L.indices_to_colours(label, table), table)
    assert known.all() and (index == label).all()
    every = np.arange(len(table), dtype=np.uint8)[None]
    index, known = L.colours_to_indices(table.palette[every], table)
    assert known.all() and (index == every).all()


@settings(max_examples=40, deadline=None)
@given(tables(20), arrays(np.uint8, (4, 6, 3)))
def test_unknown_colours_are_found(table, rgb):
    index, known = L.colours_to_indices(rgb, table)
    for y, x in np.ndindex(4, 6):
        colour = tuple(rgb[y, x].tolist())
        assert known[y, x] == (colour in table.colours)
        assert index[y, x] == (table.colours.index(colour) if known[y, x] else 255)


def save(make):
    return lambda path: make().save(path)


def corner(a, value):
    a = a.copy()
    a[7, 9:12] = value
    return Image.fromarray(a)


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
        L.read_label(path, FIVE)
    assert all(w in str(e.value) for w in [*words, str(path)]), e.value
    assert '\n' not in str(e.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_truncated(tmp_path):
    for name in ('a.png', 'a.jpg', 'a.bmp', 'a.tif'):
        photo().save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=f'{name}: (damaged|can not be read|not a picture)'):
            L.open_picture(tmp_path / name)


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
                L.open_picture(tmp_path / name)
            continue
        got = L.open_picture(tmp_path / name)
        assert C._glance(tmp_path / name, False).shape == upright.size[::-1]
        assert got.size == upright.size
        assert np.abs(np.asarray(got, int) - np.asarray(upright, int)).mean() < 3


def test_speed(tmp_path):
    """A third of what two idle cores do, for this one may be busy."""
    label = np.kron(scene(5, (60, 80)), np.ones((6, 6), np.uint8))
    table = L.numbered_classes(32)
    label = (label + np.arange(480) // 60 * 4).clip(max=31).astype(np.uint8)
    rates = {}
    for name, picture in (('index', label), ('colour', table.palette[label])):
        Image.fromarray(picture).save(tmp_path / f'{name}.png')
        files = [tmp_path / f'{name}.png'] * 100
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            read = pool.map(lambda f: L.read_label(f, table), files)
            assert all((a == label).all() for a in read)
        rates[name] = 100 / (time.perf_counter() - start)
    assert rates['index'] > 200 and rates['colour'] > 50, rates


# ---------------------------------------------------------------------------- chapter 3


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        st.sampled_from([np.uint8, np.uint16, np.int64]),
        st.tuples(*[st.integers(1, 9)] * 2),
        elements=st.integers(0, 200),
    )
)
def test_unique_is_numpys(label):
    got = L.unique_labels(label)
    for ours, theirs in zip(got, np.unique(label, True, True, True), strict=True):
        assert (ours.ravel() == theirs.ravel()).all()
    assert (got.values[got.inverse] == label).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (5, 6, 3), elements=st.sampled_from([0, 1, 128, 255])))
def test_unique_colours_are_numpys(rgb):
    got = L.unique_labels(rgb)
    theirs = np.unique(rgb.reshape(-1, 3), True, True, True, axis=0)
    for ours, other in zip(got, theirs, strict=True):
        assert (ours.reshape(other.shape) == other).all()
    assert (got.values[got.inverse] == rgb).all()
    y, x = divmod(got.index, 6)
    assert (rgb[y, x] == got.values).all()


def test_the_articles_examples():
    got = L.unique_labels([1, 2, 5, 3, 4, 3])
    assert got.values.tolist() == [1, 2, 3, 4, 5] and got.index.tolist() == [0, 1, 3, 4, 2]
    assert got.inverse.tolist() == [0, 1, 4, 2, 3, 2] and got.counts.tolist() == [1, 1, 2, 1, 1]
    assert L.unique_labels([[2, 2], [0, 2]]).counts.tolist() == [1, 3]
    assert L.to_hex((128, 0, 64)) == '#800040' and L.from_hex('#800040') == (128, 0, 64)
    assert [L.to_hex(c) for c in L.unique_labels(FIVE.palette[scene()]).values] == sorted(
        map(L.to_hex, FIVE.colours)
    )
    for bad in ('#80004', '80004g', '#8000400', ''):
        with pytest.raises(InputError, match='RRGGBB'):
            L.from_hex(bad)


# ---------------------------------------------------------------------------- class tables


def test_class_files(tmp_path):
    files = {
        'classes.csv': '\ufeffname,r,g,b,role\n天空,1,2,3,\n路,4,5,6,scored\n\n边,7,8,9,void\n',
        'class_dict.csv': 'name, r, g, b\r\nAnimal,64,128,64\r\nVoid,0,0,0\r\n',
        'label_colors.txt': '64 128 64\tAnimal\n192 0 128\t\tTraffic Cone\n0 0 0\tVoid\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / 'semi.csv').write_text('name;r;g;b\na;1;2;3\nb;1;2;4\n')
    t = L.read_classes(tmp_path / 'classes.csv')
    assert t.names == ('天空', '路', '边') and t.colours[1] == (4, 5, 6) and t.scored == [0, 1]
    t = L.read_classes(tmp_path / 'class_dict.csv')
    assert t.names == ('Animal', 'Void') and t.roles == ('scored', 'void')
    t = L.read_classes(tmp_path / 'label_colors.txt')
    assert t.names[1] == 'Traffic Cone' and t.colours[1] == (192, 0, 128) and t.roles[2] == 'void'
    assert L.read_classes(tmp_path / 'semi.csv').colours == ((1, 2, 3), (1, 2, 4))
    assert L.find_classes(tmp_path / 'no', tmp_path) == tmp_path / 'classes.csv'
    (tmp_path / 'classes.csv').unlink()
    assert L.find_classes(tmp_path).name == 'class_dict.csv' and L.find_classes('/nowhere') is None


@settings(max_examples=20, deadline=None)
@given(tables(255))
def test_written_tables_read_back(table):
    import tempfile

    table = ClassTable(tuple(f'a "{n}", ü' for n in table.names), table.colours, table.roles)
    with tempfile.TemporaryDirectory() as d:
        L.write_classes(Path(d) / 'classes.csv', table)
        assert L.read_classes(Path(d) / 'classes.csv') == table
        with pytest.raises(InputError, match='exists'):
            L.write_classes(Path(d) / 'classes.csv', table)


@pytest.mark.parametrize(
    'text, words',
    [
        ('', 'empty table'),
        ('name,r,g,b\n', 'empty table'),
        ('name,r,g,b\na,1,2,3\nb,1,2,3\n', 'line 3: colour #010203'),
        ('a,1,2,3\n\na,1,2,4\n', 'line 3: name a'),
        ('a,1,2,300\n', 'line 1'),
        ('a,1,x,3\n', 'line 1'),
        ('name,r,g,b\na,1,2\n', 'line 2'),
        (',1,2,3\n', 'line 1'),
        ('a,1,2,3,vold\n', "line 1.*'vold'"),
        ('name,r,g,b,role\na,1,2,3,void\n', 'every class is void'),
        (
            '\n'.join(f'c{i},{i % 256},{i // 256},0' for i in range(256)),
            '1 to 255 classes, found 256',
        ),
    ],
)
def test_broken_class_files(tmp_path, text, words):
    (tmp_path / 'classes.csv').write_text(text)
    with pytest.raises(InputError, match=f'classes.csv.*{words}'):
        L.read_classes(tmp_path / 'classes.csv')


def test_class_file_in_another_encoding(tmp_path):
    (tmp_path / 'classes.csv').write_bytes('天空,1,2,3\n'.encode('gbk'))
    with pytest.raises(InputError, match='UTF-8'):
        L.read_classes(tmp_path / 'classes.csv')
    with pytest.raises(InputError, match='no.csv'):
        L.read_classes(tmp_path / 'no.csv')


# ---------------------------------------------------------------------------- pairing


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b'')
    return folder


@pytest.mark.parametrize(
    'images, truth',
    [
        (['a.jpg', 'b.png'], ['a.png', 'b.tif']),
        (['a.jpg', 'b 2.JPG'], ['a_mask.png', 'b 2_mask.png']),
        (['0001TP_1.png', '0001TP_2.png'], ['0001TP_1_L.png', '0001TP_2_L.png']),
        (['街.jpg', '路.jpg'], ['街-label.png', '路_gt.png']),
        (['cat_L.png'], ['cat_L_mask.png']),
        (['x_1_leftImg8bit.png'], ['x_1_gtFine_labelIds.png']),
        (['1_sat.jpg'], ['1_mask.png']),
        (['image_1.png', 'image_2.png'], ['label_1.png', 'label_2.png']),
        (['caf\u00e9.png'], ['cafe\u0301.png']),  # one name in the two forms of Unicode
    ],
)
def test_pairs(tmp_path, images, truth):
    touch(tmp_path / 'i', *images, '.DS_Store', 'Thumbs.db', '._a.png', 'notes.txt')
    touch(tmp_path / 'm', *truth, '.DS_Store', 'Thumbs.db', '._a.png')
    (tmp_path / 'i' / 'folder.png').mkdir()
    pairs = L.pair_files(tmp_path / 'i', tmp_path / 'm')
    assert sorted((i.name, m.name) for i, m in pairs) == sorted(zip(images, truth))


def test_patterns(tmp_path):
    touch(tmp_path / 'd [1]', 'a.jpg', 'a_mask.png', 'b.png', 'b_mask.png')
    (tmp_path / 'd [1]').rename(tmp_path / 'd')
    pairs = L.pair_files(f'{tmp_path}/d/*', f'{tmp_path}/d/*_mask.png')
    names = [p.name for pair in pairs for p in pair]
    assert names == ['a.jpg', 'a_mask.png', 'b.png', 'b_mask.png']
    touch(tmp_path / 'e [1]', 'a.jpg')  # a folder whose name looks like a pattern
    assert len(L.list_pictures(tmp_path / 'e [1]')) == 1
    (tmp_path / 'd' / 'round').symlink_to(tmp_path / 'd')
    assert len(L.list_pictures(tmp_path / 'd' / '**' / '*_mask.png')) == 2


@pytest.mark.parametrize(
    'images, truth, words',
    [
        (['a.png', 'b.png'], ['a.png'], r'b\.png: no label in .*m of the same name'),
        (['a.png'], ['a.png', 'scene_12.png'], r'scene_12\.png: no image'),
        (
            ['scene_1.png', 'scene_23.png'],
            ['scene_1.png', 'scene_32.png'],
            r'name is scene_32\.png',
        ),
        (['A.png'], ['a.png'], 'upper and lower case'),
        (['a.png', 'a.jpg'], ['a.png'], r'a\.png: the same name as a\.jpg'),
        (['a.png'], ['a_mask.png', 'a_gt.png'], 'the same name as a_gt.png'),
        ([], ['a.png'], 'found none'),
    ],
)
def test_bad_pairs(tmp_path, images, truth, words):
    with pytest.raises(InputError, match=words):
        L.pair_files(touch(tmp_path / 'i', *images), touch(tmp_path / 'm', *truth))


def test_links(tmp_path):
    touch(tmp_path / 'i', 'a.png')
    (tmp_path / 'i' / 'b.png').symlink_to(tmp_path / 'i' / 'b.png')
    with pytest.raises(InputError, match=r'b\.png: a symbolic link'):
        L.list_pictures(tmp_path / 'i')
    (tmp_path / 'round').symlink_to(tmp_path / 'round')
    with pytest.raises(InputError, match='round: .*symbolic link'):
        L.list_pictures(tmp_path / 'round')
    with pytest.raises(InputError, match='the same files'):
        L.pair_files(touch(tmp_path / 'j', 'a.png'), tmp_path / 'j')


def test_split():
    pairs = [(Path(f'{i}.png'), Path(f'm{i}.png')) for i in range(50)]
    train, val = L.split(pairs, 0.2)
    assert len(val) == 10 and sorted(train + val) == sorted(pairs)
    assert train == sorted(train, key=pairs.index)
    assert L.split(pairs[::-1], 0.2)[1][::-1] == val and L.split(pairs, 0.2, seed=1)[1] != val
    later = L.split(pairs + [(Path('new.png'), Path('m.png'))], 0.2)[1]
    assert len({*later} & {*val}) >= 9
    assert [len(p) for p in L.split(pairs[:2], 0.01)] == [1, 1]
    for bad in (0, 1, -1):
        with pytest.raises(InputError, match='fraction'):
            L.split(pairs, bad)


# ---------------------------------------------------------------------------- the check


def drawn(label, **kwargs):
    return lambda f: write_set(f, label, **kwargs)


def with_file(name, write):
    def build(f):
        write_set(f)
        write(f / name)
        return f

    return build


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def empty(path):
    path.write_bytes(b'')


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(9).save(path.with_suffix('.jpg'), exif=exif)
    path.unlink()


# name: (builder, table, words that an error holds)
BROKEN = {
    '0/255 for thirteen classes': (drawn(hard), CAMVID, ['0 and 255', '--num-class 2', 'has 13']),
    '0/255 as RGB': (drawn(lambda i: hard(i).convert('RGB')), CAMVID, ['0 and 255', 'has 13']),
    '0/1 and 0/255': (
        drawn(lambda i: Image.fromarray(scene(2)) if i else hard(0)),
        TWO_CLASSES,
        ['0.png', '1.png', '0 and 255', 'foreground or no class'],
    ),
    'jpeg': (drawn(colour, name='{}.jpg'), FIVE, ['JPEG', '.jpg', '--repair']),
    'anti-aliased colours': (drawn(lambda i: soft(colour(i))), FIVE, ['anti-aliased', '--repair']),
    'anti-aliased mask': (
        drawn(lambda i: soft(hard(i))),
        TWO_CLASSES,
        ['anti-aliased', '--repair', '0 and 255'],
    ),
    'anti-aliased, no table': (drawn(lambda i: soft(hard(i))), None, ['anti-aliased']),
    'near colours': (
        drawn(lambda i: colour(i).point(lambda v: v + 3)),
        FIVE,
        ['3 units', '--repair'],
    ),
    'unknown colour': (
        with_file(
            'trainannot/1.png', lambda p: corner(FIVE.palette[scene()], (199, 130, 30)).save(p)
        ),
        FIVE,
        ['trainannot/1.png', '#C7821E', 'row 7, column 9', 'nearest is', '--classes'],
    ),
    'value outside': (
        with_file('valannot/4.png', save(lambda: corner(scene(), 9))),
        FIVE,
        ['valannot/4.png', 'value 9', 'row 7, column 9', '0..4'],
    ),
    'counted from 1': (
        drawn(lambda i: index(i).point(lambda v: v + 1)),
        FIVE,
        ['value 5', 'start at 1'],
    ),
    'palette of no table': (
        drawn(lambda i: palette_picture(scene(seed=i), [(i, 9, 9) for i in range(8)])),
        TWO_CLASSES,
        ['value 4', '0..1'],
    ),
    'no label': (with_file('trainannot/1.png', Path.unlink), FIVE, ['train/1.png: no label']),
    'no image': (with_file('train/1.png', Path.unlink), FIVE, ['trainannot/1.png: no image']),
    'case': (
        with_file(
            'trainannot/1.png',
            lambda p: (
                p.rename(p.with_name('A1.png')),
                (p.parents[1] / 'train/1.png').rename(p.parents[1] / 'train/a1.png'),
            ),
        ),
        FIVE,
        ['a1.png: no label', 'A1.png', 'upper and lower case'],
    ),
    'truncated image': (with_file('train/1.png', cut), FIVE, ['train/1.png: damaged']),
    'truncated label': (with_file('trainannot/1.png', cut), FIVE, ['trainannot/1.png: damaged']),
    'empty image': (with_file('train/1.png', empty), FIVE, ['train/1.png: empty, 0 bytes']),
    'empty label': (with_file('trainannot/1.png', empty), FIVE, ['annot/1.png: empty, 0 bytes']),
    'bomb': (
        with_file('train/1.png', lambda p: png(p, 60000, 60000, 8, 2, [b''])),
        FIVE,
        ['train/1.png: declares'],
    ),
    'another size': (
        with_file('trainannot/1.png', save(lambda: Image.new('L', (64, 40)))),
        FIVE,
        ['trainannot/1.png: label of 40x64', '48x64'],
    ),
    'EXIF turns it': (with_file('train/1.png', rotated), FIVE, ['EXIF turns the image', '64x48']),
    'alpha': (
        with_file('trainannot/1.png', save(lambda: Image.new('RGBA', (64, 48), (0,) * 4))),
        FIVE,
        ['trainannot/1.png: alpha 0', 'row 0, column 0'],
    ),
    '16 bits': (
        with_file('trainannot/1.png', save(lambda: corner(scene().astype(np.uint16), 7001))),
        FIVE,
        ['value 7001'],
    ),
    'CMYK label': (
        with_file('trainannot/1.png', lambda p: photo().convert('CMYK').save(p, 'TIFF')),
        FIVE,
        ['trainannot/1.png', 'mode CMYK'],
    ),
    'empty table': (
        with_file('classes.csv', lambda p: p.write_text('name,r,g,b\n')),
        None,
        ['empty table'],
    ),
    'repeated colour': (
        with_file('classes.csv', lambda p: p.write_text('a,1,1,1\nb,1,1,1\n')),
        None,
        ['classes.csv, line 2', '#010101'],
    ),
    'symlink loop': (
        with_file('train/9.png', lambda p: p.symlink_to(p)),
        FIVE,
        ['train/9.png: a symbolic link'],
    ),
    'two of a name': (
        with_file('train/1.jpg', save(photo)),
        FIVE,
        ['1.png: the same name as 1.jpg'],
    ),
    'only void': (drawn(lambda i: Image.new('L', (64, 48), 11)), CAMVID, ['no training pixel']),
    'no valannot': (
        with_file('valannot', lambda p: p.rename(p.with_name('old'))),
        FIVE,
        ['valannot: expected a folder'],
    ),
}


def look(folder, table, **kwargs):
    """The check's result, where what it raises counts as an error."""
    try:
        result = C.check(folder, table=table, **kwargs)
    except InputError as e:
        return {'fit': False, 'errors': [str(e)], 'warnings': []}
    assert json.loads(json.dumps(result))['verdict'] == result['verdict']
    text = C.format_check(result)
    assert text.splitlines()[-1] == f'Verdict: {result["verdict"]}.'
    assert all(line in text for line in [*result['errors'], *result['warnings']])
    return result


@pytest.mark.parametrize('name', BROKEN)
def test_broken_sets_are_named(tmp_path, name):
    build, table, words = BROKEN[name]
    result = look(build(tmp_path / '数据 set'), table)
    assert not result['fit']
    assert any(all(w in line for w in words) for line in result['errors']), result['errors']
    if name not in ('truncated image',):  # the fast part decodes no image
        with pytest.raises(InputError) as e:
            C.check(tmp_path / '数据 set', table=table, fast=True)
        assert str(e.value) in result['errors']


def alike(f):
    write_set(f)
    a = scene(seed=0)
    a[0, 0] = 4
    Image.fromarray(a).save(f / 'trainannot/2.png')


def duplicate(f):
    write_set(f)
    Image.open(f / 'train/0.png').save(f / 'val/4.bmp')
    (f / 'val/4.png').unlink()


def late(f):
    write_set(f, lambda i: Image.fromarray(scene(5 if i > 3 else 4, seed=i)))


def outnumbered(f):
    write_set(f, lambda i: corner(np.zeros((48, 64), np.uint8), 1))


def each_image(change, suffix='.png'):
    def build(f):
        write_set(f)
        for p in f.glob('train/*.png'):
            picture = change(Image.open(p))
            p.unlink()
            picture.save(p.with_suffix(suffix))

    return build


def turned_square(f):
    write_set(f)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(f / 'train/1.png').save(f / 'train/1.jpg', exif=exif)
    (f / 'train/1.png').unlink()


def three_sizes(f):
    write_set(f)
    for i, size in ((1, (32, 32)), (2, (64, 64))):
        photo(i, size).save(f / f'train/{i}.png')
        Image.fromarray(scene(5, size, i)).save(f / f'trainannot/{i}.png')


# name: (builder, table, words that a warning holds)
WARNED = {
    'start at 1': (
        drawn(lambda i: Image.fromarray(scene(4, seed=i) + np.uint8(1))),
        FIVE,
        ['start at 1', 'ground'],
    ),
    'one value': (
        with_file('trainannot/1.png', save(lambda: Image.new('L', (64, 48)))),
        FIVE,
        ['one single value', 'trainannot/1.png'],
    ),
    'labels alike': (alike, FIVE, ['nearly equal', '0.png', '2.png']),
    'in two splits': (duplicate, FIVE, ['in two splits', 'train/0.png', 'val/4.bmp']),
    'late class': (late, FIVE, ['only outside the training', '天空']),
    'absent class': (write_set, L.numbered_classes(6), ['never occur', 'class 5']),
    'one class takes all': (outnumbered, TWO_CLASSES, ['Background', '99.9']),
    'JPEG that kept its values': (
        drawn(lambda i: Image.new('L', (64, 48), 0 if i else 255), name='{}.jpg'),
        TWO_CLASSES,
        ['JPEG'],
    ),
    '16-bit images': (
        each_image(lambda p: Image.fromarray(np.asarray(p)[..., 0] * np.uint16(16))),
        FIVE,
        ['16 bits', '4080'],
    ),
    'CMYK images': (each_image(lambda p: p.convert('CMYK'), '.jpg'), FIVE, ['CMYK', '0.jpg']),
    'RGBA images': (each_image(lambda p: p.convert('RGBA')), FIVE, ['alpha']),
    'EXIF upside down': (turned_square, FIVE, ['EXIF', 'train/1.jpg']),
    'three sizes': (three_sizes, FIVE, ['3 sizes', '--size 48x64']),
    'palette without a table': (
        drawn(lambda i: palette_picture(scene(seed=i), FIVE.colours)),
        None,
        ['palette', 'no class table'],
    ),
    'palette in another order': (
        drawn(lambda i: palette_picture(4 - scene(seed=i), FIVE.colours[::-1])),
        FIVE,
        ['palette', 'colour', 'index'],
    ),
    'two kinds': (
        with_file('trainannot/1.png', lambda p: colour(1).save(p)),
        FIVE,
        ['several kinds', '5 grey', '1 rgb'],
    ),
    'no val': (with_file('val', lambda p: p.rename(p.with_name('old'))), FIVE, ['--val-split']),
}


@pytest.mark.parametrize('name', WARNED)
def test_doubtful_sets_are_warned_of(tmp_path, name):
    build, table, words = WARNED[name]
    build(tmp_path)
    result = look(tmp_path, table)
    assert result['fit'], result['errors']
    assert any(all(w in line for w in words) for line in result['warnings']), result['warnings']
    write_set(tmp_path / 'clean')
    clean = look(tmp_path / 'clean', FIVE)
    assert clean['fit'] and clean['warnings'] == [] and clean['verdict'] == 'fit to train'


def test_a_pair_twice_is_one_warning(tmp_path):
    folder = write_set(tmp_path)
    for sub in ('train', 'trainannot'):
        (folder / sub / '1.png').write_bytes((folder / sub / '0.png').read_bytes())
    result = look(folder, FIVE)
    assert len(result['warnings']) == 1 and 'twice in one split' in result['warnings'][0]


def test_junk_beside_the_data_is_passed_over(tmp_path):
    folder = write_set(tmp_path / '街 景', name='图 {}.png')
    for sub in ('train', 'trainannot'):
        touch(folder / sub, '.DS_Store', 'Thumbs.db', '._图 0.png', 'desktop.ini')
    result = look(folder, FIVE)
    assert result['fit'] and result['warnings'] == []


def test_three_sizes_stop_training_unless_resized(tmp_path):
    three_sizes(tmp_path)
    with pytest.raises(InputError, match='--size'):
        C.check(tmp_path, table=FIVE, fast=True)
    assert C.check(tmp_path, table=FIVE, fast=True, size=(48, 64))['fit']


def test_the_fast_check_reads_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(C, 'FAST_LABELS', 3)
    write_set(tmp_path, n=10)
    corner(scene(), 9).save(tmp_path / 'trainannot' / '1.png')  # not in the sample
    r = C.check(tmp_path, table=FIVE, fast=True)
    assert r['fit'] and r['notes'][0].startswith('3 of 12 labels')
    Image.new('L', (5, 5)).save(tmp_path / 'trainannot' / '1.png')  # but its header is read
    with pytest.raises(InputError, match=r'1\.png: label of 5x5'):
        C.check(tmp_path, table=FIVE, fast=True)


def test_guessed_classes_of_blurred_colours(tmp_path):
    """A guess to look through, not to train on: the main colours, no blend among them."""
    r = look(write_set(tmp_path / 'a', lambda i: soft(colour(i))), None)
    assert not r['fit'] and {c['hex'] for c in r['classes']} <= {*map(L.to_hex, FIVE.colours)}
    near = FIVE.palette[scene()]
    near[:2, ::2] += np.uint8(2)
    r = look(write_set(tmp_path / 'b', lambda i: Image.fromarray(near)), None)
    assert not r['fit'] and {c['hex'] for c in r['classes']} == {*map(L.to_hex, FIVE.colours)}


def test_values_of_8_and_16_bits_are_told_apart(tmp_path):
    folder = write_set(tmp_path, lambda i: corner(scene(seed=i).astype(np.uint16), 255 + i % 2))
    values = {v['value']: v['percent'] for v in look(folder, FIVE)['values']}
    assert values[255] == values[256] == pytest.approx(100 * 3 / (2 * 48 * 64))


def test_counts_and_weights_by_brute_force(tmp_path):
    write_set(tmp_path, lambda i: Image.fromarray(scene(5 if i % 2 or i > 3 else 4, seed=i)))
    r = look(tmp_path, FIVE)
    truth = {
        s: np.stack([np.asarray(Image.open(p)) for p in (tmp_path / f'{s}annot').iterdir()])
        for s in ('train', 'val')
    }
    for c in r['classes']:
        for s, a in truth.items():
            assert c['percent'][s] == pytest.approx(100 * (a == c['index']).mean())
        assert c['files'] == sum((a == c['index']).any((1, 2)).sum() for a in truth.values())
        p = (truth['train'] == c['index']).mean()
        assert r['weights']['1/ln(1.10+p)'][c['index']] == pytest.approx(1 / np.log(1.1 + p))
    rate = [np.mean([(a == i).mean() for a in truth['train'] if (a == i).any()]) for i in range(5)]
    assert r['weights']['median frequency'] == pytest.approx((np.median(rate) / rate).tolist())
    for v in r['values']:
        a = np.asarray(Image.open(v['first_file']))
        assert divmod((a == v['value']).argmax(), 64) == (v['row'], v['column'])


def test_the_table_is_found_or_guessed(tmp_path):
    write_set(tmp_path / 'a', colour)
    r = look(tmp_path / 'a', None)
    assert {c['hex'] for c in r['classes']} == {L.to_hex(c) for c in FIVE.colours} and r['fit']
    L.write_classes(tmp_path / 'a' / 'classes.csv', FIVE)
    r = look(tmp_path / 'a', None)
    assert r['fit'] and ClassTable.from_dict(r['table']) == FIVE and r['warnings'] == []
    own = tmp_path / 'own'
    for i in range(6):
        touch(own / 'pictures'), touch(own / 'masks')
        photo(i).save(own / 'pictures' / f'{i}.jpg')
        hard(i).save(own / 'masks' / f'{i}_mask.png')
    masks = str(own / 'masks' / '*.png')
    r = look(None, None, images=own / 'pictures', labels=masks, val_split=0.3)
    assert r['fit'] and r['table']['names'] == ('Background', 'Foreground')
    assert [s['images'] for s in r['splits'].values()] == [4, 2]
    assert r['format'] == {'grey': '0/255'}
    levels = write_set(tmp_path / 'd', lambda i: Image.fromarray(scene(4) * np.uint8(85)))
    grey = [c['hex'] for c in look(levels, None)['classes']]
    assert grey == ['#000000', '#555555', '#AAAAAA', '#FFFFFF']
    numbered = write_set(tmp_path / 'e', lambda i: Image.fromarray(scene(7, seed=i)))
    assert len(look(numbered, None)['classes']) == 7


def test_where_there_is_no_data_set(tmp_path):
    (tmp_path / 'imgs').mkdir()
    no = tmp_path / 'no'
    for kwargs, words in (
        ({'folder': tmp_path}, 'imgs'),
        ({'folder': no}, 'no such folder'),
        ({'images': tmp_path}, 'both'),
        ({}, 'expected'),
    ):
        with pytest.raises(InputError, match=words):
            C.check(**kwargs)


@pytest.mark.camvid
@pytest.mark.skipif('CAMVID' not in os.environ, reason='CAMVID names no folder')
def test_camvid():
    folder, start = Path(os.environ['CAMVID']), time.process_time()
    r = look(folder, CAMVID)
    assert (time.process_time() - start) / 2 < 8  # of two cores, however busy they are
    rows = [
        line.split('|')[1:-1]
        for line in (folder / 'README.md').read_text().splitlines()
        if line.startswith(('| train |', '| val |'))
    ]
    for split, *shares in rows:
        ours = [f'{c["percent"][split.strip()]:.3f}' for c in r['classes'][:12]]
        assert ours == [s.strip() for s in shares]
    assert r['fit'] and len(rows) == 2
    assert any('(never occurs)' in w for w in r['notes'])
    assert any('360 rows are padded to 368' in n for n in r['notes'])
    assert [[*s.values()] for s in r['splits'].values()] == [[367, 367], [101, 101], [233, 0]]


# ---------------------------------------------------------------------------- repair


REPAIRS = {
    'mask': hard,
    'soft mask': lambda i: soft(hard(i)),
    'colours': colour,
    'near': lambda i: colour(i).point(lambda v: v + 9),
    'jpeg': colour,
    'sixteen': lambda i: Image.fromarray(scene(seed=i).astype(np.uint16)),
    'palette': lambda i: palette_picture(4 - scene(seed=i), FIVE.colours[::-1]),
}


@pytest.mark.parametrize('name', REPAIRS)
def test_repair(tmp_path, name):
    two, table = 'mask' in name, None if 'mask' in name else FIVE
    tolerance = 255 if name in ('jpeg', 'soft mask') else 16
    form = '{}.jpg' if name == 'jpeg' else '{}.png'
    folder = write_set(tmp_path / 'in', REPAIRS[name], name=form)
    before = {p: p.read_bytes() for p in folder.rglob('*.*')}
    done = C.repair(folder, tmp_path / 'out', table, tolerance)
    assert before == {p: p.read_bytes() for p in folder.rglob('*.*')}
    written = sorted((tmp_path / 'out').rglob('*.*'))
    assert len(done) == len(written) == 6
    for job in done:
        got, stored = np.asarray(Image.open(job['out'])), np.asarray(Image.open(job['file']))
        i = int(Path(job['out']).stem)
        truth = scene(2 if two else 5, seed=i)
        assert got.dtype == np.uint8
        if name == 'soft mask':
            assert (got == (stored > 127)).all()
            assert job['snapped'] == ((stored > 0) & (stored < 255)).sum()
        elif name == 'jpeg':
            assert (got == truth).mean() > 0.95 and job['snapped'] > 0
        else:
            assert (got == truth).all()
            assert job['snapped'] == (truth.size if name == 'near' else 0)
        if name in ('mask', 'sixteen'):
            assert job['converted'] == (stored != got).sum()
    with pytest.raises(InputError, match='not an empty folder'):
        C.repair(folder, tmp_path / 'out', table)
    out = C.check(images=folder / 'train', labels=tmp_path / 'out' / 'trainannot', table=table)
    assert out['fit'], out['errors']


def test_repair_refuses(tmp_path):
    folder = write_set(tmp_path / 'in', lambda i: corner(FIVE.palette[scene()], (220, 30, 30)))
    with pytest.raises(InputError, match=r'#DC1E1E at row 7, column 9.*20 units.*tolerance 16'):
        C.repair(folder, tmp_path / 'out', FIVE)
    assert not (tmp_path / 'out').exists()
    assert len(C.repair(folder, tmp_path / 'out', FIVE, tolerance=20)) == 6
    grey = ClassTable(tuple('abc'), ((0,) * 3, (255,) * 3, (128,) * 3), ('scored',) * 3)
    edge = write_set(tmp_path / 'edge', lambda i: corner(grey.palette[scene(2)], 140))
    C.repair(edge, tmp_path / 'edges', grey, tolerance=128)  # a blend of a and b, no c there
    assert {*np.unique(Image.open(tmp_path / 'edges/trainannot/0.png')).tolist()} == {0, 1}
    blurred = write_set(tmp_path / 'soft', lambda i: soft(colour(i)))
    with pytest.raises(InputError, match='guessed.*--classes'):
        C.repair(blurred, tmp_path / 'out2')
    touch(tmp_path / 'two', 'x')
    Image.fromarray(scene()).save(tmp_path / 'two' / 'a.png')
    Image.fromarray(scene()).save(tmp_path / 'two' / 'a.bmp')
    with pytest.raises(InputError, match='two labels'):
        C.repair(tmp_path / 'two', tmp_path / 'out3', FIVE)
    assert not (tmp_path / 'out3').exists()
