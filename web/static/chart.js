/* <div class="chart" data-chart="ADDRESS"> becomes a chart of what ADDRESS answers: stacked bars, and lines over them. */
"use strict";

const charts = new Map();
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const amounts = new Intl.NumberFormat(undefined);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayOf = { local: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }), UTC: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" }) };
const HOURS = [1, 2, 3, 6, 12].map((hours) => hours * 3600);
const MINUTES = [1, 2, 5, 10, 15, 30].map((minutes) => minutes * 60);
const DAYS = [1, 2, 7, 14, 28, 56, 91, 182, 364].map((days) => days * 86400);

/* Under the axis: hours with their day where it begins, or days alone. */
function names(data, ticks) {
  const days = ticks.map((tick) => dayOf[data.zone].format(tick * 1000));
  if (data.step >= 86400 || ticks.at(1) - ticks[0] >= 86400) return days;
  return ticks.map((tick, at) => hour.format(tick * 1000) + (days[at] === days[at - 1] ? "" : `\n${days[at]}`));
}

/* The greatest first: each bar is drawn over the one that it is a part of. */
function stacked(bars) {
  const sums = [];
  let below = null;
  for (const bar of bars) {
    below = bar.values.map((value, at) => value + (below ? below[at] : 0));
    sums.push(below);
  }
  return bars.map((bar, at) => ({ ...bar, drawn: sums[at], bar: true })).reverse();
}

function draw(box, data) {
  charts.get(box)?.destroy();
  const series = [...stacked(data.bars), ...data.lines.map((line) => ({ ...line, drawn: line.values }))];
  if (!data.x.length || !series.length) return;
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
  const few = data.x.length < 7;
  const room = data.step * (few ? 2 : 0.6);
  const ends = [data.x[0] - room, data.x.at(-1) + room + (data.step < 86400 ? data.step : 0)]; // an hour's bar stands behind its beginning
  const options = {
    width: box.clientWidth,
    height: 240,
    tzDate: data.zone === "UTC" ? (second) => uPlot.tzDate(new Date(second * 1000), "Etc/UTC") : undefined,
    cursor: { points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { range: () => ends },
      y: { range: (_, from, to) => [0, Math.max(to, 1) * 1.08] },
    },
    axes: [
      { ...axis, space: 64, incrs: data.step >= 86400 ? DAYS : [...(data.step < 1800 ? MINUTES : []), ...HOURS, ...DAYS], values: (_, ticks) => names(data, ticks) },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? amounts.format(tick) : "")) },
    ],
    series: [
      { label: data.step >= 86400 ? "Day" : data.step < 3600 ? "Time" : "Hour", value: data.step >= 86400 ? "{YYYY}-{MM}-{DD}" : "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...series.map((each) => ({
        label: each.label,
        stroke: colour(each.colour),
        fill: each.bar ? colour(each.colour) : undefined,
        width: each.bar ? 0 : 2,
        points: { show: !each.bar && few, size: 7 },
        paths: each.bar ? uPlot.paths.bars({ size: [0.8, 46], radius: 0.12, align: data.step < 86400 ? 1 : 0 }) : undefined,
        value: (_, __, ___, at) => (at === null || each.values[at] === null ? "–" : amounts.format(each.values[at])),
      })),
    ],
  };
  box.textContent = "";
  charts.set(box, new uPlot(options, [data.x, ...series.map((each) => each.drawn)], box));
}

async function load(box) {
  if (box.dataset.loaded) return;
  box.dataset.loaded = "yes";
  const answer = await fetch(box.dataset.chart, { headers: { Accept: "application/json" } });
  if (!answer.ok) return; // the table says the same
  const data = await answer.json();
  if (!box.isConnected) return;
  draw(box, data);
  dark.addEventListener("change", () => box.isConnected && draw(box, data));
  new ResizeObserver(() => charts.get(box)?.setSize({ width: box.clientWidth, height: 240 })).observe(box);
}

function loadAll(root) {
  for (const [box, chart] of charts) {
    if (box.isConnected) continue;
    chart.destroy();
    charts.delete(box);
  }
  for (const box of root.querySelectorAll("[data-chart]")) load(box);
}

document.addEventListener("DOMContentLoaded", () => loadAll(document));
document.addEventListener("htmx:load", (event) => loadAll(event.detail.elt));
