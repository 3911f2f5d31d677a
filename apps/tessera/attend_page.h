// The page of `tessera attend -o NAME.html`; {DATA} is where its JSON goes.
#pragma once

inline constexpr char kAttendPage[] = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Attention</title>
<style>
  body { margin: 24px; color: #222; background: #fff; font: 14px/1.4 "DejaVu Sans", Verdana, sans-serif; }
  h1 { margin: 0 0 12px; font-size: 17px; }
  label { margin-right: 16px; color: #555; }
  select { font: inherit; }
  main { display: flex; flex-wrap: wrap; gap: 32px; margin-top: 16px; }
  #map { cursor: crosshair; }
  #all { display: grid; gap: 4px; align-content: start; }
  #all canvas { width: 52px; height: 52px; border: 1px solid #bbb; cursor: pointer; image-rendering: pixelated; }
  #all canvas.chosen { outline: 2px solid #222; outline-offset: 1px; }
  #all span { align-self: center; color: #666; font-size: 11px; text-align: center; }
  #value { position: fixed; padding: 4px 8px; border-radius: 4px; background: #222; color: #fff; font-size: 12px;
           pointer-events: none; white-space: pre; }
</style>
<h1></h1>
<label>Layer <select id="layer"></select></label>
<label id="head_of">Head <select id="head"></select></label>
<main><canvas id="map"></canvas><div id="all"></div></main>
<div id="value" hidden></div>
<script id="data" type="application/json">{DATA}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows.length, keys = data.keys.length;
const cell = Math.max(2, Math.min(30, Math.floor(640 / Math.max(rows, keys))));
const size = Math.max(8, Math.min(13, cell - 2)), font = size + "px 'DejaVu Sans', Verdana, sans-serif";
const element = id => document.getElementById(id);
const map = element("map"), value = element("value");
const colors = data.colors.map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)));
const color = weight => Math.round(255 * (data.root ? Math.sqrt : Number)(Math.min(1, weight / data.top)));
let chosen = 0, hover = null, left = 0, below = 0;

function measure() {
  const pen = map.getContext("2d");
  pen.font = font;
  const longest = texts => Math.ceil(Math.max(...texts.map(t => pen.measureText(t).width)));
  left = longest(data.rows) + 10;
  below = longest(data.keys) + 12;
}

// The weights of a head, a pixel each.
function picture(head) {
  const canvas = document.createElement("canvas"), pen = (canvas.width = keys, canvas.height = rows, canvas.getContext("2d"));
  const image = pen.createImageData(keys, rows);
  head.weights.forEach((w, i) => image.data.set([...colors[color(w)], 255], 4 * i));
  pen.putImageData(image, 0, 0);
  return canvas;
}

function draw() {
  const ratio = window.devicePixelRatio || 1, right = 64, head = data.heads[chosen];
  const width = left + keys * cell + right, height = 6 + rows * cell + below;
  map.width = width * ratio;
  map.height = height * ratio;
  map.style.width = width + "px";
  map.style.height = height + "px";
  const pen = map.getContext("2d");
  pen.scale(ratio, ratio);
  pen.translate(left, 6);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(head.picture, 0, 0, keys * cell, rows * cell);
  pen.strokeStyle = "#ebebee";
  if (cell >= 10) {
    pen.beginPath();
    for (let r = 1; r < rows; ++r) { pen.moveTo(0, r * cell - .5); pen.lineTo(keys * cell, r * cell - .5); }
    for (let k = 1; k < keys; ++k) { pen.moveTo(k * cell - .5, 0); pen.lineTo(k * cell - .5, rows * cell); }
    pen.stroke();
  }
  pen.strokeStyle = "#96969e";
  pen.strokeRect(-.5, -.5, keys * cell + 1, rows * cell + 1);
  if (hover) {
    pen.strokeStyle = "#222";
    pen.strokeRect(-.5, hover.row * cell - .5, keys * cell + 1, cell);
    pen.strokeRect(hover.key * cell - .5, -.5, cell, rows * cell + 1);
  }
  labels(pen);
  bar(pen);
}

