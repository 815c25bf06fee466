"""The check: broken data sets are named, clean ones pass; the repair mends what can be."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from labelled import (
    FIVE,
    colour,
    corner,
    hard,
    index,
    palette_picture,
    photo,
    png,
    save,
    scene,
    soft,
    touch,
    write_set,
)
from PIL import Image

from seg import sources
from seg.check import examine, format_check, repair
from seg.classes import CAMVID, TWO_CLASSES, ClassTable, numbered_classes, to_hex
from seg.files import InputError
from seg.readers import read_label
from seg.settings import Settings
from seg.sources import load
from seg.tablefiles import write_classes

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
    '0/255 for five classes': (drawn(hard), FIVE, ['0 and 255', '--num-class 2', 'has 5']),
    '0/255 for five numbers': (drawn(hard), numbered_classes(5), ['0 and 255', 'has 5']),
    '0/255 as RGB': (drawn(lambda i: hard(i).convert('RGB')), CAMVID, ['0 and 255', 'has 13']),
    '0/1 and 0/255': (
        drawn(lambda i: Image.fromarray(scene(2)) if i else hard(0)),
        TWO_CLASSES,
        ['0.png', '1.png', '0 and 255', 'foreground or no class'],
    ),
    '0/1 and 0/255, white first': (
        drawn(lambda i: Image.fromarray(scene(2)) if i else hard(0)),
        ClassTable(('a', 'b'), ((255,) * 3, (0,) * 3), ('scored',) * 2),
        ['0.png', '1.png', '0 and 255', 'foreground or no class'],
    ),
    '0/1 and 0/255 as RGB': (
        drawn(lambda i: (Image.fromarray(scene(2)) if i else hard(0)).convert('RGB')),
        None,
        ['0.png', '1.png', '0 and 255', 'foreground or no class'],
    ),
    'grey and RGB': (
        with_file('trainannot/1.png', lambda p: colour(1).save(p)),
        FIVE,
        ['trainannot/1.png', 'several kinds', '5 grey', '1 rgb', '0.png', 'alike'],
    ),
    'grey and grey as RGB': (
        with_file('valannot/4.png', lambda p: index(4).convert('RGB').save(p)),
        FIVE,
        ['valannot/4.png', 'several kinds', '5 grey', '1 rgb'],
    ),
    'palette beside grey': (
        with_file(
            'trainannot/1.png', lambda p: palette_picture(scene(seed=1), FIVE.colours).save(p)
        ),
        None,
        ['trainannot/1.png', 'several kinds', '5 grey', '1 palette'],
    ),
    '1 bit beside 0/255': (
        drawn(lambda i: hard(i) if i else hard(0).convert('1')),
        TWO_CLASSES,
        ['trainannot/0.png', 'several kinds', '5 grey', '1 bit'],
    ),
    'row and value disagree': (
        drawn(lambda i: Image.fromarray(scene(2, seed=i))),
        ClassTable(('car', 'ground'), ((255, 0, 0), (0, 0, 0)), ('scored',) * 2),
        ['0.png', 'value 0', 'ground, #000000', 'number of car', 'which is it?'],
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


def check(data=None, table=None, fast=False, **settings):
    """The check of a folder, or of what further settings name."""
    settings |= {'data': str(data)} if data else {}
    return examine(load(Settings(**settings), fast, table), fast)


def look(data=None, table=None, **settings):
    """The check's result, where what it raises counts as an error."""
    try:
        result = check(data, table, **settings)
    except InputError as e:
        return {'fit': False, 'errors': [str(e)], 'warnings': []}
    assert json.loads(json.dumps(result))['verdict'] == result['verdict']
    text = format_check(result)
    assert text.splitlines()[-1] == f'Verdict: {result["verdict"]}.'
    assert all(line in text for line in [*result['errors'], *result['warnings']])
    assert not any('\n' in line for line in [*result['errors'], *result['warnings']])
    return result


