"""Folders -> batches: read pairs, augment, one-hot; and masks back into files.

    train_gene = trainGenerator(batch_size=2, aug_dict=aug_args, train_path='CamVid/',
                                image_folder='train', label_folder='trainannot')

Sample k of a training stream, its picture and its random transform, follows from (seed, k) alone:
any number of parallel calls gives the same stream, and a stream can start anywhere.
"""

import seg  # noqa: F401 - first: it sets what TensorFlow reads when it is imported

# isort: split

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import tensorflow as tf
from PIL import Image

from seg import augment, hosts, pictures, readers, report
from seg.check import examine
from seg.classes import NO_CLASS, class_table, indices_to_colours, to_index
from seg.files import InputError, counted, list_pictures, make_folder
from seg.losses import border_weight, one_hot
from seg.settings import Settings
from seg.sizes import SizeRule, resize
from seg.sources import load
from seg.tiles import OnDisk

__all__ = ['adjustData', 'labelVisualize', 'saveResult', 'testGenerator', 'trainGenerator']
__all__ += ['valGenerator', 'SingleCenterCrop', 'CenterCrop', 'CenterCrop_npy']
__all__ += ['random_brightness', 'show_images']
CACHE_BYTES = 2 << 30  # decoded pictures kept in memory, in all; what is beyond is read again


