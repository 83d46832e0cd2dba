'use strict';
// All texts go into the page as text nodes or attributes, never as markup.
const { index, data } = window.bmp, PER_PAGE = 60, NS = document.getElementById('svg').namespaceURI;
const $ = id => document.getElementById(id);
const count = (n, one, many) => `${n} ${n === 1 ? one : many || one + 's'}`;
const percent = v => v == null ? '–' : (100 * v).toFixed(1);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name.startsWith('aria')) node.setAttribute(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter(child => child != null));
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) =>
  fill(document.createElementNS(NS, tag), attributes, children);
const list = (kind, rows) => el('dl', { class: kind },
  rows.map(([key, value]) => el('div', {}, el('dt', {}, key), el('dd', {}, value))));
const pairs = rows => el('dl', { class: 'facts' },
  rows.map(([key, value]) => [el('dt', {}, key), el('dd', {}, el('bdi', {}, String(value)))]));
const table = (heads, rows) => el('div', { class: 'scroll', tabindex: 0, role: 'region',
  'aria-label': heads.join(', ') }, el('table', {},
  el('thead', {}, el('tr', {}, heads.map(head => el('th', { scope: 'col' }, head)))),
  el('tbody', {}, rows.map(row => row instanceof Node ? row
    : el('tr', {}, row.map(cell => cell instanceof Node && cell.tagName === 'TD' ? cell
      : el('td', {}, cell)))))));

// --- overview ------------------------------------------------------------------------------------

function bars(title, rows, text = value => String(value)) {
  const largest = Math.max(1e-9, ...rows.map(row => row[1]));
  return el('figure', { class: 'chart' }, el('h2', {}, title), el('dl', { class: 'bars' },
    rows.map(([name, value]) => [el('dt', {}, String(name)), el('dd', {},
      el('div', { class: 'bar', style: `width:${100 * value / largest}%` })),
      el('dd', {}, text(value))])));
}

function overview() {
  const done = index.images.filter(row => !row.failure), failed = index.images.length - done.length;
  const people = done.reduce((sum, row) => sum + row.people, 0);
  const dropped = done.reduce((sum, row) => sum + (row.dropped || 0), 0);
  const tiles = [['images', done.length], ['people', people],
    ['people per image', (people / Math.max(1, done.length)).toFixed(1)],
    ['without people', done.filter(row => !row.people).length]];
  if (dropped) tiles.push(['candidates dropped', dropped]);
  tiles.push(['failures', failed]);
  const parts = [el('h1', {}, el('bdi', {}, index.title))];
  if (index.images.length) parts.push(list('tiles', tiles));
  if (index.metrics) {
    const sides = index.sides.length > 1;
    parts.push(el('h2', {}, `Scores: ${index.metrics.name}`), table(
      sides ? ['percent, or number', 'A', 'B', 'B − A'] : ['percent, or number', ''],
      index.metrics.rows.map(([name, a, b]) => {
        const whole = ['found', 'false'].includes(name), show = v => whole ? String(v) : percent(v);
        const gain = a == null || b == null ? 0 : (b - a) * (name === 'false' ? -1 : 1);
        const change = b == null || a == null ? '–'
          : (b >= a ? '+' : '−') + show(Math.abs(b - a));
        const kind = gain > 1e-9 ? 'good' : gain < -1e-9 ? 'bad' : 'soft';
        return [name, show(a), ...(sides ? [show(b), el('td', { class: kind }, change)] : [])];
      })), el('p', { class: 'soft' }, index.metrics.text));
    if (sides) parts.push(pairs(index.sides.map((name, i) => ['AB'[i], name])));
  }
  if (done.length) {
    parts.push(el('div', { class: 'charts' },
      index.charts.map(chart => bars(chart.title, chart.bars)),
      index.stages && index.stages.length ? bars('Time per stage, seconds', index.stages,
        value => value.toFixed(2)) : null));
  }
  if (index.facts) parts.push(el('details', {}, el('summary', {}, 'Run, weights and versions'),
    pairs(index.facts)));
  if (index.config) parts.push(el('details', {}, el('summary', {}, 'Configuration'),
    el('pre', { tabindex: 0, role: 'region', 'aria-label': 'Configuration' }, index.config)));
  if (failed) parts.push(el('details', { open: failed < 6 },
    el('summary', {}, count(failed, 'failure')), table(['input', 'message'], index.images
      .filter(row => row.failure).slice(0, 500)
      .map(row => [el('bdi', {}, row.name), el('bdi', {}, row.failure)]))));
  return parts;
}

