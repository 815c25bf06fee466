"""Pictures people look at; matplotlib and jinja2 are imported by the first call that needs them."""

from seg.report.figures import confusion_figure, curves_figure, to_array, to_png, to_svg
from seg.report.page import Report
from seg.report.pictures import error_map, legend, overlay, preview_page, save_picture, side_by_side

__all__ = ['Report', 'confusion_figure', 'curves_figure', 'to_array', 'to_png', 'to_svg']
__all__ += ['error_map', 'legend', 'overlay', 'preview_page', 'save_picture', 'side_by_side']