@pytest.mark.parametrize('name', BROKEN)
def test_broken_sets_are_named(tmp_path, name):
    build, table, words = BROKEN[name]
    result = look(build(tmp_path / '数据 set'), table)
    assert not result['fit']
    assert any(all(w in line for w in words) for line in result['errors']), result['errors']
    if name not in ('truncated image',):  # the fast part decodes no image
        with pytest.raises(InputError) as e:
            check(tmp_path / '数据 set', table, fast=True)
        assert str(e.value).split(' (the first of ')[0] in result['errors']


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


def each_image(change, suffix='.png', where='train'):
    def build(f):
        write_set(f)
        for p in f.glob(f'{where}/*.png'):
            picture = change(Image.open(p))
            p.unlink()
            picture.save(p.with_suffix(suffix))

    return build


def deep(p):
    return Image.fromarray(np.asarray(p)[..., 0] * np.uint16(16))


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
    'absent class': (write_set, numbered_classes(6), ['1 of 6 classes is unused', 'class 5']),
    'one class takes all': (outnumbered, TWO_CLASSES, ['Background', '99.9']),
    'JPEG that kept its values': (
        drawn(lambda i: Image.new('L', (64, 48), 0 if i else 255), name='{}.jpg'),
        TWO_CLASSES,
        ['JPEG'],
    ),
    '16-bit images': (
        each_image(deep, where='*[nl]'),
        FIVE,
        ['more than 8 bits', 'one range', '4080', 'train/0.png'],
    ),
    'CMYK images': (each_image(lambda p: p.convert('CMYK'), '.jpg'), FIVE, ['CMYK', '0.jpg']),
    'RGBA images': (each_image(lambda p: p.convert('RGBA')), FIVE, ['alpha']),
    'EXIF upside down': (turned_square, FIVE, ['EXIF', 'train/1.jpg']),
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


def test_three_sizes_are_learned_by_crops_unless_resized(tmp_path):
    three_sizes(tmp_path)
    r = check(tmp_path, FIVE, fast=True)
    assert r['fit'] and r['input']['crops'] and r['input']['size'] == '64x64'
    assert any('32x32 to 64x64' in line and '--size' in line for line in r['notes'])
    r = check(tmp_path, FIVE, fast=True, size=(48, 64))
    assert r['fit'] and not r['input']['crops']


def test_the_fast_check_reads_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'FAST_LABELS', 3)
    write_set(tmp_path, n=10)
    corner(scene(), 9).save(tmp_path / 'trainannot' / '1.png')  # not in the sample
    r = check(tmp_path, FIVE, fast=True)
    assert r['fit'] and r['notes'][0].startswith('3 of 12 labels')
    Image.new('L', (5, 5)).save(tmp_path / 'trainannot' / '1.png')  # but its header is read
    with pytest.raises(InputError, match=r'1\.png: label of 5x5'):
        check(tmp_path, FIVE, fast=True)


def test_guessed_classes_of_blurred_colours(tmp_path):
    """A guess to look through, not to train on: the main colours, no blend among them."""
    r = look(write_set(tmp_path / 'a', lambda i: soft(colour(i))), None)
    assert not r['fit'] and {c['hex'] for c in r['classes']} <= {*map(to_hex, FIVE.colours)}
    near = FIVE.palette[scene()]
    near[:2, ::2] += np.uint8(2)
    r = look(write_set(tmp_path / 'b', lambda i: Image.fromarray(near)), None)
    assert not r['fit'] and {c['hex'] for c in r['classes']} == {*map(to_hex, FIVE.colours)}


def test_values_of_8_and_16_bits_are_told_apart(tmp_path):
    folder = write_set(tmp_path, lambda i: corner(scene(seed=i).astype(np.uint16), 255 + i % 2))
    values = {v['value']: v['percent'] for v in look(folder, FIVE)['values']}
    assert values[255] == values[256] == pytest.approx(100 * 3 / (2 * 48 * 64))


