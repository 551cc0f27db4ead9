// What is shown as lists: the event log, the stores, the buckets.

import { attribute, clock, h, number, text } from "./dom.js";

export class Log {
  constructor(root) {
    this.root = root;
    this.entries = [];
    root.replaceChildren();
  }

  log(news) {
    this.entries = this.entries.concat(news).slice(-200);
    for (const e of news)
      this.root.prepend(h("li", { class: e.tone, "data-did": e.did ? "yes" : "no", "data-t": e.t },
        h("time", {}, clock(e.t)), h("span", { class: "sort" }, e.did ? "done" : "seen"), h("span", {}, e.text)));
    while (this.root.children.length > this.entries.length) this.root.lastChild.remove();
  }

  // deeds is what was done, oldest first.
  deeds() {
    return this.entries.filter((e) => e.did);
  }
}

export class Stores {
  constructor(root, hello) {
    this.rows = {};
    const list = h("dl", {});
    for (const [name, label] of [["kv", "KV"], ["redis", "Redis"]]) {
      const r = (this.rows[name] = { word: h("b"), detail: h("span") });
      r.root = h("dd", { "data-store": name }, r.word, " ", r.detail);
      list.append(h("dt", {}, label), r.root);
    }
    root.replaceChildren(list, h("p", { class: "aside" }, hello.stores));
  }

  show(s) {
    for (const [name, r] of Object.entries(this.rows)) {
      const now = s[name];
      text(r.word, (now.tone === "good" ? "● " : now.tone === "note" ? "◐ " : "✕ ") + now.word);
      text(r.detail, now.detail);
      attribute(r.root, "class", now.tone);
    }
  }
}

export class Buckets {
  constructor(root, hello) {
    this.root = root;
    this.hello = hello;
    this.rows = new Map();
  }

  show(s) {
    const capacity = Object.fromEntries(this.hello.limits.map((l) => [l.name, l.capacity]));
    const names = s.buckets.map((b) => b.limit + " " + b.key);
    if (names.join("\n") !== [...this.rows.keys()].join("\n")) {
      this.rows = new Map(s.buckets.map((b) => [b.limit + " " + b.key, this.row(b)]));
      this.root.replaceChildren(...[...this.rows.values()].map((r) => r.root));
    }
    for (const b of s.buckets) {
      const r = this.rows.get(b.limit + " " + b.key);
      [b.ideal, ...b.levels].forEach((level, i) => this.cell(r.cells[i], level, capacity[b.limit]));
    }
  }

  row(b) {
    const cells = ["ideal", ...this.hello.nodes.map((n) => n.name)].map((name, i) => {
      const c = { value: h("b"), bar: h("span", { class: "bar" }) };
      c.root = h("span", { class: "cell" + (i ? "" : " one"), title: i ? "" : "what one bucket in one place would hold, had it admitted what the cluster has" },
        h("span", { class: "of" }, name), c.value, h("span", { class: "gauge", "aria-hidden": "true" }, c.bar));
      return c;
    });
    return { cells, root: h("div", { class: "bucket" }, h("span", { class: "key" }, h("b", {}, b.key), " ", h("small", {}, b.limit)), h("span", { class: "cells" }, ...cells.map((c) => c.root))) };
  }

  cell(c, level, capacity) {
    text(c.value, level === null ? "–" : number(level, 1));
    attribute(c.root, "data-low", level !== null && level < 1 ? "yes" : "no");
    const width = Math.round(100 * Math.min(1, Math.max(0, (level ?? 0) / capacity))) + "%";
    if (c.bar.style.width !== width) c.bar.style.width = width;
  }
}
