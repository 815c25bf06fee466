"""Label files in every kind, small data sets of them, and small networks, for the tests."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from seg.classes import ClassTable
from seg.files import InputError
from seg.pairing import match_files

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


def save(make):
    return lambda path: make().save(path)


def corner(a, value):
    a = a.copy()
    a[7, 9:12] = value
    return Image.fromarray(a)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b'')
    return folder


def pair_files(images, labels):
    """The pairs of two sources that match; InputError for the first complaint."""
    pairs, complaints = match_files(images, labels)
    if complaints:
        raise InputError(complaints[0])
    return pairs


def small_network(channels, n, size=(None, None), seed=1):
    """A network that paints by colour; without a size, pictures at their own."""
    import keras

    from model import About
    from seg.classes import class_table
    from seg.sizes import SizeRule

    keras.utils.set_random_seed(seed)
    picture = keras.Input((*size, channels))
    x = keras.layers.Conv2D(16, 3, padding='same', activation='relu')(picture)
    output = keras.layers.Conv2D(n, 1, activation='softmax' if n > 1 else 'sigmoid')(x)
    model = keras.Model(picture, output)
    model.set_weights([4 * weight for weight in model.get_weights()])
    model.about = About(class_table(n), SizeRule('pad' if size[0] else 'tile', *size))
    return model
