"""What a terminal shows of work that goes on: one line, drawn again and again, which no other line
cuts. In a file or a pipe there is nothing of it."""

import shutil
import sys
import time

_drawn, _last = False, 0.0  # whether the terminal's last line is the drawn one; when it was


def draw(text, often=0.1):
    """Draw the line anew, where somebody sees it, every 0.1 s at most."""
    global _drawn, _last
    now = time.monotonic()
    if now - _last >= often and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print('\r' + text[:width].ljust(width), end='', flush=True)
        _drawn, _last = True, now


def clear():
    """Take the drawn line away, for another to come in its place."""
    global _drawn, _last
    if _drawn:
        width = shutil.get_terminal_size().columns - 1
        print('\r' + ' ' * width, end='\r', flush=True)
    _drawn, _last = False, 0.0


def say(line):
    """Print a line that stays; at once, also into a file."""
    clear()
    print(line, flush=True)


class Count:
    """Draws how much of some work is done, and how long the rest takes; with `unit`, how many of
    them and how many a second, for `total` is a guess, or 0."""

    def __init__(self, total, what, unit=''):
        self.total, self.what, self.unit = total, what, unit
        self.done, self.begun = 0, time.monotonic()

    def add(self):
        self.done += 1
        took = max(time.monotonic() - self.begun, 1e-9)
        if not self.unit:
            left = took / self.done * (self.total - self.done)
            return draw(f'{self.what}: {self.done / self.total:.0%}, {duration(left)} left')
        if self.done == 1:  # the first takes longer
            self.begun = time.monotonic()
        of = f' of {max(self.total, self.done)}' * bool(self.total)
        rate = f', {(self.done - 1) / took:.1f} {self.unit}s/s' * (self.done > 1)
        draw(f'{self.what}: {self.done}{of} {self.unit}s{rate}')


def duration(seconds):
    """'40 s', '12 min' or '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'
