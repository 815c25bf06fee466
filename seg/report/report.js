// The pictures of a report: how all of them are shown, which of them, one of them large; tables.
'use strict'
const $ = selector => document.querySelector(selector), PER_PAGE = 12
const { names, columns, cards } = JSON.parse($('#data').textContent)
const tools = $('#tools'), large = $('#large'), grid = $('.confusion'), order = $('#order')
let cell = null, list = cards, page = 0, at = 0 // cell: [truth, prediction] that pictures are to have

const percent = value => (100 * value).toFixed(1) + ' %'
const pixels = card => (card.cells.find(([i, j]) => i === cell[0] && j === cell[1]) || [0, 0, 0])[2]
const pair = () => `${names[cell[0]]} painted as ${columns[cell[1]]}`

function figure(card) {
  const made = $('#card').content.firstElementChild.cloneNode(true)
  for (const img of made.querySelectorAll('img')) {
    const kind = img.className
    const [width, height] = card.size
    Object.assign(img, { src: card[kind], width, height })
    img.alt = kind === 'lines' ? '' : `${kind} of ${card.name}`
  }
  const [name, scores] = made.querySelectorAll('figcaption *')
  name.textContent = card.name
  scores.textContent = `mIoU ${percent(card.miou)}, accuracy ${percent(card.accuracy)}`
  if (cell) scores.textContent += `; ${pixels(card).toLocaleString('en')} pixels ${pair()}`
  return made
}

function draw() {
  const first = page * PER_PAGE, shown = list.slice(first, first + PER_PAGE)
  $('#cards').replaceChildren(...shown.map((card, k) => {
    const made = figure(card), button = made.querySelector('button')
    button.onclick = () => { at = first + k; enlarge() }
    return made
  }))
  const count = `${list.length ? first + 1 : 0} to ${first + shown.length} of ${list.length}`
  $('#where').textContent = count + (cell ? ` with ${pair()}` : '')
  $('#all').hidden = !cell
  order.disabled = Boolean(cell)
  $('#before').disabled = first === 0
  $('#after').disabled = first + PER_PAGE >= list.length
}

function choose() {
  list = [...cards] // they come with the lowest mIoU first
  if (cell) list = list.filter(pixels).sort((a, b) => pixels(b) - pixels(a))
  else if (order.value === 'best') list.reverse()
  else if (order.value === 'name') list.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
  page = 0
  for (const td of grid.querySelectorAll('td[aria-selected]')) td.removeAttribute('aria-selected')
  draw()
}

function turn(step) {
  page += step
  draw()
}

function enlarge() {
  const made = figure(list[at]), button = made.querySelector('button')
  button.replaceWith(button.firstChild)
  $('#stage').replaceChildren(made)
  $('#place').textContent = `${at + 1} of ${list.length}`
  if (large.open) return
  large.prepend(tools) // the one switch
  large.showModal()
}

function move(step) {
  at = (at + step + list.length) % list.length
  enlarge()
}

for (const input of tools.querySelectorAll('input')) {
  input.onchange = () => { document.body.dataset.view = input.value }
  if (input.checked) input.onchange() // as the browser remembers
}
order.onchange = choose
$('#before').onclick = () => turn(-1)
$('#after').onclick = () => turn(1)
$('#all').onclick = () => { cell = null; choose() }
$('#last').onclick = () => move(-1)
$('#next').onclick = () => move(1)
$('#close').onclick = () => large.close()
large.onclick = event => { if (event.target === large) large.close() }
large.onclose = () => {
  $('#bar').prepend(tools)
  page = Math.floor(at / PER_PAGE)
  draw()
  $('#cards').children[at % PER_PAGE].querySelector('button').focus()
}
large.onkeydown = event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
  if (step && event.target.type !== 'radio') move(step)
}

// The confusion matrix: one cell takes part in the tab order, arrows go to the others.
const cellAt = (i, j) => grid.tBodies[0].rows[i]?.cells[j + 1]
const place = td => [td.parentNode.sectionRowIndex, td.cellIndex - 1]

function pick(td) {
  if (!td) return
  const same = td.getAttribute('aria-selected')
  cell = same ? null : place(td)
  choose()
  if (same) return
  td.setAttribute('aria-selected', 'true')
  $('#pictures').scrollIntoView()
  $('#all').focus({ preventScroll: true })
}
cellAt(0, 0).tabIndex = 0
grid.onclick = event => pick(event.target.closest('tbody td'))
grid.onkeydown = event => {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }
  const td = event.target, [i, j] = place(td), step = steps[event.key]
  const next = step && j + step[1] >= 0 && cellAt(i + step[0], j + step[1])
  if (next) {
    td.tabIndex = -1
    next.tabIndex = 0
    next.focus()
  } else if (event.key === 'Enter' || event.key === ' ') pick(td)
  else if (!step) return
  event.preventDefault() // nor does Enter press the button that has the focus now
}

// Columns of scores are sorted by their heads: numbers the highest first, names by the alphabet.
const heads = [...$('.classes').tHead.rows[0].cells], body = $('.classes').tBodies[0]
heads.forEach((head, k) => {
  const button = document.createElement('button')
  button.append(...head.childNodes)
  head.append(button)
  button.onclick = () => {
    const down = head.getAttribute('aria-sort') === (k ? 'descending' : 'ascending')
    const sign = (k ? -1 : 1) * (down ? -1 : 1), text = row => row.cells[k].textContent
    const value = row => text(row) === '–' ? -1 : Number(text(row))
    const compare = k ? (a, b) => value(a) - value(b) : (a, b) => text(a).localeCompare(text(b))
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)))
    for (const other of heads) other.removeAttribute('aria-sort')
    head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending')
  }
})

choose()
