"""Class tables and their files, colours <-> indices; oracles are np.unique and brute force."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from labelled import FIVE, scene

from seg.classes import (
    CAMVID,
    TWO_CLASSES,
    VIVID,
    ClassTable,
    class_table,
    from_hex,
    indices_to_colours,
    lookup,
    numbered_classes,
    pack,
    shown,
    to_hex,
    unique_labels,
)
from seg.files import InputError
from seg.tablefiles import find_classes, read_classes, write_classes


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
    assert (lookup(pack(indices_to_colours(label, table)), table) == label).all()
    every = np.arange(len(table), dtype=np.uint8)[None]
    assert (lookup(pack(table.palette[every]), table) == every).all()


@settings(max_examples=40, deadline=None)
@given(tables(20), arrays(np.uint8, (4, 6, 3)))
def test_unknown_colours_are_found(table, rgb):
    index = lookup(pack(rgb), table)
    for y, x in np.ndindex(4, 6):
        colour = tuple(rgb[y, x].tolist())
        known = colour in table.colours
        assert index[y, x] == (table.colours.index(colour) if known else -1)


GREY, RED = (90, 90, 90), (200, 0, 0)


@pytest.mark.parametrize(
    'names, colours, ground, seen',
    [
        (('Background', 'Foreground'), ((0, 0, 0), (255, 255, 255)), 0, (None, VIVID)),
        (('good', 'defect'), ((0, 0, 0), RED), 0, (None, RED)),  # black of two
        (('cell', 'bg'), (GREY, (255, 255, 255)), 1, (VIVID, None)),
        (('road', 'grass'), (GREY, RED), None, (GREY, RED)),
        (('background', 'a', 'b'), ((0, 0, 0), GREY, RED), 0, (None, GREY, RED)),
        (('class 0', 'a', 'b'), ((0, 0, 0), GREY, RED), None, ((0, 0, 0), GREY, RED)),
        (('a', 'Void'), (GREY, (0, 0, 0)), None, (VIVID, (0, 0, 0))),
    ],
)
def test_how_people_see_a_table(names, colours, ground, seen):
    """None: transparent."""
    roles = ['void' if name == 'Void' else 'scored' for name in names]
    table = ClassTable(names, colours, tuple(roles))
    assert table.ground == ground
    for (*colour, alpha), wanted in zip(table.display.tolist(), seen):
        assert alpha == 255 * (wanted is not None) and (not alpha or tuple(colour) == wanted)
    assert (CAMVID.display[:, :3] == CAMVID.palette).all() and CAMVID.display.min(0)[3] == 255


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
    got = unique_labels(label)
    for ours, theirs in zip(got, np.unique(label, True, True, True), strict=True):
        assert (ours.ravel() == theirs.ravel()).all()
    assert (got.values[got.inverse] == label).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (5, 6, 3), elements=st.sampled_from([0, 1, 128, 255])))
def test_unique_colours_are_numpys(rgb):
    got = unique_labels(rgb)
    theirs = np.unique(rgb.reshape(-1, 3), True, True, True, axis=0)
    for ours, other in zip(got, theirs, strict=True):
        assert (ours.reshape(other.shape) == other).all()
    assert (got.values[got.inverse] == rgb).all()
    y, x = divmod(got.index, 6)
    assert (rgb[y, x] == got.values).all()


def test_the_articles_examples():
    got = unique_labels([1, 2, 5, 3, 4, 3])
    assert got.values.tolist() == [1, 2, 3, 4, 5] and got.index.tolist() == [0, 1, 3, 4, 2]
    assert got.inverse.tolist() == [0, 1, 4, 2, 3, 2] and got.counts.tolist() == [1, 1, 2, 1, 1]
    assert unique_labels([[2, 2], [0, 2]]).counts.tolist() == [1, 3]
    assert to_hex((128, 0, 64)) == '#800040' and from_hex('#800040') == (128, 0, 64)
    assert [to_hex(c) for c in unique_labels(FIVE.palette[scene()]).values] == sorted(
        map(to_hex, FIVE.colours)
    )
    for bad in ('#80004', '80004g', '#8000400', ''):
        with pytest.raises(InputError, match='RRGGBB'):
            from_hex(bad)


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
    t = read_classes(tmp_path / 'classes.csv')
    assert t.names == ('天空', '路', '边') and t.colours[1] == (4, 5, 6) and t.scored == [0, 1]
    t = read_classes(tmp_path / 'class_dict.csv')
    assert t.names == ('Animal', 'Void') and t.roles == ('scored', 'void')
    t = read_classes(tmp_path / 'label_colors.txt')
    assert t.names[1] == 'Traffic Cone' and t.colours[1] == (192, 0, 128) and t.roles[2] == 'void'
    assert read_classes(tmp_path / 'semi.csv').colours == ((1, 2, 3), (1, 2, 4))
    assert find_classes(tmp_path / 'no', tmp_path) == tmp_path / 'classes.csv'
    (tmp_path / 'classes.csv').unlink()
    assert find_classes(tmp_path).name == 'class_dict.csv' and find_classes('/nowhere') is None


@settings(max_examples=20, deadline=None)
@given(tables(255))
def test_written_tables_read_back(table):
    table = ClassTable(tuple(f'a "{n}", ü' for n in table.names), table.colours, table.roles)
    with tempfile.TemporaryDirectory() as d:
        write_classes(Path(d) / 'classes.csv', table)
        assert read_classes(Path(d) / 'classes.csv') == table
        with pytest.raises(InputError, match='exists'):
            write_classes(Path(d) / 'classes.csv', table)


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
        read_classes(tmp_path / 'classes.csv')


def test_class_file_in_another_encoding(tmp_path):
    (tmp_path / 'classes.csv').write_bytes('天空,1,2,3\n'.encode('gbk'))
    with pytest.raises(InputError, match='UTF-8'):
        read_classes(tmp_path / 'classes.csv')
    with pytest.raises(InputError, match='no.csv'):
        read_classes(tmp_path / 'no.csv')


def test_tables_for_a_number_of_classes():
    """CamVid's for 12 and 13 in the article's own functions; by number alone no class is void."""
    for n in (12, 13):
        assert class_table(n).names == CAMVID.names[:n] and class_table(n).scored == [*range(11)]
    assert class_table(2) == class_table(1) == numbered_classes(1) == TWO_CLASSES
    for n in (3, 11, 12, 13, 14, 255):
        table = numbered_classes(n)
        assert len(table) == n and table.scored == [*range(n)] and len({*table.colours}) == n
        assert not {*table.names} & {*CAMVID.names}
        assert (class_table(n) == table) == (n not in (12, 13))
    # Pascal VOC's, as its development kit lists them
    assert numbered_classes(16).colours[1:4] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert numbered_classes(16).colours[15] == (192, 128, 128)


# ---------------------------------------------------------------------------- in a model file

WELL = {'names': ['a', 'b'], 'colours': [[0, 0, 0], [1, 2, 3]], 'roles': ['scored', 'void']}


def with_name(name):
    return WELL | {'names': ['a', name]}


# name: (what a model file holds, words of the error)
FAULTY = {
    'all void': (WELL | {'roles': ['void', 'void']}, 'every class is void'),
    'unknown role': (WELL | {'roles': ['scored', 'vold']}, "class 1: .*'vold'"),
    'role of another type': (WELL | {'roles': ['scored', ['void']]}, 'class 1: .*role'),
    'too few names': (WELL | {'names': ['a']}, 'found 1, 2 and 2'),
    'too many roles': (WELL | {'roles': ['scored'] * 3}, 'found 2, 2 and 3'),
    'no class': ({'names': [], 'colours': [], 'roles': []}, 'empty table'),
    '256 classes': (
        {
            'names': [*map(str, range(256))],
            'colours': [[i, 0, 0] for i in range(256)],
            'roles': ['scored'] * 256,
        },
        '1 to 255 classes, found 256',
    ),
    'colour of 256': (WELL | {'colours': [[0, 0, 0], [1, 2, 256]]}, 'class 1: .*0..255'),
    'negative colour': (WELL | {'colours': [[0, 0, 0], [1, 2, -1]]}, 'class 1: .*0..255'),
    'fraction of a colour': (WELL | {'colours': [[0, 0, 0], [1, 2, 0.5]]}, 'class 1: .*0..255'),
    'colour of two': (WELL | {'colours': [[0, 0, 0], [1, 2]]}, 'class 1: .*0..255'),
    'colour as text': (WELL | {'colours': [[0, 0, 0], '123']}, 'class 1: .*0..255'),
    'one colour twice': (WELL | {'colours': [[1, 2, 3]] * 2}, 'class 1: colour #010203.*twice'),
    'one name twice': (with_name('a'), 'class 1: name a.*twice'),
    'no name': (with_name(' '), 'class 1: .*1 to 100'),
    'number for a name': (with_name(7), 'class 1: .*1 to 100'),
    'name of 101': (with_name('x' * 101), 'class 1: .*1 to 100'),
    'name of 2 million': (with_name('x' * 2_000_000), 'class 1: .*1 to 100'),
    'half a character': (with_name('a\ud800'), r'class 1: .*a\\ud800'),
    'escape sequence': (with_name('\x1b[2Ja'), r'class 1: .*\\x1b\[2J'),
    'C1 control': (with_name('\x9b2J'), r'class 1: .*\\x9b'),
    'two lines': (with_name('a\nb'), r'class 1: .*a\\nb'),
    'written backwards': (with_name('a\u202eb'), r'class 1: .*a\\u202eb'),
    'a list': ([1, 2], 'no list, no list and no list'),
    'names alone': ({'names': ['a', 'b']}, 'found 2, no list and no list'),
    'nothing': (None, 'no list'),
}


def in_one_clean_line(error):
    text = str(error.value)
    assert len(text) < 300 and text.isprintable(), ascii(text)


@pytest.mark.parametrize('name', FAULTY)
def test_a_table_in_a_model_is_as_strict_as_a_file(name, tmp_path):
    held, words = FAULTY[name]
    with pytest.raises(InputError, match=f'net.hdf5.*{words}') as e:
        ClassTable.from_dict(json.loads(json.dumps(held)), 'net.hdf5')
    in_one_clean_line(e)
    try:
        columns = zip(held['names'], held['colours'], held['roles'], strict=True)
        lines = [','.join(map(str, (n, *c, r))) for n, c, r in columns]
        (tmp_path / 'classes.csv').write_text('\n'.join(lines), 'utf-8')
    except (KeyError, TypeError, ValueError):
        return
    if name in ('colour as text', 'number for a name'):  # in a CSV all is text
        return
    with pytest.raises(InputError, match='classes.csv') as e:
        read_classes(tmp_path / 'classes.csv')
    in_one_clean_line(e)


@settings(max_examples=20, deadline=None)
@given(tables(255))
def test_a_table_survives_a_model_file(table):
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_names_of_any_script_and_of_some_length(tmp_path):
    names = ('天' * 100, 'می‌خواهم', '👩‍🚒', "Don't know", 'é\u0301')
    table = ClassTable(names, numbered_classes(5).colours, ('scored',) * 5)
    write_classes(tmp_path / 'classes.csv', table)
    assert read_classes(tmp_path / 'classes.csv') == ClassTable.from_dict(table.to_dict()) == table


def test_what_is_shown_is_short_and_clean():
    assert shown('abc') == 'abc' and shown('x' * 100, 24) == 'x' * 23 + '…'
    assert shown('a\x1b[31m\r\u2028') == r'a\x1b[31m\r\u2028'
    assert shown('天空 👩‍🚒') == '天空 👩‍🚒'


@pytest.mark.parametrize(
    'content',
    [
        'a' * 5000 + ',1,2,3',
        'a,' + '1' * 900 + ',2,3',
        'a,' + '1' * 5000 + ',2,3',
        'a,1,2,3\n' * 200_000,
    ],
)
def test_class_files_that_are_none(tmp_path, content):
    (tmp_path / 'classes.csv').write_text(content)
    with pytest.raises(InputError, match='classes.csv') as e:
        read_classes(tmp_path / 'classes.csv')
    in_one_clean_line(e)


def test_a_pipe_is_no_class_file(tmp_path):
    """It would be read for ever."""
    os.mkfifo(tmp_path / 'classes.csv')
    with pytest.raises(InputError, match='classes.csv.*regular file'):
        read_classes(tmp_path / 'classes.csv')


def test_camvids_classes_are_segnets():
    """The names and colours of the SegNet tutorial, by index."""
    assert dict(enumerate(zip(CAMVID.names, map(to_hex, CAMVID.colours)))) == {
        0: ('Sky', '#808080'),
        1: ('Building', '#800000'),
        2: ('Pole', '#C0C080'),
        3: ('Road', '#804080'),
        4: ('Pavement', '#3C28DE'),
        5: ('Tree', '#808000'),
        6: ('SignSymbol', '#C08080'),
        7: ('Fence', '#404080'),
        8: ('Car', '#400080'),
        9: ('Pedestrian', '#404000'),
        10: ('Bicyclist', '#0080C0'),
        11: ('Void', '#000000'),
        12: ('(never occurs)', '#FFFFFF'),
    }


def test_places_where_no_table_can_be_written(tmp_path):
    (tmp_path / 'a.txt').write_text('')
    for place in (tmp_path / 'a.txt' / 'x.csv', tmp_path / ('a' * 300), tmp_path):
        with pytest.raises(InputError, match='class table not written'):
            write_classes(place, numbered_classes(3))
