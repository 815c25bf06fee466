"""Files: what is written is whole and nobody else's; pictures found, paired and split by name."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import pair_files, touch

from seg import pairing
from seg.files import (
    MARK,
    InputError,
    check_target,
    folders_of,
    is_locked,
    is_ours,
    list_pictures,
    locked,
    make_folder,
    nearest_name,
    read_json,
    refuse_folder,
    remove_parts,
    split,
    unique_names,
    whole_file,
    write_json,
)
from seg.sources import find_pictures

OURS, THEIRS = f'<meta name="generator" content="{MARK}">', 'a letter'

# ---------------------------------------------------------------------------- writing


def write(path, text, **how):
    with whole_file(path, **how) as beside:
        assert beside.parent == path.parent and beside.suffix == path.suffix and beside != path
        beside.write_text(text)


@pytest.mark.parametrize('durable', [True, False])
def test_what_is_ours_is_written_anew(tmp_path, durable):
    path = tmp_path / 'a.txt'
    for text in (OURS, OURS + ' more', THEIRS):
        write(path, text, durable=durable)
        assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def somebodys(path):
    path.write_text(THEIRS)


def marked_late(path):
    path.write_text('x' * 2048 + OURS)


# name: what lies there
FOREIGN = {
    'a file': somebodys,
    'an empty file': Path.touch,
    'a mark in its middle': marked_late,
    'our name in a path': lambda p: p.write_text(f'{{"data": "/home/me/{MARK}/CamVid"}}'),
    'our name in a list': lambda p: p.write_text(f'["{MARK}", "content={MARK}"]'),
    'a folder': Path.mkdir,
    'a link to nothing': lambda p: p.symlink_to('nothing'),
    'a link to a file': lambda p: (somebodys(p.with_name('b')), p.symlink_to('b')),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_what_is_not_ours_is_left(tmp_path, name):
    path = tmp_path / 'a.txt'
    FOREIGN[name](path)
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.iterdir()}
    for end in (check_target, lambda path: write(path, OURS)):
        with pytest.raises(InputError, match='a.txt: exists.*did not write it.*move it away'):
            end(path)
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.iterdir()} == before
    if name != 'a folder':
        write(path, OURS, replace=True)
        assert path.read_text() == OURS and not path.is_symlink()


def test_two_at_once_do_not_meet(tmp_path):
    path = tmp_path / 'a.txt'
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text(OURS), second.write_text(OURS + ' two')
    assert path.read_text() == OURS and list(tmp_path.iterdir()) == [path]  # the last to end


@pytest.mark.parametrize('error', [OSError(28, 'No space left'), RuntimeError('h5'), KeyError('x')])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / 'a.txt'
    path.write_text(OURS)
    kind = KeyError if isinstance(error, KeyError) else InputError
    with pytest.raises(kind) as e, whole_file(path) as beside:
        beside.write_text('half')
        raise error
    assert path.read_text() == OURS and list(tmp_path.iterdir()) == [path]
    if kind is InputError:
        assert str(path) in str(e.value) and '\n' not in str(e.value)
        assert str(error.args[-1]) in str(e.value)
    with pytest.raises(InputError, match='no/a.txt: could not be written'):
        write(tmp_path / 'no' / 'a.txt', OURS)


@pytest.mark.parametrize(
    'error, free, full',
    [
        (OSError(28, 'No space left on device'), 1 << 40, True),
        (OSError(13, 'No space left on device'), 1 << 40, False),  # the words are a folder's name
        (OSError(13, 'Permission denied'), 1000, False),
        (OSError('encoder error -2'), 1000, True),  # Pillow and h5py name no number
        (RuntimeError('No space left'), 1 << 40, False),
    ],
)
def test_the_disk_is_full_where_it_is(tmp_path, monkeypatch, error, free, full):
    usage = namedtuple('Usage', 'free')(free)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(InputError, match='a.txt: could not') as e, whole_file(tmp_path / 'a.txt'):
        raise error
    assert ('the disk is full' in str(e.value)) == full


def test_a_place_that_can_not_be_written_is_found_before_the_work(tmp_path):
    for name in ('no/a.txt', 'x' * 260 + '.txt', 'a\0.txt'):
        with pytest.raises(InputError, match='could not be written.*name another place'):
            check_target(tmp_path / name)
    write(tmp_path / 'a.txt', OURS)
    check_target(tmp_path / 'a.txt'), check_target(tmp_path / 'b.txt')
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_a_folder_that_is_read_is_not_written_to(tmp_path):
    out, read = tmp_path / 'out', touch(tmp_path / 'read', 'a.png')
    refuse_folder(out, [read])
    out.mkdir()
    refuse_folder(out, [read, tmp_path / 'none'])
    (tmp_path / 'link').symlink_to(read)
    for name in ('read', 'link', 'out/../read'):
        with pytest.raises(InputError, match='pictures are read there'):
            refuse_folder(tmp_path / name, [read])
    (tmp_path / 'linked.png').symlink_to(read / 'a.png')  # the picture lies elsewhere
    assert folders_of([tmp_path / 'linked.png']) == {tmp_path, read}
    touch(out, '._b.png', 'notes.txt')
    refuse_folder(out)
    write(out / 'b.png', OURS)
    refuse_folder(out)
    touch(out, 'c.JPG')
    with pytest.raises(InputError, match='c.JPG.*did not write it'):
        refuse_folder(out)


def test_a_lock_ends_with_its_program(tmp_path):
    script = 'import sys, time; from seg.files import locked\nwith locked(sys.argv[1], "there"):'
    script += '\n print("in", flush=True); time.sleep(60)'
    other = subprocess.Popen([sys.executable, '-c', script, tmp_path], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b'in\n' and is_locked(tmp_path)
    with pytest.raises(InputError, match='another program is drawing'), locked(tmp_path, 'drawing'):
        pass
    other.kill(), other.wait()
    assert not is_locked(tmp_path)
    with locked(tmp_path, 'drawing'):
        assert is_locked(tmp_path)


def test_old_parts_are_removed(tmp_path):
    touch(tmp_path, '.a.1-0.part.txt', '.b.2-0.part.txt', 'c.part.txt', '.d.txt')
    for name in ('.a.1-0.part.txt', 'c.part.txt', '.d.txt'):
        os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    remove_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.b.2-0.part.txt', '.d.txt', 'c.part.txt']


def test_json(tmp_path):
    path = tmp_path / 'a.json'
    for content in ({'名': [1, None, 0.5]}, {'\udcff.png': 1}, {'b': 2}):  # a name that is no text
        write_json(path, content)
        assert [*json.loads(path.read_bytes()).items()] == [
            ('program', MARK),
            *content.items(),
        ]
        assert read_json(path) == {'program': MARK} | content and is_ours(path)
    for bad in (float('nan'), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, {'x': bad})
    assert read_json(path)['b'] == 2 and list(tmp_path.iterdir()) == [path]
    path.write_text('{}')
    with pytest.raises(InputError, match='did not write it'):
        write_json(path, {})
    write_json(path, {}, replace=True)
    assert read_json(path) == {} and not is_ours(path)  # nobody's to replace without asking


@pytest.mark.parametrize(
    'text', ['', '[1]', '{"a": ', '[' * 100_000, '\udcff', ' ' * (1 << 24) + '{}']
)
def test_what_is_no_json_object(tmp_path, text):
    (tmp_path / 'a.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(InputError, match='a.json: expected a JSON file') as e:
        read_json(tmp_path / 'a.json')
    assert '\n' not in str(e.value)
    with pytest.raises(InputError, match='no.json: expected a JSON file.*No such file'):
        read_json(tmp_path / 'no.json')


def test_folders(tmp_path):
    assert make_folder(tmp_path / 'a' / 'b').is_dir() and make_folder(f'{tmp_path}/a').is_dir()
    touch(tmp_path, 'file')
    with pytest.raises(InputError, match='file.*--output'):
        make_folder(tmp_path / 'file' / 'x')


# ---------------------------------------------------------------------------- finding


def test_pictures_of_files_folders_and_globs(tmp_path):
    touch(tmp_path / 'a', '2.png', '1.JPG', 'notes.txt', '.hidden.png')
    touch(tmp_path / 'a' / 'deep', '3.tif')
    names = lambda *given: [p.name for p in find_pictures(given)]  # noqa: E731
    assert names(tmp_path / 'a') == ['1.JPG', '2.png']
    assert names(tmp_path / 'a' / '2.png', f'{tmp_path}/a/1*') == ['2.png', '1.JPG']
    touch(tmp_path / 'a' / '.hidden', '4.png')
    (tmp_path / 'a' / 'round').symlink_to(tmp_path / 'a')
    for everything in ('**/*', '**'):
        assert sorted(names(f'{tmp_path}/{everything}')) == ['1.JPG', '2.png', '3.tif']
    assert names(f'{tmp_path}/a/**.png') == ['2.png'] and names(tmp_path / 'a/.hidden') == ['4.png']
    for nothing in ('a/no.png', 'a/*.gif', 'no'):
        with pytest.raises(InputError, match='expected a picture, a folder or a pattern'):
            find_pictures([tmp_path / nothing])


@given(st.lists(st.sampled_from(['a', 'A', 'b', 'a-2', 'A-2', 'a-2-2', 'b-3', 'ß', 'SS'])))
def test_names_are_unique_on_any_disk(stems):
    names = unique_names([f'{i}/{stem}.png' for i, stem in enumerate(stems)])
    assert len({name.casefold() for name in names}) == len(names) == len(stems)
    for i, (stem, name) in enumerate(zip(stems, names)):
        assert name == stem or name.startswith(f'{stem}-') and name[len(stem) + 1 :].isdigit()
        if stem.casefold() not in [s.casefold() for s in stems[:i]]:
            assert name == stem  # the first keeps its own


def plainly_unique(files, occupied):
    """The same names, found the slow way."""
    stems, names = [Path(file).stem for file in files], []
    for stem, file in zip(stems, files):
        name, number = stem, 2
        while name.casefold() in [n.casefold() for n in names] or occupied(name, file):
            others = {s.casefold() for s in stems}
            while f'{stem}-{number}'.casefold() in others:
                number += 1
            name, number = f'{stem}-{number}', number + 1
        names.append(name)
    return names


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(['a', 'A', 'a-2', 'a-3', 'b', 'ß', 'SS']), max_size=9),
    st.sets(st.tuples(st.sampled_from(['a', 'a-2', 'A-3', 'b-2']), st.integers(0, 8))),
)
def test_names_that_others_have_already(stems, taken):
    files = [f'{i}/{stem}.png' for i, stem in enumerate(stems)]
    occupied = {(name, f'{i}/{stem}.png') for name, i in taken for stem in stems}

    def is_occupied(name, file):
        return (name, file) in occupied

    assert unique_names(files, is_occupied) == plainly_unique(files, is_occupied)


def test_twenty_thousand_of_one_name():
    """Seconds of this process, for others may keep the machine busy; once it was days."""
    start = time.process_time()
    names = unique_names([f'{i}/image.png' for i in range(20_000)])
    assert names[:3] == ['image', 'image-2', 'image-3'] and len({*names}) == 20_000
    assert time.process_time() - start < 3


def test_the_nearest_name():
    assert nearest_name('filterz', ['filters', 'stride']) == '; did you mean filters?'
    assert nearest_name('xyz', ['filters', 'stride']) == ''


# ---------------------------------------------------------------------------- pairing


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
    pairs = pair_files(tmp_path / 'i', tmp_path / 'm')
    assert sorted((i.name, m.name) for i, m in pairs) == sorted(zip(images, truth))


def test_patterns(tmp_path):
    touch(tmp_path / 'd [1]', 'a.jpg', 'a_mask.png', 'b.png', 'b_mask.png')
    (tmp_path / 'd [1]').rename(tmp_path / 'd')
    pairs = pair_files(f'{tmp_path}/d/*', f'{tmp_path}/d/*_mask.png')
    names = [p.name for pair in pairs for p in pair]
    assert names == ['a.jpg', 'a_mask.png', 'b.png', 'b_mask.png']
    touch(tmp_path / 'e [1]', 'a.jpg')  # a folder whose name looks like a pattern
    assert len(list_pictures(tmp_path / 'e [1]')) == 1
    (tmp_path / 'd' / 'round').symlink_to(tmp_path / 'd')
    assert len(list_pictures(tmp_path / 'd' / '**' / '*_mask.png')) == 2


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
        pair_files(touch(tmp_path / 'i', *images), touch(tmp_path / 'm', *truth))


def test_links(tmp_path):
    touch(tmp_path / 'i', 'a.png')
    (tmp_path / 'i' / 'b.png').symlink_to(tmp_path / 'i' / 'b.png')
    names = [path.name for path in list_pictures(tmp_path / 'i')]
    assert names == ['a.png', 'b.png']  # who reads it tells
    (tmp_path / 'round').symlink_to(tmp_path / 'round')
    with pytest.raises(InputError, match='round: .*symbolic link'):
        list_pictures(tmp_path / 'round')
    with pytest.raises(InputError, match='the same files'):
        pair_files(touch(tmp_path / 'j', 'a.png'), tmp_path / 'j')


def test_twenty_thousand_pairs(tmp_path, monkeypatch):
    """Paired, and none of them paired, in seconds of this process."""
    images = [Path(f'i/frame_{i:05}.jpg') for i in range(20_000)]
    named = {'i': images}
    for folder, form in (('m', 'm/{}_mask.png'), ('o', 'o/other_{}.png')):
        named[folder] = [Path(form.format(p.stem)) for p in images]
    named['o'][0] = Path('o/yet another.png')
    monkeypatch.setattr(pairing, 'list_pictures', lambda source: named[source])
    start = time.process_time()
    pairs, complaints = pairing.match_files('i', 'm')
    assert pairs == [*zip(images, named['m'])] and complaints == []
    pairs, complaints = pairing.match_files('i', 'o')
    assert pairs == [] and len(complaints) == 2 and '(20000 such files)' in complaints[0]
    assert time.process_time() - start < 8


def test_split():
    pairs = [(Path(f'{i}.png'), Path(f'm{i}.png')) for i in range(50)]
    train, val = split(pairs, 0.2)
    assert len(val) == 10 and sorted(train + val) == sorted(pairs)
    assert train == sorted(train, key=pairs.index)
    assert split(pairs[::-1], 0.2)[1][::-1] == val and split(pairs, 0.2, seed=1)[1] != val
    later = split(pairs + [(Path('new.png'), Path('m.png'))], 0.2)[1]
    assert len({*later} & {*val}) >= 9
    assert [len(p) for p in split(pairs[:2], 0.01)] == [1, 1]
    for bad in (0, 1, -1):
        with pytest.raises(InputError, match='fraction'):
            split(pairs, bad)


def test_arrays_of_other_kinds_are_named(tmp_path):
    for end in ('npz', 'mat'):
        folder = tmp_path / end
        folder.mkdir()
        (folder / f'a.{end}').write_bytes(b'x')
        with pytest.raises(InputError, match=f'save the arrays in .{end} files as .npy'):
            list_pictures(folder)
