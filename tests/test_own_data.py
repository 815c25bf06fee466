"""Pictures of one's own: check, repair, train, predict, evaluate with few flags."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

import main as program

COLOURS = [(0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (230, 220, 40)]


def microscope(folder, count=12, side=256, seed=0):
    """Grey pictures of bright, grainy cells on an uneven ground; masks of 0 and 255."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        mask, shade = Image.new('L', (side, side)), Image.new('L', (side, side), 90)
        for _ in range(25):
            x, y, a, b = *rng.integers(0, side, 2), *rng.integers(side // 30, side // 10, 2)
            place = [int(x - a), int(y - b), int(x + a), int(y + b)]
            ImageDraw.Draw(mask).ellipse(place, fill=255)
            ImageDraw.Draw(shade).ellipse(place, fill=int(rng.integers(130, 190)))
        light = np.linspace(-25, 25, side)[None] * rng.choice([-1, 1])
        picture = np.asarray(shade.filter(ImageFilter.GaussianBlur(2))) + light
        picture = (picture + rng.normal(0, 15, (side, side))).clip(0, 255).astype(np.uint8)
        save(folder, f'{i:02}', Image.fromarray(picture), mask)


def shapes(folder, count=15, seed=0):
    """RGB pictures in three sizes of four kinds of things; colour masks of five classes."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        h, w = [(96, 128), (128, 160), (160, 144)][i % 3]
        picture, mask = (
            Image.new('RGB', (w, h), (120, 120, 110)),
            Image.new('RGB', (w, h), COLOURS[0]),
        )
        for _ in range(14):
            kind = int(rng.integers(1, 5))
            x, y, r = int(rng.integers(0, w)), int(rng.integers(0, h)), int(rng.integers(12, 24))
            tint = tuple(int(c * 0.6 + rng.integers(20, 80)) for c in COLOURS[kind])
            for canvas, colour in ((picture, tint), (mask, COLOURS[kind])):
                draw = ImageDraw.Draw(canvas)
                if kind % 2:
                    draw.rectangle([x - r, y - r // 2, x + r, y + r // 2], fill=colour)
                else:
                    draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        noisy = np.asarray(picture) + rng.normal(0, 12, (h, w, 3))
        save(folder, f'{i:02}', Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask)


def save(folder, name, picture, mask):
    for part, canvas, ending in (('images', picture, ''), ('masks', mask, '_mask')):
        (folder / part).mkdir(parents=True, exist_ok=True)
        canvas.save(folder / part / f'{name}{ending}.png')


def command(capsys, *argv):
    capsys.readouterr()
    status = program.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return status, out + err


@pytest.mark.parametrize('draw, floor', [(microscope, 0.7), (shapes, 0.6)])
def test_from_check_to_score(draw, floor, tmp_path, monkeypatch, capsys):
    """150 of the 2,000 default steps: the floors are those of the whole, and hold already."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / 'own')
    data = ['--images', 'own/images', '--labels', 'own/masks']
    status, out = command(capsys, 'check', *data)
    assert status == 0 and out.strip().splitlines()[-1].startswith('Verdict: fit to train')
    status, out = command(capsys, 'check', 'own', '--repair', 'clean')
    assert status == 0 and 'Next: python main.py check --images own/images --labels clean' in out
    status, out = command(capsys, 'check', 'own', '--repair', 'own/clean')
    assert status == 2 and 'own/clean: lies in own; name a folder beside it' in out
    for mask in Path('own/masks').iterdir():
        clean = np.asarray(Image.open(Path('clean') / mask.name))
        classes = 2 if draw is microscope else 5
        assert clean.dtype == np.uint8 and clean.max() < classes
    split = ['--val-split', '0.2']
    status, out = command(
        capsys,
        'train',
        *data,
        *split,
        '--size',
        '128x128',
        '--filters',
        '8',
        '--epochs',
        '3',
        '--steps',
        '50',
    )
    assert status == 0, out
    status, out = command(capsys, 'predict', 'own/images')
    images, masks = sorted(Path('own/images').iterdir()), Path('predicted/camvid')  # of camvid.hdf5
    assert status == 0 and sorted(p.name for p in masks.glob('*.png')) == [p.name for p in images]
    for image in images:
        assert Image.open(masks / image.name).size == Image.open(image).size
    status, out = command(capsys, 'evaluate', *data, *split, '--report')
    assert status == 0 and Path('report.html').stat().st_size > 10_000
    scores = json.loads(Path('scores.json').read_text())
    text = json.dumps(scores)
    miou = float(re.search(r'"miou": ([0-9.]+)', text)[1])
    assert miou >= floor, out


def test_masks_of_another_program(tmp_path, monkeypatch, capsys):
    """The truth itself, as colours, scores 100 %; with a wrong stripe just what that costs."""
    monkeypatch.chdir(tmp_path)
    shapes(tmp_path / 'own', count=3)
    data = ['--images', 'own/images', '--labels', 'own/masks']
    status, out = command(capsys, 'evaluate', *data, '--masks', 'own/masks')
    assert status == 0 and 'pixel accuracy 100.0 %' in out
    paths = sorted(Path('own/masks').iterdir())
    total = sum(np.prod(Image.open(p).size) for p in paths)
    wrong = np.array(Image.open(paths[0]))
    changed = (wrong[:10] != COLOURS[1]).any(-1).sum()
    wrong[:10] = COLOURS[1]
    Path('other').mkdir()
    for p in paths:
        (Image.fromarray(wrong) if p == paths[0] else Image.open(p)).save(Path('other') / p.name)
    status, out = command(capsys, 'evaluate', *data, '--masks', 'other')
    assert f'pixel accuracy {100 * (1 - changed / total):.1f} %' in out
