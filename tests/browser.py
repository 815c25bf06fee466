"""Headless Chromium for the tests of pages."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)

CONTRAST = """(() => {
    const rgba = s => [...s.match(/[\\d.]+/g).map(Number), 1].slice(0, 4)
    const lum = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 :
        ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0)
    const over = (a, b) => b.map((v, i) => i < 3 ? a[i] * a[3] + v * (1 - a[3]) : 1)
    let worst = [99]
    for (const e of document.querySelectorAll('main *')) {
        if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue
        let layers = []
        for (let p = e; p; p = p.parentElement)
            layers.push(rgba(getComputedStyle(p).backgroundColor))
        const base = layers.reverse().reduce((b, a) => over(a, b), [255, 255, 255, 1])
        const style = getComputedStyle(e)
        const ink = rgba(e.closest('svg') ? style.fill : style.color)
        const [hi, lo] = [lum(ink), lum(base)].sort((a, b) => b - a)
        const ratio = (hi + .05) / (lo + .05)
        if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 120)]
    }
    return worst })()"""


class Browser:
    """Headless Chromium over its debugging pipe: the DevTools protocol with the stdlib alone."""

    def __init__(self, folder):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        self.process = subprocess.Popen(  # the pipe is the browser's descriptors 3 and 4
            [
                'bash',
                '-c',
                f'exec "$@" 3<&{commands} 4>&{answers}',
                'bash',
                CHROMIUM,
                '--headless',
                '--no-sandbox',
                '--disable-gpu',
                '--disable-quic',
                '--no-first-run',
                '--disable-sync',
                '--disable-background-networking',
                '--disable-component-update',
                '--disable-dev-shm-usage',
                '--use-fake-device-for-media-stream',
                '--use-fake-ui-for-media-stream',
                '--remote-debugging-pipe',
                f'--user-data-dir={folder}',
            ],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.number, self.buffer, self.events, self.session = 0, b'', [], {}
        target = self('Target.createTarget', url='about:blank')['targetId']
        opened = self('Target.attachToTarget', targetId=target, flatten=True)
        self.session = {'sessionId': opened['sessionId']}
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self(f'{domain}.enable')

    def __call__(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params, **self.session}
        os.write(self.commands, json.dumps(message).encode() + b'\0')
        answer = self.wait(lambda answer: answer.get('id') == self.number)
        assert 'error' not in answer, answer
        return answer['result']

    def wait(self, wanted):
        end = time.monotonic() + 60
        while True:
            message, found, rest = self.buffer.partition(b'\0')
            if found:
                self.buffer, message = rest, json.loads(message)
                self.events.append(message)
                if wanted(message):
                    return message
            else:
                assert select.select([self.answers], [], [], end - time.monotonic())[0], 'no answer'
                self.buffer += os.read(self.answers, 1 << 20)

    def open(self, path, width, scheme='light'):
        self(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self(
            'Emulation.setEmulatedMedia',
            features=[{'name': 'prefers-color-scheme', 'value': scheme}],
        )
        self.events = []
        self('Page.navigate', url=path.as_uri())
        if not any(e.get('method') == 'Page.loadEventFired' for e in self.events):
            self.wait(lambda e: e.get('method') == 'Page.loadEventFired')

    def js(self, expression):
        how = dict(returnByValue=True, awaitPromise=True)
        answer = self('Runtime.evaluate', expression=expression, **how)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def click(self, selector):
        """By mouse, in the middle of an element."""
        self.js(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"""(r => [r.x + r.width / 2, r.y + r.height / 2])(
            document.querySelector('{selector}').getBoundingClientRect())""")
        for what in ('mousePressed', 'mouseReleased'):
            self('Input.dispatchMouseEvent', type=what, x=x, y=y, button='left', clickCount=1)

    def press(self, key):
        """By keyboard, where the focus is."""
        codes = dict(Enter=13, Escape=27, ArrowLeft=37, ArrowUp=38, ArrowRight=39, ArrowDown=40)
        about = dict(key=key, code=key, windowsVirtualKeyCode=codes[key])
        text = {'text': '\r'} if key == 'Enter' else {}
        self('Input.dispatchKeyEvent', type='keyDown', **about, **text)
        self('Input.dispatchKeyEvent', type='keyUp', **about)

    def until(self, holds):
        """Wait until an expression of the page, or a function, holds."""
        end = time.monotonic() + 60
        while not (self.js(holds) if isinstance(holds, str) else holds()):
            assert time.monotonic() < end, (holds, self.js('document.body.innerText'))
            time.sleep(0.02)

    def choose(self, file):
        """Choose a file on the page of `export --to web`; the mask, uint8 (H, W), once it is there,
        None where the page says what is wrong."""
        root = self('DOM.getDocument')['root']['nodeId']
        node = self('DOM.querySelector', nodeId=root, selector='#file')['nodeId']
        self.js("said = ['loading']")
        self('DOM.setFileInputFiles', files=[str(file)], nodeId=node)
        self.until("!['loading', 'working', 'tiles'].includes(said[0])")
        return self.mask() if self.js("said[0] == 'done'") else None

    def mask(self):
        """The mask that the page shows."""
        shape = self.js('[shown.height, shown.width]')
        text = self.js("""(() => { let text = ''
            for (const c of shown.index) text += String.fromCharCode(c)
            return btoa(text) })()""")
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)

    def faults(self):
        """What the page has logged since it was opened, and its exceptions."""
        kinds = 'Runtime.exceptionThrown', 'Log.entryAdded', 'Runtime.consoleAPICalled'
        return [e['params'] for e in self.events if e.get('method') in kinds]

    def asked(self):
        """The schemes of all addresses that the page has asked for."""
        sent = [e['params'] for e in self.events if e.get('method') == 'Network.requestWillBeSent']
        return {params['request']['url'].split(':')[0] for params in sent}

    def is_quiet(self):
        """No error so far of the page, and nothing asked for outside of it."""
        assert self.faults() == [] and self.asked() <= {'file', 'data'}

    def contrast(self):
        """[least contrast of any text with what is painted below it, that element]."""
        return self.js(CONTRAST)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.commands)
        os.close(self.answers)
