"""Pictures people look at: colour mask, overlay, legend, error map, curves, the HTML report.

No TensorFlow, no matplotlib, no browser.
"""

import base64
import functools
import heapq
import io
import json
import math
import time
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seg.metrics import COLUMNS, MEANS, confusion, scores
from seg.readers import indices_to_colours, open_picture, to_hex, whole_file

FONT_FOLDERS = (
    '/usr/share/fonts',
    '/usr/local/share/fonts',
    '~/.fonts',
    '~/.local/share/fonts',
    '/System/Library/Fonts',
    '/Library/Fonts',
    'C:/Windows/Fonts',
)
WRONG, IGNORED = (255, 122, 40), (128, 128, 128)  # error map
HIT, MISS = (37, 99, 235), (234, 88, 12)  # confusion matrix
LINES = {'train': (100, 116, 139), 'val': (29, 78, 216)}  # curves
PANELS = (
    ('Loss', 'loss'),
    ('Pixel accuracy', 'accuracy'),
    ('mIoU', 'miou'),
    ('Learning rate', 'learning_rate'),
)
SPLITS = {
    'test': ('the test images', ''),
    'val': (
        'the validation images (not a test score)',
        'The checkpoint was chosen on these '
        'validation images, so the scores flatter; test images usually score lower.',
    ),
    'train': (
        'the training images (not a test score)',
        'The network was trained on these images: the scores say nothing about new ones.',
    ),
}


def to_index(probability, table):
    """Probabilities (H, W, C) -> uint8 (H, W): the most probable of the scored classes.

    One channel is the two-class net's: 1 above 0.5. An index map passes unchanged.
    """
    probability = np.asarray(probability)
    if probability.ndim == 2:
        return probability.astype(np.uint8)
    if probability.shape[-1] == 1:
        return (probability[..., 0] > 0.5).astype(np.uint8)
    return np.array(table.scored, np.uint8)[probability[..., table.scored].argmax(-1)]


def save_picture(picture, path):
    """Write a uint8 array (H, W, 3) as PNG or JPEG by the path's suffix, whole or not at all."""
    with whole_file(path, durable=False) as beside:
        # Level 1 takes a third of the time for a few percent more bytes.
        Image.fromarray(picture).save(beside, compress_level=1, quality=90)


def overlay(image, index, table, opacity=0.5):
    """uint8 image (H, W, 3) with the colours of the classes (H, W) over it."""
    blended = Image.blend(
        Image.fromarray(image), Image.fromarray(indices_to_colours(index, table)), opacity
    )
    return np.asarray(blended)


