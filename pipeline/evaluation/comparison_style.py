"""Style sheet and script of the comparison page; nothing is loaded from elsewhere."""

STYLE = """
:root { --ink: #1b1d22; --soft: #5d6370; --line: #d9dce3; --page: #f6f7f9; --card: #fff;
  --up: #0b7a43; --down: #b3261e; --false: #ff2d20; --missed: #ffb300; --found: #19d36b;
  --link: #1a56c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #a2a9b8; --line: #363b47;
  --page: #14161b; --card: #1d2027; --up: #4cc38a; --down: #ff8a80; --link: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 1.5rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .8rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
a { color: var(--link); }
p, dl { margin: .4rem 0; max-width: 75ch; } .soft { color: var(--soft); }
.names { display: grid; grid-template-columns: auto 1fr; gap: .1rem .8rem; }
.names dt { font-weight: 700; } .names dd { margin: 0; overflow-wrap: anywhere; }
.summary { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.counts { display: flex; gap: .8rem; margin: 0; flex-wrap: wrap; }
.counts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .5rem 1.1rem; text-align: center; }
.counts dt { font-size: .85rem; color: var(--soft); } .counts dd { margin: 0; font-size: 1.7rem;
  font-weight: 700; line-height: 1.2; }
.chart { flex: 1 1 320px; max-width: 560px; margin: 0; }
.chart svg { width: 100%; height: 110px; display: block; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
.chart figcaption { font-size: .85rem; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--page); font-weight: 600; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: .2rem 0;
  cursor: pointer; text-decoration: underline dotted; text-underline-offset: 3px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.up { color: var(--up); } .down { color: var(--down); }
.switches { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap;
  gap: .3rem 1.4rem; padding: .6rem 0; background: var(--page);
  border-bottom: 1px solid var(--line); }
.switches label { cursor: pointer; padding: .2rem 0; }
.key { display: inline-block; width: 1.5em; height: .9em; vertical-align: -1px; margin-right: .3em;
  border: 2.5px solid; }
.key.false { border-color: var(--false); } .key.missed { border: 2.5px dashed var(--missed); }
.key.found { border-color: var(--found); }
.key.truth { border-color: #fff; outline: 1.5px solid #000; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1rem; margin: 0 0 1.2rem; scroll-margin-top: 4rem; }
.card header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem 1rem;
  margin-bottom: .6rem; align-items: baseline; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.pair figure { margin: 0; } .pair figcaption { margin-top: .3rem; font-size: .92rem; }
.stage { position: relative; line-height: 0; }
.stage img { width: 100%; height: auto; border-radius: 6px; background: #808080; }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.stage svg * { fill: none; vector-effect: non-scaling-stroke; }
svg.truth, svg.marks { display: none; }
body:has(#show-truth:checked) svg.truth,
body:has(#show-marks:checked) svg.marks { display: block; }
.truth .rim { stroke: #000; stroke-width: 4px; } .truth .line { stroke: #fff; stroke-width: 2px; }
.marks .false { stroke: var(--false); stroke-width: 3px; }
.marks .found { stroke: var(--found); stroke-width: 3px; }
.marks .missed { stroke: var(--missed); stroke-width: 3px; stroke-dasharray: 8 5; }
@media (max-width: 700px) { body { padding: .8rem; } .pair { grid-template-columns: 1fr; }
  th, td { padding: .3rem .5rem; } }
@media print { .switches { position: static; } .card { break-inside: avoid; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const text = head.dataset.kind === 'text';
    const before = head.getAttribute('aria-sort');
    const down = before ? before === 'ascending' : !text;
    const value = row => row.cells[column].dataset.value;
    const order = (a, b) => text ? value(a).localeCompare(value(b), undefined, {numeric: true})
      : parseFloat(value(a)) - parseFloat(value(b));
    const rows = [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b));
    heads.forEach(h => h.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    body.append(...rows);
  }));
}
"""
