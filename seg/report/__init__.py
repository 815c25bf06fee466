"""Pictures people look at, and the HTML report: scores, confusion, curves, every picture, settings.
No TensorFlow; matplotlib and jinja2 come with the first call that needs them."""

import base64
import bisect
import hashlib
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from seg.files import whole_file
from seg.metrics import COLUMNS, MEANS, confusion, scores
from seg.report.figures import (
    FEW,
    confusion_figure,
    curves_figure,
    matrix_of,
    to_array,
    to_png,
    to_svg,
)
from seg.report.pictures import (
    IGNORED,
    WRONG,
    as_rgb,
    enlarged,
    errors,
    in_colours,
    layer,
    legend,
    mask,
    outlined,
    overlay,
    preview_page,
    save_picture,
    side_by_side,
)

__all__ = ['Report', 'confusion_figure', 'curves_figure', 'to_array', 'to_png', 'to_svg']
__all__ += ['errors', 'layer', 'legend', 'mask', 'overlay', 'preview_page', 'save_picture']
__all__ += ['as_rgb', 'enlarged', 'in_colours', 'outlined', 'side_by_side']


class Report:
    """One HTML file that needs no other: `add` each image of the split, then `write`. All of them
    can be looked at; of more than 2 * `keep` those of the lowest and of the highest mIoU. As WebP
    of about `width` pixels each takes some 30 kB."""

    def __init__(self, path, classes, keep=120, width=480):
        self.path, self.classes, self.keep, self.width = Path(path), classes, keep, width
        self.images, self.cards = 0, []  # by mIoU
        self.painted = set(classes.scored)  # what the key explains

    def add(self, name, image, truth, index):
        """One image, uint8 (H, W, C) or a path that is read where needed; truth, index (H, W)."""
        self.images += 1
        counts = confusion(truth, index, self.classes, other=True)
        result = scores(counts)
        place = bisect.bisect(self.cards, result['miou'], key=lambda card: card['miou'])
        middling = place == self.keep and len(self.cards) == 2 * self.keep
        if result['pixels'] and not middling:
            card = {'name': str(name), 'miou': result['miou'], 'accuracy': result['accuracy']}
            card['cells'] = np.c_[np.argwhere(counts), counts[counts > 0]].tolist()
            self.cards.insert(place, card | self._pictures(image, truth, index))
            del self.cards[self.keep : -self.keep]

    def _pictures(self, image, truth, index):
        """{'size': (width, height), kind: data URI} of a picture and of what lies over it."""
        scale = min(1, self.width / (truth.size * 4 / 3) ** 0.5)
        size = tuple(max(1, round(side * scale)) for side in truth.shape[::-1])
        image = Image.fromarray(as_rgb(image)).resize(size, Image.Resampling.LANCZOS)
        maps = [Image.fromarray(a).resize(size, Image.Resampling.NEAREST) for a in (truth, index)]
        _, truth, index = enlarged(np.asarray(image), *map(np.asarray, maps))
        self.painted |= {*np.unique([truth, index]).tolist()} & {*range(len(self.classes))}
        layers = [self.classes.display.take(a, axis=0) for a in (truth, index)]
        layers += layer(index, self.classes, 0), errors(truth, index, self.classes)
        layers = map(_data_uri, (image, *map(Image.fromarray, layers)))
        kinds = 'picture', 'truth', 'prediction', 'lines', 'errors'
        return {'size': size} | dict(zip(kinds, layers))

    def write(
        self,
        counts,
        about=None,
        facts=None,
        history=None,
        split='',
        warnings=(),
        plan=(),
        look=(),
    ):
        """Write the file, whole or not at all, of metrics.confusion's counts of all images; about:
        {what: text} of the header; facts: {title: {name: value}}, tables for its end; history:
        curves_figure's; split: 'test', 'val', 'train', or what else the images are called;
        warnings: lines; plan: rows of what was decided, the decision and why; look: labels to look
        at, entries of suspects.Suspects; those with a crop are shown."""
        from jinja2 import Environment, StrictUndefined

        pages = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
        pages.filters |= {'svg': to_svg}
        pages.policies['json.dumps_kwargs'] = {'ensure_ascii': False, 'default': str}
        script, template = (_text(f'report.{kind}') for kind in ('js', 'html'))
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        rows, columns, share, opacity = matrix_of(counts, self.classes)
        shown = dict(MEANS=MEANS, COLUMNS=COLUMNS, WRONG=WRONG, IGNORED=IGNORED, report=self)
        shown |= dict(script=script, digest=digest, display=self.classes.display.tolist())
        shown |= dict(about=about or {}, facts=facts or {}, split=split, warnings=warnings)
        shown |= dict(plan=plan, counts=np.asarray(counts).tolist(), few=len(rows) <= FEW)
        shown |= dict(result=scores(counts), columns=columns, share=share.tolist())
        shown |= dict(data=dict(names=rows, columns=columns, cards=self.cards))
        shown |= dict(opacity=opacity.tolist())
        shown |= dict(look=[entry | _crop(*entry['crop']) for entry in look if entry['crop']])
        shown |= dict(curves=curves_figure(history or {}), time=time.strftime('%Y-%m-%d %H:%M'))
        page = pages.from_string(template).render(shown)
        with whole_file(self.path, durable=False) as beside:
            beside.write_bytes(page.encode('utf-8', 'replace'))  # a file name may be no text


def _text(name):
    return Path(__file__).with_name(name).read_text('utf-8')


def _crop(picture, mask):
    """{'size': (width, height), 'uri': data URI} of a part of a picture, its region outlined."""
    image = Image.fromarray(outlined(picture, mask))
    return {'size': image.size, 'uri': _data_uri(image, 'jpeg')}


def _data_uri(image, kind='webp'):
    """A picture; with transparency, as label maps are, exact. JPEG has room for coloured lines."""
    how = dict(quality=80, subsampling=0) if kind == 'jpeg' else dict(quality=50, method=2)
    how = dict(lossless=True, quality=20, method=0) if image.mode == 'RGBA' else how
    data = io.BytesIO()
    image.save(data, kind, **how)
    return f'data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}'