@functools.lru_cache(8)
def legend(table, width):
    """uint8 (h, width, 3): a strip with colour and name of each scored class, in lines."""
    size = max(10, min(20, width // 36))
    font = find_font(''.join(table.names), size)
    pad, swatch = size // 2, size
    places, x, y = [], pad, pad
    for i in table.scored:
        w = swatch + pad + int(font.getlength(table.names[i])) + 2 * pad
        if x + w > width and x > pad:
            x, y = pad, y + int(size * 1.6)
        places.append((i, x, y))
        x += w
    strip = Image.new('RGB', (width, y + int(size * 1.6) + pad // 2), 'white')
    draw = ImageDraw.Draw(strip)
    for i, x, y in places:
        draw.rectangle((x, y, x + swatch, y + swatch), fill=table.colours[i], outline=(90, 90, 90))
        draw.text((x + swatch + pad, y + size // 2), table.names[i], 'black', font, anchor='lm')
    return np.asarray(strip)


@functools.lru_cache(8)
def find_font(text, size):
    """A font that has every character of `text`: Pillow's own, else the first installed one."""
    default = ImageFont.load_default(size)
    if _covers(default, text):
        return default
    for folder in FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob('*.[tToO][tT][cCfF]')):
            try:
                font = ImageFont.truetype(str(path), size)
                if _covers(font, text):
                    return font
            except OSError:
                continue
    print(
        'No installed font has every character of the class names; the legend shows boxes. '
        'Install one, such as Noto Sans CJK.'
    )
    return default


def _covers(font, text):
    missing = bytes(font.getmask('\uffff'))  # a code point that no font draws
    return all(bytes(font.getmask(c)) != missing for c in set(text) if not c.isspace())


def side_by_side(*pictures):
    """uint8 pictures of one height next to each other, two white pixels between them."""
    gap = np.full((pictures[0].shape[0], 2, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)][:-1])


def preview_page(cells, table, width=240):
    """uint8 (h, w, 3): each (caption, image, label) of `cells` as image | label | overlay.

    Args: cells: image uint8 (H, W, C), label uint8 (H, W); width: that an image is shown with.
    """
    tiles = []
    for caption, image, label in cells:
        image = _rgb(image)
        wide = min(width, image.shape[1])
        size = wide, -(-wide * len(image) // image.shape[1])
        colours = Image.fromarray(indices_to_colours(label, table)).resize(size, 0)
        look = [
            np.asarray(x)
            for x in (
                Image.fromarray(image).resize(size, 1),
                colours,
                Image.fromarray(overlay(image, label, table)).resize(size, 1),
            )
        ]
        tiles.append((caption, side_by_side(*look)))
    tall, wide = (max(tile.shape[i] for _, tile in tiles) for i in (0, 1))
    columns = max(1, round(len(tiles) ** 0.5 * 0.6))
    rows = -(-len(tiles) // columns)
    page = Image.new('RGB', (columns * (wide + 16) + 16, rows * (tall + 36) + 16), 'white')
    draw = ImageDraw.Draw(page)
    for i, (caption, tile) in enumerate(tiles):
        x, y = 16 + i % columns * (wide + 16), 8 + i // columns * (tall + 36)
        draw.text((x, y + 14), caption, 'black', find_font(caption, 15), anchor='lm')
        page.paste(Image.fromarray(tile), (x, y + 26))
    return np.asarray(page)


def error_map(image, truth, index, table):
    """uint8 (H, W, 3): correct pixels dimmed, wrong ones orange, void grey."""
    grey = np.asarray(Image.fromarray(_rgb(image)).convert('L'), np.float32)[..., None]
    scored = np.isin(truth, table.scored)[..., None]
    wrong = (truth != index)[..., None]
    highlight = np.array(WRONG) * (0.65 + 0.35 * grey / 255)  # the image shows through
    picture = np.where(wrong, highlight, 0.45 * grey)
    return np.where(scored, picture, IGNORED).astype(np.uint8)


def _rgb(image):
    """A picture, array or path, as uint8 (H, W, 3)."""
    if isinstance(image, (str, Path)):
        picture = open_picture(image)
        if picture.mode[0] in 'IF':  # 16 bits
            deep = np.asarray(picture, np.float32)
            top = 65535 if deep.max() > 255 else 255
            picture = Image.fromarray((deep.clip(0, top) * (255 / top)).round().astype(np.uint8))
        image = picture.convert('RGB')
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


# ------------------------------------------------------------------------ confusion matrix


def _rows(counts, table):
    """(names of rows, names of columns, shares (n, m) of each row, nan without truth)."""
    counts = np.asarray(counts, np.float64)
    names = [table.names[i] for i in table.scored]
    n = len(names)
    if counts.shape[1] > n and not counts[:, n].any():
        counts = counts[:, :n]
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    return names, names + ['no class'] * (counts.shape[1] - n), share


def _strength(share, hit):
    """Opacity of a cell: full stays below 1, so that dark text is readable on every one."""
    return 0.75 * (share if hit else share**0.5)


def confusion_picture(counts, table):
    """uint8 (H, W, 3): the confusion matrix, each row in percent of its class's pixels."""
    rows, columns, share = _rows(counts, table)
    cell = 34 if len(rows) <= 25 else 12
    font, small = find_font(''.join(columns), 14 if cell > 12 else 10), ImageFont.load_default(12)
    pad = 12 + int(max(map(font.getlength, columns)))
    picture = Image.new('RGB', (pad + cell * len(columns) + 8, pad + cell * len(rows) + 8), 'white')
    draw = ImageDraw.Draw(picture)
    for j, name in enumerate(columns):
        upright = Image.new('RGB', (pad - 6, cell), 'white')
        ImageDraw.Draw(upright).text((0, cell / 2), name, 'black', font, anchor='lm')
        picture.paste(upright.rotate(90, expand=True), (pad + j * cell, 0))
    for i, name in enumerate(rows):
        y = pad + i * cell
        draw.text((pad - 6, y + cell / 2), name, 'black', font, anchor='rm')
        for j, value in enumerate(np.nan_to_num(share[i])):
            x, a = pad + j * cell, _strength(value, i == j)
            fill = tuple(round(255 + (c - 255) * a) for c in (HIT if i == j else MISS))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=fill)
            if cell > 12 and value >= 0.005:
                draw.text(
                    (x + cell / 2 - 1, y + cell / 2),
                    f'{100 * value:.0f}',
                    'black',
                    small,
                    anchor='mm',
                )
    return np.asarray(picture)


# ------------------------------------------------------------------------ curves


def _ticks(low, high, most=5):
    """Round numbers from at most `low` to at least `high`."""
    span = (high - low) or abs(high) or 1
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(k * unit for k in (1, 2, 5, 10) if k * unit * most >= span * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _panels(history, width, height):
    """What the curves show, for SVG and PNG alike, in pixels of a panel.

    Yields (title, [(y, tick)], [(x, epoch)], [(name, [[(x, y), ...] without gaps])]).
    """
    left, right, top, bottom = 52, 12, 34, 30
    for title, key in PANELS:
        lines = {
            name: history[k]
            for name, k in (('train', key), ('val', f'val_{key}'))
            if history.get(k)
        }
        lines = {
            name: [math.nan if v is None else float(v) for v in values]
            for name, values in lines.items()
        }
        finite = [v for values in lines.values() for v in values if math.isfinite(v)]
        if not finite:
            continue
        ticks, epochs = _ticks(min(finite), max(finite)), max(map(len, lines.values()))

        def x_of(epoch, epochs=epochs):
            part = (epoch - 1) / (epochs - 1) if epochs > 1 else 0.5
            return round(left + (width - left - right) * part, 1)

        def y_of(value, ticks=ticks):
            part = (value - ticks[0]) / (ticks[-1] - ticks[0])
            return round(height - bottom - (height - top - bottom) * part, 1)

        drawn = []
        for name, values in lines.items():
            runs = [[]]
            for epoch, value in enumerate(values, 1):
                if math.isfinite(value):
                    runs[-1].append((x_of(epoch), y_of(value)))
                elif runs[-1]:
                    runs.append([])
            drawn.append((name, [run for run in runs if run]))
        marks = sorted({1, epochs} | {k for k in map(round, _ticks(1, epochs)) if 1 < k < epochs})
        marks = [k for k in marks if k in (1, epochs) or x_of(epochs) - x_of(k) > 24]
        yield title, [(y_of(t), f'{t:g}') for t in ticks], [(x_of(k), str(k)) for k in marks], drawn


def curves_png(history, path):
    """Training curves as a picture. history: {'loss': [of each epoch], 'val_loss': [...], ...}."""
    w, h = 480, 300
    panels, font = list(_panels(history, w, h)), ImageFont.load_default(12)
    columns = min(2, max(1, len(panels)))
    picture = Image.new('RGB', (columns * w, max(1, -(-len(panels) // 2)) * h), 'white')
    for k, (title, ys, xs, lines) in enumerate(panels):
        panel = Image.new('RGB', (w, h), 'white')
        draw = ImageDraw.Draw(panel)
        draw.text((52, 18), title, 'black', ImageFont.load_default(15), anchor='lm')
        for y, text in ys:
            draw.line((52, y, w - 12, y), (225, 229, 234))
            draw.text((46, y), text, (84, 96, 110), font, anchor='rm')
        for x, text in xs:
            draw.text((x, h - 18), text, (84, 96, 110), font, anchor='mm')
        for place, (name, runs) in enumerate(lines):
            x = w - 12 - 50 * (len(lines) - 1 - place)
            draw.text((x, 18), name, LINES[name], font, anchor='rm')
            for run in runs:
                draw.line(run, LINES[name], 3, joint='curve')
                if len(run) == 1:
                    draw.circle(run[0], 3, LINES[name])
        picture.paste(panel, (k % 2 * w, k // 2 * h))
    save_picture(np.asarray(picture), path)


def _curves(history):
    """The same as inline SVG, one for each panel; the page's style colours it."""
    w, h, out = 400, 250, []
    for title, ys, xs, lines in _panels(history, w, h):
        parts = [f'<text x="52" y="20" class="t">{title}</text>']
        parts += [
            f'<path class="g" d="M52 {y}H{w - 12}"/><text x="46" y="{y + 4}" class="e">{text}'
            '</text>'
            for y, text in ys
        ]
        parts += [f'<text x="{x}" y="{h - 10}" class="m">{text}</text>' for x, text in xs]
        for place, (name, runs) in enumerate(lines):
            x = w - 12 - 56 * (len(lines) - 1 - place)
            parts.append(f'<text x="{x}" y="20" class="e {name}">{name}</text>')
            for run in runs:
                points = 'L'.join(f'{px} {py}' for px, py in run) + ('h0' if len(run) == 1 else '')
                parts.append(f'<path class="c {name}" d="M{points}"/>')
        out.append(
            f'<svg viewBox="0 0 {w} {h}" role="img" aria-label="{title} by epoch: '
            f'{", ".join(name for name, _ in lines)}">{"".join(parts)}</svg>'
        )
    return ''.join(out)


# ------------------------------------------------------------------------ the report


class Report:
    """One self-contained HTML file: opens from disk, asks the network for nothing, has no script.

        report = Report('report.html', classes)
        report.add(name, image, truth, index)  # each image of the split
        report.write(counts, split='val')

    Images are streamed in; only the worst and the best stay, as small JPEG and PNG files.

    Args:
        path: the file to write; classes: ClassTable.
        keep: how many of the worst, and of the best; width: of their pictures, about, in pixels.
    """

    def __init__(self, path, classes, keep=6, width=480):
        self.path, self.classes, self.keep, self.width = Path(path), classes, keep, width
        self.images, self.worst, self.best = 0, [], []  # heaps: the first to go on top
        self.painted = set(classes.scored)  # what the key explains

    def add(self, name, image, truth, index):
        """One image, uint8 (H, W, C) or a path that is read where needed; truth, index (H, W)."""
        self.images += 1
        result = scores(confusion(truth, index, self.classes, other=True))
        if not result['pixels']:
            return
        shown = None
        for heap, sign in ((self.worst, -1), (self.best, 1)):
            order = (sign * result['miou'], -self.images)
            if len(heap) < self.keep or order > heap[0][:2]:
                shown = shown or self._shown(name, image, truth, index, result)
                heapq.heappush(heap, (*order, shown))
                if len(heap) > self.keep:
                    heapq.heappop(heap)

    def _shown(self, name, image, truth, index, result):
        scale = min(1, self.width / (truth.size * 4 / 3) ** 0.5)
        size = [max(1, round(side * scale)) for side in truth.shape[::-1]]
        image = Image.fromarray(_rgb(image)).resize(size, Image.Resampling.LANCZOS)
        maps = [Image.fromarray(a).resize(size, Image.Resampling.NEAREST) for a in (truth, index)]
        error = error_map(np.asarray(image), *map(np.asarray, maps), self.classes)
        for label in maps:
            self.painted |= {i for i in np.unique(label).tolist() if i < len(self.classes)}
            label.putpalette(self.classes.palette.tobytes())
        return (
            str(name),
            result,
            size,
            [
                _data_uri(image, 'JPEG', quality=80),
                *(_data_uri(label, 'PNG', optimize=True) for label in maps),
                _data_uri(Image.fromarray(error), 'JPEG', quality=80, subsampling=0),
            ],
        )

    def write(self, counts, settings=None, versions=None, history=None, split='', warnings=()):
        """Write the file, whole or not at all.

        Args:
            counts: metrics.confusion's, of all images; settings, versions: {name: value}.
            history: {'loss': [of each epoch], 'val_loss': [...], 'accuracy', 'miou',
                'learning_rate', ...}; what it lacks is left out.
            split: 'test', 'val', 'train', or what else the images are called.
            warnings: lines, as of metrics.warnings.
        """
        result, table = scores(counts), self.classes
        what, note = SPLITS.get(split, (split or 'labelled images', ''))
        absent = len(table.scored) - result['classes']
        notes = [
            note,
            absent
            and f'{absent} of {len(table.scored)} classes occur in neither truth '
            'nor prediction; the means leave them out.',
            *warnings,
        ]
        means = [
            f'<div><dt>{name}</dt><dd>{_percent(result[key])} %</dd></div>'
            for key, name in MEANS.items()
        ]
        parts = [
            f'<header><h1>Scores on {escape(what)}</h1><p>{self.images:,} images, '
            f'{result["pixels"]:,} scored pixels, {time.strftime("%Y-%m-%d %H:%M")}</p></header>',
            *(f'<p class="note">{escape(line)}</p>' for line in notes if line),
            f'<dl class="means">{"".join(means)}</dl>',
            _section('Classes, in percent', _class_table(result, table)),
            _section('Confusion', CONFUSION_NOTE + _confusion_table(counts, table)),
        ]
        curves = _curves(history or {})
        if curves:
            parts.append(_section('Training, by epoch', f'<div class="curves">{curves}</div>'))
        parts.append(self._images())
        for title, values in (('Settings', settings), ('Versions', versions)):
            rows = [
                f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(_text(v))}</td></tr>'
                for k, v in (values or {}).items()
            ]
            if rows:
                parts.append(_section(title, f'<table class="plain">{"".join(rows)}</table>'))
        page = PAGE.format(title=escape(f'Scores on {what}'), style=STYLE, body='\n'.join(parts))
        with whole_file(self.path, durable=False) as beside:
            beside.write_bytes(page.encode('utf-8', 'replace'))  # a file name may be no text

    def _images(self):
        table = self.classes
        worst, best = (
            [item[2] for item in sorted(heap, key=lambda item: item[:2], reverse=True)]
            for heap in (self.worst, self.best)
        )
        best = [b for b in best if all(b is not w for w in worst)]
        keys = [
            *((table.names[i], table.colours[i]) for i in sorted(self.painted)),
            ('error', WRONG),
            ('not scored', IGNORED),
        ]
        keys = ''.join(f'<li>{_swatch(c)}{escape(n)}</li>' for n, c in keys)
        keys = f'<ul class="key">{keys}</ul>'
        out = []
        for title, shown in (('Worst images' if best else 'Images', worst), ('Best images', best)):
            cards = ''.join(_card(f'{title[0]}{k}', *item) for k, item in enumerate(shown))
            if shown:
                out.append(_section(title, f'{keys}<div class="cards">{cards}</div>'))
        return ''.join(out)


def _section(title, content):
    return f'<section><h2>{title}</h2>{content}</section>'


def _scroll(label, content):
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{content}</div>'


def _swatch(colour):
    return f'<i style="background:{to_hex(colour)}"></i>'


def _percent(value):
    return '–' if value != value else f'{100 * value:.1f}'


def _text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _data_uri(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}'


def _class_table(result, table):
    heads = ''.join(f'<th scope="col">{name}</th>' for name in COLUMNS.values())
    rows = ''
    for place, i in enumerate(table.scored):
        rows += f'<tr><th scope="row">{_swatch(table.colours[i])}{escape(table.names[i])}</th>'
        for key in COLUMNS:
            value = result[key][place]
            bar = f' class="bar" style="--v:{100 * value:.1f}%"' if key == 'iou' else ''
            rows += f'<td{bar}>{_percent(value)}</td>'
        rows += '</tr>'
    return _scroll(
        'Scores of each class',
        '<table class="classes"><thead><tr><th scope="col">class'
        f'</th>{heads}</tr></thead><tbody>{rows}</tbody></table>',
    )


def _confusion_table(counts, table):
    rows, columns, share = _rows(counts, table)
    heads = ''.join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in columns)
    lines = []
    for i, name in enumerate(rows):
        cells = ''
        for j, value in enumerate(np.nan_to_num(share[i])):
            if value < 0.0005:
                cells += '<td></td>'
                continue
            tip = f'{name} predicted as {columns[j]}: {100 * value:.1f} %'
            text = f'{100 * value:.0f}' if value >= 0.005 else ''
            cells += (
                f'<td class="{"hit" if i == j else "miss"}" title="{escape(tip)}" '
                f'style="--a:{_strength(value, i == j):.2f}">{text}</td>'
            )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return _scroll(
        'Confusion matrix',
        '<table class="matrix"><thead><tr><td></td>'
        f'{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>',
    )


def _card(group, name, result, size, pictures):
    """Four radio buttons that choose one of four pictures: no script, and the arrow keys work."""
    name, kinds = escape(name), ('Image', 'Truth', 'Prediction', 'Error')
    inputs = ''.join(
        f'<input type="radio" name="{group}" id="{group}{k}"{" checked" if k == 2 else ""}>'
        f'<label for="{group}{k}">{kind}</label>'
        for k, kind in enumerate(kinds)
    )
    width, height = size
    images = ''.join(
        f'<img src="{uri}" alt="{kind} of {name}" width="{width}" height="{height}">'
        for kind, uri in zip(kinds, pictures)
    )
    return (
        f'<fieldset><legend><b>{name}</b> mIoU {_percent(result["miou"])} %, accuracy '
        f'{_percent(result["accuracy"])} %</legend>{inputs}<div>{images}</div></fieldset>'
    )


# The policy lets the page load nothing but its own pictures, whatever a file or class is called.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{style}</style></head><body><main>
{body}
</main></body></html>
"""
CONFUSION_NOTE = (
    '<p>Rows are the truth, columns the prediction: percent of the pixels of a class. '
    'Blue is right, orange is wrong.</p>'
)
STYLE = """
:root{--bg:#f5f6f8;--card:#fff;--ink:#17202a;--soft:#53606e;--line:#dfe4ea;--note:#fff4e0;
 --hit:37 99 235;--miss:234 88 12;--train:#64748b;--val:#1d4ed8}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#171d24;--ink:#e7ecf1;--soft:#9eabb8;
 --line:#2c3540;--note:#33270f;--hit:59 130 246;--train:#94a3b8;--val:#7ab0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);overflow-wrap:anywhere;
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.7rem;line-height:1.25;margin:0}
h2{font-size:1.1rem;margin:0 0 12px}
header p,section>p{color:var(--soft);margin:4px 0 14px}
section,.means div{background:var(--card);border:1px solid var(--line);border-radius:12px}
section{margin-top:20px;padding:20px}
.note{background:var(--note);border-radius:8px;padding:10px 14px;margin:0 0 10px}
.means{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:16px 0}
.means div{padding:14px 18px}
dt,thead th,legend,.key,label{color:var(--soft);font-size:.87rem}
dd{margin:0;font-size:1.6rem;font-weight:600}
.means div:first-child dd{color:var(--val)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-weight:500;text-align:left}
.classes,.plain{width:100%}
.classes *,.matrix *{white-space:nowrap}
.classes th,.classes td{padding:5px 10px;border-bottom:1px solid var(--line)}
.classes td,.classes thead th+th{text-align:right}
.bar{background:linear-gradient(90deg,rgb(var(--hit)/.2) var(--v),transparent 0) 0 50%/100% 70%
 no-repeat}
i{display:inline-block;width:14px;height:14px;border-radius:4px;margin-right:8px;
 vertical-align:-2px;border:1px solid rgb(128 128 128/.6)}
.matrix{border-collapse:separate;border-spacing:2px;font-size:.82rem}
.matrix td{width:42px;min-width:30px;height:30px;text-align:center;border-radius:4px;padding:0}
.matrix tbody td{background:rgb(128 128 128/.07)}
.matrix .hit{background:rgb(var(--hit)/var(--a))}
.matrix .miss{background:rgb(var(--miss)/var(--a))}
.matrix thead th{vertical-align:bottom}
.matrix span{writing-mode:vertical-rl;transform:rotate(180deg)}
.matrix th[scope=row]{position:sticky;left:0;background:var(--card);padding-right:8px;
 text-align:right}
.curves,.cards{display:grid;gap:22px}
.cards{grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}
.curves{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
svg{width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft)}
svg .t{font-size:14px;fill:var(--ink)}
svg .e{text-anchor:end}
svg .m{text-anchor:middle}
svg .g{stroke:var(--line)}
svg .c{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
path.train{stroke:var(--train);stroke-dasharray:1 4}
path.val{stroke:var(--val)}
svg text.val{fill:var(--val)}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:0 0 16px}
fieldset{border:0;padding:0;margin:0;min-width:0}
legend{padding:0;margin-bottom:6px}
legend b{display:block;color:var(--ink);font-size:.95rem}
input{position:absolute;opacity:0}
label{display:inline-block;padding:6px 11px;margin:0 4px 8px 0;border:1px solid var(--line);
 border-radius:8px;cursor:pointer;color:var(--ink)}
input:checked+label{background:rgb(var(--hit)/.16);border-color:rgb(var(--hit));font-weight:600}
input:focus-visible+label{outline:3px solid rgb(var(--hit)/.7);outline-offset:1px}
img{display:none;width:100%;height:auto;border-radius:8px}
input:nth-of-type(1):checked~div img:nth-of-type(1),
input:nth-of-type(2):checked~div img:nth-of-type(2),
input:nth-of-type(3):checked~div img:nth-of-type(3),
input:nth-of-type(4):checked~div img:nth-of-type(4){display:block}
.plain th,.plain td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
.plain th{width:34%;color:var(--soft)}
@media(max-width:600px){main{padding:18px 10px}section{padding:14px 12px}.classes{font-size:.82rem}
 .classes th,.classes td{padding:4px 3px}.matrix{border-spacing:1px;font-size:.68rem}
 .matrix td{min-width:22px;height:24px}.matrix th[scope=row]{padding-right:4px}}
"""