def test_what_the_network_will_get_is_told(tmp_path):
    """Decided once for the whole set, and shown before a training starts."""
    folder = write_set(tmp_path / 'a')
    r = look(folder, FIVE)
    assert r['layout'] == "CamVid's folders" and r['formats'] == {'grey': 'index'}
    expected = {'size': '48x64', 'crops': False, 'channels': 3, 'intensity': (0, 255)}
    assert r['input'] == expected
    assert 'network input: 48x64, 3 channels, values 0 to 255' in format_check(r)
    assert look(folder, FIVE, size=(32, 96))['input']['size'] == '32x96'
    three_sizes(folder)
    r = look(folder, FIVE)
    assert 'network input: crops of 64x64' in format_check(r)
    each_image(lambda p: deep(p).point(lambda v: v + 100), where='*[nl]')(tmp_path / 'b')
    r = look(tmp_path / 'b', FIVE)
    low, high = r['input']['intensity']
    assert r['input']['channels'] == 1 and 100 <= low < 150 and 4130 < high <= 4180
    assert f'1 channels, values {low:g} to {high:g}' in format_check(r)


def test_folders_that_lack_most(tmp_path):
    """Nothing to train on is an error of its own, and no traceback."""
    only_test = write_set(tmp_path / 'a')
    for name in ('train', 'trainannot', 'val', 'valannot'):
        target = name.replace('train', 'test') if name.startswith('t') else f'old {name}'
        (only_test / name).rename(only_test / target)
    r = look(only_test, FIVE)
    assert not r['fit'] and 'found neither' in r['errors'][0]
    unreadable = write_set(tmp_path / 'b')
    for path in unreadable.glob('*annot/*'):
        path.write_bytes(b'')
    r = look(unreadable)
    assert not r['fit'] and len(r['errors']) == 6 and r['table'] is None
    with pytest.raises(InputError, match='trainannot/0.png: empty'):
        check(unreadable, fast=True)


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
    assert {c['hex'] for c in r['classes']} == {to_hex(c) for c in FIVE.colours} and r['fit']
    write_classes(tmp_path / 'a' / 'classes.csv', FIVE)
    r = look(tmp_path / 'a', None)
    assert r['fit'] and ClassTable.from_dict(r['table']) == FIVE and r['warnings'] == []
    own = tmp_path / 'own'
    for i in range(6):
        touch(own / 'pictures'), touch(own / 'masks')
        photo(i).save(own / 'pictures' / f'{i}.jpg')
        hard(i).save(own / 'masks' / f'{i}_mask.png')
    masks = str(own / 'masks' / '*.png')
    r = look(images=str(own / 'pictures'), labels=masks, val_split=0.3)
    assert r['fit'] and r['table']['names'] == ('Background', 'Foreground')
    assert [s['images'] for s in r['splits'].values()] == [4, 2]
    assert r['formats'] == {'grey': '0/255'}
    levels = write_set(tmp_path / 'd', lambda i: Image.fromarray(scene(4) * np.uint8(85)))
    grey = [c['hex'] for c in look(levels, None)['classes']]
    assert grey == ['#000000', '#555555', '#AAAAAA', '#FFFFFF']
    numbered = write_set(tmp_path / 'e', lambda i: Image.fromarray(scene(7, seed=i)))
    assert len(look(numbered, None)['classes']) == 7


def test_where_there_is_no_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'imgs').mkdir()
    for given, words in (
        ({'data': '.'}, 'expected pictures and their labels, found imgs; .*--images'),
        ({'data': 'no'}, 'no: .*no such folder'),
        ({'images': 'imgs'}, 'both.*--labels is missing'),
        ({'labels': 'imgs'}, 'both.*--images is missing'),
        ({}, 'CamVid: expected'),
    ):
        for fast in (True, False):
            with pytest.raises(InputError, match=words):
                check(fast=fast, **given)


@pytest.mark.camvid
@pytest.mark.skipif('CAMVID' not in os.environ, reason='CAMVID names no folder')
def test_camvid():
    folder, start = Path(os.environ['CAMVID']), time.process_time()
    r = look(folder)
    assert r['table'] == CAMVID.to_dict()
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
    done = repair(folder, tmp_path / 'out', table, tolerance)
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
        repair(folder, tmp_path / 'out', table)
    given = {'images': str(folder / 'train'), 'labels': str(tmp_path / 'out' / 'trainannot')}
    out = look(table=table, **given)
    assert out['fit'], out['errors']


