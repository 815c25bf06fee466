"""Exports: a model as ONNX, LiteRT, SavedModel or a page, written, run, and compared with Keras.

    python main.py export camvid.hdf5 --to onnx [--size HxW | free] [--int8]

Any of them takes pictures float32 (N, H, W, channels) of 0..1 and gives probabilities (N, H, W, n),
LiteRT of one picture at a time; JSON beside the file says what they mean, see `describe`.
"""

import json
import math
import tempfile
from collections import namedtuple
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np

from seg.classes import to_index
from seg.cli import hushed
from seg.evaluate import Score, data_of
from seg.files import (
    MARK,
    InputError,
    check_target,
    is_ours,
    read_json,
    whole_file,
    whole_folder,
    write_json,
)
from seg.metrics import scores
from seg.modelfile import at_any_size, plain_network
from seg.pictures import Picture
from seg.predict import jobs_of, name_of, run
from seg.runtimes import need, open_litert, open_onnx, open_savedmodel
from seg.scenes import draw_scene
from seg.sizes import STEP, SizeRule
from seg.sources import find_pictures
from seg.tiles import extent
from seg.web import open_web, to_web

TOLERANCE, ALIKE = 1e-3, 0.9995  # largest difference of probabilities, pixels of the same class
COMPARED, CALIBRATED = 4, 64  # pictures
LARGEST = 512  # pixels a side of those for networks of any size
MOST_LOST = 1.0  # points of mIoU by int8, above which a line warns
OPSET = 17  # of ONNX, known to all that runs it since 2022
ONNX = 'onnx', 'tf2onnx', 'onnxruntime'  # the packages that write it and run it
# suffix: of the file; write: function(model, path, size, pictures), see to_onnx; open: function(
# path, network) -> seg.runtimes.Exported, or None of what nothing here runs; int8: whether it can;
# output: what the file calls the probabilities; own: what else `write` takes by name.
Kind = namedtuple('Kind', 'suffix write open int8 output own', defaults=[()])


def describe(model):
    """{name: what a program elsewhere has to know} of a network, for JSON.

    classes: of channel i; roles other than 'scored' are no result, the most probable of the scored
    ones is. One channel is the probability of the second of two classes. size: height and width
    (None: any that `multiple` divides), and rule: see sizes.SizeRule. intensity: (low, high) that
    become 0 and 1, None: those of 8 bits, 0 and 255. reach: pixels beyond its own on which one
    depends (None: unknown), widest: values a pixel in the widest layer; tiles go by them.
    """
    about, (_, height, width, channels) = model.about, model.input_shape
    table, (reach, widest) = about.classes, extent(model)
    size = {'rule': about.rule.kind, 'height': height, 'width': width}
    columns = table.names, table.display[: len(table), :3].tolist(), table.roles  # as painted
    return {
        'classes': [dict(zip(('name', 'colour', 'role'), entry)) for entry in zip(*columns)],
        'size': size | {'multiple': 1 if height else STEP},
        'channels': channels,
        'intensity': about.intensity,
        'activation': _activation(model),
        'output_channels': model.output_shape[-1],
        'input': 'image',
        'output': 'probabilities',
        'layout': 'NHWC',
        'reach': reach if math.isfinite(reach) else None,
        'widest': widest,
    }


def _activation(model):
    """The name of the last activation of a network, or of one inside."""
    for layer in reversed(model.layers):
        if getattr(layer, 'layers', None):
            return _activation(layer)
        if hasattr(layer, 'activation'):
            return keras.activations.serialize(layer.activation)
        if isinstance(layer, keras.layers.Softmax):
            return 'softmax'
    return 'linear'


def at_size(model, size=None):
    """A float32 network for pictures of `size` (height, width), or with 'free' of any sides that
    STEP divides; None: of what size the model is. A folds.Average becomes one network. InputError
    where a model takes one size alone."""
    height, width, channels = model.input_shape[1:]
    free = None in (height, width)
    if size in (None, 'free' if free else (height, width)):
        return _as_one(model)
    network = _as_one(model if free else at_any_size(model))
    if size == 'free':
        return network
    x = inputs = keras.Input((*size, channels), name='image')
    pads = [(0, -side % STEP) for side in size]
    x = network(keras.layers.ZeroPadding2D(pads)(x) if any(map(any, pads)) else x)
    x = keras.layers.Cropping2D(pads)(x) if any(map(any, pads)) else x
    sized, kind = keras.Model(inputs, x), model.about.rule.kind
    sized.about = replace(model.about, rule=SizeRule('pad' if kind == 'tile' else kind, *size))
    return sized