// --- contact sheet -------------------------------------------------------------------------------

const KEYS = [['order', 'order of the run'], ['name', 'name'], ['people', 'number of people'],
  ['low', 'lowest score'], ['crowding', 'crowding'], ['fallback', 'fallback masks'],
  ['rounds', 'rounds'], ['seconds', 'time'], ['quality', 'quality'], ['missed', 'missed people'],
  ['false', 'false positives'], ['gain', 'gain of B']];
const SHOW = {
  all: ['all images', () => true], empty: ['without people', r => !r.failure && !r.people],
  fallback: ['with fallback masks', r => r.fallback > 0],
  later: ['with people of later rounds', r => r.rounds > 1],
  missed: ['with missed people', r => r.missed > 0],
  false: ['with false positives', r => r.false > 0],
  better: ['better in B', r => r.gain > 1e-9], worse: ['worse in B', r => r.gain < -1e-9],
  failure: ['failures', r => r.failure || r.problem],
};
const first = index.images[0] || {};
const startKey = 'gain' in first ? 'gain' : 'quality' in first ? 'quality' : 'order';
const sheet = { key: startKey, down: false, page: 0, order: [] };

function sortAndFilter() {
  const number = id => $(id).value === '' ? null : Number($(id).value);
  const name = $('f-name').value.toLowerCase(), show = SHOW[$('f-show').value][1];
  const low = number('f-low'), crowding = number('f-crowding');
  const least = number('f-least'), most = number('f-most');
  const fits = row => show(row) && row.name.toLowerCase().includes(name)
    && (least == null || row.people >= least) && (most == null || row.people <= most)
    && (low == null || (row.low != null && row.low <= low))
    && (crowding == null || row.crowding >= crowding);
  const { key, down } = sheet;
  const value = i => key === 'order' ? i : index.images[i][key];
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x == null || y == null) return (x == null) - (y == null);
    return (typeof x === 'string' ? x.localeCompare(y, undefined, { numeric: true }) : x - y)
      * (down ? -1 : 1) || a - b;
  };
  sheet.order = [...index.images.keys()].filter(i => fits(index.images[i])).sort(compare);
  sheet.page = 0;
  showSheet();
}

function card(i) {
  const row = index.images[i], reason = row.failure || row.problem;
  const badges = [row.failure ? 'failed' : count(row.people, 'person', 'people')];
  if (row.low != null) badges.push(`lowest ${row.low.toFixed(2)}`);
  if (row.fallback) badges.push(count(row.fallback, 'fallback mask'));
  if ('quality' in row) badges.push(`quality ${row.quality.toFixed(2)}`);
  if ('gain' in row) badges.push(`gain ${row.gain >= 0 ? '+' : ''}${row.gain.toFixed(3)}`);
  const inner = [row.thumb
    ? el('img', { src: row.thumb, loading: 'lazy', alt: '', width: 256, height: 150 })
    : el('span', { class: 'none' }, reason || ''), el('span', { class: 'text' },
    el('bdi', { class: 'name' }, row.name),
    badges.map(text => el('span', { class: row.failure ? 'badge bad' : 'badge' }, text)))];
  return el('li', {}, row.failure ? el('div', { class: 'card' }, inner)
    : el('a', { class: 'card', href: `#image=${i}` }, inner));
}