def test_repair_refuses(tmp_path):
    folder = write_set(tmp_path / 'in', lambda i: corner(FIVE.palette[scene()], (220, 30, 30)))
    with pytest.raises(InputError, match=r'#DC1E1E at row 7, column 9.*20 units.*tolerance 16'):
        repair(folder, tmp_path / 'out', FIVE)
    assert not (tmp_path / 'out').exists()
    assert len(repair(folder, tmp_path / 'out', FIVE, tolerance=20)) == 6
    grey = ClassTable(tuple('abc'), ((0,) * 3, (255,) * 3, (128,) * 3), ('scored',) * 3)
    edge = write_set(tmp_path / 'edge', lambda i: corner(grey.palette[scene(2)], 140))
    repair(edge, tmp_path / 'edges', grey, tolerance=128)  # a blend of a and b, no c there
    assert {*np.unique(Image.open(tmp_path / 'edges/trainannot/0.png')).tolist()} == {0, 1}
    blurred = write_set(tmp_path / 'soft', lambda i: soft(colour(i)))
    with pytest.raises(InputError, match='guessed.*--classes'):
        repair(blurred, tmp_path / 'out2')
    touch(tmp_path / 'two', 'x')
    Image.fromarray(scene()).save(tmp_path / 'two' / 'a.png')
    Image.fromarray(scene()).save(tmp_path / 'two' / 'a.bmp')
    with pytest.raises(InputError, match='two labels'):
        repair(tmp_path / 'two', tmp_path / 'out3', FIVE)
    assert not (tmp_path / 'out3').exists()


@pytest.mark.parametrize('name', [n for n in BROKEN if 'beside' in n or ' and ' in n])
def test_repair_refuses_what_only_its_author_can_tell(tmp_path, name):
    build, table, words = BROKEN[name]
    labels = tmp_path / 'all'
    labels.mkdir()
    for path in build(tmp_path / 'in').glob('*annot/*'):
        path.rename(labels / path.name)
    if len(table or '') > 10:  # 0 and 255 alone are told from the classes of a larger table
        return
    with pytest.raises(InputError) as e:
        repair(labels, tmp_path / 'out', table)
    assert '\n' not in str(e.value) and not (tmp_path / 'out').exists()
    assert all(w in str(e.value) for w in words if '/' not in w)


def sparse(*ids):
    return lambda i: Image.fromarray(np.array(ids, np.uint8)[scene(len(ids), seed=i)])


def table_of_greys(*greys):
    colours = tuple((grey,) * 3 for grey in greys)
    return ClassTable(tuple(map(str, greys)), colours, ('scored',) * len(greys))


# name: (labels, table): none of them is right without a word from the user
STRANGE = {
    'ids and a table of two of them': (sparse(0, 8, 12, 15), table_of_greys(0, 15)),
    "ids and a mask's table": (sparse(0, 7, 15, 20), TWO_CLASSES),
    "ids with a border and a mask's table": (sparse(0, 7, 15, 20, 255), TWO_CLASSES),
    "levels and a mask's table": (sparse(0, 85, 170, 255), TWO_CLASSES),
    'too few numbers': (sparse(0, 8, 12, 15), FIVE),
    'many ids': (sparse(0, 70, 74, 90, 91, 100, 118, 119, 120, 131, 149, 153, 154), None),
    'JPEG of numbers': (index, FIVE),
    'JPEG of colours': (colour, FIVE),
    'JPEG, no table': (colour, None),
    'JPEG of a mask, no table': (hard, None),
    'anti-aliased': (lambda i: soft(colour(i)), FIVE),
    'anti-aliased, no table': (lambda i: soft(colour(i)), None),
    'a mask, anti-aliased': (lambda i: soft(hard(i)), None),
    'all a little off': (lambda i: colour(i).point(lambda v: v + 9), FIVE),
    'a sixth colour near another': (
        lambda i: Image.fromarray(np.vstack([FIVE.palette[:5], FIVE.palette[1:2] + 6])[scene(6)]),
        FIVE,
    ),
}