def _as_one(model):
    """The plain network of a model; of a folds.Average one that gives its mean."""
    if not hasattr(model, 'networks'):
        return plain_network(model)
    x, means = keras.Input(model.input_shape[1:], name='image'), []
    for i, network in enumerate(map(plain_network, model.networks), 1):
        means.append(keras.Model(network.inputs[0], network.outputs[0], name=f'fold{i}')(x))
    whole = keras.Model(x, keras.layers.Average()(means))
    whole.about = model.about
    return whole


def to_onnx(model, path, size=None, pictures=()):
    """Write a model as an ONNX file whose metadata are those of `describe`, and `about`, which the
    model file has.

    Args:
        model: keras.Model with `about`, or folds.Average.
        path: of the file; one that is there is replaced.
        size: see at_size.
        pictures: uint8 or uint16 (h, w, channels), all of one size, by which weights and
            activations become int8 (Jacob et al., "Quantization and Training of Neural Networks for
            Efficient Integer-Arithmetic-Only Inference", CVPR 2018); none: they stay as they are.

    Raises: InputError without onnx, tf2onnx and onnxruntime.
    """
    need('ONNX', *ONNX)
    import onnx

    network = at_size(model, size)
    known = describe(network)
    with tempfile.TemporaryDirectory() as folder, hushed():
        file = Path(folder) / 'network.onnx'
        network.export(str(file), 'onnx', **_signature(network), opset_version=OPSET)
        whole = onnx.load(_in_int8(file, pictures) if len(pictures) else file)
    names = {whole.graph.input[0].name: known['input'], whole.graph.output[0].name: known['output']}
    for part in (*whole.graph.input, *whole.graph.output):
        part.name = names[part.name]
    for node in whole.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    whole.producer_name, whole.producer_version = MARK, ''
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in known.items()}
    onnx.helper.set_model_props(whole, said | {'about': json.dumps(asdict(network.about))})
    onnx.save(whole, path)


def _signature(network, batch=None):
    """What each of Keras' exporters is told of a network's input."""
    shape = (batch, *network.input_shape[1:])
    spec = keras.InputSpec(shape=shape, dtype='float32', name='image')
    return dict(input_signature=[spec], verbose=False)