function showSheet() {
  const pages = Math.max(1, Math.ceil(sheet.order.length / PER_PAGE));
  sheet.page = Math.min(Math.max(sheet.page, 0), pages - 1);
  const shown = sheet.order.slice(sheet.page * PER_PAGE, (sheet.page + 1) * PER_PAGE);
  $('cards').replaceChildren(...shown.map(card));
  $('found').textContent = `${count(sheet.order.length, 'image')} of ${index.images.length}`;
  const go = step => { sheet.page += step; showSheet(); $('sheet').scrollIntoView(); };
  $('pager').replaceChildren(
    el('button', { type: 'button', disabled: !sheet.page, onclick: () => go(-1) }, '‹ Previous'),
    el('span', {}, `page ${sheet.page + 1} of ${pages}`), el('button', { type: 'button',
      disabled: sheet.page + 1 >= pages, onclick: () => go(1) }, 'Next ›'));
}

function controls() {
  const keys = KEYS.filter(([key]) => ['order', 'name'].includes(key)
    || index.images.some(row => row[key] != null));
  const shows = Object.entries(SHOW).filter(([key, [, fits]]) =>
    key === 'all' || index.images.some(fits));
  const input = (id, text, type, more) => el('label', {}, text, el('input',
    { id, type, oninput: sortAndFilter, ...more }));
  const options = rows => rows.map(([key, text]) => el('option', { value: key }, text));
  const select = el('select', { id: 'f-sort', onchange: () => {
    sheet.key = select.value; sortAndFilter(); } }, options(keys));
  select.value = sheet.key;
  const turn = el('button', { type: 'button', id: 'f-turn', 'aria-pressed': false, onclick: () => {
    sheet.down = !sheet.down; turn.setAttribute('aria-pressed', sheet.down); sortAndFilter();
  } }, 'Largest first');
  return el('div', { class: 'controls' },
    input('f-name', 'name has', 'search'),
    el('label', {}, 'show', el('select', { id: 'f-show', onchange: sortAndFilter },
      options(shows.map(([key, [text]]) => [key, text])))),
    input('f-least', 'people, from', 'number', { min: 0 }), input('f-most', 'to', 'number', { min: 0 }),
    input('f-low', 'lowest score up to', 'number', { min: 0, max: 1, step: 0.05 }),
    input('f-crowding', 'crowding from', 'number', { min: 0, max: 1, step: 0.05 }),
    el('label', {}, 'sort by', select), turn, el('span', { id: 'found', role: 'status' }));
}

// --- one image -----------------------------------------------------------------------------------

const LAYERS = { masks: 'masks', boxes: 'boxes', skeletons: 'skeletons', prompts: 'prompts',
  ids: 'ids', graph: 'occlusion graph', verdicts: 'hits and errors', truth: 'ground truth' };
const view = { layers: new Set(['masks', 'boxes', 'skeletons', 'ids', 'verdicts']), step: 0,
  chosen: null, zoom: 1, number: -1, steps: [] };

function load(i) {
  if (data[i]) return Promise.resolve();
  return new Promise((done, failed) => {
    const path = `data/${String(i).padStart(6, '0')}.js`;
    document.head.append(el('script', { src: path, onload: done, onerror: () => failed(path) }));
  });
}

