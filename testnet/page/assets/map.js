// The map: regions as cards, nodes in them, and between two regions one line for each direction.

import { attribute, h, milliseconds, number, svg, text } from "./dom.js";
import { east, land, north, south, west } from "./land.js";

// Where a region's card stands, as a share of width and height, by the first part of its name.
const places = {
  us: [0.13, 0.5], eu: [0.5, 0.1], ap: [0.87, 0.58],
  sa: [0.3, 0.86], af: [0.55, 0.6], au: [0.85, 0.88], me: [0.64, 0.4], ca: [0.18, 0.16],
};

// nodeLook is what a node's state looks like, besides its word.
const nodeLook = {
  ready: ["●", "good"], "not ready": ["◐", "note"], paused: ["‖", "bad"], starting: ["…", "note"], down: ["✕", "bad"],
};

export class WorldMap {
  constructor(root, hello, act, node) {
    this.root = root;
    this.picture = svg("svg", { "aria-hidden": "true" });
    this.dots = svg("path", { class: "land" });
    this.picture.append(this.dots);
    root.replaceChildren(this.picture);
    this.regions = hello.regions.map((name, i) => this.region(name, i, hello, act, node));
    this.links = hello.links.map((l) => this.link(l, act));
    const sizes = new ResizeObserver(() => this.lay()); // what stands on a card or a chip changes its size
    for (const e of [root, ...this.regions.map((r) => r.card), ...this.links.map((k) => k.chip)]) sizes.observe(e);
  }

  region(name, i, hello, act, node) {
    const r = { name, mode: "", nodes: {} };
    r.word = h("span", { class: "word" });
    r.button = h("button", { type: "button", class: "name", "data-region": name, "aria-pressed": false,
      click: () => act({ do: "region", name, mode: r.mode === "" ? "both" : "" }) },
      h("b", { class: "ink" + i }, name), r.word);
    const nodes = h("div", { class: "nodes" });
    for (const n of hello.nodes.filter((n) => n.region === name)) {
      const sign = h("span", { class: "sign", "aria-hidden": "true" });
      const button = h("button", { type: "button", class: "node", "data-node": n.name, "aria-haspopup": "dialog",
        click: () => node.open(n.name) }, sign, h("span", {}, n.name));
      nodes.append(button);
      r.nodes[n.name] = { button, sign };
    }
    r.card = h("div", { class: "region", role: "group", "aria-label": "region " + name }, r.button, nodes);
    const known = places[name.split("-")[0]];
    const turn = (2 * Math.PI * i) / hello.regions.length - Math.PI / 2;
    r.place = known ?? [0.5 + 0.34 * Math.cos(turn), 0.5 + 0.34 * Math.sin(turn)];
    this.root.append(r.card);
    return r;
  }

  link(l, act) {
    const k = { ...l, mode: "" };
    k.ways = ["there", "back"].map((way) => {
      const line = svg("path", { class: "way" }), sign = svg("path", { class: "head" });
      this.picture.append(line, sign);
      return { way, line, sign };
    });
    k.first = h("b");
    k.second = h("span");
    k.chip = h("button", { type: "button", class: "link", "data-link": l.from + "-" + l.to, "aria-pressed": false,
      click: () => act({ do: "link", from: l.from, to: l.to, mode: k.mode === "" ? "both" : "" }) }, k.first, k.second);
    this.root.append(k.chip);
    return k;
  }

  // lay puts everything in its place for the width there is.
  lay() {
    const w = this.root.clientWidth;
    if (w === 0) return;
    const height = Math.max(310, Math.min(370, Math.round(w * 0.72)));
    if (w !== this.width) {
      this.width = w;
      this.root.style.height = height + "px";
      attribute(this.picture, "viewBox", `0 0 ${w} ${height}`);
      attribute(this.dots, "d", dots(w, height));
    }
    for (const r of this.regions) {
      const half = r.card.offsetWidth / 2 + 1, tall = r.card.offsetHeight / 2 + 1;
      r.x = Math.min(w - half, Math.max(half, r.place[0] * w));
      r.y = Math.min(height - tall, Math.max(tall, r.place[1] * height));
      move(r.card, r.x, r.y);
    }
    const middle = [mean(this.regions.map((r) => r.x)), mean(this.regions.map((r) => r.y))];
    for (const k of this.links) this.draw(k, middle, w, height);
  }