MENDED = {'JPEG of colours', 'JPEG of a mask, no table', 'anti-aliased', 'a mask, anti-aliased'}
MENDED |= {'all a little off'}


@pytest.mark.parametrize('name', STRANGE)
def test_the_repair_is_proposed_only_where_it_mends(tmp_path, name):
    """What the line says is done to the letter: it succeeds, no two exact values become one, and
    what it wrote is fit."""
    label, table = STRANGE[name]
    form = '{}.jpg' if 'JPEG' in name else '{}.png'
    folder = write_set(tmp_path / 'in', label, name=form)
    result = look(folder, table)
    lines = [*result['errors'], *result['warnings']]
    proposed = [line for line in lines if '--repair' in line]
    assert bool(proposed) == (name in MENDED), lines
    for line in proposed:
        tolerance = re.search(r'--tolerance (\d+)', line)
        done = repair(folder, tmp_path / 'out', table, int(tolerance[1]) if tolerance else 16)
        assert len(done) == 6
        for job in done:
            assert np.asarray(Image.open(job['out'])).max() < len(result['classes'])


REVERSED = ClassTable(('road', 'ground'), ((255,) * 3, (0,) * 3), ('scored',) * 2)
ORDERS = {  # name: (table, labels that tell which row they mean)
    'white first': (REVERSED, lambda a: REVERSED.palette[a]),
    'grey levels': (table_of_greys(1, 0, 2), lambda a: table_of_greys(1, 0, 2).palette[a]),
    'black last': (
        ClassTable(tuple('abc'), ((9, 0, 0), (0, 9, 0), (0, 0, 0)), ('scored',) * 3),
        lambda a: np.array([(9, 0, 0), (0, 9, 0), (0, 0, 0)], np.uint8)[a],
    ),
    'CamVid': (CAMVID, lambda a: CAMVID.palette[a]),
    'numbers': (numbered_classes(9), lambda a: a),
}


@pytest.mark.parametrize('name', ORDERS)
def test_what_repair_wrote_reads_back_the_same(tmp_path, name):
    """By the same table, whatever the order of its rows, the pixels of no class too."""
    table, store = ORDERS[name]
    n = min(len(table), 11)
    folder = write_set(tmp_path / 'in', lambda i: Image.fromarray(store(scene(n, seed=i))))
    repair(folder, tmp_path / 'out', table)
    for sub in ('train', 'val'):
        (folder / sub).rename(tmp_path / 'out' / sub)
    data = load(Settings(data=str(tmp_path / 'out')), False, table)
    assert data.errors == []
    for path in (tmp_path / 'out').glob('*annot/*'):
        assert (read_label(path, table, data.formats) == scene(n, seed=int(path.stem))).all()


def test_the_border_stays_without_class_in_a_repair(tmp_path):
    def bordered(i):
        label = scene(seed=i)
        label[:3] = 255
        return Image.fromarray(label)

    folder = write_set(tmp_path / 'in', bordered)
    for job in repair(folder, tmp_path / 'out', FIVE):
        expected = np.asarray(Image.open(job['file']))
        assert (read_label(job['out'], FIVE) == expected).all() and job['converted'] == 0


def test_names_in_a_terminal_are_short_and_clean(tmp_path):
    folder = write_set(tmp_path / 'a')
    names = ('x' * 100, *FIVE.names[1:])
    result = look(folder, ClassTable(names, FIVE.colours, FIVE.roles))
    text = format_check(result)
    assert 'x' * 23 + '…' in text and 'x' * 30 not in text.split('warning')[0]
    (folder / 'trainannot' / '0.png').rename(folder / 'trainannot' / 'a\x1b[2J\x9b.png')
    text = format_check(check(folder, FIVE))
    assert r'a\x1b[2J\x9b.png: no image' in text and text.replace('\n', '').isprintable()