function listSteps(image) {
  const people = image.sides.flatMap(side => side.people);
  const steps = [{ kind: 'result', text: 'Result', note: 'The result: masks without overlaps.' }];
  const last = Math.max(0, ...people.map(person => person.round));
  for (let round = 1; round <= last; round++) {
    const found = count(people.filter(p => p.round === round).length, 'person', 'people');
    const before = count(people.filter(p => p.round < round).length, 'person', 'people');
    steps.push({ kind: 'input', round, text: `Round ${round}: input`, note: round === 1
      ? 'The detector sees the whole image.'
      : `The detector sees the image with the masks of ${before} painted black.` });
    steps.push({ kind: 'found', round, text: `Round ${round}: people`,
      note: `${found} found: boxes of the detector and keypoints.` });
    steps.push({ kind: 'raw', round, text: `Round ${round}: masks`, note: image.sides.some(
      side => side.people.some(p => 'raw' in p))
      ? 'White diamonds prompt the segmenter; dashed masks are its answers, before overlaps were '
        + 'resolved.'
      : 'White diamonds prompt the segmenter. Masks are those of the result, and painted people '
        + 'are rebuilt from them: run with --save report to record both.' });
  }
  return steps;
}

function person(p, i, size, step, dot) {
  const parts = [], on = layer => step.kind === 'result' && view.layers.has(layer);
  const rect = ([x1, y1, x2, y2], kind) =>
    draw('rect', { class: kind, x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
  if (on('masks') && p.mask) parts.push(draw('path', { class: 'mask', d: p.mask }));
  if (step.kind === 'raw') parts.push(draw('path', { class: 'raw', d: p.raw || p.mask }));
  if (on('boxes')) parts.push(rect(p.box, 'box'));
  if (step.kind === 'found') parts.push(rect(p.detector_box, 'box detector'));
  if (on('skeletons') || step.kind === 'found') {
    const seen = k => p.points[k] && p.points[k][2] >= 0.3;
    const bones = index.skeleton.filter(([a, b]) => seen(a) && seen(b));
    for (const kind of ['rim', 'limb']) {
      parts.push(...bones.map(([a, b]) => draw('line', { class: kind, x1: p.points[a][0],
        y1: p.points[a][1], x2: p.points[b][0], y2: p.points[b][1] })));
    }
    parts.push(...p.points.filter((_, k) => seen(k)).map(([x, y, , visible]) => draw('circle',
      { class: visible >= 0.5 ? 'dot' : 'dot covered', cx: x, cy: y, r: dot })));
  }
  if (on('prompts') || step.kind === 'raw') {
    parts.push(...p.prompts.map(k => draw('rect', { class: 'prompt', width: 3 * dot,
      height: 3 * dot, transform: `translate(${p.points[k][0]} ${p.points[k][1]}) rotate(45) `
        + `translate(${-1.5 * dot} ${-1.5 * dot})` })));
  }
  if (on('verdicts') && p.verdict) parts.push(rect(p.box, `verdict ${p.verdict}`));
  if (on('ids')) {
    parts.push(draw('text', { class: 'tag', x: p.box[0] + dot, y: Math.max(p.box[1], 0) + 5 * dot,
      'font-size': 5 * dot, 'stroke-width': dot }, String(i + 1)));
  }
  parts.push(draw('path', { class: 'target', d: p.mask || `M${p.box[0]} ${p.box[1]}H${p.box[2]}`
    + `V${p.box[3]}H${p.box[0]}Z`, onclick: () => choose(i),
  onpointerenter: () => warm(i, true), onpointerleave: () => warm(i, false) }));
  return draw('g', { style: `--c:${p.colour}`, 'data-p': i }, parts);
}

function edges(side, dot) {
  const centre = p => [(p.box[0] + p.box[2]) / 2, (p.box[1] + p.box[3]) / 2];
  return (side.occlusions || []).flatMap(([front, behind]) => {
    const [a, b] = [centre(side.people[front]), centre(side.people[behind])];
    const line = kind => draw('line', { class: kind, x1: a[0], y1: a[1], x2: b[0], y2: b[1] });
    const angle = Math.atan2(b[1] - a[1], b[0] - a[0]) * 180 / Math.PI, s = 3 * dot;
    return [line('edge dark'), line('edge'), draw('path', { class: 'arrow',
      d: `M0 0L${-s} ${-s / 2}L${-s} ${s / 2}Z`,
      transform: `translate(${b[0]} ${b[1]}) rotate(${angle})` })];
  });
}

function drawSide(image, side, number) {
  const [width, height] = image.size, step = view.steps[view.step];
  const dot = Math.max(width, height) / 320, parts = [];
  if (step.kind === 'input' || step.kind === 'found') {
    const painted = side.painted ? side.painted[step.round - 2]
      : side.people.filter(p => p.round < step.round).map(p => p.mask).join('');
    if (step.round > 1 && painted) parts.push(draw('path', { class: 'painted', d: painted }));
  }
  const inStep = p => step.kind !== 'input' && (!step.round || p.round === step.round);
  const order = side.people.map((p, i) => [p, i]).filter(([p]) => inStep(p))
    .sort((a, b) => b[0].area - a[0].area);
  parts.push(...order.filter(([, i]) => view.chosen == null || view.chosen === i)
    .map(([p, i]) => person(p, i, image.size, step, dot)));
  if (step.kind === 'result' && view.chosen == null) {
    for (const truth of image.truth || []) {
      const [x, y, x2, y2] = truth.box, box = { x, y, width: x2 - x, height: y2 - y };
      if (view.layers.has('truth')) {
        for (const kind of ['truth dark', 'truth']) {
          parts.push(truth.mask ? draw('path', { class: kind, d: truth.mask })
            : draw('rect', { class: kind, ...box }));
        }
        parts.push(...(truth.points || []).filter(point => point[2]).map(([cx, cy]) =>
          draw('circle', { class: 'prompt', cx, cy, r: dot })));
      }
      if (view.layers.has('verdicts') && truth.missed[number]) {
        parts.push(draw('rect', { class: 'verdict missed', ...box }));
      }
    }
    if (view.layers.has('graph')) parts.push(...edges(side, dot));
  }
  return draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label':
    `${count(side.people.length, 'person', 'people')}; the table lists them` }, parts);
}

