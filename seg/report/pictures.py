"""Pictures from arrays: overlay, legend, error map, the preview page; writing them."""

import functools
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from scipy import ndimage

from seg.classes import indices_to_colours
from seg.files import MARK, whole_file
from seg.readers import to_rgb, viewable

WRONG, IGNORED = (255, 122, 40), (128, 128, 128)  # error map
OUTLINE = (255, 0, 200)  # seldom in a picture


def save_picture(picture, path, source=''):
    """Write a uint8 array (H, W, 3) as PNG or JPEG by the path's suffix, whole or not at all; a
    PNG keeps what `source` says of the picture that it was made of."""
    about = PngImagePlugin.PngInfo()
    about.add_text('Software', MARK)
    if source:
        about.add_text('Source', source)
    # Level 1 takes a third of the time for a few percent more bytes.
    options = {'pnginfo': about, 'compress_level': 1, 'comment': MARK.encode(), 'quality': 90}
    with whole_file(path, durable=False) as beside:
        Image.fromarray(picture).save(beside, **options)


def overlay(image, index, table, opacity=0.5):
    """uint8 image (H, W, 3) with the colours of the classes (H, W) over it."""
    colours = indices_to_colours(index, table)
    return np.asarray(Image.blend(Image.fromarray(image), Image.fromarray(colours), opacity))


def side_by_side(*pictures):
    """uint8 pictures of one height next to each other, two white pixels between them."""
    gap = (0, 0), (0, 2), (0, 0)
    return np.hstack([np.pad(p, gap, constant_values=255) for p in pictures])[:, :-2]


def to_name(index, table):
    """The classes that the legend of a label map (H, W) names: every scored one; of more than 24
    those that fill most of it."""
    most = np.argsort(-np.bincount(index.ravel(), minlength=256), kind='stable').tolist()
    scored = {*table.scored}
    return tuple(sorted([i for i in most if i in scored][:24]))


@functools.lru_cache(8)
def legend(table, width, shown=None):
    """uint8 (h, width, 3): colour and name of these classes, by default all scored, in lines."""
    shown = shown or table.scored
    size = max(10, min(20, width // 36))
    font = find_font(''.join(table.names)).font_variant(size=size)
    line, pad = int(size * 1.6), size // 2
    strip = Image.new('RGB', (width, line * (len(shown) + 1)), 'white')
    draw, x, y = ImageDraw.Draw(strip), pad, pad
    for i in shown:
        w = size + 3 * pad + int(font.getlength(table.names[i]))
        if x + w > width and x > pad:
            x, y = pad, y + line
        draw.rectangle((x, y, x + size, y + size), fill=table.colours[i], outline=(90, 90, 90))
        draw.text((x + size + pad, y + size // 2), table.names[i], 'black', font, anchor='lm')
        x += w
    return np.asarray(strip.crop((0, 0, width, y + line + pad // 2)))


@functools.lru_cache(8)
def find_font(text):
    """A font that has every character of `text`: Pillow's own, else an installed one."""
    default, wanted = ImageFont.load_default(12), set(''.join(text.split()))
    missing = bytes(default.getmask('\uffff'))  # a code point that no font draws
    if all(bytes(default.getmask(c)) != missing for c in wanted):
        return default
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    plain = 'normal', 400
    for font in sorted(fontManager.ttflist, key=lambda f: ((f.style, f.weight) != plain, f.fname)):
        with suppress(OSError, RuntimeError):  # removed since the list was made, or damaged
            if set(map(ord, wanted)) <= FT2Font(font.fname).get_charmap().keys():
                return ImageFont.truetype(font.fname)
    print(f'No installed font has all of {text[:40]!r}: install one, such as Noto Sans CJK')
    return default


def preview_page(cells, table, width=240):
    """uint8 (h, w, 3): each (caption, image uint8 (H, W, C), label uint8 (H, W)) of `cells` as
    image, label and overlay side by side, `width` pixels wide each."""
    tiles = []
    for _, image, label in cells:
        image = Image.fromarray(as_rgb(image))
        image.thumbnail((width, image.height))
        label = np.asarray(Image.fromarray(label).resize(image.size, Image.Resampling.NEAREST))
        looks = np.asarray(image), indices_to_colours(label, table)
        tiles.append(side_by_side(*looks, overlay(looks[0], label, table)))
    tall, wide = np.max([tile.shape[:2] for tile in tiles], axis=0).tolist()
    columns = max(1, round(len(tiles) ** 0.5 * 0.6))
    rows = -(-len(tiles) // columns)
    page = Image.new('RGB', (columns * (wide + 16) + 16, rows * (tall + 36) + 16), 'white')
    draw = ImageDraw.Draw(page)
    for i, ((caption, _, _), tile) in enumerate(zip(cells, tiles)):
        x, y = 16 + i % columns * (wide + 16), 8 + i // columns * (tall + 36)
        font = find_font(caption).font_variant(size=15)
        draw.text((x, y + 14), caption, 'black', font, anchor='lm')
        page.paste(Image.fromarray(tile), (x, y + 26))
    return np.asarray(page)


def error_map(image, truth, index, table):
    """uint8 (H, W, 3): correct pixels dimmed, wrong ones orange, void grey; of an image, uint8
    (H, W, C) or a path, and its truth and index (H, W)."""
    grey = np.asarray(Image.fromarray(as_rgb(image)).convert('L'), np.float32)[..., None]
    scored = np.isin(truth, table.scored)[..., None]
    highlight = np.array(WRONG) * (0.65 + 0.35 * grey / 255)  # the image shows through
    picture = np.where((truth != index)[..., None], highlight, 0.45 * grey)
    return np.where(scored, picture, IGNORED).astype(np.uint8)


def outlined(image, mask, side=200):
    """uint8 (h, w, 3), `side` pixels its longer side: a picture (H, W, C) with a line around what a
    mask, bool and perhaps of another size, is True for."""
    size = [max(1, round(n * side / max(image.shape[:2]))) for n in image.shape[1::-1]]
    picture = Image.fromarray(as_rgb(image)).resize(size, Image.Resampling.LANCZOS)
    inside = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    line = ndimage.binary_dilation(inside, iterations=2) & ~inside
    return np.where(line[..., None], np.uint8(OUTLINE), np.asarray(picture))


def as_rgb(image):
    """A picture, uint8 or uint16 (H, W) or (H, W, C), or a path, as uint8 (H, W, 3)."""
    return viewable(image) if isinstance(image, (str, Path)) else to_rgb(np.asarray(image))
