"""Pictures from arrays: overlay, legend, errors, the preview page; writing them."""

import functools
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from scipy import ndimage

from seg.classes import indices_to_colours
from seg.files import MARK, whole_file
from seg.pictures import to_rgb, viewable
from seg.sizes import resize

SIDE = 480  # pixels that the longer side of a picture to look at has at least
LINE = (255, 255, 255)  # between classes
WRONG, IGNORED = (255, 122, 40), (205, 208, 214)  # errors; no class has this grey
OUTLINE = (255, 0, 200)  # seldom in a picture


def save_picture(picture, path, source=''):
    """Write a uint8 array (H, W) or (H, W, 3), or a PIL image, as PNG or JPEG by the path's suffix,
    whole or not at all; a PNG keeps what `source` says of the picture that it was made of."""
    about = PngImagePlugin.PngInfo()
    about.add_text('Software', MARK)
    if source:
        about.add_text('Source', source)
    # Level 1 takes a third of the time for a few percent more bytes.
    options = {'pnginfo': about, 'compress_level': 1, 'comment': MARK.encode(), 'quality': 90}
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    with whole_file(path, durable=False) as beside:
        picture.save(beside, **options)


def mask(index, table):
    """A label map (H, W) in colours: uint8 (H, W, 3); of two classes a PIL image whose pixels stay
    class indices, by a palette with the background transparent."""
    if len(table.scored) != 2 or table.ground is None:
        return indices_to_colours(index, table)
    picture = Image.fromarray(index)
    picture.putpalette(table.display.tobytes(), 'RGBA')
    return picture


def layer(index, table, opacity=0.5):
    """uint8 (H, W, 4), RGBA, to lay over a picture: colours of classes (H, W) but the background's,
    and lines where one ends; around what has a background in its own colour."""
    palette, lines = table.display, np.zeros(index.shape, bool)
    down, right = index[1:] != index[:-1], index[:, 1:] != index[:, :-1]
    lines[1:] |= down
    lines[:, 1:] |= right
    if table.ground is not None:  # on both sides, of which the background's shows nothing
        lines[:-1] |= down
        lines[:, :-1] |= right
    wider = max(index.shape) // (1000 if table.ground is None else 400)  # as pictures are larger
    lines = ndimage.binary_dilation(lines, iterations=wider) if wider else lines
    palette[:, 3] = np.round(palette[:, 3] * opacity)
    made = palette.take(index, axis=0)
    made[lines] = (*LINE, 255) if table.ground is None else table.display[index[lines]]
    return made


def overlay(image, index, table, opacity=0.5):
    """uint8 image (H, W, 3) with the layer of its classes (H, W) over it."""
    picture = Image.fromarray(image).convert('RGBA')
    picture.alpha_composite(Image.fromarray(layer(index, table, opacity)))
    return np.asarray(picture.convert('RGB'))


def in_colours(index, table):
    """uint8 (H, W, 3) of a label map (H, W), to look at where nothing is transparent."""
    return table.display[:, :3].take(index, axis=0)


def enlarged(image, *labels, side=SIDE):
    """Picture (H, W, C) and label maps (H, W), a small one's so many times larger that the longer
    side has `side` pixels at least."""
    times = -(-side // max(image.shape[:2]))
    size = [times * n for n in image.shape[:2]]
    labels = [resize(label, size, Image.Resampling.NEAREST) for label in labels]
    return resize(image, size, Image.Resampling.BICUBIC), *labels


def side_by_side(*pictures):
    """uint8 pictures of one height next to each other, two white pixels between them."""
    gap = (0, 0), (0, 2), (0, 0)
    return np.hstack([np.pad(p, gap, constant_values=255) for p in pictures])[:, :-2]


@functools.lru_cache(8)
def legend(table, width=SIDE):
    """uint8 (h, width, 3): colour and name of all scored classes but the background, in lines."""
    shown = [i for i in table.scored if i != table.ground]
    size = max(10, min(20, width // 30))
    font = find_font(''.join(table.names)).font_variant(size=size)
    line, pad = int(size * 1.6), size // 2
    strip = Image.new('RGB', (width, line * (len(shown) + 1)), 'white')
    draw, x, y = ImageDraw.Draw(strip), pad, pad
    for i in shown:
        w = size + 3 * pad + int(font.getlength(table.names[i]))
        if x + w > width and x > pad:
            x, y = pad, y + line
        colour = tuple(table.display[i, :3].tolist())
        draw.rectangle((x, y, x + size, y + size), fill=colour, outline=(90, 90, 90))
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
        image, label = enlarged(as_rgb(image), label, side=width)
        image = Image.fromarray(image)
        image.thumbnail((width, image.height))
        label = np.asarray(Image.fromarray(label).resize(image.size, Image.Resampling.NEAREST))
        looks = np.asarray(image), in_colours(label, table)
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


def errors(truth, index, table):
    """uint8 (H, W, 4), RGBA, to lay over a darkened picture: what of index (H, W) is wrong orange,
    what is not scored grey."""
    made = np.zeros((*truth.shape, 4), np.uint8)
    made[truth != index] = (*WRONG, 215)  # the picture shows through
    made[~np.isin(truth, table.scored)] = (*IGNORED, 255)
    return made


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