function warm(i, on) {
  for (const node of document.querySelectorAll(`[data-p="${i}"]`)) node.classList.toggle('hot', on);
}

function choose(i) {
  view.chosen = view.chosen === i ? null : i;
  refresh();
  for (const node of document.querySelectorAll('.people tr[data-p]')) {
    const on = Number(node.dataset.p) === view.chosen;
    node.querySelector('button').setAttribute('aria-pressed', on);
  }
}

function refresh() {
  const image = data[view.number];
  image.sides.forEach((side, n) => {
    const canvas = $(`canvas-${n}`);
    canvas.style.width = `${100 * view.zoom}%`;
    canvas.querySelector('svg').replaceWith(drawSide(image, side, n));
  });
  $('note').textContent = view.steps[view.step].note;
  $('steps').childNodes.forEach((node, n) => node.setAttribute('aria-pressed', n === view.step));
  $('zoom').textContent = `${Math.round(100 * view.zoom)} %`;
  $('about').replaceChildren(...(view.chosen == null ? [] : about(image)));
}

function about(image) {
  return image.sides.filter(side => side.people[view.chosen]).map(side => {
    const p = side.people[view.chosen];
    const rows = [['box', p.box.join(', ')], ['mask', `${p.area} px, from ${p.source}`],
      ['prompts', p.prompts.map(k => index.keypoints[k]).join(', ') || 'none']];
    if ('raw_area' in p) rows.splice(2, 0, ['before overlaps', `${p.raw_area} px`]);
    const names = ids => ids.map(i => i + 1).join(', ') || 'nobody';
    if (side.occlusions) rows.push(['in front of', names(side.occlusions
      .filter(([f]) => f === view.chosen).map(pair => pair[1]))], ['behind', names(side.occlusions
      .filter(([, b]) => b === view.chosen).map(pair => pair[0]))]);
    return el('div', {}, el('h2', {}, `Person ${view.chosen + 1}`), pairs(rows),
      el('details', {}, el('summary', {}, 'Keypoints'), table(['keypoint', 'x', 'y', 'score'],
        p.points.map(([x, y, score], k) => [index.keypoints[k] || k, x.toFixed(1), y.toFixed(1),
          score.toFixed(2)]))));
  });
}