  // draw bends the lines of a link away from the middle of the regions, so that none hides another.
  draw(k, middle, w, height) {
    const a = this.regions.find((r) => r.name === k.from), b = this.regions.find((r) => r.name === k.to);
    const m = [(a.x + b.x) / 2, (a.y + b.y) / 2];
    const along = unit(b.x - a.x, b.y - a.y);
    let across = [-along[1], along[0]];
    if ((m[0] - middle[0]) * across[0] + (m[1] - middle[1]) * across[1] < 0) across = [along[1], -along[0]];
    const bend = Math.min(44, w * 0.11);
    k.ways.forEach(({ way, line, sign }, i) => {
      const side = i === 0 ? 5 : -5;
      const at = (p, out) => [p[0] + across[0] * out, p[1] + across[1] * out];
      let from = at([a.x, a.y], side), to = at([b.x, b.y], side);
      const over = at(m, 2 * (bend + side) - side);
      if (way === "back") [from, to] = [to, from];
      attribute(line, "d", `M${from} Q${over} ${to}`);
      const t = 0.3, p = curve(from, over, to, t), q = curve(from, over, to, t + 0.02);
      const u = unit(q[0] - p[0], q[1] - p[1]);
      attribute(sign, "transform", `translate(${p}) rotate(${(Math.atan2(u[1], u[0]) * 180) / Math.PI})`);
    });
    const c = [m[0] + across[0] * bend, m[1] + across[1] * bend];
    move(k.chip, ...this.free(c, k.chip.offsetWidth / 2, k.chip.offsetHeight / 2, w, height));
  }

  // free is the place near c where a chip hides no region's card, as far as there is one.
  free(c, half, tall, w, height) {
    const within = (x, low, high) => Math.min(high, Math.max(low, x));
    for (let i = 0; i < 40; i++) {
      c = [within(c[0], half + 1, w - half - 1), within(c[1], tall + 1, height - tall - 1)];
      const hit = this.regions.find((r) => Math.abs(r.x - c[0]) < r.card.offsetWidth / 2 + half + 7 && Math.abs(r.y - c[1]) < r.card.offsetHeight / 2 + tall + 7);
      if (!hit) break;
      const away = unit(c[0] - hit.x, 3 * (c[1] - hit.y)); // up or down rather than aside: cards are wide
      c = [c[0] + 3 * away[0], c[1] + 3 * away[1]];
    }
    return c;
  }

  show(s) {
    s.regions.forEach((now, i) => {
      const r = this.regions[i];
      r.mode = now.mode;
      text(r.word, now.word);
      attribute(r.card, "class", `region ${now.tone}${now.mode ? " cut" : ""}`);
      attribute(r.button, "aria-pressed", now.mode !== "");
      attribute(r.button, "aria-label", `${r.name}: ${now.word}. ${now.mode ? "Heal it" : "Cut it off"}`);
      attribute(r.button, "title", now.mode ? "heal " + r.name : "cut " + r.name + " off");
    });
    for (const n of s.nodes) {
      const { button, sign } = this.regions.map((r) => r.nodes[n.name]).find(Boolean);
      const [look, tone] = nodeLook[n.word];
      text(sign, look);
      attribute(button, "class", "node " + tone);
      attribute(button, "aria-label", `${n.name}: ${n.word}, hears ${n.reachable} of ${n.members}. More`);
      attribute(button, "title", `${n.word}; hears ${n.reachable} of ${n.members} members`);
    }
    s.links.forEach((now, i) => this.showLink(this.links[i], now));
  }

  showLink(k, now) {
    k.mode = now.mode;
    const cut = now.there || now.back;
    const ways = { there: `${k.from}→${k.to}`, back: `${k.to}→${k.from}` };
    const word = now.there && now.back ? "✕ cut" : now.there ? "✕ " + ways.there : now.back ? "✕ " + ways.back : number(now.delay) + " ms";
    text(k.first, word);
    text(k.second, "lag " + milliseconds(now.lag));
    attribute(k.chip, "class", "link" + (cut ? " cut" : now.slow ? " slow" : ""));
    attribute(k.chip, "aria-pressed", now.mode !== "");
    const says = cut ? "cut" + (now.there && now.back ? "" : ", " + (now.there ? ways.there : ways.back)) : `${number(now.delay)} ms one way${now.slow ? ", slow and lossy" : ""}`;
    attribute(k.chip, "aria-label", `Link ${k.from}–${k.to}: ${says}, lag ${milliseconds(now.lag)}. ${now.mode ? "Heal it" : "Cut it"}`);
    attribute(k.chip, "title", `${k.from}–${k.to}: ${says}; press to ${now.mode ? "heal" : "cut"} it`);
    for (const { way, line, sign } of k.ways) {
      attribute(line, "class", "way" + (now[way] ? " cut" : now.slow ? " slow" : ""));
      attribute(sign, "class", "head" + (now[way] ? " cut" : ""));
      attribute(sign, "d", now[way] ? "M-4 -4L4 4M-4 4L4 -4" : "M-4 -4L3 0L-4 4");
    }
  }
}

function dots(w, height) {
  const step = 6.5;
  let d = "";
  for (let y = step; y < height; y += step)
    for (let x = step; x < w; x += step)
      if (land(west + (x / w) * (east - west), north - (y / height) * (north - south))) d += `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
  return d;
}

const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;

function unit(x, y) {
  const n = Math.hypot(x, y) || 1;
  return [x / n, y / n];
}

function curve(a, b, c, t) {
  return [0, 1].map((i) => (1 - t) ** 2 * a[i] + 2 * t * (1 - t) * b[i] + t * t * c[i]);
}

function move(e, x, y) {
  e.style.left = Math.round(x - e.offsetWidth / 2) + "px";
  e.style.top = Math.round(y - e.offsetHeight / 2) + "px";
}
