"""Pictures in, masks and scores out: what a trained model is for."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from datapre import make_folder, read_image
from seg import report
from seg.metrics import confusion, evaluate_masks, same_size, scores
from seg.readers import InputError, indices_to_colours, read_label, recognise

__all__ = ['evaluate', 'evaluate_masks', 'predict_files', 'predictions']


def predictions(model, files, flip=False):
    """Yield (file, image uint8 (H, W, C), index uint8 (H, W)) of each, at the picture's own size.

    A picture of another size is scaled to fit the model's, keeping its aspect, the rest padded
    with its edge; the class probabilities are scaled back before the most probable is taken.
    Two pictures are in work at a time: two passes side by side keep two cores busier than one pass
    spread over both, and reading and writing hide behind them. Raises InputError that names the file.

    flip: the mean of the probabilities of the picture and of its mirror image.
    """
    height, width, channels = model.input_shape[1:]
    color_mode = 'grayscale' if channels == 1 else 'rgb'

    def work(file):
        image = read_image(file, color_mode)
        scale = min(height / image.shape[0], width / image.shape[1])
        h, w = (max(1, round(s * scale)) for s in image.shape[:2])
        small = image
        if (h, w) != image.shape[:2]:
            small = Image.fromarray(image.squeeze()).resize((w, h), Image.Resampling.LANCZOS)
            small = np.asarray(small).reshape(h, w, channels)
        pads = ((0, height - h), (0, width - w), (0, 0))
        batch = np.pad(small, pads, 'edge')[None] / np.float32(255)
        if flip:
            batch = np.concatenate([batch, batch[:, :, ::-1]])
        probability = keras.ops.convert_to_numpy(model.predict_on_batch(batch))
        if flip:
            probability = (probability[:1] + probability[1:, :, ::-1]) / 2
        return image, most_probable(probability[0, :h, :w], image.shape[:2], model.class_table)

    model.make_predict_function()  # once, before two threads find it missing
    # On jax a pass gives the weights' buffers away and takes them back: one at a time.
    with ThreadPoolExecutor(2 if keras.backend.backend() == 'tensorflow' else 1) as pool:
        ahead = deque()
        for file in files:
            ahead.append((file, pool.submit(work, file)))
            if len(ahead) > 2:
                file, done = ahead.popleft()
                yield file, *done.result()
        for file, done in ahead:
            yield file, *done.result()


def most_probable(probability, size, classes):
    """Probabilities (h, w, C) -> uint8 index (H, W) of `size`, scaled bilinearly class by class.

    One class after another, so that a large picture needs two of its planes and not C.
    """
    if probability.shape[-1] == 1:
        probability, scored = np.concatenate([1 - probability, probability], -1), [0, 1]
    else:
        scored = classes.scored
    index = np.full(size, scored[0], np.uint8)
    best = None
    planes = np.ascontiguousarray(
        np.moveaxis(probability, -1, 0)
    )  # strided, each takes twice as long
    for c in scored:
        plane = planes[c]
        if plane.shape != tuple(size):
            plane = np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        if best is None:
            best = plane.copy()
        else:
            np.copyto(index, c, where=plane > best, casting='unsafe')
            np.maximum(best, plane, out=best)
    return index


def predict_files(model, files, output, opacity=0.5, side_by_side=False, flip=False):
    """Write <name>.png colour masks to `output`, overlays with a legend to output/overlay/.

    Streams: predict, save, forget. Where two pictures have one name, the second's is <name>-2.

    Args:
        opacity: of the class colours over the picture. side_by_side: the picture and its mask next
            to each other, into output/side-by-side/, instead of overlays. flip: as predictions.
    Returns: number of masks. Raises: InputError, also where a mask would overwrite a picture.
    """
    names, masks = unique_names(files), make_folder(output)
    taken = {Path(file).resolve() for file in files}
    for name, file in zip(names, files):
        if (masks / f'{name}.png').resolve() in taken:
            raise InputError(
                f'{masks / name}.png: the mask of {file} would overwrite this '
                'picture; name another folder with --output'
            )
    again = [f'{file} as {name}' for name, file in zip(names, files) if name != Path(file).stem]
    if again:
        print(
            f'Pictures of the same name, written as another: {", ".join(again[:5])}'
            + f' and {len(again) - 5} more' * (len(again) > 5)
        )
    shown = make_folder(masks / ('side-by-side' if side_by_side else 'overlay'))
    classes, bar = model.class_table, keras.utils.Progbar(len(files), unit_name='image')

    def write(name, image, index):
        mask = indices_to_colours(index, classes)
        report.save_picture(mask, masks / f'{name}.png')
        rgb = np.ascontiguousarray(np.broadcast_to(image, (*index.shape, 3)))
        picture = (
            report.side_by_side(rgb, mask)
            if side_by_side
            else report.overlay(rgb, index, classes, opacity)
        )
        picture = np.vstack([picture, report.legend(classes, picture.shape[1])])
        report.save_picture(picture, shown / f'{name}.jpg')

    with ThreadPoolExecutor(1) as pool:
        waiting = deque()
        for i, (_, image, index) in enumerate(predictions(model, files, flip)):
            waiting.append(pool.submit(write, names[i], image, index))
            if len(waiting) > 2:
                waiting.popleft().result()
            bar.update(i + 1)
        for written in waiting:
            written.result()
    return len(files)


def unique_names(files):
    """The stem of each file; what would be the same file name, on any disk, gets -2, -3, ..."""
    stems = [Path(file).stem for file in files]
    taken, seen, names = {stem.casefold() for stem in stems}, set(), []
    for stem in stems:
        name, number = stem, 2
        while name.casefold() in seen or (name != stem and name.casefold() in taken):
            name, number = f'{stem}-{number}', number + 1
        seen.add(name.casefold())
        names.append(name)
    return names


def evaluate(model, pairs, two_class=False, flip=False, each=None):
    """Confusion count and scores of a model over [(image path, label path)], at the labels' size.

    each: called with (image file's name, image, truth, index) of every image, as Report.add.
    """
    classes, counts = model.class_table, 0
    bar = keras.utils.Progbar(len(pairs), unit_name='image')
    kinds = recognise([label for _, label in pairs], classes, two_class)
    predicted = predictions(model, [image for image, _ in pairs], flip)
    for i, (file, image, index) in enumerate(predicted):
        truth = read_label(pairs[i][1], classes, two_class, kinds)
        same_size(file, index, pairs[i][1], truth)
        counts = counts + confusion(truth, index, classes)
        if each:
            each(Path(file).name, image, truth, index)
        bar.update(i + 1)
    return counts, scores(counts)
