// What a node says of itself, and its switches, in a dialog.

import { h, number, text } from "./dom.js";
import { Board, nodeSwitches } from "./switches.js";

export class Node {
  constructor(dialog, hello, act) {
    this.dialog = dialog;
    this.hello = hello;
    this.act = act;
    this.name = null;
    this.facts = dialog.querySelector("dl");
    this.buttons = dialog.querySelector(".buttons");
    dialog.onclose = () => (this.name = null);
  }

  open(name) {
    this.name = name;
    const at = this.hello.nodes.findIndex((n) => n.name === name);
    const node = this.hello.nodes[at];
    text(this.dialog.querySelector("h2"), `${name}, region ${node.region}`);
    this.board = new Board(this.act);
    this.buttons.replaceChildren(...nodeSwitches(name, (s) => s.nodes[at]).map((x) => this.board.switch(name, x)));
    this.values = {};
    this.facts.replaceChildren();
    for (const label of ["State", "Hears", "Refill clock", "Newest snapshot"]) {
      this.values[label] = h("dd");
      this.facts.append(h("dt", {}, label), this.values[label]);
    }
    if (node.http) this.facts.append(h("dt", {}, "API"), h("dd", {}, outside(`http://${node.http}/v1/cluster`)));
    if (node.metrics) this.facts.append(h("dt", {}, "Metrics"), h("dd", {}, outside(`http://${node.metrics}/metrics`)));
    if (this.last) this.show(this.last);
    this.dialog.showModal();
  }

  show(s) {
    this.last = s;
    const n = s.nodes.find((n) => n.name === this.name);
    if (!n) return;
    text(this.values.State, n.word + (n.reason ? ": " + n.reason : ""));
    text(this.values.Hears, `${n.reachable} of ${n.members} members`);
    text(this.values["Refill clock"], `${number(100 * n.speed)} % of real time under quorum`);
    text(this.values["Newest snapshot"], n.snapshot < 0 ? "none yet" : number(n.snapshot) + " s ago");
    this.board.show(s);
  }
}

function outside(url) {
  return h("a", { href: url, target: "_blank", rel: "noopener" }, url);
}