function labels(pen) {
  const every = Math.ceil((size + 2) / cell);
  const shade = on => { pen.fillStyle = on ? "#000" : "#444"; pen.font = (on ? "bold " : "") + font; };
  const shown = (i, at) => at === undefined || every === 1 ? i % every === 0 : i === at || (i % every === 0 && Math.abs(i - at) >= every);
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  data.rows.forEach((text, r) => {
    if (!shown(r, hover?.row)) return;
    shade(hover?.row === r);
    pen.fillText(text, -6, (r + .5) * cell);
  });
  data.keys.forEach((text, k) => {
    if (!shown(k, hover?.key)) return;
    shade(hover?.key === k);
    pen.save();
    pen.translate((k + .5) * cell, rows * cell + 7);
    pen.rotate(-Math.PI / 2);
    pen.fillText(text, 0, 0);
    pen.restore();
  });
}

function bar(pen) {
  const x = keys * cell + 18, height = Math.min(200, Math.max(80, rows * cell));
  for (let i = 0; i < height; ++i) {
    pen.fillStyle = data.colors[Math.round(255 * (1 - i / (height - 1)))];
    pen.fillRect(x, i, 12, 1.5);
  }
  pen.fillStyle = "#666";
  pen.font = "11px 'DejaVu Sans', Verdana, sans-serif";
  pen.textAlign = "left";
  for (let i = 0; i <= 4; ++i) pen.fillText((data.top * i / 4).toFixed(2), x + 17, height * (1 - color(data.top * i / 4) / 255));
}

function choose(index) {
  chosen = index;
  element("layer").value = data.heads[index].layer;
  element("head").value = data.heads[index].head;
  data.heads.forEach((head, i) => head.small.classList.toggle("chosen", i === index));
  draw();
}

function overview() {
  const layers = [...new Set(data.heads.map(h => h.layer))], heads = [...new Set(data.heads.map(h => h.head))];
  const all = element("all");
  all.style.gridTemplateColumns = `auto repeat(${heads.length}, auto)`;
  const say = text => { const span = document.createElement("span"); span.textContent = text; all.append(span); };
  const fill = (id, items) => items.forEach(item => element(id).append(new Option(item, item)));
  say("");
  heads.forEach(head => say(data.mean ? "mean" : "head " + head));
  data.heads.forEach((head, i) => {
    if (head.head === heads[0]) say("layer " + head.layer);
    head.picture = picture(head);
    head.small = document.createElement("canvas");
    head.small.width = head.small.height = 104;
    const pen = head.small.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(head.picture, 0, 0, 104, 104);
    head.small.title = data.mean ? `layer ${head.layer}` : `layer ${head.layer}, head ${head.head}`;
    head.small.onclick = () => choose(i);
    all.append(head.small);
  });
  fill("layer", layers);
  fill("head", heads);
  element("head_of").hidden = data.mean;
  for (const id of ["layer", "head"])
    element(id).onchange = () => choose(data.heads.findIndex(
      h => h.layer === +element("layer").value && (data.mean || h.head === +element("head").value)));
}

map.onmousemove = event => {
  const box = map.getBoundingClientRect();
  const key = Math.floor((event.clientX - box.left - left) / cell), row = Math.floor((event.clientY - box.top - 6) / cell);
  const inside = key >= 0 && key < keys && row >= 0 && row < rows;
  hover = inside ? { row, key } : null;
  value.hidden = !inside;
  if (inside) {
    value.textContent = `${data.row_name} ${row}: ${data.rows[row]}\n${data.key_name} ${key}: ${data.keys[key]}\nweight ${data.heads[chosen].weights[row * keys + key]}`;
    value.style.left = event.clientX + 16 + "px";
    value.style.top = event.clientY + 16 + "px";
  }
  draw();
};
map.onmouseleave = () => { hover = null; value.hidden = true; draw(); };
document.onkeydown = event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && event.target === document.body) choose((chosen + step + data.heads.length) % data.heads.length);
};
document.title = data.title;
document.querySelector("h1").textContent = data.title;
measure();
overview();
choose(0);
</script>
</html>
)page";