function peopleTable(side) {
  const judged = side.people.some(p => 'verdict' in p);
  const heads = ['person', 'score', 'box', 'mask', 'pose', 'round', 'mask of',
    ...(judged ? ['verdict'] : [])];
  const number = value => value.toFixed(2);
  return table(heads, side.people.map((p, i) => el('tr', { 'data-p': i,
    onpointerenter: () => warm(i, true), onpointerleave: () => warm(i, false) },
  el('td', {}, el('span', { class: 'swatch', style: `background:${p.colour}` }),
    el('button', { type: 'button', 'aria-pressed': false, 'aria-label': `Isolate person ${i + 1}`,
      onclick: () => choose(i) }, String(i + 1))),
  [p.score, p.box_score, p.mask_score, p.pose_score].map(v => el('td', {}, number(v))),
  el('td', {}, String(p.round)), el('td', {}, p.source),
  judged ? el('td', { class: p.verdict === 'false' ? 'bad' : 'good' }, { hit: 'hit',
    false: 'false positive' }[p.verdict] || 'ignored') : null)));
}

function layerChecks(image) {
  const known = { graph: image.sides.some(side => side.occlusions), truth: image.truth,
    verdicts: image.truth };
  const key = kind => el('span', { class: `key ${kind}`, 'aria-hidden': true });
  return Object.entries(LAYERS).filter(([id]) => !(id in known) || known[id]).map(([id, text]) =>
    el('label', { class: 'check' }, el('input', { type: 'checkbox', id: `layer-${id}`,
      checked: view.layers.has(id), onchange: event => {
        view.layers[event.target.checked ? 'add' : 'delete'](id); refresh(); } }), text,
    id === 'verdicts' ? [key('hit'), 'hit', key('false'), 'false positive', key('missed'),
      'missed'] : null));
}

function showImage(i) {
  const row = index.images[i], image = data[i], place = sheet.order.indexOf(i);
  Object.assign(view, { number: i, step: 0, chosen: null, zoom: 1, steps: listSteps(image) });
  const two = image.sides.length > 1, [width, height] = image.size;
  const link = (n, text) => n == null ? null : el('a', { href: `#image=${n}` }, text);
  const zoom = factor => { view.zoom = Math.min(8, Math.max(1, view.zoom * factor)); refresh(); };
  const button = (text, label, onclick) =>
    el('button', { type: 'button', 'aria-label': label, onclick }, text);
  const stages = image.sides.map((side, n) => el('section', { class: 'side' },
    two ? el('h2', {}, el('bdi', {}, `${'AB'[n]}: ${index.sides[n]}`)) : null,
    el('div', { class: 'stage', tabindex: 0, role: 'region', 'aria-label': `Image ${'AB'[n]}` },
      el('div', { class: 'canvas', id: `canvas-${n}`, style: `aspect-ratio:${width}/${height}` },
        image.image ? el('img', { src: image.image, alt: '', width, height }) : null,
        draw('svg', {}))), two ? el('div', { class: 'people' }, peopleTable(side)) : null));
  $('viewer').replaceChildren(
    el('div', { class: 'pager' }, el('a', { href: '#' }, '‹ All images'),
      link(sheet.order[place - 1], '‹ Previous image'), link(sheet.order[place + 1], 'Next image ›')),
    el('h1', {}, el('bdi', {}, row.name)),
    ...(row.problem ? [el('p', { class: 'bad' }, row.problem)] : []),
    el('div', { class: 'bar-row', id: 'steps', role: 'group', 'aria-label': 'Rounds as steps' },
      view.steps.map((step, n) => el('button', { type: 'button', onclick: () => {
        view.step = n; refresh(); } }, step.text))),
    el('p', { id: 'note', role: 'status' }),
    el('div', { class: two ? 'view pair' : 'view' }, el('div', {},
      el('div', { class: 'bar-row' }, button('−', 'Zoom out', () => zoom(1 / 1.5)),
        el('span', { id: 'zoom' }), button('+', 'Zoom in', () => zoom(1.5)),
        button('Fit', 'Fit the image', () => zoom(0))), el('div', { class: 'stages' }, stages)),
    el('div', { class: 'side' }, el('div', { class: 'bar-row', role: 'group', 'aria-label':
      'Layers' }, layerChecks(image)),
    two ? null : el('div', { class: 'people' }, peopleTable(image.sides[0])),
    el('div', { id: 'about' }))));
  refresh();
}

