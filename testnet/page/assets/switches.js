// A switch for every fault. One that is on is pressed; pressing it again takes it back.

import { attribute, h, number, text } from "./dom.js";

// Board is some switches that follow the state.
export class Board {
  constructor(act) {
    this.act = act;
    this.updates = []; // each takes the state
  }

  row(label, switches) {
    return h("div", { class: "row" }, h("span", { class: "label" }, label),
      h("span", { class: "buttons" }, ...switches.map((x) => this.switch(label, x))));
  }

  switch(label, { label: name, title, on, does, says }) {
    let pressed = false;
    const words = h("span", {}, name);
    const b = h("button", { type: "button", class: "switch", title: title ?? "", "aria-pressed": false, "aria-label": `${name}, ${label}`,
      click: () => this.act(does(!pressed)) }, words);
    this.updates.push((s) => {
      pressed = on(s);
      attribute(b, "aria-pressed", pressed);
      if (says) {
        text(words, says(s));
        attribute(b, "aria-label", `${says(s)}, ${label}`);
      }
    });
    return b;
  }

  show(s) {
    for (const update of this.updates) update(s);
  }
}

export class Switches extends Board {
  constructor(root, hello, act) {
    super(act);
    root.replaceChildren(
      this.group("Regions", hello.regions.map((r, i) => this.region(r, i))),
      this.group("Links", hello.links.map((l, i) => this.link(l, i))),
      this.group("Nodes", hello.nodes.map((n, i) => this.row(n.name, nodeSwitches(n.name, (s) => s.nodes[i])))),
      this.group("Network", [this.row("WAN", [{ label: "slow and lossy", title: "3 times the delay, 10 % lost", on: (s) => s.slow, does: (on) => ({ do: "slow", on }) }])]),
      this.group("Stores", [
        this.store("KV", "kv", ["429", "500", "hang", "down"]),
        this.store("Redis", "redis", ["down", "hang"]),
      ]),
      this.group("Load", [this.load(hello), this.row("keys", [{ label: "flood of new ones", title: number(hello.flood) + " takes a second, each for a key never seen before", on: (s) => s.flood, does: (on) => ({ do: "flood", on }) }])]),
    );
  }

  group(title, rows) {
    return h("fieldset", {}, h("legend", {}, title), ...rows);
  }

  // modes are switches of which one is on at most.
  modes(label, command, list, mode) {
    return this.row(label, list.map(([name, how, title]) => ({
      label: name, title, on: (s) => mode(s) === how, does: (on) => ({ ...command, mode: on ? how : "" }),
    })));
  }

  region(name, i) {
    return this.modes(name, { do: "region", name }, [
      ["cut off", "both", `cut ${name} off, both ways`],
      ["in", "in", `cut the ways in: ${name} hears nobody`],
      ["out", "out", `cut the ways out: nobody hears ${name}`],
      ["flap", "flap", "cut for 4 s, whole for 4 s, and so on"],
    ], (s) => s.regions[i].mode);
  }

  link(l, i) {
    return this.modes(`${l.from}–${l.to}`, { do: "link", from: l.from, to: l.to }, [
      ["cut", "both", "cut this link, both ways"],
      [`${l.from}→${l.to}`, "there", `nothing from ${l.from} reaches ${l.to} on this link`],
      [`${l.to}→${l.from}`, "back", `nothing from ${l.to} reaches ${l.from} on this link`],
      ["flap", "flap", "cut for 4 s, whole for 4 s, and so on"],
    ], (s) => s.links[i].mode);
  }

  store(label, name, faults) {
    const titles = { 429: "it answers 429, too many requests", 500: "it answers 500", hang: "it takes calls and never answers", down: "it refuses connections" };
    return this.row(label, faults.map((fault) => ({
      label: fault, title: titles[fault], on: (s) => s[name].fault === fault, does: (on) => ({ do: "store", name, fault: on ? fault : "" }),
    })));
  }

  load(hello) {
    return this.row("takes", hello.loads.map((times) => ({
      label: times === 0 ? "off" : times === 0.5 ? "×½" : "×" + times, title: `${times} times the normal load`, on: (s) => s.load === times, does: () => ({ do: "load", times }),
    })));
  }
}

// nodeSwitches are those of one node; of(state) is its state.
export function nodeSwitches(name, of) {
  const down = (s) => of(s).word === "down";
  return [
    { label: "kill", says: (s) => (down(s) ? "start" : "kill"), title: "as kill -9 does; again: start it", on: down, does: (on) => ({ do: "node", name, act: on ? "crash" : "start" }) },
    { label: "restart", title: "a clean stop, and a start", on: (s) => of(s).word === "starting", does: () => ({ do: "node", name, act: "restart" }) },
    { label: "pause refill", title: "pause its refill daemon", on: (s) => of(s).word === "paused", does: (on) => ({ do: "node", name, act: on ? "pause" : "resume" }) },
  ];
}
