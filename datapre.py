"""Folders -> batches: pair files, read, augment, one-hot; and masks back into files.

    train_gene = trainGenerator(batch_size=2, aug_dict=aug_args, train_path='CamVid/',
                                image_folder='train', label_folder='trainannot')

Sample k of a training stream, its picture and its random transform, follows from (seed, k) alone:
any number of parallel calls gives the same stream, and a stream can start anywhere.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from seg import augment, report
from seg.readers import (
    InputError,
    class_table,
    indices_to_colours,
    list_pictures,
    open_picture,
    pair_files,
    read_label,
    recognise,
)

__all__ = [
    'adjustData',
    'labelVisualize',
    'saveResult',
    'testGenerator',
    'trainGenerator',
    'valGenerator',
]
CACHE_BYTES = 2 << 30  # decoded pictures kept in memory; what is beyond is read again


# ---------------------------------------------------------------------------- reading


def read_image(path, color_mode='rgb', size=None):
    """uint8 (H, W, 3), or (H, W, 1) for 'grayscale'; upright; `size` (H, W) resizes, anti-aliased."""
    picture = open_picture(path)
    if picture.mode.startswith(('I', 'F')):  # 16 bits: PIL's own conversion would clip at 255
        deep = np.asarray(picture, np.float32)
        if not np.isfinite(deep).all():
            raise InputError(f'{path}: holds values that are not finite; replace the file')
        top = 65535 if deep.max() > 255 else 255
        picture = Image.fromarray((deep.clip(0, top) * (255 / top)).round().astype(np.uint8))
    picture = picture.convert('L' if color_mode == 'grayscale' else 'RGB')
    if size and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    image = np.asarray(picture)
    return image[..., None] if image.ndim == 2 else image


class Pairs:
    """Image and label files, read through one reader, kept decoded as uint8 within CACHE_BYTES.

    Args:
        pairs: [(image path, label path)].
        classes: ClassTable.
        size: (H, W) of every picture; None takes the first one's, and all must have it.
        two_class: masks of 0/255 are background and foreground.
        color_mode: 'rgb' or 'grayscale'.
    Raises: InputError that names the first file that can not be used, when constructed.
    """

    def __init__(self, pairs, classes, size=None, two_class=False, color_mode='rgb'):
        self.pairs, self.classes, self.two_class = pairs, classes, two_class
        self.color_mode, self.resize, self.cache, self.error = color_mode, size, {}, None
        self.size = size or open_picture(pairs[0][0]).size[::-1]
        channels = 1 if color_mode == 'grayscale' else 3
        self.input_size = (*self.size, channels)
        self.format = recognise([label for _, label in pairs], classes, two_class)
        fit = CACHE_BYTES // (self.size[0] * self.size[1] * (channels + 1))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # the first broken file stops the run
            for i, pair in enumerate(pool.map(self._read, range(len(pairs)))):
                if i < fit:
                    self.cache[i] = pair

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        """(image uint8 (H, W, C), label uint8 (H, W)) of pair i."""
        if i in self.cache:
            return self.cache[i]
        try:
            return self._read(i)
        except InputError as e:
            self.error = e  # tf.data would bury it in a traceback
            raise

    def _read(self, i):
        image_path, label_path = self.pairs[i]
        image = read_image(image_path, self.color_mode, self.resize)
        label = read_label(label_path, self.classes, self.two_class, self.format)
        if self.resize and label.shape != tuple(self.resize):
            label = np.asarray(Image.fromarray(label).resize(self.resize[::-1], 0))  # nearest
        for path, shape in ((image_path, image.shape[:2]), (label_path, label.shape)):
            if shape != tuple(self.size):
                raise InputError(
                    f'{path}: {shape[0]}x{shape[1]} pixels, expected {self.size[0]}x{self.size[1]} '
                    f'as {self.pairs[0][0]}; --size resizes all'
                )
        return image, label


# ---------------------------------------------------------------------------- batches


def one_hot(label, num_class):
    """uint8 (..., H, W) indices -> float32 (..., H, W, num_class); 255 gives zeros.

    One class is the two-class net's single channel: 1 foreground, 0 background, -1 no class.
    """
    if num_class == 1:
        y = tf.where(label == 255, -1.0, tf.cast(label, tf.float32))
        return y[..., None]
    return tf.one_hot(label, num_class)


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
    aug_dict=None,
    seed=1,
    start=0,
    save_to_dir=None,
    image_save_prefix='image',
    label_save_prefix='label',
    augmentation=None,
):
    """Endless tf.data.Dataset of (images float32 (N, H, W, C) in 0..1, one-hot float32).

    Every pass over the pairs is a fresh permutation. `start` is the sample to begin with.
    `augmentation`, from augment.parse, follows on `aug_dict`: its pair functions draw from
    (seed, k), its mixing functions from (seed, the batch's first k).
    """
    draws = augment.Draws(aug_dict)

    def sample(k):
        image, label = pairs[sample_index(int(k), len(pairs), seed)]
        word = np.random.SeedSequence((seed, int(k))).generate_state(1)[0]
        return image, label, draws.draw(image.shape, word)

    def load(k):
        image, label, draw = tf.numpy_function(sample, [k], (tf.uint8, tf.uint8, tf.float32))
        image.set_shape(pairs.input_size)
        label.set_shape(pairs.size)
        draw.set_shape((len(augment.DRAW),))
        image = tf.cast(image, tf.float32)
        if aug_dict:
            image, label = augment.apply_draw(image, label, draw, draws.fill_mode, draws.cval)
        image = image / 255
        if augmentation:
            image, label = augmentation.pair(image, label, (tf.constant(seed, tf.int64), k))
        if save_to_dir:
            saved = tf.numpy_function(save, [k, image * 255, label], tf.int64)
            with tf.control_dependencies([saved]):
                image = tf.identity(image)
        return k, image, label

    def finish(k, images, labels):  # one-hot of the batch: 9 MB a picture are written once
        y = one_hot(labels, num_class)
        if augmentation and augmentation.mix:
            return augmentation.mix(images, y, (tf.constant(seed, tf.int64), k[0]))
        return images, y

    def save(k, image, label):
        for prefix, x in ((image_save_prefix, image), (label_save_prefix, label)):
            x = np.squeeze(x).round().clip(0, 255).astype(np.uint8)
            Image.fromarray(x).save(Path(save_to_dir) / f'{prefix}_{k:06d}.png')
        return k

    if save_to_dir:
        make_folder(save_to_dir)
    samples = tf.data.Dataset.counter(start).map(load, tf.data.AUTOTUNE, deterministic=True)
    batches = samples.batch(batch_size, drop_remainder=True).map(finish, tf.data.AUTOTUNE)
    return batches.prefetch(2)


def eval_batches(pairs, batch_size, num_class):
    """Every pair once, untouched, in name order: (images, one-hot) as train_batches gives them."""

    def load(i):
        image, label = tf.numpy_function(lambda i: pairs[int(i)], [i], (tf.uint8, tf.uint8))
        image.set_shape(pairs.input_size)
        label.set_shape(pairs.size)
        return tf.cast(image, tf.float32) / 255, label

    samples = tf.data.Dataset.range(len(pairs)).map(load, tf.data.AUTOTUNE, deterministic=True)
    return samples.batch(batch_size).map(lambda x, y: (x, one_hot(y, num_class))).prefetch(2)


# ---------------------------------------------------------------------------- the article's names


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
        aug_dict: arguments of ImageDataGenerator.
        image_color_mode: 'rgb' or 'grayscale', the channels of the images.
        label_color_mode: 'rgb' or 'grayscale'; the label reader sees for itself which it is.
        flag_multi_class: False reads masks of 0/1 or 0/255 as background and foreground;
            num_class is then 1 (one channel) or 2.
        save_to_dir: also write each augmented pair there, under the two prefixes.
        target_size: (H, W) to resize to; None keeps the files' own size.
    Raises: labels.InputError (a ValueError) that names the file or argument that is wrong.
    """
    for mode in (image_color_mode, label_color_mode):
        if mode not in ('rgb', 'grayscale'):
            raise InputError(f"color mode {mode!r}: expected 'rgb' or 'grayscale'")
    if not flag_multi_class and num_class > 2:
        num_class = 2  # the article's default of 13 means nothing here
    pairs = Pairs(
        pair_files(Path(train_path) / image_folder, Path(train_path) / label_folder),
        class_table(num_class),
        target_size,
        not flag_multi_class,
        image_color_mode,
    )
    return train_batches(
        pairs,
        batch_size,
        num_class,
        aug_dict,
        seed,
        0,
        save_to_dir,
        image_save_prefix,
        label_save_prefix,
    )


def valGenerator(batch_size, aug_dict, val_path, image_folder, label_folder, **kwargs):
    """trainGenerator for the validation folders: it obeys its arguments, augmentation included.

    main.py validates on untouched pictures instead, each once (`eval_batches`).
    """
    return trainGenerator(batch_size, aug_dict, val_path, image_folder, label_folder, **kwargs)


def testGenerator(test_path, target_size=None, flag_multi_class=True, as_gray=False):
    """One batch of one image (1, H, W, C) after another, in name order; `.names` are the files'."""
    files = list_pictures(test_path)
    color_mode = 'grayscale' if as_gray else 'rgb'

    def read(i):
        return read_image(files[int(i)], color_mode, target_size)

    def load(i):
        image = tf.numpy_function(read, [i], tf.uint8)
        image.set_shape((*(target_size or (None, None)), 1 if as_gray else 3))
        return tf.cast(image, tf.float32) / 255

    images = tf.data.Dataset.range(len(files)).map(load, tf.data.AUTOTUNE, deterministic=True)
    images = images.batch(1).prefetch(2)
    images.names = [f.name for f in files]
    return images


def adjustData(img, mask, flag_multi_class=True, num_class=13):
    """Images to 0..1 and masks to one-hot, as the article's pipeline does.

    Args: img 0..255 (integers, or floats above 1) or 0..1; mask class indices (N, H, W, C) or
        (H, W, C), of which channel 0 counts, or (H, W).
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
    """Write predictions as colour masks, one PNG each.

    Args:
        save_path: folder, made where it is missing.
        npyfile: iterable of probabilities (H, W, num_class); consumed one by one, so that a
            generator needs no memory. One channel is thresholded at 0.5.
        names: file names of the images; the masks are called the same, ending .png. Without,
            0_predict.png, 1_predict.png, ... as in the article.
        classes: ClassTable; default that of the number of channels. Void is never painted.
    Returns: number of masks written.
    """
    folder, count = make_folder(save_path), 0
    for i, probability in enumerate(npyfile):
        table = classes or class_table(num_class or probability.shape[-1])
        name = Path(names[i]).stem if names else f'{i}_predict'
        mask = indices_to_colours(report.to_index(probability, table), table)
        report.save_picture(mask, folder / f'{name}.png')
        count += 1
    return count


def make_folder(path):
    """The folder, made where it is missing; InputError where that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, 'Permission denied')
    except OSError as e:
        raise InputError(
            f'{path}: can not write there ({e.strerror}); name another with --output'
        ) from None
    return Path(path)