// --- videos --------------------------------------------------------------------------------------

function showVideo(video) {
  const { tracks, width, height, last } = video;
  const shown = tracks.slice(0, 400), step = 14;
  const rows = shown.map((track, n) => draw('line', { x1: track.first, x2: track.last + 0.01,
    y1: n * step + 7, y2: n * step + 7, stroke: track.colour, 'stroke-width': 9 },
  draw('title', {}, `track ${track.id}: frames ${track.first} to ${track.last}`)));
  const trails = shown.map(track => draw('polyline', { points: track.path.join(' '), fill: 'none',
    stroke: track.colour, 'stroke-width': 2.5 }));
  const plot = (label, box, style, ...parts) => draw('svg', { class: 'plot', viewBox: box, role:
    'img', 'aria-label': label, ...style }, parts);
  return el('details', { open: index.videos.length < 4 }, el('summary', {}, el('bdi', {},
    `${video.name}: ${count(tracks.length, 'track')}`)), pairs(video.facts),
  video.overlay ? el('video', { controls: true, preload: 'metadata', src: video.overlay,
    'aria-label': `Annotated video ${video.name}` }) : null,
  el('h3', {}, 'Tracks over time'), plot('Tracks over time',
    `${video.first} 0 ${Math.max(1, last - video.first)} ${Math.max(1, shown.length) * step}`,
    { preserveAspectRatio: 'none', height: Math.min(600, 12 + shown.length * step) }, rows),
  el('h3', {}, 'Trails of the feet'), plot('Trails of the feet', `0 0 ${width} ${height}`,
    { style: 'max-width:60rem' }, trails),
  table(['track', 'first frame', 'last frame', 'seconds', 'detections', 'score'],
    shown.map(t => [el('td', {}, el('span', { class: 'swatch', style: `background:${t.colour}` }),
      String(t.id)), ...[t.first, t.last, t.seconds, t.detections, t.score].map(String)])));
}

// --- start ---------------------------------------------------------------------------------------

function route() {
  const number = Number((/^#image=(\d{1,7})$/.exec(location.hash) || [])[1] ?? -1);
  const image = number >= 0 && index.images[number] && !index.images[number].failure;
  $('home').hidden = image;
  $('viewer').hidden = !image;
  if (!image) return;
  load(number).then(() => showImage(number), path => $('viewer').replaceChildren(
    el('p', { class: 'bad' }, `${path} is absent: copy the whole folder of the report.`)));
  scrollTo(0, 0);
}

document.title = index.title;
const videos = index.videos || [];
if (index.images.length) $('nav').append(el('a', { href: '#sheet' }, 'Images'));
if (videos.length) $('nav').append(el('a', { href: '#videos' }, 'Videos'));
$('home').append(...overview());
if (videos.length) $('home').append(el('section', { id: 'videos' }, el('h2', {}, 'Videos'),
  videos.map(showVideo)));
if (index.images.length) {
  $('home').append(el('section', { id: 'sheet' }, el('h2', {}, 'Images'), controls(),
    el('ul', { class: 'sheet', id: 'cards' }), el('div', { class: 'pager', id: 'pager' })));
  sortAndFilter();
}
addEventListener('hashchange', route);
route();