def _in_int8(file, pictures):
    """The file of the same network in int8: weights by channel, of 7 bits, for processors without
    VNNI add two products in 16 bits, which overflow; activations by the tensor."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        left = iter(pictures)

        def get_next(self):
            picture = next(self.left, None)
            return None if picture is None else {'image': _batch(picture)}

    folded, small = file.with_name('folded.onnx'), file.with_name('int8.onnx')
    quant_pre_process(str(file), str(folded), skip_symbolic_shape=True)
    how = dict(per_channel=True, reduce_range=True, activation_type=quantization.QuantType.QUInt8)
    quantization.quantize_static(str(folded), str(small), Reader(), **how)
    return small


def to_litert(model, path, size=None, pictures=()):
    """Write a model as a LiteRT (.tflite) file; arguments as of to_onnx."""
    import tensorflow as tf

    network = at_size(model, size)
    spec = {'supported_ops': [tf.lite.OpsSet.TFLITE_BUILTINS]}  # that each LiteRT has
    how = dict(target_spec=spec)
    if len(pictures):
        how |= dict(optimizations=[tf.lite.Optimize.DEFAULT])
        how |= dict(representative_dataset=lambda: ([_batch(picture)] for picture in pictures))
    with hushed():
        network.export(str(path), 'litert', **_signature(network, 1), **how)


def to_savedmodel(model, path, size=None, pictures=()):
    """Write a model as a TensorFlow SavedModel, a folder; arguments as of to_onnx."""
    network = at_size(model, size)
    with hushed():
        network.export(str(path), 'tf_saved_model', **_signature(network))


EXPORTS = {
    'onnx': Kind('.onnx', to_onnx, open_onnx, True, 'probabilities'),
    'litert': Kind('.tflite', to_litert, open_litert, True, 'output_0'),
    'savedmodel': Kind('_savedmodel', to_savedmodel, open_savedmodel, False, 'output_0'),
    'web': Kind('.html', to_web, open_web, True, 'probabilities', ('title', 'runtime')),
}


def export(model, path, settings, flags):
    """Write the export of a model that flags name, whole or not at all, once it gives what Keras
    gives, and JSON beside it; print how near it comes, and what int8 loses."""
    if keras.backend.backend() != 'tensorflow':
        found = f'KERAS_BACKEND={keras.backend.backend()}'
        raise InputError(f'export: expected TensorFlow, found {found}; unset it, files are alike')
    kind, int8 = EXPORTS[flags['to']], flags.get('int8', False)
    if int8 and not kind.int8:
        able = ' or '.join(f'--to {name}' for name, other in EXPORTS.items() if other.int8)
        raise InputError(f'--int8: expected {able}, found --to {flags["to"]}')
    own = {name: flags[name] for name in ('title', 'runtime') if name in flags}
    if own and not kind.own:
        raise InputError(f'--{[*own][0]}: expected --to web, found --to {flags["to"]}')
    own = ({'title': name_of(path)} if kind.own else {}) | own
    target = _target(settings.output, f'{name_of(path)}{"-int8" * int8}{kind.suffix}', kind)
    about = target.with_name(f'{target.name}.json')
    check_target(target, partial(_is_ours, about=about))
    check_target(about)
    settings, data, calibrating = replace(settings, size=None), None, ()
    network = at_size(model, flags.get('size'))
    if int8:
        data, split, scored = _data(model, settings, flags)
        calibrating = _calibrating(data, network)
    pictures, whose = _pictures(network, data, settings, flags)
    is_file = kind.suffix[0] == '.'
    with whole_file(target, replace=True) if is_file else whole_folder(target) as beside:
        try:
            kind.write(network, beside, None, calibrating, **own)
            opened = kind.open and kind.open(beside, network)
            gap, alike = compare(network, opened, pictures) if opened else (0, 1)
        except (InputError, OSError):
            raise
        except Exception as e:  # whatever the converters make of a network
            why = f'{type(e).__name__}: {" ".join(str(e).split())[:200]}'
            raise InputError(f'{path}: cannot be exported to {flags["to"]} ({why})') from None
        known = describe(network) | {'format': flags['to'], 'int8': int8, 'output': kind.output}
        height, width = network.input_shape[1:3]
        size = f'{height}x{width}' if height else f'any size that {STEP} divides'
        print(f'{target}: {_bytes(beside) / 1e6:.1f} MB, pictures of {size}')
        if opened:
            line = f'largest difference {gap:.1e}, the same class for {100 * alike:.3f} % of pixels'
            print(f'Beside Keras on {whose}: {line}')
            if not int8 and not (gap <= TOLERANCE and alike >= ALIKE):
                wanted = f'at most {TOLERANCE:g} and at least {100 * ALIKE:g} %'
                raise InputError(f'{target}: {line}; expected {wanted}; nothing is written')
        if int8:
            _tell_lost((network, opened), data, split, scored)
        # It names both, for a kill may come before the file is in its place.
        known |= {'file': target.name, 'sha256': _digest(beside)}
        write_json(about, known | ({'before': _digest(target)} if target.exists() else {}))
    print(f'What it takes and gives: {about}')


def compare(network, other, pictures):
    """(largest difference of probabilities, share of pixels of one class) of two networks on
    pictures uint8 or uint16 (h, w, channels)."""
    gaps, alike, table = [], [], network.about.classes
    for batch in map(_batch, pictures):
        ours = keras.ops.convert_to_numpy(network.predict_on_batch(batch))
        theirs = other.predict_on_batch(batch)
        if ours.shape != theirs.shape:
            raise InputError(f'{other.file}: gives {theirs.shape}, but Keras {ours.shape}')
        gaps.append(np.abs(ours - theirs).max() / max(1, np.abs(ours).max()))  # of relu, relative
        alike.append((to_index(ours[0], table) == to_index(theirs[0], table)).mean())
    return float(np.max(gaps)), float(np.mean(alike))  # of nan nan


def _batch(picture):
    return picture[None] / np.float32(np.iinfo(picture.dtype).max)


def _target(output, name, kind):
    """The path to write to: `output`, in it if it is a folder, or `name` in the working folder."""
    target, folder = Path(output or name), kind.suffix[0] != '.'
    if output and target.is_dir() and not (folder and _is_ours(target, f'{target}.json')):
        return target / name
    if not folder and target.suffix != kind.suffix:
        raise InputError(f'--output {target}: expected a name that ends with {kind.suffix}')
    return target


def _is_ours(target, about):
    """Whether an export is as this program wrote it: the JSON beside it has its digest."""
    if not is_ours(about):
        return False
    try:
        known = read_json(about)
        return _digest(target) in (known.get('sha256'), known.get('before'))
    except InputError:
        return False


def _parts(path):
    """The files of a folder, or the file."""
    return sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]


def _bytes(path):
    return sum(part.stat().st_size for part in _parts(path))


def _digest(path):
    found = sha256()
    for part in _parts(path):
        found.update(f'{part.relative_to(path)}\0'.encode(errors='surrogateescape'))
        found.update(sha256(part.read_bytes()).digest())
    return found.hexdigest()


def _data(model, settings, flags):
    """(DataSet to calibrate on, split, its labelled pairs to score on); InputError without."""
    try:
        data = data_of(getattr(model, 'networks', [model]), settings, flags)
        val = [pair for pair in data.pairs('val') if pair[1]]
        return data, *(('val', val) if val else data.scored())
    except InputError as e:
        what = '--int8 calibrates on training pictures and scores on validation ones'
        raise InputError(f'{what}; name theirs by --data ({e})') from None


def _inputs(files, model):
    """uint8 or uint16 (h, w, channels) of pictures as a network takes them; where it takes any
    size, of at most LARGEST a side."""
    about, found = model.about, []
    for file in files:
        picture = Picture(file, model.input_shape[-1], about.intensity)
        sides = [side if about.rule.fixed else min(side, LARGEST) for side in picture.shape]
        found.append(about.rule.image(picture[: sides[0], : sides[1]]))
    return found


def _some(items, count):
    """At most `count`, spread over all."""
    return items[:: -(-len(items) // count) or 1]


def _calibrating(data, network):
    """Training pictures as a network takes them, all of one size."""
    files = [image for image, _ in data.pairs('train') or data.pairs()]
    inputs = _inputs(_some(files, CALIBRATED), network)
    height, width = (min(x.shape[side] for x in inputs) for side in (0, 1))
    return [x[:height, :width] for x in inputs]


def _pictures(network, data, settings, flags):
    """(pictures to compare on, whose they are): of the data, else drawn scenes."""
    source, channels = settings.images or settings.data, network.input_shape[-1]
    try:
        if data:
            files = [image for image, _ in data.pairs()]
        else:
            files = find_pictures([source], channels, network.about.paged)
        found, whose = _inputs(_some(files, COMPARED), network), f'pictures of {source}'
    except InputError:
        if data or {'data', 'images'} & {*flags}:
            raise
        scenes = [draw_scene(seed)[0] for seed in range(COMPARED)]
        scenes = [scene[..., np.arange(channels) % 3] for scene in scenes]
        found, whose = [*map(network.about.rule.image, scenes)], 'drawn scenes'
    if not network.about.rule.fixed:  # of several sizes
        found[1::2] = [x[: -(-len(x) // 2 // STEP) * STEP] for x in found[1::2]]
    return found, f'{len(found)} {whose}'


def _tell_lost(networks, data, split, pairs):
    """Print the mIoU of a network and of the same in int8."""
    found = []
    for network in networks:
        score = Score(data.classes)
        run(network, jobs_of(network, pairs, data.formats), [score])
        found.append(100 * float(scores(score.counts)['miou']))
    lost = found[0] - found[1]
    line = f'mIoU {found[0]:.2f} before and {found[1]:.2f} in int8, {lost:.2f} points lost'
    print(f'{line}, on the {split} split, {len(pairs)} images')
    if lost > MOST_LOST:
        print(f'Note: more than {MOST_LOST:g} point is lost by int8; without --int8 nothing is')
