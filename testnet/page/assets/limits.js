// One card a limit: what each region offers now, the last two minutes of it, and what was admitted
// against ideal buckets.

import { attribute, clock, h, number, svg, text } from "./dom.js";

const shown = 120; // seconds
const dashes = [[], [9, 4], [2, 3], [12, 3, 2, 3]]; // by region: colour is not the only difference

const dark = matchMedia("(prefers-color-scheme: dark)");

export class Limits {
  constructor(root, hello, log) {
    this.hello = hello;
    this.past = log;
    this.history = [];
    this.cards = hello.limits.map((limit, i) => this.card(limit, i));
    root.replaceChildren(...this.cards.map((c) => c.root));
    this.cards.forEach((c, i) => (c.plot = this.plot(c, hello.limits[i], i)));
    this.colours();
    dark.onchange = () => this.colours();
  }

  card(limit, i) {
    const c = { tiles: [] };
    const tiles = h("div", { class: "tiles" });
    this.hello.regions.forEach((region, r) => {
      const t = { rate: h("b", { class: "rate" }), share: h("span", { class: "share" }) };
      t.root = h("div", { class: "tile", "data-limit": limit.name, "data-region": region },
        h("span", { class: "region-name ink" + (r % 6) }, swatch(r), region), h("span", { class: "figure" }, t.rate, " /s"), t.share);
      tiles.append(t.root);
      c.tiles.push(t);
    });
    c.hover = h("span", { class: "hover" });
    c.chart = h("div", { class: "chart", role: "img",
      "aria-label": `Refill rate of ${limit.name} in each region over the last two minutes; the figures above are the newest` });
    c.sum = { admitted: h("span"), ratio: h("b"), minute: h("b"), over: h("b"), backup: h("b") };
    c.sums = h("p", { class: "sum" }, c.sum.admitted, h("span", {}, c.sum.ratio, " of ideal, last minute ", c.sum.minute),
      h("span", {}, "most over the limit: ", c.sum.over), limit.backup ? h("span", {}, "served by backup: ", c.sum.backup) : "");
    const terms = `${limit.capacity} tokens, ${number(limit.rate, limit.rate % 1 ? 2 : 0)}/s${limit.backup ? ", backup bucket" : ""}`;
    c.root = h("article", { class: "limit", "aria-label": "limit " + limit.name },
      h("h3", {}, limit.name, " ", h("span", { class: "policy" }, limit.policy), h("small", {}, terms), c.hover), tiles, c.chart, c.sums);
    return c;
  }

  plot(c, limit, index) {
    const regions = this.hello.regions;
    const colour = (name) => () => this.palette[name];
    const axis = { stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const options = {
      width: Math.max(120, c.chart.clientWidth), height: tall(), legend: { show: false }, padding: [index === 0 ? 16 : 6, 12, 0, 0],
      cursor: { sync: { key: "limits" }, y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: () => this.span() }, y: { range: [0, limit.rate * 1.12] } },
      axes: [
        { ...axis, size: 22, space: 60, incrs: [10, 20, 30, 60], values: (_, list) => list.map((t) => (t < 0 ? "" : clock(t))) },
        { ...axis, size: 38, space: 26, values: (_, list) => list.map((v) => number(v, v % 1 ? 1 : 0)) },
      ],
      series: [
        {},
        { stroke: colour("muted"), width: 1, dash: [3, 3], points: { show: false } },
        ...regions.map((_, r) => ({ stroke: colour("region" + (r % 6)), width: r === 0 ? 2.5 : 2, dash: dashes[r % 4], points: { show: false } })),
      ],
      hooks: { draw: [(u) => this.marks(u, index)], setCursor: [(u) => this.hover(c, u)] },
    };
    this.palette ??= palette();
    const u = new uPlot(options, [[], [], ...regions.map(() => [])], c.chart);
    new ResizeObserver(() => {
      if (c.chart.clientWidth > 0 && c.chart.clientWidth !== u.width) u.setSize({ width: c.chart.clientWidth, height: tall() });
    }).observe(c.chart);
    return u;
  }

  colours() {
    this.palette = palette();
    for (const c of this.cards) c.plot.redraw(false);
  }