class Pairs:
    """Image and label of one split of a DataSet as arrays; decoded ones are kept while room lasts.

    Args: rule: SizeRule that makes network inputs of them; None leaves them as they are.
        room: [bytes], shared by all that draw on it. folder: where crops are cut from larger
        pictures, those for which there is no room are kept there, decoded, on disk.
        borders: whether the label becomes uint16, the class + 256 times its border_weight.
    Raises: InputError that names the first file that can not be used, at once or, for pictures
        that are not kept, when it is read; `error` is then the same.
    """

    def __init__(self, data, split='train', rule=None, room=None, folder=None, borders=False):
        self.data, self.pairs, self.rule = data, data.splits[split], rule
        self.cropped = bool(rule) and rule.kind == 'tile'
        self.cache, self.error, self.places, self.borders = {}, None, {}, borders
        self.dtype = pictures.Picture(self.pairs[0][0], data.channels, data.intensity).dtype
        room = [CACHE_BYTES] if room is None else room
        writing, disk = Lock(), []  # all in one file: a process may open a thousand

        def keep(i):
            pair = self._read(i)
            with writing:
                room[0] -= sum(part.nbytes for part in pair)
                if room[0] >= 0:
                    self.cache[i] = pair
                elif folder:
                    for part in pair:
                        file = disk[-1].file if disk else None
                        disk.append(OnDisk(part.shape, part.dtype, folder, file))
                        disk[-1].append(part)
                    self.cache[i] = disk[-2:]
                return room[0] >= 0 or folder

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self), 64):  # a few at a time: a large set is not all read
                if not all(pool.map(keep, range(start, min(start + 64, len(self))))):
                    return

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        """(image uint8 or uint16 (H, W, C), label uint8 or uint16 (H, W)) of pair i, or OnDisk."""
        try:
            return self.cache[i] if i in self.cache else self._read(i)
        except InputError as e:
            self.error = e  # tf.data would bury it in a traceback
            raise

    def sample(self, k, seed):
        """(image, label) of sample k of the training stream, of the rule's size. A crop lies
        anywhere; of every third, at random, at a place where it holds a pixel of a class drawn from
        those of the picture but its largest, as nnU-Net's (Isensee et al., Nature Methods 2021)
        hold foreground."""
        i = sample_index(k, len(self), seed)
        image, label = self[i]
        if not self.cropped:
            return image, label
        rng = np.random.default_rng((seed, 7, k))
        size = self.rule.height, self.rule.width
        free = [max(side - crop, 0) for side, crop in zip(label.shape, size)]
        start = [int(rng.integers(most + 1)) for most in free]
        rare = self.places[i] if i in self.places else self._places(i, label)
        if rare and rng.random() < 1 / 3:
            pixels = rare[rng.integers(len(rare))]
            place = divmod(int(pixels[rng.integers(len(pixels))]), label.shape[1])
            start = [
                min(max(at - int(rng.integers(crop)), 0), most)
                for at, crop, most in zip(place, size, free)
            ]
        window = tuple(slice(at, at + crop) for at, crop in zip(start, size))
        image, label = image[window], label[window]
        pads = [(0, crop - side) for crop, side in zip(size, label.shape)]
        if np.any(pads):
            image = np.pad(image, [*pads, (0, 0)], mode='edge')
            label = np.pad(label, pads, constant_values=NO_CLASS)
        return image, label

    def _places(self, i, label):
        """[pixels, 256 at most, as places in the flattened label] of each scored class of pair i
        but the largest."""
        flat = np.asarray(label).astype(np.uint8).ravel()  # without border weights
        counts = np.bincount(flat, minlength=256)
        held = [c for c in self.data.classes.scored if counts[c]]
        held.remove(max(held, key=counts.__getitem__)) if held else None
        rng = np.random.default_rng((11, i))
        places = []  # published whole: other threads read it
        for c in held:
            step = max(1, int(counts[c]) // 65536) | 1  # of a frequent one some suffice
            step += 2 * (label.shape[1] % step == 0 and step > 1)  # not one column of all rows
            found = np.flatnonzero(flat[::step] == c) * step
            found = found if len(found) else np.flatnonzero(flat == c)
            places.append(rng.choice(found, min(256, len(found)), replace=False))
        self.places[i] = places
        return places

    def _read(self, i):
        (image_path, label_path), data, rule = self.pairs[i], self.data, self.rule
        image = pictures.read_image(image_path, data.channels, data.intensity)
        if image.dtype != self.dtype:
            image = pictures.to_bytes(image) if self.dtype == np.uint8 else image * np.uint16(257)
        raw = data.looked.get(label_path)
        if getattr(raw, 'inverse', None) is None:
            raw = readers.read_raw(label_path)
        else:
            data.looked[label_path] = raw._replace(inverse=None)  # once is enough
        label = readers.to_classes(raw, data.classes, data.formats)
        wanted, of = image.shape[:2], f'its image {image_path}'
        if rule and rule.kind == 'whole':
            wanted, of = (rule.height, rule.width), f'{self.pairs[0][0]}; --size resizes all'
        for path, shape in ((image_path, image.shape[:2]), (label_path, label.shape)):
            if shape != wanted:
                found = '{}x{} pixels, expected {}x{}'.format(*shape, *wanted)
                raise InputError(f'{path}: {found} as {of}')
        if rule and not self.cropped:
            image, label = rule.image(image), rule.label(label)
        if self.borders:
            label = label + np.uint16(256) * border_weight(label, data.classes)
        return image, label


def read_pairs(data, folder='.', borders=False):
    """(training Pairs as network inputs, validation Pairs as they are) of a DataSet; folder: where
    pictures that crops are cut from may be kept on disk."""
    crops = data.rule.kind == 'tile'  # disk serves these nearly as well
    room, folder = [CACHE_BYTES // (4 if crops else 1)], make_folder(folder) if crops else None
    how = dict(room=room, folder=folder)
    train = Pairs(data, 'train', data.rule, borders=borders, **how)
    return train, Pairs(data, 'val', None, **how)


def sample_index(k, n, seed):
    """Which of n pairs is sample k of the training stream."""
    return _permutation(k // n, n, seed)[k % n]


@lru_cache(8)
def _permutation(pass_, n, seed):
    return np.random.default_rng((seed, pass_)).permutation(n)


def train_batches(
    pairs,
    batch_size,
    num_class,
    augmentation=None,
    seed=1,
    start=0,
    save=None,
    size=None,
    share=(0, 1),
):
    """Endless tf.data.Dataset of (images float32 (N, H, W, C) in 0..1, one-hot float32).

    Every pass over the pairs is a fresh permutation; `start` is the sample to begin with. The pair
    function of `augmentation` draws from (seed, k), its mixing function from (seed, the batch's
    first k). save: also called with (k, image 0..255, label) of each augmented pair. size: to
    which augmented pairs are shrunk. share: (r, n), of each batch the n-th part alone whose k is
    r modulo n; they are mixed among themselves.
    """
    whole, top = (pairs.rule.height, pairs.rule.width), np.iinfo(pairs.dtype).max

    def sample(k):
        return pairs.sample(int(k), seed)

    def load(k):
        kinds = tf.as_dtype(pairs.dtype), tf.uint16 if pairs.borders else tf.uint8
        image, label = tf.numpy_function(sample, [k], kinds)
        image.set_shape((*whole, pairs.data.channels))
        label.set_shape(whole)
        image = tf.cast(image, tf.float32) / top
        if augmentation:
            image, label = augmentation.pair(image, label, (tf.constant(seed, tf.int64), k))
        if save:
            saved = tf.numpy_function(save, [k, image * 255, label], tf.int64)
            with tf.control_dependencies([saved]):
                image = tf.identity(image)
        if size:
            image = tf.image.resize(image, size, 'area')
            label = tf.image.resize(label[..., None], size, 'nearest')[..., 0]
        return k, image, label

    def finish(k, images, labels):  # one-hot of the batch: 9 MB a picture are written once
        y = one_hot(labels, num_class)
        if augmentation and augmentation.mix:
            return augmentation.mix(images, y, (tf.constant(seed, tf.int64), k[0]))
        return images, y

    place, parts = share
    numbers = tf.data.Dataset.counter(start + place, parts)
    samples = numbers.map(load, tf.data.AUTOTUNE, deterministic=True)
    batches = samples.batch(batch_size // parts, drop_remainder=True).map(finish, tf.data.AUTOTUNE)
    return steady(batches.prefetch(2))


def steady(dataset):
    """The same without TensorFlow's tuning, which adds a thread that sleeps for up to a minute and
    for which the end of a dataset waits; as many calls are in work as there are cores."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class Stream:
    """What a run trains on: batches from any sample on, and the files that a sample is made of."""

    def __init__(self, pairs, settings, num_class, teacher=None):
        self.pairs, self.settings, self.num_class = pairs, settings, num_class
        self.teacher = teacher  # seg.teacher.Teacher, or None
        self.augmentation = augment.from_aug_dict(settings.aug_dict)
        if settings.augment:
            self.augmentation = augment.parse(settings.augment)

    def batches(self, start=0, size=None):
        s, how = self.settings, (self.num_class, self.augmentation)
        how = self.pairs, s.batch_size, *how, s.seed, start
        found = train_batches(*how, size=size, share=(hosts.rank(), hosts.count()))
        if self.teacher:
            rule = self.pairs.rule
            found = self.teacher.batches(found, size or (rule.height, rule.width))
        return found

    def half(self):
        """About half of the pictures' sides, as at_any_size takes them: multiples of 32."""
        rule = self.pairs.rule
        return tuple(max(round(side / 64), 1) * 32 for side in (rule.height, rule.width))

    def files(self, first, count):
        """Paths of the images of samples first, first + 1, ..."""
        n, seed = len(self.pairs), self.settings.seed
        places = [sample_index(k, n, seed) for k in range(first, first + count)]
        return [self.pairs.pairs[i][0] for i in places]


def draw_preview(data, settings, flags):
    """One page: every augmentation, or those of settings.augment; with flags['batches'] the first
    batches as training gets them."""
    pairs, n = Pairs(data, 'train', data.rule), len(data.classes)
    if flags.get('batches'):
        numbered = enumerate(Stream(pairs, settings, n).batches().take(6))
        size = settings.batch_size
        cells = [c for i, (x, y) in numbered for c in augment.batch_cells(x, y, i * size)]
    else:
        two = [pairs.sample(k, settings.seed) for k in range(2)] if pairs.cropped else None
        two = two or [pairs[0], pairs[len(pairs) - 1]]
        two = [(pictures.to_bytes(image), label) for image, label in two]
        cells = augment.preview_cells(two, n, settings.augment or '', settings.seed)
    report.save_picture(report.preview_page(cells, data.classes), flags['page'])
    print(f'Wrote {flags["page"]}: {counted(len(cells), "example")}, each image, label and both')


def trainGenerator(
    batch_size,
    aug_dict,
    train_path,
    image_folder,
    label_folder,
    image_color_mode='rgb',
    label_color_mode='rgb',
    image_save_prefix='image',
    label_save_prefix='label',
    flag_multi_class=True,
    num_class=13,
    save_to_dir=None,
    target_size=None,
    seed=1,
):
    """Endless augmented batches (images, one-hot) of train_path/image_folder and label_folder.

    Args:
        aug_dict: arguments of ImageDataGenerator. image_color_mode: 'rgb' or 'grayscale';
            label_color_mode: the same, though the label reader sees for itself which it is.
        flag_multi_class: False reads masks of 0/1 or 0/255 as background and foreground;
            num_class is then 1 (one channel) or 2.
        save_to_dir: also write each augmented pair there, under the two prefixes.
        target_size: (H, W) to resize to; None keeps the files' own size.
    Raises: InputError (a ValueError) that names the file or argument that is wrong.
    """
    for mode in (image_color_mode, label_color_mode):
        if mode not in ('rgb', 'grayscale'):
            raise InputError(f"color mode {mode!r}: expected 'rgb' or 'grayscale'")
    if not flag_multi_class and num_class > 2:
        num_class = 2  # the article's default of 13 means nothing here
    where = dict(images=Path(train_path, image_folder), labels=Path(train_path, label_folder))
    found = load(
        Settings(size=target_size, resize='stretch', val_split=0, **where),
        classes=class_table(num_class),
    )
    examine(found, fast=True)
    sizes = {glance.shape for glance in found.seen(0).values()}
    if len(sizes) == 1 and not target_size:
        found = replace(found, rule=SizeRule('whole', *sizes.pop()))
    if found.rule.kind == 'tile':
        raise InputError(f'{found.where}: pictures of several sizes; give target_size')
    data = replace(found, channels=1 if image_color_mode == 'grayscale' else 3)

    def save(k, image, label):
        for prefix, x in ((image_save_prefix, image), (label_save_prefix, label)):
            x = np.squeeze(x).round().clip(0, 255).astype(np.uint8)
            report.save_picture(x, Path(save_to_dir) / f'{prefix}_{k:06d}.png')
        return k

    save = save if save_to_dir and make_folder(save_to_dir) else None
    how = num_class, augment.from_aug_dict(aug_dict), seed
    return train_batches(Pairs(data, 'train', data.rule), batch_size, *how, save=save)


def valGenerator(batch_size, aug_dict, val_path, image_folder, label_folder, **kwargs):
    """trainGenerator for the validation folders: it obeys its arguments, augmentation included.

    main.py validates on untouched pictures instead, each once.
    """
    return trainGenerator(batch_size, aug_dict, val_path, image_folder, label_folder, **kwargs)


def testGenerator(test_path, target_size=None, flag_multi_class=True, as_gray=False):
    """One batch of one image (1, H, W, C) after another, in name order; `.names` are the files'."""
    files = list_pictures(test_path)
    channels = 1 if as_gray else 3

    def read(i):
        image = pictures.read_image(files[int(i)], channels)
        image = resize(image, target_size or image.shape[:2], Image.Resampling.LANCZOS)
        return image / np.float32(np.iinfo(image.dtype).max)

    def load(i):
        image = tf.numpy_function(read, [i], tf.float32)
        image.set_shape((*(target_size or (None, None)), channels))
        return image

    images = tf.data.Dataset.range(len(files)).map(load, tf.data.AUTOTUNE, deterministic=True)
    images = steady(images.batch(1).prefetch(2))
    images.names = [f.name for f in files]
    return images


def adjustData(img, mask, flag_multi_class=True, num_class=13):
    """Images of 0..255 or 0..1 to 0..1 and masks to one-hot, as the article's pipeline does.

    mask: class indices (N, H, W, C) or (H, W, C), of which channel 0 counts, or (H, W).
    Returns: float32 images; float32 one-hot (..., H, W, num_class), or for two classes 0/1 of the
        mask's own shape.
    """
    img = np.asarray(img)
    scale = 255 if img.dtype.kind in 'ui' or img.max(initial=0) > 1 else 1
    img, mask = img.astype(np.float32) / scale, np.asarray(mask)
    if not flag_multi_class:
        return img, (mask > (127.5 if mask.max(initial=0) > 1 else 0.5)).astype(np.float32)
    mask = mask[..., 0] if mask.ndim > 2 else mask
    return img, (mask[..., None] == np.arange(num_class)).astype(np.float32)


def labelVisualize(num_class, color_dict, img):
    """Class indices (H, W) or (H, W, C), of which channel 0 counts -> colours (H, W, 3) in 0..1.

    color_dict: (num_class, 3) of 0..255.
    """
    img = np.asarray(img)
    img = img[..., 0] if img.ndim == 3 else img
    return np.asarray(color_dict)[:num_class][img.astype(int)] / 255


def saveResult(save_path, npyfile, names=None, flag_multi_class=True, num_class=None, classes=None):
    """Write predictions as colour masks, one PNG each; returns how many.

    npyfile: iterable of probabilities (H, W, num_class), taken one by one: a generator needs no
        memory. One channel is thresholded at 0.5.
    names: of the images, which the masks take; without 0_predict.png, ... as in the article.
    classes: ClassTable; default that of the number of channels. Void is never painted.
    """
    folder, count = make_folder(save_path), 0
    for i, probability in enumerate(npyfile):
        table = classes or class_table(num_class or probability.shape[-1])
        name = Path(names[i]).stem if names else f'{i}_predict'
        mask = indices_to_colours(to_index(probability, table), table)
        report.save_picture(mask, folder / f'{name}.png')
        count += 1
    return count


class SingleCenterCrop:
    """SingleCenterCrop(size)(img): the middle of a PIL picture; size an int or (height, width).

    Raises: InputError (a ValueError) for a crop larger than the picture, and for a mask unlike it.
    """

    def __init__(self, size):
        self.size = (size, size) if np.isscalar(size) else size

    def __call__(self, img):
        return img.crop(self._window(img.height, img.width))

    def _window(self, height, width):
        """(left, top, right, bottom)."""
        h, w = self.size
        if not (0 < h <= height and 0 < w <= width):
            raise InputError(f'crop of {h}x{w}: expected at most the picture, {height}x{width}')
        top, left = math.ceil((height - h) / 2), math.ceil((width - w) / 2)
        return left, top, left + w, top + h

    def _same(self, img, mask):
        if img != mask:
            raise InputError(f'mask of {mask}: expected the size of its image, {img}')


class CenterCrop(SingleCenterCrop):
    """CenterCrop(size)(img, mask): the middle of a PIL picture and of its mask of the same size."""

    def __call__(self, img, mask):
        self._same(img.size, mask.size)
        return super().__call__(img), super().__call__(mask)


class CenterCrop_npy(SingleCenterCrop):
    """CenterCrop_npy(size)(img, mask): the same for arrays (H, W, C), masks (H, W) or (H, W, K)."""

    def __call__(self, img, mask):
        self._same(img.shape[:2], mask.shape[:2])
        left, top, right, bottom = self._window(*img.shape[:2])
        return img[top:bottom, left:right], mask[top:bottom, left:right]


def random_brightness(images, max_delta=0.2, seed=None):
    """A batch (N, H, W, C), each picture brighter or darker by its own -max_delta..max_delta.

    uint8 stays uint8 of 0..255; floats are of 0..1. Both are clipped.
    """
    images = np.asarray(images)
    shift = np.random.default_rng(seed).uniform(-max_delta, max_delta, (len(images), 1, 1, 1))
    if images.dtype == np.uint8:
        return (images + 255 * shift).round().clip(0, 255).astype(np.uint8)
    return (images + shift).clip(0, 1).astype(images.dtype)


def show_images(images, columns=4, path=None):
    """A PIL picture with all `images` in rows of `columns`, saved under `path` where it is given.

    images: arrays (H, W, C) or (H, W), uint8 of 0..255 or floats of 0..1. A notebook shows what is
    returned; elsewhere call its show().
    """
    tiles = [np.squeeze(x) for x in images]
    tiles = [x if x.dtype == np.uint8 else np.uint8((x * 255).round().clip(0, 255)) for x in tiles]
    h, w = (max(x.shape[i] for x in tiles) for i in (0, 1))
    sheet = Image.new('RGB', (w * min(columns, len(tiles)), h * -(-len(tiles) // columns)))
    for i, x in enumerate(tiles):
        sheet.paste(Image.fromarray(x), (i % columns * w, i // columns * h))
    if path:
        report.save_picture(np.asarray(sheet), path)
    return sheet
