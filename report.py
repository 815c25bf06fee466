"""Pictures people look at: colour mask, overlay, legend. No TensorFlow."""

import errno
import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labels import InputError, indices_to_colours

FONT_FOLDERS = ('/usr/share/fonts', '/usr/local/share/fonts', '~/.fonts', '~/.local/share/fonts',
                '/System/Library/Fonts', '/Library/Fonts', 'C:/Windows/Fonts')  # fmt: skip


def to_index(probability, table):
    """Probabilities (H, W, C) -> uint8 (H, W): the most probable of the scored classes.

    One channel is the two-class net's: 1 where it is 0.5 or more. An index map passes unchanged.
    """
    probability = np.asarray(probability)
    if probability.ndim == 2:
        return probability.astype(np.uint8)
    if probability.shape[-1] == 1:
        return (probability[..., 0] >= 0.5).astype(np.uint8)
    return np.array(table.scored, np.uint8)[probability[..., table.scored].argmax(-1)]


def save_picture(picture, path):
    """Write a uint8 array (H, W, 3) as PNG or JPEG by the path's suffix, whole or not at all."""
    path = Path(path)
    beside = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        # Level 1 takes a third of the time for a few percent more bytes.
        Image.fromarray(picture).save(beside, compress_level=1, quality=90)
        os.replace(beside, path)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise InputError(f'{path}: can not write ({os.strerror(e.errno)}); free space there or '
                         'name another folder with --output') from None  # fmt: skip
    finally:
        beside.unlink(missing_ok=True)


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
    print('No installed font has every character of the class names; the legend shows boxes. '
          'Install one, such as Noto Sans CJK.')  # fmt: skip
    return default


def _covers(font, text):
    missing = bytes(font.getmask('\uffff'))  # a code point that no font draws
    return all(bytes(font.getmask(c)) != missing for c in set(text) if not c.isspace())


def side_by_side(*pictures):
    """uint8 pictures of one height next to each other, two white pixels between them."""
    gap = np.full((pictures[0].shape[0], 2, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)][:-1])