  now() {
    return this.history.length ? this.history[this.history.length - 1].t : 0;
  }

  // span is the time to show: all of a young testnet, then the last of it.
  span() {
    return [Math.max(0, this.now() - shown), Math.max(30, this.now())];
  }

  points(news) {
    this.history = this.history.concat(news).filter((p) => p.t >= news[news.length - 1].t - shown - 2);
    this.cards.forEach((c, i) => {
      const data = [this.history.map((p) => p.t), this.history.map(() => this.hello.limits[i].rate)];
      this.hello.regions.forEach((_, r) => data.push(this.history.map((p) => p.rates[i][r])));
      c.plot.setData(data);
    });
  }

  // marks draws a line where something was done, and on the first chart says what.
  marks(u, index) {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    let free = -Infinity;
    ctx.save();
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    ctx.textBaseline = "bottom";
    for (const e of this.past.deeds()) {
      if (e.t < this.now() - shown) continue;
      const x = Math.round(u.valToPos(e.t, "x", true));
      ctx.strokeStyle = ctx.fillStyle = this.palette[e.tone === "good" ? "good" : "bad"];
      ctx.lineWidth = scale;
      ctx.setLineDash(e.tone === "good" ? [] : [4 * scale, 3 * scale]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top - (index === 0 ? 3 * scale : 0));
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(e.text).width;
      const left = Math.min(x - 2 * scale, bbox.left + bbox.width - width);
      if (index === 0 && left > free && width < bbox.width / 2) {
        ctx.fillText(e.text, left, bbox.top - 3 * scale);
        free = left + width + 8 * scale;
      }
    }
    ctx.restore();
  }

  hover(c, u) {
    const i = u.cursor.idx;
    const p = u.cursor.left >= 0 && i != null ? this.history[i] : null;
    const at = this.cards.indexOf(c);
    text(c.hover, p ? `at ${clock(p.t)}: ` + this.hello.regions.map((r, k) => `${r} ${rate(p.rates[at][k])}`).join(", ") : "");
  }

  show(s) {
    s.limits.forEach((now, i) => {
      const c = this.cards[i], limit = this.hello.limits[i];
      now.rates.forEach((v, r) => this.tile(c.tiles[r], v, limit.rate));
      const ratio = (a, b) => (b > 0 ? number(a / b, 3) : "–");
      text(c.sum.admitted, `admitted ${number(now.admitted)}, ideal ${number(now.ideal)}`);
      text(c.sum.ratio, ratio(now.admitted, now.ideal));
      text(c.sum.minute, ratio(now.minute_admitted, now.minute_ideal));
      text(c.sum.over, number(now.overdraft) + " tokens");
      text(c.sum.backup, number(now.backup));
    });
  }

  tile(t, value, configured) {
    const share = value === null ? 0 : value / configured;
    const [word, tone] = value === null ? ["no node runs", "bad"] : share >= 0.95 ? ["", "good"] : share >= 0.2 ? ["slowed", "note"] : ["▼ stopped", "bad"];
    text(t.rate, rate(value));
    text(t.share, value === null ? word : `${number(100 * share)} % ${word}`);
    attribute(t.root, "class", "tile " + tone);
    attribute(t.root, "data-share", share.toFixed(4));
  }
}
// tall is a chart's height: three of them, and what belongs to them, fill a large screen.
const tall = () => (innerWidth >= 1180 ? 150 : 120);

const rate = (v) => (v === null ? "–" : number(v, v < 100 ? 1 : 0));

function swatch(r) {
  const s = svg("svg", { viewBox: "0 0 22 6", class: "swatch", "aria-hidden": "true" });
  s.append(svg("path", { d: "M0 3h22", "stroke-dasharray": dashes[r % 4].join(" ") || "none" }));
  return s;
}

function palette() {
  const css = getComputedStyle(document.documentElement);
  const names = ["muted", "grid", "good", "bad", ...Array.from({ length: 6 }, (_, i) => "region" + i)];
  return Object.fromEntries(names.map((n) => [n, css.getPropertyValue("--" + n).trim()]));
}
